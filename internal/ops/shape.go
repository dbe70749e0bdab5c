package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// Operators that look at a tensor's shape or give its elements another one: Shape, Size, Identity, Reshape,
// Flatten, Squeeze, Unsqueeze. Elements stay in order, so their gradients are Reshape.

var allTypes = map[string]TypeSet{"T": All}

func init() {
	register(
		&Def{Name: "Shape", Versions: []int64{1, 13, 15, 19, 21, 23, 24, 25},
			Attrs:  []AttrDef{intA("start").since(15), intA("end").since(15)},
			Inputs: []Param{{Name: "data", Type: "T", Flat: true}}, Outputs: []Param{{Name: "shape",
				Type: "T1"}},
			Types: map[string]TypeSet{"T": All, "T1": Set(onnxio.Int64)}, Infer: inferShape, Eval: evalShape},
		&Def{Name: "Size", Versions: []int64{1, 13, 19, 21, 23, 24, 25},
			Inputs:  []Param{{Name: "data", Type: "T", Flat: true}},
			Outputs: []Param{{Name: "size", Type: "T1"}}, Types: map[string]TypeSet{"T": All,
				"T1": Set(onnxio.Int64)},
			Infer: func(c *Infer) error {
				c.Set(0, onnxio.Int64, nil)
				if shaped(c, 0) && c.Out[0] != nil {
					if n := sizeOfDims(c.In[0].Shape); n.Known() {
						c.Out[0].Const = onnxio.Scalar(onnxio.Int64, n.Value)
					} else {
						c.Out[0].Elems = []onnxio.Dim{n}
					}
				}
				return nil
			},
			Eval: func(c *Eval) error {
				y, err := c.Alloc(0, onnxio.Int64)
				if err == nil {
					onnxio.Data[int64](y)[0] = c.In[0].Size()
				}
				return err
			}},
		viewDef("Identity", []int64{1, 13, 14, 16, 19, 21, 23, 24, 25}, nil, nil,
			func(c *Infer) ([]onnxio.Dim, bool, error) {
				return c.In[0].Shape, c.In[0].HasShape, nil
			}, sameElems),
		viewDef("Flatten", []int64{1, 9, 11, 13, 21, 23, 24, 25}, []AttrDef{intA("axis")}, nil,
			inferFlatten, nil),
		viewDef("Reshape", []int64{1, 5, 13, 14, 19, 21, 23, 24, 25},
			[]AttrDef{intsA("shape").until(4), intsA("consumed_inputs").until(4),
				intA("allowzero").since(14)}, []Param{{Name: "shape", Type: "I", Since: 5}}, inferReshape,
			sameElems),
		viewDef("Squeeze", []int64{1, 11, 13, 21, 23, 24, 25}, []AttrDef{intsA("axes").until(12)},
			[]Param{{Name: "axes", Type: "I", Optional: true, Since: 13}}, inferSqueeze, sameElems),
		viewDef("Unsqueeze", []int64{1, 11, 13, 21, 23, 24, 25}, []AttrDef{intsA("axes").until(12)},
			[]Param{{Name: "axes", Type: "I", Since: 13}}, inferUnsqueeze, sameElems),
	)
}

// sameElems marks the operators through which a vector of dimensions passes unchanged.
func sameElems(v *Value) []onnxio.Dim { return v.Elems }

// viewDef is an operator that gives the elements of input 0 a shape. shape derives it (ok false: unknown);
// more names the second input.
func viewDef(name string, versions []int64, attrs []AttrDef, more []Param,
	shape func(*Infer) ([]onnxio.Dim, bool, error), elems func(*Value) []onnxio.Dim) *Def {
	d := &Def{Name: name, Versions: versions, Attrs: attrs,
		Inputs:  append([]Param{{Name: "data", Type: "T"}}, more...),
		Outputs: []Param{{Name: "output", Type: "T"}}, Types: map[string]TypeSet{"T": All,
			"I": Set(onnxio.Int64)}, Rearranges: true}
	d.Infer = func(c *Infer) error {
		if err := inferReady(c); err != nil {
			return err
		}
		c.SetType(0, c.In[0].Type)
		dims, ok, err := shape(c)
		if elems != nil && c.Out[0] != nil && ok && len(dims) < 2 && c.In[0].Const == nil {
			c.Out[0].Elems = elems(c.In[0])
		}
		if err == nil && ok {
			c.Set(0, c.In[0].Type, dims)
		}
		return err
	}
	d.Eval = func(c *Eval) error {
		x := c.In[0]
		if x == nil {
			return c.Node.Errorf("input data is missing")
		}
		in := &Infer{Node: c.Node, Out: []*Value{{}}}
		for _, t := range c.In {
			if t == nil {
				in.In = append(in.In, nil)
			} else {
				in.In = append(in.In, &Value{Type: t.Type, Shape: knownDims(t.Dims), HasShape: true,
					Const: t})
			}
		}
		if err := d.Infer(in); err != nil {
			return err
		}
		dims, ok := in.Out[0].Dims()
		if !ok || sizeOf(dims) != sizeOf(x.Dims) {
			return c.Node.Errorf("%s cannot become %s", dimsText(x.Dims), shapeText(in.Out[0].Shape))
		}
		y, err := c.Alloc(0, x.Type, dims...)
		if err != nil {
			return err
		}
		copy(y.Raw, x.Raw)
		copy(y.Strings, x.Strings)
		return nil
	}
	d.Grad = func(g *Grad) (err error) {
		if g.Wants[0] {
			g.DIn[0], err = g.One("", "Reshape",
				[]string{g.DOut[0], g.Const(onnxio.Int64s(append([]int64{}, g.Dims(g.In(0))...)))})
		}
		return err
	}
	return d
}

// shapeSpan is the part [start, end) of the shape that Shape gives.
func shapeSpan(n *Node, rank int) (lo, hi int) {
	clamp := func(v int64) int {
		if v < 0 {
			v += int64(rank)
		}
		return int(max(0, min(v, int64(rank))))
	}
	lo, hi = clamp(n.Int("start", 0)), clamp(n.Int("end", int64(rank)))
	return lo, max(lo, hi)
}

func inferShape(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, onnxio.Int64)
	if !shaped(c, 0) || c.Out[0] == nil {
		return nil
	}
	lo, hi := shapeSpan(c.Node, len(c.In[0].Shape))
	elems := append([]onnxio.Dim{}, c.In[0].Shape[lo:hi]...)
	c.Set(0, onnxio.Int64, []onnxio.Dim{knownDim(int64(len(elems)))})
	c.Out[0].Elems = elems
	if dims, ok := c.In[0].Dims(); ok {
		c.Out[0].Const = onnxio.Int64s(append([]int64{}, dims[lo:hi]...), int64(hi-lo))
	}
	return nil
}

func evalShape(c *Eval) error {
	lo, hi := shapeSpan(c.Node, len(c.In[0].Dims))
	y, err := c.Alloc(0, onnxio.Int64, int64(hi-lo))
	if err == nil {
		copy(onnxio.Data[int64](y), c.In[0].Dims[lo:hi])
	}
	return err
}

func sizeOfDims(dims []onnxio.Dim) onnxio.Dim {
	n := int64(1)
	for i, d := range dims {
		if !d.Known() {
			if len(dims) == 1 || allOnes(dims[:i]) && allOnes(dims[i+1:]) {
				return d
			}
			return unknownDim
		}
		if d.Value > 0 && n > (1<<62)/d.Value {
			return unknownDim
		}
		n *= d.Value
	}
	return knownDim(n)
}

func allOnes(dims []onnxio.Dim) bool {
	for _, d := range dims {
		if !d.Known() || d.Value != 1 {
			return false
		}
	}
	return true
}

func inferFlatten(c *Infer) ([]onnxio.Dim, bool, error) {
	if !c.In[0].HasShape {
		return []onnxio.Dim{unknownDim, unknownDim}, true, nil
	}
	s := c.In[0].Shape
	axis := c.Node.Int("axis", 1)
	if axis < 0 && c.Node.Since >= 11 {
		axis += int64(len(s))
	}
	if axis < 0 || axis > int64(len(s)) {
		return nil, false, c.Node.Errorf("axis is out of range for %s", shapeText(s))
	}
	return []onnxio.Dim{sizeOfDims(s[:axis]), sizeOfDims(s[axis:])}, true, nil
}

// inferReshape resolves 0 (copy the dimension, unless allowzero) and the one -1.
func inferReshape(c *Infer) ([]onnxio.Dim, bool, error) {
	var want []onnxio.Dim
	if a := c.Node.Attr("shape"); a != nil {
		want = knownDims(a.Ints)
	} else if len(c.In) > 1 && c.In[1] != nil {
		var ok bool
		if want, ok = c.In[1].Known(); !ok {
			if dims, ok := c.In[1].Dims(); ok && len(dims) == 1 && dims[0] < 64 {
				for range dims[0] {
					want = append(want, unknownDim)
				}
				return want, true, nil
			}
			return nil, false, nil
		}
	} else {
		return nil, false, c.Node.Errorf("input shape is missing")
	}
	fromConst := len(c.In) < 2 || c.In[1] == nil || c.In[1].Elems == nil
	in := c.In[0].Shape
	out := append([]onnxio.Dim{}, want...)
	infer := -1
	for i, d := range want {
		switch {
		case d.Param != "":
		case d.Value == -1 && (fromConst || d.Param == ""):
			if infer >= 0 {
				if fromConst {
					return nil, false, c.Node.Errorf("shape %s has two unknowns", shapeText(want))
				}
				infer = -2
			} else if infer == -1 {
				infer = i
			}
		case d.Value == 0 && c.Node.Int("allowzero", 0) == 0:
			if !c.In[0].HasShape {
				out[i] = unknownDim
				continue
			}
			if i >= len(in) {
				return nil, false, c.Node.Errorf("shape %s copies dimension %d of %s", shapeText(want), i,
					shapeText(in))
			}
			out[i] = in[i]
		case d.Value < 0:
			return nil, false, c.Node.Errorf("shape %s has a negative dimension", shapeText(want))
		}
	}
	if infer >= 0 {
		out[infer] = unknownDim
	}
	if !c.In[0].HasShape {
		return out, true, nil
	}
	if infer >= 0 {
		rest := append(append([]onnxio.Dim{}, out[:infer]...), out[infer+1:]...)
		out[infer] = quotient(in, rest)
	}
	a, b := sizeOfDims(in), sizeOfDims(out)
	if a.Known() && b.Known() && a.Value != b.Value {
		return nil, false, c.Node.Errorf("%s cannot become %s", shapeText(in), shapeText(want))
	}
	return out, true, nil
}

// quotient is the product of a divided by that of b, symbolic names cancelled.
func quotient(a, b []onnxio.Dim) onnxio.Dim {
	a, b = append([]onnxio.Dim{}, a...), append([]onnxio.Dim{}, b...)
	for i := range b {
		for j := range a {
			if b[i].Param != "" && a[j].Param == b[i].Param {
				a[j], b[i] = knownDim(1), knownDim(1)
			}
		}
	}
	p, q := sizeOfDims(a), sizeOfDims(b)
	switch {
	case q.Known() && q.Value == 1:
		return p
	case p.Known() && q.Known() && q.Value > 0 && p.Value%q.Value == 0:
		return knownDim(p.Value / q.Value)
	}
	return unknownDim
}

func inferSqueeze(c *Infer) ([]onnxio.Dim, bool, error) {
	axes, present, known := c.listOf("axes", 1)
	if !c.In[0].HasShape || !known {
		return nil, false, nil
	}
	s := c.In[0].Shape
	drop := make([]bool, len(s))
	for _, a := range axes {
		i, err := axisOf(c.Node, a, len(s))
		if err != nil {
			return nil, false, err
		}
		if s[i].Known() && s[i].Value != 1 {
			return nil, false, c.Node.Errorf("dimension %d of %s is not 1", i, shapeText(s))
		}
		drop[i] = true
	}
	out := []onnxio.Dim{}
	for i, d := range s {
		if !present && !d.Known() {
			return nil, false, nil
		}
		if !drop[i] && (present || d.Value != 1) {
			out = append(out, d)
		}
	}
	return out, true, nil
}

func inferUnsqueeze(c *Infer) ([]onnxio.Dim, bool, error) {
	axes, _, known := c.listOf("axes", 1)
	if !c.In[0].HasShape || !known {
		return nil, false, nil
	}
	rank := len(c.In[0].Shape) + len(axes)
	one := make([]bool, rank)
	for _, a := range axes {
		i, err := axisOf(c.Node, a, rank)
		if err != nil {
			return nil, false, err
		}
		if one[i] {
			return nil, false, c.Node.Errorf("axis %d is named twice", i)
		}
		one[i] = true
	}
	out, next := make([]onnxio.Dim, rank), 0
	for i := range out {
		if one[i] {
			out[i] = knownDim(1)
		} else {
			out[i], next = c.In[0].Shape[next], next+1
		}
	}
	return out, true, nil
}
