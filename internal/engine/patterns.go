package engine

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// A pattern is an operator as exporters spell it out.
type pattern struct {
	name string
	is   term
	// where is a condition on what was matched.
	where func(m *match) bool
	// gives is the operator that it is, of the values of holes.
	gives func(g *graph, m *match) replacement
}

// replacement is an application of one operator.
type replacement struct {
	op    string
	opset int64
	in    []*value
	attrs []*onnxio.Attribute
}

// patterns is the table of what is recognized, what contains another row before it. Factors may stand in any
// order and stray constants anywhere among them.
var patterns = []pattern{
	{"SiLU", product{arg, applied("Sigmoid", product{slot("alpha"), arg})}, sameShape,
		func(_ *graph, m *match) replacement {
			alpha := onnxio.FloatAttr("alpha", float32(m.numbers["alpha"]))
			return replacement{"Swish", 24, m.of(arg), []*onnxio.Attribute{alpha}}
		}},
	{"HardSwish by HardSigmoid", product{arg, applied("HardSigmoid", arg).where(sixthAndHalf)},
		sameShape, hardSwish},
	{"HardSwish by Clip", product{literal(1. / 6), arg,
		applied("Clip", applied("Add", arg, literal(3))).where(clipsAtSix)}, sameShape,
		hardSwish},
	{"GELU", product{literal(0.5), arg, applied("Add", applied("Erf", product{literal(math.Sqrt2 / 2), arg}),
		literal(1))}, sameShape,
		func(_ *graph, m *match) replacement { return replacement{op: "Gelu", opset: 20, in: m.of(arg)} }},
	{"GELU by Tanh", product{literal(0.5), arg, applied("Add", applied("Tanh", cubic), literal(1))},
		sameShape,
		func(_ *graph, m *match) replacement {
			return replacement{"Gelu", 20, m.of(arg),
				[]*onnxio.Attribute{onnxio.StringAttr("approximate", "tanh")}}
		}},
	{"LayerNormalization with scale and bias",
		applied("Add", applied("Mul", normalized.alone(), weight("scale")).alone(), weight("bias")),
		rowWeights, layerNorm},
	{"LayerNormalization with scale", applied("Mul", normalized.alone(), weight("scale")),
		rowWeights, layerNorm},
	{"LayerNormalization", normalized, rowWeights, layerNorm},
}

// arg is what a spelled-out function is of.
const arg = hole("x")

var (
	// cubic is sqrt(2/pi) * (x + 0.044715*x^3), also written with x taken out: x * (1 + 0.044715*x*x).
	cubic = either{
		product{literal(math.Sqrt(2 / math.Pi)), applied("Add", arg, either{
			product{literal(0.044715), arg, arg, arg}, product{literal(0.044715),
				applied("Pow", arg, literal(3))}})},
		product{literal(math.Sqrt(2 / math.Pi)), arg, applied("Add", literal(1), either{
			product{literal(0.044715), arg, arg},
			product{literal(0.044715), applied("Pow", arg, literal(2))}})},
	}
	// centered is x - mean(x), normalized (x-mean) / sqrt(mean((x-mean)^2) + eps).
	centered = applied("Sub", arg, applied("ReduceMean", arg).where(overLast))
	variance = applied("ReduceMean", either{applied("Pow", centered, literal(2)),
		applied("Mul", centered, centered)}).where(overLast)
	normalized = applied("Div", centered, applied("Sqrt", applied("Add", variance, slot("eps"))))
)

func hardSwish(_ *graph, m *match) replacement {
	return replacement{op: "HardSwish", opset: 14, in: m.of(arg)}
}

// layerNorm gives LayerNormalization over the last axis, of ones where no scale was matched.
func layerNorm(g *graph, m *match) replacement {
	in := m.of(arg, "scale")
	if in[1] == nil {
		in[1] = g.ones(m.out.name+"/ones", in[0].info.Shape[len(in[0].info.Shape)-1].Value)
	}
	if bias := m.values["bias"]; bias != nil {
		in = append(in, bias)
	}
	eps := onnxio.FloatAttr("epsilon", float32(m.numbers["eps"]))
	return replacement{"LayerNormalization", 17, in, []*onnxio.Attribute{onnxio.IntAttr("axis", -1), eps}}
}

// of are the values of holes, nil where they are not in what was matched.
func (m *match) of(holes ...hole) []*value {
	out := make([]*value, len(holes))
	for i, h := range holes {
		out[i] = m.values[h]
	}
	return out
}

// sameShape: a function of each element of x.
func sameShape(m *match) bool {
	a, b := m.values[arg].info, m.out.info
	return a.Type == onnxio.Float && a.HasShape && b.HasShape && slices.Equal(a.Shape, b.Shape)
}

// rowWeights: scale and bias have the length of x's last axis.
func rowWeights(m *match) bool {
	info := m.values[arg].info
	if info.Type != onnxio.Float || !info.HasShape || len(info.Shape) == 0 {
		return false
	}
	last := info.Shape[len(info.Shape)-1]
	for _, v := range m.of("scale", "bias") {
		if v != nil && (len(v.dims) != 1 || v.dims[0] != last.Value) {
			return false
		}
	}
	return last.Known()
}

// sixthAndHalf: the attributes that make HardSigmoid the gate of HardSwish.
func sixthAndHalf(o *op) bool {
	return literal(1./6).is(float64(o.node.Float("alpha", 0.2))) &&
		literal(0.5).is(float64(o.node.Float("beta", 0.5)))
}

// clipsAtSix: a Clip between 0 and 6.
func clipsAtSix(o *op) bool {
	low, high, ok := clipBounds(o)
	return ok && low == 0 && high == 6
}

// overLast: a ReduceMean over the last axis alone, which stays.
func overLast(o *op) bool {
	rank := int64(len(o.in[0].info.Shape))
	if !o.in[0].info.HasShape || o.node.Int("keepdims", 1) == 0 {
		return false
	}
	axes := o.node.Ints("axes")
	if len(o.in) > 1 && o.in[1] != nil {
		elems, ok := o.in[1].info.Known()
		if !ok {
			return false
		}
		for _, e := range elems {
			axes = append(axes, e.Value)
		}
	}
	return len(axes) == 1 && (axes[0] == -1 || axes[0] == rank-1)
}
