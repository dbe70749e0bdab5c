package ops

import (
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func TestCol2ImGradients(t *testing.T) {
	checkGrads(t, []gradCase{
		{op: "Col2Im", in: []*onnxio.Tensor{random(1, 2, 8, 6), vector(3, 4), vector(2, 2)}},
		{op: "Col2Im", in: []*onnxio.Tensor{random(1, 1, 6, 4), vector(5), vector(3)},
			attrs: attrsOf(ints("dilations", 2), ints("pads", 2, 1))},
		{op: "Col2Im", in: []*onnxio.Tensor{random(1, 1, 8, 4), vector(4, 2, 3), vector(2, 2, 2)},
			attrs: attrsOf(ints("strides", 2, 1, 1))},
		{op: "Col2Im", in: []*onnxio.Tensor{random(1, 1, 4, 6), vector(3, 3), vector(2, 2)},
			attrs: attrsOf(ints("strides", 2, 2), ints("pads", 1, 1, 0, 2))},
	})
}

func TestCenterCropPadGradients(t *testing.T) {
	axes := func(v ...int64) []*onnxio.Attribute { return attrsOf(ints("axes", v...)) }
	checkGrads(t, []gradCase{
		{op: "CenterCropPad", in: []*onnxio.Tensor{random(1, 5, 4), vector(2, 7)}},
		{op: "CenterCropPad", in: []*onnxio.Tensor{random(1, 5, 4, 3), vector(8, 1)}, attrs: axes(-3, 1)},
		{op: "CenterCropPad", in: []*onnxio.Tensor{random(1, 5), vector(0)}},
	})
}

// TestCenterCropPadTypes: words and other elements move as numbers do.
func TestCenterCropPadTypes(t *testing.T) {
	words := onnxio.NewTensor(onnxio.String, 3)
	words.Strings = [][]byte{[]byte("a"), []byte("b"), []byte("c")}
	y := evalOf(t, "CenterCropPad", 18, []*onnxio.Tensor{words, vector(6)})
	if got := string(slices.Concat(y.Strings...)); got != "abc" || len(y.Strings[0]) != 0 ||
		string(y.Strings[1]) != "a" {
		t.Errorf("words become %q", y.Strings)
	}
	for _, shape := range [][]int64{{-1}, {1 << 62}, {1, 1}} {
		b, err := Bind(&onnxio.Node{OpType: "CenterCropPad"}, 18)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Def.Eval(&Eval{Node: b, In: []*onnxio.Tensor{onnxio.Floats([]float32{1, 2, 3}),
			vector(shape...)}}); err == nil {
			t.Errorf("shape %v is no error", shape)
		}
	}
}

func TestCol2ImInference(t *testing.T) {
	known := []*Value{{Type: onnxio.Float, Shape: onnxio.Shape("N", 12, "L"), HasShape: true},
		constant(vector(5, 5)), constant(vector(2, 3))}
	y, err := inferOf(t, "Col2Im", 18, known)
	if err != nil || shapeText(y.Shape) != "[N,2,5,5]" {
		t.Errorf("gives %s, %v", shapeText(y.Shape), err)
	}
	open := []*Value{known[0], {Type: onnxio.Int64, Shape: onnxio.Shape(2), HasShape: true}, known[2]}
	if y, err = inferOf(t, "Col2Im", 18, open); err != nil || shapeText(y.Shape) != "[N,2,?,?]" {
		t.Errorf("gives %s, %v", shapeText(y.Shape), err)
	}
	known[2] = constant(vector(5, 3))
	if _, err = inferOf(t, "Col2Im", 18, known); err == nil {
		t.Error("12 rows of blocks of 15 are no error")
	}
}
