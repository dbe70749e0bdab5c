package check

import (
	"fmt"
	"strings"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// operator checks what node i applies: a function of the model, or an operator of an imported domain.
func (c *checker) operator(s *scope, i int) {
	n := s.nodes[i]
	domain := onnxio.CanonicalDomain(n.Domain)
	if n.OpType == "" {
		c.bad(s.node(i), "the node has no operator")
		return
	}
	f := c.called(n)
	version, imported := s.opsets[domain]
	if f == nil && c.schemas && !isKnown(domain) {
		c.add(&onnxio.UnsupportedError{Op: domain + "." + n.OpType, Node: n.Name,
			Reason: "the domain " + quoteDomain(domain) +
				" is not known here, and no function of the model defines the operator"})
		return
	}
	switch {
	case !imported:
		c.bad(s.node(i), "the domain %s is not among the imported operator sets", quoteDomain(domain))
	case f != nil:
		c.call(s, i, f)
	case c.schemas:
		c.schema(s, i, version)
	}
}

// schema checks node i against the definition of its operator.
func (c *checker) schema(s *scope, i int, version int64) {
	n := s.nodes[i]
	before := len(c.problems) + c.more
	bound, err := ops.Bind(n, version)
	if err != nil {
		c.add(err)
	} else {
		c.arity(s, i, bound)
		c.definedAttributes(s, i, bound)
		c.elementTypes(s, i, bound)
		if len(c.problems)+c.more > before {
			return // what follows takes inputs and attributes for granted
		}
	}
	if refers(n) {
		return
	}
	if bound != nil && bound.Def.Check != nil {
		c.add(nodeError(s, bound.Def.Check(bound)))
	}
	// also for operators that are not in the registry: their names mean the same everywhere
	if onnxio.CanonicalDomain(n.Domain) == "" {
		c.sane(s, i, n, version)
	}
}

// nodeError puts the graph around the node before an error of its definition.
func nodeError(s *scope, err error) error {
	if err == nil {
		return nil
	}
	// err names the node
	return &onnxio.FormatError{Format: "onnx", Where: s.where, Msg: "invalid attributes", Err: err}
}

// refers says whether an attribute's value is only known to the caller of a function.
func refers(n *onnxio.Node) bool {
	for _, a := range n.Attrs {
		if a != nil && a.Ref != "" {
			return true
		}
	}
	return false
}

// call checks a node that calls a function of the model.
func (c *checker) call(s *scope, i int, f *onnxio.Function) {
	n := s.nodes[i]
	if len(n.Inputs) > len(f.Inputs) {
		c.bad(s.node(i), "%d inputs where %s has %d", len(n.Inputs), functionName(f), len(f.Inputs))
	}
	if len(n.Outputs) > len(f.Outputs) {
		c.bad(s.node(i), "%d outputs where %s has %d", len(n.Outputs), functionName(f), len(f.Outputs))
	}
	declared := map[string]bool{}
	for _, name := range f.Attrs {
		declared[name] = true
	}
	for _, a := range f.AttrProtos {
		if a != nil {
			declared[a.Name] = true
		}
	}
	for _, a := range n.Attrs {
		if a != nil && !declared[a.Name] {
			c.bad(s.node(i), "%s has no attribute %s", functionName(f), a.Name)
		}
	}
	for _, name := range f.Attrs {
		if n.Attr(name) == nil {
			c.bad(s.node(i), "the attribute %s of %s is missing", name, functionName(f))
		}
	}
}

// arity checks the number of inputs and outputs, and that those that must be there are.
func (c *checker) arity(s *scope, i int, n *ops.Node) {
	c.params(s, i, "input", n.Inputs, n.InParams())
	outputs := n.OutParams()
	for len(outputs) > 0 && outputs[len(outputs)-1].Internal {
		outputs = outputs[:len(outputs)-1]
	}
	if n.OpType == "BatchNormalization" && n.Since >= 14 && len(n.Outputs) == 2 {
		c.bad(s.node(i), "2 outputs where there are 1 or 3")
	}
	c.params(s, i, "output", n.Outputs, outputs)
}

func (c *checker) params(s *scope, i int, what string, have []string, params []ops.Param) {
	variadic := len(params) > 0 && params[len(params)-1].Variadic
	if len(have) > len(params) && !variadic {
		c.bad(s.node(i), "%d %ss where there are at most %d", len(have), what, len(params))
	}
	for j, p := range params {
		if !p.Optional && (j >= len(have) || have[j] == "") && what == "input" {
			c.bad(s.node(i), "%s %d (%s) is missing", what, j, p.Name)
		}
		if !p.Optional && !p.Variadic && what == "output" && j >= len(have) {
			c.bad(s.node(i), "%s %d (%s) is missing", what, j, p.Name)
		}
	}
	if what == "input" {
		for j := len(params); j < len(have); j++ {
			if have[j] == "" {
				c.bad(s.node(i), "input %d is empty in a list that has no gaps", j)
			}
		}
	}
}

// definedAttributes checks that the operator's version in force has every attribute, with that type,
// and that none is missing.
func (c *checker) definedAttributes(s *scope, i int, n *ops.Node) {
	defs := map[string]ops.AttrDef{}
	for _, d := range n.Def.Attrs {
		if (d.Since == 0 || d.Since <= n.Since) && (d.Until == 0 || n.Since <= d.Until) {
			defs[d.Name] = d
		}
	}
	for _, a := range n.Attrs {
		if a == nil {
			continue
		}
		d, ok := defs[a.Name]
		switch {
		case !ok || strings.HasPrefix(a.Name, "cnnkit_"):
			c.bad(s.node(i), "%s-%d has no attribute %s", n.OpType, n.Since, a.Name)
		case a.Type != d.Type:
			c.bad(s.node(i), "attribute %s has type %d, not %d", a.Name, a.Type, d.Type)
		}
	}
	for _, d := range n.Def.Attrs {
		if _, ok := defs[d.Name]; ok && d.Required && n.Attr(d.Name) == nil {
			c.bad(s.node(i), "the attribute %s is missing", d.Name)
		}
	}
}

// elementTypes checks the inputs whose types the file tells against what the definition admits, and against
// each other where they share a type variable.
func (c *checker) elementTypes(s *scope, i int, n *ops.Node) {
	type first struct {
		elem onnxio.DataType
		name string
	}
	vars, params := map[string]first{}, n.InParams()
	for j, in := range n.Inputs {
		if in == "" || len(params) == 0 {
			continue
		}
		p := params[min(j, len(params)-1)]
		elem := s.look(in).elem
		set, ok := n.Def.Types[p.Type]
		if elem == onnxio.Undefined || !ok {
			continue
		}
		if !set.Has(elem) {
			// The registry may admit less than ONNX does, so this is a limit of ours rather
			// than a fault of the file.
			c.add(&onnxio.UnsupportedError{Op: n.OpType, Opset: n.Since, Node: s.node(i),
				Reason: fmt.Sprintf("input %q has type %v", in, elem)})
			continue
		}
		if p.Variadic && j >= len(params)-1 && !homogeneous[n.OpType] {
			continue
		}
		if f, seen := vars[p.Type]; seen && f.elem != elem {
			c.bad(s.node(i), "inputs %q of type %v and %q of type %v must have the same", f.name,
				f.elem, in, elem)
		} else if !seen {
			vars[p.Type] = first{elem, in}
		}
	}
}

// homogeneous are the operators whose variadic inputs share one type.
var homogeneous = map[string]bool{"Concat": true, "Sum": true, "Mean": true, "Max": true, "Min": true,
	"Einsum": true}
