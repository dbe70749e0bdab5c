package builders

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Option changes a layer from its default, which is PyTorch's.
type Option func(*layer)

// layer is what options set. Pairs are height and width.
type layer struct {
	kernel, stride, pad, outPad, dilation [2]int64
	behind                                [2]int64 // padding below and to the right beyond pad
	groups                                int64
	bias, unscaled                        bool
	eps, momentum                         float32
	ceil, same                            bool
	countPad                              bool
	weightInit, biasInit                  Init
}

func options(opts []Option) layer {
	l := layer{stride: both(1), dilation: both(1), groups: 1, bias: true, eps: 1e-5, momentum: 0.1,
		countPad: true}
	for _, o := range opts {
		o(&l)
	}
	return l
}

// windowOptions are the options of a layer with a square window of size k, unless Kernel says otherwise.
func windowOptions(k int, opts []Option) layer {
	return options(append([]Option{Kernel(k, k)}, opts...))
}

func both(n int) [2]int64 { return [2]int64{int64(n), int64(n)} }

// Kernel makes the window height rows high and width columns wide, whatever the layer's own size says.
func Kernel(height, width int) Option {
	return func(l *layer) { l.kernel = [2]int64{int64(height), int64(width)} }
}

// Stride sets the stride in both directions (default 1; for pooling, the kernel size).
func Stride(n int) Option { return func(l *layer) { l.stride = both(n) } }

// Strides sets the stride down and to the right.
func Strides(down, right int) Option {
	return func(l *layer) { l.stride = [2]int64{int64(down), int64(right)} }
}

// Pad sets the zero padding on every side (default 0).
func Pad(n int) Option { return func(l *layer) { l.pad = both(n) } }

// Pads sets the zero padding above and below, and left and right.
func Pads(vertical, horizontal int) Option {
	return func(l *layer) { l.pad = [2]int64{int64(vertical), int64(horizontal)} }
}

// SamePad pads a convolution as TensorFlow's SAME does: the output is the input's size divided by the stride,
// rounded up, and an odd padding has one more below and to the right.
func SamePad() Option { return func(l *layer) { l.same = true } }

// OutputPad adds to the size of a transposed convolution's output (default 0).
func OutputPad(n int) Option { return func(l *layer) { l.outPad = both(n) } }

// Dilation sets the distance between the kernel's taps (default 1).
func Dilation(n int) Option { return func(l *layer) { l.dilation = both(n) } }

// Groups splits the channels into groups (default 1).
func Groups(n int) Option { return func(l *layer) { l.groups = int64(n) } }

// NoBias leaves the bias out.
func NoBias() Option { return func(l *layer) { l.bias = false } }

// NoScale leaves batch normalisation's weight at 1: it is a buffer.
func NoScale() Option { return func(l *layer) { l.unscaled = true } }

// Eps sets a normalization's epsilon (default 1e-5).
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

// sound says that every number of the window makes sense.
func (l layer) sound() bool {
	for i := range 2 {
		if l.kernel[i] < 1 || l.stride[i] < 1 || l.pad[i] < 0 || l.dilation[i] < 1 || l.outPad[i] < 0 {
			return false
		}
	}
	return l.groups >= 1
}

// widePad says that the padding is more than half the kernel, which pools refuse.
func (l layer) widePad() bool { return 2*l.pad[0] > l.kernel[0] || 2*l.pad[1] > l.kernel[1] }

// padded has the padding that SamePad asks for on x [C,H,W].
func (l layer) padded(x Value) layer {
	if !l.same || !l.sound() || len(x.Shape) != 3 {
		return l
	}
	for i := range 2 {
		size, stride := x.Shape[i+1], l.stride[i]
		total := max(0, (size+stride-1)/stride*stride-stride+l.dilation[i]*(l.kernel[i]-1)+1-size)
		l.pad[i], l.behind[i] = total/2, total%2
	}
	return l
}

// windowed is the output size of a window over size in one direction: 0 down, 1 to the right.
func (l layer) windowed(size int64, dir int) int64 {
	stride, pad := l.stride[dir], l.pad[dir]
	span := size + 2*pad + l.behind[dir] - l.dilation[dir]*(l.kernel[dir]-1) - 1
	if span < 0 {
		return 0
	}
	if l.ceil {
		n := (span+stride-1)/stride + 1
		if (n-1)*stride >= size+pad { // the last window would start in the padding
			n--
		}
		return n
	}
	return span/stride + 1
}

func (l layer) spatial() []*onnxio.Attribute {
	return []*onnxio.Attribute{
		onnxio.IntsAttr("kernel_shape", l.kernel[0], l.kernel[1]), onnxio.IntsAttr("strides", l.stride[0],
			l.stride[1]),
		onnxio.IntsAttr("pads", l.pad[0], l.pad[1], l.pad[0]+l.behind[0], l.pad[1]+l.behind[1]),
	}
}

func (l layer) dilations() *onnxio.Attribute {
	return onnxio.IntsAttr("dilations", l.dilation[0], l.dilation[1])
}

// short writes a pair that is the same in both directions as one number.
func short(pair [2]int64) string {
	if pair[0] == pair[1] {
		return fmt.Sprint(pair[0])
	}
	return fmt.Sprintf("%dx%d", pair[0], pair[1])
}

// checkWindow reports a kernel that does not fit.
func (b *Builder) checkWindow(name string, x Value, l layer) (h, w int64, ok bool) {
	if !b.is3(name, x) {
		return 0, 0, false
	}
	if !l.sound() {
		b.fail(name, "kernel %s, stride %s, pad %s, dilation %s, groups %d", short(l.kernel), short(l.stride),
			short(l.pad),
			short(l.dilation), l.groups)
		return 0, 0, false
	}
	h, w = l.windowed(x.Shape[1], 0), l.windowed(x.Shape[2], 1)
	if h < 1 || w < 1 {
		b.fail(name, "a %dx%d kernel with padding %s does not fit its input %s", l.kernel[0], l.kernel[1],
			short(l.pad), x)
		return 0, 0, false
	}
	return h, w, true
}
