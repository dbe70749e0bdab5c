package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// Convolutions. Products are summed in float64 and rounded once, so that these kernels can judge the float32
// ones, whose error grows with the length of the sum; hence the tolerance.
var convTol = Tolerance{Abs: 1e-5, Rel: 1e-4}

func init() {
	group, dilations := intA("group"), intsA("dilations")
	inputShape := intsA("input_shape").required()
	conv := &Def{
		Name: "Conv", Versions: []int64{1, 11, 22}, Weights: []int{1, 2},
		Inputs: []Param{{Name: "X", Type: "T"}, {Name: "W", Type: "T"},
			{Name: "B", Type: "T", Optional: true}},
		Outputs: []Param{{Name: "Y", Type: "T"}},
		Attrs:   windowAttrs(dilations, group), Types: floatsT, Tol: convTol,
		Infer: inferConv, Eval: byFloat(evalConv[float32], evalConv[float64]), Grad: gradConv,
	}
	dx := gradDef("ConvGradInput", []string{"dy", "w"}, []string{"dx"}, gradWindowAttrs(group, inputShape)...)
	dx.Infer, dx.Eval, dx.Tol = inferConvGradInput, byFloat(evalConvGradInput[float32],
		evalConvGradInput[float64]), convTol
	dw := gradDef("ConvGradWeight", []string{"x", "dy"}, []string{"dw"}, gradWindowAttrs(group)...)
	dw.Infer, dw.Eval, dw.Tol = inferConvGradWeight, byFloat(evalConvGradWeight[float32],
		evalConvGradWeight[float64]), convTol
	db := gradDef("ConvGradBias", []string{"dy"}, []string{"db"})
	db.Infer, db.Eval, db.Tol = inferConvGradBias, byFloat(evalConvGradBias[float32],
		evalConvGradBias[float64]), convTol
	register(conv, dx, dw, db)
}

// kernelOf is the kernel of a convolution: the weights' spatial shape, which kernel_shape may only repeat.
func kernelOf(n *Node, weights []int64) ([]int64, error) {
	if len(weights) < 3 {
		return nil, n.Errorf("weights of shape %s, not [M,C/group,k...]", dimsText(weights))
	}
	k := weights[2:]
	if a := n.Ints("kernel_shape"); len(a) != 0 && !equal(a, k) {
		return nil, n.Errorf("kernel_shape %s but weights of shape %s", dimsText(a), dimsText(weights))
	}
	return k, nil
}

// convGroups checks the channels of a convolution of C inputs with weights
// [M,C/group,...] and gives the group.
func convGroups(n *Node, channels, m, perGroup int64) (int, error) {
	g := n.Int("group", 1)
	if g < 1 {
		return 0, n.Errorf("group %d", g)
	}
	if m%g != 0 {
		return 0, n.Errorf("%d output channels do not divide into %d groups", m, g)
	}
	if perGroup > 0 && channels/perGroup != g || perGroup*g != channels {
		return 0, n.Errorf("input of %d channels, weights for %d channels in each of %d groups", channels,
			perGroup, g)
	}
	return int(g), nil
}

func inferConv(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	x, w := c.In[0], c.In[1]
	c.SetType(0, x.Type)
	if !x.HasShape {
		return nil
	}
	rank := len(x.Shape) - 2
	if rank < 1 {
		return c.Node.Errorf("input of shape %s, not [N,C,W] or more", shapeText(x.Shape))
	}
	kernel := c.Node.Ints("kernel_shape")
	out := unknownDim
	if w.HasShape {
		if len(w.Shape) != len(x.Shape) {
			return c.Node.Errorf("input %s with weights %s", shapeText(x.Shape), shapeText(w.Shape))
		}
		out = w.Shape[0]
		g := c.Node.Int("group", 1)
		if g < 1 {
			return c.Node.Errorf("group %d", g)
		}
		if out.Known() && out.Value%g != 0 {
			return c.Node.Errorf("weights %s do not divide into %d groups", shapeText(w.Shape), g)
		}
		if ch := x.Shape[1]; ch.Known() && w.Shape[1].Known() &&
			(ch.Value%g != 0 || ch.Value/g != w.Shape[1].Value) {
			return c.Node.Errorf("input %s with weights %s in %d groups", shapeText(x.Shape),
				shapeText(w.Shape), g)
		}
		if dims, ok := (&Value{Shape: w.Shape[2:], HasShape: true}).Dims(); ok {
			if len(kernel) != 0 && !equal(kernel, dims) {
				return c.Node.Errorf("kernel_shape %s but weights %s", dimsText(kernel), shapeText(w.Shape))
			}
			kernel = dims
		}
	}
	if err := inferBias(c, 2, out); err != nil {
		return err
	}
	shape := []onnxio.Dim{x.Shape[0], out}
	if len(kernel) == 0 {
		for i := 0; i < rank; i++ {
			shape = append(shape, unknownDim)
		}
		c.Set(0, x.Type, shape)
		return nil
	}
	win, err := newWindow(c.Node, rank, kernel)
	if err != nil {
		return err
	}
	for i := 0; i < rank; i++ {
		d, err := win.outDim(i, x.Shape[2+i])
		if err != nil {
			return c.Node.Errorf("input %s: %w", shapeText(x.Shape), err)
		}
		shape = append(shape, d)
	}
	c.Set(0, x.Type, shape)
	return nil
}

// inferBias checks that optional input i is a vector of the given length.
func inferBias(c *Infer, i int, length onnxio.Dim) error {
	if shaped(c, i) && (len(c.In[i].Shape) != 1 || !agree(c.In[i].Shape[0], length)) {
		return c.Node.Errorf("%s of shape %s where [%s] is wanted", c.Node.InParams()[i].Name,
			shapeText(c.In[i].Shape),
			shapeText([]onnxio.Dim{length}))
	}
	return nil
}

func evalConv[T floating](c *Eval) error {
	n, x, wt := c.Node, c.In[0], c.In[1]
	kernel, err := kernelOf(n, wt.Dims)
	if err != nil {
		return err
	}
	if len(x.Dims) != len(wt.Dims) {
		return n.Errorf("input %s with weights %s", dimsText(x.Dims), dimsText(wt.Dims))
	}
	w, err := newWindow(n, len(x.Dims)-2, kernel)
	if err != nil {
		return err
	}
	if err := w.settleAll(n, x.Dims[2:]); err != nil {
		return err
	}
	m := wt.Dims[0]
	group, err := convGroups(n, x.Dims[1], m, wt.Dims[1])
	if err != nil {
		return err
	}
	bias := optional[T](c, 2)
	if c.Has(2) && len(bias) != int(m) {
		return n.Errorf("bias %s for %d output channels", dimsText(c.In[2].Dims), m)
	}
	y, err := w.allocSpatial(c, 0, x.Type, int(x.Dims[0]), int(m), &w.out)
	if err != nil {
		return err
	}
	conv := convolution{&w, int(x.Dims[0]), int(x.Dims[1]), int(m), group}
	convForward(&conv, onnxio.Data[T](y), onnxio.Data[T](x), onnxio.Data[T](wt), bias)
	return nil
}

// convolution is a window with the channels around it.
type convolution struct {
	*window
	n, c, m, group int
}

// convForward computes y[n,m,o] = bias[m] + sum over ic, k of w[m,ic,k] * x[n,ic,o*stride+k*dil-pad].
func convForward[T floating](c *convolution, y, x, w, bias []T) {
	var acc [tile]float64
	icg := c.c / c.group
	for row := 0; row < c.n*c.m*c.out[0]*c.out[1]; row++ {
		oh := row % c.out[1]
		od := row / c.out[1] % c.out[0]
		plane := row / (c.out[1] * c.out[0])
		n, m := plane/c.m, plane%c.m
		firstC := m / (c.m / c.group) * icg
		dlo, dhi, d0 := c.taps(0, od)
		hlo, hhi, h0 := c.taps(1, oh)
		for lo := 0; lo < c.out[2]; lo += tile {
			sum := acc[:min(tile, c.out[2]-lo)]
			b := 0.0
			if bias != nil {
				b = float64(bias[m])
			}
			for i := range sum {
				sum[i] = b
			}
			for ic := 0; ic < icg; ic++ {
				wk := w[(m*icg+ic)*c.kSize:]
				xc := x[(n*c.c+firstC+ic)*c.inSize:]
				for kd := dlo; kd < dhi; kd++ {
					for kh := hlo; kh < hhi; kh++ {
						xr := xc[((d0+kd*c.dil[0])*c.in[1]+h0+kh*c.dil[1])*c.in[2]:][:c.in[2]]
						wr := wk[(kd*c.kernel[1]+kh)*c.kernel[2]:][:c.kernel[2]]
						gatherRow(c.window, sum, lo, xr, wr)
					}
				}
			}
			yr := y[row*c.out[2]+lo:][:len(sum)]
			for i, v := range sum {
				yr[i] = T(v)
			}
		}
	}
}

// gatherRow adds one row of taps to sum, which stands for outputs lo, lo+1, ...: sum[o-lo] += wr[k]
// * xr[o*stride+k*dil-pad].
func gatherRow[T floating](w *window, sum []float64, lo int, xr, wr []T) {
	s := w.stride[2]
	for k, wv := range wr {
		a, b, off := w.span(2, k)
		a, b = max(a, lo), min(b, lo+len(sum))
		if a >= b {
			continue
		}
		f := float64(wv)
		dst := sum[a-lo : b-lo]
		if s == 1 {
			src := xr[a+off:][:len(dst)]
			for i, v := range src {
				dst[i] += f * float64(v)
			}
			continue
		}
		j := a*s + off
		for i := range dst {
			dst[i] += f * float64(xr[j])
			j += s
		}
	}
}

func gradConv(g *Grad) error {
	x, w := g.Dims(g.In(0)), g.Dims(g.In(1))
	if len(x) < 3 || len(w) != len(x) {
		return g.Node.Errorf("gradient needs known shapes")
	}
	win, err := newWindow(g.Node, len(x)-2, w[2:])
	if err != nil {
		return err
	}
	if err := win.settleAll(g.Node, x[2:]); err != nil {
		return err
	}
	attrs := append(win.attrs(), onnxio.IntAttr("group", g.Node.Int("group", 1)))
	if g.Wants[1] { // before the gradient of the input, which may lie where that was
		if g.DIn[1], err = g.One(GradDomain, "ConvGradWeight", []string{g.In(0), g.DOut[0]},
			attrs...); err != nil {
			return err
		}
	}
	if err := gradConvBias(g); err != nil || !g.Wants[0] {
		return err
	}
	attrs = append(attrs, onnxio.IntsAttr("input_shape", x...))
	g.DIn[0], err = g.One(GradDomain, "ConvGradInput", []string{g.DOut[0], g.In(1)}, attrs...)
	return err
}

// gradConvBias is the gradient of the bias, input 2 of Conv and of ConvTranspose.
func gradConvBias(g *Grad) (err error) {
	if len(g.Wants) > 2 && g.Wants[2] {
		g.DIn[2], err = g.One(GradDomain, "ConvGradBias", []string{g.DOut[0]})
	}
	return err
}
