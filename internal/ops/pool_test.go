package ops

import (
	"math"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestPoolsOfPadding: the mean of a window that holds nothing is 0, the maximum
// -infinity; of integers the least.
func TestPoolsOfPadding(t *testing.T) {
	x := onnxio.Floats([]float32{-3, 5}, 1, 1, 2)
	low := float32(math.Inf(-1))
	one, include := ints("kernel_shape", 1), onnxio.IntAttr("count_include_pad", 1)
	for _, tt := range []struct {
		op    string
		attrs []*onnxio.Attribute
		want  []float32
	}{
		{"AveragePool", attrsOf(one, ints("pads", 1, 2)), []float32{0, -3, 5, 0, 0}},
		{"AveragePool", attrsOf(one, ints("pads", 1, 2), include), []float32{0, -3, 5, 0, 0}},
		{"AveragePool", attrsOf(ints("kernel_shape", 2), ints("pads", 3, 0)), []float32{0, 0, -3, 1}},
		{"AveragePool", attrsOf(ints("kernel_shape", 2), ints("pads", 3, 0), include),
			[]float32{0, 0, -1.5, 1}},
		{"MaxPool", attrsOf(one, ints("pads", 1, 2)), []float32{low, -3, 5, low, low}},
		{"MaxPool", attrsOf(ints("kernel_shape", 2), ints("pads", 3, 0)), []float32{low, low, -3, 5}},
		{"LpPool", attrsOf(one, ints("pads", 1, 2)), []float32{0, 3, 5, 0, 0}},
	} {
		y := evalOf(t, tt.op, 22, []*onnxio.Tensor{x}, tt.attrs...)
		if got := y.Float32s(); !slices.Equal(got, tt.want) {
			t.Errorf("%s %v gives %v, not %v", tt.op, tt.attrs[1].Ints, got, tt.want)
		}
		out, err := inferShapes(t, tt.op, 22, tt.attrs, 1, onnxio.Shape(1, 1, 2))
		if err != nil || out[0].Shape[2].Value != int64(len(tt.want)) {
			t.Errorf("%s: inferred %v, %v", tt.op, out[0].Shape, err)
		}
	}
	y := evalOf(t, "MaxPool", 22, []*onnxio.Tensor{onnxio.FromSlice(onnxio.Int8, []int8{-9}, 1, 1, 1)}, one,
		ints("pads", 1, 0))
	if got := onnxio.Data[int8](y); !slices.Equal(got, []int8{-128, -9}) {
		t.Errorf("MaxPool of int8 gives %v", got)
	}
}

// TestPoolsSticksOut: with ceil_mode the one window may stick out at the end, as in
// PyTorch; without it must fit.
func TestPoolsSticksOut(t *testing.T) {
	x, kernel, strides := onnxio.Floats([]float32{2, 4}, 1, 1, 2), ints("kernel_shape", 3), ints("strides", 2)
	for op, want := range map[string]float32{"AveragePool": 3, "MaxPool": 4} {
		if got := evalOf(t, op, 22, []*onnxio.Tensor{x}, kernel, strides,
			onnxio.IntAttr("ceil_mode", 1)).Float32s(); len(got) != 1 || got[0] != want {
			t.Errorf("%s gives %v", op, got)
		}
		if _, err := inferShapes(t, op, 22, attrsOf(kernel, strides), 1, onnxio.Shape(1, 1, 2)); err == nil {
			t.Errorf("%s: a window that does not fit is no error", op)
		}
	}
}
