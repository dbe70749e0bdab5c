package engine

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/internal/ops"
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
	{"GroupNormalization by InstanceNormalization",
		applied("Add", either{applied("Mul", applied("Reshape", instances).alone(), weight("scale")).alone(),
			applied("Reshape", instances).alone()}, weight("bias")), groupsOfChannels, groupNormal},
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

// instances is InstanceNormalization without scale and bias of a value that a Reshape has put into groups.
var instances = named{"instances", applied("InstanceNormalization", applied("Reshape", arg), weight("ones"),
	weight("zeros"))}

// groupsOfChannels: what was put into groups are neighboring channels of x, and scale and bias are of
// channels.
func groupsOfChannels(m *match) bool {
	x, groups := m.values[arg].info, m.values["instances"].info
	if !sameShape(m) || len(x.Shape) < 3 || !groups.HasShape || len(groups.Shape) != 3 ||
		groups.Shape[0] != x.Shape[0] {
		return false
	}
	channels, count := x.Shape[1], groups.Shape[1]
	if !channels.Known() || !count.Known() || count.Value < 1 || channels.Value%count.Value != 0 {
		return false
	}
	for _, v := range m.of("scale", "bias") {
		if v == nil { // a scale of ones is gone
			continue
		}
		own := v.dims
		for len(own) > len(x.Shape)-1 && own[0] == 1 {
			own = own[1:]
		}
		if len(own) != len(x.Shape)-1 || own[0] != channels.Value || v.size() != channels.Value {
			return false
		}
	}
	all := func(v *value, x float32) bool {
		return !slices.ContainsFunc(v.konst.Float32s(), func(e float32) bool { return e != x })
	}
	return all(m.values["ones"], 1) && all(m.values["zeros"], 0)
}

// groupNormal gives GroupNormalization.
func groupNormal(g *graph, m *match) replacement {
	in := m.of(arg, "scale", "bias")
	for i, name := range []string{"/scale", "/bias"} {
		if v := in[i+1]; v != nil {
			in[i+1] = g.constant(m.out.name+name, onnxio.Floats(v.konst.Float32s(), v.size()))
		} else {
			in[i+1] = g.ones(m.out.name+name, in[0].info.Shape[1].Value)
		}
	}
	v := m.values["instances"]
	return replacement{"GroupNormalization", 21, in, []*onnxio.Attribute{
		onnxio.IntAttr("num_groups", v.info.Shape[1].Value),
		onnxio.FloatAttr("epsilon", v.computedBy().node.Float("epsilon", 1e-5))}}
}

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

// straightRounding is how training writes a QuantizeLinear of bytes: the quotient by scale, rounded and clipped.
// The first input of each node is what the one before gives.
func straightRounding(scale, low, high *value) []*onnxio.Node {
	return []*onnxio.Node{
		{OpType: "Div", Inputs: []string{"", scale.name}},
		{OpType: "Round", Inputs: []string{""},
			Attrs: []*onnxio.Attribute{onnxio.IntAttr(ops.StraightAttr, 1)}},
		{OpType: "Clip", Inputs: []string{"", low.name, high.name}}}
}

// times is a product.
func times(a, b *value) replacement {
	return replacement{op: "Mul", opset: gradOpset, in: []*value{a, b}}
}
