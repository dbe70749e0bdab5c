package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// Convolutions of quantized numbers: ConvInteger, and QLinearConv in both domains. Padding stands for 0, that
// is for the zero point: so says the case convinteger_with_padding, where ONNX Runtime pads with the number
// 0.

func init() {
	group, dilations := intA("group"), intsA("dilations")
	types := map[string]TypeSet{"T1": bytesOnly, "T2": bytesOnly, "T3": bytesOnly, "T4": Set(onnxio.Int32),
		"F": floatOnly}
	linear := func(attrs ...AttrDef) *Def {
		return &Def{Name: "QLinearConv", Versions: []int64{10}, Types: types,
			Attrs: windowAttrs(append(attrs, dilations, group)...),
			Inputs: formals("x T1, x_scale F, x_zero_point T1, w T2, w_scale F, w_zero_point T2, " +
				"y_scale F, y_zero_point T3, B? T4"),
			Outputs: formals("y T3"), Infer: inferQLinearConv, Eval: evalQLinearConv}
	}
	register(
		&Def{Name: "ConvInteger", Versions: []int64{10}, Attrs: windowAttrs(dilations, group),
			Inputs: formals("x T1, w T2, x_zero_point? T1, w_zero_point? T2"), Outputs: formals("y T4"),
			Types: types,
			Infer: inferProduct("Conv", 0, 1, sumType), Eval: evalConvInteger},
		linear(), contrib(linear(intA("channels_last"))))
}

func evalConvInteger(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	x, err := centered(c, 0, 2, -1)
	if err != nil {
		return err
	}
	w, err := centered(c, 1, 3, 0)
	if err != nil {
		return err
	}
	sums, err := evalAs(c, "Conv", x, w)
	if err != nil {
		return err
	}
	return lowBits(c, sums)
}

// isChannelsLast reports whether data are [N,spatial...,C]; weights never are.
func isChannelsLast(n *Node) bool { return n.Int("channels_last", 0) != 0 }

func inferQLinearConv(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	x := c.In[0]
	if isChannelsLast(c.Node) {
		x = reorderedValue(x, channelsFirst)
	}
	y, err := inferAs(c.Node, "Conv", x, c.In[3], c.input(8))
	if err != nil {
		return err
	}
	if isChannelsLast(c.Node) {
		y = reorderedValue(y, channelsLast)
	}
	setShape(c, c.In[7].Type, y)
	return nil
}

func evalQLinearConv(c *Eval) error {
	if err := evalReady(c); err != nil {
		return err
	}
	x, err := centered(c, 0, 2, -1)
	if err != nil {
		return err
	}
	last := isChannelsLast(c.Node) && len(x.Dims) > 2
	if last {
		x = reordered(x, channelsFirst(len(x.Dims)))
	}
	w, err := centered(c, 3, 5, 0)
	if err != nil {
		return err
	}
	var bias *onnxio.Tensor
	if c.Has(8) {
		if bias, err = asFloat64(c, c.In[8]); err != nil {
			return err
		}
	}
	sums, err := evalAs(c, "Conv", x, w, bias)
	if err != nil {
		return err
	}
	channel := 1
	if last {
		sums, channel = reordered(sums, channelsLast(len(sums.Dims))), len(sums.Dims)-1
	}
	by, err := multipliers(c, sums.Dims, 1, 4, 6, -1, channel)
	if err != nil {
		return err
	}
	return requantized(c, sums, c.In[7].Type, by, 7, -1)
}
