package onnxio

import (
	"bytes"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/cnnkit/cnnkit/onnxio/internal/onnxpb"
)

// Decode reads one .onnx file of size bytes. Tensors whose elements are in other files keep External set and
// have no elements; Load reads those too. What Decode gives is well formed as a message: every tensor has as
// many elements as its shape says. Whether it is a sensible graph is the business of package check.
//
// Errors are *FormatError, *UnsupportedError (an element type) and *LimitError.
func Decode(r io.ReaderAt, size int64, lim Limits) (*Model, error) {
	p := new(onnxpb.ModelProto)
	d, err := newDecoder(r, size, lim, p)
	if err != nil {
		return nil, err
	}
	return d.model(p)
}

// DecodeTensor reads one TensorProto, the content of a .pb file of the ONNX conformance suite.
func DecodeTensor(b []byte) (*Tensor, error) {
	p := new(onnxpb.TensorProto)
	d, err := newDecoder(bytes.NewReader(b), int64(len(b)), Limits{}, p)
	if err != nil {
		return nil, err
	}
	return d.tensor(p)
}

// decoder turns generated messages into the types of this package. It takes the messages apart as it goes, so
// that the memory of what has been read can be reused.
type decoder struct {
	cuts [][]byte // elements that scan left out of the message
}

func newDecoder(r io.ReaderAt, size int64, lim Limits, p proto.Message) (*decoder, error) {
	lim = lim.orDefault()
	b, cuts, err := scan(r, size, schemaOf(p), lim)
	if err != nil {
		return nil, err
	}
	if err := (proto.UnmarshalOptions{RecursionLimit: lim.Depth + 2}).Unmarshal(b, p); err != nil {
		return nil, &FormatError{Format: "onnx", Msg: "not a protobuf message", Err: err}
	}
	return &decoder{cuts: cuts}, nil
}

func (d *decoder) model(p *onnxpb.ModelProto) (*Model, error) {
	m := &Model{
		IRVersion:       p.GetIrVersion(),
		Opsets:          opsets(p.OpsetImport),
		ProducerName:    p.GetProducerName(),
		ProducerVersion: p.GetProducerVersion(),
		Domain:          p.GetDomain(),
		ModelVersion:    p.GetModelVersion(),
		Doc:             p.GetDocString(),
		Metadata:        properties(p.MetadataProps),
		Unknown:         unknown(p),
	}
	for _, t := range p.TrainingInfo {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(t)
		if err != nil {
			return nil, &FormatError{Format: "onnx", Where: "training_info", Msg: "cannot be written back",
				Err: err}
		}
		m.Training = append(m.Training, b)
	}
	var err error
	if p.Graph != nil {
		if m.Graph, err = d.graph(p.Graph); err != nil {
			return nil, err
		}
	}
	m.Functions = sized[*Function](len(p.Functions))
	for _, f := range p.Functions {
		fn, err := d.function(f)
		if err != nil {
			return nil, err
		}
		m.Functions = append(m.Functions, fn)
	}
	return m, nil
}

func (d *decoder) graph(p *onnxpb.GraphProto) (*Graph, error) {
	g := &Graph{
		Name:     p.GetName(),
		Doc:      p.GetDocString(),
		Inputs:   valueInfos(p.Input),
		Outputs:  valueInfos(p.Output),
		Values:   valueInfos(p.ValueInfo),
		Metadata: properties(p.MetadataProps),
		Unknown:  unknown(p),
	}
	var err error
	if g.Nodes, err = d.nodes(p.Node); err != nil {
		return nil, err
	}
	if g.Initializers, err = d.tensors(p.Initializer); err != nil {
		return nil, err
	}
	g.SparseInitializers = sized[*SparseTensor](len(p.SparseInitializer))
	for i, s := range p.SparseInitializer {
		p.SparseInitializer[i] = nil
		t, err := d.sparse(s)
		if err != nil {
			return nil, err
		}
		g.SparseInitializers = append(g.SparseInitializers, t)
	}
	g.Quantization = sized[QuantizationAnnotation](len(p.QuantizationAnnotation))
	for _, q := range p.QuantizationAnnotation {
		g.Quantization = append(g.Quantization, QuantizationAnnotation{
			Tensor: q.GetTensorName(), Params: properties(q.QuantParameterTensorNames), Unknown: unknown(q)})
	}
	return g, nil
}

func (d *decoder) nodes(ps []*onnxpb.NodeProto) ([]*Node, error) {
	if len(ps) == 0 {
		return nil, nil
	}
	out := make([]*Node, len(ps))
	for i, p := range ps {
		ps[i] = nil
		n := &Node{
			Name:     p.GetName(),
			OpType:   p.GetOpType(),
			Domain:   p.GetDomain(),
			Overload: p.GetOverload(),
			Inputs:   p.Input,
			Outputs:  p.Output,
			Doc:      p.GetDocString(),
			Metadata: properties(p.MetadataProps),
			Unknown:  unknown(p),
		}
		var err error
		if n.Attrs, err = d.attributes(p.Attribute); err != nil {
			return nil, inside(err, n.OpType+" "+quote(n.Name))
		}
		out[i] = n
	}
	return out, nil
}

func (d *decoder) attributes(ps []*onnxpb.AttributeProto) ([]*Attribute, error) {
	out := sized[*Attribute](len(ps))
	for i, p := range ps {
		ps[i] = nil
		a, err := d.attribute(p)
		if err != nil {
			return nil, inside(err, "attribute "+p.GetName())
		}
		out = append(out, a)
	}
	return out, nil
}

func (d *decoder) attribute(p *onnxpb.AttributeProto) (a *Attribute, err error) {
	a = &Attribute{
		Name:       p.GetName(),
		Type:       AttrType(p.GetType()),
		Ref:        p.GetRefAttrName(),
		Doc:        p.GetDocString(),
		F:          p.GetF(),
		I:          p.GetI(),
		S:          p.S,
		Floats:     p.Floats,
		Ints:       p.Ints,
		Strings:    p.Strings,
		TypeProto:  typeOf(p.Tp),
		TypeProtos: types(p.TypeProtos),
		Unknown:    unknown(p),
	}
	if a.Type == AttrUndefined && a.Ref == "" {
		a.Type = impliedType(p)
	}
	if p.T != nil {
		if a.T, err = d.tensor(p.T); err != nil {
			return nil, err
		}
	}
	if p.G != nil {
		if a.G, err = d.graph(p.G); err != nil {
			return nil, err
		}
	}
	if p.SparseTensor != nil {
		if a.Sparse, err = d.sparse(p.SparseTensor); err != nil {
			return nil, err
		}
	}
	if a.Tensors, err = d.tensors(p.Tensors); err != nil {
		return nil, err
	}
	a.Graphs = sized[*Graph](len(p.Graphs))
	for _, pg := range p.Graphs {
		g, err := d.graph(pg)
		if err != nil {
			return nil, err
		}
		a.Graphs = append(a.Graphs, g)
	}
	a.SparseTensors = sized[*SparseTensor](len(p.SparseTensors))
	for _, ps := range p.SparseTensors {
		s, err := d.sparse(ps)
		if err != nil {
			return nil, err
		}
		a.SparseTensors = append(a.SparseTensors, s)
	}
	return a, nil
}

// impliedType is the type of an attribute that does not say it, as files of IR version 1 do: that of
// the only field that is set.
func impliedType(p *onnxpb.AttributeProto) AttrType {
	found := AttrUndefined
	for _, f := range []struct {
		set bool
		t   AttrType
	}{
		{p.F != nil, AttrFloat}, {p.I != nil, AttrInt}, {p.S != nil, AttrString}, {p.T != nil, AttrTensor},
		{p.G != nil, AttrGraph}, {p.Floats != nil, AttrFloats}, {p.Ints != nil, AttrInts},
		{p.Strings != nil, AttrStrings}, {p.Tensors != nil, AttrTensors}, {p.Graphs != nil, AttrGraphs},
		{p.SparseTensor != nil, AttrSparseTensor}, {p.SparseTensors != nil, AttrSparseTensors},
		{p.Tp != nil, AttrTypeProto}, {p.TypeProtos != nil, AttrTypeProtos},
	} {
		if f.set && found != AttrUndefined {
			return AttrUndefined
		}
		if f.set {
			found = f.t
		}
	}
	return found
}

func (d *decoder) function(p *onnxpb.FunctionProto) (*Function, error) {
	f := &Function{
		Name:     p.GetName(),
		Domain:   p.GetDomain(),
		Overload: p.GetOverload(),
		Inputs:   p.Input,
		Outputs:  p.Output,
		Attrs:    p.Attribute,
		Opsets:   opsets(p.OpsetImport),
		Values:   valueInfos(p.ValueInfo),
		Doc:      p.GetDocString(),
		Metadata: properties(p.MetadataProps),
		Unknown:  unknown(p),
	}
	var err error
	if f.Nodes, err = d.nodes(p.Node); err != nil {
		return nil, inside(err, "function "+f.Name)
	}
	if f.AttrProtos, err = d.attributes(p.AttributeProto); err != nil {
		return nil, inside(err, "function "+f.Name)
	}
	return f, nil
}

// sized is an empty slice with room for n, nil for none.
func sized[T any](n int) []T {
	if n == 0 {
		return nil
	}
	return make([]T, 0, n)
}

// unknown is what the message holds beyond its schema, nil when nothing.
func unknown(p proto.Message) []byte {
	if u := p.ProtoReflect().GetUnknown(); len(u) > 0 {
		return u
	}
	return nil
}

func opsets(ps []*onnxpb.OperatorSetIdProto) []Opset {
	out := sized[Opset](len(ps))
	for _, p := range ps {
		out = append(out, Opset{Domain: p.GetDomain(), Version: p.GetVersion(), Unknown: string(unknown(p))})
	}
	return out
}

func properties(ps []*onnxpb.StringStringEntryProto) []Property {
	out := sized[Property](len(ps))
	for _, p := range ps {
		out = append(out, Property{Key: p.GetKey(), Value: p.GetValue(), Unknown: string(unknown(p))})
	}
	return out
}

func valueInfos(ps []*onnxpb.ValueInfoProto) []*ValueInfo {
	out := sized[*ValueInfo](len(ps))
	for i, p := range ps {
		ps[i] = nil
		out = append(out, &ValueInfo{Name: p.GetName(), Type: typeOf(p.Type), Doc: p.GetDocString(),
			Metadata: properties(p.MetadataProps), Unknown: unknown(p)})
	}
	return out
}

func types(ps []*onnxpb.TypeProto) []*Type {
	out := sized[*Type](len(ps))
	for _, p := range ps {
		out = append(out, typeOf(p))
	}
	return out
}

// typeOf turns a TypeProto around; nil stays nil.
func typeOf(p *onnxpb.TypeProto) *Type {
	if p == nil {
		return nil
	}
	t := &Type{Kind: NoType, Denotation: p.GetDenotation(), Unknown: unknown(p)}
	var inner proto.Message
	switch v := p.Value.(type) {
	case *onnxpb.TypeProto_TensorType:
		t.Kind, t.Elem, inner = TensorType, DataType(v.TensorType.GetElemType()), v.TensorType
		t.shape(v.TensorType.Shape)
	case *onnxpb.TypeProto_SparseTensorType:
		t.Kind, t.Elem, inner = SparseTensorType, DataType(v.SparseTensorType.GetElemType()),
			v.SparseTensorType
		t.shape(v.SparseTensorType.Shape)
	case *onnxpb.TypeProto_SequenceType:
		t.Kind, t.Of, inner = SequenceType, typeOf(v.SequenceType.ElemType), v.SequenceType
	case *onnxpb.TypeProto_OptionalType:
		t.Kind, t.Of, inner = OptionalType, typeOf(v.OptionalType.ElemType), v.OptionalType
	case *onnxpb.TypeProto_MapType:
		t.Kind, t.Key, t.Of, inner = MapType, DataType(v.MapType.GetKeyType()), typeOf(v.MapType.ValueType),
			v.MapType
	case *onnxpb.TypeProto_OpaqueType:
		t.Kind, inner = OpaqueType, v.OpaqueType
		t.Domain, t.Name = v.OpaqueType.GetDomain(), v.OpaqueType.GetName()
	}
	if inner != nil {
		t.ValueUnknown = unknown(inner)
	}
	return t
}

func (t *Type) shape(p *onnxpb.TensorShapeProto) {
	if p == nil {
		return
	}
	t.HasShape, t.ShapeUnknown = true, unknown(p)
	t.Shape = sized[Dim](len(p.Dim))
	for _, pd := range p.Dim {
		d := Dim{Value: -1, Denotation: pd.GetDenotation(), Unknown: string(unknown(pd))}
		switch v := pd.Value.(type) {
		case *onnxpb.TensorShapeProto_Dimension_DimValue:
			d.Value = max(v.DimValue, -1)
		case *onnxpb.TensorShapeProto_Dimension_DimParam:
			if v.DimParam != "" {
				d.Value, d.Param = 0, v.DimParam
			}
		}
		t.Shape = append(t.Shape, d)
	}
}
