package ops

import (
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func TestDeformConvGradients(t *testing.T) {
	conv := func(x, w []int64, out []int64, groups int64, bias, mask bool,
		attrs ...*onnxio.Attribute) gradCase {
		k := w[2] * w[3]
		c := gradCase{op: "DeformConv", opset: 19, attrs: append(attrs, onnxio.IntAttr("group", x[1]/w[1]),
			onnxio.IntAttr("offset_group", groups)),
			in: []*onnxio.Tensor{random(1, x...), random(2, w...),
				irregular(random(3, x[0], groups*k*2, out[0], out[1])), nil, nil}}
		if bias {
			c.in[3] = random(4, w[0])
		}
		if mask {
			c.in[4] = random(5, x[0], groups*k, out[0], out[1])
		}
		return c
	}
	checkGrads(t, []gradCase{
		conv([]int64{2, 2, 3, 4}, []int64{3, 2, 2, 2}, []int64{2, 3}, 1, false, false),
		conv([]int64{1, 4, 4, 3}, []int64{2, 2, 3, 2}, []int64{2, 2}, 2, true, true, ints("strides", 2, 1),
			ints("pads", 1, 0, 1, 1), ints("dilations", 1, 2)),
		conv([]int64{1, 2, 3, 3}, []int64{2, 1, 1, 1}, []int64{2, 3}, 2, true, false, ints("strides", 2, 1)),
		conv([]int64{1, 1, 2, 2}, []int64{1, 1, 3, 3}, []int64{2, 2}, 1, false, true,
			ints("pads", 1, 1, 1, 1)),
	})
}

// TestDeformConvShapes: shapes without elements cost no memory, and what does not fit is refused.
func TestDeformConvShapes(t *testing.T) {
	run := func(x, w, offset []int64) error {
		b, err := Bind(&onnxio.Node{OpType: "DeformConv"}, 22)
		if err != nil {
			t.Fatal(err)
		}
		zeros := func(dims []int64) *onnxio.Tensor { return onnxio.NewTensor(onnxio.Float, dims...) }
		return b.Def.Eval(&Eval{Node: b, In: []*onnxio.Tensor{zeros(x), zeros(w), zeros(offset)}})
	}
	if err := run([]int64{0, 1, 1 << 20, 1 << 20}, []int64{0, 1, 1 << 20, 1 << 10},
		[]int64{0, 1 << 31, 1, 1<<20 - 1<<10 + 1}); err != nil {
		t.Error(err)
	}
	for _, s := range [][3][]int64{
		{{1, 2, 4, 4}, {1, 2, 2, 2}, {1, 8, 3, 4}}, {{1, 2, 4, 4}, {1, 2, 2, 2}, {1, 4, 3, 3}}, {{1, 2, 4, 4},
			{1, 3, 2, 2}, {1, 8, 3, 3}},
		{{1, 2, 4}, {1, 2, 2}, {1, 4, 3}}, {{1, 2, 1, 1}, {1, 2, 2, 2}, {1, 8, 0, 0}},
	} {
		if run(s[0], s[1], s[2]) == nil {
			t.Errorf("%v is no error", s)
		}
	}
}

func TestDeformConvInference(t *testing.T) {
	shape := onnxio.Shape
	for _, tt := range []struct {
		in   [][]onnxio.Dim
		want string
	}{
		{[][]onnxio.Dim{shape("N", 3, 5, "W"), shape(8, 3, 3, 3), shape("N", 18, "H", "V")}, "[N,8,3,V]"},
		{[][]onnxio.Dim{shape("N", 3, 5, 5), nil, shape("N", 18, 3, 3)}, "[N,?,3,3]"},
		{[][]onnxio.Dim{shape("N", 3, 5, 5), shape(8, 3, 3, 3), nil}, "[N,8,3,3]"},
	} {
		out, err := inferShapes(t, "DeformConv", 19, nil, 1, tt.in...)
		if err != nil || shapeText(out[0].Shape) != tt.want {
			t.Errorf("%v gives %s, %v, not %s", tt.in, shapeText(out[0].Shape), err, tt.want)
		}
	}
	if _, err := inferShapes(t, "DeformConv", 19, nil, 1, shape(1, 3, 5, 5), shape(8, 3, 3, 3),
		shape(1, 18, 4, 3)); err == nil {
		t.Error("an offset for other places is no error")
	}
}
