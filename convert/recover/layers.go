package recover

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// layer is a node with weights, or a convolution with the BatchNormalization that alone reads it.
type layer struct {
	node   *onnxio.Node
	weight string // the initializer; "" where the layer has none
	turned bool   // the weight is [in, out]
	bias   string
	norm   *onnxio.Node // behind a convolution
	sign   string       // what the layer computes, whatever its weights
	before []*layer
	after  []*layer
}

// network is a graph as its layers.
type network struct {
	graph  *onnxio.Graph
	inits  map[string]*onnxio.Tensor
	layers []*layer
	used   map[string]bool // initializers that layers own
}

// layersOf finds the layers of a model, in the order of its nodes.
func layersOf(m *onnxio.Model) (*network, error) {
	m, err := m.Canonical()
	if err != nil {
		return nil, err
	}
	n := &network{graph: m.Graph, inits: map[string]*onnxio.Tensor{}, used: map[string]bool{}}
	for _, t := range m.Graph.Initializers {
		n.inits[t.Name] = t
	}
	readers := map[string][]*onnxio.Node{}
	for _, node := range m.Graph.Nodes {
		for _, in := range node.Inputs {
			readers[in] = append(readers[in], node)
		}
	}
	outputs := map[string]bool{}
	for _, v := range m.Graph.Outputs {
		outputs[v.Name] = true
	}
	alone := func(node *onnxio.Node) *onnxio.Node {
		if r := readers[node.Outputs[0]]; len(r) == 1 && !outputs[node.Outputs[0]] {
			return r[0]
		}
		return nil
	}
	views := n.views()
	behind, merged := map[string][]*layer{}, map[*onnxio.Node]*layer{}
	needed := neededNodes(m.Graph)
	for _, node := range m.Graph.Nodes {
		l := merged[node]
		if l == nil && needed[node] {
			if l = n.layer(node, views, alone); l != nil {
				n.layers = append(n.layers, l)
				if l.norm != nil {
					merged[l.norm] = l
				}
			}
		}
		if l == nil {
			n.pass(node, behind)
			continue
		}
		if l.node == node {
			for _, b := range unique(node.Inputs, behind) {
				l.before, b.after = append(l.before, b), append(b.after, l)
			}
		}
		for _, out := range node.Outputs {
			behind[out] = []*layer{l}
		}
	}
	return n, nil
}

// neededNodes are the nodes on which an output depends: auxiliary heads are none.
func neededNodes(g *onnxio.Graph) map[*onnxio.Node]bool {
	wanted, needed := map[string]bool{}, map[*onnxio.Node]bool{}
	for _, v := range g.Outputs {
		wanted[v.Name] = true
	}
	for _, node := range slices.Backward(g.Nodes) {
		if slices.ContainsFunc(node.Outputs, func(out string) bool { return wanted[out] }) {
			needed[node] = true
			for _, in := range node.Inputs {
				wanted[in] = true
			}
		}
	}
	return needed
}

// pass hands the layers before a node on to what it gives.
func (n *network) pass(node *onnxio.Node, behind map[string][]*layer) {
	if node.OpType == "Shape" || node.OpType == "Size" {
		return
	}
	all := unique(node.Inputs, behind)
	for _, out := range node.Outputs {
		behind[out] = all
	}
}

func unique(inputs []string, behind map[string][]*layer) []*layer {
	var out []*layer
	for _, in := range inputs {
		for _, l := range behind[in] {
			if !slices.Contains(out, l) {
				out = append(out, l)
			}
		}
	}
	return out
}

// view is the initializer that a value is, perhaps turned around.
type view struct {
	name   string
	turned bool
}

func (n *network) views() map[string]view {
	out := map[string]view{}
	for name := range n.inits {
		out[name] = view{name, false}
	}
	for _, node := range n.graph.Nodes {
		if len(node.Inputs) == 0 || len(node.Outputs) == 0 {
			continue
		}
		from, ok := out[node.Inputs[0]]
		if !ok {
			continue
		}
		if t := n.inits[from.name]; node.OpType == "Identity" || node.OpType == "Transpose" &&
			len(t.Dims) == 2 {
			out[node.Outputs[0]] = view{from.name, from.turned != (node.OpType == "Transpose")}
		}
	}
	return out
}

// layer is the layer that a node is, nil where it has no weights.
func (n *network) layer(node *onnxio.Node, views map[string]view,
	alone func(*onnxio.Node) *onnxio.Node) *layer {
	d := ops.Lookup(node.Domain, node.OpType)
	if d == nil || len(d.Weights) == 0 || len(d.Learned) > 0 || len(node.Outputs) == 0 {
		return nil
	}
	l := &layer{node: node}
	take := func(i int) string {
		if i < len(node.Inputs) && node.Inputs[i] != "" {
			if v, ok := views[node.Inputs[i]]; ok {
				n.used[v.name] = true
				return v.name
			}
		}
		return ""
	}
	switch node.OpType {
	case "Conv", "ConvTranspose":
		l.weight, l.bias = take(1), take(2)
		if next := alone(node); n.isNorm(next) && next.Inputs[0] == node.Outputs[0] {
			l.norm = next
			for _, in := range next.Inputs[1:] {
				n.used[in] = true
			}
		}
	case "Gemm":
		l.weight, l.bias = take(1), take(2)
		l.turned = (node.Int("transB", 0) == 0) != views[node.Inputs[1]].turned
	case "MatMul":
		if l.weight = take(1); l.weight != "" {
			l.turned = !views[node.Inputs[1]].turned
			l.bias = n.added(alone(node), node.Outputs[0])
		}
	default:
		for i := range node.Inputs {
			if take(i) != "" {
				l.weight = "every input"
			}
		}
	}
	if l.weight == "" {
		return nil
	}
	l.sign = n.signature(l)
	return l
}

// isNorm says whether a node is a BatchNormalization whose scale, bias and statistics are initializers.
func (n *network) isNorm(node *onnxio.Node) bool {
	if node == nil || node.OpType != "BatchNormalization" || node.Domain != "" || len(node.Inputs) != 5 {
		return false
	}
	return !slices.ContainsFunc(node.Inputs[1:], func(in string) bool { return n.inits[in] == nil })
}

// added is the bias that an Add behind a product adds.
func (n *network) added(add *onnxio.Node, product string) string {
	if add == nil || add.OpType != "Add" || add.Domain != "" {
		return ""
	}
	for _, in := range add.Inputs {
		if t := n.inits[in]; in != product && t != nil && len(t.Dims) == 1 {
			n.used[in] = true
			return in
		}
	}
	return ""
}

// signature says what a layer computes: its operator, the shape of its weights and its
// attributes with their defaults.
func (n *network) signature(l *layer) string {
	switch op := l.node.OpType; op {
	case "Conv", "ConvTranspose":
		dims := n.inits[l.weight].Dims
		one := slices.Repeat([]int64{1}, max(0, len(dims)-2))
		return fmt.Sprint(op, dims, l.node.Int("group", 1), l.node.Ints("strides", one...),
			l.node.Ints("dilations", one...))
	case "Gemm", "MatMul":
		dims := slices.Clone(n.inits[l.weight].Dims)
		if l.turned {
			slices.Reverse(dims)
		}
		return fmt.Sprint("Linear", dims)
	}
	s := l.node.OpType
	for _, in := range l.node.Inputs[1:] {
		if t := n.inits[in]; t != nil {
			s += fmt.Sprint(t.Dims)
		}
	}
	return s
}

// colors tells the layers of both networks apart by their neighbors, to a depth of so many layers.
func colors(a, b *network) map[*layer]string {
	color := map[*layer]string{}
	all := slices.Concat(a.layers, b.layers)
	for _, l := range all {
		color[l] = l.sign
	}
	distinct := 0
	for range all {
		next, seen := map[*layer]string{}, map[string]bool{}
		for _, l := range all {
			text := color[l] + "<" + sorted(l.before, color) + ">" + sorted(l.after, color)
			sum := sha256.Sum256([]byte(text))
			next[l] = string(sum[:])
			seen[next[l]] = true
		}
		color = next
		if len(seen) == distinct {
			break
		}
		distinct = len(seen)
	}
	return color
}

func sorted(list []*layer, color map[*layer]string) string {
	var s []string
	for _, l := range list {
		s = append(s, color[l])
	}
	slices.Sort(s)
	return strings.Join(s, "|")
}
