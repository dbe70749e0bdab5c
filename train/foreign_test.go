package train

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
)

const foreign = "../testdata/foreign"

// foreignCase is what PyTorch or Keras made of a graph of testdata/foreign.
type foreignCase struct {
	Answer []float32 `json:"answer"`
	Losses []float64 `json:"losses"`
}

func foreignCases(t *testing.T) map[string]foreignCase {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(foreign, "losses.json"))
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

// Graphs of other exporters train as their framework trains them where BatchNormalization was kept, and learn where it was
// folded; every parameter moves, also those that are only added, multiplied or joined.
func TestForeignGraphsTrain(t *testing.T) {
	for name, c := range foreignCases(t) {
		t.Run(name, func(t *testing.T) {
			m, err := onnxio.Load(filepath.Join(foreign, name+".onnx"))
			if err != nil {
				t.Fatal(err)
			}
			tr, err := NewTrainer(m, Config{Optimizer: "sgd", LR: 0.05, Momentum: 0.9, Threads: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			var losses []float64
			for step := range 50 {
				x, target := foreignBatch(step)
				if strings.HasPrefix(name, "keras") {
					x.Dims = []int64{8, 16, 16, 3}
				}
				loss, err := tr.Step(context.Background(), x, target)
				if err != nil {
					t.Fatal(err)
				}
				losses = append(losses, loss)
			}
			if strings.HasSuffix(name, "-kept") {
				for i, loss := range losses {
					if math.Abs(loss-c.Losses[i]) > 1e-3 {
						t.Fatalf("step %d: loss %v, PyTorch's %v", i+1, loss, c.Losses[i])
					}
				}
			} else if mean(losses[40:]) > 0.8*mean(losses[:10]) {
				t.Errorf("the loss does not fall: %v", losses)
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
		})
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
	for name, want := range map[string]int{"tokens-torchscript-kept": 18, "tokens-dynamo-kept": 18, "tokens-torchscript-folded": 16,
		"tokens-dynamo-folded": 16, "residual-torchscript-kept": 11, "residual-dynamo-folded": 8, "keras-tf2onnx": 8} {
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
