package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/train"
)

func readRecipe(t *testing.T, dir string) train.Recipe {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, train.RecipeFile))
	if err != nil {
		t.Fatal(err)
	}
	var r train.Recipe
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	x, err1 := os.ReadFile(a)
	y, err2 := os.ReadFile(b)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return bytes.Equal(x, y)
}

// A recipe does what the same flags do, to the bit; what a run wrote as its recipe makes the same run again; --set and flags
// change fields.
func TestRecipes(t *testing.T) {
	set, dir := digits(t, 300, 50), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	done(t, "train", "lenet5", "--data", set, "--epochs", "2", "--seed", "3", "--optimizer", "adamw", "--weight-decay", "0.05", "--no-decay", "bias,norm",
		"--schedule", "cosine", "--warmup", "1", "--batch", "50", "--clip-norm", "1", "--ema", "0.9", "--metrics", "top5,f1", "--out", in("flags"))
	recipe := `{"model": "lenet5", "data": "` + set + `", "epochs": 9, "seed": 3, "optimizer": "adamw", "weight_decay": 0.05, "batch": 50, "clip_norm": 1,
		"groups": [{"params": "bias", "weight_decay": 0}, {"params": "norm", "weight_decay": 0}], "ema": 0.9, "metrics": ["top5", "f1"],
		"schedule": {"kind": "step", "step_size": 1, "warmup": 1}}`
	file := write(t, in("r.json"), []byte(recipe))
	done(t, "train", "--recipe", file, "--set", "schedule.kind=cosine", "--set", "schedule.step_size=0", "--epochs", "2", "--out", in("recipe"))
	done(t, "train", "--recipe", filepath.Join(in("flags"), train.RecipeFile), "--out", in("again"))
	for _, other := range []string{"recipe", "again"} {
		if !sameFile(t, filepath.Join(in("flags"), train.LastFile), filepath.Join(in(other), train.LastFile)) {
			t.Errorf("%s: other weights", other)
		}
	}
	if got := readRecipe(t, in("recipe")); got.Epochs != 2 || got.Schedule.Kind != train.Cosine || got.Model != "lenet5" || got.Data != set {
		t.Errorf("%+v", got)
	}
	if csv, _ := os.ReadFile(filepath.Join(in("flags"), train.HistoryFile)); !strings.Contains(string(csv), "lr,f1,top5") {
		t.Errorf("%s", csv)
	}
}

// The network's fields build it, and an argument takes the recipe's place.
func TestRecipeNetwork(t *testing.T) {
	set, dir := digits(t, 64, 16), t.TempDir()
	file := write(t, filepath.Join(dir, "r.json"), []byte(`{"model": "resnet18", "input": "1x28x28", "width": 4, "blocks": [1, 1, 1, 1], "classes": 12, "opset": 15, "epochs": 1}`))
	out := done(t, "train", "--recipe", file, "--data", set, "--out", filepath.Join(dir, "a"))
	if !strings.Contains(out, "epoch 1/1") {
		t.Error(out)
	}
	if out := done(t, "inspect", filepath.Join(dir, "a", train.LastFile)); !strings.Contains(out, "opset 15") && !strings.Contains(out, "15") {
		t.Error(out)
	}
	model := lenet(t)
	plain := write(t, filepath.Join(dir, "p.json"), []byte(`{"model": "minivgg", "epochs": 1}`))
	done(t, "train", model, "--recipe", plain, "--data", set, "--out", filepath.Join(dir, "b"))
	if got := readRecipe(t, filepath.Join(dir, "b")); got.Model != model || got.Momentum != 0.5 {
		t.Errorf("%+v", got)
	}
}

// Ctrl-C, then --resume: the same weights as without; and more epochs after the end.
func TestResume(t *testing.T) {
	set, dir := digits(t, 300, 50), t.TempDir()
	whole, parts := filepath.Join(dir, "whole"), filepath.Join(dir, "parts")
	args := []string{"train", "lenet5", "--data", set, "--epochs", "3", "--batch", "32", "--optimizer", "adam", "--checkpoint-steps", "2"}
	done(t, append(args, "--out", whole)...)
	for i := range 5 {
		ctx, cancel := context.WithCancel(context.Background())
		w := &closing{at: 2, cancel: cancel}
		again := append(args, "--out", parts)
		if i > 0 {
			again = []string{"train", "--resume", parts}
		}
		var errs bytes.Buffer
		code := run(ctx, append([]string{"cnnkit"}, again...), w, &errs)
		cancel()
		if code == exitDone {
			break
		}
		if code != exitInterrupted || !strings.Contains(errs.String(), "cnnkit train --resume "+parts) {
			t.Fatalf("exit code %d: %s", code, errs.String())
		}
	}
	if !sameFile(t, filepath.Join(whole, train.LastFile), filepath.Join(parts, train.LastFile)) {
		t.Error("the interrupted run has other weights")
	}
	if r := cnnkit(t, "train", "--resume", parts); r.code == exitDone || !strings.Contains(r.err, "more epochs") {
		t.Errorf("%d: %s", r.code, r.err)
	}
	out := done(t, "train", "--resume", filepath.Join(parts, train.CheckpointFile), "--epochs", "4", "--json")
	if !strings.Contains(out, `"epoch":4`) || strings.Contains(out, `"epoch":3`) {
		t.Error(out)
	}
}

// closing cancels after some lines of output, so that the run is interrupted at the start of an epoch.
type closing struct {
	bytes.Buffer
	at     int
	cancel func()
}

func (c *closing) Write(b []byte) (int, error) {
	if c.at -= bytes.Count(b, []byte("\n")); c.at <= 0 {
		c.cancel()
	}
	return c.Buffer.Write(b)
}

func TestWrongRecipes(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	file := func(name, text string) string { return write(t, filepath.Join(dir, name), []byte(text)) }
	good := file("good.json", `{"model": "lenet5", "data": "mnist"}`)
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"--recipe nowhere.json --out " + out, 3, "nowhere.json"},
		{"--recipe " + file("torn.json", `{"lr": `) + " --out " + out, 3, "torn.json"},
		{"--recipe " + file("field.json", `{"model": "lenet5", "data": "mnist", "learningrate": 1}`) + " --out " + out, 2, "learningrate"},
		{"--recipe " + file("none.json", `{"data": "mnist"}`) + " --out " + out, 2, "no model"},
		{"--recipe " + file("data.json", `{"model": "lenet5"}`) + " --out " + out, 2, "needs --data"},
		{"--recipe " + good, 2, "needs --out"},
		{"--recipe " + good + " --set lr --out " + out, 2, "FIELD=VALUE"},
		{"--recipe " + good + " --set lr=fast --out " + out, 2, `"lr" takes float64`},
		{"--recipe " + good + " --set width=x --out " + out, 2, "width"},
		{"--recipe " + good + " --schedule stairs --out " + out, 2, "stairs"},
		{"--recipe " + good + " --metrics top7 --out " + out, 2, "top7"},
		{"--resume " + dir, 3, "no epoch was finished"},
		{"--resume " + good, 3, "good.json"},
		{"lenet5 --resume " + dir, 2, "leave out lenet5"},
	} {
		r := cnnkit(t, append([]string{"train"}, strings.Fields(tt.args)...)...)
		if r.code != tt.code || !strings.Contains(r.err, tt.says) {
			t.Errorf("train %s: exit code %d: %s", tt.args, r.code, r.err)
		}
	}
}
