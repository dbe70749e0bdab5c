package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// Value is what inference knows of a value.
type Value struct {
	Type     onnxio.DataType
	Shape    []onnxio.Dim
	HasShape bool
	// Const is the value itself where it is known (initializers, folded constants).
	Const *onnxio.Tensor
	// Elems are the elements of a small integer vector or scalar that holds dimensions, some symbolic: what
	// Shape gives and Gather, Concat and Slice pass on to Reshape.
	Elems []onnxio.Dim
	// Kind is the type of a value that is no tensor, a sequence or an optional; nil for tensors.
	Kind *onnxio.Type
}

// Dims is the shape in numbers; ok is false when a dimension is unknown.
func (v *Value) Dims() (dims []int64, ok bool) {
	if v == nil || !v.HasShape {
		return nil, false
	}
	dims = make([]int64, len(v.Shape))
	for i, d := range v.Shape {
		if !d.Known() {
			return nil, false
		}
		dims[i] = d.Value
	}
	return dims, true
}

// Infer is one node's shape inference: In (nil where an optional input is omitted) to Out.
type Infer struct {
	Node *Node
	In   []*Value
	Out  []*Value // one per node output, filled in by Def.Infer; nil where the output is omitted
}

// Has reports whether input i is present.
func (c *Infer) Has(i int) bool { return i < len(c.In) && c.In[i] != nil }

// Set gives output i its type and shape.
func (c *Infer) Set(i int, t onnxio.DataType, shape []onnxio.Dim) {
	if i < len(c.Out) && c.Out[i] != nil {
		c.Out[i].Type, c.Out[i].Shape, c.Out[i].HasShape = t, append([]onnxio.Dim{}, shape...), true
	}
}

// SetType gives output i its type when the shape, even the rank, is unknown.
func (c *Infer) SetType(i int, t onnxio.DataType) {
	if i < len(c.Out) && c.Out[i] != nil {
		c.Out[i].Type = t
	}
}

// Eval is one node's execution by its reference kernel. Out may hold preallocated tensors; kernels get every
// output through Alloc, so that the same kernel serves a plan's arena and a caller with none.
type Eval struct {
	Node *Node
	In   []*onnxio.Tensor // nil where an optional input is omitted
	Out  []*onnxio.Tensor
	// Seed drives the operators that draw random numbers.
	Seed uint64
	// First and Images say, of a part of a batch, which image of the whole is its first and how many
	// images it has: an operator that draws a number for each element draws those of the whole.
	// Images 0: the batch is whole.
	First, Images int
	// Want says which outputs are asked for; nil: those that the node names.
	Want []bool
	// Limit bounds the bytes of one output; 0 is MaxBytes.
	Limit int64
}

// Has reports whether input i is present.
func (c *Eval) Has(i int) bool { return i >= 0 && i < len(c.In) && c.In[i] != nil }

// Wants reports whether output i is asked for.
func (c *Eval) Wants(i int) bool {
	if c.Want != nil {
		return i < len(c.Want) && c.Want[i]
	}
	return i < len(c.Node.Outputs) && c.Node.Outputs[i] != ""
}

// Alloc gives output i with this type and shape: the preallocated tensor (contents undefined) or a new one. A
// preallocated tensor of another shape is an error of shape inference.
func (c *Eval) Alloc(i int, t onnxio.DataType, dims ...int64) (*onnxio.Tensor, error) {
	for len(c.Out) <= i {
		c.Out = append(c.Out, nil)
	}
	if o := c.Out[i]; o != nil {
		if o.Type != t || !equal(o.Dims, dims) {
			got := append([]int64(nil), dims...) // keeps dims itself off the heap
			return nil, c.Node.Errorf("output %d is %v %v where inference said %v %v", i, t, got,
				o.Type, o.Dims)
		}
		return o, nil
	}
	shape := append([]int64(nil), dims...)
	sized := t
	if t == onnxio.String {
		sized = onnxio.Complex128 // a slice's header takes about as much
	}
	if n, err := onnxio.CheckedBytes(sized, shape); err != nil {
		return nil, c.Node.Errorf("output %d: %w", i, err)
	} else if limit := c.limit(); n > limit {
		return nil, c.Node.Errorf("output %d: %w", i, &onnxio.LimitError{What: "bytes of a tensor", Got: n,
			Limit: limit})
	}
	c.Out[i] = onnxio.NewTensor(t, shape...)
	return c.Out[i], nil
}

// MaxBytes bounds any one tensor that an operator may make where the caller sets no limit.
const MaxBytes = 1 << 34

func (c *Eval) limit() int64 {
	if c.Limit > 0 {
		return c.Limit
	}
	return MaxBytes
}

func equal(a, b []int64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// Graph is what a gradient needs of the graph it extends; the compiler implements it. Values are names.
type Graph interface {
	// Value is what inference knows of a value: in training every shape is known.
	Value(name string) *Value
	// Emit appends a node of the given domain with nOut outputs and infers their shapes; it
	// gives the outputs' names.
	Emit(domain, op string, nOut int, inputs []string, attrs ...*onnxio.Attribute) ([]string, error)
	// Const adds a constant.
	Const(t *onnxio.Tensor) string
	// Save makes the forward node n also yield its output i (an optional one) and gives its name.
	Save(n *Node, i int) (string, error)
}

// Grad is one node's step of the backward walk: from DOut, the gradients of its outputs, to DIn, those of its
// inputs.
type Grad struct {
	Graph
	Node *Node
	// Ins and Outs name the values of the node's inputs and outputs in the graph, "" where omitted. The
	// node's own names are those of the file, which passes may have replaced.
	Ins, Outs []string
	// DOut are names of gradients; "" where the output does not influence the loss. At least one is set.
	DOut []string
	// Wants says for each input whether its gradient is asked for.
	Wants []bool
	// DIn is filled in by Def.Grad; "" means no gradient (zero).
	DIn []string
}

// In is the name of input i, "" when omitted.
func (g *Grad) In(i int) string {
	if i < len(g.Ins) {
		return g.Ins[i]
	}
	return ""
}

// Out is the name of output i, "" when omitted.
func (g *Grad) Out(i int) string {
	if i < len(g.Outs) {
		return g.Outs[i]
	}
	return ""
}

// Dims is the shape of a value.
func (g *Grad) Dims(name string) []int64 {
	d, _ := g.Value(name).Dims()
	return d
}

// One emits a node with one output.
func (g *Grad) One(domain, op string, inputs []string, attrs ...*onnxio.Attribute) (string, error) {
	out, err := g.Emit(domain, op, 1, inputs, attrs...)
	if err != nil {
		return "", err
	}
	return out[0], nil
}
