package ops

import (
	"fmt"
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// uniqueOf runs Unique with all four outputs.
func uniqueOf(t *testing.T, x *onnxio.Tensor, attrs ...*onnxio.Attribute) (y *onnxio.Tensor, first, inverse,
	counts []int64) {
	t.Helper()
	b, err := Bind(&onnxio.Node{OpType: "Unique", Attrs: attrs, Outputs: []string{"y", "i", "v", "c"}}, 11)
	if err != nil {
		t.Fatal(err)
	}
	c := &Eval{Node: b, In: []*onnxio.Tensor{x}}
	if err := b.Def.Eval(c); err != nil {
		t.Fatal(err)
	}
	return c.Out[0], onnxio.Data[int64](c.Out[1]), onnxio.Data[int64](c.Out[2]), onnxio.Data[int64](c.Out[3])
}

func TestUnique(t *testing.T) {
	nan := float32(math.NaN())
	unsorted := onnxio.IntAttr("sorted", 0)
	words := onnxio.NewTensor(onnxio.String, 4)
	words.Strings = [][]byte{[]byte("b"), []byte("a"), []byte("b"), nil}
	matrix := onnxio.Int64s([]int64{2, 1, 2, 0, 1, 0}, 2, 3)
	for _, tt := range []struct {
		name  string
		x     *onnxio.Tensor
		attrs []*onnxio.Attribute
		want  string // elements, first, inverse, counts
	}{
		{"NaN", onnxio.Floats([]float32{nan, 2, nan, -1}), nil, "[-1 2 NaN] [3 1 0] [2 1 2 0] [1 1 2]"},
		{"zeros", onnxio.Floats([]float32{0, float32(math.Copysign(0, -1))}), nil, "[0] [0] [0 0] [2]"},
		{"in order of occurrence", onnxio.Floats([]float32{2, 1, 1, 3, 4, 3}), attrsOf(unsorted),
			"[2 1 3 4] [0 1 3 4] [0 1 1 2 3 2] [1 2 2 1]"},
		{"beyond 2^53", vector(1<<53+1, 1<<53), nil, "[9007199254740992 9007199254740993] [1 0] [1 0] [1 1]"},
		{"columns", matrix, attrsOf(onnxio.IntAttr("axis", -1)), "[1 2 1 0] [1 0] [1 0 1] [1 2]"},
		{"columns in order", matrix, attrsOf(onnxio.IntAttr("axis", 1), unsorted),
			"[2 1 0 1] [0 1] [0 1 0] [2 1]"},
		{"nothing", onnxio.NewTensor(onnxio.Float, 0), nil, "[] [] [] []"},
		{"words", words, nil, "[[] [97] [98]] [3 1 0] [2 1 2 0] [1 1 2]"},
		{"complex", onnxio.FromSlice(onnxio.Complex64, []complex64{1 + 2i, 1 + 1i, 1 + 2i}), nil,
			"[(1+1i) (1+2i)] [1 0] [1 0 1] [1 2]"},
	} {
		y, first, inverse, counts := uniqueOf(t, tt.x, tt.attrs...)
		var elements any = y.Strings
		switch y.Type {
		case onnxio.Float:
			elements = y.Float32s()
		case onnxio.Int64:
			elements = onnxio.Data[int64](y)
		case onnxio.Complex64:
			elements = onnxio.Data[complex64](y)
		}
		if got := fmt.Sprint(elements, first, inverse, counts); got != tt.want {
			t.Errorf("%s: %s, not %s", tt.name, got, tt.want)
		}
	}
}
