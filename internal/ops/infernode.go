package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// maxFoldedBytes bounds what inference evaluates: the small vectors that hold shapes, axes and scales.
const maxFoldedBytes = 1 << 12

// InferNode infers the outputs of one node from what is known of its inputs (nil where an optional one is omitted).
// The result has an entry for each output of the node, nil where the node omits it. A node whose inputs are all small
// constants is evaluated, so that shapes computed by nodes are known where they are used.
func InferNode(node *Node, in []*Value) ([]*Value, error) {
	if err := arity(node, in); err != nil {
		return nil, err
	}
	c := &Infer{Node: node, In: withData(in)}
	for _, name := range node.Outputs {
		if name == "" {
			c.Out = append(c.Out, nil)
		} else {
			c.Out = append(c.Out, &Value{})
		}
	}
	if node.Def.Infer == nil {
		return nil, &onnxio.UnsupportedError{Op: node.OpType, Node: node.Name, Reason: "its shapes cannot be inferred"}
	}
	if err := node.Def.Infer(c); err != nil {
		return nil, err
	}
	foldNode(c)
	return c.Out, nil
}

// withData is in, where a constant whose elements have not been read (external data that onnxio.Decode leaves where it
// is) is a value of known type and shape alone.
func withData(in []*Value) []*Value {
	out := in
	for i, v := range in {
		if v == nil || v.Const == nil || hasData(v.Const) {
			continue
		}
		if &out[0] == &in[0] {
			out = append([]*Value(nil), in...)
		}
		bare := *v
		bare.Const = nil
		out[i] = &bare
	}
	return out
}

// hasData reports whether a tensor has all the elements that its shape says.
func hasData(t *onnxio.Tensor) bool {
	if t == nil || len(t.External) > 0 {
		return false
	}
	n, err := onnxio.CheckedBytes(t.Type, t.Dims)
	if t.Type == onnxio.String {
		n, err = onnxio.CheckedBytes(onnxio.Uint8, t.Dims)
		return err == nil && int64(len(t.Strings)) == n
	}
	return err == nil && int64(len(t.Raw)) == n
}

// Draws reports whether an operator of ai.onnx gives other numbers each time, so that it must not become a constant.
func Draws(op string) bool {
	switch op {
	case "Dropout", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli":
		return true
	}
	return false
}

// arity compares the numbers of inputs and outputs with the definition.
func arity(node *Node, in []*Value) error {
	d := node.Def
	required := 0
	for i, p := range d.Inputs {
		if !p.Optional {
			required = i + 1
		}
		if !p.Optional && (i >= len(in) || in[i] == nil) {
			return node.Errorf("input %d (%s) is missing", i, p.Name)
		}
	}
	if n := len(d.Inputs); len(in) > n && (n == 0 || !d.Inputs[n-1].Variadic) {
		return node.Errorf("%d inputs; it takes %d to %d", len(in), required, n)
	}
	if n := len(d.Outputs); len(node.Outputs) > n && (n == 0 || !d.Outputs[n-1].Variadic) {
		return node.Errorf("%d outputs; it has at most %d", len(node.Outputs), n)
	}
	return nil
}

// foldNode evaluates a node of small constant inputs; a failure leaves the outputs unknown, since it may concern a
// branch that never runs.
func foldNode(c *Infer) {
	if c.Node.Def.Eval == nil || len(c.In) == 0 || c.Node.Def.Domain == "" && Draws(c.Node.OpType) {
		return
	}
	ev := &Eval{Node: c.Node, In: make([]*onnxio.Tensor, len(c.In))}
	for i, v := range c.In {
		if v == nil {
			continue
		}
		if v.Const == nil || len(v.Const.Raw) > maxFoldedBytes || !hasData(v.Const) {
			return
		}
		ev.In[i] = v.Const
	}
	for _, o := range c.Out {
		if o == nil {
			continue
		}
		dims, ok := o.Dims()
		if o.Const != nil || !ok {
			return
		}
		if n, err := onnxio.CheckedBytes(o.Type, dims); err != nil || n > maxFoldedBytes {
			return
		}
	}
	if c.Node.Def.Eval(ev) != nil {
		return
	}
	for i, o := range c.Out {
		if o != nil && i < len(ev.Out) && ev.Out[i] != nil {
			o.Const = ev.Out[i]
		}
	}
}

// Known are the elements of an integer vector or scalar as dims, from Const or Elems; ok is false when it is unknown.
func (v *Value) Known() (elems []onnxio.Dim, ok bool) {
	if v == nil {
		return nil, false
	}
	if v.Elems != nil {
		return v.Elems, true
	}
	if v.Const == nil || v.Const.Type != onnxio.Int64 && v.Const.Type != onnxio.Int32 || !hasData(v.Const) {
		return nil, false
	}
	elems = []onnxio.Dim{}
	if v.Const.Type == onnxio.Int64 {
		for _, x := range onnxio.Data[int64](v.Const) {
			elems = append(elems, onnxio.Dim{Value: x})
		}
		return elems, true
	}
	for _, x := range onnxio.Data[int32](v.Const) {
		elems = append(elems, onnxio.Dim{Value: int64(x)})
	}
	return elems, true
}
