package quantize

import (
	"fmt"
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/convert/rewrite"
	"github.com/cnnkit/cnnkit/onnxio"
)

// graph is a copy of a model that is rewritten, with its names looked up.
type graph struct {
	m        *onnxio.Model
	inits    map[string]*onnxio.Tensor
	producer map[string]*onnxio.Node
	readers  map[string][]*onnxio.Node
	output   map[string]bool
	input    string // the one that images go to
}

// prepare copies m, gives every node a name of its own and folds batch normalization into convolutions.
func prepare(m *onnxio.Model) (*graph, error) {
	m, _, err := rewrite.FoldNorms(m)
	if err != nil {
		return nil, err
	}
	m.Graph.Values = nil
	// It is the network of a builder no more: what training takes for a weight must follow from its use.
	m.Metadata = slices.DeleteFunc(m.Metadata, func(p onnxio.Property) bool {
		return p.Key == "cnnkit.arch" || p.Key == "cnnkit.config" || p.Key == "cnnkit.heads"
	})
	names := map[string]bool{}
	for i, n := range m.Graph.Nodes {
		for k := 0; n.Name == "" || names[n.Name]; k++ {
			n.Name = fmt.Sprintf("%s_%d", n.OpType, i+k)
		}
		names[n.Name] = true
	}
	g := &graph{m: m}
	g.index()
	for _, in := range m.Graph.Inputs {
		if g.inits[in.Name] == nil {
			if g.input != "" {
				return nil, &onnxio.UnsupportedError{Op: "quantize", Reason: "the model has several inputs"}
			}
			g.input = in.Name
		}
	}
	return g, nil
}

func (g *graph) index() {
	g.inits, g.producer = map[string]*onnxio.Tensor{}, map[string]*onnxio.Node{}
	g.readers, g.output = map[string][]*onnxio.Node{}, map[string]bool{}
	for _, t := range g.m.Graph.Initializers {
		g.inits[t.Name] = t
	}
	for _, n := range g.m.Graph.Nodes {
		for _, name := range n.Outputs {
			g.producer[name] = n
		}
		for _, name := range n.Inputs {
			if name != "" {
				g.readers[name] = append(g.readers[name], n)
			}
		}
	}
	for _, v := range g.m.Graph.Outputs {
		g.output[v.Name] = true
	}
}

// floats is a float32 initializer, nil for anything else.
func (g *graph) floats(n *onnxio.Node, input int) *onnxio.Tensor {
	if input >= len(n.Inputs) {
		return nil
	}
	if t := g.inits[n.Inputs[input]]; t != nil && t.Type == onnxio.Float && t.Check() == nil {
		return t
	}
	return nil
}

// next is the only reader of n's output.
func (g *graph) next(n *onnxio.Node) *onnxio.Node {
	if len(n.Outputs) == 0 || g.output[n.Outputs[0]] || len(g.readers[n.Outputs[0]]) != 1 {
		return nil
	}
	return g.readers[n.Outputs[0]][0]
}

func is(n *onnxio.Node, opTypes ...string) bool {
	return n != nil && n.Domain == "" && slices.Contains(opTypes, n.OpType)
}

// layers are the nodes that can be quantized: convolutions and matrix products of float32 weights and biases.
func (g *graph) layers() []*onnxio.Node {
	var out []*onnxio.Node
	for _, n := range g.m.Graph.Nodes {
		w := g.floats(n, 1)
		if !is(n, "Conv", "Gemm", "MatMul") || w == nil || w.Size() == 0 || g.inits[n.Inputs[0]] != nil {
			continue
		}
		plain := n.Float("alpha", 1) == 1 && n.Float("beta", 1) == 1 && n.Int("transA", 0) == 0
		shaped := n.OpType == "Conv" && len(w.Dims) == 4 || n.OpType != "Conv" && len(w.Dims) == 2
		biased := len(n.Inputs) < 3 || n.Inputs[2] == "" || g.floats(n, 2) != nil &&
			g.floats(n, 2).Size() == outputs(n, w)
		if plain && shaped && biased {
			out = append(out, n)
		}
	}
	return out
}

// channelAxis is the axis of the weights along which outputs lie.
func channelAxis(n *onnxio.Node) int64 {
	if n.OpType == "Conv" || n.Int("transB", 0) != 0 {
		return 0
	}
	return 1
}

func outputs(n *onnxio.Node, w *onnxio.Tensor) int64 { return w.Dims[channelAxis(n)] }

// replace makes an initializer of new numbers for one node: others that share it keep theirs.
func (g *graph) replace(n *onnxio.Node, input int, suffix string, t *onnxio.Tensor) {
	t.Name = g.free(n.Name + suffix)
	for len(n.Inputs) <= input {
		n.Inputs = append(n.Inputs, "")
	}
	n.Inputs[input] = t.Name
	g.m.Graph.Initializers = append(g.m.Graph.Initializers, t)
	g.index()
}

// free is a name that nothing has yet.
func (g *graph) free(name string) string {
	for g.inits[name] != nil || g.producer[name] != nil || g.input == name {
		name += "_"
	}
	return name
}

// bias is a copy of the bias of a convolution, zeros where it has none.
func (g *graph) bias(n *onnxio.Node, outs int64) *onnxio.Tensor {
	b := onnxio.NewTensor(onnxio.Float, outs)
	if t := g.floats(n, 2); t != nil {
		copy(b.Float32s(), t.Float32s())
	}
	return b
}

func scaleBy(x []float32, by float64) {
	for i := range x {
		x[i] = float32(float64(x[i]) * by)
	}
}

// Equalization stops after so many rounds, and does not scale a channel by more than this.
const (
	equalizeRounds = 10
	mostScaled     = 100
)

// equalize makes the ranges of the weights alike that write a channel and that read it, across ReLU
// and its like, where one convolution follows another (Nagel et al., Data-Free Quantization, 2019).
// The model computes the same.
func (g *graph) equalize() {
	type pair struct{ a, b *onnxio.Node }
	var pairs []pair
	for _, n := range g.layers() {
		b := g.next(n)
		if is(b, "Relu", "LeakyRelu") {
			b = g.next(b)
		}
		if !is(n, "Conv") || !is(b, "Conv") || g.floats(b, 1) == nil || len(g.floats(b, 1).Dims) != 4 {
			continue
		}
		outs, groups := g.floats(n, 1).Dims[0], b.Int("group", 1)
		if groups == 1 && g.floats(b, 1).Dims[1] == outs || groups == outs && g.floats(b, 1).Dims[0] == outs {
			pairs = append(pairs, pair{n, b})
		}
	}
	for _, p := range pairs {
		g.replace(p.a, 1, ".weight.equal", g.floats(p.a, 1).Clone())
		g.replace(p.b, 1, ".weight.equal", g.floats(p.b, 1).Clone())
		g.replace(p.a, 2, ".bias.equal", g.bias(p.a, g.floats(p.a, 1).Dims[0]))
	}
	for range equalizeRounds {
		for _, p := range pairs {
			g.equalizePair(p.a, p.b)
		}
	}
}

func (g *graph) equalizePair(a, b *onnxio.Node) {
	wa, wb, bias := g.floats(a, 1), g.floats(b, 1), g.floats(a, 2).Float32s()
	each := int(wa.Size() / wa.Dims[0])
	for o := range bias {
		first, second := wa.Float32s()[o*each:][:each], readBy(wb, o, b.Int("group", 1) == 1)
		r1, r2 := most(first), 0.0
		for _, part := range second {
			r2 = max(r2, most(part))
		}
		if r1 == 0 || r2 == 0 {
			continue
		}
		s := min(max(math.Sqrt(r1/r2), 1./mostScaled), mostScaled)
		scaleBy(first, 1/s)
		scaleBy(bias[o:o+1], 1/s)
		for _, part := range second {
			scaleBy(part, s)
		}
	}
}

// readBy are the weights that read channel c.
func readBy(w *onnxio.Tensor, c int, dense bool) [][]float32 {
	taps := int(w.Dims[2] * w.Dims[3])
	if !dense {
		each := int(w.Dims[1]) * taps
		return [][]float32{w.Float32s()[c*each:][:each]}
	}
	var out [][]float32
	for o := range int(w.Dims[0]) {
		out = append(out, w.Float32s()[(o*int(w.Dims[1])+c)*taps:][:taps])
	}
	return out
}

// most is the largest number in size.
func most(x []float32) float64 {
	m := 0.0
	for _, v := range x {
		m = max(m, math.Abs(float64(v)))
	}
	return m
}
