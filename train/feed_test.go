package train

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/train/data"
	"github.com/cnnkit/cnnkit/train/data/transforms"
)

func augmented(t testing.TB) (transforms.Compose, transforms.BatchCompose) {
	t.Helper()
	list, err := transforms.Parse(
		[]byte(`[{"name": "RandomAffine", "degrees": 10, "translate": [0.1, 0.1]}, {"name": "RandomCrop", "size": 28, "padding": 2}]`))
	if err != nil {
		t.Fatal(err)
	}
	mix, err := transforms.ParseBatch(
		[]byte(`[{"name": "MixUp", "alpha": 0.4, "p": 0.7}, {"name": "CutMix", "p": 0.5}]`))
	if err != nil {
		t.Fatal(err)
	}
	return list, mix
}

// Runs with augmentation and mixed batches are interrupted at random steps and end in the same bits.
func TestResumedAugmentedRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("trains again and again: run without -short")
	}
	for _, name := range []string{"sgd", "adam", "ema", "swa"} {
		t.Run(name, func(t *testing.T) {
			cfg, build := resumable(name), network(name)
			plain := stopped(t, build, cfg, t.TempDir())
			cfg.Augment, cfg.Mix = augmented(t)
			want := stopped(t, build, cfg, t.TempDir())
			if want == plain {
				t.Error("augmentation changes nothing")
			}
			for i, before := range rand.New(rand.NewPCG(7, 8)).Perm(26)[:10] {
				at := before + 1
				if cfg.Workers = i % 4; stopped(t, build, cfg, t.TempDir(), at) != want {
					t.Errorf("interrupted after step %d, with %d workers, the run ends in other weights",
						at, cfg.Workers)
				}
			}
			if stopped(t, build, cfg, t.TempDir(), 2, 3, 11, 18, 26) != want {
				t.Error("interrupted five times the run ends in other weights")
			}
		})
	}
}

// A loader gives the batches that are copied from memory otherwise.
func TestLoaderChangesNothing(t *testing.T) {
	cfg := resumable("adam")
	want := stopped(t, lenet, cfg, t.TempDir())
	for _, workers := range []int{1, 3} {
		if cfg.Workers = workers; stopped(t, lenet, cfg, t.TempDir()) != want {
			t.Errorf("%d workers: other weights", workers)
		}
	}
}

// Masks come from a loader in the form that the loss takes, whatever the data set has.
func TestLoaderOfMasks(t *testing.T) {
	for _, tt := range []struct {
		loss              string
		channels, classes int
	}{{LossBCEDice, 1, 2}, {LossCrossEntropy, 2, 2}, {LossCrossEntropy, 3, 3}} {
		cfg := Config{Epochs: 2, Batch: 7, Loss: tt.loss, Optimizer: "adam", LR: 5e-3,
			Metrics: []string{"iou"}}
		var want string
		for _, workers := range []int{0, 2} {
			cfg.Workers = workers
			res, err := Run(t.Context(), unet(t, tt.channels), blocks(t, 24, tt.classes), cfg, "", Observer{})
			if err != nil {
				t.Fatalf("%+v: %v", tt, err)
			}
			if got := encoded(t, res.Model); want != "" && got != want {
				t.Errorf("%+v: the loader gives other weights", tt)
			} else {
				want = got
			}
		}
	}
}

func TestMixAndLosses(t *testing.T) {
	cfg := resumable("sgd")
	cfg.Epochs = 1
	_, cfg.Mix = augmented(t)
	for loss, used := range map[string]string{"": LossSoftNLL, LossNLL: LossSoftNLL,
		LossSoftNLL: LossSoftNLL} {
		cfg.Loss = loss
		res, err := Run(t.Context(), lenet(t), small(t, 100, 20), cfg, "", Observer{})
		if err != nil || res.Loss != used || res.History[0].TrainAccuracy > 1 {
			t.Errorf("%q: %v, %+v", loss, err, res)
		}
	}
	cfg.Loss = LossFocal
	if _, err := Run(t.Context(), lenet(t), small(t, 100, 20), cfg, "", Observer{}); err == nil ||
		!strings.Contains(err.Error(), "soft targets") {
		t.Error(err)
	}
	cfg.Loss, cfg.Mix = "", nil
	if _, err := Run(t.Context(), unet(t, 1), blocks(t, 8, 2), Config{Epochs: 1, Batch: 2, LR: 1,
		Optimizer: "sgd", Mix: transforms.BatchCompose{transforms.MixUp{P: 1}}}, "", Observer{}); err == nil {
		t.Error("masks are mixed")
	}
}

// pictures writes n images of two classes, 9x7 pixels.
func pictures(t testing.TB, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		class := filepath.Join(dir, []string{"dark", "light"}[i%2])
		if err := os.MkdirAll(class, 0o777); err != nil {
			t.Fatal(err)
		}
		img := image.NewGray(image.Rect(0, 0, 9, 7))
		for k := range img.Pix {
			img.Pix[k] = uint8(i%2*150 + (i*31+k*17)%100)
		}
		img.SetGray(0, 0, color.Gray{uint8(i)})
		f, err := os.Create(filepath.Join(class, fmt.Sprintf("%03d.png", i)))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(png.Encode(f, img), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Image files take the model's form; parts and subsets are those asked for, the same ones for every seed.
func TestOpen(t *testing.T) {
	word := "images:" + pictures(t, 40)
	ctx := context.Background()
	recipe := Recipe{Data: word, Validation: 0.25}
	s, err := recipe.Open(ctx, lenet(t))
	if err != nil || s.Train.Shape() != [3]int{1, 28, 28} || s.Train.Len() != 30 || s.Validation.Len() != 10 {
		t.Fatalf("%v: %v, %d and %d images", err, s.Train.Shape(), s.Train.Len(), s.Validation.Len())
	}
	recipe.Size, recipe.Subset, recipe.Stratified, recipe.InMemory, recipe.Seed = "14x12", 10, true, true, 9
	sub, err := recipe.Open(ctx, nil)
	if err != nil || sub.Train.Shape() != [3]int{3, 14, 12} || sub.Train.Len() != 10 ||
		sub.Validation.Len() != 10 || !inMemory(sub.Train) {
		t.Fatalf("%v: %v, %d and %d images", err, sub.Train.Shape(), sub.Train.Len(), sub.Validation.Len())
	}
	counts, err := data.Counts(sub.Train)
	if err != nil || counts[0] != 5 || counts[1] != 5 {
		t.Errorf("%v, %v", counts, err)
	}
	mnist := Recipe{Data: "mnist", Size: "32", Validation: 0.1, Subset: 160, Stratified: true}
	if s, err = mnist.Open(ctx, nil); err != nil || s.Train.Shape() != [3]int{1, 32, 32} ||
		s.Train.Len() != 160 || s.Validation.Len() != 6000 {
		t.Fatalf("%v: %v, %d and %d images", err, s.Train.Shape(), s.Train.Len(), s.Validation.Len())
	}
	for says, r := range map[string]Recipe{"size": {Data: "mnist", Size: "0x3"},
		"subset of 60001": {Data: "mnist", Subset: 60001}, "minst": {Data: "minst"}} {
		if _, err := r.Open(ctx, nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// A whole run on image files, and the error of a corrupt one names it.
func TestRunOnFiles(t *testing.T) {
	dir := pictures(t, 40)
	recipe := Recipe{Data: "images:" + dir, Config: Config{Epochs: 3, Batch: 8, Optimizer: "adam", LR: 1e-3}}
	recipe.Augment, recipe.Mix = augmented(t)
	recipe.Augment = append(transforms.Compose{transforms.Resize{Size: transforms.Ints{28, 28}}},
		recipe.Augment...)
	recipe.Mix = nil
	for _, bad := range []bool{false, true} {
		if bad {
			if err := os.WriteFile(filepath.Join(dir, "dark", "000.png"), []byte("no picture"),
				0o600); err != nil {
				t.Fatal(err)
			}
		}
		m := lenet(t)
		s, err := recipe.Open(t.Context(), m)
		if err == nil {
			_, err = recipe.Run(t.Context(), m, s, "", Observer{})
		}
		if (err != nil) != bad || bad && !strings.Contains(err.Error(), "000.png") {
			t.Errorf("corrupt %v: %v", bad, err)
		}
	}
}
