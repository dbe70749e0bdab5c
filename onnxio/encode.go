package onnxio

import (
	"bytes"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/cnnkit/cnnkit/onnxio/internal/onnxpb"
)

// Encode gives the bytes of an .onnx file. The same model gives the same bytes, and Decode gives the same
// model back. A model of 2 GiB or more does not fit into one file: Save puts its tensors beside it.
func Encode(m *Model) ([]byte, error) {
	e := &encoder{}
	if err := e.model(m); err != nil {
		return nil, err
	}
	if e.size > maxMessage {
		return nil, &LimitError{What: "bytes of the model", Got: e.size, Limit: maxMessage}
	}
	return e.bytes(), nil
}

// EncodeTensor gives the bytes of a TensorProto, the content of a .pb file of the ONNX conformance suite.
func EncodeTensor(t *Tensor) ([]byte, error) {
	e := &encoder{}
	head, raw, err := e.tensor(t)
	if err != nil {
		return nil, err
	}
	e.put(head)
	e.rawData(t, raw)
	return e.bytes(), nil
}

// encoder collects a file in pieces. The elements of the graph's initializers stay where they are, so that
// writing a model takes little more memory than the model.
type encoder struct {
	pieces [][]byte
	size   int64
	// external holds the references of tensors whose elements are written to another file.
	external map[*Tensor][]Property
	depth    int // of graphs inside graphs
}

// maxGraphDepth keeps what is written within the nesting of messages that readers
// allow: graph, node, attribute.
const maxGraphDepth = 30

func (e *encoder) put(b []byte) {
	if len(b) > 0 {
		e.pieces = append(e.pieces, b)
		e.size += int64(len(b))
	}
}

func (e *encoder) bytes() []byte {
	out := make([]byte, 0, e.size)
	for _, p := range e.pieces {
		out = append(out, p...)
	}
	return out
}

func (e *encoder) write(w io.Writer) error {
	for _, p := range e.pieces {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// header is the tag and the length of a message field of n bytes.
func header(num protowire.Number, n int64) []byte {
	b := protowire.AppendTag(nil, num, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(n))
}

func marshal(p proto.Message) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
	if err != nil {
		return nil, &FormatError{Format: "onnx", Msg: "cannot be encoded", Err: err}
	}
	return b, nil
}

// The numbers of the fields that the encoder writes itself.
const (
	modelGraphField       protowire.Number = 7
	modelTrainingField    protowire.Number = 20
	graphInitializerField protowire.Number = 5
)

// model writes the fields in the order of their numbers, the unknown ones last.
func (e *encoder) model(m *Model) error {
	if m == nil {
		return malformed("no model")
	}
	head, err := marshal(&onnxpb.ModelProto{
		IrVersion:       number(m.IRVersion),
		ProducerName:    text(m.ProducerName),
		ProducerVersion: text(m.ProducerVersion),
		Domain:          text(m.Domain),
		ModelVersion:    number(m.ModelVersion),
		DocString:       text(m.Doc),
	})
	if err != nil {
		return err
	}
	e.put(head)
	if m.Graph != nil {
		if err := e.graph(m.Graph); err != nil {
			return err
		}
	}
	var rest, last onnxpb.ModelProto
	if rest.OpsetImport, err = opsetProtos(m.Opsets); err != nil {
		return err
	}
	if rest.MetadataProps, err = propertyProtos(m.Metadata); err != nil {
		return err
	}
	for _, f := range m.Functions {
		if f == nil {
			return malformed("a function is nil")
		}
		p, err := e.functionProto(f)
		if err != nil {
			return inside(err, "function "+quote(f.Name))
		}
		last.Functions = append(last.Functions, p)
	}
	if err := setUnknown(&last, m.Unknown); err != nil {
		return err
	}
	b, err := marshal(&rest)
	if err != nil {
		return err
	}
	e.put(b)
	for _, t := range m.Training {
		if _, _, err := scan(bytes.NewReader(t), int64(len(t)), schemaOf(&onnxpb.TrainingInfoProto{}),
			Limits{}.orDefault()); err != nil {
			return inside(err, "training_info")
		}
		e.put(header(modelTrainingField, int64(len(t))))
		e.put(t)
	}
	if b, err = marshal(&last); err != nil {
		return err
	}
	e.put(b)
	return nil
}

// graph writes the model's own graph, whose initializers are taken piece by piece.
func (e *encoder) graph(g *Graph) error {
	p, err := e.graphProto(g, false)
	if err != nil {
		return err
	}
	head, err := marshal(&onnxpb.GraphProto{Node: p.Node, Name: p.Name})
	if err != nil {
		return err
	}
	p.Node, p.Name = nil, nil
	tail, err := marshal(p)
	if err != nil {
		return err
	}
	inner := &encoder{external: e.external}
	inner.put(head)
	for _, t := range g.Initializers {
		b, raw, err := e.tensor(t)
		if err != nil {
			return err
		}
		size := int64(len(b))
		if raw {
			size += int64(len(header(rawDataField, int64(len(t.Raw))))) + int64(len(t.Raw))
		}
		inner.put(append(header(graphInitializerField, size), b...))
		inner.rawData(t, raw)
	}
	inner.put(tail)
	e.put(header(modelGraphField, inner.size))
	for _, b := range inner.pieces {
		e.put(b)
	}
	return nil
}

// rawData writes the raw_data field of t when raw says that it has one.
func (e *encoder) rawData(t *Tensor, raw bool) {
	if raw {
		e.put(header(rawDataField, int64(len(t.Raw))))
		e.put(t.Raw)
	}
}

// graphProto turns a graph around; with initializers only when it is a subgraph.
func (e *encoder) graphProto(g *Graph, initializers bool) (p *onnxpb.GraphProto, err error) {
	if g == nil {
		return nil, malformed("a graph is nil")
	}
	if e.depth++; e.depth > maxGraphDepth {
		return nil, &LimitError{What: "nesting of graphs", Got: int64(e.depth), Limit: maxGraphDepth}
	}
	defer func() { e.depth-- }()
	p = &onnxpb.GraphProto{Name: text(g.Name), DocString: text(g.Doc)}
	if p.Node, err = e.nodeProtos(g.Nodes); err != nil {
		return nil, err
	}
	if p.Input, err = valueInfoProtos(g.Inputs); err != nil {
		return nil, err
	}
	if p.Output, err = valueInfoProtos(g.Outputs); err != nil {
		return nil, err
	}
	if p.ValueInfo, err = valueInfoProtos(g.Values); err != nil {
		return nil, err
	}
	if p.MetadataProps, err = propertyProtos(g.Metadata); err != nil {
		return nil, err
	}
	if initializers {
		if p.Initializer, err = e.tensorProtos(g.Initializers); err != nil {
			return nil, err
		}
	}
	for _, s := range g.SparseInitializers {
		ps, err := e.sparseProto(s)
		if err != nil {
			return nil, err
		}
		p.SparseInitializer = append(p.SparseInitializer, ps)
	}
	for _, q := range g.Quantization {
		params, err := propertyProtos(q.Params)
		if err != nil {
			return nil, err
		}
		pq := &onnxpb.TensorAnnotation{TensorName: text(q.Tensor), QuantParameterTensorNames: params}
		if err := setUnknown(pq, q.Unknown); err != nil {
			return nil, err
		}
		p.QuantizationAnnotation = append(p.QuantizationAnnotation, pq)
	}
	return p, setUnknown(p, g.Unknown)
}

func (e *encoder) nodeProtos(nodes []*Node) ([]*onnxpb.NodeProto, error) {
	out := make([]*onnxpb.NodeProto, len(nodes))
	for i, n := range nodes {
		if n == nil {
			return nil, malformed("node %d is nil", i)
		}
		p := &onnxpb.NodeProto{
			Input:     n.Inputs,
			Output:    n.Outputs,
			Name:      text(n.Name),
			OpType:    text(n.OpType),
			Domain:    text(n.Domain),
			Overload:  text(n.Overload),
			DocString: text(n.Doc),
		}
		var err error
		if p.Attribute, err = e.attributeProtos(n.Attrs); err == nil {
			p.MetadataProps, err = propertyProtos(n.Metadata)
		}
		if err == nil {
			err = setUnknown(p, n.Unknown)
		}
		if err != nil {
			return nil, inside(err, n.OpType+" "+quote(n.Name))
		}
		out[i] = p
	}
	return out, nil
}

func (e *encoder) attributeProtos(attrs []*Attribute) ([]*onnxpb.AttributeProto, error) {
	var out []*onnxpb.AttributeProto
	for _, a := range attrs {
		if a == nil {
			return nil, malformed("an attribute is nil")
		}
		p, err := e.attributeProto(a)
		if err != nil {
			return nil, inside(err, "attribute "+a.Name)
		}
		out = append(out, p)
	}
	return out, nil
}

// attributeProto sets the field of the attribute's type even when it is zero, since readers look whether it
// is there, and any other field that is not zero.
func (e *encoder) attributeProto(a *Attribute) (p *onnxpb.AttributeProto, err error) {
	typ := onnxpb.AttributeProto_AttributeType(a.Type)
	p = &onnxpb.AttributeProto{Name: text(a.Name), Type: &typ, RefAttrName: text(a.Ref),
		DocString: text(a.Doc),
		Floats:    a.Floats, Ints: a.Ints, Strings: a.Strings, S: a.S}
	value := a.Ref == ""
	if a.F != 0 || value && a.Type == AttrFloat {
		p.F = &a.F
	}
	if a.I != 0 || value && a.Type == AttrInt {
		p.I = &a.I
	}
	if len(a.S) == 0 {
		p.S = nil
		if value && a.Type == AttrString {
			p.S = []byte{}
		}
	}
	if a.T != nil {
		if p.T, err = e.tensorProto(a.T); err != nil {
			return nil, err
		}
	}
	if a.G != nil {
		if p.G, err = e.graphProto(a.G, true); err != nil {
			return nil, err
		}
	}
	if a.Sparse != nil {
		if p.SparseTensor, err = e.sparseProto(a.Sparse); err != nil {
			return nil, err
		}
	}
	if a.TypeProto != nil {
		if p.Tp, err = typeProto(a.TypeProto); err != nil {
			return nil, err
		}
	}
	return p, e.attributeLists(a, p)
}

// attributeLists sets the fields that are lists of messages, and the unknown ones.
func (e *encoder) attributeLists(a *Attribute, p *onnxpb.AttributeProto) (err error) {
	if p.Tensors, err = e.tensorProtos(a.Tensors); err != nil {
		return err
	}
	for _, g := range a.Graphs {
		pg, err := e.graphProto(g, true)
		if err != nil {
			return err
		}
		p.Graphs = append(p.Graphs, pg)
	}
	for _, s := range a.SparseTensors {
		ps, err := e.sparseProto(s)
		if err != nil {
			return err
		}
		p.SparseTensors = append(p.SparseTensors, ps)
	}
	for _, t := range a.TypeProtos {
		if t == nil {
			return malformed("a type is nil")
		}
		pt, err := typeProto(t)
		if err != nil {
			return err
		}
		p.TypeProtos = append(p.TypeProtos, pt)
	}
	return setUnknown(p, a.Unknown)
}

func (e *encoder) functionProto(f *Function) (p *onnxpb.FunctionProto, err error) {
	p = &onnxpb.FunctionProto{
		Name:      text(f.Name),
		Domain:    text(f.Domain),
		Overload:  text(f.Overload),
		Input:     f.Inputs,
		Output:    f.Outputs,
		Attribute: f.Attrs,
		DocString: text(f.Doc),
	}
	if p.Node, err = e.nodeProtos(f.Nodes); err != nil {
		return nil, err
	}
	if p.AttributeProto, err = e.attributeProtos(f.AttrProtos); err != nil {
		return nil, err
	}
	if p.OpsetImport, err = opsetProtos(f.Opsets); err != nil {
		return nil, err
	}
	if p.ValueInfo, err = valueInfoProtos(f.Values); err != nil {
		return nil, err
	}
	if p.MetadataProps, err = propertyProtos(f.Metadata); err != nil {
		return nil, err
	}
	return p, setUnknown(p, f.Unknown)
}

// text and number leave a field out that has its default.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func number(v int64) *int64 {
	if v == 0 {
		return nil
	}
	return &v
}

// setUnknown puts fields of a newer schema back. They must be whole, and none may be one that this schema
// has, or decoding would give another model.
func setUnknown(p proto.Message, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	fields := p.ProtoReflect().Descriptor().Fields()
	for rest := b; len(rest) > 0; {
		num, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			return malformed("the unknown fields are broken: %v", protowire.ParseError(n))
		}
		if f := fields.ByNumber(num); f != nil {
			return malformed("field %d among the unknown fields is %s", num, f.Name())
		}
		rest = rest[n:]
	}
	p.ProtoReflect().SetUnknown(b)
	return nil
}

func opsetProtos(opsets []Opset) ([]*onnxpb.OperatorSetIdProto, error) {
	var out []*onnxpb.OperatorSetIdProto
	for _, o := range opsets {
		p := &onnxpb.OperatorSetIdProto{Domain: &o.Domain, Version: &o.Version}
		if err := setUnknown(p, []byte(o.Unknown)); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func propertyProtos(props []Property) ([]*onnxpb.StringStringEntryProto, error) {
	var out []*onnxpb.StringStringEntryProto
	for _, kv := range props {
		p := &onnxpb.StringStringEntryProto{Key: &kv.Key, Value: &kv.Value}
		if err := setUnknown(p, []byte(kv.Unknown)); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func valueInfoProtos(values []*ValueInfo) ([]*onnxpb.ValueInfoProto, error) {
	var out []*onnxpb.ValueInfoProto
	for _, v := range values {
		if v == nil {
			return nil, malformed("a value info is nil")
		}
		p := &onnxpb.ValueInfoProto{Name: text(v.Name), DocString: text(v.Doc)}
		var err error
		if v.Type != nil {
			p.Type, err = typeProto(v.Type)
		}
		if err == nil {
			p.MetadataProps, err = propertyProtos(v.Metadata)
		}
		if err == nil {
			err = setUnknown(p, v.Unknown)
		}
		if err != nil {
			return nil, inside(err, "value "+quote(v.Name))
		}
		out = append(out, p)
	}
	return out, nil
}
