package ops

import (
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func TestCausalConvGradients(t *testing.T) {
	silu := onnxio.StringAttr("activation", "silu")
	conv := func(in []*onnxio.Tensor, attrs ...*onnxio.Attribute) gradCase {
		return gradCase{op: "CausalConvWithState", opset: 27, in: in, frozen: []int{3}, outs: 2, attrs: attrs}
	}
	x, w, b, past := random(1, 2, 3, 5), random(2, 3, 1, 3), random(3, 3), random(4, 2, 3, 2)
	checkGrads(t, []gradCase{
		conv([]*onnxio.Tensor{x, w}), conv([]*onnxio.Tensor{x, w, b, past}), conv([]*onnxio.Tensor{x, w,
			b, past}, silu),
		conv([]*onnxio.Tensor{random(1, 1, 2, 1), random(2, 2, 1, 4), nil, random(4, 1, 2, 3)}, silu),
		conv([]*onnxio.Tensor{x, random(2, 3, 1, 1)}),
	})
}
