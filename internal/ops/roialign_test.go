package ops

import (
	"fmt"
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func TestRegionGradients(t *testing.T) {
	rois := onnxio.FromSlice(onnxio.Double, []float64{0.5, 1.25, 4.5, 3, -2, 0, 2.25, 6, 3, 3, 3.25, 3.5},
		3, 4)
	boxes := onnxio.FromSlice(onnxio.Double, []float64{0, 0.5, 1.25, 4.5, 3, 1, -2, 0, 2.25, 6, 0, 30, 30,
		31, 31}, 3, 5)
	var cases []gradCase
	for _, mode := range []string{"avg", "max"} {
		for _, how := range []string{"half_pixel", "output_half_pixel"} {
			for samples := range int64(3) {
				cases = append(cases, gradCase{op: "RoiAlign", name: fmt.Sprint(mode, how, samples),
					frozen: []int{1},
					in:     []*onnxio.Tensor{irregular(random(1, 2, 2, 4, 5)), rois, vector(1, 0, 1)},
					attrs: attrsOf(onnxio.StringAttr("mode", mode),
						onnxio.StringAttr("coordinate_transformation_mode", how),
						onnxio.IntAttr("sampling_ratio", samples), onnxio.IntAttr("output_height", 2),
						onnxio.IntAttr("output_width", 3))})
			}
		}
	}
	cases = append(cases,
		gradCase{op: "RoiAlign", opset: 10, frozen: []int{1}, in: []*onnxio.Tensor{random(1, 2, 1, 4, 5),
			rois, vector(1, 0, 1)},
			attrs: attrsOf(onnxio.FloatAttr("spatial_scale", 0.5))},
		gradCase{op: "MaxRoiPool", frozen: []int{1}, in: []*onnxio.Tensor{random(1, 2, 2, 4, 5), boxes},
			attrs: attrsOf(ints("pooled_shape", 2, 3))})
	checkGrads(t, cases)
}

// TestRegionsOutOfHand: a region that is no number, too large, or of a picture that is not there.
func TestRegionsOutOfHand(t *testing.T) {
	x := onnxio.Floats([]float32{1, 2, 3, 4}, 1, 1, 2, 2)
	align := func(index int64, attrs []*onnxio.Attribute, roi ...float32) (*onnxio.Tensor, error) {
		b, err := Bind(&onnxio.Node{OpType: "RoiAlign", Attrs: attrs}, 16)
		if err != nil {
			t.Fatal(err)
		}
		c := &Eval{Node: b, In: []*onnxio.Tensor{x, onnxio.Floats(roi, 1, 4), vector(index)}}
		if err := b.Def.Eval(c); err != nil {
			return nil, err
		}
		return c.Out[0], nil
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, roi := range [][]float32{{nan, 0, 1, 1}, {0, 0, inf, 1}, {-1e17, 0, 3e17, 1}, {0, 0, 1e30, 1}} {
		if y, err := align(0, nil, roi...); err == nil {
			t.Errorf("region %v gives %v", roi, y.Float32s())
		}
	}
	for _, index := range []int64{-1, 1, 1 << 62} {
		if _, err := align(index, nil, 0, 0, 1, 1); err == nil {
			t.Errorf("picture %d is none", index)
		}
	}
	if _, err := align(0, attrsOf(onnxio.IntAttr("output_height", 1<<40)), 0, 0, 1, 1); err == nil {
		t.Error("2^40 rows are made")
	}
	// Almost all samples of a huge region lie outside; the loop must not visit them.
	y, err := align(0, nil, -1e9, -1e9, 1e9, 1e9)
	if err != nil || !(math.Abs(float64(y.Float32s()[0])) < 1e-9) {
		t.Errorf("a huge region gives %v, %v", y, err)
	}
	if y, err := align(0, nil, 0, 0, 2, 2); err != nil || y.Float32s()[0] != 2.5 {
		t.Errorf("the whole picture gives %v, %v", y, err)
	}
}

func TestRegionInference(t *testing.T) {
	size := attrsOf(onnxio.IntAttr("output_height", 7), onnxio.IntAttr("output_width", 5))
	for _, tt := range []struct {
		in   [][]onnxio.Dim
		want string
	}{
		{[][]onnxio.Dim{onnxio.Shape("N", 256, "H", "W"), onnxio.Shape("R", 4), onnxio.Shape("R")},
			"[R,256,7,5]"},
		{[][]onnxio.Dim{nil, nil, onnxio.Shape(3)}, "[3,?,7,5]"},
		{[][]onnxio.Dim{nil, nil, nil}, "[?,?,7,5]"},
	} {
		out, err := inferShapes(t, "RoiAlign", 16, size, 1, tt.in...)
		if err != nil || shapeText(out[0].Shape) != tt.want {
			t.Errorf("%v gives %s, %v, not %s", tt.in, shapeText(out[0].Shape), err, tt.want)
		}
	}
	out, err := inferShapes(t, "MaxRoiPool", 22, attrsOf(ints("pooled_shape", 7, 5)), 1,
		onnxio.Shape("N", 8, "H", "W"), onnxio.Shape("R", 5))
	if err != nil || shapeText(out[0].Shape) != "[R,8,7,5]" {
		t.Errorf("MaxRoiPool gives %s, %v", shapeText(out[0].Shape), err)
	}
}

// irregular moves numbers off their grid, so that no two multiples of them by simple weights are equal.
func irregular(t *onnxio.Tensor) *onnxio.Tensor {
	for i, v := range onnxio.Data[float64](t) {
		onnxio.Data[float64](t)[i] = v + 0.01*math.Sin(float64(i)*7)
	}
	return t
}
