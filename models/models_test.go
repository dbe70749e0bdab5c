package models

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Every folder has a card, the recipe and the history; the largest have no model, which the card's command makes.
// The program's module evaluates those that are here.
func TestFolders(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		found++
		dir := e.Name()
		for _, name := range []string{"card.md", "recipe.json", "history.csv", "history.png"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
		model, err := os.ReadFile(filepath.Join(dir, "model.onnx"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !bytes.Contains(model[:min(len(model), 200)], []byte("cnnkit")) {
			t.Errorf("%s: no model of this program's: %v", dir, err)
		}
	}
	if found == 0 {
		t.Error("no folders")
	}
}
