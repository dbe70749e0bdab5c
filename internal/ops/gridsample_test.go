package ops

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func TestGridSampleGradients(t *testing.T) {
	var cases []gradCase
	add := func(x, grid []int64, mode string) {
		for _, pad := range []string{"zeros", "border", "reflection"} {
			for align := range int64(2) {
				cases = append(cases, gradCase{op: "GridSample", opset: 22,
					in: []*onnxio.Tensor{random(1, x...), random(2, grid...)},
					attrs: attrsOf(onnxio.StringAttr("mode", mode), onnxio.StringAttr("padding_mode", pad),
						onnxio.IntAttr("align_corners", align))})
			}
		}
	}
	for _, mode := range []string{"linear", "nearest", "cubic"} {
		add([]int64{1, 2, 3, 4}, []int64{1, 2, 3, 2}, mode)
		add([]int64{2, 1, 5}, []int64{2, 3, 1}, mode)
		add([]int64{1, 1, 2, 3, 2}, []int64{1, 1, 2, 1, 3}, mode)
		add([]int64{1, 1, 1, 1}, []int64{1, 1, 2, 2}, mode)
	}
	checkGrads(t, cases)
}

func TestAffineGridGradients(t *testing.T) {
	var cases []gradCase
	for align := range int64(2) {
		for _, size := range [][]int64{{2, 3, 2, 3}, {1, 1, 1, 4}, {2, 1, 2, 1, 3}} {
			r := int64(len(size) - 2)
			cases = append(cases, gradCase{op: "AffineGrid", in: []*onnxio.Tensor{random(1, size[0], r, r+1),
				vector(size...)},
				attrs: attrsOf(onnxio.IntAttr("align_corners", align))})
		}
	}
	checkGrads(t, cases)
}

// TestGridSampleFar: coordinates that are NaN, infinite or beyond any integer lie outside;
// padding brings them back.
func TestGridSampleFar(t *testing.T) {
	x := onnxio.Floats([]float32{1, 2, 3, 4}, 1, 1, 1, 4)
	inf := float32(math.Inf(1))
	for _, tt := range []struct {
		mode, pad string
		want      []float32
	}{
		{"linear", "zeros", []float32{0, 0, 0, 0, 0}}, {"linear", "border", []float32{1, 4, 1, 4, 1}},
		{"nearest", "zeros", []float32{0, 0, 0, 0, 0}}, {"nearest", "border", []float32{1, 4, 1, 4, 1}},
		{"cubic", "zeros", []float32{0, 0, 0, 0, 0}}, {"cubic", "border", []float32{1, 4, 1, 4, 1}},
	} {
		grid := onnxio.NewTensor(onnxio.Float, 1, 1, 5, 2)
		for i, v := range []float32{float32(math.NaN()), inf, -inf, 1e30, -1e30} {
			grid.Float32s()[2*i] = v
		}
		y := evalOf(t, "GridSample", 22, []*onnxio.Tensor{x, grid}, onnxio.StringAttr("mode", tt.mode),
			onnxio.StringAttr("padding_mode", tt.pad))
		for i, v := range y.Float32s() {
			if i == 0 && tt.mode == "cubic" && tt.pad == "border" {
				continue // near pixel 0, where the kernel is not at a pixel's center
			}
			if math.Abs(float64(v-tt.want[i])) > 1e-6 {
				t.Errorf("%s, %s: [%d] is %v, not %v", tt.mode, tt.pad, i, v, tt.want[i])
			}
		}
	}
	for _, mode := range []string{"linear", "nearest", "cubic"} { // must end, within the picture's values
		grid := onnxio.Floats([]float32{1e30, 0, -1e20, 0}, 1, 1, 2, 2)
		y := evalOf(t, "GridSample", 22, []*onnxio.Tensor{x, grid}, onnxio.StringAttr("mode", mode),
			onnxio.StringAttr("padding_mode", "reflection"))
		for _, v := range y.Float32s() {
			if !(v >= 0.5 && v <= 4.5) {
				t.Errorf("%s, reflection: %v", mode, y.Float32s())
			}
		}
	}
}

// TestGridSampleIntegers: other types than floats are moved, or interpolated and truncated.
func TestGridSampleIntegers(t *testing.T) {
	x := onnxio.FromSlice(onnxio.Int64, []int64{1<<60 + 1, -7, 1 << 20, 5}, 1, 1, 1, 4)
	grid := onnxio.Floats([]float32{-0.75, 0, 0.5, 0, 3, 0}, 1, 1, 3, 2)
	y := evalOf(t, "GridSample", 22, []*onnxio.Tensor{x, grid}, onnxio.StringAttr("mode", "nearest"))
	if got := onnxio.Data[int64](y); !slices.Equal(got, []int64{1<<60 + 1, 1 << 20, 0}) {
		t.Errorf("nearest gives %v", got)
	}
	x = onnxio.FromSlice(onnxio.Uint8, []uint8{10, 25}, 1, 1, 1, 2)
	y = evalOf(t, "GridSample", 22, []*onnxio.Tensor{x, onnxio.Floats([]float32{0, 0}, 1, 1, 1, 2)})
	if got := onnxio.Data[uint8](y)[0]; got != 17 {
		t.Errorf("linear of 10 and 25 gives %d", got)
	}
}

func TestGridSampleInference(t *testing.T) {
	for _, tt := range []struct {
		in   [][]onnxio.Dim
		want string
	}{
		{[][]onnxio.Dim{onnxio.Shape("N", 3, "H", "W"), onnxio.Shape("N", 5, 6, 2)}, "[N,3,5,6]"},
		{[][]onnxio.Dim{nil, onnxio.Shape(2, "H", 6, 2)}, "[2,?,H,6]"},
		{[][]onnxio.Dim{onnxio.Shape("N", 3, 8, 8, 8), nil}, "[N,3,?,?,?]"},
	} {
		out, err := inferShapes(t, "GridSample", 20, nil, 1, tt.in...)
		if err != nil || shapeText(out[0].Shape) != tt.want {
			t.Errorf("%s gives %s, %v, not %s", fmt.Sprint(tt.in), shapeText(out[0].Shape), err, tt.want)
		}
	}
	for _, in := range [][][]onnxio.Dim{
		{onnxio.Shape(1, 1, 4, 4), onnxio.Shape(1, 2, 2, 3)}, {onnxio.Shape(1, 1, 4, 4),
			onnxio.Shape(2, 2, 2, 2)},
		{onnxio.Shape(1, 1, 4, 4), onnxio.Shape(1, 2, 2)}, {onnxio.Shape(1, 1), onnxio.Shape(1, 0)},
	} {
		if _, err := inferShapes(t, "GridSample", 20, nil, 1, in...); err == nil {
			t.Errorf("%v is no error", in)
		}
	}
}
