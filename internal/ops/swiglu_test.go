package ops

import (
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func TestSwiGLUGradients(t *testing.T) {
	swiglu := func(dims []int64, attrs ...*onnxio.Attribute) gradCase {
		return gradCase{op: "SwiGLU", opset: 28, in: []*onnxio.Tensor{random(1, dims...), random(2, dims...)},
			attrs: attrs}
	}
	alpha := onnxio.FloatAttr("alpha", 1.7)
	checkGrads(t, []gradCase{swiglu([]int64{2, 5}), swiglu([]int64{3, 1, 4}, alpha), swiglu([]int64{0, 3})})
}
