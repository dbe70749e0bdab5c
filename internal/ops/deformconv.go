package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// DeformConv: a convolution whose taps are moved by offsets, interpolated bilinearly (0 outside), and weighed
// by a mask. offset is [N,offset_group*kh*kw*2,oh,ow], y before x for each tap; mask is
// [N,offset_group*kh*kw,oh,ow].

func init() {
	attrs := []AttrDef{intsA("dilations"), intA("group"), intsA("kernel_shape"), intA("offset_group"),
		intsA("pads"),
		intsA("strides")}
	grad := gradDef("DeformConvGrad", []string{"dy", "x", "w", "offset", "mask"},
		[]string{"dx", "dw", "doffset", "dmask"}, attrs...)
	grad.Inputs[4].Optional, grad.Outputs[3].Optional = true, true
	grad.Tol, grad.Eval = convTol, byFloat(evalDeformConvGrad[float32], evalDeformConvGrad[float64])
	grad.Infer = func(c *Infer) error {
		if err := inferReady(c); err != nil {
			return err
		}
		for i, v := range c.In[1:] {
			if v != nil {
				setLike(c, i, v)
			}
		}
		return nil
	}
	register(&Def{Name: "DeformConv", Versions: []int64{19, 22}, Attrs: attrs, Weights: []int{1, 3},
		Inputs: []Param{{Name: "X", Type: "T"}, {Name: "W", Type: "T"}, {Name: "offset", Type: "T"},
			{Name: "B", Type: "T", Optional: true}, {Name: "mask", Type: "T", Optional: true}},
		Outputs: []Param{{Name: "Y", Type: "T"}}, Types: floatsT, Tol: convTol, Infer: inferDeformConv,
		Eval: byFloat(evalDeformConv[float32], evalDeformConv[float64]), Grad: gradDeformConv}, grad)
}

func inferDeformConv(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	out := []onnxio.Dim{unknownDim, unknownDim, unknownDim, unknownDim}
	for i := range 3 {
		if shaped(c, i) && len(c.In[i].Shape) != 4 {
			return c.Node.Errorf("%s is %s; only pictures [N,C,H,W] are supported", c.Node.Def.Inputs[i].Name,
				shapeText(c.In[i].Shape))
		}
	}
	if shaped(c, 0) {
		out[0] = c.In[0].Shape[0]
	}
	if shaped(c, 1) {
		out[1] = c.In[1].Shape[0]
	}
	if shaped(c, 2) { // its spatial shape is the output's
		s := c.In[2].Shape
		if !agree(out[0], s[0]) {
			return c.Node.Errorf("input of %s with offset %s", shapeText(c.In[0].Shape), shapeText(s))
		}
		out[0] = merge(out[0], s[0])
		copy(out[2:], s[2:])
	}
	if !shaped(c, 0, 1) {
		c.Set(0, c.In[0].Type, out)
		return nil
	}
	kernel := make([]int64, 2)
	for i, d := range c.In[1].Shape[2:] {
		if !d.Known() {
			c.Set(0, c.In[0].Type, out)
			return nil
		}
		kernel[i] = d.Value
	}
	w, err := newWindow(c.Node, 2, kernel)
	if err != nil {
		return err
	}
	for i := range kernel {
		d, err := w.outDim(i, c.In[0].Shape[2+i])
		if err != nil {
			return c.Node.Errorf("input %s: %w", shapeText(c.In[0].Shape), err)
		}
		if !agree(d, out[2+i]) {
			return c.Node.Errorf("offset %s for an output of %s", shapeText(c.In[2].Shape),
				shapeText([]onnxio.Dim{d}))
		}
		out[2+i] = merge(d, out[2+i])
	}
	c.Set(0, c.In[0].Type, out)
	return nil
}

// deformation is the geometry of a DeformConv and what it samples.
type deformation[T floating] struct {
	window
	n, c, m, group, offsetGroup int
	x, w, offset, mask          []T
}

// deformationOf checks the inputs against each other; mask may be nil.
func deformationOf[T floating](n *Node, x, w, offset, mask *onnxio.Tensor) (d deformation[T], err error) {
	if len(x.Dims) != 4 || len(w.Dims) != 4 || len(offset.Dims) != 4 {
		return d, n.Errorf("input %s, weights %s, offset %s; only pictures [N,C,H,W] are supported",
			dimsText(x.Dims), dimsText(w.Dims), dimsText(offset.Dims))
	}
	kernel, err := kernelOf(n, w.Dims)
	if err != nil {
		return d, err
	}
	if d.window, err = newWindow(n, 2, kernel); err != nil {
		return d, err
	}
	if err := d.settleAll(n, x.Dims[2:]); err != nil {
		return d, err
	}
	if d.group, err = convGroups(n, x.Dims[1], w.Dims[0], w.Dims[1]); err != nil {
		return d, err
	}
	groups := n.Int("offset_group", 1)
	if groups < 1 || x.Dims[1]%groups != 0 {
		return d, n.Errorf("%d channels do not divide into %d offset groups", x.Dims[1], groups)
	}
	d.n, d.c, d.m, d.offsetGroup = int(x.Dims[0]), int(x.Dims[1]), int(w.Dims[0]), int(groups)
	if groups > maxExtent/int64(d.kSize) {
		return d, n.Errorf("%d offset groups", groups)
	}
	want := []int64{x.Dims[0], groups * int64(d.kSize), int64(d.out[1]), int64(d.out[2])}
	if mask != nil {
		if !equal(mask.Dims, want) {
			return d, n.Errorf("mask %s where %s is wanted", dimsText(mask.Dims), dimsText(want))
		}
		d.mask = onnxio.Data[T](mask)
	}
	if want[1] *= 2; !equal(offset.Dims, want) {
		return d, n.Errorf("offset %s where %s is wanted", dimsText(offset.Dims), dimsText(want))
	}
	d.x, d.w, d.offset = onnxio.Data[T](x), onnxio.Data[T](w), onnxio.Data[T](offset)
	return d, nil
}

// deformTap is one moved tap: its four corners in the plane, -1 outside, with their weights and how these
// change as the tap moves down and right.
type deformTap struct {
	at                  [4]int
	weight, down, right [4]float64
	mask                float64
}

// place is the index of tap k of offset group g at output o of picture n, in mask; and twice that in offset.
func (d *deformation[T]) place(n, g, k, o int) (mask, down, right int) {
	tap := (n*d.offsetGroup+g)*d.kSize + k
	return tap*d.outSize + o, 2*tap*d.outSize + o, (2*tap+1)*d.outSize + o
}

func (d *deformation[T]) tap(n, g, k, o int) (t deformTap) {
	m, down, right := d.place(n, g, k, o)
	t.mask = 1
	if d.mask != nil {
		t.mask = float64(d.mask[m])
	}
	y := float64(o/d.out[2]*d.stride[1]-d.padB[1]+k/d.kernel[2]*d.dil[1]) + float64(d.offset[down])
	x := float64(o%d.out[2]*d.stride[2]-d.padB[2]+k%d.kernel[2]*d.dil[2]) + float64(d.offset[right])
	if !(y > -1 && y < float64(d.in[1]) && x > -1 && x < float64(d.in[2])) {
		t.at = [4]int{-1, -1, -1, -1}
		return t
	}
	top, left := math.Floor(y), math.Floor(x)
	wy, wx := [2]float64{1 - (y - top), y - top}, [2]float64{1 - (x - left), x - left}
	slope := [2]float64{-1, 1}
	for i := range t.at {
		row, column := int(top)+i/2, int(left)+i%2
		if t.at[i] = row*d.in[2] + column; row < 0 || row >= d.in[1] || column < 0 || column >= d.in[2] {
			t.at[i] = -1
		}
		t.weight[i] = wy[i/2] * wx[i%2]
		t.down[i], t.right[i] = slope[i/2]*wx[i%2], wy[i/2]*slope[i%2]
	}
	return t
}

// sample is the plane at a tap, weighed by one of its lists.
func sample[T floating](plane []T, t *deformTap, weights *[4]float64) float64 {
	sum := 0.0
	for i, at := range t.at {
		if at >= 0 {
			sum += weights[i] * float64(plane[at])
		}
	}
	return sum
}

// taps fills in the taps of every offset group at output o of picture n.
func (d *deformation[T]) taps(n, o int, taps []deformTap) {
	for i := range taps {
		taps[i] = d.tap(n, i/d.kSize, i%d.kSize, o)
	}
}

// plane is channel c of picture n.
func (d *deformation[T]) plane(x []T, n, c int) []T { return x[(n*d.c+c)*d.inSize:][:d.inSize] }

// columns fills in what the taps sample of every channel: [C,kh*kw].
func (d *deformation[T]) columns(n int, taps []deformTap, col []float64) {
	perGroup := d.c / d.offsetGroup
	for c := range d.c {
		plane := d.plane(d.x, n, c)
		for k := range d.kSize {
			t := &taps[c/perGroup*d.kSize+k]
			col[c*d.kSize+k] = t.mask * sample(plane, t, &t.weight)
		}
	}
}

// scratch is room for the taps and the columns of one place of the output; none where there is no place,
// whose shapes nothing backs with memory.
func (d *deformation[T]) scratch() (taps []deformTap, col []float64) {
	if d.n == 0 || d.m == 0 {
		return nil, nil
	}
	return make([]deformTap, d.offsetGroup*d.kSize), make([]float64, d.c*d.kSize)
}

// row is the weights of output channel m and the columns that they multiply.
func (d *deformation[T]) row(m int) (first, length int) {
	length = d.c / d.group * d.kSize
	return m / (d.m / d.group) * length, length
}

func evalDeformConv[T floating](c *Eval) error {
	var mask *onnxio.Tensor
	if c.Has(4) {
		mask = c.In[4]
	}
	d, err := deformationOf[T](c.Node, c.In[0], c.In[1], c.In[2], mask)
	if err != nil {
		return err
	}
	bias := optional[T](c, 3)
	if bias != nil && !equal(c.In[3].Dims, []int64{int64(d.m)}) {
		return c.Node.Errorf("bias %s for %d channels", dimsText(c.In[3].Dims), d.m)
	}
	y, err := d.allocSpatial(c, 0, c.In[0].Type, d.n, d.m, &d.out)
	if err != nil {
		return err
	}
	dst := onnxio.Data[T](y)
	taps, col := d.scratch()
	if taps == nil {
		return nil
	}
	for p := range d.n * d.outSize {
		n, o := p/d.outSize, p%d.outSize
		d.taps(n, o, taps)
		d.columns(n, taps, col)
		for m := range d.m {
			first, length := d.row(m)
			sum := 0.0
			if bias != nil {
				sum = float64(bias[m])
			}
			for i, w := range d.w[m*length:][:length] {
				sum += float64(w) * col[first+i]
			}
			dst[(n*d.m+m)*d.outSize+o] = T(sum)
		}
	}
	return nil
}

func gradDeformConv(g *Grad) (err error) {
	if g.In(3) != "" && g.Wants[3] {
		if g.DIn[3], err = g.One(GradDomain, "ConvGradBias", []string{g.DOut[0]}); err != nil {
			return err
		}
	}
	outputs, in := 3, []string{g.DOut[0], g.In(0), g.In(1), g.In(2)}
	if g.In(4) != "" {
		outputs, in = 4, append(in, g.In(4))
	}
	out, err := g.Emit(GradDomain, "DeformConvGrad", outputs, in, g.Node.Attrs...)
	if err != nil {
		return err
	}
	for k, i := range []int{0, 1, 2, 4}[:outputs] {
		if g.Wants[i] {
			g.DIn[i] = out[k]
		}
	}
	return nil
}

func evalDeformConvGrad[T floating](c *Eval) error {
	var mask *onnxio.Tensor
	if c.Has(4) {
		mask = c.In[4]
	}
	d, err := deformationOf[T](c.Node, c.In[1], c.In[2], c.In[3], mask)
	if err != nil {
		return err
	}
	if !equal(c.In[0].Dims, []int64{int64(d.n), int64(d.m), int64(d.out[1]), int64(d.out[2])}) {
		return c.Node.Errorf("dy %s for input %s", dimsText(c.In[0].Dims), dimsText(c.In[1].Dims))
	}
	b := deformBack[T]{deformation: d, dy: onnxio.Data[T](c.In[0]), dw: make([]float64, len(d.w))}
	to := []*[]T{&b.dx, nil, &b.doffset, &b.dmask}
	var dw *onnxio.Tensor
	for i, in := range c.In[1:] {
		if in == nil {
			continue
		}
		t, err := c.Alloc(i, in.Type, in.Dims...)
		if err != nil {
			return err
		}
		if i == 1 {
			dw = t
			continue
		}
		*to[i] = onnxio.Data[T](t)
		clear(*to[i])
	}
	var taps []deformTap
	if taps, b.col = d.scratch(); taps != nil {
		for p := range d.n * d.outSize {
			d.taps(p/d.outSize, p%d.outSize, taps)
			b.output(p/d.outSize, p%d.outSize, taps)
		}
	}
	for i, v := range b.dw {
		onnxio.Data[T](dw)[i] = T(v)
	}
	return nil
}

// deformBack is the backward pass of a DeformConv.
type deformBack[T floating] struct {
	deformation[T]
	dy, dx, doffset, dmask []T
	dw, col                []float64 // col is first the columns, then their gradient
}

// output adds the share of one place of the output to all gradients.
func (b *deformBack[T]) output(n, o int, taps []deformTap) {
	b.columns(n, taps, b.col)
	for m := range b.m {
		first, length := b.row(m)
		g := float64(b.dy[(n*b.m+m)*b.outSize+o])
		for i := range length {
			b.dw[m*length+i] += g * b.col[first+i]
		}
	}
	clear(b.col)
	for m := range b.m {
		first, length := b.row(m)
		g := float64(b.dy[(n*b.m+m)*b.outSize+o])
		for i, w := range b.w[m*length:][:length] {
			b.col[first+i] += g * float64(w)
		}
	}
	perGroup := b.c / b.offsetGroup
	for c := range b.c {
		plane, dx := b.plane(b.x, n, c), b.plane(b.dx, n, c)
		for k := range b.kSize {
			t, g := &taps[c/perGroup*b.kSize+k], b.col[c*b.kSize+k]
			mask, down, right := b.place(n, c/perGroup, k, o)
			for i, at := range t.at {
				if at >= 0 {
					dx[at] += T(g * t.mask * t.weight[i])
				}
			}
			b.doffset[down] += T(g * t.mask * sample(plane, t, &t.down))
			b.doffset[right] += T(g * t.mask * sample(plane, t, &t.right))
			if b.dmask != nil {
				b.dmask[mask] += T(g * sample(plane, t, &t.weight))
			}
		}
	}
}
