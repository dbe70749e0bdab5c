package builders_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/ort"
	"github.com/cnnkit/cnnkit/runtime/verify"
)

// residualNets are small networks of residual blocks, without stochastic depth.
var residualNets = map[string]builders.Config{
	"resnet":   {Blocks: []int{1, 2, 1}, Width: 8},
	"resnet20": {Blocks: []int{1, 2, 1}, Width: 8},
	"resnet18": {Blocks: []int{1, 1, 1, 1}, Width: 8, Input: [3]int{3, 32, 32}, Classes: 10},
}

func built(t *testing.T, name string, cfg builders.Config) *onnxio.Model {
	t.Helper()
	m, err := builders.Build(name, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := check.Model(m); err != nil {
		t.Error(err)
	}
	return m
}

// The probabilities rise linearly over all blocks; weights and their names are those of the network without.
func TestStochasticDepthOfNetworks(t *testing.T) {
	for name, cfg := range residualNets {
		t.Run(name, func(t *testing.T) {
			plain := built(t, name, cfg)
			cfg.StochasticDepth = 0.4
			deep := built(t, name, cfg)
			var ratios []float32
			for _, n := range deep.Graph.Nodes {
				if n.OpType == "Dropout" {
					ratios = append(ratios, deep.Graph.Initializer(n.Inputs[1]).Float32s()[0])
				}
			}
			if want := []float32{0.1, 0.2, 0.3, 0.4}; !slices.EqualFunc(ratios, want,
				func(a, b float32) bool { return math.Abs(float64(a-b)) < 1e-7 }) {
				t.Errorf("the probabilities are %v, want %v", ratios, want)
			}
			same := func(a, b *onnxio.Tensor) bool {
				return a.Name == b.Name && string(a.Raw) == string(b.Raw)
			}
			if !slices.EqualFunc(stateDict(deep), stateDict(plain), same) {
				t.Error("the state dict is another one")
			}
			if _, got, ok := builders.Arch(deep); !ok || got.StochasticDepth != 0.4 {
				t.Errorf("the model records %+v", got)
			}
		})
	}
}

// plan is what the native engine makes of a model: its steps, and its output to the bit.
func plan(t *testing.T, m *onnxio.Model, in map[string]*onnxio.Tensor) (steps, output string) {
	t.Helper()
	p, err := engine.Compile(m, engine.Options{Dims: map[string]int64{"N": in["input"].Dims[0]}})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Steps() {
		steps += fmt.Sprintln(s.Op, s.Name, s.Kernel, s.Shape, s.Layout, s.Chunks)
	}
	out, err := p.Run(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	return steps, string(out["output"].Raw)
}

// In inference nothing of stochastic depth is left: the plan has the same steps, and the output
// the same bits, as without.
func TestStochasticDepthIsNothingInInference(t *testing.T) {
	for name, cfg := range residualNets {
		for _, opset := range []int64{builders.MinOpset, 17, builders.MaxOpset} {
			t.Run(fmt.Sprintf("%s/%d", name, opset), func(t *testing.T) {
				cfg.Opset = opset
				in := map[string]*onnxio.Tensor{"input": onnxio.NewTensor(onnxio.Float, 3, 3, 32, 32)}
				uniform(in["input"].Float32s(), 9, func(u float64) float64 { return u })
				wantSteps, want := plan(t, built(t, name, cfg), in)
				cfg.StochasticDepth = 0.5
				steps, got := plan(t, built(t, name, cfg), in)
				if steps != wantSteps {
					t.Errorf("the plan is\n%swithout stochastic depth it is\n%s", steps, wantSteps)
				}
				if got != want {
					t.Error("the output has other bits")
				}
			})
		}
	}
}

// ONNX Runtime gives what the native engine gives, to 1e-5, which is sums in another order.
func TestStochasticDepthInONNXRuntime(t *testing.T) {
	if err := ort.Available(); err != nil {
		t.Skipf("without ONNX Runtime: %v", err)
	}
	for name, cfg := range residualNets {
		t.Run(name, func(t *testing.T) {
			cfg.StochasticDepth = 0.5
			m := built(t, name, cfg)
			var sessions []runtime.Session
			for _, e := range []runtime.Engine{runtime.Native, runtime.ORT} {
				s, err := runtime.OpenModel(m, runtime.WithEngine(e))
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				sessions = append(sessions, s)
			}
			for _, batch := range []int64{1, 3} {
				in, err := verify.Random(sessions[0].Inputs(), batch, 5)
				if err != nil {
					t.Fatal(err)
				}
				e := verify.New(1e-5, sessions...)
				if err := e.Run(context.Background(), in); err != nil {
					t.Fatal(err)
				}
				if !e.OK() {
					t.Errorf("batch %d: %+v", batch, e.Pairs[0])
				}
			}
		})
	}
}

func TestStochasticDepthRefuses(t *testing.T) {
	for _, p := range []float32{-0.1, 1, 1.5, float32(math.NaN())} {
		b := builders.New("net", 0, 0, 3, 8, 8)
		if _, err := b.Model(b.StochasticDepth("drop", b.ReLU("relu", b.Input()), p)); err == nil ||
			!strings.Contains(err.Error(), "drop: probability") {
			t.Errorf("the layer takes %g: %v", p, err)
		}
		_, err := builders.Build("resnet", builders.Config{StochasticDepth: float64(p)})
		if err == nil || !strings.Contains(err.Error(), "resnet: stochastic_depth: ") {
			t.Errorf("the network takes %g: %v", p, err)
		}
	}
	b := builders.New("net", 0, 0, 3, 8, 8)
	x := b.ReLU("relu", b.Input())
	if y := b.StochasticDepth("drop", x, 0); y.Name != x.Name {
		t.Errorf("with p = 0 there is a node %q", y.Name)
	}
}
