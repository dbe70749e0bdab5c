package kernels

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// askHugePages asks the kernel to back s, which starts on a boundary of hugePage bytes, with huge pages: the processor's
// prefetchers stop at the end of a page, and its table of pages holds a few megabytes of small ones. Memory that the heap
// has used before lies in small pages already: those are collapsed. A kernel that cannot is no error.
func askHugePages(s []float32) {
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*4)
	_ = unix.Madvise(bytes, unix.MADV_HUGEPAGE)
	_ = unix.Madvise(bytes, unix.MADV_COLLAPSE)
}
