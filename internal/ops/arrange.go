package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// Operators that move elements: Transpose, Concat, Split, Slice, Expand, Gather, Pad.

func init() {
	register(
		&Def{Name: "Transpose", Versions: []int64{1, 13, 21, 23, 24, 25}, Attrs: []AttrDef{intsA("perm")},
			Inputs: []Param{{Name: "data", Type: "T"}}, Outputs: []Param{{Name: "transposed", Type: "T"}},
			Types: allTypes,
			Infer: inferTranspose, Eval: moving(evalTranspose), Grad: gradTranspose, Rearranges: true},
		&Def{Name: "Concat", Versions: []int64{1, 4, 11, 13}, Attrs: []AttrDef{intA("axis").until(3),
			intA("axis").since(4).required()},
			Inputs:  []Param{{Name: "inputs", Type: "T", Variadic: true}},
			Outputs: []Param{{Name: "concat_result", Type: "T"}}, Types: allTypes,
			Infer: inferConcat, Learned: []int{0}, Eval: moving(evalConcat), Grad: gradConcat},
		&Def{Name: "Split", Versions: []int64{1, 2, 11, 13, 18},
			Attrs: []AttrDef{intA("axis"), intsA("split").until(12), intA("num_outputs").since(18)},
			Inputs: []Param{{Name: "input", Type: "T"}, {Name: "split", Type: "T", Optional: true, Until: 1},
				{Name: "split", Type: "I", Optional: true, Since: 13}},
			Outputs: []Param{{Name: "outputs", Type: "T", Variadic: true}},
			Types:   map[string]TypeSet{"T": All, "I": Set(onnxio.Int64)}, Infer: inferSplit,
			Eval: moving(evalSplit), Grad: gradSplit},
		sliceDef(), padDef(), sliceGradDef(), padGradDef(),
		&Def{Name: "Expand", Versions: []int64{8, 13}, Inputs: []Param{{Name: "input", Type: "T"},
			{Name: "shape", Type: "I"}},
			Outputs: []Param{{Name: "output", Type: "T"}}, Types: map[string]TypeSet{"T": All,
				"I": Set(onnxio.Int64)},
			Learned: []int{0}, Repeats: true, Infer: inferExpand, Eval: moving(evalExpand),
			Grad: func(g *Grad) (err error) {
				if g.Wants[0] {
					g.DIn[0], err = sumTo(g, g.DOut[0], g.In(0))
				}
				return err
			}},
		&Def{Name: "Gather", Versions: []int64{1, 11, 13}, Attrs: []AttrDef{intA("axis")},
			Inputs:  []Param{{Name: "data", Type: "T"}, {Name: "indices", Type: "I"}},
			Outputs: []Param{{Name: "output", Type: "T"}},
			Types:   map[string]TypeSet{"T": All, "I": Indices}, Learned: []int{0}, Infer: inferGather,
			Eval: moving(evalGather), Grad: gradGather},
		gatherGradDef(),
	)
}

// permutation is the perm attribute, by default the reverse, checked.
func permutation(n *Node, rank int) ([]int, error) {
	perm := make([]int, rank)
	a := n.Attr("perm")
	if a == nil {
		for i := range perm {
			perm[i] = rank - 1 - i
		}
		return perm, nil
	}
	seen := make([]bool, rank)
	if len(a.Ints) != rank {
		return nil, n.Errorf("perm %v does not fit rank %d", a.Ints, rank)
	}
	for i, p := range a.Ints {
		if p < 0 || p >= int64(rank) || seen[p] {
			return nil, n.Errorf("perm %v is no permutation", a.Ints)
		}
		seen[p], perm[i] = true, int(p)
	}
	return perm, nil
}

func inferTranspose(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if !shaped(c, 0) {
		return nil
	}
	perm, err := permutation(c.Node, len(c.In[0].Shape))
	if err != nil {
		return err
	}
	out := make([]onnxio.Dim, len(perm))
	for i, p := range perm {
		out[i] = c.In[0].Shape[p]
	}
	c.Set(0, c.In[0].Type, out)
	return nil
}

func evalTranspose(c *Eval) error {
	x := c.In[0]
	es, err := elementSize(c, x.Type)
	if err != nil {
		return err
	}
	perm, err := permutation(c.Node, len(x.Dims))
	if err != nil {
		return err
	}
	s := strides(x.Dims)
	dims, from := make([]int64, len(perm)), make([]int64, len(perm))
	for i, p := range perm {
		dims[i], from[i] = x.Dims[p], s[p]
	}
	y, err := c.Alloc(0, x.Type, dims...)
	if err == nil {
		move(y.Raw, x.Raw, es, dims, strides(dims), from, 0, 0)
	}
	return err
}

func gradTranspose(g *Grad) error {
	if !g.Wants[0] {
		return nil
	}
	perm, err := permutation(g.Node, len(g.Dims(g.In(0))))
	if err != nil {
		return err
	}
	back := make([]int64, len(perm))
	for i, p := range perm {
		back[p] = int64(i)
	}
	g.DIn[0], err = g.One("", "Transpose", []string{g.DOut[0]}, onnxio.IntsAttr("perm", back...))
	return err
}

// concatAxis is the axis; before version 4 it was optional.
func concatAxis(n *Node, rank int) (int, error) { return axisOf(n, n.Int("axis", 1), rank) }

func inferConcat(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	if !c.Has(0) {
		return c.Node.Errorf("takes at least one input")
	}
	c.SetType(0, c.In[0].Type)
	concatElems(c)
	if !shaped(c, 0) {
		return nil
	}
	axis, err := concatAxis(c.Node, len(c.In[0].Shape))
	if err != nil {
		return err
	}
	out := append([]onnxio.Dim{}, c.In[0].Shape...)
	for i := 1; i < len(c.In); i++ {
		if !shaped(c, i) {
			return nil
		}
		s := c.In[i].Shape
		if len(s) != len(out) {
			return c.Node.Errorf("cannot join %s and %s", shapeText(c.In[0].Shape), shapeText(s))
		}
		for j := range out {
			if j == axis {
				if out[j].Known() && s[j].Known() {
					out[j] = knownDim(out[j].Value + s[j].Value)
				} else {
					out[j] = unknownDim
				}
				continue
			}
			if !agree(out[j], s[j]) {
				return c.Node.Errorf("cannot join %s and %s along axis %d", shapeText(c.In[0].Shape),
					shapeText(s), axis)
			}
			out[j] = merge(out[j], s[j])
		}
	}
	c.Set(0, c.In[0].Type, out)
	return nil
}

// concatElems joins vectors of dimensions.
func concatElems(c *Infer) {
	var all []onnxio.Dim
	symbolic := false
	for _, v := range c.In {
		e, ok := v.Known()
		if !ok {
			return
		}
		symbolic = symbolic || v.Const == nil
		all = append(all, e...)
	}
	if symbolic && c.Out[0] != nil {
		c.Out[0].Elems = all
	}
}

func evalConcat(c *Eval) error {
	for i, t := range c.In {
		if t == nil || t.Type != c.In[0].Type || len(t.Dims) != len(c.In[0].Dims) {
			return c.Node.Errorf("input %d is missing or of another type or rank", i)
		}
	}
	x := c.In[0]
	es, err := elementSize(c, x.Type)
	if err != nil {
		return err
	}
	axis, err := concatAxis(c.Node, len(x.Dims))
	if err != nil {
		return err
	}
	dims := append([]int64{}, x.Dims...)
	for _, t := range c.In[1:] {
		for j := range dims {
			if j == axis {
				dims[j] += t.Dims[j]
			} else if dims[j] != t.Dims[j] {
				return c.Node.Errorf("cannot join %s and %s along axis %d", dimsText(x.Dims),
					dimsText(t.Dims), axis)
			}
		}
	}
	y, err := c.Alloc(0, x.Type, dims...)
	if err != nil {
		return err
	}
	outer, row := int64(sizeOf(dims[:axis])), int64(sizeOf(dims[axis:]))*es
	at := int64(0)
	for _, t := range c.In {
		n := int64(sizeOf(t.Dims[axis:])) * es
		for o := range outer {
			copy(y.Raw[o*row+at:][:n], t.Raw[o*n:])
		}
		at += n
	}
	return nil
}

func gradConcat(g *Grad) error {
	axis, err := concatAxis(g.Node, len(g.Dims(g.In(0))))
	if err != nil {
		return err
	}
	sizes := []int64{}
	for i := range g.DIn {
		sizes = append(sizes, g.Dims(g.In(i))[axis])
	}
	out, err := g.Emit("", "Split", len(sizes), []string{g.DOut[0], g.Const(onnxio.Int64s(sizes))},
		onnxio.IntAttr("axis", int64(axis)))
	if err != nil {
		return err
	}
	for i := range out {
		if g.Wants[i] {
			g.DIn[i] = out[i]
		}
	}
	return nil
}

// splitSizes are the lengths of the parts; nil when they are not known.
func splitSizes(n *Node, list []int64, present bool, total int64) ([]int64, error) {
	parts := len(n.Outputs)
	if present {
		sum := int64(0)
		for _, v := range list {
			if v < 0 || v > total-sum {
				return nil, n.Errorf("split %v does not cut %d into parts", list, total)
			}
			sum += v
		}
		if len(list) != parts || sum != total {
			return nil, n.Errorf("split %v does not cut %d into %d parts", list, total, parts)
		}
		return list, nil
	}
	if k := n.Int("num_outputs", int64(parts)); int(k) != parts || parts == 0 {
		return nil, n.Errorf("num_outputs is %d, the node has %d outputs", k, parts)
	}
	if n.Since < 18 && total%int64(parts) != 0 {
		return nil, n.Errorf("cannot cut %d into %d equal parts", total, parts)
	}
	size := (total + int64(parts) - 1) / int64(parts)
	out := make([]int64, parts)
	for i := range out {
		out[i] = min(size, total-size*int64(i))
		if out[i] < 0 {
			return nil, n.Errorf("cannot cut %d into %d parts", total, parts)
		}
	}
	return out, nil
}

func inferSplit(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	for i := range c.Out {
		c.SetType(i, c.In[0].Type)
	}
	list, present, known := c.listOf("split", 1)
	if !shaped(c, 0) || !known {
		return nil
	}
	s := c.In[0].Shape
	axis, err := axisOf(c.Node, c.Node.Int("axis", 0), len(s))
	if err != nil {
		return err
	}
	var sizes []int64
	if s[axis].Known() {
		if sizes, err = splitSizes(c.Node, list, present, s[axis].Value); err != nil {
			return err
		}
	} else if present {
		sizes = list
	}
	for i := range c.Out {
		out := append([]onnxio.Dim{}, s...)
		out[axis] = unknownDim
		if i < len(sizes) {
			out[axis] = knownDim(sizes[i])
		}
		c.Set(i, c.In[0].Type, out)
	}
	return nil
}

func evalSplit(c *Eval) error {
	x := c.In[0]
	es, err := elementSize(c, x.Type)
	if err != nil {
		return err
	}
	axis, err := axisOf(c.Node, c.Node.Int("axis", 0), len(x.Dims))
	if err != nil {
		return err
	}
	list, present := c.listOf("split", 1)
	sizes, err := splitSizes(c.Node, list, present, x.Dims[axis])
	if err != nil {
		return err
	}
	outer, row := int64(sizeOf(x.Dims[:axis])), int64(sizeOf(x.Dims[axis:]))*es
	inner := int64(sizeOf(x.Dims[axis+1:])) * es
	at := int64(0)
	for i, size := range sizes {
		n := size * inner
		if c.Wants(i) {
			dims := append([]int64{}, x.Dims...)
			dims[axis] = size
			y, err := c.Alloc(i, x.Type, dims...)
			if err != nil {
				return err
			}
			for o := range outer {
				copy(y.Raw[o*n:][:n], x.Raw[o*row+at:])
			}
		}
		at += n
	}
	return nil
}

func gradSplit(g *Grad) error {
	parts := append([]string{}, g.DOut...)
	for i, name := range parts {
		if name == "" {
			if g.Out(i) == "" {
				return g.Node.Errorf("no gradient when an output is omitted")
			}
			parts[i] = g.Const(onnxio.NewTensor(g.Value(g.Out(i)).Type, g.Dims(g.Out(i))...))
		}
	}
	axis, err := axisOf(g.Node, g.Node.Int("axis", 0), len(g.Dims(g.In(0))))
	if err != nil {
		return err
	}
	g.DIn[0], err = g.One("", "Concat", parts, onnxio.IntAttr("axis", int64(axis)))
	return err
}

func inferExpand(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	want, ok := c.In[1].Known()
	if !shaped(c, 0) || !ok {
		return nil
	}
	out, fits := broadcastDims(c.In[0].Shape, want)
	if !fits {
		return c.Node.Errorf("cannot broadcast %s with %s", shapeText(c.In[0].Shape), shapeText(want))
	}
	c.Set(0, c.In[0].Type, out)
	return nil
}

func evalExpand(c *Eval) error {
	x := c.In[0]
	es, err := elementSize(c, x.Type)
	if err != nil {
		return err
	}
	want, _ := intsOf(c.In[1])
	for _, d := range want {
		if d < 0 {
			return c.Node.Errorf("shape %v has a negative dimension", want)
		}
	}
	dims, ok := broadcast(x.Dims, want)
	if !ok {
		return c.Node.Errorf("cannot broadcast %s with %s", dimsText(x.Dims), dimsText(want))
	}
	y, err := c.Alloc(0, x.Type, dims...)
	if err == nil {
		move(y.Raw, x.Raw, es, dims, strides(dims), spread(x.Dims, dims), 0, 0)
	}
	return err
}

func inferGather(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if !shaped(c, 0, 1) {
		return nil
	}
	s := c.In[0].Shape
	axis, err := axisOf(c.Node, c.Node.Int("axis", 0), len(s))
	if err != nil {
		return err
	}
	out := append(append(append([]onnxio.Dim{}, s[:axis]...), c.In[1].Shape...), s[axis+1:]...)
	c.Set(0, c.In[0].Type, out)
	if list, ok := intsOf(c.In[1].Const); ok && c.In[0].Elems != nil && c.In[0].Const == nil &&
		c.Out[0] != nil && len(out) < 2 {
		elems := []onnxio.Dim{}
		for _, i := range list {
			if i < 0 {
				i += int64(len(c.In[0].Elems))
			}
			if i < 0 || i >= int64(len(c.In[0].Elems)) {
				return c.Node.Errorf("index %d is out of range", i)
			}
			elems = append(elems, c.In[0].Elems[i])
		}
		c.Out[0].Elems = elems
	}
	return nil
}

func evalGather(c *Eval) error {
	x := c.In[0]
	es, err := elementSize(c, x.Type)
	if err != nil {
		return err
	}
	axis, err := axisOf(c.Node, c.Node.Int("axis", 0), len(x.Dims))
	if err != nil {
		return err
	}
	list, ok := intsOf(c.In[1])
	if !ok {
		return c.Node.Errorf("indices are %v", c.In[1].Type)
	}
	dims := append(append(append([]int64{}, x.Dims[:axis]...), c.In[1].Dims...), x.Dims[axis+1:]...)
	y, err := c.Alloc(0, x.Type, dims...)
	if err != nil {
		return err
	}
	inner := int64(sizeOf(x.Dims[axis+1:])) * es
	at := int64(0)
	for o := range int64(sizeOf(x.Dims[:axis])) {
		for _, i := range list {
			if i < 0 {
				i += x.Dims[axis]
			}
			if i < 0 || i >= x.Dims[axis] {
				return c.Node.Errorf("index %d is out of range for dimension %d", i, x.Dims[axis])
			}
			copy(y.Raw[at:][:inner], x.Raw[(o*x.Dims[axis]+i)*inner:])
			at += inner
		}
	}
	return nil
}

func gradGather(g *Grad) error {
	if !g.Wants[0] {
		return nil
	}
	dims := g.Dims(g.In(0))
	axis, err := axisOf(g.Node, g.Node.Int("axis", 0), len(dims))
	if err != nil {
		return err
	}
	g.DIn[0], err = g.One(GradDomain, "GatherGrad", []string{g.DOut[0], g.In(1)},
		onnxio.IntAttr("axis", int64(axis)), onnxio.IntsAttr("shape", dims...))
	return err
}

// GatherGrad(dy, indices; axis, shape) adds dy into zeros where Gather took it from.
func gatherGradDef() *Def {
	d := gradDef("GatherGrad", []string{"dy"}, []string{"dx"}, intA("axis"), intsA("shape").required())
	d.Inputs, d.Types = append(d.Inputs, Param{Name: "indices", Type: "I"}), map[string]TypeSet{"T": Floats,
		"I": Indices}
	d.Infer = func(c *Infer) error {
		if err := inferReady(c); err != nil {
			return err
		}
		c.Set(0, c.In[0].Type, knownDims(c.Node.Ints("shape")))
		return nil
	}
	d.Eval, d.Tol = byFloat(evalGatherGrad[float32], evalGatherGrad[float64]), reduceTol
	return d
}

func evalGatherGrad[T floating](c *Eval) error {
	shape := c.Node.Ints("shape")
	axis, err := axisOf(c.Node, c.Node.Int("axis", 0), len(shape))
	if err != nil {
		return err
	}
	list, ok := intsOf(c.In[1])
	if !ok {
		return c.Node.Errorf("indices are %v", c.In[1].Type)
	}
	if list, err = fromFront(c.Node, list, shape[axis]); err != nil {
		return err
	}
	y, err := c.Alloc(0, c.In[0].Type, shape...)
	if err != nil {
		return err
	}
	outer, inner := sizeOf(shape[:axis]), sizeOf(shape[axis+1:])
	from, to := onnxio.Data[T](c.In[0]), onnxio.Data[T](y)
	if len(from) != outer*len(list)*inner {
		return c.Node.Errorf("dy %s with %d indices into %s", dimsText(c.In[0].Dims), len(list),
			dimsText(shape))
	}
	clear(to)
	for o := range outer {
		for k, at := range list {
			row := to[(o*int(shape[axis])+int(at))*inner:][:inner]
			for i, v := range from[(o*len(list)+k)*inner:][:inner] {
				row[i] += v
			}
		}
	}
	return nil
}
