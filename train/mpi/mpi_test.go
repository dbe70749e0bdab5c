//go:build mpi && cgo && unix

package mpi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/train"
)

// TestRank is a rank that mpirun has started for TestMPI: sums have the bits of an addition in the order of
// the ranks, whatever the length; broadcasts arrive; two connections work at the same time; a nil pointer is
// an error that Go recovers from; and a rank that nobody answers gives up.
func TestRank(t *testing.T) {
	if os.Getenv(rankVariable) == "" {
		t.Skip("runs in the processes that TestMPI starts")
	}
	t.Setenv(GraceVariable, "50ms")
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.Dup()
	if err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	for i, conn := range []train.Comm{c, d} {
		both.Go(func() {
			for _, n := range []int{1, 2, 3, 64, 5461, 5462, 100003, 1<<20 + 7} {
				if err := sums(conn, n+i, uint64(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both.Wait()
	if err := c.Barrier(t.Context()); err != nil {
		t.Error(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a nil pointer is no panic")
			}
		}()
		var none *train.LostError
		_ = none.Rank
	}()
	if c.Rank() == 0 && c.Size() > 1 { // the others do not take part
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		var lost *train.LostError
		if err := d.AllReduce(ctx, make([]float32, 10)); !errors.As(err, &lost) || lost.Rank < 1 {
			t.Errorf("alone: %v", err)
		}
		if err := d.AllReduce(t.Context(), make([]float32, 10)); !errors.As(err, &lost) {
			t.Errorf("after that: %v", err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// sums compares an AllReduce and a Broadcast of n numbers with what they are to give.
func sums(c train.Comm, n int, key uint64) error {
	of := func(rank int) []float32 {
		x := make([]float32, n)
		for i := range x {
			h := (uint64(i)*2654435761 + uint64(rank)*40503 + key) * 0x9e3779b97f4a7c15
			x[i] = float32(h>>40) / (1 << 10) // roundings depend on the order
		}
		return x
	}
	want := of(0)
	for rank := 1; rank < c.Size(); rank++ {
		for i, v := range of(rank) {
			want[i] += v
		}
	}
	got := of(c.Rank())
	if err := c.AllReduce(context.Background(), got); err != nil {
		return err
	}
	for i := range want {
		if got[i] != want[i] {
			return fmt.Errorf("rank %d, %d numbers: element %d is %v, not %v", c.Rank(), n, i,
				got[i], want[i])
		}
	}
	got = of(c.Rank())
	if err := c.Broadcast(context.Background(), got); err != nil {
		return err
	}
	for i, v := range of(0) {
		if got[i] != v {
			return fmt.Errorf("rank %d, %d numbers: element %d of the broadcast is %v, not %v", c.Rank(),
				n, i, got[i], v)
		}
	}
	return nil
}

// BenchmarkAllReduce says how long sums take between the ranks of this machine, by the shortest of 20 rounds,
// since others may be at work on it:
//
//	CC=mpicc go test -tags mpi -c -o mpi.test ./train/mpi
//	CNNKIT_TEST_RANK=1 mpirun -n 2 --oversubscribe ./mpi.test -test.run xxx -test.bench AllReduce -test.benchtime 1x
func BenchmarkAllReduce(b *testing.B) {
	if os.Getenv(rankVariable) == "" {
		b.Skip("runs under mpirun")
	}
	c, err := Open()
	if err != nil {
		b.Skip(err) // it was opened by a round before
	}
	for _, n := range []int{1, 256, 4096, 1 << 16, 1 << 20, 1 << 22} {
		x, best := make([]float32, n), time.Duration(1<<62)
		calls := max(2, min(200, 1<<21/n))
		for range 20 {
			start := time.Now()
			for range calls {
				if err := c.AllReduce(b.Context(), x); err != nil {
					b.Fatal(err)
				}
			}
			best = min(best, time.Since(start)/time.Duration(calls))
		}
		if c.Rank() == 0 {
			fmt.Printf("%d ranks: %d floats in %v, %.2f GB/s\n", c.Size(), n, best,
				4*float64(n)/float64(best.Nanoseconds()))
		}
	}
	if err := c.Close(); err != nil {
		b.Fatal(err)
	}
}
