package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/train/report"
)

// steps reads a log.jsonl.
func steps(t *testing.T, path string) (out []map[string]float64) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		row := map[string]float64{}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		out = append(out, row)
	}
	return out
}

// Each step's loss and each epoch's figures are logged; a resumed run goes on in the
// same file, each step once.
func TestLog(t *testing.T) {
	dir := t.TempDir()
	out, store := filepath.Join(dir, "run"), filepath.Join(dir, "store")
	logs := "jsonl,mlflow=" + store
	done(t, "train", "lenet5", "--data", "stripes", "--epochs", "1", "--batch", "8", "--out", out,
		"--log", logs)
	done(t, "train", "--resume", out, "--epochs", "2", "--log", logs)
	rows := steps(t, filepath.Join(out, report.StepLinesFile))
	var losses []float64
	for i, row := range rows {
		if loss, ok := row["step_loss"]; ok {
			if losses = append(losses, loss); row["_step"] != float64(len(losses)) || row["lr"] == 0 {
				t.Errorf("line %d: %v", i, row)
			}
		}
	}
	if len(losses) != 8 || len(rows) != 10 || rows[9]["validation_loss"] == 0 || rows[9]["_step"] != 8 {
		t.Errorf("%d losses in %d lines, the last %v", len(losses), len(rows), rows[len(rows)-1])
	}
	runs, _ := filepath.Glob(filepath.Join(store, "0", "*", "metrics", "validation_loss"))
	if len(runs) != 1 { // the resumed run goes on in the same one
		t.Fatalf("runs of MLflow: %v", runs)
	}
	run := filepath.Dir(filepath.Dir(runs[0]))
	for file, want := range map[string]string{"meta.yaml": "status: 3\n", "params/optimizer": "sgd",
		"params/lr": "0.01", "tags/mlflow.runName": "lenet5 on stripes"} {
		raw, err := os.ReadFile(filepath.Join(run, filepath.FromSlash(file)))
		if err != nil || !strings.Contains(string(raw), want) {
			t.Errorf("%s: %q, %v", file, raw, err)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(run, "metrics", "step_loss")); err != nil ||
		strings.Count(string(raw), "\n") != 8 {
		t.Errorf("metrics/step_loss: %q, %v", raw, err)
	}
	if r := cnnkit(t, "train", "lenet5", "--data", "stripes", "--log", "csv", "--out", out,
		"--force"); r.code != exitUsage || !strings.Contains(r.err, "jsonl") {
		t.Errorf("--log csv: %d, %s", r.code, r.err)
	}
}

// A log and a report that cannot be written end no training: the models are whole, and the error comes last.
func TestUnwritableLog(t *testing.T) {
	for name, file := range map[string]string{"log": report.StepLinesFile, "report": report.PageFile} {
		out := filepath.Join(t.TempDir(), "run")
		if err := os.MkdirAll(filepath.Join(out, file, "in the way"), 0o777); err != nil {
			t.Fatal(err)
		}
		r := cnnkit(t, "train", "lenet5", "--data", "stripes", "--epochs", "2", "--batch", "8", "--out", out,
			"--log", "jsonl")
		if r.code != exitNo || !strings.Contains(r.err, file) || !strings.Contains(r.out, "last: epoch 2") {
			t.Errorf("%s: exit code %d, %s%s", name, r.code, r.out, r.err)
		}
		done(t, "check", filepath.Join(out, "model.onnx"))
	}
}

// A second Ctrl-C ends a program that does not heed the first.
func TestSecondInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("interrupts a program: run on Unix")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "CNNKIT_TEST_AS_PROGRAM=busy")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewScanner(pipe)
	for _, want := range []string{"ready", "once"} {
		if !out.Scan() || out.Text() != want {
			t.Fatalf("it says %q, not %s", out.Text(), want)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan struct{})
	go func() { // the second may come before the handler is gone
		for {
			select {
			case <-ended:
				return
			case <-time.After(50 * time.Millisecond):
				_ = cmd.Process.Signal(os.Interrupt)
			}
		}
	}()
	defer close(ended)
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() >= 0 {
		t.Errorf("it ended with %v", cmd.ProcessState)
	}
}
