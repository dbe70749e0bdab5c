package models

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// Every model has a card, and its recipe and history lie beside it. The program's module evaluates them.
func TestFolders(t *testing.T) {
	models, err := filepath.Glob("*/model.onnx")
	if err != nil || len(models) == 0 {
		t.Fatalf("no models: %v", err)
	}
	for _, model := range models {
		dir := filepath.Dir(model)
		for _, name := range []string{"card.md", "recipe.json", "history.csv"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
		if raw, err := os.ReadFile(model); err != nil || !bytes.Contains(raw[:min(len(raw), 200)],
			[]byte("cnnkit")) {
			t.Errorf("%s: no model of this program's: %v", model, err)
		}
	}
}
