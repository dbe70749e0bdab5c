package engine

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// recognize replaces what exporters spell out by the one operator that it is:
//
//	x * Sigmoid(a*x)                                          Swish
//	x * HardSigmoid(x), x * Clip(x+3, 0, 6) / 6               HardSwish
//	x * (1 + Erf(x/sqrt(2))) / 2, and its tanh approximation  Gelu
//	(x - mean) / sqrt(variance + eps) [* scale [+ bias]]      LayerNormalization over the last axis
//
// Factors may stand in any order and stray constants anywhere among them. Training does not run the pass: the gradients of
// what is spelled out are its own.
func recognize(g *graph) {
	for _, o := range slices.Clone(g.ops) {
		if o.node.Domain != "" || len(o.out) != 1 || o.out[0] == nil || o.out[0].info.Type != onnxio.Float || o.out[0].info.Kind != nil {
			continue
		}
		switch o.node.OpType {
		case "Mul", "Div":
			if !g.recognizeActivation(o) {
				g.recognizeLayerNorm(o)
			}
		case "Add":
			g.recognizeLayerNorm(o)
		}
	}
	g.prune()
}

// scalar is the number of a constant of one element.
func (v *value) scalar() (float64, bool) {
	if !v.floats() || v.size() != 1 {
		return 0, false
	}
	return float64(v.konst.Float32s()[0]), true
}

// from is the op of ONNX that gives v, when it is of this type.
func (v *value) from(opType string) *op {
	if v == nil || v.kind != computed || v.producer == nil || !v.producer.is("", opType) {
		return nil
	}
	return v.producer
}

// alone is from, when nobody else reads v.
func (v *value) alone(opType string) *op {
	if o := v.from(opType); o != nil && len(v.users) == 1 && !v.output {
		return o
	}
	return nil
}

// operands splits an op of two operands, one of them a number, into the other and the number.
func (o *op) operands() (x *value, c float64, ok bool) {
	if o == nil || len(o.in) != 2 {
		return nil, 0, false
	}
	for i, v := range o.in {
		if c, ok := v.scalar(); ok && len(v.dims) <= 1 {
			return o.in[1-i], c, true
		}
	}
	return nil, 0, false
}

// product is v as a constant times factors: products, and quotients by constants, that nobody else reads are taken apart.
func product(v *value, root bool) (c float64, factors []*value) {
	o := v.alone("Mul")
	if root {
		o = v.from("Mul")
	}
	if o != nil && len(o.in) == 2 {
		a, fa := product(o.in[0], false)
		b, fb := product(o.in[1], false)
		return a * b, append(fa, fb...)
	}
	if o = v.alone("Div"); root {
		o = v.from("Div")
	}
	if o != nil {
		if d, ok := o.in[1].scalar(); ok && d != 0 && len(o.in[1].dims) <= 1 {
			a, fa := product(o.in[0], false)
			return a / d, fa
		}
	}
	if c, ok := v.scalar(); ok && len(v.dims) <= 1 {
		return c, nil
	}
	return 1, []*value{v}
}

// equals reports whether a constant of a file is the number that it should be, as far as float32 and the digits that
// exporters write tell.
func equals(got, want float64) bool { return math.Abs(got-want) <= 2e-6*math.Abs(want) }

// recognizeActivation replaces a product that is an activation.
func (g *graph) recognizeActivation(o *op) bool {
	c, factors := product(o.out[0], true)
	if len(factors) != 2 || !o.out[0].info.HasShape {
		return false
	}
	for i, gate := range factors {
		x := factors[1-i]
		if x.info.Type != onnxio.Float || !slices.Equal(x.info.Shape, o.out[0].info.Shape) {
			continue
		}
		if n, opset, attrs := activationOf(x, gate, c); n != "" {
			g.become(o, n, opset, attrs, x)
			return true
		}
	}
	return false
}

// activationOf names the activation that c * x * gate is.
func activationOf(x, gate *value, c float64) (name string, opset int64, attrs []*onnxio.Attribute) {
	if s := gate.from("Sigmoid"); s != nil && c == 1 {
		if alpha, ok := scaleOf(s.in[0], x); ok {
			return "Swish", 24, []*onnxio.Attribute{onnxio.FloatAttr("alpha", float32(alpha))}
		}
	}
	if h := gate.from("HardSigmoid"); h != nil && c == 1 && h.in[0] == x {
		if equals(float64(h.node.Float("alpha", 0.2)), 1./6) && equals(float64(h.node.Float("beta", 0.5)), 0.5) {
			return "HardSwish", 14, nil
		}
	}
	if h := gate.from("Clip"); h != nil && equals(c, 1./6) && sixth(h, x) {
		return "HardSwish", 14, nil
	}
	y, one, ok := gate.from("Add").operands()
	if !ok || one != 1 || !equals(c, 0.5) {
		return "", 0, nil
	}
	if e := y.from("Erf"); e != nil {
		if a, ok := scaleOf(e.in[0], x); ok && equals(a, math.Sqrt2/2) {
			return "Gelu", 20, nil
		}
	}
	if t := y.from("Tanh"); t != nil && cubic(t.in[0], x) {
		return "Gelu", 20, []*onnxio.Attribute{onnxio.StringAttr("approximate", "tanh")}
	}
	return "", 0, nil
}

// scaleOf is a where v = a * x.
func scaleOf(v, x *value) (a float64, ok bool) {
	if v == x {
		return 1, true
	}
	c, factors := product(v, true)
	return c, len(factors) == 1 && factors[0] == x
}

// sixth reports whether a Clip is that of HardSwish: of x+3, between 0 and 6.
func sixth(clip *op, x *value) bool {
	low, high, ok := clipBounds(clip)
	y, three, sum := clip.in[0].from("Add").operands()
	return ok && low == 0 && high == 6 && sum && three == 3 && y == x
}

// cubic reports whether v = sqrt(2/pi) * (x + 0.044715*x^3), also written with x taken out: x * (1 + 0.044715*x*x).
func cubic(v, x *value) bool {
	c, factors := product(v, true)
	if !equals(c, math.Sqrt(2/math.Pi)) {
		return false
	}
	if len(factors) == 2 && factors[0] == x {
		y, one, ok := factors[1].from("Add").operands()
		return ok && one == 1 && power(y, x, 2)
	}
	if len(factors) != 1 {
		return false
	}
	sum := factors[0].from("Add")
	if sum == nil {
		return false
	}
	return sum.in[0] == x && power(sum.in[1], x, 3) || sum.in[1] == x && power(sum.in[0], x, 3)
}

// power reports whether v = 0.044715 * x^n.
func power(v, x *value, n int) bool {
	c, factors := product(v, true)
	if !equals(c, 0.044715) {
		return false
	}
	if len(factors) == 1 {
		p := factors[0].from("Pow")
		if p == nil || p.in[0] != x {
			return false
		}
		e, ok := p.in[1].scalar()
		return ok && e == float64(n)
	}
	return len(factors) == n && !slices.ContainsFunc(factors, func(f *value) bool { return f != x })
}

// recognizeLayerNorm replaces the last op of a spelled-out LayerNormalization, with scale and bias as far as they follow.
func (g *graph) recognizeLayerNorm(o *op) {
	x, scale, bias := layerNormParts(o)
	if x == nil || x.info.Type != onnxio.Float || !x.info.HasShape || len(x.info.Shape) == 0 {
		return
	}
	last := x.info.Shape[len(x.info.Shape)-1]
	row := func(v *value) bool { return v == nil || v.floats() && len(v.dims) == 1 && v.dims[0] == last.Value }
	if !last.Known() || !row(scale) || !row(bias) {
		return
	}
	eps, ok := deviation(o, x)
	if !ok {
		return
	}
	if scale == nil {
		ones := onnxio.NewTensor(onnxio.Float, last.Value)
		for i := range ones.Float32s() {
			ones.Float32s()[i] = 1
		}
		scale = g.constant(o.out[0].name+"/ones", ones)
	}
	in := []*value{x, scale}
	if bias != nil {
		in = append(in, bias)
	}
	g.become(o, "LayerNormalization", 17, []*onnxio.Attribute{onnxio.IntAttr("axis", -1), onnxio.FloatAttr("epsilon", float32(eps))}, in...)
}

// normalized walks from o back to the quotient (x-mean)/sqrt(variance+eps), over the bias and the scale that follow it.
func normalized(o *op) (quotient *op, scale, bias *value) {
	if o.is("", "Add") {
		for i, v := range o.in {
			if m := v.alone("Mul"); m != nil && o.in[1-i].kind == constant {
				bias, o = o.in[1-i], m
				break
			}
		}
		if bias == nil {
			return nil, nil, nil
		}
	}
	if o.is("", "Mul") {
		for i, v := range o.in {
			if d := v.alone("Div"); d != nil && o.in[1-i].kind == constant {
				return d, o.in[1-i], bias
			}
		}
		return nil, nil, nil
	}
	if !o.is("", "Div") || bias != nil {
		return nil, nil, nil
	}
	if u := o.out[0].users; len(u) == 1 && u[0].is("", "Mul") && !o.out[0].output && slices.ContainsFunc(u[0].in, func(v *value) bool { return v.kind == constant }) {
		return nil, nil, nil // its scale is the better place to begin
	}
	return o, nil, nil
}

// layerNormParts finds what o normalizes; nil where it does not.
func layerNormParts(o *op) (x, scale, bias *value) {
	q, scale, bias := normalized(o)
	if q == nil {
		return nil, nil, nil
	}
	if o.is("", "Mul") { // an Add of the bias, if there is one, is the better place to begin
		if u := o.out[0].users; len(u) == 1 && u[0].is("", "Add") && !o.out[0].output && slices.ContainsFunc(u[0].in, func(v *value) bool { return v.kind == constant }) {
			return nil, nil, nil
		}
	}
	d := q.in[0].from("Sub")
	if d == nil {
		return nil, nil, nil
	}
	m := d.in[1].from("ReduceMean")
	if m == nil || m.in[0] != d.in[0] || !overLast(m) {
		return nil, nil, nil
	}
	return d.in[0], scale, bias
}

// deviation is eps where the divisor is sqrt(mean((x-mean)^2)+eps).
func deviation(o *op, x *value) (eps float64, ok bool) {
	q, _, _ := normalized(o)
	root := q.in[1].from("Sqrt")
	if root == nil {
		return 0, false
	}
	variance, eps, ok := root.in[0].from("Add").operands()
	if !ok {
		return 0, false
	}
	m := variance.from("ReduceMean")
	if m == nil || !overLast(m) {
		return 0, false
	}
	return eps, squareOf(m.in[0], x)
}

// squareOf reports whether v is the square of x less its mean.
func squareOf(v, x *value) bool {
	var d *value
	if p := v.from("Pow"); p != nil {
		if e, ok := p.in[1].scalar(); !ok || e != 2 {
			return false
		}
		d = p.in[0]
	} else if m := v.from("Mul"); m != nil && m.in[0] == m.in[1] {
		d = m.in[0]
	}
	s := d.from("Sub")
	if s == nil || s.in[0] != x {
		return false
	}
	mean := s.in[1].from("ReduceMean")
	return mean != nil && mean.in[0] == x && overLast(mean)
}

// overLast reports whether a ReduceMean is over the last axis alone, which stays.
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

// become makes o another operator of the same output.
func (g *graph) become(o *op, opType string, opset int64, attrs []*onnxio.Attribute, in ...*value) {
	n := newNode(opType, "", o.out[0].name)
	n.Name, n.Attrs = o.node.Name, attrs
	bound, err := ops.Bind(n, opset)
	if err != nil {
		return // the operator is not there: what is spelled out computes it too
	}
	was := *o
	o.node, o.in, o.inputs = bound, in, len(in)
	if err := g.infer(o); err != nil {
		*o = was
		return
	}
	g.index()
}
