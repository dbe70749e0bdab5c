package native

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// quantizedTol is how far an output may be from ONNX Runtime's. Static networks give it to the bit:
// Erf alone is computed in float32, and rounded to a level. In the dynamic one a scale that differs in
// its last bit moves a level.
var quantizedTol = map[string]float64{"static-uint8": 0, "static-int8": 0, "optimized": 1e-6, "dynamic": 1e-3}

// TestQuantizedNetworks runs what ONNX Runtime's quantizer and optimizer write:
// testdata/quantized/quantized.py.
func TestQuantizedNetworks(t *testing.T) {
	b, err := os.ReadFile("../../testdata/quantized/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases struct {
		X []float32
		Y map[string][]float32
	}
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	for name, tol := range quantizedTol {
		want := cases.Y[name]
		t.Run(name, func(t *testing.T) {
			m, err := onnxio.Load(filepath.Join("../../testdata/quantized", name+".onnx"))
			if err != nil {
				t.Fatal(err)
			}
			s, err := Open(m, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			in := map[string]*onnxio.Tensor{"x": onnxio.Floats(cases.X, 2, 3, 16, 16)}
			out, err := s.Run(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			got := out["y"].Float32s()
			if len(got) != len(want) {
				t.Fatalf("%d outputs, want %d", len(got), len(want))
			}
			for i, w := range want {
				if math.Abs(float64(got[i]-w)) > tol {
					t.Errorf("[%d] is %v, want %v", i, got[i], w)
				}
			}
		})
	}
}
