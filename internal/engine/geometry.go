package engine

import (
	"github.com/cnnkit/cnnkit/internal/kernels"
)

// geometry is a two-dimensional convolution or pooling window with its padding in numbers.
type geometry struct {
	kh, kw, sh, sw, dh, dw   int
	top, left, bottom, right int
	beyond                   bool // the last window of ceil_mode reaches past the padding
}

// window reads the attributes of a node that slides a [kh,kw] window over large, giving small, both
// [N,C,H,W]. ok is false when it is not two-dimensional.
func window(o *op, kernel, large, small []int64) (w geometry, ok bool) {
	n := o.node
	strides, dilations, pads := n.Ints("strides", 1, 1), n.Ints("dilations", 1, 1), n.Ints("pads", 0, 0, 0, 0)
	if len(kernel) != 2 || len(large) != 4 || len(small) != 4 || len(strides) != 2 || len(dilations) != 2 ||
		len(pads) != 4 {
		return w, false
	}
	w = geometry{
		kh: int(kernel[0]), kw: int(kernel[1]), sh: int(strides[0]), sw: int(strides[1]),
		dh: int(dilations[0]), dw: int(dilations[1]),
		top: int(pads[0]), left: int(pads[1]), bottom: int(pads[2]), right: int(pads[3]),
	}
	switch n.Str("auto_pad", "NOTSET") {
	case "VALID":
		w.top, w.left, w.bottom, w.right = 0, 0, 0, 0
	case "SAME_UPPER":
		w.top, w.bottom = same(large[2], small[2], w.kh, w.sh, w.dh, false)
		w.left, w.right = same(large[3], small[3], w.kw, w.sw, w.dw, false)
	case "SAME_LOWER":
		w.top, w.bottom = same(large[2], small[2], w.kh, w.sh, w.dh, true)
		w.left, w.right = same(large[3], small[3], w.kw, w.sw, w.dw, true)
	}
	if o.path().transposed {
		w.settleTransposed(o, large, small)
	}
	bottom, right := w.bottom, w.right
	// What the last window reaches past the large map: negative where it does not reach the last pixels.
	w.bottom = (int(small[2])-1)*w.sh + (w.kh-1)*w.dh + 1 - int(large[2]) - w.top
	w.right = (int(small[3])-1)*w.sw + (w.kw-1)*w.dw + 1 - int(large[3]) - w.left
	w.beyond = w.bottom > bottom || w.right > right
	return w, w.top >= 0 && w.left >= 0 && min(w.sh, w.sw, w.dh, w.dw, w.kh, w.kw) > 0
}

// strides reports whether the window is one pixel, and does not come to every pixel.
func (w geometry) strides() bool {
	return w.kh == 1 && w.kw == 1 && w.top == 0 && w.left == 0 && max(w.sh, w.sw) > 1
}

// unstrided is w over the pixels that it comes to.
func (w geometry) unstrided() geometry {
	w.sh, w.sw, w.bottom, w.right = 1, 1, 0, 0
	return w
}

// settleTransposed finds the pads of a ConvTranspose whose output's size is given, by
// output_shape or auto_pad: ONNX halves what is left over, and the odd pixel goes to the end with
// SAME_UPPER, else to the beginning.
func (w *geometry) settleTransposed(o *op, large, small []int64) {
	auto := o.node.Str("auto_pad", "NOTSET")
	if len(o.node.Ints("output_shape")) == 0 && auto != "SAME_UPPER" && auto != "SAME_LOWER" {
		return
	}
	more := o.node.Ints("output_padding", 0, 0)
	begin := func(i, k, stride, dilation int) int {
		total := max(0, (int(small[2+i])-1)*stride+(k-1)*dilation+1+int(more[i])-int(large[2+i]))
		if auto == "SAME_UPPER" {
			return total / 2
		}
		return total - total/2
	}
	w.top, w.left = begin(0, w.kh, w.sh, w.dh), begin(1, w.kw, w.sw, w.dw)
}

// same is the padding of auto_pad SAME_*: the odd pixel goes to the end (UPPER) or to the beginning (LOWER).
func same(large, small int64, k, stride, dilation int, lower bool) (begin, end int) {
	total := max(0, (int(small)-1)*stride+(k-1)*dilation+1-int(large))
	if begin = total / 2; lower {
		begin = total - begin
	}
	return begin, total - begin
}

// convParts names the roles of the values around a convolution-like op, whichever way it runs: x and y are
// the larger and the smaller map of the underlying (forward) convolution, w its weights [O,I,kh,kw].
type convParts struct {
	x, y, w *value
	kernel  []int64
}

// The rules of Conv, of what runs it backward to x, and of the gradient of its weights.
func convFromX(o *op) convParts   { return convParts{x: o.in[0], y: o.out[0], w: o.in[1]} }
func convToX(o *op) convParts     { return convParts{x: o.out[0], y: o.in[0], w: o.in[1]} }
func convWeights(o *op) convParts { return convParts{x: o.in[0], y: o.in[1], w: o.out[0]} }

// forward reports whether o computes y.
func (p convParts) forward(o *op) bool { return o.out[0] == p.y }

// conv finds the parts of a convolution, in any of its directions; ok is false for other ops.
func conv(o *op) (p convParts, ok bool) {
	row := o.path()
	if row.conv == nil {
		return p, false
	}
	p = row.conv(o)
	if p.w != nil && len(p.w.dims) == 4 {
		p.kernel = p.w.dims[2:]
	}
	return p, true
}

// fastConv reports whether the op is a convolution, in any of its directions, that package kernels runs.
func fastConv(o *op) bool {
	p, ok := conv(o)
	if !ok || o.careful && spreads(o) || !p.x.isFloat4() || !p.y.isFloat4() || p.x.size() == 0 ||
		p.y.size() == 0 {
		return false
	}
	w, ok := window(o, p.kernel, p.x.dims, p.y.dims)
	// an output of nothing but bias at its end
	if !ok || -w.bottom >= max(w.sh, w.dh) || -w.right >= max(w.sw, w.dw) {
		return false
	}
	hx, hy := w.halos()
	x, y := blocked(p.x, hx, kernels.Block), blocked(p.y, hy, kernels.Block)
	return w.spec(x, y, group(o)).Check() == nil
}

// fastBatchNorm reports whether package kernels runs a BatchNormalization. The outputs of training before
// version 14 are others than those that the kernels leave.
func fastBatchNorm(o *op) bool {
	return normalizes(o) && o.out[0].isFloat4() && o.out[0].size() > 0 && (!training(o) || o.node.Since >= 14)
}

// group is the number of groups of a convolution's channels.
func group(o *op) int { return int(o.node.Int("group", 1)) }

// depthwise reports whether every channel of a convolution is a group.
func depthwise(o *op) bool {
	p, ok := conv(o)
	return ok && group(o) > 1 && int64(group(o)) == p.x.dims[1] && int64(group(o)) == p.y.dims[1]
}

// halos is what the convolution needs around x (forward) and around y (backward-data).
func (w geometry) halos() (x, y int) {
	return kernels.ConvHalo(w.kh, w.kw, w.sh, w.sw, w.top, w.left, w.bottom, w.right, w.dh, w.dw)
}

func (w geometry) spec(x, y kernels.Layout, group int) kernels.ConvSpec {
	return kernels.ConvSpec{X: x, Y: y, DX: x, DY: y, KH: w.kh, KW: w.kw, StrideH: w.sh, StrideW: w.sw,
		PadTop: w.top, PadLeft: w.left, DilH: w.dh, DilW: w.dw, Group: group}
}

func blocked(v *value, halo, lanes int) kernels.Layout {
	return kernels.Layout{N: int(v.dims[0]), C: int(v.dims[1]), H: int(v.dims[2]), W: int(v.dims[3]),
		Halo: halo, Lanes: lanes}
}

// pooling is what a pooling does: the maximum or the average, of windows or of the whole
// map, or the gradient of that.
type pooling struct{ maximum, whole, backward bool }

// pool finds a pooling op's maps and window. The indices of maxima have no kernel.
func pool(o *op) (x, y *value, w geometry, ok bool) {
	row := o.path()
	if row.pool == nil || len(o.out) > 1 && o.out[1] != nil {
		return nil, nil, w, false
	}
	if x, y = o.in[0], o.out[0]; row.pool.backward {
		x, y = y, x
	}
	if !x.isFloat4() || !y.isFloat4() || x.size() == 0 || y.size() == 0 {
		return nil, nil, w, false
	}
	kernel := o.node.Ints("kernel_shape")
	if row.pool.whole {
		kernel = x.dims[2:]
	}
	w, ok = window(o, kernel, x.dims, y.dims)
	w.bottom, w.right = max(0, w.bottom), max(0, w.right)
	// A window over nothing but padding has no pixel: the kernels want one.
	ok = ok && max(w.top, w.bottom) < w.kh && max(w.left, w.right) < w.kw
	// What the last window has beyond the padding is not counted, not even as padding.
	counted := !w.beyond || o.node.Int("count_include_pad", 0) == 0
	return x, y, w, ok && w.dh == 1 && w.dw == 1 && counted
}
