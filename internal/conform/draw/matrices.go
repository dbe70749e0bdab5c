package draw

import (
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// registerMatrices adds products of matrices and norms along the last axes.
func registerMatrices() {
	product := func(size float64, _ *onnxio.Node) float64 { return 4*size + 2 }
	special["Gemm"] = form{draw: drawGemm, grows: product}
	square := func(size float64, _ *onnxio.Node) float64 { return max(4*size, size*size*4) }
	special["MatMul"] = form{draw: drawMatMul, grows: square}
	norm := func(float64, *onnxio.Node) float64 { return 8 }
	for _, op := range []string{"LayerNormalization", "RMSNormalization"} {
		special[op] = form{draw: func(d *drawer) *onnxio.Node { return d.lastNorm(op) }, grows: norm}
	}
}

// lastKnown admits floating values of which the last dimension is known.
func lastKnown(low, high int) func(*value) bool {
	ok := ranked(low, high)
	return func(v *value) bool {
		if !ok(v) || !ops.Floats.Has(v.info.Type) {
			return false
		}
		last := v.info.Shape[len(v.info.Shape)-1]
		return last.Known() && last.Value > 0
	}
}

func drawGemm(d *drawer) *onnxio.Node {
	x := d.value(lastKnown(2, 2))
	if x == nil {
		return nil
	}
	k, m, elem := x.info.Shape[1].Value, pick[int64](d, 10, 1, 16, 33, 3), x.info.Type
	n, dims := &onnxio.Node{}, []int64{k, m}
	if d.one(2) {
		dims = []int64{m, k}
		n.Attrs = append(n.Attrs, onnxio.IntAttr("transB", 1))
	}
	n.Inputs = []string{x.name, d.init(elem, 4/float64(k), dims...)}
	switch d.n(4) {
	case 0, 1:
		n.Inputs = append(n.Inputs, d.init(elem, 1, m))
	case 2:
		n.Inputs = append(n.Inputs, d.init(elem, 1, 1, m))
	default:
		if d.since("Gemm") < 11 {
			n.Inputs = append(n.Inputs, d.init(elem, 1))
		}
	}
	if d.one(3) {
		n.Attrs = append(n.Attrs, onnxio.FloatAttr("alpha", pick[float32](d, 0.5, 0, 1)))
	}
	if d.one(3) {
		n.Attrs = append(n.Attrs, onnxio.FloatAttr("beta", pick[float32](d, 0.5, 0, 1)))
	}
	return n
}

func drawMatMul(d *drawer) *onnxio.Node {
	x := d.value(lastKnown(1, 5))
	if x == nil {
		return nil
	}
	k, elem := x.info.Shape[len(x.info.Shape)-1].Value, x.info.Type
	switch d.n(4) {
	case 0, 1:
		return &onnxio.Node{Inputs: []string{x.name, d.init(elem, 4/float64(k), k,
			pick[int64](d, 16, 5, 1, 24))}}
	case 2: // a product from the left: [M, K] with [..., K, L]
		if rank := len(x.info.Shape); rank >= 2 && x.info.Shape[rank-2].Known() &&
			x.info.Shape[rank-2].Value > 0 {
			k = x.info.Shape[rank-2].Value
			return &onnxio.Node{Inputs: []string{d.init(elem, 4/float64(k), pick[int64](d, 7, 1, 16), k),
				x.name}}
		}
	}
	return &onnxio.Node{Inputs: []string{x.name, d.init(elem, 4/float64(k), k)}}
}

// lastNorm normalises from an axis on, whose sizes must be known for the scale.
func (d *drawer) lastNorm(op string) *onnxio.Node {
	x := d.value(lastKnown(2, 5))
	if x == nil || d.since(op) == 0 {
		return nil
	}
	rank := len(x.info.Shape)
	axis := rank - 1
	if d.one(3) && x.info.Shape[rank-2].Known() && rank > 2 {
		axis = rank - 2
	}
	var dims []int64
	for _, s := range x.info.Shape[axis:] {
		dims = append(dims, s.Value)
	}
	n := &onnxio.Node{Inputs: []string{x.name, d.init(x.info.Type, 1, dims...)}}
	n.Attrs = []*onnxio.Attribute{onnxio.FloatAttr("epsilon", pick[float32](d, 0.5, 1)),
		onnxio.IntAttr("axis", int64(axis))}
	if op == "LayerNormalization" {
		if d.one(2) {
			n.Inputs = append(n.Inputs, d.init(x.info.Type, 1, dims...))
		}
		if d.one(6) {
			n.Outputs = pick(d, []string{"y", "mean", "inv"}, []string{"y", "", "inv"}, []string{"y", "mean"})
		}
	}
	return n
}
