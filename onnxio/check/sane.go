package check

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Attribute values that no operator could run with, and shapes that ask for more memory than there is. Only
// what the file itself says is looked at: attributes, constants, and the shapes it declares.

func (c *checker) sane(s *scope, i int, n *onnxio.Node, version int64) {
	switch n.OpType {
	case "Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv":
		ok := c.window(s, i, n)
		c.groups(s, i, n)
		if ok {
			c.windowSize(s, i, n)
		}
	case "MaxPool", "AveragePool", "LpPool", "MaxUnpool":
		if c.window(s, i, n) {
			c.windowSize(s, i, n)
		}
	}
	c.axes(s, i, n)
	c.sizes(s, i, n, version)
}

// maxExtent bounds one kernel size, stride, dilation or pad; with it their sums and
// products stay within int64.
const maxExtent = 1 << 30

// window checks kernel_shape, strides, dilations and pads: ranges, and one entry per spatial dimension. It
// reports whether they are sane.
func (c *checker) window(s *scope, i int, n *onnxio.Node) bool {
	before := len(c.problems) + c.more
	rank := -1
	weights := c.weights(s, n)
	if weights.ranked && len(weights.dims) < 2 {
		c.bad(s.node(i), "weights have shape %v", weights.dims)
		return false
	}
	if weights.ranked {
		rank = len(weights.dims) - 2
	}
	if x := s.input(n, 0); rank < 0 && x.ranked {
		rank = len(x.dims) - 2
	}
	for _, l := range []struct {
		name string
		low  int64
		per  int
	}{{"kernel_shape", 1, 1}, {"strides", 1, 1}, {"dilations", 1, 1}, {"pads", 0, 2},
		{"output_padding", 0, 1}, {"output_shape", 0, 1}} {
		a := n.Attr(l.name)
		if a == nil {
			continue
		}
		for _, v := range a.Ints {
			if v < l.low || v > maxExtent {
				c.bad(s.node(i), "%s %v: each must be from %d to %d", l.name, a.Ints, l.low, int64(maxExtent))
				break
			}
		}
		if len(a.Ints)%l.per != 0 {
			c.bad(s.node(i), "%s has %d entries, an odd number", l.name, len(a.Ints))
			continue
		}
		switch have := len(a.Ints) / l.per; {
		case rank < 0:
			rank = have
		case have != rank && !(l.name == "output_shape" && have == rank+2):
			c.bad(s.node(i), "%s has %d entries for %d spatial dimensions", l.name, len(a.Ints), rank)
		}
	}
	if kernel := n.Ints("kernel_shape"); weights.ranked && kernel != nil &&
		len(kernel) == len(weights.dims)-2 {
		for j, k := range kernel {
			if w := weights.dims[j+2]; w >= 0 && w != k {
				c.bad(s.node(i), "kernel_shape %v where the weights have shape %v", kernel, weights.dims)
				break
			}
		}
	}
	return len(c.problems)+c.more == before
}

// windowSize bounds the output of an operator over windows, whose attributes are sane. Dimensions that are
// not known count as one, so this is a lower bound.
func (c *checker) windowSize(s *scope, i int, n *onnxio.Node) {
	x, w := s.input(n, 0), c.weights(s, n)
	spatial := []int64(nil)
	if w.ranked {
		spatial = w.dims[2:]
	}
	if a := n.Attr("kernel_shape"); a != nil {
		spatial = a.Ints
	}
	out := []int64{1, 1}
	if w.ranked {
		out[1] = max(w.dims[0], 1)
		if n.OpType == "ConvTranspose" {
			out[1] = max(w.dims[1], 1)
		}
	} else if x.ranked && len(x.dims) > 1 {
		out[1] = max(x.dims[1], 1)
	}
	if x.ranked && len(x.dims) > 0 {
		out[0] = max(x.dims[0], 1)
	}
	for j, k := range spatial {
		in := int64(1)
		if x.ranked && j+2 < len(x.dims) {
			in = min(max(x.dims[j+2], 1), 1<<31)
		}
		window := entry(n, "dilations", j, 1)*(min(max(k, 1), maxExtent)-1) + 1
		pads := entry(n, "pads", j, 0) + entry(n, "pads", j+len(spatial), 0)
		stride := entry(n, "strides", j, 1)
		size := (in+pads-window)/stride + 1
		if n.OpType == "ConvTranspose" || n.OpType == "MaxUnpool" {
			size = entry(n, "output_shape", j, (in-1)*stride+entry(n, "output_padding", j, 0)+window-pads)
		}
		out = append(out, max(size, 1))
	}
	c.bytes(s.node(i), x.elem, out)
}

// entry is entry j of a list attribute, def where there is none.
func entry(n *onnxio.Node, name string, j int, def int64) int64 {
	if list := n.Ints(name); j < len(list) {
		return list[j]
	}
	return def
}

// weights is what is known of the filter of a convolution.
func (c *checker) weights(s *scope, n *onnxio.Node) *known {
	switch n.OpType {
	case "Conv", "ConvTranspose", "ConvInteger", "DeformConv":
		return s.input(n, 1)
	case "QLinearConv":
		return s.input(n, 3)
	}
	return &known{}
}

// groups checks that the groups divide the channels and that input and filter agree on them.
func (c *checker) groups(s *scope, i int, n *onnxio.Node) {
	group := n.Int("group", 1)
	if group < 1 || group > maxExtent {
		c.bad(s.node(i), "group %d", group)
		return
	}
	x, w := s.input(n, 0), c.weights(s, n)
	channels := int64(-1)
	if x.ranked && len(x.dims) > 1 {
		channels = x.dims[1]
	}
	if channels >= 0 && channels%group != 0 {
		c.bad(s.node(i), "%d groups do not divide %d channels", group, channels)
		return
	}
	if !w.ranked || len(w.dims) < 2 || w.dims[0] < 0 || w.dims[1] < 0 {
		return
	}
	if w.dims[0]%group != 0 {
		c.bad(s.node(i), "%d groups do not divide the %d channels of weights %v", group, w.dims[0], w.dims)
		return
	}
	want := w.dims[1]
	if n.OpType == "ConvTranspose" {
		want = w.dims[0]
	} else if want > math.MaxInt64/group {
		return // no tensor is that large
	} else {
		want *= group
	}
	if channels >= 0 && channels != want {
		c.bad(s.node(i), "input %v does not fit weights %v in %d groups", x.dims, w.dims, group)
	}
}

// inclusive are the operators whose axis may also be the rank itself.
var inclusive = map[string]bool{"Flatten": true, "OneHot": true}

// perTensor are the operators whose axis means nothing when the scale is a scalar.
var perTensor = map[string]bool{"QuantizeLinear": true, "DequantizeLinear": true}

// axes checks axis, axes and perm against the rank of input 0, where that is known.
func (c *checker) axes(s *scope, i int, n *onnxio.Node) {
	x := s.input(n, 0)
	rank := int64(len(x.dims))
	if !x.ranked || perTensor[n.OpType] {
		return
	}
	high := rank - 1
	if inclusive[n.OpType] {
		high = rank
	}
	low := -rank
	if n.OpType == "OneHot" {
		low--
	}
	if a := n.Attr("axis"); a != nil && a.Type == onnxio.AttrInt && (a.I < low || a.I > high) &&
		!(rank == 0 && a.I == 0) {
		c.bad(s.node(i), "axis %d for an input of rank %d", a.I, rank)
	}
	list, ok := []int64(nil), false
	switch n.OpType {
	case "Unsqueeze":
		return // its axes are those of the output; inference knows how many there are
	case "Squeeze", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
		"ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare":
		list, ok = s.input(n, 1).ints()
	}
	if a := n.Attr("axes"); a != nil {
		list, ok = a.Ints, true
	}
	seen := map[int64]bool{}
	for _, v := range list {
		at := v
		if at < 0 {
			at += rank
		}
		if ok && (at < 0 || at >= rank || seen[at]) && rank > 0 {
			c.bad(s.node(i), "axes %v for an input of rank %d", list, rank)
			break
		}
		seen[at] = true
	}
	if n.OpType == "Transpose" {
		c.permutation(s, i, n, rank)
	}
}

func (c *checker) permutation(s *scope, i int, n *onnxio.Node, rank int64) {
	a := n.Attr("perm")
	if a == nil {
		return
	}
	seen := map[int64]bool{}
	for _, v := range a.Ints {
		if v < 0 || v >= rank || seen[v] {
			break
		}
		seen[v] = true
	}
	if int64(len(seen)) != rank || int64(len(a.Ints)) != rank {
		c.bad(s.node(i), "perm %v is no permutation of %d axes", a.Ints, rank)
	}
}
