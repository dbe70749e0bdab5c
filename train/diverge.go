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
	// the first node of the training graph whose output is not finite, "" when it is not known
	Node string
	// else a parameter that was not finite before the step or after it, or whose gradient was not
	Parameter string
	Source    string // the two in words
}

// Error says where and what to do.
func (e *DivergedError) Error() string {
	s := fmt.Sprintf("epoch %d, step %d: %s", e.Epoch, e.Step, e.What)
	if e.Source != "" {
		s += ": " + e.Source
	}
	return s + ": lower the learning rate, or look for bad numbers in the data"
}

// explained finds out where a number that is not finite came from. The step has already changed the weights,
// but the run repeats itself to the bit: it is put back to the kept checkpoint and looked at step by step.
// The loss alone does not tell: Relu may turn what is not a number into 0.
func (r *run) explained(ctx context.Context, err error) error {
	var d *DivergedError
	if !errors.As(err, &d) || r.ranks != nil { // ranks would have to look together
		return err
	}
	history, last := r.result.History, d.Step
	defer func() { r.result.History = history }()
	if r.restore(r.kept) != nil {
		return d
	}
	before := withOwnInitializers(r.graph)
	if r.trainer.Export(before) != nil {
		return d
	}
	f := r.feeder(r.done)
	defer f.stop()
	for r.done < last && ctx.Err() == nil {
		step := r.done + 1
		stepErr := r.step(context.Background(), f)
		after := withOwnInitializers(r.graph)
		if r.trainer.Export(after) != nil || stepErr != nil && !errors.As(stepErr, new(*DivergedError)) {
			return d
		}
		name, v := r.strangeParameter(after)
		if stepErr == nil && name == "" {
			before = after
			continue
		}
		d.Step = step
		r.source(ctx, d, before, f.in)
		if d.Source == "" && name != "" {
			d.Parameter, d.Source = name, fmt.Sprintf("the step made parameter %q %v", name, v)
		}
		break
	}
	return d
}

// source looks for what was not finite in a step: a parameter before it, the output of a node, or a gradient.
func (r *run) source(ctx context.Context, d *DivergedError, before *onnxio.Model,
	in map[string]*onnxio.Tensor) {
	if name, v := r.strangeParameter(before); name != "" {
		d.Parameter, d.Source = name, fmt.Sprintf("parameter %q was %v before the step", name, v)
		return
	}
	if node, v := r.firstStrange(ctx, before, in); node != nil {
		d.Node, d.Source = node.Name, fmt.Sprintf("the first output that is not finite is that of %s %q: %v",
			node.OpType, node.Name, v)
		return
	}
	for _, name := range r.trainer.Params() {
		g, err := r.trainer.Gradient(name)
		if err != nil {
			continue
		}
		if v, bad := strange(g); bad {
			d.Parameter, d.Source = name, fmt.Sprintf("the gradient of parameter %q is %v", name, v)
			return
		}
	}
}

// strangeParameter finds a parameter, or a running statistic, that is not finite.
func (r *run) strangeParameter(m *onnxio.Model) (name string, v float32) {
	for _, t := range m.Graph.Initializers {
		if v, bad := strange(t); bad {
			return t.Name, v
		}
	}
	return "", 0
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
func (r *run) firstStrange(ctx context.Context, m *onnxio.Model, in map[string]*onnxio.Tensor) (*onnxio.Node,
	float32) {
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
