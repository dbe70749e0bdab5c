package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/cnnkit/cnnkit/examples/parts"
	"github.com/cnnkit/cnnkit/train"
)

// What an outside package registers is listed, helped with and trained with by flags and by a
// recipe, to the same bits.
func TestRegisteredOnTheCommandLine(t *testing.T) {
	for kind, name := range map[string]string{"losses": "twice", "metrics": "sureness", "optimizers": "plain",
		"transforms": "Darken", "data": "stripes"} {
		if out := done(t, "list", kind); !strings.Contains(out, name) {
			t.Errorf("cnnkit list %s lacks %s:\n%s", kind, name, out)
		}
	}
	help := done(t, "train", "--help")
	for _, name := range []string{"twice", "sureness", "plain"} {
		if !strings.Contains(help, name) {
			t.Errorf("the help lacks %s", name)
		}
	}
	dir := t.TempDir()
	flags, recipe := filepath.Join(dir, "flags"), filepath.Join(dir, "recipe")
	done(t, "train", "lenet5", "--data", "stripes", "--loss", "twice", "--metrics", "sureness",
		"--optimizer", "plain",
		"--augment", `[{"name": "Darken", "by": 9}]`, "--set", "settings.times=3", "--set",
		"settings.friction=0.5",
		"--epochs", "2", "--batch", "8", "--no-report", "--out", flags)
	fields, err := json.Marshal(map[string]any{"model": "lenet5", "data": "stripes", "loss": "twice",
		"metrics":   []string{"sureness"},
		"optimizer": "plain", "augment": []any{map[string]any{"name": "Darken", "by": 9}},
		"settings": map[string]any{"times": 3, "friction": 0.5}, "epochs": 2, "batch": 8})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "recipe.json")
	if err := os.WriteFile(file, fields, 0o600); err != nil {
		t.Fatal(err)
	}
	done(t, "train", "--recipe", file, "--no-report", "--out", recipe)
	a, err1 := os.ReadFile(filepath.Join(flags, train.LastFile))
	b, err2 := os.ReadFile(filepath.Join(recipe, train.LastFile))
	if err1 != nil || err2 != nil || string(a) != string(b) {
		t.Errorf("flags and recipe train to other models: %v, %v", err1, err2)
	}
	var score map[string]any
	answer(t, &score, "eval", filepath.Join(flags, train.LastFile), "--data", "stripes",
		"--metrics", "sureness")
	if _, ok := score["sureness"].(float64); !ok {
		t.Errorf("eval gives %v", score)
	}
	for _, wrong := range []string{"settings.tims=3", `augment=[{"name": "Darken", "by": 300}]`} {
		if r := cnnkit(t, "train", "lenet5", "--data", "stripes", "--loss", "twice", "--set", wrong, "--out",
			filepath.Join(dir, "wrong")); r.code != exitUsage {
			t.Errorf("%s: exit code %d, %s", wrong, r.code, r.err)
		}
	}
}
