// Package parallel runs numbered chunks of work on a small pool of workers.
//
// A region is cut into chunks whose number does not depend on the number of threads; workers claim chunks as
// they become free. What a chunk computes, and the order in which partial results are combined, is thereby
// the same for any number of threads.
//
// The chunks nobody has claimed yet are a range in one atomic word: the caller claims from its front, the
// workers from its back, so that with two threads each sees much the same part of the data in every region. A
// region is over when the range is empty and the claimed chunks are done. A worker that is late finds the
// range empty, or a later region's chunks, and nobody waits for it; only one that loses its core within a
// chunk holds the caller up. The caller then sleeps instead of polling, which leaves its core to that worker.
// For the same reason threads are not bound to CPUs.
//
// Workers poll for a moment after a region, since the next one usually follows within microseconds, and park
// when it does not, so that they do not take turns from other processes for nothing.
package parallel
