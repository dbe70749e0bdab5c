package ops

import (
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Einsum by its equation. Every letter is a label with one size; the dimensions of an ellipsis are labels
// too, counted from the right. A label of two sizes broadcasts 1. What follows is in einsumkernel.go:
// products of strided views, summed over the labels that the output lacks.

func init() {
	grad := gradDef("EinsumGrad", []string{"dy"}, []string{"dx"}, stringA("equation").required(),
		intA("operand"))
	grad.Inputs = append(grad.Inputs, Param{Name: "Inputs", Type: "T", Variadic: true})
	grad.Tol, grad.Eval = reduceTol, byFloat(evalEinsumGrad[float32], evalEinsumGrad[float64])
	grad.Infer = func(c *Infer) error {
		k := c.Node.Int("operand", 0) + 1
		if err := inferReady(c); err != nil || k < 1 || k >= int64(len(c.In)) || c.In[k] == nil {
			return c.Node.Errorf("no operand %d", k-1)
		}
		setLike(c, 0, c.In[k])
		return nil
	}
	register(&Def{Name: "Einsum", Versions: []int64{12, 28}, Attrs: []AttrDef{stringA("equation").required()},
		Inputs:  []Param{{Name: "Inputs", Type: "T", Variadic: true}},
		Outputs: []Param{{Name: "Output", Type: "T"}}, Types: map[string]TypeSet{"T": Numbers},
		Tol:   reduceTol,
		Infer: inferEinsum, Grad: gradEinsum,
		Eval: byNumber(numberTypes[func(*Eval) error]{evalEinsum64, evalEinsum64, intTypes[func(*Eval) error]{
			evalEinsum[int8], evalEinsum[int16], evalEinsum[int32], evalEinsum[int64],
			evalEinsum[uint8], evalEinsum[uint16], evalEinsum[uint32], evalEinsum[uint64]}})}, grad)
}

// term is one operand of an equation, or its output: letters before and after an ellipsis.
type term struct {
	before, after string
	ellipsis      bool
}

func (t term) letters() string { return t.before + t.after }

// equation is an Einsum equation, its output made explicit.
type equation struct {
	in  []term
	out term
}

func parseTerm(n *Node, s string) (t term, err error) {
	t.before, t.after, t.ellipsis = strings.Cut(s, "...")
	for _, r := range t.letters() {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return t, n.Errorf("equation %q: %q is no letter", n.Str("equation", ""), r)
		}
	}
	return t, nil
}

// equationOf parses the equation of a node with that many operands.
func equationOf(n *Node, operands int) (e equation, err error) {
	text := n.Str("equation", "")
	left, right, explicit := strings.Cut(strings.ReplaceAll(text, " ", ""), "->")
	for _, s := range strings.Split(left, ",") {
		t, err := parseTerm(n, s)
		if err != nil {
			return e, err
		}
		e.in = append(e.in, t)
	}
	if len(e.in) != operands {
		return e, n.Errorf("equation %q is of %d operands, the node has %d", text, len(e.in), operands)
	}
	all, ellipsis := "", false
	for _, t := range e.in {
		all, ellipsis = all+t.letters(), ellipsis || t.ellipsis
	}
	if !explicit {
		e.out.ellipsis = ellipsis
		for r := 'A'; r <= 'z'; r++ {
			if strings.Count(all, string(r)) == 1 {
				e.out.after += string(r)
			}
		}
		return e, nil
	}
	if e.out, err = parseTerm(n, right); err != nil {
		return e, err
	}
	for _, r := range e.out.letters() {
		if !strings.ContainsRune(all, r) || strings.Count(e.out.letters(), string(r)) > 1 {
			return e, n.Errorf("equation %q: the output's %q must be in an operand, and once in the output",
				text, r)
		}
	}
	if ellipsis && !e.out.ellipsis {
		return e, n.Errorf("equation %q: the output lacks the ellipsis", text)
	}
	return e, nil
}

// labels gives every dimension of each operand its label. Letters are labels by their code; dimension k of an
// ellipsis, from the right, is label ellipsisLabel+k. deepest is the number of an ellipsis's dimensions.
func (e *equation) labels(n *Node, ranks []int) (in [][]int, deepest int, err error) {
	for i, t := range e.in {
		rest := ranks[i] - len(t.letters())
		if rest < 0 || rest > 0 && !t.ellipsis {
			return nil, 0, n.Errorf("equation %q: operand %d has rank %d", n.Str("equation", ""), i, ranks[i])
		}
		in = append(in, t.labels(rest))
		deepest = max(deepest, rest)
	}
	return in, deepest, nil
}

// ellipsisLabel is the label of an ellipsis's last dimension, above those of letters.
const ellipsisLabel = 256

func (t term) labels(rest int) []int {
	out := []int{}
	for _, r := range t.before {
		out = append(out, int(r))
	}
	for k := rest - 1; k >= 0; k-- {
		out = append(out, ellipsisLabel+k)
	}
	for _, r := range t.after {
		out = append(out, int(r))
	}
	return out
}

func inferEinsum(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	if !c.Has(0) {
		return c.Node.Errorf("takes at least one operand")
	}
	c.SetType(0, c.In[0].Type)
	e, err := equationOf(c.Node, len(c.In))
	if err != nil {
		return err
	}
	ranks := make([]int, len(c.In))
	for i, v := range c.In {
		if !shaped(c, i) {
			return nil
		}
		ranks[i] = len(v.Shape)
	}
	labels, deepest, err := e.labels(c.Node, ranks)
	if err != nil {
		return err
	}
	sizes := map[int]onnxio.Dim{}
	for i, list := range labels {
		for k, label := range list {
			d, ok := sizes[label]
			if !ok {
				d = knownDim(1)
			}
			joint, fits := broadcastDims([]onnxio.Dim{d}, c.In[i].Shape[k:k+1])
			if !fits {
				return c.Node.Errorf("equation %q: dimension %d of operand %d is %s, not %s",
					c.Node.Str("equation", ""),
					k, i, shapeText(c.In[i].Shape[k:k+1]), shapeText([]onnxio.Dim{d}))
			}
			sizes[label] = joint[0]
		}
	}
	out := []onnxio.Dim{}
	for _, label := range e.out.labels(deepest) {
		out = append(out, sizes[label])
	}
	c.Set(0, c.In[0].Type, out)
	return nil
}

// summing is an Einsum in numbers.
type summing struct {
	labels [][]int // of each operand's dimensions
	out    []int
	sizes  map[int]int64
}

// summingOf resolves the equation for operands.
func summingOf(n *Node, in []*onnxio.Tensor) (*summing, error) {
	e, err := equationOf(n, len(in))
	if err != nil {
		return nil, err
	}
	s := &summing{sizes: map[int]int64{}}
	ranks := make([]int, len(in))
	for i, t := range in {
		if t == nil || t.Type != in[0].Type {
			return nil, n.Errorf("operand %d is missing or of another type", i)
		}
		ranks[i] = len(t.Dims)
	}
	var deepest int
	if s.labels, deepest, err = e.labels(n, ranks); err != nil {
		return nil, err
	}
	s.out = e.out.labels(deepest)
	for i, list := range s.labels {
		for k, label := range list {
			d, has := s.sizes[label]
			switch v := in[i].Dims[k]; {
			case !has || d == 1:
				s.sizes[label] = v
			case v != 1 && v != d:
				return nil, n.Errorf("equation %q: dimension %d of operand %d is %d, not %d",
					n.Str("equation", ""),
					k, i, v, d)
			}
		}
	}
	return s, nil
}

// shape is the sizes of labels.
func (s *summing) shape(labels []int) []int64 {
	out := make([]int64, len(labels))
	for i, label := range labels {
		out[i] = s.sizes[label]
	}
	return out
}

func gradEinsum(g *Grad) (err error) {
	text := onnxio.StringAttr("equation", g.Node.Str("equation", ""))
	for i := range g.DIn {
		if !g.Wants[i] {
			continue
		}
		in := slices.Concat([]string{g.DOut[0]}, g.Node.Inputs)
		g.DIn[i], err = g.One(GradDomain, "EinsumGrad", in, text, onnxio.IntAttr("operand", int64(i)))
		if err != nil {
			return err
		}
	}
	return nil
}
