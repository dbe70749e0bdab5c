package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Elementwise arithmetic of two operands with broadcasting: Add, Sub, Mul, Div, Pow, and the variadic
// Sum, Mean, Max, Min. Before version 7, operands were of equal shape, or B was stretched along `axis`
// when `broadcast` was set.

// arithmeticTol: one rounding.
var arithmeticTol = Tolerance{Rel: 1e-6}

func init() {
	old := []AttrDef{intA("axis").until(6), intA("broadcast").until(6), intsA("consumed_inputs").until(5)}
	versions := []int64{1, 6, 7, 13, 14}
	arithmetic := []*Def{
		binaryDef("Add", versions, old, kernels2{add[float32], add[float64], intKernels(adds)}, gradAdd),
		binaryDef("Sub", versions, old, kernels2{sub[float32], sub[float64], intKernels(subs)}, gradSub),
		binaryDef("Mul", versions, old, kernels2{mul[float32], mul[float64], intKernels(muls)}, gradMul),
		binaryDef("Div", versions, old, kernels2{div[float32], div[float64], intKernels(divs)}, gradDiv),
	}
	for i, d := range arithmetic {
		d.Arithmetic = Sum + Arithmetic(i)
		d.Learned = []int{0, 1} // a bias or a scale spelled out
	}
	register(arithmetic...)
	register(
		powDef(),
		variadicDef("Sum", []int64{1, 6, 8, 13}, Floats, func(c *Eval) error {
			return evalVariadic(c, "Add")
		}, gradSum),
		variadicDef("Mean", []int64{1, 6, 8, 13}, Floats, evalMean, gradMean),
		variadicDef("Max", []int64{1, 6, 8, 12, 13}, Numbers, func(c *Eval) error {
			return evalVariadic(c, "Max")
		}, gradChoice),
		variadicDef("Min", []int64{1, 6, 8, 12, 13}, Numbers, func(c *Eval) error {
			return evalVariadic(c, "Min")
		}, gradChoice),
	)
}

// kernels2 are the loops of a binary operator by type.
type kernels2 struct {
	f32  func(a, b float32) float32
	f64  func(a, b float64) float64
	ints map[onnxio.DataType]func(c *Eval, a, b *onnxio.Tensor) error
}

func add[T numeric](a, b T) T { return a + b }
func sub[T numeric](a, b T) T { return a - b }
func mul[T numeric](a, b T) T { return a * b }
func div[T numeric](a, b T) T { return a / b }

// intDiv truncates toward zero; a division by zero gives zero, where the machine would trap.
func intDiv[T numeric](a, b T) T {
	if b == 0 {
		return 0
	}
	return a / b
}

// greaterOf is the greater; NaN wins, as in PyTorch.
func greaterOf[T numeric](a, b T) T {
	if a == a && (b > a || b != b) {
		return b
	}
	return a
}

// lesserOf is the lesser; NaN wins.
func lesserOf[T numeric](a, b T) T {
	if a == a && (b < a || b != b) {
		return b
	}
	return a
}

// integer loops are made for each type from one family of functions.
type intOps struct {
	i8  func(a, b int8) int8
	i16 func(a, b int16) int16
	i32 func(a, b int32) int32
	i64 func(a, b int64) int64
	u8  func(a, b uint8) uint8
	u16 func(a, b uint16) uint16
	u32 func(a, b uint32) uint32
	u64 func(a, b uint64) uint64
}

var (
	adds = intOps{add[int8], add[int16], add[int32], add[int64], add[uint8], add[uint16], add[uint32],
		add[uint64]}
	subs = intOps{sub[int8], sub[int16], sub[int32], sub[int64], sub[uint8], sub[uint16], sub[uint32],
		sub[uint64]}
	muls = intOps{mul[int8], mul[int16], mul[int32], mul[int64], mul[uint8], mul[uint16], mul[uint32],
		mul[uint64]}
	divs = intOps{intDiv[int8], intDiv[int16], intDiv[int32], intDiv[int64], intDiv[uint8], intDiv[uint16],
		intDiv[uint32], intDiv[uint64]}
	maxs = intOps{greaterOf[int8], greaterOf[int16], greaterOf[int32], greaterOf[int64], greaterOf[uint8],
		greaterOf[uint16], greaterOf[uint32], greaterOf[uint64]}
	mins = intOps{lesserOf[int8], lesserOf[int16], lesserOf[int32], lesserOf[int64], lesserOf[uint8],
		lesserOf[uint16], lesserOf[uint32], lesserOf[uint64]}
)

func intKernels(f intOps) map[onnxio.DataType]func(c *Eval, a, b *onnxio.Tensor) error {
	return map[onnxio.DataType]func(c *Eval, a, b *onnxio.Tensor) error{
		onnxio.Int8: pairwise(f.i8), onnxio.Int16: pairwise(f.i16), onnxio.Int32: pairwise(f.i32),
		onnxio.Int64: pairwise(f.i64),
		onnxio.Uint8: pairwise(f.u8), onnxio.Uint16: pairwise(f.u16), onnxio.Uint32: pairwise(f.u32),
		onnxio.Uint64: pairwise(f.u64),
	}
}

// pairwise runs f over the broadcast of two tensors into output 0.
func pairwise[T numeric](f func(a, b T) T) func(c *Eval, a, b *onnxio.Tensor) error {
	return func(c *Eval, a, b *onnxio.Tensor) error { return combine[T, T, T](c, a, b, a.Type, f) }
}

// combine writes f over the broadcast of a and b into output 0 of type t.
func combine[A, B, T onnxio.Element](c *Eval, a, b *onnxio.Tensor, t onnxio.DataType,
	f func(a A, b B) T) error {
	x, y := onnxio.Data[A](a), onnxio.Data[B](b)
	if equal(a.Dims, b.Dims) {
		out, err := c.Alloc(0, t, a.Dims...)
		if err != nil {
			return err
		}
		to := onnxio.Data[T](out)
		for i := range to {
			to[i] = f(x[i], y[i])
		}
		return nil
	}
	dims, ok := broadcast(a.Dims, b.Dims)
	if !ok {
		return c.Node.Errorf("cannot broadcast %s with %s", dimsText(a.Dims), dimsText(b.Dims))
	}
	out, err := c.Alloc(0, t, dims...)
	if err != nil {
		return err
	}
	to := onnxio.Data[T](out)
	sa, sb, i := spread(a.Dims, dims), spread(b.Dims, dims), 0
	walk(dims, [][]int64{sa, sb}, func(n int64, at []int64) {
		p, q := at[0], at[1]
		for range n {
			to[i] = f(x[p], y[q])
			p, q, i = p+sa[len(sa)-1], q+sb[len(sb)-1], i+1
		}
	})
	return nil
}

func binaryDef(name string, versions []int64, attrs []AttrDef, k kernels2, grad func(*Grad) error) *Def {
	return &Def{
		Name: name, Versions: versions, Attrs: attrs,
		Inputs: []Param{{Name: "A", Type: "T"}, {Name: "B", Type: "T"}}, Outputs: []Param{{Name: "C",
			Type: "T"}},
		Types: map[string]TypeSet{"T": Numbers}, Tol: arithmeticTol,
		Infer: inferBinary, Grad: grad,
		Eval: func(c *Eval) error { return evalBinary(c, k) },
	}
}

// oldB is B reshaped by the rules before version 7, where `axis` says with which dimension of
// A B's first one lines up.
func oldB(n *Node, a, b int) (pad int, err error) {
	if n.Since >= 7 || n.Int("broadcast", 0) == 0 || n.Attr("axis") == nil {
		return 0, nil
	}
	axis, err := axisOf(n, n.Int("axis", 0), a)
	if err != nil {
		return 0, err
	}
	if axis+b > a {
		return 0, n.Errorf("axis %d leaves no room for rank %d in rank %d", axis, b, a)
	}
	return a - axis - b, nil
}

func inferBinary(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if !shaped(c, 0, 1) {
		return nil
	}
	a, b := c.In[0].Shape, c.In[1].Shape
	pad, err := oldB(c.Node, len(a), len(b))
	if err != nil {
		return err
	}
	for range pad {
		b = append(b[:len(b):len(b)], knownDim(1))
	}
	out, ok := broadcastDims(a, b)
	if !ok {
		return c.Node.Errorf("cannot broadcast %s with %s", shapeText(a), shapeText(c.In[1].Shape))
	}
	c.Set(0, c.In[0].Type, out)
	elementsOf(c)
	return nil
}

// elementsOf carries vectors and scalars of dimensions through Add, Sub, Mul and Div,
// where the result is known.
func elementsOf(c *Infer) {
	a, okA := c.In[0].Known()
	b, okB := c.In[1].Known()
	if !okA || !okB || c.Out[0] == nil || c.In[0].Const != nil && c.In[1].Const != nil ||
		len(c.Out[0].Shape) > 1 {
		return
	}
	n := len(a)
	if n == 1 {
		n = len(b)
	}
	if len(b) != n && len(b) != 1 {
		return
	}
	out := make([]onnxio.Dim, n)
	for i := range out {
		out[i] = dimArithmetic(c.Node.OpType, a[i%len(a)], b[i%len(b)], Floats.Has(c.In[0].Type))
	}
	c.Out[0].Elems = out
}

// dimArithmetic is the result where it is a dimension: a number that is not negative and does not overflow,
// or one of the operands. In floats a quotient that is not whole is none.
func dimArithmetic(op string, a, b onnxio.Dim, float bool) onnxio.Dim {
	is := func(d onnxio.Dim, v int64) bool { return d.Known() && d.Value == v }
	switch {
	case is(b, 0) && (op == "Add" || op == "Sub"), is(b, 1) && (op == "Mul" || op == "Div"):
		return a
	case is(a, 0) && op == "Add", is(a, 1) && op == "Mul":
		return b
	case !a.Known() || !b.Known():
		return unknownDim
	}
	switch op {
	case "Add":
		if a.Value <= math.MaxInt64-b.Value {
			return knownDim(a.Value + b.Value)
		}
	case "Sub":
		if a.Value >= b.Value {
			return knownDim(a.Value - b.Value)
		}
	case "Mul":
		if b.Value == 0 || a.Value <= math.MaxInt64/b.Value {
			return knownDim(a.Value * b.Value)
		}
	case "Div":
		if b.Value != 0 && (!float || a.Value%b.Value == 0) {
			return knownDim(a.Value / b.Value)
		}
	}
	return unknownDim
}

func evalBinary(c *Eval, k kernels2) error {
	if err := evalReady(c); err != nil {
		return err
	}
	b, err := stretchedB(c)
	if err != nil {
		return err
	}
	a := c.In[0]
	switch {
	case k.ints[a.Type] != nil:
		return k.ints[a.Type](c, a, b)
	case k.f32 == nil: // an operator of integers
	case a.Type == onnxio.Float:
		return combine(c, a, b, a.Type, k.f32)
	case a.Type == onnxio.Double:
		return combine(c, a, b, a.Type, k.f64)
	case isHalf(a.Type):
		return widened(c, func(c *Eval) error { return combine(c, c.In[0], c.In[1], onnxio.Float, k.f32) })
	}
	return c.Node.Errorf("element type %v is not implemented", a.Type)
}

func gradAdd(g *Grad) (err error) {
	for i := range 2 {
		if g.Wants[i] {
			if g.DIn[i], err = sumTo(g, g.DOut[0], g.In(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sumTo undoes the broadcasting of an input in the gradient d.
func sumTo(g *Grad, d, input string) (string, error) {
	dims := g.Dims(input)
	if equal(dims, g.Dims(d)) {
		return d, nil
	}
	return g.One(GradDomain, "SumTo", []string{d}, onnxio.IntsAttr("shape", dims...))
}

func gradSub(g *Grad) (err error) {
	if g.Wants[0] {
		if g.DIn[0], err = sumTo(g, g.DOut[0], g.In(0)); err != nil {
			return err
		}
	}
	if !g.Wants[1] {
		return nil
	}
	d, err := g.One("", "Neg", []string{g.DOut[0]})
	if err != nil {
		return err
	}
	g.DIn[1], err = sumTo(g, d, g.In(1))
	return err
}

// times emits a product and sums it to the shape of an input.
func times(g *Grad, a, b, input string) (string, error) {
	d, err := g.One("", "Mul", []string{a, b})
	if err != nil {
		return "", err
	}
	return sumTo(g, d, input)
}

func gradMul(g *Grad) (err error) {
	for i := range 2 {
		if g.Wants[i] {
			if g.DIn[i], err = times(g, g.DOut[0], g.In(1-i), g.In(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// gradDiv: d(a/b) = dy/b, -dy*y/b.
func gradDiv(g *Grad) error {
	q, err := g.One("", "Div", []string{g.DOut[0], g.In(1)})
	if err != nil {
		return err
	}
	if g.Wants[0] {
		if g.DIn[0], err = sumTo(g, q, g.In(0)); err != nil {
			return err
		}
	}
	if g.Wants[1] {
		n, err := g.One("", "Neg", []string{q})
		if err != nil {
			return err
		}
		g.DIn[1], err = times(g, n, g.Out(0), g.In(1))
		return err
	}
	return nil
}

func powDef() *Def {
	d := binaryDef("Pow", []int64{1, 7, 12, 13, 15}, []AttrDef{intA("axis").until(6),
		intA("broadcast").until(6)}, kernels2{}, gradPow)
	d.Inputs = []Param{{Name: "X", Type: "T"}, {Name: "Y", Type: "T1"}}
	d.Outputs[0].Name = "Z"
	d.Types = map[string]TypeSet{"T": Numbers, "T1": Numbers}
	d.Tol = activationTol
	d.Eval = func(c *Eval) error {
		if err := evalReady(c); err != nil {
			return err
		}
		return evalPow(c)
	}
	return d
}

func evalPow(c *Eval) error {
	if isHalf(c.In[0].Type) || isHalf(c.In[1].Type) {
		return widened(c, evalPow)
	}
	exponent, err := stretchedB(c)
	if err != nil {
		return err
	}
	if exact, ok := exactPow.of(c.In[0].Type); ok && Integers.Has(exponent.Type) {
		y := exponent
		if y.Type != onnxio.Int64 && y.Type != onnxio.Uint64 {
			y = onnxio.NewTensor(onnxio.Int64, y.Dims...)
			if err := cast(c.Node, y, exponent, false); err != nil {
				return err
			}
		}
		return exact(c, c.In[0], y)
	}
	x, err := asFloat64(c, c.In[0])
	if err != nil {
		return err
	}
	y, err := asFloat64(c, exponent)
	if err != nil {
		return err
	}
	inner := &Eval{Node: c.Node}
	if err := combine(inner, x, y, onnxio.Double, math.Pow); err != nil {
		return err
	}
	out, err := c.Alloc(0, c.In[0].Type, inner.Out[0].Dims...)
	if err != nil {
		return err
	}
	return cast(c.Node, out, inner.Out[0], true)
}

// gradPow is for a constant exponent of one element: y*x^(y-1)*dy.
func gradPow(g *Grad) error {
	if g.Wants[1] {
		return g.Node.Errorf("no gradient with respect to the exponent")
	}
	e := g.Value(g.In(1)).Const
	if e == nil || e.Size() != 1 || e.Type != g.Value(g.In(0)).Type || e.Type != onnxio.Float &&
		e.Type != onnxio.Double {
		return g.Node.Errorf("the gradient needs a constant exponent of one element and of the base's type")
	}
	less := e.Clone()
	if e.Type == onnxio.Float {
		less.Float32s()[0]--
	} else {
		onnxio.Data[float64](less)[0]--
	}
	p, err := g.One("", "Pow", []string{g.In(0), g.Const(less)})
	if err != nil {
		return err
	}
	if p, err = g.One("", "Mul", []string{p, g.In(1)}); err != nil {
		return err
	}
	g.DIn[0], err = times(g, p, g.DOut[0], g.In(0))
	return err
}

func variadicDef(name string, versions []int64, types TypeSet, eval func(*Eval) error,
	grad func(*Grad) error) *Def {
	return &Def{
		Name: name, Versions: versions, Attrs: []AttrDef{intsA("consumed_inputs").until(5)},
		Inputs: []Param{{Name: "data_0", Type: "T", Variadic: true}}, Outputs: []Param{{Name: "result",
			Type: "T"}},
		Types: map[string]TypeSet{"T": types}, Tol: arithmeticTol, Infer: inferVariadic,
		Eval: eval, Grad: grad,
	}
}

func inferVariadic(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	if !c.Has(0) {
		return c.Node.Errorf("takes at least one input")
	}
	c.SetType(0, c.In[0].Type)
	var out []onnxio.Dim
	for i := range c.In {
		if !shaped(c, i) {
			return nil
		}
		if i == 0 {
			out = c.In[0].Shape
			continue
		}
		next, ok := broadcastDims(out, c.In[i].Shape)
		if !ok {
			return c.Node.Errorf("cannot broadcast %s with %s", shapeText(out), shapeText(c.In[i].Shape))
		}
		out = next
	}
	c.Set(0, c.In[0].Type, out)
	return nil
}

var variadicKernels = map[string]kernels2{
	"Add": {add[float32], add[float64], nil},
	"Max": {greaterOf[float32], greaterOf[float64], intKernels(maxs)},
	"Min": {lesserOf[float32], lesserOf[float64], intKernels(mins)},
}

func evalVariadic(c *Eval, op string) error {
	if err := evalReady(c); err != nil {
		return err
	}
	if len(c.In) == 0 {
		return c.Node.Errorf("takes at least one input")
	}
	for _, t := range c.In {
		if t == nil || t.Type != c.In[0].Type {
			return c.Node.Errorf("an input is missing or of another type")
		}
	}
	acc := c.In[0]
	for _, next := range c.In[1:] {
		inner := &Eval{Node: c.Node, In: []*onnxio.Tensor{acc, next}}
		if err := evalBinary(inner, variadicKernels[op]); err != nil {
			return err
		}
		acc = inner.Out[0]
	}
	out, err := c.Alloc(0, acc.Type, acc.Dims...)
	if err != nil {
		return err
	}
	copy(out.Raw, acc.Raw)
	return nil
}

func evalMean(c *Eval) error {
	if len(c.In) > 0 && c.In[0] != nil && isHalf(c.In[0].Type) {
		return widened(c, evalMean)
	}
	if err := evalVariadic(c, "Add"); err != nil {
		return err
	}
	if n := len(c.In); c.In[0].Type == onnxio.Double {
		for i := range onnxio.Data[float64](c.Out[0]) {
			onnxio.Data[float64](c.Out[0])[i] /= float64(n)
		}
	} else {
		for i := range c.Out[0].Float32s() {
			c.Out[0].Float32s()[i] /= float32(n)
		}
	}
	return nil
}

func gradSum(g *Grad) (err error) {
	for i := range g.DIn {
		if g.Wants[i] {
			if g.DIn[i], err = sumTo(g, g.DOut[0], g.In(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// gradChoice is the gradient of Max and Min: dy, shared equally among the inputs that are the result, as
// PyTorch's maximum shares it.
func gradChoice(g *Grad) error {
	is := make([]string, len(g.DIn))
	for i := range is {
		var err error
		if is[i], err = equals(g, g.In(i), g.Out(0)); err != nil {
			return err
		}
	}
	n, err := g.One("", "Sum", is)
	if err != nil {
		return err
	}
	d, err := g.One("", "Div", []string{g.DOut[0], n})
	if err != nil {
		return err
	}
	for i := range is {
		if g.Wants[i] {
			if g.DIn[i], err = times(g, d, is[i], g.In(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// equals emits 1 where a and b are equal, else 0, in their type.
func equals(g *Grad, a, b string) (string, error) {
	e, err := g.One("", "Equal", []string{a, b})
	if err != nil {
		return "", err
	}
	return g.One("", "Cast", []string{e}, onnxio.IntAttr("to", int64(g.Value(b).Type)))
}

func gradMean(g *Grad) (err error) {
	d, err := scaled(g, g.DOut[0], 1/float64(len(g.DIn)))
	if err != nil {
		return err
	}
	for i := range g.DIn {
		if g.Wants[i] {
			if g.DIn[i], err = sumTo(g, d, g.In(i)); err != nil {
				return err
			}
		}
	}
	return nil
}
