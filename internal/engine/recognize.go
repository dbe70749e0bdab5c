package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// recognize replaces what exporters spell out by the one operator that it is, see patterns. Training does not
// run the pass: the gradients of what is spelled out are its own.
func recognize(g *graph) {
	for i := range patterns {
		if patterns[i].rewrite(g) > 0 {
			g.prune()
		}
	}
}

// rewrite replaces p wherever the graph has it, and counts.
func (p *pattern) rewrite(g *graph) (found int) {
	for _, o := range slices.Clone(g.ops) {
		if len(o.out) != 1 || !o.out[0].isTensor(onnxio.Float) {
			continue
		}
		if matches(p.is, o.out[0], func(m *match) bool { return p.where(m) && g.become(o, p.gives(g, m)) }) {
			found++
		}
	}
	return found
}

// isTensor reports whether v is a tensor of a type.
func (v *value) isTensor(t onnxio.DataType) bool {
	return v != nil && v.info.Type == t && v.info.Kind == nil
}

// become makes o another operator of the same output, and reports whether that is there: what is
// spelled out computes it too.
func (g *graph) become(o *op, r replacement) bool {
	n := newNode(r.op, "", o.out[0].name)
	n.Name, n.Attrs = o.node.Name, r.attrs
	bound, err := ops.Bind(n, r.opset)
	if err != nil {
		return false
	}
	was := *o
	o.node, o.in, o.inputs = bound, r.in, len(r.in)
	if err := g.infer(o); err != nil {
		*o = was
		return false
	}
	o.link()
	return true
}

// ones adds a constant of n ones.
func (g *graph) ones(name string, n int64) *value {
	t := onnxio.NewTensor(onnxio.Float, n)
	for i := range t.Float32s() {
		t.Float32s()[i] = 1
	}
	return g.constant(name, t)
}
