//go:build unix

package onnxio

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// linkCount is how many names the file has.
func linkCount(_ *os.File, info fs.FileInfo) (uint64, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%s: the number of links is not known", info.Name())
	}
	return uint64(st.Nlink), nil
}

// syncDir makes a rename in dir durable. A file system that cannot is not an error:
// the rename itself is done.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		d.Close()
	}
}
