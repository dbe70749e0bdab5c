package train

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/train/data"
)

// Targets are what a loss compares a model's output [N,C,...] with.
type Targets string

// The kinds of targets.
const (
	Labels Targets = "labels" // int64 class numbers [N,...]: the output's shape without C
	Soft   Targets = "soft"   // float32 probabilities of the classes, of the output's shape
	// float32 0 and 1 of the output's shape: masks [N,1,H,W], or several labels [N,K]
	Binary  Targets = "binary"
	Numbers Targets = "numbers" // float32 of the output's shape: values [N,K]
)

// Loss is a loss that a recipe can name.
type Loss struct {
	Entry
	Targets Targets
	// Scales are those that the model's output may have; nil means any.
	Scales []spec.Scale
	// Emit appends the loss's nodes and gives the name of the value that is the loss: one
	// number, the mean over the batch.
	Emit func(*LossGraph) (string, error)

	builtin bool // Measure computes it from the outputs
}

// LossAuto is the word for the loss that suits a model's output; see TrainingGraph.
const LossAuto = "auto"

// RegisterLoss adds a loss, which recipes can name from then on. Its settings are read from Config.Settings.
func RegisterLoss(l Loss) error {
	if l.Emit == nil {
		return fmt.Errorf("loss %q has no Emit", l.Name)
	}
	if !slices.Contains([]Targets{Labels, Soft, Binary, Numbers}, l.Targets) {
		return fmt.Errorf("loss %q: targets %q: %s, %s, %s or %s is wanted", l.Name, l.Targets, Labels, Soft,
			Binary, Numbers)
	}
	if l.Name == LossAuto || isFile(l.Name) {
		return fmt.Errorf("loss name %q has a meaning already", l.Name)
	}
	l.builtin = false
	return losses.add(l)
}

// Losses lists what Config.Loss may be, beside the path of an .onnx file: auto, the package's losses,
// and those of RegisterLoss.
func Losses() []string { return append([]string{LossAuto}, losses.names()...) }

// DescribeLosses lists the losses with their settings.
func DescribeLosses() []Entry { return losses.describe() }

// findLoss is the loss of a name, or of an .onnx file.
func findLoss(name string) (Loss, error) {
	if isFile(name) {
		return lossFile(name)
	}
	return losses.find(name)
}

// takes says whether outputs of a scale suit the loss.
func (l Loss) takes(s spec.Scale) bool { return l.Scales == nil || slices.Contains(l.Scales, s) }

func (c Config) validateLoss() error {
	var loss Loss
	if named := c.Loss != "" && c.Loss != LossAuto; named {
		var err error
		if loss, err = findLoss(c.Loss); err != nil {
			return err
		}
		if err := c.fits(loss); err != nil {
			return err
		}
	}
	return c.ClassWeights.validate()
}

// fits reports settings that a loss does not have.
func (c Config) fits(loss Loss) error {
	if c.IgnoreIndex != nil {
		switch {
		case loss.Name != LossNLL && loss.Name != LossCrossEntropy && loss.Name != LossLovasz:
			return fmt.Errorf("ignore_index goes with nll, cross-entropy and lovasz, not with %s: let the model have a channel for each class", loss.Name)
		case c.LabelSmoothing > 0:
			return fmt.Errorf("ignore_index and label_smoothing do not go together: leave one out")
		}
	}
	has := func(setting string) bool {
		return slices.ContainsFunc(loss.Settings, func(s Setting) bool { return s.Name == setting })
	}
	switch {
	case c.LabelSmoothing > 0 && !has("label_smoothing"):
		return fmt.Errorf("label_smoothing goes with nll and cross-entropy, not with %s", loss.Name)
	case !c.ClassWeights.IsZero() && !has("class_weights"):
		return fmt.Errorf("class_weights go with nll and cross-entropy, not with %s", loss.Name)
	case c.SampleWeights && !has("sample_weights"):
		return fmt.Errorf("sample_weights want a loss for each image, which %s has not: draw by weights instead, "+
			"with sampler=%s (--sampler)", loss.Name, SamplerWeights)
	case c.SampleWeights && c.IgnoreIndex != nil:
		return fmt.Errorf("sample_weights and ignore_index do not go together: draw by weights instead, "+
			"with sampler=%s (--sampler)", SamplerWeights)
	case len(c.PosWeight) > 0 && !has("pos_weight"):
		return fmt.Errorf("pos_weight goes with bce-with-logits, not with %s", loss.Name)
	}
	return nil
}

// LossFor is the loss of a task where a recipe says auto: "" for one that the model's output decides.
func LossFor(task data.Task) string {
	switch task {
	case data.MultiLabel:
		return LossBCE
	case data.Regression:
		return LossMSE
	}
	return ""
}

// chooseLoss settles auto, and compares a loss with what the model's output is.
func chooseLoss(m *onnxio.Model, name string) (Loss, error) {
	out, end := m.Graph.Outputs[0], spec.End(m)
	if name == LossAuto || name == "" {
		switch t := out.Type; {
		case end.Scale == spec.LogProbabilities:
			name = LossNLL
		case t == nil || len(t.Shape) != 4 || t.Shape[1].Known() && t.Shape[1].Value > 1:
			name = LossCrossEntropy
		default:
			name = LossBCE
		}
	}
	loss, err := findLoss(name)
	if err != nil || loss.takes(end.Scale) {
		return loss, err
	}
	switch {
	case loss.Targets == Numbers:
		return loss, fmt.Errorf(
			"%s takes numbers as they are, but the model ends in %s: train one without it", name, end.Op)
	case end.Scale == spec.Probabilities:
		return loss, &onnxio.UnsupportedError{Op: end.Node.OpType, Node: end.Node.Name,
			Reason: "the model ends in " + end.Op +
				", and a loss of probabilities would apply it twice: export the model without it, so that it gives logits, or cut it off with 'cnnkit extract'"}
	case end.Scale == spec.LogProbabilities:
		return loss, fmt.Errorf("%s takes logits, but the model ends in %s: use nll for log-probabilities",
			name, end.Op)
	}
	return loss, fmt.Errorf(
		"%s takes log-probabilities, but the model gives logits: use cross-entropy for these", name)
}

// LossGraph takes the nodes of a loss. Y is the model's output [N,C,...], Target what it is compared with;
// both are names of values, and so is what its methods give.
type LossGraph struct {
	Y, Target string
	Shape     []onnxio.Dim // of Y; nil when the model does not say it
	Scale     spec.Scale   // of Y
	Config    Config
	Weight    string // with Config.SampleWeights the images' weights, float32 [N]; else ""

	loss   Loss
	model  *onnxio.Model
	graph  *onnxio.Graph
	y      *onnxio.ValueInfo
	prefix string // of the names of what is added
}

// lossPrefix begins the names of what a loss adds to a graph.
const lossPrefix = "loss/"

// Node appends a node of ai.onnx and names it, and its output, loss/NAME.
func (l *LossGraph) Node(op, name string, inputs []string, attrs ...*onnxio.Attribute) string {
	name = l.prefix + name
	l.graph.Nodes = append(l.graph.Nodes, &onnxio.Node{Name: name, OpType: op, Inputs: inputs,
		Outputs: []string{name}, Attrs: attrs})
	return name
}

// Constant appends an initializer loss/NAME.
func (l *LossGraph) Constant(name string, t *onnxio.Tensor) string {
	t = t.Clone()
	t.Name = l.prefix + name
	l.graph.Initializers = append(l.graph.Initializers, t)
	return t.Name
}

// Setting is a number of Config.Settings, or what it is when the recipe does not say it.
func (l *LossGraph) Setting(name string, otherwise float64) (float64, error) {
	return l.Config.number(name, otherwise)
}

// number appends a scalar initializer.
func (l *LossGraph) number(name string, v float64) string {
	return l.Constant(name, onnxio.Scalar(onnxio.Float, float32(v)))
}

func (l *LossGraph) two(op, name, a, b string) string { return l.Node(op, name, []string{a, b}) }

func (l *LossGraph) scaled(name, x string, v float64) string {
	return l.two("Mul", name, x, l.number(name+"/factor", v))
}

// over reduces everything to one number.
func (l *LossGraph) over(op, name, x string) string {
	return l.Node(op, name, []string{x}, onnxio.IntAttr("keepdims", 0))
}

// mean reduces the losses [N,...] of all images to one number, each times the weight of its image.
func (l *LossGraph) mean(losses string, rank int) string {
	if l.Weight != "" {
		shape := onnxio.NewTensor(onnxio.Int64, int64(rank))
		for i := range onnxio.Data[int64](shape) {
			onnxio.Data[int64](shape)[i] = 1
		}
		onnxio.Data[int64](shape)[0] = -1
		weight := l.Node("Reshape", "sample_weights",
			[]string{l.Weight, l.Constant("sample_weights/shape", shape)})
		losses = l.two("Mul", "weighed", losses, weight)
	}
	return l.over("ReduceMean", "mean", losses)
}

// addLoss appends the loss of m's first output, with its auxiliary heads' shares, its target
// and its output to m's graph.
func (c Config) addLoss(m *onnxio.Model, loss Loss) error {
	if err := c.fits(loss); err != nil {
		return err
	}
	return c.emit(m, loss, m.Graph.Outputs[0], spec.End(m).Scale, headsOf(m)...)
}

// headsOf are the auxiliary heads that the graph has.
func headsOf(m *onnxio.Model) []builders.Head {
	made := map[string]bool{}
	for _, n := range m.Graph.Nodes {
		for _, o := range n.Outputs {
			made[o] = true
		}
	}
	return slices.DeleteFunc(builders.Heads(m), func(h builders.Head) bool { return !made[h.Value] })
}

// withHeads adds to the loss of l.Y that of each head, times its weight. Heads have the output's shape.
func (l *LossGraph) withHeads(value string, heads []builders.Head) (string, error) {
	for i, h := range heads {
		own, y := *l, *l.y
		y.Name = h.Value
		own.Y, own.y, own.Scale, own.prefix = h.Value, &y, spec.Logits, fmt.Sprintf("%shead%d/",
			lossPrefix, i+1)
		share, err := l.loss.Emit(&own)
		if err != nil {
			return "", fmt.Errorf("auxiliary head %s: %w", h.Value, err)
		}
		value = own.two("Add", "sum", value, own.scaled("share", share, h.Weight))
	}
	return value, nil
}

// emit appends the loss of y and its heads.
func (c Config) emit(m *onnxio.Model, loss Loss, y *onnxio.ValueInfo, scale spec.Scale,
	heads ...builders.Head) error {
	g := m.Graph
	l := &LossGraph{Y: y.Name, Target: TargetName, Scale: scale, Config: c, loss: loss, model: m, graph: g,
		y: y, prefix: lossPrefix}
	if y.Type != nil && y.Type.HasShape {
		l.Shape = y.Type.Shape
	}
	if c.SampleWeights {
		if len(l.Shape) == 0 {
			return fmt.Errorf("loss %s: sample_weights: the model does not say the shape of its output %q",
				loss.Name, y.Name)
		}
		l.Weight = WeightName
	}
	value, err := loss.Emit(l)
	if err == nil {
		value, err = l.withHeads(value, heads)
	}
	if err != nil {
		return fmt.Errorf("loss %s: %w", loss.Name, err)
	}
	g.Nodes = append(g.Nodes, &onnxio.Node{Name: LossName, OpType: "Identity", Inputs: []string{value},
		Outputs: []string{LossName}})
	g.Inputs = append(g.Inputs, targetInfo(loss.Targets, l.Shape))
	if c.SampleWeights {
		g.Inputs = append(g.Inputs, onnxio.TensorInfo(WeightName, onnxio.Float, l.Shape[0]))
	}
	g.Outputs = append(g.Outputs, onnxio.TensorInfo(LossName, onnxio.Float))
	return nil
}

// targetInfo declares the target of outputs of a shape; nil when it is not known.
func targetInfo(t Targets, shape []onnxio.Dim) *onnxio.ValueInfo {
	switch {
	case t != Labels:
		return onnxio.TensorInfo(TargetName, onnxio.Float, shape...)
	case len(shape) > 1:
		return onnxio.TensorInfo(TargetName, onnxio.Int64, append([]onnxio.Dim{shape[0]}, shape[2:]...)...)
	}
	return onnxio.TensorInfo(TargetName, onnxio.Int64)
}

// validateSettings refuses fields of Settings that nothing in the recipe reads.
func (c Config) validateSettings() error {
	if len(c.Settings) == 0 {
		return nil
	}
	known := map[string]bool{}
	note := func(e Entry) {
		for _, s := range e.Settings {
			known[s.Name] = true
		}
	}
	if loss, err := findLoss(c.Loss); err == nil {
		note(loss.Entry)
	}
	if o, err := optimizers.find(c.Optimizer); err == nil {
		note(o.Entry)
	}
	for _, name := range append(slices.Clone(c.Metrics), c.Monitor) {
		if m, err := metrics.find(name); err == nil {
			note(m.Entry)
		}
	}
	var strange []string
	for name := range c.Settings {
		if !known[name] {
			strange = append(strange, name)
		}
	}
	if slices.Sort(strange); len(strange) > 0 {
		return fmt.Errorf("settings has %s, which neither the loss nor the optimizer nor a metric of the recipe reads", strings.Join(strange, ", "))
	}
	return nil
}

// number reads a number of Settings.
func (c Config) number(name string, otherwise float64) (float64, error) {
	switch v := c.Settings[name].(type) {
	case nil:
		return otherwise, nil
	case float64:
		return v, nil
	case int:
		return float64(v), nil
	default:
		return 0, fmt.Errorf("setting %q is %v: it wants a number", name, v)
	}
}
