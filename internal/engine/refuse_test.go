package engine

import (
	"errors"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// The compiler's own operators trust their attributes, so a model must not bring them.
func TestPrivateDomainsAreRefused(t *testing.T) {
	for _, domain := range []string{"cnnkit.grad", "cnnkit.layout"} {
		b := newNet(1, "N", 4)
		b.node("SumTo", []string{"input"})
		m := b.output()
		m.Graph.Nodes[0].Domain = domain
		m.Opsets = append(m.Opsets, onnxio.Opset{Domain: domain, Version: 1})
		var unsupported *onnxio.UnsupportedError
		if _, err := Compile(m, Options{Dims: map[string]int64{"N": 1}}); !errors.As(err, &unsupported) {
			t.Errorf("%s: %v", domain, err)
		}
	}
}

func TestFunctionsAreInlined(t *testing.T) {
	b := newNet(1, "N", 4)
	b.node("Twice", []string{"input"}, onnxio.FloatAttr("by", 3))
	b.node("Twice", []string{b.last})
	m := b.output()
	for _, n := range m.Graph.Nodes {
		n.Domain = "own"
	}
	m.Opsets = append(m.Opsets, onnxio.Opset{Domain: "own", Version: 1})
	by := onnxio.FloatAttr("value_float", 0)
	by.Ref = "by"
	m.Functions = []*onnxio.Function{{
		Name: "Twice", Domain: "own", Inputs: []string{"x"}, Outputs: []string{"y"},
		AttrProtos: []*onnxio.Attribute{onnxio.FloatAttr("by", 2)}, Opsets: m.Opsets,
		Nodes: []*onnxio.Node{
			{OpType: "Constant", Outputs: []string{"k"}, Attrs: []*onnxio.Attribute{by}},
			{OpType: "Mul", Inputs: []string{"x", "k"}, Outputs: []string{"y"}},
		},
	}}
	p, err := Compile(m, Options{Dims: map[string]int64{"N": 1}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(t.Context(),
		map[string]*onnxio.Tensor{"input": onnxio.Floats([]float32{1, 2, 3, 4}, 1, 4)})
	if err != nil {
		t.Fatal(err)
	}
	if y := out[b.last].Float32s(); y[0] != 6 || y[3] != 24 {
		t.Errorf("got %v, want the input times 6", y)
	}
}
