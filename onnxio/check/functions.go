package check

import (
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
)

// functionKey is what a node calls a function by.
type functionKey struct{ domain, name, overload string }

func keyOf(f *onnxio.Function) functionKey {
	return functionKey{onnxio.CanonicalDomain(f.Domain), f.Name, f.Overload}
}

// called is the function that n calls, nil when it applies an operator.
func (c *checker) called(n *onnxio.Node) *onnxio.Function {
	return c.functions[functionKey{onnxio.CanonicalDomain(n.Domain), n.OpType, n.Overload}]
}

func functionName(f *onnxio.Function) string {
	name := f.Name
	if f.Domain != "" {
		name = f.Domain + "." + name
	}
	if f.Overload != "" {
		name += ":" + f.Overload
	}
	return fmt.Sprintf("function %s", name)
}

func (c *checker) declareFunctions() {
	if len(c.m.Functions) > 0 && c.m.IRVersion < functionsIR {
		c.bad("", "functions need IR version %d, not %d", functionsIR, c.m.IRVersion)
	}
	for i, f := range c.m.Functions {
		switch {
		case f == nil || f.Name == "":
			c.bad("", "function %d has no name", i)
			continue
		case c.functions[keyOf(f)] != nil:
			c.bad(functionName(f), "the function is there twice")
			continue
		}
		c.functions[keyOf(f)] = f
	}
}

// function checks a body as a graph of its own: it sees nothing of the model but other functions.
func (c *checker) function(f *onnxio.Function) {
	where := functionName(f)
	s := &scope{where: where, nodes: f.Nodes, opsets: c.opsets(where, f.Opsets), fn: f,
		attrs: map[string]bool{}}
	declare := func(name string) {
		if name == "" || s.attrs[name] {
			c.bad(where, "attribute %q has no name or is there twice", name)
		}
		s.attrs[name] = true
	}
	for _, name := range f.Attrs {
		declare(name)
	}
	for _, a := range f.AttrProtos {
		if a == nil {
			c.bad(where, "an attribute is nil")
			continue
		}
		declare(a.Name)
		c.attribute(s, join(where, "attribute "+a.Name), a)
	}
	seen := map[string]bool{}
	for _, o := range f.Outputs {
		if o == "" || seen[o] {
			c.bad(where, "output %q has no name or is there twice", o)
		}
		seen[o] = true
	}
	c.scopes(s)
}

func (c *checker) functionInputs(s *scope) {
	for _, in := range s.fn.Inputs {
		if _, twice := s.names[in]; twice || in == "" {
			c.bad(s.where, "input %q has no name or is there twice", in)
			continue
		}
		c.name(s.where, "input", in)
		s.names[in] = -1
	}
	for _, v := range s.fn.Values {
		if c.value(s, v, "value_info", false) && s.known[v.Name] == nil {
			s.known[v.Name] = fromType(v.Type)
		}
	}
}

// inlining checks that no function calls itself, however indirectly, and that putting every body in place of
// its calls gives a graph of bounded size: n functions that each call the next twice are 2^n nodes.
func (c *checker) inlining() {
	if len(c.functions) == 0 {
		return
	}
	sizes := map[*onnxio.Function]int64{} // nodes after inlining; absent: not visited, -1: on the stack
	type frame struct {
		f    *onnxio.Function
		todo []*onnxio.Function
	}
	calls := map[*onnxio.Function][]*onnxio.Function{}
	var stack []frame
	enter := func(f *onnxio.Function) {
		sizes[f] = -1
		calls[f] = c.calls(f.Nodes, nil)
		stack = append(stack, frame{f, calls[f]})
	}
	for _, root := range c.m.Functions {
		if root == nil || c.functions[keyOf(root)] != root {
			continue
		}
		if _, done := sizes[root]; !done {
			enter(root)
		}
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if len(top.todo) == 0 {
				sizes[top.f] = total(top.f.Nodes, calls[top.f], sizes)
				stack = stack[:len(stack)-1]
				continue
			}
			next := top.todo[0]
			top.todo = top.todo[1:]
			switch size, seen := sizes[next]; {
			case !seen:
				enter(next)
			case size < 0:
				c.bad(functionName(top.f), "calls %s, which calls it: functions may not be recursive",
					functionName(next))
			}
		}
	}
	if c.m.Graph == nil {
		return
	}
	main := c.calls(c.m.Graph.Nodes, nil)
	if n := total(c.m.Graph.Nodes, main, sizes); n > maxInlined {
		c.add(&onnxio.LimitError{What: "nodes after inlining the functions", Got: n, Limit: maxInlined})
	}
}

// total is the number of nodes with every call counted at the size of its function,
// up to a bit over the limit.
func total(nodes []*onnxio.Node, calls []*onnxio.Function, sizes map[*onnxio.Function]int64) int64 {
	n := int64(len(nodes))
	for _, f := range calls {
		n = min(n+max(sizes[f], 0), 2*maxInlined)
	}
	return n
}

// calls lists the functions that nodes and the graphs inside them call, once per call.
func (c *checker) calls(nodes []*onnxio.Node, out []*onnxio.Function) []*onnxio.Function {
	type level struct {
		nodes []*onnxio.Node
		depth int
	}
	for todo := []level{{nodes, 0}}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, n := range at.nodes {
			if n == nil {
				continue
			}
			if f := c.called(n); f != nil {
				out = append(out, f)
			}
			for _, g := range subgraphs(n) {
				if at.depth < maxGraphs {
					todo = append(todo, level{g.Nodes, at.depth + 1})
				}
			}
		}
	}
	return out
}

// subgraphs are the graphs in a node's attributes.
func subgraphs(n *onnxio.Node) []*onnxio.Graph {
	var out []*onnxio.Graph
	for _, a := range n.Attrs {
		if a == nil {
			continue
		}
		if a.G != nil {
			out = append(out, a.G)
		}
		for _, g := range a.Graphs {
			if g != nil {
				out = append(out, g)
			}
		}
	}
	return out
}
