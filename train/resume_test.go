package train

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime/vision"
	"github.com/cnnkit/cnnkit/train/data/transforms"
)

// runs are configurations that keep state of every kind. 200 images in batches of 24 leave
// a short batch at the end.
var runs = map[string]Config{
	"sgd": {Optimizer: "sgd", LR: 0.01, Momentum: 0.9, WeightDecay: 0.01,
		Groups: []Group{{Params: "bias", WeightDecay: new(float64), LRScale: new(2.0)}}},
	"adam": {Optimizer: "adam", LR: 1e-3, Schedule: Schedule{Kind: Cosine, By: "step", Warmup: 4}},
	"ema": {Optimizer: "adamw", LR: 1e-3, WeightDecay: 0.05, EMA: 0.9, Schedule: Schedule{Kind: OneCycle,
		Momentum: [2]float64{0.85, 0.95}}},
	"swa": {Optimizer: "sgd", LR: 0.05, Momentum: 0.9, SWA: SWA{Start: 2, LR: 0.01}},
	"plateau": {Optimizer: "rmsprop", LR: 1e-3, Momentum: 0.5, Schedule: Schedule{Kind: OnPlateau,
		Patience: -1, Factor: 0.5, Threshold: 0.5}},
	"all": {Optimizer: "muon", LR: 0.02, Momentum: 0.9, Nesterov: true, WeightDecay: 0.01, Accumulate: 2,
		ClipNorm: 2, EMA: 0.8, Lookahead: Lookahead{Steps: 3},
		Loss: LossSoft, Mix: transforms.BatchCompose{transforms.MixUp{Alpha: 0.3, P: 0.7},
			transforms.CutMix{Alpha: 1, P: 0.3}}, LabelSmoothing: 0.1,
		Augment: transforms.Compose{transforms.RandomHorizontalFlip{P: 0.5},
			transforms.RandomCrop{Size: transforms.Ints{28}, Padding: transforms.Ints{2}}},
		Sampler: SamplerBalanced, Schedule: Schedule{Kind: Cosine, By: "step", Warmup: 3}, Precision: "bf16",
		Workers: 2, CheckpointSteps: 2, Metrics: []string{"top3"}},
	"airbench": {Optimizer: "muon", LR: 0.1, Momentum: 0.6, Nesterov: true, NSSteps: 3, UnitNorm: true,
		Whiten: 32, LabelSmoothing: 0.2, Loss: LossCrossEntropy,
		Sampler: SamplerWeights, SampleWeights: true, Lookahead: Lookahead{Steps: 4}, EMA: 0.8,
		ValidateEvery: 2,
		Augment: transforms.Compose{transforms.AlternatingFlip{},
			transforms.RandomCrop{Size: transforms.Ints{28}, Padding: transforms.Ints{2}, Mode: "reflect"}},
		Groups: []Group{{Params: "whiten.weight", Freeze: true},
			{Params: "whiten.bias", Optimizer: "sgd", Epochs: 2},
			{Params: "norm", Optimizer: "sgd", LRScale: new(2.0), Momentum: new(0.85)}},
		Schedule: Schedule{Kind: Polynomial, By: "step"}},
	"weights": {Optimizer: "adam", LR: 1e-3, Sampler: SamplerWeights, SampleWeights: true,
		LabelSmoothing: 0.1},
	"apart": {Optimizer: "lamb", LR: 1e-2, WeightDecay: 0.1, Accumulate: 4, ClipNorm: 1, EMA: 0.8,
		Sampler: SamplerBalanced,
		Groups:  []Group{{Params: "bias", WeightDecay: new(float64)}}},
}

func resumable(name string) Config {
	c := runs[name]
	c.Epochs, c.Batch, c.Threads, c.Seed = 3, 24, 1, 5
	return c
}

// network is what a run trains: one with BatchNormalization, where that has something to keep, else LeNet-5.
func network(name string) func(testing.TB) *onnxio.Model {
	switch name {
	case "ema", "swa":
		return normNet
	case "all":
		return dropNet
	case "airbench":
		return airbench
	}
	return lenet
}

// normNet is a small network with BatchNormalization.
func normNet(t testing.TB) *onnxio.Model {
	t.Helper()
	b := builders.New("norm", 0, 0, 1, 28, 28)
	x := b.ReLU("relu", b.BatchNorm2d("bn", b.Conv2d("conv", b.Input(), 8, 3, builders.Stride(2))))
	m, err := b.Model(b.Linear("fc", b.Flatten("flatten", b.GlobalAvgPool2d("pool", x)), 10))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// airbench is a narrow network of the CIFAR-10 speed runs.
func airbench(t testing.TB) *onnxio.Model {
	t.Helper()
	m, err := builders.Build("airbench", builders.Config{Input: [3]int{1, 28, 28}, Width: 4})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// dropNet is a residual network with stochastic depth and Dropout.
func dropNet(t testing.TB) *onnxio.Model {
	t.Helper()
	m, err := builders.Build("resnet18", builders.Config{Input: [3]int{1, 28, 28}, Blocks: []int{1, 1, 1, 1},
		Width: 8, Classes: 10, StochasticDepth: 0.4})
	if err != nil {
		t.Fatal(err)
	}
	out := m.Graph.Nodes[len(m.Graph.Nodes)-1]
	ratio := onnxio.Scalar(onnxio.Float, float32(0.3))
	ratio.Name = "ratio"
	m.Graph.Initializers = append(m.Graph.Initializers, ratio)
	drop := &onnxio.Node{Name: "drop", OpType: "Dropout", Inputs: []string{out.Inputs[0], "ratio"},
		Outputs: []string{"dropped"}}
	out.Inputs[0] = "dropped"
	m.Graph.Nodes = append(m.Graph.Nodes[:len(m.Graph.Nodes)-1], drop, out)
	if err := check.Model(m); err != nil {
		t.Fatal(err)
	}
	return m
}

// stopped runs cfg into dir until some number of steps are made, and goes on from the checkpoint until all
// are; each part is a run of its own, as after a new start of the program.
func stopped(t *testing.T, build func(testing.TB) *onnxio.Model, cfg Config, dir string,
	stops ...int) string {
	t.Helper()
	return stoppedWith(t, build, cfg, dir, func(*Checkpoint) {}, stops...)
}

// stoppedWith is stopped with checkpoints that are changed before they are gone on from.
func stoppedWith(t *testing.T, build func(testing.TB) *onnxio.Model, cfg Config, dir string,
	change func(*Checkpoint), stops ...int) string {
	t.Helper()
	steps, next := 0, 0
	go_ := func(f func(context.Context, Observer) (*Result, error)) *Result {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		res, err := f(ctx, Observer{Step: func(int, int, int, float64) {
			if steps++; next < len(stops) && steps == stops[next] {
				next++
				cancel()
			}
		}})
		var interrupted *InterruptedError
		if err != nil && !errors.As(err, &interrupted) {
			t.Fatal(err)
		}
		if err != nil {
			return nil
		}
		return res
	}
	splits := small(t, 200, 50)
	if cfg.Sampler == SamplerWeights {
		splits = weighted(t, splits)
	}
	res := go_(func(ctx context.Context, o Observer) (*Result, error) {
		return Run(ctx, build(t), splits, cfg, dir, o)
	})
	for res == nil {
		c, err := LoadCheckpoint(dir)
		if err != nil {
			t.Fatal(err)
		}
		change(c)
		res = go_(func(ctx context.Context, o Observer) (*Result, error) {
			return Recipe{Config: cfg}.Resume(ctx, c, splits, dir, o)
		})
	}
	if len(res.History) != cfg.Epochs {
		t.Fatalf("%d epochs of %d", len(res.History), cfg.Epochs)
	}
	if stepsOf := 27; steps != stepsOf {
		t.Fatalf("%d steps of %d", steps, stepsOf)
	}
	return encoded(t, res.Model)
}

// A run that is interrupted after any step and resumed ends in the same bytes as one that is not, models,
// best ones and all. The last of an epoch's steps is among them: the validation is then still to be done.
func TestResumedRunsEndInTheSameBits(t *testing.T) {
	if testing.Short() {
		t.Skip("trains again and again: run without -short")
	}
	for name := range runs {
		t.Run(name, func(t *testing.T) {
			cfg, whole, build := resumable(name), t.TempDir(), network(name)
			want := stopped(t, build, cfg, whole)
			points := rand.New(rand.NewPCG(3, 4)).Perm(26)[:10]
			for _, before := range append(points, 8, 17) { // and the ends of two epochs
				at, dir := before+1, t.TempDir()
				if stopped(t, build, cfg, dir, at) != want {
					t.Errorf("interrupted after step %d the run ends in other weights", at)
				}
				a, err1 := os.ReadFile(filepath.Join(whole, BestFile))
				b, err2 := os.ReadFile(filepath.Join(dir, BestFile))
				if err1 != nil || err2 != nil || string(a) != string(b) {
					t.Errorf("interrupted after step %d the best model is another: %v, %v", at, err1, err2)
				}
			}
			often := t.TempDir()
			if stopped(t, build, cfg, often, 2, 3, 11, 18, 26) != want {
				t.Error("interrupted five times the run ends in other weights")
			}
			if a, b := viewed(t, whole), viewed(t, often); !reflect.DeepEqual(a, b) || a.Images != 50 {
				t.Errorf("its six views give %+v, and those of the whole run %+v", b, a)
			}
		})
	}
}

// viewed scores the model that a run has left with test-time augmentation.
func viewed(t *testing.T, dir string) Score {
	t.Helper()
	m, err := onnxio.Load(filepath.Join(dir, LastFile))
	if err != nil {
		t.Fatal(err)
	}
	s, err := spec.Get(m)
	if err != nil {
		t.Fatal(err)
	}
	logs, loss := s.Output.Scale == spec.LogProbabilities, LossCrossEntropy
	if logs {
		loss = LossNLL
	}
	forward, err := vision.Augmented(native(m, nil), vision.Views(), logs)
	if err != nil {
		t.Fatal(err)
	}
	score, err := Measure(t.Context(), forward, small(t, 1, 50).Validation, 20, loss, []string{"top3"})
	if err != nil {
		t.Fatal(err)
	}
	return score
}

// Checkpoints used to have the states of parameters in groups without their shapes.
func TestResumeFromFlatStates(t *testing.T) {
	cfg := resumable("sgd")
	flat := func(c *Checkpoint) {
		for _, slots := range c.slots {
			for _, s := range slots {
				s.Dims = []int64{s.Size()}
			}
		}
	}
	if stoppedWith(t, lenet, cfg, t.TempDir(), flat, 7) != stopped(t, lenet, cfg, t.TempDir()) {
		t.Error("the run ends in other weights")
	}
}

// Running statistics and the draws of Dropout and stochastic depth go on as well.
func TestResumedNormAndDropout(t *testing.T) {
	cfg := resumable("adam")
	want := stopped(t, dropNet, cfg, t.TempDir())
	if stopped(t, dropNet, cfg, t.TempDir(), 5, 14) != want {
		t.Error("the interrupted run ends in other weights")
	}
	cfg.Seed++
	if stopped(t, dropNet, cfg, t.TempDir()) == want {
		t.Error("the seed changes nothing")
	}
}

// A run in bf16 goes on to the same bits as well, which are others than float32's where the processor has it.
func TestResumedInBF16(t *testing.T) {
	build := func(t testing.TB) *onnxio.Model {
		m, err := builders.Build("resnet18", builders.Config{Input: [3]int{1, 28, 28},
			Blocks: []int{1, 1, 1, 1}, Width: 8, Classes: 10})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	cfg := resumable("sgd")
	floats := stopped(t, build, cfg, t.TempDir())
	cfg.Precision = "bf16"
	want := stopped(t, build, cfg, t.TempDir())
	if stopped(t, build, cfg, t.TempDir(), 5, 14) != want {
		t.Error("the interrupted run ends in other weights")
	}
	if (want == floats) == engine.BF16Runs() {
		t.Errorf("bf16 and float32 end in the same weights: %v", want == floats)
	}
	cfg.Precision = "fp8"
	if _, err := Run(t.Context(), lenet(t), small(t, 200, 50), cfg, t.TempDir(), Observer{}); err == nil ||
		!strings.Contains(err.Error(), "bf16") {
		t.Errorf("precision fp8: %v", err)
	}
}

// What stands in a checkpoint between the epochs is enough too, and another run's recipe is refused.
func TestResumeAfterTheEndAndRefusals(t *testing.T) {
	cfg, dir := resumable("sgd"), t.TempDir()
	short := cfg
	short.Epochs = 1
	if _, err := Run(t.Context(), lenet(t), small(t, 200, 50), short, dir, Observer{}); err != nil {
		t.Fatal(err)
	}
	c, err := LoadCheckpoint(filepath.Join(dir, CheckpointFile))
	if err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*Config){"lr": func(c *Config) {
		c.LR *= 2
	}, "batch": func(c *Config) {
		c.Batch++
	},
		"seed": func(c *Config) { c.Seed++ }, "optimizer": func(c *Config) { c.Optimizer = "adam" },
		"epochs":    func(c *Config) { c.Epochs = 1 },
		"precision": func(c *Config) { c.Precision = "bf16" }} {
		other := cfg
		change(&other)
		if _, err := (Recipe{Config: other}).Resume(t.Context(), c, small(t, 200, 50), "",
			Observer{}); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("another %s: %v", field, err)
		}
	}
	if _, err := (Recipe{Config: cfg}).Resume(t.Context(), c, small(t, 100, 50), "",
		Observer{}); err == nil || !strings.Contains(err.Error(), "200 images") {
		t.Errorf("other data: %v", err)
	}
	res, err := Recipe{Config: cfg}.Resume(t.Context(), c, small(t, 200, 50), "", Observer{})
	if err != nil {
		t.Fatal(err)
	}
	if encoded(t, res.Model) != stopped(t, lenet, cfg, t.TempDir()) {
		t.Error("one epoch and two more are not three")
	}
}

// Damaged checkpoints give errors.
func TestDamagedCheckpoints(t *testing.T) {
	dir := t.TempDir()
	if _, err := LoadCheckpoint(dir); err == nil || !strings.Contains(err.Error(), "no epoch was finished") {
		t.Error(err)
	}
	cfg := resumable("adam")
	cfg.Epochs = 1
	if _, err := Run(t.Context(), lenet(t), small(t, 48, 10), cfg, dir, Observer{}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, CheckpointFile))
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range [][]byte{nil, raw[:100], raw[:len(raw)-1], []byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"),
		[]byte(strings.Replace(string(raw), `"epoch":2`, `"epoch":0`, 1)),
		[]byte(strings.Replace(string(raw), `"steps":2`, `"stepx":2`, 1))} {
		path := filepath.Join(t.TempDir(), fmt.Sprint(i, ".safetensors"))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadCheckpoint(path); err == nil {
			t.Errorf("damage %d is not noticed", i)
		} else {
			t.Log(err)
		}
	}
}
