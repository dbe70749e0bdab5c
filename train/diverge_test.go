package train

import (
	"errors"
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data"
)

// broken gives one image a pixel that is not finite.
type broken struct {
	data.Dataset
	image int
	value float64
}

func (d broken) Fill(x, target *onnxio.Tensor, indices []int) error {
	err := d.Dataset.Fill(x, target, indices)
	per := int(x.Size()) / len(indices)
	for i, j := range indices {
		if j == d.image {
			x.Float32s()[i*per+per/2] = float32(d.value)
		}
	}
	return err
}

// A number that is not finite ends the run with the step, and with the node that made it: the first that the
// bad image reaches, or the parameter that a too long step threw out.
func TestDivergenceIsTracedToItsSource(t *testing.T) {
	for name, cfg := range map[string]Config{"in the engine": {Optimizer: "adam", LR: 1e-3},
		"apart": {Optimizer: "sgd", LR: 0.01, Momentum: 0.9, ClipValue: 1}} {
		t.Run(name, func(t *testing.T) {
			cfg.Epochs, cfg.Batch, cfg.Seed = 3, 32, 7
			splits := small(t, 320, 50)
			order := data.Order(320, cfg.Seed, 1)
			splits.Train = broken{splits.Train, order[32*5+3], math.Inf(1)}
			res, err := Run(t.Context(), lenet(t), splits, cfg, "", Observer{})
			var d *DivergedError
			if !errors.As(err, &d) || d.Epoch != 1 || d.Step != 6 {
				t.Fatal(err)
			}
			if first := res.Model.Graph.Nodes[0]; d.Node != first.Name {
				t.Errorf("the node is %q, not %q: %v", d.Node, first.Name, err)
			}
			t.Log(err)
		})
	}
	t.Run("too long a step", func(t *testing.T) {
		_, err := Run(t.Context(), lenet(t), small(t, 320, 50), Config{Epochs: 1, Batch: 32, Optimizer: "sgd",
			LR: 1e39}, "", Observer{})
		var d *DivergedError
		if !errors.As(err, &d) || d.Parameter == "" && d.Node == "" {
			t.Fatal(err)
		}
		t.Log(err)
	})
	t.Run("in a later epoch", func(t *testing.T) {
		cfg := Config{Epochs: 3, Batch: 32, Optimizer: "sgd", LR: 0.05, Schedule: Schedule{Kind: MultiStep,
			Milestones: []int{1}, Gamma: 1e15}}
		res, err := Run(t.Context(), lenet(t), small(t, 320, 50), cfg, "", Observer{})
		var d *DivergedError
		if !errors.As(err, &d) || d.Epoch != 2 || d.Node == "" && d.Parameter == "" {
			t.Fatal(err)
		}
		if len(res.History) != 1 {
			t.Errorf("%d epochs in the history", len(res.History))
		}
		t.Log(err)
	})
}
