// Package native runs models with this module's own engine. Use it through package runtime.
package native

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"sync"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Options of a Backend.
type Options struct {
	Threads    int   // 0: as many as the process may use
	Streams    int   // Runs at once, of one thread each; 0: every Run has all threads
	NoWinograd bool  // direct convolutions only, which round a little less
	BF16       bool  // convolutions in bf16 where the processor has that and it pays
	MaxBytes   int64 // bounds the memory of one Run's values; 0: half of the machine's
}

// Backend runs one model. A plan is compiled for the shapes of the inputs when they are met for the
// first time, and kept. Concurrent Runs have lanes of their own, with memory and plans of their
// own, which share the weights.
type Backend struct {
	model   *onnxio.Model
	opt     engine.Options
	program *engine.Program // of the inputs that the model takes, without defaults that may be overridden
	pool    *parallel.Pool
	lanes   lanes
	running chan struct{} // bounds the lanes in use: more Runs than processors only take memory

	mu        sync.Mutex
	overrides map[string]*engine.Program // by the names of the initializers that the caller gives
}

// Open prepares a model. It compiles a plan at once where every input shape is known, or is but for one
// symbol, the batch, which is then 1: so the first Run of that shape takes no longer than the next. An
// operator that is not there is found here.
func Open(m *onnxio.Model, opt Options) (*Backend, error) {
	atOnce := 2 * max(opt.Threads, runtime.GOMAXPROCS(0))
	if opt.Streams > 0 {
		opt.Threads, atOnce = 1, opt.Streams
	}
	b := &Backend{model: m, pool: parallel.New(opt.Threads), overrides: map[string]*engine.Program{},
		running: make(chan struct{}, atOnce)}
	b.lanes.apart = opt.Streams > 0
	b.opt = engine.Options{Pool: b.pool, NoWinograd: opt.NoWinograd, BF16: opt.BF16, MaxBytes: opt.MaxBytes}
	if err := b.prepare(); err != nil {
		b.pool.Close()
		return nil, err
	}
	return b, nil
}

// prepare compiles the model, and the plan for its first Run.
func (b *Backend) prepare() (err error) {
	defer engine.Recover(&err)
	if b.program, err = engine.NewProgram(b.model, b.opt); err != nil {
		return err
	}
	shapes := firstShapes(b.model, b.program.Inputs())
	if shapes == nil {
		return nil
	}
	l := b.lanes.take()
	defer b.lanes.put(l)
	// A model that cannot run at a batch of one, such as one that was traced with
	// another, says so when it runs.
	var unsupported *onnxio.UnsupportedError
	if err := b.program.Prepare(l, shapes); errors.As(err, &unsupported) {
		return err
	}
	return nil
}

// firstShapes are the shapes of the first Run that is likely: those declared, at a batch of
// one; nil where they are open.
func firstShapes(m *onnxio.Model, inputs []string) [][]int64 {
	shapes, symbol := [][]int64{}, ""
	for _, in := range m.Graph.Inputs {
		if !slices.Contains(inputs, in.Name) {
			continue
		}
		if in.Type == nil || !in.Type.HasShape {
			return nil
		}
		var dims []int64
		for _, d := range in.Type.Shape {
			switch {
			case d.Known():
				dims = append(dims, d.Value)
			case d.Param == "" || symbol != "" && d.Param != symbol:
				return nil
			default:
				symbol = d.Param
				dims = append(dims, 1)
			}
		}
		shapes = append(shapes, dims)
	}
	return shapes
}

// Run implements the session. When many Runs are under way it waits for one to end.
func (b *Backend) Run(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]*onnxio.Tensor, error) {
	out := make(map[string]*onnxio.Tensor, len(b.model.Graph.Outputs))
	err := run(ctx, b, in, func(p *engine.Program, l *engine.Lane, list []onnxio.Value) error {
		values, err := p.Run(ctx, l, list)
		if err != nil {
			return err
		}
		for i, v := range b.model.Graph.Outputs {
			t, ok := values[i].(*onnxio.Tensor)
			if !ok {
				return fmt.Errorf("output %q is no tensor: RunValues gives it", v.Name)
			}
			t.Name = v.Name
			out[v.Name] = t
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// RunInto implements the session.
func (b *Backend) RunInto(ctx context.Context, in, out map[string]*onnxio.Tensor) error {
	return run(ctx, b, in, func(p *engine.Program, l *engine.Lane, list []onnxio.Value) error {
		var space [4]*onnxio.Tensor
		into := space[:0]
		for _, v := range b.model.Graph.Outputs {
			into = append(into, out[v.Name])
		}
		return p.RunInto(ctx, l, list, into)
	})
}

// RunValues is Run with sequences and optionals among the outputs.
func (b *Backend) RunValues(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]onnxio.Value,
	error) {
	out := make(map[string]onnxio.Value, len(b.model.Graph.Outputs))
	err := run(ctx, b, in, func(p *engine.Program, l *engine.Lane, list []onnxio.Value) error {
		values, err := p.Run(ctx, l, list)
		if err != nil {
			return err
		}
		for i, v := range b.model.Graph.Outputs {
			if t, ok := values[i].(*onnxio.Tensor); ok {
				t.Name = v.Name
			}
			out[v.Name] = values[i]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// run lets f run the program in a lane, with the program's inputs in its order.
func run[V onnxio.Value](ctx context.Context, b *Backend, in map[string]V,
	f func(*engine.Program, *engine.Lane, []onnxio.Value) error) error {
	p := b.program
	if len(in) > len(p.Inputs()) {
		var err error
		if p, err = b.overridden(maps.Keys(in)); err != nil {
			return err
		}
	}
	var space [4]onnxio.Value
	list := space[:0]
	for _, name := range p.Inputs() {
		var v onnxio.Value = in[name]
		if t, ok := v.(*onnxio.Tensor); v == nil || ok && t == nil {
			return fmt.Errorf("input %q is missing", name)
		}
		list = append(list, v)
	}
	select {
	case b.running <- struct{}{}:
		defer func() { <-b.running }()
	case <-ctx.Done():
		return ctx.Err()
	}
	l := b.lanes.take()
	err := guarded(func() error { return f(p, l, list) })
	if err != nil && errors.As(err, new(*engine.FaultError)) {
		return err // the lane may hold anything
	}
	b.lanes.put(l)
	return err
}

// guarded makes an error of a panic of the engine.
func guarded(f func() error) (err error) {
	defer engine.Recover(&err)
	return f()
}

// overridden is the program in which the initializers among names are inputs.
func (b *Backend) overridden(names iter.Seq[string]) (*engine.Program, error) {
	var given []string
	for name := range names {
		if b.model.Graph.Initializer(name) != nil {
			given = append(given, name)
		}
	}
	if len(given) == 0 {
		return b.program, nil
	}
	slices.Sort(given)
	key := fmt.Sprintf("%q", given)
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.overrides[key]; p != nil {
		return p, nil
	}
	p, err := engine.NewProgram(b.model, b.opt, given...)
	if err == nil && len(b.overrides) < maxOverrides {
		b.overrides[key] = p
	}
	return p, err
}

// maxOverrides bounds the programs that are kept for sets of overridden initializers.
const maxOverrides = 8

// Close ends the workers.
func (b *Backend) Close() error {
	b.pool.Close()
	return nil
}
