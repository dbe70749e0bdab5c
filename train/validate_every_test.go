package train

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/train/data"
)

// Every second epoch is validated, and the last; the others have no figures, in no file, and change no
// weight. The best model is of a validated epoch.
func TestValidateEvery(t *testing.T) {
	ds := waves(t, 12, 32)
	splits := data.Splits{Name: "waves", Train: ds, Validation: ds, Mean: []float32{0.5, 0.4, 0.5},
		Std: []float32{0.25, 0.2, 0.25}}
	var weights [2][]byte
	for i, every := range []int{0, 2} {
		m, err := builders.Build("resnet20", builders.Config{Blocks: []int{1, 1, 1}, Width: 4, Classes: 2})
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "run")
		r, err := Run(t.Context(), m, splits, Config{Epochs: 5, Batch: 6, Loss: "auto", Optimizer: "sgd",
			LR: 0.01, ValidateEvery: every}, dir, Observer{})
		if err != nil {
			t.Fatal(err)
		}
		if weights[i], err = os.ReadFile(filepath.Join(dir, LastFile)); err != nil {
			t.Fatal(err)
		}
		if every == 0 {
			continue
		}
		for _, e := range r.History {
			wanted := e.Epoch%2 == 0 || e.Epoch == 5
			b, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			var again Epoch
			if err := json.Unmarshal(b, &again); err != nil || math.IsNaN(again.ValidationLoss) == wanted {
				t.Errorf("epoch %d: %s, %v", e.Epoch, b, err)
			}
			if strings.Contains(string(b), "validation") != wanted {
				t.Errorf("epoch %d: %s", e.Epoch, b)
			}
		}
		if best := r.History[r.Best]; math.IsNaN(best.ValidationLoss) {
			t.Errorf("the best epoch is %+v", best)
		}
		table, err := os.ReadFile(filepath.Join(dir, HistoryFile))
		if err != nil || !strings.Contains(string(table), ",,,") || strings.Contains(string(table), "NaN") {
			t.Errorf("%s, %v", table, err)
		}
	}
	if string(weights[0]) != string(weights[1]) {
		t.Error("validation changes the weights")
	}
}

// A run that needs the figure of every epoch is refused.
func TestValidateEveryRefuses(t *testing.T) {
	for _, c := range []Config{{Patience: 2}, {Schedule: Schedule{Kind: OnPlateau}}} {
		c.Epochs, c.Batch, c.Loss, c.Optimizer, c.LR, c.ValidateEvery = 2, 1, "auto", "sgd", 0.1, 2
		if _, err := c.Rule(); err == nil || !strings.Contains(err.Error(), "validate_every") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
