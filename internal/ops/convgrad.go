package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

func knownDims(dims []int64) []onnxio.Dim {
	out := make([]onnxio.Dim, len(dims))
	for i, d := range dims {
		out[i] = onnxio.Dim{Value: d}
	}
	return out
}

func inferConvGradInput(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.Set(0, c.In[0].Type, knownDims(c.Node.Ints("input_shape")))
	return nil
}

func inferConvGradWeight(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	if !shaped(c, 0, 1) || len(c.In[0].Shape) < 3 || len(c.In[1].Shape) != len(c.In[0].Shape) {
		return c.Node.Errorf("needs x and dy of known and equal rank")
	}
	g := c.Node.Int("group", 1)
	ch := c.In[0].Shape[1]
	if g < 1 || !ch.Known() {
		return c.Node.Errorf("group %d, input %s", g, shapeText(c.In[0].Shape))
	}
	shape := []onnxio.Dim{c.In[1].Shape[1], knownDim(ch.Value / g)}
	c.Set(0, c.In[0].Type, append(shape, knownDims(c.Node.Ints("kernel_shape"))...))
	return nil
}

func inferConvGradBias(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	if !shaped(c, 0) || len(c.In[0].Shape) < 2 {
		return c.Node.Errorf("needs dy of known rank")
	}
	c.Set(0, c.In[0].Type, c.In[0].Shape[1:2])
	return nil
}

func evalConvGradInput[T floating](c *Eval) error {
	n, dy, wt := c.Node, c.In[0], c.In[1]
	in := n.Ints("input_shape")
	if len(in) < 3 || len(dy.Dims) != len(in) || len(wt.Dims) != len(in) || dy.Dims[0] != in[0] ||
		dy.Dims[1] != wt.Dims[0] {
		return n.Errorf("dy %s, w %s, input_shape %s", dimsText(dy.Dims), dimsText(wt.Dims), dimsText(in))
	}
	w, err := newWindow(n, len(in)-2, wt.Dims[2:])
	if err != nil {
		return err
	}
	if err := w.force(n, in[2:], dy.Dims[2:]); err != nil {
		return err
	}
	group, err := convGroups(n, in[1], wt.Dims[0], wt.Dims[1])
	if err != nil {
		return err
	}
	dx, err := w.allocSpatial(c, 0, dy.Type, int(in[0]), int(in[1]), &w.in)
	if err != nil {
		return err
	}
	conv := convolution{&w, int(in[0]), int(in[1]), int(wt.Dims[0]), group}
	convScatter(&conv, onnxio.Data[T](dx), onnxio.Data[T](dy), onnxio.Data[T](wt), nil)
	return nil
}

// convScatter is the adjoint of convForward in x, and ConvTranspose's forward:
// dx[n,ic,i] = bias[ic] + sum over m, and o, k with o*stride+k*dil-pad = i, of w[m,ic,k] * dy[n,m,o].
func convScatter[T floating](c *convolution, dx, dy, w, bias []T) {
	var acc [tile]float64
	icg, ocg := c.c/c.group, c.m/c.group
	for row := 0; row < c.n*c.c*c.in[0]*c.in[1]; row++ {
		ih := row % c.in[1]
		id := row / c.in[1] % c.in[0]
		plane := row / (c.in[1] * c.in[0])
		n, ic := plane/c.c, plane%c.c
		firstM := ic / icg * ocg
		for lo := 0; lo < c.in[2]; lo += tile {
			sum := acc[:min(tile, c.in[2]-lo)]
			b := 0.0
			if bias != nil {
				b = float64(bias[ic])
			}
			for i := range sum {
				sum[i] = b
			}
			for kd := 0; kd < c.kernel[0]; kd++ {
				od, ok := c.source(0, id, kd)
				if !ok {
					continue
				}
				for kh := 0; kh < c.kernel[1]; kh++ {
					oh, ok := c.source(1, ih, kh)
					if !ok {
						continue
					}
					for m := firstM; m < firstM+ocg; m++ {
						dyr := dy[(n*c.m+m)*c.outSize+(od*c.out[1]+oh)*c.out[2]:][:c.out[2]]
						wr := w[(m*icg+ic%icg)*c.kSize+(kd*c.kernel[1]+kh)*c.kernel[2]:][:c.kernel[2]]
						scatterRow(c.window, sum, lo, dyr, wr)
					}
				}
			}
			dst := dx[row*c.in[2]+lo:][:len(sum)]
			for i, v := range sum {
				dst[i] = T(v)
			}
		}
	}
}

// source is the output whose tap k along place a reads input i, if there is one.
func (w *window) source(a, i, k int) (o int, ok bool) {
	p := i + w.padB[a] - k*w.dil[a]
	if p < 0 || p%w.stride[a] != 0 {
		return 0, false
	}
	o = p / w.stride[a]
	return o, o < w.out[a]
}

// scatterRow adds to sum, which stands for inputs lo, lo+1, ...:
// sum[o*stride+k*dil-pad-lo] += wr[k] * dyr[o].
func scatterRow[T floating](w *window, sum []float64, lo int, dyr, wr []T) {
	s := w.stride[2]
	for k, wv := range wr {
		a, b, off := w.span(2, k)
		if first := lo - off; first > 0 { // outputs that reach input lo
			a = max(a, (first+s-1)/s)
		}
		if last := lo + len(sum) - 1 - off; last >= 0 {
			b = min(b, last/s+1)
		} else {
			b = 0
		}
		if a >= b {
			continue
		}
		f := float64(wv)
		j := a*s + off - lo
		if s == 1 {
			dst := sum[j:]
			for i, v := range dyr[a:b] {
				dst[i] += f * float64(v)
			}
			continue
		}
		for _, v := range dyr[a:b] {
			sum[j] += f * float64(v)
			j += s
		}
	}
}

func evalConvGradWeight[T floating](c *Eval) error {
	n, x, dy := c.Node, c.In[0], c.In[1]
	kernel := n.Ints("kernel_shape")
	if len(x.Dims) < 3 || len(dy.Dims) != len(x.Dims) || len(kernel) != len(x.Dims)-2 ||
		x.Dims[0] != dy.Dims[0] {
		return n.Errorf("x %s, dy %s, kernel_shape %s", dimsText(x.Dims), dimsText(dy.Dims), dimsText(kernel))
	}
	w, err := newWindow(n, len(kernel), kernel)
	if err != nil {
		return err
	}
	if err := w.force(n, x.Dims[2:], dy.Dims[2:]); err != nil {
		return err
	}
	m, g := dy.Dims[1], n.Int("group", 1)
	if g < 1 || x.Dims[1]%g != 0 {
		return n.Errorf("%d input channels in %d groups", x.Dims[1], g)
	}
	group, err := convGroups(n, x.Dims[1], m, x.Dims[1]/g)
	if err != nil {
		return err
	}
	dw, err := w.allocSpatial(c, 0, x.Type, int(m), int(x.Dims[1]/g), &w.kernel)
	if err != nil {
		return err
	}
	conv := convolution{&w, int(x.Dims[0]), int(x.Dims[1]), int(m), group}
	convWeights(&conv, onnxio.Data[T](dw), onnxio.Data[T](x), onnxio.Data[T](dy))
	return nil
}

// convWeights is the gradient of the weights: dw[m,ic,k] = sum over n, o of dy[n,m,o] *
// x[n,ic,o*stride+k*dil-pad].
func convWeights[T floating](c *convolution, dw, x, dy []T) {
	icg, ocg := c.c/c.group, c.m/c.group
	for i := range dw {
		k := i % c.kSize
		ic := i / c.kSize % icg
		m := i / (c.kSize * icg)
		ic += m / ocg * icg
		kw := k % c.kernel[2]
		kh := k / c.kernel[2] % c.kernel[1]
		kd := k / (c.kernel[2] * c.kernel[1])
		dlo, dhi, doff := c.span(0, kd)
		hlo, hhi, hoff := c.span(1, kh)
		wlo, whi, woff := c.span(2, kw)
		sum := 0.0
		if wlo < whi {
			for n := 0; n < c.n; n++ {
				xc := x[(n*c.c+ic)*c.inSize:]
				dyc := dy[(n*c.m+m)*c.outSize:]
				for od := dlo; od < dhi; od++ {
					for oh := hlo; oh < hhi; oh++ {
						xr := xc[((od*c.stride[0]+doff)*c.in[1]+oh*c.stride[1]+hoff)*c.in[2]:][:c.in[2]]
						dyr := dyc[(od*c.out[1]+oh)*c.out[2]:][wlo:whi]
						sum += dotStrided(dyr, xr[wlo*c.stride[2]+woff:], c.stride[2])
					}
				}
			}
		}
		dw[i] = T(sum)
	}
}

// dotStrided is the sum of a[i] * b[i*stride].
func dotStrided[T floating](a, b []T, stride int) float64 {
	sum := 0.0
	if stride == 1 {
		b = b[:len(a)]
		for i, v := range a {
			sum += float64(v) * float64(b[i])
		}
		return sum
	}
	j := 0
	for _, v := range a {
		sum += float64(v) * float64(b[j])
		j += stride
	}
	return sum
}

func evalConvGradBias[T floating](c *Eval) error {
	dy := c.In[0]
	if len(dy.Dims) < 2 {
		return c.Node.Errorf("dy of shape %s", dimsText(dy.Dims))
	}
	db, err := c.Alloc(0, dy.Type, dy.Dims[1])
	if err != nil {
		return err
	}
	n, ch, plane := int(dy.Dims[0]), int(dy.Dims[1]), sizeOf(dy.Dims[2:])
	src, dst := onnxio.Data[T](dy), onnxio.Data[T](db)
	for k := range dst {
		sum := 0.0
		for b := 0; b < n; b++ {
			for _, v := range src[(b*ch+k)*plane:][:plane] {
				sum += float64(v)
			}
		}
		dst[k] = T(sum)
	}
	return nil
}
