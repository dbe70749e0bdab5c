package spec_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
)

func dims(values ...int64) []onnxio.Dim {
	out := make([]onnxio.Dim, len(values))
	for i, v := range values {
		out[i] = onnxio.Dim{Value: v}
		if v == 0 {
			out[i] = onnxio.Dim{Value: -1, Param: "N"}
		}
	}
	return out
}

// model has an input, and nodes of the operators "OUT=Op(IN,IN)" in their order; the last makes the output.
func model(elem onnxio.DataType, in []int64, nodes ...*onnxio.Node) *onnxio.Model {
	one := onnxio.Scalar(onnxio.Float, float32(1))
	one.Name = "one"
	g := &onnxio.Graph{Inputs: []*onnxio.ValueInfo{onnxio.TensorInfo("x", elem, dims(in...)...)},
		Nodes: nodes, Initializers: []*onnxio.Tensor{one}}
	g.Outputs = []*onnxio.ValueInfo{onnxio.TensorInfo(nodes[len(nodes)-1].Outputs[0], elem, dims(0, 3)...)}
	return &onnxio.Model{Graph: g}
}

func op(out, op string, in ...string) *onnxio.Node {
	return &onnxio.Node{OpType: op, Inputs: in, Outputs: []string{out}}
}

// The scale is found through what keeps numbers, and where the activation is spelled out.
func TestScale(t *testing.T) {
	conv := op("y", "Conv", "x", "w")
	for name, c := range map[string]struct {
		nodes []*onnxio.Node
		want  spec.Scale
		op    string
	}{
		"logits":  {[]*onnxio.Node{conv}, spec.Logits, ""},
		"softmax": {[]*onnxio.Node{conv, op("z", "Softmax", "y")}, spec.Probabilities, "Softmax"},
		"cast sigmoid": {[]*onnxio.Node{conv, op("s", "Sigmoid", "y"), op("c", "Cast", "s"),
			op("z", "Reshape", "c", "one")}, spec.Probabilities, "Sigmoid"},
		"resized logsoftmax": {[]*onnxio.Node{conv, op("s", "LogSoftmax", "y"), op("z", "Resize", "s")},
			spec.LogProbabilities, "LogSoftmax"},
		"log of softmax": {[]*onnxio.Node{conv, op("s", "Softmax", "y"), op("z", "Log", "s")},
			spec.LogProbabilities, "LogSoftmax"},
		"spelled-out softmax": {[]*onnxio.Node{conv, op("m", "ReduceMax", "y"), op("d", "Sub", "y", "m"),
			op("e", "Exp", "d"),
			op("s", "ReduceSum", "e"), op("z", "Div", "e", "s")}, spec.Probabilities, "Softmax"},
		"spelled-out sigmoid": {[]*onnxio.Node{conv, op("n", "Neg", "y"), op("e", "Exp", "n"),
			op("a", "Add", "one", "e"),
			op("z", "Div", "one", "a")}, spec.Probabilities, "Sigmoid"},
		"spelled-out logsoftmax": {[]*onnxio.Node{conv, op("s", "ReduceLogSumExp", "y"),
			op("z", "Sub", "y", "s")}, spec.LogProbabilities, "LogSoftmax"},
		"scaled softmax": {[]*onnxio.Node{conv, op("s", "Softmax", "y"), op("z", "Mul", "s", "one")},
			spec.Logits, ""},
		"a gate inside": {[]*onnxio.Node{conv, op("s", "Sigmoid", "y"), op("z", "Mul", "s", "y")},
			spec.Logits, ""},
		"another quotient": {[]*onnxio.Node{conv, op("e", "Exp", "y"), op("z", "Div", "e", "one")},
			spec.Logits, ""},
		"a circle": {[]*onnxio.Node{op("a", "Identity", "z"), op("z", "Identity", "a")}, spec.Logits, ""},
	} {
		if e := spec.End(model(onnxio.Float, []int64{0, 3, 8, 8}, c.nodes...)); e.Scale != c.want ||
			e.Op != c.op {
			t.Errorf("%s: %v by %q, not %v by %q", name, e.Scale, e.Op, c.want, c.op)
		}
	}
}

func TestInfer(t *testing.T) {
	for _, c := range []struct {
		elem onnxio.DataType
		in   []int64
		want string // "": refused
	}{
		{onnxio.Float, []int64{0, 3, 16, 20}, "float32 NCHW 0 3 [16 20]"},
		{onnxio.Float16, []int64{4, 1, 16, 20}, "float16 NCHW 4 1 [16 20]"},
		{onnxio.Uint8, []int64{0, 16, 20, 3}, "uint8 NHWC 0 3 [16 20]"},
		{onnxio.Float, []int64{0, 0, 0, 0}, "float32 NCHW 0 3 [0 0]"},
		{onnxio.Float, []int64{0, 4, 16, 16}, ""}, {onnxio.Float, []int64{0, 3}, ""}, {onnxio.Int64,
			[]int64{0, 3, 16, 16}, ""},
	} {
		s, err := spec.Get(model(c.elem, c.in, op("z", "Identity", "x")))
		got := fmt.Sprintln(s.Input.Type, s.Input.Layout, s.Input.Batch, s.Input.Channels, s.Input.Size)
		if c.want == "" && err == nil || c.want != "" && (err != nil || got != c.want+"\n") {
			t.Errorf("%v %v: %s%v", c.elem, c.in, got, err)
		}
	}
}

// What Set stores Get reads, and nothing is inferred then.
func TestSetAndGet(t *testing.T) {
	m := model(onnxio.Float, []int64{0, 3, 224, 224}, op("z", "Identity", "x"))
	s, err := spec.Get(m)
	if err != nil || len(s.Inferred) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := s.Preset("imagenet", m); err != nil || s.Input.Shorter != 256 || s.Input.Std[0] != 0.229 {
		t.Fatalf("%+v, %v", s.Input, err)
	}
	s.Labels, s.Output.Scale = []string{"a", "b", "c"}, spec.Probabilities
	spec.Set(m, s)
	got, err := spec.Get(m)
	if err != nil || len(got.Inferred) != 0 || got.Input.Shorter != 256 ||
		got.Output.Scale != spec.Probabilities || got.Labels[2] != "c" ||
		got.Input.Type != "float32" || got.Input.Layout != spec.NCHW {
		t.Errorf("%+v, %v", got, err)
	}
	if h, w := got.Input.Sized(300, 500); h != 256 || w != 426 {
		t.Errorf("300x500 becomes %dx%d", h, w)
	}
	if err := s.Preset("imagnet", m); err == nil {
		t.Error("a preset that there is not")
	}
}

// Thresholds of several labels are stored, one for all or one for each.
func TestThresholds(t *testing.T) {
	m := model(onnxio.Float, []int64{0, 3, 8, 8}, op("z", "Identity", "x"))
	m.Graph.Outputs[0].Type = onnxio.TensorInfo("", onnxio.Float, onnxio.Shape("N", 3)...).Type
	for _, want := range [][]float64{{0.25}, {0.25, 0, 1}, nil, {0.5, 0.5}} {
		s, err := spec.Infer(m)
		if err != nil {
			t.Fatal(err)
		}
		s.Output.Task, s.Output.Thresholds = spec.MultiLabel, want
		spec.Set(m, s)
		got, err := spec.Get(m)
		if len(want) == 2 {
			if err == nil || !strings.Contains(err.Error(), "2 thresholds of 3") {
				t.Error(err)
			}
			continue
		}
		if err != nil || !slices.Equal(got.Output.Thresholds, want) ||
			got.Output.Threshold(0) != append(want, 0.5)[0] {
			t.Errorf("%v became %v, %v", want, got.Output, err)
		}
	}
}

// Metadata that make no sense are refused, whatever they hold.
func TestHostileMetadata(t *testing.T) {
	for _, c := range [][2]string{
		{"preprocessing", `{`}, {"preprocessing", `{"size":[8,8],"channels":1}`}, {"preprocessing",
			`{"size":[8,8],"channels":3,"mean":[0],"std":[1]}`},
		{"preprocessing", `{"size":[8,99999999],"channels":3}`}, {"preprocessing",
			`{"size":[8,8],"channels":3,"std":[1,0,1]}`},
		{"preprocessing", `{"size":[8,8],"channels":3,"shorter":4}`}, {"preprocessing",
			`{"size":[8,8],"channels":3,"shorter":-4}`},
		{"preprocessing", `{"size":[8,8],"channels":3,"layout":"CHWN"}`}, {"preprocessing",
			`{"size":[8,8],"channels":3,"resize":"magic"}`},
		{"output", `{"scale":"percent"}`}, {"output", `[]`}, {"output",
			`{"scale":"logits","task":"multi-label","thresholds":[0.5,2]}`},
		{"output", `{"scale":"logits","task":"classes","thresholds":[0.5]}`},
	} {
		m := model(onnxio.Float, []int64{0, 3, 8, 8}, op("z", "Identity", "x"))
		m.SetProperty(c[0], c[1])
		if _, err := spec.Get(m); err == nil {
			t.Errorf("%s %s was taken", c[0], c[1])
		}
	}
	bytes := model(onnxio.Uint8, []int64{0, 3, 8, 8}, op("z", "Identity", "x"))
	bytes.SetProperty("preprocessing", `{"size":[8,8],"channels":3,"mean":[0.5,0.5,0.5],"std":[1,1,1]}`)
	if _, err := spec.Get(bytes); err == nil {
		t.Error("bytes were normalized")
	}
}

func Example() {
	m := model(onnxio.Float, []int64{0, 3, 224, 224}, op("y", "Conv", "x", "w"), op("z", "Softmax", "y"))
	s, err := spec.Get(m)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Input.Size, s.Output.Scale)
	if err := s.Preset("imagenet", m); err != nil {
		fmt.Println(err)
		return
	}
	spec.Set(m, s) // stored in the file when m is saved
	fmt.Println(s.Input.Shorter, s.Input.Mean)
	// Output:
	// [224 224] probabilities
	// 256 [0.485 0.456 0.406]
}
