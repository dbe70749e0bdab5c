package builders

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Builder grows one graph. The first error sticks: later calls do nothing, and Model returns it.
type Builder struct {
	graph *onnxio.Graph
	opset int64
	seed  uint64
	scope string
	root  *Builder // holds graph and state; itself for the root
	err   error
	used  map[string]bool

	outline bool         // parameters get shapes, not numbers
	single  bool         // the batch is one image
	main    string       // the first output's name
	further []namedValue // outputs besides the first
	heads   []Head
	reuses  bool // layers of one name have one set of parameters
}

// Head is the logits of an auxiliary classifier: a value that nothing reads in inference, and whose loss
// training adds with a weight.
type Head struct {
	Value  string  `json:"value"`
	Weight float64 `json:"weight"`
}

// namedValue is an output and its name.
type namedValue struct {
	name string
	Value
}

// Value is a tensor in the graph being built: its name and its shape without the batch dimension,
// [C,H,W] or [F]. The shape of a Parameter, and of what is computed from parameters alone, is
// whole: these have no batch.
type Value struct {
	Name   string
	Shape  []int64
	fixed  bool // has no batch dimension
	tokens bool // features are the last axis, which Linear works on

	count string          // name of the first axis, where it is no batch but follows from data
	kind  onnxio.DataType // 0 is float32
}

// New starts a network with one input "input" of shape [N,shape...]. opset 0 is 17; seed
// determines every initial weight.
func New(name string, opset int64, seed uint64, shape ...int) *Builder {
	if opset == 0 {
		opset = 17
	}
	b := &Builder{graph: &onnxio.Graph{Name: name}, opset: opset, seed: seed, main: "output",
		used: map[string]bool{"input": true, "output": true}}
	b.root = b
	if opset < MinOpset || opset > MaxOpset {
		b.err = fmt.Errorf("%s: opset %d: the builders write opsets %d to %d", name, opset,
			MinOpset, MaxOpset)
	}
	dims := []onnxio.Dim{{Param: "N"}}
	for _, d := range shape {
		if d <= 0 {
			b.fail("input", "shape %v is not positive", shape)
		}
		dims = append(dims, onnxio.Dim{Value: int64(d)})
	}
	b.graph.Inputs = []*onnxio.ValueInfo{onnxio.TensorInfo("input", onnxio.Float, dims...)}
	return b
}

// The opsets that the builders can write.
const (
	MinOpset = 13
	MaxOpset = 21
)

// Input is the network's input.
func (b *Builder) Input() Value {
	dims := b.root.graph.Inputs[0].Type.Shape[1:]
	v := Value{Name: "input"}
	for _, d := range dims {
		v.Shape = append(v.Shape, d.Value)
	}
	return v
}

// AddInput is a further input of the network, name [N,shape...].
func (b *Builder) AddInput(name string, shape ...int) Value {
	v := Value{Name: name}
	for _, d := range shape {
		if d <= 0 {
			b.fail(name, "shape %v is not positive", shape)
		}
		v.Shape = append(v.Shape, int64(d))
	}
	if b.root.used[name] {
		b.fail(name, "there is a value of that name already")
	}
	if b.root.err == nil {
		b.root.used[name] = true
		b.root.graph.Inputs = append(b.root.graph.Inputs, b.info(v))
	}
	return v
}

// AddOutput makes v the output name, after "output" and those added before. It may be an output once.
func (b *Builder) AddOutput(name string, v Value) {
	for _, o := range b.root.further {
		if o.Value.Name == v.Name {
			b.fail(name, "%q is the output %q already", v.Name, o.name)
		}
	}
	if b.root.used[name] {
		b.fail(name, "there is a value of that name already")
	}
	b.root.used[name] = true
	b.root.further = append(b.root.further, namedValue{name, v})
}

// Scope is a builder whose layers' names begin with name and a dot. Scopes nest, and share graph and error.
func (b *Builder) Scope(name string) *Builder {
	return &Builder{root: b.root, scope: b.scope + name + ".", reuses: b.reuses}
}

// sharing is the scope with layers that may come again: those of one name have one set of parameters.
func (b *Builder) sharing() *Builder { return &Builder{root: b.root, scope: b.scope, reuses: true} }

// Err is the first error.
func (b *Builder) Err() error { return b.root.err }

// fail records the first error, naming the layer.
func (b *Builder) fail(layer, format string, args ...any) {
	if b.root.err == nil {
		b.root.err = fmt.Errorf("%s: %s: %w", b.root.graph.Name, b.scope+layer, fmt.Errorf(format, args...))
	}
}

// path is a layer's name in Netron's form: layer1.0.conv1 becomes layer1.0/conv1.
func (b *Builder) path(layer string) string {
	if b.scope == "" {
		return layer
	}
	return strings.TrimSuffix(b.scope, ".") + "/" + layer
}

// unique is a name not yet in use, numbered when it has to be.
func (b *Builder) unique(name string) string {
	r := b.root
	for i := 1; ; i++ {
		n := name
		if i > 1 {
			n = fmt.Sprintf("%s_%d", name, i)
		}
		if !r.used[n] {
			r.used[n] = true
			return n
		}
	}
}

// node appends an operator and gives its output of the given shape.
func (b *Builder) node(op, layer string, in []string, shape []int64, attrs ...*onnxio.Attribute) Value {
	if b.root.err != nil {
		return Value{Shape: shape}
	}
	v := Value{Name: b.append(op, b.path(layer), in, attrs), Shape: shape}
	b.root.graph.Values = append(b.root.graph.Values, b.info(v))
	return v
}

// apply is node with values: the output has no batch where no input has one, and is tokens where an input is.
func (b *Builder) apply(op, layer string, in []Value, shape []int64, attrs ...*onnxio.Attribute) Value {
	fixed, tokens := true, false
	var names []string
	for _, v := range in {
		fixed, tokens = fixed && v.fixed, tokens || v.tokens
		names = append(names, v.Name)
	}
	if b.root.err != nil {
		return Value{Shape: shape, fixed: fixed, tokens: tokens}
	}
	v := Value{Name: b.append(op, b.path(layer), names, attrs), Shape: shape, fixed: fixed, tokens: tokens}
	b.root.graph.Values = append(b.root.graph.Values, b.info(v))
	return v
}

// append appends an operator and gives its output's name, which is the node's.
func (b *Builder) append(op, name string, in []string, attrs []*onnxio.Attribute) string {
	name = b.unique(name)
	g := b.root.graph
	g.Nodes = append(g.Nodes, &onnxio.Node{Name: name, OpType: op, Inputs: in, Outputs: []string{name},
		Attrs: attrs})
	return name
}

func (b *Builder) info(v Value) *onnxio.ValueInfo {
	var dims []onnxio.Dim
	switch {
	case v.count != "":
		dims = []onnxio.Dim{{Param: v.count}}
	case v.fixed:
	case b.root.single:
		dims = []onnxio.Dim{{Value: 1}}
	default:
		dims = []onnxio.Dim{{Param: "N"}}
	}
	for _, d := range v.Shape {
		dims = append(dims, onnxio.Dim{Value: d})
	}
	kind := v.kind
	if kind == 0 {
		kind = onnxio.Float
	}
	return onnxio.TensorInfo(v.Name, kind, dims...)
}

// param adds an initializer named scope + layer + "." + what, filled by fill.
func (b *Builder) param(layer, what string, fill Init, dims ...int64) string {
	name := b.scope + what
	if layer != "" {
		name = b.scope + layer + "." + what
	}
	if b.root.err != nil {
		return name
	}
	if b.root.used[name] {
		if t := b.root.graph.Initializer(name); !b.reuses || t == nil || !slices.Equal(t.Dims, dims) {
			b.fail(layer, "there is a layer of that name already")
		}
		return name
	}
	if _, err := onnxio.CheckedBytes(onnxio.Float, dims); err != nil {
		b.fail(layer, "%w", err)
		return name
	}
	b.root.used[name] = true
	t := &onnxio.Tensor{Type: onnxio.Float, Dims: dims}
	if !b.root.outline {
		t = onnxio.NewTensor(onnxio.Float, dims...)
		fill(b.random(name), dims, t.Float32s())
	}
	t.Name = name
	b.root.graph.Initializers = append(b.root.graph.Initializers, t)
	return name
}

// Parameter is torch.nn.Parameter: the initializer name of the given shape, without a batch dimension.
func (b *Builder) Parameter(name string, fill Init, shape ...int) Value {
	v := Value{fixed: true}
	for _, d := range shape {
		v.Shape = append(v.Shape, int64(d))
	}
	v.Name = b.param("", name, fill, v.Shape...)
	return v
}

// Buffer is torch.nn.Module.register_buffer: numbers in the state dict that are not trained. A Cast to the
// type they have already tells them from parameters.
func (b *Builder) Buffer(name string, data []float32, shape ...int) Value {
	v := b.Parameter(name, func(_ *rand.Rand, _ []int64, to []float32) { copy(to, data) }, shape...)
	if t := b.root.graph.Initializer(v.Name); t != nil && t.Raw == nil { // an outline has its buffers
		t.Raw = onnxio.Floats(data, t.Dims...).Raw
	}
	return b.apply("Cast", name+"/buffer", []Value{v}, v.Shape, onnxio.IntAttr("to", int64(onnxio.Float)))
}

// IntBuffer is a buffer of integers, such as the index into a table.
func (b *Builder) IntBuffer(name string, data []int64, shape ...int) Value {
	v := Value{Name: b.scope + name, fixed: true}
	for _, d := range shape {
		v.Shape = append(v.Shape, int64(d))
	}
	if b.root.err == nil && b.root.used[v.Name] {
		b.fail(name, "there is a layer of that name already")
	}
	if b.root.err == nil {
		t := onnxio.Int64s(data)
		t.Name, t.Dims = v.Name, v.Shape
		b.root.used[v.Name] = true
		b.root.graph.Initializers = append(b.root.graph.Initializers, t)
	}
	return v
}

// is3 checks that v is a feature map.
func (b *Builder) is3(layer string, v Value) bool {
	if b.root.err == nil && len(v.Shape) != 3 {
		b.fail(layer, "takes a feature map [N,C,H,W], not %s", v)
	}
	return b.root.err == nil
}

// String writes the shape with its batch dimension: [N,16,28,28].
func (v Value) String() string {
	var dims []string
	if !v.fixed {
		dims = append(dims, "N")
	}
	for _, d := range v.Shape {
		dims = append(dims, fmt.Sprint(d))
	}
	return "[" + strings.Join(dims, ",") + "]"
}

// scalar adds an initializer without dimensions, which is no parameter: the slash in its name sets it apart.
func (b *Builder) scalar(layer, what string, v float32) string {
	t := onnxio.Scalar(onnxio.Float, v)
	t.Name = b.unique(b.path(layer) + "/" + what)
	b.root.graph.Initializers = append(b.root.graph.Initializers, t)
	return t.Name
}

// ints is the name of a Constant that a layer needs: numbers which are no part of the state dict.
func (b *Builder) ints(layer, what string, v ...int64) string {
	if b.root.err != nil {
		return ""
	}
	return b.append("Constant", b.path(layer)+"/"+what, nil,
		[]*onnxio.Attribute{onnxio.TensorAttr("value", onnxio.Int64s(v))})
}

// numbers appends an operator whose output, a vector of integers, has no batch dimension.
func (b *Builder) numbers(op, layer string, in []string, attrs ...*onnxio.Attribute) string {
	if b.root.err != nil {
		return ""
	}
	return b.append(op, b.path(layer), in, attrs)
}
