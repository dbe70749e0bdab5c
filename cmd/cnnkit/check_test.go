package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/npy"
)

// savedDisorder writes a model of y = Relu(x + b), its nodes in the wrong order, where b
// is an input with a default.
func savedDisorder(t *testing.T) string {
	t.Helper()
	b := onnxio.Floats([]float32{1, -3}, 2)
	b.Name = "b"
	m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: &onnxio.Graph{
		Name: "g", Initializers: []*onnxio.Tensor{b},
		Inputs: []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape(2)...),
			onnxio.TensorInfo("b", onnxio.Float, onnxio.Shape(2)...)},
		Outputs: []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float, onnxio.Shape(2)...)},
		Nodes: []*onnxio.Node{{OpType: "Relu", Name: "relu", Inputs: []string{"s"}, Outputs: []string{"y"}},
			{OpType: "Add", Name: "add", Inputs: []string{"x", "b"}, Outputs: []string{"s"}}}}}
	path := filepath.Join(t.TempDir(), "m.onnx")
	if err := onnxio.Save(path, m); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheckWarns(t *testing.T) {
	path := savedDisorder(t)
	if out := done(t, "check", path); !strings.Contains(out, `warning: Relu "relu": reads "s" before`) ||
		!strings.Contains(out, "ok") {
		t.Error(out)
	}
	var report struct {
		OK       bool
		Problems []string
		Warnings []string
	}
	answer(t, &report, "check", path)
	if !report.OK || report.Problems == nil || len(report.Warnings) != 1 {
		t.Errorf("%+v", report)
	}
}

func TestRunWithDefaults(t *testing.T) {
	path, x, dir := savedDisorder(t), array(t, 2), t.TempDir()
	for _, tt := range []struct {
		args []string
		want []float32
	}{{[]string{x}, []float32{2, 0}}, {[]string{"x=" + x, "b=" + x}, []float32{2, 2}}} {
		args := []string{"run", path, "--out", dir, "--engine", "native"}
		for _, a := range tt.args {
			args = append(args, "--input", a)
		}
		done(t, args...)
		y, err := npy.Load(filepath.Join(dir, "y.npy"))
		if err != nil || y.Float32s()[0] != tt.want[0] || y.Float32s()[1] != tt.want[1] {
			t.Errorf("%v: %v, %v", tt.args, y, err)
		}
	}
	if r := cnnkit(t, "run", path, "--out", dir, "--input", "x="+x, "--input", "c="+x); r.code != exitUsage {
		t.Errorf("an input that is not there: %+v", r)
	}
}

// inspect shows what it can of a file that is not sound.
func TestInspectWithoutTypes(t *testing.T) {
	m, err := onnxio.Load(savedDisorder(t))
	if err != nil {
		t.Fatal(err)
	}
	m.Graph.Outputs[0].Type = nil
	path := filepath.Join(t.TempDir(), "untyped.onnx")
	if err := onnxio.Save(path, m); err != nil {
		t.Fatal(err)
	}
	if out := done(t, "inspect", path); !strings.Contains(out, "output  y ?") ||
		!strings.Contains(out, "Relu") {
		t.Error(out)
	}
	done(t, "inspect", path, "--json")
	done(t, "inspect", path, "--plan")
}
