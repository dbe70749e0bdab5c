//go:build cgo && (linux || darwin || windows)

package ort

import (
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/infer"
)

// The bindings hand an output over in two ways. Where its shape follows from the inputs', ONNX Runtime writes
// it straight into a tensor made before the call. Otherwise ONNX Runtime allocates it and the bindings copy
// it, which they cannot do for 16-bit floats and for scalars; the model then gets nodes that bring such an
// output into a form that they can copy.

// output says how one of the model's outputs comes back.
type output struct {
	name string
	elem onnxio.DataType
	// dims is the shape, when it follows from the inputs; known says so.
	dims  []extent
	known bool
	// flat: the session's output is a vector. When the shape is not known, it is the
	// session's output of index shape.
	flat  bool
	shape int // negative: none
	// widened: the session's output is float32 where the model's is a 16-bit float.
	widened bool
}

// extent is a number, or a dimension of an input.
type extent struct {
	n           int64
	input, axis int // input is negative for a number
}

// maxMade bounds the bytes of an output that is allocated ahead of the call, on the word of shape inference.
const maxMade = 1 << 33

// adapted plans the inputs and outputs of m, and copies m where it takes nodes to hand it to the bindings.
// ins and outs name what the session takes and computes, the model's own first.
func adapted(m *onnxio.Model, inputs []*onnxio.ValueInfo) (out *onnxio.Model, plan []output, ins,
	outs []string) {
	known, err := infer.Shapes(m)
	if err != nil {
		known = &infer.Result{} // ONNX Runtime is asked in the end
	}
	a := adapter{model: splitWhole(m)}
	for _, v := range inputs {
		ins = append(ins, a.input(v))
	}
	for _, v := range m.Graph.Outputs {
		o := output{name: v.Name, shape: -1}
		if v.Type != nil {
			o.elem = v.Type.Elem
		}
		t := known.ValueInfo(v.Name).Type
		if t.HasShape {
			o.dims, o.known = extents(t.Shape, inputs)
		}
		plan = append(plan, o)
	}
	for i := range plan {
		outs = append(outs, a.output(&plan[i], known.ValueInfo(plan[i].name).Type.HasShape))
	}
	for i := range plan {
		if plan[i].flat && !plan[i].known {
			plan[i].shape, outs = len(outs), append(outs, shapeName(plan[i].name))
		}
	}
	return a.done(), plan, ins, outs
}

// splitWhole names the outputs that a Split omits: ONNX Runtime ends the process when it runs one with a gap.
func splitWhole(m *onnxio.Model) *onnxio.Model {
	var nodes []*onnxio.Node
	for i, n := range m.Graph.Nodes {
		if n.OpType != "Split" || n.Domain != "" || !slices.Contains(n.Outputs, "") {
			continue
		}
		if nodes == nil {
			nodes = slices.Clone(m.Graph.Nodes)
		}
		whole := *n
		whole.Outputs = slices.Clone(n.Outputs)
		for k, name := range n.Outputs {
			if name == "" {
				whole.Outputs[k] = fmt.Sprintf("cnnkit/split%d/%d", i, k)
			}
		}
		nodes[i] = &whole
	}
	if nodes == nil {
		return m
	}
	out, g := *m, *m.Graph
	out.Graph, g.Nodes = &g, nodes
	return &out
}

// extents says where each dimension comes from; false when one of them is known to nobody before the call.
func extents(shape []onnxio.Dim, inputs []*onnxio.ValueInfo) ([]extent, bool) {
	out := make([]extent, len(shape))
	for i, d := range shape {
		if d.Known() {
			out[i] = extent{n: d.Value, input: -1}
			continue
		}
		found := false
		for at, v := range inputs {
			if d.Param == "" || v.Type == nil || found {
				continue
			}
			axis := slices.IndexFunc(v.Type.Shape, func(e onnxio.Dim) bool { return e.Param == d.Param })
			if found = axis >= 0; found {
				out[i] = extent{input: at, axis: axis}
			}
		}
		if !found {
			return nil, false
		}
	}
	return out, true
}

// made is a tensor for an output of known shape, in the memory of room where that fits; nil when it
// would be too large to believe.
func (o *output) made(in []*onnxio.Tensor, room *onnxio.Tensor) *onnxio.Tensor {
	dims := make([]int64, len(o.dims), max(len(o.dims), 1))
	for i, e := range o.dims {
		if dims[i] = e.n; e.input >= 0 {
			dims[i] = in[e.input].Dims[e.axis]
		}
	}
	if o.flat { // a scalar
		dims = append(dims, 1)
	}
	n, err := onnxio.CheckedBytes(o.elem, dims)
	if err != nil || n > maxMade {
		return nil
	}
	t := &onnxio.Tensor{Name: o.name, Type: o.elem, Dims: dims}
	if room != nil && room.Type == t.Type && slices.Equal(room.Dims, dims) && int64(len(room.Raw)) == n {
		t.Raw = room.Raw
	} else {
		t.Raw = make([]byte, n)
	}
	return t
}

// adapter collects what is put before and behind a model's nodes.
type adapter struct {
	model   *onnxio.Model
	inputs  map[string]*onnxio.ValueInfo // by the name of the input that each replaces
	before  []*onnxio.Node
	after   []*onnxio.Node
	outputs []*onnxio.ValueInfo
	shapes  []*onnxio.Tensor
}

// input lets a 16-bit scalar in as a vector of one. It gives the name of what the session takes.
func (a *adapter) input(v *onnxio.ValueInfo) string {
	if !halfScalar(v.Type) || a.model.Opset("") < 5 {
		return v.Name
	}
	if a.inputs == nil {
		a.inputs = map[string]*onnxio.ValueInfo{}
	}
	w := onnxio.TensorInfo(vectorName(v.Name), v.Type.Elem, onnxio.Shape(1)...)
	a.inputs[v.Name] = w
	a.before = append(a.before, a.reshape(w.Name, v.Name))
	return w.Name
}

func halfScalar(t *onnxio.Type) bool {
	return t != nil && t.Kind == onnxio.TensorType && t.HasShape && len(t.Shape) == 0 && isHalf(t.Elem)
}

func isHalf(t onnxio.DataType) bool { return t == onnxio.Float16 || t == onnxio.BFloat16 }

// reshape is a node that gives a value the shape dims.
func (a *adapter) reshape(from, to string, dims ...int64) *onnxio.Node {
	shape := onnxio.Int64s(dims, int64(len(dims)))
	shape.Name = to + "/cnnkit/to"
	a.shapes = append(a.shapes, shape)
	return &onnxio.Node{OpType: "Reshape", Name: shape.Name + "/node", Inputs: []string{from, shape.Name},
		Outputs: []string{to}}
}

// output chooses the way of an output, and gives the name of what the session computes for it.
func (a *adapter) output(o *output, ranked bool) string {
	scalar := o.known && len(o.dims) == 0
	if o.elem.Bits() == 0 || a.model.Opset("") < 6 {
		o.known = o.known && !scalar && o.elem.Bits() > 0
		return o.name
	}
	if o.known && !scalar || !o.known && ranked && !isHalf(o.elem) {
		return o.name
	}
	o.flat = true
	from, elem := o.name, o.elem
	if !o.known {
		shape := shapeName(o.name)
		a.after = append(a.after, &onnxio.Node{OpType: "Shape", Name: shape + "/node",
			Inputs: []string{o.name}, Outputs: []string{shape}})
		a.outputs = append(a.outputs, &onnxio.ValueInfo{Name: shape, Type: &onnxio.Type{Elem: onnxio.Int64}})
		if isHalf(o.elem) {
			o.widened, from, elem = true, o.name+"/cnnkit/wide", onnxio.Float
			a.after = append(a.after, &onnxio.Node{OpType: "Cast", Name: from + "/node",
				Inputs: []string{o.name}, Outputs: []string{from},
				Attrs: []*onnxio.Attribute{onnxio.IntAttr("to", int64(onnxio.Float))}})
		}
	}
	flat := flatName(o.name)
	a.after = append(a.after, a.reshape(from, flat, -1))
	a.outputs = append(a.outputs, &onnxio.ValueInfo{Name: flat, Type: &onnxio.Type{Elem: elem}})
	return flat
}

// The session's names of what the adapter has put beside the model's inputs and outputs.
func vectorName(input string) string { return input + "/cnnkit/vector" }
func flatName(output string) string  { return output + "/cnnkit/flat" }
func shapeName(output string) string { return output + "/cnnkit/shape" }

// done is the model with what has been collected; the model itself when that is nothing.
func (a *adapter) done() *onnxio.Model {
	if len(a.shapes) == 0 {
		return a.model
	}
	m, g := *a.model, *a.model.Graph
	m.Graph = &g
	g.Inputs = slices.Clone(g.Inputs)
	for i, v := range g.Inputs {
		if w := a.inputs[v.Name]; w != nil {
			g.Inputs[i] = w
		}
	}
	g.Nodes = slices.Concat(a.before, g.Nodes, a.after)
	g.Outputs = slices.Concat(g.Outputs, a.outputs)
	g.Initializers = slices.Concat(g.Initializers, a.shapes)
	return &m
}

// result brings an output into the model's form. shape is the session's output of that
// name, where there is one.
func (o *output) result(t, shape *onnxio.Tensor) (*onnxio.Tensor, error) {
	t.Name = o.name
	if !o.flat {
		return t, nil
	}
	dims := []int64{}
	if shape != nil {
		dims = slices.Clone(onnxio.Data[int64](shape))
	}
	if o.widened {
		t = narrowed(o.elem, t, dims)
		t.Name = o.name
	}
	t.Dims = dims
	if t.Size()*int64(t.Type.Bits()) != int64(len(t.Raw))*8 {
		return nil, fmt.Errorf("%d bytes for %v %v", len(t.Raw), t.Type, dims)
	}
	return t, nil
}
