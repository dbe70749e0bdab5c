package ops

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sort"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// witnessCase is one case of testdata/ops/sequence.json: a node and what another implementation made of its
// inputs.
type witnessCase struct {
	Op, Domain string
	Opset      int64
	Attrs      map[string][2]any // type and value
	Inputs     []*witnessTensor
	Outputs    []*witnessTensor
}

type witnessTensor struct {
	Type string
	Dims []int64
	Data []any
}

func witnessCases(t *testing.T) (cases []witnessCase) {
	t.Helper()
	b, err := os.ReadFile("../../testdata/ops/sequence.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func (w *witnessTensor) tensor() *onnxio.Tensor {
	if w == nil {
		return nil
	}
	types := map[string]onnxio.DataType{"float": onnxio.Float, "double": onnxio.Double, "int64": onnxio.Int64,
		"int32": onnxio.Int32, "bool": onnxio.Bool, "string": onnxio.String}
	out := onnxio.NewTensor(types[w.Type], w.Dims...)
	for i, v := range w.Data {
		switch v := v.(type) {
		case string:
			out.Strings[i] = []byte(v)
		case bool:
			onnxio.Data[bool](out)[i] = v
		case float64:
			switch out.Type {
			case onnxio.Int64:
				onnxio.Data[int64](out)[i] = int64(v)
			case onnxio.Int32:
				onnxio.Data[int32](out)[i] = int32(v)
			default:
				setFloat(out, i, v)
			}
		}
	}
	return out
}

// node is the case's node and its inputs by name.
func (c *witnessCase) node() (*onnxio.Node, map[string]*onnxio.Tensor) {
	n := &onnxio.Node{Name: "node", OpType: c.Op, Domain: c.Domain}
	data := map[string]*onnxio.Tensor{}
	var names []string
	for name := range c.Attrs {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		n.Attrs = append(n.Attrs, witnessAttribute(name, c.Attrs[name][0].(string), c.Attrs[name][1]))
	}
	for i, in := range c.Inputs {
		name := ""
		if in != nil {
			name = fmt.Sprintf("in%d", i)
			data[name] = in.tensor()
		}
		n.Inputs = append(n.Inputs, name)
	}
	for i, out := range c.Outputs {
		name := ""
		if out != nil {
			name = fmt.Sprintf("out%d", i)
		}
		n.Outputs = append(n.Outputs, name)
	}
	return n, data
}

func witnessAttribute(name, kind string, value any) *onnxio.Attribute {
	var list []any
	if v, ok := value.([]any); ok {
		list = v
	}
	switch kind {
	case "int":
		return onnxio.IntAttr(name, int64(value.(float64)))
	case "float":
		return onnxio.FloatAttr(name, float32(value.(float64)))
	case "string":
		return onnxio.StringAttr(name, value.(string))
	}
	a := &onnxio.Attribute{Name: name}
	for _, v := range list {
		switch kind {
		case "ints":
			a.Type, a.Ints = onnxio.AttrInts, append(a.Ints, int64(v.(float64)))
		case "floats":
			a.Type, a.Floats = onnxio.AttrFloats, append(a.Floats, float32(v.(float64)))
		case "strings":
			a.Type, a.Strings = onnxio.AttrStrings, append(a.Strings, []byte(v.(string)))
		}
	}
	return a
}

// TestWitnesses compares results with those of ONNX Runtime and PyTorch in float32: their sums of up to 24
// products of numbers of order 1 are good to 1e-5, and recorded to seven digits. Shapes are inferred with and
// without the inputs' elements and must not contradict the results.
func TestWitnesses(t *testing.T) {
	for i, c := range witnessCases(t) {
		t.Run(fmt.Sprintf("%d/%s", i, c.Op), func(t *testing.T) { c.check(t) })
	}
}

func (c *witnessCase) check(t *testing.T) {
	n, data := c.node()
	bound, err := Bind(n, c.Opset)
	if err != nil {
		t.Fatal(err)
	}
	for _, constants := range []bool{false, true} {
		values := map[string]*Value{}
		for name, x := range data {
			if values[name] = constValue(x); !constants {
				values[name].Const = nil
			}
		}
		if err := runNode(bound, data, values); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range c.Outputs {
		if want != nil {
			nearWitness(t, fmt.Sprintf("output %d", i), data[n.Outputs[i]], want.tensor())
		}
	}
}

func nearWitness(t *testing.T, what string, got, want *onnxio.Tensor) {
	t.Helper()
	if !wideFloats.Has(want.Type) {
		if err := compareTensors(got, want, 0, 0); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	if got.Type != want.Type || !equal(got.Dims, want.Dims) {
		t.Errorf("%s: got %v %s, want %v %s", what, got.Type, dimsText(got.Dims), want.Type,
			dimsText(want.Dims))
		return
	}
	for i := range int(want.Size()) {
		if g, w := floatAt(got, i), floatAt(want, i); g != w && !(math.Abs(g-w) <= 1e-5*(1+math.Abs(w))) {
			t.Errorf("%s[%d]: got %.9g, want %.9g", what, i, g, w)
			return
		}
	}
}
