package main

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// An ONNX file gives its network's weights back, and verify tells an export's checkpoint from another one.
func TestFromONNXBack(t *testing.T) {
	dir := t.TempDir()
	a, b, weights, other := filepath.Join(dir, "a.onnx"), filepath.Join(dir, "b.onnx"), filepath.Join(dir,
		"a.pth"), filepath.Join(dir, "b.pth")
	done(t, "build", "resnet20", "--classes", "7", "--input", "3x24x24", "--seed", "9", "--out", a)
	done(t, "build", "resnet20", "--classes", "7", "--input", "3x24x24", "--seed", "8", "--out", b)
	done(t, "convert", a, weights, "--arch", "resnet20")
	done(t, "convert", b, other)
	done(t, "verify", a, weights, "--arch", "resnet20")
	if r := cnnkit(t, "verify", a, other, "--arch", "resnet20"); r.code != exitNo ||
		!strings.Contains(r.out, "1e-04 is allowed") && !strings.Contains(r.out, "0.0001 is allowed") {
		t.Errorf("another checkpoint passes: %d %s%s", r.code, r.out, r.err)
	}
	if r := cnnkit(t, "convert", a, filepath.Join(dir, "c.pth"), "--arch",
		"resnet32"); r.code != exitBadFile || !strings.Contains(r.err, "in the file") {
		t.Errorf("another network passes: %d %s", r.code, r.err)
	}
	m, err := onnxio.Load(a)
	if err != nil {
		t.Fatal(err)
	}
	// so that nothing can be said of the answers
	m.Graph.Initializer("linear.bias").Float32s()[0] = float32(math.NaN())
	if err := onnxio.Save(b, m); err != nil {
		t.Fatal(err)
	}
	if r := cnnkit(t, "convert", b, filepath.Join(dir, "c.pth"), "--arch",
		"resnet20"); r.code != exitBadFile {
		t.Errorf("answers that are not numbers pass: %d %s", r.code, r.err)
	}

	// What an exporter left in training mode is compared as it infers.
	if m, err = onnxio.Load(a); err != nil {
		t.Fatal(err)
	}
	for _, n := range m.Graph.Nodes {
		if n.OpType == "BatchNormalization" {
			n.Attrs = append(n.Attrs, onnxio.IntAttr("training_mode", 1))
			n.Outputs = append(n.Outputs, n.Outputs[0]+"_mean", n.Outputs[0]+"_var")
		}
	}
	if err := onnxio.Save(b, m); err != nil {
		t.Fatal(err)
	}
	if r := cnnkit(t, "convert", b, filepath.Join(dir, "c.pth"), "--arch", "resnet20"); r.code != exitDone ||
		!strings.Contains(r.err, "exported in training mode") {
		t.Errorf("an export in training mode: %d %s", r.code, r.err)
	}
	done(t, "verify", b, weights, "--arch", "resnet20")
}
