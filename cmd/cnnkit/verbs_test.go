package main

import (
	"bytes"
	"context"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/npy"
	"github.com/cnnkit/cnnkit/train/data"
)

// The way of a new user: train, evaluate by every engine, verify, predict, convert and back.
func TestFromTrainingToPrediction(t *testing.T) {
	set := digits(t, 2000, 300)
	dir := filepath.Join(t.TempDir(), "run")
	out := done(t, "train", "lenet5", "--data", set, "--epochs", "2", "--lr", "0.05", "--momentum", "0.9",
		"--out", dir)
	for _, s := range []string{"61706 parameters", "epoch 2/2: train loss", "images/s", "best: epoch",
		"last: epoch 2"} {
		if !strings.Contains(out, s) {
			t.Errorf("train does not say %q: %s", s, out)
		}
	}
	for _, f := range []string{"model.onnx", "best.onnx", "history.csv", "history.png"} {
		if info, err := os.Stat(filepath.Join(dir, f)); err != nil || info.Size() == 0 {
			t.Errorf("train leaves no %s: %v", f, err)
		}
	}
	model := filepath.Join(dir, "model.onnx")
	done(t, "check", model)
	type score struct {
		Engine                  string
		Images                  int
		Accuracy, Loss, Seconds float64
	}
	var native score
	answer(t, &native, "eval", model, "--data", set, "--engine", "native")
	if native.Engine != "native" || native.Images != 300 || native.Accuracy < 0.6 || native.Accuracy > 1 ||
		native.Loss <= 0 || native.Seconds <= 0 {
		t.Errorf("%+v", native)
	}
	t.Run("engines", func(t *testing.T) {
		for _, engine := range []string{"ort", "onnxgo", "auto"} {
			if engine == "ort" {
				needORT(t)
			}
			var s score
			answer(t, &s, "eval", model, "--data", set, "--engine", engine)
			if s.Accuracy != native.Accuracy || math.Abs(s.Loss-native.Loss) > 1e-5 {
				t.Errorf("%s: %+v, native %+v", engine, s, native)
			}
		}
	})
	t.Run("verify", func(t *testing.T) {
		var v struct {
			OK     bool
			Inputs int
			Pairs  []struct {
				A, B        string
				MaxAbs      float64 `json:"max_abs"`
				Labels      int     `json:"labels"`
				LabelsAgree int     `json:"labels_agree"`
			}
		}
		answer(t, &v, "verify", model, "--data", set, "--engines", "native,onnxgo", "--tolerance", "1e-5")
		if !v.OK || v.Inputs != 300 || len(v.Pairs) != 1 || v.Pairs[0].LabelsAgree != 300 ||
			v.Pairs[0].MaxAbs > 1e-4 {
			t.Errorf("%+v", v)
		}
		if r := cnnkit(t, "verify", model, "--data", set, "--limit", "50", "--engines", "native,onnxgo",
			"--tolerance", "0"); r.code != exitNo || !strings.Contains(r.out, "PART") {
			t.Errorf("at tolerance 0: exit code %d, %s", r.code, r.out)
		}
	})
	t.Run("predict", func(t *testing.T) { predictsDigits(t, model, native.Accuracy) })
	t.Run("weights", func(t *testing.T) { weightsComeBack(t, model) })
	t.Run("go on", func(t *testing.T) {
		more := filepath.Join(t.TempDir(), "more")
		out := done(t, "train", model, "--data", set, "--epochs", "1", "--out", more, "--json")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if len(lines) != 2 {
			t.Fatalf("%d lines: %s", len(lines), out)
		}
		var epoch struct {
			Epoch    int
			Accuracy float64 `json:"validation_accuracy"`
		}
		if err := json.Unmarshal([]byte(lines[0]), &epoch); err != nil || epoch.Epoch != 1 ||
			epoch.Accuracy < native.Accuracy-0.1 {
			t.Errorf("%+v, %v", epoch, err)
		}
	})
}

// predictsDigits writes digits as pictures and asks for them.
func predictsDigits(t *testing.T, model string, accuracy float64) {
	splits, err := data.Open("mnist")
	if err != nil {
		t.Fatal(err)
	}
	x, err := images(splits, data.Sequence(20))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i := range 20 {
		img := image.NewGray(image.Rect(0, 0, 28, 28))
		for k := range img.Pix {
			img.Pix[k] = byte((x.Float32s()[i*784+k]*0.3081+0.1307)*255 + 0.5)
		}
		writePicture(t, filepath.Join(dir, string(rune('a'+i))+".png"), img)
	}
	var rows []struct {
		File string
		Top  []struct {
			Class       int
			Label       string
			Probability float64
		}
	}
	answer(t, &rows, "predict", model, dir, "--top", "3", "--engine", "native", "--batch", "7")
	want := []int{7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0, 6, 9, 0, 1, 5, 9, 7, 3, 4}
	if len(rows) != 20 {
		t.Fatalf("%d answers", len(rows))
	}
	right := 0
	for i, r := range rows {
		if len(r.Top) != 3 || r.Top[0].Probability < r.Top[1].Probability || r.Top[0].Probability > 1 ||
			filepath.Dir(r.File) != dir {
			t.Errorf("%+v", r)
		}
		if r.Top[0].Class == want[i] {
			right++
		}
	}
	if float64(right) < 20*accuracy-5 {
		t.Errorf("%d of 20 digits are right, at an accuracy of %.2f", right, accuracy)
	}
	if out := done(t, "predict", model, rows[0].File, "--engine", "native"); !strings.Contains(out, "%") ||
		strings.Count(out, "\n") != 5 {
		t.Errorf("%s", out)
	}
}

func writePicture(t *testing.T, path string, img image.Image) {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	write(t, path, b.Bytes())
}

// weightsComeBack converts a model to each kind of state dict and back, and compares outputs.
func weightsComeBack(t *testing.T, model string) {
	dir := t.TempDir()
	x := array(t, 2, 1, 28, 28)
	outputs := func(m string) []float32 {
		out := filepath.Join(t.TempDir(), "out")
		done(t, "run", m, "--input", "input="+x, "--out", out, "--engine", "native")
		y, err := npy.Load(filepath.Join(out, "output.npy"))
		if err != nil {
			t.Fatal(err)
		}
		return y.Float32s()
	}
	want := outputs(model)
	for _, ext := range []string{".pt", ".pth", ".safetensors"} {
		weights, back := filepath.Join(dir, "w"+ext), filepath.Join(dir, "back"+ext+".onnx")
		done(t, "convert", model, weights)
		done(t, "check", weights)
		if out := done(t, "inspect", weights); !strings.Contains(out, "conv1.weight") ||
			!strings.Contains(out, "[6 1 5 5]") {
			t.Errorf("inspect: %s", out)
		}
		done(t, "convert", weights, back, "--arch", "lenet5")
		if !slices.Equal(outputs(back), want) {
			t.Errorf("%s: the weights changed on the way", ext)
		}
		built := filepath.Join(dir, "built"+ext+".onnx")
		done(t, "build", "lenet5", "--weights", weights, "--out", built)
		if !slices.Equal(outputs(built), want) {
			t.Errorf("build --weights %s: other weights", ext)
		}
	}
	weights := filepath.Join(dir, "w.pth")
	if r := cnnkit(t, "convert", weights, filepath.Join(dir, "x.onnx")); r.code != exitUsage ||
		!strings.Contains(r.err, "--arch") {
		t.Errorf("without --arch: %d, %s", r.code, r.err)
	}
	if r := cnnkit(t, "convert", weights, filepath.Join(dir, "x.onnx"), "--arch",
		"minivgg"); r.code != exitBadFile || !strings.Contains(r.err, "conv11.weight") {
		t.Errorf("with another --arch: %d, %s", r.code, r.err)
	}
}

// brightness is a model [N,3,H,W] -> [N,1,H,W] that calls bright pixels foreground.
func brightness(t *testing.T) string {
	t.Helper()
	w := onnxio.Floats([]float32{10, 10, 10}, 1, 3, 1, 1)
	w.Name = "w"
	b := onnxio.Floats([]float32{-15}, 1)
	b.Name = "b"
	m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}},
		Graph: &onnxio.Graph{Name: "brightness",
			Nodes: []*onnxio.Node{{Name: "conv", OpType: "Conv", Inputs: []string{"x", "w", "b"},
				Outputs: []string{"y"}}},
			Inputs: []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float,
				onnxio.Shape("N", 3, "H", "W")...)},
			Outputs: []*onnxio.ValueInfo{onnxio.TensorInfo("y", onnxio.Float,
				onnxio.Shape("N", 1, "H", "W")...)},
			Initializers: []*onnxio.Tensor{w, b}}}
	path := filepath.Join(t.TempDir(), "brightness.onnx")
	if err := onnxio.Save(path, m); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSegment(t *testing.T) {
	img := image.NewRGBA(image.Rect(0, 0, 30, 20))
	for y := range 20 {
		for x := range 30 {
			v := uint8(0)
			if x >= 10 && x < 20 && y < 10 {
				v = 255
			}
			img.Set(x, y, color.RGBA{v, v, v, 255})
		}
	}
	dir := t.TempDir()
	file, out := filepath.Join(dir, "box.png"), filepath.Join(dir, "masks")
	writePicture(t, file, img)
	var rows []struct {
		File, Mask, Overlay string
		Foreground          float64
	}
	answer(t, &rows, "segment", brightness(t), file, "--out", out, "--engine", "native")
	if len(rows) != 1 || math.Abs(rows[0].Foreground-100.0/600) > 1e-9 || rows[0].Mask != filepath.Join(out,
		"box.mask.png") {
		t.Fatalf("%+v", rows)
	}
	f, err := os.Open(rows[0].Mask)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mask, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct {
		x, y int
		want uint8
	}{{9, 0, 0}, {10, 0, 255}, {19, 9, 255}, {19, 10, 0}} {
		if g := color.GrayModel.Convert(mask.At(p.x, p.y)).(color.Gray).Y; g != p.want {
			t.Errorf("pixel %d,%d is %d", p.x, p.y, g)
		}
	}
	if _, err := os.Stat(rows[0].Overlay); err != nil {
		t.Error(err)
	}
}

// Ctrl-C: the weights are saved, and the message says how to go on.
func TestInterruptedTraining(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
	defer cancel()
	dir := filepath.Join(t.TempDir(), "run")
	var out, errs bytes.Buffer
	code := run(ctx, []string{"cnnkit", "train", "minivgg", "--data", "mnist", "--epochs", "100", "--lr",
		"0.02", "--out", dir}, &out, &errs)
	if code != exitInterrupted {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	again := filepath.Join(dir, "interrupted.onnx")
	if _, err := os.Stat(again); err != nil {
		t.Skipf("the machine was too slow for one step: %s", errs.String())
	}
	for _, s := range []string{"interrupted in epoch 1", "go on with: cnnkit train " + again +
		" --data mnist --out " + dir, "--lr=0.02"} {
		if !strings.Contains(errs.String(), s) {
			t.Errorf("does not say %q: %s", s, errs.String())
		}
	}
	done(t, "check", again)
}
