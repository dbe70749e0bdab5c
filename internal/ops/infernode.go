package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// maxFoldedBytes bounds what inference evaluates: the small vectors that hold shapes, axes and scales.
const maxFoldedBytes = 1 << 12

// InferNode infers the outputs of one node from what is known of its inputs (nil where an optional
// one is omitted). The result has an entry for each output of the node, nil where the node omits it.
// A node whose inputs are all small constants is evaluated, so that shapes computed by nodes are
// known where they are used.
func InferNode(node *Node, in []*Value) ([]*Value, error) {
	want := make([]bool, len(node.Outputs))
	for i, name := range node.Outputs {
		want[i] = name != ""
	}
	return InferOutputs(node, in, want)
}

// InferOutputs is InferNode for the outputs that want asks for, whatever names the node has for them.
func InferOutputs(node *Node, in []*Value, want []bool) ([]*Value, error) {
	if err := arity(node, in, len(want)); err != nil {
		return nil, err
	}
	c := &Infer{Node: node, In: withData(in), Out: make([]*Value, len(want))}
	for i, wanted := range want {
		if wanted {
			c.Out[i] = &Value{}
		}
	}
	if node.Def.Infer == nil {
		return nil, &onnxio.UnsupportedError{Op: node.OpType, Node: node.Name,
			Reason: "its shapes cannot be inferred"}
	}
	if err := node.Def.Infer(c); err != nil {
		return nil, err
	}
	foldNode(c)
	return c.Out, nil
}

// withData is in, where a constant whose elements have not been read (external data that onnxio.Decode leaves
// where it is) is a value of known type and shape alone.
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

// arity compares the numbers of inputs and outputs with the version in force.
func arity(node *Node, in []*Value, outputs int) error {
	params, results := node.InParams(), node.OutParams()
	required := 0
	for i, p := range params {
		if !p.Optional {
			required = i + 1
		}
		if !p.Optional && (i >= len(in) || in[i] == nil) {
			return node.Errorf("input %d (%s) is missing", i, p.Name)
		}
	}
	if n := len(params); len(in) > n && (n == 0 || !params[n-1].Variadic) {
		return node.Errorf("%d inputs; %s-%d takes %d to %d", len(in), node.OpType, node.Since, required, n)
	}
	if outputs == 0 && len(results) > 0 && !results[0].Optional { // Infer functions count on the first
		return node.Errorf("it has no output")
	}
	if n := len(results); outputs > n && (n == 0 || !results[n-1].Variadic) {
		return node.Errorf("%d outputs; %s-%d has at most %d", outputs, node.OpType, node.Since, n)
	}
	return nil
}

// foldNode evaluates a node of small constant inputs; a failure leaves the outputs unknown, since it may
// concern a branch that never runs.
func foldNode(c *Infer) {
	if c.Node.Def.Eval == nil || len(c.In) == 0 || c.Node.Def.Random {
		return
	}
	ev := &Eval{Node: c.Node, In: make([]*onnxio.Tensor, len(c.In)), Want: make([]bool, len(c.Out))}
	for i, o := range c.Out {
		ev.Want[i] = o != nil
	}
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

// Known are the elements of an integer vector or scalar as dims, from Const or Elems; ok is
// false when it is unknown.
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
