package parallel

import (
	"errors"
	"fmt"
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

// BenchmarkRegion is the cost of a region without work.
func BenchmarkRegion(b *testing.B) {
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			p := New(threads)
			defer p.Close()
			f := func(int, int) {}
			p.Do(func(r Region) {
				for b.Loop() {
					r.Run(8, f)
				}
			})
		})
	}
}

func TestPanicReachesTheCaller(t *testing.T) {
	p := New(3)
	defer p.Close()
	want := errors.New("broken")
	for bad := range 20 {
		func() {
			defer func() {
				if err, _ := recover().(error); !errors.Is(err, want) {
					t.Errorf("chunk %d: recovered %v", bad, err)
				}
			}()
			p.Run(20, func(c, _ int) {
				if c == bad {
					panic(want)
				}
			})
		}()
		var n atomic.Int64
		p.Run(20, func(int, int) { n.Add(1) })
		if n.Load() != 20 {
			t.Fatalf("after a panic, %d of 20 chunks ran", n.Load())
		}
	}
}

// A worker index is scratch space: no two chunks may use one at once, whoever is late.
func TestWorkersAreExclusive(t *testing.T) {
	const threads = 4
	p := New(threads)
	defer p.Close()
	var scratch [threads]int
	p.Do(func(r Region) {
		for range 2000 {
			r.Run(9, func(_, w int) { scratch[w]++ })
		}
	})
	total := 0
	for _, n := range scratch {
		total += n
	}
	if total != 2000*9 {
		t.Fatalf("%d chunks counted", total)
	}
}

// A region ends without a worker that claims nothing, here because it is never woken.
func TestAbsentWorker(t *testing.T) {
	p := New(1)
	p.threads = 2
	p.workers = []*worker{{wake: make(chan struct{}, 1)}}
	n := 0
	p.Run(10, func(int, int) { n++ })
	if n != 10 {
		t.Fatalf("%d of 10 chunks ran", n)
	}
}

// The caller sleeps for a chunk that is late, and sees its result.
func TestLateChunk(t *testing.T) {
	p := New(2)
	defer p.Close()
	var ran [2]int
	p.Do(func(r Region) {
		for range 50 {
			r.Run(2, func(c, w int) {
				if w == 1 {
					time.Sleep(2 * time.Millisecond)
				}
				ran[c]++
			})
		}
	})
	if ran != [2]int{50, 50} {
		t.Fatalf("ran %v", ran)
	}
}

func TestNapAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(10, nap); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
