package train

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data"
)

// stacked is a network of three normalised convolutions, a Dropout behind the second, and a classifier.
func stacked(t testing.TB) *onnxio.Model {
	t.Helper()
	b := builders.New("stacked", 0, 3, 1, 28, 28)
	x := b.ReLU("relu1", b.BatchNorm2d("stem.bn", b.Conv2d("stem.conv", b.Input(), 8, 3, builders.Stride(2))))
	x = b.Dropout("body.drop",
		b.ReLU("relu2", b.BatchNorm2d("body.bn", b.Conv2d("body.conv", x, 8, 3, builders.Stride(2)))), 0.3)
	x = b.ReLU("relu3", b.BatchNorm2d("top.bn", b.Conv2d("top.conv", x, 8, 3)))
	x = b.Dropout("drop", b.Flatten("flatten", b.GlobalAvgPool2d("pool", x)), 0.2)
	m, err := b.Model(b.Linear("fc", x, 10))
	if err != nil {
		t.Fatal(err)
	}
	for _, t := range m.Graph.Initializers { // statistics of a network that was trained
		for i := range t.Float32s() {
			switch {
			case strings.HasSuffix(t.Name, "running_mean"):
				t.Float32s()[i] = 0.1 * float32(i)
			case strings.HasSuffix(t.Name, "running_var"):
				t.Float32s()[i] = 0.5 + 0.1*float32(i)
			}
		}
	}
	return m
}

// A frozen module stays as it is to the bit, under averages and weight decay too; all else moves.
func TestFrozenModulesStay(t *testing.T) {
	for name, c := range map[string]Config{
		"trunk":  {Freeze: []string{"stem", "body.*"}},
		"middle": {Freeze: []string{"body"}},
		"apart":  {Freeze: []string{"stem", "body"}, ClipNorm: 1},
		"cached": {Freeze: []string{"stem", "body"}, CacheFeatures: true},
	} {
		t.Run(name, func(t *testing.T) {
			c.Epochs, c.Batch, c.Optimizer, c.LR, c.WeightDecay, c.EMA, c.Threads = 2, 16, "adamw",
				0.01, 0.1, 0.9, 1
			m, before := stacked(t), stacked(t)
			if _, err := Run(context.Background(), m, small(t, 64, 32), c, "", Observer{}); err != nil {
				t.Fatal(err)
			}
			for _, was := range before.Graph.Initializers {
				same := bytes.Equal(was.Raw, m.Graph.Initializer(was.Name).Raw)
				if frozen := c.freezes(was.Name); frozen != same && was.Type == onnxio.Float &&
					len(was.Dims) > 0 {
					t.Errorf("%s: frozen %v, unchanged %v", was.Name, frozen, same)
				}
			}
		})
	}
}

// A step from the features gives the loss and the gradients of the whole graph.
func TestTrunkChangesNoGradient(t *testing.T) {
	c := Config{Freeze: []string{"stem", "body", "drop"}, Optimizer: "sgd", LR: 0.1, Threads: 1,
		ClipNorm: 1e9}
	m, s := stacked(t), small(t, 16, 16)
	tr, err := NewTrainer(m, c)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if tr.trunk == nil || len(tr.trunk.features) != 1 || len(tr.trunk.model.Graph.Nodes) < 6 {
		t.Fatalf("no trunk with one feature: %v", tr.trunk)
	}
	graph, _, err := c.trainingGraph(m)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := engine.NewTrainer(graph, engine.TrainOptions{Loss: LossName, Params: tr.Params()})
	if err != nil {
		t.Fatal(err)
	}
	x, target := NewBatch(s.Train.Shape(), 16)
	if err := s.Train.Fill(x, target, data.Sequence(16)); err != nil {
		t.Fatal(err)
	}
	if err := whole.Step(context.Background(), map[string]*onnxio.Tensor{"input": x,
		TargetName: target}); err != nil {
		t.Fatal(err)
	}
	loss, err := tr.Step(context.Background(), x, target)
	if err != nil {
		t.Fatal(err)
	}
	if want := float64(whole.Output(LossName).Float32s()[0]); math.Abs(loss-want) > 1e-5 {
		t.Errorf("loss %v, of the whole graph %v", loss, want)
	}
	if len(tr.Gradients()) != 6 {
		t.Errorf("%d gradients", len(tr.Gradients()))
	}
	for name, g := range tr.Gradients() {
		want, err := whole.Gradient(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range g.Float32s() {
			if math.Abs(float64(v-want.Float32s()[i])) > 1e-5 {
				t.Fatalf("gradient of %s[%d] is %v, of the whole graph %v", name, i, v, want.Float32s()[i])
			}
		}
	}
}

// A run with frozen layers that was stopped goes on to the same bits, with unfreezing
// and cached features too.
func TestFrozenRunsResume(t *testing.T) {
	for name, c := range map[string]Config{
		"frozen": {Freeze: []string{"stem", "body"}, EMA: 0.9},
		"cached": {Freeze: []string{"stem", "body"}, CacheFeatures: true},
		"unfreeze": {Freeze: []string{"stem", "body"}, EMA: 0.9, Unfreeze: []Unfreeze{{2, "body"},
			{3, "stem"}}},
		"apart": {Freeze: []string{"stem", "body"}, ClipNorm: 1, Unfreeze: []Unfreeze{{2, "body"}},
			LRDecayPerLayer: 0.5},
		"stopped": {EMA: 0.9, Groups: []Group{{Params: "stem.*", Epochs: 1}}},
		"swa":     {SWA: SWA{Start: 1}, Groups: []Group{{Params: "stem.*", Epochs: 2}}},
		"several": {Freeze: []string{"stem", "body"}, CacheFeatures: true, Unfreeze: []Unfreeze{{3, "body"}},
			LRDecayPerLayer: 0.5},
	} {
		t.Run(name, func(t *testing.T) {
			c.Epochs, c.Batch, c.Optimizer, c.LR, c.Threads, c.Seed = 3, 24, "adam", 0.01, 1, 5
			if stopped(t, stacked, c, t.TempDir()) != stopped(t, stacked, c, t.TempDir(), 3, 9, 20) {
				t.Error("the weights differ")
			}
		})
	}
}

// A group whose epochs are over keeps its weights, and their average goes on: it is that of all
// steps, or of SWA's epochs.
func TestStoppedGroupIsAveraged(t *testing.T) {
	const name = "stem.conv.weight"
	for kind, c := range map[string]Config{
		"ema":   {EMA: 0.9},
		"swa":   {SWA: SWA{Start: 1}},
		"apart": {EMA: 0.9, ClipNorm: 1e9},
	} {
		t.Run(kind, func(t *testing.T) {
			c.Epochs, c.Batch, c.Optimizer, c.LR, c.Threads = 3, 16, "adam", 0.01, 1
			c.Groups = []Group{{Params: "stem.*", Epochs: 1}}
			var mean, last []float32
			join := func(at Moment, share float32) error {
				now, err := at.Trainer.Export()
				if err != nil {
					return err
				}
				x := now.Graph.Initializer(name).Float32s()
				if mean == nil {
					mean = slices.Clone(x)
				}
				for i := range mean {
					mean[i] += (x[i] - mean[i]) * share
				}
				if at.Epoch > 1 && !slices.Equal(last, x) {
					t.Errorf("epoch %d: the stopped weights moved", at.Epoch)
				}
				last = slices.Clone(x)
				return nil
			}
			steps := int64(0)
			obs := Observer{OnStep: func(at Moment) error {
				steps++
				return join(at, float32(1-emaDecay(c.EMA, steps)))
			}}
			if c.EMA == 0 {
				obs = Observer{OnEpoch: func(at Moment) error { return join(at, 1/float32(at.Epoch)) }}
			}
			m := stacked(t)
			if _, err := Run(context.Background(), m, small(t, 64, 32), c, "", obs); err != nil {
				t.Fatal(err)
			}
			for i, x := range m.Graph.Initializer(name).Float32s() {
				if math.Abs(float64(x-mean[i])) > 1e-6 {
					t.Fatalf("weight %d is %v, the average %v, the last %v", i, x, mean[i], last[i])
				}
			}
			if kind != "swa" && slices.Equal(mean, last) {
				t.Error("the average is the last value: nothing was told apart")
			}
		})
	}
}

// Parameters move from the epoch on that unfreezes them.
func TestGradualUnfreezing(t *testing.T) {
	c := Config{Epochs: 3, Batch: 32, Optimizer: "sgd", LR: 0.05, Momentum: 0.9, Threads: 1,
		Freeze:   []string{"stem", "body"},
		Unfreeze: []Unfreeze{{2, "body.conv"}, {3, "stem"}}}
	m := stacked(t)
	last := stacked(t)
	want := map[string][]bool{"fc.weight": {true, true, true}, "body.conv.weight": {false, true, true},
		"body.bn.weight":       {false, false, false},
		"body.bn.running_mean": {false, false, false}, "stem.conv.weight": {false, false, true},
		"stem.bn.running_var": {false, false, true}}
	obs := Observer{OnEpoch: func(at Moment) error {
		now, err := at.Trainer.Export()
		if err != nil {
			return err
		}
		for name, w := range want {
			if moved := !bytes.Equal(now.Graph.Initializer(name).Raw,
				last.Graph.Initializer(name).Raw); moved != w[at.Epoch-1] {
				t.Errorf("epoch %d: %s moved: %v", at.Epoch, name, moved)
			}
		}
		last = now
		return nil
	}}
	if _, err := Run(context.Background(), m, small(t, 64, 32), c, "", obs); err != nil {
		t.Fatal(err)
	}
}

func TestFreezeMistakes(t *testing.T) {
	for want, c := range map[string]Config{
		`freeze "stm" (nearest: "stem"), freeze "body.cnov" (nearest: "body.conv"), group "topp" (nearest: "top")`: {
			Freeze: []string{"stm", "fc", "body.cnov"},
			Groups: []Group{{Params: "norm"}, {Params: "top"}, {Params: "topp", LRScale: new(2.0)}}},
		"every parameter is frozen":      {Freeze: []string{"*"}},
		"no frozen layer comes before":   {Freeze: []string{"top"}, CacheFeatures: true},
		"nothing is frozen":              {Unfreeze: []Unfreeze{{2, "stem"}}},
		"the first epoch that trains it": {Freeze: []string{"stem"}, Unfreeze: []Unfreeze{{0, "stem"}}},
		"lr_decay_per_layer is 1.5":      {LRDecayPerLayer: 1.5},
	} {
		c.Epochs, c.Batch, c.Optimizer, c.LR, c.Threads = 1, 16, "sgd", 0.1, 1
		_, err := Run(context.Background(), stacked(t), small(t, 32, 16), c, "", Observer{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// A run in one of whose epochs nothing is trained is refused before the first step, a resumed
// one too, with what to do.
func TestFrozenEpochsAreRefused(t *testing.T) {
	for name, c := range map[string]Config{
		"groups": {Groups: []Group{{Params: "stem.*", Epochs: 1}, {Params: "*", Epochs: 2}}},
		"groups and freeze": {Freeze: []string{"stem", "body", "top"},
			Groups: []Group{{Params: "fc.*", Epochs: 2}}},
		"with unfreeze": {Freeze: []string{"stem", "body", "top"}, Unfreeze: []Unfreeze{{4, "body"}},
			Groups: []Group{{Params: "fc.*", Epochs: 2}}},
	} {
		c.Epochs, c.Batch, c.Optimizer, c.LR, c.Threads = 4, 16, "sgd", 0.1, 1
		dir, steps := filepath.Join(t.TempDir(), "run"), 0
		count := Observer{Step: func(int, int, int, float64) { steps++ }}
		_, err := Run(t.Context(), stacked(t), small(t, 32, 16), c, dir, count)
		if err == nil || !strings.Contains(err.Error(), "in epoch 3, of 4, every parameter is frozen") ||
			!strings.Contains(err.Error(), "epochs=2") || steps > 0 {
			t.Errorf("%s: after %d steps %v", name, steps, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: the refused run left a folder", name)
		}
		c.Epochs = 2
		if _, err := Run(t.Context(), stacked(t), small(t, 32, 16), c, dir, count); err != nil {
			t.Errorf("%s: two epochs: %v", name, err)
			continue
		}
		from, err := LoadCheckpoint(dir)
		if err != nil {
			t.Fatal(err)
		}
		steps, c.Epochs = 0, 4
		if _, err := (Recipe{Config: c}).Resume(t.Context(), from, small(t, 32, 16), "", count); err == nil ||
			!strings.Contains(err.Error(), "in epoch 3, of 4") || steps > 0 {
			t.Errorf("%s: resumed: after %d steps %v", name, steps, err)
		}
	}
}

// A cache that would be too large says what to do.
func TestCacheLimit(t *testing.T) {
	c := newCache(100)
	in := map[string]*onnxio.Tensor{"f": onnxio.NewTensor(onnxio.Float, 10, 1024)}
	err := c.put(in, data.Sequence(10), 1000, 1<<20)
	if err == nil || !strings.Contains(err.Error(), "3.9 MiB, and 1.0 MiB") || !strings.Contains(err.Error(),
		"freeze more layers") {
		t.Error(err)
	}
}

func TestLayers(t *testing.T) {
	for arch, want := range map[string]struct {
		n  int
		of map[string]int
	}{
		"resnet18": {10, map[string]int{"conv1.weight": 0, "bn1.weight": 0, "layer1.0.conv1.weight": 1,
			"layer4.1.bn2.bias": 8, "fc.bias": 9}},
		"vit_b_16": {16, map[string]int{"encoder.layers.encoder_layer_0.mlp.0.weight": 3,
			"heads.head.weight": 15, "encoder.ln.weight": 14}},
	} {
		m, err := builders.Outline(arch, builders.Config{})
		if err != nil {
			t.Fatal(err)
		}
		of, n, err := layers(m)
		if err != nil || n != want.n {
			t.Errorf("%s: %d layers, want %d", arch, n, want.n)
		}
		for name, i := range want.of {
			if of[name] != i {
				t.Errorf("%s: %s is in layer %d, want %d", arch, name, of[name], i)
			}
		}
		if len(of) != len(builders.ParameterNames(m)) {
			t.Errorf("%s: %d of %d parameters have a layer", arch, len(of), len(builders.ParameterNames(m)))
		}
	}
	foreign := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: &onnxio.Graph{Name: "g",
		Inputs:       []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape("N", 3, 8, 8)...)},
		Outputs:      []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float)},
		Initializers: []*onnxio.Tensor{named("a.weight", 4, 3, 1, 1), named("up.scales", 4), named("b.weight", 5, 4, 1, 1)},
		Nodes: []*onnxio.Node{nodeOf("Conv", "a", "x", "a.weight"), nodeOf("Resize", "up", "a", "", "up.scales"),
			nodeOf("Conv", "y", "up", "b.weight")}}}
	of, n, err := layers(foreign)
	if err != nil || n != 2 || len(of) != 2 || of["b.weight"] != 1 {
		t.Errorf("constants of a foreign graph are layers: %v, %d, %v", of, n, err)
	}
}

func TestPatterns(t *testing.T) {
	got, err := patterns("layer[1-3].*, bn1,conv[1,2]")
	if want := []any{"layer[1-3].*", "bn1", "conv[1,2]"}; err != nil || !slices.Equal(got.([]any), want) {
		t.Errorf("%q, want %q", got, want)
	}
}
