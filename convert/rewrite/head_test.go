package rewrite_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/convert/rewrite"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
)

// Every foreign graph's last layer is found, and gets another number of outputs; all else
// keeps its weights and answers.
func TestHead(t *testing.T) {
	const folder = "../../testdata/foreign"
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	graphs := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".onnx") {
			continue
		}
		graphs++
		t.Run(e.Name(), func(t *testing.T) {
			m, err := onnxio.Load(filepath.Join(folder, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			out, head, err := rewrite.Head(m, 7, 1)
			if strings.HasPrefix(e.Name(), "rounded") { // the scales are of the old classifier
				if err == nil || !strings.Contains(err.Error(), "DequantizeLinear") {
					t.Errorf("a quantized classifier: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			fresh := map[string]bool{}
			for _, r := range head.Replaced {
				fresh[r.Name] = true
				if !slices.Contains(r.Dict, 5) || !slices.Contains(r.Model, 7) ||
					len(r.Dict) != len(r.Model) {
					t.Errorf("%s: %v instead of %v", r.Name, r.Model, r.Dict)
				}
			}
			if len(fresh) == 0 || len(fresh) > 2 {
				t.Errorf("replaced %v", head.Replaced)
			}
			for _, w := range m.Graph.Initializers {
				if is := out.Graph.Initializer(w.Name); slices.Equal(w.Raw, is.Raw) == fresh[w.Name] {
					t.Errorf("%q: fresh %v", w.Name, fresh[w.Name])
				}
			}
			s, err := runtime.OpenModel(out, runtime.WithEngine(runtime.Native))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			x := onnxio.NewTensor(onnxio.Float, 2, 3, 16, 16)
			if strings.HasPrefix(e.Name(), "keras") {
				x.Dims = []int64{2, 16, 16, 3}
			}
			y, err := s.Run(t.Context(), map[string]*onnxio.Tensor{s.Inputs()[0].Name: x})
			if err != nil {
				t.Fatal(err)
			}
			if dims := y[m.Graph.Outputs[0].Name].Dims; !slices.Equal(dims, []int64{2, 7}) {
				t.Errorf("the output is %v", dims)
			}
			if same, none, err := rewrite.Head(m, 5, 1); err != nil || none != nil || same != m {
				t.Errorf("5 classes, as it has: %v %v", none, err)
			}
		})
	}
	if graphs < 9 {
		t.Errorf("%d graphs", graphs)
	}
}

// A last layer that is a convolution, with pools, a Flatten or a Softmax behind it, is found too; the
// labels of the old classes go.
func TestHeadShapes(t *testing.T) {
	for arch, want := range map[string]string{"squeezenet1_1": "classifier.1.weight", "minivgg": "fc3.weight",
		"unet":                      "conv_final.weight",
		"lraspp_mobilenet_v3_large": ""} {
		m, err := builders.Build(arch, builders.Config{Input: [3]int{3, 32, 32}})
		if err != nil {
			t.Fatal(err)
		}
		builders.SetLabels(m, []string{"a"})
		out, head, err := rewrite.Head(m, 3, 1)
		if want == "" { // the sum of two branches
			if err == nil || !strings.Contains(err.Error(), "no classifier is found") ||
				!strings.Contains(err.Error(), "two branches") {
				t.Errorf("%s: %v", arch, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", arch, err)
		}
		if !slices.ContainsFunc(head.Replaced, func(r convert.Mismatch) bool { return r.Name == want }) {
			t.Errorf("%s: replaced %v", arch, head.Replaced)
		}
		if d := out.Graph.Outputs[0].Type.Shape; d[1].Value != 3 || builders.Labels(out) != nil {
			t.Errorf("%s: the output is %v, with labels %v", arch, d, builders.Labels(out))
		}
	}
}

// A model whose end is no layer with weights of its own is refused with the node.
func TestHeadMistakes(t *testing.T) {
	gemm := func(out string) *onnxio.Node {
		return &onnxio.Node{OpType: "Gemm", Name: "head", Inputs: []string{"x", "w"}, Outputs: []string{out}}
	}
	for want, nodes := range map[string][]*onnxio.Node{
		`Mul "gate"`: {gemm("h"), {OpType: "Mul", Name: "gate", Inputs: []string{"h", "h"},
			Outputs: []string{"y"}}},
		`"h", which Gemm "head" makes, is used 2 times`: {gemm("h"), {OpType: "Relu", Name: "r",
			Inputs: []string{"h"}, Outputs: []string{"y"}},
			{OpType: "Relu", Name: "s", Inputs: []string{"h"}, Outputs: []string{"z"}}},
		`"w" of Gemm "head" is used 2 times`: {{OpType: "MatMul", Name: "first", Inputs: []string{"x", "w"},
			Outputs: []string{"z"}}, gemm("y")},
		"does not follow them": {gemm("h"), {OpType: "ReduceMean", Name: "mean", Inputs: []string{"h"},
			Outputs: []string{"y"},
			Attrs:   []*onnxio.Attribute{onnxio.IntsAttr("axes", 1), onnxio.IntAttr("keepdims", 0)}}},
	} {
		w := onnxio.NewTensor(onnxio.Float, 4, 4)
		w.Name = "w"
		shape := []onnxio.Dim{{Param: "N"}, {Value: 4}}
		m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 13}},
			Graph: &onnxio.Graph{Nodes: nodes, Initializers: []*onnxio.Tensor{w},
				Inputs: []*onnxio.ValueInfo{{Name: "x", Type: &onnxio.Type{Elem: onnxio.Float,
					HasShape: true, Shape: shape}}},
				Outputs: []*onnxio.ValueInfo{{Name: "y", Type: &onnxio.Type{Elem: onnxio.Float}}}}}
		_, _, err := rewrite.Head(m, 3, 1)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}
