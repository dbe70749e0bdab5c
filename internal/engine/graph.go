package engine

import (
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// kind says where a value comes from.
type kind uint8

const (
	computed kind = iota // by a node
	input                // given to Run
	constant             // an initializer or folded; konst holds it
	param                // trained, or a running statistic: lives in the trainer's store
)

// value is one edge of the graph.
type value struct {
	name  string
	kind  kind
	info  *ops.Value
	dims  []int64 // concrete shape, where sized
	sized bool    // a tensor of fixed-width elements whose whole shape is known
	konst *onnxio.Tensor
	base  *value // in the graph that this one was copied from
	// users is kept by graph.index.
	producer *op
	users    []*op
	output   bool // of the graph: must be readable, plain, after Run

	layout *kernels.Layout     // in blocks of float32; nil: not
	lines  *kernels.LineLayout // in blocks of bf16 or bytes; nil: not
	fold   int                 // pixels in a line of a map in bf16 of few channels; 0: one
	zero   uint8               // what the halo of a map of bytes is filled with
	levels *levels             // the bytes that a constant in float32 was made of; nil: of none
	pack   *packing            // packed convolution weights; nil: plain
	buf    *buffer
	twins  []*value // the same numbers in other layouts
	store  *stored  // of a param
	stats  *statistics
}

// op is one node application.
type op struct {
	node   *ops.Node // what the file says; its names of inputs and outputs are for messages alone
	in     []*value  // nil where omitted; behind the node's inputs stand the values that its bodies capture
	out    []*value
	inputs int     // of the node; the rest of in are captured
	bodies []*body // of control flow
	base   *op     // in the graph that this one was copied from
	// What fuse has folded into the op.
	relu     bool
	high     float32      // where the ReLU of a convolution clips above; 0: nowhere
	then     *kernels.Map // a function of the output
	residual *value
	mask     *value    // ReLU output that masks dy before the op's backward pass
	maskBias *value    // instead of mask, of the BatchNormalization whose output the ReLU took
	within   *[2]int32 // the levels that an output of bytes is clipped to
	// attention is what an Attention of fuse's own computes.
	attention *attention
	// taken is what a Channels of fuse's own takes of each input.
	taken   []kernels.Channel
	careful bool // no kernel that spreads NaN may run it
	// portions is how many ops like this do together what the op did on the whole batch; 0: it does so.
	portions int
	// origin is the node the user wrote, for reports: a gradient's is its forward node.
	origin string
	linked []*value // those that list o among their users
}

func (o *op) is(domain, name string) bool { return o.node.OpType == name && o.node.Domain == domain }

// String names the op as its node.
func (o *op) String() string { return o.node.String() }

// graph is the compiler's form of a model: values by name, ops in execution order.
type graph struct {
	values  map[string]*value
	ops     []*op
	inputs  []*value
	outputs []*value
	// captured are the values of the graphs around a subgraph that stand behind the last of its inputs.
	captured []*value
	fresh    int // for names
	keep     bool
	bf16     bool                        // convolutions run in bf16 where that pays
	training bool                        // maps that are saved for the backward pass are in bf16, too
	watch    func(pass string, g *graph) // told when a pass has run
	room     *int64                      // bytes that further folded constants may take, of bodies too
}

func newGraph(opt Options) *graph {
	room := opt.maxBytes() / 2
	return &graph{values: map[string]*value{}, room: &room}
}

// add makes a value with a name not yet in use.
func (g *graph) add(name string, k kind) (*value, error) {
	if g.values[name] != nil {
		return nil, &onnxio.FormatError{Format: "onnx", Where: name, Msg: "defined twice"}
	}
	v := &value{name: name, kind: k}
	g.values[name] = v
	return v, nil
}

// name makes a name that is not in use, starting with prefix.
func (g *graph) name(prefix string) string {
	if g.values[prefix] == nil {
		return prefix
	}
	for {
		g.fresh++
		n := fmt.Sprintf("%s#%d", prefix, g.fresh)
		if g.values[n] == nil {
			return n
		}
	}
}

// infer sets types and shapes of an op's outputs. What depends on data that only a run
// knows stays without a size.
func (g *graph) infer(o *op) error {
	in := make([]*ops.Value, o.inputs)
	for i, v := range o.in[:o.inputs] {
		if v != nil {
			in[i] = v.info
		}
	}
	want := make([]bool, len(o.out))
	for i, v := range o.out {
		want[i] = v != nil
	}
	out, err := ops.InferOutputs(o.node, in, want)
	if err != nil {
		return err
	}
	for i, v := range o.out {
		if v == nil {
			continue
		}
		if v.know(out[i]); v.sized {
			if _, err := onnxio.CheckedBytes(v.info.Type, v.dims); err != nil {
				return o.node.Errorf("output %q: %w", v.name, err)
			}
		}
	}
	return nil
}

// know takes over what inference found of a value.
func (v *value) know(info *ops.Value) {
	v.info = info
	v.dims, v.sized = info.Dims()
	if info.Kind != nil || info.Type == onnxio.Undefined || info.Type == onnxio.String {
		v.sized = false
	}
}

// known refuses a graph in which a shape is not known before it runs.
func (g *graph) known() error {
	for _, v := range g.inputs {
		if v.sized {
			continue
		}
		for i, d := range v.info.Shape {
			if !d.Known() {
				return fmt.Errorf("input %q: dimension %d (%s) has no value", v.name, i, d.Param)
			}
		}
		if v.info.Kind != nil {
			return &onnxio.UnsupportedError{Op: "graph input", Node: v.name, Reason: "it is no tensor"}
		}
		return fmt.Errorf("input %q declares no shape: give one", v.name)
	}
	for _, o := range g.ops {
		for _, v := range o.out {
			if v != nil && !v.sized {
				return &onnxio.UnsupportedError{Op: o.node.OpType, Node: o.String(),
					Reason: fmt.Sprintf(
						"the shape of %q depends on data that is known only while the model runs", v.name)}
			}
		}
	}
	return nil
}

// make binds a node to its definition and adds its outputs; the op is returned, neither inferred nor placed.
func (g *graph) make(n *onnxio.Node, opset int64) (*op, error) {
	own := *n // passes change it, the model stays as it is
	own.Attrs = slices.Clone(n.Attrs)
	bound, err := ops.Bind(&own, opset)
	if err != nil {
		return nil, err
	}
	o := &op{node: bound, origin: n.Name}
	for _, name := range n.Inputs {
		if name == "" {
			o.in = append(o.in, nil)
			continue
		}
		v := g.values[name]
		if v == nil {
			return nil, &onnxio.FormatError{Format: "onnx", Where: bound.String(),
				Msg: fmt.Sprintf("input %q is not defined by an earlier node, an input or an initializer",
					name)}
		}
		o.in = append(o.in, v)
	}
	o.inputs = len(o.in)
	for _, name := range n.Outputs {
		if name == "" {
			o.out = append(o.out, nil)
			continue
		}
		v, err := g.add(name, computed)
		if err != nil {
			return nil, err
		}
		v.producer = o
		o.out = append(o.out, v)
	}
	return o, nil
}

// index recomputes producers and users.
func (g *graph) index() {
	for _, v := range g.values {
		v.users, v.producer = v.users[:0], nil
	}
	for _, o := range g.ops {
		o.linked = o.linked[:0]
		o.link()
	}
}

// link makes the producers and users right that changed with o alone: index for one op. The order of users is
// then that of the changes.
func (o *op) link() {
	o.unlink()
	o.linked = o.appendReads(o.linked)
	for _, v := range o.linked {
		v.users = append(v.users, o)
	}
	for _, v := range o.out {
		if v != nil {
			v.producer = o
		}
	}
}

// unlink takes o from the users of what it read when it was linked.
func (o *op) unlink() {
	for _, v := range o.linked {
		v.users = slices.DeleteFunc(v.users, func(u *op) bool { return u == o })
	}
	o.linked = o.linked[:0]
}

// reads lists the values an op needs, each once.
func (o *op) reads() []*value { return o.appendReads(nil) }

func (o *op) appendReads(out []*value) []*value {
	add := func(v *value) {
		if v != nil && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	for _, v := range o.in {
		add(v)
	}
	add(o.residual)
	add(o.mask)
	add(o.maskBias)
	return out
}

// replace makes every reader of old read new instead.
func (g *graph) replace(old, new *value) {
	for _, o := range g.ops {
		for i, v := range o.in {
			if v == old {
				o.in[i] = new
			}
		}
		if o.residual == old {
			o.residual = new
		}
		if o.mask == old {
			o.mask = new
		}
		if o.maskBias == old {
			o.maskBias = new
		}
	}
}

// prune drops ops none of whose outputs is read or is a graph output.
func (g *graph) prune() {
	live := map[*value]bool{}
	for _, v := range g.values {
		if v.output {
			live[v] = true
		}
	}
	kept := make([]bool, len(g.ops))
	for i := len(g.ops) - 1; i >= 0; i-- {
		o := g.ops[i]
		for _, v := range o.out {
			if v != nil && (live[v] || v.kind == param) {
				kept[i] = true
			}
		}
		if kept[i] {
			for _, v := range o.reads() {
				live[v] = true
			}
		}
	}
	out := g.ops[:0]
	for i, o := range g.ops {
		if kept[i] {
			out = append(out, o)
			continue
		}
		for _, v := range o.out {
			if v != nil {
				delete(g.values, v.name)
			}
		}
	}
	clear(g.ops[len(out):])
	g.ops = out
	g.index()
}

// isFloat4 says that v is a float32 feature map [N,C,H,W].
func (v *value) isFloat4() bool {
	return v != nil && v.info != nil && v.info.Type == onnxio.Float && len(v.dims) == 4
}

// isByte4 says that v is a feature map of bytes.
func (v *value) isByte4() bool { return v.isByte() && len(v.dims) == 4 }

// isByte says that v is a tensor of bytes with a size.
func (v *value) isByte() bool {
	return v != nil && v.info != nil && v.sized && (v.info.Type == onnxio.Uint8 || v.info.Type == onnxio.Int8)
}

// size is the number of elements.
func (v *value) size() int64 {
	n := int64(1)
	for _, d := range v.dims {
		n *= d
	}
	return n
}

// hold makes v a value whose numbers are known.
func (v *value) hold(t *onnxio.Tensor) {
	v.konst, v.dims, v.sized = t, t.Dims, t.Type != onnxio.String
	v.info = &ops.Value{Type: t.Type, Shape: numbers(t.Dims), HasShape: true, Const: t}
}

// newNode is a node of the compiler's own, with one output.
func newNode(opType, domain, output string) *onnxio.Node {
	return &onnxio.Node{OpType: opType, Domain: domain, Outputs: []string{output}}
}

// floats reports whether v is a float32 constant.
func (v *value) floats() bool {
	return v != nil && v.kind == constant && v.sized && v.info.Type == onnxio.Float
}
