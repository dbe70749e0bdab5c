package engine

import (
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
)

// maxInlined bounds the nodes that inlining may make.
const maxInlined = 1 << 20

// placed is a node with the operator sets that it is written in: the model's, or those of
// the function it comes from.
type placed struct {
	*onnxio.Node
	in     *inliner
	opsets []onnxio.Opset
}

// opset is the version of a domain where the node stands.
func (n placed) opset(domain string) int64 {
	if domain == "ai.onnx" {
		domain = ""
	}
	for _, o := range n.opsets {
		if o.Domain == domain || domain == "" && o.Domain == "ai.onnx" {
			return o.Version
		}
	}
	return n.in.model.Opset(domain)
}

// inside gives the nodes of a subgraph of n.
func (n placed) inside(g *onnxio.Graph) ([]placed, error) {
	return n.in.expand(g.Nodes, n.opsets)
}

// inlined gives the graph's nodes with calls of the model's functions replaced by their
// bodies, nested calls included.
func inlined(m *onnxio.Model) ([]placed, error) {
	in := &inliner{model: m, functions: map[[3]string]*onnxio.Function{}}
	for _, f := range m.Functions {
		in.functions[[3]string{f.Domain, f.Name, f.Overload}] = f
	}
	return in.expand(m.Graph.Nodes, m.Opsets)
}

type inliner struct {
	model     *onnxio.Model
	functions map[[3]string]*onnxio.Function
	calls     int // so far, for names
	nodes     int
}

// expand gives nodes with calls replaced.
func (in *inliner) expand(nodes []*onnxio.Node, opsets []onnxio.Opset) (out []placed, err error) {
	err = in.append(&out, nodes, opsets, 0)
	return out, err
}

func (in *inliner) append(out *[]placed, nodes []*onnxio.Node, opsets []onnxio.Opset, depth int) error {
	for _, n := range nodes {
		f := in.functions[[3]string{n.Domain, n.OpType, n.Overload}]
		if f == nil {
			*out = append(*out, placed{n, in, opsets})
			if in.nodes++; in.nodes > maxInlined {
				return &onnxio.LimitError{What: "nodes after inlining functions", Got: int64(in.nodes),
					Limit: maxInlined}
			}
			continue
		}
		if depth > 100 {
			return &onnxio.FormatError{Format: "onnx", Where: n.Name,
				Msg: fmt.Sprintf("function %q calls itself", f.Name)}
		}
		in.calls++
		if err := in.append(out, newCall(f, n, in.calls).nodes(f.Nodes), f.Opsets, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// call is one application of a function.
type call struct {
	f      *onnxio.Function
	node   *onnxio.Node
	number int
	names  map[string]string // in the function to in the graph
}

func newCall(f *onnxio.Function, node *onnxio.Node, number int) *call {
	c := &call{f, node, number, map[string]string{"": ""}}
	for i, formal := range f.Inputs {
		c.names[formal] = ""
		if i < len(node.Inputs) {
			c.names[formal] = node.Inputs[i]
		}
	}
	for i, formal := range f.Outputs {
		if i < len(node.Outputs) && node.Outputs[i] != "" {
			c.names[formal] = node.Outputs[i]
		}
	}
	return c
}

// nodes are the function's nodes with formal names replaced by actual ones, inner names made unique and
// attribute references resolved, in subgraphs too.
func (c *call) nodes(nodes []*onnxio.Node) []*onnxio.Node {
	var out []*onnxio.Node
	for _, n := range nodes {
		own := *n
		own.Name = c.node.Name + "/" + n.Name
		own.Inputs, own.Outputs, own.Attrs = c.renamed(n.Inputs), c.renamed(n.Outputs), nil
		for _, a := range n.Attrs {
			if a = c.attribute(a); a != nil {
				own.Attrs = append(own.Attrs, a)
			}
		}
		out = append(out, &own)
	}
	return out
}

func (c *call) rename(name string) string {
	if _, ok := c.names[name]; !ok {
		c.names[name] = fmt.Sprintf("%s/%s#%d", c.node.OpType, name, c.number)
	}
	return c.names[name]
}

func (c *call) renamed(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = c.rename(s)
	}
	return out
}

// attribute resolves an attribute of a node in the function: nil where it refers to one that is absent.
func (c *call) attribute(a *onnxio.Attribute) *onnxio.Attribute {
	if a.Ref == "" {
		if a.G == nil {
			return a
		}
		own := *a
		own.G = c.graph(a.G)
		return &own
	}
	actual := c.node.Attr(a.Ref)
	for _, def := range c.f.AttrProtos {
		if actual == nil && def.Name == a.Ref {
			actual = def
		}
	}
	if actual == nil {
		return nil
	}
	own := *actual
	own.Name = a.Name
	return &own
}

// graph is a subgraph with its names replaced.
func (c *call) graph(g *onnxio.Graph) *onnxio.Graph {
	own := *g
	values := func(list []*onnxio.ValueInfo) []*onnxio.ValueInfo {
		out := make([]*onnxio.ValueInfo, len(list))
		for i, v := range list {
			info := *v
			info.Name = c.rename(v.Name)
			out[i] = &info
		}
		return out
	}
	own.Inputs, own.Outputs, own.Values = values(g.Inputs), values(g.Outputs), nil
	own.Initializers = make([]*onnxio.Tensor, len(g.Initializers))
	for i, t := range g.Initializers {
		init := *t
		init.Name = c.rename(t.Name)
		own.Initializers[i] = &init
	}
	own.Nodes = c.nodes(g.Nodes)
	return &own
}
