package train

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/train/data"
)

// weighted gives the images to train on the weights 0, 0.5, 1, 1.5, 0, ...
func weighted(t testing.TB, s data.Splits) data.Splits {
	t.Helper()
	w := make([]float64, s.Train.Len())
	for i := range w {
		w[i] = float64(i%4) / 2
	}
	var err error
	if s.Train, err = data.WithWeights(s.Train, w); err != nil {
		t.Fatal(err)
	}
	return s
}

// trainedOn gives the model after a run.
func trainedOn(t *testing.T, s data.Splits, cfg Config) (string, *Result) {
	t.Helper()
	res, err := Run(t.Context(), lenet(t), s, cfg, "", Observer{})
	if err != nil {
		t.Fatal(err)
	}
	return encoded(t, res.Model), res
}

// An epoch of a sampler has the images that it draws, in its order, and no others: training on them
// as they stand is the same.
func TestSamplerTrainsOnItsDraws(t *testing.T) {
	splits := weighted(t, small(t, 40, 10))
	cfg := Config{Epochs: 1, Batch: 8, Optimizer: "sgd", LR: 0.01, Threads: 1, Seed: 3,
		Sampler: SamplerWeights, Draws: 60}
	got, res := trainedOn(t, splits, cfg)
	if res.History[0].TrainLoss == 0 {
		t.Fatal("nothing was trained")
	}
	s, err := data.NewSampler(data.Weights(splits.Train))
	if err != nil {
		t.Fatal(err)
	}
	tr, err := NewTrainer(lenet(t), Config{Optimizer: "sgd", LR: 0.01, Threads: 1, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	draws, steps := s.Draw(60, 3, 1), 0
	for at := 0; at < len(draws); at += 8 {
		part := draws[at:min(at+8, 60)]
		x, target := data.NewBatch(splits.Train, len(part))
		if err := splits.Train.Fill(x, target, part); err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Step(t.Context(), x, target); err != nil {
			t.Fatal(err)
		}
		steps++
	}
	m, err := tr.Export()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range m.Graph.Initializers {
		if p := res.Model.Graph.Initializer(want.Name); string(p.Raw) != string(want.Raw) {
			t.Errorf("%s differs after %d steps", want.Name, steps)
		}
	}
	cfg.Sampler, cfg.Draws = "", 0
	if every, _ := trainedOn(t, splits, cfg); every == got {
		t.Error("the sampler changes nothing")
	}
}

// Images of weight 0 teach nothing: those of weight 1 alone give the same loss and weights, times
// their share of the batch.
func TestSampleWeightsOfZero(t *testing.T) {
	all, some := small(t, 32, 10), small(t, 32, 10)
	w := make([]float64, 32)
	var kept []int
	for i := range w {
		if i%2 == 0 {
			w[i] = 2
			kept = append(kept, i)
		}
	}
	var err error
	if all.Train, err = data.WithWeights(all.Train, w); err != nil {
		t.Fatal(err)
	}
	some.Train = data.Subset{Dataset: some.Train, Indices: kept}
	cfg := Config{Epochs: 1, Batch: 32, Optimizer: "sgd", LR: 0.1, Threads: 1, SampleWeights: true}
	_, a := trainedOn(t, all, cfg)
	cfg.SampleWeights = false
	_, b := trainedOn(t, some, cfg)
	// The mean of 2*loss over 32, of which 16 count, is the mean of loss over these 16, to
	// float32's rounding of the sums.
	if x, y := a.History[0].TrainLoss, b.History[0].TrainLoss; x-y > 1e-5 || y-x > 1e-5 {
		t.Errorf("losses %v and %v", x, y)
	}
	for _, p := range a.Model.Graph.Initializers {
		for i, v := range b.Model.Graph.Initializer(p.Name).Float32s() {
			if d := p.Float32s()[i] - v; d > 1e-5 || d < -1e-5 {
				t.Fatalf("%s[%d] is %v and %v", p.Name, i, p.Float32s()[i], v)
			}
		}
	}
}

// A loss that its own graph measures validates without weights, as every loss does.
func TestSampleWeightsAreOfTraining(t *testing.T) {
	pixels, values := make([]uint8, 8*28*28), make([]float32, 8)
	for i := range pixels {
		pixels[i] = uint8(i * 7)
	}
	for i := range values {
		values[i] = float32(i) / 8
	}
	ds, err := data.NewValues([3]int{1, 28, 28}, pixels, values, []string{"level"}, []float32{0.5},
		[]float32{0.5})
	if err != nil {
		t.Fatal(err)
	}
	splits := weighted(t, data.Splits{Name: "values", Train: ds, Validation: ds})
	m, err := builders.Build("resnet20", builders.Config{Input: [3]int{1, 28, 28}, Classes: 1})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Epochs: 1, Batch: 8, Optimizer: "sgd", LR: 1e-3, Loss: LossMSE, SampleWeights: true,
		Threads: 1}
	res, err := Run(t.Context(), m, splits, cfg, "", Observer{})
	if err != nil {
		t.Fatal(err)
	}
	score, err := Measure(t.Context(), native(res.Model, nil), ds, 8, LossMSE, nil)
	if err != nil || !almost(score.Loss, res.History[0].ValidationLoss) {
		t.Errorf("the validation has a loss of %v, and %v without weights: %v", res.History[0].ValidationLoss,
			score.Loss, err)
	}
}

// Features of frozen layers are kept for images that are drawn again, with their weights, and change no bit.
func TestSamplerWithCachedFeatures(t *testing.T) {
	splits := weighted(t, small(t, 40, 10))
	cfg := Config{Epochs: 3, Batch: 8, Optimizer: "sgd", LR: 0.01, Threads: 1, Freeze: []string{"conv1"},
		Sampler: SamplerBalanced, SampleWeights: true}
	want, _ := trainedOn(t, splits, cfg)
	cfg.CacheFeatures = true
	if got, _ := trainedOn(t, splits, cfg); got != want {
		t.Error("cached features give other weights")
	}
}

func TestSamplersAreRefused(t *testing.T) {
	for says, c := range map[string]Config{
		"known are [balanced weights]": {Sampler: "even"},
		"set sampler":                  {Draws: 10},
		"weights of two":               {SampleWeights: true, Mix: runs["all"].Mix},
		"no weights":                   {Sampler: SamplerWeights},
		"sample_weights: the data set": {SampleWeights: true},
		"a loss for each image":        {SampleWeights: true, Loss: LossLovasz},
	} {
		c.Epochs, c.Batch, c.Optimizer, c.LR = 1, 8, "sgd", 0.1
		_, err := Run(t.Context(), lenet(t), small(t, 16, 8), c, "", Observer{})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	if _, err := NewTrainer(lenet(t), Config{Optimizer: "sgd", LR: 0.1,
		Sampler: SamplerBalanced}); err == nil || !strings.Contains(err.Error(), "belongs to Run") {
		t.Error(err)
	}
	r := Recipe{Config: Config{Epochs: 1, Batch: 8, Optimizer: "sgd", LR: 0.1}, WeightColumn: "weight"}
	if _, err := r.Run(t.Context(), lenet(t), small(t, 16, 8), "", Observer{}); err == nil ||
		!strings.Contains(err.Error(), "nothing reads") {
		t.Error(err)
	}
}

// A table's weights go from a recipe into the run, and its resumption compares them.
func TestWeightColumn(t *testing.T) {
	dir := t.TempDir()
	table := func(seldom string) {
		var b strings.Builder
		b.WriteString("path,label,split,often\n")
		for i := range 20 {
			img := image.NewGray(image.Rect(0, 0, 28, 28))
			for p := range img.Pix {
				img.Pix[p] = uint8(100*(i%2) + p%50)
			}
			img.SetGray(i, 0, color.Gray{255})
			f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%d.png", i)))
			if err != nil {
				t.Fatal(err)
			}
			if err := png.Encode(f, img); err != nil {
				t.Fatal(err)
			}
			f.Close()
			often, split := "1", "train"
			if i == 3 {
				often = seldom
			}
			if i >= 16 {
				split = "val"
			}
			fmt.Fprintf(&b, "%d.png,%s,%s,%s\n", i, []string{"dark", "bright"}[i%2], split, often)
		}
		if err := os.WriteFile(filepath.Join(dir, "t.csv"), []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	table("0.25")
	fields := Fields{"data": "csv:" + filepath.Join(dir, "t.csv"), "weight_column": "Often",
		"sampler": "weights", "sample_weights": true,
		"epochs": 1, "batch": 4, "mean": []float64{0.5}, "std": []float64{0.5}, "size": "28x28"}
	recipe, err := fields.Recipe("lenet5")
	if err != nil {
		t.Fatal(err)
	}
	open := func() data.Splits {
		s, err := recipe.Open(t.Context(), lenet(t))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	if w := data.Weights(s.Train); len(w) != 16 || w[3] != 0.25 || w[4] != 1 {
		t.Fatal(w)
	}
	run := t.TempDir()
	reports := NewReports(recipe, s, run, nil, nil)
	res, err := recipe.Run(t.Context(), lenet(t), s, run, reports.Observer(Observer{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := reports.Close(t.Context(), res, nil); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(run, "report.html"))
	for _, want := range []string{"weight_column", "Often", "sampler", "sample_weights"} {
		if err != nil || !strings.Contains(string(page), want) {
			t.Errorf("the report does not say %s: %v", want, err)
		}
	}
	c, err := LoadCheckpoint(run)
	if err != nil {
		t.Fatal(err)
	}
	recipe.Epochs = 2
	if _, err := recipe.Resume(t.Context(), c, open(), "", Observer{}); err != nil {
		t.Error(err)
	}
	table("0.5")
	if _, err := recipe.Resume(t.Context(), c, open(), "", Observer{}); err == nil ||
		!strings.Contains(err.Error(), "has changed") {
		t.Errorf("another weight: %v", err)
	}
	other := recipe
	other.Draws = 8
	if _, err := other.Resume(t.Context(), c, open(), "", Observer{}); err == nil ||
		!strings.Contains(err.Error(), "draws was") {
		t.Errorf("another number of draws: %v", err)
	}
}
