package train

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/cnnkit/cnnkit/train/data/transforms"
)

// jointRun trains on so many ranks, whose batches together are cfg's, and gives rank 0's losses of the steps,
// its history and the weights after the run of every rank.
func jointRun(t *testing.T, ranks int, net func(testing.TB) *onnxio.Model, splits data.Splits,
	cfg Config) (losses []float64, h []Epoch, ends [][]float32) {
	t.Helper()
	_, comms := newHub(ranks)
	ends, histories := make([][]float32, ranks), make([][]Epoch, ranks)
	cfg.Batch /= ranks
	cfg.Threads = 1
	for rank, err := range eachRank(comms, func(c Comm) error {
		own := cfg
		own.Comm = c
		obs := Observer{OnStep: func(m Moment) error { losses = append(losses, m.Loss); return nil }}
		r, err := Run(t.Context(), net(t), splits, own, "", obs)
		if err != nil {
			return err
		}
		ends[c.Rank()], histories[c.Rank()] = weights(t, r.Model), r.History
		return nil
	}) {
		if err != nil {
			t.Fatalf("rank %d: %v", rank, err)
		}
	}
	for rank, h := range histories {
		for i, e := range h {
			if o := histories[0][i]; e.TrainLoss != o.TrainLoss || e.ValidationLoss != o.ValidationLoss ||
				e.LR != o.LR || e.TrainAccuracy != o.TrainAccuracy {
				t.Errorf("rank %d has another history than rank 0: %+v, %+v", rank, e, o)
			}
		}
	}
	return losses, histories[0], ends
}

// Several ranks follow one rank with the joint batch: 54 steps, whose losses stay within 1e-5 of it and the
// weights within 1e-5 of 1+|w| (SGD) or 1e-3 (Adam). Of 195 images in joint batches of 24 three are left at
// the end of an epoch, so that the last of four ranks has none. Settings are calm ones, since training
// amplifies roundings; and the seed is one with which no rounding decides which of two pixels is the larger,
// or on which side of 0 one is: with others a run of some leaves the other by 1e-4 there.
func TestRanksFollowOne(t *testing.T) {
	flips := transforms.Compose{transforms.RandomHorizontalFlip{P: 0.5},
		transforms.RandomCrop{Size: transforms.Ints{28}, Padding: transforms.Ints{2}}}
	for name, c := range map[string]struct {
		net   func(testing.TB) *onnxio.Model
		cfg   Config
		limit float64 // of the weights
	}{
		"sgd": {lenet, Config{Optimizer: "sgd", LR: 0.01, Momentum: 0.9, WeightDecay: 1e-3, EMA: 0.9},
			1e-5},
		"adam": {lenet, Config{Optimizer: "adam", LR: 1e-4, Schedule: Schedule{Kind: Cosine, By: "step",
			Warmup: 1}}, 1e-3},
		"norm sgd":  {normNet, Config{Optimizer: "sgd", LR: 0.01, Momentum: 0.9, SyncBN: true}, 1e-5},
		"norm adam": {normNet, Config{Optimizer: "adam", LR: 1e-4, SyncBN: true}, 1e-3},
		"norm swa":  {normNet, Config{Optimizer: "sgd", LR: 0.01, SyncBN: true, SWA: SWA{Start: 4}}, 1e-5},
		"apart":     {lenet, Config{Optimizer: "sgd", LR: 0.02, Accumulate: 2, ClipNorm: 1}, 1e-5},
		"drop":      {blockNet, Config{Optimizer: "sgd", LR: 1e-2, SyncBN: true}, 1e-5},
		"thaw": {lenet, Config{Optimizer: "sgd", LR: 0.01, Momentum: 0.9, Freeze: []string{"conv1", "conv2"},
			Unfreeze: []Unfreeze{{Epoch: 3, Params: "conv2"}}}, 1e-5},
		"augment": {lenet, Config{Optimizer: "sgd", LR: 0.01, Augment: flips, Workers: 2}, 1e-5},
		"mix": {lenet, Config{Optimizer: "sgd", LR: 0.01, Loss: LossSoftNLL,
			Mix: transforms.BatchCompose{transforms.MixUp{Alpha: 0.3, P: 0.7}, transforms.CutMix{Alpha: 1,
				P: 0.3}}}, 1e-5},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "norm sgd" && name != "drop" {
				t.Skip("two of nine with -short")
			}
			splits := small(t, 195, 50)
			c.cfg.Epochs, c.cfg.Batch, c.cfg.Seed, c.cfg.Metrics = 6, 24, 4, []string{"top3"}
			want, history, end := jointRun(t, 1, c.net, splits, c.cfg)
			if len(want) < 50 {
				t.Fatalf("%d steps", len(want))
			}
			for _, ranks := range []int{2, 4} {
				got, h, ends := jointRun(t, ranks, c.net, splits, c.cfg)
				if len(got) != len(want) {
					t.Fatalf("%d ranks make %d steps, one makes %d", ranks, len(got), len(want))
				}
				worst := 0.0
				for i := range want {
					worst = max(worst, math.Abs(got[i]-want[i]))
				}
				off := farthest(ends[0], end[0])
				t.Logf("%d ranks: losses within %.1e, weights within %.1e", ranks, worst, off)
				if !(worst <= 1e-5) || !(off <= c.limit) {
					t.Errorf("%d ranks leave one rank: losses by %v, weights by %v of %v", ranks, worst,
						off, c.limit)
				}
				for i, e := range h {
					if o := history[i]; math.Abs(e.ValidationLoss-o.ValidationLoss) > 1e-4 ||
						e.TrainAccuracy != o.TrainAccuracy || len(e.Metrics) != len(o.Metrics) {
						t.Errorf("%d ranks: epoch %d is %+v, with one rank %+v", ranks, i+1, e, o)
					}
				}
				for rank := range ends {
					if !slices.Equal(ends[rank], ends[0]) && (c.cfg.SyncBN || c.cfg.EMA == 0) {
						t.Errorf("%d ranks: rank %d ends with other weights than rank 0", ranks, rank)
					}
				}
			}
		})
	}
}

// blockNet is a residual block with stochastic depth, and every kind of Dropout. Its maps are large, so that
// no statistic is of a few numbers, which would amplify roundings.
func blockNet(t testing.TB) *onnxio.Model {
	t.Helper()
	b := builders.New("block", 0, 0, 1, 28, 28)
	x := b.ReLU("relu", b.BatchNorm2d("bn", b.Conv2d("conv", b.Input(), 8, 3, builders.Stride(2))))
	y := b.BatchNorm2d("bn2", b.Conv2d("conv2", b.Dropout2d("drop2d", x, 0.2), 8, 3, builders.Pad(1)))
	x = b.GlobalAvgPool2d("pool", b.Dropout("drop", b.Add("add", x, b.StochasticDepth("depth", y, 0.4)), 0.3))
	m, err := b.Model(b.Linear("fc", b.Flatten("flatten", x), 10))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// farthest is the largest |a-b| / (1+|b|).
func farthest(a, b []float32) float64 {
	worst := 0.0
	for i := range b {
		worst = max(worst, math.Abs(float64(a[i])-float64(b[i]))/(1+math.Abs(float64(b[i]))))
	}
	return worst
}

// Two runs of the same ranks give the same bits, with BatchNormalization local and synchronized.
func TestRanksAreDeterministic(t *testing.T) {
	for _, sync := range []bool{false, true} {
		t.Run(fmt.Sprint("sync ", sync), func(t *testing.T) {
			cfg := Config{Optimizer: "adam", LR: 1e-3, Epochs: 2, Batch: 24, SyncBN: sync,
				Deterministic: true}
			var ends [2][][]float32
			for i := range ends {
				_, _, ends[i] = jointRun(t, 4, dropNet, small(t, 195, 50), cfg)
			}
			for rank := range ends[0] {
				if !slices.Equal(ends[0][rank], ends[1][rank]) {
					t.Errorf("rank %d: two runs give other weights", rank)
				}
			}
		})
	}
}

// flawed is a Comm whose sums are wrong on rank 1 in one number.
type flawed struct{ Comm }

func (f flawed) AllReduce(ctx context.Context, x []float32) error {
	err := f.Comm.AllReduce(ctx, x)
	if f.Rank() == 1 && len(x) > 10000 {
		x[5000] += 1e-3
	}
	return err
}

func (f flawed) Dup() (Comm, error) {
	c, err := f.Comm.Dup()
	return flawed{c}, err
}

// With Deterministic the ranks compare their weights after an epoch.
func TestRanksCompareWeights(t *testing.T) {
	_, comms := newHub(2)
	for rank, err := range eachRank(comms, func(c Comm) error {
		cfg := Config{Optimizer: "sgd", LR: 0.1, Epochs: 2, Batch: 12, Threads: 1, Deterministic: true,
			Comm: flawed{c}}
		_, err := Run(t.Context(), lenet(t), small(t, 195, 50), cfg, "", Observer{})
		return err
	}) {
		if err == nil || !strings.Contains(err.Error(),
			"after epoch 1: rank 1 does not have rank 0's weights") {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}

// A rank that leaves in the second epoch ends the run on the others with a LostError that names it; from what
// rank 0 has written all go on to the bits of a run that lost nobody. Other ranks write nothing.
func TestLostRank(t *testing.T) {
	cfg := Config{Optimizer: "adam", LR: 1e-3, Epochs: 3, Batch: 24, Threads: 1, SyncBN: true}
	_, _, want := jointRun(t, 3, normNet, small(t, 195, 50), cfg)
	cfg.Batch /= 3
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "elsewhere")
	h, comms := newHub(3)
	errs := eachRank(comms, func(c Comm) error {
		own, folder := cfg, dir
		if own.Comm = c; c.Rank() > 0 {
			folder = elsewhere
		}
		obs := Observer{OnStep: func(m Moment) error {
			if m.Epoch == 2 && m.Step == 3 {
				h.leave(2)
			}
			return nil
		}}
		_, err := Run(t.Context(), normNet(t), small(t, 195, 50), own, folder, obs)
		return err
	})
	for rank, err := range errs {
		var lost *LostError
		if !errors.As(err, &lost) || lost.Rank != 2 {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
	if !strings.Contains(errs[0].Error(), filepath.Join(dir, CheckpointFile)) ||
		!strings.Contains(errs[0].Error(), "epoch 2, step 0") {
		t.Errorf("rank 0 does not say where to go on: %v", errs[0])
	}
	if _, err := os.Stat(elsewhere); err == nil {
		t.Error("rank 1 wrote files")
	}
	if got := resumed(t, 3, dir, cfg); !slices.Equal(got, want[0]) {
		t.Error("the resumed run has other weights than one that lost nobody")
	}
}

// resumed goes on with the run of a folder on so many ranks and gives rank 0's weights.
func resumed(t *testing.T, ranks int, dir string, cfg Config) (end []float32) {
	t.Helper()
	_, comms := newHub(ranks)
	for rank, err := range eachRank(comms, func(c Comm) error {
		from, err := LoadCheckpoint(dir)
		if err != nil {
			return err
		}
		own := Recipe{Config: cfg}
		own.Comm = c
		r, err := own.Resume(t.Context(), from, small(t, 195, 50), dir, Observer{})
		if err == nil && c.Rank() == 0 {
			end = weights(t, r.Model)
		}
		return err
	}) {
		if err != nil {
			t.Fatalf("rank %d: %v", rank, err)
		}
	}
	return end
}

// An interruption of one rank ends the run on all after the same step, with a checkpoint from which they
// go on to the same bits; and so do other numbers of ranks with the same joint batch, to rounding.
// Another joint batch is refused.
func TestInterruptedRank(t *testing.T) {
	cfg := Config{Optimizer: "sgd", LR: 0.01, Momentum: 0.9, Epochs: 3, Batch: 24, Threads: 1}
	_, _, want := jointRun(t, 4, lenet, small(t, 195, 50), cfg)
	cfg.Batch /= 4
	dir := t.TempDir()
	_, comms := newHub(4)
	ctx, cancel := context.WithCancel(t.Context())
	for rank, err := range eachRank(comms, func(c Comm) error {
		own, mine := cfg, t.Context()
		if own.Comm = c; c.Rank() == 0 {
			mine = ctx
		}
		_, err := Run(mine, lenet(t), small(t, 195, 50), own, dir, Observer{OnStep: func(m Moment) error {
			if m.Epoch == 2 && m.Step == 4 {
				cancel()
			}
			return nil
		}})
		return err
	}) {
		var stopped *InterruptedError
		if !errors.As(err, &stopped) || stopped.Epoch != 2 || stopped.Step != 5 {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
	before, err := os.ReadFile(filepath.Join(dir, CheckpointFile))
	if err != nil {
		t.Fatal(err)
	}
	if got := resumed(t, 4, dir, cfg); !slices.Equal(got, want[0]) {
		t.Error("the resumed run has other weights")
	}
	for _, ranks := range []int{1, 2} {
		if err := os.WriteFile(filepath.Join(dir, CheckpointFile), before, 0o666); err != nil {
			t.Fatal(err)
		}
		other := cfg
		other.Batch = 24 / ranks
		if off := farthest(resumed(t, ranks, dir, other), want[0]); off > 1e-5 {
			t.Errorf("resumed on %d ranks, the weights are off by %v", ranks, off)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, CheckpointFile), before, 0o666); err != nil {
		t.Fatal(err)
	}
	from, err := LoadCheckpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Recipe{Config: cfg}).Resume(t.Context(), from, small(t, 195, 50), dir,
		Observer{}); err == nil || !strings.Contains(err.Error(), "makes 24 together") {
		t.Errorf("another joint batch: %v", err)
	}
}

// ErrStop on rank 0 ends the run on all ranks: after a step with the next one, after an epoch at once.
func TestObserverStopsRanks(t *testing.T) {
	for name, obs := range map[string]Observer{
		"step":  {OnStep: func(m Moment) error { return stopAt(m.Epoch == 2 && m.Step == 3) }},
		"last":  {OnStep: func(m Moment) error { return stopAt(m.Epoch == 2 && m.Step == 9) }},
		"epoch": {OnEpoch: func(m Moment) error { return stopAt(m.Epoch == 2) }},
	} {
		t.Run(name, func(t *testing.T) {
			_, comms := newHub(2)
			for rank, err := range eachRank(comms, func(c Comm) error {
				r, err := Run(t.Context(), lenet(t), small(t, 195, 50), Config{Optimizer: "sgd", LR: 0.01,
					Epochs: 5, Batch: 12, Threads: 1, Comm: c}, "", obs)
				if err == nil && len(r.History) != 2 {
					return fmt.Errorf("%d epochs", len(r.History))
				}
				return err
			}) {
				if err != nil {
					t.Errorf("rank %d: %v", rank, err)
				}
			}
		})
	}
}

func stopAt(yes bool) error {
	if yes {
		return ErrStop
	}
	return nil
}

// Ranks that are not started alike are refused, and so is what ranks cannot do.
func TestRefusedRanks(t *testing.T) {
	base := Config{Optimizer: "sgd", LR: 0.01, Epochs: 1, Batch: 12, Threads: 1}
	for name, c := range map[string]struct {
		change func(rank int, cfg *Config, s *data.Splits)
		net    func(testing.TB) *onnxio.Model
		says   string
	}{
		"recipe": {func(rank int, cfg *Config, _ *data.Splits) { cfg.LR += float64(rank) / 100 }, lenet,
			"rank 1 does not have rank 0's recipe"},
		"data": {func(rank int, _ *Config, s *data.Splits) {
			if rank == 1 {
				*s = small(t, 194, 50)
			}
		}, lenet, "rank 1 does not have rank 0's data set"},
		"features": {func(_ int, cfg *Config, _ *data.Splits) {
			cfg.Freeze, cfg.CacheFeatures = []string{"conv1"}, true
		}, lenet, "cache_features"},
		"norm": {func(_ int, cfg *Config, _ *data.Splits) { cfg.SyncBN = true }, vectorNet,
			"train without sync_bn"},
	} {
		t.Run(name, func(t *testing.T) {
			_, comms := newHub(2)
			for rank, err := range eachRank(comms, func(comm Comm) error {
				cfg, splits := base, small(t, 195, 50)
				cfg.Comm = comm
				c.change(comm.Rank(), &cfg, &splits)
				_, err := Run(t.Context(), c.net(t), splits, cfg, "", Observer{})
				return err
			}) {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("rank %d: %v", rank, err)
				}
			}
		})
	}
	base.Distributed = "mpi"
	if _, err := Run(t.Context(), lenet(t), small(t, 195, 50), base, "", Observer{}); err == nil ||
		!strings.Contains(err.Error(), "Config.Comm") {
		t.Errorf("distributed without a Comm: %v", err)
	}
}

// vectorNet has a BatchNormalization of vectors [N,C].
func vectorNet(t testing.TB) *onnxio.Model {
	t.Helper()
	b := builders.New("vectors", 0, 0, 1, 28, 28)
	x := b.Linear("fc1", b.Flatten("flatten", b.Input()), 16)
	m, err := b.Model(b.Linear("fc2", x, 10))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"scale", "var", "bias", "mean"} {
		v := onnxio.NewTensor(onnxio.Float, 16)
		for i := range v.Float32s() {
			v.Float32s()[i] = float32(len(name) % 4 % 3 % 2)
		}
		v.Name = name
		m.Graph.Initializers = append(m.Graph.Initializers, v)
	}
	last := m.Graph.Nodes[len(m.Graph.Nodes)-1]
	norm := &onnxio.Node{Name: "norm", OpType: "BatchNormalization", Inputs: []string{last.Inputs[0], "scale",
		"bias", "mean", "var"}, Outputs: []string{"normed"}}
	last.Inputs[0] = "normed"
	m.Graph.Nodes = append(m.Graph.Nodes[:len(m.Graph.Nodes)-1], norm, last)
	return m
}

// Trainers make steps on parts of any size: the loss and the gradients are those of all images.
func TestTrainerOnRanks(t *testing.T) {
	ds := small(t, 400, 10).Train
	batch := func(from, to int) (x, target *onnxio.Tensor) {
		x, target = NewBatch(ds.Shape(), to-from)
		if err := ds.Fill(x, target, data.Sequence(ds.Len())[from:to]); err != nil {
			t.Fatal(err)
		}
		return x, target
	}
	train := func(c Comm, lo, hi int) (losses []float64, grads map[string]*onnxio.Tensor, err error) {
		m := lenet(t)
		if c != nil && c.Rank() > 0 { // it starts from rank 0's
			clear(m.Graph.Initializers[0].Float32s())
		}
		tr, err := NewTrainer(m, Config{Optimizer: "sgd", LR: 0.05, Threads: 1, Comm: c})
		if err != nil {
			return nil, nil, err
		}
		defer tr.Close()
		for i := range 5 {
			x, target := batch(i*16+lo, i*16+hi)
			loss, err := tr.Step(t.Context(), x, target)
			if err != nil {
				return nil, nil, err
			}
			losses = append(losses, loss)
		}
		return losses, tr.Gradients(), nil
	}
	want, grads, err := train(nil, 0, 16)
	if err != nil {
		t.Fatal(err)
	}
	_, comms := newHub(2)
	for rank, err := range eachRank(comms, func(c Comm) error {
		losses, got, err := train(c, c.Rank()*10, 10+c.Rank()*6)
		if err != nil {
			return err
		}
		for i := range want {
			if math.Abs(losses[i]-want[i]) > 1e-6 {
				return fmt.Errorf("step %d: loss %v, of one rank %v", i, losses[i], want[i])
			}
		}
		for name, g := range grads {
			if off := farthest(got[name].Float32s(), g.Float32s()); off > 1e-6 {
				return fmt.Errorf("gradient of %q is off by %v", name, off)
			}
		}
		return nil
	}) {
		if err != nil {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}

// Gradients are posted while the backward pass runs: of a ResNet-18, whose last layers have most of the
// weights, half of them before a third of its steps.
func TestGradientsAreOnTheirWayEarly(t *testing.T) {
	m, err := builders.Build("resnet18", builders.Config{Input: [3]int{3, 32, 32}, Classes: 10})
	if err != nil {
		t.Fatal(err)
	}
	_, comms := newHub(2)
	for rank, err := range eachRank(comms, func(c Comm) error {
		tr, err := NewTrainer(m, Config{Optimizer: "sgd", LR: 0.05, Threads: 1, Comm: c})
		if err != nil {
			return err
		}
		defer tr.Close()
		x, target := NewBatch([3]int{3, 32, 32}, 2)
		if _, err := tr.Step(t.Context(), x, target); err != nil {
			return err
		}
		first, end := 0, 0 // of the backward pass
		var posts []int
		for i, step := range tr.trainer.Plan().Steps() {
			switch {
			case step.Kernel == "post gradients":
				posts = append(posts, i)
			case step.Kernel == "wait for gradients":
				end = i
			case step.Kernel == "gather gradients" && first == 0:
				first = i
			}
		}
		if len(posts) < 6 || (posts[len(posts)/2]-first)*3 > end-first {
			return fmt.Errorf("posts at %v of steps %d to %d", posts, first, end)
		}
		return nil
	}) {
		if err != nil {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}

// alone is an exchange of one process; agrees says that its gradients keep their packed forms.
type alone struct{ agrees bool }

func (alone) Part() (first, images, total int)    { return 0, 4, 4 }
func (alone) Post([]float32)                      {}
func (alone) Wait() error                         { return nil }
func (alone) Sum([]float32) error                 { return nil }
func (a alone) Same(uint64) (agree bool, _ error) { return a.agrees, nil }

// Gradients that go through an exchange, packed or plain, are the same bits as those that do not.
func TestExchangedForms(t *testing.T) {
	graph, _, err := TrainingGraph(blockNet(t), LossAuto)
	if err != nil {
		t.Fatal(err)
	}
	train := func(x engine.Exchange) []float32 {
		update, err := Config{Epochs: 1, Batch: 4, Optimizer: "adam", LR: 1e-2}.Rule()
		if err != nil {
			t.Fatal(err)
		}
		tr, err := engine.NewTrainer(graph, engine.TrainOptions{Loss: LossName, Update: update, Exchange: x})
		if err != nil {
			t.Fatal(err)
		}
		ds := small(t, 40, 10).Train
		for i := range 5 {
			in, target := NewBatch(ds.Shape(), 4)
			if err := ds.Fill(in, target, data.Sequence(40)[4*i:4*i+4]); err != nil {
				t.Fatal(err)
			}
			if err := tr.Step(t.Context(), map[string]*onnxio.Tensor{graph.Graph.Inputs[0].Name: in,
				TargetName: target}); err != nil {
				t.Fatal(err)
			}
		}
		end := withOwnInitializers(graph)
		if err := tr.Export(end); err != nil {
			t.Fatal(err)
		}
		return weights(t, end)
	}
	want := train(nil)
	for _, agrees := range []bool{true, false} {
		if !slices.Equal(train(alone{agrees}), want) {
			t.Errorf("forms agree %v: other weights than without an exchange", agrees)
		}
	}
}
