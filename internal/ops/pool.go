package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Pools. Max picks an element, so every implementation agrees to the bit; averages are
// float64 sums rounded once.
var averageTol = Tolerance{Abs: 1e-6, Rel: 1e-5}

func init() {
	x, y := []Param{{Name: "X", Type: "T"}}, []Param{{Name: "Y", Type: "T"}}
	smalls := map[string]TypeSet{"T": Floats | Set(onnxio.Int8, onnxio.Uint8), "I": Set(onnxio.Int64)}
	ceil := intA("ceil_mode").since(10)
	maxPool := &Def{
		Name: "MaxPool", Versions: []int64{1, 8, 10, 11, 12, 22},
		Inputs: x, Outputs: []Param{{Name: "Y", Type: "T"}, {Name: "Indices", Type: "I", Optional: true,
			Since: 8}},
		Attrs: poolAttrs(ceil, intsA("dilations").since(10), intA("storage_order").since(8)),
		Types: smalls, Check: checkPool, Infer: inferPool, Eval: evalMaxPool, Grad: gradMaxPool,
	}
	average := &Def{
		Name: "AveragePool", Versions: []int64{1, 7, 10, 11, 19, 22}, Inputs: x, Outputs: y,
		Attrs: poolAttrs(ceil, intsA("dilations").since(19), intA("count_include_pad").since(7)),
		Types: floatsT, Tol: averageTol, Check: checkPool, Infer: inferPool,
		Eval: byFloat(evalAveragePool[float32], evalAveragePool[float64]), Grad: gradAveragePool,
	}
	maxGrad := gradDef("MaxPoolGrad", []string{"dy", "x", "y"}, []string{"dx"}, gradWindowAttrs()...)
	maxGrad.Infer, maxGrad.Eval = inferLikeSecond, byFloat(evalMaxPoolGrad[float32], evalMaxPoolGrad[float64])
	averageGrad := gradDef("AveragePoolGrad", []string{"dy"}, []string{"dx"},
		gradWindowAttrs(intA("count_include_pad"), intsA("input_shape").required())...)
	averageGrad.Infer, averageGrad.Tol = inferConvGradInput, averageTol
	averageGrad.Eval = byFloat(evalAveragePoolGrad[float32], evalAveragePoolGrad[float64])
	register(maxPool, average, maxGrad, averageGrad)
}

func checkPool(n *Node) error {
	if n.Attr("kernel_shape") == nil {
		return n.Errorf("needs the attribute kernel_shape")
	}
	return nil
}

func inferPool(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	x := c.In[0]
	c.SetType(0, x.Type)
	c.SetType(1, onnxio.Int64)
	if err := checkPool(c.Node); err != nil || !x.HasShape {
		return err
	}
	w, err := newWindow(c.Node, len(x.Shape)-2, c.Node.Ints("kernel_shape"))
	if err != nil {
		return err
	}
	shape := append([]onnxio.Dim{}, x.Shape[:2]...)
	for i, d := range x.Shape[2:] {
		if d, err = w.outDim(i, d); err != nil {
			return c.Node.Errorf("input %s: %w", shapeText(x.Shape), err)
		}
		shape = append(shape, d)
	}
	c.Set(0, x.Type, shape)
	c.Set(1, onnxio.Int64, shape)
	return nil
}

// poolWindow is the settled geometry of a pool over input 0.
func poolWindow(c *Eval) (w window, err error) {
	x := c.In[0].Dims
	if w, err = newWindow(c.Node, len(x)-2, c.Node.Ints("kernel_shape")); err != nil {
		return w, err
	}
	return w, w.settleAll(c.Node, x[2:])
}

func evalMaxPool(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	switch c.In[0].Type {
	case onnxio.Int8:
		return maxPool[int8](c, math.MinInt8)
	case onnxio.Uint8:
		return maxPool[uint8](c, 0)
	}
	return maxPoolFloat(c)
}

var maxPoolFloat = byFloat(
	func(c *Eval) error { return maxPool[float32](c, float32(math.Inf(-1))) },
	func(c *Eval) error { return maxPool[float64](c, math.Inf(-1)) })

// maxPool gives the largest of each window, lowest where a window holds nothing but padding, and its index
// within the whole tensor, -1 for such windows.
func maxPool[T float32 | float64 | int8 | uint8](c *Eval, lowest T) error {
	x := c.In[0]
	w, err := poolWindow(c)
	if err != nil {
		return err
	}
	n, ch := int(x.Dims[0]), int(x.Dims[1])
	y, err := w.allocSpatial(c, 0, x.Type, n, ch, &w.out)
	if err != nil {
		return err
	}
	var indices []int64
	if c.Wants(1) {
		t, err := w.allocSpatial(c, 1, onnxio.Int64, n, ch, &w.out)
		if err != nil {
			return err
		}
		indices = onnxio.Data[int64](t)
	}
	columnMajor := c.Node.Int("storage_order", 0) != 0
	dst, src := onnxio.Data[T](y), onnxio.Data[T](x)
	for p := 0; p < n*ch; p++ {
		plane := src[p*w.inSize:][:w.inSize]
		for o := 0; o < w.outSize; o++ {
			at := maxOf(&w, plane, o)
			v := lowest
			if at >= 0 {
				v = plane[at]
			}
			dst[p*w.outSize+o] = v
			if indices != nil {
				indices[p*w.outSize+o] = w.storageIndex(p, at, columnMajor)
			}
		}
	}
	return nil
}

// storageIndex is the index of element at of plane p within the tensor, in row-major or column-major order
// of the spatial dimensions.
func (w *window) storageIndex(p, at int, columnMajor bool) int64 {
	if at < 0 {
		return -1
	}
	if columnMajor {
		x := at % w.in[2]
		y := at / w.in[2] % w.in[1]
		z := at / (w.in[2] * w.in[1])
		switch w.rank { // the first spatial dimension is the fastest
		case 2:
			at = y + x*w.in[1]
		case 3:
			at = z + y*w.in[0] + x*w.in[0]*w.in[1]
		}
	}
	return int64(p*w.inSize + at)
}

// maxOf is the index in plane of the first maximum of output o's window, in row-major order; -1 when the
// window lies in the padding. NaN counts as the maximum, as in PyTorch.
func maxOf[T float32 | float64 | int8 | uint8](w *window, plane []T, o int) int {
	dlo, dhi, d0 := w.taps(0, o/(w.out[1]*w.out[2]))
	hlo, hhi, h0 := w.taps(1, o/w.out[2]%w.out[1])
	wlo, whi, w0 := w.taps(2, o%w.out[2])
	at := -1
	var best T
	for kd := dlo; kd < dhi; kd++ {
		for kh := hlo; kh < hhi; kh++ {
			row := ((d0+kd*w.dil[0])*w.in[1] + h0 + kh*w.dil[1]) * w.in[2]
			for kw := wlo; kw < whi; kw++ {
				i := row + w0 + kw*w.dil[2]
				if v := plane[i]; at < 0 || v > best || v != v {
					at, best = i, v
				}
			}
		}
	}
	return at
}

// gradWindow is the settled geometry of a pool whose gradient is asked for.
func gradWindow(g *Grad) (w window, err error) {
	x := g.Dims(g.In(0))
	if len(x) < 3 {
		return w, g.Node.Errorf("gradient needs known shapes")
	}
	if w, err = newWindow(g.Node, len(x)-2, g.Node.Ints("kernel_shape")); err != nil {
		return w, err
	}
	return w, w.settleAll(g.Node, x[2:])
}

func gradMaxPool(g *Grad) (err error) {
	if g.DOut[0] == "" || !g.Wants[0] {
		return nil // indices carry no gradient
	}
	w, err := gradWindow(g)
	if err != nil {
		return err
	}
	g.DIn[0], err = g.One(GradDomain, "MaxPoolGrad", []string{g.DOut[0], g.In(0), g.Out(0)}, w.attrs()...)
	return err
}

// inferLikeSecond is the inference of gradients that look like their second input.
func inferLikeSecond(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	setLike(c, 0, c.In[1])
	return nil
}

func evalMaxPoolGrad[T floating](c *Eval) error {
	dy, x := c.In[0], c.In[1]
	if len(x.Dims) < 3 || len(dy.Dims) != len(x.Dims) || !equal(dy.Dims[:2], x.Dims[:2]) {
		return c.Node.Errorf("dy %s, x %s", dimsText(dy.Dims), dimsText(x.Dims))
	}
	w, err := newWindow(c.Node, len(x.Dims)-2, c.Node.Ints("kernel_shape"))
	if err != nil {
		return err
	}
	if err := w.force(c.Node, x.Dims[2:], dy.Dims[2:]); err != nil {
		return err
	}
	n, ch := int(x.Dims[0]), int(x.Dims[1])
	dx, err := w.allocSpatial(c, 0, x.Type, n, ch, &w.in)
	if err != nil {
		return err
	}
	maxPoolGrad(&w, n*ch, onnxio.Data[T](dx), onnxio.Data[T](dy), onnxio.Data[T](x))
	return nil
}

// maxPoolGrad gives each gradient to the window's first maximum.
func maxPoolGrad[T float32 | float64](w *window, planes int, dx, dy, x []T) {
	clear(dx)
	for p := 0; p < planes; p++ {
		src, dst := x[p*w.inSize:][:w.inSize], dx[p*w.inSize:][:w.inSize]
		for o := 0; o < w.outSize; o++ {
			if at := maxOf(w, src, o); at >= 0 {
				dst[at] += dy[p*w.outSize+o]
			}
		}
	}
}

// divisor is how many elements output o's average is over: those inside the input, or inside input and pads.
// What a window of ceil_mode reaches beyond the trailing pad never counts.
func (w *window) divisor(o int, includePad bool) int {
	pos := [maxSpatial]int{o / (w.out[1] * w.out[2]), o / w.out[2] % w.out[1], o % w.out[2]}
	n := 1
	for a, p := range pos {
		lo, hi, origin := w.taps(a, p)
		if includePad {
			lo, hi = 0, 0
			if last := w.in[a] + w.padE[a] - 1 - origin; last >= 0 {
				hi = min(last/w.dil[a]+1, w.kernel[a])
			}
		}
		n *= hi - lo
	}
	return n
}

func evalAveragePool[T floating](c *Eval) error {
	x := c.In[0]
	w, err := poolWindow(c)
	if err != nil {
		return err
	}
	n, ch := int(x.Dims[0]), int(x.Dims[1])
	y, err := w.allocSpatial(c, 0, x.Type, n, ch, &w.out)
	if err != nil {
		return err
	}
	includePad := c.Node.Int("count_include_pad", 0) != 0
	dst, src := onnxio.Data[T](y), onnxio.Data[T](x)
	for p := 0; p < n*ch; p++ {
		plane := src[p*w.inSize:][:w.inSize]
		for o := 0; o < w.outSize; o++ {
			v := T(0) // a window within the padding
			if d := w.divisor(o, includePad); d > 0 {
				v = T(sumOf(&w, plane, o) / float64(d))
			}
			dst[p*w.outSize+o] = v
		}
	}
	return nil
}

// sumOf adds up output o's window.
func sumOf[T floating](w *window, plane []T, o int) float64 {
	dlo, dhi, d0 := w.taps(0, o/(w.out[1]*w.out[2]))
	hlo, hhi, h0 := w.taps(1, o/w.out[2]%w.out[1])
	wlo, whi, w0 := w.taps(2, o%w.out[2])
	sum := 0.0
	for kd := dlo; kd < dhi; kd++ {
		for kh := hlo; kh < hhi; kh++ {
			row := ((d0+kd*w.dil[0])*w.in[1]+h0+kh*w.dil[1])*w.in[2] + w0
			for kw := wlo; kw < whi; kw++ {
				sum += float64(plane[row+kw*w.dil[2]])
			}
		}
	}
	return sum
}

func gradAveragePool(g *Grad) (err error) {
	if !g.Wants[0] {
		return nil
	}
	w, err := gradWindow(g)
	if err != nil {
		return err
	}
	attrs := append(w.attrs(), onnxio.IntAttr("count_include_pad", g.Node.Int("count_include_pad", 0)),
		onnxio.IntsAttr("input_shape", g.Dims(g.In(0))...))
	g.DIn[0], err = g.One(GradDomain, "AveragePoolGrad", []string{g.DOut[0]}, attrs...)
	return err
}

func evalAveragePoolGrad[T floating](c *Eval) error {
	dy, in := c.In[0], c.Node.Ints("input_shape")
	if len(in) < 3 || len(dy.Dims) != len(in) || !equal(dy.Dims[:2], in[:2]) {
		return c.Node.Errorf("dy %s, input_shape %s", dimsText(dy.Dims), dimsText(in))
	}
	w, err := newWindow(c.Node, len(in)-2, c.Node.Ints("kernel_shape"))
	if err != nil {
		return err
	}
	if err := w.force(c.Node, in[2:], dy.Dims[2:]); err != nil {
		return err
	}
	dx, err := w.allocSpatial(c, 0, dy.Type, int(in[0]), int(in[1]), &w.in)
	if err != nil {
		return err
	}
	includePad := c.Node.Int("count_include_pad", 0) != 0
	averagePoolGrad(&w, int(in[0]*in[1]), includePad, onnxio.Data[T](dx), onnxio.Data[T](dy))
	return nil
}

// averagePoolGrad spreads each gradient over its window.
func averagePoolGrad[T floating](w *window, planes int, includePad bool, dx, dy []T) {
	clear(dx)
	for o := 0; o < w.outSize; o++ {
		d := w.divisor(o, includePad)
		if d == 0 {
			continue
		}
		dlo, dhi, d0 := w.taps(0, o/(w.out[1]*w.out[2]))
		hlo, hhi, h0 := w.taps(1, o/w.out[2]%w.out[1])
		wlo, whi, w0 := w.taps(2, o%w.out[2])
		for p := 0; p < planes; p++ {
			v := dy[p*w.outSize+o] / T(d)
			for kd := dlo; kd < dhi; kd++ {
				for kh := hlo; kh < hhi; kh++ {
					row := p*w.inSize + ((d0+kd*w.dil[0])*w.in[1]+h0+kh*w.dil[1])*w.in[2] + w0
					for kw := wlo; kw < whi; kw++ {
						dx[row+kw*w.dil[2]] += v
					}
				}
			}
		}
	}
}
