package builders_test

import (
	"context"
	"encoding/json"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
)

const fixtures = "../testdata/builders/"

func read(t *testing.T, name string, to any) {
	t.Helper()
	data, err := os.ReadFile(fixtures + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, to); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// stateDict is the model's initializers without scalars such as Dropout's ratio.
func stateDict(m *onnxio.Model) []*onnxio.Tensor {
	return slices.DeleteFunc(slices.Clone(m.Graph.Initializers), func(t *onnxio.Tensor) bool {
		return len(t.Dims) == 0
	})
}

// Initializers are the keys of PyTorch's state dict, in its order.
func TestKeysArePyTorchs(t *testing.T) {
	var want map[string]struct {
		Parameters int64
		Keys       [][2]json.RawMessage // name, shape
	}
	read(t, "keys.json", &want)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		t.Run(name, func(t *testing.T) {
			m, err := builders.Outline(name, builders.Config{})
			if err != nil {
				t.Fatal(err)
			}
			if n := builders.Parameters(m); n != want[name].Parameters {
				t.Errorf("%d parameters, want %d", n, want[name].Parameters)
			}
			got := stateDict(m)
			if len(got) != len(want[name].Keys) {
				t.Fatalf("%d tensors, want %d", len(got), len(want[name].Keys))
			}
			for i, k := range want[name].Keys {
				var key string
				var shape []int64
				if err := json.Unmarshal(k[0], &key); err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal(k[1], &shape); err != nil {
					t.Fatal(err)
				}
				if got[i].Name != key || !slices.Equal(got[i].Dims, shape) {
					t.Errorf("tensor %d is %s %v, want %s %v", i, got[i].Name, got[i].Dims, key, shape)
				}
			}
		})
	}
}

// uniform and refill are their namesakes in testdata/builders/gen_outputs.py.
func uniform(data []float32, key uint64, f func(u float64) float64) {
	for i := range data {
		x := uint64(i)*2654435761 + key*40503 + 12345
		for range 2 {
			x &= 0xffffffff
			x = (x ^ x>>16) * 0x45d9f3b & 0xffffffff
		}
		x ^= x >> 16
		data[i] = float32(f(float64(x>>8)/(1<<23) - 1))
	}
}

func refill(m *onnxio.Model, gain float64) {
	for key, t := range stateDict(m) {
		if t.Type != onnxio.Float || strings.HasSuffix(t.Name, "relative_coords_table") {
			continue
		}
		f := func(u float64) float64 { return u / 10 }
		switch {
		case len(t.Dims) > 1:
			scale := math.Sqrt(gain / float64(t.Size()/t.Dims[0]))
			f = func(u float64) float64 { return u * scale }
		case strings.HasSuffix(t.Name, "running_var"):
			f = func(u float64) float64 { return 1 + u/2 }
		case strings.HasSuffix(t.Name, "weight"):
			f = func(u float64) float64 { return 1 + u/4 }
		}
		uniform(t.Float32s(), uint64(key), f)
	}
}

// With the same weights the native engine gives PyTorch's output to 1e-5 of its largest magnitude: float32
// sums of up to 25088 products in another order, through up to 20 layers.
func TestOutputsArePyTorchs(t *testing.T) {
	var cases []struct {
		Network string
		Config  builders.Config
		Output  []float32
	}
	read(t, "outputs.json", &cases)
	for _, c := range cases {
		text, _ := json.Marshal(c.Config)
		t.Run(c.Network+string(text), func(t *testing.T) {
			m, err := builders.Build(c.Network, c.Config)
			if err != nil {
				t.Fatal(err)
			}
			refill(m, 6)
			s, err := runtime.OpenModel(m, runtime.WithEngine(runtime.Native))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			in := m.Graph.Inputs[0].Type.Shape
			x := onnxio.NewTensor(onnxio.Float, 2, in[1].Value, in[2].Value, in[3].Value)
			uniform(x.Float32s(), 1000, func(u float64) float64 { return u })
			out, err := s.Run(context.Background(), map[string]*onnxio.Tensor{"input": x})
			if err != nil {
				t.Fatal(err)
			}
			y := out["output"].Float32s()
			if len(y) != len(c.Output) {
				t.Fatalf("%d outputs %v, want %d", len(y), out["output"].Dims, len(c.Output))
			}
			worst, largest := 0.0, 0.0
			for i, v := range c.Output {
				largest = max(largest, math.Abs(float64(v)))
				worst = max(worst, math.Abs(float64(v)-float64(y[i])))
			}
			t.Logf("largest difference %.2g of %.3g", worst, largest)
			if !(worst <= 1e-5*largest) {
				t.Errorf("outputs differ by %.3g; the largest is %.3g", worst, largest)
			}
		})
	}
}
