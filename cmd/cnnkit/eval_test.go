package main

import (
	"fmt"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// eval measures on what the run left out, and says so; a part that the run was
// trained on comes with a warning.
func TestEvalKnowsTheRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	model := filepath.Join(dir, "model.onnx")
	done(t, "train", "lenet5", "--data", "mnist", "--subset", "64", "--validation", "0.001", "--epochs", "1",
		"--no-report", "--out", dir)
	r := cnnkit(t, "eval", model, "--data", "mnist")
	if r.code != exitDone || !strings.Contains(r.err, "--validation 0.001") || !strings.Contains(r.out,
		"(60 images") {
		t.Errorf("%+v", r)
	}
	if r = cnnkit(t, "eval", model, "--data", "mnist", "--validation", "0.002"); r.code != exitDone ||
		!strings.Contains(r.err, "trained on count") {
		t.Errorf("%+v", r)
	}
	if r = cnnkit(t, "train", "lenet5", "--data", "mnist", "--out", dir); r.code != exitUsage ||
		!strings.Contains(r.err, "--force") {
		t.Errorf("%+v", r)
	}
}

// --tta averages over views: another loss of the same images; a view that nobody knows is named.
func TestEvalViews(t *testing.T) {
	model := "../../models/lenet5-mnist/model.onnx"
	var plain, views struct {
		Images int
		Loss   float64
	}
	answer(t, &plain, "eval", model, "--data", "mnist")
	answer(t, &views, "eval", model, "--data", "mnist", "--tta", "shift")
	if views.Images != plain.Images || views.Loss == plain.Loss || views.Loss > 4*plain.Loss+1 {
		t.Errorf("%+v with views, %+v without", views, plain)
	}
	if r := cnnkit(t, "eval", model, "--data", "mnist", "--tta", "turn"); r.code != exitUsage ||
		!strings.Contains(r.err, "mirror shift") {
		t.Errorf("%+v", r)
	}
}

// A regression from the command line: trained, evaluated and predicted, with figures
// that exist and no accuracy.
func TestRegressionVerbs(t *testing.T) {
	dir := t.TempDir()
	table := "path,price\n"
	for i := range 12 {
		img := image.NewGray(image.Rect(0, 0, 8, 8))
		for p := range img.Pix {
			img.Pix[p] = uint8(20 * i)
		}
		img.SetGray(1, 1, color.Gray{Y: 255})
		name := fmt.Sprintf("%d.png", i)
		putPicture(t, filepath.Join(dir, name), img)
		table += fmt.Sprintf("%s,%d\n", name, i)
	}
	csv := filepath.Join(dir, "prices.csv")
	if err := os.WriteFile(csv, []byte(table), 0o666); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(dir, "run")
	out := done(t, "train", "resnet18", "--width", "8", "--classes", "1", "--input", "3x8x8", "--data",
		"csv:"+csv, "--task", "regression", "--metrics", "mae",
		"--epochs", "1", "--batch", "4", "--out", run)
	if strings.Contains(out, "accuracy") || strings.Contains(out, "NaN") {
		t.Error(out)
	}
	model := filepath.Join(run, "model.onnx")
	if out = done(t, "eval", model, "--data", "csv:"+csv); !strings.Contains(out, "loss (mse)") ||
		!strings.Contains(out, "mae") || strings.Contains(out, "NaN") {
		t.Error(out)
	}
	if out = done(t, "predict", model, filepath.Join(dir, "3.png"), "--json"); !strings.Contains(out,
		`"value"`) || !strings.Contains(out, `"price"`) {
		t.Error(out)
	}
}
