package main

import (
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/report"
)

// tasksFolder has what PyTorch and scikit-learn gave, and tasks.py, which repeats it.
const tasksFolder = "../../testdata/train"

// The data of tasks.py.
const (
	taskImages, taskTrain, taskSide, taskVoid = 50, 40, 16, 255
)

// noise is tasks.py's: n unsigned 32-bit numbers, a hash of (index, key).
func noise(n int, key uint64) []uint32 {
	out := make([]uint32, n)
	for i := range out {
		x := uint64(i)*2654435761 + key*40503 + 12345
		for range 2 {
			x &= 0xffffffff
			x = (x ^ x>>16) * 0x45d9f3b & 0xffffffff
		}
		out[i] = uint32(x ^ x>>16)
	}
	return out
}

// taskData writes a task's images and targets as tasks.py does, and gives the word for --data.
func taskData(t *testing.T, dir, task string) string {
	t.Helper()
	pixels := noise(taskImages*3*taskSide*taskSide, 7)
	labels, values := noise(taskImages*4, 8), noise(taskImages*2, 9)
	save := func(folder string, i int, img image.Image) {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o777); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(dir, folder, fmt.Sprintf("%02d.png", i)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := png.Encode(f, img); err != nil {
			t.Fatal(err)
		}
	}
	table := map[string]string{"multi-label": "path,split,bright,dark,left,right\n",
		"regression": "path,split,level,slope\n"}[task]
	for i := range taskImages {
		level, slope := float64(values[2*i]>>16)/65536, float64(values[2*i+1]>>16)/65536
		img, mask := image.NewNRGBA(image.Rect(0, 0, taskSide, taskSide)), image.NewGray(image.Rect(0, 0,
			taskSide, taskSide))
		for y := range taskSide {
			for x := range taskSide {
				class := ((x+i)/6 + (y+2*i)/5) % 3
				more := map[string]int{"multi-label": 14 * int(labels[4*i+y/8*2+x/8]>>31),
					"regression": int(96*level + 90*slope*float64(x)/taskSide), "masks": 60 * class}[task]
				var c [3]uint8
				for k := range c {
					c[k] = uint8(int(pixels[((i*3+k)*taskSide+y)*taskSide+x]>>26) + more)
				}
				img.SetNRGBA(x, y, color.NRGBA{c[0], c[1], c[2], 255})
				if x == 0 || y == 0 {
					class = taskVoid
				}
				mask.SetGray(x, y, color.Gray{Y: uint8(class)})
			}
		}
		save("images", i, img)
		save("masks", i, mask)
		table += fmt.Sprintf("images/%02d.png,%s", i, map[bool]string{true: "train",
			false: "validation"}[i < taskTrain])
		if task == "multi-label" {
			for _, v := range labels[4*i : 4*i+4] {
				table += "," + strconv.Itoa(int(v>>31))
			}
		} else {
			table += fmt.Sprintf(",%.16g,%.16g", level, slope)
		}
		table += "\n"
	}
	if task == "masks" {
		return "masks:" + filepath.Join(dir, "images") + "," + filepath.Join(dir, "masks")
	}
	write(t, filepath.Join(dir, "table.csv"), []byte(table))
	return "csv:" + filepath.Join(dir, "table.csv")
}

// sameByClass compares a figure of each class with those of scikit-learn.
func sameByClass(t *testing.T, score map[string]any, name string, want any) {
	t.Helper()
	classes, _ := score["classes"].([]any)
	each, _ := want.([]any)
	if len(classes) != len(each) || len(each) == 0 {
		t.Fatalf("%d classes of %d", len(classes), len(each))
	}
	for i, c := range classes {
		if got, ok := c.(map[string]any)[name].(float64); !ok || !(math.Abs(got-each[i].(float64)) <= 1e-6) {
			t.Errorf("%s of class %d is %v, scikit-learn has %v", name, i, c.(map[string]any)[name], each[i])
		}
	}
}

// Several labels, values and masks with pixels that do not count are trained from the command line as PyTorch
// does it, from the same weights and batches: the loss of each of 100 steps within 1e-4, and of PyTorch's
// trained model scikit-learn's figures within 1e-6.
func TestTasksFollowPyTorch(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(tasksFolder, "tasks.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]struct {
		Losses  []float64
		Metrics map[string]any
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	for task, args := range map[string][2]string{ // of the data, and of the training
		"multi-label": {"--task multi-label",
			"--pos-weight 1,2,0.5,1.5 --optimizer sgd --lr 0.05 --momentum 0.9"},
		"regression": {"--task regression", "--loss huber --set delta=0.5 --optimizer adam --lr 0.001"},
		"masks":      {"--mask-classes 3 --ignore 255", "--optimizer adamw --lr 0.002 --weight-decay 0.01"},
	} {
		t.Run(task, func(t *testing.T) {
			dir := t.TempDir()
			out := filepath.Join(dir, "out")
			common := append([]string{"--data", taskData(t, dir, task), "--mean", "0.5,0.5,0.5", "--std",
				"0.25,0.25,0.25"}, strings.Fields(args[0])...)
			call := append([]string{"train", filepath.Join(tasksFolder, "tasks", task+".onnx"), "--epochs",
				"20", "--batch", "8", "--ema", "0",
				"--log", "jsonl", "--no-report", "--out", out}, common...)
			done(t, append(call, strings.Fields(args[1])...)...)
			var got []float64
			for _, row := range steps(t, filepath.Join(out, report.StepLinesFile)) {
				if loss, ok := row["step_loss"]; ok {
					got = append(got, loss)
				}
			}
			if len(got) != 100 || len(want[task].Losses) != 100 {
				t.Fatalf("%d steps, PyTorch's are %d", len(got), len(want[task].Losses))
			}
			for i, l := range want[task].Losses {
				if !(math.Abs(got[i]-l) <= 1e-4*l) {
					t.Fatalf("step %d: loss %v, PyTorch has %v", i+1, got[i], l)
				}
			}
			var score map[string]any
			answer(t, &score, append([]string{"eval", filepath.Join(tasksFolder, "tasks",
				task+"-trained.onnx"), "--engine", "native",
				"--metrics", strings.Join(train.Metrics(), ",")}, common...)...)
			if task == "masks" {
				sameByClass(t, score, "iou", want[task].Metrics["iou by class"])
			}
			if task == "multi-label" {
				thresholds := strings.Trim(fmt.Sprint(want[task].Metrics["thresholds"]), "[]")
				var own map[string]any
				answer(t, &own, append([]string{"eval", filepath.Join(tasksFolder, "tasks",
					task+"-trained.onnx"), "--engine", "native",
					"--thresholds", strings.ReplaceAll(thresholds, " ", ",")}, common...)...)
				sameByClass(t, own, "threshold", want[task].Metrics["thresholds"])
				for _, name := range []string{"f1", "accuracy"} {
					w := want[task].Metrics[name+" by thresholds"].(float64)
					if g, ok := own[name].(float64); !ok || !(math.Abs(g-w) <= 1e-6) || g == score[name] {
						t.Errorf("by thresholds %s is %v, scikit-learn has %v, and by 0.5 it is %v", name,
							own[name], w, score[name])
					}
				}
			}
			for name, v := range want[task].Metrics {
				if w, ok := v.(float64); ok && !strings.Contains(name, " by ") {
					if g, ok := score[name].(float64); !ok || !(math.Abs(g-w) <= 1e-6) {
						t.Errorf("%s is %v, scikit-learn has %v", name, score[name], w)
					}
				}
			}
		})
	}
}

// eval finds thresholds, spec keeps them in the model, predict tells labels by them; where they mean
// nothing they are refused.
func TestThresholds(t *testing.T) {
	dir := t.TempDir()
	set := taskData(t, dir, "multi-label")
	raw, err := os.ReadFile(filepath.Join(tasksFolder, "tasks", "multi-label-trained.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	model := write(t, filepath.Join(dir, "model.onnx"), raw)
	values := []string{"--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"}
	type score struct {
		F1      float64
		Classes []struct{ Threshold, F1 float64 }
	}
	var half, best, kept score
	measure := func(to *score, args ...string) {
		answer(t, to, append([]string{"eval", model, "--data", set, "--task", "multi-label", "--engine",
			"native"}, append(args, values...)...)...)
	}
	measure(&half)
	measure(&best, "--thresholds", "f1")
	text := make([]string, len(best.Classes))
	for i, c := range best.Classes {
		text[i] = strconv.FormatFloat(c.Threshold, 'g', -1, 64)
		if c.F1 < half.Classes[i].F1 || half.Classes[i].Threshold != 0.5 {
			t.Errorf("label %d: %+v at best, %+v at half", i, c, half.Classes[i])
		}
	}
	table := done(t, append([]string{"eval", model, "--data", set, "--task", "multi-label", "--thresholds",
		"f1"}, values...)...)
	if len(text) != 4 || !(best.F1 > half.F1) ||
		!strings.Contains(table, "--thresholds "+strings.Join(text, ",")) {
		t.Fatalf("F1 %v at %v, %v at half: %s", best.F1, text, half.F1, table)
	}
	done(t, append([]string{"spec", "set", model, "--thresholds", strings.Join(text, ",")}, values...)...)
	measure(&kept)
	if kept.F1 != best.F1 {
		t.Errorf("F1 of the thresholds in the model is %v, and was %v", kept.F1, best.F1)
	}
	var rows []struct {
		Top []struct {
			Class       int
			Probability float64
			Given       *bool
		}
	}
	answer(t, &rows, "predict", model, filepath.Join(dir, "images"))
	both := map[bool]int{}
	for _, row := range rows {
		for _, g := range row.Top {
			if g.Given == nil || *g.Given != (g.Probability > best.Classes[g.Class].Threshold) {
				t.Fatalf("%+v, and the threshold is %v", g, best.Classes[g.Class].Threshold)
			}
			both[*g.Given]++
		}
	}
	if len(rows) != taskImages || both[true] == 0 || both[false] == 0 {
		t.Errorf("%d images, %v", len(rows), both)
	}
	photo := filepath.Join(dir, "images", "00.png")
	if out := done(t, "predict", model, photo, "--thresholds", "0"); strings.Count(out, "yes") != 4 {
		t.Error(out)
	}
	mean := strings.Join(values, " ")
	for call, want := range map[string]string{
		"predict " + model + " " + photo +
			" --thresholds 0.1,0.2": "2 thresholds of 4",
		"predict " + model + " " + photo + " --thresholds 2": "threshold 2",
		"predict " + model + " " + photo +
			" --thresholds f1": "cnnkit eval MODEL",
		"predict " + model + " " + photo + " --thresholds few": "it wants f1",
		"predict " + lenet(t) + " " + photo +
			" --thresholds 0.3": "several labels an image",
		"eval " + lenet(t) +
			" --data mnist --thresholds f1": "several labels an image",
		"eval " + model + " --data " + set + " --task multi-label --thresholds 1,1 " +
			mean: "2 thresholds of 4",
	} {
		if r := cnnkit(t, strings.Fields(call)...); r.code != exitUsage || !strings.Contains(r.err, want) {
			t.Errorf("%s: exit code %d, %s", call, r.code, r.err)
		}
	}
}

// A table's column of weights draws images and weighs losses, and is no value to predict: not in the
// evaluation of the run either.
func TestWeightColumn(t *testing.T) {
	dir := t.TempDir()
	taskData(t, dir, "regression")
	raw, err := os.ReadFile(filepath.Join(dir, "table.csv"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		b.WriteString(line + "," + map[bool]string{true: "trust", false: strconv.Itoa(i % 3)}[i == 0] + "\n")
	}
	set := "csv:" + write(t, filepath.Join(dir, "trust.csv"), []byte(b.String()))
	out, model := filepath.Join(dir, "run"), filepath.Join(tasksFolder, "tasks", "regression.onnx")
	said := done(t, "train", model, "--data", set, "--task", "regression", "--weight-column", "trust",
		"--sampler", "weights", "--draws", "60",
		"--sample-weights", "--epochs", "1", "--batch", "8", "--no-report", "--out", out)
	if !strings.Contains(said, "1 epochs of 8 steps") ||
		!strings.Contains(said, "sampler weights: each epoch draws") {
		t.Error(said)
	}
	var score map[string]any
	answer(t, &score, "eval", filepath.Join(out, "model.onnx"), "--data", set)
	if _, ok := score["mae"]; !ok {
		t.Error(score)
	}
	if r := cnnkit(t, "train", "--resume", out, "--epochs", "2", "--sampler",
		"balanced"); r.code == exitDone || !strings.Contains(r.err, "sampler was") {
		t.Errorf("another sampler: %d, %s", r.code, r.err)
	}
}
