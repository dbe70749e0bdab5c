package onnxgo_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/onnxgo"
	"github.com/cnnkit/cnnkit/runtime/verify"
)

// file is a built network's model file.
func file(t *testing.T, network string, cfg builders.Config) string {
	t.Helper()
	m, err := builders.Build(network, cfg)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), network+".onnx")
	if err := onnxio.Save(path, m); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, path string, e runtime.Engine) runtime.Session {
	t.Helper()
	s, err := runtime.Open(path, runtime.WithEngine(e))
	if err != nil {
		t.Fatalf("%s: %v", e, err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func random(t *testing.T, s runtime.Session, batch int64, seed uint64) map[string]*onnxio.Tensor {
	t.Helper()
	in, err := verify.Random(s.Inputs(), batch, seed)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// Both engines give one answer to 1e-5 of log-probabilities of about 2: some forty units in the last place,
// for sums of up to 1152 products in another order. One session answers batches of several sizes.
func TestAgreesWithTheNativeEngine(t *testing.T) {
	for _, tt := range []struct {
		network string
		cfg     builders.Config
	}{
		{"lenet5", builders.Config{Seed: 1}},
		{"lenet5", builders.Config{Seed: 2, Input: [3]int{3, 32, 40}, Classes: 7, Opset: 13}},
		{"minivgg", builders.Config{Seed: 1}},
		{"minivgg", builders.Config{Seed: 2, Input: [3]int{3, 32, 32}, Classes: 12, Opset: 21}},
	} {
		t.Run(fmt.Sprintf("%s %v", tt.network, tt.cfg.Input), func(t *testing.T) {
			path := file(t, tt.network, tt.cfg)
			native, witness := open(t, path, runtime.Native), open(t, path, runtime.OnnxGo)
			if witness.Engine() != runtime.OnnxGo {
				t.Fatalf("the engine is %s", witness.Engine())
			}
			for _, batch := range []int64{1, 3} {
				e := verify.New(1e-5, native, witness)
				if err := e.Run(context.Background(), random(t, native, batch, uint64(batch))); err != nil {
					t.Fatalf("batch %d: %v", batch, err)
				}
				if !e.OK() {
					t.Errorf("batch %d: %+v", batch, e.Pairs[0])
				}
			}
		})
	}
}

// What Run gives is the caller's, and what it is given stays as it is.
func TestRunLeavesItsInputAlone(t *testing.T) {
	s := open(t, file(t, "lenet5", builders.Config{}), runtime.OnnxGo)
	in := random(t, s, 3, 1)
	given := slices.Clone(in["input"].Float32s())
	var answers [2][]float32
	for i := range answers {
		out, err := s.Run(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		y := out["output"]
		if y.Name != "output" || !slices.Equal(y.Dims, []int64{3, 10}) {
			t.Errorf("the output is %q %v", y.Name, y.Dims)
		}
		answers[i] = slices.Clone(y.Float32s())
		clear(y.Float32s())
	}
	if !slices.Equal(answers[0], answers[1]) {
		t.Errorf("two answers to one question:\n%v\n%v", answers[0], answers[1])
	}
	if !slices.Equal(in["input"].Float32s(), given) {
		t.Error("the input has changed")
	}
}

// Calls of different batches at once get the answers that they get one by one.
func TestConcurrentRun(t *testing.T) {
	for _, network := range []string{"lenet5", "minivgg"} {
		t.Run(network, func(t *testing.T) {
			s := open(t, file(t, network, builders.Config{Seed: 3}), runtime.OnnxGo)
			var wg sync.WaitGroup
			for i := range 4 {
				in := random(t, s, int64(1+i%3), uint64(i))
				want, err := s.Run(context.Background(), in)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 {
					wg.Go(func() {
						got, err := s.Run(context.Background(), in)
						if err != nil {
							t.Errorf("call %d: %v", i, err)
						} else if !slices.Equal(got["output"].Float32s(), want["output"].Float32s()) {
							t.Errorf("call %d has another answer when others run beside it", i)
						}
					})
				}
			}
			wg.Wait()
		})
	}
}

// layers makes a network of one input [N,2,6,6].
func layers(t *testing.T, f func(b *builders.Builder, x builders.Value) builders.Value) *onnxio.Model {
	t.Helper()
	b := builders.New("net", 17, 0, 2, 6, 6)
	m, err := b.Model(f(b, b.Input()))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Opening refuses what onnx-go cannot run, by the operator's and the node's name.
func TestUnsupportedOperator(t *testing.T) {
	scope := func(f func(b *builders.Builder, x builders.Value) builders.Value) *onnxio.Model {
		return layers(t, func(b *builders.Builder, x builders.Value) builders.Value {
			return f(b.Scope("block"), x)
		})
	}
	foreign := layers(t, func(b *builders.Builder, x builders.Value) builders.Value {
		return b.ReLU("relu", x)
	})
	foreign.Graph.Nodes[0].Domain = "com.example"
	for _, tt := range []struct {
		op, node string
		model    *onnxio.Model
	}{
		{"ConvTranspose", "block/up", scope(func(b *builders.Builder, x builders.Value) builders.Value {
			return b.ConvTranspose2d("up", x, 3, 2)
		})},
		{"LeakyRelu", "block/leaky", scope(func(b *builders.Builder, x builders.Value) builders.Value {
			return b.LeakyReLU("leaky", x, 0.1)
		})},
		{"AveragePool", "block/pool", scope(func(b *builders.Builder, x builders.Value) builders.Value {
			return b.AvgPool2d("pool", x, 2)
		})},
		{"GlobalMaxPool", "block/pool", scope(func(b *builders.Builder, x builders.Value) builders.Value {
			return b.GlobalMaxPool2d("pool", x)
		})},
		{"Relu", "relu", foreign}, // of another domain it is another operator
	} {
		t.Run(tt.op, func(t *testing.T) {
			_, err := onnxgo.Open(tt.model)
			var unsupported *onnxio.UnsupportedError
			if !errors.As(err, &unsupported) {
				t.Fatalf("%v", err)
			}
			if unsupported.Op != tt.op || unsupported.Node != tt.node ||
				!strings.Contains(err.Error(), tt.op) {
				t.Errorf("%v: names %q and %q, want %q and %q", err, unsupported.Op, unsupported.Node,
					tt.op, tt.node)
			}
		})
	}
	path := file(t, "unet", builders.Config{Width: 2, Depth: 1, Input: [3]int{1, 4, 4}})
	_, err := runtime.Open(path, runtime.WithEngine(runtime.OnnxGo))
	var unsupported *onnxio.UnsupportedError
	if !errors.As(err, &unsupported) || unsupported.Op != "ConvTranspose" ||
		!strings.Contains(err.Error(), path) {
		t.Errorf("through a session: %v", err)
	}
}

// onnx-go gets models of one input and one output.
func TestUnsupportedModel(t *testing.T) {
	relu := func(b *builders.Builder, x builders.Value) builders.Value { return b.ReLU("relu", x) }
	two := layers(t, relu)
	two.Graph.Inputs = append(two.Graph.Inputs, onnxio.TensorInfo("second", onnxio.Float))
	both := layers(t, relu)
	both.Graph.Outputs = append(both.Graph.Outputs, onnxio.TensorInfo("input", onnxio.Float))
	none := layers(t, relu)
	none.Graph.Inputs = nil
	for name, m := range map[string]*onnxio.Model{"two inputs": two, "two outputs": both, "no input": none} {
		var unsupported *onnxio.UnsupportedError
		if _, err := onnxgo.Open(m); !errors.As(err, &unsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An initializer that is listed among the inputs, as IR version 3 had it, is no second one.
	old := layers(t, func(b *builders.Builder, x builders.Value) builders.Value {
		return b.Conv2d("conv", x, 3, 3)
	})
	old.Graph.Inputs = append(old.Graph.Inputs, onnxio.TensorInfo("conv.weight", onnxio.Float))
	if _, err := onnxgo.Open(old); err != nil {
		t.Errorf("an initializer among the inputs: %v", err)
	}
}

// Each operator of the two networks and some more, one at a time and with a batch of one and of three.
func TestOperators(t *testing.T) {
	for name, f := range map[string]func(b *builders.Builder, x builders.Value) builders.Value{
		"Conv": func(b *builders.Builder, x builders.Value) builders.Value {
			return b.Conv2d("conv", x, 3, 3)
		},
		"Conv pad": func(b *builders.Builder, x builders.Value) builders.Value {
			return b.Conv2d("conv", x, 3, 3, builders.Pad(1))
		},
		"Relu": func(b *builders.Builder, x builders.Value) builders.Value { return b.ReLU("relu", x) },
		"Sigmoid": func(b *builders.Builder, x builders.Value) builders.Value {
			return b.Sigmoid("sigmoid", x)
		},
		"Tanh": func(b *builders.Builder, x builders.Value) builders.Value { return b.Tanh("tanh", x) },
		"MaxPool": func(b *builders.Builder, x builders.Value) builders.Value {
			return b.MaxPool2d("pool", x, 2)
		},
		"BatchNorm": func(b *builders.Builder, x builders.Value) builders.Value {
			return b.BatchNorm2d("bn", x)
		},
		"Add": func(b *builders.Builder, x builders.Value) builders.Value {
			return b.Add("add", x, b.ReLU("relu", x))
		},
		"Mul": func(b *builders.Builder, x builders.Value) builders.Value {
			return b.Mul("mul", x, b.ReLU("relu", x))
		},
		"Scale": func(b *builders.Builder, x builders.Value) builders.Value {
			return b.Scale("scale", x, 0.125)
		},
		"Concat": func(b *builders.Builder, x builders.Value) builders.Value {
			return b.Concat("cat", x, b.ReLU("relu", x))
		},
		"Global": func(b *builders.Builder, x builders.Value) builders.Value {
			return b.GlobalAvgPool2d("pool", x)
		},
		"Gemm": func(b *builders.Builder, x builders.Value) builders.Value {
			return b.Linear("fc", b.Flatten("flat", x), 5)
		},
		"Softmax": func(b *builders.Builder, x builders.Value) builders.Value {
			return b.Softmax("s", b.Flatten("flat", x))
		},
		"LogSoftmax": func(b *builders.Builder, x builders.Value) builders.Value {
			return b.LogSoftmax("s", b.Flatten("flat", x))
		},
	} {
		t.Run(name, func(t *testing.T) {
			agrees(t, layers(t, f))
		})
	}
}

// agrees compares onnx-go with the native engine on a model, for two sizes of the batch; 1e-5 is
// for sums in another order.
func agrees(t *testing.T, m *onnxio.Model) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.onnx")
	if err := onnxio.Save(path, m); err != nil {
		t.Fatal(err)
	}
	native, witness := open(t, path, runtime.Native), open(t, path, runtime.OnnxGo)
	for _, batch := range []int64{1, 3} {
		e := verify.New(1e-5, native, witness)
		if err := e.Run(context.Background(), random(t, native, batch, 1)); err != nil {
			t.Errorf("batch %d: %v", batch, err)
		} else if !e.OK() {
			t.Errorf("batch %d: %+v", batch, e.Pairs[0])
		}
	}
}
