package train

import (
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
)

// linear is a Gemm of 6 inputs and 4 classes with apart.py's weights.
func linear() *onnxio.Model {
	w, b := onnxio.NewTensor(onnxio.Float, 4, 6), onnxio.NewTensor(onnxio.Float, 4)
	w.Name, b.Name = "fc.weight", "fc.bias"
	copy(w.Float32s(), uniform(24, 1))
	copy(b.Float32s(), uniform(4, 2))
	n := onnxio.Dim{Param: "N"}
	return &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: &onnxio.Graph{Name: "g",
		Inputs:       []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, n, onnxio.Dim{Value: 6})},
		Outputs:      []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float, n, onnxio.Dim{Value: 4})},
		Initializers: []*onnxio.Tensor{w, b},
		Nodes: []*onnxio.Node{{Name: "fc", OpType: "Gemm", Inputs: []string{"x", "fc.weight", "fc.bias"},
			Outputs: []string{"y"},
			Attrs:   []*onnxio.Attribute{onnxio.IntAttr("transB", 1)}}}}}
}

// Gathered and clipped gradients, and groups, make PyTorch's steps: within 1e-5 of its weights in
// float64 after 24 batches.
func TestGroupsAndStepsApartFollowPyTorch(t *testing.T) {
	var cases []struct {
		Config       Config
		Weight, Bias []float64
	}
	readJSON(t, "apart.json", &cases)
	for i, c := range cases {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			c.Config.Epochs, c.Config.Batch = 1, 5
			tr, err := NewTrainer(linear(), c.Config)
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			x, target := onnxio.NewTensor(onnxio.Float, 5, 6), onnxio.NewTensor(onnxio.Int64, 5)
			for batch := range 24 {
				copy(x.Float32s(), uniform(30, uint64(100+batch)))
				for j := range 5 {
					onnxio.Data[int64](target)[j] = int64((j + batch) % 4)
				}
				if _, err := tr.Step(t.Context(), x, target); err != nil {
					t.Fatal(err)
				}
			}
			m, err := tr.Export()
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string][]float64{"fc.weight": c.Weight, "fc.bias": c.Bias} {
				for j, w := range want {
					if got := float64(m.Graph.Initializer(name).Float32s()[j]); !(math.Abs(got-w) <= 1e-5) {
						t.Fatalf("%s[%d] is %v, PyTorch has %v", name, j, got, w)
					}
				}
			}
		})
	}
}

// Batches of unequal sizes count by their images: two of 32 and 16 make the step of one of 48, to rounding.
func TestGatheredBatchesAreOneLargeBatch(t *testing.T) {
	weights := func(batch, accumulate int) []float32 {
		cfg := Config{Epochs: 1, Batch: batch, Accumulate: accumulate, Optimizer: "sgd", LR: 0.1,
			ClipNorm: 1e9}
		splits := small(t, 48, 10)
		m := lenet(t)
		if _, err := Run(t.Context(), m, splits, cfg, "", Observer{}); err != nil {
			t.Fatal(err)
		}
		return m.Graph.Initializer("fc1.weight").Float32s()
	}
	a, b := weights(48, 1), weights(32, 2)
	for i := range a {
		if d := math.Abs(float64(a[i] - b[i])); !(d <= 1e-6) {
			t.Fatalf("weight %d is %v in one batch, %v in two", i, a[i], b[i])
		}
	}
}

// Frozen parameters keep their bits, and the others move.
func TestFrozenGroup(t *testing.T) {
	m, first := lenet(t), lenet(t)
	cfg := Config{Epochs: 1, Batch: 32, Optimizer: "adam", LR: 1e-2, EMA: 0.5,
		Groups: []Group{{Params: "conv*", Freeze: true}}}
	if _, err := Run(t.Context(), m, small(t, 64, 10), cfg, t.TempDir(), Observer{}); err != nil {
		t.Fatal(err)
	}
	for _, w := range first.Graph.Initializers {
		got := m.Graph.Initializer(w.Name)
		same := true
		for i, v := range w.Float32s() {
			same = same && v == got.Float32s()[i]
		}
		if frozen := w.Name[:4] == "conv"; same != frozen {
			t.Errorf("%s: the same is %v", w.Name, same)
		}
	}
}

func TestRoles(t *testing.T) {
	m, err := builders.Build("resnet", builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
	role := roles(m)
	for name, want := range map[string]string{"conv.weight": "", "bn.weight": "norm", "bn.bias": "norm",
		"fc.bias": "bias", "fc.weight": ""} {
		if m.Graph.Initializer(name) == nil {
			t.Errorf("no %s", name)
		}
		if role[name] != want {
			t.Errorf("%s is %q, not %q", name, role[name], want)
		}
	}
	if m, err = builders.Build("vit_b_16", builders.Config{Input: [3]int{3, 32, 32}}); err != nil {
		t.Fatal(err)
	}
	ofTokens := roles(m)
	for _, name := range builders.ParameterNames(m) {
		want := ""
		switch norm := strings.Contains(name, "ln"); {
		case norm:
			want = "norm"
		case strings.HasSuffix(name, "bias"):
			want = "bias"
		}
		if ofTokens[name] != want {
			t.Errorf("%s is %q, not %q", name, ofTokens[name], want)
		}
	}
	spelled := roles(&onnxio.Model{Graph: &onnxio.Graph{
		Initializers: []*onnxio.Tensor{named("w", 4, 1, 1), named("b", 4, 1, 1), named("v", 8), named("c", 8),
			named("eps"), named("table", 3, 8), named("linear", 8, 8), named("add", 8)},
		Nodes: []*onnxio.Node{ // GroupNorm, then LayerNorm, as torch.onnx writes them
			nodeOf("Reshape", "a", "x", "shape"), nodeOf("InstanceNormalization", "n", "a", "one", "zero"),
			nodeOf("Reshape", "r", "n", "shape"), nodeOf("Mul", "m", "r", "w"), nodeOf("Add", "g", "m", "b"),
			nodeOf("Mul", "sq", "g", "g"), nodeOf("ReduceMean", "var", "sq"), nodeOf("Add", "more", "var", "eps"),
			nodeOf("Sqrt", "std", "more"), nodeOf("Div", "d", "g", "std"), nodeOf("Mul", "dm", "v", "d"),
			nodeOf("Add", "l", "dm", "c"), nodeOf("Add", "placed", "l", "table"),
			nodeOf("MatMul", "p", "placed", "linear"), nodeOf("Add", "y", "add", "p")}}})
	if want := map[string]string{"one": "norm", "zero": "norm", "w": "norm", "b": "norm", "v": "norm", "c": "norm",
		"add": "bias"}; !maps.Equal(spelled, want) {
		t.Errorf("%v, not %v", spelled, want)
	}
	c := Config{Groups: []Group{{Params: "layer1", LRScale: new(2.0)}, {Params: "norm", LRScale: new(3.0)}}}
	for name, want := range map[string]float64{"layer1.0.bn1.weight": 2, "bn.bias": 3, "fc.weight": 1} {
		if got := value(c.group(name, role[name]).LRScale, 1); got != want {
			t.Errorf("%s is in group %v, not %v", name, got, want)
		}
	}
}

func nodeOf(op, out string, in ...string) *onnxio.Node {
	return &onnxio.Node{OpType: op, Inputs: in, Outputs: []string{out}}
}

func named(name string, dims ...int64) *onnxio.Tensor {
	t := onnxio.NewTensor(onnxio.Float, dims...)
	t.Name = name
	return t
}
