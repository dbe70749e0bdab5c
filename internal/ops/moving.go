package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// moving makes a kernel that only copies elements of whole bytes serve every type. Inputs of output 0's type
// variable whose elements have no bytes of their own are replaced by stand-ins: packed elements by their
// codes, strings by their places in a list. The outputs of that variable are turned back.
func moving(kernel func(*Eval) error) func(*Eval) error {
	return func(c *Eval) error {
		variable := c.Node.OutParams()[0].Type
		s := standIns{words: [][]byte{nil}} // zeros, which Pad fills with, are the empty string
		inner := &Eval{Node: c.Node, Seed: c.Seed, In: c.In, Want: c.Want, Limit: c.Limit}
		for i, t := range c.In {
			if t == nil || !(packed(t.Type) || t.Type == onnxio.String) {
				continue
			}
			p := c.Node.param(i)
			if p == nil || p.Type != variable {
				continue
			}
			if s.typ != onnxio.Undefined && s.typ != t.Type {
				return c.Node.Errorf("inputs are of %v and of %v", s.typ, t.Type)
			}
			if s.typ == onnxio.Undefined {
				s.typ, inner.In = t.Type, append([]*onnxio.Tensor(nil), c.In...)
			}
			in, err := s.of(c, t)
			if err != nil {
				return err
			}
			inner.In[i] = in
		}
		if s.typ == onnxio.Undefined {
			return kernel(c)
		}
		if err := kernel(inner); err != nil {
			return err
		}
		return s.restore(c, inner.Out, variable)
	}
}

// standIns replaces tensors of one type.
type standIns struct {
	typ   onnxio.DataType
	words [][]byte
}

// of is the stand-in of a tensor: uint8 codes, or int64 places in words.
func (s *standIns) of(c *Eval, t *onnxio.Tensor) (*onnxio.Tensor, error) {
	as := onnxio.Uint8
	if s.typ == onnxio.String {
		as = onnxio.Int64
	}
	if size, err := onnxio.CheckedBytes(as, t.Dims); err != nil || size > c.limit() {
		return nil, c.Node.Errorf("%v %s is too large to be moved", t.Type, dimsText(t.Dims))
	}
	out := onnxio.NewTensor(as, t.Dims...)
	if as == onnxio.Uint8 {
		unpack(out.Raw, t.Raw, t.Type.Bits(), 0)
		return out, nil
	}
	places := onnxio.Data[int64](out)
	for i, w := range t.Strings {
		places[i] = int64(len(s.words))
		s.words = append(s.words, w)
	}
	return out, nil
}

// restore gives the outputs of a kernel that ran on stand-ins.
func (s *standIns) restore(c *Eval, outs []*onnxio.Tensor, variable string) error {
	params := c.Node.OutParams()
	for i, t := range outs {
		if t == nil {
			continue
		}
		typ := t.Type
		if params[min(i, len(params)-1)].Type == variable {
			typ = s.typ
		}
		y, err := c.Alloc(i, typ, t.Dims...)
		if err != nil {
			return err
		}
		switch {
		case typ == onnxio.String:
			for k, place := range onnxio.Data[int64](t) {
				y.Strings[k] = s.words[place]
			}
		case packed(typ):
			pack(y.Raw, t.Raw, typ.Bits())
		default:
			copy(y.Raw, t.Raw)
		}
	}
	return nil
}
