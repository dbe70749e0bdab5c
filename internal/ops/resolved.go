package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// The functions of this file give a compiler the geometry of a node whose lists are constants: in holds the
// constant inputs, nil where one is missing or computed. They report false where something is not known.

// constants reads a list that is an attribute in early versions and an input later.
func constants(n *Node, in []*onnxio.Tensor, computed func(i int) bool) func(attr string, i int) (l []int64,
	present, known bool) {
	return func(attr string, i int) ([]int64, bool, bool) {
		if a := n.Attr(attr); a != nil {
			return a.Ints, true, true
		}
		if i >= len(in) || in[i] == nil {
			return nil, false, !computed(i)
		}
		l, ok := intsOf(in[i])
		return l, true, ok
	}
}

// ResolveSlice gives the first index, the step and the length along each dimension of a Slice's input.
func ResolveSlice(n *Node, dims []int64, in []*onnxio.Tensor, computed func(i int) bool) (start, step,
	length []int64, ok bool) {
	p, err := sliceOf(n, constants(n, in, computed), dims)
	if err != nil || p == nil {
		return nil, nil, nil, false
	}
	return p.start, p.step, p.dims, true
}

// ResolvePad gives what a Pad adds before and after each dimension.
func ResolvePad(n *Node, rank int, in []*onnxio.Tensor, computed func(i int) bool) (begin, end []int64,
	ok bool) {
	list, _, known := constants(n, in, computed)("pads", 1)
	axes, hasAxes, axesKnown := constants(n, in, computed)("axes", 3)
	if !axesKnown {
		return nil, nil, false
	}
	begin, end, err := padsOf(n, rank, list, known && list != nil, axes, hasAxes)
	return begin, end, err == nil && begin != nil
}

// ResizeTap is one place of the input that an output is made of, and its weight.
type ResizeTap struct {
	At     int64
	Weight float64
}

// ResolveResize gives for each dimension, of an input and an output of the given sizes, what every place of
// the output is made of; nil for dimensions that stay. Places that are not made of the input are not known.
func ResolveResize(n *Node, dims []int64, in []*onnxio.Tensor,
	computed func(i int) bool) (taps [][][]ResizeTap, ok bool) {
	r, err := resizingOf(n, knownDims(dims), func(i int) (*onnxio.Tensor, bool) {
		if i >= len(in) || in[i] == nil {
			return nil, !computed(i)
		}
		return in[i], true
	}, func() []onnxio.Dim {
		if len(in) < 4 || in[3] == nil {
			return nil
		}
		sizes, _ := intsOf(in[3])
		return knownDims(sizes)
	})
	if err != nil || r == nil {
		return nil, false
	}
	taps = make([][][]ResizeTap, len(dims))
	for axis, d := range dims {
		if !r.dims[axis].Known() {
			return nil, false
		}
		places, err := r.taps(n, axis, d)
		if err != nil {
			return nil, false
		}
		if unmoved(places, d) {
			continue
		}
		list := make([][]ResizeTap, len(places))
		for i, place := range places {
			if len(place) == 0 {
				return nil, false
			}
			for _, t := range place {
				list[i] = append(list[i], ResizeTap{t.at, t.weight})
			}
		}
		taps[axis] = list
	}
	return taps, true
}

// ResolveResizeGrad is the same for ResizeGrad: for each dimension of dx, what every place is made of in dy.
// Places that no output was made of have nothing.
func ResolveResizeGrad(n *Node, in []*onnxio.Tensor, computed func(i int) bool) (taps [][][]ResizeTap, ok bool) {
	shape := n.Ints("shape")
	taps, ok = ResolveResize(resizeBehind(n), shape, in, computed)
	for axis, places := range taps {
		if places == nil {
			continue
		}
		back := make([][]ResizeTap, shape[axis])
		for i, place := range places {
			for _, t := range place {
				back[t.At] = append(back[t.At], ResizeTap{int64(i), t.Weight})
			}
		}
		taps[axis] = back
	}
	return taps, ok
}
