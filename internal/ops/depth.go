package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// DepthToSpace and SpaceToDepth, which move blocks of b*b places between channels and the plane.

func init() {
	size := intA("blocksize").required()
	register(
		&Def{Name: "DepthToSpace", Versions: []int64{1, 11, 13, 28},
			Attrs:  []AttrDef{size, stringA("mode").since(11)},
			Inputs: []Param{{Name: "input", Type: "T"}}, Outputs: []Param{{Name: "output", Type: "T"}},
			Types: allTypes,
			Infer: func(c *Infer) error { return inferDepth(c, true) }, Eval: moving(evalDepthToSpace),
			Grad: gradDepthToSpace},
		&Def{Name: "SpaceToDepth", Versions: []int64{1, 13, 28},
			Attrs:  []AttrDef{size, stringA("mode").since(28)},
			Inputs: []Param{{Name: "input", Type: "T"}}, Outputs: []Param{{Name: "output", Type: "T"}},
			Types: allTypes,
			Infer: func(c *Infer) error { return inferDepth(c, false) }, Eval: moving(evalSpaceToDepth),
			Grad: func(g *Grad) (err error) {
				if g.Wants[0] {
					g.DIn[0], err = g.One("", "DepthToSpace", []string{g.DOut[0]},
						onnxio.IntAttr("blocksize", g.Node.Int("blocksize", 1)),
						onnxio.StringAttr("mode", g.Node.Str("mode", "DCR")))
				}
				return err
			}})
}

// inferDepth gives [N,C/b²,H*b,W*b], or the way back.
func inferDepth(c *Infer, toSpace bool) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	b := c.Node.Int("blocksize", 0)
	if b < 1 || b > 1<<15 {
		return c.Node.Errorf("blocksize %d is not positive", b)
	}
	if !shaped(c, 0) {
		return nil
	}
	s := c.In[0].Shape
	if len(s) != 4 {
		return c.Node.Errorf("%s is not [N,C,H,W]", shapeText(s))
	}
	whole := s[2:]
	part := b
	if toSpace {
		whole, part = s[1:2], b*b
	}
	for _, d := range whole {
		if d.Known() && d.Value%part != 0 {
			return c.Node.Errorf("blocksize %d does not divide %s", b, shapeText(s))
		}
	}
	channels, sides := "Mul", "Div"
	if toSpace {
		channels, sides = "Div", "Mul"
	}
	c.Set(0, c.In[0].Type, []onnxio.Dim{s[0], dimArithmetic(channels, s[1], knownDim(b*b), false),
		dimArithmetic(sides, s[2], knownDim(b), false), dimArithmetic(sides, s[3], knownDim(b), false)})
	return nil
}

// depthDims checks a node that runs and gives the dimensions of its output.
func depthDims(c *Eval, toSpace bool) ([]int64, error) {
	if err := evalReady(c); err != nil {
		return nil, err
	}
	in := &Infer{Node: c.Node, Out: []*Value{{}},
		In: []*Value{{Type: c.In[0].Type, Shape: knownDims(c.In[0].Dims), HasShape: true}}}
	if err := inferDepth(in, toSpace); err != nil {
		return nil, err
	}
	dims, ok := in.Out[0].Dims()
	if !ok {
		return nil, c.Node.Errorf("%s is too large", dimsText(c.In[0].Dims))
	}
	return dims, nil
}

func evalDepthToSpace(c *Eval) error {
	dims, err := depthDims(c, true)
	if err != nil {
		return err
	}
	b, h, w := c.Node.Int("blocksize", 1), c.In[0].Dims[2], c.In[0].Dims[3]
	order := []int{0, 3, 4, 1, 5, 2} // DCR: [N,b,b,C,H,W] to [N,C,H,b,W,b]
	from := []int64{dims[0], b, b, dims[1], h, w}
	switch mode := c.Node.Str("mode", "DCR"); mode {
	case "DCR":
	case "CRD":
		order, from = []int{0, 1, 4, 2, 5, 3}, []int64{dims[0], dims[1], b, b, h, w}
	default:
		return c.Node.Errorf("mode %q is unknown", mode)
	}
	return permuted(c, from, order, dims)
}

func evalSpaceToDepth(c *Eval) error {
	dims, err := depthDims(c, false)
	if err != nil {
		return err
	}
	b := c.Node.Int("blocksize", 1)
	order := []int{0, 3, 5, 1, 2, 4} // DCR: [N,C,H,b,W,b] to [N,b,b,C,H,W]
	switch mode := c.Node.Str("mode", "DCR"); mode {
	case "DCR":
	case "CRD":
		order = []int{0, 1, 3, 5, 2, 4}
	default:
		return c.Node.Errorf("mode %q is unknown", mode)
	}
	return permuted(c, []int64{dims[0], c.In[0].Dims[1], dims[2], b, dims[3], b}, order, dims)
}

// permuted writes input 0, seen with the dimensions from, with its axes in the given order.
func permuted(c *Eval, from []int64, order []int, dims []int64) error {
	es, err := elementSize(c, c.In[0].Type)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, c.In[0].Type, dims...)
	if err != nil {
		return err
	}
	s := strides(from)
	to, step := make([]int64, len(order)), make([]int64, len(order))
	for i, o := range order {
		to[i], step[i] = from[o], s[o]
	}
	move(y.Raw, c.In[0].Raw, es, to, strides(to), step, 0, 0)
	return nil
}

// gradDepthToSpace moves dy back. SpaceToDepth puts the places of a block before the channels (DCR); for CRD,
// where they come after, its channels [b*b,C] are transposed.
func gradDepthToSpace(g *Grad) (err error) {
	if !g.Wants[0] {
		return nil
	}
	b, x := g.Node.Int("blocksize", 1), g.Dims(g.In(0))
	d, err := g.One("", "SpaceToDepth", []string{g.DOut[0]}, onnxio.IntAttr("blocksize", b))
	if err == nil && g.Node.Str("mode", "DCR") == "CRD" {
		if d, err = reshaped(g, d, []int64{x[0], b * b, x[1] / (b * b), x[2], x[3]}); err != nil {
			return err
		}
		if d, err = g.One("", "Transpose", []string{d}, onnxio.IntsAttr("perm", 0, 2, 1, 3, 4)); err != nil {
			return err
		}
		d, err = reshaped(g, d, x)
	}
	g.DIn[0] = d
	return err
}
