package train

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/train/report"
)

// Figures of an epoch are logged after its checkpoint. Where a run is killed between the two,
// the resumed one logs them.
func TestResumedRunCatchesUpItsLog(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, report.StepLinesFile)
	recipe := Recipe{Config: Config{Epochs: 1, Batch: 8, Optimizer: "sgd", LR: 0.01, Threads: 1}}
	go_ := func(from *Checkpoint) {
		splits := small(t, 32, 16)
		reports := NewReports(recipe, splits, dir, from, nil)
		reports.Log(func(_ report.Run, steps int64) (report.Logger, error) {
			return report.NewLineLogger(log, steps)
		})
		var res *Result
		var err error
		if from == nil {
			res, err = recipe.Run(t.Context(), lenet(t), splits, dir, reports.Observer(Observer{}))
		} else {
			res, err = recipe.Resume(t.Context(), from, splits, dir, reports.Observer(Observer{}))
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := reports.Close(t.Context(), res, nil); err != nil {
			t.Fatal(err)
		}
	}
	lines := func() []string {
		raw, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.SplitAfter(strings.TrimSuffix(string(raw), "\n"), "\n")
	}
	go_(nil)
	for _, killed := range []bool{true, false} {
		if killed { // before the figures of the epoch were logged
			all := lines()
			if !strings.Contains(all[4], "validation_loss") {
				t.Fatal(all)
			}
			if err := os.WriteFile(log, []byte(strings.Join(all[:4], "")), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		from, err := LoadCheckpoint(dir)
		if err != nil {
			t.Fatal(err)
		}
		recipe.Epochs++
		go_(from)
		var epochs []int
		for i, line := range lines() {
			if strings.Contains(line, "validation_loss") {
				epochs = append(epochs, i)
			}
		}
		if len(epochs) != recipe.Epochs || epochs[0] != 4 || epochs[1] != 9 {
			t.Errorf("the figures of %d epochs stand in lines %v", recipe.Epochs, epochs)
		}
	}
}
