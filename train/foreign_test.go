package train

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/convert/recover"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
)

const foreign = "../testdata/foreign"

// foreignCase is what PyTorch or Keras made of a graph of testdata/foreign.
type foreignCase struct {
	Answer []float32 `json:"answer"`
	Losses []float64 `json:"losses"`
}

func foreignCases(t *testing.T, folder string) map[string]foreignCase {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(folder, "losses.json"))
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]foreignCase{}
	if err := json.Unmarshal(raw, &cases); err != nil || len(cases) < 9 {
		t.Fatalf("%d cases: %v", len(cases), err)
	}
	return cases
}

// foreignBatch is foreign.py's batch.
func foreignBatch(step int) (x, target *onnxio.Tensor) {
	const n = 8 * 3 * 16 * 16
	x, target = onnxio.NewTensor(onnxio.Float, 8, 3, 16, 16), onnxio.NewTensor(onnxio.Int64, 8)
	for i := range x.Float32s() {
		y := i / (3 * 16 * 16) * 3 % 5
		x.Float32s()[i] = float32(float64((i+step%4*n)*7919%1009)/1009-0.5) + float32(y)*0.125
		onnxio.Data[int64](target)[i/(3*16*16)] = int64(y)
	}
	return x, target
}

// Graphs of other exporters train as their framework trains them where BatchNormalization was kept, and learn
// where it was folded; every parameter moves, also those that are only added, multiplied or joined.
func TestForeignGraphsTrain(t *testing.T) {
	for name, c := range foreignCases(t, foreign) {
		t.Run(name, func(t *testing.T) {
			trainForeign(t, filepath.Join(foreign, name+".onnx"), c, 0.05, foreignBatch)
		})
	}
}

// networks gives the folder of what testdata/foreign/networks.py exports, and its batches.
func networks(t *testing.T) (folder string, batch func(step int) (x, target *onnxio.Tensor)) {
	folder = os.Getenv("CNNKIT_FOREIGN")
	if folder == "" {
		t.Skip("CNNKIT_FOREIGN is not set: testdata/foreign/peers.sh sets it")
	}
	batches, err := convert.Load(filepath.Join(folder, "batches.pth"))
	if err != nil {
		t.Fatal(err)
	}
	return folder, func(step int) (x, target *onnxio.Tensor) {
		return batches.Get(fmt.Sprint("x", step%4)), batches.Get(fmt.Sprint("y", step%4))
	}
}

// networksRate is LR of networks.py. Without BatchNormalization EfficientNet-B0 diverges at it.
const networksRate, foldedRate = 0.005, 0.0005

// The same of torchvision's networks.
func TestForeignNetworks(t *testing.T) {
	folder, batch := networks(t)
	for name, c := range foreignCases(t, folder) {
		t.Run(name, func(t *testing.T) {
			rate := networksRate
			if strings.HasSuffix(name, "-folded") {
				rate = foldedRate
			}
			trainForeign(t, filepath.Join(folder, name+".onnx"), c, rate, batch)
		})
	}
}

// Torchvision's networks whose BatchNormalizations were folded get them and their names back, and learn.
func TestUnfoldedNetworks(t *testing.T) {
	folder, batch := networks(t)
	for name := range foreignCases(t, folder) {
		if !strings.HasSuffix(name, "-folded") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			m, err := onnxio.Load(filepath.Join(folder, name+".onnx"))
			if err != nil {
				t.Fatal(err)
			}
			arch, _, _ := strings.Cut(name, "-")
			x, _ := batch(0)
			like, err := builders.Build(arch, builders.Config{Classes: 5,
				Input: [3]int{int(x.Dims[1]), int(x.Dims[2]), int(x.Dims[3])}})
			if err != nil {
				t.Fatal(err)
			}
			sd, report, err := recover.Weights(m, like)
			if err != nil || len(report.Unfolded) == 0 {
				t.Fatal(report, err)
			}
			if _, err := convert.Apply(like, sd, convert.ApplyOptions{Strict: true}); err != nil {
				t.Fatal(err)
			}
			tr, err := NewTrainer(like, Config{Optimizer: "sgd", LR: networksRate, Momentum: 0.9, Threads: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			falls(t, taken(t, tr, batch))
		})
	}
}

// taken are the losses of 50 steps.
func taken(t *testing.T, tr *Trainer, batch func(step int) (x, target *onnxio.Tensor)) []float64 {
	t.Helper()
	var losses []float64
	for step := range 50 {
		x, target := batch(step)
		loss, err := tr.Step(context.Background(), x, target)
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, loss)
	}
	return losses
}

// falls reports a loss that does not.
func falls(t *testing.T, losses []float64) {
	t.Helper()
	if from, to := mean(losses[:10]), mean(losses[40:]); !(to <= 0.8*from) {
		t.Errorf("the loss does not fall: %v", losses)
	} else {
		t.Logf("the loss falls from %.3f to %.3f", from, to)
	}
}

// trainForeign takes 50 steps and compares the losses.
func trainForeign(t *testing.T, path string, c foreignCase, lr float64,
	batch func(step int) (x, target *onnxio.Tensor)) {
	m, err := onnxio.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := NewTrainer(m, Config{Optimizer: "sgd", LR: lr, Momentum: 0.9, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	keras := strings.HasPrefix(filepath.Base(path), "keras")
	losses := taken(t, tr, func(step int) (x, target *onnxio.Tensor) {
		if x, target = batch(step); keras {
			x.Dims = []int64{8, 16, 16, 3}
		}
		return x, target
	})
	if strings.HasSuffix(path, "-kept.onnx") {
		far := 0.0
		for step, loss := range losses {
			far = max(far, math.Abs(loss-c.Losses[step]))
		}
		if !(far <= 1e-3) {
			t.Errorf("losses are up to %.2g from PyTorch's:\n%v\n%v", far, losses, c.Losses)
		} else {
			t.Logf("losses are up to %.2g from PyTorch's", far)
		}
	} else {
		falls(t, losses)
	}
	after, err := tr.Export()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tr.Params() {
		if slices.Equal(m.Graph.Initializer(name).Raw, after.Graph.Initializer(name).Raw) {
			t.Errorf("%q has not moved", name)
		}
	}
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// What is a weight follows from its use.
func TestForeignWeights(t *testing.T) {
	for name, want := range map[string]int{"tokens-torchscript-kept": 18, "tokens-dynamo-kept": 18,
		"tokens-torchscript-folded": 16,
		"tokens-dynamo-folded":      16, "residual-torchscript-kept": 11, "residual-dynamo-folded": 8,
		"rounded-torchscript-kept": 6, "keras-tf2onnx": 8} {
		m, err := onnxio.Load(filepath.Join(foreign, name+".onnx"))
		if err != nil {
			t.Fatal(err)
		}
		names, err := engine.Trainable(m)
		if err != nil || len(names) != want {
			t.Errorf("%s: %d weights, want %d: %v %v", name, len(names), want, names, err)
		}
	}
}
