//go:build !linux

package parallel

import "time"

// nap gives the core away for a moment.
func nap() { time.Sleep(20 * time.Microsecond) }
