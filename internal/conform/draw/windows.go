package draw

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// registerWindows adds the operators that move a window over maps [N,C,...], and the norms of their channels.
func registerWindows() {
	conv := func(size float64, n *onnxio.Node) float64 { return 2*size + 1 }
	special["Conv"] = form{draw: drawConv, grows: conv}
	special["ConvTranspose"] = form{draw: drawConvTranspose, grows: conv}
	for _, op := range []string{"MaxPool", "AveragePool", "LpPool"} {
		special[op] = form{draw: func(d *drawer) *onnxio.Node { return d.pool(op) }}
	}
	special["LpPool"] = form{draw: special["LpPool"].draw, grows: func(size float64, _ *onnxio.Node) float64 {
		return 6 * size
	}}
	for _, op := range []string{"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "LRN",
		"MeanVarianceNormalization", "DepthToSpace", "SpaceToDepth"} {
		special[op] = form{draw: func(d *drawer) *onnxio.Node { return d.onMaps(op) }}
	}
	special["BatchNormalization"] = form{draw: drawBatchNorm, grows: func(size float64,
		_ *onnxio.Node) float64 {
		return 2*size + 4
	}}
	norm := func(size float64, _ *onnxio.Node) float64 { return 8 }
	special["InstanceNormalization"] = form{draw: func(d *drawer) *onnxio.Node {
		return d.channelNorm("InstanceNormalization")
	}, grows: norm}
	special["GroupNormalization"] = form{draw: func(d *drawer) *onnxio.Node {
		return d.channelNorm("GroupNormalization")
	}, grows: norm}
}

// onMaps is generic for values [N,C,...].
func (d *drawer) onMaps(op string) *onnxio.Node {
	x := d.value(floating(3, 5))
	if x == nil || d.since(op) == 0 {
		return nil
	}
	n := &onnxio.Node{Inputs: []string{x.name}}
	for _, a := range def(op).Attrs {
		if a.Required || d.one(3) {
			if made := d.attribute(a, len(x.info.Shape)); made != nil {
				d.attr(n, op, made)
			}
		}
	}
	return n
}

// window draws the attributes of a window over k axes; some are left to their defaults.
func (d *drawer) window(n *onnxio.Node, op string, kernel []int64) {
	k := len(kernel)
	list := func(values ...int64) []int64 {
		out := make([]int64, k)
		same := pick(d, values...)
		for i := range out {
			if out[i] = same; d.one(3) {
				out[i] = pick(d, values...)
			}
		}
		return out
	}
	if d.one(2) {
		d.attr(n, op, onnxio.IntsAttr("strides", list(1, 2, 3)...))
	}
	if d.one(4) {
		d.attr(n, op, onnxio.IntsAttr("dilations", list(1, 2, 3)...))
	}
	switch d.n(6) {
	case 0, 1:
		pads := make([]int64, 2*k)
		for i := range k {
			pads[i] = kernel[i] / 2
			pads[k+i] = pads[i]
		}
		d.attr(n, op, onnxio.IntsAttr("pads", pads...))
	case 2:
		pads := append(list(0, 1, 2), list(1, 0, 2)...)
		d.attr(n, op, onnxio.IntsAttr("pads", pads...))
	case 3:
		d.attr(n, op, onnxio.StringAttr("auto_pad", pick(d, "SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")))
	}
}

func (d *drawer) kernel(k int) []int64 {
	out := make([]int64, k)
	same := pick[int64](d, 3, 1, 2, 5, 4, 7)
	for i := range out {
		if out[i] = same; d.one(4) {
			out[i] = pick[int64](d, 1, 3, 2, 5)
		}
	}
	return out
}

// divisor is one of the small divisors of n, 1 first.
func (d *drawer) divisor(n int64) int64 {
	list := []int64{1, 1}
	for i := int64(2); i <= n; i++ {
		if n%i == 0 {
			list = append(list, i)
		}
	}
	return list[d.n(len(list))]
}

func drawConv(d *drawer) *onnxio.Node {
	x := d.value(floating(3, 5))
	if x == nil {
		return nil
	}
	c := x.info.Shape[1].Value
	groups := d.divisor(c)
	if d.one(5) {
		groups = c
	}
	out := groups * pick[int64](d, 1, 2, 8, 3, 16)
	if groups == 1 {
		out = pick[int64](d, 16, 4, 1, 17, 32, 5, 24)
	}
	kernel := d.kernel(len(x.info.Shape) - 2)
	dims, fan := append([]int64{out, c / groups}, kernel...), float64(c/groups)
	for _, k := range kernel {
		fan *= float64(k)
	}
	n := &onnxio.Node{Inputs: []string{x.name, d.init(x.info.Type, 4/fan, dims...)}}
	if d.one(2) {
		n.Inputs = append(n.Inputs, d.init(x.info.Type, 1, out))
	}
	d.convAttributes(n, "Conv", groups, kernel)
	return n
}

func (d *drawer) convAttributes(n *onnxio.Node, op string, groups int64, kernel []int64) {
	if groups != 1 || d.one(3) {
		d.attr(n, op, onnxio.IntAttr("group", groups))
	}
	if d.one(2) {
		d.attr(n, op, onnxio.IntsAttr("kernel_shape", kernel...))
	}
	d.window(n, op, kernel)
}

func drawConvTranspose(d *drawer) *onnxio.Node {
	x := d.value(floating(3, 5))
	if x == nil {
		return nil
	}
	c := x.info.Shape[1].Value
	groups := d.divisor(c)
	each := pick[int64](d, 16, 1, 3, 8, 2)
	kernel := d.kernel(len(x.info.Shape) - 2)
	fan := float64(c / groups)
	for _, k := range kernel {
		fan *= float64(k)
	}
	n := &onnxio.Node{Inputs: []string{x.name, d.init(x.info.Type, 4/fan,
		append([]int64{c, each}, kernel...)...)}}
	if d.one(2) {
		n.Inputs = append(n.Inputs, d.init(x.info.Type, 1, each*groups))
	}
	d.convAttributes(n, "ConvTranspose", groups, kernel)
	if d.one(5) {
		extra := make([]int64, len(kernel))
		for i := range extra {
			extra[i] = int64(d.n(2))
		}
		d.attr(n, "ConvTranspose", onnxio.IntsAttr("output_padding", extra...))
	}
	return n
}

func (d *drawer) pool(op string) *onnxio.Node {
	x := d.value(floating(3, 5))
	if x == nil {
		return nil
	}
	kernel := d.kernel(len(x.info.Shape) - 2)
	n := &onnxio.Node{Inputs: []string{x.name},
		Attrs: []*onnxio.Attribute{onnxio.IntsAttr("kernel_shape", kernel...)}}
	d.window(n, op, kernel)
	if d.one(3) {
		d.attr(n, op, onnxio.IntAttr("ceil_mode", 1))
	}
	if d.one(3) {
		d.attr(n, op, onnxio.IntAttr("count_include_pad", 1))
	}
	if op == "LpPool" {
		d.attr(n, op, onnxio.IntAttr("p", pick[int64](d, 1, 2)))
	}
	if op == "MaxPool" && d.one(6) && x.exact && d.since(op) >= 8 {
		n.Outputs = []string{pick(d, "y", ""), "indices"}
	}
	return n
}

func drawBatchNorm(d *drawer) *onnxio.Node {
	x := d.value(floating(2, 5))
	if x == nil {
		return nil
	}
	c, elem := x.info.Shape[1].Value, x.info.Type
	variance := d.tensor(elem, 1, c)
	positive(variance)
	n := &onnxio.Node{Inputs: []string{x.name, d.init(elem, 1, c), d.init(elem, 1, c), d.statistic(elem, c),
		d.keep(variance, 1)}}
	n.Attrs = append(n.Attrs, onnxio.FloatAttr("epsilon", pick[float32](d, 0.5, 1)))
	if d.one(4) {
		d.attr(n, "BatchNormalization", onnxio.FloatAttr("momentum", 0.5))
	}
	d.trainingBatchNorm(n)
	return n
}

// positive takes the signs from a tensor's numbers.
func positive(t *onnxio.Tensor) {
	bytes := t.Type.Bits() / 8
	for i := bytes - 1; i < len(t.Raw); i += bytes {
		t.Raw[i] &= 0x7f
	}
}

// channelNorm has a scale and a shift for each channel, or before opset 21 for each group.
func (d *drawer) channelNorm(op string) *onnxio.Node {
	x := d.value(floating(3, 5))
	since := d.since(op)
	if x == nil || since == 0 {
		return nil
	}
	c := x.info.Shape[1].Value
	n := &onnxio.Node{Attrs: []*onnxio.Attribute{onnxio.FloatAttr("epsilon", pick[float32](d, 0.5, 1))}}
	if op == "GroupNormalization" {
		groups := d.divisor(c)
		n.Attrs = append(n.Attrs, onnxio.IntAttr("num_groups", groups))
		if since < 21 {
			c = groups
		}
	}
	n.Inputs = []string{x.name, d.init(x.info.Type, 1, c), d.init(x.info.Type, 1, c)}
	return n
}
