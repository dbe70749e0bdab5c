package train

import (
	"context"
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/train/data"
)

// answers are a data set of several labels an image, whose first pixel says which row
// of outputs is its answer.
func answers(t *testing.T, outputs []float64, labels []float32, k int) (data.Dataset, Forward) {
	t.Helper()
	n := len(labels) / k
	pixels := make([]uint8, n)
	for i := range pixels {
		pixels[i] = uint8(i)
	}
	names := make([]string, k)
	for i := range names {
		names[i] = string(rune('a' + i))
	}
	ds, err := data.NewValues([3]int{1, 1, 1}, pixels, labels, names, []float32{0}, []float32{1})
	if err != nil {
		t.Fatal(err)
	}
	return ds, func(_ context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) {
		y := onnxio.NewTensor(onnxio.Float, x.Dims[0], int64(k))
		for i, v := range x.Float32s() {
			row := int(math.Round(float64(v) * 255))
			for j := range k {
				y.Float32s()[i*k+j] = float32(outputs[row*k+j])
			}
		}
		return y, nil
	}
}

// The thresholds of the highest F1 reach what scikit-learn's precision_recall_curve has for the best of all
// thresholds, ties among the answers included; every figure is then by them, and the loss as before. Counts
// are whole numbers: 1e-12.
func TestBestThresholdsFollowScikitLearn(t *testing.T) {
	var want struct {
		N, K    int
		Outputs []float64
		Several []float32
		Best    []float64 `json:"best_f1"`
		AtHalf  []float64 `json:"f1_at_half"`
	}
	readJSON(t, "thresholds.json", &want)
	ds, forward := answers(t, want.Outputs, want.Several, want.K)
	cfg := Config{Loss: LossBCE, Metrics: []string{"f1"}}
	half, err := cfg.Measure(t.Context(), forward, ds, 7)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Thresholds.Best = true
	best, err := cfg.Measure(t.Context(), forward, ds, 7)
	if err != nil {
		t.Fatal(err)
	}
	if len(best.Thresholds) != want.K || half.Thresholds != nil {
		t.Fatal(best.Thresholds, half.Thresholds)
	}
	mean := 0.0
	for i := range want.K {
		if !almost(half.Classes[i].F1, want.AtHalf[i]) || !almost(best.Classes[i].F1, want.Best[i]) {
			t.Errorf("label %d: F1 %v and at best %v, scikit-learn has %v and %v", i, half.Classes[i].F1,
				best.Classes[i].F1, want.AtHalf[i], want.Best[i])
		}
		mean += want.Best[i] / float64(want.K)
	}
	if !almost(best.Metrics["f1"], mean) || best.Loss != half.Loss || best.Accuracy == half.Accuracy {
		t.Errorf("f1 %v of %v, loss %v and %v, accuracy %v and %v", best.Metrics["f1"], mean, best.Loss,
			half.Loss, best.Accuracy, half.Accuracy)
	}
	// What was found gives the same when it is said.
	cfg.Thresholds = Thresholds{Each: best.Thresholds}
	said, err := cfg.Measure(t.Context(), forward, ds, 40)
	if err != nil || !slices.Equal(said.Classes, best.Classes) || !almost(said.Accuracy, best.Accuracy) ||
		!slices.Equal(said.Thresholds, best.Thresholds) {
		t.Errorf("%+v, not %+v: %v", said, best, err)
	}
}

func TestBestThreshold(t *testing.T) {
	for _, c := range []struct {
		scores   []float64
		positive []bool
		want     float64
	}{
		{[]float64{3, 1, -1, -3}, []bool{true, true, false, false}, 0.5},
		// all are taken: half of 0.5, of one digit
		{[]float64{0, 0, 0}, []bool{true, false, true}, 0.2},
		{[]float64{2, 1.9999, 1}, []bool{true, false, false}, 0.88079}, // 0.880797 and 0.880787
		{[]float64{1, 2}, []bool{false, false}, 0.5},
		{nil, nil, 0.5},
	} {
		if got := BestThreshold(c.scores, c.positive); got != c.want {
			t.Errorf("%v %v: %v", c.scores, c.positive, got)
		}
	}
}

func TestThresholdsAreRefused(t *testing.T) {
	for says, h := range map[string]Thresholds{"threshold 1.5": {Each: []float64{1.5}},
		"threshold NaN":     {Each: []float64{math.NaN()}},
		"3 thresholds of 2": {Each: []float64{0.1, 0.2, 0.3}}} {
		ds, forward := answers(t, []float64{1, 2}, []float32{1, 0}, 2)
		if _, err := (Config{Loss: LossBCE, Thresholds: h}).Measure(t.Context(), forward, ds,
			1); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	cfg := Config{Epochs: 1, Batch: 8, Optimizer: "sgd", LR: 0.1, Thresholds: Thresholds{Best: true}}
	if _, err := Run(t.Context(), lenet(t), small(t, 8, 8), cfg, "", Observer{}); err == nil ||
		!strings.Contains(err.Error(), "several labels an image") {
		t.Error(err)
	}
	for text, ok := range map[string]bool{`"f1"`: true, `[0.5,0.25]`: true, `"f2"`: false, `0.5`: false} {
		var h Thresholds
		if err := json.Unmarshal([]byte(text), &h); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
		if back, err := json.Marshal(h); ok && (err != nil || string(back) != text) {
			t.Errorf("%s becomes %s: %v", text, back, err)
		}
	}
}

// A run leaves its thresholds in the model, where predict and eval find them: those of the recipe, or those
// that the last validation has found.
func TestRunLeavesItsThresholds(t *testing.T) {
	ds, _ := answers(t, nil, []float32{1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 1}, 2)
	build := func() *onnxio.Model {
		b := builders.New("labels", 0, 1, 1, 1, 1)
		m, err := b.Model(b.Linear("fc", b.Flatten("flatten", b.Input()), 2))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, h := range []Thresholds{{Best: true}, {Each: []float64{0.25, 0.75}}, {}} {
		dir := t.TempDir()
		cfg := Config{Epochs: 2, Batch: 3, Optimizer: "sgd", LR: 0.1, Loss: LossBCE, Thresholds: h,
			Metrics: []string{"f1"}}
		res, err := Run(t.Context(), build(), data.Splits{Name: "labels", Train: ds, Validation: ds,
			Mean: []float32{0}, Std: []float32{1}}, cfg, dir, Observer{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := onnxio.Load(filepath.Join(dir, LastFile))
		if err != nil {
			t.Fatal(err)
		}
		s, err := spec.Get(m)
		if err != nil {
			t.Fatal(err)
		}
		got := s.Output.Thresholds
		if h.Best {
			cfg.Thresholds = Thresholds{Each: got}
			score, err := cfg.Measure(t.Context(), native(m, nil), ds, 6)
			if last := res.History[1].Metrics["f1"]; err != nil || len(got) != 2 ||
				score.Metrics["f1"] != last {
				t.Errorf("%v give an F1 of %v, and the run had %v: %v", got, score.Metrics["f1"], last, err)
			}
		} else if !slices.Equal(got, h.Each) {
			t.Errorf("%v became %v", h.Each, got)
		}
	}
}
