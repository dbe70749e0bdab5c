package builders_test

import (
	"math"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
	_ "github.com/cnnkit/cnnkit/train/data/mnist"
)

// Networks that end in logits are trained on cross-entropy unless asked otherwise; every weight moves, and
// the scale of resnet9's logits, which is no weight, stays.
func TestResNet9Trains(t *testing.T) {
	m, err := builders.Build("resnet9", builders.Config{Input: [3]int{1, 28, 28}, Width: 4})
	if err != nil {
		t.Fatal(err)
	}
	before := map[string][]float32{}
	for _, p := range m.Graph.Initializers {
		before[p.Name] = slices.Clone(p.Float32s())
	}
	if _, loss, err := train.TrainingGraph(m, ""); err != nil || loss != "cross-entropy" {
		t.Fatalf("the loss is %q, %v", loss, err)
	}
	s, err := data.Open("mnist")
	if err != nil {
		t.Fatal(err)
	}
	s.Train = data.Subset{Dataset: s.Train, Indices: data.Sequence(8)}
	s.Validation = data.Subset{Dataset: s.Validation, Indices: data.Sequence(8)}
	cfg := train.Config{Epochs: 1, Batch: 8, Optimizer: "sgd", LR: 0.1}
	res, err := train.Run(t.Context(), m, s, cfg, "", train.Observer{})
	if err != nil {
		t.Fatal(err)
	}
	// Logits near 0 are ten classes of equal probability.
	if l := res.History[0].TrainLoss; !(math.Abs(l-math.Log(10)) < 0.3) {
		t.Errorf("the first step's loss is %g, want about %.3f", l, math.Log(10))
	}
	for _, p := range m.Graph.Initializers {
		if moved := !slices.Equal(p.Float32s(), before[p.Name]); moved != (len(p.Dims) > 0) {
			t.Errorf("%s %v: it is %v that the step moves it", p.Name, p.Dims, moved)
		}
	}
}
