package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

func init() {
	register(&Def{
		Name: "LpPool", Versions: []int64{1, 2, 11, 18, 22},
		Inputs: []Param{{Name: "X", Type: "T"}}, Outputs: []Param{{Name: "Y", Type: "T"}},
		Attrs: []AttrDef{floatA("p").until(1), intA("p").since(2), intsA("kernel_shape").until(1),
			intsA("kernel_shape").since(2).required(), intsA("strides"), intsA("pads"), stringA("auto_pad"),
			intsA("dilations").since(18), intA("ceil_mode").since(18)},
		Types: floatsT, Tol: averageTol, Check: checkPool, Infer: inferPool,
		Eval: byFloat(evalLpPool[float32], evalLpPool[float64]), Grad: gradLpPool,
	}, lpPoolGradDef(), unpoolGradDef(), &Def{
		Name: "MaxUnpool", Versions: []int64{9, 11, 22},
		Inputs: []Param{{Name: "X", Type: "T"}, {Name: "I", Type: "I"}, {Name: "output_shape", Type: "I",
			Optional: true}},
		Attrs:   []AttrDef{intsA("kernel_shape").required(), intsA("strides"), intsA("pads")},
		Outputs: []Param{{Name: "output", Type: "T"}},
		Types:   map[string]TypeSet{"T": Floats, "I": Set(onnxio.Int64)}, Infer: inferUnpool,
		Eval: byFloat(evalUnpool[float32], evalUnpool[float64]), Grad: gradUnpool,
	})
}

// poolNorm is the p of a node.
func poolNorm(n *Node) (float64, error) {
	p := float64(n.Int("p", 2))
	if a := n.Attr("p"); a != nil && a.Type == onnxio.AttrFloat {
		p = float64(a.F)
	}
	if !(p > 0) {
		return 0, n.Errorf("p %v", p)
	}
	return p, nil
}

// evalLpPool is the p-norm of each window.
func evalLpPool[T floating](c *Eval) error {
	x := c.In[0]
	w, err := poolWindow(c)
	if err != nil {
		return err
	}
	p, err := poolNorm(c.Node)
	if err != nil {
		return err
	}
	planes := int(x.Dims[0] * x.Dims[1])
	y, err := w.allocSpatial(c, 0, x.Type, int(x.Dims[0]), int(x.Dims[1]), &w.out)
	if err != nil {
		return err
	}
	dst, src := onnxio.Data[T](y), onnxio.Data[T](x)
	for i := 0; i < planes; i++ {
		plane := src[i*w.inSize:][:w.inSize]
		for o := 0; o < w.outSize; o++ {
			sum := 0.0
			w.eachIn(o, func(at int) { sum += math.Pow(math.Abs(float64(plane[at])), p) })
			dst[i*w.outSize+o] = T(math.Pow(sum, 1/p))
		}
	}
	return nil
}

// eachIn calls f with the index within the plane of each element of output o's window.
func (w *window) eachIn(o int, f func(at int)) {
	dlo, dhi, d0 := w.taps(0, o/(w.out[1]*w.out[2]))
	hlo, hhi, h0 := w.taps(1, o/w.out[2]%w.out[1])
	wlo, whi, w0 := w.taps(2, o%w.out[2])
	for kd := dlo; kd < dhi; kd++ {
		for kh := hlo; kh < hhi; kh++ {
			for kw := wlo; kw < whi; kw++ {
				f(((d0+kd*w.dil[0])*w.in[1]+h0+kh*w.dil[1])*w.in[2] + w0 + kw*w.dil[2])
			}
		}
	}
}

// unpoolShape is the shape whose MaxPool has shape x: (x-1)*stride + kernel - pads.
func unpoolShape(n *Node, x []int64) ([]int64, error) {
	out, err := unpoolDims(n, knownDims(x))
	if err != nil {
		return nil, err
	}
	dims := make([]int64, len(out))
	for i, d := range out {
		dims[i] = d.Value
	}
	return dims, nil
}

func unpoolDims(n *Node, x []onnxio.Dim) ([]onnxio.Dim, error) {
	w, err := newWindow(n, len(x)-2, n.Ints("kernel_shape"))
	if err != nil {
		return nil, err
	}
	out := append([]onnxio.Dim{}, x...)
	for i, d := range x[2:] {
		a := w.axis(i)
		if d.Value > maxExtent {
			return nil, n.Errorf("input of shape %s", shapeText(x))
		}
		if out[2+i] = unknownDim; d.Known() {
			out[2+i] = knownDim((d.Value-1)*int64(w.stride[a]) + int64(w.kernel[a]-w.padB[a]-w.padE[a]))
		}
	}
	return out, nil
}

func inferUnpool(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	x := c.In[0]
	if !shaped(c, 0) {
		x = c.In[1]
	} else if shaped(c, 1) && !agreeAll(x.Shape, c.In[1].Shape) {
		return c.Node.Errorf("input %s with indices %s", shapeText(x.Shape), shapeText(c.In[1].Shape))
	}
	if !x.HasShape {
		return nil
	}
	out, err := unpoolDims(c.Node, x.Shape)
	if err != nil {
		return err
	}
	if c.Has(2) {
		want, known := c.In[2].Known()
		if known && len(want) != len(out) {
			return c.Node.Errorf("output_shape %s for input %s", shapeText(want), shapeText(x.Shape))
		}
		for i := range out {
			if out[i] = unknownDim; known {
				out[i] = want[i]
			}
		}
	}
	c.Set(0, c.In[0].Type, out)
	return nil
}

// evalUnpool puts every element where its index says, zero elsewhere. Indices count in the shape that MaxPool
// had, which output_shape may enlarge at the end of each dimension.
func evalUnpool[T floating](c *Eval) error {
	n, x, idx := c.Node, c.In[0], c.In[1]
	if idx.Type != onnxio.Int64 || !equal(x.Dims, idx.Dims) {
		return n.Errorf("input %s with indices %v %s", dimsText(x.Dims), idx.Type, dimsText(idx.Dims))
	}
	pooled, err := unpoolShape(n, x.Dims)
	if err != nil {
		return err
	}
	shape := pooled
	if c.Has(2) {
		shape = onnxio.Data[int64](c.In[2])
		if len(shape) != len(pooled) {
			return n.Errorf("output_shape %s for input %s", dimsText(shape), dimsText(x.Dims))
		}
	}
	y, err := c.Alloc(0, x.Type, shape...)
	if err != nil {
		return err
	}
	dst, src := onnxio.Data[T](y), onnxio.Data[T](x)
	clear(dst)
	return eachUnpooled(n, idx, pooled, shape, func(i int, at int64) { dst[at] = src[i] })
}

// eachUnpooled calls f for each element with its place in the output, whose shape is
// out; indices count in pooled.
func eachUnpooled(n *Node, indices *onnxio.Tensor, pooled, out []int64, f func(i int, at int64)) error {
	size, err := onnxio.CheckedBytes(onnxio.Uint8, pooled)
	if err != nil {
		return n.Errorf("indices of shape %s: %w", dimsText(indices.Dims), err)
	}
	for i, at := range onnxio.Data[int64](indices) {
		if at < 0 || at >= size {
			return n.Errorf("index %d is outside %s", at, dimsText(pooled))
		}
		moved := movedIndex(at, pooled, out)
		if moved < 0 {
			return n.Errorf("index %d of %s is outside the output %s", at, dimsText(pooled), dimsText(out))
		}
		f(i, moved)
	}
	return nil
}

// movedIndex is where the element with row-major index at in shape from lies in shape to; -1 when outside.
func movedIndex(at int64, from, to []int64) int64 {
	moved, step := int64(0), int64(1)
	for i := len(from) - 1; i >= 0; i-- {
		k := at % from[i]
		if k >= to[i] {
			return -1
		}
		at /= from[i]
		moved += k * step
		step *= to[i]
	}
	return moved
}

func gradLpPool(g *Grad) (err error) {
	if !g.Wants[0] {
		return nil
	}
	w, err := gradWindow(g)
	if err != nil {
		return err
	}
	p, err := poolNorm(g.Node)
	if err != nil {
		return err
	}
	attrs := append(w.attrs(), onnxio.FloatAttr("p", float32(p)))
	g.DIn[0], err = g.One(GradDomain, "LpPoolGrad", []string{g.DOut[0], g.In(0), g.Out(0)}, attrs...)
	return err
}

// LpPoolGrad(dy, x, y) gives each element of a window its share of dy: sign(x) *
// (|x|/y)^(p-1). A norm of 0 has none.
func lpPoolGradDef() *Def {
	d := gradDef("LpPoolGrad", []string{"dy", "x", "y"}, []string{"dx"},
		gradWindowAttrs(floatA("p").required())...)
	d.Infer, d.Eval, d.Tol = inferLikeSecond, byFloat(evalLpPoolGrad[float32], evalLpPoolGrad[float64]),
		averageTol
	return d
}

func evalLpPoolGrad[T floating](c *Eval) error {
	dy, x, y := c.In[0], c.In[1], c.In[2]
	if len(x.Dims) < 3 || len(dy.Dims) != len(x.Dims) || !equal(dy.Dims[:2], x.Dims[:2]) ||
		!equal(dy.Dims, y.Dims) {
		return c.Node.Errorf("dy %s, x %s, y %s", dimsText(dy.Dims), dimsText(x.Dims), dimsText(y.Dims))
	}
	w, err := newWindow(c.Node, len(x.Dims)-2, c.Node.Ints("kernel_shape"))
	if err != nil {
		return err
	}
	if err := w.force(c.Node, x.Dims[2:], dy.Dims[2:]); err != nil {
		return err
	}
	p, err := poolNorm(c.Node)
	if err != nil {
		return err
	}
	dx, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil {
		return err
	}
	dst, src, norm, grad := onnxio.Data[T](dx), onnxio.Data[T](x), onnxio.Data[T](y), onnxio.Data[T](dy)
	clear(dst)
	for i := range grad {
		if norm[i] == 0 {
			continue
		}
		first, d, n := i/w.outSize*w.inSize, float64(grad[i]), float64(norm[i])
		w.eachIn(i%w.outSize, func(at int) {
			v := float64(src[first+at])
			if v == 0 {
				return
			}
			dst[first+at] += T(math.Copysign(math.Pow(math.Abs(v)/n, p-1)*d, v*d))
		})
	}
	return nil
}

func gradUnpool(g *Grad) (err error) {
	if g.Wants[0] {
		g.DIn[0], err = g.One(GradDomain, "MaxUnpoolGrad", []string{g.DOut[0], g.In(1)}, g.Node.Attrs...)
	}
	return err
}

// MaxUnpoolGrad(dy, I) takes dy back from where the indices put the elements.
func unpoolGradDef() *Def {
	d := gradDef("MaxUnpoolGrad", []string{"dy"}, []string{"dx"}, intsA("kernel_shape").required(),
		intsA("strides"),
		intsA("pads"))
	d.Inputs = append(d.Inputs, Param{Name: "I", Type: "I"})
	d.Types = map[string]TypeSet{"T": Floats, "I": Set(onnxio.Int64)}
	d.Infer = func(c *Infer) error {
		if err := inferReady(c); err != nil {
			return err
		}
		c.SetType(0, c.In[0].Type)
		if shaped(c, 1) {
			c.Set(0, c.In[0].Type, c.In[1].Shape)
		}
		return nil
	}
	d.Eval = byFloat(evalUnpoolGrad[float32], evalUnpoolGrad[float64])
	return d
}

func evalUnpoolGrad[T floating](c *Eval) error {
	dy, indices := c.In[0], c.In[1]
	pooled, err := unpoolShape(c.Node, indices.Dims)
	if err != nil {
		return err
	}
	if indices.Type != onnxio.Int64 || len(dy.Dims) != len(pooled) {
		return c.Node.Errorf("dy %s with indices %v %s", dimsText(dy.Dims), indices.Type,
			dimsText(indices.Dims))
	}
	dx, err := c.Alloc(0, dy.Type, indices.Dims...)
	if err != nil {
		return err
	}
	from, to := onnxio.Data[T](dy), onnxio.Data[T](dx)
	return eachUnpooled(c.Node, indices, pooled, dy.Dims, func(i int, at int64) { to[i] = from[at] })
}
