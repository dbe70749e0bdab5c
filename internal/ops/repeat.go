package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Mod, Range, Tile, ArgMax and ArgMin.

func init() {
	register(modDef(), argDef("ArgMax", func(a, b float64) bool { return a > b }), argDef("ArgMin", func(a, b float64) bool { return a < b }),
		&Def{Name: "Tile", Versions: []int64{1, 6, 13},
			Inputs: []Param{{Name: "input", Type: "T"}, {Name: "tiles", Type: "T", Until: 1}, {Name: "axis", Type: "T", Until: 1},
				{Name: "repeats", Type: "T1", Since: 6}},
			Outputs: []Param{{Name: "output", Type: "T"}}, Types: map[string]TypeSet{"T": All, "T1": Set(onnxio.Int64)},
			Check: checkTile, Infer: inferTile, Eval: moving(evalTile), Grad: gradTile},
		&Def{Name: "Range", Versions: []int64{11, 27}, Attrs: []AttrDef{intA("stash_type").since(27)}, Inputs: []Param{{Name: "start", Type: "T"}, {Name: "limit", Type: "T"}, {Name: "delta", Type: "T"}},
			Outputs: []Param{{Name: "output", Type: "T"}}, Tol: arithmeticTol,
			Types: map[string]TypeSet{"T": Floats | Set(onnxio.Int16, onnxio.Int32, onnxio.Int64)},
			Infer: func(c *Infer) error {
				err := inferReady(c)
				c.Set(0, c.In[0].Type, []onnxio.Dim{unknownDim})
				return err
			},
			Eval: evalRange})
}

func modInt[T integer](a, b T) T {
	if b == 0 {
		return 0
	}
	r := a % b
	if r != 0 && (r < 0) != (b < 0) {
		r += b
	}
	return r
}

func remInt[T integer](a, b T) T {
	if b == 0 {
		return 0
	}
	return a % b
}

// Mod has the divisor's sign for integers, the dividend's with fmod.
func modDef() *Def {
	sign := kernels2{f64: math.Mod, f32: func(a, b float32) float32 { return float32(math.Mod(float64(a), float64(b))) }}
	rem := sign
	sign.ints = intKernels(intOps{modInt[int8], modInt[int16], modInt[int32], modInt[int64], modInt[uint8], modInt[uint16], modInt[uint32], modInt[uint64]})
	rem.ints = intKernels(intOps{remInt[int8], remInt[int16], remInt[int32], remInt[int64], remInt[uint8], remInt[uint16], remInt[uint32], remInt[uint64]})
	d := binaryDef("Mod", []int64{10, 13}, []AttrDef{intA("fmod")}, sign, nil)
	d.Eval = func(c *Eval) error {
		if c.Node.Int("fmod", 0) != 0 {
			return evalBinary(c, rem)
		}
		return evalBinary(c, sign)
	}
	return d
}

func evalRange(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	for _, t := range c.In[:3] {
		if t.Size() != 1 {
			return c.Node.Errorf("start, limit and delta must be scalars")
		}
	}
	switch t := c.In[0].Type; t {
	case onnxio.Float16, onnxio.BFloat16:
		return widened(c, evalRange)
	case onnxio.Float:
		return rangeOf[float32](c)
	case onnxio.Double:
		return rangeOf[float64](c)
	case onnxio.Int16:
		return rangeOf[int16](c)
	case onnxio.Int32:
		return rangeOf[int32](c)
	case onnxio.Int64:
		return rangeOf[int64](c)
	default:
		return c.Node.Errorf("element type %v is not implemented", t)
	}
}

func rangeOf[T numeric](c *Eval) error {
	start, limit, delta := onnxio.Data[T](c.In[0])[0], onnxio.Data[T](c.In[1])[0], onnxio.Data[T](c.In[2])[0]
	n := math.Ceil((float64(limit) - float64(start)) / float64(delta))
	if !(n < MaxBytes) {
		return c.Node.Errorf("from %v to %v by %v has no end", start, limit, delta)
	}
	y, err := c.Alloc(0, c.In[0].Type, int64(max(n, 0)))
	if err != nil {
		return err
	}
	to := onnxio.Data[T](y)
	for i := range to {
		to[i] = start + T(i)*delta
	}
	return nil
}

// checkTile refuses version 1, whose inputs meant something else and which no exporter wrote.
func checkTile(n *Node) error {
	if n.Since < 6 {
		return &onnxio.UnsupportedError{Op: "Tile", Opset: n.Since, Node: n.Name}
	}
	return nil
}

func inferTile(c *Infer) error {
	if err := checkTile(c.Node); err != nil {
		return err
	}
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if !shaped(c, 0) {
		return nil
	}
	out := make([]onnxio.Dim, len(c.In[0].Shape))
	reps, known := c.In[1].Known()
	if known && len(reps) != len(out) {
		return c.Node.Errorf("%d repeats for %s", len(reps), shapeText(c.In[0].Shape))
	}
	for i, d := range c.In[0].Shape {
		if out[i] = unknownDim; known {
			out[i] = dimArithmetic("Mul", d, reps[i], false)
		}
	}
	c.Set(0, c.In[0].Type, out)
	return nil
}

func evalTile(c *Eval) error {
	x := c.In[0]
	if err := checkTile(c.Node); err != nil {
		return err
	}
	es, err := elementSize(c, x.Type)
	if err != nil {
		return err
	}
	reps, ok := intsOf(c.In[1])
	if !ok || len(reps) != len(x.Dims) {
		return c.Node.Errorf("repeats do not fit %s", dimsText(x.Dims))
	}
	var dims, wide, from []int64 // y seen as [repeat, d, repeat, d, ...]
	s := strides(x.Dims)
	for i, d := range x.Dims {
		if reps[i] < 0 || d > 0 && reps[i] > math.MaxInt64/d {
			return c.Node.Errorf("repeats %v cannot be", reps)
		}
		dims, wide, from = append(dims, d*reps[i]), append(wide, reps[i], d), append(from, 0, s[i])
	}
	y, err := c.Alloc(0, x.Type, dims...)
	if err == nil {
		move(y.Raw, x.Raw, es, wide, strides(wide), from, 0, 0)
	}
	return err
}

// gradTile adds up the copies: dy seen as [repeat, d, repeat, d, ...], summed over the repeats.
func gradTile(g *Grad) error {
	if !g.Wants[0] {
		return nil
	}
	x, y := g.Dims(g.In(0)), g.Dims(g.DOut[0])
	wide, axes := []int64{}, []int64{}
	for i, d := range x {
		axes, wide = append(axes, int64(len(wide))), append(wide, y[i]/max(d, 1), d)
	}
	d, err := reshaped(g, g.DOut[0], wide)
	if err != nil {
		return err
	}
	if d, err = g.One("", "ReduceSum", []string{d, g.Const(onnxio.Int64s(axes))}, onnxio.IntAttr("noop_with_empty_axes", 1)); err != nil {
		return err
	}
	g.DIn[0], err = reshaped(g, d, x)
	return err
}

func argDef(name string, better func(a, b float64) bool) *Def {
	return &Def{Name: name, Versions: []int64{1, 11, 12, 13},
		Attrs:  []AttrDef{intA("axis"), intA("keepdims"), intA("select_last_index").since(12)},
		Inputs: []Param{{Name: "data", Type: "T"}}, Outputs: []Param{{Name: "reduced", Type: "I"}},
		Types: map[string]TypeSet{"T": Numbers, "I": Set(onnxio.Int64)},
		Infer: func(c *Infer) error {
			if err := inferReady(c); err != nil {
				return err
			}
			c.SetType(0, onnxio.Int64)
			if !shaped(c, 0) {
				return nil
			}
			s := c.In[0].Shape
			axis, err := axisOf(c.Node, c.Node.Int("axis", 0), len(s))
			if err != nil {
				return err
			}
			out := append([]onnxio.Dim{}, s[:axis]...)
			if c.Node.Int("keepdims", 1) != 0 {
				out = append(out, knownDim(1))
			}
			c.Set(0, onnxio.Int64, append(out, s[axis+1:]...))
			return nil
		},
		Eval: func(c *Eval) error { return evalArg(c, better) }}
}

func evalArg(c *Eval, better func(a, b float64) bool) error {
	if err := evalReady(c); err != nil {
		return err
	}
	x := c.In[0]
	axis, err := axisOf(c.Node, c.Node.Int("axis", 0), len(x.Dims))
	if err != nil {
		return err
	}
	dims := append([]int64{}, x.Dims[:axis]...)
	if c.Node.Int("keepdims", 1) != 0 {
		dims = append(dims, 1)
	}
	y, err := c.Alloc(0, onnxio.Int64, append(dims, x.Dims[axis+1:]...)...)
	if err != nil {
		return err
	}
	data, err := asFloat64(c, x)
	if err != nil {
		return err
	}
	v, to, last := onnxio.Data[float64](data), onnxio.Data[int64](y), c.Node.Int("select_last_index", 0) != 0
	d, inner := int(x.Dims[axis]), sizeOf(x.Dims[axis+1:])
	if d == 0 && len(to) > 0 {
		return c.Node.Errorf("axis %d is empty", axis)
	}
	for i := range to {
		row, best := v[i/inner*d*inner+i%inner:], 0
		for k := 1; k < d; k++ {
			if a, b := row[k*inner], row[best*inner]; better(a, b) || last && a == b {
				best = k
			}
		}
		to[i] = int64(best)
	}
	return nil
}
