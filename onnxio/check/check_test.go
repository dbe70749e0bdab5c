package check

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// valid is a model without a fault: Conv, an If whose branches read an outer value, a function, a Reshape.
func valid(t testing.TB) *onnxio.Model {
	t.Helper()
	m, err := onnxio.Load("../../testdata/onnxio/valid.onnx")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// remarks are the problems that are not about operators this toolkit lacks.
func remarks(err error) (out []string) {
	for _, e := range problems(err) {
		var u *onnxio.UnsupportedError
		if errors.As(e, &u) && strings.Contains(u.Reason, "no such operator here") {
			continue
		}
		out = append(out, e.Error())
	}
	return out
}

func TestValid(t *testing.T) {
	if r := remarks(Model(valid(t))); len(r) > 0 {
		t.Errorf("remarks on a valid model:\n%s", strings.Join(r, "\n"))
	}
}

func node(op string, in, out string, attrs ...*onnxio.Attribute) *onnxio.Node {
	return &onnxio.Node{OpType: op, Name: strings.ToLower(op), Inputs: words(in), Outputs: words(out),
		Attrs: attrs}
}

// words splits at spaces; "_" stands for an omitted name.
func words(s string) []string {
	out := strings.Fields(s)
	for i := range out {
		if out[i] == "_" {
			out[i] = ""
		}
	}
	return out
}

func named(name string, t *onnxio.Tensor) *onnxio.Tensor {
	t.Name = name
	return t
}

// small is a model of the given nodes over input x [2,3,8,8], with further initializers; its output is y.
func small(inits []*onnxio.Tensor, nodes ...*onnxio.Node) *onnxio.Model {
	return &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: &onnxio.Graph{
		Name:         "small",
		Inputs:       []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape(2, 3, 8, 8)...)},
		Outputs:      []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float)},
		Initializers: inits,
		Nodes:        nodes,
	}}
}

// TestStructure breaks one rule after the other in a valid model.
func TestStructure(t *testing.T) {
	branch := func(m *onnxio.Model, name string) *onnxio.Graph { return m.Graph.Nodes[1].Attr(name).G }
	for _, c := range []struct {
		name  string
		spoil func(m *onnxio.Model)
		want  string
	}{
		{"ir_version 0", func(m *onnxio.Model) { m.IRVersion = 0 }, "ir_version 0"},
		{"ir_version of the future", func(m *onnxio.Model) { m.IRVersion = 99 }, "ir_version 99"},
		{"opsets in old IR", func(m *onnxio.Model) { m.IRVersion = 2 }, "opset_import in IR version 2"},
		{"no opsets", func(m *onnxio.Model) { m.Opsets = nil }, "no opset_import"},
		{"opset of the future", func(m *onnxio.Model) { m.Opsets[0].Version = 99 }, "opset 99"},
		{"opset 0", func(m *onnxio.Model) { m.Opsets[0].Version = 0 }, "versions start at 1"},
		{"domain twice", func(m *onnxio.Model) {
			m.Opsets = append(m.Opsets, onnxio.Opset{Domain: "ai.onnx", Version: 17})
		}, "twice"},
		{"domain not imported", func(m *onnxio.Model) { m.Opsets = m.Opsets[:1] },
			`domain "local" is not among`},
		{"unknown domain", func(m *onnxio.Model) { m.Graph.Nodes[0].Domain = "com.example" },
			`domain "com.example" is not known`},
		{"the compiler's domain", func(m *onnxio.Model) { m.Graph.Nodes[0].Domain = "cnnkit.grad" },
			`domain "cnnkit.grad" is not known`},
		{"metadata twice", func(m *onnxio.Model) { m.Metadata = []onnxio.Property{{Key: "a"}, {Key: "a"}} },
			`key "a"`},
		{"no graph", func(m *onnxio.Model) { m.Graph = nil }, "no graph"},
		{"graph without name", func(m *onnxio.Model) { m.Graph.Name = "" }, "graph has no name"},
		{"no outputs", func(m *onnxio.Model) { m.Graph.Outputs = nil }, "no outputs"},
		{"output without type", func(m *onnxio.Model) { m.Graph.Outputs[0].Type = nil }, "no type"},
		{"input without type", func(m *onnxio.Model) { m.Graph.Inputs[0].Type = nil }, "no type"},
		{"input without name", func(m *onnxio.Model) { m.Graph.Inputs[0].Name = "" },
			"a graph input has no name"},
		{"input twice", func(m *onnxio.Model) {
			m.Graph.Inputs = append(m.Graph.Inputs, m.Graph.Inputs[0])
		}, `input "input" is there twice`},
		{"output twice", func(m *onnxio.Model) {
			m.Graph.Outputs = append(m.Graph.Outputs, m.Graph.Outputs[0])
		}, `output "output" is there twice`},
		{"output of nothing", func(m *onnxio.Model) { m.Graph.Outputs[0].Name = "ghost" },
			`"ghost" is made by nothing`},
		{"element type", func(m *onnxio.Model) { m.Graph.Inputs[0].Type.Elem = 77 }, "data type 77"},
		{"type of no kind", func(m *onnxio.Model) { m.Graph.Inputs[0].Type.Kind = onnxio.NoType },
			"no type is set"},
		{"sequence of nothing", func(m *onnxio.Model) {
			m.Graph.Inputs[0].Type = &onnxio.Type{Kind: onnxio.SequenceType}
		}, "without a type inside"},
		{"shape that overflows", func(m *onnxio.Model) {
			m.Graph.Inputs[0].Type.Shape = onnxio.Shape(1<<40, 1<<40)
		}, "overflows"},
		{"shape too large", func(m *onnxio.Model) {
			m.Graph.Inputs[0].Type.Shape = onnxio.Shape(1<<20, 1<<20)
		}, "exceeds the limit"},
		{"initializer without name", func(m *onnxio.Model) { m.Graph.Initializers[0].Name = "" },
			"an initializer has no name"},
		{"initializer twice", func(m *onnxio.Model) { m.Graph.Initializers[1].Name = "conv.weight" },
			`initializer "conv.weight" is there twice`},
		{"initializer nil", func(m *onnxio.Model) { m.Graph.Initializers[0] = nil }, "initializer 0 is nil"},
		{"initializer of wrong size", func(m *onnxio.Model) { m.Graph.Initializers[0].Dims[0] = 5 },
			"holds 432 bytes"},
		{"initializer with negative dim", func(m *onnxio.Model) { m.Graph.Initializers[0].Dims[0] = -4 },
			"negative"},
		{"initializer unlike its input", func(m *onnxio.Model) {
			m.Graph.Inputs = append(m.Graph.Inputs, onnxio.TensorInfo("conv.bias", onnxio.Double,
				onnxio.Shape(3)...))
		}, "has type float32, the graph input"},
		{"initializer that old IR wants as input", func(m *onnxio.Model) { m.IRVersion = 3 },
			"is not a graph input"},
		{"functions in old IR", func(m *onnxio.Model) { m.IRVersion = 7 }, "functions need IR version 8"},
		{"output made twice", func(m *onnxio.Model) { m.Graph.Nodes[2].Outputs = []string{"x"} },
			`output "x" is already made by Conv "conv"`},
		{"output over initializer", func(m *onnxio.Model) { m.Graph.Nodes[2].Outputs = []string{"shape"} },
			"already an input or initializer"},
		{"dangling input", func(m *onnxio.Model) { m.Graph.Nodes[2].Inputs[0] = "ghost" },
			`Reshape "flat": reads "ghost"`},
		{"cycle", func(m *onnxio.Model) { m.Graph.Nodes[0].Inputs[0] = "y" }, "the graph has a cycle"},
		{"self loop", func(m *onnxio.Model) { m.Graph.Nodes[0].Inputs[0] = "x" }, "the graph has a cycle"},
		{"node nil", func(m *onnxio.Model) { m.Graph.Nodes = append(m.Graph.Nodes, nil) }, "node 3 is nil"},
		{"node without operator", func(m *onnxio.Model) { m.Graph.Nodes[0].OpType = "" }, "no operator"},
		{"node without values", func(m *onnxio.Model) {
			m.Graph.Nodes = append(m.Graph.Nodes, node("NoOp", "", ""))
		}, "neither inputs nor outputs"},
		{"name not UTF-8", func(m *onnxio.Model) { m.Graph.Nodes[2].Outputs[0] = "\xff" }, "UTF-8"},
		{"annotation of nothing", func(m *onnxio.Model) {
			m.Graph.Quantization = []onnxio.QuantizationAnnotation{{Tensor: "ghost"}}
		}, `annotation of "ghost"`},

		{"branch reads a later value", func(m *onnxio.Model) {
			branch(m, "then_branch").Nodes[0].Inputs[0] = "output"
		}, "the graph has a cycle"},
		{"branch reads nothing", func(m *onnxio.Model) {
			branch(m, "then_branch").Nodes[0].Inputs[0] = "ghost"
		}, `then_branch: Relu making "then_out": reads "ghost"`},
		{"branch hides an outer value", func(m *onnxio.Model) {
			g := branch(m, "then_branch")
			g.Nodes[0].Outputs[0], g.Outputs[0].Name = "x", "x"
		}, `output "x" hides`},
		{"outer reads inside of a branch", func(m *onnxio.Model) { m.Graph.Nodes[2].Inputs[0] = "then_out" },
			`reads "then_out", which nothing makes`},
		{"one branch reads the other", func(m *onnxio.Model) {
			branch(m, "else_branch").Nodes[0].Inputs[0] = "then_out"
		}, `reads "then_out"`},
		{"attribute twice", func(m *onnxio.Model) {
			m.Graph.Nodes[0].Attrs = append(m.Graph.Nodes[0].Attrs, onnxio.IntAttr("group", 1),
				onnxio.IntAttr("group", 1))
		}, "attribute group: the attribute is there twice"},
		{"attribute nil", func(m *onnxio.Model) { m.Graph.Nodes[0].Attrs[0] = nil },
			`Conv "conv": an attribute is nil`},
		{"attribute of a function nil", func(m *onnxio.Model) {
			m.Functions[0].AttrProtos = []*onnxio.Attribute{nil}
		}, "an attribute is nil"},
		{"attribute in a function nil", func(m *onnxio.Model) { m.Functions[0].Nodes[0].Attrs[0] = nil },
			"an attribute is nil"},
		{"attribute of a call nil", func(m *onnxio.Model) {
			branch(m, "else_branch").Nodes[0].Attrs[0] = nil
		}, "an attribute is nil"},
		{"input nil", func(m *onnxio.Model) { m.Graph.Inputs[0] = nil }, "a graph input has no name"},
		{"function nil", func(m *onnxio.Model) { m.Functions[0] = nil }, "function 0 has no name"},
		{"attribute without name", func(m *onnxio.Model) { m.Graph.Nodes[0].Attrs[0].Name = "" },
			"an attribute has no name"},
		{"attribute without type", func(m *onnxio.Model) { m.Graph.Nodes[0].Attrs[0].Type = 0 },
			"attribute's type is 0"},
		{"attribute of two values", func(m *onnxio.Model) { m.Graph.Nodes[0].Attrs[0].F = 1 },
			"has a value of type 1"},
		{"attribute without graph", func(m *onnxio.Model) { m.Graph.Nodes[1].Attrs[0].G = nil },
			"the value is missing"},
		{"reference outside of functions", func(m *onnxio.Model) {
			m.Graph.Nodes[0].Attrs = []*onnxio.Attribute{{Name: "group", Type: onnxio.AttrInt, Ref: "g"}}
		}, "outside of any"},
		{"attribute tensor of wrong size", func(m *onnxio.Model) {
			m.Graph.Nodes[0].Attrs = append(m.Graph.Nodes[0].Attrs,
				onnxio.TensorAttr("t", &onnxio.Tensor{Type: onnxio.Float, Dims: []int64{2},
					Raw: make([]byte, 4)}))
		}, "holds 4 bytes"},

		{"function without name", func(m *onnxio.Model) { m.Functions[0].Name = "" },
			"function 0 has no name"},
		{"function twice", func(m *onnxio.Model) { m.Functions = append(m.Functions, m.Functions[0]) },
			"the function is there twice"},
		{"function output of nothing", func(m *onnxio.Model) { m.Functions[0].Outputs[0] = "ghost" },
			`output "ghost" is made by nothing`},
		{"function reads the model", func(m *onnxio.Model) {
			m.Functions[0].Nodes[0].Inputs[0] = "conv.bias"
		}, `function local.Twice: LeakyRelu making "b": reads "conv.bias"`},
		{"function refers to an unknown attribute", func(m *onnxio.Model) {
			m.Functions[0].Attrs[0] = "beta"
		}, `"alpha", which function local.Twice does not have`},
		{"call without attribute", func(m *onnxio.Model) { branch(m, "else_branch").Nodes[0].Attrs = nil },
			"attribute alpha of function local.Twice is missing"},
		{"call with another attribute", func(m *onnxio.Model) {
			branch(m, "else_branch").Nodes[0].Attrs[0].Name = "gamma"
		}, "has no attribute gamma"},
		{"call with too many inputs", func(m *onnxio.Model) {
			branch(m, "else_branch").Nodes[0].Inputs = []string{"x", "x"}
		}, "2 inputs where function local.Twice has 1"},
		{"function calls itself", func(m *onnxio.Model) {
			m.Functions[0].Opsets = append(m.Functions[0].Opsets, onnxio.Opset{Domain: "local", Version: 1})
			m.Functions[0].Nodes[0].OpType, m.Functions[0].Nodes[0].Domain = "Twice", "local"
		}, "may not be recursive"},
		{"function without its opset", func(m *onnxio.Model) { m.Functions[0].Opsets = nil },
			`domain "ai.onnx" is not among`},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := valid(t)
			c.spoil(m)
			expect(t, Model(m), c.want)
		})
	}
}

// expect looks for want in the problems, of which each must have a type.
func expect(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("nothing found, want %q", want)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("got\n%v\nwant %q", err, want)
	}
	for _, e := range problems(err) {
		var f *onnxio.FormatError
		var u *onnxio.UnsupportedError
		var l *onnxio.LimitError
		if !errors.As(e, &f) && !errors.As(e, &u) && !errors.As(e, &l) {
			t.Errorf("%T %v", e, e)
		}
	}
}

// TestAllAtOnce: every problem is reported, not only the first.
func TestAllAtOnce(t *testing.T) {
	m := valid(t)
	m.IRVersion = 99
	m.Graph.Nodes[2].Inputs[0] = "ghost"
	m.Graph.Outputs[0].Name = "phantom"
	m.Functions[0].Outputs[0] = "spectre"
	for _, want := range []string{"99", "ghost", "phantom", "spectre"} {
		expect(t, Model(m), want)
	}
	if first, second := Model(m), Model(m); first.Error() != second.Error() {
		t.Error("two verdicts")
	}
	for i := range 1000 {
		m.Graph.Nodes = append(m.Graph.Nodes, node("Relu", "ghost", fmt.Sprint("r", i)))
	}
	expect(t, Model(m), "the rest left out")
	if n := len(problems(Model(m))); n != maxProblems+1 {
		t.Errorf("%d problems listed", n)
	}
}

// TestFunctionBomb: n functions that each call the next twice are 2^n nodes.
func TestFunctionBomb(t *testing.T) {
	m := small(nil, &onnxio.Node{OpType: "F0", Domain: "f", Inputs: []string{"x"}, Outputs: []string{"y"}})
	m.Opsets = append(m.Opsets, onnxio.Opset{Domain: "f", Version: 1})
	const n = 60
	for i := range n {
		f := &onnxio.Function{Name: fmt.Sprint("F", i), Domain: "f", Inputs: []string{"a"},
			Outputs: []string{"c"},
			Opsets:  []onnxio.Opset{{Version: 17}, {Domain: "f", Version: 1}}}
		op, domain := fmt.Sprint("F", i+1), "f"
		if i == n-1 {
			op, domain = "Relu", ""
		}
		f.Nodes = []*onnxio.Node{{OpType: op, Domain: domain, Inputs: []string{"a"}, Outputs: []string{"b"}},
			{OpType: op, Domain: domain, Inputs: []string{"b"}, Outputs: []string{"c"}}}
		m.Functions = append(m.Functions, f)
	}
	expect(t, Model(m), "nodes after inlining")
	m.Functions[0].Nodes[0].OpType = "F20"
	m.Functions[n-1].Nodes[0] = &onnxio.Node{OpType: "F10", Domain: "f", Inputs: []string{"a"},
		Outputs: []string{"b"}}
	expect(t, Model(m), "may not be recursive")
}

// TestLongChain: a graph of many nodes in the worst order is answered at once and without deep recursion.
func TestLongChain(t *testing.T) {
	const n = 200000
	m := small(nil)
	for i := range n {
		m.Graph.Nodes = append(m.Graph.Nodes, &onnxio.Node{OpType: "Relu",
			Inputs: []string{fmt.Sprint("v", i+1)}, Outputs: []string{fmt.Sprint("v", i)}})
	}
	m.Graph.Outputs[0].Name = "v0"
	m.Graph.Nodes[n-1].Inputs[0] = "x"
	if err := Model(m); err != nil {
		t.Errorf("a chain in reverse order is no cycle: %v", err)
	}
	if w := Warnings(m); len(w) != maxProblems+1 ||
		!strings.Contains(w[0], `reads "v1" before it is made by Relu making "v1"`) {
		t.Errorf("%d warnings, the first %q", len(w), w[:min(1, len(w))])
	}
	m.Graph.Nodes[n-1].Inputs[0] = "v0"
	m.Graph.Nodes[0].Inputs[0] = "v1"
	expect(t, Model(m), "the graph has a cycle")
}

// TestOrder: nodes in another order are no fault, but are said.
func TestOrder(t *testing.T) {
	m := valid(t)
	m.Graph.Nodes[0], m.Graph.Nodes[2] = m.Graph.Nodes[2], m.Graph.Nodes[0]
	if err := Structure(m); err != nil {
		t.Error(err)
	}
	if w := Warnings(m); len(w) == 0 ||
		!strings.Contains(w[0], `reads "y" before it is made by If "choice"`) {
		t.Errorf("warnings %q", w)
	}
	if w := Warnings(valid(t)); len(w) > 0 {
		t.Errorf("a model in order has warnings %q", w)
	}
}

// TestForeign: Structure passes domains, operators and opsets that are not known here, and
// Supported names the nodes.
func TestForeign(t *testing.T) {
	m := small(nil, &onnxio.Node{Name: "g", OpType: "Gelu", Domain: "com.example", Inputs: []string{"x"},
		Outputs: []string{"a"}},
		&onnxio.Node{Name: "z", OpType: "Zog", Inputs: []string{"a"}, Outputs: []string{"b"}},
		&onnxio.Node{Name: "r", OpType: "Relu", Inputs: []string{"b"}, Outputs: []string{"y"}})
	expect(t, Structure(m), `domain "com.example" is not among`)
	m.Opsets = []onnxio.Opset{{Version: 999}, {Domain: "com.example", Version: 1}}
	if err := Structure(m); err != nil {
		t.Error(err)
	}
	for _, want := range []string{`domain "com.example" is not known`, "opset 999", "Zog"} {
		expect(t, Model(m), want)
	}
	got := problems(Supported(m))
	if len(got) != 2 || !strings.Contains(got[0].Error(), `com.example.Gelu (opset 1) "g"`) ||
		!strings.Contains(got[1].Error(), `Zog (opset 999) "z"`) {
		t.Errorf("not supported: %v", got)
	}
	if err := Supported(valid(t)); err != nil && !strings.Contains(err.Error(), "If") {
		t.Error(err)
	}
	m.Opsets = append(m.Opsets, onnxio.Opset{Domain: "cnnkit.grad", Version: 1})
	m.Graph.Nodes[0] = &onnxio.Node{Name: "g", OpType: "ReluGrad", Domain: "cnnkit.grad",
		Inputs: []string{"x", "x"}, Outputs: []string{"a"}}
	if err := Supported(m); err == nil || !strings.Contains(err.Error(), "ReluGrad") {
		t.Errorf("the compiler's own domain passes: %v", err)
	}
}

// TestSparse holds COO tensors with indices that are none.
func TestSparse(t *testing.T) {
	sparse := func(indices *onnxio.Tensor, dims ...int64) *onnxio.SparseTensor {
		return &onnxio.SparseTensor{Values: named("s", onnxio.Floats([]float32{1, 2})), Indices: indices,
			Dims: dims}
	}
	pairs := func(v ...int64) *onnxio.Tensor { return onnxio.Int64s(v, 2, 2) }
	for _, c := range []struct {
		name string
		s    *onnxio.SparseTensor
		want string
	}{
		{"flat", sparse(onnxio.Int64s([]int64{1, 5}), 2, 3), ""},
		{"pairs", sparse(pairs(0, 1, 1, 2), 2, 3), ""},
		{"outside", sparse(onnxio.Int64s([]int64{1, 6}), 2, 3), "outside"},
		{"negative", sparse(onnxio.Int64s([]int64{-1, 5}), 2, 3), "outside"},
		{"descending", sparse(onnxio.Int64s([]int64{5, 1}), 2, 3), "ascending"},
		{"twice", sparse(onnxio.Int64s([]int64{1, 1}), 2, 3), "ascending"},
		{"pair outside", sparse(pairs(0, 1, 1, 3), 2, 3), "outside"},
		{"pair negative", sparse(pairs(0, 1, 1, -1), 2, 3), "outside"},
		{"count", sparse(onnxio.Int64s([]int64{1}), 2, 3), "indices have shape"},
		{"scalar indices", sparse(onnxio.Scalar(onnxio.Int64, int64(1)), 2, 3), "indices have shape"},
		{"float indices", sparse(onnxio.Floats([]float32{1, 5}), 2, 3), "indices are float32"},
		{"no dims", sparse(onnxio.Int64s([]int64{1, 5})), "dims"},
		{"negative dims", sparse(onnxio.Int64s([]int64{1, 5}), -2, 3), "dims"},
		{"no indices", sparse(nil, 2, 3), "missing"},
		{"bomb", sparse(onnxio.Int64s([]int64{1, 5}), 1<<30, 1<<10), "exceeds the limit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := valid(t)
			m.Graph.SparseInitializers = []*onnxio.SparseTensor{c.s}
			if c.want == "" {
				if r := remarks(Model(m)); len(r) > 0 {
					t.Error(r)
				}
				return
			}
			expect(t, Model(m), c.want)
		})
	}
}
