package onnxgo_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/onnxgo"
	"github.com/cnnkit/cnnkit/runtime/verify"
)

// form is one way to write an operator: node reads "x", a Relu of the input [N,4,6,6], or "flat" [N,144], and
// initializers "0", "1", ... that have the given shapes.
type form struct {
	op      string
	in      []string
	shapes  [][]int64
	attrs   []*onnxio.Attribute
	refused string // what Open says, "" where onnx-go must agree with the native engine
}

// model is a network of the one form, between two Relus.
func (f *form) model() *onnxio.Model {
	g := &onnxio.Graph{Name: "g",
		Inputs:  []*onnxio.ValueInfo{onnxio.TensorInfo("input", onnxio.Float, onnxio.Shape("N", 4, 6, 6)...)},
		Outputs: []*onnxio.ValueInfo{{Name: "z", Type: &onnxio.Type{Elem: onnxio.Float}}},
		Nodes: []*onnxio.Node{{Name: "before", OpType: "Relu", Inputs: []string{"input"},
			Outputs: []string{"x"}}}}
	if f.in[0] == "flat" {
		g.Nodes = append(g.Nodes, &onnxio.Node{Name: "flatten", OpType: "Flatten", Inputs: []string{"x"},
			Outputs: []string{"flat"}})
	}
	g.Nodes = append(g.Nodes, &onnxio.Node{Name: "node", OpType: f.op, Inputs: f.in, Outputs: []string{"y"},
		Attrs: f.attrs},
		&onnxio.Node{Name: "after", OpType: "Relu", Inputs: []string{"y"}, Outputs: []string{"z"}})
	for i, dims := range f.shapes {
		if f.op == "Reshape" { // the shape is an initializer of integers
			g.Initializers = append(g.Initializers, onnxio.Int64s(dims))
			g.Initializers[i].Name = "0"
			break
		}
		t := onnxio.NewTensor(onnxio.Float, dims...)
		for k := range t.Float32s() {
			t.Float32s()[k] = 0.25 + float32(k%7)
		}
		t.Name = string(rune('0' + i))
		g.Initializers = append(g.Initializers, t)
	}
	return &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: g}
}

// What opens also runs, with a batch of one and of three, and gives the native engine's answer; what onnx-go
// fails on or gets wrong is refused by a sentence that says what it is.
func TestForms(t *testing.T) {
	word, number, numbers := onnxio.StringAttr, onnxio.IntAttr, onnxio.IntsAttr
	list := func(a ...*onnxio.Attribute) []*onnxio.Attribute { return a }
	k3, k2, s2 := numbers("kernel_shape", 3, 3), numbers("kernel_shape", 2, 2), numbers("strides", 2, 2)
	w := [][]int64{{3, 4, 3, 3}}
	x, xw, flat, flatw := []string{"x"}, []string{"x", "0"}, []string{"flat"}, []string{"flat", "0"}
	vectors := [][]int64{{4}, {4}, {4}, {4}}
	for name, f := range map[string]form{
		"kernel from weights": {"Conv", xw, w, nil, ""},
		"dilated":             {"Conv", xw, w, list(k3, numbers("dilations", 2, 2)), ""},
		"padded by rows":      {"Conv", xw, w, list(k3, numbers("pads", 1, 0, 1, 0)), ""},
		"padded on one side":  {"Conv", xw, w, list(k3, numbers("pads", 0, 0, 1, 1)), "pads [0 0 1 1]"},
		"grouped": {"Conv", xw, [][]int64{{4, 2, 3, 3}}, list(k3, number("group", 2)),
			"group 2"},
		"conv auto_pad":       {"Conv", xw, w, list(k3, word("auto_pad", "SAME_LOWER")), "auto_pad"},
		"no strides":          {"MaxPool", x, nil, list(k2), ""},
		"pool padded":         {"MaxPool", x, nil, list(k3, s2, numbers("pads", 1, 1, 1, 1)), ""},
		"pool padded by rows": {"MaxPool", x, nil, list(k3, s2, numbers("pads", 1, 0, 1, 0)), ""},
		"pool padded on one side": {"MaxPool", x, nil, list(k2, s2, numbers("pads", 0, 0, 1, 1)),
			"pads [0 0 1 1]"},
		"ceil_mode": {"MaxPool", x, nil, list(k3, s2, number("ceil_mode", 1)), "ceil_mode"},
		"pool dilated": {"MaxPool", x, nil, list(k2, numbers("dilations", 2, 2)),
			"dilations [2 2]"},
		"pool auto_pad":           {"MaxPool", x, nil, list(k2, word("auto_pad", "SAME_UPPER")), "auto_pad"},
		"flatten all":             {"Flatten", x, nil, list(number("axis", 0)), ""},
		"flatten from the end":    {"Flatten", x, nil, list(number("axis", -2)), "axis -2"},
		"reshape to rows":         {"Reshape", xw, [][]int64{{-1, 9}}, nil, ""},
		"reshape to planes":       {"Reshape", xw, [][]int64{{0, 4, 36}}, nil, ""},
		"matrix":                  {"MatMul", flatw, [][]int64{{144, 3}}, nil, ""},
		"matrices":                {"MatMul", xw, [][]int64{{6, 3}}, nil, "two dimensions only"},
		"gemm without bias":       {"Gemm", flatw, [][]int64{{5, 144}}, list(number("transB", 1)), ""},
		"gemm with bias":          {"Gemm", []string{"flat", "0", "1"}, [][]int64{{144, 5}, {5}}, nil, ""},
		"softmax":                 {"Softmax", flat, nil, list(number("axis", -1)), ""},
		"softmax of channels":     {"Softmax", x, nil, list(number("axis", 1)), "[N,C] only"},
		"log-softmax of channels": {"LogSoftmax", x, nil, list(number("axis", 1)), "[N,C] only"},
		"add channels":            {"Add", xw, [][]int64{{4, 1, 1}}, nil, ""},
		"add a scalar":            {"Add", xw, [][]int64{{}}, nil, ""},
		"add a row":               {"Add", xw, [][]int64{{6}}, nil, ""},
		"add to rows":             {"Add", flatw, [][]int64{{144}}, nil, ""},
		"add of rank 4":           {"Add", xw, [][]int64{{1, 4, 1, 1}}, nil, "4 and 4 dimensions"},
		"subtract from a scalar":  {"Sub", []string{"0", "x"}, [][]int64{{}}, nil, ""},
		"divide":                  {"Div", xw, [][]int64{{4, 1, 1}}, nil, ""},
		"twice":                   {"Add", []string{"x", "x"}, nil, nil, `"x" twice`},
		"dropout":                 {"Dropout", xw, [][]int64{{}}, nil, ""},
		"dropout that trains": {"Dropout", []string{"x", "0", "1"}, [][]int64{{}, {}}, nil,
			"does not train"},
		"batch norm": {"BatchNormalization", []string{"x", "0", "1", "2", "3"},
			vectors, nil, ""},
		"batch norm of rows": {"BatchNormalization", []string{"flat", "0", "1", "2", "3"},
			[][]int64{{144}, {144}, {144}, {144}}, nil, "[N,C,H,W] only"},
		"concat of one":            {"Concat", x, nil, list(number("axis", 1)), ""},
		"average of whole planes":  {"GlobalAveragePool", x, nil, nil, ""},
		"identity of a flat value": {"Identity", flat, nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) { f.check(t) })
	}
}

func (f *form) check(t *testing.T) {
	m := f.model()
	if f.op == "Dropout" && len(f.in) == 3 {
		m.Graph.Initializers[1] = onnxio.Scalar(onnxio.Bool, true)
		m.Graph.Initializers[1].Name = "1"
	}
	if f.refused != "" {
		if _, err := onnxgo.Open(m); err == nil || !strings.Contains(err.Error(), f.refused) {
			t.Errorf("%v, want a word of %q", err, f.refused)
		}
		return
	}
	agrees(t, m)
}

// Each of the first networks opens and agrees with the native engine, or is refused when it is opened.
func TestNetworks(t *testing.T) {
	if testing.Short() {
		t.Skip("builds large networks")
	}
	for _, name := range []string{"lenet5", "minivgg", "resnet", "resnet18", "resnet20", "resnet9",
		"unet", "vgg16"} {
		for _, opset := range []int64{13, 17, 21} {
			cfg := builders.Config{Seed: 1, Opset: opset}
			switch name {
			case "resnet18", "unet":
				cfg.Width, cfg.Input = 8, [3]int{3, 64, 64}
			case "vgg16":
				if cfg.Width = 2; opset != 17 { // 224 by 224, which takes a while
					continue
				}
			}
			path := file(t, name, cfg)
			witness, err := runtime.Open(path, runtime.WithEngine(runtime.OnnxGo))
			if err != nil {
				continue
			}
			defer witness.Close()
			native := open(t, path, runtime.Native)
			e := verify.New(1e-5, native, witness)
			if err := e.Run(context.Background(), random(t, native, 2, 1)); err != nil || !e.OK() {
				t.Errorf("%s, opset %d: %v %+v", name, opset, err, e.Pairs)
			}
		}
	}
}
