package engine

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// straighten writes what QuantizeLinear and DequantizeLinear do one after the other, by one constant scale and
// zero point, as x/scale, rounded and clipped, times scale. The numbers are the same, and have a gradient: it
// passes where nothing is clipped, as that of PyTorch's FakeQuantize does.
func straighten(g *graph) error {
	var list []*op
	for _, o := range g.ops {
		before, err := g.straightened(o)
		if err != nil {
			return err
		}
		list = append(append(list, before...), o)
	}
	if len(list) > len(g.ops) {
		g.ops = list
		g.index()
		g.prune()
	}
	return nil
}

// straightened makes o, a DequantizeLinear, the last op of what stands for it, and gives the others.
func (g *graph) straightened(o *op) ([]*op, error) {
	if !o.node.Def.Quantizes {
		return nil, nil
	}
	q := o.in[0].producer
	if q == nil || !q.node.Def.Quantizes || !undoes(o, q) {
		return nil, nil
	}
	scale := scaleFor(q)
	low, high, ok := byteRange(q)
	if scale == nil || !ok {
		return nil, nil
	}
	base := o.out[0].name + "/straight"
	by := g.constant(base+"/scale", scale)
	least := g.constant(base+"/low", onnxio.Scalar(onnxio.Float, low))
	most := g.constant(base+"/high", onnxio.Scalar(onnxio.Float, high))
	var made []*op
	last := q.in[0]
	for _, n := range straightRounding(by, least, most) {
		n.Name, n.Outputs, n.Inputs[0] = o.node.Name, []string{g.name(base + "/" + n.OpType)}, last.name
		x, err := g.make(n, gradOpset)
		if err != nil {
			return nil, err
		}
		if err := g.infer(x); err != nil {
			return nil, err
		}
		made, last = append(made, x), x.out[0]
	}
	if !g.become(o, times(last, by)) {
		return nil, o.node.Errorf("it cannot be written as a product")
	}
	return made, nil
}

// undoes reports whether d makes float32 numbers again of what q makes of such.
func undoes(d, q *op) bool {
	if q.in[0].info.Type != onnxio.Float || d.out[0].info.Type != onnxio.Float ||
		d.node.Int("axis", 1) != q.node.Int("axis", 1) ||
		d.node.Int("block_size", 0) != 0 || q.node.Int("block_size", 0) != 0 || q.node.Int("precision", 0) > 1 {
		return false
	}
	for i := 1; i < 3; i++ {
		a, b := inputOf(d, i), inputOf(q, i)
		if a != b && (a == nil || b == nil || a.kind != constant || b.kind != constant ||
			!sameTensor(a.konst, b.konst)) {
			return false
		}
	}
	return true
}

// inputOf is an input, nil where there is none.
func inputOf(o *op, i int) *value {
	if i < len(o.in) {
		return o.in[i]
	}
	return nil
}

func sameTensor(a, b *onnxio.Tensor) bool {
	return a.Type == b.Type && slices.Equal(a.Dims, b.Dims) && slices.Equal(a.Raw, b.Raw)
}

// scaleFor is q's constant scale in a shape that its input is divided by: a scalar, or [C,1,1] for an axis of
// three; nil where there is none.
func scaleFor(q *op) *onnxio.Tensor {
	s, x := q.in[1], q.in[0].info
	if !s.floats() {
		return nil
	}
	if s.size() == 1 {
		return onnxio.Scalar(onnxio.Float, s.konst.Float32s()[0])
	}
	axis, rank := q.node.Int("axis", 1), int64(len(x.Shape))
	if axis < 0 {
		axis += rank
	}
	if !x.HasShape || axis < 0 || axis >= rank || x.Shape[axis].Value != s.size() {
		return nil
	}
	dims := []int64{s.size()}
	for range x.Shape[axis+1:] {
		dims = append(dims, 1)
	}
	return onnxio.Floats(s.konst.Float32s(), dims...)
}

// byteRange are the least and the greatest of q's bytes, less its one zero point.
func byteRange(q *op) (low, high float32, ok bool) {
	var zero int32
	if z := inputOf(q, 2); z != nil {
		if z.kind != constant || z.size() == 0 ||
			slices.ContainsFunc(z.konst.Raw, func(b byte) bool { return b != z.konst.Raw[0] }) {
			return 0, 0, false
		}
		zero = levelOf(z.konst)
	}
	switch q.out[0].info.Type {
	case onnxio.Uint8:
		return float32(-zero), float32(math.MaxUint8 - zero), true
	case onnxio.Int8:
		return float32(math.MinInt8 - zero), float32(math.MaxInt8 - zero), true
	}
	return 0, 0, false
}

func quantizing(n *onnxio.Node) bool {
	d := ops.Lookup(n.Domain, n.OpType)
	return d != nil && d.Quantizes
}

// crooked are the outputs of DequantizeLinear behind QuantizeLinear through which no gradient passes when params
// are trained.
func crooked(m *onnxio.Model, params map[string]bool) map[string]bool {
	out := map[string]bool{}
	if !slices.ContainsFunc(m.Graph.Nodes, quantizing) {
		return out
	}
	g, err := importModel(m, Options{}, params, nil)
	if err == nil {
		err = simplify(g, true)
	}
	if err == nil {
		err = straighten(g)
	}
	if err != nil {
		return out // whoever trains the model is told why
	}
	for _, o := range g.ops {
		if !o.node.Def.Quantizes || o.out[0].info.Type != onnxio.Float {
			continue
		}
		if q := o.in[0].producer; q != nil && q.node.Def.Quantizes {
			out[o.out[0].name] = true
		}
	}
	return out
}
