package infer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Result is what is known of each value of a graph: inputs, initializers and the outputs of nodes, by name.
type Result struct {
	values map[string]*ops.Value
	// Warnings say which shapes value_info and the graph's outputs declare otherwise than they follow from
	// the nodes. A run gives the latter.
	Warnings []string
}

// ValueInfo describes a value; its type says Undefined where nothing is known. It is never nil.
func (r *Result) ValueInfo(name string) *onnxio.ValueInfo {
	v := r.values[name]
	if v == nil {
		return &onnxio.ValueInfo{Name: name, Type: &onnxio.Type{}}
	}
	if v.Kind != nil { // a sequence or an optional
		return &onnxio.ValueInfo{Name: name, Type: v.Kind}
	}
	return &onnxio.ValueInfo{Name: name, Type: &onnxio.Type{Elem: v.Type, Shape: v.Shape,
		HasShape: v.HasShape}}
}

// Constant is a value that is the same in every run, as initializers are, and vectors of integers that follow
// from known shapes. It is nil for all others, and is not to be written to.
func (r *Result) Constant(name string) *onnxio.Tensor {
	v := r.values[name]
	switch {
	case v == nil:
		return nil
	case v.Const != nil:
		return v.Const
	case v.Elems == nil || v.Type != onnxio.Int64:
		return nil
	}
	return elements(v)
}

// elements is a small vector of dimensions, where all are numbers.
func elements(v *ops.Value) *onnxio.Tensor {
	dims, ok := v.Dims()
	if !ok || len(dims) > 1 || slices.ContainsFunc(v.Elems, func(d onnxio.Dim) bool { return !d.Known() }) {
		return nil
	}
	t := onnxio.NewTensor(onnxio.Int64, dims...)
	if t.Size() != int64(len(v.Elems)) {
		return nil
	}
	for i, d := range v.Elems {
		onnxio.Data[int64](t)[i] = d.Value
	}
	return t
}

// Shapes infers every value of the main graph. The model is not changed. Calls of the model's own functions
// and operators that are not known here are taken for what value_info says of their outputs, or are unknown.
// Nodes may stand in any order. A declared shape that does not hold is a warning, a declared element type
// that does not an error.
func Shapes(m *onnxio.Model) (*Result, error) {
	if m == nil || m.Graph == nil {
		return nil, &onnxio.FormatError{Format: "onnx", Msg: "the model has no graph"}
	}
	if err := whole(m); err != nil {
		return nil, err
	}
	m, err := m.Canonical()
	if err != nil {
		return nil, err
	}
	w := walk{model: m, graph: m.Graph}
	if err := w.run(nil); err != nil {
		return nil, err
	}
	if err := w.declarations(); err != nil {
		return nil, err
	}
	return &Result{values: w.values, Warnings: w.warnings}, nil
}

// whole refuses a model with holes, which no file gives but a program may.
func whole(m *onnxio.Model) error {
	for i, f := range m.Functions {
		if f == nil {
			return &onnxio.FormatError{Format: "onnx", Where: m.Graph.Name,
				Msg: fmt.Sprintf("function %d of the graph is nil", i)}
		}
	}
	return wholeGraph(m.Graph)
}

func wholeGraph(g *onnxio.Graph) error {
	for _, list := range []struct {
		what string
		n    int
		hole func(int) bool
	}{
		{"input", len(g.Inputs), func(i int) bool { return g.Inputs[i] == nil }},
		{"output", len(g.Outputs), func(i int) bool { return g.Outputs[i] == nil }},
		{"value", len(g.Values), func(i int) bool { return g.Values[i] == nil }},
		{"initializer", len(g.Initializers), func(i int) bool { return g.Initializers[i] == nil }},
		{"sparse initializer", len(g.SparseInitializers), func(i int) bool {
			return g.SparseInitializers[i] == nil
		}},
		{"node", len(g.Nodes), func(i int) bool { return g.Nodes[i] == nil || hasNil(g.Nodes[i].Attrs) }},
	} {
		for i := range list.n {
			if list.hole(i) {
				hole := "nil"
				if list.what == "node" && g.Nodes[i] != nil {
					hole = fmt.Sprintf("%s %q with a nil attribute", g.Nodes[i].OpType, g.Nodes[i].Name)
				}
				return &onnxio.FormatError{Format: "onnx", Where: g.Name,
					Msg: fmt.Sprintf("%s %d of the graph is %s", list.what, i, hole)}
			}
		}
	}
	return nil
}

func hasNil(attrs []*onnxio.Attribute) bool {
	for _, a := range attrs {
		if a == nil {
			return true
		}
	}
	return false
}

// Annotate puts what Shapes finds into the graph's value_info, for readers that do not infer. What is
// declared and remains unknown is kept.
func Annotate(m *onnxio.Model) error {
	r, err := Shapes(m)
	if err != nil {
		return err
	}
	skip := map[string]bool{}
	for _, v := range m.Graph.Outputs {
		skip[v.Name] = true
	}
	declared := map[string]*onnxio.ValueInfo{}
	for _, v := range m.Graph.Values {
		declared[v.Name] = v
	}
	var values []*onnxio.ValueInfo
	for _, n := range m.Graph.Nodes {
		for _, name := range n.Outputs {
			if name == "" || skip[name] {
				continue
			}
			skip[name] = true
			info := r.ValueInfo(name)
			old := declared[name]
			switch {
			case info.Type.Elem == onnxio.Undefined && old == nil:
				continue
			case info.Type.Elem == onnxio.Undefined:
				info = old
			case old != nil:
				info.Doc, info.Metadata, info.Unknown = old.Doc, old.Metadata, old.Unknown
			}
			values = append(values, info)
		}
	}
	m.Graph.Values = values
	return nil
}

// walk infers one graph; outer is the walk over the graph around it.
type walk struct {
	model    *onnxio.Model
	graph    *onnxio.Graph
	outer    *walk
	depth    int
	values   map[string]*ops.Value
	declared map[string]*onnxio.ValueInfo
	warnings []string
}

// run infers the graph's values; formal stands for its inputs where the node that holds it gives them.
func (w *walk) run(formal []*ops.Value) error {
	w.values, w.declared = map[string]*ops.Value{}, map[string]*onnxio.ValueInfo{}
	g := w.graph
	for _, list := range [][]*onnxio.ValueInfo{g.Values, g.Outputs} {
		for _, v := range list {
			w.declared[v.Name] = v
		}
	}
	for i, in := range g.Inputs {
		if w.values[in.Name] = valueOf(in); i < len(formal) {
			w.values[in.Name] = formal[i]
		}
	}
	for _, t := range g.Initializers {
		w.values[t.Name] = &ops.Value{Type: t.Type, Shape: numbers(t.Dims), HasShape: true, Const: t}
	}
	for _, s := range g.SparseInitializers {
		if s.Values != nil {
			w.values[s.Values.Name] = &ops.Value{Type: s.Values.Type, Shape: numbers(s.Dims), HasShape: true}
		}
	}
	for _, n := range g.Nodes {
		if err := w.node(n); err != nil {
			return err
		}
	}
	return nil
}

// look finds a value here or in a graph around; nil when there is none.
func (w *walk) look(name string) *ops.Value {
	for ; w != nil; w = w.outer {
		if v := w.values[name]; v != nil {
			return v
		}
	}
	return nil
}

func (w *walk) node(n *onnxio.Node) error {
	if w.call(n) {
		w.believe(n)
		return nil
	}
	b, err := ops.Bind(n, w.model.Opset(n.Domain))
	if err != nil { // foreign
		w.believe(n)
		return nil
	}
	in := make([]*ops.Value, len(n.Inputs))
	for i, name := range n.Inputs {
		if name == "" {
			continue
		}
		if in[i] = w.look(name); in[i] == nil {
			return &onnxio.FormatError{Format: "onnx", Where: b.String(),
				Msg: fmt.Sprintf("reads %q, which nothing before it makes", name)}
		}
		if in[i].Type == onnxio.Undefined && in[i].Kind == nil { // behind a foreign operator
			w.believe(n)
			return nil
		}
	}
	out, err := ops.InferNode(b, in)
	var unsupported *onnxio.UnsupportedError
	if errors.As(err, &unsupported) {
		w.believe(n)
		return nil
	}
	if err != nil {
		return named(b, err)
	}
	w.branches(b, in, out)
	for i, name := range n.Outputs {
		if name != "" && i < len(out) && out[i] != nil {
			w.values[name] = out[i]
		}
	}
	return nil
}

// named makes sure that an error says which node it is about.
func named(n *ops.Node, err error) error {
	if strings.Contains(err.Error(), n.String()) {
		return err
	}
	return fmt.Errorf("%s: %w", n, err)
}

// call says that a node calls one of the model's functions.
func (w *walk) call(n *onnxio.Node) bool {
	for _, f := range w.model.Functions {
		if f.Name == n.OpType && f.Domain == n.Domain && f.Overload == n.Overload {
			return true
		}
	}
	return false
}

// believe takes a node's outputs for what is declared of them.
func (w *walk) believe(n *onnxio.Node) {
	for _, name := range n.Outputs {
		if name != "" {
			w.values[name] = valueOf(w.declared[name])
		}
	}
}

// declarations compares what value_info and the outputs declare with what is inferred: numbers against
// numbers; a symbol may stand for anything.
func (w *walk) declarations() error {
	for _, want := range w.model.Graph.Outputs {
		if w.values[want.Name] == nil {
			return &onnxio.FormatError{Format: "onnx", Where: want.Name,
				Msg: "this output of the graph is made by no node"}
		}
	}
	for _, list := range []struct {
		what   string
		values []*onnxio.ValueInfo
	}{{"output", w.model.Graph.Outputs}, {"value", w.model.Graph.Values}} {
		for _, want := range list.values {
			if err := w.compare(list.what, want, w.values[want.Name]); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare warns of another shape, and refuses another type.
func (w *walk) compare(what string, want *onnxio.ValueInfo, got *ops.Value) error {
	if got == nil || want.Type == nil || want.Type.Kind != onnxio.TensorType || got.Type == onnxio.Undefined {
		return nil
	}
	differs := func() string {
		return fmt.Sprintf("%s %q is declared %s %s, but is %s %s", what, want.Name, want.Type.Elem,
			shapeText(want.Type.Shape, want.Type.HasShape), got.Type, shapeText(got.Shape, got.HasShape))
	}
	if want.Type.Elem != onnxio.Undefined && want.Type.Elem != got.Type {
		return &onnxio.FormatError{Format: "onnx", Where: w.maker(want.Name), Msg: differs()}
	}
	if !want.Type.HasShape || !got.HasShape {
		return nil
	}
	bad := len(want.Type.Shape) != len(got.Shape)
	for i := 0; !bad && i < len(got.Shape); i++ {
		a, b := want.Type.Shape[i], got.Shape[i]
		bad = a.Known() && b.Known() && a.Value != b.Value
	}
	if bad {
		w.warnings = append(w.warnings, w.maker(want.Name)+": "+differs())
	}
	return nil
}

// maker names the node that makes a value.
func (w *walk) maker(name string) string {
	for _, n := range w.model.Graph.Nodes {
		for _, o := range n.Outputs {
			if o == name {
				return fmt.Sprintf("%s %q", n.OpType, n.Name)
			}
		}
	}
	return name
}

func valueOf(v *onnxio.ValueInfo) *ops.Value {
	switch {
	case v == nil || v.Type == nil:
		return &ops.Value{}
	case v.Type.Kind != onnxio.TensorType:
		return &ops.Value{Kind: v.Type}
	}
	return &ops.Value{Type: v.Type.Elem, Shape: v.Type.Shape, HasShape: v.Type.HasShape}
}

func numbers(dims []int64) []onnxio.Dim {
	out := make([]onnxio.Dim, len(dims))
	for i, d := range dims {
		out[i].Value = d
	}
	return out
}

func shapeText(shape []onnxio.Dim, has bool) string {
	if !has {
		return "of unknown rank"
	}
	parts := make([]string, len(shape))
	for i, d := range shape {
		switch {
		case d.Param != "":
			parts[i] = d.Param
		case d.Value < 0:
			parts[i] = "?"
		default:
			parts[i] = fmt.Sprint(d.Value)
		}
	}
	return "[" + strings.Join(parts, ",") + "]"
}
