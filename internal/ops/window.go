package ops

import (
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
)

// maxSpatial is the number of spatial dimensions that convolutions and pools support.
const maxSpatial = 3

// maxExtent bounds kernels, strides, dilations, pads and spatial sizes, so that products of two fit an int64.
const maxExtent = 1<<31 - 1

// window is the geometry of a convolution or a pool. It always has three spatial dimensions: leading ones
// that the operator lacks are 1. Output o and tap k read input o*stride + k*dil - padB.
type window struct {
	rank                   int // spatial dimensions of the operator
	in, out                [maxSpatial]int
	kernel, stride, dil    [maxSpatial]int
	padB, padE, outputPad  [maxSpatial]int
	auto                   autoPad
	ceil                   bool
	inSize, outSize, kSize int // products
}

type autoPad int

const (
	padNotSet autoPad = iota
	padSameUpper
	padSameLower
	padValid
)

// newWindow reads the attributes of n for an operator with the given number of spatial dimensions and kernel.
func newWindow(n *Node, rank int, kernel []int64) (w window, err error) {
	if rank < 1 {
		return w, n.Errorf("needs an input with spatial dimensions, [N,C,W] at least")
	}
	if rank > maxSpatial {
		return w, n.Errorf("%w", &onnxio.UnsupportedError{Op: n.OpType, Node: n.Name,
			Reason: "more than 3 spatial dimensions"})
	}
	w.rank = rank
	for i := range w.kernel {
		w.in[i], w.out[i], w.kernel[i], w.stride[i], w.dil[i] = 1, 1, 1, 1, 1
	}
	if len(kernel) != rank {
		return w, n.Errorf("kernel_shape %s for an input with %d spatial dimensions", dimsText(kernel), rank)
	}
	if err := w.fill(n, "kernel", w.kernel[:], kernel, 1); err != nil {
		return w, err
	}
	if err := w.fill(n, "strides", w.stride[:], n.Ints("strides"), 1); err != nil {
		return w, err
	}
	if err := w.fill(n, "dilations", w.dil[:], n.Ints("dilations"), 1); err != nil {
		return w, err
	}
	if err := w.fill(n, "output_padding", w.outputPad[:], n.Ints("output_padding"), 0); err != nil {
		return w, err
	}
	if pads := n.Ints("pads"); len(pads) != 0 {
		if len(pads) != 2*rank {
			return w, n.Errorf("pads %s for %d spatial dimensions", dimsText(pads), rank)
		}
		if err := w.fill(n, "pads", w.padB[:], pads[:rank], 0); err != nil {
			return w, err
		}
		if err := w.fill(n, "pads", w.padE[:], pads[rank:], 0); err != nil {
			return w, err
		}
	}
	w.ceil = n.Int("ceil_mode", 0) != 0
	switch s := n.Str("auto_pad", "NOTSET"); s {
	case "NOTSET", "":
	case "SAME_UPPER":
		w.auto = padSameUpper
	case "SAME_LOWER":
		w.auto = padSameLower
	case "VALID":
		w.auto = padValid
	default:
		return w, n.Errorf("auto_pad %q is not NOTSET, SAME_UPPER, SAME_LOWER or VALID", s)
	}
	if w.auto != padNotSet {
		w.padB, w.padE = [maxSpatial]int{}, [maxSpatial]int{}
	}
	w.sizes()
	return w, nil
}

// fill copies an attribute of one number per spatial dimension, right-aligned; an
// absent one keeps the default.
func (w *window) fill(n *Node, what string, dst []int, src []int64, min int64) error {
	if len(src) == 0 {
		return nil
	}
	if len(src) != w.rank {
		return n.Errorf("%s %s for %d spatial dimensions", what, dimsText(src), w.rank)
	}
	for i, v := range src {
		if v < min || v > maxExtent {
			return n.Errorf("%s %s: values must be from %d to %d", what, dimsText(src), min, maxExtent)
		}
		dst[maxSpatial-w.rank+i] = int(v)
	}
	return nil
}

func (w *window) sizes() {
	w.inSize, w.outSize, w.kSize = 1, 1, 1
	for i := range w.in {
		w.inSize *= w.in[i]
		w.outSize *= w.out[i]
		w.kSize *= w.kernel[i]
	}
}

// axis maps spatial dimension i of the operator to its place among the three.
func (w *window) axis(i int) int { return maxSpatial - w.rank + i }

// reach is the extent of the dilated kernel.
func (w *window) reach(a int) int { return (w.kernel[a]-1)*w.dil[a] + 1 }

// settle sets the input size of place a and computes output size and, for auto_pad, the pads.
func (w *window) settle(a, in int) error {
	w.in[a] = in
	s, reach := w.stride[a], w.reach(a)
	if w.auto == padSameUpper || w.auto == padSameLower {
		w.out[a] = (in + s - 1) / s
		total := max((w.out[a]-1)*s+reach-in, 0)
		w.padB[a] = total / 2
		if w.auto == padSameLower {
			w.padB[a] = total - total/2
		}
		w.padE[a] = total - w.padB[a]
	} else {
		span := in + w.padB[a] + w.padE[a] - reach
		if span < 0 && !(w.ceil && span > -s) { // a last window that sticks out may be the only one
			return fmt.Errorf("kernel %d with dilation %d does not fit input %d with pads %d and %d",
				w.kernel[a], w.dil[a], in, w.padB[a], w.padE[a])
		}
		if w.out[a] = span/s + 1; w.ceil && span%s > 0 {
			// A window that would start beyond the input and its leading pad does not count.
			if w.out[a]*s < in+w.padB[a] {
				w.out[a]++
			}
		}
	}
	return nil
}

// settleAll sets the spatial sizes of the input and computes the output's.
func (w *window) settleAll(n *Node, spatial []int64) error {
	for i, d := range spatial {
		if d > maxExtent {
			return n.Errorf("spatial size %d is too large", d)
		}
		if err := w.settle(w.axis(i), int(d)); err != nil {
			return n.Errorf("input [...,%s: %w", dimsText(spatial)[1:], err)
		}
	}
	w.sizes()
	return nil
}

// force sets the spatial sizes of input and output, for gradients, which know both.
func (w *window) force(n *Node, in, out []int64) error {
	if len(in) != w.rank || len(out) != w.rank {
		return n.Errorf("spatial shapes %s and %s for a kernel of %d dimensions", dimsText(in),
			dimsText(out), w.rank)
	}
	for i := range in {
		if in[i] > maxExtent || out[i] > maxExtent || in[i] < 0 || out[i] < 0 {
			return n.Errorf("spatial sizes %s and %s are out of range", dimsText(in), dimsText(out))
		}
		w.in[w.axis(i)], w.out[w.axis(i)] = int(in[i]), int(out[i])
	}
	w.sizes()
	return nil
}

// outDim infers output dimension i from the input's.
func (w *window) outDim(i int, in onnxio.Dim) (onnxio.Dim, error) {
	a := w.axis(i)
	if in.Known() {
		if in.Value > maxExtent {
			return in, fmt.Errorf("spatial size %d is too large", in.Value)
		}
		if err := w.settle(a, int(in.Value)); err != nil {
			return in, err
		}
		return knownDim(int64(w.out[a])), nil
	}
	same := w.auto == padSameUpper || w.auto == padSameLower
	if w.stride[a] == 1 && (same || w.padB[a]+w.padE[a] == w.reach(a)-1) {
		return in, nil
	}
	return unknownDim, nil
}

// span is the range of outputs along place a whose tap k reads inside the input, and the offset of what it
// reads: output o reads input o*stride + off.
func (w *window) span(a, k int) (lo, hi, off int) {
	off = k*w.dil[a] - w.padB[a]
	s := w.stride[a]
	if off < 0 {
		lo = (-off + s - 1) / s
	}
	if last := w.in[a] - 1 - off; last >= 0 {
		hi = min(last/s+1, w.out[a])
	}
	return lo, max(hi, lo), off
}

// taps is the range of taps along place a that output o reads inside the input, and its origin: tap k
// reads input origin + k*dil.
func (w *window) taps(a, o int) (lo, hi, origin int) {
	origin = o*w.stride[a] - w.padB[a]
	d := w.dil[a]
	if origin < 0 {
		lo = (-origin + d - 1) / d
	}
	if last := w.in[a] - 1 - origin; last >= 0 {
		hi = min(last/d+1, w.kernel[a])
	}
	return lo, max(hi, lo), origin
}

// spatial is the part of a [3]int that the operator has, as int64.
func (w *window) spatial(v [maxSpatial]int) []int64 {
	out := make([]int64, w.rank)
	for i := range out {
		out[i] = int64(v[w.axis(i)])
	}
	return out
}

// attrs is the geometry as explicit attributes, pads settled.
func (w *window) attrs() []*onnxio.Attribute {
	return []*onnxio.Attribute{
		onnxio.IntsAttr("kernel_shape", w.spatial(w.kernel)...),
		onnxio.IntsAttr("strides", w.spatial(w.stride)...),
		onnxio.IntsAttr("dilations", w.spatial(w.dil)...),
		onnxio.IntsAttr("pads", append(w.spatial(w.padB), w.spatial(w.padE)...)...),
	}
}

// windowAttrs are the attributes that newWindow reads and every version has.
func windowAttrs(more ...AttrDef) []AttrDef {
	return append([]AttrDef{intsA("kernel_shape"), intsA("strides"), intsA("pads"), stringA("auto_pad")},
		more...)
}

// poolAttrs are windowAttrs with a kernel_shape that must be there.
func poolAttrs(more ...AttrDef) []AttrDef {
	attrs := windowAttrs(more...)
	attrs[0].Required = true
	return attrs
}

// gradWindowAttrs are the attributes of gradient operators with a window: what attrs gives.
func gradWindowAttrs(more ...AttrDef) []AttrDef {
	return append([]AttrDef{intsA("kernel_shape"), intsA("strides"), intsA("dilations"), intsA("pads")},
		more...)
}

// allocSpatial allocates output i as [n,c,spatial of v].
func (w *window) allocSpatial(c *Eval, i int, t onnxio.DataType, n, ch int,
	v *[maxSpatial]int) (*onnxio.Tensor, error) {
	var dims [2 + maxSpatial]int64
	dims[0], dims[1] = int64(n), int64(ch)
	for j := 0; j < w.rank; j++ {
		dims[2+j] = int64(v[w.axis(j)])
	}
	return c.Alloc(i, t, dims[:2+w.rank]...)
}
