package data

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/therootcompany/xz"

	"github.com/cnnkit/cnnkit/internal/download"
	"github.com/cnnkit/cnnkit/onnxio"
)

// SumsFile lists the hashes of a folder that Get has made, as sha256sum does: of files that come from an
// archive whose own hash was right.
const SumsFile = "SHA256SUMS"

// FileReport is what Verify found of a file.
type FileReport struct {
	File string `json:"file"`
	By   string `json:"by"` // sha256 or md5
	// Official says that it was compared with the published file, not with what the
	// folder's SumsFile says of it.
	Official bool   `json:"official"`
	Err      error  `json:"-"` // nil when it is the file
	Says     string `json:"says,omitempty"`
}

// Verify compares the files of a data set with the known hashes, those pinned here and those of its SumsFile;
// packed ones as they are unpacked. word is a name or NAME=DIR. The report is empty when no hash is known:
// folders of one's own have none.
func Verify(word string) ([]FileReport, error) {
	name, dir, elsewhere := strings.Cut(word, "=")
	for _, s := range all() {
		if s.name != name {
			continue
		}
		if s.added {
			return nil, nil
		}
		if in := s.embedded(); in != nil && !elsewhere {
			return verifyFS(in.files, ".", pinned(s.folder)), nil
		}
		root, err := s.find(dir)
		if err != nil {
			return nil, err
		}
		return verifyFolder(root, pinnedIn(s.folder, root))
	}
	if Known(word) {
		return nil, nil
	}
	return nil, fmt.Errorf("no data set %q: known are %s", word, strings.Join(Names(), ", "))
}

// Sums is the first error of a report.
func Sums(report []FileReport) error {
	for _, r := range report {
		if r.Err != nil {
			return r.Err
		}
	}
	return nil
}

// verifyFolder checks the pinned files, and whatever the folder's SumsFile names besides.
func verifyFolder(dir string, files []remote) ([]FileReport, error) {
	sums, err := readSums(dir)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, r := range files {
		known[r.file] = true
	}
	report := verifyFS(os.DirFS(dir), ".", files)
	for i := range report {
		report[i].Official = true
	}
	sums = slices.DeleteFunc(sums, func(r remote) bool { return known[r.file] })
	return append(report, verifyFS(os.DirFS(dir), ".", sums)...), nil
}

func verifyFS(files fs.FS, dir string, wanted []remote) []FileReport {
	out := make([]FileReport, len(wanted))
	_ = each(context.Background(), len(wanted), runtime.GOMAXPROCS(0), func(i int) error {
		r := wanted[i]
		rep := FileReport{File: r.file, By: "sha256"}
		if len(r.hash) == md5.Size*2 {
			rep.By = "md5"
		}
		got, err := hashFile(files, dir+"/"+r.file, r.hash)
		switch {
		case errors.Is(err, fs.ErrNotExist) && isThere(files, dir+"/"+strings.TrimSuffix(r.file, ".gz")):
			rep.Says = "unpacked: its hash is not known"
		case err != nil:
			rep.Err = fmt.Errorf("%s: %w", r.file, err)
		case got != r.hash:
			rep.Err = &onnxio.FormatError{Format: rep.By, Path: r.file,
				Msg: fmt.Sprintf("%s, where %s is wanted: it is another file, or has been changed",
					got, r.hash)}
		}
		if rep.Err != nil {
			rep.Says = rep.Err.Error()
		}
		out[i] = rep
		return nil
	})
	return out
}

func isThere(files fs.FS, path string) bool {
	_, err := fs.Stat(files, filepath.ToSlash(filepath.Clean(path)))
	return err == nil
}

// hashFile is the hash of a file, or of what FILE.xz unpacks to.
func hashFile(files fs.FS, path, like string) (string, error) {
	path = filepath.ToSlash(filepath.Clean(path))
	f, err := files.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if packed, perr := files.Open(path + ".xz"); perr == nil {
			defer packed.Close()
			r, err := xz.NewReader(packed, xz.DefaultDictMax)
			if err != nil {
				return "", err
			}
			return download.Digest(io.LimitReader(r, maxUnpacked), like)
		}
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	return download.Digest(f, like)
}

// writeSums writes the hashes of all files of a folder.
func writeSums(dir string) error {
	return onnxio.WriteFile(filepath.Join(dir, SumsFile), func(w io.Writer) error {
		return fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") {
				return err
			}
			sum, err := hashFile(os.DirFS(dir), path, strings.Repeat("0", sha256.Size*2))
			if err == nil {
				_, err = fmt.Fprintf(w, "%s  %s\n", sum, path)
			}
			return err
		})
	})
}

// readSums reads the hashes that a folder brings along, if it does.
func readSums(dir string) ([]remote, error) {
	path := filepath.Join(dir, SumsFile)
	if err := regular(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []remote
	scan := bufio.NewScanner(io.LimitReader(f, maxList))
	for line := 1; scan.Scan(); line++ {
		sum, file, ok := strings.Cut(scan.Text(), "  ")
		if _, err := hex.DecodeString(sum); err != nil || !ok || len(sum) != sha256.Size*2 ||
			!fs.ValidPath(file) || !filepath.IsLocal(filepath.FromSlash(file)) {
			return nil, &onnxio.FormatError{Format: "sha256sum", Path: path, Where: fmt.Sprintf("line %d",
				line), Msg: "HASH  FILE is wanted, FILE within the folder"}
		}
		out = append(out, remote{file: file, hash: strings.ToLower(sum)})
	}
	if err := scan.Err(); err != nil {
		return nil, &onnxio.FormatError{Format: "sha256sum", Path: path, Msg: "cannot be read", Err: err}
	}
	return out, nil
}
