package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Mod and Tile.

func init() {
	register(modDef(),
		&Def{Name: "Tile", Versions: []int64{1, 6, 13},
			Inputs: []Param{{Name: "input", Type: "T"}, {Name: "tiles", Type: "T", Until: 1},
				{Name: "axis", Type: "T", Until: 1},
				{Name: "repeats", Type: "T1", Since: 6}},
			Outputs: []Param{{Name: "output", Type: "T"}}, Types: map[string]TypeSet{"T": All,
				"T1": Set(onnxio.Int64)},
			Check: checkTile, Infer: inferTile, Eval: moving(evalTile), Grad: gradTile})
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

// floorMod is a - floor(a/b)*b, which has the sign of b even where it is 0.
func floorMod(a, b float64) float64 {
	r := math.Mod(a, b)
	switch {
	case r == 0:
		return math.Copysign(0, b)
	case (r < 0) != (b < 0):
		return r + b
	}
	return r
}

// inDouble is a function of float64 for float32.
func inDouble(f func(a, b float64) float64) func(a, b float32) float32 {
	return func(a, b float32) float32 { return float32(f(float64(a), float64(b))) }
}

// Mod has the divisor's sign, with fmod the dividend's. Without fmod it takes floats since version 28 only.
func modDef() *Def {
	sign, rem := kernels2{f64: floorMod, f32: inDouble(floorMod)}, kernels2{f64: math.Mod,
		f32: inDouble(math.Mod)}
	sign.ints = intKernels(intOps{modInt[int8], modInt[int16], modInt[int32], modInt[int64], modInt[uint8],
		modInt[uint16], modInt[uint32], modInt[uint64]})
	rem.ints = intKernels(intOps{remInt[int8], remInt[int16], remInt[int32], remInt[int64], remInt[uint8],
		remInt[uint16], remInt[uint32], remInt[uint64]})
	d := binaryDef("Mod", []int64{10, 13, 28}, []AttrDef{intA("fmod")}, sign, nil)
	d.Eval = func(c *Eval) error {
		if c.Node.Int("fmod", 0) != 0 {
			return evalBinary(c, rem)
		}
		return evalBinary(c, sign)
	}
	return d
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
	if d, err = g.One("", "ReduceSum", []string{d, g.Const(onnxio.Int64s(axes))},
		onnxio.IntAttr("noop_with_empty_axes", 1)); err != nil {
		return err
	}
	g.DIn[0], err = reshaped(g, d, x)
	return err
}
