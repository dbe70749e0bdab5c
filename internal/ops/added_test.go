package ops_test

import (
	"context"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/onnxio"
)

// TestAddedOperator trains a network with Phish, of which there is a row of the table and nothing else, at
// every kernel level: the plan has its fast kernels and no reference ones, loss and gradients are those of
// the reference, and the gradient is that of differences of the loss.
func TestAddedOperator(t *testing.T) {
	if asked := os.Getenv("CNNKIT_CPU"); asked == "" {
		for _, level := range []string{"go", "avx2", "avx512"} {
			cmd := exec.Command(os.Args[0], "-test.run=^TestAddedOperator$", "-test.v")
			cmd.Env = append(os.Environ(), "CNNKIT_CPU="+level)
			out, err := cmd.CombinedOutput()
			if strings.Contains(string(out), "this machine or build has only") {
				t.Logf("%s: not on this machine", level)
			} else if err != nil {
				t.Errorf("%s: %v\n%s", level, err, out)
			}
		}
	}
	x := ramp(1, 3, 6, 6)
	run := func(bias float32, reference bool) (loss float32, gradient []float32, steps []string) {
		m := addedModel(bias)
		tr, err := engine.NewTrainer(m, engine.TrainOptions{Loss: "loss", Params: []string{"w", "b"},
			Reference: reference})
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Step(context.Background(), map[string]*onnxio.Tensor{"x": x}); err != nil {
			t.Fatal(err)
		}
		g, err := tr.Gradient("b")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range tr.Plan().Steps() {
			steps = append(steps, s.Kernel+" "+s.Op)
		}
		return tr.Output("loss").Float32s()[0], g.Float32s(), steps
	}
	loss, gradient, steps := run(0, false)
	want, wantGradient, _ := run(0, true)
	near(t, "loss", float64(loss), float64(want))
	for i, g := range gradient {
		near(t, "gradient", float64(g), float64(wantGradient[i]))
	}
	const h = 1.0 / 64
	up, _, _ := run(h, false)
	down, _, _ := run(-h, false)
	near(t, "difference of the loss", float64(up-down)/(2*h), float64(gradient[0]))
	t.Logf("%s: %q", kernels.Level(), steps)
	level := kernels.Level()
	fused := slices.ContainsFunc(steps, func(s string) bool { return strings.Contains(s, "backward "+level) })
	slow := slices.ContainsFunc(steps, func(s string) bool { return strings.Contains(s, "reference") })
	if !fused || slow {
		t.Errorf("steps at %s: %q", level, steps)
	}
}

// addedModel is a convolution to 16 channels, Phish, and the mean of squares; bias is
// that of the first channel.
func addedModel(bias float32) *onnxio.Model {
	w, b := ramp(16, 3, 3, 3), onnxio.NewTensor(onnxio.Float, 16)
	w.Name, b.Name = "w", "b"
	b.Float32s()[0] = bias
	node := func(op, out string, in ...string) *onnxio.Node {
		return &onnxio.Node{OpType: op, Name: out, Inputs: in, Outputs: []string{out}}
	}
	mean := node("ReduceMean", "loss", "square")
	mean.Attrs = []*onnxio.Attribute{onnxio.IntAttr("keepdims", 0)}
	return &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: &onnxio.Graph{Name: "g",
		Inputs:       []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape(1, 3, 6, 6)...)},
		Outputs:      []*onnxio.ValueInfo{onnxio.TensorInfo("loss", onnxio.Float)},
		Initializers: []*onnxio.Tensor{w, b},
		Nodes: []*onnxio.Node{node("Conv", "conv", "x", "w", "b"), node("Phish", "y", "conv"),
			node("Mul", "square", "y", "y"), mean}}}
}

// ramp has numbers around zero.
func ramp(dims ...int64) *onnxio.Tensor {
	t := onnxio.NewTensor(onnxio.Float, dims...)
	for i := range t.Float32s() {
		t.Float32s()[i] = float32(i*7%23)/11 - 1
	}
	return t
}

func near(t *testing.T, name string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 2e-4*(1+math.Abs(want))) {
		t.Errorf("%s is %g, want %g", name, got, want)
	}
}
