package check

import (
	"strings"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Supported says whether the native engine has the operator of every node, those in subgraphs and in the
// functions that the model calls included: an *onnxio.UnsupportedError for each node that it has none for,
// joined by errors.Join. It takes a model that Structure has passed.
func Supported(m *onnxio.Model) error {
	r := &report{}
	c := &checker{report: r, m: m, functions: map[functionKey]*onnxio.Function{}}
	for _, f := range m.Functions {
		c.functions[keyOf(f)] = f
	}
	type list struct {
		nodes  []*onnxio.Node
		opset  func(domain string) int64
		nested int
	}
	visited := map[*onnxio.Function]bool{}
	for todo := []list{{m.Graph.Nodes, m.Opset, 0}}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, n := range at.nodes {
			if f := c.called(n); f != nil {
				if !visited[f] {
					visited[f] = true
					inner := onnxio.Model{Opsets: f.Opsets}
					todo = append(todo, list{f.Nodes, inner.Opset, 0})
				}
				continue
			}
			c.add(supported(n, at.opset(n.Domain)))
			for _, g := range subgraphs(n) {
				if at.nested < maxGraphs {
					todo = append(todo, list{g.Nodes, at.opset, at.nested + 1})
				}
			}
		}
	}
	return r.err()
}

func supported(n *onnxio.Node, opset int64) error {
	if domain := onnxio.CanonicalDomain(n.Domain); strings.HasPrefix(domain, "cnnkit.") {
		return &onnxio.UnsupportedError{Op: domain + "." + n.OpType, Opset: opset, Node: n.Name,
			Reason: "the domain is the compiler's own and cannot stand in a model"}
	}
	_, err := ops.Bind(n, opset)
	return err
}
