//go:build unix

package train

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lock keeps other runs out of a folder until the function that it gives is called. A run that
// was killed leaves no lock.
func lock(dir string) (unlock func(), err error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, fmt.Errorf("output folder: %w", err)
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		f.Close()
		return nil, fmt.Errorf(
			"output folder %s: another run writes there: wait for its end, or write elsewhere", dir)
	case err != nil: // a file system without locks
		f.Close()
		os.Remove(path)
		return func() {}, nil
	}
	return func() {
		os.Remove(path)
		f.Close()
	}, nil
}
