package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/train"
)

// firstFolder has what the first round's program wrote: testdata/train/first.sh.
const firstFolder = "../../testdata/train/first"

// copied is a copy of one of its runs.
func copied(t *testing.T, run string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), run)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(firstFolder, run))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Models, recipes and checkpoints of commit 238fb55 load; a run goes on to the figures that it had there, and
// one that could not go on as it was says what to do.
func TestFirstRound(t *testing.T) {
	steps := copied(t, "steps")
	raw, err := os.ReadFile(filepath.Join(firstFolder, "steps", "eval.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	model, err := os.ReadFile(filepath.Join(steps, "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	answer(t, &got, "eval", write(t, filepath.Join(t.TempDir(), "model.onnx"), model), "--data", "mnist",
		"--engine", "native", "--metrics", "f1")
	for _, name := range []string{"accuracy", "loss", "f1"} {
		if a, b := got[name].(float64), want[name].(float64); !(math.Abs(a-b) <= 1e-4*b) {
			t.Errorf("%s is %v, and was %v", name, a, b)
		}
	}
	next, err := os.ReadFile(filepath.Join(steps, "next.txt"))
	if err != nil {
		t.Fatal(err)
	}
	// Its blocks are dropped by image now, so that the loss of training is another; the weights, which are mostly
	// those of before, validate alike.
	figures, _, _ := strings.Cut(string(next), "; 0.")
	_, figures, _ = strings.Cut(figures, "; ")
	r := cnnkit(t, "train", "--resume", steps, "--epochs", "2", "--no-report")
	if r.code != exitDone || !strings.Contains(r.out, figures) || !strings.Contains(r.err, "other draws") {
		t.Errorf("it goes on to %s%s, and there to %s", r.out, r.err, figures)
	}
	done(t, "train", "--recipe", filepath.Join(firstFolder, "steps", "recipe.json"), "--no-report", "--out",
		filepath.Join(t.TempDir(), "again"))

	cosine := copied(t, "cosine")
	r = cnnkit(t, "train", "--resume", cosine, "--epochs", "2")
	if r.code == exitDone || !strings.Contains(r.err, "rates would jump") ||
		!strings.Contains(r.err, "schedule.total=1") {
		t.Errorf("a longer cosine: exit code %d, %s", r.code, r.err)
	}
	done(t, "train", "--resume", cosine, "--epochs", "2", "--set", "schedule.total=1", "--no-report")
}

// A changed image and a renamed class are refused, with what to do; once they are back the run goes on.
func TestResumeSeesItsImages(t *testing.T) {
	dir := t.TempDir()
	images := filepath.Join(dir, "images")
	source := taskFolders(t, images)
	out := filepath.Join(dir, "run")
	done(t, "train", filepath.Join(tasksFolder, "tasks", "regression.onnx"), "--data", "images:"+images,
		"--epochs", "1", "--batch", "8", "--no-report", "--out", out)
	refused := func(what string) {
		t.Helper()
		r := cnnkit(t, "train", "--resume", out, "--epochs", "2", "--no-report")
		if r.code == exitDone || !strings.Contains(r.err, "has changed") ||
			!strings.Contains(r.err, "Bring back the data, or start a new run") {
			t.Errorf("%s: exit code %d, %s", what, r.code, r.err)
		}
	}
	old, err := os.ReadFile(source[0])
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(source[1])
	if err != nil {
		t.Fatal(err)
	}
	write(t, source[0], other)
	refused("a changed image")
	write(t, source[0], old)
	if err := os.Rename(filepath.Join(images, "a"), filepath.Join(images, "aa")); err != nil {
		t.Fatal(err)
	}
	refused("a renamed class")
	if err := os.Rename(filepath.Join(images, "aa"), filepath.Join(images, "a")); err != nil {
		t.Fatal(err)
	}
	done(t, "train", "--resume", out, "--epochs", "2", "--no-report")
	if _, err := os.Stat(filepath.Join(out, train.LastFile)); err != nil {
		t.Error(err)
	}
}

// taskFolders puts the images of a task into the folders of two classes, and lists them.
func taskFolders(t *testing.T, dir string) []string {
	t.Helper()
	from := filepath.Join(t.TempDir(), "data")
	taskData(t, from, "regression")
	files, err := filepath.Glob(filepath.Join(from, "images", "*.png"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	var out []string
	for i, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		class := filepath.Join(dir, []string{"a", "b"}[i%2])
		if err := os.MkdirAll(class, 0o777); err != nil {
			t.Fatal(err)
		}
		out = append(out, write(t, filepath.Join(class, filepath.Base(file)), raw))
	}
	return out
}
