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
		cases = append(cases, gradCase{op: "LpPool", in: []*onnxio.Tensor{random(1, 2, 2, 5, 4)},
			attrs: attrsOf(kernel, strides, norm)},
			gradCase{op: "LpPool", in: []*onnxio.Tensor{random(1, 1, 2, 5)},
				attrs: attrsOf(ints("kernel_shape", 3), ints("pads", 1, 1), norm)},
			gradCase{op: "LpPool", in: []*onnxio.Tensor{random(1, 1, 1, 4, 5)},
				attrs: attrsOf(kernel, ints("dilations", 2, 1), onnxio.IntAttr("ceil_mode", 1),
					strides, norm)})
	}
	cases = append(cases, gradCase{op: "MaxUnpool", in: []*onnxio.Tensor{random(1, 1, 1, 2, 2), index},
		attrs: attrsOf(kernel, strides)},
		gradCase{op: "MaxUnpool", in: []*onnxio.Tensor{random(1, 1, 1, 2, 2), index, vector(1, 1, 5, 6)},
			attrs: attrsOf(kernel, strides)})
	checkGrads(t, cases)
}

func TestUnpoolInference(t *testing.T) {
	attrs := attrsOf(ints("kernel_shape", 2, 2), ints("strides", 2, 2))
	x := &Value{Type: onnxio.Float, Shape: onnxio.Shape("N", 3, "H", 4), HasShape: true}
	index := &Value{Type: onnxio.Int64, Shape: onnxio.Shape("N", 3, "H", 4), HasShape: true}
	open := &Value{Type: onnxio.Int64, Shape: onnxio.Shape(4), HasShape: true}
	sizes := &Value{Type: onnxio.Int64, Shape: onnxio.Shape(4), HasShape: true,
		Elems: onnxio.Shape("N", 3, "G", 9)}
	for _, tt := range []struct {
		in   []*Value
		want string
	}{
		{[]*Value{x, index}, "[N,3,?,8]"}, {[]*Value{x, index, open}, "[?,?,?,?]"}, {[]*Value{x, index,
			sizes}, "[N,3,G,9]"},
		{[]*Value{{Type: onnxio.Float}, index}, "[N,3,?,8]"},
	} {
		y, err := inferOf(t, "MaxUnpool", 11, tt.in, attrs...)
		if err != nil || shapeText(y.Shape) != tt.want {
			t.Errorf("gives %+v, %v, not %s", y, err, tt.want)
		}
	}
}
