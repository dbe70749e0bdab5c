//go:build linux || darwin

package main

import (
	goruntime "runtime"
	"syscall"
	"time"
)

// peakRSS is the most memory the process has held, in MB.
func peakRSS() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	if goruntime.GOOS == "darwin" { // bytes there, kilobytes on Linux
		return u.Maxrss >> 20
	}
	return u.Maxrss >> 10
}

// userTime is what the process has computed in user mode, on all threads.
func userTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano())
}
