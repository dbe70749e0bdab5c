package ops

import (
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func TestDetGradients(t *testing.T) {
	singular := onnxio.FromSlice(onnxio.Double, []float64{1, 2, 3, 2, 4, 6, 0, 1, -1}, 3, 3)
	nought := onnxio.NewTensor(onnxio.Double, 3, 3) // of rank 0: all cofactors are 0
	checkGrads(t, []gradCase{
		{op: "Det", in: []*onnxio.Tensor{random(1, 3, 3)}}, {op: "Det",
			in: []*onnxio.Tensor{random(1, 2, 3, 2, 2)}},
		{op: "Det", in: []*onnxio.Tensor{random(1, 1, 1)}}, {op: "Det",
			in: []*onnxio.Tensor{random(1, 2, 5, 5)}},
		{op: "Det", name: "singular", in: []*onnxio.Tensor{singular}}, {op: "Det", name: "nought",
			in: []*onnxio.Tensor{nought}},
	})
}

// TestDetOfNothing: the determinant of no rows is the product of nothing.
func TestDetOfNothing(t *testing.T) {
	y := evalOf(t, "Det", 22, []*onnxio.Tensor{onnxio.NewTensor(onnxio.Float, 2, 0, 0)})
	if got := y.Float32s(); len(got) != 2 || got[0] != 1 || got[1] != 1 {
		t.Errorf("gives %v", got)
	}
}
