package train

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// keptIn lists the files of single epochs in a run's folder.
func keptIn(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "epoch-*"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range paths {
		names = append(names, filepath.Base(p))
	}
	return names
}

// With Keep the last epochs are in files of their own, whole after every epoch, and the run
// goes on from any of them.
func TestKeptEpochs(t *testing.T) {
	dir, m := t.TempDir(), tinyNet(t)
	foreign := filepath.Join(dir, "epoch-1.onnx") // not a name that the run gives
	stale := filepath.Join(dir, "epoch-0009.onnx")
	for _, path := range []string{foreign, stale} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := Config{Epochs: 5, Batch: 5, Optimizer: "adam", LR: 0.01, Keep: 2}
	models := map[int]string{}
	_, err := Run(t.Context(), m, tinySplits(t), cfg, dir, Observer{Epoch: func(e Epoch) {
		models[e.Epoch] = encoded(t, m)
		want := []string{"epoch-1.onnx"}
		for n := max(1, e.Epoch-1); n <= e.Epoch; n++ {
			want = append(want, fmt.Sprintf("epoch-%04d.onnx", n), fmt.Sprintf("epoch-%04d.safetensors", n))
		}
		if got := keptIn(t, dir); !slices.Equal(slices.Sorted(slices.Values(got)),
			slices.Sorted(slices.Values(want))) {
			t.Errorf("after epoch %d: %v, not %v", e.Epoch, got, want)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	model, checkpoint := EpochFiles(4)
	kept, err := onnxio.Load(filepath.Join(dir, model))
	if err != nil || encoded(t, kept) != models[4] {
		t.Errorf("%s is not the model of epoch 4: %v", model, err)
	}
	c, err := LoadCheckpoint(filepath.Join(dir, checkpoint))
	if err != nil {
		t.Fatal(err)
	}
	again := cfg
	again.Keep = 1
	res, err := Recipe{Config: again}.Resume(t.Context(), c, tinySplits(t), dir, Observer{})
	if err != nil {
		t.Fatal(err)
	}
	if encoded(t, res.Model) != models[5] {
		t.Error("from the checkpoint of epoch 4 the run ends in another model")
	}
	if got := keptIn(t, dir); len(got) != 3 || got[0] != "epoch-0005.onnx" {
		t.Errorf("with --keep 1 there are %v", got)
	}
}
