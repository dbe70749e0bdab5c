package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Reductions over axes, and SumTo, which undoes broadcasting. Sums accumulate in float64.

// reduceTol: sums of a few thousand numbers in another order.
var reduceTol = Tolerance{Abs: 1e-5, Rel: 1e-5}

// reduction is one row: how elements join an accumulator, and what becomes of it at the end (n elements).
type reduction struct {
	name  string
	axes  int64 // version since which axes are an input
	start float64
	join  func(acc, x float64) float64
	end   func(acc, n float64) float64
}

func same(acc, _ float64) float64 { return acc }

var reductions = []reduction{
	{"ReduceSum", 13, 0, func(a, x float64) float64 { return a + x }, same},
	{"ReduceMean", 18, 0, func(a, x float64) float64 { return a + x }, func(a, n float64) float64 {
		return a / n
	}},
	{"ReduceMax", 18, math.Inf(-1), math.Max, same},
	{"ReduceMin", 18, math.Inf(1), math.Min, same},
	{"ReduceProd", 18, 1, func(a, x float64) float64 { return a * x }, same},
	{"ReduceL1", 18, 0, func(a, x float64) float64 { return a + math.Abs(x) }, same},
	{"ReduceL2", 18, 0, func(a, x float64) float64 { return a + x*x }, func(a, _ float64) float64 {
		return math.Sqrt(a)
	}},
	{"ReduceSumSquare", 18, 0, func(a, x float64) float64 { return a + x*x }, same},
	{"ReduceLogSum", 18, 0, func(a, x float64) float64 { return a + x },
		func(a, _ float64) float64 { return math.Log(a) }},
	{"ReduceLogSumExp", 18, math.Inf(-1), logAddExp, same},
}

// logAddExp is log(e^a + e^b) without overflow.
func logAddExp(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) || math.IsInf(a, 1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

func init() {
	for _, r := range reductions {
		register(r.def())
	}
	d := gradDef("SumTo", []string{"dy"}, []string{"dx"}, intsA("shape"))
	d.Infer = func(c *Infer) error {
		c.Set(0, c.In[0].Type, knownDims(c.Node.Ints("shape")))
		return nil
	}
	d.Eval = evalSumTo
	d.Tol = reduceTol
	product := gradDef("ReduceProdGrad", []string{"dy", "x"}, []string{"dx"})
	product.Eval, product.Tol = byFloat(evalReduceProdGrad[float32], evalReduceProdGrad[float64]), reduceTol
	product.Infer = inferLikeSecond
	register(d, product)
}

func (r reduction) def() *Def {
	versions := []int64{1, 11, 13}
	if r.axes == 18 {
		versions = append(versions, 18)
	}
	if r.name == "ReduceLogSum" || r.name == "ReduceLogSumExp" {
		versions = append(versions, 28)
	}
	types := Numbers
	if r.name == "ReduceMax" || r.name == "ReduceMin" {
		versions = []int64{1, 11, 12, 13, 18, 20}
		types |= Bools
	}
	d := &Def{
		Name: r.name, Versions: versions,
		Attrs: []AttrDef{intsA("axes").until(r.axes - 1), intA("keepdims"),
			intA("noop_with_empty_axes").since(r.axes)},
		Inputs:  []Param{{Name: "data", Type: "T"}, {Name: "axes", Type: "I", Optional: true, Since: r.axes}},
		Outputs: []Param{{Name: "reduced", Type: "T"}},
		Types:   map[string]TypeSet{"T": types, "I": Set(onnxio.Int64)}, Tol: reduceTol, Infer: inferReduce,
		Eval: func(c *Eval) error { return evalReduce(c, r) }, Grad: gradReduce,
	}
	return d
}

// reduced marks the axes that are reduced; nil when they are not known. all says that no axes means all.
func reduced(n *Node, rank int, axes []int64, present, known bool) ([]bool, error) {
	if !known {
		return nil, nil
	}
	out := make([]bool, rank)
	if !present || len(axes) == 0 {
		for i := range out {
			out[i] = n.Int("noop_with_empty_axes", 0) == 0
		}
		return out, nil
	}
	for _, a := range axes {
		i, err := axisOf(n, a, rank)
		if err != nil {
			return nil, err
		}
		out[i] = true
	}
	return out, nil
}

func inferReduce(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	axes, present, known := c.listOf("axes", 1)
	if !shaped(c, 0) {
		return nil
	}
	red, err := reduced(c.Node, len(c.In[0].Shape), axes, present, known)
	if err != nil || red == nil {
		return err
	}
	keep := c.Node.Int("keepdims", 1) != 0
	out := []onnxio.Dim{}
	for i, d := range c.In[0].Shape {
		switch {
		case !red[i]:
			out = append(out, d)
		case keep:
			out = append(out, knownDim(1))
		}
	}
	c.Set(0, c.In[0].Type, out)
	return nil
}

func evalReduce(c *Eval, r reduction) error {
	if err := evalReady(c); err != nil {
		return err
	}
	x := c.In[0]
	axes, present := c.listOf("axes", 1)
	red, err := reduced(c.Node, len(x.Dims), axes, present, true)
	if err != nil {
		return err
	}
	dims := []int64{}
	kept := make([]int64, len(x.Dims)) // shape with ones
	for i, d := range x.Dims {
		kept[i] = d
		if red[i] {
			kept[i] = 1
		}
		if !red[i] || c.Node.Int("keepdims", 1) != 0 {
			dims = append(dims, kept[i])
		}
	}
	y, err := c.Alloc(0, x.Type, dims...)
	if err != nil {
		return err
	}
	return reduceInto(c, y, x, kept, r)
}

// reduceInto joins the elements of x that share a place in kept, the output's shape with ones.
func reduceInto(c *Eval, y, x *onnxio.Tensor, kept []int64, r reduction) error {
	if exact, ok := exactReduce.of(x.Type); ok && exact(r.name, y, x, kept) {
		return nil
	}
	if x.Type == onnxio.Bool { // false and true are 0 and 1
		bits := [2]onnxio.Tensor{*y, *x}
		bits[0].Type, bits[1].Type = onnxio.Uint8, onnxio.Uint8
		if !reduceInts[uint8](r.name, &bits[0], &bits[1], kept) {
			return c.Node.Errorf("element type %v is not implemented", x.Type)
		}
		for i, v := range y.Raw { // the least of nothing is true
			y.Raw[i] = min(v, 1)
		}
		return nil
	}
	in := x
	if x.Type != onnxio.Float && x.Type != onnxio.Double {
		wide, err := asFloat64(c, x)
		if err != nil {
			return err
		}
		in = wide
	}
	acc := make([]float64, sizeOf(kept))
	for i := range acc {
		acc[i] = r.start
	}
	if in.Type == onnxio.Float {
		joinAll(acc, onnxio.Data[float32](in), x.Dims, kept, func(acc float64, x float32) float64 {
			return r.join(acc, float64(x))
		})
	} else {
		joinAll(acc, onnxio.Data[float64](in), x.Dims, kept, r.join)
	}
	n := 1.0
	if len(acc) > 0 {
		n = float64(sizeOf(x.Dims)) / float64(len(acc))
	}
	for i := range acc {
		acc[i] = r.end(acc[i], n)
	}
	switch y.Type {
	case onnxio.Float:
		for i, v := range acc {
			y.Float32s()[i] = float32(v)
		}
		return nil
	case onnxio.Double:
		copy(onnxio.Data[float64](y), acc)
		return nil
	}
	return cast(c.Node, y, onnxio.FromSlice(onnxio.Double, acc, y.Dims...), false)
}

func joinAll[A, T numeric](acc []A, x []T, dims, kept []int64, join func(acc A, x T) A) {
	s := spread(kept, dims)
	i := 0
	walk(dims, [][]int64{s}, func(n int64, at []int64) {
		to, step := at[0], int64(0)
		if len(s) > 0 {
			step = s[len(s)-1]
		}
		for range n {
			acc[to] = join(acc[to], x[i])
			i, to = i+1, to+step
		}
	})
}

func evalSumTo(c *Eval) error {
	shape := c.Node.Ints("shape")
	dy := c.In[0]
	y, err := c.Alloc(0, dy.Type, shape...)
	if err != nil {
		return err
	}
	kept := make([]int64, len(dy.Dims))
	for i := range kept {
		kept[i] = 1
	}
	copy(kept[len(kept)-len(shape):], shape)
	return reduceInto(c, y, dy, kept, reductions[0])
}

// gradReduce spreads dy over what was reduced, times the derivative of the result by each element.
func gradReduce(g *Grad) error {
	if !g.Wants[0] {
		return nil
	}
	kept, axes, err := keptDims(g)
	if err != nil {
		return err
	}
	d, err := reshaped(g, g.DOut[0], kept)
	if err != nil {
		return err
	}
	dims := g.Dims(g.In(0))
	switch g.Node.OpType {
	case "ReduceSum":
	case "ReduceMean":
		if n := sizeOf(dims) / max(sizeOf(kept), 1); n > 1 {
			d, err = scaled(g, d, 1/float64(n))
		}
	case "ReduceProd":
		g.DIn[0], err = g.One(GradDomain, "ReduceProdGrad", []string{d, g.In(0)})
		return err
	default:
		g.DIn[0], err = reduceSlope(g, d, kept, axes)
		return err
	}
	if err != nil {
		return err
	}
	g.DIn[0], err = g.One("", "Expand", []string{d, g.Const(onnxio.Int64s(append([]int64{}, dims...)))})
	return err
}

// reduceSlope emits d, of shape kept, times dy/dx where that depends on the element x.
func reduceSlope(g *Grad, d string, kept, axes []int64) (string, error) {
	x := g.In(0)
	y, err := reshaped(g, g.Out(0), kept)
	if err != nil {
		return "", err
	}
	switch op := g.Node.OpType; op {
	case "ReduceMax", "ReduceMin": // shared equally among the extremes, as PyTorch's amax shares it
		is, err := equals(g, x, y)
		if err != nil {
			return "", err
		}
		n, err := g.One("", "ReduceSum", []string{is, g.Const(onnxio.Int64s(axes))},
			onnxio.IntAttr("noop_with_empty_axes", 1))
		if err != nil {
			return "", err
		}
		if d, err = two(g, "Div", d, n); err != nil {
			return "", err
		}
		x = is
	case "ReduceL1":
		x, err = g.One("", "Sign", []string{x})
	case "ReduceL2":
		nought, err := equals(g, g.Const(floatScalar(g.Value(y).Type, 0)), y)
		if err != nil {
			return "", err
		}
		if y, err = two(g, "Add", y, nought); err != nil { // a norm of 0 has the gradient 0, as in PyTorch
			return "", err
		}
		if d, err = two(g, "Div", d, y); err != nil {
			return "", err
		}
	case "ReduceSumSquare":
		d, err = scaled(g, d, 2)
	case "ReduceLogSum": // 1/sum
		if x, err = g.One("", "Neg", []string{y}); err == nil {
			x, err = g.One("", "Exp", []string{x})
		}
		if err == nil {
			d, err = two(g, "Mul", d, x)
		}
		if err != nil {
			return "", err
		}
		return g.One("", "Expand", []string{d, g.Const(onnxio.Int64s(append([]int64{}, g.Dims(g.In(0))...)))})
	case "ReduceLogSumExp":
		if x, err = two(g, "Sub", x, y); err == nil {
			x, err = g.One("", "Exp", []string{x})
		}
	default:
		return "", g.Node.Errorf("no gradient for %s", op)
	}
	if err != nil {
		return "", err
	}
	return two(g, "Mul", x, d)
}

// keptDims is the shape of a reduction's result with ones where it was reduced, and the reduced axes.
func keptDims(g *Grad) (kept, which []int64, err error) {
	dims := g.Dims(g.In(0))
	var axes []int64
	present := false
	if a := g.Node.Attr("axes"); a != nil {
		axes, present = a.Ints, true
	} else if g.In(1) != "" {
		list, ok := intsOf(g.Value(g.In(1)).Const)
		if !ok {
			return nil, nil, g.Node.Errorf("the gradient needs constant axes")
		}
		axes, present = list, true
	}
	red, err := reduced(g.Node, len(dims), axes, present, true)
	if err != nil {
		return nil, nil, err
	}
	kept, which = make([]int64, len(dims)), []int64{}
	for i, d := range dims {
		if kept[i] = d; red[i] {
			kept[i], which = 1, append(which, int64(i))
		}
	}
	return kept, which, nil
}

// evalReduceProdGrad is dy, of x's shape with ones, times the product of the other elements: of those before,
// then of those after. Nothing is divided, so zeros do no harm.
func evalReduceProdGrad[T floating](c *Eval) error {
	dy, x := c.In[0], c.In[1]
	if len(dy.Dims) != len(x.Dims) {
		return c.Node.Errorf("dy %s for %s", dimsText(dy.Dims), dimsText(x.Dims))
	}
	for i, d := range dy.Dims {
		if d != x.Dims[i] && d != 1 {
			return c.Node.Errorf("dy %s for %s", dimsText(dy.Dims), dimsText(x.Dims))
		}
	}
	dx, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	from, to, grad := onnxio.Data[T](x), onnxio.Data[T](dx), onnxio.Data[T](dy)
	s, acc := spread(dy.Dims, x.Dims), make([]float64, len(grad))
	for i := range acc {
		acc[i] = 1
	}
	groups := make([]int64, 0, len(from))
	walk(x.Dims, [][]int64{s}, func(n int64, at []int64) {
		step := int64(0)
		if len(s) > 0 {
			step = s[len(s)-1]
		}
		for k := range n {
			groups = append(groups, at[0]+k*step)
		}
	})
	for i, k := range groups {
		to[i] = T(acc[k])
		acc[k] *= float64(from[i])
	}
	for i, d := range grad {
		acc[i] = float64(d)
	}
	for i := len(groups) - 1; i >= 0; i-- {
		k := groups[i]
		to[i] = T(float64(to[i]) * acc[k])
		acc[k] *= float64(from[i])
	}
	return nil
}
