package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// runningNames lists the float32 initializers that a BatchNormalization in training mode moves, sorted. In
// inference mode its statistics are constants.
func runningNames(m *onnxio.Model) []string {
	floats := map[string]bool{}
	for _, t := range m.Graph.Initializers {
		floats[t.Name] = t.Type == onnxio.Float && len(t.Dims) > 0
	}
	views, running := viewsOf(m.Graph.Nodes, floats), map[string]bool{}
	for _, n := range m.Graph.Nodes {
		d := ops.Lookup(n.Domain, n.OpType)
		if d == nil || n.Int("training_mode", 0) == 0 {
			continue
		}
		for _, i := range d.Running {
			if i < len(n.Inputs) && views[n.Inputs[i]] != "" {
				running[views[n.Inputs[i]]] = true
			}
		}
	}
	return sortedKeys(running)
}

// viewsOf says which initializer a name stands for: itself, or one behind operators that only give its
// numbers another form, as exporters put them between a weight and its reader.
func viewsOf(nodes []*onnxio.Node, initializers map[string]bool) map[string]string {
	views := map[string]string{}
	for name, ok := range initializers {
		if ok {
			views[name] = name
		}
	}
	for _, n := range nodes {
		if d := ops.Lookup(n.Domain, n.OpType); d == nil || !d.Rearranges || len(n.Inputs) == 0 ||
			len(n.Outputs) == 0 {
			continue
		}
		if from := views[n.Inputs[0]]; from != "" {
			views[n.Outputs[0]] = from
		}
	}
	return views
}

// withUnbiasedVariance marks the training BatchNormalizations so that running variances move as PyTorch's
// do. m itself is not changed.
func withUnbiasedVariance(m *onnxio.Model) *onnxio.Model {
	out, g := *m, *m.Graph
	out.Graph = &g
	g.Nodes = slices.Clone(g.Nodes)
	for i, n := range g.Nodes {
		if d := ops.Lookup(n.Domain, n.OpType); d != nil && d.Running != nil &&
			n.Int("training_mode", 0) != 0 {
			c := *n
			c.Attrs = append(slices.Clone(n.Attrs), onnxio.IntAttr(unbiasedAttr, 1))
			g.Nodes[i] = &c
		}
	}
	return &out
}

// updateNode stands for the optimiser in a plan's description.
var updateNode = &ops.Node{Node: &onnxio.Node{OpType: "Update", Domain: layoutDomain, Name: "update"}}
