package infer

import (
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// maxNested bounds the graphs inside graphs that inference follows.
const maxNested = 30

// branches refines the outputs of an If by what its branches give: the one that a known condition takes, or
// what is true of both. A branch in which inference finds a fault may be one that never runs, and says
// nothing.
func (w *walk) branches(n *ops.Node, in, out []*ops.Value) {
	if n.OpType != "If" || n.Domain != "" || w.depth == maxNested || len(in) == 0 {
		return
	}
	names := []string{"then_branch", "else_branch"}
	if c := in[0].Const; c != nil && c.Type == onnxio.Bool && len(c.Raw) == 1 {
		names = names[:1]
		if c.Raw[0] == 0 {
			names[0] = "else_branch"
		}
	}
	var all [][]*ops.Value
	for _, name := range names {
		values := w.branch(n.Attr(name))
		if values == nil {
			return
		}
		all = append(all, values)
	}
	for i := range out {
		if out[i] == nil || i >= len(all[0]) || i >= len(all[len(all)-1]) {
			continue
		}
		if len(all) == 1 {
			*out[i] = *all[0][i]
		} else if v := both(all[0][i], all[1][i]); v.HasShape {
			*out[i] = *v
		}
	}
}

// branch infers a graph that reads the values around it, and gives its outputs; nil where that fails.
func (w *walk) branch(a *onnxio.Attribute) []*ops.Value {
	if a == nil || a.G == nil || wholeGraph(a.G) != nil {
		return nil
	}
	inner := walk{model: w.model, graph: a.G, outer: w, depth: w.depth + 1}
	if inner.run(nil) != nil {
		return nil
	}
	var out []*ops.Value
	for _, v := range a.G.Outputs {
		got := inner.look(v.Name)
		if got == nil || got.Type == onnxio.Undefined && got.Kind == nil {
			got = valueOf(v)
		}
		out = append(out, got)
	}
	return out
}

// both is what is true of a and b, tensors of known rank.
func both(a, b *ops.Value) *ops.Value {
	if a.Kind != nil || b.Kind != nil || a.Type != b.Type || !a.HasShape || !b.HasShape ||
		len(a.Shape) != len(b.Shape) {
		return &ops.Value{}
	}
	out := &ops.Value{Type: a.Type, HasShape: true, Shape: append([]onnxio.Dim{}, a.Shape...)}
	for i := range out.Shape {
		if a.Shape[i] != b.Shape[i] {
			out.Shape[i] = onnxio.Dim{Value: -1}
		}
	}
	return out
}
