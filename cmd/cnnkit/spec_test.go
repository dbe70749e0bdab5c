package main

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// ending is LeNet-5 as a file, with operators behind its logits.
func ending(t *testing.T, ops ...string) string {
	t.Helper()
	m, err := onnxio.Load(lenet(t))
	if err != nil {
		t.Fatal(err)
	}
	out := m.Graph.Outputs[0]
	for _, op := range ops {
		from := out.Name
		out = &onnxio.ValueInfo{Name: from + "/" + op, Type: out.Type}
		n := &onnxio.Node{Name: out.Name, OpType: op, Inputs: []string{from}, Outputs: []string{out.Name}}
		if op == "Softmax" {
			n.Attrs = append(n.Attrs, onnxio.IntAttr("axis", 1))
		}
		m.Graph.Nodes = append(m.Graph.Nodes, n)
	}
	m.Graph.Outputs[0] = out
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := onnxio.Save(path, m); err != nil {
		t.Fatal(err)
	}
	return path
}

// A model that gives probabilities measures as the one that gives their logits, and is
// not trained through them.
func TestProbabilitiesAreNoLogits(t *testing.T) {
	set := digits(t, 40, 40)
	var plain, soft struct{ Accuracy, Loss float64 }
	answer(t, &plain, "eval", ending(t), "--data", set)
	answer(t, &soft, "eval", ending(t, "Softmax", "Identity"), "--data", set)
	if plain.Accuracy != soft.Accuracy || math.Abs(plain.Loss-soft.Loss) > 1e-4 {
		t.Errorf("%+v of logits, %+v of their softmax", plain, soft)
	}
	r := cnnkit(t, "train", ending(t, "Sigmoid", "Identity"), "--data", set, "--epochs", "1", "--out",
		t.TempDir())
	if r.code != exitBadFile || !strings.Contains(r.err, "Sigmoid") {
		t.Errorf("training through a sigmoid: %d, %s", r.code, r.err)
	}
}

func TestSpec(t *testing.T) {
	model := ending(t)
	labels := write(t, filepath.Join(t.TempDir(), "labels.txt"), []byte("zero\none\ntwo\n\n"))
	out := filepath.Join(t.TempDir(), "said.onnx")
	done(t, "spec", "set", model, "--preset", "half", "--labels", labels, "--out", out)
	var s spec.Spec
	answer(t, &s, "spec", "show", out)
	if s.Input.Mean[0] != 0.5 || s.Input.Std[0] != 0.5 || len(s.Labels) != 3 || len(s.Inferred) != 0 ||
		s.Output.Scale == "" {
		t.Errorf("%+v", s)
	}
	if text := done(t, "spec", "show", out); !strings.Contains(text, "28") ||
		!strings.Contains(text, "zero") {
		t.Error(text)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"spec", "set", model, "--preset", "imagnet"}, exitUsage, `"imagnet": known are imagenet`},
		{[]string{"predict", model, "x.png", "--preset", "imagnet"}, exitUsage, "imagnet"},
		{[]string{"spec", "set", model, "--size", "30x30"}, exitUsage, "28x28 only"},
		{[]string{"spec", "set", model, "--crop", "28"}, exitUsage, "--size"},
		{[]string{"spec", "set", model, "--mean", "0,0,0", "--std", "1,1,1"}, exitUsage, "1 channels"},
		{[]string{"spec", "set", model, "--labels", "nowhere.txt"}, exitBadFile, "nowhere.txt"},
		{[]string{"spec", "shwo", model}, exitUsage, "did you mean show"},
	} {
		if r := cnnkit(t, c.args...); r.code != c.code || !strings.Contains(r.err, c.says) {
			t.Errorf("%v: %d, %s", c.args, r.code, r.err)
		}
	}
}
