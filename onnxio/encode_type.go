package onnxio

import (
	"google.golang.org/protobuf/proto"

	"github.com/cnnkit/cnnkit/onnxio/internal/onnxpb"
)

// maxTypeDepth bounds sequences of sequences, as a type that contains itself would not end.
const maxTypeDepth = 64

func typeProto(t *Type) (*onnxpb.TypeProto, error) { return typeProtoAt(t, 0) }

func typeProtoAt(t *Type, depth int) (*onnxpb.TypeProto, error) {
	if t == nil {
		return nil, nil
	}
	if depth > maxTypeDepth {
		return nil, &LimitError{What: "nesting of types", Got: int64(depth), Limit: maxTypeDepth}
	}
	of, err := typeProtoAt(t.Of, depth+1)
	if err != nil {
		return nil, err
	}
	p := &onnxpb.TypeProto{Denotation: text(t.Denotation)}
	elem, key := int32(t.Elem), int32(t.Key)
	var inner proto.Message
	var shape *onnxpb.TensorShapeProto
	if t.HasShape {
		if shape, err = shapeProto(t); err != nil {
			return nil, err
		}
	}
	switch t.Kind {
	case TensorType:
		v := &onnxpb.TypeProto_Tensor{ElemType: &elem, Shape: shape}
		p.Value, inner = &onnxpb.TypeProto_TensorType{TensorType: v}, v
	case SparseTensorType:
		v := &onnxpb.TypeProto_SparseTensor{ElemType: &elem, Shape: shape}
		p.Value, inner = &onnxpb.TypeProto_SparseTensorType{SparseTensorType: v}, v
	case SequenceType:
		v := &onnxpb.TypeProto_Sequence{ElemType: of}
		p.Value, inner = &onnxpb.TypeProto_SequenceType{SequenceType: v}, v
	case OptionalType:
		v := &onnxpb.TypeProto_Optional{ElemType: of}
		p.Value, inner = &onnxpb.TypeProto_OptionalType{OptionalType: v}, v
	case MapType:
		v := &onnxpb.TypeProto_Map{KeyType: &key, ValueType: of}
		p.Value, inner = &onnxpb.TypeProto_MapType{MapType: v}, v
	case OpaqueType:
		v := &onnxpb.TypeProto_Opaque{Domain: text(t.Domain), Name: text(t.Name)}
		p.Value, inner = &onnxpb.TypeProto_OpaqueType{OpaqueType: v}, v
	case NoType:
	default:
		return nil, malformed("a type of kind %d", t.Kind)
	}
	if inner != nil {
		if err := setUnknown(inner, t.ValueUnknown); err != nil {
			return nil, err
		}
	}
	return p, setUnknown(p, t.Unknown)
}

func shapeProto(t *Type) (*onnxpb.TensorShapeProto, error) {
	p := &onnxpb.TensorShapeProto{}
	for _, d := range t.Shape {
		pd := &onnxpb.TensorShapeProto_Dimension{Denotation: text(d.Denotation)}
		switch {
		case d.Param != "":
			pd.Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: d.Param}
		case d.Value >= 0:
			pd.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d.Value}
		}
		if err := setUnknown(pd, []byte(d.Unknown)); err != nil {
			return nil, err
		}
		p.Dim = append(p.Dim, pd)
	}
	return p, setUnknown(p, t.ShapeUnknown)
}
