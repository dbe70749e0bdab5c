package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

func init() {
	register(&Def{
		Name: "ConvTranspose", Versions: []int64{1, 11, 22}, Weights: []int{1, 2},
		Inputs: []Param{{Name: "X", Type: "T"}, {Name: "W", Type: "T"},
			{Name: "B", Type: "T", Optional: true}},
		Outputs: []Param{{Name: "Y", Type: "T"}},
		Attrs: windowAttrs(intsA("dilations"), intA("group"), intsA("output_shape"),
			intsA("output_padding")),
		Types: floatsT, Tol: convTol,
		Infer: inferConvTranspose, Eval: byFloat(evalConvTranspose[float32], evalConvTranspose[float64]),
		Grad: gradConvTranspose,
	})
}

// transposed is the geometry of a ConvTranspose seen as the convolution whose adjoint it is: in and out keep
// ConvTranspose's own meaning, so the adjoint has them swapped.
type transposed struct {
	window
	shape []int64 // output_shape, empty when absent
}

func newTransposed(n *Node, rank int, kernel []int64) (t transposed, err error) {
	if t.window, err = newWindow(n, rank, kernel); err != nil {
		return t, err
	}
	t.shape = n.Ints("output_shape")
	if len(t.shape) == rank+2 { // old exporters wrote all dimensions
		t.shape = t.shape[2:]
	}
	if len(t.shape) != 0 && len(t.shape) != rank {
		return t, n.Errorf("output_shape %s for %d spatial dimensions", dimsText(t.shape), rank)
	}
	for _, d := range t.shape {
		if d < 1 || d > maxExtent {
			return t, n.Errorf("output_shape %s", dimsText(t.shape))
		}
	}
	return t, nil
}

// settle sets the input size of spatial dimension i and computes output size and pads.
func (t *transposed) settle(n *Node, i, in int) error {
	a := t.axis(i)
	t.in[a] = in
	full := (in-1)*t.stride[a] + t.outputPad[a] + t.reach(a)
	switch {
	case len(t.shape) != 0:
		t.out[a] = int(t.shape[i])
	case t.auto == padSameUpper || t.auto == padSameLower:
		t.out[a] = in * t.stride[a]
	default:
		t.out[a] = full - t.padB[a] - t.padE[a]
		if t.out[a] < 1 {
			return n.Errorf("input %d with kernel %d leaves nothing within pads %d and %d", in, t.kernel[a],
				t.padB[a], t.padE[a])
		}
		return nil
	}
	total := max(full-t.out[a], 0)
	t.padB[a] = total - total/2
	if t.auto == padSameUpper {
		t.padB[a] = total / 2
	}
	t.padE[a] = total - t.padB[a]
	return nil
}

func (t *transposed) settleAll(n *Node, spatial []int64) error {
	for i, d := range spatial {
		if d < 1 || d > maxExtent {
			return n.Errorf("spatial shape %s", dimsText(spatial))
		}
		if err := t.settle(n, i, int(d)); err != nil {
			return err
		}
	}
	t.sizes()
	return nil
}

// adjoint is the window of the convolution from the output to the input.
func (t *transposed) adjoint() window {
	w := t.window
	w.in, w.out = t.out, t.in
	w.sizes()
	return w
}

func inferConvTranspose(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	x, w := c.In[0], c.In[1]
	c.SetType(0, x.Type)
	if !x.HasShape || !w.HasShape {
		return nil
	}
	g := c.Node.Int("group", 1)
	if g < 1 {
		return c.Node.Errorf("group %d", g)
	}
	rank := len(x.Shape) - 2
	if len(w.Shape) != len(x.Shape) || rank < 1 || !agree(x.Shape[1], w.Shape[0]) ||
		(w.Shape[0].Known() && w.Shape[0].Value%g != 0) {
		return c.Node.Errorf("input %s with weights %s in %d groups", shapeText(x.Shape),
			shapeText(w.Shape), g)
	}
	out := unknownDim
	if w.Shape[1].Known() {
		if w.Shape[1].Value > maxExtent || g > maxExtent {
			return c.Node.Errorf("weights %s in %d groups", shapeText(w.Shape), g)
		}
		out = knownDim(w.Shape[1].Value * g)
	}
	if err := inferBias(c, 2, out); err != nil {
		return err
	}
	kernel, ok := (&Value{Shape: w.Shape[2:], HasShape: true}).Dims()
	if k := c.Node.Ints("kernel_shape"); len(k) != 0 {
		if ok && !equal(k, kernel) {
			return c.Node.Errorf("kernel_shape %s but weights %s", dimsText(k), shapeText(w.Shape))
		}
		kernel, ok = k, true
	}
	shape := []onnxio.Dim{x.Shape[0], out}
	for i := 0; i < rank; i++ {
		shape = append(shape, unknownDim)
	}
	if ok {
		t, err := newTransposed(c.Node, rank, kernel)
		if err != nil {
			return err
		}
		for i := 0; i < rank; i++ {
			if d := x.Shape[2+i]; d.Known() {
				if d.Value > maxExtent {
					return c.Node.Errorf("input %s is too large", shapeText(x.Shape))
				}
				if err := t.settle(c.Node, i, int(d.Value)); err != nil {
					return err
				}
				shape[2+i] = knownDim(int64(t.out[t.axis(i)]))
			} else if len(t.shape) != 0 {
				shape[2+i] = knownDim(t.shape[i])
			}
		}
	}
	c.Set(0, x.Type, shape)
	return nil
}

func evalConvTranspose[T floating](c *Eval) error {
	n, x, wt := c.Node, c.In[0], c.In[1]
	kernel, err := kernelOf(n, wt.Dims)
	if err != nil {
		return err
	}
	if len(x.Dims) != len(wt.Dims) || x.Dims[1] != wt.Dims[0] {
		return n.Errorf("input %s with weights %s", dimsText(x.Dims), dimsText(wt.Dims))
	}
	t, err := newTransposed(n, len(kernel), kernel)
	if err != nil {
		return err
	}
	if err := t.settleAll(n, x.Dims[2:]); err != nil {
		return err
	}
	g := n.Int("group", 1)
	if g < 1 || g > maxExtent || wt.Dims[1] > maxExtent {
		return n.Errorf("weights %s in %d groups", dimsText(wt.Dims), g)
	}
	ch := wt.Dims[1] * g
	group, err := convGroups(n, ch, wt.Dims[0], wt.Dims[1])
	if err != nil {
		return err
	}
	bias := optional[T](c, 2)
	if c.Has(2) && len(bias) != int(ch) {
		return n.Errorf("bias %s for %d output channels", dimsText(c.In[2].Dims), ch)
	}
	w := t.adjoint()
	y, err := w.allocSpatial(c, 0, x.Type, int(x.Dims[0]), int(ch), &w.in)
	if err != nil {
		return err
	}
	conv := convolution{&w, int(x.Dims[0]), int(ch), int(x.Dims[1]), group}
	convScatter(&conv, onnxio.Data[T](y), onnxio.Data[T](x), onnxio.Data[T](wt), bias)
	return nil
}

// gradConvTranspose emits the convolution whose adjoint the node is.
func gradConvTranspose(g *Grad) error {
	x, w, y := g.Dims(g.In(0)), g.Dims(g.In(1)), g.Dims(g.Out(0))
	if len(x) < 3 || len(w) != len(x) || len(y) != len(x) {
		return g.Node.Errorf("gradient needs known shapes")
	}
	t, err := newTransposed(g.Node, len(x)-2, w[2:])
	if err != nil {
		return err
	}
	if err := t.settleAll(g.Node, x[2:]); err != nil {
		return err
	}
	win := t.adjoint()
	for a := range win.in {
		// The end pad that makes the convolution yield exactly the input's size; with output_padding it is
		// less than the node's, and where it would be negative the division's remainder has to absorb it.
		s, reach := win.stride[a], win.reach(a)
		win.padE[a] = max((win.out[a]-1)*s+reach-win.in[a]-win.padB[a], 0)
		if (win.in[a]+win.padB[a]+win.padE[a]-reach)/s+1 != win.out[a] {
			return g.Node.Errorf("%w", &onnxio.UnsupportedError{Op: g.Node.OpType, Node: g.Node.Name,
				Attr:   "output_padding",
				Reason: "no gradient for an output_padding that is not less than the stride"})
		}
	}
	attrs := append(win.attrs(), onnxio.IntAttr("group", g.Node.Int("group", 1)))
	if g.Wants[0] {
		if g.DIn[0], err = g.One("", "Conv", []string{g.DOut[0], g.In(1)}, attrs...); err != nil {
			return err
		}
	}
	if g.Wants[1] {
		if g.DIn[1], err = g.One(GradDomain, "ConvGradWeight", []string{g.DOut[0], g.In(0)},
			attrs...); err != nil {
			return err
		}
	}
	return gradConvBias(g)
}
