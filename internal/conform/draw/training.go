package draw

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Training is a model whose last output is a loss, and the batches of some steps.
type Training struct {
	*Case
	Loss   string
	Params []string // initializers to train
}

// NewTraining draws a model of at most nodes nodes that have gradients, and a loss of what nothing reads. The
// bytes choose as those of New do.
func NewTraining(choices []byte, nodes int) *Training {
	seed := uint64(len(choices))
	for _, b := range choices {
		seed = seed*1099511628211 + uint64(b)
	}
	d := &drawer{choices: choices, rng: rand.New(rand.NewPCG(seed, 2)), known: map[string]*value{},
		bound: map[string]float64{}, trains: true, params: map[string]bool{}}
	d.opset = pick[int64](d, 17, 13, 18, 21, 15, 14)
	d.graphInputs()
	for tries := 0; len(d.nodes) < nodes && tries < 6*nodes && len(d.choices) > 0; tries++ {
		d.node()
	}
	t, drawn := &Training{Loss: "loss"}, d.values[len(d.inputs):]
	targets := d.loss()
	outputs := []*onnxio.ValueInfo{onnxio.TensorInfo(t.Loss, onnxio.Float)}
	for _, v := range drawn {
		if d.one(12) {
			outputs = append(outputs, v.declared())
		}
	}
	t.Case = d.withRuns(outputs)
	for _, run := range t.Runs {
		for name, classes := range targets {
			for i := range onnxio.Data[int64](run[name]) {
				onnxio.Data[int64](run[name])[i] = int64(d.rng.IntN(int(classes)))
			}
		}
	}
	for _, w := range d.weights {
		if d.params[w.Name] {
			t.Params = append(t.Params, w.Name)
		}
	}
	return t
}

// learns says that a form is one of training: with a gradient, and without jumps.
func learns(f form) bool { return !f.careful && def(f.op).Grad != nil }

// loss adds the sum of one loss for each value that nothing reads, and gives the inputs that are targets,
// with their numbers of classes.
func (d *drawer) loss() map[string]int64 {
	targets := map[string]int64{}
	var terms []string
	for _, v := range d.values[len(d.inputs):] {
		if v.read || v.info.Type != onnxio.Float {
			continue
		}
		if name := d.entropy(v, targets); name != "" {
			terms = append(terms, name)
			continue
		}
		square := d.emit("Mul", v.name, v.name)
		mean := d.emit("ReduceMean", square)
		d.nodes[len(d.nodes)-1].Attrs = []*onnxio.Attribute{onnxio.IntAttr("keepdims", 0)}
		terms = append(terms, mean)
	}
	if len(terms) > 0 {
		d.emit("Sum", terms...)
		d.nodes[len(d.nodes)-1].Outputs[0] = "loss"
	}
	return targets
}

// entropy adds a cross entropy of v [N,C,...] and of a target, or gives "".
func (d *drawer) entropy(v *value, targets map[string]int64) string {
	s := v.info.Shape
	if !v.info.HasShape || len(s) < 2 || !s[1].Known() || s[1].Value < 1 || !d.one(2) {
		return ""
	}
	for i, dim := range s {
		if i != 1 && dim.Param == "" && dim.Value < 0 {
			return ""
		}
	}
	name := fmt.Sprintf("target%d", len(targets))
	typ := &onnxio.Type{Elem: onnxio.Int64, Shape: slices.Delete(slices.Clone(s), 1, 2), HasShape: true}
	if slices.ContainsFunc(typ.Shape, func(dim onnxio.Dim) bool {
		return dim.Param != "" && !slices.Contains([]string{"N", "S", "T"}, dim.Param)
	}) {
		return ""
	}
	d.inputs = append(d.inputs, &onnxio.ValueInfo{Name: name, Type: typ})
	targets[name] = s[1].Value
	reduction := onnxio.StringAttr("reduction", pick(d, "mean", "sum"))
	if d.one(2) {
		out := d.emit("SoftmaxCrossEntropyLoss", v.name, name)
		d.nodes[len(d.nodes)-1].Attrs = []*onnxio.Attribute{reduction}
		return out
	}
	logs := d.emit("LogSoftmax", v.name)
	d.nodes[len(d.nodes)-1].Attrs = []*onnxio.Attribute{onnxio.IntAttr("axis", 1)}
	out := d.emit("NegativeLogLikelihoodLoss", logs, name)
	d.nodes[len(d.nodes)-1].Attrs = []*onnxio.Attribute{reduction}
	return out
}

// emit appends a node with one output.
func (d *drawer) emit(op string, in ...string) string {
	out := fmt.Sprintf("l%d", len(d.nodes))
	d.nodes = append(d.nodes, &onnxio.Node{OpType: op, Name: out, Inputs: in, Outputs: []string{out}})
	return out
}

// trainingBatchNorm makes half of the BatchNormalizations those of training, which move their own statistics.
func (d *drawer) trainingBatchNorm(n *onnxio.Node) {
	if d.trains && d.since("BatchNormalization") >= 14 && d.one(2) {
		n.Attrs = append(n.Attrs, onnxio.IntAttr("training_mode", 1))
		n.Outputs = []string{"y", "mean", "variance"}
	}
}

// statistic is a mean for BatchNormalization. In training nobody else reads it, and nothing trains it.
func (d *drawer) statistic(elem onnxio.DataType, channels int64) string {
	if d.trains {
		return d.keep(d.tensor(elem, 1, channels), 1)
	}
	return d.init(elem, 1, channels)
}
