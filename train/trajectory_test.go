package train

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data"
)

// initialise gives the model record.py's initial weights.
func initialise(m *onnxio.Model) {
	norms := map[string]bool{}
	for _, n := range m.Graph.Nodes {
		if n.OpType == "BatchNormalization" {
			for _, name := range n.Inputs[1:] {
				norms[name] = true
			}
		}
	}
	var names []string
	for _, t := range m.Graph.Initializers {
		if t.Type == onnxio.Float && !strings.Contains(t.Name, "running_") {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	for key, name := range names {
		if norms[name] {
			continue
		}
		t := m.Graph.Initializer(name)
		weight := t
		if w := m.Graph.Initializer(strings.Replace(name, ".bias", ".weight", 1)); w != nil {
			weight = w
		}
		bound := float32(1 / math.Sqrt(float64(weight.Size()/weight.Dims[0])))
		for i, v := range uniform(int(t.Size()), uint64(key)) {
			t.Float32s()[i] = v * bound
		}
	}
}

// synthetic is record.py's: image i is half noise of its own, half the pattern of its class i mod 10.
func synthetic(key uint64, x *onnxio.Tensor, labels []int64, first int) {
	per := int(x.Dims[1] * x.Dims[2] * x.Dims[3])
	patterns := uniform(10*per, key)
	for n := range int(x.Dims[0]) {
		class := (first + n) % 10
		if labels != nil {
			labels[n] = int64(class)
		}
		for j, v := range uniform(per, key+1+uint64(first+n)) {
			x.Float32s()[n*per+j] = v*0.5 + patterns[class*per+j]*0.5
		}
	}
}

// From the same weights and batches the trainer follows PyTorch: the loss within 1e-3 relative at every step,
// and at the end each element of each parameter and running statistic within 1e-3 of 1 + |w|.
//
// The settings are calm ones, because training amplifies roundings: at Adam's default rate PyTorch in float32
// leaves PyTorch in float64 by more than 1e-3 within 5 steps of the ResNet and 30 of MiniVGG. The gradients
// that this trainer computes are as near to float64's as PyTorch's float32 are.
func TestTrajectoriesFollowPyTorch(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute: run without -short")
	}
	digits := func(x, target *onnxio.Tensor, first int) {
		s, err := data.Open("mnist")
		if err != nil {
			t.Fatal(err)
		}
		index := data.Sequence(first + int(x.Dims[0]))[first:]
		if err := s.Train.Fill(x, target, index); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		arch   string
		build  builders.Config
		update Config
		fill   func(x, target *onnxio.Tensor, first int)
	}{
		{"lenet5", builders.Config{}, Config{Optimizer: "sgd", LR: 0.01, Momentum: 0.5}, digits},
		{"minivgg", builders.Config{}, Config{Optimizer: "adam", LR: 3e-5}, digits},
		{"resnet", builders.Config{}, Config{Optimizer: "adam", LR: 1.5e-5},
			func(x, target *onnxio.Tensor, first int) {
				synthetic(1000, x, onnxio.Data[int64](target), first)
			}},
		{"unet", builders.Config{Input: [3]int{3, 32, 32}, Width: 8}, Config{Optimizer: "adam", LR: 1e-4},
			func(x, target *onnxio.Tensor, first int) {
				synthetic(9000, x, nil, first)
				foreground(x, target)
			}},
	} {
		t.Run(c.arch, func(t *testing.T) {
			m, err := builders.Build(c.arch, c.build)
			if err != nil {
				t.Fatal(err)
			}
			initialise(m)
			follow(t, m, c.arch, c.update, c.fill)
		})
	}
}

// In bf16 the losses of the first steps are PyTorch's under autocast, from the same weights, as near as
// its own bf16, in which it leaves log-softmax and logits, tells them apart: 0.3% of the ResNet's,
// 0.02% of the U-Net's. Where the processor has no bf16 the trainer runs in float32 and is compared
// with that, as in the test above.
func TestBF16FollowsAutocast(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds: run without -short")
	}
	var record map[string]struct {
		Batch         int
		BF16, Float32 []float64
	}
	readJSON(t, "bf16.json", &record)
	for _, c := range []struct {
		arch  string
		build builders.Config
		lr    float64
		limit float64
	}{{"resnet", builders.Config{}, 1e-4, 3e-3},
		{"unet", builders.Config{Input: [3]int{3, 32, 32}, Width: 32}, 1e-4, 2e-4}} {
		t.Run(c.arch, func(t *testing.T) {
			m, err := builders.Build(c.arch, c.build)
			if err != nil {
				t.Fatal(err)
			}
			initialise(m)
			want, limit := record[c.arch].BF16, c.limit
			if !engine.BF16Runs() {
				want, limit = record[c.arch].Float32, 1e-3
			}
			got := firstLosses(t, m, Config{Epochs: 1, Batch: record[c.arch].Batch, Optimizer: "adam",
				LR: c.lr}, len(want))
			for i, l := range want {
				if rel := math.Abs(got[i]-l) / l; !(rel <= limit) {
					t.Errorf("step %d: loss %v, PyTorch has %v", i+1, got[i], l)
				}
			}
			t.Logf("losses %v, PyTorch's %v", got, want)
		})
	}
}

// firstLosses trains m in bf16 on record.py's images: classes, or masks where m gives maps.
func firstLosses(t *testing.T, m *onnxio.Model, cfg Config, steps int) []float64 {
	t.Helper()
	update, err := cfg.Rule()
	if err != nil {
		t.Fatal(err)
	}
	graph, loss, err := TrainingGraph(m, LossAuto)
	if err != nil {
		t.Fatal(err)
	}
	trainer, err := engine.NewTrainer(graph, engine.TrainOptions{Loss: LossName, Update: update, BF16: true})
	if err != nil {
		t.Fatal(err)
	}
	x, target := NewBatch([3]int{3, 32, 32}, cfg.Batch)
	var losses []float64
	for step := range steps {
		if loss == LossBCE {
			target = onnxio.NewTensor(onnxio.Float, x.Dims[0], 1, 32, 32)
			synthetic(9000, x, nil, step*cfg.Batch)
			foreground(x, target)
		} else {
			synthetic(1000, x, onnxio.Data[int64](target), step*cfg.Batch)
		}
		if err := trainer.Step(context.Background(), map[string]*onnxio.Tensor{"input": x,
			TargetName: target}); err != nil {
			t.Fatal(err)
		}
		losses = append(losses, float64(trainer.Output(LossName).Float32s()[0]))
	}
	return losses
}

// foreground is record.py's mask: where the first of three channels of 32x32 is positive.
func foreground(x, target *onnxio.Tensor) {
	for n := range int(x.Dims[0]) {
		for j := range 1024 {
			target.Float32s()[n*1024+j] = 0
			if x.Float32s()[n*3*1024+j] > 0 {
				target.Float32s()[n*1024+j] = 1
			}
		}
	}
}

// follow trains m as record.py did and compares.
func follow(t *testing.T, m *onnxio.Model, name string, cfg Config, fill func(x, target *onnxio.Tensor,
	first int)) {
	var want struct {
		Batch, Stride int
		Losses        []float64
		Tensors       []string
		Counts        []int
	}
	readJSON(t, name+".json", &want)
	if raw, err := os.ReadFile(filepath.Join(fixtures, name+"-initial.bin")); err == nil {
		for _, key := range want.Tensors {
			values := m.Graph.Initializer(key).Float32s()
			for i := range values {
				values[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
			}
			raw = raw[4*len(values):]
		}
	}
	cfg.Epochs, cfg.Batch = 1, want.Batch
	update, err := cfg.Rule()
	if err != nil {
		t.Fatal(err)
	}
	graph, loss, err := TrainingGraph(m, LossAuto)
	if err != nil {
		t.Fatal(err)
	}
	pool := parallel.New(0)
	defer pool.Close()
	trainer, err := engine.NewTrainer(graph, engine.TrainOptions{Pool: pool, Loss: LossName, Update: update})
	if err != nil {
		t.Fatal(err)
	}
	dims := m.Graph.Inputs[0].Type.Shape
	x, target := NewBatch([3]int{int(dims[1].Value), int(dims[2].Value), int(dims[3].Value)}, want.Batch)
	if loss == LossBCE {
		target = onnxio.NewTensor(onnxio.Float, x.Dims[0], 1, x.Dims[2], x.Dims[3])
	}
	worst := 0.0
	for step, l := range want.Losses {
		fill(x, target, step*want.Batch)
		if err := trainer.Step(context.Background(), map[string]*onnxio.Tensor{"input": x,
			TargetName: target}); err != nil {
			t.Fatal(err)
		}
		got := float64(trainer.Output(LossName).Float32s()[0])
		if rel := math.Abs(got-l) / math.Abs(l); !(rel <= 1e-3) {
			t.Fatalf("step %d: loss %v, PyTorch has %v", step+1, got, l)
		} else {
			worst = max(worst, rel)
		}
	}
	if err := trainer.Export(m); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(fixtures, name+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	farthest := 0.0
	for k, key := range want.Tensors {
		got := m.Graph.Initializer(key)
		if got == nil {
			t.Fatalf("no initializer %s", key)
		}
		values := got.Float32s()
		if (len(values)+want.Stride-1)/want.Stride != want.Counts[k] || len(raw) < 4*want.Counts[k] {
			t.Fatalf("%s has %d elements", key, len(values))
		}
		for i := range want.Counts[k] {
			w := float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])))
			d := math.Abs(float64(values[i*want.Stride])-w) / (1 + math.Abs(w))
			if farthest = max(farthest, d); !(d <= 1e-3) {
				t.Fatalf("%s[%d] is %v, PyTorch has %v", key, i*want.Stride, values[i*want.Stride], w)
			}
		}
		raw = raw[4*want.Counts[k]:]
	}
	t.Logf("losses within %.2g relative, weights and statistics within %.2g of 1 + |w|", worst, farthest)
}
