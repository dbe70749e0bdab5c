package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Elementwise functions of one operand, beside the activations: computed in float64, rounded once. Neg, Abs
// and Sign take integers too.

// unary is one row: the function, and its gradient as nodes.
type unary struct {
	name     string
	versions []int64
	f        func(x float64) float64
	types    TypeSet
	grad     func(g *Grad, dy string) (string, error)
	fast     func(n *Node) (kernels.Map, bool) // see Def.Map
}

func init() {
	for _, u := range unaries {
		register(u.def())
	}
	register(clipDef(), clipGradDef(), clipBoundsGradDef())
}

func two(g *Grad, op, a, b string) (string, error) { return g.One("", op, []string{a, b}) }

// chained is dy times an operator of the input.
func chained(g *Grad, dy, op string) (string, error) {
	d, err := g.One("", op, []string{g.In(0)})
	if err != nil {
		return "", err
	}
	return two(g, "Mul", dy, d)
}

// gradErf is dy * 2/sqrt(pi) * exp(-x*x).
func gradErf(g *Grad, dy string) (string, error) {
	d, err := two(g, "Mul", g.In(0), g.In(0))
	if err != nil {
		return "", err
	}
	for _, op := range []string{"Neg", "Exp"} {
		if d, err = g.One("", op, []string{d}); err != nil {
			return "", err
		}
	}
	if d, err = two(g, "Mul", dy, d); err != nil {
		return "", err
	}
	return scaled(g, d, 2/math.Sqrt(math.Pi))
}

// zero is the gradient of a step function: none.
func zero(*Grad, string) (string, error) { return "", nil }

// StraightAttr makes the gradient of a Round that of the identity, the straight-through estimator. The
// compiler sets it; no file has it.
const StraightAttr = "cnnkit_straight"

var unaries = []unary{
	{"Neg", []int64{1, 6, 13}, func(x float64) float64 { return -x }, Floats | Signed,
		func(g *Grad, dy string) (string, error) {
			return g.One("", "Neg", []string{dy})
		}, kernel(kernels.FuncNeg)},
	{"Abs", []int64{1, 6, 13}, math.Abs, Numbers, func(g *Grad, dy string) (string, error) {
		return chained(g, dy, "Sign")
	}, kernel(kernels.FuncAbs)},
	{"Sign", []int64{9, 13}, func(x float64) float64 {
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
		return x
	}, Numbers, zero, kernel(kernels.FuncSign)},
	{"Exp", []int64{1, 6, 13}, math.Exp, Floats, func(g *Grad, dy string) (string, error) {
		return two(g, "Mul", dy, g.Out(0))
	}, kernel(kernels.FuncExp)},
	{"Log", []int64{1, 6, 13}, math.Log, Floats, func(g *Grad, dy string) (string, error) {
		return two(g, "Div", dy, g.In(0))
	}, kernel(kernels.FuncLog)},
	{"Sqrt", []int64{1, 6, 13}, math.Sqrt, Floats, func(g *Grad, dy string) (string, error) {
		q, err := two(g, "Div", dy, g.Out(0))
		if err != nil {
			return "", err
		}
		return scaled(g, q, 0.5)
	}, kernel(kernels.FuncSqrt)},
	{"Reciprocal", []int64{1, 6, 13}, func(x float64) float64 { return 1 / x }, Floats,
		func(g *Grad, dy string) (string, error) {
			q, err := two(g, "Mul", dy, g.Out(0))
			if err != nil {
				return "", err
			}
			if q, err = two(g, "Mul", q, g.Out(0)); err != nil {
				return "", err
			}
			return g.One("", "Neg", []string{q})
		}, kernel(kernels.FuncReciprocal)},
	{"Sin", []int64{7, 22}, math.Sin, Floats, func(g *Grad, dy string) (string, error) {
		return chained(g, dy, "Cos")
	}, nil},
	{"Cos", []int64{7, 22}, math.Cos, Floats, func(g *Grad, dy string) (string, error) {
		s, err := chained(g, dy, "Sin")
		if err != nil {
			return "", err
		}
		return g.One("", "Neg", []string{s})
	}, nil},
	{"Erf", []int64{9, 13}, math.Erf, Numbers, gradErf, kernel(kernels.FuncErf)},
	{"Floor", []int64{1, 6, 13}, math.Floor, Floats, zero, kernel(kernels.FuncFloor)},
	{"Ceil", []int64{1, 6, 13}, math.Ceil, Floats, zero, kernel(kernels.FuncCeil)},
	{"Round", []int64{11, 22}, math.RoundToEven, Floats, func(g *Grad, dy string) (string, error) {
		if g.Node.Int(StraightAttr, 0) != 0 {
			return dy, nil
		}
		return zero(g, dy)
	}, kernel(kernels.FuncRound)},
	{"Tan", []int64{7, 22}, math.Tan, Floats, func(g *Grad, dy string) (string, error) {
		q, err := two(g, "Mul", g.Out(0), g.Out(0))
		if err != nil {
			return "", err
		}
		if q, err = two(g, "Mul", q, dy); err != nil {
			return "", err
		}
		return two(g, "Add", q, dy)
	}, nil},
	{"Asin", []int64{7, 22}, math.Asin, Floats, nil, nil},
	{"Acos", []int64{7, 22}, math.Acos, Floats, nil, nil},
	{"Atan", []int64{7, 22}, math.Atan, Floats, func(g *Grad, dy string) (string, error) {
		q, err := two(g, "Mul", g.In(0), g.In(0))
		if err != nil {
			return "", err
		}
		if q, err = two(g, "Add", q, g.Const(floatScalar(g.Value(dy).Type, 1))); err != nil {
			return "", err
		}
		return two(g, "Div", dy, q)
	}, nil},
	{"Sinh", []int64{9, 22}, math.Sinh, Floats, func(g *Grad, dy string) (string, error) {
		return chained(g, dy, "Cosh")
	}, nil},
	{"Cosh", []int64{9, 22}, math.Cosh, Floats, func(g *Grad, dy string) (string, error) {
		return chained(g, dy, "Sinh")
	}, nil},
	{"Asinh", []int64{9, 22}, math.Asinh, Floats, nil, nil},
	{"Acosh", []int64{9, 22}, math.Acosh, Floats, nil, nil},
	{"Atanh", []int64{9, 22}, math.Atanh, Floats, nil, nil},
}

func (u unary) def() *Def {
	d := &Def{
		Name: u.name, Versions: u.versions, Inputs: []Param{{Name: "X", Type: "T"}},
		Outputs: []Param{{Name: "Y", Type: "T"}},
		Types:   map[string]TypeSet{"T": u.types}, Tol: activationTol, Infer: inferSame, Map: u.fast,
		Eval: func(c *Eval) error {
			if err := evalReady(c); err != nil {
				return err
			}
			if exact, ok := exactUnary[u.name].of(c.In[0].Type); ok && exact != nil {
				return exact(c)
			}
			return evalUnary(c, u.f)
		},
	}
	// the trigonometric family calls them so
	if u.versions[0] == 7 || len(u.name) == 5 && u.versions[0] == 9 {
		d.Inputs[0].Name, d.Outputs[0].Name = "input", "output"
	}
	if u.versions[0] == 1 {
		d.Attrs = []AttrDef{intsA("consumed_inputs").until(5)}
	}
	if u.name == "Floor" || u.name == "Ceil" || u.name == "Round" { // dimensions are whole
		d.Infer = func(c *Infer) error {
			if c.Out[0] != nil && c.Has(0) {
				c.Out[0].Elems = c.In[0].Elems
			}
			return inferSame(c)
		}
	}
	if u.grad != nil {
		d.Grad = func(g *Grad) (err error) {
			if g.Wants[0] {
				g.DIn[0], err = u.grad(g, g.DOut[0])
			}
			return err
		}
	}
	return d
}

func evalUnary(c *Eval, f func(float64) float64) error {
	x := c.In[0]
	switch x.Type {
	case onnxio.Float:
		return mapTo[float32](c, f)
	case onnxio.Double:
		return mapTo[float64](c, f)
	case onnxio.Float16, onnxio.BFloat16:
		return widened(c, func(c *Eval) error { return mapTo[float32](c, f) })
	case onnxio.Int8:
		return mapTo[int8](c, f)
	case onnxio.Int16:
		return mapTo[int16](c, f)
	case onnxio.Int32:
		return mapTo[int32](c, f)
	case onnxio.Int64:
		return mapTo[int64](c, f)
	case onnxio.Uint8:
		return mapTo[uint8](c, f)
	case onnxio.Uint16:
		return mapTo[uint16](c, f)
	case onnxio.Uint32:
		return mapTo[uint32](c, f)
	case onnxio.Uint64:
		return mapTo[uint64](c, f)
	}
	return c.Node.Errorf("element type %v is not implemented", x.Type)
}

func mapTo[T numeric](c *Eval, f func(float64) float64) error {
	y, err := c.Alloc(0, c.In[0].Type, c.In[0].Dims...)
	if err != nil {
		return err
	}
	to := onnxio.Data[T](y)
	for i, v := range onnxio.Data[T](c.In[0]) {
		to[i] = T(f(float64(v)))
	}
	return nil
}

// Clip: bounds are attributes before version 11, optional scalar inputs since.
func clipDef() *Def {
	return &Def{
		Name: "Clip", Versions: []int64{1, 6, 11, 12, 13},
		Attrs: []AttrDef{floatA("min").until(6), floatA("max").until(6), intsA("consumed_inputs").until(5)},
		Inputs: []Param{{Name: "input", Type: "T"}, {Name: "min", Type: "T", Optional: true, Since: 11},
			{Name: "max", Type: "T", Optional: true, Since: 11}},
		Outputs: []Param{{Name: "output", Type: "T"}}, Types: map[string]TypeSet{"T": Numbers},
		Infer: inferSame,
		Eval: func(c *Eval) error {
			if err := evalReady(c); err != nil {
				return err
			}
			return evalClip(c)
		},
		Grad: gradClip,
	}
}

// gradClip passes dy on where nothing was clipped, and sums it for the bound that clipped elsewhere.
func gradClip(g *Grad) (err error) {
	if g.Wants[0] {
		if g.DIn[0], err = g.One(GradDomain, "ClipGrad", []string{g.DOut[0], g.In(0), g.Out(0)}); err != nil {
			return err
		}
	}
	wants := func(i int) bool { return g.In(i) != "" && g.Wants[i] }
	if !wants(1) && !wants(2) {
		return nil
	}
	in := []string{g.DOut[0], g.In(0), g.Out(0)}
	if g.In(1) != "" {
		in = append(in, g.In(1))
	}
	out, err := g.Emit(GradDomain, "ClipBoundsGrad", 2, in)
	for i := 1; i <= 2 && err == nil; i++ {
		if wants(i) {
			g.DIn[i], err = sumTo(g, out[i-1], g.In(i))
		}
	}
	return err
}

func evalClip(c *Eval) error {
	switch c.In[0].Type {
	case onnxio.Float:
		return clip[float32](c)
	case onnxio.Double:
		return clip[float64](c)
	case onnxio.Float16, onnxio.BFloat16:
		return widened(c, clip[float32])
	case onnxio.Int8:
		return clip[int8](c)
	case onnxio.Int16:
		return clip[int16](c)
	case onnxio.Int32:
		return clip[int32](c)
	case onnxio.Int64:
		return clip[int64](c)
	case onnxio.Uint8:
		return clip[uint8](c)
	case onnxio.Uint16:
		return clip[uint16](c)
	case onnxio.Uint32:
		return clip[uint32](c)
	case onnxio.Uint64:
		return clip[uint64](c)
	}
	return c.Node.Errorf("element type %v is not implemented", c.In[0].Type)
}

// clip is Min(Max(x, min), max): NaN wins, and max wins over min.
func clip[T numeric](c *Eval) error {
	var bound [2]T
	var has [2]bool
	for i, name := range []string{"min", "max"} {
		if a := c.Node.Attr(name); a != nil {
			bound[i], has[i] = T(a.F), true
		} else if c.Has(i + 1) {
			if c.In[i+1].Size() != 1 {
				return c.Node.Errorf("%s must be one number, not %s", name, dimsText(c.In[i+1].Dims))
			}
			bound[i], has[i] = onnxio.Data[T](c.In[i+1])[0], true
		}
	}
	y, err := c.Alloc(0, c.In[0].Type, c.In[0].Dims...)
	if err != nil {
		return err
	}
	to := onnxio.Data[T](y)
	for i, v := range onnxio.Data[T](c.In[0]) {
		if has[0] {
			v = greaterOf(v, bound[0])
		}
		if has[1] {
			v = lesserOf(v, bound[1])
		}
		to[i] = v
	}
	return nil
}

// ClipGrad(dy, x, y) is dy where nothing was clipped.
func clipGradDef() *Def {
	d := gradDef("ClipGrad", []string{"dy", "x", "y"}, []string{"dx"})
	d.Infer = inferSameShapes
	d.Eval = byFloat(clipGrad[float32], clipGrad[float64])
	return d
}

func clipGrad[T floating](c *Eval) error {
	out, err := c.Alloc(0, c.In[0].Type, c.In[0].Dims...)
	if err != nil {
		return err
	}
	dx, x, y := onnxio.Data[T](out), onnxio.Data[T](c.In[1]), onnxio.Data[T](c.In[2])
	for i, v := range onnxio.Data[T](c.In[0]) {
		if x[i] != y[i] {
			v = 0
		}
		dx[i] = v
	}
	return nil
}

// ClipBoundsGrad(dy, x, y, min) is dy where min clipped, and dy where max did; of a min
// above max, max did everywhere.
func clipBoundsGradDef() *Def {
	d := gradDef("ClipBoundsGrad", []string{"dy", "x", "y", "min"}, []string{"dmin", "dmax"})
	d.Inputs[3].Optional = true
	d.Infer = func(c *Infer) error {
		if err := inferReady(c); err != nil {
			return err
		}
		setLike(c, 0, c.In[0])
		setLike(c, 1, c.In[0])
		return nil
	}
	d.Eval = byFloat(clipBoundsGrad[float32], clipBoundsGrad[float64])
	return d
}

func clipBoundsGrad[T floating](c *Eval) error {
	for _, like := range c.In[1:3] {
		if !equal(like.Dims, c.In[0].Dims) {
			return c.Node.Errorf("shapes %s and %s differ", dimsText(c.In[0].Dims), dimsText(like.Dims))
		}
	}
	if c.Has(3) && c.In[3].Size() != 1 {
		return c.Node.Errorf("min must be one number, not %s", dimsText(c.In[3].Dims))
	}
	low, err := c.Alloc(0, c.In[0].Type, c.In[0].Dims...)
	if err != nil {
		return err
	}
	high, err := c.Alloc(1, c.In[0].Type, c.In[0].Dims...)
	if err != nil {
		return err
	}
	dlow, dhigh := onnxio.Data[T](low), onnxio.Data[T](high)
	x, y, bound := onnxio.Data[T](c.In[1]), onnxio.Data[T](c.In[2]), optional[T](c, 3)
	for i, v := range onnxio.Data[T](c.In[0]) {
		dlow[i], dhigh[i] = 0, 0
		switch {
		case x[i] == y[i]:
		case bound != nil && y[i] == bound[0] && x[i] < y[i]:
			dlow[i] = v
		default:
			dhigh[i] = v
		}
	}
	return nil
}
