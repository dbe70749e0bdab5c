package ops

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Slice and Pad, which give each other's gradients.

func sliceDef() *Def {
	return &Def{Name: "Slice", Versions: []int64{1, 10, 11, 13},
		Attrs: []AttrDef{intsA("starts").until(9), intsA("ends").until(9), intsA("axes").until(9)},
		Inputs: []Param{{Name: "data", Type: "T"}, {Name: "starts", Type: "I", Since: 10},
			{Name: "ends", Type: "I", Since: 10},
			{Name: "axes", Type: "I", Optional: true, Since: 10}, {Name: "steps", Type: "I", Optional: true,
				Since: 10}},
		Outputs: []Param{{Name: "output", Type: "T"}}, Types: map[string]TypeSet{"T": All, "I": Indices},
		Infer: inferSlice, Eval: moving(evalSlice),
		Grad: func(g *Grad) (err error) {
			if !g.Wants[0] {
				return nil
			}
			p, err := sliceOf(g.Node, func(attr string, i int) ([]int64, bool, bool) {
				if a := g.Node.Attr(attr); a != nil {
					return a.Ints, true, true
				}
				if g.In(i) == "" {
					return nil, false, true
				}
				list, ok := intsOf(g.Value(g.In(i)).Const)
				return list, true, ok
			}, g.Dims(g.In(0)))
			if err != nil {
				return err
			}
			if p == nil {
				return g.Node.Errorf("the gradient needs constant starts and ends")
			}
			g.DIn[0], err = g.One(GradDomain, "SliceGrad", []string{g.DOut[0]},
				onnxio.IntsAttr("shape", g.Dims(g.In(0))...),
				onnxio.IntsAttr("starts", p.start...), onnxio.IntsAttr("steps", p.step...))
			return err
		}}
}

// slicing is a Slice in numbers: per dimension its first index, step and length.
type slicing struct {
	start, step, dims []int64
	whole             []bool // all of the axis, whatever its length
}

// sliceOf resolves a Slice node; nil when its lists are not known.
func sliceOf(n *Node, list func(attr string, i int) (l []int64, present, known bool), dims []int64) (*slicing,
	error) {
	starts, has, k1 := list("starts", 1)
	ends, hasEnds, k2 := list("ends", 2)
	axes, hasAxes, k3 := list("axes", 3)
	steps, hasSteps, k4 := list("steps", 4)
	if !k1 || !k2 || !k3 || !k4 {
		return nil, nil
	}
	if !has || !hasEnds || len(starts) != len(ends) || hasAxes && len(axes) != len(starts) || hasSteps &&
		len(steps) != len(starts) {
		return nil, n.Errorf("starts, ends, axes and steps do not go together")
	}
	p := &slicing{make([]int64, len(dims)), make([]int64, len(dims)), append([]int64{}, dims...),
		make([]bool, len(dims))}
	for i := range p.step {
		p.step[i] = 1
	}
	for i := range starts {
		axis := int64(i)
		if hasAxes {
			axis = axes[i]
		}
		a, err := axisOf(n, axis, len(dims))
		if err != nil {
			return nil, err
		}
		step := int64(1)
		if hasSteps {
			step = steps[i]
		}
		if step == 0 {
			return nil, n.Errorf("step is 0")
		}
		p.start[a], p.dims[a] = sliceSpan(starts[i], ends[i], step, dims[a])
		p.step[a] = step
		// Exporters write "to the end" as the greatest int32 or int64, the least ones when they go backwards.
		p.whole[a] = step == 1 && starts[i] == 0 && ends[i] >= math.MaxInt32 || step == -1 &&
			(starts[i] == -1 || starts[i] >= math.MaxInt32) && ends[i] <= math.MinInt32
	}
	return p, nil
}

// sliceSpan clamps as NumPy does.
func sliceSpan(start, end, step, d int64) (first, n int64) {
	if start < 0 {
		start += d
	}
	if end < 0 {
		end += d
	}
	if step > 0 {
		start, end = max(0, min(start, d)), max(0, min(end, d))
		if end <= start {
			return 0, 0
		}
		return start, (end-start-1)/step + 1
	}
	start, end = max(-1, min(start, d-1)), max(-1, min(end, d-1))
	if end >= start {
		return 0, 0
	}
	return start, (start-end-1)/-step + 1
}

func inferSlice(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if !shaped(c, 0) {
		return nil
	}
	s := c.In[0].Shape
	dims := make([]int64, len(s))
	for i, d := range s {
		dims[i] = max(d.Value, 0)
	}
	p, err := sliceOf(c.Node, c.listOf, dims)
	if err != nil {
		return err
	}
	out := make([]onnxio.Dim, len(s))
	axes, hasAxes, _ := c.listOf("axes", 3)
	starts, _, _ := c.listOf("starts", 1)
	for i, d := range s {
		touched := p == nil || !hasAxes && i < len(starts)
		for _, a := range axes {
			touched = touched || int(a) == i || int(a) == i-len(s)
		}
		switch {
		case !touched || p != nil && !d.Known() && p.whole[i]:
			out[i] = d
		case p != nil && d.Known():
			out[i] = knownDim(p.dims[i])
		default:
			out[i] = unknownDim
		}
	}
	c.Set(0, c.In[0].Type, out)
	if e := c.In[0].Elems; p != nil && e != nil && c.In[0].Const == nil && len(s) == 1 && c.Out[0] != nil &&
		s[0].Known() && int(s[0].Value) == len(e) {
		elems := []onnxio.Dim{}
		for i := range p.dims[0] {
			elems = append(elems, e[p.start[0]+i*p.step[0]])
		}
		c.Out[0].Elems = elems
	}
	return nil
}

func evalSlice(c *Eval) error {
	x := c.In[0]
	es, err := elementSize(c, x.Type)
	if err != nil {
		return err
	}
	p, err := sliceOf(c.Node, func(attr string, i int) ([]int64, bool, bool) {
		l, ok := c.listOf(attr, i)
		return l, ok, true
	}, x.Dims)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, x.Type, p.dims...)
	if err != nil {
		return err
	}
	s, at := strides(x.Dims), int64(0)
	for i := range s {
		at += p.start[i] * s[i]
		s[i] *= p.step[i]
	}
	move(y.Raw, x.Raw, es, p.dims, strides(p.dims), s, 0, at)
	return nil
}

// SliceGrad(dy; shape, starts, steps) puts dy back into zeros.
func sliceGradDef() *Def {
	d := gradDef("SliceGrad", []string{"dy"}, []string{"dx"}, intsA("shape"), intsA("starts"), intsA("steps"))
	d.Infer = func(c *Infer) error {
		c.Set(0, c.In[0].Type, knownDims(c.Node.Ints("shape")))
		return nil
	}
	d.Eval = func(c *Eval) error {
		dims, starts, steps := c.Node.Ints("shape"), c.Node.Ints("starts"), c.Node.Ints("steps")
		es, err := elementSize(c, c.In[0].Type)
		if err != nil {
			return err
		}
		dx, err := c.Alloc(0, c.In[0].Type, dims...)
		if err != nil {
			return err
		}
		clear(dx.Raw)
		s, at := strides(dims), int64(0)
		for i := range s {
			at += starts[i] * s[i]
			s[i] *= steps[i]
		}
		move(dx.Raw, c.In[0].Raw, es, c.In[0].Dims, s, strides(c.In[0].Dims), at, 0)
		return nil
	}
	return d
}

func padDef() *Def {
	return &Def{Name: "Pad", Versions: []int64{1, 2, 11, 13, 18, 19, 21, 23, 24, 25},
		Attrs: []AttrDef{stringA("mode"), intsA("pads").since(2).until(10), intsA("paddings").until(1),
			floatA("value").until(10)},
		Inputs: []Param{{Name: "data", Type: "T"}, {Name: "pads", Type: "I", Since: 11},
			{Name: "constant_value", Type: "T", Optional: true, Since: 11},
			{Name: "axes", Type: "I2", Optional: true, Since: 18}},
		Outputs: []Param{{Name: "output", Type: "T"}}, Types: map[string]TypeSet{"T": All,
			"I": Set(onnxio.Int64), "I2": Indices},
		Infer: inferPad, Eval: moving(evalPad),
		Grad: func(g *Grad) error {
			if !g.Wants[0] {
				return nil
			}
			dims := g.Dims(g.In(0))
			begin, end, err := constantPads(g, len(dims))
			if err != nil {
				return err
			}
			mode := g.Node.Str("mode", "constant")
			if mode != "constant" || slices.Min(append(begin, 0)) < 0 || slices.Min(append(end, 0)) < 0 {
				g.DIn[0], err = g.One(GradDomain, "PadGrad", []string{g.DOut[0]},
					onnxio.IntsAttr("shape", dims...),
					onnxio.IntsAttr("begin", begin...), onnxio.StringAttr("mode", mode))
				return err
			}
			starts, ends, axes := []int64{}, []int64{}, []int64{}
			for i, d := range dims {
				starts, ends, axes = append(starts, begin[i]), append(ends, begin[i]+d), append(axes,
					int64(i))
			}
			g.DIn[0], err = g.One("", "Slice", []string{g.DOut[0], g.Const(onnxio.Int64s(starts)),
				g.Const(onnxio.Int64s(ends)), g.Const(onnxio.Int64s(axes))})
			return err
		}}
}

// constantPads are the pads of a node whose gradient is asked for.
func constantPads(g *Grad, rank int) (begin, end []int64, err error) {
	list, known := []int64(nil), false
	if g.In(1) != "" {
		list, known = intsOf(g.Value(g.In(1)).Const)
	}
	var axes []int64
	if g.In(3) != "" {
		ok := false
		axes, ok = intsOf(g.Value(g.In(3)).Const)
		known = known && ok
	}
	if begin, end, err = padsOf(g.Node, rank, list, known, axes, g.In(3) != ""); err == nil && begin == nil {
		err = g.Node.Errorf("the gradient needs constant pads and axes")
	}
	return begin, end, err
}

// padsOf resolves pads to begin and end per dimension; nil when they are not known.
func padsOf(n *Node, rank int, list []int64, known bool, axes []int64, hasAxes bool) (begin, end []int64,
	err error) {
	if a := n.Attr("pads"); a != nil {
		list, known = a.Ints, true
	} else if a := n.Attr("paddings"); a != nil {
		list, known = a.Ints, true
	}
	if !known {
		return nil, nil, nil
	}
	count := rank
	if hasAxes {
		count = len(axes)
	}
	if len(list) != 2*count {
		return nil, nil, n.Errorf("pads %v do not fit %d axes", list, count)
	}
	begin, end = make([]int64, rank), make([]int64, rank)
	for i := range count {
		a := i
		if hasAxes {
			if a, err = axisOf(n, axes[i], rank); err != nil {
				return nil, nil, err
			}
		}
		begin[a], end[a] = list[i], list[count+i]
	}
	return begin, end, nil
}

func inferPad(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if !shaped(c, 0) {
		return nil
	}
	var list, axes []int64
	known, hasAxes := false, c.Has(3)
	if c.Has(1) {
		list, known = intsOf(c.In[1].Const)
	}
	if hasAxes {
		var ok bool
		if axes, ok = intsOf(c.In[3].Const); !ok {
			known = false
		}
	}
	s := c.In[0].Shape
	begin, end, err := padsOf(c.Node, len(s), list, known, axes, hasAxes)
	if err != nil {
		return err
	}
	out := make([]onnxio.Dim, len(s))
	for i, d := range s {
		out[i] = unknownDim
		if begin != nil && d.Known() {
			n := d.Value + begin[i] + end[i]
			if n < 0 {
				return c.Node.Errorf("pads make dimension %d of %s negative", i, shapeText(s))
			}
			out[i] = knownDim(n)
		} else if begin != nil && begin[i] == 0 && end[i] == 0 {
			out[i] = d
		}
	}
	c.Set(0, c.In[0].Type, out)
	return nil
}

func evalPad(c *Eval) error {
	x := c.In[0]
	es, err := elementSize(c, x.Type)
	if err != nil {
		return err
	}
	list, _ := c.listOf("", 1)
	axes, hasAxes := c.listOf("", 3)
	begin, end, err := padsOf(c.Node, len(x.Dims), list, c.Has(1), axes, hasAxes)
	if err != nil {
		return err
	}
	if begin == nil {
		return c.Node.Errorf("pads are missing")
	}
	dims := make([]int64, len(x.Dims))
	for i, d := range x.Dims {
		if dims[i] = d + begin[i] + end[i]; dims[i] < 0 {
			return c.Node.Errorf("pads make dimension %d of %s negative", i, dimsText(x.Dims))
		}
	}
	y, err := c.Alloc(0, x.Type, dims...)
	if err != nil {
		return err
	}
	fill := make([]byte, es)
	if c.Has(2) {
		copy(fill, c.In[2].Raw)
	} else if a := c.Node.Attr("value"); a != nil {
		one := onnxio.NewTensor(x.Type)
		if err := cast(c.Node, one, onnxio.Scalar(onnxio.Float, a.F), false); err != nil {
			return err
		}
		copy(fill, one.Raw)
	}
	return padded(c.Node, dims, x.Dims, begin, func(to, from int64) {
		if from >= 0 {
			copy(y.Raw[to*es:][:es], x.Raw[from*es:])
		} else {
			copy(y.Raw[to*es:][:es], fill)
		}
	})
}

// padded calls f for each element of the padded shape dims, in order, with that of the original shape which
// it shows, -1 where it is filled.
func padded(n *Node, dims, original, begin []int64, f func(to, from int64)) (err error) {
	source := make([][]int64, len(dims))
	for i := range dims {
		if source[i], err = padIndex(n, dims[i], original[i], begin[i]); err != nil {
			return err
		}
	}
	s := strides(original)
	index := make([]int64, len(dims))
	for to := range int64(sizeOf(dims)) {
		at, inside := int64(0), true
		for i, k := range index {
			p := source[i][k]
			inside = inside && p >= 0
			at += p * s[i]
		}
		if !inside {
			at = -1
		}
		f(to, at)
		for i := len(index) - 1; i >= 0; i-- {
			if index[i]++; index[i] < dims[i] {
				break
			}
			index[i] = 0
		}
	}
	return nil
}

// PadGrad(dy; shape, begin, mode) adds each element of dy to the one of the input that it showed.
func padGradDef() *Def {
	d := gradDef("PadGrad", []string{"dy"}, []string{"dx"}, intsA("shape").required(),
		intsA("begin").required(), stringA("mode"))
	d.Infer = func(c *Infer) error {
		if err := inferReady(c); err != nil {
			return err
		}
		c.Set(0, c.In[0].Type, knownDims(c.Node.Ints("shape")))
		return nil
	}
	d.Eval, d.Tol = byFloat(evalPadGrad[float32], evalPadGrad[float64]), reduceTol
	return d
}

func evalPadGrad[T floating](c *Eval) error {
	shape, begin, dy := c.Node.Ints("shape"), c.Node.Ints("begin"), c.In[0]
	if len(begin) != len(shape) || len(dy.Dims) != len(shape) {
		return c.Node.Errorf("dy %s, shape %s, begin %v", dimsText(dy.Dims), dimsText(shape), begin)
	}
	y, err := c.Alloc(0, dy.Type, shape...)
	if err != nil {
		return err
	}
	dx, from := onnxio.Data[T](y), onnxio.Data[T](dy)
	clear(dx)
	return padded(c.Node, dy.Dims, shape, begin, func(to, at int64) {
		if at >= 0 {
			dx[at] += from[to]
		}
	})
}

func padIndex(n *Node, size, d, begin int64) ([]int64, error) {
	mode := n.Str("mode", "constant")
	out := make([]int64, size)
	for i := range out {
		p := int64(i) - begin
		if p < 0 || p >= d {
			switch {
			case mode == "constant":
				p = -1
			case d == 0:
				return nil, n.Errorf("cannot pad an empty dimension in mode %s", mode)
			case mode == "edge":
				p = max(0, min(p, d-1))
			case mode == "wrap":
				p = (p%d + d) % d
			case mode == "reflect":
				if d == 1 {
					p = 0
					break
				}
				period := 2 * (d - 1)
				p = (p%period + period) % period
				p = min(p, period-p)
			default:
				return nil, n.Errorf("mode %q is unknown", mode)
			}
		}
		out[i] = p
	}
	return out, nil
}
