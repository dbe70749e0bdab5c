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
			{{2, 3, 5}, {2, 3, 5}}, {{2, 3, 5}, {5}}, {{2, 3, 5}, {3, 1}}, {{4}, {2, 3, 4}}, {{2, 1, 5}, {1, 3, 1}},
			{{3}, {}}, {{}, {2, 2}}, {{1, 1}, {1}}, {{7, 1, 3}, {7, 2, 3}},
		} {
			cases = append(cases, gradCase{op: op, in: []*onnxio.Tensor{random(1, shapes[0]...), positive(2, shapes[1]...)}})
		}
	}
	for _, op := range []string{"Sum", "Mean"} {
		cases = append(cases, gradCase{op: op, in: []*onnxio.Tensor{random(1, 2, 3), random(2, 3), random(3, 2, 1)}},
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
			if u.name == "Log" || u.name == "Sqrt" || u.name == "Reciprocal" {
				x = positive(1, shape...)
			}
			cases = append(cases, gradCase{op: u.name, in: []*onnxio.Tensor{x}})
		}
	}
	bounds := []*onnxio.Tensor{random(1, 3, 7), onnxio.Scalar(onnxio.Double, -0.7), onnxio.Scalar(onnxio.Double, 0.9)}
	cases = append(cases, gradCase{op: "Clip", in: bounds, frozen: []int{1, 2}}, gradCase{op: "Clip", in: bounds[:1]},
		gradCase{op: "Clip", in: []*onnxio.Tensor{bounds[0], nil, bounds[2]}, frozen: []int{2}})
	checkGrads(t, cases)
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
		{op: "Concat", in: []*onnxio.Tensor{random(1, 2, 3, 5), random(2, 2, 1, 5), random(3, 2, 4, 5)}, attrs: attrsOf(axis(1))},
		{op: "Concat", in: []*onnxio.Tensor{random(1, 4)}, attrs: attrsOf(axis(-1))},
		{op: "Split", in: []*onnxio.Tensor{random(1, 2, 7), vector(3, 4)}, attrs: attrsOf(axis(1)), outs: 2, watch: 1},
		{op: "Split", in: []*onnxio.Tensor{random(1, 5, 2)}, attrs: attrsOf(onnxio.IntAttr("num_outputs", 2)), outs: 2},
		{op: "Slice", in: []*onnxio.Tensor{random(1, 5, 7), vector(1), vector(4), vector(1)}},
		{op: "Slice", in: []*onnxio.Tensor{random(1, 5, 7), vector(-1, 0), vector(-6, 7), vector(0, 1), vector(-2, 3)}},
		{op: "Slice", in: []*onnxio.Tensor{random(1, 5), vector(3), vector(3)}},
		{op: "Pad", in: []*onnxio.Tensor{random(1, 3, 2), vector(1, 0, 2, 3)}},
		{op: "Pad", in: []*onnxio.Tensor{random(1, 1), vector(0, 0)}},
		{op: "Expand", in: []*onnxio.Tensor{random(1, 3, 1), vector(2, 3, 4)}},
		{op: "Expand", in: []*onnxio.Tensor{random(1), vector(2, 2)}},
		{op: "Expand", in: []*onnxio.Tensor{random(1, 2, 3), vector(1)}},
	})
}

func TestReductionGradients(t *testing.T) {
	keep := func(v int64) *onnxio.Attribute { return onnxio.IntAttr("keepdims", v) }
	var cases []gradCase
	for _, op := range []string{"ReduceSum", "ReduceMean"} {
		cases = append(cases,
			gradCase{op: op, in: []*onnxio.Tensor{random(1, 2, 3, 5)}},
			gradCase{op: op, in: []*onnxio.Tensor{random(1, 2, 3, 5), vector(1)}, attrs: attrsOf(keep(0))},
			gradCase{op: op, in: []*onnxio.Tensor{random(1, 2, 3, 5), vector(0, -1)}, attrs: attrsOf(keep(1))},
			gradCase{op: op, in: []*onnxio.Tensor{random(1, 4)}, attrs: attrsOf(onnxio.IntAttr("noop_with_empty_axes", 1))},
			gradCase{op: op, in: []*onnxio.Tensor{random(1)}, attrs: attrsOf(keep(0))},
			gradCase{op: op, in: []*onnxio.Tensor{random(1, 2, 3)}, attrs: attrsOf(ints("axes", 1)), opset: 11},
		)
	}
	checkGrads(t, cases)
}
