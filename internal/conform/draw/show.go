package draw

import (
	"fmt"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Show is the model in words, with the shapes of one run.
func (c *Case) Show(in map[string]*onnxio.Tensor) string {
	var b strings.Builder
	m := c.Model
	fmt.Fprintf(&b, "opset %d\n", m.Opset(""))
	for _, v := range m.Graph.Inputs {
		fmt.Fprintf(&b, "input %s %v %v\n", v.Name, in[v.Name].Type, in[v.Name].Dims)
	}
	for _, t := range m.Graph.Initializers {
		fmt.Fprintf(&b, "weight %s %v %v", t.Name, t.Type, t.Dims)
		if t.Type == onnxio.Int64 {
			fmt.Fprintf(&b, " %v", onnxio.Data[int64](t))
		} else if t.Type == onnxio.Float && t.Size() <= 4 {
			fmt.Fprintf(&b, " %v", t.Float32s())
		}
		fmt.Fprintln(&b)
	}
	for _, n := range m.Graph.Nodes {
		fmt.Fprintf(&b, "%q = %s%q", n.Outputs, n.OpType, n.Inputs)
		for _, a := range n.Attrs {
			fmt.Fprintf(&b, " %s=%s", a.Name, attributeText(a))
		}
		fmt.Fprintln(&b)
	}
	for _, v := range m.Graph.Outputs {
		fmt.Fprintf(&b, "output %s\n", v.Name)
	}
	return b.String()
}

func attributeText(a *onnxio.Attribute) string {
	switch a.Type {
	case onnxio.AttrInt:
		return fmt.Sprint(a.I)
	case onnxio.AttrFloat:
		return fmt.Sprint(a.F)
	case onnxio.AttrInts:
		return fmt.Sprint(a.Ints)
	case onnxio.AttrFloats:
		return fmt.Sprint(a.Floats)
	}
	return string(a.S)
}
