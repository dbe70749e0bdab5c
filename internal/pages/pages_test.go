package pages

import (
	"slices"
	"testing"
	"unsafe"
)

// Memory is aligned, zero, as long as asked and cannot grow into what stands behind.
func TestAligned(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 4097, 2*huge - 1, 2 * huge, 2*huge + 1} {
		s := Aligned(n)
		if len(s) != n || cap(s) != n || slices.ContainsFunc(s, func(b byte) bool { return b != 0 }) {
			t.Errorf("%d bytes: length %d, capacity %d", n, len(s), cap(s))
		}
		align := uintptr(Line)
		if n >= 2*huge {
			align = huge
		}
		if at := uintptr(unsafe.Pointer(unsafe.SliceData(s))); at%align != 0 {
			t.Errorf("%d bytes start at %#x", n, at)
		}
	}
}
