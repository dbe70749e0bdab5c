package engine

import (
	"fmt"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// heavySize is the number of elements from which on an op that has a fast kernel waits for a plan.
const heavySize = 1 << 15

// heavy reports whether an op whose shapes are known by now is worth a plan.
func (r *run) heavy(o *op) bool {
	if p := o.path(); len(o.bodies) > 0 || p.lower == nil {
		return false
	}
	n := int64(0)
	for _, v := range o.in {
		if v == nil {
			continue
		}
		if t, ok := r.value(v).(*onnxio.Tensor); ok && t != nil {
			n += t.Size()
		}
	}
	return n >= heavySize
}

// interpret runs an op on what is there: a subgraph's owner by its rule, everything
// else by its reference kernel.
func (r *run) interpret(o *op) error {
	in := make([]onnxio.Value, o.inputs)
	for i, v := range o.in[:o.inputs] {
		if v != nil {
			in[i] = r.value(v)
		}
	}
	out, err := r.apply(o, in)
	if err != nil {
		return err
	}
	for i, v := range o.out {
		if v == nil {
			continue
		}
		if i >= len(out) || out[i] == nil {
			return o.node.Errorf("gives no output %d", i)
		}
		r.put(v, out[i])
	}
	if err := r.within(); err != nil {
		return o.node.Errorf("%w", err)
	}
	return nil
}

// within reports whether the values of the run, and of the runs around it, are within the budget.
func (r *run) within() error {
	if held, limit := r.lane.live, r.p.opt.MaxBytes; held > limit {
		return &onnxio.LimitError{What: "bytes of a run's values", Got: held, Limit: limit}
	}
	return nil
}

func (r *run) apply(o *op, in []onnxio.Value) ([]onnxio.Value, error) {
	switch {
	case len(o.bodies) > 0:
		return r.control(o, in)
	case o.node.Def.EvalValues != nil:
		c := &ops.EvalValues{Node: o.node, In: in, Limit: r.room()}
		err := o.node.Def.EvalValues(c)
		return c.Out, err
	case o.node.Def.Eval == nil:
		return nil, &onnxio.UnsupportedError{Op: o.node.OpType, Node: o.String(), Reason: "it has no kernel"}
	case o.path().same:
		return in, nil
	}
	return r.evaluate(o, in)
}

// room is how many bytes a run may still take.
func (r *run) room() int64 { return max(1, r.p.opt.MaxBytes-r.lane.live) }

// evaluate runs an operator of tensors.
func (r *run) evaluate(o *op, in []onnxio.Value) ([]onnxio.Value, error) {
	r.lane.draws++
	c := &ops.Eval{Node: o.node, In: make([]*onnxio.Tensor, len(in)), Want: make([]bool, len(o.out)),
		Limit: r.room(),
		Seed:  mix(r.lane.draws)}
	for i, x := range in {
		if x == nil {
			continue
		}
		t, ok := x.(*onnxio.Tensor)
		if !ok {
			return nil, o.node.Errorf("input %d is no tensor", i)
		}
		c.In[i] = t
	}
	for i, v := range o.out {
		c.Want[i] = v != nil
	}
	if err := o.node.Def.Eval(c); err != nil {
		return nil, err
	}
	out := make([]onnxio.Value, len(c.Out))
	for i, t := range c.Out {
		if t != nil {
			out[i] = t
		}
	}
	return out, nil
}

// control runs an op of control flow. What it collects meanwhile counts until it ends.
func (r *run) control(o *op, in []onnxio.Value) ([]onnxio.Value, error) {
	before := r.live
	defer func() { r.hold(before - r.live) }()
	if p := o.path(); p.control != nil {
		return p.control(r, o, in)
	}
	return nil, &onnxio.UnsupportedError{Op: o.node.OpType, Node: o.String(),
		Reason: "its subgraphs have no meaning here"}
}

// call runs a body: its formal inputs, and behind them what it captures.
func (r *run) call(o *op, b *body, formal []onnxio.Value) ([]onnxio.Value, error) {
	if len(formal) != b.formal {
		return nil, o.node.Errorf("%s takes %d inputs, not %d", b.attr, b.formal, len(formal))
	}
	in := append([]onnxio.Value{}, formal...)
	for _, v := range o.in[b.from : b.from+b.captures] {
		in = append(in, r.value(v))
	}
	out, err := b.program.Run(r.ctx, r.lane, in)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", o, b.attr, err)
	}
	return out, nil
}

// named is the body of an attribute.
func (o *op) named(attr string) (*body, error) {
	for _, b := range o.bodies {
		if b.attr == attr {
			return b, nil
		}
	}
	return nil, o.node.Errorf("has no %s", attr)
}

// truth is a condition's value.
func truth(o *op, x onnxio.Value) (bool, error) {
	t, ok := x.(*onnxio.Tensor)
	if !ok || t.Type != onnxio.Bool || len(t.Raw) != 1 {
		return false, o.node.Errorf("the condition must be one bool")
	}
	return t.Raw[0] != 0, nil
}

// branchAttr is the attribute with the subgraph that an If runs.
func branchAttr(cond bool) string {
	if cond {
		return "then_branch"
	}
	return "else_branch"
}

// branches runs an If.
func (r *run) branches(o *op, in []onnxio.Value) ([]onnxio.Value, error) {
	cond, err := truth(o, in[0])
	if err != nil {
		return nil, err
	}
	b, err := o.named(branchAttr(cond))
	if err != nil {
		return nil, err
	}
	return r.call(o, b, nil)
}
