package builders

import "github.com/cnnkit/cnnkit/onnxio"

// weights adds name.weight of the given shape and, unless left out, name.bias with one number for each
// output. The shape's dimensions after the first make up PyTorch's fan_in.
func (b *Builder) weights(name string, l layer, outputs int, shape ...int64) []string {
	fan := int64(1)
	for _, d := range shape[1:] {
		fan *= d
	}
	if l.weightInit == nil {
		l.weightInit = uniform(fan)
	}
	if l.biasInit == nil {
		l.biasInit = uniform(fan)
	}
	names := []string{b.param(name, "weight", l.weightInit, shape...)}
	if l.bias {
		names = append(names, b.param(name, "bias", l.biasInit, int64(outputs)))
	}
	return names
}

// Conv2d is torch.nn.Conv2d: x [N,C,H,W] to [N,channels,H',W'] with a kernel of size k, square unless Kernel
// is given. Initializers name.weight [channels,C/groups,k,k] and name.bias [channels].
func (b *Builder) Conv2d(name string, x Value, channels, k int, opts ...Option) Value {
	l := windowOptions(k, opts).padded(x)
	b.refuse(name, "Conv2d", map[string]bool{"CeilMode": l.ceil, "OutputPad": l.outPad != both(0)})
	h, w, ok := b.checkWindow(name, x, l)
	if !ok {
		return Value{}
	}
	in := x.Shape[0]
	if channels < 1 || in%l.groups != 0 || int64(channels)%l.groups != 0 {
		b.fail(name, "%d groups do not divide %d input and %d output channels", l.groups, in, channels)
		return Value{}
	}
	shape := []int64{int64(channels), in / l.groups, l.kernel[0], l.kernel[1]}
	inputs := append([]string{x.Name}, b.weights(name, l, channels, shape...)...)
	attrs := append(l.spatial(), l.dilations(), onnxio.IntAttr("group", l.groups))
	return b.node("Conv", name, inputs, []int64{int64(channels), h, w}, attrs...)
}

// ConvTranspose2d is torch.nn.ConvTranspose2d: x [N,C,H,W] to [N,channels,H',W']. Initializers name.weight
// [C,channels/groups,k,k] and name.bias [channels].
func (b *Builder) ConvTranspose2d(name string, x Value, channels, k int, opts ...Option) Value {
	l := windowOptions(k, opts)
	if !b.is3(name, x) {
		return Value{}
	}
	in := x.Shape[0]
	size := func(d int64, i int) int64 {
		return (d-1)*l.stride[i] - 2*l.pad[i] + l.dilation[i]*(l.kernel[i]-1) + l.outPad[i] + 1
	}
	h, w := size(x.Shape[1], 0), size(x.Shape[2], 1)
	over := func(i int) bool { return l.outPad[i] != 0 && l.outPad[i] >= max(l.stride[i], l.dilation[i]) }
	b.refuse(name, "ConvTranspose2d", map[string]bool{"CeilMode": l.ceil, "SamePad": l.same,
		"an output padding of the stride or more": over(0) || over(1)})
	if !l.sound() || channels < 1 || in%l.groups != 0 || int64(channels)%l.groups != 0 || h < 1 || w < 1 {
		b.fail(name, "kernel %s, stride %s, pad %s, %d channels in %d groups do not fit %s", short(l.kernel),
			short(l.stride),
			short(l.pad), channels, l.groups, x)
		return Value{}
	}
	shape := []int64{in, int64(channels) / l.groups, l.kernel[0], l.kernel[1]}
	inputs := append([]string{x.Name}, b.weights(name, l, channels, shape...)...)
	attrs := append(l.spatial(), l.dilations(), onnxio.IntAttr("group", l.groups),
		onnxio.IntsAttr("output_padding", l.outPad[0], l.outPad[1]))
	return b.node("ConvTranspose", name, inputs, []int64{int64(channels), h, w}, attrs...)
}

// Linear is torch.nn.Linear over the last axis: x [N,F] to [N,out], or tokens [N,...,F] to [N,...,out].
// Initializers name.weight [out,F] and name.bias [out].
func (b *Builder) Linear(name string, x Value, out int, opts ...Option) Value {
	if b.root.err == nil && len(x.Shape) != 1 && !x.fixed && !x.tokens {
		b.fail(name, "takes features [N,F], not %s: flatten first", x)
	}
	if b.root.err == nil && (len(x.Shape) == 0 || out < 1) {
		b.fail(name, "%d outputs of %s", out, x)
	}
	if b.root.err != nil {
		return Value{}
	}
	last := len(x.Shape) - 1
	l, f := options(opts), x.Shape[last]
	names := b.weights(name, l, out, int64(out), f)
	if last == 0 && !x.fixed {
		return b.node("Gemm", name, append([]string{x.Name}, names...), []int64{int64(out)},
			onnxio.FloatAttr("alpha", 1), onnxio.FloatAttr("beta", 1), onnxio.IntAttr("transB", 1))
	}
	return b.project(name, x, names, int64(out))
}

// project is a matrix product over the last axis with a weight [out,F] of the state dict, and
// its bias where there is one.
func (b *Builder) project(name string, x Value, names []string, out int64) Value {
	w := b.Permute(name+".weight_t", Value{Name: names[0], Shape: []int64{out, x.Shape[len(x.Shape)-1]},
		fixed: true}, 1, 0)
	y := b.MatMul(name+".matmul", x, w)
	if len(names) == 1 {
		return y
	}
	return b.Add(name, y, Value{Name: names[1], Shape: []int64{out}, fixed: true})
}
