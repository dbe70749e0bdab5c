package train

import (
	"context"
	"fmt"
)

// Comm connects the processes of a data-parallel run, its ranks 0 to Size-1. Every rank makes the same calls
// in the same order with vectors of the same length; a call returns when this rank has its answer. A Comm
// takes one call at a time: Dup gives another one for calls at the same time.
//
// A rank that does not answer, because its process has ended, makes a call fail with a *LostError. When ctx
// ends, a call goes on for a while that the implementation chooses, so that ranks that were interrupted
// together can finish their step together.
//
// There are two implementations: SingleProcess, and package train/mpi.
type Comm interface {
	Rank() int
	Size() int
	// AllReduce replaces x by the sum of all ranks' x. Each element is added up in the order of the ranks:
	// the same numbers give the same bits in each run and on each rank.
	AllReduce(ctx context.Context, x []float32) error
	// Broadcast replaces x by that of rank 0.
	Broadcast(ctx context.Context, x []float32) error
	// Barrier returns when all ranks have called it.
	Barrier(ctx context.Context) error
	// Dup connects the same ranks once more; all ranks call it. Close of the first one closes it.
	Dup() (Comm, error)
	// Close ends the connection after a run without error; all ranks call it. A process that fails just ends.
	Close() error
}

// LostError says that a rank does not answer.
type LostError struct {
	Rank int // -1: it is not known which
	Err  error
}

// Error says who is lost.
func (e *LostError) Error() string {
	if e.Rank < 0 {
		return fmt.Sprintf("another rank does not answer: %v", e.Err)
	}
	return fmt.Sprintf("rank %d does not answer: %v", e.Rank, e.Err)
}

// Unwrap is what was seen of the loss.
func (e *LostError) Unwrap() error { return e.Err }

// SingleProcess is the Comm of a run in one process.
func SingleProcess() Comm { return single{} }

type single struct{}

var _ Comm = single{}

func (single) Rank() int                                  { return 0 }
func (single) Size() int                                  { return 1 }
func (single) AllReduce(context.Context, []float32) error { return nil }
func (single) Broadcast(context.Context, []float32) error { return nil }
func (single) Barrier(context.Context) error              { return nil }
func (single) Dup() (Comm, error)                         { return single{}, nil }
func (single) Close() error                               { return nil }
