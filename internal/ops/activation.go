package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Activations: functions of one element, computed in float64 and rounded once. Their gradients are one
// operator each in the gradient domain, <Op>Grad(dy, v) = dy * f'(v), where v is the input x, or the output y
// where f' is simpler in it (Relu, Sigmoid, Tanh).

// A float32 implementation with a polynomial exp or tanh is good to a few units in the last place.
var activationTol = Tolerance{Abs: 1e-6, Rel: 1e-5}

// activation is one row of the table: f and its derivative, both given the node for its attributes.
type activation struct {
	name     string
	versions []int64
	attrs    []AttrDef
	f        func(n *Node) func(x float64) float64
	// derivative is f' as a function of x, or of y when ofOutput.
	derivative func(n *Node) func(v float64) float64
	ofOutput   bool
	// fast is the kernel of both, see Def.Map; nil where there is none.
	fast func(n *Node) (kernels.Map, bool)
}

// kernel is one without parameters.
func kernel(f kernels.Function) func(*Node) (kernels.Map, bool) {
	return func(*Node) (kernels.Map, bool) { return kernels.NewMap(f), true }
}

// plain is a function without attributes.
func plain(f func(float64) float64) func(*Node) func(float64) float64 {
	return func(*Node) func(float64) float64 { return f }
}

func init() {
	for _, a := range activations {
		register(a.def())
		register(a.gradDef())
	}
	register(preluDef(), preluGradDef())
}

func (a activation) def() *Def {
	d := &Def{
		Name: a.name, Versions: a.versions, Attrs: append([]AttrDef{}, a.attrs...),
		Inputs: []Param{{Name: "X", Type: "T"}}, Outputs: []Param{{Name: "Y", Type: "T"}},
		Types: floatsT, Tol: activationTol, Infer: inferSame, Map: a.fast,
		Eval: byFloat(evalMap[float32](a.f), evalMap[float64](a.f)),
	}
	if a.name == "Softsign" || a.name == "Tanh" || a.name == "Shrink" {
		d.Inputs[0].Name, d.Outputs[0].Name = "input", "output"
	}
	if a.versions[0] == 1 && len(a.versions) > 1 && a.versions[1] == 6 {
		d.Attrs = append(d.Attrs, intsA("consumed_inputs").until(5))
	}
	if a.name == "Shrink" {
		d.Types = map[string]TypeSet{"T": Numbers}
		d.Eval = func(c *Eval) error {
			if err := evalReady(c); err != nil {
				return err
			}
			return evalUnary(c, a.f(c.Node))
		}
	}
	if a.name == "Relu" {
		d.Types = map[string]TypeSet{"T": Floats | Signed} // integers since version 14
		d.Eval, d.Tol = evalRelu, Tolerance{}
	}
	d.Grad = func(g *Grad) (err error) {
		if !g.Wants[0] {
			return nil
		}
		v := g.In(0)
		if a.ofOutput {
			v = g.Out(0)
		}
		g.DIn[0], err = g.One(GradDomain, a.name+"Grad", []string{g.DOut[0], v}, g.Node.Attrs...)
		return err
	}
	return d
}

func (a activation) gradDef() *Def {
	v := "x"
	if a.ofOutput {
		v = "y"
	}
	d := gradDef(a.name+"Grad", []string{"dy", v}, []string{"dx"}, a.attrs...)
	d.Infer, d.Tol, d.Map = inferSameShapes, activationTol, a.fast
	d.Eval = byFloat(evalMapGrad[float32](a.derivative), evalMapGrad[float64](a.derivative))
	return d
}

// inferSameShapes is the inference of operators whose inputs and outputs all have one shape.
func inferSameShapes(c *Infer) error {
	if err := inferSame(c); err != nil {
		return err
	}
	for i := 1; i < len(c.In); i++ {
		if shaped(c, 0, i) && !agreeAll(c.In[0].Shape, c.In[i].Shape) {
			return c.Node.Errorf("shapes %s and %s differ", shapeText(c.In[0].Shape),
				shapeText(c.In[i].Shape))
		}
	}
	return nil
}

func evalMap[T floating](f func(*Node) func(float64) float64) func(*Eval) error {
	return func(c *Eval) error {
		y, err := c.Alloc(0, c.In[0].Type, c.In[0].Dims...)
		if err != nil {
			return err
		}
		at := f(c.Node)
		dst := onnxio.Data[T](y)
		for i, v := range onnxio.Data[T](c.In[0]) {
			dst[i] = T(at(float64(v)))
		}
		return nil
	}
}

func evalMapGrad[T floating](f func(*Node) func(float64) float64) func(*Eval) error {
	return func(c *Eval) error {
		dy, v := c.In[0], c.In[1]
		if !equal(dy.Dims, v.Dims) {
			return c.Node.Errorf("shapes %s and %s differ", dimsText(dy.Dims), dimsText(v.Dims))
		}
		dx, err := c.Alloc(0, dy.Type, dy.Dims...)
		if err != nil {
			return err
		}
		at := f(c.Node)
		dst, src := onnxio.Data[T](dx), onnxio.Data[T](v)
		for i, d := range onnxio.Data[T](dy) {
			dst[i] = T(float64(d) * at(float64(src[i])))
		}
		return nil
	}
}

func evalRelu(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	switch c.In[0].Type {
	case onnxio.Int8:
		return relu[int8](c)
	case onnxio.Int16:
		return relu[int16](c)
	case onnxio.Int32:
		return relu[int32](c)
	case onnxio.Int64:
		return relu[int64](c)
	}
	return byFloat(relu[float32], relu[float64])(c)
}

// relu is y = 0 where x < 0, else x: NaN stays NaN, and -0 stays -0 as in package kernels.
func relu[T int8 | int16 | int32 | int64 | float32 | float64](c *Eval) error {
	y, err := c.Alloc(0, c.In[0].Type, c.In[0].Dims...)
	if err != nil {
		return err
	}
	dst := onnxio.Data[T](y)
	for i, v := range onnxio.Data[T](c.In[0]) {
		if v < 0 {
			v = 0
		}
		dst[i] = v
	}
	return nil
}

func sigmoid(x float64) float64 {
	if x < 0 {
		e := math.Exp(x)
		return e / (1 + e)
	}
	return 1 / (1 + math.Exp(-x))
}

// softplus is log(1+exp(x)) without overflow.
func softplus(x float64) float64 { return math.Max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

func step(x float64) float64 {
	if x > 0 {
		return 1
	}
	return 0
}

func preluDef() *Def {
	return &Def{
		Name: "PRelu", Versions: []int64{1, 6, 7, 9, 16}, Weights: []int{1},
		Inputs:  []Param{{Name: "X", Type: "T"}, {Name: "slope", Type: "T"}},
		Outputs: []Param{{Name: "Y", Type: "T"}},
		Attrs:   []AttrDef{intsA("consumed_inputs").until(5)},
		Types: map[string]TypeSet{"T": Floats | Set(onnxio.Int32, onnxio.Int64, onnxio.Uint32,
			onnxio.Uint64)},
		Infer: inferPRelu, Eval: evalPRelu, Grad: gradPRelu, Tol: activationTol,
	}
}

func preluGradDef() *Def {
	d := gradDef("PReluGrad", []string{"dy", "x", "slope"}, []string{"dx", "dslope"})
	d.Infer = func(c *Infer) error {
		if err := inferReady(c); err != nil {
			return err
		}
		setLike(c, 0, c.In[1])
		setLike(c, 1, c.In[1])
		return nil
	}
	d.Eval, d.Tol = byFloat(evalPReluGrad[float32], evalPReluGrad[float64]), activationTol
	return d
}

// slopeDims is PRelu's slope as a shape to broadcast from the right: before version 7 a slope of one
// dimension is per channel, dimension 1.
func slopeDims(n *Node, x, slope []int64, buf []int64) []int64 {
	if n.Since >= 7 || len(slope) != 1 || slope[0] == 1 || len(x) < 2 {
		return append(buf, slope...)
	}
	buf = append(buf, slope[0])
	for range x[2:] {
		buf = append(buf, 1)
	}
	return buf
}

func inferPRelu(c *Infer) error {
	if err := inferSame(c); err != nil || !shaped(c, 0, 1) {
		return err
	}
	x, s := c.In[0].Shape, c.In[1].Shape
	if c.Node.Since < 7 {
		if len(s) != 1 || (len(x) >= 2 && s[0].Value != 1 && !agree(s[0], x[1])) {
			return c.Node.Errorf("input %s with slope %s", shapeText(x), shapeText(s))
		}
		return nil
	}
	for i := 1; i <= len(s); i++ {
		if d := s[len(s)-i]; i > len(x) || (d.Value != 1 && !agree(d, x[len(x)-i])) {
			return c.Node.Errorf("cannot broadcast slope %s to %s", shapeText(s), shapeText(x))
		}
	}
	return nil
}

func evalPRelu(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	switch c.In[0].Type {
	case onnxio.Int32:
		return prelu[int32](c)
	case onnxio.Int64:
		return prelu[int64](c)
	case onnxio.Uint32:
		return prelu[uint32](c)
	case onnxio.Uint64:
		return prelu[uint64](c)
	}
	return byFloat(prelu[float32], prelu[float64])(c)
}

// slopeOf checks that slope broadcasts to x and gives its shape.
func slopeOf(n *Node, x, slope *onnxio.Tensor, buf []int64) ([]int64, error) {
	own := slopeDims(n, x.Dims, slope.Dims, buf)
	for i := 1; i <= len(own); i++ {
		if d := own[len(own)-i]; i > len(x.Dims) || (d != 1 && d != x.Dims[len(x.Dims)-i]) {
			return nil, n.Errorf("cannot broadcast slope %s to %s", dimsText(slope.Dims), dimsText(x.Dims))
		}
	}
	return own, nil
}

func prelu[T int32 | int64 | uint32 | uint64 | float32 | float64](c *Eval) error {
	var buf [maxMatMulRank]int64
	x := c.In[0]
	own, err := slopeOf(c.Node, x, c.In[1], buf[:0])
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	dst, slope := onnxio.Data[T](y), onnxio.Data[T](c.In[1])
	for i, v := range onnxio.Data[T](x) {
		if v < 0 {
			v *= slope[batchAt(i, x.Dims, own)]
		}
		dst[i] = v
	}
	return nil
}

// gradPRelu: dx = dy where x > 0, else slope*dy; dslope = x*dy where x <= 0, summed over what was broadcast.
func gradPRelu(g *Grad) error {
	slope := g.In(1)
	x, own := g.Dims(g.In(0)), g.Dims(slope)
	var err error
	if full := slopeDims(g.Node, x, own, nil); !equal(full, own) {
		if slope, err = reshaped(g, slope, full); err != nil {
			return err
		}
	}
	out, err := g.Emit(GradDomain, "PReluGrad", 2, []string{g.DOut[0], g.In(0), slope})
	if err != nil {
		return err
	}
	if g.Wants[0] {
		g.DIn[0] = out[0]
	}
	if !g.Wants[1] {
		return nil
	}
	if g.DIn[1], err = sumTo(g, out[1], slope); err == nil && slope != g.In(1) {
		g.DIn[1], err = reshaped(g, g.DIn[1], own)
	}
	return err
}

func evalPReluGrad[T floating](c *Eval) error {
	var buf [maxMatMulRank]int64
	dy, x := c.In[0], c.In[1]
	if !equal(dy.Dims, x.Dims) {
		return c.Node.Errorf("shapes %s and %s differ", dimsText(dy.Dims), dimsText(x.Dims))
	}
	n := *c.Node
	n.Since = 16
	own, err := slopeOf(&n, x, c.In[2], buf[:0])
	if err != nil {
		return err
	}
	dx, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	dslope, err := c.Alloc(1, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	d, ds, slope, grad := onnxio.Data[T](dx), onnxio.Data[T](dslope), onnxio.Data[T](c.In[2]),
		onnxio.Data[T](dy)
	for i, v := range onnxio.Data[T](x) {
		if v > 0 {
			d[i], ds[i] = grad[i], 0
		} else {
			d[i], ds[i] = grad[i]*slope[batchAt(i, x.Dims, own)], grad[i]*v
		}
	}
	return nil
}
