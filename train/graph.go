package train

import (
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Names of what TrainingGraph adds to a model's graph.
const (
	TargetName = "target"
	LossName   = "loss"
)

// The losses that TrainingGraph knows.
const (
	LossAuto         = "auto"
	LossNLL          = "nll"
	LossCrossEntropy = "cross-entropy"
	LossBCE          = "bce-with-logits"
)

// TrainingGraph is the model with its loss: an input "target" and a scalar output "loss" beside the model's first
// output, BatchNormalization and Dropout in training mode. m is not changed; initializers are shared.
//
//   - nll: NegativeLogLikelihoodLoss of log-probabilities [N,C,...] and int64 targets [N,...]
//   - cross-entropy: SoftmaxCrossEntropyLoss of logits [N,C,...] and int64 targets [N,...]
//   - bce-with-logits: the mean of softplus(x) - x*t over logits and float32 targets of one shape
//   - auto: nll after a LogSoftmax, bce-with-logits for maps [N,C,H,W], else cross-entropy
func TrainingGraph(m *onnxio.Model, loss string) (*onnxio.Model, string, error) {
	if m.Graph == nil || len(m.Graph.Outputs) == 0 {
		return nil, "", fmt.Errorf("the model has no output to train")
	}
	if v := m.Opset(""); v < 14 && hasOp(m, "BatchNormalization") {
		return nil, "", &onnxio.UnsupportedError{Op: "BatchNormalization", Opset: v, Reason: "training it needs opset 14 or newer: build the model with --opset 17"}
	}
	loss, err := chooseLoss(m, loss)
	if err != nil {
		return nil, "", err
	}
	out, g := *m, *m.Graph
	out.Graph = &g
	g.Nodes = nil
	for _, n := range m.Graph.Nodes {
		g.Nodes = append(g.Nodes, trainingNode(n))
	}
	g.Inputs, g.Initializers = slices.Clone(g.Inputs), slices.Clone(g.Initializers)
	g.Outputs, g.Values = slices.Clone(g.Outputs[:1]), nil
	if hasOp(m, "Dropout") {
		yes := onnxio.Scalar(onnxio.Bool, true)
		yes.Name = trainingFlag
		g.Initializers = append(g.Initializers, yes)
	}
	for _, v := range append(g.Inputs, g.Outputs...) {
		if v.Name == TargetName || v.Name == LossName {
			return nil, "", fmt.Errorf("the model has a value named %q, which the training graph needs", v.Name)
		}
	}
	addLoss(&g, loss)
	return &out, loss, nil
}

// trainingFlag names the initializer that puts Dropout in training mode.
const trainingFlag = "train/true"

func hasOp(m *onnxio.Model, op string) bool {
	return slices.ContainsFunc(m.Graph.Nodes, func(n *onnxio.Node) bool { return n.OpType == op && n.Domain == "" })
}

// trainingNode is the node in training mode; nodes that know no mode are shared.
func trainingNode(n *onnxio.Node) *onnxio.Node {
	if n.Domain != "" {
		return n
	}
	c := *n
	switch n.OpType {
	case "BatchNormalization":
		c.Attrs = nil
		for _, a := range n.Attrs {
			if a.Name != "training_mode" {
				c.Attrs = append(c.Attrs, a)
			}
		}
		c.Attrs = append(c.Attrs, onnxio.IntAttr("training_mode", 1))
		c.Outputs = []string{n.Outputs[0], n.Outputs[0] + "/running_mean", n.Outputs[0] + "/running_var"}
	case "Dropout":
		c.Inputs = slices.Clone(n.Inputs)
		for len(c.Inputs) < 3 {
			c.Inputs = append(c.Inputs, "")
		}
		c.Inputs[2] = trainingFlag
	default:
		return n
	}
	return &c
}

func chooseLoss(m *onnxio.Model, loss string) (string, error) {
	out := m.Graph.Outputs[0]
	var last *onnxio.Node
	for _, n := range m.Graph.Nodes {
		if slices.Contains(n.Outputs, out.Name) {
			last = n
		}
	}
	op := ""
	if last != nil {
		op = last.OpType
	}
	rank := -1
	if out.Type != nil && out.Type.HasShape {
		rank = len(out.Type.Shape)
	}
	switch loss {
	case LossAuto, "":
		switch {
		case op == "LogSoftmax":
			return LossNLL, nil
		case op == "Softmax":
			return "", fmt.Errorf("the model ends in Softmax, which no loss takes: let it end in LogSoftmax, or in the logits")
		case rank == 4:
			return LossBCE, nil
		}
		return LossCrossEntropy, nil
	case LossNLL:
		if op != "LogSoftmax" {
			return "", fmt.Errorf("nll takes log-probabilities, but the model ends in %s: use cross-entropy for logits", op)
		}
	case LossCrossEntropy, LossBCE:
		if op == "LogSoftmax" || op == "Softmax" {
			return "", fmt.Errorf("%s takes logits, but the model ends in %s: use nll for log-probabilities", loss, op)
		}
	default:
		return "", fmt.Errorf("no loss %q: known are %s, %s, %s, %s", loss, LossAuto, LossNLL, LossCrossEntropy, LossBCE)
	}
	return loss, nil
}

func addLoss(g *onnxio.Graph, loss string) {
	y := g.Outputs[0]
	node := func(op, name string, in []string, attrs ...*onnxio.Attribute) {
		g.Nodes = append(g.Nodes, &onnxio.Node{Name: name, OpType: op, Inputs: in, Outputs: []string{name}, Attrs: attrs})
	}
	switch loss {
	case LossNLL:
		node("NegativeLogLikelihoodLoss", LossName, []string{y.Name, TargetName}, onnxio.StringAttr("reduction", "mean"))
	case LossCrossEntropy:
		node("SoftmaxCrossEntropyLoss", LossName, []string{y.Name, TargetName}, onnxio.StringAttr("reduction", "mean"))
	case LossBCE:
		node("Softplus", "loss/softplus", []string{y.Name})
		node("Mul", "loss/product", []string{y.Name, TargetName})
		node("Sub", "loss/difference", []string{"loss/softplus", "loss/product"})
		node("ReduceMean", LossName, []string{"loss/difference"}, onnxio.IntAttr("keepdims", 0))
	}
	target := onnxio.TensorInfo(TargetName, onnxio.Int64)
	if y.Type != nil && y.Type.HasShape {
		shape := y.Type.Shape
		if loss == LossBCE {
			target = onnxio.TensorInfo(TargetName, onnxio.Float, shape...)
		} else if len(shape) > 1 {
			target = onnxio.TensorInfo(TargetName, onnxio.Int64, append([]onnxio.Dim{shape[0]}, shape[2:]...)...)
		}
	}
	g.Inputs = append(g.Inputs, target)
	g.Outputs = append(g.Outputs, onnxio.TensorInfo(LossName, onnxio.Float))
}
