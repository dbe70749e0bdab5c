package rewrite

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/infer"
)

// Extract is the part of a model that computes outputs from inputs, both names of values. No
// names keep the model's own.
func Extract(m *onnxio.Model, inputs, outputs []string) (*onnxio.Model, error) {
	m, err := canonical(m)
	if err != nil {
		return nil, err
	}
	known, err := infer.Shapes(m)
	if err != nil {
		return nil, err
	}
	out := copied(m)
	g := out.Graph
	if len(inputs) == 0 {
		for _, v := range g.Inputs {
			inputs = append(inputs, v.Name)
		}
	}
	if len(outputs) == 0 {
		for _, v := range g.Outputs {
			outputs = append(outputs, v.Name)
		}
	}
	if err := named(m, slices.Concat(inputs, outputs)); err != nil {
		return nil, err
	}
	describe := func(names []string) []*onnxio.ValueInfo {
		var list []*onnxio.ValueInfo
		for _, name := range names {
			list = append(list, known.ValueInfo(name))
		}
		return list
	}
	own := g.Inputs
	g.Inputs, g.Outputs = describe(inputs), describe(outputs)
	given := map[string]bool{}
	for _, name := range inputs {
		given[name] = true
	}
	g.Nodes = slices.DeleteFunc(g.Nodes, func(n *onnxio.Node) bool {
		return slices.ContainsFunc(n.Outputs, func(o string) bool { return given[o] })
	})
	s := &simplifier{m: out}
	if err := s.prune(); err != nil {
		return nil, err
	}
	reads := s.reads()
	made := map[string]bool{}
	for _, n := range g.Nodes {
		for _, o := range n.Outputs {
			made[o] = true
		}
	}
	var lacking []string
	for _, v := range own {
		if reads[v.Name] > 0 && !given[v.Name] && g.Initializer(v.Name) == nil {
			lacking = append(lacking, fmt.Sprintf("%q", v.Name))
		}
	}
	for _, name := range outputs {
		if !made[name] && !given[name] && g.Initializer(name) == nil {
			lacking = append(lacking, fmt.Sprintf("%q", name))
		}
	}
	if lacking != nil {
		return nil, fmt.Errorf("the outputs also need %s: name them as inputs", strings.Join(lacking, ", "))
	}
	return out, nil
}

// named says which names are no values of the graph, all of them.
func named(m *onnxio.Model, names []string) error {
	var known []string
	for _, v := range m.Graph.Inputs {
		known = append(known, v.Name)
	}
	for _, t := range m.Graph.Initializers {
		known = append(known, t.Name)
	}
	for _, n := range m.Graph.Nodes {
		known = append(known, n.Outputs...)
	}
	var bad []string
	for _, name := range names {
		if !slices.Contains(known, name) {
			bad = append(bad, fmt.Sprintf("%q%s", name, nearest(name, known)))
		}
	}
	if bad != nil {
		return fmt.Errorf("the graph has no value %s", strings.Join(bad, ", "))
	}
	return nil
}

// Rename gives values other names: inputs, outputs, initializers and what lies between.
func Rename(m *onnxio.Model, to map[string]string) (*onnxio.Model, error) {
	m, err := canonical(m)
	if err != nil {
		return nil, err
	}
	out := copied(m)
	var names []string
	for was, is := range to {
		names = append(names, was)
		if named(m, []string{is}) == nil && to[is] == "" || is == "" {
			return nil, fmt.Errorf("%q cannot become %q: the graph has a value of that name, or it is none",
				was, is)
		}
	}
	slices.Sort(names)
	if err := named(m, names); err != nil {
		return nil, err
	}
	rename := func(name string) string {
		if is, ok := to[name]; ok {
			return is
		}
		return name
	}
	g := out.Graph
	for i, t := range g.Initializers {
		own := *t
		own.Name, g.Initializers[i] = rename(t.Name), &own
	}
	for _, list := range []*[]*onnxio.ValueInfo{&g.Inputs, &g.Outputs, &g.Values} {
		*list = slices.Clone(*list)
		for i, v := range *list {
			own := *v
			own.Name, (*list)[i] = rename(v.Name), &own
		}
	}
	for _, n := range g.Nodes {
		if len(bodies(n)) > 0 {
			return nil, &onnxio.UnsupportedError{Op: n.OpType, Node: n.Name,
				Reason: "its body may read the values that are renamed"}
		}
		for i, in := range n.Inputs {
			n.Inputs[i] = rename(in)
		}
		for i, o := range n.Outputs {
			n.Outputs[i] = rename(o)
		}
	}
	return out, nil
}

// Strip leaves out what no run needs: documentation, metadata, and the descriptions of values between nodes.
func Strip(m *onnxio.Model) *onnxio.Model {
	if m.Graph == nil {
		return m
	}
	out := copied(m)
	out.Doc, out.Metadata = "", nil
	g := out.Graph
	g.Doc, g.Values, g.Metadata = "", nil, nil
	for _, n := range g.Nodes {
		n.Doc, n.Metadata = "", nil
	}
	for _, list := range [][]*onnxio.ValueInfo{g.Inputs, g.Outputs} {
		for i, v := range list {
			own := *v
			own.Doc, own.Metadata, list[i] = "", nil, &own
		}
	}
	return out
}
