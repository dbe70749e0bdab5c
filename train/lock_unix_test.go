package train

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Two runs do not write into one folder, and a finished one leaves no lock.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, lockFile)); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Epochs: 1, Batch: 32, Optimizer: "sgd", LR: 0.05}
	if _, err := Run(t.Context(), lenet(t), small(t, 64, 10), cfg, dir, Observer{}); err == nil ||
		!strings.Contains(err.Error(), "another run") {
		t.Error(err)
	}
	unlock()
	if _, err := Run(t.Context(), lenet(t), small(t, 64, 10), cfg, dir, Observer{}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, lockFile)); err == nil {
		t.Error("the lock is still there")
	}
}
