package engine

import (
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
)

// maxInlined bounds the nodes that inlining may make.
const maxInlined = 1 << 20

// inlined gives the graph's nodes with calls of the model's functions replaced by their bodies, nested calls included.
func inlined(m *onnxio.Model) ([]*onnxio.Node, error) {
	if len(m.Functions) == 0 {
		return m.Graph.Nodes, nil
	}
	in := &inliner{functions: map[[3]string]*onnxio.Function{}}
	for _, f := range m.Functions {
		in.functions[[3]string{f.Domain, f.Name, f.Overload}] = f
	}
	if err := in.nodes(m.Graph.Nodes, 0); err != nil {
		return nil, err
	}
	return in.out, nil
}

type inliner struct {
	functions map[[3]string]*onnxio.Function
	out       []*onnxio.Node
	calls     int
}

func (in *inliner) nodes(nodes []*onnxio.Node, depth int) error {
	for _, n := range nodes {
		f := in.functions[[3]string{n.Domain, n.OpType, n.Overload}]
		if f == nil {
			in.out = append(in.out, n)
			if len(in.out) > maxInlined {
				return &onnxio.LimitError{What: "nodes after inlining functions", Got: int64(len(in.out)), Limit: maxInlined}
			}
			continue
		}
		if depth > 100 {
			return &onnxio.FormatError{Format: "onnx", Where: n.Name, Msg: fmt.Sprintf("function %q calls itself", f.Name)}
		}
		body, err := in.body(f, n)
		if err != nil {
			return err
		}
		if err := in.nodes(body, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// body is the function's nodes with formal names replaced by actual ones, inner names made unique and attribute
// references resolved.
func (in *inliner) body(f *onnxio.Function, call *onnxio.Node) ([]*onnxio.Node, error) {
	in.calls++
	names := map[string]string{"": ""}
	for i, formal := range f.Inputs {
		names[formal] = ""
		if i < len(call.Inputs) {
			names[formal] = call.Inputs[i]
		}
	}
	for i, formal := range f.Outputs {
		if i < len(call.Outputs) && call.Outputs[i] != "" {
			names[formal] = call.Outputs[i]
		}
	}
	rename := func(list []string) []string {
		out := make([]string, len(list))
		for i, s := range list {
			if _, ok := names[s]; !ok {
				names[s] = fmt.Sprintf("%s/%s#%d", call.OpType, s, in.calls)
			}
			out[i] = names[s]
		}
		return out
	}
	var body []*onnxio.Node
	for _, n := range f.Nodes {
		c := *n
		c.Name = call.Name + "/" + n.Name
		c.Inputs, c.Outputs, c.Attrs = rename(n.Inputs), rename(n.Outputs), nil
		for _, a := range n.Attrs {
			if a.G != nil || len(a.Graphs) > 0 {
				return nil, &onnxio.UnsupportedError{Op: n.OpType, Node: c.Name, Attr: a.Name, Reason: "subgraphs inside functions"}
			}
			if a.Ref == "" {
				c.Attrs = append(c.Attrs, a)
				continue
			}
			if actual := attribute(f, call, a.Ref); actual != nil {
				r := *actual
				r.Name = a.Name
				c.Attrs = append(c.Attrs, &r)
			}
		}
		body = append(body, &c)
	}
	return body, nil
}

// attribute is the value of a function's attribute at a call: given there, by default, or absent.
func attribute(f *onnxio.Function, call *onnxio.Node, name string) *onnxio.Attribute {
	if a := call.Attr(name); a != nil {
		return a
	}
	for _, a := range f.AttrProtos {
		if a.Name == name {
			return a
		}
	}
	return nil
}
