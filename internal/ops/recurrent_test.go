package ops

import (
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func texts(name string, v ...string) *onnxio.Attribute {
	a := &onnxio.Attribute{Name: name, Type: onnxio.AttrStrings}
	for _, s := range v {
		a.Strings = append(a.Strings, []byte(s))
	}
	return a
}

func floats(name string, v ...float32) *onnxio.Attribute {
	return &onnxio.Attribute{Name: name, Type: onnxio.AttrFloats, Floats: v}
}

// recurrentCase is a gradient case over a batch of 3, 4 steps of 2 numbers, hidden size 3.
func recurrentCase(op, direction string, watch int, lens []int32, attrs ...*onnxio.Attribute) gradCase {
	d := int64(1)
	if direction == "bidirectional" {
		d = 2
	}
	g := int64(gatesOf[op])
	c := gradCase{name: direction, op: op, opset: 17, watch: watch, outs: 2,
		attrs: append(attrs, onnxio.StringAttr("direction", direction)),
		in: []*onnxio.Tensor{random(1, 4, 3, 2), random(2, d, 3*g, 2), random(3, d, 3*g, 3),
			random(4, d, 6*g), nil,
			random(5, d, 3, 3)}}
	if lens != nil {
		c.in[4] = onnxio.FromSlice(onnxio.Int32, lens, 3)
	}
	if op == "LSTM" {
		c.outs, c.in = 3, append(c.in, random(6, d, 3, 3), random(7, d, 9))
	}
	return c
}

func TestRecurrentGradients(t *testing.T) {
	var cases []gradCase
	lens := []int32{4, 2, 0}
	for _, op := range []string{"RNN", "GRU", "LSTM"} {
		for _, direction := range []string{"forward", "reverse", "bidirectional"} {
			cases = append(cases, recurrentCase(op, direction, 0, nil), recurrentCase(op, direction, 0, lens),
				recurrentCase(op, direction, 1, lens))
		}
		bare := recurrentCase(op, "forward", 0, nil)
		bare.in = bare.in[:3]
		first := recurrentCase(op, "forward", 0, nil, onnxio.IntAttr("layout", 1))
		first.in[0], first.in[5] = random(1, 3, 4, 2), random(5, 3, 1, 3)
		if op == "LSTM" {
			first.in[6] = random(6, 3, 1, 3)
		}
		cases = append(cases, bare, first, recurrentCase(op, "forward", 0, nil,
			onnxio.FloatAttr("clip", 1.1)))
	}
	// Functions with a kink are tried where no argument is near it.
	for _, f := range []string{"Affine", "LeakyRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign",
		"Softplus", "Sigmoid",
		"Relu", "ThresholdedRelu"} {
		cases = append(cases, recurrentCase("RNN", "forward", 0, nil, texts("activations", f),
			floats("activation_alpha", 0.3), floats("activation_beta", 0.6)))
	}
	cases = append(cases, recurrentCase("LSTM", "forward", 2, nil),
		recurrentCase("LSTM", "bidirectional", 2, lens),
		recurrentCase("LSTM", "forward", 0, nil, onnxio.IntAttr("input_forget", 1)),
		recurrentCase("GRU", "forward", 0, nil, onnxio.IntAttr("linear_before_reset", 1)),
		recurrentCase("GRU", "bidirectional", 1, lens, onnxio.IntAttr("linear_before_reset", 1)))
	checkGrads(t, cases)
}

// TestRecurrentRefusals: what does not fit is named with its shape.
func TestRecurrentRefusals(t *testing.T) {
	shape := onnxio.Shape
	fits := [][]onnxio.Dim{shape(4, 3, 2), shape(1, 12, 2), shape(1, 12, 3)}
	for _, c := range []struct {
		attrs  []*onnxio.Attribute
		shapes [][]onnxio.Dim
		want   string
	}{
		{nil, fits, ""},
		{nil, [][]onnxio.Dim{shape("T", "N", 2), shape(1, 12, 2), shape(1, 12, 3)}, ""},
		{nil, [][]onnxio.Dim{fits[0], shape(1, 12, 5), fits[2]},
			"input 1 of shape [1,12,5] where [1,12,2] is wanted"},
		{nil, [][]onnxio.Dim{shape(4, 3), fits[1], fits[2]}, "input 0 of shape [4,3] has not 3 dimensions"},
		{attrsOf(onnxio.IntAttr("hidden_size", 4)), fits, "hidden_size 4 with R [1,12,3]"},
		{attrsOf(onnxio.StringAttr("direction", "up")), fits, `direction "up"`},
		{attrsOf(texts("activations", "Tanh")), fits, "1 activations where there are 3"},
		{attrsOf(texts("activations", "Tanh", "Tanh", "Swish")), fits, `no activation is called "swish"`},
	} {
		_, err := inferShapes(t, "LSTM", 14, c.attrs, 3, c.shapes...)
		expectError(t, err, c.want)
	}
	both := attrsOf(onnxio.StringAttr("direction", "bidirectional"))
	out, err := inferShapes(t, "LSTM", 14, both, 3, shape("T", "N", 2), shape(2, 12, 2), shape(2, 12, 3))
	if err != nil || shapeText(out[0].Shape) != "[T,2,N,3]" || shapeText(out[2].Shape) != "[2,N,3]" {
		t.Errorf("inferred %s and %s: %v", shapeText(out[0].Shape), shapeText(out[2].Shape), err)
	}
}
