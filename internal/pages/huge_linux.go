package pages

import "golang.org/x/sys/unix"

// ask asks the kernel to back s, which starts on the boundary of a huge page, with huge pages: the
// processor's prefetchers stop at the end of a page, and its table of pages holds a few megabytes of
// small ones. Memory that the heap has used before lies in small pages already: those are collapsed. A
// kernel that cannot is no error.
func ask(s []byte) {
	_ = unix.Madvise(s, unix.MADV_HUGEPAGE)
	_ = unix.Madvise(s, unix.MADV_COLLAPSE)
}
