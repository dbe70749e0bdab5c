package train

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/convert/rewrite"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Network makes the model that the fields name: a network of package builders in the shape that the fields of
// OfNetwork give it, or an .onnx file, whose shape they leave alone but for the number of classes.
func (f Fields) Network() (*onnxio.Model, error) {
	m, _, err := f.NetworkHead()
	return m, err
}

// NetworkHead is Network, and says which classifier of an .onnx file is replaced by one of as many classes as
// the fields say; nil where none is.
func (f Fields) NetworkHead() (*onnxio.Model, *rewrite.NewHead, error) {
	what, err := f.Text("model")
	if err != nil {
		return nil, nil, err
	}
	if what == "" {
		return nil, nil, fmt.Errorf("the recipe names no model: a network or an .onnx file is wanted")
	}
	cfg, err := f.networkConfig(what)
	if err != nil {
		return nil, nil, err
	}
	if !strings.HasSuffix(what, ".onnx") {
		m, err := builders.Build(what, cfg)
		return m, nil, err
	}
	for _, field := range fields {
		if field.Part == OfNetwork && !slices.Contains([]string{"model", "seed", "classes"}, field.Name) &&
			f[field.Name] != nil {
			return nil, nil, fmt.Errorf("%s shapes a network that is built by name; %s has its shape already",
				field.Name, what)
		}
	}
	m, err := onnxio.Load(what)
	if err != nil || f["classes"] == nil {
		return m, nil, err
	}
	m, head, err := newHead(m, cfg)
	if err != nil {
		return nil, nil, &HeadError{fmt.Errorf("%s: classes %d: %w", what, cfg.Classes, err)}
	}
	return m, head, nil
}

// HeadError is that of a model whose classifier cannot be given another number of classes.
type HeadError struct{ err error }

func (e *HeadError) Error() string { return e.err.Error() }

func (e *HeadError) Unwrap() error { return e.err }

// newHead gives a model of a file the classes of cfg: one of package builders by building
// it anew around its weights.
func newHead(m *onnxio.Model, cfg builders.Config) (*onnxio.Model, *rewrite.NewHead, error) {
	name, own, built := builders.Arch(m)
	if !built || own.Classes == 0 {
		m, head, err := rewrite.Head(m, cfg.Classes, cfg.Seed)
		return m, head, err
	}
	if own.Classes == cfg.Classes {
		return m, nil, nil
	}
	own.Classes, own.Seed = cfg.Classes, cfg.Seed
	other, err := builders.Build(name, own)
	if err != nil {
		return nil, nil, err
	}
	names, err := builders.Classifier(other)
	if err != nil {
		return nil, nil, err
	}
	sd, err := convert.FromModel(m)
	if err != nil {
		return nil, nil, err
	}
	report, err := convert.Apply(other, sd, convert.ApplyOptions{Strict: true, Replaceable: names})
	if err != nil {
		return nil, nil, fmt.Errorf("the file says that it is %s, and has been changed since: %w", name, err)
	}
	for _, p := range m.Metadata {
		if p.Key != "cnnkit.config" && p.Key != "labels" {
			other.SetProperty(p.Key, p.Value)
		}
	}
	return other, &rewrite.NewHead{Replaced: report.Replaced}, nil
}

// ErrOwnWeights refuses the weights of a checkpoint for an .onnx file that package builders did not make.
var ErrOwnWeights = errors.New(
	"weights fills a network that is built by name, and an .onnx file has its weights: leave it out")

// Start fills a new network with the checkpoint Weights, where the recipe has one, but for a classifier of
// another number of classes, which it reports.
func (recipe Recipe) Start(m *onnxio.Model) (convert.Report, error) {
	path := recipe.Weights
	if path == "" {
		return convert.Report{}, nil
	}
	head, err := builders.Classifier(m)
	if err != nil {
		return convert.Report{}, ErrOwnWeights
	}
	sd, err := convert.LoadKey(path, "")
	if err != nil {
		return convert.Report{}, err
	}
	report, err := convert.Apply(m, sd, convert.ApplyOptions{Strict: true, Replaceable: head})
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return report, err
}

// networkConfig reads the fields that shape a network.
func (f Fields) networkConfig(name string) (builders.Config, error) {
	var recipe Recipe
	own := Fields{}
	for _, field := range fields {
		if v := f[field.Name]; field.Part == OfNetwork && v != nil {
			own[field.Name] = v
		}
	}
	raw, err := json.Marshal(own)
	if err != nil {
		return builders.Config{}, err
	}
	if err := json.Unmarshal(raw, &recipe); err != nil {
		return builders.Config{}, mistyped(err)
	}
	if recipe.Opset < 0 {
		return builders.Config{}, fmt.Errorf("opset is %d", recipe.Opset)
	}
	cfg := builders.Config{Classes: recipe.Classes, Blocks: recipe.Blocks, Width: recipe.Width,
		Depth:           recipe.Depth,
		StochasticDepth: recipe.StochasticDepth, Opset: int64(recipe.Opset), Seed: recipe.Seed}
	if def, err := builders.Defaults(name); err == nil && own["stochastic_depth"] != nil &&
		cfg.StochasticDepth == 0 && def.StochasticDepth > 0 {
		cfg.StochasticDepth = builders.NoStochasticDepth
	}
	if cfg.Input, err = inputShape(recipe.Input); err != nil {
		return cfg, fmt.Errorf("input: %w", err)
	}
	return cfg, nil
}

// inputShape reads 3x32x32.
func inputShape(s string) ([3]int, error) {
	var out [3]int
	if s == "" {
		return out, nil
	}
	parts := strings.Split(s, "x")
	wrong := fmt.Errorf("it wants CHANNELSxHEIGHTxWIDTH such as 3x32x32, not %q", s)
	if len(parts) != 3 {
		return out, wrong
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 {
			return out, wrong
		}
		out[i] = n
	}
	return out, nil
}

func shapeText(text string) (any, error) {
	_, err := inputShape(text)
	return text, err
}

// archOf is the network of package builders that a model was built as; "" when it is none.
func archOf(m *onnxio.Model) string {
	arch, _, _ := builders.Arch(m)
	return arch
}
