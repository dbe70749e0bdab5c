package ops

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Col2Im adds the columns of an unfolded picture up to a picture, [N,C*k1*...,L] to [N,C,d1,...]: the adjoint
// of cutting every window of a convolution out. Any number of spatial dimensions.

func init() {
	attrs := []AttrDef{intsA("dilations"), intsA("pads"), intsA("strides")}
	shapes := []Param{{Name: "image_shape", Type: "I"}, {Name: "block_shape", Type: "I"}}
	types := map[string]TypeSet{"T": Numbers, "I": Set(onnxio.Int64)}
	grad := gradDef("Col2ImGrad", []string{"dy"}, []string{"dx"},
		append([]AttrDef{intsA("input_shape").required()}, attrs...)...)
	grad.Inputs, grad.Types = append(grad.Inputs, shapes...), map[string]TypeSet{"T": Floats,
		"I": Set(onnxio.Int64)}
	grad.Infer, grad.Eval = inferConvGradInput, byFloat(evalCol2ImGrad[float32], evalCol2ImGrad[float64])
	register(&Def{Name: "Col2Im", Versions: []int64{18}, Attrs: attrs, Types: types, Tol: reduceTol,
		Inputs: append([]Param{{Name: "input", Type: "T"}}, shapes...), Outputs: []Param{{Name: "output",
			Type: "T"}},
		Infer: inferCol2Im, Grad: gradCol2Im,
		Eval: byNumber(numberTypes[func(*Eval) error]{evalCol2Im[float32], evalCol2Im[float64],
			intTypes[func(*Eval) error]{evalCol2Im[int8], evalCol2Im[int16], evalCol2Im[int32],
				evalCol2Im[int64],
				evalCol2Im[uint8], evalCol2Im[uint16], evalCol2Im[uint32], evalCol2Im[uint64]}})}, grad)
}

func inferCol2Im(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	c.SetType(0, c.In[0].Type)
	image, known := c.In[1].Known()
	if !known {
		dims, ok := c.In[1].Dims()
		if !ok || len(dims) != 1 || dims[0] > 64 {
			return nil
		}
		image = slices.Repeat([]onnxio.Dim{unknownDim}, int(dims[0]))
	}
	out := append([]onnxio.Dim{unknownDim, unknownDim}, image...)
	block, hasBlock := intsOf(c.In[2].Const)
	if shaped(c, 0) {
		s := c.In[0].Shape
		if len(s) != 3 {
			return c.Node.Errorf("input must be [N,C*block,L], not %s", shapeText(s))
		}
		out[0] = s[0]
		if hasBlock {
			size, err := blockSize(c.Node, block)
			if err != nil {
				return err
			}
			if s[1].Known() {
				if s[1].Value%size != 0 {
					return c.Node.Errorf("input %s does not have blocks of %v", shapeText(s), block)
				}
				out[1] = knownDim(s[1].Value / size)
			}
		}
	}
	c.Set(0, c.In[0].Type, out)
	return nil
}

// blockSize is the number of elements of a block.
func blockSize(n *Node, block []int64) (int64, error) {
	for _, b := range block {
		if b < 1 {
			return 0, n.Errorf("block_shape %v", block)
		}
	}
	size, err := onnxio.CheckedBytes(onnxio.Uint8, block)
	if err != nil {
		return 0, n.Errorf("block_shape %v: %w", block, err)
	}
	return size, nil
}

// unfolding is the geometry of a Col2Im: per axis the picture's size, the block's, and how many blocks fit.
type unfolding struct {
	image, block, count, stride, dil, pad []int64
	planes, size, columns                 int64 // N*C, elements of a block, L
}

// unfoldingOf checks an input of shape dims against the attributes.
func unfoldingOf(n *Node, dims []int64, image, block *onnxio.Tensor) (u unfolding, err error) {
	var ok, ok2 bool
	u.image, ok = intsOf(image)
	u.block, ok2 = intsOf(block)
	rank := len(u.image)
	if !ok || !ok2 || rank == 0 || len(u.block) != rank || len(dims) != 3 {
		return u, n.Errorf("input %s with image_shape %v and block_shape %v", dimsText(dims),
			u.image, u.block)
	}
	list := func(name string, count int, least, otherwise int64) []int64 {
		v := n.Ints(name)
		if len(v) == 0 {
			v = slices.Repeat([]int64{otherwise}, count)
		}
		if err == nil && (len(v) != count || slices.Min(v) < least || slices.Max(v) > maxExtent) {
			err = n.Errorf("%s %v for %d dimensions", name, v, rank)
		}
		return v
	}
	u.stride, u.dil, u.pad = list("strides", rank, 1, 1), list("dilations", rank, 1, 1), list("pads",
		2*rank, 0, 0)
	if err == nil {
		u.size, err = blockSize(n, u.block)
	}
	if err != nil {
		return u, err
	}
	u.columns = 1
	for i, d := range u.image {
		if d < 0 || d > maxExtent || u.block[i] > maxExtent {
			return u, n.Errorf("image_shape %v and block_shape %v", u.image, u.block)
		}
		span := d + u.pad[i] + u.pad[rank+i] - (u.block[i]-1)*u.dil[i] - 1
		if span < 0 {
			return u, n.Errorf("a block of %d with dilation %d does not fit %d with pads", u.block[i],
				u.dil[i], d)
		}
		u.count = append(u.count, span/u.stride[i]+1)
		if u.count[i] > math.MaxInt64/u.columns {
			return u, n.Errorf("too many blocks")
		}
		u.columns *= u.count[i]
	}
	if dims[1]%u.size != 0 || dims[2] != u.columns {
		return u, n.Errorf("input %s; %d columns of %d elements for each channel are wanted", dimsText(dims),
			u.columns, u.size)
	}
	u.planes = dims[0] * dims[1] / u.size
	return u, nil
}

// each calls f for every element of one plane's columns with its place in the
// picture, those outside left out.
func (u *unfolding) each(f func(column, pixel int64)) {
	s := strides(u.image)
	index, steps := slices.Concat(u.block, u.count), make([]int64, 2*len(u.image))
	for k := range u.size * u.columns {
		rest, pixel, inside := k, int64(0), true
		for i := len(index) - 1; i >= 0; i-- {
			steps[i], rest = rest%index[i], rest/index[i]
		}
		for i, d := range u.image {
			p := steps[i]*u.dil[i] + steps[len(u.image)+i]*u.stride[i] - u.pad[i]
			inside = inside && p >= 0 && p < d
			pixel += p * s[i]
		}
		if inside {
			f(k, pixel)
		}
	}
}

func evalCol2Im[T numeric](c *Eval) error {
	x := c.In[0]
	u, err := unfoldingOf(c.Node, x.Dims, c.In[1], c.In[2])
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, x.Type, append([]int64{x.Dims[0], x.Dims[1] / u.size}, u.image...)...)
	if err != nil {
		return err
	}
	from, to := onnxio.Data[T](x), onnxio.Data[T](y)
	clear(to)
	wide, tall := u.size*u.columns, int64(sizeOf(u.image))
	for p := range u.planes {
		u.each(func(column, pixel int64) { to[p*tall+pixel] += from[p*wide+column] })
	}
	return nil
}

func gradCol2Im(g *Grad) (err error) {
	if g.Wants[0] {
		attrs := append(slices.Clone(g.Node.Attrs), onnxio.IntsAttr("input_shape", g.Dims(g.In(0))...))
		g.DIn[0], err = g.One(GradDomain, "Col2ImGrad", []string{g.DOut[0], g.In(1), g.In(2)}, attrs...)
	}
	return err
}

// evalCol2ImGrad cuts the blocks out of dy.
func evalCol2ImGrad[T floating](c *Eval) error {
	dy, in := c.In[0], c.Node.Ints("input_shape")
	u, err := unfoldingOf(c.Node, in, c.In[1], c.In[2])
	if err != nil {
		return err
	}
	if !equal(dy.Dims, append([]int64{in[0], in[1] / u.size}, u.image...)) {
		return c.Node.Errorf("dy %s, input_shape %s", dimsText(dy.Dims), dimsText(in))
	}
	dx, err := c.Alloc(0, dy.Type, in...)
	if err != nil {
		return err
	}
	from, to := onnxio.Data[T](dy), onnxio.Data[T](dx)
	clear(to)
	wide, tall := u.size*u.columns, int64(sizeOf(u.image))
	for p := range u.planes {
		u.each(func(column, pixel int64) { to[p*wide+column] = from[p*tall+pixel] })
	}
	return nil
}
