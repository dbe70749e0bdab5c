package parallel

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestEveryChunkOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 8} {
		p := New(threads)
		for _, chunks := range []int{0, 1, 2, 7, 100, 1000} {
			for range 50 {
				seen := make([]atomic.Int32, chunks)
				p.Run(chunks, func(c, w int) {
					if w < 0 || w >= threads {
						t.Errorf("worker %d of %d", w, threads)
					}
					seen[c].Add(1)
				})
				for c := range seen {
					if n := seen[c].Load(); n != 1 {
						t.Fatalf("%d threads, %d chunks: chunk %d ran %d times", threads, chunks, c, n)
					}
				}
			}
		}
		p.Close()
		p.Close()
	}
}

// A worker that is late for one region must not run chunks of the next with the old function.
func TestManyShortRegions(t *testing.T) {
	p := New(4)
	defer p.Close()
	p.Do(func(r Region) {
		for i := range 20000 {
			var sum atomic.Int64
			r.Run(5, func(c, _ int) { sum.Add(int64(i*5 + c)) })
			if want := int64(i*25 + 10); sum.Load() != want {
				t.Fatalf("region %d: %d, want %d", i, sum.Load(), want)
			}
		}
	})
}

func TestConcurrentCallersAndParking(t *testing.T) {
	p := New(3)
	defer p.Close()
	var wg sync.WaitGroup
	var total atomic.Int64
	for range 4 {
		wg.Go(func() {
			for range 20 {
				p.Run(10, func(int, int) { total.Add(1) })
				time.Sleep(2 * spinTime)
			}
		})
	}
	wg.Wait()
	if total.Load() != 4*20*10 {
		t.Fatalf("ran %d chunks", total.Load())
	}
}

func TestRunAllocatesNothing(t *testing.T) {
	p := New(2)
	defer p.Close()
	f := func(int, int) {}
	p.Do(func(r Region) {
		if n := testing.AllocsPerRun(100, func() { r.Run(8, f) }); n != 0 {
			t.Errorf("%v allocations a region", n)
		}
	})
}

func BenchmarkRegion(b *testing.B) {
	p := New(2)
	defer p.Close()
	f := func(int, int) {}
	p.Do(func(r Region) {
		for b.Loop() {
			r.Run(8, f)
		}
	})
}
