package engine

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Options of a compilation.
type Options struct {
	// Pool runs the plan; nil is the process-wide pool.
	Pool *parallel.Pool
	// Dims binds symbolic dimensions by name: {"N": 32}.
	Dims map[string]int64
	// Shapes gives the shape of an input, before Dims.
	Shapes map[string][]int64
	// Reference keeps to the reference kernels: no fusion, no blocked layouts.
	Reference bool
	// Keep makes the output of every node readable after Run, under its name in the model.
	Keep bool
	// NoWinograd keeps to direct convolutions, whose rounding errors are smaller.
	NoWinograd bool
	// BF16 lets convolutions of inference run in bf16 with float32 sums, where that is faster: their maps and
	// weights are rounded to 8 bits. Without AMX it changes nothing.
	BF16 bool
	// MaxBytes bounds the memory of a run's values; 0 is a share of the machine's.
	MaxBytes int64

	watch func(pass string, g *graph)
	// careful keeps to kernels that spread no NaN: see careful.go.
	careful bool
	twins   bool // BF16 by the kernels' twins in Go, for tests
	// portions are the images of a portion of the batch wherever an op is imagewise, for tests; 0: where it
	// pays, below: nowhere.
	portions int
}

// importer turns a model's graph, and the subgraphs in it, into the compiler's form.
type importer struct {
	model  *onnxio.Model
	params map[string]bool // initializers that become params instead of constants
	given  map[string]bool // initializers that become inputs: the caller overrides them
	g      *graph
	outer  func(name string) *value // finds what a subgraph takes from the graphs around it
}

// importModel turns a model into a graph. Inputs have the shapes that opt gives them, or are without a size.
func importModel(m *onnxio.Model, opt Options, params, given map[string]bool) (*graph, error) {
	if m.Graph == nil {
		return nil, &onnxio.FormatError{Format: "onnx", Msg: "the model has no graph"}
	}
	m, err := m.Canonical()
	if err != nil {
		return nil, err
	}
	im := &importer{model: m, params: params, given: given, g: newGraph(opt),
		outer: func(string) *value { return nil }}
	nodes, err := inlined(m)
	if err != nil {
		return nil, err
	}
	if err := im.graph(m.Graph, nodes, opt); err != nil {
		return nil, err
	}
	if opt.Keep {
		im.g.keepAll()
	}
	im.g.watch = opt.watch
	return im.g, im.g.after("import")
}

// graph imports one graph of the model.
func (im *importer) graph(proto *onnxio.Graph, nodes []placed, opt Options) error {
	g := im.g
	if len(proto.SparseInitializers) > 0 {
		return &onnxio.UnsupportedError{Op: "sparse initializer", Reason: "the engine takes dense tensors"}
	}
	for _, t := range proto.Initializers {
		if im.given[t.Name] {
			continue
		}
		v, err := g.add(t.Name, constant)
		if err != nil {
			return err
		}
		v.hold(t)
		if im.params[t.Name] {
			v.kind, v.info.Const = param, nil
		}
	}
	for _, in := range proto.Inputs {
		if v := g.values[in.Name]; v != nil && (v.kind == constant || v.kind == param) {
			continue // an initializer listed among the inputs: the value that it has by default
		}
		v, err := g.add(in.Name, input)
		if err != nil {
			return err
		}
		if err := v.declare(in, opt); err != nil {
			return err
		}
		g.inputs = append(g.inputs, v)
	}
	for _, n := range nodes {
		if err := im.node(n); err != nil {
			return err
		}
	}
	for _, out := range proto.Outputs {
		v := im.find(out.Name)
		if v == nil {
			return &onnxio.FormatError{Format: "onnx", Where: out.Name,
				Msg: "graph output is not defined by any node"}
		}
		v.output = true
		g.outputs = append(g.outputs, v)
	}
	g.index()
	return nil
}

// find is the value of a name, here or in a graph around this one.
func (im *importer) find(name string) *value {
	if v := im.g.values[name]; v != nil {
		return v
	}
	return im.capture(name)
}

// capture makes a value of this graph of one of the graphs around it: a constant, or an input with its
// bodies' owner's value behind it.
func (im *importer) capture(name string) *value {
	from := im.outer(name)
	if from == nil {
		return nil
	}
	v := &value{name: name, kind: input, info: from.info}
	if from.kind == constant {
		v.kind = constant
		v.hold(from.konst)
	} else {
		bare := *from.info
		bare.Shape, bare.HasShape, bare.Elems = nil, false, nil // other each time the body runs
		v.info = &bare
		im.g.inputs = append(im.g.inputs, v)
		im.g.captured = append(im.g.captured, from)
	}
	im.g.values[name] = v
	return v
}

// node imports a node with its subgraphs.
func (im *importer) node(n placed) error {
	if strings.HasPrefix(n.Domain, "cnnkit.") {
		return &onnxio.UnsupportedError{Op: n.Domain + "." + n.OpType, Node: n.Name,
			Reason: "the domain is the compiler's own and cannot stand in a model"}
	}
	for _, name := range n.Inputs {
		if name != "" {
			im.find(name)
		}
	}
	o, err := im.g.make(n.Node, n.opset(n.Domain))
	if err != nil {
		return err
	}
	if err := im.bodies(o, n); err != nil {
		return err
	}
	if err := im.gradient(o); err != nil {
		return err
	}
	if err := im.g.infer(o); err != nil {
		return err
	}
	im.g.ops = append(im.g.ops, o)
	return nil
}

// bodies imports the subgraphs of control flow.
func (im *importer) bodies(o *op, n placed) error {
	for _, a := range n.Attrs {
		if a.G == nil {
			continue
		}
		inner := &importer{model: im.model, g: newGraph(Options{}), outer: im.find}
		inner.g.room = im.g.room
		nodes, err := n.inside(a.G)
		if err != nil {
			return err
		}
		if err := inner.graph(a.G, nodes, Options{}); err != nil {
			return fmt.Errorf("%s: %s: %w", o, a.Name, err)
		}
		if err := inner.g.apply(simplifyPass); err != nil {
			return fmt.Errorf("%s: %s: %w", o, a.Name, err)
		}
		o.bodies = append(o.bodies, &body{attr: a.Name, program: newProgram(inner.g),
			formal:   len(inner.g.inputs) - len(inner.g.captured),
			captures: len(inner.g.captured), from: len(o.in)})
		o.in = append(o.in, inner.g.captured...)
	}
	return nil
}

// keepAll makes every value that an op gives an output.
func (g *graph) keepAll() {
	g.keep = true
	for _, o := range g.ops {
		for _, v := range o.out {
			if v != nil && !v.output {
				v.output = true
				g.outputs = append(g.outputs, v)
			}
		}
	}
}

func numbers(dims []int64) []onnxio.Dim {
	out := make([]onnxio.Dim, len(dims))
	for i, d := range dims {
		out[i].Value = d
	}
	return out
}

// declare gives an input its type and, where opt binds it, its shape.
func (v *value) declare(in *onnxio.ValueInfo, opt Options) error {
	if in.Type == nil {
		v.info = &ops.Value{}
		return nil
	}
	if in.Type.Kind != onnxio.TensorType {
		v.info = &ops.Value{Kind: in.Type}
		return nil
	}
	shape := slices.Clone(in.Type.Shape)
	if given, ok := opt.Shapes[in.Name]; ok {
		if err := fits(in, given); err != nil {
			return err
		}
		v.know(&ops.Value{Type: in.Type.Elem, Shape: numbers(given), HasShape: true})
		return nil
	}
	for i, d := range shape {
		if n, bound := opt.Dims[d.Param]; bound && d.Param != "" {
			shape[i] = onnxio.Dim{Value: n}
		}
	}
	v.know(&ops.Value{Type: in.Type.Elem, Shape: shape, HasShape: in.Type.HasShape})
	return nil
}

// fits compares a shape given by the caller with the declared one.
func fits(in *onnxio.ValueInfo, given []int64) error {
	if !in.Type.HasShape {
		return nil
	}
	bad := len(given) != len(in.Type.Shape)
	for i := 0; !bad && i < len(given); i++ {
		bad = in.Type.Shape[i].Known() && in.Type.Shape[i].Value != given[i] || given[i] < 0
	}
	if !bad {
		return nil
	}
	return fmt.Errorf("input %q: the model takes %s, not %v", in.Name, shapeText(in.Type.Shape), given)
}

func shapeText(shape []onnxio.Dim) string {
	parts := make([]string, len(shape))
	for i, d := range shape {
		switch {
		case d.Param != "":
			parts[i] = d.Param
		case d.Value < 0:
			parts[i] = "?"
		default:
			parts[i] = fmt.Sprint(d.Value)
		}
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// sortedValues lists the values by name: maps have no order, results must.
func (g *graph) sortedValues() []*value {
	out := make([]*value, 0, len(g.values))
	for _, v := range g.values {
		out = append(out, v)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out
}
