package train

import (
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// Names of what TrainingGraph adds to a model's graph.
const (
	TargetName = "target"
	LossName   = "loss"
)

// TrainingGraph is the model with its loss: an input "target" and a scalar output "loss" beside the
// model's first output, BatchNormalization and Dropout in training mode. m is not changed; initializers
// are shared. The loss takes the output as [N,C,...]; a Trainer turns maps that come out with their channels
// last. Losses says which losses there are; auto is nll after a LogSoftmax, bce-with-logits for maps
// [N,1,H,W], else cross-entropy.
func TrainingGraph(m *onnxio.Model, loss string) (*onnxio.Model, string, error) {
	return Config{Loss: loss}.TrainingGraph(m)
}

// TrainingGraph is the function of the same name, with the loss's settings. With SampleWeights it
// has an input "weight" [N].
func (c Config) TrainingGraph(m *onnxio.Model) (*onnxio.Model, string, error) {
	graph, loss, err := c.trainingGraph(m)
	return graph, loss.Name, err
}

func (c Config) trainingGraph(m *onnxio.Model) (*onnxio.Model, Loss, error) {
	if m.Graph == nil || len(m.Graph.Outputs) == 0 {
		return nil, Loss{}, fmt.Errorf("the model has no output to train")
	}
	if err := c.checkPatterns(m); err != nil {
		return nil, Loss{}, err
	}
	still := c.stillNodes(m)
	moves := func(n *onnxio.Node) bool { return isBatchNorm(n) && !still[n] }
	if v := m.Opset(""); v < 14 && slices.ContainsFunc(m.Graph.Nodes, moves) {
		return nil, Loss{}, &onnxio.UnsupportedError{Op: "BatchNormalization", Opset: v,
			Reason: "training it needs opset 14 or newer: build the model with --opset 17"}
	}
	loss, err := chooseLoss(m, c.Loss)
	if err != nil {
		return nil, Loss{}, err
	}
	if len(c.Mix) > 0 {
		soft := map[string]string{LossNLL: LossSoftNLL, LossCrossEntropy: LossSoft}[loss.Name]
		if loss.Targets != Soft && soft == "" {
			return nil, Loss{}, fmt.Errorf(
				"mix makes soft targets, which go with nll and cross-entropy, not with %s", loss.Name)
		}
		if loss.Targets != Soft {
			if loss, err = losses.find(soft); err != nil {
				return nil, Loss{}, err
			}
		}
	}
	out, g := *m, *m.Graph
	out.Graph = &g
	g.Nodes = nil
	for _, n := range m.Graph.Nodes {
		if !still[n] {
			n = trainingNode(n)
		}
		g.Nodes = append(g.Nodes, n)
	}
	g.Inputs, g.Initializers = slices.Clone(g.Inputs), slices.Clone(g.Initializers)
	g.Outputs, g.Values = slices.Clone(g.Outputs[:1]), nil
	if hasOp(m, "Dropout") {
		yes := onnxio.Scalar(onnxio.Bool, true)
		yes.Name = trainingFlag
		g.Initializers = append(g.Initializers, yes)
	}
	for _, v := range append(g.Inputs, g.Outputs...) {
		if v.Name == TargetName || v.Name == LossName || v.Name == WeightName && c.SampleWeights {
			return nil, Loss{}, fmt.Errorf("the model has a value named %q, which the training graph needs",
				v.Name)
		}
	}
	if err := c.addLoss(&out, loss); err != nil {
		return nil, Loss{}, err
	}
	return &out, loss, nil
}

// turnedMap names the maps of a model of images [N,H,W,C] as losses and metrics take them.
const turnedMap = "train/map"

// channelsFirst is m with its maps as [N,C,H,W]; m itself where they are.
func (t *Trainer) channelsFirst(m *onnxio.Model) *onnxio.Model {
	if t.takes.Layout != spec.NHWC || len(m.Graph.Outputs) == 0 || !isMap(m.Graph.Outputs[0]) {
		return m
	}
	y := m.Graph.Outputs[0]
	out, g := *m, *m.Graph
	out.Graph = &g
	d := y.Type.Shape
	turned := onnxio.TensorInfo(turnedMap, y.Type.Elem, d[0], d[3], d[1], d[2])
	g.Nodes = append(slices.Clone(g.Nodes), &onnxio.Node{OpType: "Transpose", Name: turnedMap,
		Inputs: []string{y.Name}, Outputs: []string{turnedMap},
		Attrs: []*onnxio.Attribute{onnxio.IntsAttr("perm", 0, 3, 1, 2)}})
	g.Outputs = append([]*onnxio.ValueInfo{turned}, g.Outputs[1:]...)
	return &out
}

// formOf is the form in which a model that trains takes images: float32, in its layout.
func formOf(m *onnxio.Model) spec.Input {
	s, err := spec.Get(m)
	if err != nil { // of which compatible, or the engine, tells
		return spec.Input{}
	}
	return spec.Input{Layout: s.Input.Layout}
}

// isMap says that an output has a value for each pixel.
func isMap(y *onnxio.ValueInfo) bool { return y.Type != nil && len(y.Type.Shape) == 4 }

// trainingFlag names the initializer that puts Dropout in training mode.
const trainingFlag = "train/true"

func hasOp(m *onnxio.Model, op string) bool {
	return slices.ContainsFunc(m.Graph.Nodes, func(n *onnxio.Node) bool {
		return n.OpType == op && n.Domain == ""
	})
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
