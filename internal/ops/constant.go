package ops

import (
	"bytes"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Constant and ConstantOfShape.

func init() {
	register(
		&Def{Name: "Constant", Versions: []int64{1, 9, 11, 12, 13, 19, 21, 23, 24, 25},
			Attrs: []AttrDef{{Name: "value", Type: onnxio.AttrTensor},
				{Name: "sparse_value", Type: onnxio.AttrSparseTensor, Since: 11},
				floatA("value_float").since(12), {Name: "value_floats", Type: onnxio.AttrFloats,
					Since: 12}, intA("value_int").since(12),
				intsA("value_ints").since(12), stringA("value_string").since(12),
				{Name: "value_strings", Type: onnxio.AttrStrings, Since: 12}},
			Outputs: []Param{{Name: "output", Type: "T"}}, Types: allTypes,
			Infer: func(c *Infer) error {
				t, err := constantOf(c.Node)
				if err != nil {
					return err
				}
				c.Set(0, t.Type, knownDims(t.Dims))
				if c.Out[0] != nil && hasData(t) {
					c.Out[0].Const = t
				}
				return nil
			},
			Eval: func(c *Eval) error {
				t, err := constantOf(c.Node)
				if err != nil {
					return err
				}
				if !hasData(t) {
					return c.Node.Errorf("the elements of its value have not been read")
				}
				y, err := c.Alloc(0, t.Type, t.Dims...)
				if err == nil {
					copy(y.Raw, t.Raw)
					copy(y.Strings, t.Strings)
				}
				return err
			}},
		&Def{Name: "ConstantOfShape", Versions: []int64{9, 20, 21, 23, 24, 25},
			Attrs:  []AttrDef{{Name: "value", Type: onnxio.AttrTensor}},
			Inputs: []Param{{Name: "input", Type: "T1"}}, Outputs: []Param{{Name: "output", Type: "T2"}},
			Types: map[string]TypeSet{"T1": Set(onnxio.Int64), "T2": All},
			Infer: func(c *Infer) error {
				if err := inferReady(c); err != nil {
					return err
				}
				t, err := fillOf(c.Node)
				if err != nil {
					return err
				}
				c.SetType(0, t.Type)
				if dims, ok := c.In[0].Known(); ok {
					for _, d := range dims {
						if c.In[0].Elems == nil && d.Value < 0 {
							return c.Node.Errorf("shape %s has a negative dimension", shapeText(dims))
						}
					}
					c.Set(0, t.Type, dims)
				}
				return nil
			},
			Eval: func(c *Eval) error {
				t, err := fillOf(c.Node)
				if err != nil {
					return err
				}
				dims, _ := intsOf(c.In[0])
				y, err := c.Alloc(0, t.Type, dims...)
				if err != nil {
					return err
				}
				fillWith(y, t)
				return nil
			}})
}

// constantOf is the value of a Constant node, in whichever attribute it stands.
func constantOf(n *Node) (*onnxio.Tensor, error) {
	for _, a := range n.Attrs {
		switch a.Name {
		case "value":
			if a.T != nil {
				return a.T, nil
			}
		case "value_float":
			return onnxio.Scalar(onnxio.Float, a.F), nil
		case "value_int":
			return onnxio.Scalar(onnxio.Int64, a.I), nil
		case "value_floats":
			return onnxio.Floats(a.Floats, int64(len(a.Floats))), nil
		case "value_ints":
			return onnxio.Int64s(a.Ints, int64(len(a.Ints))), nil
		case "value_string":
			return &onnxio.Tensor{Type: onnxio.String, Dims: []int64{}, Strings: [][]byte{a.S}}, nil
		case "value_strings":
			return &onnxio.Tensor{Type: onnxio.String, Dims: []int64{int64(len(a.Strings))},
				Strings: a.Strings}, nil
		case "sparse_value":
			return nil, &onnxio.UnsupportedError{Op: "Constant", Node: n.Name, Attr: a.Name}
		}
	}
	return nil, n.Errorf("has no value")
}

// fillWith repeats the one element of t over y.
func fillWith(y, t *onnxio.Tensor) {
	pattern := t.Raw
	if bits := t.Type.Bits(); packed(t.Type) {
		var code [1]byte
		unpack(code[:], t.Raw, bits, 0)
		pattern = make([]byte, bits) // 8 elements
		pack(pattern, bytes.Repeat(code[:], 8), bits)
	}
	for at := 0; at < len(y.Raw); at += len(pattern) {
		copy(y.Raw[at:], pattern)
	}
	if used := y.Size() * int64(t.Type.Bits()) % 8; used != 0 {
		y.Raw[len(y.Raw)-1] &= 1<<used - 1
	}
}

// fillOf is the element that ConstantOfShape repeats, float32 zero by default.
func fillOf(n *Node) (*onnxio.Tensor, error) {
	a := n.Attr("value")
	if a == nil || a.T == nil {
		return onnxio.NewTensor(onnxio.Float, 1), nil
	}
	if a.T.Size() != 1 || a.T.Type.Bits() == 0 {
		return nil, n.Errorf("value must be one number")
	}
	if !hasData(a.T) {
		return nil, n.Errorf("the elements of its value have not been read")
	}
	return a.T, nil
}
