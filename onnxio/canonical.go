package onnxio

import "fmt"

// maxNesting bounds the graphs inside graphs that Canonical and SortNodes follow, as Encode bounds those it
// writes.
const maxNesting = 30

// CanonicalDomain spells ONNX's own domain "", which files also call "ai.onnx".
func CanonicalDomain(domain string) string {
	if domain == "ai.onnx" {
		return ""
	}
	return domain
}

// Canonical gives m as checkers and engines read it: nodes in topological order, in subgraphs and functions
// too, and ONNX's own domain spelled "". It gives m itself where nothing differs, otherwise a copy that
// shares all tensors with m. A cycle is an error that names a node of it.
func (m *Model) Canonical() (*Model, error) {
	out, changed := *m, false
	if opsets := canonicalOpsets(m.Opsets); opsets != nil {
		out.Opsets, changed = opsets, true
	}
	if m.Graph != nil {
		g, err := m.Graph.canonical(0)
		if err != nil {
			return nil, err
		}
		out.Graph, changed = g, changed || g != m.Graph
	}
	for i, f := range m.Functions {
		c, err := f.canonical()
		if err != nil {
			return nil, err
		}
		if c == f {
			continue
		}
		if len(out.Functions) > 0 && &out.Functions[0] == &m.Functions[0] {
			out.Functions = append([]*Function(nil), m.Functions...)
		}
		out.Functions[i], changed = c, true
	}
	if !changed {
		return m, nil
	}
	return &out, nil
}

// canonicalOpsets is nil where the list is canonical already.
func canonicalOpsets(list []Opset) []Opset {
	var out []Opset
	for i, o := range list {
		if domain := CanonicalDomain(o.Domain); domain != o.Domain {
			if out == nil {
				out = append(out, list...)
			}
			out[i].Domain = domain
		}
	}
	return out
}

func (f *Function) canonical() (*Function, error) {
	if f == nil {
		return nil, nil
	}
	nodes, same, err := canonicalNodes(f.Nodes, 0)
	if err != nil {
		return nil, inside(err, "function "+quote(f.Name))
	}
	opsets := canonicalOpsets(f.Opsets)
	if same && opsets == nil && CanonicalDomain(f.Domain) == f.Domain {
		return f, nil
	}
	c := *f
	c.Nodes, c.Domain = nodes, CanonicalDomain(f.Domain)
	if opsets != nil {
		c.Opsets = opsets
	}
	return &c, nil
}

func (g *Graph) canonical(depth int) (*Graph, error) {
	if depth > maxNesting {
		return nil, &LimitError{What: "nesting of graphs in " + quote(g.Name), Got: int64(depth),
			Limit: maxNesting}
	}
	nodes, same, err := canonicalNodes(g.Nodes, depth)
	if err != nil || same {
		return g, err
	}
	c := *g
	c.Nodes = nodes
	return &c, nil
}

// canonicalNodes sorts nodes and spells their domains; same says that it gives the list it was given.
func canonicalNodes(nodes []*Node, depth int) (out []*Node, same bool, err error) {
	sorted, err := SortNodes(nodes)
	if err != nil {
		return nil, false, err
	}
	same = len(nodes) == 0 || &sorted[0] == &nodes[0]
	out = sorted
	for i, n := range sorted {
		c, err := n.canonical(depth)
		if err != nil {
			return nil, false, err
		}
		if c == n {
			continue
		}
		if same {
			out, same = append([]*Node(nil), sorted...), false
		}
		out[i] = c
	}
	return out, same, nil
}

func (n *Node) canonical(depth int) (*Node, error) {
	if n == nil {
		return nil, nil
	}
	c, changed := *n, false
	if c.Domain = CanonicalDomain(n.Domain); c.Domain != n.Domain {
		changed = true
	}
	c.Attrs = nil
	for _, a := range n.Attrs {
		b, err := a.canonical(depth)
		if err != nil {
			return nil, err
		}
		c.Attrs, changed = append(c.Attrs, b), changed || a != b
	}
	if !changed {
		return n, nil
	}
	return &c, nil
}

func (a *Attribute) canonical(depth int) (*Attribute, error) {
	if a == nil || a.G == nil && len(a.Graphs) == 0 {
		return a, nil
	}
	c, changed := *a, false
	if a.G != nil {
		g, err := a.G.canonical(depth + 1)
		if err != nil {
			return nil, err
		}
		c.G, changed = g, g != a.G
	}
	c.Graphs = nil
	for _, g := range a.Graphs {
		if g != nil {
			d, err := g.canonical(depth + 1)
			if err != nil {
				return nil, err
			}
			changed, g = changed || d != g, d
		}
		c.Graphs = append(c.Graphs, g)
	}
	if !changed {
		return a, nil
	}
	return &c, nil
}

// SortNodes gives the nodes of a graph or a function in topological order: each behind those whose outputs it
// reads, itself or in a graph inside it, and otherwise as they stand. It gives the list itself where that is
// its order. A cycle is an error that names a node of it.
func SortNodes(nodes []*Node) ([]*Node, error) {
	s := sorter{nodes: nodes, maker: map[string]int{}, reads: make([][]string, len(nodes))}
	for i, n := range nodes {
		if n == nil {
			continue
		}
		for _, o := range n.Outputs {
			if _, twice := s.maker[o]; o != "" && !twice {
				s.maker[o] = i
			}
		}
	}
	ordered := true
	for i, n := range nodes {
		s.reads[i] = nodeReads(n)
		for _, in := range s.reads[i] {
			made, here := s.maker[in]
			ordered = ordered && (!here || made < i)
		}
	}
	if ordered {
		return nodes, nil
	}
	return s.sort()
}

// sorter walks from every node, in the order of the file, to the makers of what it reads. The walk keeps a
// stack of its own, since a chain of nodes may be long.
type sorter struct {
	nodes []*Node
	maker map[string]int
	reads [][]string // of each node
	out   []*Node
}

// The states of a node in the walk.
const (
	unvisited = iota
	waiting   // for the makers of its inputs
	placed
)

func (s *sorter) sort() ([]*Node, error) {
	type frame struct{ node, next int }
	state := make([]int, len(s.nodes))
	for root := range s.nodes {
		if state[root] != unvisited {
			continue
		}
		state[root] = waiting
		for stack := []frame{{root, 0}}; len(stack) > 0; {
			top := &stack[len(stack)-1]
			if top.next == len(s.reads[top.node]) {
				state[top.node] = placed
				s.out = append(s.out, s.nodes[top.node])
				stack = stack[:len(stack)-1]
				continue
			}
			made, here := s.maker[s.reads[top.node][top.next]]
			top.next++
			switch {
			case !here || state[made] == placed:
			case state[made] == waiting:
				n := s.nodes[made]
				return nil, &FormatError{Format: "onnx", Where: fmt.Sprintf("%s %q", n.OpType, n.Name),
					Msg: "the node depends on its own output: the graph has a cycle"}
			default:
				state[made] = waiting
				stack = append(stack, frame{made, 0})
			}
		}
	}
	return s.out, nil
}

// nodeReads lists what a node reads from the graph around it: its inputs, and what the graphs inside it take
// from there.
func nodeReads(n *Node) []string {
	if n == nil {
		return nil
	}
	inner := innerGraphs(n, 1)
	if len(inner) == 0 {
		return n.Inputs
	}
	var reads []string
	own := map[string]bool{} // made inside; a name is used for one value only
	for len(inner) > 0 {
		at := inner[len(inner)-1]
		inner = inner[:len(inner)-1]
		reads = at.graph.names(reads, own)
		for _, m := range at.graph.Nodes {
			if m != nil {
				inner = append(inner, innerGraphs(m, at.depth+1)...)
			}
		}
	}
	out := append([]string(nil), n.Inputs...)
	for _, name := range reads {
		if !own[name] {
			out = append(out, name)
		}
	}
	return out
}

// nested is a graph inside others.
type nested struct {
	graph *Graph
	depth int
}

// innerGraphs lists the graphs in a node's attributes, which lie depth deep.
func innerGraphs(n *Node, depth int) (out []nested) {
	for _, a := range n.Attrs {
		if a == nil || depth > maxNesting {
			continue
		}
		if a.G != nil {
			out = append(out, nested{a.G, depth})
		}
		for _, g := range a.Graphs {
			if g != nil {
				out = append(out, nested{g, depth})
			}
		}
	}
	return out
}

// names appends what a graph's own nodes and outputs read, and notes what it makes.
func (g *Graph) names(reads []string, own map[string]bool) []string {
	for _, v := range g.Inputs {
		if v != nil {
			own[v.Name] = true
		}
	}
	for _, t := range g.Initializers {
		if t != nil {
			own[t.Name] = true
		}
	}
	for _, n := range g.Nodes {
		if n == nil {
			continue
		}
		reads = append(reads, n.Inputs...)
		for _, o := range n.Outputs {
			own[o] = true
		}
	}
	for _, v := range g.Outputs {
		if v != nil {
			reads = append(reads, v.Name)
		}
	}
	return reads
}
