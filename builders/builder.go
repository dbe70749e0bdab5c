package builders

import (
	"fmt"
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
}

// Value is a tensor in the graph being built: its name and its shape without the batch dimension, [C,H,W] or [F].
type Value struct {
	Name  string
	Shape []int64
}

// New starts a network with one input "input" of shape [N,shape...]. opset 0 is 17; seed determines every initial
// weight.
func New(name string, opset int64, seed uint64, shape ...int) *Builder {
	if opset == 0 {
		opset = 17
	}
	b := &Builder{graph: &onnxio.Graph{Name: name}, opset: opset, seed: seed, used: map[string]bool{"input": true, "output": true}}
	b.root = b
	if opset < MinOpset || opset > MaxOpset {
		b.err = fmt.Errorf("%s: opset %d: the builders write opsets %d to %d", name, opset, MinOpset, MaxOpset)
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

// Scope is a builder whose layers' names begin with name and a dot. Scopes nest, and share graph and error.
func (b *Builder) Scope(name string) *Builder {
	return &Builder{root: b.root, scope: b.scope + name + "."}
}

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
	v := Value{b.append(op, b.path(layer), in, attrs), shape}
	b.root.graph.Values = append(b.root.graph.Values, info(v))
	return v
}

// append appends an operator and gives its output's name, which is the node's.
func (b *Builder) append(op, name string, in []string, attrs []*onnxio.Attribute) string {
	name = b.unique(name)
	g := b.root.graph
	g.Nodes = append(g.Nodes, &onnxio.Node{Name: name, OpType: op, Inputs: in, Outputs: []string{name}, Attrs: attrs})
	return name
}

func info(v Value) *onnxio.ValueInfo {
	dims := []onnxio.Dim{{Param: "N"}}
	for _, d := range v.Shape {
		dims = append(dims, onnxio.Dim{Value: d})
	}
	return onnxio.TensorInfo(v.Name, onnxio.Float, dims...)
}

// param adds an initializer named scope + layer + "." + what, filled by fill.
func (b *Builder) param(layer, what string, fill Init, dims ...int64) string {
	name := b.scope + layer + "." + what
	if b.root.err != nil {
		return name
	}
	if b.root.used[name] {
		b.fail(layer, "there is a layer of that name already")
		return name
	}
	if _, err := onnxio.CheckedBytes(onnxio.Float, dims); err != nil {
		b.fail(layer, "%w", err)
		return name
	}
	b.root.used[name] = true
	t := onnxio.NewTensor(onnxio.Float, dims...)
	t.Name = name
	fill(b.random(name), dims, t.Float32s())
	b.root.graph.Initializers = append(b.root.graph.Initializers, t)
	return name
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
	s := "[N"
	for _, d := range v.Shape {
		s += fmt.Sprintf(",%d", d)
	}
	return s + "]"
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
	return b.append("Constant", b.path(layer)+"/"+what, nil, []*onnxio.Attribute{onnxio.TensorAttr("value", onnxio.Int64s(v))})
}

// numbers appends an operator whose output, a vector of integers, has no batch dimension.
func (b *Builder) numbers(op, layer string, in []string, attrs ...*onnxio.Attribute) string {
	return b.append(op, b.path(layer), in, attrs)
}

// Model finishes the network: out becomes the graph's output "output". The model has its own weights, so that the
// builder may grow further.
func (b *Builder) Model(out Value) (*onnxio.Model, error) {
	m, err := b.finish(out)
	if err != nil {
		return nil, err
	}
	for i, t := range m.Graph.Initializers {
		m.Graph.Initializers[i] = t.Clone()
	}
	return m, nil
}

// finish is Model with the builder's own weights.
func (b *Builder) finish(out Value) (*onnxio.Model, error) {
	r := b.root
	if r.err != nil {
		return nil, r.err
	}
	if len(r.graph.Nodes) == 0 {
		return nil, fmt.Errorf("%s: the network has no layers", r.graph.Name)
	}
	found := false
	own := *r.graph // the builder's stays as it is
	g := &own
	g.Values, g.Nodes = nil, nil
	g.Inputs, g.Initializers = slices.Clone(r.graph.Inputs), slices.Clone(r.graph.Initializers)
	for _, v := range r.graph.Values {
		if v.Name != out.Name {
			g.Values = append(g.Values, v)
		}
		found = found || v.Name == out.Name
	}
	if !found {
		return nil, fmt.Errorf("%s: no layer gives %q, which is to be the output", r.graph.Name, out.Name)
	}
	for _, n := range r.graph.Nodes {
		c := *n
		c.Inputs, c.Outputs = renamed(n.Inputs, out.Name), renamed(n.Outputs, out.Name)
		g.Nodes = append(g.Nodes, &c)
	}
	g.Outputs = []*onnxio.ValueInfo{info(Value{"output", out.Shape})}
	return &onnxio.Model{
		IRVersion: irVersion(r.opset), Opsets: []onnxio.Opset{{Version: r.opset}}, ProducerName: "cnnkit", Graph: g,
	}, nil
}

func renamed(names []string, from string) []string {
	out := slices.Clone(names)
	for i, n := range out {
		if n == from {
			out[i] = "output"
		}
	}
	return out
}

// irVersion is the IR version that goes with the opset.
func irVersion(opset int64) int64 {
	switch {
	case opset <= 18:
		return 8
	case opset <= 20:
		return 9
	}
	return 10
}
