package engine

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// distance is the L2 norm of a-b over that of b.
func distance(a, b []float32) float64 {
	diff := make([]float32, len(b))
	for i, v := range b {
		diff[i] = a[i] - v
	}
	return norm(diff) / norm(b)
}

// compareGradients compares the gradients of a step in bf16 with those in float32. Random small
// networks amplify roundings at every ReLU and maximum that they turn over: all gradients together
// may differ by a tenth of their norm, one by a quarter. Those of biases in front of a normalization
// are nothing but rounding.
func compareGradients(t *testing.T, got, want map[string]*onnxio.Tensor) {
	t.Helper()
	var a, b []float32
	for _, name := range sortedKeys(want) {
		if strings.HasPrefix(name, "grad ") {
			a, b = append(a, got[name].Float32s()...), append(b, want[name].Float32s()...)
		}
	}
	if d := distance(a, b); !(d <= 0.1) || d == 0 {
		t.Errorf("the gradients are %.3g of their norm away", d)
	}
	all := norm(b)
	for name, w := range want {
		if n := norm(w.Float32s()); !strings.HasPrefix(name, "grad ") || n < 0.01*all {
			continue
		}
		if d := distance(got[name].Float32s(), w.Float32s()); !(d <= 0.25) {
			t.Errorf("%s is %.3g of its norm away", name, d)
		}
	}
}

func norm(v []float32) float64 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum)
}

// Training in bf16 follows training in float32 to the 8 bits of its maps, and any number of
// threads gives the same bits.
func TestTrainingBF16(t *testing.T) {
	names, n := []string{"deep", "residual16", "residual32", "unet32", "tanh32"}, 5
	if testing.Short() && !BF16Runs() { // the twins of the kernels are slow
		names, n = names[:2], 2
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			c := trainCases[name]
			m, b := c.make()
			in := []map[string]*onnxio.Tensor{c.in(b, 4), c.in(b, 3)}
			opt := TrainOptions{BF16: true, twins: true}
			gotLoss, got := steps(t, m, b, opt, 1, in...)
			wantLoss, want := steps(t, m, b, TrainOptions{}, 1, in...)
			if d := math.Abs(gotLoss[0] - wantLoss[0]); !(d <= 0.01*(0.1+math.Abs(wantLoss[0]))) || d == 0 {
				t.Errorf("loss %v, in float32 %v", gotLoss[0], wantLoss[0])
			}
			compareGradients(t, got, want)
			opt.Update = plainSGD{0.01, 0.5}
			losses, params := steps(t, m, b, opt, n, in...)
			pool := parallel.New(3)
			defer pool.Close()
			opt.Pool = pool
			_, again := steps(t, m, b, opt, n, in...)
			for name, w := range params {
				if string(again[name].Raw) != string(w.Raw) {
					t.Errorf("%s has other bits with 3 threads", name)
				}
			}
			floats, _ := steps(t, m, b, TrainOptions{Update: plainSGD{0.01, 0.5}}, n, in...)
			for i, l := range floats {
				if d := math.Abs(losses[i] - l); !(d <= 0.03*(0.1+math.Abs(l))) {
					t.Errorf("loss of step %d: %v, in float32 %v", i, losses[i], l)
				}
			}
		})
	}
}

// In a plan of training in bf16 convolutions of both directions, normalization, pooling and what joins
// branches run on maps in bf16: what is converted are the ends.
func TestTrainingBF16Plan(t *testing.T) {
	c := trainCases["unet32"]
	m, b := c.make()
	tr, err := NewTrainer(m, TrainOptions{Loss: m.Graph.Outputs[len(m.Graph.Outputs)-1].Name, BF16: true,
		twins: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Step(context.Background(), c.in(b, 4)); err != nil {
		t.Fatal(err)
	}
	kernels := map[string]int{}
	for _, s := range tr.Plan().Steps() {
		kernels[s.Kernel]++
	}
	for name, n := range kernels {
		if strings.HasPrefix(name, "conv") && !strings.Contains(name, "bf16") ||
			strings.HasPrefix(name, "winograd") || name == "pool" || name == "copy channels" ||
			name == "normalize" {
			t.Errorf("%d steps of %s", n, name)
		}
	}
	// the gradient of the output; the output, in two forms
	if kernels["to bf16"] > 1 || kernels["from bf16"] > 2 {
		t.Errorf("%d and %d conversions: %v", kernels["to bf16"], kernels["from bf16"], kernels)
	}
}

// Maps of 16 channels are folded where every op on them takes folded maps: none is
// converted or stays in float32.
func TestFoldedPlan(t *testing.T) {
	c := trainCases["residual16"]
	m, b := c.make()
	tr, err := NewTrainer(m, TrainOptions{Loss: m.Graph.Outputs[len(m.Graph.Outputs)-1].Name, BF16: true,
		twins: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Step(context.Background(), c.in(b, 4)); err != nil {
		t.Fatal(err)
	}
	folded := 0
	for _, s := range tr.Plan().Steps() {
		switch s.Kernel {
		case "fold weights":
			folded++
		case "to bf16", "from bf16", "normalize", "batch statistics":
			if len(s.Shape) == 4 && s.Shape[1] == 16 {
				t.Errorf("%s of %s %v", s.Kernel, s.Name, s.Shape)
			}
		}
	}
	if folded != 9 { // forward and, but for the input's, backward
		t.Errorf("the weights of %d convolutions are folded", folded)
	}
}
