package engine

import (
	"sync"
	"weak"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Weights finds a model's constants in the form that kernels read, so that several plans of one model share them. A form
// lives as long as a plan reads it. It is safe for concurrent use. The zero value is ready.
type Weights struct {
	mu   sync.Mutex
	held map[weightKey]weak.Pointer[buffer]
}

type weightKey struct {
	tensor *onnxio.Tensor
	form   string
}

// get is the constant in the given form, made once.
func (w *Weights) get(t *onnxio.Tensor, form string, build func() []float32) *buffer {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := weightKey{t, form}
	if b := w.held[k].Value(); b != nil {
		return b
	}
	data := build()
	b := &buffer{data: data, floats: len(data), persistent: true, shared: 2} // never in place
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
