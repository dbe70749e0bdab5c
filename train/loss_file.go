package train

import (
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
)

// lossDomain is the domain of the function that a loss from a file becomes.
const lossDomain = "cnnkit.loss"

// lossFile is the loss of an ONNX file, whose graph takes two inputs, the model's output and the target, and
// gives one number. A target of int64 holds class numbers, one of float32 has the output's shape. The graph
// joins the training graph as a function, with its own operator sets.
func lossFile(path string) (Loss, error) {
	m, err := onnxio.Load(path)
	if err != nil {
		return Loss{}, fmt.Errorf("loss %s: %w", path, err)
	}
	if err := check.Model(m); err != nil {
		return Loss{}, fmt.Errorf("loss %s: %w", path, err)
	}
	bad := func(format string, args ...any) (Loss, error) {
		return Loss{}, fmt.Errorf("loss %s: %s", path, fmt.Sprintf(format, args...))
	}
	g := m.Graph
	var in []*onnxio.ValueInfo
	for _, v := range g.Inputs {
		if g.Initializer(v.Name) == nil {
			in = append(in, v)
		}
	}
	if len(in) != 2 || len(g.Outputs) != 1 {
		return bad("the graph has %d inputs and %d outputs: it wants two, the model's output and the target, and one, the loss", len(in), len(g.Outputs))
	}
	loss := Loss{Entry: Entry{Name: path, Doc: "a graph from a file"}, Targets: Numbers}
	switch elem := in[1].Type.Elem; {
	case in[0].Type.Elem != onnxio.Float:
		return bad("input %q is %v: the first input is the model's output, float32", in[0].Name,
			in[0].Type.Elem)
	case elem == onnxio.Int64:
		loss.Targets = Labels
	case elem != onnxio.Float:
		return bad("input %q is %v: the second input is the target, int64 class numbers or float32",
			in[1].Name, elem)
	}
	if !reads(g, in[0].Name) {
		return bad("no node reads the first input, %q, the model's output: exporters merge inputs that are one tensor", in[0].Name)
	}
	if t := g.Outputs[0].Type; t == nil || t.Elem != onnxio.Float || t.HasShape && len(t.Shape) > 0 {
		return bad("output %q is not one float32 number", g.Outputs[0].Name)
	}
	loss.Emit = func(l *LossGraph) (string, error) { return l.call(m, in[0].Name, in[1].Name) }
	return loss, nil
}

// reads reports whether a node of the graph, or of one within it, reads a value.
func reads(g *onnxio.Graph, name string) bool {
	return slices.ContainsFunc(g.Nodes, func(n *onnxio.Node) bool {
		return slices.Contains(n.Inputs, name) || slices.ContainsFunc(n.Attrs, func(a *onnxio.Attribute) bool {
			return a.G != nil && reads(a.G, name) ||
				slices.ContainsFunc(a.Graphs, func(g *onnxio.Graph) bool { return reads(g, name) })
		})
	})
}

// call appends a call of m's graph as a function, which is declared once.
func (l *LossGraph) call(m *onnxio.Model, y, target string) (string, error) {
	if l.model.Opset(lossDomain) == 0 {
		l.declare(m, y, target)
	}
	name := l.prefix + "call"
	l.graph.Nodes = append(l.graph.Nodes, &onnxio.Node{Name: name, OpType: lossFunction, Domain: lossDomain,
		Inputs: []string{l.Y, l.Target}, Outputs: []string{name}})
	return name, nil
}

// lossFunction names the function.
const lossFunction = "Loss"

// declare makes m's graph a function.
func (l *LossGraph) declare(m *onnxio.Model, y, target string) {
	g := m.Graph
	f := &onnxio.Function{Name: lossFunction, Domain: lossDomain, Inputs: []string{y, target},
		Outputs: []string{g.Outputs[0].Name}, Opsets: m.Opsets}
	for _, t := range g.Initializers {
		f.Nodes = append(f.Nodes, &onnxio.Node{OpType: "Constant", Name: t.Name, Outputs: []string{t.Name},
			Attrs: []*onnxio.Attribute{onnxio.TensorAttr("value", t)}})
	}
	f.Nodes = append(f.Nodes, g.Nodes...)
	l.model.Functions = append(slices.Clone(l.model.Functions), m.Functions...)
	l.model.Functions = append(l.model.Functions, f)
	l.model.Opsets = slices.Clone(l.model.Opsets)
	for _, set := range append([]onnxio.Opset{{Domain: lossDomain, Version: 1}}, m.Opsets...) {
		if l.model.Opset(set.Domain) == 0 {
			l.model.Opsets = append(l.model.Opsets, set)
		}
	}
	l.model.IRVersion = max(l.model.IRVersion, 8) // the first with functions
}
