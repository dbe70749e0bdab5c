package quantize

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Method is how the range of a tensor is found.
type Method string

// The methods. MinMax takes all that was seen; Percentile leaves out 1 number of 10,000 at either end; MSE
// takes the range with the least squared error; Entropy that whose histogram loses the least information
// (Migacz, 8-bit Inference with TensorRT, 2017).
const (
	MinMax     Method = "minmax"
	Entropy    Method = "entropy"
	Percentile Method = "percentile"
	MSE        Method = "mse"
)

// Methods lists what ParseMethod knows.
func Methods() []string {
	return []string{string(MinMax), string(Entropy), string(Percentile), string(MSE)}
}

// ParseMethod is the method of that name.
func ParseMethod(name string) (Method, error) {
	if slices.Contains(Methods(), name) {
		return Method(name), nil
	}
	return "", fmt.Errorf("no method %q: known are %s", name, strings.Join(Methods(), ", "))
}

// Options of Static.
type Options struct {
	Method     Method   // "" is MinMax
	PerChannel bool     // one scale for each output of a weight
	Exclude    []string // names of nodes that stay float32
	NoGate     bool     // quantize every layer, whatever it costs
	// Trainable leaves weights and biases in float32, with QuantizeLinear and DequantizeLinear between the
	// weights and their layers, for training that sees the rounding; Finish makes bytes of them.
	Trainable bool
	Threads   int // of the gate's measurement; 0 is one for each processor
	// MaxLoss is the score that may be lost; nil is half a point of a hundred, 0.005.
	MaxLoss *float64

	measure func(float, int8 *onnxio.Model) ([2]timing, error) // nil: on this machine
}

// Data is what the scales are found on.
type Data struct {
	// Batches are inputs of the model, of one shape.
	Batches []*onnxio.Tensor
	// Score says how good a model is, 1 at best. nil: how often its largest output is that of the
	// float32 model, on Batches.
	Score func(ctx context.Context, m *onnxio.Model) (float64, error)
}

// The gate's refusals. The report says why.
var (
	ErrSlower = errors.New("the quantized model is slower than the float32 one on this machine")
	ErrWorse  = errors.New("the quantized model loses more than it may")
)

// Static quantizes m. With ErrSlower and ErrWorse comes the report that they follow from.
func Static(ctx context.Context, m *onnxio.Model, data Data, opt Options) (*onnxio.Model, *Report, error) {
	if err := checkData(m, data); err != nil {
		return nil, nil, err
	}
	g, err := prepare(m)
	if err != nil {
		return nil, nil, err
	}
	layers := g.layers()
	if len(layers) == 0 {
		return nil, nil, &onnxio.UnsupportedError{Op: "quantize",
			Reason: "the model has no convolution or matrix product of constant float32 weights"}
	}
	float := map[string]bool{}
	for _, name := range opt.Exclude {
		if !slices.ContainsFunc(layers, func(n *onnxio.Node) bool { return n.Name == name }) {
			return nil, nil, fmt.Errorf("no convolution or matrix product is named %q", name)
		}
		float[name] = true
	}
	if !opt.PerChannel { // else every channel has its own scale already
		g.equalize()
	}
	seen, err := observe(ctx, g, data.Batches, opt.Method)
	if err != nil {
		return nil, nil, err
	}
	q := &quantizer{g: g, seen: seen, perChannel: opt.PerChannel}
	if opt.NoGate {
		q.trainable = opt.Trainable
		out, err := q.model(float)
		return out, nil, err
	}
	out, report, err := q.gate(ctx, data, opt, float)
	if err != nil || !opt.Trainable {
		return out, report, err
	}
	for _, l := range report.Layers {
		float[l.Name] = l.Type == "float32"
	}
	q.trainable = true
	out, err = q.model(float)
	return out, report, err
}

func checkData(m *onnxio.Model, data Data) error {
	if m.Graph == nil || len(m.Graph.Outputs) == 0 {
		return &onnxio.FormatError{Format: "onnx", Msg: "the model has no outputs"}
	}
	if v := m.Opset(""); v < 13 {
		return &onnxio.UnsupportedError{Op: "quantize", Opset: v,
			Reason: "scales by channel need operator set 13"}
	}
	if len(data.Batches) == 0 {
		return fmt.Errorf("no images to find scales on")
	}
	for _, b := range data.Batches {
		if b.Type != onnxio.Float || !slices.Equal(b.Dims, data.Batches[0].Dims) || b.Size() == 0 {
			return fmt.Errorf("batches are %v %v and %v %v: float32 of one shape is wanted", b.Type, b.Dims,
				data.Batches[0].Type, data.Batches[0].Dims)
		}
	}
	return nil
}
