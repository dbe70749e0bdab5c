package engine

import (
	"sync"
	"weak"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Weights finds a model's constants in the form that kernels read, so that several plans of one model share
// them. A form lives as long as a plan reads it. It is safe for concurrent use. The zero value is ready.
type Weights struct {
	mu   sync.Mutex
	held map[weightKey]weak.Pointer[buffer]
}

type weightKey struct {
	tensor *onnxio.Tensor
	form   string
}

// A filling makes the numbers of a buffer when the plan that reads them is complete: all of a plan's fillings
// run together, on all threads.
type filling struct {
	once   sync.Once
	size   int // floats
	chunks int
	part   func(dst []float32, chunk int)
}

// fill makes the numbers, once; other plans that want them at the same time wait.
func (b *buffer) fill(run func(chunks int, f func(chunk, worker int))) {
	b.filling.once.Do(func() {
		data := kernels.AlignedSlice(roundUp(max(b.filling.size, 1)))
		run(b.filling.chunks, func(chunk, _ int) { b.filling.part(data, chunk) })
		b.data, b.filling.part = data, nil // what it holds is not needed any more
	})
}

// get is the constant in the given form: so many floats, which part writes in chunks, once.
func (w *Weights) get(t *onnxio.Tensor, form string, size, chunks int, part func(dst []float32,
	chunk int)) *buffer {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := weightKey{t, form}
	if b := w.held[k].Value(); b != nil {
		return b
	}
	b := &buffer{floats: roundUp(max(size, 1)), persistent: true, shared: 2, // never in place
		filling: &filling{size: size, chunks: chunks, part: part}}
	if w.held == nil {
		w.held = map[weightKey]weak.Pointer[buffer]{}
	}
	for k, p := range w.held {
		if p.Value() == nil {
			delete(w.held, k)
		}
	}
	w.held[k] = weak.Make(b)
	return b
}

// spreadFloats is from how many floats on filling is worth waking other threads. LeNet-5's 60,000 take one
// thread 0.1 ms, and a thread that sleeps as long to wake.
const spreadFloats = 1 << 18

// fillAll makes the numbers of buffers, many on all threads: a large one in chunks, small ones side by side.
func fillAll(pool *parallel.Pool, buffers []*buffer) {
	alone := func(chunks int, f func(chunk, worker int)) {
		for i := range chunks {
			f(i, 0)
		}
	}
	spread, floats := pool.Run, 0
	for _, b := range buffers {
		floats += b.filling.size
	}
	if floats < spreadFloats {
		spread = alone
	}
	var small []*buffer
	for _, b := range buffers {
		if b.filling.chunks > 1 {
			b.fill(spread)
		} else {
			small = append(small, b)
		}
	}
	spread(len(small), func(i, _ int) { small[i].fill(alone) })
}
