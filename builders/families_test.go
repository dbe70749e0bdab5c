package builders_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
)

// golden is what testdata/builders/gen_families.py says of a network.
type golden struct {
	Tensors    int
	Parameters int64
	Digest     string
	Output     *struct {
		Gain                     float64
		Side, Size, Step         int
		Sum, Magnitudes, Largest float64
		Picked                   []float64
	}
}

func goldens(t *testing.T) map[string]golden {
	t.Helper()
	var all map[string]golden
	read(t, "families.json", &all)
	return all
}

// Keys, their order and shapes are torchvision's.
func TestFamiliesKeys(t *testing.T) {
	all := goldens(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m, err := builders.Outline(name, builders.Config{})
		if err != nil {
			t.Error(err)
			continue
		}
		want, text, state := all[name], "", stateDict(m)
		for _, p := range state {
			text += p.Name + " " + strings.ReplaceAll(strings.Trim(fmt.Sprint(p.Dims), "[]"), " ", ",") + "\n"
		}
		sum := sha256.Sum256([]byte(text))
		if n := builders.Parameters(m); len(state) != want.Tensors || n != want.Parameters ||
			hex.EncodeToString(sum[:]) != want.Digest {
			t.Errorf("%s: %d tensors and %d parameters, want %d and %d; digest %x, want %s", name, len(state),
				n, want.Tensors,
				want.Parameters, sum, want.Digest)
		}
	}
}

// With weights of a formula the native engine gives PyTorch's outputs for a small
// image, to 1e-4 of the largest.
func TestFamiliesOutputs(t *testing.T) {
	all := goldens(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		want := all[name].Output
		if want == nil || testing.Short() && all[name].Parameters > 3e6 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			side := want.Side
			m, err := builders.Outline(name, builders.Config{Input: [3]int{3, side, side}})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range m.Graph.Initializers {
				if p.Raw == nil {
					p.Raw = make([]byte, 4*p.Size())
				}
			}
			refill(m, want.Gain)
			s, err := runtime.OpenModel(m, runtime.WithEngine(runtime.Native))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			x := onnxio.NewTensor(onnxio.Float, 1, 3, int64(side), int64(side))
			uniform(x.Float32s(), 1000, func(u float64) float64 { return u })
			out, err := s.Run(context.Background(), map[string]*onnxio.Tensor{"input": x})
			if err != nil {
				t.Fatal(err)
			}
			y := out["output"].Float32s()
			if len(y) != want.Size {
				t.Fatalf("%d outputs %v, want %d", len(y), out["output"].Dims, want.Size)
			}
			var sum, magnitudes, worst float64
			for _, v := range y {
				sum += float64(v)
				magnitudes += math.Abs(float64(v))
			}
			for i, v := range want.Picked {
				worst = max(worst, math.Abs(v-float64(y[i*want.Step])))
			}
			worst = max(worst, math.Abs(sum-want.Sum)/float64(want.Size),
				math.Abs(magnitudes-want.Magnitudes)/float64(want.Size))
			t.Logf("largest difference %.2g of %.3g: %.1e", worst, want.Largest, worst/want.Largest)
			if !(worst <= 1e-4*want.Largest) {
				t.Errorf("outputs differ by %.3g; the largest is %.3g", worst, want.Largest)
			}
		})
	}
}
