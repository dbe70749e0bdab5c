package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/convert/recover"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/verify"
	"github.com/cnnkit/cnnkit/train"
)

// sameAnswers is how far a network's outputs may be from those of the export that it was recovered from, by
// the largest output. Where rounding alone moves an export's outputs, ten times that is allowed, and
// farthestAnswers at most: exports are 1e-6 apart and closer, two draws of ResNet-20's weights 1.7.
const (
	sameAnswers     = 1e-4
	farthestAnswers = 1e-2
)

// networkOf builds the network arch for the input and the classes that a model has,
// where no flag says otherwise.
func networkOf(c *cli.Context, arch string, m *onnxio.Model) (*onnxio.Model, error) {
	fields := train.Fields{"model": arch}
	if err := setFields(c, fields, train.OfNetwork); err != nil {
		return nil, err
	}
	in, out := dimsOf(m.Graph.Inputs), dimsOf(m.Graph.Outputs)
	if fields["input"] == nil && len(in) == 4 && in[1].Known() && in[2].Known() && in[3].Known() {
		fields["input"] = fmt.Sprintf("%dx%dx%d", in[1].Value, in[2].Value, in[3].Value)
	}
	def, err := builders.Defaults(arch)
	if err == nil && fields["classes"] == nil && def.Classes > 0 && len(out) >= 2 && out[1].Known() {
		fields["classes"] = out[1].Value
	}
	return modelOf(fields)
}

func dimsOf(values []*onnxio.ValueInfo) []onnxio.Dim {
	if len(values) == 0 || values[0].Type == nil {
		return nil
	}
	return values[0].Type.Shape
}

// recovered finds the weights of network arch in a model that an exporter wrote, says what was done,
// and compares the answers.
func recovered(c *cli.Context, path string, m *onnxio.Model, arch string) (*onnxio.Model,
	*convert.StateDict, error) {
	like, err := networkOf(c, arch, m)
	if err != nil {
		return nil, nil, err
	}
	sd, report, err := recover.Weights(m, like)
	if err != nil {
		return nil, nil, badFile{fmt.Errorf("%s as %s: %w", path, arch, err)}
	}
	if _, err := convert.Apply(like, sd, convert.ApplyOptions{Strict: true}); err != nil {
		return nil, nil, badFile{fmt.Errorf("%s as %s: %w", path, arch, err)}
	}
	w := c.App.ErrWriter
	m, training := forInference(m)
	if training > 0 {
		fmt.Fprintf(w, "%s: exported in training mode: its answers are compared in inference mode\n", path)
	}
	far, err := distanceOf(c.Context, m, like)
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprintf(w, "%s: %d tensors under their own names, %d names recovered, %d BatchNormalizations unfolded\n", path, report.Kept, report.Recovered, len(report.Unfolded))
	if len(report.Unfolded) > 0 {
		shown := report.Unfolded[:min(len(report.Unfolded), 6)]
		fmt.Fprintf(w, "unfolded: %s%s: their statistics are those that change nothing; training moves them to the data's\n", strings.Join(shown, ", "), andMore(len(report.Unfolded)-len(shown)))
	}
	if report.Fresh > 0 {
		fmt.Fprintf(w, "%d tensors of parts that the file has not, such as auxiliary heads, have fresh values\n", report.Fresh)
	}
	fmt.Fprintf(w, "answers differ by %.2g of the largest output\n", far)
	allowed := sameAnswers
	if !(far <= allowed) {
		noise, err := noiseOf(c.Context, m)
		if err != nil {
			return nil, nil, err
		}
		allowed = min(max(allowed, 10*noise), farthestAnswers)
	}
	if !(far <= allowed) {
		return nil, nil, badFile{fmt.Errorf(
			"%s as %s: the weights fit, and the answers differ by %.2g of the largest output, "+
				"%.2g is allowed: the graph computes something else", path, arch, far, allowed)}
	}
	return like, sd, nil
}

func andMore(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

// forInference is a model whose BatchNormalizations and Dropouts are those of inference, and how many were
// not. PyTorch's exporter leaves them in training mode where it is asked to keep them.
func forInference(m *onnxio.Model) (*onnxio.Model, int) {
	out, g, changed := *m, *m.Graph, 0
	out.Graph, g.Nodes = &g, slices.Clone(g.Nodes)
	for i, n := range g.Nodes {
		c := *n
		switch {
		case n.OpType == "BatchNormalization" && n.Int("training_mode", 0) != 0:
			c.Outputs = n.Outputs[:1]
			c.Attrs = slices.DeleteFunc(slices.Clone(n.Attrs), func(a *onnxio.Attribute) bool {
				return a.Name == "training_mode"
			})
		case n.OpType == "Dropout" && len(n.Inputs) > 2:
			c.Inputs = n.Inputs[:2]
		default:
			continue
		}
		changed++
		g.Nodes[i] = &c
	}
	return &out, changed
}

// distanceOf is the largest difference of two models' first outputs for the same made-up
// input, by the largest output.
func distanceOf(ctx context.Context, a, b *onnxio.Model) (float64, error) {
	in, err := verify.Random(ownInputs(a), 2, 1)
	if err != nil {
		return 0, err
	}
	return compareAnswers(ctx, [2]map[string]*onnxio.Tensor{in, in}, [2]*onnxio.Model{a, b})
}

// noiseOf is how far a model's answers are from each other when its input changes in its seventh digit. Deep
// networks with weights that were never trained can lose most digits.
func noiseOf(ctx context.Context, m *onnxio.Model) (float64, error) {
	in, err := verify.Random(ownInputs(m), 2, 1)
	if err != nil {
		return 0, err
	}
	near := map[string]*onnxio.Tensor{}
	for name, x := range in {
		near[name] = x.Clone()
		for i := range near[name].Float32s() {
			near[name].Float32s()[i] *= 1 + 1e-6
		}
	}
	return compareAnswers(ctx, [2]map[string]*onnxio.Tensor{in, near}, [2]*onnxio.Model{m, m})
}

// compareAnswers is the largest difference of two models' first outputs, by the largest output. The inputs
// have the first model's names.
func compareAnswers(ctx context.Context, in [2]map[string]*onnxio.Tensor, models [2]*onnxio.Model) (float64,
	error) {
	var answers []*onnxio.Tensor
	for at, m := range models {
		s, err := runtime.OpenModel(m)
		if err != nil {
			return 0, err
		}
		defer s.Close()
		given := map[string]*onnxio.Tensor{}
		for i, v := range ownInputs(m) {
			if theirs := ownInputs(models[0]); i < len(theirs) {
				given[v.Name] = in[at][theirs[i].Name]
			}
		}
		out, err := s.Run(ctx, given)
		if err != nil {
			return 0, err
		}
		answers = append(answers, out[m.Graph.Outputs[0].Name])
	}
	return apart(answers[0], answers[1])
}

// ownInputs are the inputs that are no initializers.
func ownInputs(m *onnxio.Model) []*onnxio.ValueInfo {
	return slices.DeleteFunc(slices.Clone(m.Graph.Inputs), func(v *onnxio.ValueInfo) bool {
		return m.Graph.Initializer(v.Name) != nil
	})
}

func apart(x, y *onnxio.Tensor) (float64, error) {
	if x == nil || y == nil || x.Type != onnxio.Float || y.Type != onnxio.Float ||
		!slices.Equal(x.Dims, y.Dims) {
		return 0, fmt.Errorf("the outputs are of different shapes or types: %v", [2]*onnxio.Tensor{x, y})
	}
	far, top := 0.0, 0.0
	for i, v := range x.Float32s() {
		d := math.Abs(float64(v - y.Float32s()[i]))
		if math.IsNaN(d) {
			return math.Inf(1), nil
		}
		far, top = max(far, d), max(top, math.Abs(float64(v)))
	}
	if top > 0 {
		far /= top
	}
	return far, nil
}

// verifyWeights says whether a model is an export of network arch with the weights of a checkpoint.
func verifyWeights(c *cli.Context, path, weights, arch string) error {
	m, err := loadModel(path)
	if err != nil {
		return err
	}
	like, err := networkOf(c, arch, m)
	if err != nil {
		return err
	}
	if err := fill(like, weights); err != nil {
		return err
	}
	m, _ = forInference(m)
	far, err := distanceOf(c.Context, m, like)
	if err != nil {
		return badFile{fmt.Errorf("%s and %s: %w", path, weights, err)}
	}
	tolerance := c.Float64("tolerance")
	same := far <= tolerance
	if c.Bool("json") {
		if err := printJSON(c, map[string]any{"model": path, "weights": weights, "arch": arch,
			"relative": jsonNumber(far), "tolerance": tolerance, "ok": same}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.App.Writer,
			"%s and %s with %s: answers differ by %.2g of the largest output, %g is allowed: %s\n", path,
			arch, weights, far, tolerance, verdict(same))
	}
	if !same {
		return errNo
	}
	return nil
}

// jsonNumber is a number as JSON has it; one that is not finite is null.
func jsonNumber(v float64) any {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return nil
	}
	return v
}
