//go:build unix

package main

import (
	"errors"
	"os"
	"syscall"
)

// lock takes a file for this process, until it is closed or the process ends. It fails where another process
// has it; file systems that know no locks go without.
func lock(f *os.File) error {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err,
		syscall.EWOULDBLOCK) {
		return err
	}
	return nil
}
