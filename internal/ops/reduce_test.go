package ops

import (
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestReduceBool: the greatest is whether any is true, the least whether all are; of nothing, false and true.
func TestReduceBool(t *testing.T) {
	bools := func(dims []int64, v ...bool) *onnxio.Tensor { return onnxio.FromSlice(onnxio.Bool, v, dims...) }
	x := bools([]int64{3, 2}, true, true, false, true, false, false)
	for _, tt := range []struct {
		op   string
		x    *onnxio.Tensor
		want []bool
	}{
		{"ReduceMax", x, []bool{true, true, false}}, {"ReduceMin", x, []bool{true, false, false}},
		{"ReduceMax", bools([]int64{2, 0}), []bool{false, false}}, {"ReduceMin", bools([]int64{2, 0}),
			[]bool{true, true}},
	} {
		y := evalOf(t, tt.op, 20, []*onnxio.Tensor{tt.x, vector(1)}, onnxio.IntAttr("keepdims", 0))
		if got := onnxio.Data[bool](y); y.Type != onnxio.Bool || !slices.Equal(got, tt.want) {
			t.Errorf("%s gives %v %v, not %v", tt.op, y.Type, got, tt.want)
		}
	}
}

// TestOldBroadcast: before version 7, axis says with which dimension of A the first one of B lines up.
func TestOldBroadcast(t *testing.T) {
	a, b := onnxio.Floats([]float32{1, 2, 3, 4, 5, 6}, 2, 3), onnxio.Floats([]float32{2, 3})
	attrs := attrsOf(onnxio.IntAttr("broadcast", 1), onnxio.IntAttr("axis", 0))
	for op, want := range map[string][]float32{
		"Add": {3, 4, 5, 7, 8, 9}, "Sub": {-1, 0, 1, 1, 2, 3}, "Mul": {2, 4, 6, 12, 15, 18}, "Pow": {1, 4, 9,
			64, 125, 216},
	} {
		if got := evalOf(t, op, 1, []*onnxio.Tensor{a, b}, attrs...).Float32s(); !slices.Equal(got, want) {
			t.Errorf("%s gives %v, not %v", op, got, want)
		}
	}
}
