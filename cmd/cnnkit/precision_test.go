package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/npy"
)

// bf16 moves the outputs by a few thousandths where the processor has it, by nothing and
// with a word where it has not.
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
		if r := cnnkit(t, append([]string{"run", path, "--input", x, "--out", dir},
			args...)...); r.code != 2 {
			t.Errorf("%v: exit %d: %s", args, r.code, r.err)
		}
	}
}

// TestVerifyPrecision: bf16 costs a trained network little, and what it costs is said; weights
// in float16 next to nothing.
func TestVerifyPrecision(t *testing.T) {
	var v struct {
		Tolerance float64
		Pairs     []struct {
			A, B   string
			MaxRel float64 `json:"max_rel"`
			OK     bool
		}
	}
	answer(t, &v, "verify", quantizable, "--data", "mnist", "--limit", "64", "--precision", "bf16", "--json")
	if len(v.Pairs) != 1 || v.Pairs[0].B != "native bf16" || !v.Pairs[0].OK ||
		v.Tolerance != precisionTolerance || v.Pairs[0].MaxRel > 0.02 {
		t.Errorf("%+v", v)
	}
	for _, args := range [][]string{{"--precision", "float32"}, {"--precision", "bf17"},
		{"--precision", "bf16", "--engines", "native,ort"}} {
		if r := cnnkit(t, append([]string{"verify", quantizable}, args...)...); r.code != exitUsage {
			t.Errorf("%v: exit code %d", args, r.code)
		}
	}
	half := filepath.Join(t.TempDir(), "half.onnx")
	done(t, "convert", quantizable, half, "--float16")
	before, _ := os.Stat(quantizable)
	after, err := os.Stat(half)
	if err != nil || after.Size() > before.Size()*6/10 {
		t.Errorf("%v: %d bytes of %d", err, after.Size(), before.Size())
	}
	var a, b struct{ Accuracy float64 }
	answer(t, &a, "eval", quantizable, "--data", "mnist", "--engine", "native", "--json")
	answer(t, &b, "eval", half, "--data", "mnist", "--engine", "native", "--json")
	if b.Accuracy < a.Accuracy-0.001 {
		t.Errorf("accuracy %v in float32, %v in float16", a.Accuracy, b.Accuracy)
	}
	if r := cnnkit(t, "convert", quantizable, half, "--float16", "--bfloat16"); r.code != exitUsage {
		t.Errorf("two types: exit code %d", r.code)
	}
}
