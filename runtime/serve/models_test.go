package serve_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

const lenet = "../../models/lenet5-mnist/model.onnx"

// types are the element types of the protocol, by its names in small letters.
var types = map[string]onnxio.DataType{
	"bool": onnxio.Bool, "uint8": onnxio.Uint8, "uint16": onnxio.Uint16, "uint32": onnxio.Uint32,
	"uint64": onnxio.Uint64,
	"int8":   onnxio.Int8, "int16": onnxio.Int16, "int32": onnxio.Int32, "int64": onnxio.Int64,
	"fp16": onnxio.Float16,
	"bf16": onnxio.BFloat16, "fp32": onnxio.Float, "fp64": onnxio.Double, "bytes": onnxio.String,
}

// graph makes a model of nodes "OUT=Op(IN,IN)".
func graph(in, out []*onnxio.ValueInfo, nodes ...string) *onnxio.Model {
	g := &onnxio.Graph{Name: "test", Inputs: in, Outputs: out}
	for _, n := range nodes {
		to, call, _ := strings.Cut(n, "=")
		op, args, _ := strings.Cut(strings.TrimSuffix(call, ")"), "(")
		node := &onnxio.Node{OpType: op, Name: to, Inputs: strings.Split(args, ","), Outputs: []string{to}}
		if op == "ReduceMean" {
			node.Attrs = []*onnxio.Attribute{onnxio.IntsAttr("axes", 0), onnxio.IntAttr("keepdims", 1)}
		}
		g.Nodes = append(g.Nodes, node)
	}
	return &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: g}
}

func tensor(name string, typ onnxio.DataType, dims ...any) *onnxio.ValueInfo {
	return onnxio.TensorInfo(name, typ, onnxio.Shape(dims...)...)
}

// testModels are models by name: a copy of each type, one of two inputs and outputs, one whose rows depend on
// each other, and one of a fixed batch.
func testModels() map[string]*onnxio.Model {
	all := map[string]*onnxio.Model{}
	for name, typ := range types {
		all["copy_"+name] = graph([]*onnxio.ValueInfo{tensor("x", typ, "N", 3)},
			[]*onnxio.ValueInfo{tensor("y", typ, "N", 3)}, "y=Identity(x)")
	}
	f, i := onnxio.Float, onnxio.Int64
	all["pair"] = graph([]*onnxio.ValueInfo{tensor("a", f, "N", 4), tensor("b", i, "N", 2)},
		[]*onnxio.ValueInfo{tensor("sum", f, "N", 4), tensor("product", i, "N", 2)}, "sum=Add(a,a)",
		"product=Mul(b,b)")
	all["centered"] = graph([]*onnxio.ValueInfo{tensor("x", f, "N", 4)},
		[]*onnxio.ValueInfo{tensor("y", f, "N", 4)}, "m=ReduceMean(x)", "y=Sub(x,m)")
	// All rows share the scale of the largest number: it shows only where a row is far larger than another.
	all["quantized"] = graph([]*onnxio.ValueInfo{tensor("x", f, "N", 4)},
		[]*onnxio.ValueInfo{tensor("y", f, "N", 4)},
		"q=DynamicQuantizeLinear(x)", "y=DequantizeLinear(q,q_scale,q_zero)")
	all["quantized"].Graph.Nodes[0].Outputs = []string{"q", "q_scale", "q_zero"}
	all["fixed"] = graph([]*onnxio.ValueInfo{tensor("x", f, 2, 4)}, []*onnxio.ValueInfo{tensor("y", f, 2, 4)},
		"y=Relu(x)")
	all["root"] = graph([]*onnxio.ValueInfo{tensor("x", f, "N", 2)},
		[]*onnxio.ValueInfo{tensor("y", f, "N", 2)}, "y=Sqrt(x)")
	return all
}

// saveModels writes the test models to a folder.
func saveModels(t testing.TB, dir string) {
	t.Helper()
	for name, m := range testModels() {
		if err := onnxio.Save(filepath.Join(dir, name+".onnx"), m); err != nil {
			t.Fatal(err)
		}
	}
}
