package parallel

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// spinTime is how long a worker polls for the next region before it parks. Waking a parked worker costs about 100 us,
// a poll less than one.
const spinTime = 200 * time.Microsecond

// Pool is a fixed set of workers: the calling goroutine and Threads()-1 others. It is safe for concurrent use; regions
// of different callers run one after the other.
type Pool struct {
	threads int
	mu      sync.Mutex // held by the caller that owns the workers
	cpus    []int      // CPUs this process may use
	saved   affinity   // of the thread that calls Do

	run    func(chunk, worker int)
	chunks int64
	next   atomic.Int64
	_      [56]byte
	open   atomic.Uint64 // number of the open region, 0 between regions
	_      [56]byte
	active atomic.Int64 // workers inside the open region
	_      [56]byte
	region uint64
	closed atomic.Bool

	workers []*worker
}

type worker struct {
	parked atomic.Bool
	wake   chan struct{}
	done   chan struct{}
}

// New starts a pool of the given number of threads; 0 or less means as many as the process may use (GOMAXPROCS, which
// honours the cgroup's CPU limit).
func New(threads int) *Pool {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	p := &Pool{threads: threads, cpus: allowedCPUs()}
	for i := 1; i < threads; i++ {
		w := &worker{wake: make(chan struct{}, 1), done: make(chan struct{})}
		p.workers = append(p.workers, w)
		go p.work(w, i)
	}
	return p
}

var defaultPool = sync.OnceValue(func() *Pool { return New(0) })

// Default is the process-wide pool of GOMAXPROCS threads.
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

// Do gives f the workers: within f, region may be called any number of times. The calling thread is bound to the first
// CPU meanwhile, so that it does not share one with a worker.
func (p *Pool) Do(f func(region Region)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.workers) == 0 || len(p.cpus) < p.threads {
		f(Region{p})
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p.saved.pin(p.cpus[0])
	defer p.saved.restore()
	f(Region{p})
}

// Run is Do with one region.
func (p *Pool) Run(chunks int, f func(chunk, worker int)) {
	p.Do(func(r Region) { r.Run(chunks, f) })
}

// Region is the right to use a pool's workers, given by Do.
type Region struct{ p *Pool }

// Run calls f for every chunk in [0, chunks), on all workers, and returns when all are done. worker is below
// Threads(); no two concurrent calls get the same.
func (r Region) Run(chunks int, f func(chunk, worker int)) {
	p := r.p
	if chunks == 1 || len(p.workers) == 0 {
		for c := range chunks {
			f(c, 0)
		}
		return
	}
	p.run, p.chunks = f, int64(chunks)
	p.next.Store(0)
	p.region++
	p.open.Store(p.region)
	for i, w := range p.workers {
		if i+1 < chunks {
			w.unpark()
		}
	}
	p.claim(0)
	// A worker enters before it looks at open, so either it sees the region closed or it is seen here.
	p.open.Store(0)
	for spins := 0; p.active.Load() != 0; spins++ {
		if spins > 1<<14 {
			runtime.Gosched()
		}
	}
	p.run = nil
}

func (p *Pool) claim(worker int) {
	f, n := p.run, p.chunks
	for {
		c := p.next.Add(1) - 1
		if c >= n {
			return
		}
		f(int(c), worker)
	}
}

func (p *Pool) work(w *worker, index int) {
	defer close(w.done)
	if len(p.cpus) >= p.threads {
		runtime.LockOSThread() // for good: the thread ends with the worker and takes its affinity along
		new(affinity).pin(p.cpus[index])
	}
	var last uint64
	for !p.closed.Load() {
		if g := p.open.Load(); g == 0 || g == last {
			w.wait(p, last)
			continue
		}
		p.active.Add(1)
		if g := p.open.Load(); g != 0 && g != last {
			last = g
			p.claim(index)
		}
		p.active.Add(-1)
	}
}

// wait spins, then parks, until a region other than last opens or the pool closes.
func (w *worker) wait(p *Pool, last uint64) {
	ready := func() bool {
		g := p.open.Load()
		return g != 0 && g != last || p.closed.Load()
	}
	start := time.Now()
	for spins := 1; ; spins++ {
		if ready() {
			return
		}
		if spins%256 == 0 && time.Since(start) > spinTime {
			break
		}
	}
	w.parked.Store(true)
	if ready() && w.parked.CompareAndSwap(true, false) {
		return
	}
	<-w.wake
}

func (w *worker) unpark() {
	if w.parked.Load() && w.parked.CompareAndSwap(true, false) {
		w.wake <- struct{}{}
	}
}
