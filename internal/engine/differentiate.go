package engine

import (
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// differentiate appends to the graph the nodes that compute the gradient of loss with respect to every
// trained param that the loss depends on differentiably, and gives those gradients. Nothing is computed
// below the first trained param.
//
// It is the reverse walk over the gradient table of package ops: each op turns the gradients of its
// outputs into those of its inputs; a value with several readers has the sum of what they give, added
// in the order of the walk.
func differentiate(g *graph, loss *value) (map[*value]*value, error) {
	if n := loss.size(); n != 1 || loss.info.Type != onnxio.Float {
		return nil, fmt.Errorf("the loss %q must be a float32 scalar, not %v %v", loss.name, loss.info.Type,
			loss.dims)
	}
	params := map[*value]bool{}
	for _, v := range g.values {
		if v.kind == param && (v.store == nil || v.store.trained) {
			params[v] = true
		}
	}
	if !dependents(g.ops, params)[loss] {
		if err := g.reach(loss, params, nil); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("the loss %q depends on no parameter", loss.name)
	}
	d, err := backward(g, loss, params)
	if err != nil {
		return nil, err
	}
	if err := g.reach(loss, params, d.grads); err != nil {
		return nil, err
	}
	out := map[*value]*value{}
	for v, dv := range d.grads {
		if v.kind == param {
			out[v] = dv
		}
	}
	g.index()
	return out, nil
}

// reach refuses parameters on which the loss depends, but through operators alone that give no float32.
func (g *graph) reach(loss *value, params map[*value]bool, grads map[*value]*value) error {
	for _, v := range g.sortedValues() {
		if !params[v] || grads[v] != nil {
			continue
		}
		behind, at := map[*value]bool{v: true}, (*op)(nil)
		for _, o := range g.ops {
			if !slices.ContainsFunc(o.in, func(x *value) bool { return behind[x] }) {
				continue
			}
			for _, y := range o.out {
				if y == nil {
					continue
				}
				if behind[y] = true; at == nil && y.info.Type != onnxio.Float {
					at = o
				}
			}
		}
		if behind[loss] && at != nil {
			return &onnxio.UnsupportedError{Op: at.node.OpType, Node: at.String(),
				Reason: fmt.Sprintf("no gradient passes it, and the trained parameter %q lies behind it: freeze that",
					v.name)}
		}
	}
	return nil
}

// backward walks the graph in reverse, from the sum of y's elements to the values of
// xs and what lies between.
func backward(g *graph, y *value, xs map[*value]bool) (*differ, error) {
	forward := append([]*op(nil), g.ops...)
	needs := dependents(forward, xs)
	d := &differ{g: g, grads: map[*value]*value{}}
	ones := onnxio.NewTensor(onnxio.Float, y.dims...)
	for i := range ones.Float32s() {
		ones.Float32s()[i] = 1
	}
	d.grads[y] = g.values[d.Const(ones)]
	for i := len(forward) - 1; i >= 0; i-- {
		if err := d.step(forward[i], needs); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// dependents is the set of values that depend on those of xs through float32 operators.
func dependents(order []*op, xs map[*value]bool) map[*value]bool {
	needs := map[*value]bool{}
	for v := range xs {
		needs[v] = true
	}
	for _, o := range order {
		dep := slices.ContainsFunc(o.in, func(v *value) bool { return v != nil && needs[v] })
		for _, v := range o.out {
			if v != nil && dep && v.info.Type == onnxio.Float {
				needs[v] = true
			}
		}
	}
	return needs
}

// differ implements ops.Graph over the graph being extended.
type differ struct {
	g     *graph
	grads map[*value]*value
	at    *op // whose gradient is being emitted
}

func (d *differ) step(o *op, needs map[*value]bool) error {
	gr := &ops.Grad{Graph: d, Node: o.node, Ins: namesOf(o.in), Outs: namesOf(o.out),
		DOut:  make([]string, len(o.out)),
		Wants: make([]bool, len(o.in)), DIn: make([]string, len(o.in))}
	any := false
	for i, v := range o.out {
		if v != nil && d.grads[v] != nil {
			gr.DOut[i], any = d.grads[v].name, true
		}
	}
	wanted := false
	for i, v := range o.in[:o.inputs] {
		if v != nil && needs[v] {
			gr.Wants[i], wanted = true, true
		}
	}
	if !any || !wanted {
		return nil
	}
	if o.node.Def.Grad == nil {
		return &onnxio.UnsupportedError{Op: o.node.OpType, Node: o.String(),
			Reason: "it has no gradient, and a parameter lies behind it"}
	}
	d.at = o
	if err := o.node.Def.Grad(gr); err != nil {
		return fmt.Errorf("gradient of %s: %w", o, err)
	}
	for i, name := range gr.DIn {
		if name == "" && gr.Wants[i] && !flat(o.node, i) {
			return &onnxio.UnsupportedError{Op: o.node.OpType, Node: o.String(),
				Reason: fmt.Sprintf(
					"it has no gradient by its input %q, behind which a trained parameter lies: freeze that",
					o.in[i].name)}
		}
		if name == "" || !gr.Wants[i] {
			continue
		}
		if err := d.accumulate(o.in[i], d.g.values[name]); err != nil {
			return err
		}
	}
	return nil
}

// flat reports whether the gradient by input i is zero by what the operator does.
func flat(n *ops.Node, i int) bool {
	params := n.InParams()
	return i < len(params) && params[i].Flat
}

// namesOf names values, "" where one is omitted.
func namesOf(vs []*value) []string {
	names := make([]string, len(vs))
	for i, v := range vs {
		if v != nil {
			names[i] = v.name
		}
	}
	return names
}

func (d *differ) accumulate(v, dv *value) error {
	if !equalDims(v.dims, dv.dims) {
		return fmt.Errorf("gradient of %s: %v for %q of shape %v", d.at, dv.dims, v.name, v.dims)
	}
	old := d.grads[v]
	if old == nil {
		d.grads[v] = dv
		return nil
	}
	sum, err := d.Emit("", "Add", 1, []string{old.name, dv.name})
	if err != nil {
		return err
	}
	d.grads[v] = d.g.values[sum[0]]
	return nil
}

func equalDims(a, b []int64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// Value implements ops.Graph.
func (d *differ) Value(name string) *ops.Value {
	if v := d.g.values[name]; v != nil {
		return v.info
	}
	return nil
}

// Emit implements ops.Graph. Gradient nodes are written in the newest opset their definitions know, so that
// the table need not care which one the model uses.
func (d *differ) Emit(domain, opType string, nOut int, inputs []string, attrs ...*onnxio.Attribute) ([]string,
	error) {
	n := &onnxio.Node{OpType: opType, Domain: domain, Inputs: inputs, Attrs: attrs}
	n.Name = "grad/" + d.at.origin
	for range nOut {
		base := "grad/" + opType
		if len(d.at.out) > 0 && d.at.out[0] != nil {
			base = "grad/" + d.at.out[0].name
		}
		name := d.g.name(base)
		n.Outputs = append(n.Outputs, name)
		d.g.values[name] = &value{} // holds the name until make
	}
	for _, name := range n.Outputs {
		delete(d.g.values, name)
	}
	o, err := d.g.make(n, gradOpset)
	if err != nil {
		return nil, err
	}
	o.origin = d.at.origin
	if err := d.g.infer(o); err != nil {
		return nil, err
	}
	d.g.ops = append(d.g.ops, o)
	return n.Outputs, nil
}

// gradOpset is the opset in which gradients are written, whatever the model's: 18 is the newest in which
// reductions and Split take their axes and sizes as the table gives them.
const gradOpset = 18

// Const implements ops.Graph.
func (d *differ) Const(t *onnxio.Tensor) string {
	name := d.g.name("grad/const")
	v := &value{name: name, kind: constant}
	v.hold(t)
	d.g.values[name] = v
	return name
}

// Save implements ops.Graph.
func (d *differ) Save(n *ops.Node, i int) (string, error) {
	o := d.at
	for len(o.out) <= i {
		o.out = append(o.out, nil)
	}
	if o.out[i] == nil {
		v, err := d.g.add(d.g.name(fmt.Sprintf("%s/saved%d", o.out[0].name, i)), computed)
		if err != nil {
			return "", err
		}
		v.producer = o
		o.out[i] = v
		if err := d.g.infer(o); err != nil {
			return "", err
		}
	}
	return o.out[i].name, nil
}
