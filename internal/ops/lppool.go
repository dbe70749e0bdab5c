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
		Eval: byFloat(evalLpPool[float32], evalLpPool[float64]),
	}, &Def{
		Name: "MaxUnpool", Versions: []int64{9, 11, 22},
		Inputs: []Param{{Name: "X", Type: "T"}, {Name: "I", Type: "I"}, {Name: "output_shape", Type: "I", Optional: true}},
		Attrs:  []AttrDef{intsA("kernel_shape").required(), intsA("strides"), intsA("pads")}, Outputs: []Param{{Name: "output", Type: "T"}},
		Types: map[string]TypeSet{"T": Floats, "I": Set(onnxio.Int64)}, Infer: inferUnpool,
		Eval: byFloat(evalUnpool[float32], evalUnpool[float64]),
	})
}

// evalLpPool is the p-norm of each window.
func evalLpPool[T floating](c *Eval) error {
	x := c.In[0]
	w, err := poolWindow(c)
	if err != nil {
		return err
	}
	p := float64(c.Node.Int("p", 2))
	if a := c.Node.Attr("p"); a != nil && a.Type == onnxio.AttrFloat {
		p = float64(a.F)
	}
	if p <= 0 {
		return c.Node.Errorf("p %v", p)
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
	w, err := newWindow(n, len(x)-2, n.Ints("kernel_shape"))
	if err != nil {
		return nil, err
	}
	out := append([]int64{}, x[:2]...)
	for i, d := range x[2:] {
		a := w.axis(i)
		if d > maxExtent {
			return nil, n.Errorf("input of shape %s", dimsText(x))
		}
		out = append(out, (d-1)*int64(w.stride[a])+int64(w.kernel[a]-w.padB[a]-w.padE[a]))
	}
	return out, nil
}

func inferUnpool(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	if shaped(c, 0, 1) && !agreeAll(c.In[0].Shape, c.In[1].Shape) {
		return c.Node.Errorf("input %s with indices %s", shapeText(c.In[0].Shape), shapeText(c.In[1].Shape))
	}
	if c.Has(2) {
		if t := c.In[2].Const; t != nil && t.Type == onnxio.Int64 {
			c.Set(0, c.In[0].Type, knownDims(onnxio.Data[int64](t)))
		}
		return nil
	}
	if dims, ok := c.In[0].Dims(); ok {
		out, err := unpoolShape(c.Node, dims)
		if err != nil {
			return err
		}
		c.Set(0, c.In[0].Type, knownDims(out))
	}
	return nil
}

// evalUnpool puts every element where its index says, zero elsewhere. Indices count in the shape that MaxPool had,
// which output_shape may enlarge at the end of each dimension.
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
	size, err := onnxio.CheckedBytes(onnxio.Uint8, pooled)
	if err != nil {
		return n.Errorf("input %s: %w", dimsText(x.Dims), err)
	}
	for i, at := range onnxio.Data[int64](idx) {
		if at < 0 || at >= size {
			return n.Errorf("index %d is outside %s", at, dimsText(pooled))
		}
		if at = movedIndex(at, pooled, shape); at < 0 {
			return n.Errorf("index %d of %s is outside the output %s", onnxio.Data[int64](idx)[i], dimsText(pooled), dimsText(shape))
		}
		dst[at] = src[i]
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
