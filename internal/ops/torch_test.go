package ops

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"sort"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// torchCase is one case of testdata/ops/nn.json or vision.json: an operator's results
// and gradients by PyTorch.
type torchCase struct {
	Op      string
	Opset   int64
	Attrs   map[string]any
	Inputs  []*torchTensor
	Outputs []*torchTensor
	Dy      *torchTensor
	Grads   []*torchTensor
}

type torchTensor struct {
	Type string
	Dims []int64
	Data []float64
}

// tensor is the recorded tensor, floats as typ.
func (t *torchTensor) tensor(typ onnxio.DataType) *onnxio.Tensor {
	if t == nil {
		return nil
	}
	if t.Type == "int64" {
		out := onnxio.NewTensor(onnxio.Int64, t.Dims...)
		for i, v := range t.Data {
			onnxio.Data[int64](out)[i] = int64(v)
		}
		return out
	}
	out := onnxio.NewTensor(typ, t.Dims...)
	for i, v := range t.Data {
		setFloat(out, i, v)
	}
	return out
}

// attributes are the recorded ones in the types that the definition declares.
func (c *torchCase) attributes(t *testing.T) []*onnxio.Attribute {
	types := map[string]onnxio.AttrType{UnbiasedAttr: onnxio.AttrInt}
	for _, a := range registry[key{"", c.Op}].Attrs {
		types[a.Name] = a.Type
	}
	var names []string
	for name := range c.Attrs {
		names = append(names, name)
	}
	sort.Strings(names)
	var out []*onnxio.Attribute
	for _, name := range names {
		a := &onnxio.Attribute{Name: name, Type: types[name]}
		switch v := c.Attrs[name].(type) {
		case float64:
			a.F, a.I = float32(v), int64(v)
		case string:
			a.S = []byte(v)
		case []any:
			for _, x := range v {
				a.Ints = append(a.Ints, int64(x.(float64)))
			}
		}
		if a.Type == onnxio.AttrUndefined {
			t.Fatalf("%s has no attribute %s", c.Op, name)
		}
		out = append(out, a)
	}
	return out
}

func torchCases(t *testing.T) (cases []torchCase) {
	t.Helper()
	for _, name := range []string{"nn.json", "vision.json"} {
		b, err := os.ReadFile("../../testdata/ops/" + name)
		if err != nil {
			t.Fatal(err)
		}
		var more []torchCase
		if err := json.Unmarshal(b, &more); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, more...)
	}
	return cases
}

// TestTorch compares results and gradients with PyTorch's, recorded in float64 with nine digits:
// kernels in float64 agree to 1e-7, in float32 to the rounding of inputs that float32 holds exactly and
// of one float32 result, 1e-5.
func TestTorch(t *testing.T) {
	for i, c := range torchCases(t) {
		for typ, tol := range map[onnxio.DataType]float64{onnxio.Double: 1e-7, onnxio.Float: 1e-5} {
			t.Run(fmt.Sprintf("%d/%s/%v", i, c.Op, typ), func(t *testing.T) { c.check(t, typ, tol) })
		}
	}
}

func (c *torchCase) check(t *testing.T, typ onnxio.DataType, tol float64) {
	g := &testGraph{opset: c.Opset, values: map[string]*Value{}, data: map[string]*onnxio.Tensor{}}
	n := &onnxio.Node{Name: "node", OpType: c.Op, Attrs: c.attributes(t)}
	grad := &Grad{Graph: g, Wants: make([]bool, len(c.Inputs)), DIn: make([]string, len(c.Inputs))}
	var err error
	if g.forw, err = Bind(n, c.Opset); err != nil {
		t.Fatal(err)
	}
	for i, in := range c.Inputs {
		if in == nil {
			n.Inputs = append(n.Inputs, "")
			continue
		}
		name := fmt.Sprintf("in%d", i)
		n.Inputs = append(n.Inputs, name)
		fixed := !admits(g.forw, i, typ) // to float32
		if g.data[name] = in.tensor(typ); fixed {
			g.data[name] = in.tensor(onnxio.Float)
		}
		g.values[name] = &Value{Type: g.data[name].Type, Shape: knownDims(in.Dims), HasShape: true}
		// sizes, pads, axes and scales are constants where gradients need them
		if in.Type == "int64" || fixed {
			g.values[name].Const = g.data[name]
		}
		grad.Wants[i] = c.Grads[i] != nil
	}
	for i := range c.Outputs {
		n.Outputs = append(n.Outputs, fmt.Sprintf("out%d", i))
	}
	if err := g.infer(g.forw); err != nil {
		t.Fatal(err)
	}
	grad.Node, grad.Ins, grad.Outs, grad.DOut = g.forw, n.Inputs, n.Outputs, make([]string, len(n.Outputs))
	grad.DOut[0] = g.Const(c.Dy.tensor(typ))
	if slices.Contains(grad.Wants, true) {
		if err := g.forw.Def.Grad(grad); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range append([]*Node{g.forw}, g.nodes...) {
		if err := g.run(n); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range c.Outputs {
		nearTorch(t, fmt.Sprintf("output %d", i), g.data[n.Outputs[i]], want, tol)
	}
	for i, want := range c.Grads {
		if want != nil {
			nearTorch(t, fmt.Sprintf("gradient of input %d", i), g.data[grad.DIn[i]], want, tol)
		}
	}
}

// admits reports whether input i of a node may be of a type.
func admits(n *Node, i int, typ onnxio.DataType) bool { return n.Def.Types[n.param(i).Type].Has(typ) }

func nearTorch(t *testing.T, what string, got *onnxio.Tensor, want *torchTensor, tol float64) {
	t.Helper()
	if got == nil || !equal(got.Dims, want.Dims) {
		t.Errorf("%s: got %+v, want shape %v", what, got, want.Dims)
		return
	}
	for i, w := range want.Data {
		v := floatAt(got, i)
		if got.Type == onnxio.Int64 {
			v = float64(onnxio.Data[int64](got)[i])
		}
		if !(math.Abs(v-w) <= tol*(1+math.Abs(w))) {
			t.Errorf("%s[%d]: got %.9g, want %.9g", what, i, v, w)
			return
		}
	}
}
