package data

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Bounds of what an archive may hold: several times what the largest known one does.
const (
	maxUnpacked = 8 << 30
	maxEntries  = 1 << 18
)

func isTarGz(name string) bool {
	return strings.HasSuffix(name, ".tar.gz") || strings.HasSuffix(name, ".tgz")
}
func isZip(name string) bool { return strings.HasSuffix(name, ".zip") }

// unpacker writes an archive's files below a folder, and nowhere else: names must be local, links and devices
// are refused, nothing is written over, and size and number are bounded.
type unpacker struct {
	root    *os.Root
	archive string
	strip   string // folder whose name is taken off
	left    int64  // bytes
	entries int
	made    map[string]bool // folders
}

// unpack unpacks a .tar.gz or .zip into an existing folder.
func unpack(archive, dir, strip string, maxBytes int64) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{root: root, archive: archive, strip: strip, left: maxBytes,
		made: map[string]bool{".": true}}
	if isZip(archive) {
		return u.zip()
	}
	return u.tarGz()
}

func (u *unpacker) bad(name string, msg string, args ...any) error {
	return &onnxio.FormatError{Format: "archive", Path: u.archive, Where: fmt.Sprintf("%q", name),
		Msg: fmt.Sprintf(msg, args...)}
}

func (u *unpacker) tarGz() error {
	f, err := os.Open(u.archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return &onnxio.FormatError{Format: "gzip", Path: u.archive, Msg: "not a gzip file", Err: err}
	}
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return &onnxio.FormatError{Format: "tar", Path: u.archive, Msg: "cannot be read", Err: err}
		}
		switch h.Typeflag {
		case tar.TypeDir, tar.TypeXGlobalHeader:
			if err := u.count(h.Name); err != nil {
				return err
			}
		case tar.TypeReg:
			if err := u.file(h.Name, h.Size, t); err != nil {
				return err
			}
		default:
			return u.bad(h.Name, "neither a file nor a folder (type %q): links and devices are refused",
				h.Typeflag)
		}
	}
}

func (u *unpacker) zip() error {
	z, err := zip.OpenReader(u.archive)
	if err != nil {
		return &onnxio.FormatError{Format: "zip", Path: u.archive, Msg: "cannot be read", Err: err}
	}
	defer z.Close()
	for _, f := range z.File {
		switch mode := f.Mode(); {
		case mode.IsDir():
			if err := u.count(f.Name); err != nil {
				return err
			}
			continue
		case !mode.IsRegular():
			return u.bad(f.Name, "neither a file nor a folder (%v): links and devices are refused", mode)
		}
		r, err := f.Open()
		if err != nil {
			return u.bad(f.Name, "%v", err)
		}
		err = u.file(f.Name, int64(min(f.UncompressedSize64, 1<<62)), r)
		r.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) count(name string) error {
	if u.entries++; u.entries > maxEntries {
		return u.bad(name, "more than %d entries", maxEntries)
	}
	return nil
}

// file writes one file; those that systems leave beside others' (._NAME, .DS_Store) are left out.
func (u *unpacker) file(name string, size int64, r io.Reader) error {
	if err := u.count(name); err != nil {
		return err
	}
	if strings.ContainsAny(name, "\\:\x00") || !filepath.IsLocal(filepath.FromSlash(name)) {
		return u.bad(name, "the name leads out of the archive's folder")
	}
	local := path.Clean(name)
	if u.strip != "" {
		local = strings.TrimPrefix(local, u.strip+"/")
	}
	if strings.HasPrefix(path.Base(local), ".") {
		return nil
	}
	if size < 0 || size > u.left {
		return fmt.Errorf("%s: %w", u.archive, &onnxio.LimitError{What: "bytes unpacked", Got: size,
			Limit: u.left})
	}
	if dir := path.Dir(local); !u.made[dir] {
		if err := u.root.MkdirAll(filepath.FromSlash(dir), 0o777); err != nil {
			return u.bad(name, "%v", err)
		}
		u.made[dir] = true
	}
	f, err := u.root.OpenFile(filepath.FromSlash(local), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return u.bad(name, "%v", err) // a second one of the name, for example
	}
	n, err := io.Copy(f, io.LimitReader(r, size+1))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return u.bad(name, "%v", err)
	}
	if n != size {
		return u.bad(name, "%d bytes or more, where %d are announced", n, size)
	}
	u.left -= n
	return nil
}
