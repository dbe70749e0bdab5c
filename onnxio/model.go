package onnxio

// Model is ModelProto: a graph with the operator sets it is written in.
type Model struct {
	IRVersion       int64
	Opsets          []Opset
	ProducerName    string
	ProducerVersion string
	Domain          string
	ModelVersion    int64
	Doc             string
	Graph           *Graph
	Functions       []*Function
	// Metadata is metadata_props, in order: labels, preprocessing.
	Metadata []Property
	// Training is training_info, kept as encoded messages.
	Training [][]byte
	// Unknown holds protobuf fields of a newer schema, written back as they were read.
	Unknown []byte
}

// Opset is one OperatorSetIdProto; Domain "" is ai.onnx.
type Opset struct {
	Domain  string
	Version int64
	Unknown string // a string so that Opsets compare with ==
}

// Property is one StringStringEntryProto.
type Property struct {
	Key, Value string
	Unknown    string // a string so that Properties compare with ==
}

// Graph is GraphProto. Nodes are in topological order, unless a file has them otherwise (SortNodes).
type Graph struct {
	Name               string
	Doc                string
	Nodes              []*Node
	Inputs             []*ValueInfo
	Outputs            []*ValueInfo
	Values             []*ValueInfo // value_info
	Initializers       []*Tensor
	SparseInitializers []*SparseTensor
	Quantization       []QuantizationAnnotation
	Metadata           []Property
	Unknown            []byte
}

// Node is NodeProto: one operator application. An empty input name is an omitted optional input.
type Node struct {
	Name     string
	OpType   string
	Domain   string
	Overload string
	Inputs   []string
	Outputs  []string
	Attrs    []*Attribute
	Doc      string
	Metadata []Property
	Unknown  []byte
}

// AttrType is AttributeProto.AttributeType.
type AttrType int32

// The attribute types, with ONNX's numbers.
const (
	AttrUndefined     AttrType = 0
	AttrFloat         AttrType = 1
	AttrInt           AttrType = 2
	AttrString        AttrType = 3
	AttrTensor        AttrType = 4
	AttrGraph         AttrType = 5
	AttrFloats        AttrType = 6
	AttrInts          AttrType = 7
	AttrStrings       AttrType = 8
	AttrTensors       AttrType = 9
	AttrGraphs        AttrType = 10
	AttrSparseTensor  AttrType = 11
	AttrSparseTensors AttrType = 12
	AttrTypeProto     AttrType = 13
	AttrTypeProtos    AttrType = 14
)

// Attribute is AttributeProto; Type says which field holds the value.
type Attribute struct {
	Name          string
	Type          AttrType
	Ref           string // ref_attr_name, inside functions
	Doc           string
	F             float32
	I             int64
	S             []byte
	T             *Tensor
	G             *Graph
	Sparse        *SparseTensor
	TypeProto     *Type
	Floats        []float32
	Ints          []int64
	Strings       [][]byte
	Tensors       []*Tensor
	Graphs        []*Graph
	SparseTensors []*SparseTensor
	TypeProtos    []*Type
	Unknown       []byte
}

// SparseTensor is SparseTensorProto (COO).
type SparseTensor struct {
	Values  *Tensor
	Indices *Tensor
	Dims    []int64
	Unknown []byte
}

// QuantizationAnnotation is TensorAnnotation.
type QuantizationAnnotation struct {
	Tensor  string
	Params  []Property
	Unknown []byte
}

// Function is FunctionProto: a named subgraph used as an operator.
type Function struct {
	Name       string
	Domain     string
	Overload   string
	Inputs     []string
	Outputs    []string
	Attrs      []string     // attributes without a default
	AttrProtos []*Attribute // attributes with a default
	Nodes      []*Node
	Opsets     []Opset
	Values     []*ValueInfo
	Doc        string
	Metadata   []Property
	Unknown    []byte
}

// ValueInfo is ValueInfoProto: the name and type of a value.
type ValueInfo struct {
	Name     string
	Type     *Type
	Doc      string
	Metadata []Property
	Unknown  []byte
}

// TypeKind says which of TypeProto's alternatives a Type is.
type TypeKind int

// The alternatives of TypeProto.
const (
	TensorType TypeKind = iota
	SequenceType
	MapType
	OptionalType
	SparseTensorType
	OpaqueType
	// NoType is a TypeProto in which no alternative that this package knows is set.
	NoType
)

// Type is TypeProto. For tensors Elem and Shape count; HasShape false means that even the rank is unknown.
type Type struct {
	Kind       TypeKind
	Elem       DataType
	Shape      []Dim
	HasShape   bool
	Key        DataType // maps
	Of         *Type    // the element of a sequence or optional, the value of a map
	Domain     string   // opaque types: a name in a domain
	Name       string
	Denotation string
	Unknown    []byte
	// ValueUnknown and ShapeUnknown are the unknown fields of the alternative's own message and of its shape.
	ValueUnknown []byte
	ShapeUnknown []byte
}

// Dim is one dimension: Param when not empty is a symbolic name; otherwise Value, where -1 is unknown.
type Dim struct {
	Value      int64
	Param      string
	Denotation string
	Unknown    string // a string so that Dims compare with ==
}

// Known reports whether the dimension is a number.
func (d Dim) Known() bool { return d.Param == "" && d.Value >= 0 }

// TensorInfo describes a tensor value of known rank.
func TensorInfo(name string, elem DataType, shape ...Dim) *ValueInfo {
	return &ValueInfo{Name: name, Type: &Type{Elem: elem, Shape: shape, HasShape: true}}
}

// Shape turns numbers (int, int64) and names (string) into dims: Shape("N", 3, 32, 32).
func Shape(dims ...any) []Dim {
	out := make([]Dim, len(dims))
	for i, d := range dims {
		switch d := d.(type) {
		case int:
			out[i] = Dim{Value: int64(d)}
		case int64:
			out[i] = Dim{Value: d}
		case string:
			out[i] = Dim{Param: d}
		default:
			panic("onnxio: Shape takes int, int64 and string")
		}
	}
	return out
}

// Attr finds an attribute by name, nil when absent.
func (n *Node) Attr(name string) *Attribute {
	for _, a := range n.Attrs {
		if a.Name == name {
			return a
		}
	}
	return nil
}

// Int is the integer attribute name, or def when absent.
func (n *Node) Int(name string, def int64) int64 {
	if a := n.Attr(name); a != nil {
		return a.I
	}
	return def
}

// Float is the float attribute name, or def when absent.
func (n *Node) Float(name string, def float32) float32 {
	if a := n.Attr(name); a != nil {
		return a.F
	}
	return def
}

// Str is the string attribute name, or def when absent.
func (n *Node) Str(name, def string) string {
	if a := n.Attr(name); a != nil {
		return string(a.S)
	}
	return def
}

// Ints is the integer-list attribute name, or def when absent.
func (n *Node) Ints(name string, def ...int64) []int64 {
	if a := n.Attr(name); a != nil {
		return a.Ints
	}
	return def
}

// IntAttr, FloatAttr, StringAttr, IntsAttr and TensorAttr make attributes.
func IntAttr(name string, v int64) *Attribute { return &Attribute{Name: name, Type: AttrInt, I: v} }

// FloatAttr makes a float attribute.
func FloatAttr(name string, v float32) *Attribute {
	return &Attribute{Name: name, Type: AttrFloat, F: v}
}

// StringAttr makes a string attribute.
func StringAttr(name, v string) *Attribute {
	return &Attribute{Name: name, Type: AttrString, S: []byte(v)}
}

// IntsAttr makes an integer-list attribute.
func IntsAttr(name string, v ...int64) *Attribute {
	return &Attribute{Name: name, Type: AttrInts, Ints: v}
}

// TensorAttr makes a tensor attribute.
func TensorAttr(name string, t *Tensor) *Attribute {
	return &Attribute{Name: name, Type: AttrTensor, T: t}
}

// Initializer finds an initializer by name, nil when absent.
func (g *Graph) Initializer(name string) *Tensor {
	for _, t := range g.Initializers {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// Opset is the version of domain ("" or "ai.onnx") the model imports, 0 when it does not. A model of IR
// version 2 or older that imports nothing is of opset 1.
func (m *Model) Opset(domain string) int64 {
	domain = CanonicalDomain(domain)
	if domain == "" && len(m.Opsets) == 0 && m.IRVersion > 0 && m.IRVersion < 3 {
		return 1
	}
	for _, o := range m.Opsets {
		if CanonicalDomain(o.Domain) == domain {
			return o.Version
		}
	}
	return 0
}

// IRVersionFor is the IR version for a new model of an operator set of ai.onnx: the one of ONNX's release
// that brought the operator set, and 8 for all before 19, which every reader of today knows.
func IRVersionFor(opset int64) int64 {
	switch {
	case opset <= 18:
		return 8
	case opset <= 20:
		return 9
	}
	return 10
}

// Property finds a metadata property by key.
func (m *Model) Property(key string) (string, bool) {
	for _, p := range m.Metadata {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// SetProperty replaces or appends a metadata property.
func (m *Model) SetProperty(key, value string) {
	for i := range m.Metadata {
		if m.Metadata[i].Key == key {
			m.Metadata[i].Value = value
			return
		}
	}
	m.Metadata = append(m.Metadata, Property{Key: key, Value: value})
}
