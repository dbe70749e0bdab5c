package onnxio

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestPythonAccepts has Python's onnx.checker look at what Encode, Save, SaveExternal and EncodeTensor write.
// It needs CNNKIT_PYTHON, a Python that has the onnx package.
func TestPythonAccepts(t *testing.T) {
	python := os.Getenv("CNNKIT_PYTHON")
	if python == "" {
		t.Skip("CNNKIT_PYTHON is not set: a Python with the onnx package")
	}
	dir := t.TempDir()
	args := []string{fixtures + "check_models.py"}
	add := func(name string, save func(path string) error) {
		path := filepath.Join(dir, name)
		if err := save(path); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	valid := decodeFixture(t, "valid.onnx")
	add("valid.onnx", func(path string) error { return Save(path, valid) })
	add("outside.onnx", func(path string) error { return SaveExternal(path, valid, 64) })
	loaded, err := Load(fixtures + "external.onnx")
	if err != nil {
		t.Fatal(err)
	}
	add("inside.onnx", func(path string) error { return Save(path, loaded) })
	for _, x := range decodeFixture(t, "fields.onnx").Graph.Initializers {
		b, err := EncodeTensor(x)
		if err != nil {
			t.Fatal(err)
		}
		add(x.Name+".pb", func(path string) error { return os.WriteFile(path, b, 0o644) })
	}
	for _, attr := range []*Attribute{IntAttr("i", 0), FloatAttr("f", 0), StringAttr("s", ""),
		IntsAttr("l")} {
		m := &Model{IRVersion: 8, Opsets: []Opset{{Version: 17}, {Domain: "local", Version: 1}},
			Graph: &Graph{
				Name:    "zero_" + attr.Name,
				Inputs:  []*ValueInfo{TensorInfo("x", Float, Shape("N")...)},
				Outputs: []*ValueInfo{TensorInfo("y", Float, Shape("N")...)},
				Nodes: []*Node{{OpType: "F", Domain: "local", Inputs: []string{"x"}, Outputs: []string{"y"},
					Attrs: []*Attribute{attr}}},
			}, Functions: []*Function{{Name: "F", Domain: "local", Inputs: []string{"a"},
				Outputs: []string{"b"}, Attrs: []string{attr.Name},
				Opsets: []Opset{{Version: 17}},
				Nodes:  []*Node{{OpType: "Relu", Inputs: []string{"a"}, Outputs: []string{"b"}}}}}}
		add("zero_"+attr.Name+".onnx", func(path string) error { return Save(path, m) })
	}
	out, err := exec.Command(python, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%d files", len(args)-1)
}
