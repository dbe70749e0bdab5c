// Package pages makes memory that lies in huge pages where the system has them. A fault for each 4 KB of
// fresh memory costs more than filling it.
package pages

import "unsafe"

// huge is the size of a huge page, in bytes.
const huge = 2 << 20

// Line is the size of a cache line, in bytes.
const Line = 64

// Aligned is a slice of n zero bytes that starts on a cache line. From two huge pages on it starts on a
// huge page and lies in them.
func Aligned(n int) []byte {
	if n == 0 {
		return nil
	}
	align := Line
	if n >= 2*huge {
		align = huge
	}
	s := make([]byte, n+align-1)
	off := int(-uintptr(unsafe.Pointer(&s[0]))) & (align - 1)
	s = s[off : off+n : off+n]
	if align == huge {
		ask(s)
	}
	return s
}
