package train

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/train/data"
)

// small is a part of MNIST.
func small(t testing.TB, train, validation int) data.Splits {
	t.Helper()
	s, err := data.Open("mnist")
	if err != nil {
		t.Fatal(err)
	}
	s.Train = data.Subset{Dataset: s.Train, Indices: data.Sequence(train)}
	s.Validation = data.Subset{Dataset: s.Validation, Indices: data.Sequence(validation)}
	return s
}

func lenet(t testing.TB) *onnxio.Model {
	t.Helper()
	m, err := builders.Build("lenet5", builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRunLearnsAndLeavesItsFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	cfg := Defaults("lenet5")
	cfg.Epochs, cfg.LR, cfg.Momentum = 3, 0.05, 0.9
	var epochs []Epoch
	res, err := Run(context.Background(), lenet(t), small(t, 2000, 500), cfg, dir,
		Observer{Epoch: func(e Epoch) { epochs = append(epochs, e) }})
	if err != nil {
		t.Fatal(err)
	}
	if len(epochs) != 3 || len(res.History) != 3 {
		t.Fatalf("%d epochs observed, %d in the history", len(epochs), len(res.History))
	}
	if a := res.History[2].ValidationAccuracy; a < 0.8 {
		t.Errorf("accuracy %.3f after three epochs on 2,000 images", a)
	}
	for _, name := range []string{LastFile, BestFile} {
		m, err := onnxio.Load(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := check.Model(m); err != nil {
			t.Error(err)
		}
		if len(builders.Labels(m)) != 10 {
			t.Errorf("%s has no labels", name)
		}
		p, ok, err := builders.GetPreprocessing(m)
		if err != nil || !ok || p.Mean[0] != 0.1307 {
			t.Errorf("%s: preprocessing %+v, %v, %v", name, p, ok, err)
		}
	}
	for _, name := range []string{HistoryFile, PlotFile} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSameSeedSameBitsForAnyThreads(t *testing.T) {
	var want []byte
	for _, threads := range []int{1, 2, 3} {
		m := lenet(t)
		cfg := Defaults("lenet5")
		cfg.Epochs, cfg.Threads, cfg.Optimizer, cfg.LR = 1, threads, "adam", 1e-3
		if _, err := Run(context.Background(), m, small(t, 300, 50), cfg, "", Observer{}); err != nil {
			t.Fatal(err)
		}
		got, err := onnxio.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if want != nil && string(got) != string(want) {
			t.Errorf("%d threads give other weights", threads)
		}
		want = got
	}
}

func TestInterruptedRunKeepsTheFinishedEpoch(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cfg := Defaults("lenet5")
	cfg.Epochs = 5
	_, err := Run(ctx, lenet(t), small(t, 640, 100), cfg, dir,
		Observer{Step: func(epoch, step, _ int, _ float64) {
			if epoch == 2 && step == 3 {
				cancel()
			}
		}})
	var interrupted *InterruptedError
	if !errors.As(err, &interrupted) || !errors.Is(err, context.Canceled) || interrupted.Epoch != 2 ||
		interrupted.Step != 3 {
		t.Fatalf("got %v", err)
	}
	for _, name := range []string{LastFile, InterruptedFile} {
		if _, err := onnxio.Load(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestMistakesAreFoundBeforeTraining(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config, *string, **onnxio.Model){
		"epochs":    func(c *Config, _ *string, _ **onnxio.Model) { c.Epochs = 0 },
		"optimizer": func(c *Config, _ *string, _ **onnxio.Model) { c.Optimizer = "sdg" },
		"loss":      func(c *Config, _ *string, _ **onnxio.Model) { c.Loss = LossCrossEntropy },
		"weights":   func(c *Config, _ *string, _ **onnxio.Model) { c.ClassWeights.Each = []float64{1, 2} },
		"folder":    func(_ *Config, dir *string, _ **onnxio.Model) { *dir = file },
		"shape": func(_ *Config, _ *string, m **onnxio.Model) {
			*m, _ = builders.Build("lenet5", builders.Config{Input: [3]int{3, 32, 32}})
		},
		"classes": func(_ *Config, _ *string, m **onnxio.Model) {
			*m, _ = builders.Build("lenet5", builders.Config{Classes: 7})
		},
		"masks": func(_ *Config, _ *string, m **onnxio.Model) {
			*m, _ = builders.Build("unet", builders.Config{Input: [3]int{1, 28, 28}, Depth: 2, Width: 4})
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, dir, m := Defaults("lenet5"), "", lenet(t)
			change(&cfg, &dir, &m)
			steps := 0
			_, err := Run(context.Background(), m, small(t, 64, 64), cfg, dir,
				Observer{Step: func(int, int, int, float64) { steps++ }})
			if err == nil || steps > 0 {
				t.Errorf("error %v after %d steps", err, steps)
			}
			t.Log(err)
		})
	}
}

func TestDivergenceStopsTheRun(t *testing.T) {
	cfg := Defaults("lenet5")
	cfg.LR = 1e30
	if _, err := Run(context.Background(), lenet(t), small(t, 640, 100), cfg, "", Observer{}); err == nil {
		t.Error("no error")
	}
}
