package builders

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Model finishes the network: out becomes the graph's output "output". The model has its own weights, so that
// the builder may grow further.
func (b *Builder) Model(out Value) (*onnxio.Model, error) {
	m, err := b.finish(out)
	if err != nil {
		return nil, err
	}
	for i, t := range m.Graph.Initializers {
		m.Graph.Initializers[i] = t.Clone()
	}
	return m, nil
}

// finish is Model with the builder's own weights.
func (b *Builder) finish(out Value) (*onnxio.Model, error) {
	r := b.root
	if r.err != nil {
		return nil, r.err
	}
	if len(r.graph.Nodes) == 0 {
		return nil, fmt.Errorf("%s: the network has no layers", r.graph.Name)
	}
	own := *r.graph // the builder's stays as it is
	g := &own
	g.Values, g.Nodes, g.Outputs = nil, nil, nil
	g.Inputs, g.Initializers = slices.Clone(r.graph.Inputs), slices.Clone(r.graph.Initializers)
	to := map[string]string{}
	for _, o := range append([]namedValue{{r.main, out}}, r.further...) {
		if to[o.Value.Name] != "" {
			return nil, fmt.Errorf("%s: %q is the output %q already", r.graph.Name, o.Value.Name,
				to[o.Value.Name])
		}
		to[o.Value.Name] = o.name
		o.Value.Name = o.name
		g.Outputs = append(g.Outputs, r.info(o.Value))
	}
	made := 0
	for _, v := range r.graph.Values {
		if to[v.Name] != "" {
			made++
		} else {
			g.Values = append(g.Values, v)
		}
	}
	if made < len(to) {
		return nil, fmt.Errorf("%s: no layer gives %q, which is to be the output", r.graph.Name,
			r.notMade(to))
	}
	for _, n := range r.graph.Nodes {
		c := *n
		c.Inputs, c.Outputs = renamed(n.Inputs, to), renamed(n.Outputs, to)
		g.Nodes = append(g.Nodes, &c)
	}
	return &onnxio.Model{
		IRVersion: onnxio.IRVersionFor(r.opset), Opsets: []onnxio.Opset{{Version: r.opset}},
		ProducerName: "cnnkit", Graph: g,
	}, nil
}

// notMade is the first of the values that no layer gives.
func (b *Builder) notMade(values map[string]string) string {
	made := map[string]bool{}
	for _, v := range b.graph.Values {
		made[v.Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !made[name] {
			return name
		}
	}
	return ""
}

func renamed(names []string, to map[string]string) []string {
	out := slices.Clone(names)
	for i, n := range out {
		if t, ok := to[n]; ok {
			out[i] = t
		}
	}
	return out
}
