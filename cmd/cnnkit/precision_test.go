package main

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/npy"
)

// bf16 moves the outputs by a few thousandths where the processor has it, by nothing and with a word where it has not.
func TestPrecision(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "resnet.onnx")
	done(t, "build", "resnet", "--out", path)
	x := array(t, 1, 3, 32, 32)
	outputs := map[string][]float32{}
	for _, p := range runtime.Precisions() {
		out := filepath.Join(dir, p)
		r := cnnkit(t, "run", path, "--input", x, "--out", out, "--precision", p)
		if r.code != 0 {
			t.Fatal(r.err)
		}
		if says := strings.Contains(r.err, "float32"); says != (p == "bf16" && !runtime.BF16Runs()) {
			t.Errorf("--precision %s says %q", p, r.err)
		}
		y, err := npy.Load(filepath.Join(out, "output.npy"))
		if err != nil {
			t.Fatal(err)
		}
		outputs[p] = y.Float32s()
	}
	worst, largest := 0.0, 0.0
	for i, v := range outputs["float32"] {
		largest = max(largest, math.Abs(float64(v)))
		worst = max(worst, math.Abs(float64(v-outputs["bf16"][i])))
	}
	if worst > 0.05*largest || (worst > 0) != runtime.BF16Runs() {
		t.Errorf("largest difference %g where the largest output is %g", worst, largest)
	}
	for _, args := range [][]string{{"--precision", "bf8"}, {"--precision", "bf16", "--engine", "ort"}} {
		if r := cnnkit(t, append([]string{"run", path, "--input", x, "--out", dir}, args...)...); r.code != 2 {
			t.Errorf("%v: exit %d: %s", args, r.code, r.err)
		}
	}
}
