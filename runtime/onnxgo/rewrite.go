package onnxgo

import (
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/infer"
)

// rewritten is the model as onnx-go takes it, for inputs of shape dims.
func rewritten(m *onnxio.Model, input string, dims []int64) (*onnxio.Model, error) {
	out, g := *m, *m.Graph
	out.Graph, out.Metadata, out.Training = &g, nil, nil
	g.Values = nil
	shape := make([]onnxio.Dim, len(dims))
	for i, d := range dims {
		shape[i].Value = d
	}
	g.Inputs = []*onnxio.ValueInfo{onnxio.TensorInfo(input, onnxio.Float, shape...)}
	shapes, err := infer.Shapes(&out)
	if err != nil {
		return nil, err
	}
	g.Outputs = nil
	for _, v := range m.Graph.Outputs {
		g.Outputs = append(g.Outputs, onnxio.TensorInfo(v.Name, onnxio.Float,
			shapes.ValueInfo(v.Name).Type.Shape...))
	}
	r := &rewriter{g: &g, shapes: shapes}
	g.Initializers = slices.Clone(g.Initializers)
	for _, n := range m.Graph.Nodes {
		r.add(n)
	}
	g.Nodes = r.nodes
	return &out, nil
}

// rewriter collects the nodes and initializers that onnx-go is given.
type rewriter struct {
	g      *onnxio.Graph
	shapes *infer.Result
	nodes  []*onnxio.Node
}

// add writes a node in the way that onnx-go understands.
func (r *rewriter) add(n *onnxio.Node) {
	n = without(n)
	switch n.OpType {
	case "Conv":
		if w, ok := dimsOf(r.shapes, n.Inputs[1]); ok && n.Attr("kernel_shape") == nil {
			n.Attrs = append(n.Attrs, onnxio.IntsAttr("kernel_shape", w[2:]...))
		}
		pairPads(n)
	case "MaxPool":
		n = without(n, "dilations", "ceil_mode", "storage_order")
		pairPads(n)
	case "Dropout":
		n.Inputs = n.Inputs[:1]
	case "Gemm":
		if len(n.Inputs) == 2 || n.Inputs[2] == "" {
			n.Inputs = []string{n.Inputs[0], n.Inputs[1], r.constant(n.Outputs[0]+"/zero",
				onnxio.NewTensor(onnxio.Float, 1))}
		}
	case "Reshape": // onnx-go counts wrongly what -1 stands for
		if dims, ok := dimsOf(r.shapes, n.Outputs[0]); ok {
			n = without(n, "allowzero")
			n.Inputs = []string{n.Inputs[0], r.constant(n.Outputs[0]+"/shape",
				onnxio.Int64s(dims, int64(len(dims))))}
		}
	case "Add", "Sub", "Mul", "Div":
		r.spread(n)
	case "LogSoftmax":
		log := &onnxio.Node{Name: n.Name + "/log", OpType: "Log", Inputs: []string{n.Outputs[0] + "/softmax"},
			Outputs: n.Outputs}
		n.OpType, n.Outputs = "Softmax", log.Inputs
		r.nodes = append(r.nodes, n, log)
		return
	}
	r.nodes = append(r.nodes, n)
}

// constant adds an initializer.
func (r *rewriter) constant(name string, t *onnxio.Tensor) string {
	t.Name = name
	r.g.Initializers = append(r.g.Initializers, t)
	return name
}

// spread gives a vector that is added along the last dimension the leading ones that say so: onnx-go would
// look for a dimension of its length. Of rank 4 it takes rank 3.
func (r *rewriter) spread(n *onnxio.Node) {
	for i, name := range n.Inputs {
		own, _ := dimsOf(r.shapes, name)
		other, _ := dimsOf(r.shapes, n.Inputs[1-i])
		t := r.g.Initializer(name)
		if t == nil || len(own) != 1 || len(other) < 2 {
			continue
		}
		c := *t
		c.Dims = append(slices.Repeat([]int64{1}, min(len(other), 3)-1), own[0])
		n.Inputs[i] = r.constant(fmt.Sprintf("%s/operand%d", n.Outputs[0], i), &c)
	}
}

// pairPads writes pads as onnx-go reads them: both sides of a dimension beside each other.
func pairPads(n *onnxio.Node) {
	for i, a := range n.Attrs {
		if a.Name == "pads" && len(a.Ints) == 4 {
			n.Attrs[i] = onnxio.IntsAttr("pads", a.Ints[0], a.Ints[2], a.Ints[1], a.Ints[3])
		}
	}
}

// without copies a node and leaves attributes out.
func without(n *onnxio.Node, attrs ...string) *onnxio.Node {
	c := *n
	c.Inputs = slices.Clone(n.Inputs)
	c.Attrs = slices.DeleteFunc(slices.Clone(n.Attrs), func(a *onnxio.Attribute) bool {
		return slices.Contains(attrs, a.Name)
	})
	return &c
}

// dimsOf is the shape of a value; ok is false when it is not known in numbers.
func dimsOf(shapes *infer.Result, name string) (dims []int64, ok bool) {
	v := shapes.ValueInfo(name)
	if v == nil || v.Type == nil || !v.Type.HasShape {
		return nil, false
	}
	for _, d := range v.Type.Shape {
		if !d.Known() {
			return nil, false
		}
		dims = append(dims, d.Value)
	}
	return dims, true
}

// rankOf is the number of dimensions of a value, -1 when it is not known.
func rankOf(shapes *infer.Result, name string) int {
	if v := shapes.ValueInfo(name); v != nil && v.Type != nil && v.Type.HasShape {
		return len(v.Type.Shape)
	}
	return -1
}

// refusal says why onnx-go cannot run a node of an operator that it knows, "" where it can. It was found by
// running each operator in both engines (TestForms).
func refusal(g *onnxio.Graph, n *onnxio.Node, shapes *infer.Result) string {
	for i, name := range n.Inputs {
		if name != "" && slices.Contains(n.Inputs[:i], name) {
			return fmt.Sprintf("cannot read %q twice in one node", name)
		}
	}
	if len(n.Outputs) > 1 && slices.ContainsFunc(n.Outputs[1:], func(o string) bool { return o != "" }) {
		return "gives one output of a node only"
	}
	rank := rankOf(shapes, n.Inputs[0])
	switch n.OpType {
	case "Conv", "MaxPool":
		return windowRefusal(n, rank)
	case "GlobalAveragePool", "BatchNormalization":
		if rank != 4 {
			return "takes inputs [N,C,H,W] only"
		}
		if n.Int("training_mode", 0) != 0 {
			return "does not train"
		}
	case "MatMul":
		if rank != 2 || rankOf(shapes, n.Inputs[1]) != 2 {
			return "multiplies matrices of two dimensions only"
		}
	case "Softmax", "LogSoftmax":
		if axis := n.Int("axis", 1); rank != 2 || axis != 1 && axis != -1 {
			return "takes inputs [N,C] only, along C"
		}
	case "Flatten":
		if axis := n.Int("axis", 1); axis < 0 {
			return fmt.Sprintf("flattens at axis %d as if it were 0", axis)
		}
	case "Dropout":
		if len(n.Inputs) > 2 && n.Inputs[2] != "" {
			return "does not train: export the model for inference, without training_mode"
		}
	case "Add", "Sub", "Mul", "Div":
		return broadcastRefusal(g, n, shapes)
	}
	return ""
}

func windowRefusal(n *onnxio.Node, rank int) string {
	pads := n.Ints("pads")
	switch {
	case rank != 4:
		return "takes inputs [N,C,H,W] only"
	case n.Int("group", 1) != 1:
		return fmt.Sprintf("has no group %d", n.Int("group", 1))
	case n.Str("auto_pad", "NOTSET") != "NOTSET":
		return "is given explicit pads only, not auto_pad"
	case len(pads) == 4 && (pads[0] != pads[2] || pads[1] != pads[3]):
		return fmt.Sprintf("has no pads %v, which differ between two sides", pads)
	case n.OpType == "MaxPool" && n.Int("ceil_mode", 0) != 0:
		return "has no ceil_mode"
	case n.OpType == "MaxPool" && slices.ContainsFunc(n.Ints("dilations"),
		func(d int64) bool { return d != 1 }):
		return fmt.Sprintf("has no dilations %v", n.Ints("dilations"))
	}
	return ""
}

// broadcastRefusal is for operands of two shapes: a scalar, a constant vector with a matrix or with
// [N,C,H,W], and [C,H,W] with [N,C,H,W], ones among them, are stretched; of equal rank only matrices are.
func broadcastRefusal(g *onnxio.Graph, n *onnxio.Node, shapes *infer.Result) string {
	a, b := shapes.ValueInfo(n.Inputs[0]), shapes.ValueInfo(n.Inputs[1])
	if a == nil || b == nil || !a.Type.HasShape || !b.Type.HasShape {
		return "needs to know the ranks of both operands"
	}
	p, q, of := len(a.Type.Shape), len(b.Type.Shape), n.Inputs[1]
	if p < q {
		p, q, of = q, p, n.Inputs[0]
	}
	switch {
	case q == 0, p == 2 && q == 2, p == 4 && q == 3, slices.Equal(a.Type.Shape, b.Type.Shape),
		(p == 4 || p == 2) && q == 1 && g.Initializer(of) != nil:
		return ""
	}
	return fmt.Sprintf("cannot stretch operands of %d and %d dimensions to each other", len(a.Type.Shape),
		len(b.Type.Shape))
}
