//go:build mpi && cgo && unix

package mpi

// #cgo CFLAGS: -O3 -std=gnu11
// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cnnkit/cnnkit/train"
)

// world is what the Comms of a process share.
type world struct {
	rank, size int
	grace      time.Duration
	finalize   chan chan error
}

// comm is one connection of the ranks.
type comm struct {
	*world
	at     C.int
	first  bool // it closes MPI
	mu     sync.Mutex
	broken error // of the first call that failed
}

var _ train.Comm = (*comm)(nil)

// opened says that MPI was started, which it can be once in a process.
var opened atomic.Bool

// leaked keeps the vectors of calls that were given up alive: MPI may still write there.
var leaked struct {
	sync.Mutex
	vectors [][]float32
}

// Open starts MPI and connects the ranks that mpirun has started; without mpirun there is
// one. A process opens it once.
func Open() (train.Comm, error) {
	grace, err := Grace()
	if err != nil {
		return nil, err
	}
	if opened.Swap(true) {
		return nil, errors.New("MPI was started before in this process")
	}
	w := &world{grace: grace, finalize: make(chan chan error)}
	started := make(chan C.int)
	go func() {
		runtime.LockOSThread() // MPI wants to be ended by the thread that started it
		var rank, size C.int
		rc := C.shim_init(&rank, &size)
		w.rank, w.size = int(rank), int(size)
		started <- rc
		if rc != C.shim_done {
			return
		}
		done := <-w.finalize
		done <- failure(C.shim_finalize())
	}()
	if err := failure(<-started); err != nil {
		return nil, err
	}
	return &comm{world: w, first: true}, nil
}

// failure is what a result of the shim means.
func failure(rc C.int) error {
	switch rc {
	case C.shim_done:
		return nil
	case C.shim_threads:
		return errors.New("this MPI does not let several threads of a process call it (MPI_THREAD_SERIALIZED)")
	case C.shim_memory:
		return errors.New("MPI: out of memory or connections")
	}
	return errors.New("a call of MPI failed")
}

func (w *world) Rank() int { return w.rank }
func (w *world) Size() int { return w.size }

// most is the number of floats that one message may have, well below MPI's int.
const most = 1 << 28

// exchange is a call of the shim.
type exchange func(at C.int, x *C.float, n C.size_t, stop, lost *C.int) C.int

// call makes a call of the shim on x, piece by piece.
func (c *comm) call(ctx context.Context, x []float32, do exchange) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(x) > 0 && c.broken == nil {
		n := min(len(x), most)
		c.broken = c.piece(ctx, x[:n], do)
		x = x[n:]
	}
	return c.broken
}

func (c *comm) piece(ctx context.Context, x []float32, do exchange) error {
	stop, lost := new(int32), C.int(-1)
	ended := context.AfterFunc(ctx, func() {
		time.AfterFunc(c.grace, func() { atomic.StoreInt32(stop, 1) })
	})
	defer ended()
	rc := do(c.at, (*C.float)(&x[0]), C.size_t(len(x)), (*C.int)(stop), &lost)
	switch rc {
	case C.shim_done:
		return nil
	case C.shim_memory:
		return failure(rc)
	}
	leaked.Lock()
	leaked.vectors = append(leaked.vectors, x)
	leaked.Unlock()
	if rc == C.shim_stopped {
		err := fmt.Errorf("the run was told to end, and no answer came for %v: %w", c.grace,
			context.Cause(ctx))
		return &train.LostError{Rank: int(lost), Err: err}
	}
	return &train.LostError{Rank: -1, Err: failure(rc)}
}

func (c *comm) AllReduce(ctx context.Context, x []float32) error {
	return c.call(ctx, x, func(at C.int, x *C.float, n C.size_t, stop, lost *C.int) C.int {
		return C.shim_all_reduce(at, x, n, stop, lost)
	})
}

func (c *comm) Broadcast(ctx context.Context, x []float32) error {
	return c.call(ctx, x, func(at C.int, x *C.float, n C.size_t, stop, lost *C.int) C.int {
		return C.shim_broadcast(at, x, n, stop, lost)
	})
}

func (c *comm) Barrier(ctx context.Context) error { return c.AllReduce(ctx, make([]float32, 1)) }

func (c *comm) Dup() (train.Comm, error) {
	d := &comm{world: c.world}
	if err := failure(C.shim_dup(&d.at)); err != nil {
		return nil, err
	}
	return d, nil
}

// Close ends MPI in this process, after all ranks have called it.
func (c *comm) Close() error {
	if !c.first {
		return nil
	}
	if err := c.Barrier(context.Background()); err != nil {
		return err
	}
	done := make(chan error)
	c.finalize <- done
	return <-done
}
