package ops

import (
	"fmt"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// vector is an int64 input: a shape, axes, pads.
func vector(v ...int64) *onnxio.Tensor { return onnxio.Int64s(v) }

func TestArithmeticGradients(t *testing.T) {
	var cases []gradCase
	for _, op := range []string{"Add", "Sub", "Mul", "Div"} {
		for _, shapes := range [][2][]int64{
			{{2, 3, 5}, {2, 3, 5}}, {{2, 3, 5}, {5}}, {{2, 3, 5}, {3, 1}}, {{4}, {2, 3, 4}}, {{2, 1, 5},
				{1, 3, 1}},
			{{3}, {}}, {{}, {2, 2}}, {{1, 1}, {1}}, {{7, 1, 3}, {7, 2, 3}},
		} {
			cases = append(cases, gradCase{op: op, in: []*onnxio.Tensor{random(1, shapes[0]...),
				positive(2, shapes[1]...)}})
		}
	}
	for _, op := range []string{"Sum", "Mean"} {
		cases = append(cases, gradCase{op: op, in: []*onnxio.Tensor{random(1, 2, 3), random(2, 3),
			random(3, 2, 1)}},
			gradCase{op: op, in: []*onnxio.Tensor{random(1, 5)}})
	}
	checkGrads(t, cases)
}

func TestPowGradient(t *testing.T) {
	var cases []gradCase
	for _, e := range []float64{2, 3, 0.5, -1, 1} {
		cases = append(cases, gradCase{op: "Pow", frozen: []int{1}, name: fmt.Sprint(e),
			in: []*onnxio.Tensor{positive(1, 2, 7), onnxio.Scalar(onnxio.Double, e)}})
	}
	checkGrads(t, cases)
}

func TestUnaryGradients(t *testing.T) {
	var cases []gradCase
	for _, u := range unaries {
		if u.grad == nil {
			continue
		}
		for _, shape := range [][]int64{{2, 3, 5}, {1}, {}} {
			x := random(1, shape...)
			switch u.name {
			case "Log", "Sqrt", "Reciprocal":
				x = positive(1, shape...)
			case "Tan": // has a pole at pi/2
				x = scaledBy(x, 0.5)
			}
			cases = append(cases, gradCase{op: u.name, in: []*onnxio.Tensor{x}})
		}
	}
	bounds := []*onnxio.Tensor{random(1, 3, 7), onnxio.Scalar(onnxio.Double, -0.7),
		onnxio.Scalar(onnxio.Double, 0.9)}
	crossed := []*onnxio.Tensor{bounds[0], bounds[2], bounds[1]}
	cases = append(cases, gradCase{op: "Clip", in: bounds, frozen: []int{1, 2}},
		gradCase{op: "Clip", in: bounds[:1]},
		gradCase{op: "Clip", in: []*onnxio.Tensor{bounds[0], nil, bounds[2]}, frozen: []int{2}},
		gradCase{op: "Clip", in: bounds, name: "bounds"}, gradCase{op: "Clip", in: crossed,
			name: "min above max"},
		gradCase{op: "Clip", in: []*onnxio.Tensor{bounds[0], nil, bounds[2]}, name: "max"},
		gradCase{op: "Clip", in: bounds[:2], name: "min"})
	checkGrads(t, cases)
}

// scaledBy multiplies a tensor in place.
func scaledBy(t *onnxio.Tensor, by float64) *onnxio.Tensor {
	for i := range onnxio.Data[float64](t) {
		onnxio.Data[float64](t)[i] *= by
	}
	return t
}

func TestArrangingGradients(t *testing.T) {
	axis := func(v int64) *onnxio.Attribute { return onnxio.IntAttr("axis", v) }
	checkGrads(t, []gradCase{
		{op: "Identity", in: []*onnxio.Tensor{random(1, 2, 3)}},
		{op: "Flatten", in: []*onnxio.Tensor{random(1, 2, 3, 5)}},
		{op: "Flatten", in: []*onnxio.Tensor{random(1, 2, 3, 5)}, attrs: attrsOf(axis(-1))},
		{op: "Flatten", in: []*onnxio.Tensor{random(1, 2, 3)}, attrs: attrsOf(axis(0))},
		{op: "Reshape", in: []*onnxio.Tensor{random(1, 2, 6), vector(3, -1)}},
		{op: "Reshape", in: []*onnxio.Tensor{random(1, 2, 6), vector(0, 2, 3)}},
		{op: "Squeeze", in: []*onnxio.Tensor{random(1, 1, 3, 1), vector(0)}},
		{op: "Squeeze", in: []*onnxio.Tensor{random(1, 1, 3, 1)}},
		{op: "Unsqueeze", in: []*onnxio.Tensor{random(1, 3, 2), vector(1, -1)}},
		{op: "Transpose", in: []*onnxio.Tensor{random(1, 2, 3, 5)}},
		{op: "Transpose", in: []*onnxio.Tensor{random(1, 2, 3, 5)}, attrs: attrsOf(ints("perm", 1, 2, 0))},
		{op: "Concat", in: []*onnxio.Tensor{random(1, 2, 3, 5), random(2, 2, 1, 5), random(3, 2, 4, 5)},
			attrs: attrsOf(axis(1))},
		{op: "Concat", in: []*onnxio.Tensor{random(1, 4)}, attrs: attrsOf(axis(-1))},
		{op: "Split", in: []*onnxio.Tensor{random(1, 2, 7), vector(3, 4)}, attrs: attrsOf(axis(1)),
			outs: 2, watch: 1},
		{op: "Split", in: []*onnxio.Tensor{random(1, 5, 2)}, attrs: attrsOf(onnxio.IntAttr("num_outputs", 2)),
			outs: 2},
		{op: "Slice", in: []*onnxio.Tensor{random(1, 5, 7), vector(1), vector(4), vector(1)}},
		{op: "Slice", in: []*onnxio.Tensor{random(1, 5, 7), vector(-1, 0), vector(-6, 7), vector(0, 1),
			vector(-2, 3)}},
		{op: "Slice", in: []*onnxio.Tensor{random(1, 5), vector(3), vector(3)}},
		{op: "Pad", in: []*onnxio.Tensor{random(1, 3, 2), vector(1, 0, 2, 3)}},
		{op: "Pad", in: []*onnxio.Tensor{random(1, 1), vector(0, 0)}},
		{op: "Pad", in: []*onnxio.Tensor{random(1, 5, 3), vector(-1, 2, 1, -1)}},
		{op: "Pad", in: []*onnxio.Tensor{random(1, 3, 2, 4), vector(1, 2), nil, vector(-1)}},
		{op: "Pad", in: []*onnxio.Tensor{random(1, 2, 3), vector(0, 2, 1, 4)},
			attrs: attrsOf(onnxio.StringAttr("mode", "reflect"))},
		{op: "Pad", in: []*onnxio.Tensor{random(1, 2, 3), vector(1, 0, 2, 3)},
			attrs: attrsOf(onnxio.StringAttr("mode", "edge"))},
		{op: "Pad", in: []*onnxio.Tensor{random(1, 2, 3), vector(1, 4, 2, 3)},
			attrs: attrsOf(onnxio.StringAttr("mode", "wrap"))},
		{op: "Pad", in: []*onnxio.Tensor{random(1, 2, 3)}, attrs: attrsOf(ints("pads", 1, 0, 2, 3),
			onnxio.StringAttr("mode", "edge")), opset: 10},
		{op: "Expand", in: []*onnxio.Tensor{random(1, 3, 1), vector(2, 3, 4)}},
		{op: "Expand", in: []*onnxio.Tensor{random(1), vector(2, 2)}},
		{op: "Expand", in: []*onnxio.Tensor{random(1, 2, 3), vector(1)}},
	})
}

func TestReductionGradients(t *testing.T) {
	keep := func(v int64) *onnxio.Attribute { return onnxio.IntAttr("keepdims", v) }
	var cases []gradCase
	for _, op := range []string{"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2",
		"ReduceSumSquare", "ReduceLogSum",
		"ReduceLogSumExp"} {
		random := random
		if op == "ReduceLogSum" {
			random = positive
		}
		cases = append(cases,
			gradCase{op: op, in: []*onnxio.Tensor{random(1, 2, 3, 5)}},
			gradCase{op: op, in: []*onnxio.Tensor{random(1, 2, 3, 5), vector(1)}, attrs: attrsOf(keep(0))},
			gradCase{op: op, in: []*onnxio.Tensor{random(1, 2, 3, 5), vector(0, -1)},
				attrs: attrsOf(keep(1))},
			gradCase{op: op, in: []*onnxio.Tensor{random(1, 4)},
				attrs: attrsOf(onnxio.IntAttr("noop_with_empty_axes", 1))},
			gradCase{op: op, in: []*onnxio.Tensor{random(1)}, attrs: attrsOf(keep(0))},
			gradCase{op: op, in: []*onnxio.Tensor{random(1, 2, 3)}, attrs: attrsOf(ints("axes", 1)),
				opset: 11},
		)
	}
	checkGrads(t, cases)
}

func TestChoosingGradients(t *testing.T) {
	yes := onnxio.FromSlice(onnxio.Bool, []bool{true, false, true}, 3)
	axis := func(v int64) *onnxio.Attribute { return onnxio.IntAttr("axis", v) }
	cases := []gradCase{
		{op: "Where", in: []*onnxio.Tensor{yes, random(1, 2, 3), random(2, 2, 3)}},
		{op: "Where", in: []*onnxio.Tensor{yes, random(1, 2, 1), random(2)}},
		{op: "Where", in: []*onnxio.Tensor{onnxio.Scalar(onnxio.Bool, false), random(1, 2), random(2, 3, 1)}},
		{op: "Gather", in: []*onnxio.Tensor{random(1, 4, 3), vector(1, -1, 1)}},
		{op: "Gather", in: []*onnxio.Tensor{random(1, 2, 5, 3), onnxio.Scalar(onnxio.Int64, int64(-2))},
			attrs: attrsOf(axis(1))},
		{op: "Gather", in: []*onnxio.Tensor{random(1, 2, 3), onnxio.Int64s([]int64{0, 2, 2, 1, 0, 0}, 2, 3)},
			attrs: attrsOf(axis(-1))},
		{op: "GatherElements", in: []*onnxio.Tensor{random(1, 3, 3),
			onnxio.Int64s([]int64{1, 2, 0, 2, 0, -3}, 2, 3)}},
		{op: "GatherElements", in: []*onnxio.Tensor{random(1, 2, 4), onnxio.Int64s([]int64{1, 1, 3, -1}, 2,
			2)}, attrs: attrsOf(axis(1))},
		{op: "GatherND", in: []*onnxio.Tensor{random(1, 2, 3, 2),
			onnxio.Int64s([]int64{0, 1, 1, -1, 0, 1}, 3, 2)}},
		{op: "ScatterElements", in: []*onnxio.Tensor{random(1, 3, 3),
			onnxio.Int64s([]int64{1, 0, 2, 0, 2, -2}, 2, 3), random(2, 2, 3)}},
		{op: "ScatterElements", in: []*onnxio.Tensor{random(1, 2, 5), onnxio.Int64s([]int64{1, 1}, 1, 2),
			random(2, 1, 2)},
			attrs: attrsOf(axis(1), onnxio.StringAttr("reduction", "add"))},
		{op: "ScatterND", in: []*onnxio.Tensor{random(1, 4, 3), onnxio.Int64s([]int64{3, -3}, 2, 1),
			random(2, 2, 3)}},
		{op: "ScatterND", in: []*onnxio.Tensor{random(1, 4), onnxio.Int64s([]int64{3, 3, 0}, 3, 1),
			random(2, 3)},
			attrs: attrsOf(onnxio.StringAttr("reduction", "add"))},
		{op: "Tile", in: []*onnxio.Tensor{random(1, 2, 3), vector(2, 3)}},
		{op: "TopK", in: []*onnxio.Tensor{random(1, 3, 5), vector(2)}},
		{op: "TopK", in: []*onnxio.Tensor{random(1, 4, 2, 2), vector(3)},
			attrs: attrsOf(axis(0), onnxio.IntAttr("largest", 0)), outs: 2},
		{op: "Trilu", in: []*onnxio.Tensor{random(1, 2, 3, 4)}},
		{op: "Trilu", in: []*onnxio.Tensor{random(1, 4, 3), onnxio.Scalar(onnxio.Int64, int64(-1))},
			attrs: attrsOf(onnxio.IntAttr("upper", 0))},
		{op: "Tile", in: []*onnxio.Tensor{random(1, 2), vector(1)}},
		{op: "CumSum", in: []*onnxio.Tensor{random(1, 2, 4), onnxio.Scalar(onnxio.Int64, int64(1))}},
		{op: "CumSum", in: []*onnxio.Tensor{random(1, 5), onnxio.Scalar(onnxio.Int64, int64(0))},
			attrs: attrsOf(onnxio.IntAttr("exclusive", 1), onnxio.IntAttr("reverse", 1))},
		{op: "DepthToSpace", in: []*onnxio.Tensor{random(1, 2, 8, 3, 2)},
			attrs: attrsOf(onnxio.IntAttr("blocksize", 2))},
		{op: "DepthToSpace", in: []*onnxio.Tensor{random(1, 1, 12, 1, 2)},
			attrs: attrsOf(onnxio.IntAttr("blocksize", 2), onnxio.StringAttr("mode", "CRD"))},
		{op: "SpaceToDepth", in: []*onnxio.Tensor{random(1, 2, 3, 6, 3)},
			attrs: attrsOf(onnxio.IntAttr("blocksize", 3))},
		{op: "SpaceToDepth", opset: 28, in: []*onnxio.Tensor{random(1, 1, 3, 4, 2)},
			attrs: attrsOf(onnxio.IntAttr("blocksize", 2), onnxio.StringAttr("mode", "CRD"))},
	}
	for _, op := range []string{"Max", "Min"} {
		cases = append(cases,
			gradCase{op: op, in: []*onnxio.Tensor{random(1, 2, 3), scaledBy(random(2, 3), 0.7),
				scaledBy(random(3, 2, 1), 0.6)}},
			gradCase{op: op, in: []*onnxio.Tensor{random(1, 5)}})
	}
	checkGrads(t, cases)
}

func TestResizeGradients(t *testing.T) {
	scales := func(v ...float32) *onnxio.Tensor { return onnxio.Floats(v, int64(len(v))) }
	word := onnxio.StringAttr
	linear, cubic := word("mode", "linear"), word("mode", "cubic")
	how := func(mode string) *onnxio.Attribute { return word("coordinate_transformation_mode", mode) }
	x := []*onnxio.Tensor{random(1, 1, 2, 3, 4), nil, scales(1, 1, 2, 2)}
	less := []*onnxio.Tensor{random(1, 1, 2, 5, 7), nil, nil, vector(1, 2, 3, 4)}
	crop := []*onnxio.Tensor{random(1, 1, 1, 4, 4), scales(0, 0, 0.2, -0.5, 1, 1, 0.9, 1.5), nil,
		vector(1, 1, 3, 3)}
	checkGrads(t, []gradCase{
		{op: "Resize", in: x, attrs: attrsOf(how("asymmetric"), word("nearest_mode", "floor"))},
		{op: "Resize", in: x, attrs: attrsOf(linear)},
		{op: "Resize", in: x, attrs: attrsOf(linear, how("align_corners"))},
		{op: "Resize", in: x, attrs: attrsOf(cubic, how("pytorch_half_pixel")), opset: 11},
		{op: "Resize", name: "smaller", in: less, attrs: attrsOf(linear)},
		{op: "Resize", name: "smaller, nearest", in: less},
		{op: "Resize", name: "smaller, antialias", in: less,
			attrs: attrsOf(cubic, onnxio.IntAttr("antialias", 1), onnxio.IntAttr("exclude_outside", 1))},
		{op: "Resize", name: "axes", in: []*onnxio.Tensor{random(1, 2, 3, 2), nil, nil, vector(5)},
			attrs: attrsOf(linear, ints("axes", 1))},
		{op: "Resize", name: "crop", in: crop, attrs: attrsOf(linear, how("tf_crop_and_resize"))},
		{op: "Resize", name: "version 10", in: []*onnxio.Tensor{random(1, 1, 1, 2, 3), scales(1, 1, 2, 1.5)},
			attrs: attrsOf(linear), opset: 10},
		{op: "Upsample", in: []*onnxio.Tensor{random(1, 1, 2, 2, 3), scales(1, 1, 2, 3)}, opset: 9},
		{op: "Upsample", in: []*onnxio.Tensor{random(1, 1, 2, 2, 3)}, opset: 7,
			attrs: attrsOf(linear, &onnxio.Attribute{Name: "scales", Type: onnxio.AttrFloats,
				Floats: []float32{1, 1, 2, 2}})},
	})
}
