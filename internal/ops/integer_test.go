package ops

import (
	"math"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// evalOf runs a node of one output at an opset.
func evalOf(t *testing.T, op string, opset int64, in []*onnxio.Tensor,
	attrs ...*onnxio.Attribute) *onnxio.Tensor {
	t.Helper()
	n := &onnxio.Node{OpType: op, Name: "n", Outputs: []string{"y"}, Attrs: attrs}
	b, err := Bind(n, opset)
	if err != nil {
		t.Fatal(err)
	}
	c := &Eval{Node: b, In: in}
	if err := b.Def.Eval(c); err != nil {
		t.Fatal(err)
	}
	return c.Out[0]
}

// Integers beyond 2^53, which float64 would round.
func TestIntegersAreExact(t *testing.T) {
	const big = 1<<53 + 1
	tests := []struct {
		op         string
		x, y, want []int64
	}{
		{"Abs", []int64{-big, big, 0}, nil, []int64{big, big, 0}},
		{"Neg", []int64{-big, big, math.MinInt64}, nil, []int64{big, -big, math.MinInt64}},
		{"Sign", []int64{-big, 0, 7}, nil, []int64{-1, 0, 1}},
		{"ReduceSum", []int64{big, 1, -2}, nil, []int64{big - 1}},
		{"ReduceMax", []int64{-big, -big - 1}, nil, []int64{-big}},
		{"ReduceMin", []int64{big, big + 1}, nil, []int64{big}},
		{"ReduceMax", []int64{}, nil, []int64{math.MinInt64}},
		{"ReduceMin", []int64{}, nil, []int64{math.MaxInt64}},
		{"ReduceProd", []int64{big, -3}, nil, []int64{-3 * big}},
		{"ReduceL1", []int64{big, -2}, nil, []int64{big + 2}},
		{"ReduceSumSquare", []int64{1<<31 + 1, 1}, nil, []int64{1<<62 + 1<<32 + 2}},
		{"Pow", []int64{3}, []int64{39}, []int64{4052555153018976267}},
		{"Pow", []int64{-3, -1, -1, 1, 2, 0, 0, 7}, []int64{3, -3, -4, -5, -1, -2, 0, 0},
			[]int64{-27, -1, 1, 1, 0, 0, 1, 1}},
	}
	for _, tt := range tests {
		in := []*onnxio.Tensor{onnxio.Int64s(tt.x, int64(len(tt.x)))}
		if tt.y != nil {
			in = append(in, onnxio.Int64s(tt.y, int64(len(tt.y))))
		}
		if got := onnxio.Data[int64](evalOf(t, tt.op, 20, in)); !slices.Equal(got, tt.want) {
			t.Errorf("%s %v %v gives %v, not %v", tt.op, tt.x, tt.y, got, tt.want)
		}
	}
	u := func(op string, in ...uint64) uint64 {
		return onnxio.Data[uint64](evalOf(t, op, 20,
			[]*onnxio.Tensor{onnxio.FromSlice(onnxio.Uint64, in, int64(len(in)))}))[0]
	}
	if got := u("ReduceMax", math.MaxUint64-1, 3); got != math.MaxUint64-1 {
		t.Errorf("ReduceMax of uint64 gives %d", got)
	}
	if got := u("ReduceSum", math.MaxUint64-5, 3); got != math.MaxUint64-2 {
		t.Errorf("ReduceSum of uint64 gives %d", got)
	}
	if got := u("Sign", math.MaxUint64); got != 1 {
		t.Errorf("Sign of uint64 gives %d", got)
	}
	p := evalOf(t, "Pow", 15, []*onnxio.Tensor{onnxio.FromSlice(onnxio.Int32, []int32{-1, 2}, 2),
		onnxio.FromSlice(onnxio.Uint64, []uint64{math.MaxUint64, 30}, 2)})
	if got := onnxio.Data[int32](p); got[0] != -1 || got[1] != 1<<30 {
		t.Errorf("Pow of int32 and uint64 gives %v", got)
	}
	m := evalOf(t, "ReduceMax", 20, []*onnxio.Tensor{onnxio.FromSlice(onnxio.Int8, []int8{-128, -127}, 2)})
	if got := onnxio.Data[int8](m)[0]; got != -127 {
		t.Errorf("ReduceMax of int8 gives %d", got)
	}
}
