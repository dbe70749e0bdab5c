package builders

import "github.com/cnnkit/cnnkit/onnxio"

// MaxPool2d is torch.nn.MaxPool2d with a window of size k; the stride is k unless given.
func (b *Builder) MaxPool2d(name string, x Value, k int, opts ...Option) Value {
	l := windowOptions(k, append([]Option{Stride(k)}, opts...))
	b.refuse(name, "MaxPool2d", map[string]bool{"Groups": l.groups != 1, "OutputPad": l.outPad != both(0),
		"SamePad":                                l.same,
		"a padding of more than half the kernel": l.widePad()})
	h, w, ok := b.checkWindow(name, x, l)
	if !ok {
		return Value{}
	}
	attrs := l.spatial()
	if l.dilation != both(1) {
		attrs = append(attrs, l.dilations())
	}
	if l.ceil {
		attrs = append(attrs, onnxio.IntAttr("ceil_mode", 1))
	}
	return b.node("MaxPool", name, []string{x.Name}, []int64{x.Shape[0], h, w}, attrs...)
}

// AvgPool2d is torch.nn.AvgPool2d with a window of size k; the stride is k unless given.
func (b *Builder) AvgPool2d(name string, x Value, k int, opts ...Option) Value {
	l := windowOptions(k, append([]Option{Stride(k)}, opts...))
	b.refuse(name, "AvgPool2d", map[string]bool{"Groups": l.groups != 1, "OutputPad": l.outPad != both(0),
		"SamePad":  l.same,
		"Dilation": l.dilation != both(1), "a padding of more than half the kernel": l.widePad()})
	h, w, ok := b.checkWindow(name, x, l)
	if !ok {
		return Value{}
	}
	attrs := l.spatial()
	if l.ceil {
		attrs = append(attrs, onnxio.IntAttr("ceil_mode", 1))
	}
	if l.pad != both(0) && l.countPad {
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

// AdaptiveAvgPool2d is torch.nn.AdaptiveAvgPool2d: [N,C,H,W] to [N,C,h,w], each output the mean of its share
// of the input, from floor(i*H/h) to ceil((i+1)*H/h). Where the shares are of one size and step, as they are
// when H is a multiple of h or one more, and W of w, it is an AveragePool; else two products with matrices of
// the shares. A feature map that has the size already stays as it is, without a node.
func (b *Builder) AdaptiveAvgPool2d(name string, x Value, h, w int) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	if h == 1 && w == 1 {
		return b.GlobalAvgPool2d(name, x)
	}
	if h < 1 || w < 1 || h > maxPool || w > maxPool {
		b.fail(name, "cannot pool to %dx%d", h, w)
		return Value{}
	}
	high, down, ok := adaptive(x.Shape[1], int64(h))
	wide, right, also := adaptive(x.Shape[2], int64(w))
	if !ok || !also {
		y := b.MatMul(name+".columns", x, b.shares(name, "columns", x.Shape[2], int64(w), true))
		return b.MatMul(name, b.shares(name, "rows", x.Shape[1], int64(h), false), y)
	}
	if high == 1 && wide == 1 && down == 1 && right == 1 {
		return x
	}
	return b.node("AveragePool", name, []string{x.Name}, []int64{x.Shape[0], int64(h), int64(w)},
		onnxio.IntsAttr("kernel_shape", high, wide), onnxio.IntsAttr("strides", down, right),
		onnxio.IntsAttr("pads", 0, 0, 0, 0))
}

// maxPool bounds what an adaptive pool gives in a direction.
const maxPool = 1 << 12

// adaptive is the window and step that cut size into n shares as PyTorch does, share i from floor(i*size/n)
// to ceil((i+1)*size/n). With size = q*n + r they are from i*q + floor(i*r/n) on: evenly spaced and of one
// size q+r only for r = 0 and 1.
func adaptive(size, n int64) (window, step int64, ok bool) {
	q, r := size/n, size%n
	return q + r, q, q > 0 && r <= 1
}

// shares is the matrix that takes size numbers to the means of n shares: [n,size], or transposed [size,n].
func (b *Builder) shares(layer, what string, size, n int64, transposed bool) Value {
	data, shape := make([]float32, size*n), []int64{n, size}
	if transposed {
		shape = []int64{size, n}
	}
	for i := range n {
		from, to := i*size/n, ((i+1)*size+n-1)/n
		for j := from; j < to; j++ {
			at := i*size + j
			if transposed {
				at = j*n + i
			}
			data[at] = 1 / float32(to-from)
		}
	}
	return b.table(layer, what, data, shape...)
}
