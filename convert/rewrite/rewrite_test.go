package rewrite

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/runtime/native"
)

func answer(t *testing.T, m *onnxio.Model, x *onnxio.Tensor) []float32 {
	t.Helper()
	if err := check.Model(m); err != nil {
		t.Fatal(err)
	}
	b, err := native.Open(m, native.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	out, err := b.Run(context.Background(), map[string]*onnxio.Tensor{m.Graph.Inputs[0].Name: x})
	if err != nil {
		t.Fatal(err)
	}
	return out[m.Graph.Outputs[0].Name].Float32s()
}

func input(dims ...int64) *onnxio.Tensor {
	x := onnxio.NewTensor(onnxio.Float, dims...)
	for i := range x.Float32s() {
		x.Float32s()[i] = float32(i*7919%1009)/1009 - 0.5
	}
	return x
}

func same(t *testing.T, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d numbers, want %d", len(got), len(want))
	}
	for i, w := range want {
		if math.Abs(float64(got[i]-w)) > 1e-4*max(1, math.Abs(float64(w))) {
			t.Fatalf("number %d is %v, want %v", i, got[i], w)
		}
	}
}

// Graphs of exporters and of builders answer alike when they are simplified, with and without a fixed batch.
func TestSimplify(t *testing.T) {
	files, err := filepath.Glob("../../testdata/foreign/*-folded.onnx")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, file := range append(files, "mobilenet_v3_small", "shufflenet_v2_x0_5") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			m, x := load(t, file)
			for _, dims := range []map[string]int64{nil, {batchName(m): 2}} {
				simple, done, err := Simplify(m, dims)
				if err != nil {
					t.Fatal(err)
				}
				if done.After != len(simple.Graph.Nodes) || done.After > done.Before {
					t.Errorf("%+v", done)
				}
				if dims != nil && strings.HasPrefix(filepath.Base(file), "tokens") && done.After > 30 {
					t.Errorf("shapes are not constants: %+v", done)
				}
				if !strings.HasSuffix(file, ".onnx") && done.Fused < 30 {
					t.Errorf("normalizations are not fused: %+v", done)
				}
				same(t, answer(t, simple, x), answer(t, m, x))
			}
		})
	}
}

func load(t *testing.T, file string) (*onnxio.Model, *onnxio.Tensor) {
	t.Helper()
	if strings.HasSuffix(file, ".onnx") {
		m, err := onnxio.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		return m, input(2, 3, 16, 16)
	}
	m, err := builders.Build(file, builders.Config{Input: [3]int{3, 64, 64}, Classes: 10})
	if err != nil {
		t.Fatal(err)
	}
	return m, input(2, 3, 64, 64)
}

func batchName(m *onnxio.Model) string { return m.Graph.Inputs[0].Type.Shape[0].Param }

func TestSimplifyMistakes(t *testing.T) {
	m, _ := load(t, "shufflenet_v2_x0_5")
	for want, dims := range map[string]map[string]int64{`no input has a dimension "M": there are N`: {"M": 2},
		"at least 1": {"N": 0}} {
		if _, _, err := Simplify(m, dims); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}

// Two halves of a network give what the whole gives.
func TestExtract(t *testing.T) {
	m, x := load(t, "shufflenet_v2_x0_5")
	var at string
	for _, n := range m.Graph.Nodes {
		if n.OpType == "MaxPool" {
			at = n.Outputs[0]
		}
	}
	first, err := Extract(m, nil, []string{at})
	if err != nil {
		t.Fatal(err)
	}
	second, err := Extract(m, []string{at}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := native.Open(first, native.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	out, err := b.Run(context.Background(), map[string]*onnxio.Tensor{"input": x})
	if err != nil {
		t.Fatal(err)
	}
	same(t, answer(t, second, out[at]), answer(t, m, x))
	if _, err := Extract(m, []string{"output"}, []string{at}); err == nil || !strings.Contains(err.Error(),
		`also need "input"`) {
		t.Error(err)
	}
	if _, err := Extract(m, []string{"inptu"}, []string{"outputt"}); err == nil ||
		!strings.Contains(err.Error(), `"inptu" (nearest: "input"), "outputt" (nearest: "output")`) {
		t.Error(err)
	}
}

func TestDiffAndEdit(t *testing.T) {
	m, x := load(t, "shufflenet_v2_x0_5")
	if d := Diff(m, copied(m)); len(d) != 0 {
		t.Errorf("a copy differs: %v", d)
	}
	other := copied(m)
	w := m.Graph.Initializer("fc.weight").Clone()
	w.Float32s()[3]++
	for i, t := range other.Graph.Initializers {
		if t.Name == w.Name {
			w.Name = t.Name
			other.Graph.Initializers[i] = w
		}
	}
	other.Graph.Nodes[0].Attrs = append(other.Graph.Nodes[0].Attrs, onnxio.StringAttr("auto_pad", "NOTSET"))
	other.Opsets = append(other.Opsets, onnxio.Opset{Domain: "com.example", Version: 2})
	want := []Difference{{"opset", "com.example", "0 and 2"}, {"attribute", "Conv conv1/0.auto_pad",
		`none and "NOTSET"`},
		{"initializer", "fc.weight", "1 of 10240 numbers differ, by 1 at most"}}
	if d := Diff(m, other); !slices.Equal(d, want) {
		t.Errorf("%v, want %v", d, want)
	}
	renamed, err := Rename(m, map[string]string{"input": "x", "output": "logits"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, answer(t, Strip(renamed), x), answer(t, m, x))
	for want, names := range map[string]map[string]string{"cannot become": {"input": "output"},
		"no value": {"inputt": "x"}} {
		if _, err := Rename(m, names); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}

// legacy is a graph of opset 9 with most of what changed since.
func legacy() *onnxio.Model {
	node := func(op, out string, in []string, attrs ...*onnxio.Attribute) *onnxio.Node {
		return &onnxio.Node{OpType: op, Name: out, Inputs: in, Outputs: []string{out}, Attrs: attrs}
	}
	return &onnxio.Model{IRVersion: 3, Opsets: []onnxio.Opset{{Version: 9}}, Graph: &onnxio.Graph{Name: "g",
		Nodes: []*onnxio.Node{
			node("Pad", "pad", []string{"x"}, onnxio.IntsAttr("pads", 0, 0, 1, 1, 0, 0, 1, 1),
				onnxio.FloatAttr("value", 0.5)),
			node("Clip", "clip", []string{"pad"}, onnxio.FloatAttr("min", -0.3),
				onnxio.FloatAttr("max", 0.4)),
			node("Slice", "slice", []string{"clip"}, onnxio.IntsAttr("starts", 1), onnxio.IntsAttr("ends", 5),
				onnxio.IntsAttr("axes", 2)),
			node("Dropout", "drop", []string{"slice"}, onnxio.FloatAttr("ratio", 0.3)),
			node("ReduceMean", "mean", []string{"drop"}, onnxio.IntsAttr("axes", 2),
				onnxio.IntAttr("keepdims", 1)),
			node("Squeeze", "squeeze", []string{"mean"}, onnxio.IntsAttr("axes", 2)),
			{OpType: "Split", Name: "split", Inputs: []string{"squeeze"}, Outputs: []string{"a", "b"},
				Attrs: []*onnxio.Attribute{onnxio.IntAttr("axis", 1)}},
			node("Add", "add", []string{"a", "b"}),
			node("ReduceSum", "sum", []string{"add"}, onnxio.IntsAttr("axes", 1),
				onnxio.IntAttr("keepdims", 0)),
			node("Unsqueeze", "wide", []string{"sum"}, onnxio.IntsAttr("axes", 0)),
			node("Softmax", "y", []string{"wide"}, onnxio.IntAttr("axis", 2)),
		}, Inputs: []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape("N", 4, 6, 6)...)},
		Outputs: []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape(1, "N", 8)...)}}}
}

// A model of an old operator set answers the same in newer ones.
func TestOpset(t *testing.T) {
	m, x := legacy(), input(3, 4, 6, 6)
	for _, to := range []int64{10, 11, 12, 13, 17, 18, 21} {
		newer, err := Opset(m, to)
		if err != nil {
			t.Fatalf("to %d: %v", to, err)
		}
		if newer.Opset("") != to || m.Opset("") != 9 {
			t.Errorf("opset %d, want %d", newer.Opset(""), to)
		}
		same(t, answer(t, newer, x), answer(t, m, x))
	}
	older, err := Opset(m, 8) // none of these changed in opset 9
	if err != nil || older.Opset("") != 8 {
		t.Fatal(err)
	}
	same(t, answer(t, older, x), answer(t, m, x))
	newest, err := Opset(m, 21)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Opset(newest, 9); err == nil || !strings.Contains(err.Error(),
		"cannot go down from opset 21 to 9") {
		t.Error(err)
	}
	m.Graph.Nodes[10].Attrs = []*onnxio.Attribute{onnxio.IntAttr("axis", 1)}
	if _, err := Opset(m, 13); err == nil || !strings.Contains(err.Error(),
		"joins the dimensions from axis 1") {
		t.Error(err)
	}
}

// Models of IR versions in which initializers had to be inputs stay sound when rewriting adds some.
func TestOldIR(t *testing.T) {
	m := &onnxio.Model{IRVersion: 3, Opsets: []onnxio.Opset{{Version: 8}}, Graph: &onnxio.Graph{Name: "g",
		Inputs:  []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape(1, 1, 2, 2)...)},
		Outputs: []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape(1, 1, 4, 4)...)},
		Nodes: []*onnxio.Node{
			{OpType: "Constant", Outputs: []string{"one"},
				Attrs: []*onnxio.Attribute{onnxio.TensorAttr("value", onnxio.Floats([]float32{1}, 1))}},
			{OpType: "Add", Inputs: []string{"x", "one"}, Outputs: []string{"more"}},
			{OpType: "Upsample", Inputs: []string{"more"}, Outputs: []string{"y"},
				Attrs: []*onnxio.Attribute{{Name: "scales", Type: onnxio.AttrFloats,
					Floats: []float32{1, 1, 2, 2}}}},
		}}}
	newer, err := Opset(m, 9)
	if err != nil {
		t.Fatal(err)
	}
	simple, done, err := Simplify(m, nil)
	if err != nil || done.Folded != 1 {
		t.Fatal(done, err)
	}
	for _, rewritten := range []*onnxio.Model{newer, simple} {
		if err := check.Model(rewritten); err != nil {
			t.Error(err)
		}
	}
}

// Graphs that no definition allows, and models without one, are errors or stay as they are.
func TestHostileGraphs(t *testing.T) {
	graph := func(nodes ...*onnxio.Node) *onnxio.Model {
		return &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 9}},
			Graph: &onnxio.Graph{Name: "g", Nodes: nodes,
				Initializers: []*onnxio.Tensor{onnxio.Scalar(onnxio.Float, float32(1))},
				Inputs: []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float,
					onnxio.Shape(1, 1, 4, 4)...)},
				Outputs: []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float,
					onnxio.Shape(1, 1, 4, 4)...)}}}
	}
	models := map[string]*onnxio.Model{"no graph": {IRVersion: 8, Opsets: []onnxio.Opset{{Version: 9}}}}
	for _, op := range []string{"Identity", "Dropout", "Constant", "Conv", "BatchNormalization", "Pad",
		"Slice", "Clip", "Softmax", "Split",
		"Squeeze", "Upsample", "TopK", "RoiAlign", "GridSample", "Strange"} {
		value := onnxio.TensorAttr("value", onnxio.Floats([]float32{1}, 1))
		models[op+" of nothing"] = graph(&onnxio.Node{OpType: op, Attrs: []*onnxio.Attribute{value}})
		models[op+" without inputs"] = graph(&onnxio.Node{OpType: op, Outputs: []string{"y"}})
		models[op+" without outputs"] = graph(&onnxio.Node{OpType: op, Inputs: []string{"x", "",
			"x", "x", "x"}})
		models[op+" of a scalar"] = graph(&onnxio.Node{OpType: "Relu", Inputs: []string{"x"},
			Outputs: []string{"c"}},
			&onnxio.Node{OpType: op, Inputs: []string{"c", "", "", "", ""}, Outputs: []string{"y"}})
	}
	for name, m := range models {
		t.Run(name, func(t *testing.T) {
			_, _, _ = Simplify(m, nil)
			_, _ = Extract(m, nil, nil)
			_, _ = Rename(m, map[string]string{"x": "z"})
			for _, to := range []int64{8, 10, 11, 13, 18, 21} {
				_, _ = Opset(m, to)
			}
			if d := Diff(m, Strip(m)); len(d) != 0 {
				t.Error(d)
			}
		})
	}
	if _, _, err := Simplify(models["no graph"], nil); err == nil {
		t.Error("no error")
	}
}
