package rewrite

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/infer"
	"github.com/cnnkit/cnnkit/runtime/native"
)

// Simplified says what Simplify did.
type Simplified struct {
	Before  int `json:"nodes_before"`
	After   int `json:"nodes_after"`
	Folded  int `json:"folded"`  // nodes that computed constants
	Fused   int `json:"fused"`   // BatchNormalizations that went into the convolution before them
	Removed int `json:"removed"` // nodes that changed nothing, or that no output needs
}

// namedApart is the IR version from which on an initializer need not be an input too.
const namedApart = 4

// maxFolded bounds a constant that is made: one that is larger than what it is made of stays computed.
const maxFolded = 1 << 20

// Simplify folds what is computed from constants and known shapes, BatchNormalizations into
// convolutions, and leaves out what changes nothing in inference or is not needed. dims binds symbolic
// dimensions of the inputs to numbers.
func Simplify(m *onnxio.Model, dims map[string]int64) (*onnxio.Model, Simplified, error) {
	m, err := canonical(m)
	if err != nil {
		return nil, Simplified{}, err
	}
	if _, err := infer.Shapes(m); err != nil { // the passes count on nodes that are as their definitions say
		return nil, Simplified{}, err
	}
	s := &simplifier{m: copied(m), rep: Simplified{Before: len(m.Graph.Nodes)}}
	if err := s.bind(dims); err != nil {
		return nil, s.rep, err
	}
	for range 20 {
		before := s.rep
		for _, pass := range []func() error{s.lift, s.pass, s.shapes, s.fold, s.fuse, s.prune} {
			if err := pass(); err != nil {
				return nil, s.rep, err
			}
		}
		if s.rep == before {
			break
		}
	}
	s.rep.After = len(s.m.Graph.Nodes)
	if s.rep.Folded+s.rep.Fused > 0 {
		s.m.IRVersion = max(s.m.IRVersion, namedApart)
	}
	return s.m, s.rep, nil
}

// Prune is m without the nodes and initializers that no output needs.
func Prune(m *onnxio.Model) (*onnxio.Model, error) {
	m, err := canonical(m)
	if err != nil {
		return nil, err
	}
	s := &simplifier{m: copied(m)}
	return s.m, s.prune()
}

// canonical is m.Canonical of a model that has a graph.
func canonical(m *onnxio.Model) (*onnxio.Model, error) {
	if m.Graph == nil {
		return nil, &onnxio.FormatError{Format: "onnx", Msg: "the model has no graph"}
	}
	return m.Canonical()
}

// copied is a model with lists of its own.
func copied(m *onnxio.Model) *onnxio.Model {
	out, g := *m, *m.Graph
	out.Graph = &g
	out.Metadata, out.Opsets = slices.Clone(m.Metadata), slices.Clone(m.Opsets)
	g.Initializers, g.Inputs, g.Outputs = slices.Clone(g.Initializers), slices.Clone(g.Inputs),
		slices.Clone(g.Outputs)
	g.Nodes = nil
	for _, n := range m.Graph.Nodes {
		c := *n
		c.Inputs, c.Outputs, c.Attrs = slices.Clone(n.Inputs), slices.Clone(n.Outputs), slices.Clone(n.Attrs)
		g.Nodes = append(g.Nodes, &c)
	}
	return &out
}

type simplifier struct {
	m   *onnxio.Model
	rep Simplified
}

// bind puts numbers in the place of symbolic dimensions.
func (s *simplifier) bind(dims map[string]int64) error {
	g, found := s.m.Graph, map[string]bool{}
	var known []string
	fix := func(list []*onnxio.ValueInfo) {
		for i, v := range list {
			if v.Type == nil || v.Type.Kind != onnxio.TensorType {
				continue
			}
			own, typ := *v, *v.Type
			typ.Shape = slices.Clone(typ.Shape)
			for k, d := range typ.Shape {
				if d.Param != "" && !slices.Contains(known, d.Param) {
					known = append(known, d.Param)
				}
				if n, ok := dims[d.Param]; ok && d.Param != "" {
					typ.Shape[k], found[d.Param] = onnxio.Dim{Value: n}, true
				}
			}
			own.Type, list[i] = &typ, &own
		}
	}
	fix(g.Inputs)
	for name, n := range dims {
		if n < 1 {
			return fmt.Errorf("dimension %s is %d: at least 1", name, n)
		}
		if !found[name] {
			return fmt.Errorf("no input has a dimension %q: there are %s", name, strings.Join(known, ", "))
		}
	}
	if len(dims) > 0 { // what was inferred before is of other shapes
		fix(g.Outputs)
		g.Values = nil
	}
	return nil
}

// reads counts how often each value is read: by nodes, in the bodies of nodes, and as an output.
func (s *simplifier) reads() map[string]int {
	count := map[string]int{}
	for _, v := range s.m.Graph.Outputs {
		count[v.Name]++
	}
	var walk func(nodes []*onnxio.Node)
	walk = func(nodes []*onnxio.Node) {
		for _, n := range nodes {
			for _, in := range n.Inputs {
				count[in]++
			}
			for _, b := range bodies(n) {
				for _, v := range b.Outputs {
					count[v.Name]++
				}
				walk(b.Nodes)
			}
		}
	}
	walk(s.m.Graph.Nodes)
	return count
}

func bodies(n *onnxio.Node) []*onnxio.Graph {
	var out []*onnxio.Graph
	for _, a := range n.Attrs {
		if a.G != nil {
			out = append(out, a.G)
		}
		out = append(out, a.Graphs...)
	}
	return out
}

// lift makes initializers of Constant nodes that hold tensors.
func (s *simplifier) lift() error {
	g := s.m.Graph
	g.Nodes = slices.DeleteFunc(g.Nodes, func(n *onnxio.Node) bool {
		a := n.Attr("value")
		if n.OpType != "Constant" || n.Domain != "" || a == nil || a.T == nil || s.isOutput(n.Outputs[0]) {
			return false
		}
		t := *a.T
		t.Name = n.Outputs[0]
		g.Initializers = append(g.Initializers, &t)
		s.rep.Folded++
		return true
	})
	return nil
}

func (s *simplifier) isOutput(name string) bool {
	return slices.ContainsFunc(s.m.Graph.Outputs, func(v *onnxio.ValueInfo) bool { return v.Name == name })
}

// pass leaves out nodes that hand on their input: Identity, and Dropout in inference.
func (s *simplifier) pass() error {
	g := s.m.Graph
	inBodies := map[string]bool{}
	for _, n := range g.Nodes {
		for _, b := range bodies(n) {
			for name := range (&simplifier{m: &onnxio.Model{Graph: b}}).reads() {
				inBodies[name] = true
			}
		}
	}
	instead := map[string]string{}
	g.Nodes = slices.DeleteFunc(g.Nodes, func(n *onnxio.Node) bool {
		for i, in := range n.Inputs {
			if to, ok := instead[in]; ok {
				n.Inputs[i] = to
			}
		}
		idle := n.OpType == "Identity" || n.OpType == "Dropout" &&
			(len(n.Inputs) < 3 || n.Inputs[2] == "") && (len(n.Outputs) < 2 || n.Outputs[1] == "")
		if n.OpType == "Dropout" && s.m.Opset("") < 7 {
			idle = false // it has a mode of its own
		}
		if !idle || n.Domain != "" || s.isOutput(n.Outputs[0]) || inBodies[n.Outputs[0]] {
			return false
		}
		instead[n.Outputs[0]] = n.Inputs[0]
		s.rep.Removed++
		return true
	})
	return nil
}

// shapes makes constants of values that follow from known shapes.
func (s *simplifier) shapes() error {
	known, err := infer.Shapes(s.m)
	if err != nil {
		return err
	}
	g := s.m.Graph
	g.Nodes = slices.DeleteFunc(g.Nodes, func(n *onnxio.Node) bool {
		if len(n.Outputs) != 1 || s.isOutput(n.Outputs[0]) || len(bodies(n)) > 0 {
			return false
		}
		t := known.Constant(n.Outputs[0])
		if t == nil || t.Type != onnxio.Int64 {
			return false
		}
		own := *t
		own.Name = n.Outputs[0]
		g.Initializers = append(g.Initializers, &own)
		s.rep.Folded++
		return true
	})
	return nil
}

// fold computes the nodes that read constants alone.
func (s *simplifier) fold() error {
	g := s.m.Graph
	constant, overridable := map[string]int64{}, map[string]bool{}
	for _, v := range g.Inputs {
		overridable[v.Name] = true
	}
	for _, t := range g.Initializers {
		if !overridable[t.Name] {
			constant[t.Name] = int64(len(t.Raw))
		}
	}
	for i := 0; i < len(g.Nodes); i++ {
		n := g.Nodes[i]
		d := ops.Lookup(n.Domain, n.OpType)
		if d == nil || d.Eval == nil || d.Random || len(n.Outputs) != 1 || len(bodies(n)) > 0 ||
			s.isOutput(n.Outputs[0]) || !foldable(n) {
			continue
		}
		size, all := int64(0), true
		for _, in := range n.Inputs {
			b, ok := constant[in]
			size, all = size+b, all && (ok || in == "")
		}
		if !all {
			continue
		}
		t, err := s.compute(n)
		if err != nil || t == nil || int64(len(t.Raw)) > max(size, maxFolded) {
			continue // it stays as it is: a run says what is wrong with it
		}
		t.Name = n.Outputs[0]
		g.Initializers = append(g.Initializers, t)
		constant[t.Name] = int64(len(t.Raw))
		g.Nodes = slices.Delete(g.Nodes, i, i+1)
		s.rep.Folded++
		i--
	}
	return nil
}

// foldable leaves quantized weights small.
func foldable(n *onnxio.Node) bool { return n.OpType != "DequantizeLinear" }

// compute runs a node by itself.
func (s *simplifier) compute(n *onnxio.Node) (*onnxio.Tensor, error) {
	m := *s.m
	m.Metadata = nil
	g := &onnxio.Graph{Name: "constant", Nodes: []*onnxio.Node{n}}
	for _, t := range s.m.Graph.Initializers {
		if slices.Contains(n.Inputs, t.Name) {
			g.Initializers = append(g.Initializers, t)
		}
	}
	m.Graph = g
	g.Outputs = []*onnxio.ValueInfo{{Name: n.Outputs[0], Type: &onnxio.Type{}}}
	known, err := infer.Shapes(&m)
	if err != nil {
		return nil, err
	}
	g.Outputs[0] = known.ValueInfo(n.Outputs[0])
	b, err := native.Open(&m, native.Options{Threads: 1, MaxBytes: 1 << 30})
	if err != nil {
		return nil, err
	}
	defer b.Close()
	out, err := b.Run(context.Background(), nil)
	if err != nil {
		return nil, err
	}
	return out[n.Outputs[0]], nil
}

// FoldNorms folds BatchNormalizations in inference mode into the convolution before them, where its
// weights and the statistics are float32 constants and nothing else reads its output. It gives a copy of
// m, and how many there were.
func FoldNorms(m *onnxio.Model) (*onnxio.Model, int, error) {
	m, err := canonical(m)
	if err != nil {
		return nil, 0, err
	}
	s := &simplifier{m: copied(m)}
	if err := s.fuse(); err != nil {
		return nil, 0, err
	}
	if s.rep.Fused > 0 {
		s.m.IRVersion = max(s.m.IRVersion, namedApart)
	}
	return s.m, s.rep.Fused, nil
}

// fuse folds the BatchNormalization behind a convolution into its weights.
func (s *simplifier) fuse() error {
	g, reads, producer := s.m.Graph, s.reads(), map[string]*onnxio.Node{}
	for _, n := range g.Nodes {
		for _, out := range n.Outputs {
			producer[out] = n
		}
	}
	g.Nodes = slices.DeleteFunc(g.Nodes, func(n *onnxio.Node) bool {
		if n.OpType != "BatchNormalization" || n.Domain != "" || len(n.Inputs) != 5 ||
			n.Int("training_mode", 0) != 0 || n.Int("spatial", 1) == 0 ||
			slices.ContainsFunc(n.Outputs[1:], func(o string) bool { return o != "" }) {
			return false
		}
		conv := producer[n.Inputs[0]]
		if conv == nil || conv.OpType != "Conv" || conv.Domain != "" || reads[conv.Outputs[0]] != 1 ||
			!s.fused(conv, n) {
			return false
		}
		conv.Outputs[0] = n.Outputs[0]
		s.rep.Fused++
		return true
	})
	return nil
}

// fused gives a convolution new weights; false where one of the tensors is no float32 constant.
func (s *simplifier) fused(conv, norm *onnxio.Node) bool {
	g := s.m.Graph
	constant := func(name string) *onnxio.Tensor {
		t := g.Initializer(name)
		if t == nil || t.Type != onnxio.Float ||
			slices.ContainsFunc(g.Inputs, func(v *onnxio.ValueInfo) bool { return v.Name == name }) {
			return nil
		}
		return t
	}
	w := constant(conv.Inputs[1])
	var of [5]*onnxio.Tensor
	for i := 1; i < 5; i++ {
		if of[i] = constant(norm.Inputs[i]); of[i] == nil || w == nil || of[i].Size() != w.Dims[0] {
			return false
		}
	}
	bias := onnxio.NewTensor(onnxio.Float, w.Dims[0])
	if len(conv.Inputs) > 2 && conv.Inputs[2] != "" {
		old := constant(conv.Inputs[2])
		if old == nil || old.Size() != w.Dims[0] {
			return false
		}
		copy(bias.Float32s(), old.Float32s())
	}
	w = w.Clone()
	row := len(w.Float32s()) / max(1, len(bias.Float32s()))
	for c, b := range bias.Float32s() {
		scale := float64(of[1].Float32s()[c]) / math.Sqrt(float64(of[4].Float32s()[c])+
			float64(norm.Float("epsilon", 1e-5)))
		for j := range row {
			w.Float32s()[c*row+j] = float32(float64(w.Float32s()[c*row+j]) * scale)
		}
		bias.Float32s()[c] = float32(float64(of[2].Float32s()[c]) +
			(float64(b)-float64(of[3].Float32s()[c]))*scale)
	}
	w.Name, bias.Name = s.fresh(conv.Inputs[1]+"/folded"), s.fresh(norm.Inputs[2]+"/folded")
	g.Initializers = append(g.Initializers, w, bias)
	conv.Inputs = []string{conv.Inputs[0], w.Name, bias.Name}
	return true
}

// fresh is a name that the graph does not have yet.
func (s *simplifier) fresh(name string) string {
	for i, base := 1, name; s.m.Graph.Initializer(name) != nil; i++ {
		name = fmt.Sprintf("%s%d", base, i)
	}
	return name
}

// prune leaves out nodes, initializers and descriptions of values that no output needs.
func (s *simplifier) prune() error {
	g := s.m.Graph
	for {
		reads, before := s.reads(), len(g.Nodes)
		g.Nodes = slices.DeleteFunc(g.Nodes, func(n *onnxio.Node) bool {
			return !slices.ContainsFunc(n.Outputs, func(o string) bool { return o != "" && reads[o] > 0 })
		})
		if s.rep.Removed += before - len(g.Nodes); before == len(g.Nodes) {
			g.Initializers = slices.DeleteFunc(g.Initializers, func(t *onnxio.Tensor) bool {
				return reads[t.Name] == 0 && !slices.ContainsFunc(g.Inputs,
					func(v *onnxio.ValueInfo) bool { return v.Name == t.Name })
			})
			break
		}
	}
	made := map[string]bool{}
	for _, n := range g.Nodes {
		for _, o := range n.Outputs {
			made[o] = true
		}
	}
	g.Values = slices.DeleteFunc(slices.Clone(g.Values), func(v *onnxio.ValueInfo) bool {
		return !made[v.Name]
	})
	return nil
}

// nearest is a hint at a name that is spelled most like another.
func nearest(name string, known []string) string {
	if near := convert.Nearest(name, known); near != "" {
		return fmt.Sprintf(" (nearest: %q)", near)
	}
	return ""
}
