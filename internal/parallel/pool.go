package parallel

import (
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// spinTime is how long a worker polls for the next region before it parks. Waking it costs more, but a
	// worker that polls takes the core from other processes, whose turn then comes in the middle of a chunk.
	spinTime = 30 * time.Microsecond
	// patience is how long the caller polls for the chunks of others, beyond the time of two chunks.
	patience = 20 * time.Microsecond
)

// Pool is a fixed set of workers: the calling goroutine and Threads()-1 others. It is safe for concurrent
// use; regions of different callers run one after the other.
type Pool struct {
	threads int
	mu      sync.Mutex // held by the caller that owns the workers
	workers []*worker
	closed  atomic.Bool
	failed  atomic.Pointer[chunkPanic] // of a worker in the open region

	finished int64 // what done is when the region is over
	_        [64]byte
	// What a claim reads lies in one line of the cache, which only claims and the opening of a region write.
	left   atomic.Uint64           // chunks [lo, hi) nobody has claimed yet, as lo<<32 | hi
	f      func(chunk, worker int) // of the open region
	opened atomic.Uint64           // regions so far
	_      [64]byte
	done   atomic.Int64 // chunks the workers have finished so far
	_      [64]byte
}

type worker struct {
	parked atomic.Bool
	wake   chan struct{}
	done   chan struct{}
}

// New starts a pool of the given number of threads; 0 or less means as many as the process may use:
// GOMAXPROCS, but no more than its affinity mask and the CPU quota of its cgroup, rounded up, allow.
func New(threads int) *Pool {
	if threads <= 0 {
		threads = available()
	}
	p := &Pool{threads: threads}
	for i := 1; i < threads; i++ {
		w := &worker{wake: make(chan struct{}, 1), done: make(chan struct{})}
		p.workers = append(p.workers, w)
		go p.work(w, i)
	}
	return p
}

var defaultPool = sync.OnceValue(func() *Pool { return New(0) })

// Default is the process-wide pool of as many threads as the process may use.
func Default() *Pool { return defaultPool() }

// Threads is the number of threads, the caller's included.
func (p *Pool) Threads() int { return p.threads }

// Close ends the workers. The pool must be idle; Run after Close runs on the caller alone.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Swap(true) {
		return
	}
	for _, w := range p.workers {
		w.unpark()
		<-w.done
	}
	p.workers = nil
}

// Do gives f the workers: within f, region may be called any number of times.
func (p *Pool) Do(f func(region Region)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.f = nil }()
	f(Region{p})
}

// Run is Do with one region.
func (p *Pool) Run(chunks int, f func(chunk, worker int)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.f = nil }()
	Region{p}.Run(chunks, f)
}

// Region is the right to use a pool's workers, given by Do.
type Region struct{ p *Pool }

// Run calls f for every chunk in [0, chunks), on all workers, and returns when all are done.
// worker is below Threads(); no two concurrent calls get the same. A panic of f ends the region
// and is passed on to the caller.
func (r Region) Run(chunks int, f func(chunk, worker int)) {
	p := r.p
	if chunks <= 1 || len(p.workers) == 0 {
		for c := range chunks {
			f(c, 0)
		}
		return
	}
	start := now()
	p.f = f
	p.left.Store(uint64(chunks))
	p.opened.Add(1)
	for i, w := range p.workers {
		if i+1 < chunks {
			w.unpark()
		}
	}
	own := p.claimFront(chunks)
	p.finished += int64(chunks - own)
	if p.done.Load() != p.finished {
		p.join(start, own)
	}
	if e := p.failed.Swap(nil); e != nil {
		panic(e)
	}
}

// claimFront runs chunks from the first on, for the caller, and counts them. If f panics it waits for the
// chunks others have claimed.
func (p *Pool) claimFront(chunks int) (own int) {
	ended := false
	defer func() {
		if !ended {
			own += p.drain()
			p.finished += int64(chunks - own)
			p.join(now(), own)
			p.failed.Store(nil)
		}
	}()
	for {
		s := p.left.Load()
		if empty(s) {
			ended = true
			return own
		}
		if p.left.CompareAndSwap(s, s+1<<32) {
			own++
			p.f(int(s>>32), 0)
		}
	}
}

// claimBack runs chunks from the last on, for a worker. Whichever region a claim hits is the open one, and
// stays open until the chunk is done.
func (p *Pool) claimBack(index int) {
	ended := false
	defer func() {
		if !ended {
			p.failed.CompareAndSwap(nil, &chunkPanic{recover(), debug.Stack()})
			p.done.Add(int64(1 + p.drain()))
		}
	}()
	for {
		s := p.left.Load()
		if empty(s) {
			ended = true
			return
		}
		if p.left.CompareAndSwap(s, s-1) {
			p.f(int(s&0xffffffff)-1, index)
			p.done.Add(1)
		}
	}
}

func empty(left uint64) bool { return left>>32 >= left&0xffffffff }

// drain takes all chunks that are left and counts them.
func (p *Pool) drain() int {
	s := p.left.Swap(0)
	return int(s&0xffffffff) - int(s>>32)
}

// join waits for the chunks the workers have claimed in the region that began at start. When one takes the
// time of more than two chunks of the caller's, somebody has taken the worker's core: the caller then sleeps,
// for the system to let the worker run on the core that becomes free.
func (p *Pool) join(start time.Duration, own int) {
	idle := now()
	end := idle + patience + min(2*(idle-start)/time.Duration(max(own, 1)), time.Millisecond)
	for polls := 1; p.done.Load() != p.finished; polls++ {
		if pause(); polls%64 == 0 && now() > end {
			nap()
		}
	}
}

var epoch = time.Now()

func now() time.Duration { return time.Since(epoch) }

func (p *Pool) work(w *worker, index int) {
	defer close(w.done)
	for !p.closed.Load() {
		p.claimBack(index)
		w.wait(p)
	}
}

// wait polls, then parks, until there are chunks to claim or the pool closes. It may return for nothing.
func (w *worker) wait(p *Pool) {
	start, seen := now(), p.opened.Load()
	for polls := 1; ; polls++ {
		if p.wanted() {
			return
		}
		if pause(); polls%64 == 0 {
			t := now()
			if n := p.opened.Load(); n != seen {
				start, seen = t, n
			}
			if t-start > spinTime {
				break
			}
		}
	}
	w.parked.Store(true)
	if p.wanted() && w.parked.CompareAndSwap(true, false) {
		return
	}
	<-w.wake
}

func (p *Pool) wanted() bool { return !empty(p.left.Load()) || p.closed.Load() }

func (w *worker) unpark() {
	if w.parked.Load() && w.parked.CompareAndSwap(true, false) {
		w.wake <- struct{}{}
	}
}

// chunkPanic is what a chunk on a worker panicked with.
type chunkPanic struct {
	value any
	stack []byte // of the worker
}

func (e *chunkPanic) Error() string { return fmt.Sprintf("%v\n\n%s", e.value, e.stack) }

func (e *chunkPanic) Unwrap() error {
	err, _ := e.value.(error)
	return err
}
