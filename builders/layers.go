package builders

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Option changes a layer from its default, which is PyTorch's.
type Option func(*layer)

type layer struct {
	stride, pad, outPad, dilation int64
	groups                        int64
	bias                          bool
	eps, momentum                 float32
	ceil                          bool
	countPad                      bool
	weightInit, biasInit          Init
}

func options(opts []Option) layer {
	l := layer{stride: 1, dilation: 1, groups: 1, bias: true, eps: 1e-5, momentum: 0.1, countPad: true}
	for _, o := range opts {
		o(&l)
	}
	return l
}

// Stride sets the stride in both directions (default 1; for pooling, the kernel size).
func Stride(n int) Option { return func(l *layer) { l.stride = int64(n) } }

// Pad sets the zero padding on every side (default 0).
func Pad(n int) Option { return func(l *layer) { l.pad = int64(n) } }

// OutputPad adds to the size of a transposed convolution's output (default 0).
func OutputPad(n int) Option { return func(l *layer) { l.outPad = int64(n) } }

// Dilation sets the distance between the kernel's taps (default 1).
func Dilation(n int) Option { return func(l *layer) { l.dilation = int64(n) } }

// Groups splits the channels into groups (default 1).
func Groups(n int) Option { return func(l *layer) { l.groups = int64(n) } }

// NoBias leaves the bias out.
func NoBias() Option { return func(l *layer) { l.bias = false } }

// Eps sets batch normalisation's epsilon (default 1e-5).
func Eps(v float32) Option { return func(l *layer) { l.eps = v } }

// Momentum sets batch normalisation's momentum as PyTorch has it (default 0.1: the share of the new batch).
func Momentum(v float32) Option { return func(l *layer) { l.momentum = v } }

// CeilMode rounds a pool's output size up.
func CeilMode() Option { return func(l *layer) { l.ceil = true } }

// ExcludePad leaves the padding out of an average pool's count.
func ExcludePad() Option { return func(l *layer) { l.countPad = false } }

// WeightInit fills the layer's weight otherwise than PyTorch does by default.
func WeightInit(f Init) Option { return func(l *layer) { l.weightInit = f } }

// BiasInit fills the layer's bias otherwise than PyTorch does by default.
func BiasInit(f Init) Option { return func(l *layer) { l.biasInit = f } }

// refuse reports options that a kind of layer does not have.
func (b *Builder) refuse(name, kind string, options map[string]bool) {
	for _, o := range slices.Sorted(maps.Keys(options)) {
		if options[o] {
			b.fail(name, "%s has no option %s", kind, o)
		}
	}
}

// windowed is the output size of a window over size.
func windowed(size, k int64, l layer) int64 {
	span := size + 2*l.pad - l.dilation*(k-1) - 1
	if span < 0 {
		return 0
	}
	if l.ceil {
		n := (span+l.stride-1)/l.stride + 1
		if (n-1)*l.stride >= size+l.pad { // the last window would start in the padding
			n--
		}
		return n
	}
	return span/l.stride + 1
}

func spatial(k int64, l layer) []*onnxio.Attribute {
	return []*onnxio.Attribute{
		onnxio.IntsAttr("kernel_shape", k, k), onnxio.IntsAttr("strides", l.stride, l.stride),
		onnxio.IntsAttr("pads", l.pad, l.pad, l.pad, l.pad),
	}
}

// checkWindow reports a kernel that does not fit.
func (b *Builder) checkWindow(name string, x Value, k int, l layer) (h, w int64, ok bool) {
	if !b.is3(name, x) {
		return 0, 0, false
	}
	if k < 1 || l.stride < 1 || l.pad < 0 || l.dilation < 1 || l.groups < 1 {
		b.fail(name, "kernel %d, stride %d, pad %d, dilation %d, groups %d", k, l.stride, l.pad, l.dilation, l.groups)
		return 0, 0, false
	}
	h, w = windowed(x.Shape[1], int64(k), l), windowed(x.Shape[2], int64(k), l)
	if h < 1 || w < 1 {
		b.fail(name, "a %dx%d kernel with padding %d does not fit its input %s", k, k, l.pad, x)
		return 0, 0, false
	}
	return h, w, true
}

// weights adds name.weight of the given shape and, unless left out, name.bias with one number for each output. The shape's
// dimensions after the first make up PyTorch's fan_in.
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

// Conv2d is torch.nn.Conv2d: x [N,C,H,W] to [N,channels,H',W'] with a square kernel of size k. Initializers
// name.weight [channels,C/groups,k,k] and name.bias [channels].
func (b *Builder) Conv2d(name string, x Value, channels, k int, opts ...Option) Value {
	l := options(opts)
	b.refuse(name, "Conv2d", map[string]bool{"CeilMode": l.ceil, "OutputPad": l.outPad != 0})
	h, w, ok := b.checkWindow(name, x, k, l)
	if !ok {
		return Value{}
	}
	in := x.Shape[0]
	if channels < 1 || in%l.groups != 0 || int64(channels)%l.groups != 0 {
		b.fail(name, "%d groups do not divide %d input and %d output channels", l.groups, in, channels)
		return Value{}
	}
	inputs := append([]string{x.Name}, b.weights(name, l, channels, int64(channels), in/l.groups, int64(k), int64(k))...)
	attrs := append(spatial(int64(k), l), onnxio.IntsAttr("dilations", l.dilation, l.dilation), onnxio.IntAttr("group", l.groups))
	return b.node("Conv", name, inputs, []int64{int64(channels), h, w}, attrs...)
}

// ConvTranspose2d is torch.nn.ConvTranspose2d: x [N,C,H,W] to [N,channels,H',W']. Initializers name.weight
// [C,channels/groups,k,k] and name.bias [channels].
func (b *Builder) ConvTranspose2d(name string, x Value, channels, k int, opts ...Option) Value {
	l := options(opts)
	if !b.is3(name, x) {
		return Value{}
	}
	in := x.Shape[0]
	size := func(d int64) int64 { return (d-1)*l.stride - 2*l.pad + l.dilation*(int64(k)-1) + l.outPad + 1 }
	h, w := size(x.Shape[1]), size(x.Shape[2])
	b.refuse(name, "ConvTranspose2d", map[string]bool{"CeilMode": l.ceil,
		"an output padding of the stride or more": l.outPad != 0 && l.outPad >= max(l.stride, l.dilation)})
	if channels < 1 || k < 1 || l.stride < 1 || l.dilation < 1 || l.pad < 0 || l.groups < 1 || in%l.groups != 0 || int64(channels)%l.groups != 0 || h < 1 || w < 1 {
		b.fail(name, "kernel %d, stride %d, pad %d, %d channels in %d groups do not fit %s", k, l.stride, l.pad, channels, l.groups, x)
		return Value{}
	}
	inputs := append([]string{x.Name}, b.weights(name, l, channels, in, int64(channels)/l.groups, int64(k), int64(k))...)
	attrs := append(spatial(int64(k), l), onnxio.IntsAttr("dilations", l.dilation, l.dilation), onnxio.IntAttr("group", l.groups),
		onnxio.IntsAttr("output_padding", l.outPad, l.outPad))
	return b.node("ConvTranspose", name, inputs, []int64{int64(channels), h, w}, attrs...)
}

// BatchNorm2d is torch.nn.BatchNorm2d in evaluation mode: name.weight, name.bias, name.running_mean, name.running_var.
func (b *Builder) BatchNorm2d(name string, x Value, opts ...Option) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	l, c := options(opts), x.Shape[0]
	in := []string{x.Name, b.param(name, "weight", Ones, c), b.param(name, "bias", Zeros, c),
		b.param(name, "running_mean", Zeros, c), b.param(name, "running_var", Ones, c)}
	return b.node("BatchNormalization", name, in, x.Shape, onnxio.FloatAttr("epsilon", l.eps), onnxio.FloatAttr("momentum", 1-l.momentum))
}

// Linear is torch.nn.Linear: x [N,F] to [N,out]. Initializers name.weight [out,F] and name.bias [out].
func (b *Builder) Linear(name string, x Value, out int, opts ...Option) Value {
	if b.root.err == nil && len(x.Shape) != 1 {
		b.fail(name, "takes features [N,F], not %s: flatten first", x)
	}
	if b.root.err == nil && out < 1 {
		b.fail(name, "%d outputs", out)
	}
	if b.root.err != nil {
		return Value{}
	}
	l, f := options(opts), x.Shape[0]
	in := append([]string{x.Name}, b.weights(name, l, out, int64(out), f)...)
	return b.node("Gemm", name, in, []int64{int64(out)}, onnxio.FloatAttr("alpha", 1), onnxio.FloatAttr("beta", 1), onnxio.IntAttr("transB", 1))
}

// MaxPool2d is torch.nn.MaxPool2d with a square window of size k; the stride is k unless given.
func (b *Builder) MaxPool2d(name string, x Value, k int, opts ...Option) Value {
	l := options(append([]Option{Stride(k)}, opts...))
	b.refuse(name, "MaxPool2d", map[string]bool{"Groups": l.groups != 1, "OutputPad": l.outPad != 0, "a padding of more than half the kernel": 2*l.pad > int64(k)})
	h, w, ok := b.checkWindow(name, x, k, l)
	if !ok {
		return Value{}
	}
	attrs := spatial(int64(k), l)
	if l.dilation != 1 {
		attrs = append(attrs, onnxio.IntsAttr("dilations", l.dilation, l.dilation))
	}
	if l.ceil {
		attrs = append(attrs, onnxio.IntAttr("ceil_mode", 1))
	}
	return b.node("MaxPool", name, []string{x.Name}, []int64{x.Shape[0], h, w}, attrs...)
}

// AvgPool2d is torch.nn.AvgPool2d with a square window of size k; the stride is k unless given.
func (b *Builder) AvgPool2d(name string, x Value, k int, opts ...Option) Value {
	l := options(append([]Option{Stride(k)}, opts...))
	b.refuse(name, "AvgPool2d", map[string]bool{"Groups": l.groups != 1, "OutputPad": l.outPad != 0, "Dilation": l.dilation != 1,
		"a padding of more than half the kernel": 2*l.pad > int64(k)})
	h, w, ok := b.checkWindow(name, x, k, l)
	if !ok {
		return Value{}
	}
	attrs := spatial(int64(k), l)
	if l.ceil {
		attrs = append(attrs, onnxio.IntAttr("ceil_mode", 1))
	}
	if l.pad > 0 && l.countPad {
		attrs = append(attrs, onnxio.IntAttr("count_include_pad", 1))
	}
	return b.node("AveragePool", name, []string{x.Name}, []int64{x.Shape[0], h, w}, attrs...)
}

// GlobalAvgPool2d is torch.nn.AdaptiveAvgPool2d(1): [N,C,H,W] to [N,C,1,1].
func (b *Builder) GlobalAvgPool2d(name string, x Value) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	return b.node("GlobalAveragePool", name, []string{x.Name}, []int64{x.Shape[0], 1, 1})
}

// GlobalMaxPool2d is torch.nn.AdaptiveMaxPool2d(1): [N,C,H,W] to [N,C,1,1].
func (b *Builder) GlobalMaxPool2d(name string, x Value) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	return b.node("GlobalMaxPool", name, []string{x.Name}, []int64{x.Shape[0], 1, 1})
}

// AdaptiveAvgPool2d is torch.nn.AdaptiveAvgPool2d: [N,C,H,W] to [N,C,h,w], each output the mean of its share of the input.
// ONNX wants the shares of one size and step, as they are when H is a multiple of h or one more, and W of w. A feature map
// that has the size already stays as it is, without a node.
func (b *Builder) AdaptiveAvgPool2d(name string, x Value, h, w int) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	if h == 1 && w == 1 {
		return b.GlobalAvgPool2d(name, x)
	}
	if h < 1 || w < 1 {
		b.fail(name, "cannot pool to %dx%d", h, w)
		return Value{}
	}
	high, down, ok := adaptive(x.Shape[1], int64(h))
	wide, right, also := adaptive(x.Shape[2], int64(w))
	if !ok || !also {
		b.fail(name, "cannot pool %s to %dx%d in windows of one size and step, which ONNX wants: height and width must be a multiple of that, or one more",
			x, h, w)
		return Value{}
	}
	if high == 1 && wide == 1 && down == 1 && right == 1 {
		return x
	}
	return b.node("AveragePool", name, []string{x.Name}, []int64{x.Shape[0], int64(h), int64(w)},
		onnxio.IntsAttr("kernel_shape", high, wide), onnxio.IntsAttr("strides", down, right), onnxio.IntsAttr("pads", 0, 0, 0, 0))
}

// adaptive is the window and step that cut size into n shares as PyTorch does, share i from floor(i*size/n) to
// ceil((i+1)*size/n). With size = q*n + r they are from i*q + floor(i*r/n) on: evenly spaced and of one size q+r only for
// r = 0 and 1.
func adaptive(size, n int64) (window, step int64, ok bool) {
	q, r := size/n, size%n
	return q + r, q, q > 0 && r <= 1
}

// ReLU, Sigmoid, Tanh and SiLU apply the function to every element.
func (b *Builder) ReLU(name string, x Value) Value { return b.map1("Relu", name, x) }

// Sigmoid is 1/(1+exp(-x)).
func (b *Builder) Sigmoid(name string, x Value) Value { return b.map1("Sigmoid", name, x) }

// Tanh is the hyperbolic tangent.
func (b *Builder) Tanh(name string, x Value) Value { return b.map1("Tanh", name, x) }

// SiLU is x*sigmoid(x).
func (b *Builder) SiLU(name string, x Value) Value {
	return b.Mul(name, x, b.map1("Sigmoid", name+".sigmoid", x))
}

// GELU is torch.nn.GELU: x times the normal distribution's share below x, (1+erf(x/sqrt(2)))/2. Opset 20 has an operator
// for it; before, it takes five.
func (b *Builder) GELU(name string, x Value) Value {
	if b.root.err != nil {
		return Value{}
	}
	if b.root.opset >= 20 {
		return b.map1("Gelu", name, x)
	}
	with := func(op, what string, x Value, number string, v float32) Value {
		return b.node(op, name+"."+what, []string{x.Name, b.scalar(name, number, v)}, x.Shape)
	}
	y := b.map1("Erf", name+".erf", with("Div", "div", x, "sqrt2", math.Sqrt2))
	return b.Mul(name, with("Mul", "half", x, "0.5", 0.5), with("Add", "add", y, "1", 1))
}

// LeakyReLU is x where positive, else slope*x.
func (b *Builder) LeakyReLU(name string, x Value, slope float32) Value {
	return b.node("LeakyRelu", name, []string{x.Name}, x.Shape, onnxio.FloatAttr("alpha", slope))
}

func (b *Builder) map1(op, name string, x Value) Value {
	return b.node(op, name, []string{x.Name}, x.Shape)
}

// Dropout is torch.nn.Dropout: nothing in evaluation; the trainer puts it to work.
func (b *Builder) Dropout(name string, x Value, p float32) Value {
	if p < 0 || p >= 1 {
		b.fail(name, "probability %v is not in [0,1)", p)
	}
	if b.root.err != nil {
		return Value{}
	}
	return b.node("Dropout", name, []string{x.Name, b.scalar(name, "ratio", p)}, x.Shape)
}

// StochasticDepth is torchvision.ops.StochasticDepth(p, "row") on the branch x of a residual block (Huang et al. 2016): in
// training each image's branch is dropped as a whole with probability p, else divided by 1-p; in evaluation nothing
// happens. It is x times the Dropout of ones [N,1,1,1], one for each image. With p = 0 there is no node.
func (b *Builder) StochasticDepth(name string, x Value, p float32) Value {
	if !(p >= 0 && p < 1) {
		b.fail(name, "probability %v is not in [0,1)", p)
	}
	if b.root.err != nil {
		return Value{}
	}
	if p == 0 {
		return x
	}
	one := slices.Repeat([]int64{1}, len(x.Shape))
	shape := b.numbers("Shape", name+".shape", []string{x.Name})
	batch := b.numbers("Gather", name+".batch", []string{shape, b.ints(name, "first", 0)}, onnxio.IntAttr("axis", 0))
	shape = b.numbers("Concat", name+".factors", []string{batch, b.ints(name, "one", one...)}, onnxio.IntAttr("axis", 0))
	ones := b.node("ConstantOfShape", name+".ones", []string{shape}, one, onnxio.TensorAttr("value", onnxio.Floats([]float32{1}, 1)))
	return b.node("Mul", name, []string{x.Name, b.Dropout(name+".kept", ones, p).Name}, x.Shape)
}

// Flatten is torch.flatten(x, 1): [N,C,H,W] to [N,C*H*W].
func (b *Builder) Flatten(name string, x Value) Value {
	n := int64(1)
	for _, d := range x.Shape {
		n *= d
	}
	return b.node("Flatten", name, []string{x.Name}, []int64{n}, onnxio.IntAttr("axis", 1))
}

// Softmax and LogSoftmax normalise over the channels or classes (axis 1).
func (b *Builder) Softmax(name string, x Value) Value {
	return b.node("Softmax", name, []string{x.Name}, x.Shape, onnxio.IntAttr("axis", 1))
}

// LogSoftmax is the logarithm of Softmax.
func (b *Builder) LogSoftmax(name string, x Value) Value {
	return b.node("LogSoftmax", name, []string{x.Name}, x.Shape, onnxio.IntAttr("axis", 1))
}

// Add and Mul combine two values of one shape.
func (b *Builder) Add(name string, x, y Value) Value { return b.map2("Add", name, x, y) }

// Mul multiplies two values of one shape.
func (b *Builder) Mul(name string, x, y Value) Value { return b.map2("Mul", name, x, y) }

// Scale multiplies every element by a constant.
func (b *Builder) Scale(name string, x Value, factor float32) Value {
	if b.root.err != nil {
		return Value{}
	}
	return b.node("Mul", name, []string{x.Name, b.scalar(name, "factor", factor)}, x.Shape)
}

func (b *Builder) map2(op, name string, x, y Value) Value {
	if b.root.err == nil && fmt.Sprint(x.Shape) != fmt.Sprint(y.Shape) {
		b.fail(name, "cannot combine %s and %s", x, y)
	}
	return b.node(op, name, []string{x.Name, y.Name}, x.Shape)
}

// Concat joins values along their channels, as torch.cat(values, 1).
func (b *Builder) Concat(name string, values ...Value) Value {
	if b.root.err != nil {
		return Value{}
	}
	if len(values) == 0 {
		b.fail(name, "joins nothing")
		return Value{}
	}
	shape := append([]int64{}, values[0].Shape...)
	names := []string{values[0].Name}
	for _, v := range values[1:] {
		if len(v.Shape) != len(shape) || fmt.Sprint(v.Shape[1:]) != fmt.Sprint(shape[1:]) {
			b.fail(name, "cannot join %s and %s along the channels", values[0], v)
			return Value{}
		}
		shape[0] += v.Shape[0]
		names = append(names, v.Name)
	}
	return b.node("Concat", name, names, shape, onnxio.IntAttr("axis", 1))
}

// PadChannels puts channels of zeros before and behind those of x, as torch.nn.functional.pad(x, (0, 0, 0, 0, before, behind)).
func (b *Builder) PadChannels(name string, x Value, before, behind int) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	if before < 0 || behind < 0 {
		b.fail(name, "cannot pad with %d and %d channels", before, behind)
		return Value{}
	}
	pads := b.ints(name, "pads", 0, int64(before), 0, 0, 0, int64(behind), 0, 0)
	return b.node("Pad", name, []string{x.Name, pads}, []int64{x.Shape[0] + int64(before+behind), x.Shape[1], x.Shape[2]})
}
