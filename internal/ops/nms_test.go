package ops

import (
	"math"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// suppressed runs NonMaxSuppression of one class over boxes that are [y0,x0,y1,x1] and
// gives the boxes' indices.
func suppressed(t *testing.T, boxes, scores []float32, more ...*onnxio.Tensor) ([]int64, error) {
	t.Helper()
	b, err := Bind(&onnxio.Node{OpType: "NonMaxSuppression"}, 11)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(len(scores))
	c := &Eval{Node: b, In: append([]*onnxio.Tensor{onnxio.Floats(boxes, 1, n, 4),
		onnxio.Floats(scores, 1, 1, n)}, more...)}
	if err := b.Def.Eval(c); err != nil {
		return nil, err
	}
	var out []int64
	for row := onnxio.Data[int64](c.Out[0]); len(row) > 0; row = row[3:] {
		out = append(out, row[2])
	}
	return out, nil
}

func TestNonMaxSuppression(t *testing.T) {
	nan := float32(math.NaN())
	single := func(v float32) *onnxio.Tensor { return onnxio.Floats([]float32{v}) }
	// the second is the first, its corners exchanged
	boxes := []float32{0, 0, 1, 1, 1, 1, 0, 0, 5, 5, 6, 6, 7, 7, 7, 7}
	for _, tt := range []struct {
		name   string
		scores []float32
		more   []*onnxio.Tensor
		want   []int64
	}{
		{"equal scores go by index", []float32{1, 1, 1, 1}, []*onnxio.Tensor{vector(9)}, []int64{0, 2, 3}},
		{"best first", []float32{1, 2, 3, 0}, []*onnxio.Tensor{vector(9)}, []int64{2, 1, 3}},
		{"no more than asked for", []float32{1, 2, 3, 0}, []*onnxio.Tensor{vector(1)}, []int64{2}},
		{"none asked for", []float32{1, 2, 3, 0}, nil, nil},
		{"a negative number is none", []float32{1, 2, 3, 0}, []*onnxio.Tensor{vector(-4)}, nil},
		{"a threshold of 1 suppresses nothing", []float32{4, 3, 2, 1}, []*onnxio.Tensor{vector(9), single(1)},
			[]int64{0, 1, 2, 3}},
		{"a score must be above", []float32{4, 3, 2, 1}, []*onnxio.Tensor{vector(9), nil, single(2)},
			[]int64{0}},
		{"NaN is above no score", []float32{nan, 3, 2, nan}, []*onnxio.Tensor{vector(9), nil, single(0)},
			[]int64{1, 2}},
		{"NaN comes last", []float32{nan, 3, 2, nan}, []*onnxio.Tensor{vector(9)}, []int64{1, 2, 3}},
	} {
		got, err := suppressed(t, boxes, tt.scores, tt.more...)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, %v, not %v", tt.name, got, err, tt.want)
		}
	}
	for _, more := range [][]*onnxio.Tensor{{vector(1, 2)}, {vector(1), single(1.5)},
		{vector(1), single(nan)}, {vector(1), vector(1)}} {
		if got, err := suppressed(t, boxes, []float32{1, 2, 3, 4}, more...); err == nil {
			t.Errorf("gives %v", got)
		}
	}
}
