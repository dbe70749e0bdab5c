package onnxio

import (
	"github.com/cnnkit/cnnkit/onnxio/internal/onnxpb"
)

// tensor gives a TensorProto without raw_data, and whether that field belongs to it: numbers are always
// written as raw_data, the form that every reader takes and that needs no conversion.
func (e *encoder) tensor(t *Tensor) (head []byte, raw bool, err error) {
	if t == nil {
		return nil, false, malformed("a tensor is nil")
	}
	p, raw, err := e.tensorHead(t)
	if err == nil {
		head, err = marshal(p)
	}
	if err != nil {
		return nil, false, inside(err, "tensor "+quote(t.Name))
	}
	return head, raw, nil
}

func (e *encoder) tensorHead(t *Tensor) (p *onnxpb.TensorProto, raw bool, err error) {
	typ := int32(t.Type)
	p = &onnxpb.TensorProto{Dims: t.Dims, DataType: &typ, Name: text(t.Name), DocString: text(t.Doc)}
	if p.MetadataProps, err = propertyProtos(t.Metadata); err != nil {
		return nil, false, err
	}
	if err := setUnknown(p, t.Unknown); err != nil {
		return nil, false, err
	}
	if err := t.Check(); err != nil {
		return nil, false, err
	}
	if moved := e.external[t]; moved != nil {
		return p, false, setExternal(p, moved)
	}
	if len(t.External) > 0 {
		return p, false, setExternal(p, t.External)
	}
	p.StringData = t.Strings
	return p, t.Type != String, nil
}

func setExternal(p *onnxpb.TensorProto, refs []Property) (err error) {
	p.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
	p.ExternalData, err = propertyProtos(refs)
	return err
}

// tensorProto is a whole TensorProto, for tensors inside attributes and subgraphs. Its
// elements are shared with t.
func (e *encoder) tensorProto(t *Tensor) (*onnxpb.TensorProto, error) {
	if t == nil {
		return nil, malformed("a tensor is nil")
	}
	p, raw, err := e.tensorHead(t)
	if err != nil {
		return nil, inside(err, "tensor "+quote(t.Name))
	}
	if raw {
		if p.RawData = t.Raw; p.RawData == nil {
			p.RawData = []byte{}
		}
	}
	return p, nil
}

func (e *encoder) tensorProtos(ts []*Tensor) ([]*onnxpb.TensorProto, error) {
	var out []*onnxpb.TensorProto
	for _, t := range ts {
		p, err := e.tensorProto(t)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func (e *encoder) sparseProto(s *SparseTensor) (p *onnxpb.SparseTensorProto, err error) {
	if s == nil {
		return nil, malformed("a sparse tensor is nil")
	}
	p = &onnxpb.SparseTensorProto{Dims: s.Dims}
	if s.Values != nil {
		if p.Values, err = e.tensorProto(s.Values); err != nil {
			return nil, err
		}
	}
	if s.Indices != nil {
		if p.Indices, err = e.tensorProto(s.Indices); err != nil {
			return nil, err
		}
	}
	return p, setUnknown(p, s.Unknown)
}
