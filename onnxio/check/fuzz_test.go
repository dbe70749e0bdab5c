package check

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// FuzzCheck: whatever model the bytes decode to, the check ends without a panic, its problems have types, and
// a second look finds the same.
func FuzzCheck(f *testing.F) {
	for _, name := range []string{"valid.onnx", "external.onnx"} {
		b, err := os.ReadFile("../../testdata/onnxio/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, m := range seeds() {
		b, err := onnxio.Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := onnxio.Decode(bytes.NewReader(b), int64(len(b)), onnxio.Limits{})
		if err != nil {
			return
		}
		first := Model(m)
		for _, e := range problems(first) {
			var f *onnxio.FormatError
			var u *onnxio.UnsupportedError
			var l *onnxio.LimitError
			if !errors.As(e, &f) && !errors.As(e, &u) && !errors.As(e, &l) {
				t.Fatalf("%T %v", e, e)
			}
		}
		if second := Model(m); (first == nil) != (second == nil) || first != nil &&
			first.Error() != second.Error() {
			t.Fatalf("two verdicts:\n%v\n%v", first, second)
		}
	})
}

// seeds are models in which shapes are constants.
func seeds() []*onnxio.Model {
	ints := func(v ...int64) []*onnxio.Tensor { return []*onnxio.Tensor{named("s", onnxio.Int64s(v))} }
	sparse := small(nil, node("Relu", "x", "y"))
	sparse.Graph.SparseInitializers = []*onnxio.SparseTensor{{Values: named("v", onnxio.Floats([]float32{1})),
		Indices: onnxio.Int64s([]int64{1}), Dims: []int64{2, 3}}}
	return []*onnxio.Model{
		sparse,
		small(ints(0, -1), node("Reshape", "x s", "y")),
		small(ints(2, 3), node("ConstantOfShape", "s", "y")),
		small(ints(1, 2, 1, 1), node("Tile", "x s", "y")),
		small(ints(0, 0, 1, 1, 0, 0, 1, 1), node("Pad", "x s", "y")),
		small([]*onnxio.Tensor{named("s", onnxio.Floats([]float32{1, 1, 2, 2}))},
			node("Resize", "x _ s", "y")),
		small(nil, node("MaxPool", "x", "y", onnxio.IntsAttr("kernel_shape", 2, 2),
			onnxio.IntsAttr("strides", 2, 2))),
		small([]*onnxio.Tensor{named("w", onnxio.NewTensor(onnxio.Float, 3, 1, 3, 3))},
			node("Conv", "x w", "y", onnxio.IntAttr("group", 3), onnxio.IntsAttr("pads", 1, 1, 1, 1))),
		small(nil, node("Transpose", "x", "y", onnxio.IntsAttr("perm", 0, 2, 3, 1))),
	}
}
