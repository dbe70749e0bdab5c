package ops

import (
	"fmt"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func ints(name string, v ...int64) *onnxio.Attribute { return onnxio.IntsAttr(name, v...) }

func attrsOf(a ...*onnxio.Attribute) []*onnxio.Attribute { return a }

func TestConvGradients(t *testing.T) {
	conv := func(x, w []int64, bias bool, attrs ...*onnxio.Attribute) gradCase {
		c := gradCase{op: "Conv", in: []*onnxio.Tensor{random(1, x...), random(2, w...)}, attrs: attrs}
		if bias {
			c.in = append(c.in, random(3, w[0]))
		}
		return c
	}
	checkGrads(t, []gradCase{
		conv([]int64{2, 3, 5, 7}, []int64{4, 3, 3, 3}, true, ints("pads", 1, 1, 1, 1)),
		conv([]int64{1, 1, 1, 1}, []int64{1, 1, 1, 1}, true),
		conv([]int64{1, 2, 1, 1}, []int64{3, 2, 3, 3}, false, ints("pads", 1, 1, 1, 1)),
		conv([]int64{2, 2, 7, 11}, []int64{3, 2, 2, 3}, false, ints("strides", 2, 3),
			ints("pads", 0, 1, 2, 0)),
		conv([]int64{1, 2, 9, 8}, []int64{2, 2, 2, 2}, true, ints("strides", 3, 3)), // stride > kernel
		conv([]int64{1, 4, 7, 5}, []int64{6, 2, 3, 2}, true, onnxio.IntAttr("group", 2),
			ints("dilations", 2, 3)),
		conv([]int64{2, 3, 5, 5}, []int64{3, 1, 3, 3}, true, onnxio.IntAttr("group", 3),
			ints("strides", 2, 2), ints("dilations", 2, 1), ints("pads", 2, 0, 1, 3)),
		conv([]int64{1, 2, 6, 5}, []int64{2, 2, 3, 2}, true, onnxio.StringAttr("auto_pad", "SAME_UPPER"),
			ints("strides", 2, 2)),
		conv([]int64{1, 2, 5, 6}, []int64{2, 2, 2, 4}, true, onnxio.StringAttr("auto_pad", "SAME_LOWER")),
		conv([]int64{1, 2, 5, 6}, []int64{2, 2, 2, 4}, true, onnxio.StringAttr("auto_pad", "VALID")),
		conv([]int64{2, 3, 11}, []int64{2, 3, 3}, true, ints("strides", 2), ints("pads", 2, 1)),
		conv([]int64{1, 2, 3, 4, 5}, []int64{2, 2, 2, 3, 2}, true, ints("strides", 1, 2, 2),
			ints("pads", 1, 1, 0, 0, 1, 1)),
		// longer than a tile
		conv([]int64{1, 1, 2, 300}, []int64{1, 1, 1, 3}, true, ints("pads", 0, 1, 0, 1)),
	})
}

func TestConvTransposeGradients(t *testing.T) {
	conv := func(x, w []int64, group int64, attrs ...*onnxio.Attribute) gradCase {
		attrs = append(attrs, onnxio.IntAttr("group", group))
		return gradCase{op: "ConvTranspose", attrs: attrs,
			in: []*onnxio.Tensor{random(1, x...), random(2, w...), random(3, w[1]*group)}}
	}
	checkGrads(t, []gradCase{
		conv([]int64{2, 3, 4, 5}, []int64{3, 2, 2, 2}, 1, ints("strides", 2, 2)),
		conv([]int64{1, 1, 1, 1}, []int64{1, 1, 1, 1}, 1),
		conv([]int64{1, 4, 3, 5}, []int64{4, 2, 3, 3}, 2, ints("strides", 2, 3), ints("pads", 1, 0, 0, 2)),
		conv([]int64{1, 2, 3, 3}, []int64{2, 2, 3, 2}, 1, ints("strides", 3, 2), ints("output_padding", 2, 1),
			ints("pads", 1, 0, 1, 0)),
		conv([]int64{1, 2, 3, 3}, []int64{2, 2, 2, 2}, 1, ints("strides", 3, 3)), // stride > kernel
		conv([]int64{1, 2, 5, 3}, []int64{2, 1, 3, 3}, 2, ints("dilations", 2, 2)),
		conv([]int64{1, 2, 3, 4}, []int64{2, 2, 3, 3}, 1, ints("strides", 2, 2),
			onnxio.StringAttr("auto_pad", "SAME_UPPER")),
		conv([]int64{1, 2, 3, 4}, []int64{2, 2, 3, 3}, 1, ints("strides", 2, 2),
			onnxio.StringAttr("auto_pad", "SAME_LOWER")),
		conv([]int64{1, 2, 3, 3}, []int64{2, 2, 3, 3}, 1, ints("strides", 3, 2), ints("output_shape", 8, 7)),
		conv([]int64{2, 2, 7}, []int64{2, 3, 3}, 1, ints("strides", 2)),
		conv([]int64{1, 2, 2, 3, 2}, []int64{2, 1, 2, 2, 3}, 1, ints("strides", 2, 1, 2)),
	})
}

func TestPoolGradients(t *testing.T) {
	var cases []gradCase
	pool := func(x []int64, attrs ...*onnxio.Attribute) {
		cases = append(cases, gradCase{op: "MaxPool", in: []*onnxio.Tensor{random(1, x...)}, attrs: attrs})
		average := gradCase{op: "AveragePool", in: []*onnxio.Tensor{random(1, x...)}, attrs: attrs}
		cases = append(cases, average)
		average.attrs = append(attrs[:len(attrs):len(attrs)], onnxio.IntAttr("count_include_pad", 1))
		cases = append(cases, average)
	}
	pool([]int64{2, 3, 6, 4}, ints("kernel_shape", 2, 2), ints("strides", 2, 2))
	pool([]int64{1, 1, 1, 1}, ints("kernel_shape", 1, 1))
	pool([]int64{1, 2, 7, 11}, ints("kernel_shape", 3, 2), ints("strides", 2, 3), ints("pads", 1, 0, 0, 1))
	pool([]int64{1, 2, 7, 8}, ints("kernel_shape", 2, 2), ints("strides", 3, 3)) // stride > kernel
	pool([]int64{1, 2, 7, 8}, ints("kernel_shape", 3, 3), ints("strides", 2, 2),
		onnxio.IntAttr("ceil_mode", 1))
	pool([]int64{1, 2, 5, 5}, ints("kernel_shape", 3, 3), ints("strides", 2, 2), ints("pads", 1, 1, 1, 1),
		onnxio.IntAttr("ceil_mode", 1))
	pool([]int64{1, 2, 7, 8}, ints("kernel_shape", 3, 2), ints("dilations", 2, 3))
	pool([]int64{1, 2, 5, 6}, ints("kernel_shape", 3, 3), ints("strides", 2, 2),
		onnxio.StringAttr("auto_pad", "SAME_UPPER"))
	pool([]int64{1, 2, 5, 6}, ints("kernel_shape", 2, 2), onnxio.StringAttr("auto_pad", "SAME_LOWER"))
	pool([]int64{2, 2, 13}, ints("kernel_shape", 3), ints("strides", 2))
	pool([]int64{1, 2, 4, 3, 5}, ints("kernel_shape", 2, 3, 2), ints("strides", 2, 1, 2))
	for _, x := range [][]int64{{2, 3, 4, 5}, {1, 1, 1, 1}, {2, 2, 7}, {1, 2, 2, 3, 2}} {
		for _, op := range []string{"GlobalAveragePool", "GlobalMaxPool"} {
			cases = append(cases, gradCase{op: op, in: []*onnxio.Tensor{random(1, x...)}})
		}
	}
	checkGrads(t, cases)
}

// TestMaxPoolGradTies: the first maximum of a window, in row-major order, gets the
// whole gradient, as in PyTorch.
func TestMaxPoolGradTies(t *testing.T) {
	n, err := Bind(&onnxio.Node{OpType: "MaxPoolGrad", Domain: GradDomain, Inputs: []string{"dy", "x", "y"},
		Outputs: []string{"dx"},
		Attrs:   attrsOf(ints("kernel_shape", 2, 2), ints("strides", 2, 2))}, 1)
	if err != nil {
		t.Fatal(err)
	}
	x := onnxio.Floats([]float32{0, 0, 1, 2, 0, 0, 2, 2}, 1, 1, 2, 4)
	y := onnxio.Floats([]float32{0, 2}, 1, 1, 1, 2)
	c := &Eval{Node: n, In: []*onnxio.Tensor{onnxio.Floats([]float32{5, 7}, 1, 1, 1, 2), x, y}}
	if err := n.Def.Eval(c); err != nil {
		t.Fatal(err)
	}
	want := []float32{5, 0, 0, 7, 0, 0, 0, 0}
	if got := c.Out[0].Float32s(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestBatchNormGradients(t *testing.T) {
	bn := func(x []int64, training int64, dims ...int64) gradCase {
		return gradCase{op: "BatchNormalization", in: []*onnxio.Tensor{random(1, x...), random(2, dims...),
			random(3, dims...),
			random(4, dims...), positive(5, dims...)}, frozen: []int{3, 4}, outs: 1,
			attrs: attrsOf(onnxio.IntAttr("training_mode", training), onnxio.FloatAttr("epsilon", 1e-3))}
	}
	withStats := bn([]int64{3, 2, 2, 2}, 1, 2)
	withStats.name, withStats.outs = "running statistics asked for", 3
	checkGrads(t, []gradCase{
		bn([]int64{4, 3, 2, 5}, 1, 3), bn([]int64{2, 1, 3, 3}, 1, 1), bn([]int64{1, 2, 3, 5}, 1,
			2), bn([]int64{7, 3}, 1, 3),
		bn([]int64{3, 2, 5}, 1, 2), bn([]int64{2, 2, 2, 3, 2}, 1, 2),
		bn([]int64{4, 3, 2, 5}, 0, 3), bn([]int64{1, 2, 1, 1}, 0, 2), withStats,
	})
}

func TestMatrixGradients(t *testing.T) {
	var cases []gradCase
	for _, ta := range []int64{0, 1} {
		for _, tb := range []int64{0, 1} {
			a, b := []int64{3, 5}, []int64{5, 2}
			if ta == 1 {
				a = []int64{5, 3}
			}
			if tb == 1 {
				b = []int64{2, 5}
			}
			for _, bias := range [][]int64{nil, {2}, {3, 1}, {1, 2}, {3, 2}, {}} {
				c := gradCase{op: "Gemm", in: []*onnxio.Tensor{random(1, a...), random(2, b...)},
					attrs: attrsOf(onnxio.IntAttr("transA", ta), onnxio.IntAttr("transB", tb),
						onnxio.FloatAttr("alpha", 0.5), onnxio.FloatAttr("beta", 2))}
				if bias != nil {
					c.in = append(c.in, random(3, bias...))
				}
				cases = append(cases, c)
			}
		}
	}
	for _, s := range [][2][]int64{{{3, 5}, {5, 2}}, {{1, 1}, {1, 1}}, {{2, 3, 5}, {5, 2}},
		{{3, 5}, {2, 5, 2}}, {{2, 1, 3, 5}, {4, 5, 2}},
		{{5}, {5, 2}}, {{3, 5}, {5}}, {{5}, {5}}, {{5}, {2, 5, 3}}, {{2, 3, 5}, {5}}, {{7, 3}, {3, 300}}} {
		cases = append(cases, gradCase{op: "MatMul", in: []*onnxio.Tensor{random(1, s[0]...),
			random(2, s[1]...)}})
	}
	checkGrads(t, cases)
}

func TestActivationGradients(t *testing.T) {
	var cases []gradCase
	for _, a := range activations {
		for _, dims := range [][]int64{{2, 3, 5}, {1}, {11, 7}} {
			c := gradCase{op: a.name, in: []*onnxio.Tensor{random(1, dims...)}, opset: 28}
			cases = append(cases, c)
			for _, attr := range a.attrs {
				switch attr.Name {
				case "alpha":
					c.attrs = append(c.attrs, onnxio.FloatAttr("alpha", 0.3))
				case "approximate":
					c.attrs = append(c.attrs, onnxio.StringAttr("approximate", "tanh"))
				}
			}
			if len(c.attrs) > 0 {
				cases = append(cases, c)
			}
		}
	}
	for _, slope := range [][]int64{{1}, {3, 1, 1}, {2, 3, 4, 5}, {5}, {1, 3, 4, 1}} {
		cases = append(cases, gradCase{op: "PRelu", in: []*onnxio.Tensor{random(1, 2, 3, 4, 5),
			random(2, slope...)}})
	}
	cases = append(cases, gradCase{name: "per channel, version 6", op: "PRelu", opset: 6,
		in: []*onnxio.Tensor{random(1, 2, 3, 4, 5), random(2, 3)}})
	checkGrads(t, cases)
}

func TestSoftmaxGradients(t *testing.T) {
	var cases []gradCase
	for _, op := range []string{"Softmax", "LogSoftmax"} {
		for _, opset := range []int64{1, 11, 13} {
			for axis := int64(0); axis < 3; axis++ {
				cases = append(cases, gradCase{name: fmt.Sprintf("opset %d, axis %d", opset, axis), op: op,
					opset: opset,
					in:    []*onnxio.Tensor{random(1, 2, 3, 5)},
					attrs: attrsOf(onnxio.IntAttr("axis", axis))})
			}
		}
		cases = append(cases, gradCase{op: op, in: []*onnxio.Tensor{random(1, 1, 1)}},
			gradCase{op: op, in: []*onnxio.Tensor{random(1, 7, 10)}})
	}
	checkGrads(t, cases)
}

func TestLossGradients(t *testing.T) {
	var cases []gradCase
	for _, op := range []string{"NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"} {
		for _, reduction := range []string{"mean", "sum", "none"} {
			for _, weighted := range []bool{false, true} {
				for _, x := range [][]int64{{1, 5}, {4, 3}, {2, 3, 2, 2}, {2, 3, 5}} {
					tdims := append([]int64{x[0]}, x[2:]...)
					target := onnxio.NewTensor(onnxio.Int64, tdims...)
					for i, data := 0, onnxio.Data[int64](target); i < len(data); i++ {
						data[i] = int64(i*2+1) % x[1]
					}
					c := gradCase{op: op, in: []*onnxio.Tensor{random(1, x...), target}, frozen: []int{2},
						attrs: attrsOf(onnxio.StringAttr("reduction", reduction))}
					if weighted {
						c.in = append(c.in, positive(3, x[1]))
						c.attrs = append(c.attrs, onnxio.IntAttr("ignore_index", -1))
						if len(onnxio.Data[int64](target)) > 1 {
							onnxio.Data[int64](target)[1] = -1
						}
					}
					cases = append(cases, c)
				}
			}
		}
	}
	cases = append(cases, gradCase{name: "through log_prob", op: "SoftmaxCrossEntropyLoss", outs: 2, watch: 1,
		in: []*onnxio.Tensor{random(1, 2, 3, 2), onnxio.Int64s([]int64{0, 1, 2, 0}, 2, 2)}})
	checkGrads(t, cases)
}

func TestDropoutGradients(t *testing.T) {
	yes, no := onnxio.Scalar(onnxio.Bool, true), onnxio.Scalar(onnxio.Bool, false)
	ratio := onnxio.Scalar(onnxio.Float, float32(0.3))
	checkGrads(t, []gradCase{
		{op: "Dropout", name: "training", in: []*onnxio.Tensor{random(1, 3, 7), ratio, yes}},
		{op: "Dropout", name: "training, default ratio", in: []*onnxio.Tensor{random(1, 3, 7), nil, yes}},
		{op: "Dropout", name: "inference", in: []*onnxio.Tensor{random(1, 3, 7), ratio, no}},
		{op: "Dropout", name: "no mode", in: []*onnxio.Tensor{random(1, 3, 7)}},
		{op: "Dropout", name: "version 10", opset: 10, in: []*onnxio.Tensor{random(1, 3, 7)}},
	})
}

func TestNormGradients(t *testing.T) {
	norm := func(op string, opset int64, x, s []int64, attrs ...*onnxio.Attribute) gradCase {
		c := gradCase{op: op, opset: opset, attrs: append(attrs, onnxio.FloatAttr("epsilon", 1e-3)),
			in: []*onnxio.Tensor{random(1, x...), random(2, s...)}, rel: 1e-4}
		if op != "RMSNormalization" {
			c.in = append(c.in, random(3, s...))
		}
		return c
	}
	axis := func(v int64) *onnxio.Attribute { return onnxio.IntAttr("axis", v) }
	groups := func(v int64) *onnxio.Attribute { return onnxio.IntAttr("num_groups", v) }
	withStats := norm("LayerNormalization", 21, []int64{2, 3, 5}, []int64{5})
	withStats.name, withStats.outs = "statistics asked for", 3
	withStats.attrs = append(withStats.attrs, onnxio.IntAttr("stash_type", int64(onnxio.Double)))
	lrn := func(size int64, x ...int64) gradCase {
		return gradCase{op: "LRN", in: []*onnxio.Tensor{random(1, x...)},
			attrs: attrsOf(onnxio.IntAttr("size", size), onnxio.FloatAttr("alpha", 0.5),
				onnxio.FloatAttr("bias", 2))}
	}
	lp := func(p, axis int64, x ...int64) gradCase {
		return gradCase{op: "LpNormalization", in: []*onnxio.Tensor{random(1, x...)}, rel: 1e-4,
			attrs: attrsOf(onnxio.IntAttr("p", p), onnxio.IntAttr("axis", axis))}
	}
	checkGrads(t, []gradCase{
		norm("InstanceNormalization", 21, []int64{2, 3, 4, 5}, []int64{3}),
		norm("InstanceNormalization", 21, []int64{1, 2, 7}, []int64{2}),
		norm("GroupNormalization", 21, []int64{2, 6, 3, 2}, []int64{6}, groups(3)),
		norm("GroupNormalization", 18, []int64{2, 6, 3, 2}, []int64{3}, groups(3)),
		norm("GroupNormalization", 21, []int64{1, 4, 5}, []int64{4}, groups(1)),
		norm("LayerNormalization", 21, []int64{2, 3, 5}, []int64{5}),
		norm("LayerNormalization", 21, []int64{2, 3, 5}, []int64{3, 5}, axis(1)),
		norm("LayerNormalization", 21, []int64{7, 2}, []int64{7, 2}, axis(0)),
		withStats,
		norm("RMSNormalization", 23, []int64{2, 3, 5}, []int64{5}),
		norm("RMSNormalization", 23, []int64{2, 3, 5}, []int64{5}, axis(1)),
		norm("LayerNormalization", 21, []int64{2, 3, 5}, []int64{1}, axis(1)),
		norm("RMSNormalization", 23, []int64{2, 3, 5}, []int64{3, 5}, axis(-2)),
		lrn(3, 2, 5, 2, 3), lrn(4, 1, 7, 2), lrn(1, 2, 3), lrn(9, 1, 4, 3),
		lp(1, 1, 2, 3, 5), lp(2, -1, 2, 3, 5), lp(2, 0, 7, 1),
	})
}
