package spec

import (
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Scale says what output numbers are.
type Scale string

// The scales.
const (
	Logits           Scale = "logits"
	LogProbabilities Scale = "log-probabilities"
	Probabilities    Scale = "probabilities"
)

// Ending is how a model's first output comes to its scale.
type Ending struct {
	Scale Scale
	Op    string       // Softmax, LogSoftmax or Sigmoid, also where it is spelled out; "" for logits
	Node  *onnxio.Node // the last of it
}

// keeps lists the operators behind which numbers are what they were before, in their first input.
var keeps = []string{"Cast", "CastLike", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
	"Transpose", "Resize", "Upsample",
	"Dropout", "QuantizeLinear", "DequantizeLinear", "Clip"}

// End walks back from the model's first output, through what keeps its numbers, to the
// activation that makes them.
func End(m *onnxio.Model) Ending {
	if m.Graph == nil || len(m.Graph.Outputs) == 0 {
		return Ending{Scale: Logits}
	}
	g := graph{m.Graph, map[string]*onnxio.Node{}}
	for _, n := range m.Graph.Nodes {
		for _, o := range n.Outputs {
			g.makers[o] = n
		}
	}
	return g.end(m.Graph.Outputs[0].Name)
}

// graph finds the node that makes a value.
type graph struct {
	*onnxio.Graph
	makers map[string]*onnxio.Node
}

// before is the node that makes a value, looking through what keeps its numbers; nil
// for an input or a constant.
func (g graph) before(value string) *onnxio.Node {
	for range len(g.Nodes) {
		n := g.makers[value]
		if n == nil || !slices.Contains(keeps, n.OpType) || len(n.Inputs) == 0 {
			return n
		}
		value = n.Inputs[0]
	}
	return nil
}

// value is the name of a value before what keeps its numbers.
func (g graph) value(name string) string {
	for range len(g.Nodes) {
		n := g.makers[name]
		if n == nil || !slices.Contains(keeps, n.OpType) || len(n.Inputs) == 0 {
			return name
		}
		name = n.Inputs[0]
	}
	return name
}

// of is the node of an operator that makes the i-th input of n.
func (g graph) of(n *onnxio.Node, i int, ops ...string) *onnxio.Node {
	if n == nil || i >= len(n.Inputs) {
		return nil
	}
	if b := g.before(n.Inputs[i]); b != nil && slices.Contains(ops, b.OpType) {
		return b
	}
	return nil
}

func (g graph) end(output string) Ending {
	n := g.before(output)
	if n == nil {
		return Ending{Scale: Logits}
	}
	switch n.OpType {
	case "Softmax":
		return Ending{Probabilities, "Softmax", n}
	case "Sigmoid":
		return Ending{Probabilities, "Sigmoid", n}
	case "LogSoftmax":
		return Ending{LogProbabilities, "LogSoftmax", n}
	case "Log":
		if len(n.Inputs) > 0 {
			if e := g.end(n.Inputs[0]); e.Scale == Probabilities {
				return Ending{LogProbabilities, "Log" + e.Op, n}
			}
		}
	case "Div":
		if g.isSoftmax(n) {
			return Ending{Probabilities, "Softmax", n}
		}
		if g.isOne(n.Inputs[0]) && g.isOnePlusExp(n, 1) {
			return Ending{Probabilities, "Sigmoid", n}
		}
	case "Reciprocal":
		if g.isOnePlusExp(n, 0) {
			return Ending{Probabilities, "Sigmoid", n}
		}
	case "Sub":
		if g.isLogSoftmax(n) {
			return Ending{LogProbabilities, "LogSoftmax", n}
		}
	}
	return Ending{Scale: Logits}
}

// isSoftmax: exp(x) / sum(exp(x)).
func (g graph) isSoftmax(n *onnxio.Node) bool {
	e, sum := g.of(n, 0, "Exp"), g.of(n, 1, "ReduceSum")
	return e != nil && sum != nil && g.of(sum, 0, "Exp") == e
}

// isLogSoftmax: x - log(sum(exp(x))), x perhaps less its maximum in both.
func (g graph) isLogSoftmax(n *onnxio.Node) bool {
	if len(n.Inputs) != 2 {
		return false
	}
	if l := g.of(n, 1, "ReduceLogSumExp"); l != nil {
		return g.value(l.Inputs[0]) == g.value(n.Inputs[0])
	}
	sum := g.of(g.of(n, 1, "Log"), 0, "ReduceSum")
	e := g.of(sum, 0, "Exp")
	return e != nil && g.value(e.Inputs[0]) == g.value(n.Inputs[0])
}

// isOnePlusExp says that an input of n is 1 + exp(-x).
func (g graph) isOnePlusExp(n *onnxio.Node, i int) bool {
	add := g.of(n, i, "Add")
	if add == nil || len(add.Inputs) != 2 {
		return false
	}
	for k := range 2 {
		if e := g.of(add, k, "Exp"); e != nil && g.isOne(add.Inputs[1-k]) {
			return g.of(e, 0, "Neg") != nil
		}
	}
	return false
}

// isOne says that a value is the constant 1.
func (g graph) isOne(value string) bool {
	t := g.Initializer(value)
	if n := g.makers[value]; n != nil && n.OpType == "Constant" {
		if a := n.Attr("value"); a != nil {
			t = a.T
		} else if n.Float("value_float", 0) == 1 {
			return true
		}
	}
	return t != nil && t.Type == onnxio.Float && t.Size() == 1 && len(t.Raw) == 4 && t.Float32s()[0] == 1
}
