package ops

import (
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestSplitSizes: lengths that are negative, or whose sum wraps around, do not cut an axis.
func TestSplitSizes(t *testing.T) {
	x := onnxio.Floats([]float32{1, 2, 3, 4})
	for _, sizes := range [][]int64{{1 << 62, 1 << 62, 1 << 62, 1<<62 + 4}, {math.MaxInt64, math.MinInt64, 5,
		0}, {-1, 5, 0, 0}, {1, 1, 1, 0}} {
		n := &onnxio.Node{OpType: "Split", Name: "n", Inputs: []string{"x", "k"},
			Outputs: []string{"a", "b", "c", "d"}}
		b, err := Bind(n, 13)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Def.Eval(&Eval{Node: b, In: []*onnxio.Tensor{x, vector(sizes...)}}); err == nil {
			t.Errorf("%v is no error", sizes)
		}
		if _, err := InferNode(b, []*Value{constant(x), constant(vector(sizes...))}); err == nil {
			t.Errorf("%v is no error in inference", sizes)
		}
	}
}
