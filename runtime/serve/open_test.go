package serve

import (
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// The trial of a batch tells rounding from another answer, in each type.
func TestNear(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	ints, other := make([]int64, 10), make([]int64, 10)
	other[3] = 1
	words := func(s ...string) *onnxio.Tensor {
		x := &onnxio.Tensor{Type: onnxio.String, Dims: []int64{int64(len(s))}}
		for _, w := range s {
			x.Strings = append(x.Strings, []byte(w))
		}
		return x
	}
	floats := func(v ...float32) *onnxio.Tensor { return onnxio.Floats(v, int64(len(v))) }
	for name, c := range map[string]struct {
		got, want *onnxio.Tensor
		near      bool
	}{
		"rounded":           {floats(1, 0.001), floats(1, 0.002), true},
		"other":             {floats(1, 0.1), floats(1, 0.2), false},
		"all zero":          {floats(0, 0), floats(0, 0), true},
		"equal NaN":         {floats(nan, inf, 1), floats(nan, inf, 1), true},
		"NaN alone":         {floats(nan, 1), floats(1, 1), false},
		"behind infinities": {floats(inf, 1), floats(inf, 2), false},
		"infinite alone":    {floats(inf), floats(1), false},
		"one of ten":        {onnxio.Int64s(other, 10), onnxio.Int64s(ints, 10), false},
		"ten of ten":        {onnxio.Int64s(ints, 10), onnxio.Int64s(ints, 10), true},
		"other words":       {words("a", "b"), words("a", "c"), false},
		"words":             {words("a", "b"), words("a", "b"), true},
		"shapes":            {floats(1, 2), floats(1), false},
	} {
		if got := near(c.got, c.want); got != c.near {
			t.Errorf("%s: %v", name, got)
		}
	}
}
