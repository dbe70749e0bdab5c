package check

import (
	"math"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

type nodeCase struct {
	name string
	init []*onnxio.Tensor
	node *onnxio.Node
	want string // "": nothing to complain about
}

// byDefinition says that only the operator's definition can tell what is wrong.
func (c *nodeCase) byDefinition() bool { return c.name == "LRN without size" }

// TestNodes gives operators what they cannot take.
func TestNodes(t *testing.T) {
	w := func(dims ...int64) *onnxio.Tensor { return named("w", onnxio.NewTensor(onnxio.Float, dims...)) }
	ints := func(v ...int64) *onnxio.Tensor { return named("s", onnxio.Int64s(v)) }
	floats := func(v ...float32) *onnxio.Tensor { return named("s", onnxio.Floats(v)) }
	scalar := func(name string, v int64) *onnxio.Tensor { return named(name, onnxio.Scalar(onnxio.Int64, v)) }
	for _, c := range []nodeCase{
		{"Conv", []*onnxio.Tensor{w(4, 3, 3, 3)}, node("Conv", "x w", "y"), ""},
		{"Conv of one input", nil, node("Conv", "x", "y"), "input 1 (W) is missing"},
		{"Conv of an omitted input", nil, node("Conv", "x _", "y"), "input 1 (W) is missing"},
		{"Conv of four inputs", []*onnxio.Tensor{w(4, 3, 3, 3)}, node("Conv", "x w _ x", "y"),
			"4 inputs where there are at most 3"},
		{"Conv of two outputs", []*onnxio.Tensor{w(4, 3, 3, 3)}, node("Conv", "x w", "y z"),
			"2 outputs where there are at most 1"},
		{"unknown attribute", []*onnxio.Tensor{w(4, 3, 3, 3)}, node("Conv", "x w", "y",
			onnxio.IntAttr("stride", 2)), "Conv-11 has no attribute stride"},
		{"private attribute", nil, node("BatchNormalization", "x x x x x", "y",
			onnxio.IntAttr("cnnkit_unbiased", 1)), "no attribute cnnkit_unbiased"},
		{"private outputs", nil, node("BatchNormalization", "x x x x x", "y a b c d"),
			"5 outputs where there are at most 3"},
		{"attribute of another type", []*onnxio.Tensor{w(4, 3, 3, 3)}, node("Conv", "x w", "y",
			onnxio.IntAttr("strides", 2)), "attribute strides has type 2, not 7"},
		{"stride 0", []*onnxio.Tensor{w(4, 3, 3, 3)},
			node("Conv", "x w", "y", onnxio.IntsAttr("strides", 1, 0)), "strides [1 0]"},
		{"dilation -1", []*onnxio.Tensor{w(4, 3, 3, 3)},
			node("Conv", "x w", "y", onnxio.IntsAttr("dilations", 1, -1)), "dilations [1 -1]"},
		{"kernel 0", nil, node("MaxPool", "x", "y", onnxio.IntsAttr("kernel_shape", 0, 2)),
			"kernel_shape [0 2]"},
		{"pads -1", []*onnxio.Tensor{w(4, 3, 3, 3)},
			node("Conv", "x w", "y", onnxio.IntsAttr("pads", 0, 0, -1, 0)), "pads [0 0 -1 0]"},
		{"pads huge", []*onnxio.Tensor{w(4, 3, 3, 3)}, node("Conv", "x w", "y",
			onnxio.IntsAttr("pads", 0, 0, 1<<40, 0)), "pads"},
		{"pads bomb", []*onnxio.Tensor{w(4, 3, 3, 3)}, node("Conv", "x w", "y",
			onnxio.IntsAttr("pads", 1<<20, 1<<20, 1<<20, 1<<20)), "limit"},
		{"pads bomb with strides", []*onnxio.Tensor{w(4, 3, 3, 3)},
			node("Conv", "x w", "y", onnxio.IntsAttr("pads", 1<<20, 1<<20, 1<<20, 1<<20),
				onnxio.IntsAttr("strides", 1<<19, 1<<19)), ""},
		{"pool bomb", nil, node("MaxPool", "x", "y", onnxio.IntsAttr("kernel_shape", 2, 2),
			onnxio.IntsAttr("pads", 1<<20, 1<<20, 1<<20, 1<<20)), "limit"},
		{"stride bomb", []*onnxio.Tensor{w(3, 4, 2, 2)}, node("ConvTranspose", "x w", "y",
			onnxio.IntsAttr("strides", 1<<20, 1<<20)), "limit"},
		{"output_shape bomb", []*onnxio.Tensor{w(3, 4, 2, 2)}, node("ConvTranspose", "x w", "y",
			onnxio.IntsAttr("output_shape", 1<<20, 1<<20)), "limit"},
		{"dilation bomb", []*onnxio.Tensor{w(3, 4, 2, 2)}, node("ConvTranspose", "x w", "y",
			onnxio.IntsAttr("dilations", 1<<20, 1<<20)), "limit"},
		{"three pads", []*onnxio.Tensor{w(4, 3, 3, 3)},
			node("Conv", "x w", "y", onnxio.IntsAttr("pads", 0, 0, 0)), "pads has 3 entries"},
		{"one stride", []*onnxio.Tensor{w(4, 3, 3, 3)},
			node("Conv", "x w", "y", onnxio.IntsAttr("strides", 1)), "strides has 1 entries for 2"},
		{"kernel unlike weights", []*onnxio.Tensor{w(4, 3, 3, 3)},
			node("Conv", "x w", "y", onnxio.IntsAttr("kernel_shape", 5, 5)), "kernel_shape [5 5] where"},
		{"weights of rank 1", []*onnxio.Tensor{w(4)}, node("Conv", "x w", "y"), "weights have shape [4]"},
		{"group 0", []*onnxio.Tensor{w(4, 3, 3, 3)}, node("Conv", "x w", "y", onnxio.IntAttr("group", 0)),
			"group 0"},
		{"group 2 of 3 channels", []*onnxio.Tensor{w(4, 3, 3, 3)},
			node("Conv", "x w", "y", onnxio.IntAttr("group", 2)), "2 groups do not divide 3 channels"},
		{"group 3 of 4 filters", []*onnxio.Tensor{w(4, 1, 3, 3)},
			node("Conv", "x w", "y", onnxio.IntAttr("group", 3)), "3 groups do not divide the 4 channels"},
		{"channels unlike weights", []*onnxio.Tensor{w(4, 5, 3, 3)}, node("Conv", "x w", "y"),
			"does not fit weights"},
		{"ConvTranspose", []*onnxio.Tensor{w(3, 4, 2, 2)}, node("ConvTranspose", "x w", "y"), ""},
		{"ConvTranspose unlike weights", []*onnxio.Tensor{w(4, 3, 2, 2)}, node("ConvTranspose", "x w", "y"),
			"does not fit weights"},
		{"types that differ", []*onnxio.Tensor{named("w", onnxio.NewTensor(onnxio.Double, 4, 3, 3, 3))},
			node("Conv", "x w", "y"), "must have the same"},
		{"types not taken", []*onnxio.Tensor{named("w", onnxio.NewTensor(onnxio.Bool, 4, 3, 3, 3))},
			node("Conv", "x w", "y"), "has type bool"},
		{"axis 4 of rank 4", nil, node("Softmax", "x", "y", onnxio.IntAttr("axis", 4)),
			"axis 4 for an input of rank 4"},
		{"axis -5 of rank 4", nil, node("Softmax", "x", "y", onnxio.IntAttr("axis", -5)), "axis -5"},
		{"axis -4 of rank 4", nil, node("Softmax", "x", "y", onnxio.IntAttr("axis", -4)), ""},
		{"Flatten at the end", nil, node("Flatten", "x", "y", onnxio.IntAttr("axis", 4)), ""},
		{"Flatten beyond", nil, node("Flatten", "x", "y", onnxio.IntAttr("axis", 5)), "axis 5"},
		{"Concat axis", nil, node("Concat", "x x", "y", onnxio.IntAttr("axis", 7)), "axis 7"},
		{"LRN without size", nil, node("LRN", "x", "y"), "the attribute size is missing"},
		{"perm of three", nil, node("Transpose", "x", "y", onnxio.IntsAttr("perm", 0, 1, 2)),
			"no permutation"},
		{"perm twice", nil, node("Transpose", "x", "y", onnxio.IntsAttr("perm", 0, 1, 2, 2)),
			"no permutation"},
		{"perm", nil, node("Transpose", "x", "y", onnxio.IntsAttr("perm", 3, 1, 2, 0)), ""},
		{"ReduceMean axes", nil, node("ReduceMean", "x", "y", onnxio.IntsAttr("axes", 4)), "axes [4]"},
		{"ReduceMean axis twice", nil, node("ReduceMean", "x", "y", onnxio.IntsAttr("axes", 1, -3)),
			"axes [1 -3]"},
		{"ReduceSum axes", []*onnxio.Tensor{ints(9)}, node("ReduceSum", "x s", "y"), "axes [9]"},
		{"Squeeze axes", []*onnxio.Tensor{ints(-9)}, node("Squeeze", "x s", "y"), "axes [-9]"},
		{"Reshape", []*onnxio.Tensor{ints(0, -1)}, node("Reshape", "x s", "y"), ""},
		{"Reshape of two -1", []*onnxio.Tensor{ints(-1, -1)}, node("Reshape", "x s", "y"),
			"more than one -1"},
		{"Reshape of -2", []*onnxio.Tensor{ints(-2)}, node("Reshape", "x s", "y"), "shape [-2]"},
		{"Reshape to another size", []*onnxio.Tensor{ints(7, 7)}, node("Reshape", "x s", "y"),
			"cannot reshape [2 3 8 8] to [7 7]"},
		{"Reshape of 0 and -1 with allowzero", []*onnxio.Tensor{ints(0, -1)}, node("Reshape", "x s", "y",
			onnxio.IntAttr("allowzero", 1)), "allowzero"},
		{"ConstantOfShape bomb", []*onnxio.Tensor{ints(1<<20, 1<<20)}, node("ConstantOfShape", "s", "y"),
			"exceeds the limit"},
		{"ConstantOfShape overflow", []*onnxio.Tensor{ints(1<<40, 1<<40)}, node("ConstantOfShape", "s", "y"),
			"overflows"},
		{"ConstantOfShape negative", []*onnxio.Tensor{ints(-1)}, node("ConstantOfShape", "s", "y"),
			"negative"},
		{"Expand bomb", []*onnxio.Tensor{ints(1<<30, 1<<30, 1, 1, 1, 1)}, node("Expand", "x s", "y"),
			"overflow"},
		{"Tile bomb", []*onnxio.Tensor{ints(1<<20, 1<<20, 1, 1)}, node("Tile", "x s", "y"), "limit"},
		{"Tile of 2^62", []*onnxio.Tensor{ints(1<<62, 1<<62, 1, 1)}, node("Tile", "x s", "y"), "overflow"},
		{"Tile negative", []*onnxio.Tensor{ints(-1, 1, 1, 1)}, node("Tile", "x s", "y"), "scale -1"},
		{"Range bomb", []*onnxio.Tensor{scalar("s", 0), scalar("e", 1<<40), scalar("d", 1)},
			node("Range", "s e d", "y"), "limit"},
		{"Range of step 0", []*onnxio.Tensor{scalar("s", 0), scalar("e", 5), scalar("d", 0)},
			node("Range", "s e d", "y"), "in steps of 0"},
		{"Resize bomb", []*onnxio.Tensor{floats(1, 1, 1e5, 1e5)}, node("Resize", "x _ s", "y"), "limit"},
		{"Resize sizes bomb", []*onnxio.Tensor{ints(1, 1, 1<<30, 1<<30)}, node("Resize", "x _ _ s", "y"),
			"overflow"},
		{"Resize of scale 0", []*onnxio.Tensor{floats(1, 1, 0, 1)}, node("Resize", "x _ s", "y"), "scales"},
		{"Resize of scale NaN", []*onnxio.Tensor{floats(1, 1, float32(math.NaN()), 1)},
			node("Resize", "x _ s", "y"), "scales"},
		{"Pad bomb", []*onnxio.Tensor{ints(1<<30, 1<<30, 0, 0, 0, 0, 0, 0)}, node("Pad", "x s", "y"),
			"overflow"},
		{"Pad huge", []*onnxio.Tensor{ints(1<<62, 0, 0, 0, 0, 0, 0, 0)}, node("Pad", "x s", "y"), "pads"},
		{"Pad of three", []*onnxio.Tensor{ints(1, 1, 1)}, node("Pad", "x s", "y"), "3 pads"},
		{"OneHot bomb", []*onnxio.Tensor{scalar("s", 1<<40), w(2)}, node("OneHot", "x s w", "y"), "limit"},
		{"RandomNormal bomb", nil, node("RandomNormal", "", "y", onnxio.IntsAttr("shape", 1<<20, 1<<20)),
			"limit"},
		{"too new an operator", nil, node("LayerNormalization", "x x", "y"), ""},
		{"unknown operator", nil, node("Frobnicate", "x", "y"), "unsupported Frobnicate (opset 17)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Model(small(c.init, c.node))
			if _, missing := ops.Bind(c.node, 17); missing != nil && c.byDefinition() {
				t.Skip(missing)
			} else if missing != nil && c.want == "" {
				if len(problems(err)) != 1 {
					t.Errorf("remarks: %v", err)
				}
				return
			}
			if c.want != "" {
				expect(t, err, c.want)
				if !strings.Contains(err.Error(), c.node.OpType) {
					t.Errorf("the error does not name the node: %v", err)
				}
			} else if err != nil {
				t.Errorf("remarks: %v", err)
			}
		})
	}
}

// TestInputVersions: Clip takes its bounds as inputs from version 11 on.
func TestInputVersions(t *testing.T) {
	lo := named("lo", onnxio.Scalar(onnxio.Float, float32(0)))
	m := small([]*onnxio.Tensor{lo}, node("Clip", "x lo", "y"))
	if err := Model(m); err != nil {
		t.Error(err)
	}
	m.Opsets[0].Version = 10
	expect(t, Model(m), "2 inputs where there are at most 1")
}

// TestAttributeVersions: Dropout has its ratio as an attribute up to version 10 and as an input from 12 on.
func TestAttributeVersions(t *testing.T) {
	m := small(nil, node("Dropout", "x", "y", onnxio.FloatAttr("ratio", 0.3)))
	m.Opsets[0].Version = 10
	if err := Model(m); err != nil {
		t.Error(err)
	}
	m.Opsets[0].Version = 17
	expect(t, Model(m), "Dropout-13 has no attribute ratio")
}
