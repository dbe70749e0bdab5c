package ops

import (
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// OneHot, EyeLike and Trilu: tensors that are a constant but where an index says.

func init() {
	register(
		&Def{Name: "OneHot", Versions: []int64{9, 11, 28}, Attrs: []AttrDef{intA("axis")},
			Inputs: []Param{{Name: "indices", Type: "T1"}, {Name: "depth", Type: "T2"},
				{Name: "values", Type: "T3"}},
			Outputs: []Param{{Name: "output", Type: "T3"}}, Types: map[string]TypeSet{"T1": Numbers,
				"T2": Numbers, "T3": All},
			Infer: inferOneHot, Eval: moving(evalOneHot)},
		&Def{Name: "EyeLike", Versions: []int64{9, 22}, Attrs: []AttrDef{intA("dtype"), intA("k")},
			Inputs: []Param{{Name: "input", Type: "T1"}}, Outputs: []Param{{Name: "output", Type: "T2"}},
			Types: map[string]TypeSet{"T1": Numbers | Bools, "T2": Numbers | Bools}, Infer: inferEyeLike,
			Eval: evalEyeLike},
		&Def{Name: "Trilu", Versions: []int64{14}, Attrs: []AttrDef{intA("upper")},
			Inputs:  []Param{{Name: "input", Type: "T"}, {Name: "k", Type: "I", Optional: true}},
			Outputs: []Param{{Name: "output", Type: "T"}}, Types: map[string]TypeSet{"T": All,
				"I": Set(onnxio.Int64)},
			Infer: inferSame, Eval: moving(evalTrilu),
			Grad: func(g *Grad) (err error) {
				if g.Wants[0] {
					in := slices.Clone(g.Ins)
					in[0] = g.DOut[0]
					g.DIn[0], err = g.One("", "Trilu", in, onnxio.IntAttr("upper", g.Node.Int("upper", 1)))
				}
				return err
			}})
}

// depthOf is OneHot's depth as a number.
func depthOf(n *Node, t *onnxio.Tensor) (int64, error) {
	one := onnxio.NewTensor(onnxio.Double)
	if t.Size() != 1 || !hasData(t) {
		return 0, n.Errorf("depth must be one number")
	}
	if err := cast(n, one, &onnxio.Tensor{Type: t.Type, Raw: t.Raw}, false); err != nil {
		return 0, err
	}
	d := onnxio.Data[float64](one)[0]
	if !(d >= 0 && d < 1<<40) {
		return 0, n.Errorf("depth is %v", d)
	}
	return int64(d), nil
}

// oneHotAxis is where the new dimension goes in an output of the given rank.
func oneHotAxis(n *Node, rank int) (int, error) { return axisOf(n, n.Int("axis", -1), rank) }

func inferOneHot(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[2].Type)
	if !shaped(c, 0) {
		return nil
	}
	axis, err := oneHotAxis(c.Node, len(c.In[0].Shape)+1)
	if err != nil {
		return err
	}
	depth := unknownDim
	if t := c.In[1].Const; t != nil {
		d, err := depthOf(c.Node, t)
		if err != nil {
			return err
		}
		depth = knownDim(d)
	}
	c.Set(0, c.In[2].Type, slices.Insert(slices.Clone(c.In[0].Shape), axis, depth))
	return nil
}

func evalOneHot(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	x, values := c.In[0], c.In[2]
	es, err := elementSize(c, values.Type)
	if err != nil {
		return err
	}
	if values.Size() != 2 {
		return c.Node.Errorf("values must be [off,on], not %s", dimsText(values.Dims))
	}
	depth, err := depthOf(c.Node, c.In[1])
	if err != nil {
		return err
	}
	axis, err := oneHotAxis(c.Node, len(x.Dims)+1)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, values.Type, slices.Insert(slices.Clone(x.Dims), axis, depth)...)
	if err != nil {
		return err
	}
	wide, err := asFloat64(c, x)
	if err != nil {
		return err
	}
	inner := int64(sizeOf(x.Dims[axis:]))
	for i := range y.Size() {
		copy(y.Raw[i*es:][:es], values.Raw)
	}
	for i, v := range onnxio.Data[float64](wide) {
		if v < 0 {
			v += float64(depth)
		}
		if v >= 0 && v < float64(depth) { // elsewhere all are off
			at := (int64(i)/inner*depth+int64(v))*inner + int64(i)%inner
			copy(y.Raw[at*es:][:es], values.Raw[es:])
		}
	}
	return nil
}

// eyeType is the type of EyeLike's output.
func eyeType(n *Node, in onnxio.DataType) onnxio.DataType {
	return onnxio.DataType(n.Int("dtype", int64(in)))
}

func inferEyeLike(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	t := eyeType(c.Node, c.In[0].Type)
	c.SetType(0, t)
	if shaped(c, 0) {
		if len(c.In[0].Shape) != 2 {
			return c.Node.Errorf("%s is no matrix", shapeText(c.In[0].Shape))
		}
		c.Set(0, t, c.In[0].Shape)
	}
	return nil
}

func evalEyeLike(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	dims, t := c.In[0].Dims, eyeType(c.Node, c.In[0].Type)
	if len(dims) != 2 || !c.Node.Def.Types["T2"].Has(t) {
		return c.Node.Errorf("cannot make %v %s", t, dimsText(dims))
	}
	y, err := c.Alloc(0, t, dims...)
	if err != nil {
		return err
	}
	eye := onnxio.NewTensor(onnxio.Uint8, dims...)
	k := c.Node.Int("k", 0)
	for row := range dims[0] {
		if col := row + k; col >= 0 && col < dims[1] {
			eye.Raw[row*dims[1]+col] = 1
		}
	}
	return cast(c.Node, y, eye, false)
}

func evalTrilu(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	x := c.In[0]
	es, err := elementSize(c, x.Type)
	if err != nil {
		return err
	}
	k := int64(0)
	if c.Has(1) {
		list, _ := intsOf(c.In[1])
		if len(list) != 1 {
			return c.Node.Errorf("k must be one number")
		}
		k = list[0]
	}
	rank := len(x.Dims)
	if rank < 2 {
		return c.Node.Errorf("%s is no matrix", dimsText(x.Dims))
	}
	y, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	clear(y.Raw)
	rows, cols, upper := x.Dims[rank-2], x.Dims[rank-1], c.Node.Int("upper", 1) != 0
	for row := range int64(sizeOf(x.Dims[:rank-1])) {
		lo, hi := int64(0), cols
		edge := max(min(k, cols), -rows) + row%rows // the diagonal's column
		if upper {
			lo = max(0, min(edge, cols))
		} else {
			hi = max(0, min(edge+1, cols))
		}
		at := row * cols
		copy(y.Raw[(at+lo)*es:(at+hi)*es], x.Raw[(at+lo)*es:])
	}
	return nil
}
