package parallel

import "golang.org/x/sys/unix"

// nap blocks the calling thread, not only the goroutine, for the shortest time the system offers.
func nap() {
	_ = unix.Nanosleep(&unix.Timespec{Nsec: 20_000}, nil)
}
