package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// A classifier of another number of classes is replaced, said so, and all else comes from the file and stays.
func TestTransfer(t *testing.T) {
	dir := t.TempDir()
	from, weights, out := filepath.Join(dir, "from.onnx"), filepath.Join(dir, "from.pth"), filepath.Join(dir,
		"out")
	done(t, "build", "resnet20", "--classes", "7", "--input", "1x28x28", "--seed", "9", "--out", from)
	done(t, "convert", from, weights)
	r := cnnkit(t, "train", "resnet20", "--weights", weights, "--input", "1x28x28", "--data",
		digits(t, 40, 20),
		"--epochs", "1", "--freeze", "conv1,bn1,layer[12]", "--cache-features=false", "--lr-decay-per-layer",
		"0.8", "--no-report", "--out", out)
	if r.code != exitDone || !strings.Contains(r.err, "linear.weight [10 64] ([7 64] in the file)") {
		t.Errorf("the replaced classifier is not named: %d %s", r.code, r.err)
	}
	was, err := onnxio.Load(from)
	if err != nil {
		t.Fatal(err)
	}
	is, err := onnxio.Load(filepath.Join(out, "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for name, frozen := range map[string]bool{"conv1.weight": true, "layer2.0.bn1.running_mean": true,
		"layer3.0.conv1.weight": false} {
		if same := string(was.Graph.Initializer(name).Raw) == string(
			is.Graph.Initializer(name).Raw); same != frozen {
			t.Errorf("%s: same %v", name, same)
		}
	}
	done(t, "sweep", "resnet20", "--weights", weights, "--input", "1x28x28", "--data", digits(t, 40, 20),
		"--epochs", "1", "--freeze", "conv1", "--vary", "seed=1,2", "--out", out+"-sweep")
	is, err = onnxio.Load(filepath.Join(out+"-sweep", "seed=2", "model.onnx"))
	if err != nil || string(is.Graph.Initializer("conv1.weight").Raw) != string(
		was.Graph.Initializer("conv1.weight").Raw) {
		t.Errorf("a sweep does not start from the weights: %v", err)
	}
	r = cnnkit(t, "train", "resnet20", "--weights", weights, "--input", "3x28x28", "--data", "mnist",
		"--out", out+"2")
	if !strings.Contains(r.err, `mismatched "conv1.weight"`) {
		t.Errorf("a wrong shape is not named: %s", r.err)
	}
	r = cnnkit(t, "train", "resnet20", "--input", "1x28x28", "--data", "mnist", "--freeze", "layr1,bnn1",
		"--out", out+"3")
	if !strings.Contains(r.err, `freeze "layr1" (nearest: "layer1"), freeze "bnn1" (nearest: "bn1")`) {
		t.Errorf("wrong patterns are not named: %s", r.err)
	}
}

// An .onnx file gets another classifier, whoever made it: the node is named, and all else starts from the
// file. One whose end is no layer is refused with what to do.
func TestTransferModel(t *testing.T) {
	dir := t.TempDir()
	built, bare, flat := filepath.Join(dir, "built.onnx"), filepath.Join(dir, "bare.onnx"), filepath.Join(dir,
		"flat.onnx")
	done(t, "build", "resnet20", "--classes", "7", "--input", "1x28x28", "--seed", "9", "--out", built)
	done(t, "edit", built, bare, "--unset", "cnnkit.arch", "--unset", "cnnkit.config")
	was, err := onnxio.Load(built)
	if err != nil {
		t.Fatal(err)
	}
	var node string
	for _, n := range was.Graph.Nodes {
		if n.OpType == "Gemm" {
			node = n.Name
		}
	}
	for model, want := range map[string]string{built: "", bare: "the classifier is Gemm \"" + node + "\""} {
		out := model + "-out"
		r := cnnkit(t, "train", model, "--classes", "10", "--data", digits(t, 40, 20), "--epochs", "1",
			"--freeze", "conv1", "--no-report",
			"--out", out)
		if r.code != exitDone || !strings.Contains(r.err, want) ||
			!strings.Contains(r.err, "linear.weight [10 64] ([7 64] in the file)") {
			t.Errorf("%s: %d %s", model, r.code, r.err)
			continue
		}
		is, err := onnxio.Load(filepath.Join(out, "model.onnx"))
		if err != nil {
			t.Fatal(err)
		}
		if string(was.Graph.Initializer("conv1.weight").Raw) != string(
			is.Graph.Initializer("conv1.weight").Raw) {
			t.Errorf("%s: the frozen layer is not the file's", model)
		}
	}
	done(t, "build", "resnet20", "--classes", "10", "--input", "1x28x28", "--out", flat)
	m, err := onnxio.Load(flat)
	if err != nil {
		t.Fatal(err)
	}
	m.Metadata = nil
	last := m.Graph.Outputs[0].Name
	for _, n := range m.Graph.Nodes {
		if n.Outputs[0] == last {
			n.Outputs[0] = "logits"
		}
	}
	m.Graph.Nodes = append(m.Graph.Nodes, &onnxio.Node{OpType: "Mul", Name: "gate",
		Inputs: []string{"logits", "logits"}, Outputs: []string{last}})
	if err := onnxio.Save(flat, m); err != nil {
		t.Fatal(err)
	}
	r := cnnkit(t, "train", flat, "--classes", "3", "--data", "mnist", "--out", filepath.Join(dir, "no"))
	for _, part := range []string{"flat.onnx: classes 3: no classifier is found", `Mul "gate"`,
		"leave out --classes"} {
		if r.code == exitDone || !strings.Contains(r.err, part) {
			t.Errorf("no %q: %d %s", part, r.code, r.err)
		}
	}
}

// A checkpoint of another network, or of another number of classes, says of which.
func TestMisfit(t *testing.T) {
	dir := t.TempDir()
	model, weights, out := filepath.Join(dir, "m.onnx"), filepath.Join(dir, "m.pth"), filepath.Join(dir,
		"out.onnx")
	done(t, "build", "resnet32", "--classes", "7", "--out", model)
	done(t, "convert", model, weights)
	for want, args := range map[string][]string{"those of --arch resnet32,": {"--arch", "resnet20"},
		"say --classes 7": {"--arch", "resnet32"}} {
		if r := cnnkit(t, append([]string{"convert", weights, out}, args...)...); r.code != exitBadFile ||
			!strings.Contains(r.err, want) {
			t.Errorf("no %q: %d %s", want, r.code, r.err)
		}
	}
}
