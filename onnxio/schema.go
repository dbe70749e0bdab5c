package onnxio

import (
	"sync"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/cnnkit/cnnkit/onnxio/internal/onnxpb"
)

// message is a message type as the scanner needs it: its fields by number, and the
// memory that one takes decoded.
type message struct {
	name   string
	fields []*field // by number; nil where there is none
	cost   int64
}

type field struct {
	name     string
	wire     protowire.Type
	repeated bool
	sub      *message // messages
	text     bool     // strings and bytes
	cut      bool     // a tensor's elements in their final form: read straight into the tensor
}

// get finds a field, nil when the schema does not have it.
func (m *message) get(num protowire.Number) *field {
	if int64(num) >= int64(len(m.fields)) {
		return nil
	}
	return m.fields[num]
}

// schema is built once from the generated descriptors, so that the scanner and the .proto cannot disagree.
var schema = sync.OnceValue(func() map[string]*message {
	all := map[string]*message{}
	build(all, (&onnxpb.ModelProto{}).ProtoReflect().Descriptor())
	return all
})

// costs is what one message takes decoded: the generated struct, ours, and the places that hold both.
var costs = map[string]int64{
	"GraphProto":             sizes[onnxpb.GraphProto, Graph](),
	"NodeProto":              sizes[onnxpb.NodeProto, Node](),
	"AttributeProto":         sizes[onnxpb.AttributeProto, Attribute](),
	"TensorProto":            sizes[onnxpb.TensorProto, Tensor](),
	"SparseTensorProto":      sizes[onnxpb.SparseTensorProto, SparseTensor](),
	"FunctionProto":          sizes[onnxpb.FunctionProto, Function](),
	"ValueInfoProto":         sizes[onnxpb.ValueInfoProto, ValueInfo](),
	"TypeProto":              sizes[onnxpb.TypeProto, Type](),
	"Dimension":              sizes[onnxpb.TensorShapeProto_Dimension, Dim](),
	"TensorAnnotation":       sizes[onnxpb.TensorAnnotation, QuantizationAnnotation](),
	"OperatorSetIdProto":     sizes[onnxpb.OperatorSetIdProto, Opset](),
	"StringStringEntryProto": sizes[onnxpb.StringStringEntryProto, Property](),
	"TrainingInfoProto":      sizes[onnxpb.TrainingInfoProto, [5][]byte](),
}

// growth is how many times the size of an element a slice allocates for it when it grows element by element,
// by a quarter each time: 1 + 4/5 + (4/5)^2 + ...
const growth = 5

// sizes adds up what a message takes as P and as G, rounded up as the allocator does, and
// the slots that hold them.
func sizes[P, G any]() int64 {
	return int64(unsafe.Sizeof(*new(P))+unsafe.Sizeof(*new(G)))*9/8 + growth*8 + 8 + 32
}

func build(all map[string]*message, d protoreflect.MessageDescriptor) *message {
	name := string(d.Name())
	if m := all[string(d.FullName())]; m != nil {
		return m
	}
	m := &message{name: name, cost: 160} // of types and shapes, which are part of ours
	if c, ok := costs[name]; ok {
		m.cost = c
	}
	all[string(d.FullName())] = m
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		f := &field{name: string(fd.Name()), repeated: fd.IsList()}
		switch fd.Kind() {
		case protoreflect.MessageKind:
			f.wire, f.sub = protowire.BytesType, build(all, fd.Message())
		case protoreflect.StringKind, protoreflect.BytesKind:
			f.wire, f.text = protowire.BytesType, true
			f.cut = name == "TensorProto" && fd.Name() == "raw_data"
		case protoreflect.FloatKind:
			f.wire, f.cut = protowire.Fixed32Type, name == "TensorProto"
		case protoreflect.DoubleKind:
			f.wire, f.cut = protowire.Fixed64Type, name == "TensorProto"
		default:
			f.wire = protowire.VarintType
		}
		for len(m.fields) <= int(fd.Number()) {
			m.fields = append(m.fields, nil)
		}
		m.fields[fd.Number()] = f
	}
	return m
}

func schemaOf(m protoreflect.ProtoMessage) *message {
	return schema()[string(m.ProtoReflect().Descriptor().FullName())]
}
