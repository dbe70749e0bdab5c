package check

import (
	"fmt"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// known is what the file itself says of a value, without inference.
type known struct {
	elem   onnxio.DataType // Undefined: not known, or not a tensor
	ranked bool
	dims   []int64 // -1: not known
	konst  *onnxio.Tensor
}

func fromType(t *onnxio.Type) *known {
	k := &known{}
	if t == nil || t.Kind != onnxio.TensorType {
		return k
	}
	k.elem, k.ranked = t.Elem, t.HasShape
	for _, d := range t.Shape {
		if d.Known() {
			k.dims = append(k.dims, d.Value)
		} else {
			k.dims = append(k.dims, -1)
		}
	}
	return k
}

// fromTensor is fixed when no caller can replace the value.
func fromTensor(t *onnxio.Tensor, fixed bool) *known {
	k := &known{elem: t.Type, ranked: true, dims: t.Dims}
	if fixed && t.Check() == nil && len(t.External) == 0 {
		k.konst = t
	}
	return k
}

// note remembers the value of a Constant node.
func (s *scope) note(n *onnxio.Node) {
	if n == nil || n.OpType != "Constant" || onnxio.CanonicalDomain(n.Domain) != "" || len(n.Outputs) != 1 ||
		len(n.Attrs) != 1 {
		return
	}
	var t *onnxio.Tensor
	switch a := n.Attrs[0]; {
	case a == nil || a.Ref != "":
		return
	case a.Name == "value" && a.T != nil:
		t = a.T
	case a.Name == "value_ints":
		t = onnxio.Int64s(a.Ints)
	case a.Name == "value_int":
		t = onnxio.Scalar(onnxio.Int64, a.I)
	default:
		return
	}
	s.known[n.Outputs[0]] = fromTensor(t, true)
}

// look finds what is known of a value here or in a graph around.
func (s *scope) look(name string) *known {
	for ; s != nil; s = s.parent {
		if _, here := s.names[name]; here {
			if k := s.known[name]; k != nil {
				return k
			}
			break
		}
	}
	return &known{}
}

// input is what is known of input i of n.
func (s *scope) input(n *onnxio.Node, i int) *known {
	if i >= len(n.Inputs) || n.Inputs[i] == "" {
		return &known{}
	}
	return s.look(n.Inputs[i])
}

// ints is the value of a constant integer tensor, at most 1-d.
func (k *known) ints() ([]int64, bool) {
	if k.konst == nil || len(k.konst.Dims) > 1 {
		return nil, false
	}
	switch k.konst.Type {
	case onnxio.Int64:
		return onnxio.Data[int64](k.konst), true
	case onnxio.Int32:
		var out []int64
		for _, v := range onnxio.Data[int32](k.konst) {
			out = append(out, int64(v))
		}
		return out, true
	}
	return nil, false
}

// floats is the value of a constant float tensor, at most 1-d.
func (k *known) floats() ([]float64, bool) {
	if k.konst == nil || len(k.konst.Dims) > 1 {
		return nil, false
	}
	switch k.konst.Type {
	case onnxio.Double:
		return onnxio.Data[float64](k.konst), true
	case onnxio.Float:
		var out []float64
		for _, v := range k.konst.Float32s() {
			out = append(out, float64(v))
		}
		return out, true
	}
	return nil, false
}

// typ checks a type all the way down.
func (c *checker) typ(where string, t *onnxio.Type) {
	for depth := 0; ; depth++ {
		if depth > 64 {
			c.bad(where, "the type nests deeper than 64")
			return
		}
		switch t.Kind {
		case onnxio.TensorType, onnxio.SparseTensorType:
			if !t.Elem.Valid() {
				c.bad(where, "the element type is %v", t.Elem)
			}
			c.dims(where, t)
			return
		case onnxio.MapType:
			if !t.Key.Valid() {
				c.bad(where, "the key type is %v", t.Key)
			}
		case onnxio.SequenceType, onnxio.OptionalType:
		case onnxio.OpaqueType:
			return
		default:
			c.bad(where, "no type is set")
			return
		}
		if t.Of == nil {
			c.bad(where, "a sequence, optional or map without a type inside")
			return
		}
		t = t.Of
	}
}

func (c *checker) dims(where string, t *onnxio.Type) {
	if !t.HasShape {
		return
	}
	var numbers []int64
	for _, d := range t.Shape {
		if d.Known() {
			numbers = append(numbers, d.Value)
		}
		c.name(where, "the dimension", d.Param)
	}
	c.bytes(where, t.Elem, numbers)
}

// bytes adds an error when a tensor of these dimensions is larger than any may be. A dimension of zero does
// not excuse the others: most readers multiply them in order.
func (c *checker) bytes(where string, elem onnxio.DataType, dims []int64) {
	if elem.Bits() == 0 {
		elem = onnxio.Uint8
	}
	n, err := onnxio.CheckedBytes(elem, dims)
	if err != nil {
		c.bad(where, "%v", err)
	} else if n > ops.MaxBytes {
		c.add(&onnxio.LimitError{What: where + ": bytes of a tensor", Got: n, Limit: ops.MaxBytes})
	}
}

// tensor checks that a tensor's elements agree with its shape.
func (c *checker) tensor(where, what string, t *onnxio.Tensor) {
	if err := t.Check(); err != nil {
		c.add(&onnxio.FormatError{Format: "onnx", Where: join(where, fmt.Sprintf("%s %q", what, t.Name)),
			Msg: message(err)})
	}
}

// message is err without the words that every FormatError starts with.
func message(err error) string {
	if f, ok := err.(*onnxio.FormatError); ok && f.Err == nil {
		return f.Msg
	}
	return err.Error()
}

// sparse checks a COO tensor: indices within dims, in ascending order, each once.
func (c *checker) sparse(where, what string, t *onnxio.SparseTensor) {
	where = join(where, what)
	before := len(c.problems) + c.more
	size, err := onnxio.CheckedBytes(onnxio.Uint8, t.Dims)
	if err != nil || len(t.Dims) == 0 {
		c.bad(where, "dims %v", t.Dims)
		return
	}
	if t.Values == nil || t.Indices == nil {
		c.bad(where, "values or indices are missing")
		return
	}
	c.tensor(where, "values", t.Values)
	c.tensor(where, "indices", t.Indices)
	c.bytes(where, t.Values.Type, t.Dims)
	if len(c.problems)+c.more > before {
		return
	}
	rank := int64(len(t.Dims))
	idx := t.Indices
	switch {
	case len(t.Values.Dims) != 1:
		c.bad(where, "values have shape %v, not [NNZ]", t.Values.Dims)
		return
	case idx.Type != onnxio.Int64 || len(idx.External) > 0:
		c.bad(where, "indices are %v, not int64 in the file", idx.Type)
		return
	case len(idx.Dims) == 0 || idx.Dims[0] != t.Values.Dims[0] || len(idx.Dims) > 2 || len(idx.Dims) == 2 &&
		idx.Dims[1] != rank:
		c.bad(where, "indices have shape %v for %d values of rank %d", idx.Dims, t.Values.Dims[0], rank)
		return
	}
	last, data := int64(-1), onnxio.Data[int64](idx)
	for i := range int(t.Values.Dims[0]) {
		flat := int64(0)
		if len(idx.Dims) == 1 {
			flat = data[i]
		} else {
			for d, v := range data[i*int(rank):][:rank] {
				if v < 0 || v >= t.Dims[d] {
					flat = size
					break
				}
				flat = flat*t.Dims[d] + v
			}
		}
		if flat < 0 || flat >= size || flat <= last {
			c.bad(where, "index %d is outside of %v or not in ascending order", i, t.Dims)
			return
		}
		last = flat
	}
}
