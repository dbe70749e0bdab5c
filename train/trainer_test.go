package train

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data"
)

// steps trains n batches of MNIST's first images, from the from-th on.
func steps(t *testing.T, tr *Trainer, from, n int) {
	t.Helper()
	ds := small(t, 400, 10).Train
	for i := from; i < from+n; i++ {
		x, target := NewBatch(ds.Shape(), 16)
		if err := ds.Fill(x, target, data.Sequence(ds.Len())[i*16:(i+1)*16]); err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Step(t.Context(), x, target); err != nil {
			t.Fatal(err)
		}
	}
}

func weights(t *testing.T, m *onnxio.Model) []float32 {
	t.Helper()
	var all []float32
	for _, w := range m.Graph.Initializers {
		if w.Type == onnxio.Float {
			all = append(all, w.Float32s()...)
		}
	}
	return all
}

// A trainer that takes another's state goes on to the same bits, in the middle of gathered gradients too.
func TestTrainerState(t *testing.T) {
	for name, c := range map[string]Config{
		"sgd":       {Optimizer: "sgd", LR: 0.05, Momentum: 0.9},
		"gathering": {Optimizer: "adamw", LR: 1e-3, Accumulate: 3, ClipNorm: 1},
		"muon":      {Optimizer: "muon", LR: 0.01, Momentum: 0.9, Lookahead: Lookahead{Steps: 3}},
		"mixed": {Optimizer: "muon", LR: 0.01, Momentum: 0.9,
			Groups: []Group{{Params: "bias", Optimizer: "adam"}, {Params: "fc*", Momentum: new(0.5)}}},
	} {
		t.Run(name, func(t *testing.T) {
			ends := make([][]float32, 2)
			for i, stop := range []int{0, 5} {
				tr, err := NewTrainer(lenet(t), c)
				if err != nil {
					t.Fatal(err)
				}
				defer tr.Close()
				steps(t, tr, 0, stop)
				if stop > 0 {
					state, err := tr.State()
					if err != nil {
						t.Fatal(err)
					}
					steps(t, tr, stop, 2) // which the state does not see
					if tr, err = NewTrainer(lenet(t), c); err != nil {
						t.Fatal(err)
					}
					defer tr.Close()
					if err := tr.Restore(state); err != nil {
						t.Fatal(err)
					}
				}
				steps(t, tr, stop, 9-stop)
				m, err := tr.Export()
				if err != nil {
					t.Fatal(err)
				}
				ends[i] = weights(t, m)
			}
			if !slices.Equal(ends[0], ends[1]) {
				t.Error("the weights differ")
			}
			if slices.Equal(ends[0], weights(t, lenet(t))) {
				t.Error("nothing was trained")
			}
		})
	}
}

// A loop of one's own over Run's batches leaves Run's weights.
func TestTrainerIsRun(t *testing.T) {
	cfg := Config{Epochs: 1, Batch: 32, Optimizer: "adam", LR: 1e-3, Seed: 7}
	splits, run := small(t, 160, 20), lenet(t)
	if _, err := Run(t.Context(), run, splits, cfg, "", Observer{}); err != nil {
		t.Fatal(err)
	}
	tr, err := NewTrainer(lenet(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	order := data.Order(160, cfg.Seed, 1)
	for i := range 5 {
		x, target := NewBatch(splits.Train.Shape(), 32)
		if err := splits.Train.Fill(x, target, order[i*32:(i+1)*32]); err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Step(t.Context(), x, target); err != nil {
			t.Fatal(err)
		}
	}
	m, err := tr.Export()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(weights(t, m), weights(t, run)) {
		t.Error("the weights differ")
	}
	if s, err := tr.Evaluate(t.Context(), splits.Validation); err != nil || s.Images != 20 {
		t.Errorf("%+v, %v", s, err)
	}
	if y := tr.Output(); y == nil || !slices.Equal(y.Dims, []int64{32, 10}) {
		t.Error("no output")
	}
}

func TestTrainerRefuses(t *testing.T) {
	for _, c := range []Config{{Optimizer: "sgd", LR: 0.1, EMA: 0.9}, {Optimizer: "sgd", LR: 0.1,
		Schedule: Schedule{Kind: Cosine}}, {Optimizer: "sgt", LR: 0.1},
		{Optimizer: "sgd"}, {Optimizer: "sgd", LR: 0.1, Loss: "dice"}} {
		if tr, err := NewTrainer(lenet(t), c); err == nil {
			tr.Close()
			t.Errorf("%+v passes", c)
		}
	}
}

// Callbacks look at the model, end a run in good order, or end it with their error and
// a checkpoint that goes on.
func TestCallbacks(t *testing.T) {
	cfg := Config{Epochs: 4, Batch: 32, Optimizer: "sgd", LR: 0.05}
	recipe := Recipe{Config: cfg}
	seen := 0
	got, err := recipe.Run(t.Context(), lenet(t), small(t, 160, 20), "",
		Observer{OnStep: func(m Moment) error {
			if m.Trainer.Output() == nil || !(m.Loss > 0) || m.Trainer.Rate() != 0.05 {
				t.Errorf("%+v", m)
			}
			if seen++; m.Epoch == 2 && m.Step == 3 {
				return ErrStop
			}
			return nil
		}})
	if err != nil || !got.Stopped || len(got.History) != 2 || seen != 8 {
		t.Errorf("%+v after %d steps, %v", got, seen, err)
	}
	got, err = recipe.Run(t.Context(), lenet(t), small(t, 160, 20), "",
		Observer{OnEpoch: func(m Moment) error {
			if len(m.History) != m.Epoch {
				t.Errorf("%+v", m)
			}
			return ErrStop
		}})
	if err != nil || !got.Stopped || len(got.History) != 1 {
		t.Errorf("%+v, %v", got, err)
	}

	dir, wrong := t.TempDir(), errors.New("no room")
	_, err = recipe.Run(t.Context(), lenet(t), small(t, 160, 20), dir, Observer{OnStep: func(m Moment) error {
		if m.Epoch == 2 && m.Step == 2 {
			return wrong
		}
		return nil
	}})
	if !errors.Is(err, wrong) {
		t.Fatal(err)
	}
	from, err := LoadCheckpoint(filepath.Join(dir, CheckpointFile))
	if err != nil || from.Epoch != 2 || from.Step != 2 {
		t.Fatalf("%+v, %v", from, err)
	}
	whole := lenet(t)
	if _, err := recipe.Run(t.Context(), whole, small(t, 160, 20), "", Observer{}); err != nil {
		t.Fatal(err)
	}
	again, err := recipe.Resume(t.Context(), from, small(t, 160, 20), "", Observer{})
	if err != nil || !slices.Equal(weights(t, again.Model), weights(t, whole)) {
		t.Errorf("other weights, %v", err)
	}
}
