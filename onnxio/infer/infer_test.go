package infer_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/infer"
)

// Every value of the first networks is known, but for the batch, which stays N.
func TestNetworks(t *testing.T) {
	for _, name := range []string{"lenet5", "minivgg", "resnet", "resnet18", "resnet20", "resnet9",
		"unet", "vgg16"} {
		for _, opset := range []int64{13, 17, 21} {
			m, err := builders.Build(name, builders.Config{Opset: opset, Width: smallWidth(name)})
			if err != nil {
				t.Fatal(err)
			}
			r, err := infer.Shapes(m)
			if err != nil {
				t.Fatalf("%s, opset %d: %v", name, opset, err)
			}
			for _, o := range m.Graph.Outputs {
				if typ := r.ValueInfo(o.Name).Type; typ.Elem != o.Type.Elem || !slices.Equal(typ.Shape,
					o.Type.Shape) {
					t.Errorf("%s, opset %d: output %s is %+v, declared %+v", name, opset, o.Name, typ, o.Type)
				}
			}
			for _, n := range m.Graph.Nodes {
				if n.OpType == "Constant" { // numbers that a layer needs, not of the batch
					continue
				}
				typ := r.ValueInfo(n.Outputs[0]).Type
				if typ.Elem == onnxio.Undefined || !typ.HasShape || len(typ.Shape) < 2 {
					t.Errorf("%s, opset %d: %s %q is %+v", name, opset, n.OpType, n.Name, typ)
					continue
				}
				if typ.Shape[0].Param != "N" {
					t.Errorf("%s, opset %d: the batch of %s %q is %+v, not N", name, opset, n.OpType, n.Name,
						typ.Shape[0])
				}
				for _, d := range typ.Shape[1:] {
					if !d.Known() || d.Value < 1 {
						t.Errorf("%s, opset %d: %s %q is %+v", name, opset, n.OpType, n.Name, typ.Shape)
					}
				}
			}
		}
	}
}

func smallWidth(name string) int {
	switch name {
	case "unet", "vgg16", "resnet9", "resnet18":
		return 8
	}
	return 0
}

func TestAnnotate(t *testing.T) {
	m, err := builders.Build("resnet", builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := infer.Annotate(m); err != nil {
		t.Fatal(err)
	}
	if got, want := len(m.Graph.Values), len(m.Graph.Nodes)-1; got != want { // the last node makes the output
		t.Fatalf("%d values are annotated, not %d", got, want)
	}
	before, err := onnxio.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := infer.Annotate(m); err != nil {
		t.Fatal(err)
	}
	after, err := onnxio.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("annotating twice changes the file")
	}
}

// small is a graph of the given nodes on an input [N,3,8,8] and weights w [4,3,3,3].
func small(out *onnxio.ValueInfo, nodes ...*onnxio.Node) *onnxio.Model {
	w := onnxio.NewTensor(onnxio.Float, 4, 3, 3, 3)
	w.Name = "w"
	return &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17},
		{Domain: "com.example", Version: 1}},
		Graph: &onnxio.Graph{Name: "g", Nodes: nodes, Initializers: []*onnxio.Tensor{w},
			Outputs: []*onnxio.ValueInfo{out},
			Inputs: []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float,
				onnxio.Shape("N", 3, 8, 8)...)}}}
}

func TestErrorsNameTheNode(t *testing.T) {
	y := onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape("N", 4, 6, 6)...)
	tests := []struct {
		name  string
		model *onnxio.Model
		want  []string
	}{
		{"missing input", small(y, &onnxio.Node{Name: "c", OpType: "Conv", Inputs: []string{"x"},
			Outputs: []string{"y"}}), []string{`Conv "c"`, "missing"}},
		{"order", small(y, &onnxio.Node{Name: "r", OpType: "Relu", Inputs: []string{"later"},
			Outputs: []string{"y"}}), []string{`Relu "r"`, "later"}},
		{"declared type", small(onnxio.TensorInfo("y", onnxio.Int64, onnxio.Shape("N", 4, 6, 6)...),
			&onnxio.Node{Name: "c", OpType: "Conv", Inputs: []string{"x", "w"}, Outputs: []string{"y"}}),
			[]string{`Conv "c"`, "int64", "float32"}},
		{"no maker", small(y), []string{"y", "no node"}},
		{"no graph", &onnxio.Model{}, []string{"no graph"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := infer.Shapes(tt.model)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

// A declared shape that does not hold is a warning that names the node; the result has the true one.
func TestWrongDeclarations(t *testing.T) {
	conv := &onnxio.Node{Name: "c", OpType: "Conv", Inputs: []string{"x", "w"}, Outputs: []string{"y"}}
	for _, tt := range []struct {
		name  string
		model *onnxio.Model
		want  []string
	}{
		{"output", small(onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape("N", 4, 7, 6)...), conv),
			[]string{`Conv "c"`, "[N,4,7,6]", "[N,4,6,6]"}},
		{"rank", small(onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape("N", 4)...), conv),
			[]string{`Conv "c"`, "[N,4]"}},
		{"none", small(onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape("M", 4, 6, "W")...), conv), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := infer.Shapes(tt.model)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Warnings) != min(1, len(tt.want)) {
				t.Fatalf("warnings %q", r.Warnings)
			}
			for _, w := range tt.want {
				if !strings.Contains(r.Warnings[0], w) {
					t.Errorf("%q does not say %q", r.Warnings[0], w)
				}
			}
			if got := r.ValueInfo("y").Type.Shape; !slices.Equal(got, onnxio.Shape("N", 4, 6, 6)) {
				t.Errorf("shape %v", got)
			}
		})
	}
	m := small(onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape("N", 4, 6, 6)...),
		&onnxio.Node{Name: "c", OpType: "Conv", Inputs: []string{"x", "w"}, Outputs: []string{"a"}},
		&onnxio.Node{Name: "r", OpType: "Relu", Inputs: []string{"a"}, Outputs: []string{"y"}})
	m.Graph.Nodes[0], m.Graph.Nodes[1] = m.Graph.Nodes[1], m.Graph.Nodes[0] // any order will do
	m.Graph.Values = []*onnxio.ValueInfo{onnxio.TensorInfo("a", onnxio.Float, onnxio.Shape(1, 4, 5, 5)...)}
	if r, err := infer.Shapes(m); err != nil || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0],
		`value "a"`) {
		t.Errorf("%+v, %v", r, err)
	}
}

// What stands behind a foreign operator is taken from the declarations, or is unknown; it is no error.
func TestForeignOperator(t *testing.T) {
	m := small(onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape("N", 5)...),
		&onnxio.Node{Name: "f", OpType: "Magic", Domain: "com.example", Inputs: []string{"x"},
			Outputs: []string{"a", "b"}},
		&onnxio.Node{Name: "r", OpType: "Relu", Inputs: []string{"a"}, Outputs: []string{"c"}},
		&onnxio.Node{Name: "s", OpType: "Relu", Inputs: []string{"b"}, Outputs: []string{"y"}})
	m.Graph.Values = []*onnxio.ValueInfo{onnxio.TensorInfo("a", onnxio.Float, onnxio.Shape("N", 7)...)}
	r, err := infer.Shapes(m)
	if err != nil {
		t.Fatal(err)
	}
	if typ := r.ValueInfo("c").Type; typ.Elem != onnxio.Float || len(typ.Shape) != 2 ||
		typ.Shape[1].Value != 7 {
		t.Errorf("c is %+v", typ)
	}
	if typ := r.ValueInfo("b").Type; typ.Elem != onnxio.Undefined {
		t.Errorf("b is %+v", typ)
	}
	if v := r.ValueInfo("nowhere"); v == nil || v.Type == nil || v.Type.Elem != onnxio.Undefined {
		t.Errorf("nowhere is %+v", v)
	}
	if err := infer.Annotate(m); err != nil {
		t.Fatal(err)
	}
}

// A Reshape whose target is computed from Shape is followed.
func TestComputedReshape(t *testing.T) {
	c := func(name string, v ...int64) *onnxio.Tensor {
		x := onnxio.Int64s(v, int64(len(v)))
		x.Name = name
		return x
	}
	m := small(onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape("N", 192)...),
		&onnxio.Node{Name: "shape", OpType: "Shape", Inputs: []string{"x"}, Outputs: []string{"s"}},
		&onnxio.Node{Name: "gather", OpType: "Gather", Inputs: []string{"s", "zero"}, Outputs: []string{"n"}},
		&onnxio.Node{Name: "concat", OpType: "Concat", Inputs: []string{"n", "rest"}, Outputs: []string{"t"},
			Attrs: []*onnxio.Attribute{onnxio.IntAttr("axis", 0)}},
		&onnxio.Node{Name: "reshape", OpType: "Reshape", Inputs: []string{"x", "t"}, Outputs: []string{"y"}})
	m.Graph.Initializers = append(m.Graph.Initializers, c("zero", 0), c("rest", -1))
	r, err := infer.Shapes(m)
	if err != nil {
		t.Fatal(err)
	}
	s := r.ValueInfo("y").Type.Shape
	if len(s) != 2 || s[0].Param != "N" || s[1].Value != 192 {
		t.Errorf("y is %+v, not [N,192]", s)
	}
}

// A model with nil where something should be gives a typed error.
func TestHoles(t *testing.T) {
	tests := map[string]func(m *onnxio.Model){
		"graph":     func(m *onnxio.Model) { m.Graph = nil },
		"input":     func(m *onnxio.Model) { m.Graph.Inputs = append(m.Graph.Inputs, nil) },
		"output":    func(m *onnxio.Model) { m.Graph.Outputs = append(m.Graph.Outputs, nil) },
		"value":     func(m *onnxio.Model) { m.Graph.Values = append(m.Graph.Values, nil) },
		"node":      func(m *onnxio.Model) { m.Graph.Nodes = append(m.Graph.Nodes, nil) },
		"attribute": func(m *onnxio.Model) { m.Graph.Nodes[0].Attrs = []*onnxio.Attribute{nil} },
		"initializer": func(m *onnxio.Model) {
			m.Graph.Initializers = append(m.Graph.Initializers, nil)
		},
		"sparse initializer": func(m *onnxio.Model) {
			m.Graph.SparseInitializers = append(m.Graph.SparseInitializers, nil)
		},
		"function": func(m *onnxio.Model) { m.Functions = append(m.Functions, nil) },
	}
	for what, hole := range tests {
		t.Run(what, func(t *testing.T) {
			m := small(onnxio.TensorInfo("y", onnxio.Float), &onnxio.Node{Name: "c", OpType: "Conv",
				Inputs: []string{"x", "w"}, Outputs: []string{"y"}})
			hole(m)
			_, err := infer.Shapes(m)
			var format *onnxio.FormatError
			if !errors.As(err, &format) || !strings.Contains(err.Error(), what) {
				t.Errorf("the error is %v", err)
			}
			if infer.Annotate(m) == nil {
				t.Error("Annotate gives no error")
			}
		})
	}
	if _, err := infer.Shapes(nil); err == nil {
		t.Error("no model is no error")
	}
}

// An If gives what the branch gives that a known condition takes, else what is true of both.
func TestIf(t *testing.T) {
	branch := func(op string, attrs ...*onnxio.Attribute) *onnxio.Graph {
		return &onnxio.Graph{Name: op, Outputs: []*onnxio.ValueInfo{{Name: op}},
			Nodes: []*onnxio.Node{{OpType: op, Name: op, Inputs: []string{"x"}, Outputs: []string{op},
				Attrs: attrs}}}
	}
	graph := func(name string, g *onnxio.Graph) *onnxio.Attribute {
		return &onnxio.Attribute{Name: name, Type: onnxio.AttrGraph, G: g}
	}
	for _, tt := range []struct {
		name string
		cond *onnxio.Tensor // nil: an input
		want []onnxio.Dim
	}{
		{"true", onnxio.Scalar(onnxio.Bool, true), onnxio.Shape("N", 3, 8, 8)},
		{"false", onnxio.Scalar(onnxio.Bool, false), onnxio.Shape("N", 3, 1, 1)},
		{"open", nil, onnxio.Shape("N", 3, -1, -1)},
	} {
		m := small(&onnxio.ValueInfo{Name: "y", Type: &onnxio.Type{Elem: onnxio.Float}},
			&onnxio.Node{OpType: "If", Name: "if", Inputs: []string{"c"}, Outputs: []string{"y"},
				Attrs: []*onnxio.Attribute{graph("then_branch", branch("Relu")),
					graph("else_branch", branch("GlobalAveragePool"))}})
		if tt.cond == nil {
			m.Graph.Inputs = append(m.Graph.Inputs, onnxio.TensorInfo("c", onnxio.Bool))
		} else {
			tt.cond.Name = "c"
			m.Graph.Initializers = append(m.Graph.Initializers, tt.cond)
		}
		r, err := infer.Shapes(m)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.ValueInfo("y").Type; got.Elem != onnxio.Float || !slices.Equal(got.Shape, tt.want) {
			t.Errorf("%s: %v %v, want %v", tt.name, got.Elem, got.Shape, tt.want)
		}
	}
}
