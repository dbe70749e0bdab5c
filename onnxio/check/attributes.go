package check

import (
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
)

// attributes checks the attributes of node i as messages (what they are called and hold, not what the
// operator makes of them) and gives the graphs inside them.
func (c *checker) attributes(s *scope, i int) (inner []*scope) {
	n := s.nodes[i]
	seen := map[string]bool{}
	for _, a := range n.Attrs {
		if a == nil {
			c.bad(s.node(i), "an attribute is nil")
			continue
		}
		where := join(s.node(i), "attribute "+a.Name)
		switch {
		case a.Name == "":
			c.bad(s.node(i), "an attribute has no name")
		case seen[a.Name]:
			c.bad(where, "the attribute is there twice")
		}
		seen[a.Name] = true
		c.name(where, "the name", a.Name)
		c.attribute(s, where, a)
		if a.G != nil {
			inner = append(inner, s.inner(a.G, i, where))
		}
		for j, g := range a.Graphs {
			if g == nil {
				c.bad(where, "graph %d is nil", j)
				continue
			}
			inner = append(inner, s.inner(g, i, fmt.Sprintf("%s[%d]", where, j)))
		}
	}
	return inner
}

// inner is the scope of a graph inside an attribute of node i.
func (s *scope) inner(g *onnxio.Graph, i int, where string) *scope {
	return &scope{where: where, graph: g, nodes: g.Nodes, opsets: s.opsets, parent: s, at: i,
		depth: s.depth + 1,
		fn:    s.fn, attrs: s.attrs}
}

// attribute checks one attribute: a reference to the function's caller, or exactly the
// value that its type says.
func (c *checker) attribute(s *scope, where string, a *onnxio.Attribute) {
	values, own := filled(a)
	if a.Ref != "" {
		switch {
		case s.fn == nil:
			c.bad(where, "refers to the attribute %q of a function, outside of any", a.Ref)
		case !s.attrs[a.Ref]:
			c.bad(where, "refers to the attribute %q, which %s does not have", a.Ref, functionName(s.fn))
		}
		if len(values) > 0 {
			c.bad(where, "has both a value and a reference")
		}
		return
	}
	if a.Type <= onnxio.AttrUndefined || a.Type > onnxio.AttrTypeProtos {
		if a.Type != onnxio.AttrUndefined || c.m.IRVersion >= typedAttrsIR {
			c.bad(where, "the attribute's type is %d", a.Type)
		}
	} else if !own {
		c.bad(where, "the value is missing")
	}
	for _, v := range values {
		if v != a.Type {
			c.bad(where, "is of type %d and has a value of type %d", a.Type, v)
		}
	}
	c.attributeTensors(where, a)
}

// filled lists the types for which a has a value, and says whether the one of its own type can be: numbers,
// strings and lists have no way of being absent.
func filled(a *onnxio.Attribute) (types []onnxio.AttrType, own bool) {
	own = true
	for _, f := range []struct {
		t      onnxio.AttrType
		set    bool
		needed bool
	}{
		{onnxio.AttrFloat, a.F != 0, false}, {onnxio.AttrInt, a.I != 0, false}, {onnxio.AttrString,
			len(a.S) > 0, false},
		{onnxio.AttrTensor, a.T != nil, true}, {onnxio.AttrGraph, a.G != nil, true},
		{onnxio.AttrFloats, len(a.Floats) > 0, false}, {onnxio.AttrInts, len(a.Ints) > 0, false},
		{onnxio.AttrStrings, len(a.Strings) > 0, false}, {onnxio.AttrTensors, len(a.Tensors) > 0, false},
		{onnxio.AttrGraphs, len(a.Graphs) > 0, false}, {onnxio.AttrSparseTensor, a.Sparse != nil, true},
		{onnxio.AttrSparseTensors, len(a.SparseTensors) > 0, false}, {onnxio.AttrTypeProto,
			a.TypeProto != nil, true},
		{onnxio.AttrTypeProtos, len(a.TypeProtos) > 0, false},
	} {
		if f.set {
			types = append(types, f.t)
		} else if f.needed && f.t == a.Type {
			own = false
		}
	}
	return types, own
}

func (c *checker) attributeTensors(where string, a *onnxio.Attribute) {
	if a.T != nil {
		c.tensor(where, "tensor", a.T)
	}
	for i, t := range a.Tensors {
		if t == nil {
			c.bad(where, "tensor %d is nil", i)
			continue
		}
		c.tensor(where, "tensor", t)
	}
	if a.Sparse != nil {
		c.sparse(where, "sparse tensor", a.Sparse)
	}
	for i, t := range a.SparseTensors {
		if t == nil {
			c.bad(where, "sparse tensor %d is nil", i)
			continue
		}
		c.sparse(where, fmt.Sprintf("sparse tensor %d", i), t)
	}
	if a.TypeProto != nil {
		c.typ(where, a.TypeProto)
	}
	for i, t := range a.TypeProtos {
		if t == nil {
			c.bad(where, "type %d is nil", i)
			continue
		}
		c.typ(where, t)
	}
}
