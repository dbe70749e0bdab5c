package train

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// A search sees what PyTorch sees, and says what PyTorch Lightning's rule says: rates to 1e-12, losses within
// 1e-3 of 1 + l (PyTorch computes in float64, and large rates amplify roundings), the suggestion the same
// step. The model stays as it was.
func TestFindLRFollowsPyTorch(t *testing.T) {
	var cases []struct {
		Find                    FindLR
		Momentum                float64
		Rates, Losses, Smoothed []float64
		Suggestion              float64
		Diverged                bool
	}
	readJSON(t, "find_lr.json", &cases)
	ended := 0
	for i, c := range cases {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			m := tinyNet(t)
			before := encoded(t, m)
			recipe := Recipe{Config: Config{Epochs: 1, Batch: 12, Optimizer: "sgd", LR: 7,
				Momentum: c.Momentum, EMA: 0.5, Schedule: Schedule{Kind: Cosine}}}
			s, err := recipe.FindLR(t.Context(), m, tinySplits(t), c.Find)
			if err != nil {
				t.Fatal(err)
			}
			if encoded(t, m) != before {
				t.Error("the model is not what it was")
			}
			if len(s.Steps) != len(c.Rates) || s.Diverged != c.Diverged {
				t.Fatalf("%d steps, diverged: %v; PyTorch has %d, %v", len(s.Steps), s.Diverged,
					len(c.Rates), c.Diverged)
			}
			if s.Diverged {
				ended++
			}
			for j, step := range s.Steps {
				for _, v := range [][3]float64{{step.LR, c.Rates[j], 1e-12}, {step.Loss, c.Losses[j], 1e-3},
					{step.Smoothed, c.Smoothed[j], 1e-3}} {
					if d := math.Abs(v[0] - v[1]); !(d <= v[2]*(1+v[1])) {
						t.Fatalf("step %d: %v, PyTorch has %v", j+1, v[0], v[1])
					}
				}
			}
			if d := math.Abs(s.Suggestion - c.Suggestion); !(d <= 1e-9*c.Suggestion) {
				t.Errorf("suggestion %v, not %v", s.Suggestion, c.Suggestion)
			}
		})
	}
	if ended == 0 || ended == len(cases) {
		t.Errorf("%d of %d searches diverge: some are to, and some not", ended, len(cases))
	}
}

// The slope is steepest in the middle of a logistic fall; where nothing falls there is no suggestion.
func TestSteepest(t *testing.T) {
	var fall, rise []SweepStep
	for i := range 101 {
		x := float64(i-50) / 8
		lr := math.Pow(10, -6+6*float64(i)/100)
		fall = append(fall, SweepStep{LR: lr, Smoothed: 2 - 1/(1+math.Exp(-x))})
		rise = append(rise, SweepStep{LR: lr, Smoothed: float64(i)})
	}
	if got := steepest(settled(fall)); math.Abs(got-1e-3) > 1e-12 {
		t.Errorf("%v, not 1e-3", got)
	}
	for _, none := range [][]SweepStep{rise, fall[:2], nil} {
		if got := steepest(settled(none)); got != 0 {
			t.Errorf("%v of %d steps", got, len(none))
		}
	}
}

// Neither rate is one at which the smoothing has not settled: there a single batch
// looks like the lowest loss.
func TestSearchLeavesOutItsStart(t *testing.T) {
	s, err := Recipe{Config: Config{Epochs: 1, Batch: 5, Optimizer: "sgd"}}.FindLR(t.Context(), tinyNet(t),
		tinySplits(t), FindLR{Low: 1e-9, High: 1e-8, Steps: 40})
	if err != nil {
		t.Fatal(err)
	}
	if first := s.Steps[4].LR; s.Lowest < first || s.Suggestion != 0 && s.Suggestion < first {
		t.Errorf("lowest at %v, steepest at %v: settled from %v on", s.Lowest, s.Suggestion, first)
	}
}

// A search goes through the data as often as it takes, gathers gradients, keeps to its end where numbers are
// not finite, and leaves a table and a picture.
func TestFindLR(t *testing.T) {
	recipe := Recipe{Config: Config{Epochs: 1, Batch: 5, Optimizer: "lamb", LR: 1, Accumulate: 2}}
	s, err := recipe.FindLR(t.Context(), tinyNet(t), tinySplits(t), FindLR{Steps: 20})
	if err != nil || len(s.Steps) != 20 {
		t.Fatalf("%v: %+v", err, s)
	}
	dir := t.TempDir()
	table, picture := filepath.Join(dir, FindLRFile), filepath.Join(dir, FindLRPlotFile)
	if err := errors.Join(s.WriteCSV(table), s.Plot(picture)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(table)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if rows, err := csv.NewReader(f).ReadAll(); err != nil || len(rows) != 21 || rows[1][1] != "1e-07" ||
		rows[20][1] != "10" {
		t.Errorf("%v: %v", err, rows)
	}
	p, err := os.Open(picture)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if img, err := png.Decode(p); err != nil || img.Bounds().Dx() < 500 {
		t.Error(err)
	}
	recipe = Recipe{Config: Config{Epochs: 1, Batch: 12, Optimizer: "sgd", LR: 1}}
	s, err = recipe.FindLR(t.Context(), tinyNet(t), tinySplits(t), FindLR{Low: 1, High: 1e38, Steps: 20,
		Diverged: 1e30})
	if err != nil || !s.Diverged || len(s.Steps) == 0 || len(s.Steps) == 20 {
		t.Errorf("%v: %+v", err, s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := recipe.FindLR(ctx, tinyNet(t), tinySplits(t), FindLR{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for _, find := range []FindLR{{Low: -1}, {Low: 1, High: 1}, {Steps: 2}, {Smooth: 1}, {Diverged: 0.5},
		{Low: math.NaN()}, {High: math.Inf(1)}} {
		if _, err := recipe.FindLR(t.Context(), tinyNet(t), tinySplits(t), find); err == nil {
			t.Errorf("%+v is no mistake", find)
		}
	}
}
