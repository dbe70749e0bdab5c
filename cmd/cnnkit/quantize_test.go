package main

import (
	"image"
	"image/color"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
)

const quantizable = "../../models/lenet5-mnist/model.onnx"

// TestQuantize: a digit's class survives int8, the plan is of integers, and files of
// images do as a data set does.
func TestQuantize(t *testing.T) {
	out := filepath.Join(t.TempDir(), "int8.onnx")
	done(t, "quantize", quantizable, "--data", "mnist", "--per-channel", "--no-gate", "--calibrate", "64",
		"--out", out)
	var before, after struct{ Accuracy float64 }
	answer(t, &before, "eval", quantizable, "--data", "mnist", "--engine", "native", "--json")
	answer(t, &after, "eval", out, "--data", "mnist", "--engine", "native", "--json")
	if after.Accuracy < before.Accuracy-0.005 {
		t.Errorf("accuracy fell from %v to %v", before.Accuracy, after.Accuracy)
	}
	var plan struct {
		Steps []struct{ Kernel, Type string }
	}
	answer(t, &plan, "inspect", out, "--plan", "--json")
	integers := 0
	for _, s := range plan.Steps {
		if strings.HasSuffix(s.Kernel, "int8") && s.Type == "uint8" {
			integers++
		}
	}
	if engine.Int8Runs() && integers < 5 {
		t.Errorf("%d steps of integers: %+v", integers, plan.Steps)
	}

	rounding := filepath.Join(t.TempDir(), "rounding.onnx")
	done(t, "quantize", quantizable, "--data", "mnist", "--per-channel", "--no-gate", "--calibrate", "64",
		"--trainable", "--out", rounding)
	var finished struct{ Weights int }
	answer(t, &finished, "quantize", rounding, "--out", out, "--json")
	answer(t, &after, "eval", out, "--data", "mnist", "--engine", "native", "--json")
	if finished.Weights != 5 || after.Accuracy < before.Accuracy-0.005 {
		t.Errorf("by way of float32: %d weights, accuracy from %v to %v", finished.Weights, before.Accuracy,
			after.Accuracy)
	}

	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 1))
	for _, name := range []string{"a.png", "b.png", "c.png"} {
		img := image.NewGray(image.Rect(0, 0, 28, 28))
		for i := range img.Pix {
			img.Pix[i] = color.Gray{uint8(r.UintN(256))}.Y
		}
		putPicture(t, filepath.Join(dir, name), img)
	}
	done(t, "quantize", quantizable, "--images", dir, "--method", "mse", "--no-gate", "--exclude",
		excluded(t), "--out", out)
	m, err := onnxio.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range m.Graph.Nodes {
		if n.Name == excluded(t)+"/weight/DequantizeLinear" {
			t.Errorf("%s was quantized", n.Name)
		}
	}
}

// excluded is the name of the first convolution.
func excluded(t *testing.T) string {
	m, err := onnxio.Load(quantizable)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range m.Graph.Nodes {
		if n.OpType == "Conv" {
			return n.Name
		}
	}
	t.Fatal("no convolution")
	return ""
}

// TestQuantizeGate: whatever is faster here, the answer is a table, and code 1 goes
// with a refusal and no file.
func TestQuantizeGate(t *testing.T) {
	out := filepath.Join(t.TempDir(), "int8.onnx")
	r := cnnkit(t, "quantize", quantizable, "--data", "mnist", "--calibrate", "32", "--score", "200",
		"--out", out)
	if !strings.Contains(r.out, "share of the error") || !strings.Contains(r.out, "score 0.") {
		t.Errorf("no table:\n%s%s", r.out, r.err)
	}
	_, err := os.Stat(out)
	if refused := strings.Contains(r.out, "refused"); refused != (r.code == exitNo) ||
		refused == (err == nil) {
		t.Errorf("exit code %d, file %v:\n%s", r.code, err, r.out)
	}
	for _, args := range [][]string{
		{"quantize", quantizable, "--data", "mnist"},
		{"quantize", quantizable, "--out", out},
		{"quantize", quantizable, "--data", "mnist", "--images", ".", "--out", out},
		{"quantize", quantizable, "--data", "mnist", "--method", "guess", "--out", out},
		{"quantize", quantizable, "--data", "mnist", "--max-loss", "2", "--out", out},
	} {
		if r := cnnkit(t, args...); r.code != exitUsage {
			t.Errorf("%v: exit code %d", args, r.code)
		}
	}
}
