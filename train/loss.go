package train

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/train/data"
)

// The losses that TrainingGraph knows. y is the model's output; labels are int64 [N,...] class numbers, masks and soft
// targets float32 of y's shape. Each is a mean over images and pixels, or one number for the whole batch.
const (
	LossAuto         = "auto"
	LossNLL          = "nll"                // log-probabilities [N,C,...], labels
	LossCrossEntropy = "cross-entropy"      // logits [N,C,...], labels
	LossSoftNLL      = "soft-nll"           // log-probabilities, soft targets: sums over C of -t*y
	LossSoft         = "soft-cross-entropy" // logits, soft targets
	LossFocal        = "focal"              // logits or log-probabilities, labels: (1-p)^Gamma * -log p, p being the label's probability
	LossBCE          = "bce-with-logits"    // logits, masks: softplus(y) - y*t
	LossSigmoidFocal = "sigmoid-focal"      // logits, masks: torchvision.ops.sigmoid_focal_loss
	LossDice         = "dice"               // logits, masks: 1 - (2*TP + Smooth)/(2*TP + FP + FN + Smooth)
	LossJaccard      = "jaccard"            // logits, masks: 1 - (TP + Smooth)/(TP + FP + FN + Smooth)
	LossTversky      = "tversky"            // logits, masks: 1 - (TP + Smooth)/(TP + a*FP + b*FN + Smooth)
	LossBCEDice      = "bce-dice"           // the sum of the two
)

// Losses lists the losses. Lin et al., arXiv:1708.02002 (focal); Milletari et al., arXiv:1606.04797 (dice); Rahman and
// Wang, ISVC 2016 (jaccard); Salehi et al., arXiv:1706.05721 (tversky). In the last three TP, FP and FN are sums of
// sigmoids over the batch, its channels and its pixels.
func Losses() []string {
	return []string{LossAuto, LossNLL, LossCrossEntropy, LossSoftNLL, LossSoft, LossFocal, LossBCE, LossSigmoidFocal, LossDice,
		LossJaccard, LossTversky, LossBCEDice}
}

// takesMasks says whether the targets of a loss are float32 maps of the output's shape.
func takesMasks(loss string) bool {
	return slices.Contains([]string{LossBCE, LossSigmoidFocal, LossDice, LossJaccard, LossTversky, LossBCEDice}, loss)
}

// takesSoft says whether the targets of a loss are probabilities.
func takesSoft(loss string) bool { return loss == LossSoft || loss == LossSoftNLL }

func (c Config) validateLoss() error {
	switch {
	case c.Loss != "" && !slices.Contains(Losses(), c.Loss):
		return fmt.Errorf("no loss %q: known are %s", c.Loss, strings.Join(Losses(), ", "))
	case !(c.LabelSmoothing >= 0 && c.LabelSmoothing < 1):
		return fmt.Errorf("label_smoothing is %v: it must be in [0,1)", c.LabelSmoothing)
	case !(c.Gamma >= 0) || !(c.Smooth >= 0) || !(c.Tversky[0] >= 0) || !(c.Tversky[1] >= 0):
		return fmt.Errorf("gamma, smooth and tversky must not be negative")
	case !(c.Balance >= 0 && c.Balance < 1):
		return fmt.Errorf("balance is %v: it must be in [0,1)", c.Balance)
	}
	if c.Loss != "" && c.Loss != LossAuto {
		if err := c.fits(c.Loss); err != nil {
			return err
		}
	}
	return c.ClassWeights.validate()
}

// fits reports settings that a loss does not have.
func (c Config) fits(loss string) error {
	if c.IgnoreIndex != nil {
		switch {
		case loss != LossNLL && loss != LossCrossEntropy:
			return fmt.Errorf("ignore_index goes with nll and cross-entropy, not with %s: let the model have a channel for each class", loss)
		case c.LabelSmoothing > 0:
			return fmt.Errorf("ignore_index and label_smoothing do not go together: leave one out")
		}
	}
	switch {
	case slices.Contains([]string{LossNLL, LossCrossEntropy, LossSoft, LossSoftNLL}, loss):
	case c.LabelSmoothing > 0:
		return fmt.Errorf("label_smoothing goes with nll and cross-entropy, not with %s", loss)
	case !c.ClassWeights.IsZero():
		return fmt.Errorf("class_weights go with nll and cross-entropy, not with %s", loss)
	}
	return nil
}

// chooseLoss settles auto, and compares a loss with what the model's output is.
func chooseLoss(m *onnxio.Model, loss string) (string, error) {
	out, end := m.Graph.Outputs[0], spec.End(m)
	if end.Scale == spec.Probabilities {
		return "", &onnxio.UnsupportedError{Op: end.Node.OpType, Node: end.Node.Name, Reason: "the model ends in " + end.Op +
			", and a loss of probabilities would apply it twice: export the model without it, so that it gives logits"}
	}
	logs := end.Scale == spec.LogProbabilities
	switch loss {
	case LossAuto, "":
		t := out.Type
		switch {
		case logs:
			return LossNLL, nil
		case t == nil || len(t.Shape) != 4 || t.Shape[1].Known() && t.Shape[1].Value > 1:
			return LossCrossEntropy, nil
		}
		return LossBCE, nil
	case LossNLL, LossSoftNLL:
		if !logs {
			return "", fmt.Errorf("%s takes log-probabilities, but the model gives logits: use cross-entropy for these", loss)
		}
	default:
		if !slices.Contains(Losses(), loss) {
			return "", fmt.Errorf("no loss %q: known are %s", loss, strings.Join(Losses(), ", "))
		}
		if loss == LossFocal && logs {
			return LossFocal + "/log", nil
		}
		if logs {
			return "", fmt.Errorf("%s takes logits, but the model ends in %s: use nll for log-probabilities", loss, end.Op)
		}
	}
	return loss, nil
}

// lossNodes appends a loss to a graph.
type lossNodes struct{ *onnxio.Graph }

// op appends a node whose name is that of its output.
func (l lossNodes) op(op, name string, in []string, attrs ...*onnxio.Attribute) string {
	l.Nodes = append(l.Nodes, &onnxio.Node{Name: name, OpType: op, Inputs: in, Outputs: []string{name}, Attrs: attrs})
	return name
}

func (l lossNodes) two(op, name, a, b string) string { return l.op(op, name, []string{a, b}) }

// number is a scalar initializer.
func (l lossNodes) number(name string, v float64) string {
	t := onnxio.Scalar(onnxio.Float, float32(v))
	t.Name = name
	l.Initializers = append(l.Initializers, t)
	return name
}

func (l lossNodes) scaled(name, x string, v float64) string {
	return l.two("Mul", name, x, l.number(name+"/factor", v))
}

// over reduces everything to one number.
func (l lossNodes) over(op, name, x string) string {
	return l.op(op, name, []string{x}, onnxio.IntAttr("keepdims", 0))
}

// addLoss appends the loss, its target and its output to m's graph.
func (c Config) addLoss(m *onnxio.Model, loss string) error {
	if err := c.fits(loss); err != nil {
		return err
	}
	g, y := m.Graph, m.Graph.Outputs[0]
	l := lossNodes{g}
	switch loss {
	case LossNLL, LossCrossEntropy, LossSoft, LossSoftNLL:
		if err := c.addCrossEntropy(l, y, loss); err != nil {
			return err
		}
	case LossFocal, LossFocal + "/log":
		c.addFocal(l, y.Name, loss)
	case LossBCE:
		l.over("ReduceMean", LossName, l.bce(y.Name))
	case LossSigmoidFocal:
		c.addSigmoidFocal(l, y.Name)
	default:
		c.addOverlap(l, y.Name, loss)
	}
	target := onnxio.TensorInfo(TargetName, onnxio.Int64)
	maps := takesMasks(loss) || takesSoft(loss)
	if maps {
		target = onnxio.TensorInfo(TargetName, onnxio.Float)
	}
	if y.Type != nil && y.Type.HasShape {
		shape := y.Type.Shape
		if maps {
			target = onnxio.TensorInfo(TargetName, onnxio.Float, shape...)
		} else if len(shape) > 1 {
			target = onnxio.TensorInfo(TargetName, onnxio.Int64, append([]onnxio.Dim{shape[0]}, shape[2:]...)...)
		}
	}
	g.Inputs = append(g.Inputs, target)
	g.Outputs = append(g.Outputs, onnxio.TensorInfo(LossName, onnxio.Float))
	return nil
}

// addCrossEntropy: torch.nn.functional.cross_entropy with class numbers or probabilities, its weight of each class, and its
// label_smoothing e, which mixes (1-e) of the loss with e of the mean of all -log p. The mean over class numbers is by the
// weights of their classes, that over probabilities is not.
func (c Config) addCrossEntropy(l lossNodes, y *onnxio.ValueInfo, loss string) error {
	var weights []string // the third input of the losses
	if !c.ClassWeights.IsZero() {
		if err := c.ClassWeights.fit(y); err != nil {
			return err
		}
		weights = []string{c.ClassWeights.add(l, "loss/class_weights", 1)}
	}
	mean := onnxio.StringAttr("reduction", "mean")
	if c.LabelSmoothing == 0 && !takesSoft(loss) {
		op := "NegativeLogLikelihoodLoss"
		if loss == LossCrossEntropy {
			op = "SoftmaxCrossEntropyLoss"
		}
		attrs := []*onnxio.Attribute{mean}
		if c.IgnoreIndex != nil {
			attrs = append(attrs, onnxio.IntAttr("ignore_index", data.Void))
		}
		l.op(op, LossName, append([]string{y.Name, TargetName}, weights...), attrs...)
		return nil
	}
	logs := y.Name
	if loss == LossCrossEntropy || loss == LossSoft {
		logs = l.op("LogSoftmax", "loss/logs", []string{y.Name}, onnxio.IntAttr("axis", 1))
	}
	weighted := logs
	if weights != nil {
		weighted = l.two("Mul", "loss/weighted", logs, c.ClassWeights.add(l, "loss/class_weights/map", len(y.Type.Shape)-1))
	}
	name := LossName
	if c.LabelSmoothing > 0 {
		name = "loss/hard"
	}
	if takesSoft(loss) {
		n, err := classes(y)
		if err != nil {
			return fmt.Errorf("%s: %w", loss, err)
		}
		product := l.over("ReduceMean", "loss/mean", l.two("Mul", "loss/product", weighted, TargetName))
		l.scaled(name, product, -float64(n))
	} else {
		l.op("NegativeLogLikelihoodLoss", name, append([]string{logs, TargetName}, weights...), mean)
	}
	if e := c.LabelSmoothing; e > 0 {
		all := l.over("ReduceMean", "loss/all", weighted)
		if weights != nil && !takesSoft(loss) {
			of := l.op("Gather", "loss/weights", []string{weights[0], TargetName})
			all = l.two("Div", "loss/by_weight", all, l.over("ReduceMean", "loss/weight", of))
		}
		l.two("Add", LossName, l.scaled("loss/part", name, 1-e), l.scaled("loss/even", all, -e))
	}
	return nil
}

func (c Config) addFocal(l lossNodes, y, loss string) {
	if loss == LossFocal {
		y = l.op("LogSoftmax", "loss/logs", []string{y}, onnxio.IntAttr("axis", 1))
	}
	nll := l.op("NegativeLogLikelihoodLoss", "loss/nll", []string{y, TargetName}, onnxio.StringAttr("reduction", "none"))
	p := l.op("Exp", "loss/p", []string{l.op("Neg", "loss/log_p", []string{nll})})
	rest := l.two("Sub", "loss/rest", l.number("loss/one", 1), p)
	weight := l.two("Pow", "loss/weight", rest, l.number("loss/gamma", or(c.Gamma, 2)))
	l.over("ReduceMean", LossName, l.two("Mul", "loss/weighted", weight, nll))
}

// bce is softplus(y) - y*t, element by element.
func (l lossNodes) bce(y string) string {
	l.op("Softplus", "loss/softplus", []string{y})
	l.two("Mul", "loss/product", y, TargetName)
	return l.two("Sub", "loss/difference", "loss/softplus", "loss/product")
}

func (c Config) addSigmoidFocal(l lossNodes, y string) {
	ce, p := l.bce(y), l.op("Sigmoid", "loss/p", []string{y})
	// 1 - p_t = p + t - 2*p*t
	twice := l.scaled("loss/twice", l.two("Mul", "loss/pt", p, TargetName), 2)
	rest := l.two("Sub", "loss/rest", l.two("Add", "loss/sum", p, TargetName), twice)
	weighted := l.two("Mul", "loss/weighted", ce, l.two("Pow", "loss/weight", rest, l.number("loss/gamma", or(c.Gamma, 2))))
	if a := c.Balance; a > 0 {
		// a*t + (1-a)*(1-t)
		share := l.two("Add", "loss/share", l.scaled("loss/scaled", TargetName, 2*a-1), l.number("loss/negatives", 1-a))
		weighted = l.two("Mul", "loss/balanced", weighted, share)
	}
	l.over("ReduceMean", LossName, weighted)
}

// addOverlap: dice and jaccard are tversky's with certain weights. TP + a*FP + b*FN = (1-a-b)*TP + a*sum(p) + b*sum(t).
func (c Config) addOverlap(l lossNodes, y, loss string) {
	weights, smooth := c.Tversky, or(c.Smooth, 1)
	switch {
	case loss == LossDice || loss == LossBCEDice:
		weights, smooth = [2]float64{0.5, 0.5}, smooth/2
	case loss == LossJaccard:
		weights = [2]float64{1, 1}
	case weights == [2]float64{}:
		weights = [2]float64{0.5, 0.5}
	}
	p := l.op("Sigmoid", "loss/p", []string{y})
	both := l.over("ReduceSum", "loss/tp", l.two("Mul", "loss/pt", p, TargetName))
	positives := l.scaled("loss/a", l.over("ReduceSum", "loss/positives", p), weights[0])
	truths := l.scaled("loss/b", l.over("ReduceSum", "loss/truths", TargetName), weights[1])
	small := l.number("loss/smooth", smooth)
	above := l.two("Add", "loss/above", both, small)
	below := l.two("Add", "loss/ab", positives, truths)
	below = l.two("Add", "loss/tpab", below, l.scaled("loss/c", both, 1-weights[0]-weights[1]))
	below = l.two("Add", "loss/below", below, small)
	name := LossName
	if loss == LossBCEDice {
		name = "loss/dice"
	}
	l.two("Sub", name, l.number("loss/one", 1), l.two("Div", "loss/ratio", above, below))
	if loss == LossBCEDice {
		l.two("Add", LossName, name, l.over("ReduceMean", "loss/bce", l.bce(y)))
	}
}
