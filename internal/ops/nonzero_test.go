package ops

import (
	"math"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestNonZeroTypes: what counts as zero, by type: -0 does, NaN does not.
func TestNonZeroTypes(t *testing.T) {
	words := onnxio.NewTensor(onnxio.String, 3)
	words.Strings[1] = []byte("x")
	negative := math.Copysign(0, -1)
	for _, tt := range []struct {
		x    *onnxio.Tensor
		want []int64
	}{
		{onnxio.Floats([]float32{0, float32(negative), float32(math.NaN()), 1e-45}), []int64{2, 3}},
		{onnxio.FromSlice(onnxio.Double, []float64{negative, math.Inf(1)}), []int64{1}},
		{onnxio.FromSlice(onnxio.Float16, []uint16{0x8000, 0, 1, 0x8001}), []int64{2, 3}},
		{onnxio.FromSlice(onnxio.BFloat16, []uint16{0x8000, 0x7fc0}), []int64{1}},
		{vector(0, math.MinInt64, 1<<40), []int64{1, 2}}, {onnxio.FromSlice(onnxio.Bool,
			[]bool{true, false, true}), []int64{0, 2}},
		{onnxio.FromSlice(onnxio.Complex64, []complex64{0, complex(0, 1),
			complex(float32(negative), float32(negative))}), []int64{1}},
		{words, []int64{1}}, {onnxio.NewTensor(onnxio.Float, 0), nil},
	} {
		y := evalOf(t, "NonZero", 13, []*onnxio.Tensor{tt.x})
		if got := onnxio.Data[int64](y); !slices.Equal(got, tt.want) ||
			!equal(y.Dims, []int64{1, int64(len(tt.want))}) {
			t.Errorf("%v gives %v %v, not %v", tt.x.Type, y.Dims, got, tt.want)
		}
	}
	for dims, x := range map[int64]*onnxio.Tensor{1: onnxio.Scalar(onnxio.Float, float32(3)),
		0: onnxio.Scalar(onnxio.Float, float32(0))} {
		if y := evalOf(t, "NonZero", 13, []*onnxio.Tensor{x}); !equal(y.Dims, []int64{0, dims}) {
			t.Errorf("a scalar gives %v", y.Dims)
		}
	}
}

func TestPickingInference(t *testing.T) {
	x := &Value{Type: onnxio.Float, Shape: onnxio.Shape("N", 3), HasShape: true}
	yes := constant(onnxio.FromSlice(onnxio.Bool, []bool{true, false, true}))
	open := &Value{Type: onnxio.Bool, Shape: onnxio.Shape("M"), HasShape: true}
	axis := onnxio.IntAttr("axis", 1)
	for _, tt := range []struct {
		op    string
		in    []*Value
		attrs []*onnxio.Attribute
		want  string
	}{
		{"NonZero", []*Value{x}, nil, "[2,?]"}, {"NonZero", []*Value{{Type: onnxio.Float}}, nil, "[?,?]"},
		{"NonZero", []*Value{yes}, nil, "[1,2]"},
		{"Compress", []*Value{x, yes}, attrsOf(axis), "[N,2]"}, {"Compress", []*Value{x, open},
			attrsOf(axis), "[N,?]"},
		{"Compress", []*Value{x, yes}, nil, "[2]"}, {"Compress", []*Value{{Type: onnxio.Float}, open},
			nil, "[?]"},
		{"Unique", []*Value{x}, nil, "[?]"}, {"Unique", []*Value{x}, attrsOf(axis), "[N,?]"},
		{"NonMaxSuppression", []*Value{{Type: onnxio.Float}, {Type: onnxio.Float}}, nil, "[?,3]"},
	} {
		y, err := inferOf(t, tt.op, 13, tt.in, tt.attrs...)
		if err != nil || shapeText(y.Shape) != tt.want || y.Type == onnxio.Undefined {
			t.Errorf("%s gives %+v, %v, not %s", tt.op, y, err, tt.want)
		}
	}
}

func TestCompressConditions(t *testing.T) {
	x := onnxio.Floats([]float32{1, 2, 3, 4}, 2, 2)
	for _, c := range [][]bool{{true, true, true}, nil} {
		b, err := Bind(&onnxio.Node{OpType: "Compress", Attrs: attrsOf(onnxio.IntAttr("axis", 0))}, 11)
		if err != nil {
			t.Fatal(err)
		}
		e := &Eval{Node: b, In: []*onnxio.Tensor{x, onnxio.FromSlice(onnxio.Bool, c, int64(len(c)))}}
		if err := b.Def.Eval(e); (err == nil) != (len(c) == 0) {
			t.Errorf("%d conditions for 2 rows: %v", len(c), err)
		}
	}
}
