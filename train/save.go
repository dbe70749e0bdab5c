package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Files that Run leaves in its folder, beside CheckpointFile and RecipeFile.
const (
	LastFile        = "model.onnx"       // after the last finished epoch
	BestFile        = "best.onnx"        // after the best epoch, by the monitored figure
	InterruptedFile = "interrupted.onnx" // within an epoch, when the run was interrupted
	HistoryFile     = "history.csv"
	PlotFile        = "history.png"
	// scores of each class after the last epoch, when metrics were asked for
	MetricsFile   = "metrics.json"
	ConfusionFile = "confusion.png" // after the last epoch, when it was asked for
)

// lockFile is in a folder while a run writes there.
const lockFile = "run.lock"

// writable makes the folder and tries to write in it, before hours of training.
func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("output folder: %w", err)
	}
	f, err := os.CreateTemp(dir, ".cnnkit-*")
	if err != nil {
		return fmt.Errorf("output folder %s cannot be written to: %w", dir, err)
	}
	f.Close()
	return os.Remove(f.Name())
}

// save writes what a finished epoch leaves. The checkpoint comes last: where one before it fails, the run
// goes on from the checkpoint before and writes the same again.
func (r *run) save(best bool) error {
	in := func(name string) string { return filepath.Join(r.dir, name) }
	if err := onnxio.Save(in(LastFile), r.result.Model); err != nil {
		return err
	}
	if best {
		if err := onnxio.Save(in(BestFile), r.result.Model); err != nil {
			return err
		}
	}
	if err := WriteCSV(in(HistoryFile), r.result.History); err != nil {
		return err
	}
	if err := Plot(in(PlotFile), r.result.History); err != nil {
		return err
	}
	if err := r.saveMetrics(); err != nil {
		return err
	}
	if err := r.checkpoint(); err != nil {
		return err
	}
	return r.keep()
}

// keep writes the finished epoch's model and checkpoint under names of their own, and then takes away those
// of all but the last Keep epochs: of later ones too, which another run has left.
func (r *run) keep() error {
	k, epoch := r.cfg.Keep, r.at-1
	if k == 0 {
		return nil
	}
	model, checkpoint := EpochFiles(epoch)
	if err := onnxio.Save(filepath.Join(r.dir, model), r.result.Model); err != nil {
		return err
	}
	if err := r.kept.Save(filepath.Join(r.dir, checkpoint)); err != nil {
		return err
	}
	files, err := os.ReadDir(r.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		var n int
		if _, err := fmt.Sscanf(f.Name(), "epoch-%d.", &n); err != nil || n > epoch-k && n <= epoch {
			continue
		}
		if model, checkpoint := EpochFiles(n); f.Name() == model || f.Name() == checkpoint {
			if err := os.Remove(filepath.Join(r.dir, f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// EpochFiles are the names of the model and the checkpoint that an epoch leaves with Config.Keep.
func EpochFiles(epoch int) (model, checkpoint string) {
	name := fmt.Sprintf("epoch-%04d", epoch)
	return name + ".onnx", name + ".safetensors"
}

func (r *run) saveMetrics() error {
	h, c, classes := r.result.History, r.result.Confusion, r.result.classes
	if len(r.measured()) == 0 {
		return nil
	}
	if c != nil && slices.Contains(r.cfg.Metrics, "confusion") {
		if err := c.Plot(filepath.Join(r.dir, ConfusionFile)); err != nil {
			return err
		}
	}
	return writeJSON(filepath.Join(r.dir, MetricsFile), map[string]any{"epoch": h[len(h)-1],
		"classes": classes, "confusion": c})
}

// writeJSON writes one indented document, atomically.
func writeJSON(path string, v any) error {
	return onnxio.WriteFile(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}

// checkpoint keeps the state of this moment, and writes it when there is a folder.
func (r *run) checkpoint() error {
	c, err := r.capture()
	if err != nil {
		return err
	}
	if name, v := r.strangeParameter(c.model); name != "" { // what was saved before is worth more
		return &DivergedError{Epoch: r.at, Step: r.done, What: fmt.Sprintf("%q is %v", name, v)}
	}
	r.kept = c
	if r.dir == "" {
		return nil
	}
	return c.Save(filepath.Join(r.dir, CheckpointFile))
}

// interrupted saves the weights of this moment beside those of the last finished epoch, and a checkpoint.
func (r *run) interrupted(ctx context.Context) error {
	e := &InterruptedError{Epoch: r.at, Step: r.done, Err: context.Cause(ctx)}
	if r.dir == "" || r.trainer.Steps() == 0 {
		return e
	}
	if err := r.checkpoint(); err != nil {
		return errors.Join(e, r.explained(context.WithoutCancel(ctx), err))
	}
	e.Checkpoint = filepath.Join(r.dir, CheckpointFile)
	path := filepath.Join(r.dir, InterruptedFile)
	if err := onnxio.Save(path, r.kept.model); err != nil {
		return errors.Join(e, err)
	}
	e.Saved = path
	return e
}
