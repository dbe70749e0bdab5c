package engine

import (
	"fmt"

	"github.com/cnnkit/cnnkit/internal/kernels"
)

// convolution is a kernel: *kernels.Conv, dense or in groups, or *kernels.Depthwise.
type convolution interface {
	// Form names the form of packed weights, FlipForm that of flipped ones: kernels
	// of one form read the same.
	Form() string
	FlipForm() string
	WeightSize() int
	Pack(dst, oihw []float32)
	PackChunks() int
	PackPart(chunk int, dst, oihw []float32)
	Unpack(oihw, packed []float32)
	ForwardChunks() int
	Forward(chunk int, y, x, w []float32, e kernels.Epilogue)
	ForwardCost() float64
	Moments() kernels.Moments
	FlipSize() int // 0: backward-data reads the packed weights
	FlipChunks() int
	Flip(chunk int, flipped, w []float32)
	BackwardDataChunks() int
	BackwardData(chunk int, dx, dy, w []float32, e kernels.Epilogue)
	BackwardDataCost() float64
	BackwardWeightsChunks() int
	BackwardWeightsScratch() int
	BackwardWeights(chunk int, scratch, x, dy []float32)
	BackwardWeightsCost() float64
	ReduceWeightsChunks() int
	ReduceWeights(chunk int, dw, scratch []float32)
}

// newConvolution plans the kernel of a geometry.
func newConvolution(s kernels.ConvSpec) (convolution, error) {
	if per := s.X.C / max(s.Group, 1); s.Group > 1 && s.X.C == s.Y.C &&
		(per == 1 || per == 4 && s.X.C > narrowLanes) {
		return kernels.NewDepthwise(s)
	}
	return kernels.NewConv(s)
}

// kernelName is what a plan calls the kernel.
func kernelName(c convolution) string {
	switch c := c.(type) {
	case *kernels.Depthwise:
		if c.Group < c.X.C {
			return "group conv"
		}
		return "depthwise conv"
	case *kernels.Conv:
		if c.Group > 1 {
			return "group conv"
		}
	}
	return "conv"
}

// packing is the form of a convolution's weights in a buffer: all kernels of one key read the same.
type packing struct {
	key  string
	conv weightForm
}

// weightForm is a form of a convolution's weights in float32.
type weightForm interface {
	WeightSize() int
	Pack(dst, oihw []float32)
	PackChunks() int
	PackPart(chunk int, dst, oihw []float32)
	Unpack(oihw, packed []float32)
}

// planConv makes the kernel of a convolution op from the settled layouts of its values.
func planConv(o *op) (convolution, packing, error) {
	p, _ := conv(o)
	w, ok := window(o, p.kernel, p.x.dims, p.y.dims)
	if !ok {
		return nil, packing{}, fmt.Errorf("not a two-dimensional convolution")
	}
	hx, hy := w.halos()
	x, y := blocked(p.x, hx, kernels.Block), blocked(p.y, hy, kernels.Block)
	spec := w.spec(x, y, group(o)) // what the op does not read keeps the halo it would need
	if p.x.layout != nil {
		if spec.DX = *p.x.layout; o.in[0] == p.x {
			spec.X = spec.DX
		}
	}
	if p.y.layout != nil {
		if spec.DY = *p.y.layout; p.forward(o) {
			spec.Y = spec.DY
		}
	}
	c, err := newConvolution(spec)
	if err != nil {
		return nil, packing{}, err
	}
	return c, packing{key: c.Form(), conv: c}, nil
}

// packed gives the buffer of w in packed form. Constants are packed at once, params are stored so; what is
// computed is packed each time.
func (l *lowering) packed(w *value, p packing) *buffer {
	switch {
	case w.kind == constant:
		return l.form(w.konst, p.key, p.conv.WeightSize(), p.conv.PackChunks(),
			func(dst []float32, chunk int) {
				p.conv.PackPart(chunk, dst, w.konst.Float32s())
			})
	case w.kind == param && w.store.pack != nil && w.store.pack.key == p.key:
		return w.store.buf
	}
	src, dst := l.of(w), l.buffer(p.conv.WeightSize())
	l.add("pack weights", 1, []*buffer{src, dst}, func() func(int, int) {
		from, to := w.plainFloats(), dst.data
		return func(int, int) { p.conv.Pack(to, from) }
	})
	return dst
}

// pack packs a constant.
func pack(w *value, c convolution) []float32 {
	dst := kernels.AlignedSlice(roundUp(c.WeightSize()))
	c.Pack(dst, w.konst.Float32s())
	return dst
}

// epilogue is what was fused into a convolution.
func (o *op) epilogue(bias *value) kernels.Epilogue {
	return kernels.Epilogue{Moments: o.out[0].stats.f(), Bias: bias.f(), Residual: o.residual.f(),
		Mask: o.mask.f(), ReLU: o.relu,
		High: o.high, Then: o.then}
}

// statistics is where a convolution leaves the statistics of its output.
type statistics struct {
	kernels.Moments
	buf *buffer
}

func (s *statistics) f() []float32 {
	if s == nil {
		return nil
	}
	return s.buf.data
}

func (s *statistics) buffers() []*buffer {
	if s == nil {
		return nil
	}
	return []*buffer{s.buf}
}

// leaveStatistics makes a place for the statistics of o's output, if a
// BatchNormalization in training reads it.
func (l *lowering) leaveStatistics(o *op, m kernels.Moments) {
	for _, next := range o.out[0].users {
		if next.node.Def.Running != nil && next.in[0] == o.out[0] && next.out[0].layout != nil &&
			training(next) {
			o.out[0].stats = &statistics{m, l.buffer(m.Size())}
			return
		}
	}
}

// convForward lowers Conv, with what was fused into it.
func (l *lowering) convForward(o *op) (bool, error) {
	if o.onLines() {
		return l.convLines(o)
	}
	if o.out[0].layout == nil {
		return false, nil
	}
	c, form, err := planConv(o)
	if err != nil {
		return false, err
	}
	l.spreads = l.spreads || spreads(o)
	bias := l.optional(o, 2)
	if pass := l.byWinograd(o, c, o.in[1]).Forward; pass != nil {
		l.winogradPass("winograd", o, pass, c, form, bias)
		return true, nil
	}
	w := l.packed(o.in[1], form)
	l.leaveStatistics(o, c.Moments())
	bufs := []*buffer{l.of(o.in[0]), w, l.of(o.out[0])}
	bufs = append(bufs, l.all(bias, o.residual, o.mask)...)
	bufs = append(bufs, o.out[0].stats.buffers()...)
	s := l.add(kernelName(c)+" "+kernels.Level(), c.ForwardChunks(), bufs, func() func(int, int) {
		y, x, e := o.out[0].f(), o.in[0].f(), o.epilogue(bias)
		return func(chunk, _ int) { c.Forward(chunk, y, x, w.data, e) }
	})
	s.flops, s.cycles = convFLOPs(o), c.ForwardCost()
	return true, nil
}

// convBackwardData lowers ConvGradInput, and ConvTranspose, which is the same with a bias.
func (l *lowering) convBackwardData(o *op) (bool, error) {
	if o.in[0].lines != nil {
		return l.convLines(o)
	}
	if o.out[0].layout == nil {
		return false, nil
	}
	c, form, err := planConv(o)
	if err != nil {
		return false, err
	}
	l.spreads = l.spreads || spreads(o)
	bias := l.optional(o, 2)
	if pass := l.byWinograd(o, c, o.in[1]).Data; pass != nil {
		l.winogradPass("winograd backward-data", o, pass, c, form, bias)
		return true, nil
	}
	flipped := l.flipped(o.in[1], c, form)
	bufs := append([]*buffer{l.of(o.in[0]), flipped, l.of(o.out[0])}, l.all(bias, o.residual, o.mask)...)
	s := l.add(kernelName(c)+" backward-data "+kernels.Level(), c.BackwardDataChunks(), bufs,
		func() func(int, int) {
			dx, dy, e := o.out[0].f(), o.in[0].f(), o.epilogue(bias)
			return func(chunk, _ int) { c.BackwardData(chunk, dx, dy, flipped.data, e) }
		})
	s.flops, s.cycles = convFLOPs(o), c.BackwardDataCost()
	return true, nil
}

// flipped is the weights as backward-data reads them.
func (l *lowering) flipped(w *value, c convolution, form packing) *buffer {
	if c.FlipSize() == 0 {
		return l.packed(w, form)
	}
	if w.kind == constant {
		return l.form(w.konst, c.FlipForm(), c.FlipSize(), 1, func(dst []float32, _ int) {
			packed := pack(w, c)
			for i := range c.FlipChunks() {
				c.Flip(i, dst, packed)
			}
		})
	}
	src, dst := l.packed(w, form), l.buffer(c.FlipSize())
	l.add("flip weights", c.FlipChunks(), []*buffer{src, dst}, func() func(int, int) {
		return func(chunk, _ int) { c.Flip(chunk, dst.data, src.data) }
	})
	return dst
}

// convBackwardWeights lowers ConvGradWeight. The gradient of a packed param comes packed.
func (l *lowering) convBackwardWeights(o *op) (bool, error) {
	if o.onLines() {
		return l.convWeightsLines(o)
	}
	if o.in[0].layout == nil || o.in[1].layout == nil {
		return false, nil
	}
	c, form, err := planConv(o)
	if err != nil {
		return false, err
	}
	dw := o.out[0]
	packed := l.buffer(c.WeightSize())
	if dw.pack != nil {
		dw.buf = packed
		packed.shared++
	}
	if !l.winogradWeights(o, c, packed) {
		l.directWeights(o, c, packed)
	}
	if dw.pack == nil {
		l.add("unpack weights", 1, []*buffer{packed, l.of(dw)}, func() func(int, int) {
			to := dw.plainFloats()
			return func(int, int) { form.conv.Unpack(to, packed.data) }
		})
	}
	return true, nil
}

// directWeights sums the gradient of the weights into packed by the direct kernel.
func (l *lowering) directWeights(o *op, c convolution, packed *buffer) {
	scratch := l.buffer(c.BackwardWeightsScratch())
	x, dy := l.of(o.in[0]), l.of(o.in[1])
	s := l.add(kernelName(c)+" backward-weights "+kernels.Level(), c.BackwardWeightsChunks(),
		[]*buffer{x, dy, scratch}, func() func(int, int) {
			xs, dys := o.in[0].f(), o.in[1].f()
			return func(chunk, _ int) { c.BackwardWeights(chunk, scratch.data, xs, dys) }
		})
	s.flops, s.cycles = convFLOPs(o), c.BackwardWeightsCost()
	l.add("reduce", c.ReduceWeightsChunks(), []*buffer{scratch, packed}, func() func(int, int) {
		return func(chunk, _ int) { c.ReduceWeights(chunk, packed.data, scratch.data) }
	})
}

// channelSum lowers ConvGradBias.
func (l *lowering) channelSum(o *op) (bool, error) {
	if o.in[0].layout == nil {
		return false, nil
	}
	k := kernels.NewChannelSum(*o.in[0].layout)
	scratch, dy, db := l.buffer(k.Scratch()), l.of(o.in[0]), l.of(o.out[0])
	bufs := append([]*buffer{dy, scratch}, l.all(o.mask)...)
	l.add("channel sum", k.Chunks(), bufs, func() func(int, int) {
		y := o.mask.f()
		return func(chunk, _ int) { k.Partial(chunk, scratch.data, dy.data, y) }
	})
	l.add("reduce", 1, []*buffer{scratch, db}, func() func(int, int) {
		return func(int, int) { k.Reduce(db.data, scratch.data) }
	})
	return true, nil
}

// optional is input i where present, a vector whose buffer is padded with zeros to a multiple of 16, as
// kernels read biases. Constants and params are stored so; what is computed is copied.
func (l *lowering) optional(o *op, i int) *value {
	if i >= len(o.in) || o.in[i] == nil {
		return nil
	}
	v := o.in[i]
	if v.kind == constant || v.kind == param {
		return v
	}
	padded := &value{name: v.name, info: v.info, dims: v.dims, buf: l.buffer(int(v.size()))}
	l.add("pad", 1, []*buffer{l.of(v), padded.buf}, func() func(int, int) {
		return func(int, int) { clear(padded.f()[copy(padded.f(), v.plainFloats()):]) }
	})
	return padded
}

// all gives the buffers of the values that are there.
func (l *lowering) all(vs ...*value) []*buffer {
	var out []*buffer
	for _, v := range vs {
		if v != nil {
			out = append(out, l.of(v))
		}
	}
	return out
}

// convFLOPs counts two operations a multiply-add, real channels only.
func convFLOPs(o *op) int64 {
	p, _ := conv(o)
	return 2 * p.y.size() * p.x.dims[1] / int64(group(o)) * p.kernel[0] * p.kernel[1]
}
