package runtime_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/npy"
)

// exportTolerance is the largest difference from PyTorch, as a share of an output's largest number: float32 sums in
// another order, through a hundred layers.
const exportTolerance = 1e-4

// TestExportsForPeers runs what testdata/exports/export.py left in CNNKIT_EXPORTS and compares with PyTorch's answers.
// All sets of inputs of a case go through one session.
func TestExportsForPeers(t *testing.T) {
	root := os.Getenv("CNNKIT_EXPORTS")
	if root == "" {
		t.Skip("CNNKIT_EXPORTS is not set")
	}
	notes, err := filepath.Glob(filepath.Join(root, "*", "case.json"))
	if err != nil || len(notes) == 0 {
		t.Fatalf("%s holds no case: %v", root, err)
	}
	for _, note := range notes {
		t.Run(filepath.Base(filepath.Dir(note)), func(t *testing.T) { runExport(t, note) })
	}
}

func runExport(t *testing.T, note string) {
	var c struct {
		Error  string // the exporter's
		Broken string // of the case itself
		ORT    []any
	}
	raw, err := os.ReadFile(note)
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	if c.Broken != "" {
		t.Fatalf("the case is not there: %s", c.Broken)
	}
	if c.Error != "" {
		t.Skipf("the exporter refused: %s", c.Error)
	}
	dir := filepath.Dir(note)
	start := time.Now()
	s, err := runtime.Open(filepath.Join(dir, "model.onnx"), runtime.WithEngine(runtime.Native))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	opened := time.Since(start)
	for i := 0; ; i++ {
		set := filepath.Join(dir, fmt.Sprint(i))
		if _, err := os.Stat(set); err != nil {
			if i == 0 {
				t.Fatal("no inputs")
			}
			return
		}
		start := time.Now()
		worst := runSet(t, s, set)
		took := time.Since(start)
		t.Logf("set %d: largest difference %.2g of the scale (ONNX Runtime: %.3v); %v, opened in %v", i, worst, c.ORT[i],
			took.Round(time.Millisecond), opened.Round(time.Millisecond))
		if !(worst <= exportTolerance) {
			t.Errorf("set %d: largest difference %.3g of the output's scale, want at most %g", i, worst, exportTolerance)
		}
	}
}

// runSet runs one set of inputs and gives the largest difference from its answers.
func runSet(t *testing.T, s runtime.Session, set string) float64 {
	t.Helper()
	in := map[string]*onnxio.Tensor{}
	for _, v := range s.Inputs() {
		in[v.Name] = loadArray(t, filepath.Join(set, "input_x.npy"))
	}
	out, err := s.Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	worst := 0.0
	for k, v := range s.Outputs() {
		want := loadArray(t, filepath.Join(set, fmt.Sprintf("output_%d.npy", k)))
		worst = math.Max(worst, distance(t, v.Name, out[v.Name], want))
	}
	return worst
}

func loadArray(t *testing.T, path string) *onnxio.Tensor {
	t.Helper()
	x, err := npy.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// distance is the largest difference as a share of the largest number; NaN where a number is NaN.
func distance(t *testing.T, name string, got, want *onnxio.Tensor) float64 {
	t.Helper()
	if got.Type != want.Type || fmt.Sprint(got.Dims) != fmt.Sprint(want.Dims) {
		t.Fatalf("%s: %v %v, want %v %v", name, got.Type, got.Dims, want.Type, want.Dims)
	}
	if want.Type != onnxio.Float {
		if string(got.Raw) != string(want.Raw) {
			t.Errorf("%s: %v numbers differ", name, want.Type)
		}
		return 0
	}
	scale, worst := 1e-30, 0.0
	for i, w := range want.Float32s() {
		scale = math.Max(scale, math.Abs(float64(w)))
		worst = math.Max(worst, math.Abs(float64(got.Float32s()[i])-float64(w)))
	}
	return worst / scale
}
