//go:build !linux && !darwin

package main

import "time"

// peakRSS is not known here.
func peakRSS() int64 { return 0 }

// userTime is not known here.
func userTime() time.Duration { return 0 }
