// Package native runs models with this module's own engine. Use it through package runtime.
package native

import (
	"context"
	"fmt"
	"sync"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Options of a Backend.
type Options struct {
	Threads int // 0: as many as the process may use
}

// maxShapes bounds the input shapes for which plans are kept.
const maxShapes = 8

// Backend runs one model. Plans are compiled when a shape is met for the first time, and a plan serves one Run at a
// time; concurrent Runs of one shape get plans of their own, which share the weights.
type Backend struct {
	model   *onnxio.Model
	pool    *parallel.Pool
	weights engine.Weights

	mu    sync.Mutex
	idle  map[string][]*engine.Plan
	order []string // shapes by last use, oldest first
}

// Open prepares a model. It compiles nothing yet, except where every input shape is known.
func Open(m *onnxio.Model, opt Options) (*Backend, error) {
	b := &Backend{model: m, pool: parallel.New(opt.Threads), idle: map[string][]*engine.Plan{}}
	// A batch of one tells early whether every operator is there.
	dims, open := map[string]int64{}, false
	for _, in := range m.Graph.Inputs {
		if in.Type == nil {
			continue
		}
		for _, d := range in.Type.Shape {
			if d.Param != "" {
				dims[d.Param] = 1
			}
			open = open || d.Param == "" && d.Value < 0
		}
		open = open || !in.Type.HasShape
	}
	if open || len(dims) > 1 {
		return b, nil // shapes that only the caller knows
	}
	p, err := b.weights.Compile(m, engine.Options{Pool: b.pool, Dims: dims})
	if err != nil {
		b.pool.Close()
		return nil, err
	}
	b.put(key(b.shapesOf(p)), p)
	return b, nil
}

func (b *Backend) shapesOf(p *engine.Plan) map[string][]int64 {
	out := map[string][]int64{}
	for _, v := range p.Inputs() {
		dims := make([]int64, len(v.Type.Shape))
		for i, d := range v.Type.Shape {
			dims[i] = d.Value
		}
		out[v.Name] = dims
	}
	return out
}

// key names the shapes of all inputs.
func (b *Backend) keyOf(in map[string]*onnxio.Tensor) string {
	shapes := map[string][]int64{}
	for name, t := range in {
		shapes[name] = t.Dims
	}
	return key(shapes)
}

func key(shapes map[string][]int64) string { return fmt.Sprint(shapes) } // maps print sorted

// Run implements the session.
func (b *Backend) Run(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]*onnxio.Tensor, error) {
	k := b.keyOf(in)
	p, err := b.take(k, in)
	if err != nil {
		return nil, err
	}
	defer b.put(k, p)
	return p.Run(ctx, in)
}

func (b *Backend) take(k string, in map[string]*onnxio.Tensor) (*engine.Plan, error) {
	b.mu.Lock()
	if plans := b.idle[k]; len(plans) > 0 {
		p := plans[len(plans)-1]
		b.idle[k] = plans[:len(plans)-1]
		b.mu.Unlock()
		return p, nil
	}
	b.mu.Unlock()
	shapes := map[string][]int64{}
	for name, t := range in {
		shapes[name] = t.Dims
	}
	return b.weights.Compile(b.model, engine.Options{Pool: b.pool, Shapes: shapes})
}

// put keeps a plan for the next Run of its shape and forgets the shape that was used longest ago.
func (b *Backend) put(k string, p *engine.Plan) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle[k] = append(b.idle[k], p)
	for i, o := range b.order {
		if o == k {
			b.order = append(b.order[:i], b.order[i+1:]...)
			break
		}
	}
	b.order = append(b.order, k)
	if len(b.order) > maxShapes {
		delete(b.idle, b.order[0])
		b.order = b.order[1:]
	}
}

// Close ends the workers.
func (b *Backend) Close() error {
	b.pool.Close()
	return nil
}
