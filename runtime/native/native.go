// Package native runs models with this module's own engine. Use it through package runtime.
package native

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Options of a Backend.
type Options struct {
	Threads    int  // 0: as many as the process may use
	NoWinograd bool // direct convolutions only, which round a little less
}

// Backend runs one model. A plan is compiled for the shapes of the inputs when they are met for the first time, and kept.
// It serves one Run at a time; concurrent Runs get plans of their own, with arenas of their own, which share the weights.
type Backend struct {
	model   *onnxio.Model
	inputs  []string
	pool    *parallel.Pool
	direct  bool // no convolutions by Winograd's method
	weights engine.Weights
	plans   cache
	running chan struct{} // bounds the arenas in use: more Runs than processors only take memory
}

// Open prepares a model. It compiles a plan at once where every input shape is known, or is but for one symbol, the
// batch, which is then 1: so the first Run of that shape takes no longer than the next, and an operator that is not
// there is found early.
func Open(m *onnxio.Model, opt Options) (*Backend, error) {
	b := &Backend{model: m, pool: parallel.New(opt.Threads), direct: opt.NoWinograd, running: make(chan struct{}, 2*max(opt.Threads, runtime.GOMAXPROCS(0)))}
	dims, open := map[string]int64{}, false
	for _, in := range m.Graph.Inputs {
		if m.Graph.Initializer(in.Name) != nil {
			continue
		}
		b.inputs = append(b.inputs, in.Name)
		if in.Type == nil || !in.Type.HasShape {
			open = true
			continue
		}
		for _, d := range in.Type.Shape {
			if d.Param != "" {
				dims[d.Param] = 1
			}
			open = open || d.Param == "" && d.Value < 0
		}
	}
	if open || len(dims) > 1 {
		return b, nil // shapes that only the caller knows
	}
	p, err := b.weights.Compile(m, engine.Options{Pool: b.pool, Dims: dims, NoWinograd: b.direct})
	if err != nil {
		b.pool.Close()
		return nil, err
	}
	var shapes []byte
	for _, v := range p.Inputs() {
		shapes = appendLength(shapes, len(v.Type.Shape))
		for _, d := range v.Type.Shape {
			shapes = binary.AppendVarint(shapes, d.Value)
		}
	}
	b.plans.put(string(shapes), p, p.ArenaBytes())
	return b, nil
}

func appendLength(shapes []byte, n int) []byte { return binary.AppendVarint(shapes, int64(n)) }

// appendShapes encodes the shapes of all inputs, in the model's order, as a key for plans.
func (b *Backend) appendShapes(to []byte, in map[string]*onnxio.Tensor) ([]byte, error) {
	for _, name := range b.inputs {
		t := in[name]
		if t == nil {
			return nil, fmt.Errorf("input %q is missing", name)
		}
		to = appendLength(to, len(t.Dims))
		for _, d := range t.Dims {
			to = binary.AppendVarint(to, d)
		}
	}
	return to, nil
}

// Run implements the session. When many Runs are under way it waits for one to end.
func (b *Backend) Run(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]*onnxio.Tensor, error) {
	var space [64]byte
	shapes, err := b.appendShapes(space[:0], in)
	if err != nil {
		return nil, err
	}
	select {
	case b.running <- struct{}{}:
		defer func() { <-b.running }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p := b.plans.take(shapes)
	if p == nil {
		if p, err = b.compile(in); err != nil {
			return nil, err
		}
	}
	out, err := p.Run(ctx, in)
	b.plans.put(string(shapes), p, p.ArenaBytes())
	return out, err
}

func (b *Backend) compile(in map[string]*onnxio.Tensor) (*engine.Plan, error) {
	shapes := map[string][]int64{}
	for name, t := range in {
		shapes[name] = t.Dims
	}
	return b.weights.Compile(b.model, engine.Options{Pool: b.pool, Shapes: shapes, NoWinograd: b.direct})
}

// Close ends the workers.
func (b *Backend) Close() error {
	b.pool.Close()
	return nil
}
