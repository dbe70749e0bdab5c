package ops

import (
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func TestProductGradients(t *testing.T) {
	holes := onnxio.FromSlice(onnxio.Double, []float64{2, 0, -1.5, 0, 0, 0.5, 3, 1, 4, -2, 0.25, 1}, 3, 4)
	axis := func(v int64) *onnxio.Tensor { return onnxio.Scalar(onnxio.Int64, v) }
	var cases []gradCase
	for _, x := range []*onnxio.Tensor{random(1, 3, 4), holes} {
		for _, attrs := range [][]*onnxio.Attribute{nil, attrsOf(onnxio.IntAttr("exclusive", 1)),
			attrsOf(onnxio.IntAttr("reverse", 1)),
			attrsOf(onnxio.IntAttr("exclusive", 1), onnxio.IntAttr("reverse", 1))} {
			cases = append(cases, gradCase{op: "CumProd", opset: 26, in: []*onnxio.Tensor{x, axis(0)},
				attrs: attrs},
				gradCase{op: "CumProd", opset: 26, in: []*onnxio.Tensor{x, axis(-1)}, attrs: attrs})
		}
		cases = append(cases, gradCase{op: "ReduceProd", in: []*onnxio.Tensor{x}},
			gradCase{op: "ReduceProd", in: []*onnxio.Tensor{x, vector(0)}},
			gradCase{op: "ReduceProd", in: []*onnxio.Tensor{x, vector(-1)},
				attrs: attrsOf(onnxio.IntAttr("keepdims", 0))},
			gradCase{op: "ReduceProd", in: []*onnxio.Tensor{x},
				attrs: attrsOf(onnxio.IntAttr("noop_with_empty_axes", 1))})
	}
	cases = append(cases, gradCase{op: "ReduceProd", in: []*onnxio.Tensor{random(1, 2, 3, 4), vector(0, 2)}},
		gradCase{op: "ReduceProd", in: []*onnxio.Tensor{random(1)}})
	checkGrads(t, cases)
}
