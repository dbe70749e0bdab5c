package main

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/train"
)

// swept is what sweep --json gives.
type swept struct {
	Runs    []train.Row
	Summary []train.Summary
}

// A sweep trains every combination as train does, and goes on where it was interrupted.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	args := []string{"sweep", "lenet5", "--data", "stripes", "--epochs", "2", "--batch", "8",
		"--metrics", "f1",
		"--vary", "lr=0.05,0.01", "--vary", "seed=0..2", "--out", in("sweep")}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := &closing{at: 3, cancel: cancel} // in the third run
	var errs bytes.Buffer
	if code := run(ctx, append([]string{"cnnkit"}, args...), w, &errs); code != exitInterrupted {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	var got swept
	answer(t, &got, args...)
	if len(got.Runs) != 6 || len(got.Summary) != 2 || got.Summary[0].Runs != 3 ||
		got.Summary[1].Values["lr"] != "0.01" {
		t.Fatalf("%+v", got)
	}
	mean := 0.0
	for _, r := range got.Runs[:3] {
		mean += r.Best.ValidationLoss / 3
	}
	if s := got.Summary[0]; math.Abs(s.Mean["loss"]-mean) > 1e-12 || !(s.Std["loss"] > 0) ||
		s.Median["f1"] < 0 {
		t.Errorf("%+v", s)
	}
	done(t, "train", "lenet5", "--data", "stripes", "--epochs", "2", "--batch", "8", "--metrics", "f1",
		"--lr", "0.01", "--seed", "1", "--out", in("alone"))
	if !sameFile(t, filepath.Join(in("alone"), train.LastFile), filepath.Join(in("sweep"), "lr=0.01,seed=1",
		train.LastFile)) {
		t.Error("a run of the sweep has other weights than the run alone")
	}
	table, err := os.ReadFile(filepath.Join(in("sweep"), train.GridTable))
	if err != nil || !strings.HasPrefix(string(table), "lr,seed,epoch,accuracy,loss,f1,failed\n0.05,0,") ||
		strings.Count(string(table), "\n") != 7 {
		t.Errorf("%s, %v", table, err)
	}
	if err := os.Remove(filepath.Join(in("sweep"), train.GridFile)); err != nil {
		t.Fatal(err)
	}
	var again swept
	answer(t, &again, args...)
	for i, r := range again.Runs {
		if r.Best.ValidationLoss != got.Runs[i].Best.ValidationLoss ||
			r.Best.Epoch != got.Runs[i].Best.Epoch {
			t.Errorf("a finished run without a row: %+v, not %+v", r, got.Runs[i])
		}
	}
	other := append(slices.Clone(args), "--weight-decay", "0.1")
	if r := cnnkit(t, other...); r.code == exitDone || !strings.Contains(r.err, "another recipe") {
		t.Errorf("finished runs of another recipe: %d %s", r.code, r.err)
	}
	if out := done(t, args...); !strings.Contains(out, "mean ± deviation") ||
		!strings.Contains(strings.Join(strings.Fields(out), " "), "lr=0.01 3 66") {
		t.Error(out)
	}
}

// Folds are k-fold cross-validation; a run that diverges is a row.
func TestSweepFolds(t *testing.T) {
	dir := t.TempDir()
	recipe := write(t, filepath.Join(dir, "recipe.json"),
		[]byte(`{"model": "lenet5", "data": "stripes", "epochs": 1, "batch": 8}`))
	var got swept
	answer(t, &got, "sweep", recipe, "--folds", "4", "--out", filepath.Join(dir, "folds"))
	if len(got.Runs) != 4 || len(got.Summary) != 1 || got.Runs[3].Values["fold"] != "4/4" {
		t.Errorf("%+v", got)
	}
	answer(t, &got, "sweep", recipe, "--vary", "lr=0.01,1e30", "--out", filepath.Join(dir, "rates"))
	if len(got.Runs) != 2 || got.Runs[0].Failed != "" || got.Runs[1].Failed == "" {
		t.Errorf("%+v", got)
	}
	for args, says := range map[string]string{"--vary lr": "FIELD=VALUE", "--vary seed=4..0": "range",
		"--vary learning=1": "learning", "--folds 1": "at least 2",
		"--vary lr=1 --vary lr=2": "twice", "": "nothing varies", "--vary lr=-1": "lr is -1"} {
		r := cnnkit(t, append([]string{"sweep", recipe, "--out", filepath.Join(dir, "wrong")},
			strings.Fields(args)...)...)
		if r.code != exitUsage || !strings.Contains(r.err, says) {
			t.Errorf("%q: exit code %d: %s", args, r.code, r.err)
		}
	}
}
