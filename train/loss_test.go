package train

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/train/data"
)

// outputModel has the sum of its input and its one parameter "w" for output, after a
// LogSoftmax where asked for.
func outputModel(shape []int64, w []float32, logs bool) *onnxio.Model {
	init := onnxio.NewTensor(onnxio.Float, shape...)
	init.Name = "w"
	copy(init.Float32s(), w)
	dims := make([]onnxio.Dim, len(shape))
	for i, d := range shape {
		dims[i] = onnxio.Dim{Value: d}
	}
	g := &onnxio.Graph{Name: "g", Initializers: []*onnxio.Tensor{init},
		Inputs: []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, dims...)},
		Nodes: []*onnxio.Node{{Name: "add", OpType: "Add", Inputs: []string{"x", "w"},
			Outputs: []string{"sum"}}}}
	out := "sum"
	if logs {
		out = "logs"
		g.Nodes = append(g.Nodes, &onnxio.Node{Name: "logs", OpType: "LogSoftmax", Inputs: []string{"sum"},
			Outputs: []string{"logs"},
			Attrs:   []*onnxio.Attribute{onnxio.IntAttr("axis", 1)}})
	}
	g.Outputs = []*onnxio.ValueInfo{onnxio.TensorInfo(out, onnxio.Float, dims...)}
	return &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: g}
}

// shipped and shippedMetrics are the losses and metrics of the package, without those that tests register.
var shipped, shippedMetrics = Losses(), Metrics()

// Value and gradient of each loss are PyTorch's in float64, as losses.py wrote them down, within 1e-5 of the
// value and of the greatest gradient: float32 has 6e-8, and the sums are short.
func TestLossesFollowPyTorch(t *testing.T) {
	var cases []struct {
		Config           Config
		Shape            []int64
		Target, Gradient []float64
		Value            float64
	}
	readJSON(t, "losses.json", &cases)
	seen := map[string]bool{LossAuto: true}
	for i, c := range cases {
		seen[c.Config.Loss] = true
		t.Run(fmt.Sprint(i, c.Config.Loss, c.Shape), func(t *testing.T) {
			if err := c.Config.validateLoss(); err != nil {
				t.Fatal(err)
			}
			w := uniform(len(c.Gradient), 3)
			for i := range w {
				w[i] *= 4
			}
			for _, logs := range []bool{false, true} {
				if logs != (c.Config.Loss == LossNLL || c.Config.Loss == LossSoftNLL) &&
					!(logs && c.Config.Loss == LossFocal) {
					continue
				}
				value, gradient := differentiated(t, c.Config, outputModel(c.Shape, w, logs), c.Target)
				if d := math.Abs(value - c.Value); !(d <= 1e-5*math.Abs(c.Value)) {
					t.Errorf("the loss is %v, PyTorch's %v", value, c.Value)
				}
				greatest := math.Abs(slices.MaxFunc(c.Gradient, func(a, b float64) int {
					return int(1e9 * (math.Abs(a) - math.Abs(b)))
				}))
				for i, want := range c.Gradient {
					if d := math.Abs(float64(gradient[i]) - want); !(d <= 1e-5*greatest) {
						t.Fatalf("gradient %d is %v, PyTorch's %v", i, gradient[i], want)
					}
				}
			}
		})
	}
	for _, loss := range shipped {
		if !seen[loss] {
			t.Errorf("no case of %s", loss)
		}
	}
}

// differentiated gives the loss of the model for x = 0, and its gradient.
func differentiated(t *testing.T, cfg Config, m *onnxio.Model, targets []float64) (float64, []float32) {
	t.Helper()
	graph, _, err := cfg.TrainingGraph(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := check.Model(graph); err != nil {
		t.Fatal(err)
	}
	trainer, err := engine.NewTrainer(graph, engine.TrainOptions{Loss: LossName, Params: []string{"w"}})
	if err != nil {
		t.Fatal(err)
	}
	shape := m.Graph.Initializers[0].Dims
	var target *onnxio.Tensor
	if info := graph.Graph.Inputs[1]; info.Type.Elem == onnxio.Int64 {
		target = onnxio.NewTensor(onnxio.Int64, append([]int64{shape[0]}, shape[2:]...)...)
		for i, v := range targets {
			onnxio.Data[int64](target)[i] = int64(v)
		}
	} else {
		target = onnxio.NewTensor(onnxio.Float, shape...)
		for i, v := range targets {
			target.Float32s()[i] = float32(v)
		}
	}
	in := map[string]*onnxio.Tensor{"x": onnxio.NewTensor(onnxio.Float, shape...), TargetName: target}
	if cfg.SampleWeights {
		in[WeightName] = imageWeights(shape[0])
	}
	if err := trainer.Step(context.Background(), in); err != nil {
		t.Fatal(err)
	}
	g, err := trainer.Gradient("w")
	if err != nil {
		t.Fatal(err)
	}
	return float64(trainer.Output(LossName).Float32s()[0]), g.Float32s()
}

// imageWeights are losses.py's: 0.5, 0, 1.5, 1, 0.5, ...
func imageWeights(n int64) *onnxio.Tensor {
	t := onnxio.NewTensor(onnxio.Float, n)
	for i := range t.Float32s() {
		t.Float32s()[i] = float32((i*3+1)%4) / 2
	}
	return t
}

// Pixels that do not count change neither the Lovász loss nor its gradient, in every operator set.
func TestLovaszVoid(t *testing.T) {
	w := uniform(12, 5)
	var some []float32
	for c := range 3 {
		some = append(some, w[4*c:4*c+3]...)
	}
	for _, opset := range []int64{13, 17, 21} {
		with, without := outputModel([]int64{1, 3, 1, 4}, w, false), outputModel([]int64{1, 3, 1, 3},
			some, false)
		with.Opsets[0].Version, without.Opsets[0].Version = opset, opset
		cfg := Config{Loss: LossLovasz}
		a, g := differentiated(t, cfg, with, []float64{0, 2, 2, data.Void})
		b, h := differentiated(t, cfg, without, []float64{0, 2, 2})
		if math.Abs(a-b) > 1e-6 || !(a > 0) {
			t.Errorf("opset %d: the loss is %v, and %v without the pixel", opset, a, b)
		}
		for c := range 3 {
			if g[4*c+3] != 0 {
				t.Errorf("opset %d: the pixel has the gradient %v", opset, g[4*c+3])
			}
			for i := range 3 {
				if math.Abs(float64(g[4*c+i]-h[3*c+i])) > 1e-6 {
					t.Errorf("opset %d: gradient %v, and %v without the pixel", opset, g[4*c+i], h[3*c+i])
				}
			}
		}
	}
}

func TestLossMistakes(t *testing.T) {
	for _, c := range []Config{{Loss: "mae"}, {LabelSmoothing: 1}, {Loss: LossFocal, LabelSmoothing: 0.1},
		{Loss: LossFocal, Gamma: new(-1.0)},
		{Loss: LossSigmoidFocal, Balance: 1}, {Loss: LossTversky, Tversky: [2]float64{-1, 1}}} {
		whole := Defaults("")
		whole.Loss, whole.LabelSmoothing, whole.Gamma, whole.Balance, whole.Tversky = c.Loss,
			c.LabelSmoothing, c.Gamma, c.Balance, c.Tversky
		if whole.validate() == nil {
			t.Errorf("%+v passes", c)
		}
	}
	m := outputModel([]int64{2, 3}, make([]float32, 6), true)
	for _, w := range []ClassWeights{{Balanced: true}, {Each: []float64{1, 2}}} {
		if _, _, err := (Config{ClassWeights: w}).TrainingGraph(m); err == nil ||
			!strings.Contains(err.Error(), "class_weights") {
			t.Errorf("%+v for three classes: %v", w, err)
		}
	}
	for _, loss := range []string{LossSoft, LossDice, LossCrossEntropy} {
		if _, _, err := TrainingGraph(m, loss); err == nil {
			t.Errorf("%s takes log-probabilities", loss)
		}
	}
}
