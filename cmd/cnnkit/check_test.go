package main

import (
	"errors"
	"fmt"
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

// The items of a sequence are written one by one, on every engine that gives them.
func TestRunWritesSequences(t *testing.T) {
	parts := &onnxio.ValueInfo{Name: "parts", Type: &onnxio.Type{Kind: onnxio.SequenceType,
		Of: &onnxio.Type{Elem: onnxio.Float}}}
	m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}}, Graph: &onnxio.Graph{Name: "g",
		Inputs:  []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape(4)...)},
		Outputs: []*onnxio.ValueInfo{parts},
		Nodes: []*onnxio.Node{{OpType: "SplitToSequence", Name: "split", Inputs: []string{"x"},
			Outputs: []string{"parts"}, Attrs: []*onnxio.Attribute{onnxio.IntAttr("axis", 0)}}}}}
	path, x := filepath.Join(t.TempDir(), "m.onnx"), filepath.Join(t.TempDir(), "x.npy")
	if err := errors.Join(onnxio.Save(path, m), npy.Save(x, onnxio.Floats([]float32{0, 1, 2, 3}, 4))); err != nil {
		t.Fatal(err)
	}
	for _, engine := range []string{"native", "ort"} {
		t.Run(engine, func(t *testing.T) {
			if engine == "ort" {
				needORT(t)
			}
			dir := t.TempDir()
			var said struct{ Outputs []written }
			answer(t, &said, "run", path, "--input", x, "--out", dir, "--engine", engine)
			for i := range 4 {
				y, err := npy.Load(filepath.Join(dir, fmt.Sprintf("parts.%d.npy", i)))
				if err != nil || y.Size() != 1 || y.Float32s()[0] != float32(i) {
					t.Errorf("item %d: %v, %v", i, y, err)
				}
			}
			if len(said.Outputs) != 4 || said.Outputs[3].Name != "parts.3" {
				t.Errorf("%+v", said)
			}
		})
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
