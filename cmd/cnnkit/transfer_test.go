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
	from, weights, out := filepath.Join(dir, "from.onnx"), filepath.Join(dir, "from.pth"), filepath.Join(dir, "out")
	done(t, "build", "resnet20", "--classes", "7", "--input", "1x28x28", "--seed", "9", "--out", from)
	done(t, "convert", from, weights)
	r := cnnkit(t, "train", "resnet20", "--weights", weights, "--input", "1x28x28", "--data", digits(t, 40, 20),
		"--epochs", "1", "--freeze", "conv1,bn1,layer[12]", "--cache-features=false", "--lr-decay-per-layer", "0.8", "--no-report", "--out", out)
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
	for name, frozen := range map[string]bool{"conv1.weight": true, "layer2.0.bn1.running_mean": true, "layer3.0.conv1.weight": false} {
		if same := string(was.Graph.Initializer(name).Raw) == string(is.Graph.Initializer(name).Raw); same != frozen {
			t.Errorf("%s: same %v", name, same)
		}
	}
	done(t, "sweep", "resnet20", "--weights", weights, "--input", "1x28x28", "--data", digits(t, 40, 20),
		"--epochs", "1", "--freeze", "conv1", "--vary", "seed=1,2", "--out", out+"-sweep")
	is, err = onnxio.Load(filepath.Join(out+"-sweep", "seed=2", "model.onnx"))
	if err != nil || string(is.Graph.Initializer("conv1.weight").Raw) != string(was.Graph.Initializer("conv1.weight").Raw) {
		t.Errorf("a sweep does not start from the weights: %v", err)
	}
	r = cnnkit(t, "train", "resnet20", "--weights", weights, "--input", "3x28x28", "--data", "mnist", "--out", out+"2")
	if !strings.Contains(r.err, `mismatched "conv1.weight"`) {
		t.Errorf("a wrong shape is not named: %s", r.err)
	}
	r = cnnkit(t, "train", "resnet20", "--input", "1x28x28", "--data", "mnist", "--freeze", "layr1,bnn1", "--out", out+"3")
	if !strings.Contains(r.err, `"layr1" (nearest: "layer1"), "bnn1" (nearest: "bn1")`) {
		t.Errorf("wrong patterns are not named: %s", r.err)
	}
}
