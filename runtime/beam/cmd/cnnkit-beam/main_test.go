package main

import (
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/runtime/vision"
)

// TestMain lets the test binary be the program, whose flags and runner are once a process.
func TestMain(m *testing.M) {
	if os.Getenv("CNNKIT_TEST_AS_PROGRAM") == "1" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const lenet = "../../../../models/lenet5-mnist/model.onnx"

// program runs cnnkit-beam.
func program(t *testing.T, args ...string) (code int, log string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "CNNKIT_TEST_AS_PROGRAM=1")
	text, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(text)
}

// images is a folder of three images and a file that is none.
func images(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a.png", "b.png", "c.png"} {
		var b bytes.Buffer
		if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 28, 28))); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "d.png"), []byte("no image"), 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

func lines(t *testing.T, path string) (all []vision.Result) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var r vision.Result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, r)
	}
	return all
}

func TestPredict(t *testing.T) {
	dir, out := images(t), filepath.Join(t.TempDir(), "out.jsonl")
	code, log := program(t, "predict", "--model", lenet, "--input", filepath.Join(dir, "*.png"),
		"--output", out,
		"--top", "2", "--runner", "prism")
	if code != 0 || !strings.Contains(log, "3 images in") || !strings.Contains(log, "1 without") {
		t.Fatalf("exit code %d: %s", code, log)
	}
	answers, dead := lines(t, out), lines(t, strings.TrimSuffix(out, ".jsonl")+".dead.jsonl")
	if len(answers) != 3 || len(answers[0].Top) != 2 || len(dead) != 1 ||
		filepath.Base(dead[0].File) != "d.png" || dead[0].Error == "" {
		t.Errorf("%+v, dead letters %+v", answers, dead)
	}
	code, log = program(t, "predict", "--model", lenet, "--input", filepath.Join(dir, "d.png"),
		"--output", out)
	if code != 1 || !strings.Contains(log, "no image has an answer") {
		t.Errorf("without an answer: exit code %d: %s", code, log)
	}
}

func TestUsage(t *testing.T) {
	good := []string{"predict", "--model", lenet, "--input", "*.png", "--output",
		filepath.Join(t.TempDir(), "out.jsonl")}
	for want, args := range map[string][]string{
		"the verb is predict":             {"classify"},
		"--model, --input":                {"predict", "--model", lenet},
		"no runner":                       append(good, "--runner", "steam"),
		"--endpoint":                      append(good, "--runner", "flink"),
		"in quotes":                       append(good, "b.png"),
		"no engine":                       append(good, "--engine", "onnxgo"),
		"--batch and --top":               append(good, "--batch", "0"),
		"the same file":                   append(good, "--dead-letter", good[len(good)-1]),
		"flag provided but not defined: ": append(good, "--steam"),
	} {
		if code, log := program(t, args...); code != 2 || !strings.Contains(log, want) {
			t.Errorf("%v: exit code %d, %s", args, code, log)
		}
	}
	good[2] = "none.onnx"
	if code, log := program(t, good...); code != 1 || !strings.Contains(log, "none.onnx") {
		t.Errorf("no model: exit code %d, %s", code, log)
	}
}

func TestDeadLetters(t *testing.T) {
	for output, want := range map[string]string{
		"out.jsonl": "out.dead.jsonl", "gs://b.c/out": "gs://b.c/out.dead",
		"a.b/out.json": "a.b/out.dead.json", ".out": ".out.dead",
	} {
		if got := deadLetters(output); got != want {
			t.Errorf("%s: %s, not %s", output, got, want)
		}
	}
}
