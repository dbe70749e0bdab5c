package ops

import (
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func TestUnpoolGradients(t *testing.T) {
	kernel, strides := ints("kernel_shape", 2, 2), ints("strides", 2, 2)
	index := onnxio.Int64s([]int64{5, 2, 13, 10}, 1, 1, 2, 2)
	var cases []gradCase
	for _, p := range []int64{1, 2, 3} {
		norm := onnxio.IntAttr("p", p)
		cases = append(cases, gradCase{op: "LpPool", in: []*onnxio.Tensor{random(1, 2, 2, 5, 4)}, attrs: attrsOf(kernel, strides, norm)},
			gradCase{op: "LpPool", in: []*onnxio.Tensor{random(1, 1, 2, 5)}, attrs: attrsOf(ints("kernel_shape", 3), ints("pads", 1, 1), norm)},
			gradCase{op: "LpPool", in: []*onnxio.Tensor{random(1, 1, 1, 4, 5)}, attrs: attrsOf(kernel, ints("dilations", 2, 1), onnxio.IntAttr("ceil_mode", 1), strides, norm)})
	}
	cases = append(cases, gradCase{op: "MaxUnpool", in: []*onnxio.Tensor{random(1, 1, 1, 2, 2), index}, attrs: attrsOf(kernel, strides)},
		gradCase{op: "MaxUnpool", in: []*onnxio.Tensor{random(1, 1, 1, 2, 2), index, vector(1, 1, 5, 6)}, attrs: attrsOf(kernel, strides)})
	checkGrads(t, cases)
}
