// Package parallel runs numbered chunks of work on a small pool of pinned workers.
//
// A region is cut into chunks whose number does not depend on the number of threads; workers claim chunks as they
// become free. What a chunk computes, and the order in which partial results are combined, is thereby the same for
// any number of threads.
//
// Workers spin for a moment after a region, since the next one usually follows within microseconds, and park
// when it does not.
package parallel
