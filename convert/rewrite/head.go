package rewrite

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/infer"
)

// NewHead says which classifier was replaced.
type NewHead struct {
	Node     *onnxio.Node // as it was; nil for a network of package builders, which knows its classifier
	Replaced []convert.Mismatch
}

// Head gives a model's last layer another number of classes: the Gemm, MatMul or Conv from which only
// operators without weights, and the sum with a bias [K], lead to the output. Its weight and its bias get
// fresh values, as torch.nn.Linear draws them: uniform between -1/sqrt(fan_in) and 1/sqrt(fan_in). Labels are
// dropped. The head is nil, and the model m itself, where it has that many classes already. A model whose
// last layer is not found, or would not give the output that shape, is an error.
func Head(m *onnxio.Model, classes int, seed uint64) (*onnxio.Model, *NewHead, error) {
	m, err := canonical(m)
	if err != nil {
		return nil, nil, err
	}
	if classes < 1 {
		return nil, nil, fmt.Errorf("%d classes: at least 1", classes)
	}
	was, err := infer.Shapes(m)
	if err != nil {
		return nil, nil, err
	}
	h := header{m: copied(m), classes: int64(classes), random: rand.New(rand.NewPCG(seed, 0)),
		made: map[string]*onnxio.Node{}}
	s := simplifier{m: h.m}
	h.reads = s.reads()
	for _, n := range h.m.Graph.Nodes {
		for _, o := range n.Outputs {
			h.made[o] = n
		}
	}
	if err := h.find(); err != nil {
		return nil, nil, err
	}
	if h.had == h.classes {
		return m, nil, nil
	}
	if err := h.replace(was); err != nil {
		return nil, nil, err
	}
	return h.m, &NewHead{h.node, h.replaced}, nil
}

// header looks for the last layer.
type header struct {
	m        *onnxio.Model
	classes  int64
	random   *rand.Rand
	made     map[string]*onnxio.Node // by output
	reads    map[string]int
	node     *onnxio.Node
	had      int64
	weight   headTensor
	biases   []headTensor
	single   []headTensor // a bias if the layer has one output, else a number that all outputs share
	between  []string     // values from the layer to the output
	shaped   bool         // something between may change the shape
	replaced []convert.Mismatch
}

// headTensor is an initializer and the axis of its classes.
type headTensor struct {
	t    *onnxio.Tensor
	axis int
}

// Operators without weights that a classifier's output may go through: those that keep its shape, and those
// of which the shape shows whether the classes survive them.
var (
	keeping = []string{"Identity", "Cast", "Dropout", "Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid",
		"Relu", "Clip"}
	shaping = []string{"Flatten", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "GlobalAveragePool",
		"GlobalMaxPool", "AveragePool",
		"MaxPool", "ReduceMean", "ReduceMax", "Resize", "Upsample"}
)

// find walks from the output to the layer.
func (h *header) find() error {
	g := h.m.Graph
	if len(g.Outputs) != 1 {
		return fmt.Errorf("the model has %d outputs, and a classifier has one: cut it out with 'cnnkit extract --outputs NAME'", len(g.Outputs))
	}
	for name := g.Outputs[0].Name; ; {
		n := h.made[name]
		if n == nil {
			return h.lost("no node makes %q", name)
		}
		if h.reads[name] != 1 {
			return h.lost("%q, which %s makes, is used %d times", name, said(n), h.reads[name])
		}
		h.between = append(h.between, name)
		switch {
		case n.Domain != "" && n.Domain != "ai.onnx":
			return h.lost("the output comes from %s of domain %s", said(n), n.Domain)
		case n.OpType == "Gemm" || n.OpType == "MatMul" || n.OpType == "Conv":
			return h.layer(n)
		case n.OpType == "Add" && len(n.Inputs) == 2:
			next, err := h.bias(n)
			if err != nil {
				return err
			}
			name = next
		case len(n.Inputs) > 0 && (slices.Contains(keeping, n.OpType) || slices.Contains(shaping, n.OpType)):
			h.shaped = h.shaped || slices.Contains(shaping, n.OpType)
			name = n.Inputs[0]
		default:
			return h.lost("the output comes from %s", said(n))
		}
	}
}

// lost is the error of a model whose classifier is not found.
func (h *header) lost(format string, args ...any) error {
	return fmt.Errorf("no classifier is found, which is a Gemm, MatMul or Conv that the output follows from: %s", fmt.Sprintf(format, args...))
}

func said(n *onnxio.Node) string { return fmt.Sprintf("%s %q", n.OpType, n.Name) }

// bias takes a sum's initializer for a bias, and gives what it is added to.
func (h *header) bias(n *onnxio.Node) (string, error) {
	for i, name := range n.Inputs {
		t := h.m.Graph.Initializer(name)
		if t == nil {
			continue
		}
		if axis := onlyAxis(t.Dims); axis >= 0 {
			h.biases = append(h.biases, headTensor{t, axis})
		} else if t.Size() == 1 && len(t.Dims) > 0 {
			h.single = append(h.single, headTensor{t, len(t.Dims) - 1})
		} else if t.Size() != 1 {
			return "", h.lost("%s adds %v, which is no bias", said(n), t.Dims)
		}
		return n.Inputs[1-i], nil
	}
	return "", h.lost("%s is a sum of two branches", said(n))
}

// onlyAxis is the axis that is not 1; negative where there is none or several.
func onlyAxis(dims []int64) int {
	at := -1
	for i, d := range dims {
		if d != 1 && at >= 0 {
			return -1
		}
		if d != 1 {
			at = i
		}
	}
	return at
}

// layer finds the weight and the bias of the classifier n.
func (h *header) layer(n *onnxio.Node) error {
	h.node = n
	if len(n.Inputs) < 2 {
		return h.lost("%s has no weight", said(n))
	}
	axis, name := 1, n.Inputs[1]
	switch n.OpType {
	case "Gemm":
		axis = int(1 - n.Int("transB", 0))
	case "Conv":
		axis = 0
		if n.Int("group", 1) != 1 {
			return h.lost("%s is grouped", said(n))
		}
	}
	t := h.m.Graph.Initializer(name)
	for by := h.made[name]; t == nil && by != nil && len(by.Inputs) > 0; by = h.made[name] {
		switch {
		case by.OpType == "Transpose" && n.OpType != "Conv":
			axis = 1 - axis
		case by.OpType != "Identity":
			return h.lost("the weight of %s is computed by %s", said(n), said(by))
		}
		if h.reads[name] != 1 {
			return h.lost("the weight of %s is used %d times", said(n), h.reads[name])
		}
		name = by.Inputs[0]
		t = h.m.Graph.Initializer(name)
	}
	switch {
	case t == nil:
		return h.lost("the weight of %s is no initializer", said(n))
	case n.OpType != "Conv" && len(t.Dims) != 2 || n.OpType == "Conv" && len(t.Dims) < 3:
		return h.lost("the weight of %s is %v", said(n), t.Dims)
	}
	h.weight, h.had = headTensor{t, axis}, t.Dims[axis]
	if len(n.Inputs) > 2 && n.Inputs[2] != "" {
		b := h.m.Graph.Initializer(n.Inputs[2])
		if b == nil {
			return h.lost("the bias of %s is no initializer", said(n))
		}
		if axis := onlyAxis(b.Dims); axis >= 0 {
			h.biases = append(h.biases, headTensor{b, axis})
		} else if len(b.Dims) > 0 {
			h.single = append(h.single, headTensor{b, len(b.Dims) - 1})
		}
	}
	if h.had == 1 {
		h.biases = append(h.biases, h.single...)
	}
	for _, x := range append(slices.Clone(h.biases), h.weight) {
		switch {
		case x.t.Dims[x.axis] != h.had:
			return h.lost("%s has %d outputs, and %q of %v is added to them", said(n), h.had,
				x.t.Name, x.t.Dims)
		case x.t.Type != onnxio.Float:
			return h.lost("%q of %s is %v, and float32 is trained", x.t.Name, said(n), x.t.Type)
		case h.reads[x.t.Name] != 1:
			return h.lost("%q of %s is used %d times", x.t.Name, said(n), h.reads[x.t.Name])
		}
	}
	return nil
}

// replace draws the new tensors and sees that the output becomes what it must.
func (h *header) replace(was *infer.Result) error {
	bound := 1 / math.Sqrt(float64(h.weight.t.Size()/h.had))
	h.fresh(h.weight, bound)
	for _, b := range h.biases {
		h.fresh(b, bound)
	}
	g := h.m.Graph
	g.Values = slices.DeleteFunc(slices.Clone(g.Values), func(v *onnxio.ValueInfo) bool {
		return slices.Contains(h.between, v.Name)
	})
	h.m.Metadata = slices.DeleteFunc(h.m.Metadata, func(p onnxio.Property) bool { return p.Key == "labels" })
	h.declare()
	out := g.Outputs[0].Name
	is, err := infer.Shapes(h.m)
	if err != nil {
		return fmt.Errorf("%s with %d outputs instead of %d: %w", said(h.node), h.classes, h.had, err)
	}
	after := is.ValueInfo(out).Type
	if !after.HasShape && !h.shaped {
		return nil // unknown before and after; it is the layer's own
	}
	before := was.ValueInfo(out).Type
	wrong := !after.HasShape || len(before.Shape) != len(after.Shape)
	changed := 0
	for i := range after.Shape {
		if !wrong && before.Shape[i] != after.Shape[i] {
			changed++
			wrong = before.Shape[i].Value != h.had || after.Shape[i].Value != h.classes
		}
	}
	if wrong || changed != 1 {
		return h.lost("%s has %d outputs, and the model's output %q does not follow them: it was %s and would be %s", said(h.node), h.had, out,
			shapeOf(before), shapeOf(after))
	}
	return nil
}

// shapeOf writes a shape as [N,7].
func shapeOf(t *onnxio.Type) string {
	if !t.HasShape {
		return "of unknown shape"
	}
	var dims []string
	for _, d := range t.Shape {
		dims = append(dims, cmp.Or(d.Param, fmt.Sprint(d.Value)))
	}
	return "[" + strings.Join(dims, ",") + "]"
}

// declare puts the new number of classes into the declared shape of the output, behind its batch.
func (h *header) declare() {
	g := h.m.Graph
	info := *g.Outputs[0]
	if info.Type == nil {
		return
	}
	typ := *info.Type
	typ.Shape = slices.Clone(typ.Shape)
	for i, d := range typ.Shape {
		if i > 0 && d.Known() && d.Value == h.had && (i == 1 || i == len(typ.Shape)-1) {
			typ.Shape[i].Value = h.classes
			break
		}
	}
	info.Type, g.Outputs[0] = &typ, &info
}

// fresh puts a tensor of the new number of classes into the place of x.
func (h *header) fresh(x headTensor, bound float64) {
	dims := slices.Clone(x.t.Dims)
	dims[x.axis] = h.classes
	t := onnxio.NewTensor(onnxio.Float, dims...)
	t.Name = x.t.Name
	for i := range t.Float32s() {
		t.Float32s()[i] = float32((2*h.random.Float64() - 1) * bound)
	}
	h.replaced = append(h.replaced, convert.Mismatch{Name: t.Name, ModelType: t.Type, DictType: x.t.Type,
		Model: dims, Dict: x.t.Dims})
	inits := h.m.Graph.Initializers
	inits[slices.Index(inits, x.t)] = t
	for i, v := range h.m.Graph.Inputs { // models of old list their weights among the inputs
		if v.Name == t.Name && v.Type != nil {
			info := *v
			info.Type = &onnxio.Type{Elem: onnxio.Float, HasShape: true}
			for _, d := range dims {
				info.Type.Shape = append(info.Type.Shape, onnxio.Dim{Value: d})
			}
			h.m.Graph.Inputs[i] = &info
		}
	}
}
