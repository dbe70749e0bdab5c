package quantize

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/convert/rewrite"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Finish makes bytes of the weights that Options.Trainable has left in float32, and int32 of the biases
// behind them. It counts the weights; the model computes the same but for the rounding of the biases.
func Finish(m *onnxio.Model) (*onnxio.Model, int, error) {
	m, err := rewrite.Prune(m)
	if err != nil {
		return nil, 0, err
	}
	f := finisher{g: &graph{m: m}, e: &emission{inputs: map[string]bool{}}}
	f.g.index()
	count := 0
	for _, n := range m.Graph.Nodes {
		c := *n
		c.Inputs = slices.Clone(n.Inputs)
		if f.weight(&c) {
			count++
		}
		f.bias(&c)
		f.e.nodes = append(f.e.nodes, &c)
	}
	out, inner := *m, *m.Graph
	out.Graph = &inner
	inner.Nodes, inner.Initializers = f.e.nodes, slices.Concat(inner.Initializers, f.e.inits)
	inner.Inputs = slices.DeleteFunc(slices.Clone(inner.Inputs),
		func(v *onnxio.ValueInfo) bool { return f.g.inits[v.Name] != nil })
	m, err = rewrite.Prune(&out)
	return m, count, err
}

// finisher writes a model whose weights are trained.
type finisher struct {
	g *graph // as it was
	e *emission
}

// quantized are the QuantizeLinear that a DequantizeLinear reads, its float32 initializer and the scales,
// where it makes int8 without a zero point.
func (f *finisher) quantized(d *onnxio.Node) (q *onnxio.Node, w, scales *onnxio.Tensor) {
	if !is(d, "DequantizeLinear") {
		return nil, nil, nil
	}
	q = f.g.producer[d.Inputs[0]]
	if !is(q, "QuantizeLinear") || len(q.Inputs) < 3 || q.Int("block_size", 0) != 0 {
		return nil, nil, nil
	}
	zero := f.g.inits[q.Inputs[2]]
	if zero == nil || zero.Type != onnxio.Int8 ||
		slices.ContainsFunc(zero.Raw, func(b byte) bool { return b != 0 }) {
		return nil, nil, nil
	}
	w, scales = f.g.floats(q, 0), f.g.floats(q, 1)
	if w == nil || scales == nil {
		return nil, nil, nil
	}
	return q, w, scales
}

// weight makes a DequantizeLinear read bytes.
func (f *finisher) weight(d *onnxio.Node) bool {
	q, w, scales := f.quantized(d)
	if q == nil {
		return false
	}
	each, n := int64(1), scales.Size()
	if n != 1 {
		axis := q.Int("axis", 1)
		if axis < 0 {
			axis += int64(len(w.Dims))
		}
		if axis < 0 || axis >= int64(len(w.Dims)) || w.Dims[axis] != n {
			return false
		}
		for _, d := range w.Dims[axis+1:] {
			each *= d
		}
	}
	bytes := onnxio.NewTensor(onnxio.Int8, w.Dims...)
	for i, v := range w.Float32s() {
		s := scales.Float32s()[int64(i)/each%n]
		bytes.Raw[i] = uint8(int8(min(max(math.RoundToEven(float64(v/s)), math.MinInt8), math.MaxInt8)))
	}
	d.Inputs[0] = f.e.init(f.g.free(q.Outputs[0]+"/int8"), bytes)
	return true
}

// bias makes the bias of a layer on bytes int32, in units of the input's scale times the weights'.
func (f *finisher) bias(n *onnxio.Node) {
	b := f.g.floats(n, 2)
	if !is(n, "Conv", "Gemm") || b == nil || len(b.Dims) != 1 {
		return
	}
	x := f.g.producer[n.Inputs[0]]
	q, _, scales := f.quantized(f.g.producer[n.Inputs[1]])
	if q == nil || !is(x, "DequantizeLinear") {
		return
	}
	by := f.g.floats(x, 1)
	if by == nil || by.Size() != 1 || scales.Size() != 1 && scales.Size() != b.Size() {
		return
	}
	n.Inputs[2] = f.e.bias(f.g.free(n.Outputs[0]+"/bias"), b.Float32s(), by.Float32s()[0], scales)
}
