package train

import (
	"context"
	"errors"
	"fmt"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
)

// DivergedError says that a number which is not finite ended the run, and where it came from.
type DivergedError struct {
	Epoch, Step int
	What        string // the loss is NaN
	Node        string // the first node of the training graph whose output is not finite, "" when it is not known
	Parameter   string // a parameter that was not finite before the step, or whose gradient was not, "" when there is none
	Source      string // the two in words
}

// Error says where and what to do.
func (e *DivergedError) Error() string {
	s := fmt.Sprintf("epoch %d, step %d: %s", e.Epoch, e.Step, e.What)
	if e.Source != "" {
		s += ": " + e.Source
	}
	return s + ": lower the learning rate, or look for bad numbers in the data"
}

// explained finds out where a number that is not finite came from. The step has already changed the weights, but the run
// repeats itself to the bit: it is put back to the kept checkpoint and comes again to the moment before that step.
func (r *run) explained(ctx context.Context, err error) error {
	var d *DivergedError
	if !errors.As(err, &d) {
		return err
	}
	history := r.result.History
	again := r.restore(r.kept)
	f := r.feeder()
	for again == nil && r.done < d.Step-1 && ctx.Err() == nil {
		again = r.step(f)
	}
	r.result.History = history
	if again != nil || ctx.Err() != nil {
		return d
	}
	before := withOwnInitializers(r.graph)
	if _, err := r.fill(f); err != nil || r.trainer.Export(before) != nil {
		return d
	}
	for _, name := range r.trainer.Params() {
		if v, bad := strange(before.Graph.Initializer(name)); bad {
			d.Parameter, d.Source = name, fmt.Sprintf("the step before made parameter %q %v", name, v)
			return d
		}
	}
	if node, v := r.firstStrange(ctx, before, f.in); node != nil {
		d.Node, d.Source = node.Name, fmt.Sprintf("the first output that is not finite is that of %s %q: %v", node.OpType, node.Name, v)
	}
	return d
}

// strange finds a value that is not finite.
func strange(t *onnxio.Tensor) (v float32, found bool) {
	if t == nil || t.Type != onnxio.Float {
		return 0, false
	}
	for _, v := range t.Float32s() {
		if !finite(float64(v)) {
			return v, true
		}
	}
	return 0, false
}

// firstStrange runs the training graph forward, node by node, and finds the first output that is not finite.
func (r *run) firstStrange(ctx context.Context, m *onnxio.Model, in map[string]*onnxio.Tensor) (*onnxio.Node, float32) {
	shapes := map[string][]int64{}
	for name, x := range in {
		shapes[name] = x.Dims
	}
	p, err := engine.Compile(m, engine.Options{Pool: r.pool, Shapes: shapes, Keep: true, Reference: true})
	if err != nil {
		return nil, 0
	}
	out, err := p.Run(ctx, in)
	if err != nil {
		return nil, 0
	}
	for _, n := range m.Graph.Nodes {
		for _, name := range n.Outputs {
			if v, bad := strange(out[name]); bad {
				return n, v
			}
		}
	}
	return nil, 0
}
