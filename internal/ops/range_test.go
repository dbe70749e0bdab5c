package ops

import (
	"math"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestRangeLength: the length is known where the three numbers are.
func TestRangeLength(t *testing.T) {
	scalar := func(v int64) *Value { return constant(onnxio.Scalar(onnxio.Int64, v)) }
	single := func(v float32) *Value { return constant(onnxio.Scalar(onnxio.Float, v)) }
	symbol := &Value{Type: onnxio.Int64, HasShape: true, Shape: []onnxio.Dim{}, Elems: onnxio.Shape("N")}
	seven := &Value{Type: onnxio.Int64, HasShape: true, Shape: []onnxio.Dim{}, Elems: onnxio.Shape(7)}
	open := &Value{Type: onnxio.Int64, HasShape: true, Shape: []onnxio.Dim{}}
	for _, tt := range []struct {
		in   []*Value
		want string
	}{
		{[]*Value{scalar(0), scalar(6), scalar(2)}, "[3]"}, {[]*Value{scalar(0), scalar(7), scalar(2)},
			"[4]"},
		{[]*Value{scalar(3), scalar(-4), scalar(-3)}, "[3]"}, {[]*Value{scalar(3), scalar(3), scalar(1)},
			"[0]"},
		{[]*Value{scalar(3), scalar(9), scalar(-1)}, "[0]"},
		{[]*Value{scalar(math.MinInt64), scalar(math.MaxInt64), scalar(math.MaxInt64)}, "[3]"},
		{[]*Value{scalar(math.MaxInt64), scalar(math.MinInt64), scalar(math.MinInt64)}, "[2]"},
		{[]*Value{scalar(0), seven, scalar(2)}, "[4]"}, {[]*Value{scalar(0), symbol, scalar(1)}, "[N]"},
		{[]*Value{scalar(1), symbol, scalar(1)}, "[?]"}, {[]*Value{scalar(0), symbol, scalar(2)}, "[?]"},
		{[]*Value{scalar(0), open, scalar(1)}, "[?]"},
		{[]*Value{single(0), single(1), single(0.25)}, "[4]"}, {[]*Value{single(0), single(-1), single(0.25)},
			"[0]"},
	} {
		y, err := inferOf(t, "Range", 11, tt.in)
		if err != nil || shapeText(y.Shape) != tt.want {
			t.Errorf("%v: %+v, %v, not %s", tt.in, y, err, tt.want)
		}
	}
	for _, in := range [][]*Value{
		{scalar(0), scalar(1), scalar(0)}, {scalar(math.MinInt64), scalar(math.MaxInt64),
			scalar(1)}, {single(0), single(1), single(0)},
		{single(0), single(float32(math.Inf(1))), single(1)}, {single(float32(math.NaN())),
			single(1), single(1)},
		{constant(vector(1, 2)), scalar(3), scalar(1)},
	} {
		if y, err := inferOf(t, "Range", 11, in); err == nil {
			t.Errorf("%v gives %+v", in, y)
		}
	}
}

func TestRangeValues(t *testing.T) {
	y := evalOf(t, "Range", 11, []*onnxio.Tensor{vector(math.MaxInt64 - 1), vector(math.MinInt64),
		vector(math.MinInt64)})
	if got := onnxio.Data[int64](y); !slices.Equal(got, []int64{math.MaxInt64 - 1, -2}) {
		t.Errorf("gives %v", got)
	}
}
