package onnxio

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile writes a file so that at every moment path holds either the old content or the new one, whole:
// write fills a temporary file in the same folder, which is synced and renamed over path. An existing file
// keeps its permissions, a new one gets 0644 less the umask. A path that is a symbolic link, a folder or a
// device is an error; nothing is ever written through a link. When write fails, path is as it was.
//
// A process killed on the way leaves a file named .NAME.RANDOM.tmp beside path, never a half-written path.
func WriteFile(path string, write func(io.Writer) error) (err error) {
	mode := fs.FileMode(0)
	switch info, err := os.Lstat(path); {
	case err == nil && info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%s: a symbolic link; writing through it is refused", path)
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s: not a regular file", path)
	case err == nil:
		mode = info.Mode().Perm()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	dir, base := filepath.Split(path)
	if base == "" || base == "." || base == ".." {
		return fmt.Errorf("%q does not name a file", path)
	}
	if dir == "" {
		dir = "."
	}
	f, err := os.OpenFile(filepath.Join(dir, "."+base+"."+rand.Text()[:12]+".tmp"),
		os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done { // also when write panics
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if mode != 0 {
		if err := f.Chmod(mode); err != nil {
			return err
		}
	}
	w := bufio.NewWriterSize(f, 256<<10)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	done = true
	syncDir(dir)
	return nil
}
