package train

import (
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/train/data"
)

// The package's losses.
const (
	LossNLL          = "nll"
	LossCrossEntropy = "cross-entropy"
	LossSoftNLL      = "soft-nll"
	LossSoft         = "soft-cross-entropy"
	LossFocal        = "focal"
	LossBCE          = "bce-with-logits"
	LossSigmoidFocal = "sigmoid-focal"
	LossDice         = "dice"
	LossJaccard      = "jaccard"
	LossTversky      = "tversky"
	LossBCEDice      = "bce-dice"
	LossLovasz       = "lovasz"
	LossLovaszHinge  = "lovasz-hinge"
	LossMSE          = "mse"
	LossL1           = "l1"
	LossHuber        = "huber"
)

var (
	logits = []spec.Scale{spec.Logits}
	logs   = []spec.Scale{spec.LogProbabilities}
	// numbers may end in a Sigmoid, which bounds them.
	numbers = []spec.Scale{spec.Logits, spec.Probabilities}

	labelSmoothing = Setting{"label_smoothing", "share of the target that all classes have", 0}
	classWeights   = Setting{"class_weights", "balanced, or a weight for each class", nil}
	ignoreIndex    = Setting{"ignore_index", "value of masks that does not count", nil}
	sampleWeights  = Setting{"sample_weights", "each image's loss times its weight", false}
	gamma          = Setting{"gamma", "exponent of (1-p)", 2}
	smooth         = Setting{"smooth", "added above and below the ratio", 1}
)

// losses is the table of losses. y is the model's output, t the target, p the sigmoid or the probability of
// the label. Each is a mean over images and pixels, or one number for the whole batch. Lin et al.,
// arXiv:1708.02002 (focal); Milletari et al., arXiv:1606.04797 (dice); Rahman and Wang, ISVC 2016 (jaccard);
// Salehi et al., arXiv:1706.05721 (tversky). In the last three TP, FP and FN are sums of sigmoids over the
// batch, its channels and its pixels.
var losses = newRegistry("loss",
	Loss{Entry: Entry{LossNLL, "log-probabilities and class numbers: torch.nn.NLLLoss",
		[]Setting{labelSmoothing, classWeights, sampleWeights, ignoreIndex}},
		Targets: Labels, Scales: logs, Emit: emitCrossEntropy, builtin: true},
	Loss{Entry: Entry{LossCrossEntropy, "logits and class numbers: torch.nn.CrossEntropyLoss",
		[]Setting{labelSmoothing, classWeights, sampleWeights, ignoreIndex}},
		Targets: Labels, Scales: logits, Emit: emitCrossEntropy, builtin: true},
	Loss{Entry: Entry{LossSoftNLL, "log-probabilities and soft targets: sums of -t*y",
		[]Setting{labelSmoothing, classWeights}},
		Targets: Soft, Scales: logs, Emit: emitCrossEntropy, builtin: true},
	Loss{Entry: Entry{LossSoft, "logits and soft targets: torch.nn.CrossEntropyLoss",
		[]Setting{labelSmoothing, classWeights}},
		Targets: Soft, Scales: logits, Emit: emitCrossEntropy, builtin: true},
	Loss{Entry: Entry{LossFocal, "logits or log-probabilities and class numbers: (1-p)^gamma * -log p",
		[]Setting{gamma, sampleWeights}},
		Targets: Labels, Scales: []spec.Scale{spec.Logits, spec.LogProbabilities}, Emit: emitFocal,
		builtin: true},
	Loss{Entry: Entry{LossBCE, "logits and masks or labels of 0 and 1: torch.nn.BCEWithLogitsLoss", []Setting{
		{"pos_weight", "weight of the ones, a number for each output", nil}, sampleWeights}},
		Targets: Binary, Scales: logits, Emit: emitBCE, builtin: true},
	Loss{Entry: Entry{LossSigmoidFocal,
		"logits and masks or labels of 0 and 1: torchvision.ops.sigmoid_focal_loss", []Setting{gamma,
			{"balance", "weight of the ones in (0,1), torchvision's alpha; 0: none", 0}, sampleWeights}},
		Targets: Binary, Scales: logits, Emit: emitSigmoidFocal, builtin: true},
	Loss{Entry: Entry{LossDice, "logits and masks: 1 - (2*TP + smooth)/(2*TP + FP + FN + smooth)",
		[]Setting{smooth}},
		Targets: Binary, Scales: logits, Emit: overlap(LossDice), builtin: true},
	Loss{Entry: Entry{LossJaccard, "logits and masks: 1 - (TP + smooth)/(TP + FP + FN + smooth)",
		[]Setting{smooth}},
		Targets: Binary, Scales: logits, Emit: overlap(LossJaccard), builtin: true},
	Loss{Entry: Entry{LossTversky, "logits and masks: 1 - (TP + smooth)/(TP + a*FP + b*FN + smooth)",
		[]Setting{smooth,
			{"tversky", "a and b", []float64{0.5, 0.5}}}},
		Targets: Binary, Scales: logits, Emit: overlap(LossTversky), builtin: true},
	Loss{Entry: Entry{LossBCEDice, "logits and masks: bce-with-logits + dice", []Setting{smooth}},
		Targets: Binary, Scales: logits, Emit: overlap(LossBCEDice), builtin: true},
	Loss{Entry: Entry{LossLovasz,
		"logits or log-probabilities and class numbers: Lovász-softmax over the classes that occur, arXiv:1705.08790", []Setting{ignoreIndex}},
		Targets: Labels, Scales: []spec.Scale{spec.Logits, spec.LogProbabilities}, Emit: emitLovasz},
	Loss{Entry: Entry{LossLovaszHinge, "logits and masks: Lovász hinge over the batch, arXiv:1705.08790",
		nil},
		Targets: Binary, Scales: logits, Emit: emitLovaszHinge},
	Loss{Entry: Entry{LossMSE, "values: mean of (y-t)^2, torch.nn.MSELoss", []Setting{sampleWeights}},
		Targets: Numbers, Scales: numbers, Emit: emitMSE},
	Loss{Entry: Entry{LossL1, "values: mean of |y-t|, torch.nn.L1Loss", []Setting{sampleWeights}},
		Targets: Numbers, Scales: numbers, Emit: emitL1},
	Loss{Entry: Entry{LossHuber, "values: torch.nn.HuberLoss",
		[]Setting{{"delta", "where the square becomes a line", 1}, sampleWeights}},
		Targets: Numbers, Scales: numbers, Emit: emitHuber},
)

// emitCrossEntropy is torch.nn.functional.cross_entropy with class numbers or probabilities, its weight of
// each class, and its label_smoothing e, which mixes (1-e) of the loss with e of the mean of all -log p. The
// mean over class numbers is by the weights of their classes, that over probabilities is not.
func emitCrossEntropy(l *LossGraph) (string, error) {
	c := l.Config
	soft, ofLogits := l.loss.Targets == Soft, l.Scale == spec.Logits
	var weights []string // the third input of the losses
	if !c.ClassWeights.IsZero() {
		if err := c.ClassWeights.fit(l.y); err != nil {
			return "", err
		}
		weights = []string{c.ClassWeights.add(l, "class_weights", 1)}
	}
	if l.Weight != "" {
		return l.weighedCrossEntropy(weights)
	}
	mean := onnxio.StringAttr("reduction", "mean")
	if c.LabelSmoothing == 0 && !soft {
		op := "NegativeLogLikelihoodLoss"
		if ofLogits {
			op = "SoftmaxCrossEntropyLoss"
		}
		attrs := []*onnxio.Attribute{mean}
		if c.IgnoreIndex != nil {
			attrs = append(attrs, onnxio.IntAttr("ignore_index", data.Void))
		}
		return l.Node(op, "mean", append([]string{l.Y, l.Target}, weights...), attrs...), nil
	}
	logs := l.Y
	if ofLogits {
		logs = l.Node("LogSoftmax", "logs", []string{l.Y}, onnxio.IntAttr("axis", 1))
	}
	weighted := logs
	if weights != nil {
		weighted = l.two("Mul", "weighted", logs, c.ClassWeights.add(l, "class_weights/map", len(l.Shape)-1))
	}
	hard := ""
	if soft {
		n, err := classes(l.y)
		if err != nil {
			return "", err
		}
		product := l.over("ReduceMean", "mean", l.two("Mul", "product", weighted, l.Target))
		hard = l.scaled("hard", product, -float64(n))
	} else {
		hard = l.Node("NegativeLogLikelihoodLoss", "hard", append([]string{logs, l.Target}, weights...), mean)
	}
	e := c.LabelSmoothing
	if e == 0 {
		return hard, nil
	}
	all := l.over("ReduceMean", "all", weighted)
	if weights != nil && !soft {
		of := l.Node("Gather", "weights", []string{weights[0], l.Target})
		all = l.two("Div", "by_weight", all, l.over("ReduceMean", "weight", of))
	}
	return l.two("Add", "smoothed", l.scaled("part", hard, 1-e), l.scaled("even", all, -e)), nil
}

// weighedCrossEntropy is the mean of weight * cross_entropy(..., reduction="none"): class
// weights do not divide it.
func (l *LossGraph) weighedCrossEntropy(weights []string) (string, error) {
	c, logs := l.Config, l.Y
	if l.Scale == spec.Logits {
		logs = l.Node("LogSoftmax", "logs", []string{l.Y}, onnxio.IntAttr("axis", 1))
	}
	in := append([]string{logs, l.Target}, weights...)
	losses := l.Node("NegativeLogLikelihoodLoss", "hard", in, onnxio.StringAttr("reduction", "none"))
	if e := c.LabelSmoothing; e > 0 {
		n, err := classes(l.y)
		if err != nil {
			return "", err
		}
		if weights != nil {
			logs = l.two("Mul", "weighted", logs, c.ClassWeights.add(l, "class_weights/map", len(l.Shape)-1))
		}
		all := l.Node("ReduceSum", "all", []string{logs, l.whole("classes", 1)},
			onnxio.IntAttr("keepdims", 0))
		losses = l.two("Add", "smoothed", l.scaled("part", losses, 1-e), l.scaled("even", all, -e/float64(n)))
	}
	return l.mean(losses, len(l.Shape)-1), nil
}

func emitFocal(l *LossGraph) (string, error) {
	y := l.Y
	if l.Scale == spec.Logits {
		y = l.Node("LogSoftmax", "logs", []string{y}, onnxio.IntAttr("axis", 1))
	}
	nll := l.Node("NegativeLogLikelihoodLoss", "nll", []string{y, l.Target},
		onnxio.StringAttr("reduction", "none"))
	p := l.Node("Exp", "p", []string{l.Node("Neg", "log_p", []string{nll})})
	rest := l.two("Sub", "rest", l.number("one", 1), p)
	weight := l.two("Pow", "weight", rest, l.number("gamma", value(l.Config.Gamma, 2)))
	return l.mean(l.two("Mul", "weighted", weight, nll), len(l.Shape)-1), nil
}

// bce is softplus(y) - y*t, element by element. With weights w of the ones: (1 + (w-1)*t)
// * softplus(-y) + (1-t)*y.
func (l *LossGraph) bce() (string, error) {
	w := l.Config.PosWeight
	if len(w) == 0 {
		return l.two("Sub", "difference", l.Node("Softplus", "softplus", []string{l.Y}),
			l.two("Mul", "product", l.Y, l.Target)), nil
	}
	n, err := classes(l.y)
	if err != nil {
		return "", err
	}
	if len(w) != 1 && len(w) != n {
		return "", fmt.Errorf("pos_weight has %d numbers; the model's output %q has %d", len(w), l.Y, n)
	}
	dims := []int64{int64(len(w))}
	for range len(l.Shape) - 2 {
		dims = append(dims, 1)
	}
	more := onnxio.NewTensor(onnxio.Float, dims...)
	for i, v := range w {
		more.Float32s()[i] = float32(v - 1)
	}
	one := l.number("one", 1)
	weight := l.two("Add", "weight", one, l.two("Mul", "ones", l.Constant("pos_weight", more), l.Target))
	loss := l.two("Mul", "weighted", weight, l.Node("Softplus", "softplus",
		[]string{l.Node("Neg", "minus", []string{l.Y})}))
	return l.two("Add", "sum", loss, l.two("Mul", "zeros", l.two("Sub", "rest", one, l.Target), l.Y)), nil
}

func emitBCE(l *LossGraph) (string, error) {
	loss, err := l.bce()
	return l.mean(loss, len(l.Shape)), err
}

func emitSigmoidFocal(l *LossGraph) (string, error) {
	ce, err := l.bce()
	if err != nil {
		return "", err
	}
	p := l.Node("Sigmoid", "p", []string{l.Y})
	// 1 - p_t = p + t - 2*p*t
	twice := l.scaled("twice", l.two("Mul", "pt", p, l.Target), 2)
	rest := l.two("Sub", "rest", l.two("Add", "both", p, l.Target), twice)
	weighted := l.two("Mul", "weighted", ce, l.two("Pow", "weight", rest,
		l.number("gamma", value(l.Config.Gamma, 2))))
	if a := l.Config.Balance; a > 0 {
		// a*t + (1-a)*(1-t)
		share := l.two("Add", "share", l.scaled("scaled", l.Target, 2*a-1), l.number("negatives", 1-a))
		weighted = l.two("Mul", "balanced", weighted, share)
	}
	return l.mean(weighted, len(l.Shape)), nil
}

// overlap emits dice, jaccard, tversky and bce-dice: the first two are tversky's with certain weights.
// TP + a*FP + b*FN = (1-a-b)*TP + a*sum(p) + b*sum(t).
func overlap(loss string) func(*LossGraph) (string, error) {
	return func(l *LossGraph) (string, error) {
		weights, smooth := l.Config.Tversky, value(l.Config.Smooth, 1)
		switch {
		case loss == LossDice || loss == LossBCEDice:
			weights, smooth = [2]float64{0.5, 0.5}, smooth/2
		case loss == LossJaccard:
			weights = [2]float64{1, 1}
		case weights == [2]float64{}:
			weights = [2]float64{0.5, 0.5}
		}
		p := l.Node("Sigmoid", "p", []string{l.Y})
		both := l.over("ReduceSum", "tp", l.two("Mul", "pt", p, l.Target))
		positives := l.scaled("a", l.over("ReduceSum", "positives", p), weights[0])
		truths := l.scaled("b", l.over("ReduceSum", "truths", l.Target), weights[1])
		small := l.number("smooth", smooth)
		above := l.two("Add", "above", both, small)
		below := l.two("Add", "ab", positives, truths)
		below = l.two("Add", "tpab", below, l.scaled("c", both, 1-weights[0]-weights[1]))
		below = l.two("Add", "below", below, small)
		missed := l.two("Sub", "missed", l.number("whole", 1), l.two("Div", "ratio", above, below))
		if loss != LossBCEDice {
			return missed, nil
		}
		bce, err := l.bce()
		return l.two("Add", "joint", missed, l.over("ReduceMean", "bce", bce)), err
	}
}

// error appends y - t.
func (l *LossGraph) error() string { return l.two("Sub", "error", l.Y, l.Target) }

func emitMSE(l *LossGraph) (string, error) {
	e := l.error()
	return l.mean(l.two("Mul", "square", e, e), len(l.Shape)), nil
}

func emitL1(l *LossGraph) (string, error) {
	return l.mean(l.Node("Abs", "distance", []string{l.error()}), len(l.Shape)), nil
}

// emitHuber: with a = |y-t| and c = min(a, delta), c*(a - c/2) is the square near zero
// and the line beyond delta.
func emitHuber(l *LossGraph) (string, error) {
	a := l.Node("Abs", "distance", []string{l.error()})
	c := l.two("Min", "near", a, l.number("delta", or(l.Config.Delta, 1)))
	return l.mean(l.two("Mul", "piece", c, l.two("Sub", "far", a, l.scaled("half", c, 0.5))),
		len(l.Shape)), nil
}
