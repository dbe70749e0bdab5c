package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// UseKind is what training does with an initializer.
type UseKind string

// Kinds of uses.
const (
	UseWeight   UseKind = "weight"   // it is trained
	UseRunning  UseKind = "running"  // a running statistic: training moves it
	UseConstant UseKind = "constant" // it stays
)

// Use says what an initializer of floating point is, and why.
type Use struct {
	Name   string
	Kind   UseKind
	Reason string
}

// Uses tells weights from constants by the nodes that read them. What stands where operators take weights is
// one. A tensor that is added, multiplied, joined or gathered from is one unless it is a single number,
// prepares the input before the first layer, is a mask (0 and very negative numbers), or a table of whole
// numbers. In a model's own mode BatchNormalization's statistics are running.
func Uses(m *onnxio.Model) ([]Use, error) {
	m, err := m.Canonical()
	if err != nil {
		return nil, err
	}
	u := newUsage(m)
	var out []Use
	for _, t := range m.Graph.Initializers {
		if !isFloating(t.Type) {
			continue
		}
		use := Use{Name: t.Name}
		use.Kind, use.Reason = u.of(t)
		out = append(out, use)
	}
	return out, nil
}

// Trainable lists the initializers that Uses finds to be weights, in the order of the file.
func Trainable(m *onnxio.Model) ([]string, error) {
	uses, err := Uses(m)
	var names []string
	for _, u := range uses {
		if u.Kind == UseWeight {
			names = append(names, u.Name)
		}
	}
	return names, err
}

func isFloating(t onnxio.DataType) bool {
	return t == onnxio.Float || t == onnxio.Double || t == onnxio.Float16 || t == onnxio.BFloat16
}

// usage is how a graph reads its initializers.
type usage struct {
	readers map[string][]reader // by initializer, through operators that only give its numbers another form
	fed     map[string]bool     // values that depend on an input of the graph
	deep    map[string]bool     // values that depend on one through a layer
	reaches map[string]bool     // values on which an output depends through operators that have a gradient
}

type reader struct {
	node *onnxio.Node
	def  *ops.Def
	at   int
}

func newUsage(m *onnxio.Model) *usage {
	u := &usage{readers: map[string][]reader{}, fed: map[string]bool{}, deep: map[string]bool{},
		reaches: map[string]bool{}}
	views := map[string]string{}
	for _, t := range m.Graph.Initializers {
		views[t.Name] = t.Name
	}
	for _, v := range m.Graph.Inputs {
		u.fed[v.Name] = views[v.Name] == ""
	}
	for _, n := range m.Graph.Nodes {
		d := ops.Lookup(n.Domain, n.OpType)
		u.follow(n, d, views)
	}
	for _, v := range m.Graph.Outputs {
		u.reaches[v.Name] = true
	}
	for _, n := range slices.Backward(m.Graph.Nodes) {
		d := ops.Lookup(n.Domain, n.OpType)
		if d == nil || d.Grad == nil && !d.Quantizes || !slices.ContainsFunc(n.Outputs,
			func(o string) bool { return u.reaches[o] }) {
			continue
		}
		for _, in := range n.Inputs {
			u.reaches[in] = true
		}
	}
	return u
}

// follow notes what a node reads, and what its outputs depend on.
func (u *usage) follow(n *onnxio.Node, d *ops.Def, views map[string]string) {
	fed, deep, layer := false, false, false
	for i, in := range n.Inputs {
		fed, deep = fed || u.fed[in], deep || u.deep[in]
		name := views[in]
		if name == "" {
			continue
		}
		r := reader{n, d, i}
		layer = layer || d != nil && slices.Contains(d.Weights, i)
		if d != nil && len(n.Outputs) > 0 && i == 0 && (d.Rearranges || d.Repeats || d.Quantizes) {
			views[n.Outputs[0]] = name
			continue
		}
		u.readers[name] = append(u.readers[name], r)
	}
	if measures(d) { // what follows is no activation
		fed, deep = false, false
	}
	for _, out := range n.Outputs {
		u.fed[out], u.deep[out] = fed, deep || fed && layer
	}
}

// of says what an initializer is.
func (u *usage) of(t *onnxio.Tensor) (UseKind, string) {
	readers := u.readers[t.Name]
	if len(readers) == 0 {
		return UseConstant, "no node reads it"
	}
	for _, r := range readers {
		if r.def != nil && slices.Contains(r.def.Running, r.at) {
			return UseRunning, "statistics of " + r.node.OpType
		}
	}
	if t.Type != onnxio.Float {
		return UseConstant, fmt.Sprintf("it is %v, and training is in float32", t.Type)
	}
	reason := ""
	for _, r := range readers {
		why, learned := u.learns(t, r)
		if learned {
			return UseWeight, why
		}
		if reason == "" {
			reason = why
		}
	}
	return UseConstant, reason
}

// learns says whether a reader takes an initializer as a weight, and why.
func (u *usage) learns(t *onnxio.Tensor, r reader) (why string, learned bool) {
	op := r.node.OpType
	where := fmt.Sprintf("%s of %s", inputName(r), op)
	switch {
	case !slices.ContainsFunc(r.node.Outputs, func(o string) bool { return u.reaches[o] }):
		return "no output depends on it through operators with a gradient", false
	case r.def != nil && slices.Contains(r.def.Weights, r.at) && len(t.Dims) > 0:
		return where, true
	case r.def == nil || !slices.Contains(r.def.Learned, min(r.at, len(r.def.Inputs)-1)):
		return where, false
	case t.Size() == 1 && (!StateKey(t.Name) || r.def.Arithmetic == 0):
		return "a single number, " + where, false
	case looksUp(r.def) && u.fed[r.node.Inputs[1]]:
		return "a table that " + op + " takes rows of", true
	}
	if !slices.ContainsFunc(r.node.Inputs, func(in string) bool { return u.deep[in] }) {
		return "it meets the input before the first layer, " + where, false
	}
	if isMask(t) {
		return "a mask, " + where, false
	}
	if isCount(t) && !StateKey(t.Name) {
		return "a table of whole or half numbers, " + where, false
	}
	return where, true
}

// measures says whether an operator's output depends on its input's shape alone.
func measures(d *ops.Def) bool { return d != nil && len(d.Inputs) == 1 && d.Inputs[0].Flat }

// looksUp says whether an operator takes elements of its first input by the indices in its second.
func looksUp(d *ops.Def) bool { return len(d.Inputs) == 2 && d.Inputs[1].Name == "indices" }

// inputName is the formal name of what a reader reads.
func inputName(r reader) string {
	if r.def == nil || len(r.def.Inputs) == 0 {
		return fmt.Sprintf("input %d", r.at)
	}
	return r.def.Inputs[min(r.at, len(r.def.Inputs)-1)].Name
}

// StateKey says whether a name is spelled as PyTorch spells the keys of a state dict; exporters give
// other names to constants.
func StateKey(name string) bool {
	return strings.Contains(name, ".") && !strings.Contains(name, "/") && !strings.Contains(name, "::")
}

// isMask says whether a tensor is what attention adds to leave out positions.
func isMask(t *onnxio.Tensor) bool {
	low := false
	for _, v := range t.Float32s() {
		if v != 0 && !(v <= -100) {
			return false
		}
		low = low || v != 0
	}
	return low
}

// isCount says whether a tensor has three or more values, all of them multiples of one half: a
// grid, or the indices of one.
func isCount(t *onnxio.Tensor) bool {
	values := map[float32]bool{}
	for _, v := range t.Float32s() {
		if twice := 2 * float64(v); twice != math.Trunc(twice) || math.IsInf(twice, 0) {
			return false
		}
		if len(values) < 3 {
			values[v] = true
		}
	}
	return len(values) >= 3
}

// Obstacle is a node that keeps weights from being trained.
type Obstacle struct {
	Node   *onnxio.Node
	Reason string
}

// Obstacles finds the nodes through which no gradient reaches weights, and what training
// asks of the operator set.
func Obstacles(m *onnxio.Model) ([]Obstacle, error) {
	names, err := Trainable(m)
	if err != nil {
		return nil, err
	}
	if m, err = m.Canonical(); err != nil {
		return nil, err
	}
	behind, wanted := map[string]bool{}, map[string]bool{}
	for _, name := range names {
		behind[name] = true
	}
	crooked := crooked(m, behind)
	if len(m.Graph.Outputs) > 0 {
		wanted[m.Graph.Outputs[0].Name] = true
	}
	for _, n := range slices.Backward(m.Graph.Nodes) {
		if slices.ContainsFunc(n.Outputs, func(o string) bool { return wanted[o] }) {
			for _, in := range n.Inputs {
				wanted[in] = true
			}
		}
	}
	var out []Obstacle
	for _, n := range m.Graph.Nodes {
		d := ops.Lookup(n.Domain, n.OpType)
		weighs := slices.ContainsFunc(n.Inputs, func(in string) bool { return behind[in] })
		needed := slices.ContainsFunc(n.Outputs, func(o string) bool { return wanted[o] })
		switch {
		case d != nil && len(d.Running) > 0 && m.Opset("") < 14:
			out = append(out, Obstacle{n,
				fmt.Sprintf("training it needs opset 14, and the model has %d: freeze it, or convert "+
					"the model with --opset 17", m.Opset(""))})
		case !weighs || !needed || measures(d):
			weighs = false
		case d == nil:
			out = append(out, Obstacle{n, "the native engine does not know the operator"})
		case d.Quantizes:
			if weighs = !crooked[n.Outputs[0]]; !weighs {
				out = append(out, Obstacle{n, "training differentiates it with the QuantizeLinear before it where " +
					"both have one constant scale and zero point, for bytes"})
			}
		case d.Grad == nil && len(d.Outputs) > 0 && !givesFloat(d):
			weighs = false // a comparison, an index
		case d.Grad == nil:
			out = append(out, Obstacle{n, "it has no gradient, and weights lie behind it"})
		}
		for _, o := range n.Outputs {
			behind[o] = weighs
		}
	}
	return out, nil
}

// givesFloat says whether an operator's first output may be float32.
func givesFloat(d *ops.Def) bool {
	types, ok := d.Types[d.Outputs[0].Type]
	return !ok || types.Has(onnxio.Float)
}
