package ops

import (
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// CenterCropPad: the middle of a tensor, or the tensor in the middle of zeros, axis by axis. An
// odd rest goes to the end.

func init() {
	register(&Def{Name: "CenterCropPad", Versions: []int64{18}, Attrs: []AttrDef{intsA("axes")},
		Inputs:  []Param{{Name: "input_data", Type: "T"}, {Name: "shape", Type: "I"}},
		Outputs: []Param{{Name: "output_data", Type: "T"}},
		Types:   map[string]TypeSet{"T": basicTypes, "I": Indices},
		Infer:   inferCenterCropPad, Eval: moving(evalCenterCropPad), Grad: gradCenterCropPad})
}

// centerAxes are the axes that shape is of.
func centerAxes(n *Node, rank int) ([]int, error) {
	axes := []int{}
	a := n.Attr("axes")
	if a == nil {
		for i := range rank {
			axes = append(axes, i)
		}
		return axes, nil
	}
	for _, v := range a.Ints {
		i, err := axisOf(n, v, rank)
		if err != nil {
			return nil, err
		}
		if slices.Contains(axes, i) {
			return nil, n.Errorf("axis %d is named twice", i)
		}
		axes = append(axes, i)
	}
	return axes, nil
}

func inferCenterCropPad(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if !shaped(c, 0) {
		return nil
	}
	axes, err := centerAxes(c.Node, len(c.In[0].Shape))
	if err != nil {
		return err
	}
	shape, known := c.In[1].Known()
	if known && len(shape) != len(axes) {
		return c.Node.Errorf("shape %s for %d axes", shapeText(shape), len(axes))
	}
	out := slices.Clone(c.In[0].Shape)
	for i, a := range axes {
		if out[a] = unknownDim; known {
			out[a] = shape[i]
		}
	}
	c.Set(0, c.In[0].Type, out)
	return nil
}

func evalCenterCropPad(c *Eval) error {
	x := c.In[0]
	es, err := elementSize(c, x.Type)
	if err != nil {
		return err
	}
	axes, err := centerAxes(c.Node, len(x.Dims))
	if err != nil {
		return err
	}
	shape, ok := intsOf(c.In[1])
	if !ok || len(shape) != len(axes) {
		return c.Node.Errorf("shape %v for %d axes", shape, len(axes))
	}
	dims, part := slices.Clone(x.Dims), slices.Clone(x.Dims) // part is what both have
	from, to := make([]int64, len(dims)), make([]int64, len(dims))
	for i, a := range axes {
		if shape[i] < 0 {
			return c.Node.Errorf("shape %v has a negative dimension", shape)
		}
		dims[a], part[a] = shape[i], min(shape[i], x.Dims[a])
		from[a], to[a] = max(x.Dims[a]-shape[i], 0)/2, max(shape[i]-x.Dims[a], 0)/2
	}
	y, err := c.Alloc(0, x.Type, dims...)
	if err != nil {
		return err
	}
	clear(y.Raw)
	sx, sy, atX, atY := strides(x.Dims), strides(dims), int64(0), int64(0)
	for i := range dims {
		atX, atY = atX+from[i]*sx[i], atY+to[i]*sy[i]
	}
	move(y.Raw, x.Raw, es, part, sy, sx, atY, atX)
	return nil
}

// gradCenterCropPad is CenterCropPad back to the input's shape: the rests of cropping
// and padding are split alike.
func gradCenterCropPad(g *Grad) error {
	if !g.Wants[0] {
		return nil
	}
	dims := g.Dims(g.In(0))
	axes, err := centerAxes(g.Node, len(dims))
	if err != nil {
		return err
	}
	shape, list := make([]int64, len(axes)), make([]int64, len(axes))
	for i, a := range axes {
		shape[i], list[i] = dims[a], int64(a)
	}
	in := []string{g.DOut[0], g.Const(onnxio.Int64s(shape))}
	g.DIn[0], err = g.One("", "CenterCropPad", in, onnxio.IntsAttr("axes", list...))
	return err
}
