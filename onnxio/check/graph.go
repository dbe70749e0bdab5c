package check

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/cnnkit/cnnkit/onnxio"
)

// scope is the names of one graph (or function body), with the place from which each can be read: -1 for
// inputs and initializers, else the index of the node that makes it.
type scope struct {
	where  string // of the graph, "" for the model's own
	graph  *onnxio.Graph
	nodes  []*onnxio.Node
	opsets map[string]int64
	names  map[string]int
	parent *scope
	at     int // the node of parent that holds this graph
	depth  int
	fn     *onnxio.Function // inside a function
	attrs  map[string]bool  // that the function declares
	known  map[string]*known
}

// defined says whether name can be read by node at, and if not, whether a later node
// of the same graph makes it.
func (s *scope) defined(name string, at int) (ok, later bool) {
	for ; s != nil; at, s = s.at, s.parent {
		if made, here := s.names[name]; here {
			if made < at {
				return true, false
			}
			later = true
		}
	}
	return false, later
}

// visible says whether an outer graph has made name before this graph runs.
func (s *scope) visible(name string) bool {
	if s.parent == nil {
		return false
	}
	ok, _ := s.parent.defined(name, s.at)
	return ok
}

func (s *scope) node(i int) string { return join(s.where, describe(s.nodes[i])) }

func join(where, inner string) string {
	if where == "" {
		return inner
	}
	return where + ": " + inner
}

// describe names a node by its name or its first output.
func describe(n *onnxio.Node) string {
	op := n.OpType
	if n.Domain != "" && n.Domain != "ai.onnx" {
		op = n.Domain + "." + op
	}
	if n.Name == "" {
		for _, o := range n.Outputs {
			if o != "" {
				return fmt.Sprintf("%s making %q", op, o)
			}
		}
	}
	return fmt.Sprintf("%s %q", op, n.Name)
}

// mainGraph checks the model's graph and, one after the other, every graph inside it.
func (c *checker) mainGraph(g *onnxio.Graph, opsets map[string]int64) {
	c.scopes(&scope{graph: g, nodes: g.Nodes, opsets: opsets})
}

// scopes checks s and the scopes inside it.
func (c *checker) scopes(s *scope) {
	for todo := []*scope{s}; len(todo) > 0; {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		inner := c.scope(s)
		for i := len(inner) - 1; i >= 0; i-- {
			if inner[i].depth > maxGraphs {
				c.add(&onnxio.LimitError{What: "nesting of graphs in " + inner[i].where,
					Got: int64(inner[i].depth), Limit: maxGraphs})
				continue
			}
			todo = append(todo, inner[i])
		}
	}
}

// scope checks one graph or function body and gives the graphs inside its nodes' attributes.
func (c *checker) scope(s *scope) (inner []*scope) {
	s.names, s.known = map[string]int{}, map[string]*known{}
	if s.graph != nil {
		c.graphValues(s)
	} else {
		c.functionInputs(s)
	}
	c.nodeOutputs(s)
	for _, n := range s.nodes {
		s.note(n)
	}
	if _, err := onnxio.SortNodes(s.nodes); err != nil {
		c.add(inside(s, err))
	}
	for i, n := range s.nodes {
		if n == nil {
			c.bad(s.where, "node %d is nil", i)
			continue
		}
		c.nodeInputs(s, i)
		inner = append(inner, c.attributes(s, i)...)
		if !slices.Contains(n.Attrs, nil) {
			c.operator(s, i)
		}
	}
	c.outputs(s)
	return inner
}

// graphValues declares inputs and initializers and checks types, tensors and annotations.
func (c *checker) graphValues(s *scope) {
	g := s.graph
	if g.Name == "" {
		c.bad(s.where, "the graph has no name")
	}
	inputs := map[string]bool{}
	for _, v := range g.Inputs {
		if c.value(s, v, "graph input", s.parent == nil) {
			if inputs[v.Name] {
				c.bad(s.where, "graph input %q is there twice", v.Name)
			} else if s.visible(v.Name) {
				c.bad(s.where, "graph input %q hides a value of the graph around", v.Name)
			}
			inputs[v.Name] = true
			s.names[v.Name] = -1
			s.known[v.Name] = fromType(v.Type)
		}
	}
	initializers := map[string]bool{}
	declare := func(name string, t *onnxio.Tensor) {
		switch {
		case name == "":
			c.bad(s.where, "an initializer has no name")
			return
		case initializers[name]:
			c.bad(s.where, "initializer %q is there twice", name)
		case !inputs[name] && s.visible(name):
			c.bad(s.where, "initializer %q hides a value of the graph around", name)
		case !inputs[name] && c.m.IRVersion < freeInitsIR:
			c.bad(s.where, "initializer %q is not a graph input, which IR version %d asks for", name,
				c.m.IRVersion)
		}
		c.name(s.where, "initializer", name)
		initializers[name] = true
		s.names[name] = -1
		if t != nil {
			c.agrees(s, name, t)
			s.known[name] = fromTensor(t, !inputs[name])
		}
	}
	for i, t := range g.Initializers {
		if t == nil {
			c.bad(s.where, "initializer %d is nil", i)
			continue
		}
		declare(t.Name, t)
		c.tensor(s.where, "initializer", t)
	}
	for i, t := range g.SparseInitializers {
		if t == nil || t.Values == nil {
			c.bad(s.where, "sparse initializer %d has no values", i)
			continue
		}
		declare(t.Values.Name, nil)
		c.sparse(s.where, fmt.Sprintf("sparse initializer %q", t.Values.Name), t)
	}
	for _, v := range g.Values {
		if c.value(s, v, "value_info", false) && s.known[v.Name] == nil {
			s.known[v.Name] = fromType(v.Type)
		}
	}
}

// agrees compares an initializer with the graph input of the same name, whose default it is.
func (c *checker) agrees(s *scope, name string, t *onnxio.Tensor) {
	k := s.known[name]
	if k == nil {
		return
	}
	if k.elem != onnxio.Undefined && k.elem != t.Type {
		c.bad(s.where, "initializer %q has type %v, the graph input of that name %v", name, t.Type, k.elem)
	}
	if !k.ranked {
		return
	}
	ok := len(k.dims) == len(t.Dims)
	for i := 0; ok && i < len(t.Dims); i++ {
		ok = k.dims[i] < 0 || k.dims[i] == t.Dims[i]
	}
	if !ok {
		c.bad(s.where, "initializer %q has shape %v, the graph input of that name %v", name, t.Dims, k.dims)
	}
}

// value checks a graph input, output or value_info; false when it has no name to go by.
func (c *checker) value(s *scope, v *onnxio.ValueInfo, what string, typed bool) bool {
	if v == nil || v.Name == "" {
		c.bad(s.where, "a %s has no name", what)
		return false
	}
	c.name(s.where, what, v.Name)
	if v.Type == nil {
		if typed {
			c.bad(s.where, "%s %q has no type", what, v.Name)
		}
		return true
	}
	c.typ(join(s.where, fmt.Sprintf("%s %q", what, v.Name)), v.Type)
	return true
}

// nodeOutputs declares what the nodes make: every name once, and none that is there already.
func (c *checker) nodeOutputs(s *scope) {
	for i, n := range s.nodes {
		if n == nil {
			continue
		}
		if len(n.Outputs) == 0 && len(n.Inputs) == 0 {
			c.bad(s.node(i), "the node has neither inputs nor outputs")
		}
		if !utf8.ValidString(n.Name) { // asked first: the place of a node takes time to put into words
			c.name(s.node(i), "the name", n.Name)
		}
		for _, o := range n.Outputs {
			if o == "" {
				continue
			}
			if !utf8.ValidString(o) {
				c.name(s.node(i), "output", o)
			}
			made, twice := s.names[o]
			switch {
			case twice && made >= 0:
				c.bad(s.node(i), "output %q is already made by %s", o, describe(s.nodes[made]))
			case twice:
				c.bad(s.node(i), "output %q is already an input or initializer", o)
			case s.visible(o):
				c.bad(s.node(i), "output %q hides a value of the graph around", o)
			default:
				s.names[o] = i
			}
		}
	}
}

// inside puts the graph around a node before an error that names the node.
func inside(s *scope, err error) error {
	var f *onnxio.FormatError
	if errors.As(err, &f) {
		own := *f
		own.Where = join(s.where, f.Where)
		return &own
	}
	return err
}

// nodeInputs checks that something makes everything that node i reads, and warns where that stands behind it.
func (c *checker) nodeInputs(s *scope, i int) {
	for _, in := range s.nodes[i].Inputs {
		if in == "" {
			continue
		}
		ok, later := s.defined(in, i)
		switch {
		case ok:
		case later:
			maker := "a later node"
			if at, here := s.names[in]; here && at >= 0 {
				maker = describe(s.nodes[at])
			}
			c.warn(s.node(i), "reads %q before it is made by %s: the nodes are sorted when the model runs",
				in, maker)
		default:
			c.bad(s.node(i), "reads %q, which nothing makes", in)
		}
	}
}

// outputs checks that everything a graph or function gives is made in it.
func (c *checker) outputs(s *scope) {
	if s.graph == nil {
		for _, o := range s.fn.Outputs {
			if _, ok := s.names[o]; !ok {
				c.bad(s.where, "output %q is made by nothing", o)
			}
		}
		return
	}
	if len(s.graph.Outputs) == 0 && s.parent == nil {
		c.bad(s.where, "the graph has no outputs")
	}
	seen := map[string]bool{}
	for _, v := range s.graph.Outputs {
		if !c.value(s, v, "graph output", s.parent == nil) {
			continue
		}
		if seen[v.Name] {
			c.bad(s.where, "graph output %q is there twice", v.Name)
		}
		seen[v.Name] = true
		if _, ok := s.names[v.Name]; !ok && !s.visible(v.Name) {
			c.bad(s.where, "graph output %q is made by nothing", v.Name)
		}
	}
	c.quantization(s)
}

// quantization checks that annotations speak of values that exist.
func (c *checker) quantization(s *scope) {
	for _, q := range s.graph.Quantization {
		if _, ok := s.names[q.Tensor]; !ok {
			c.bad(s.where, "quantization annotation of %q, which nothing makes", q.Tensor)
		}
		for _, p := range q.Params {
			if _, ok := s.names[p.Value]; !ok {
				c.bad(s.where, "quantization annotation of %q: %s is %q, which nothing makes", q.Tensor,
					p.Key, p.Value)
			}
		}
	}
}
