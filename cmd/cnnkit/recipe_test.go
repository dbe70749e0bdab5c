package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/report"
)

func readRecipe(t *testing.T, dir string) train.Recipe {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, train.RecipeFile))
	if err != nil {
		t.Fatal(err)
	}
	var r train.Recipe
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	x, err1 := os.ReadFile(a)
	y, err2 := os.ReadFile(b)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return bytes.Equal(x, y)
}

// A recipe does what the same flags do, to the bit; what a run wrote as its recipe makes the same run again;
// --set and flags change fields.
func TestRecipes(t *testing.T) {
	set, dir := digits(t, 300, 50), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	done(t, "train", "lenet5", "--data", set, "--epochs", "2", "--seed", "3", "--optimizer", "adamw",
		"--weight-decay", "0.05", "--no-decay", "bias,norm",
		"--schedule", "cosine", "--warmup", "1", "--batch", "50", "--clip-norm", "1", "--ema", "0.9",
		"--metrics", "top5,f1", "--out", in("flags"))
	recipe := `{"model": "lenet5", "data": "` + set + `", "epochs": 9, "seed": 3, "optimizer": "adamw", "weight_decay": 0.05, "batch": 50, "clip_norm": 1,
		"groups": [{"params": "bias", "weight_decay": 0}, {"params": "norm", "weight_decay": 0}], "ema": 0.9, "metrics": ["top5", "f1"],
		"schedule": {"kind": "step", "step_size": 1, "warmup": 1}}`
	file := write(t, in("r.json"), []byte(recipe))
	done(t, "train", "--recipe", file, "--set", "schedule.kind=cosine", "--set", "schedule.step_size=0",
		"--epochs", "2", "--out", in("recipe"))
	done(t, "train", "--recipe", filepath.Join(in("flags"), train.RecipeFile), "--out", in("again"))
	for _, other := range []string{"recipe", "again"} {
		if !sameFile(t, filepath.Join(in("flags"), train.LastFile),
			filepath.Join(in(other), train.LastFile)) {
			t.Errorf("%s: other weights", other)
		}
	}
	if got := readRecipe(t, in("recipe")); got.Epochs != 2 || got.Schedule.Kind != train.Cosine ||
		got.Model != "lenet5" || got.Data != set {
		t.Errorf("%+v", got)
	}
	if csv, _ := os.ReadFile(filepath.Join(in("flags"), train.HistoryFile)); !strings.Contains(string(csv),
		"lr,f1,top5") {
		t.Errorf("%s", csv)
	}
}

// The network's fields build it, and an argument takes the recipe's place.
func TestRecipeNetwork(t *testing.T) {
	set, dir := digits(t, 64, 16), t.TempDir()
	file := write(t, filepath.Join(dir, "r.json"),
		[]byte(`{"model": "resnet18", "input": "1x28x28", "width": 4, "blocks": [1, 1, 1, 1], "classes": 12, "opset": 15, "stochastic_depth": 0.3, "epochs": 1}`))
	out := done(t, "train", "--recipe", file, "--data", set, "--out", filepath.Join(dir, "a"))
	if !strings.Contains(out, "epoch 1/1") {
		t.Error(out)
	}
	if out := done(t, "inspect", filepath.Join(dir, "a", train.LastFile)); !strings.Contains(out,
		"opset 15") && !strings.Contains(out, "15") {
		t.Error(out)
	}
	trained, err := onnxio.Load(filepath.Join(dir, "a", train.LastFile))
	if err != nil {
		t.Fatal(err)
	}
	if _, cfg, ok := builders.Arch(trained); !ok || cfg.StochasticDepth != 0.3 ||
		readRecipe(t, filepath.Join(dir, "a")).StochasticDepth != 0.3 {
		t.Errorf("the recipe's stochastic depth is lost: %+v", cfg)
	}
	done(t, "train", "--recipe", file, "--stochastic-depth", "0.2", "--data", set, "--out",
		filepath.Join(dir, "c"))
	if got := readRecipe(t, filepath.Join(dir, "c")).StochasticDepth; got != 0.2 {
		t.Errorf("the flag gives a stochastic depth of %g", got)
	}
	model := lenet(t)
	plain := write(t, filepath.Join(dir, "p.json"), []byte(`{"model": "minivgg", "epochs": 1}`))
	done(t, "train", model, "--recipe", plain, "--data", set, "--out", filepath.Join(dir, "b"))
	if got := readRecipe(t, filepath.Join(dir, "b")); got.Model != model || got.Momentum != 0.5 {
		t.Errorf("%+v", got)
	}
}

// Ctrl-C, then --resume: the same weights as without; and more epochs after the end.
func TestResume(t *testing.T) {
	set, dir := digits(t, 300, 50), t.TempDir()
	whole, parts := filepath.Join(dir, "whole"), filepath.Join(dir, "parts")
	args := []string{"train", "lenet5", "--data", set, "--epochs", "3", "--batch", "32", "--optimizer",
		"adam", "--checkpoint-steps", "2"}
	done(t, append(args, "--out", whole)...)
	for i := range 5 {
		ctx, cancel := context.WithCancel(context.Background())
		w := &closing{at: 2, cancel: cancel}
		again := append(args, "--out", parts)
		if i > 0 {
			again = []string{"train", "--resume", parts}
		}
		var errs bytes.Buffer
		code := run(ctx, append([]string{"cnnkit"}, again...), w, &errs)
		cancel()
		if code == exitDone {
			break
		}
		if code != exitInterrupted || !strings.Contains(errs.String(), "cnnkit train --resume "+parts) {
			t.Fatalf("exit code %d: %s", code, errs.String())
		}
	}
	if !sameFile(t, filepath.Join(whole, train.LastFile), filepath.Join(parts, train.LastFile)) {
		t.Error("the interrupted run has other weights")
	}
	if r := cnnkit(t, "train", "--resume", parts); r.code == exitDone ||
		!strings.Contains(r.err, "more epochs") {
		t.Errorf("%d: %s", r.code, r.err)
	}
	out := done(t, "train", "--resume", filepath.Join(parts, train.CheckpointFile), "--epochs", "4", "--json")
	if !strings.Contains(out, `"epoch":4`) || strings.Contains(out, `"epoch":3`) {
		t.Error(out)
	}
}

// closing cancels after some lines of output, so that the run is interrupted at the start of an epoch.
type closing struct {
	bytes.Buffer
	at     int
	cancel func()
}

func (c *closing) Write(b []byte) (int, error) {
	if c.at -= bytes.Count(b, []byte("\n")); c.at <= 0 {
		c.cancel()
	}
	return c.Buffer.Write(b)
}

func TestWrongRecipes(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	file := func(name, text string) string { return write(t, filepath.Join(dir, name), []byte(text)) }
	good := file("good.json", `{"model": "lenet5", "data": "mnist"}`)
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"--recipe nowhere.json --out " + out, 3, "nowhere.json"},
		{"--recipe " + file("torn.json", `{"lr": `) + " --out " + out, 3, "torn.json"},
		{"--recipe " + file("field.json", `{"model": "lenet5", "data": "mnist", "learningrate": 1}`) +
			" --out " + out, 2, "learningrate"},
		{"--recipe " + file("none.json", `{"data": "mnist"}`) + " --out " + out, 2, "no model"},
		{"--recipe " + file("data.json", `{"model": "lenet5"}`) + " --out " + out, 2, "needs --data"},
		{"--recipe " + good, 2, "needs --out"},
		{"--recipe " + good + " --set lr --out " + out, 2, "FIELD=VALUE"},
		{"--recipe " + good + " --set lr=fast --out " + out, 2, `"lr" takes float64`},
		{"--recipe " + good + " --set width=x --out " + out, 2, "width"},
		{"--recipe " + good + " --schedule stairs --out " + out, 2, "stairs"},
		{"--recipe " + good + " --metrics top7 --out " + out, 2, "top7"},
		{"--resume " + dir, 3, "no epoch was finished"},
		{"--resume " + good, 3, "good.json"},
		{"lenet5 --resume " + dir, 2, "leave out lenet5"},
	} {
		r := cnnkit(t, append([]string{"train"}, strings.Fields(tt.args)...)...)
		if r.code != tt.code || !strings.Contains(r.err, tt.says) {
			t.Errorf("train %s: exit code %d: %s", tt.args, r.code, r.err)
		}
	}
}

// tiny writes a data set of few images that are like those of a named one, with masks where it has them,
// and gives what --data takes.
func tiny(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	in := func(file string) string {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		return path
	}
	switch name {
	case "mnist":
		return digits(t, 200, 40)
	case "cifar10":
		for i := range 60 {
			img := image.NewRGBA(image.Rect(0, 0, 32, 32))
			for k := range img.Pix {
				img.Pix[k] = uint8(i*k>>5) | uint8(k%4/3*255)
			}
			part := []string{"train", "train", "val"}[i/20]
			writePicture(t, in(fmt.Sprintf("%s/%d/%d.png", part, i%10, i)), img)
		}
		return "images:" + dir
	case "pets", "nuclei":
		var lists [2]string
		for i := range 24 {
			img, mask := image.NewGray(image.Rect(0, 0, 40, 30)), image.NewGray(image.Rect(0, 0, 40, 30))
			for k := range img.Pix {
				inside := k%40 > i && k%40 < i+14
				img.Pix[k] = uint8(k * 7 % 60)
				mask.Pix[k] = 2
				if name == "nuclei" {
					mask.Pix[k] = 0
				}
				if inside {
					img.Pix[k] += 150
					mask.Pix[k] = map[string]uint8{"pets": 1, "nuclei": 255}[name]
				}
			}
			id := fmt.Sprintf("Thing_%d", i)
			var b bytes.Buffer
			if err := jpeg.Encode(&b, img, nil); err != nil {
				t.Fatal(err)
			}
			if name == "pets" {
				write(t, in("images/"+id+".jpg"), b.Bytes())
				writePicture(t, in("trimaps/"+id+".png"), mask)
				lists[i/16] += id + " 1 1 1\n"
			} else {
				writePicture(t, in("images/"+id+".png"), img)
				writePicture(t, in("masks/"+id+".png"), mask)
				lists[i/16] += id + "\n"
			}
		}
		write(t, in(map[string]string{"pets": "trainval.txt", "nuclei": "train.txt"}[name]), []byte(lists[0]))
		write(t, in("test.txt"), []byte(lists[1]))
	}
	return name + "=" + dir
}

// Every shipped recipe runs an epoch on a small part of its kind of data, and eval measures what it names.
func TestShippedRecipesRun(t *testing.T) {
	paths, err := filepath.Glob("../../train/recipes/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatal("no recipes")
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			fields, err := train.ReadFields(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			name, err := fields.Text("data")
			if err != nil {
				t.Fatal(err)
			}
			out, set := filepath.Join(t.TempDir(), "out"), tiny(t, name)
			args := []string{"train", "--recipe", path, "--data", set, "--subset", "10", "--epochs", "1",
				"--batch", "5", "--out", out}
			if fields["width"] != nil {
				args = append(args, "--width", "4")
			}
			done(t, args...)
			var score map[string]any
			answer(t, &score, "eval", filepath.Join(out, train.LastFile), "--data", set, "--engine", "native")
			for _, metric := range readRecipe(t, out).Metrics {
				if v, ok := score[metric].(float64); !ok || v < 0 || v > 1 {
					t.Errorf("%s is %v", metric, score[metric])
				}
			}
			if a, ok := score["accuracy"].(float64); !ok || a < 0 || a > 1 {
				t.Errorf("%v", score)
			}
		})
	}
}

// The data's flags are fields of the recipe, which makes the same run again; interrupted and
// resumed it is the same too.
func TestDataFlags(t *testing.T) {
	set, dir := tiny(t, "mnist"), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	args := []string{"train", "lenet5", "--input", "1x32x32", "--data", set, "--size", "32x32", "--subset",
		"40", "--stratified", "--validation", "0.2", "--epochs", "3",
		"--batch", "10", "--workers", "2", "--mix", "MixUp,CutMix", "--augment",
		`[{"name": "RandomCrop", "size": 28, "padding": 2}, {"name": "RandomErasing"}]`}
	done(t, append(args, "--out", in("flags"))...)
	got := readRecipe(t, in("flags"))
	if got.Size != "32x32" || got.Subset != 40 || !got.Stratified || got.Validation != 0.2 ||
		len(got.Augment) != 2 || len(got.Mix) != 2 || got.Workers != 2 {
		t.Errorf("%+v", got)
	}
	done(t, "train", "--recipe", filepath.Join(in("flags"), train.RecipeFile), "--out", in("again"))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := &closing{at: 2, cancel: cancel}
	var errs bytes.Buffer
	if code := run(ctx, append([]string{"cnnkit"}, append(args, "--out", in("parts"))...), w,
		&errs); code != exitInterrupted || !strings.Contains(errs.String(), `--augment='[{`) {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	if r := cnnkit(t, "train", "--resume", in("parts"), "--subset", "41"); r.code == exitDone ||
		!strings.Contains(r.err, "subset was 40") {
		t.Errorf("another subset: %d, %s", r.code, r.err)
	}
	done(t, "train", "--resume", in("parts"))
	for _, other := range []string{"again", "parts"} {
		if !sameFile(t, filepath.Join(in("flags"), train.LastFile),
			filepath.Join(in(other), train.LastFile)) {
			t.Errorf("%s: other weights", other)
		}
	}
	for _, tt := range []struct {
		args string
		says string
	}{
		{"--size 3y4", "HEIGHTxWIDTH"}, {"--subset -1", "subset"}, {"--stratified", "how many"},
		{"--validation 1", "validation"},
		{"--fold 6/5", "I/K"}, {"--fold 2", "I/K"}, {"--fold 1/2 --validation 0.2", "one of them"},
		{"--augment RandomFlip", "RandomFlip"}, {"--augment [{]", "augment"}, {"--mix RandomErasing",
			"single images"}, {"--workers -1", "workers"},
	} {
		r := cnnkit(t, append([]string{"train", "lenet5", "--data", set, "--out", in("wrong")},
			strings.Fields(tt.args)...)...)
		if r.code != exitUsage || !strings.Contains(r.err, tt.says) {
			t.Errorf("%s: exit code %d: %s", tt.args, r.code, r.err)
		}
	}
}

// A fold is of the images to train on; eval --fold measures what training validated.
func TestFold(t *testing.T) {
	set, dir := tiny(t, "mnist"), t.TempDir()
	done(t, "train", "lenet5", "--data", set, "--fold", "2/3", "--epochs", "1", "--batch", "10", "--out", dir)
	if got := readRecipe(t, dir); got.Fold != "2/3" {
		t.Errorf("the recipe has fold %q", got.Fold)
	}
	trained := validationLoss(t, dir)
	for fold, same := range map[string]bool{"2/3": true, "1/3": false} {
		var got struct{ Loss float64 }
		answer(t, &got, "eval", filepath.Join(dir, train.LastFile), "--data", set, "--fold", fold,
			"--engine", "native")
		if near := math.Abs(got.Loss-trained) <= 1e-5*trained; near != same { // sums of another order
			t.Errorf("fold %s: eval says %v, training %v", fold, got.Loss, trained)
		}
	}
	if r := cnnkit(t, "eval", filepath.Join(dir, train.LastFile), "--data", set, "--fold",
		"4/3"); r.code != exitUsage || !strings.Contains(r.err, "I/K") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
}

// validationLoss is that of a run's first epoch, by its history.
func validationLoss(t *testing.T, dir string) float64 {
	t.Helper()
	file, err := os.Open(filepath.Join(dir, train.HistoryFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	loss, err := strconv.ParseFloat(rows[1][slices.Index(rows[0], "validation_loss")], 64)
	if err != nil {
		t.Fatal(err)
	}
	return loss
}

// Inputs are normalised by what was asked for, which the model records: eval takes the same from there.
func TestNormalisation(t *testing.T) {
	set, dir := tiny(t, "mnist"), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	loss := map[string]float64{}
	for name, flags := range map[string][]string{"own": nil, "said": {"--mean", "0.1307", "--std", "0.3081"},
		"other": {"--mean", "0.5", "--std", "0.25"}} {
		done(t, append([]string{"train", "lenet5", "--data", set, "--epochs", "1", "--out", in(name)},
			flags...)...)
		loss[name] = validationLoss(t, in(name))
		var score map[string]any
		answer(t, &score, "eval", filepath.Join(in(name), train.LastFile), "--data", set,
			"--engine", "native")
		got, _ := score["loss"].(float64)
		if math.Abs(got-loss[name]) > 1e-5*loss[name] { // sums of another order
			t.Errorf("%s: eval says %v, training %v", name, got, loss[name])
		}
	}
	if loss["own"] != loss["said"] || loss["own"] == loss["other"] {
		t.Errorf("%v", loss)
	}
	if got := readRecipe(t, in("other")); !slices.Equal(got.Mean, []float32{0.5}) ||
		!slices.Equal(got.Std, []float32{0.25}) {
		t.Errorf("%+v", got)
	}
	for args, says := range map[string]string{"--mean 0.5": "std 0",
		"--mean a --std 1": "--mean: it wants numbers"} {
		r := cnnkit(t, append([]string{"train", "lenet5", "--data", set, "--out", in("wrong")},
			strings.Fields(args)...)...)
		if r.code != exitUsage || !strings.Contains(r.err, says) {
			t.Errorf("%s: exit code %d: %s", args, r.code, r.err)
		}
	}
	if r := cnnkit(t, "train", "lenet5", "--data", set, "--out", in("wrong"), "--mean", "0,0,0", "--std",
		"1,1,1"); r.code == exitDone || !strings.Contains(r.err, "3 means") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
}

// A folder of pairs, named by a scheme, is trained on and measured.
func TestOwnMasks(t *testing.T) {
	_, root, _ := strings.Cut(tiny(t, "nuclei"), "=")
	word, out := "masks:"+filepath.Join(root, "images")+","+filepath.Join(root,
		"masks"), filepath.Join(t.TempDir(), "out")
	text := done(t, "train", "unet", "--input", "1x32x32", "--depth", "2", "--width", "4", "--data", word,
		"--loss", "dice", "--metrics", "iou", "--monitor", "iou", "--epochs", "2", "--out", out)
	if !strings.Contains(text, "with validation iou 0.") {
		t.Error(text)
	}
	if text = done(t, "eval", filepath.Join(out, train.LastFile), "--data", word, "--engine",
		"native"); !strings.Contains(text, "iou") || !strings.Contains(text, "(5 images") {
		t.Error(text)
	}
	page, err := os.ReadFile(filepath.Join(out, report.PageFile))
	if err != nil || bytes.Count(page, []byte("data:image/png")) < 15 {
		t.Errorf("the report shows no masks: %v", err)
	}
}

// Reports change no weights; a resumed run's have each epoch once, and a dashboard can be
// asked while the run goes on.
func TestReports(t *testing.T) {
	set, dir := tiny(t, "mnist"), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	args := []string{"train", "lenet5", "--data", set, "--epochs", "3", "--batch", "20", "--metrics",
		"confusion,top3"}
	done(t, append(args, "--out", in("with"))...)
	done(t, append(args, "--no-report", "--out", in("without"))...)
	if r := cnnkit(t, append(args, "--dashboard", "--no-report", "--out",
		in("dashboard"))...); r.code != exitDone || !strings.Contains(r.err, "dashboard: http://127.0.0.1:") {
		t.Errorf("%+v", r)
	}
	for _, other := range []string{"without", "dashboard"} {
		if !sameFile(t, filepath.Join(in("with"), train.LastFile), filepath.Join(in(other), train.LastFile)) {
			t.Errorf("%s: other weights", other)
		}
		if _, err := os.Stat(filepath.Join(in(other), report.PageFile)); err == nil {
			t.Errorf("%s: a report", other)
		}
	}
	done(t, "train", "--resume", in("with"), "--epochs", "5")
	f, err := os.Open(filepath.Join(in("with"), report.LinesFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	epochs, err := report.ReadLines(f)
	if err != nil || len(epochs) != 5 || epochs[4].Epoch != 5 || epochs[4].Values["top3"] == 0 {
		t.Errorf("%v, %v", epochs, err)
	}
	page, err := os.ReadFile(filepath.Join(in("with"), report.PageFile))
	if err != nil || bytes.Count(page, []byte("data:image/png")) < 20 ||
		!bytes.Contains(page, []byte("finished")) {
		t.Errorf("the report shows no pictures: %v", err)
	}
	events, err := filepath.Glob(filepath.Join(in("with"), "events.out.tfevents.*"))
	if err != nil || len(events) != 2 {
		t.Errorf("%v, %v", events, err)
	}
	// A bare --dashboard takes no value: what follows it is the network.
	if r := cnnkit(t, append([]string{"train", "--dashboard"}, append(args[1:], "--no-report", "--out",
		in("bare"))...)...); r.code != exitDone || !strings.Contains(r.err, "dashboard: http://127.0.0.1:") {
		t.Errorf("%+v", r)
	}
	for _, address := range [][]string{{"--dashboard-addr", "127.0.0.1:0"},
		{"--dashboard", "--dashboard-addr", "0"}} {
		if r := cnnkit(t, append(append(args, address...), "--no-report", "--force", "--out",
			in("address"))...); r.code != exitDone ||
			!strings.Contains(r.err, "dashboard: http://127.0.0.1:") {
			t.Errorf("%v: %+v", address, r)
		}
	}
	if r := cnnkit(t, append(args, "--dashboard-addr", "nowhere:x", "--out",
		in("bad"))...); r.code == exitDone || !strings.Contains(r.err, "HOST:PORT") {
		t.Errorf("%+v", r)
	}
}

// --find-lr leaves a table and a picture, and no model; the flags of averages and kept
// epochs have their fields.
func TestFindLR(t *testing.T) {
	set, dir := tiny(t, "mnist"), t.TempDir()
	out := done(t, "train", "lenet5", "--data", set, "--batch", "20", "--find-lr", "--find-lr-range",
		"1e-4,1", "--find-lr-steps", "20", "--out", dir)
	if !strings.Contains(out, "try --lr ") && !strings.Contains(out, "no suggestion") {
		t.Error(out)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 || files[0].Name() != train.FindLRFile ||
		files[1].Name() != train.FindLRPlotFile {
		t.Errorf("%v, %v", files, err)
	}
	var v struct {
		Steps      int
		Suggestion *float64
	}
	answer(t, &v, "train", "lenet5", "--data", set, "--find-lr", "--find-lr-steps", "12", "--out", dir)
	if v.Steps == 0 || v.Steps > 12 || v.Suggestion == nil {
		t.Errorf("%+v", v)
	}
	done(t, "train", "lenet5", "--data", set, "--epochs", "3", "--swa", "2", "--swa-lr", "0.02", "--set",
		"swa.anneal_epochs=1", "--keep", "1", "--out", dir)
	r := readRecipe(t, dir)
	if (r.SWA != train.SWA{Start: 2, LR: 0.02, AnnealEpochs: 1}) || r.Keep != 1 {
		t.Errorf("%+v", r)
	}
	model, _ := train.EpochFiles(3)
	if !sameFile(t, filepath.Join(dir, model), filepath.Join(dir, train.LastFile)) {
		t.Errorf("%s is not the last model", model)
	}
}
