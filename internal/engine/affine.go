package engine

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// An affine step scales and shifts the channels of a map by constants: BatchNormalization with its running
// statistics, and Mul, Div, Add, Sub with a constant for each channel or for all. Behind a convolution or
// matrix product with constant weights it is part of them: w' = w*scale, b' = b*scale + shift.
type affine struct {
	scale, shift []float64 // one for all channels, or one each
}

// foldAffine folds affine steps, one after the other, into what they follow.
func foldAffine(g *graph) {
	for _, o := range slices.Clone(g.ops) {
		for _, v := range o.in {
			into := linearOf(v)
			if into == nil {
				continue
			}
			if step, ok := o.affine(v, into.channels()); ok {
				g.foldStep(into, o, step)
				break
			}
		}
	}
}

// linearOf is the convolution or matrix product with constant weights that gives v to one
// reader; nil where there is none.
func linearOf(v *value) *op {
	if v == nil || v.kind != computed || v.output || len(v.users) != 1 || v.info.Type != onnxio.Float ||
		v.producer == nil {
		return nil
	}
	o := v.producer
	if o.channelAxis() < 0 || !o.in[1].floats() || o.in[1].size() == 0 || len(o.in[1].dims) < 2 {
		return nil
	}
	if len(o.in) > 2 && o.in[2] != nil && (!o.in[2].floats() || o.in[2].size() != o.channels()) {
		return nil
	}
	return o
}

// channelAxis is the axis of the weights along which output channels lie; -1 where
// nothing can be folded into o.
func (o *op) channelAxis() int {
	if p := o.path(); p.channels != nil {
		return p.channels(o)
	}
	return -1
}

// channelsOfTransposed is the rule of ConvTranspose: the output channels of groups lie along no one axis.
func channelsOfTransposed(o *op) int {
	if o.node.Int("group", 1) == 1 {
		return 1
	}
	return -1
}

// channelsOfProduct is the rule of Gemm.
func channelsOfProduct(o *op) int {
	switch {
	case o.node.Float("alpha", 1) != 1 || o.node.Float("beta", 1) != 1:
		return -1
	case o.node.Int("transB", 0) != 0:
		return 0
	}
	return 1
}

// channels is the number of output channels of what linearOf gives.
func (o *op) channels() int64 { return o.in[1].dims[o.channelAxis()] }

// affine is what o does to the channels of its input v, of rank at least 2.
func (o *op) affine(v *value, channels int64) (affine, bool) {
	if o.node.Def.Running != nil {
		return o.affineNorm(v, channels)
	}
	if o.node.Def.Arithmetic == 0 || len(o.in) != 2 || o.in[0] == o.in[1] {
		return affine{}, false
	}
	first := o.in[0] == v
	c := o.in[0]
	if first {
		c = o.in[1]
	}
	numbers, ok := perChannel(c, v, channels)
	if !ok || o.node.Attr("axis") != nil { // broadcasting as before version 7
		return affine{}, false
	}
	one, zero := []float64{1}, []float64{0}
	each := func(f func(x float64) float64) []float64 {
		out := make([]float64, len(numbers))
		for i, x := range numbers {
			out[i] = f(x)
		}
		return out
	}
	negated := func(x float64) float64 { return -x }
	switch a := o.node.Def.Arithmetic; {
	case a == ops.Product:
		return affine{numbers, zero}, true
	case a == ops.Sum:
		return affine{one, numbers}, true
	case a == ops.Difference && first:
		return affine{one, each(negated)}, true
	case a == ops.Difference:
		return affine{[]float64{-1}, numbers}, true
	case a == ops.Quotient && first && !slices.Contains(numbers, 0):
		return affine{each(func(x float64) float64 { return 1 / x }), zero}, true
	}
	return affine{}, false
}

// affineNorm is a BatchNormalization as an affine step.
func (o *op) affineNorm(v *value, channels int64) (affine, bool) {
	if !normalizes(o) || training(o) || len(o.in) < 5 || o.in[0] != v || o.out[0] == nil {
		return affine{}, false
	}
	for _, v := range o.in[1:5] {
		if !v.floats() || v.size() != channels {
			return affine{}, false
		}
	}
	scale, bias := o.in[1].konst.Float32s(), o.in[2].konst.Float32s()
	mean, variance := o.in[3].konst.Float32s(), o.in[4].konst.Float32s()
	eps := float64(o.node.Float("epsilon", 1e-5))
	a := affine{make([]float64, channels), make([]float64, channels)}
	for i := range channels {
		a.scale[i] = float64(scale[i]) / math.Sqrt(float64(variance[i])+eps)
		a.shift[i] = float64(bias[i]) - float64(mean[i])*a.scale[i]
	}
	return a, true
}

// perChannel reads a constant that has a number for each channel of v, whose axis is 1, or one for all. v's
// shape must be the result's: a constant of higher rank would give another.
func perChannel(c, v *value, channels int64) ([]float64, bool) {
	if !c.floats() || !v.info.HasShape || len(c.dims) > len(v.info.Shape) || c.size() != 1 &&
		c.size() != channels {
		return nil, false
	}
	rank := len(v.info.Shape)
	for i, d := range c.dims {
		if axis := rank - len(c.dims) + i; d != 1 && axis != 1 {
			return nil, false
		}
	}
	out := make([]float64, c.size())
	for i, x := range c.konst.Float32s() {
		out[i] = float64(x)
	}
	return out, true
}

// foldStep folds a step into what it follows, and the step's op goes.
func (g *graph) foldStep(into, step *op, a affine) {
	channels := int(into.channels())
	at := func(list []float64, i int) float64 { return list[i%len(list)] }
	if len(a.scale) > 1 || a.scale[0] != 1 {
		from := into.in[1].konst
		w := onnxio.NewTensor(onnxio.Float, from.Dims...)
		inner := 1 // numbers of a channel that stand side by side
		for _, d := range w.Dims[into.channelAxis()+1:] {
			inner *= int(d)
		}
		src, dst := from.Float32s(), w.Float32s()
		for c := 0; len(dst) > 0; c = (c + 1) % channels {
			scale := at(a.scale, c)
			for i, x := range src[:inner] {
				dst[i] = float32(float64(x) * scale)
			}
			src, dst = src[inner:], dst[inner:]
		}
		into.in[1] = g.constant(into.out[0].name+"/folded-weight", w)
	}
	b := onnxio.NewTensor(onnxio.Float, int64(channels))
	if len(into.in) > 2 && into.in[2] != nil {
		copy(b.Float32s(), into.in[2].konst.Float32s())
	}
	for i, x := range b.Float32s() {
		b.Float32s()[i] = float32(float64(x)*at(a.scale, i) + at(a.shift, i))
	}
	for len(into.in) < 3 {
		into.in = append(into.in, nil)
	}
	into.inputs = 3
	into.in[2] = g.constant(into.out[0].name+"/folded-bias", b)
	g.take(into, step)
}

// foldPads makes a constant Pad of zeros around a map part of the convolution that alone reads it.
func foldPads(g *graph) {
	for _, o := range slices.Clone(g.ops) {
		if !o.path().padded || o.node.Str("auto_pad", "NOTSET") != "NOTSET" || !o.in[0].private() {
			continue
		}
		pad := o.in[0].computedBy()
		if pad != nil && pad.role() == dequantizes {
			pad = g.padOfLevels(o.in[0])
		}
		if pad == nil || pad.path().pads == nil {
			continue
		}
		if pad.in[0] == nil || !pad.in[0].info.HasShape {
			continue
		}
		more, number, ok := pad.path().pads(pad, len(pad.in[0].info.Shape))
		if !ok || !o.takesForNothing(number) {
			continue
		}
		n := *o.node.Node
		n.Attrs = slices.DeleteFunc(slices.Clone(n.Attrs), func(a *onnxio.Attribute) bool {
			return a.Name == "pads"
		})
		pads := slices.Clone(o.node.Ints("pads", make([]int64, len(more))...))
		if len(pads) != len(more) {
			continue
		}
		for i, p := range more {
			pads[i] += p
		}
		n.Attrs = append(n.Attrs, onnxio.IntsAttr("pads", pads...))
		bound := *o.node
		bound.Node = &n
		o.node, o.in[0] = &bound, pad.in[0]
		o.link()
	}
}

// padOfLevels is the Pad behind v, which was quantized and dequantized since by the scale and the zero point
// that what it pads was dequantized by: zero and all numbers of the map have a level, and stay what they are.
func (g *graph) padOfLevels(v *value) *op {
	x, q, ok := g.dequantized(v)
	if !ok {
		return nil
	}
	by := x.computedBy()
	if by == nil || by.role() != quantizes {
		return nil
	}
	pad := by.in[0].computedBy()
	if to, ok := g.to(by); !ok || !to.same(q) || pad == nil {
		return nil
	}
	if _, from, ok := g.dequantized(pad.in[0]); !ok || !from.same(q) {
		return nil
	}
	return pad
}

// takesForNothing reports whether a convolution takes a number, nil for 0, for what lies outside of its map:
// 0, or the zero point of the map.
func (o *op) takesForNothing(number *value) bool {
	if o.in[0].info.Type == onnxio.Float {
		zero, ok := float64(0), true
		if number != nil {
			zero, ok = number.scalar()
		}
		return ok && zero == 0
	}
	zero := o.path().padding
	if zero == 0 || len(o.in) <= zero {
		return false
	}
	level := func(v *value) (int32, bool) {
		switch {
		case v == nil:
			return 0, true
		case v.kind != constant || !v.isByte() || v.size() != 1:
			return 0, false
		}
		return levelOf(v.konst), true
	}
	outside, known := level(o.in[zero])
	filled, ok := level(number)
	return known && ok && outside == filled
}

// constantPads are what a Pad puts around the spatial axes, where that is all it does, and of which number.
func constantPads(pad *op, rank int) (pads []int64, number *value, ok bool) {
	if pad.node.Str("mode", "constant") != "constant" || pad.node.Float("value", 0) != 0 || rank < 3 {
		return nil, nil, false
	}
	if len(pad.in) > 3 && pad.in[3] != nil {
		return nil, nil, false // axes of its own
	}
	if len(pad.in) > 2 {
		number = pad.in[2]
	}
	list := pad.node.Ints("pads", pad.node.Ints("paddings")...)
	if len(pad.in) > 1 {
		elems, ok := pad.in[1].info.Known()
		if !ok {
			return nil, nil, false
		}
		list = nil
		for _, e := range elems {
			list = append(list, e.Value)
		}
	}
	if len(list) != 2*rank || slices.Min(list) < 0 || slices.Max(list) > math.MaxInt32 {
		return nil, nil, false
	}
	if list[0] != 0 || list[1] != 0 || list[rank] != 0 || list[rank+1] != 0 {
		return nil, nil, false
	}
	return append(slices.Clone(list[2:rank]), list[rank+2:]...), number, true
}
