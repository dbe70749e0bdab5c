package ops

import (
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestArgExtremes: integers are compared exactly, and NaN is the extreme of both operators.
func TestArgExtremes(t *testing.T) {
	nan := math.NaN()
	double := func(v ...float64) *onnxio.Tensor { return onnxio.FromSlice(onnxio.Double, v) }
	half := onnxio.FromSlice(onnxio.Float16, []uint16{0x3c00, 0x7e00, 0x4000})
	last := onnxio.IntAttr("select_last_index", 1)
	for _, tt := range []struct {
		op    string
		x     *onnxio.Tensor
		attrs []*onnxio.Attribute
		want  int64
	}{
		{"ArgMax", vector(1<<53, 1<<53+1, 1<<53), nil, 1}, {"ArgMin", vector(-1<<53, -1<<53-1, 3), nil, 1},
		{"ArgMax", onnxio.FromSlice(onnxio.Uint64, []uint64{1, math.MaxUint64 - 1, math.MaxUint64}), nil, 2},
		{"ArgMax", double(1, nan, 5, nan), nil, 1}, {"ArgMax", double(1, nan, 5, nan), attrsOf(last), 3},
		{"ArgMin", double(1, nan, -5, nan), nil, 1}, {"ArgMin", double(2, 1, 1), attrsOf(last), 2}, {"ArgMax",
			half, nil, 1},
	} {
		if got := onnxio.Data[int64](evalOf(t, tt.op, 13, []*onnxio.Tensor{tt.x},
			tt.attrs...))[0]; got != tt.want {
			t.Errorf("%s %v gives %d, not %d", tt.op, tt.x.Raw, got, tt.want)
		}
	}
}

// TestNaN: what the operators that choose make of NaN, as PyTorch does.
func TestNaN(t *testing.T) {
	nan := float32(math.NaN())
	row := func(v ...float32) *onnxio.Tensor { return onnxio.Floats(v, 1, 1, 1, int64(len(v))) }
	window := ints("kernel_shape", 1, 3)
	for _, tt := range []struct {
		name, op string
		in       []*onnxio.Tensor
		attrs    []*onnxio.Attribute
		nan      bool
	}{
		{"either", "Max", []*onnxio.Tensor{row(1), row(nan)}, nil, true}, {"either", "Max",
			[]*onnxio.Tensor{row(nan), row(1)}, nil, true},
		{"either", "Min", []*onnxio.Tensor{row(1), row(nan)}, nil, true}, {"any", "ReduceMax",
			[]*onnxio.Tensor{row(1, nan, 2)}, nil, true},
		{"any", "ReduceMin", []*onnxio.Tensor{row(nan, 1, 2)}, nil, true}, {"window", "MaxPool",
			[]*onnxio.Tensor{row(3, nan, 9)}, attrsOf(window), true},
		{"global", "GlobalMaxPool", []*onnxio.Tensor{row(3, nan, 9)}, nil, true}, {"input", "Relu",
			[]*onnxio.Tensor{row(nan)}, nil, true},
		{"input", "Clip", []*onnxio.Tensor{row(nan), onnxio.Scalar(onnxio.Float, float32(0)),
			onnxio.Scalar(onnxio.Float, float32(6))}, nil, true},
		{"bound", "Clip", []*onnxio.Tensor{row(1), onnxio.Scalar(onnxio.Float, nan)}, nil, true},
		{"greatest", "TopK", []*onnxio.Tensor{row(1, nan, 2), vector(1)}, nil, true},
		{"least", "TopK", []*onnxio.Tensor{row(1, nan, 2), vector(1)}, attrsOf(onnxio.IntAttr("largest", 0)),
			false},
	} {
		b, err := Bind(&onnxio.Node{OpType: tt.op, Attrs: tt.attrs, Outputs: []string{"y"}}, 20)
		if err != nil {
			t.Fatal(err)
		}
		c := &Eval{Node: b, In: tt.in}
		if err := b.Def.Eval(c); err != nil {
			t.Fatal(err)
		}
		if got := c.Out[0].Float32s()[0]; (got != got) != tt.nan {
			t.Errorf("%s, NaN as %s: %v", tt.op, tt.name, got)
		}
	}
}
