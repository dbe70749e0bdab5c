package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rows are the lines of a file.
func rows(t *testing.T, path string) []string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
}

// What was logged is in the file at once, so that a run which is killed, and closes nothing, has lost none of
// it; the resumed run drops what lies beyond its checkpoint, and knows what the log has of its last step.
func TestLineLoggerIsKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), StepLinesFile)
	l, err := NewLineLogger(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	for step := int64(1); step <= 3; step++ {
		if err := l.Log(step, map[string]float64{"step_loss": 1 / float64(step)}); err != nil {
			t.Fatal(err)
		}
		if n := len(rows(t, path)); n != int(step) {
			t.Fatalf("%d lines after step %d", n, step)
		}
	}
	if err := l.Log(2, map[string]float64{"validation_loss": 2}); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"_step": 2, "half": 1`); err != nil { // a line that the kill has cut
		t.Fatal(err)
	}
	f.Close()
	again, err := NewLineLogger(path, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close(Finished)
	if n := len(rows(t, path)); n != 3 || !again.Has("validation_loss") || !again.Has("step_loss") ||
		again.Has("half") {
		t.Errorf("%d lines, %v", n, again.had)
	}
}

// A resumed run goes on in its run of MLflow, without what was logged beyond the checkpoint; a new one, or
// one whose run was deleted, has a run of its own.
func TestMLflowGoesOn(t *testing.T) {
	store, note := filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), MLflowFile)
	open := func(from int64, lr string) *MLflow {
		m, err := NewMLflow(store, Run{Title: "a run", Config: json.RawMessage(`{"lr":` + lr + `}`)},
			note, from)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	first := open(0, "0.5")
	for step := int64(1); step <= 4; step++ {
		if err := first.Log(step, map[string]float64{"step_loss": float64(step)}); err != nil {
			t.Fatal(err)
		}
	}
	loss := filepath.Join(first.dir, "metrics", "step_loss")
	if len(rows(t, loss)) != 4 { // and it is killed: nothing is closed
		t.Fatal(rows(t, loss))
	}
	second := open(3, "0.25")
	if second.dir != first.dir || !second.Has("step_loss") || second.Has("validation_loss") {
		t.Fatalf("%s goes on as %s, with %v", first.dir, second.dir, second.had)
	}
	if err := second.Log(4, map[string]float64{"step_loss": 40, "validation_loss": 4}); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(Finished); err != nil {
		t.Fatal(err)
	}
	if got := rows(t, loss); len(got) != 4 || !strings.HasSuffix(got[3], " 40 4") ||
		!strings.HasSuffix(got[2], " 3 3") {
		t.Error(got)
	}
	meta, err := os.ReadFile(filepath.Join(first.dir, "meta.yaml"))
	if err != nil || !strings.Contains(string(meta), "status: 3\n") ||
		second.meta.started.UnixMilli() != first.meta.started.UnixMilli() {
		t.Errorf("%s, %v", meta, err)
	}
	if lr := rows(t, filepath.Join(first.dir, "params", "lr")); lr[0] != "0.25" {
		t.Error(lr)
	}
	deleted := strings.Replace(string(meta), "lifecycle_stage: active", "lifecycle_stage: deleted", 1)
	if err := os.WriteFile(filepath.Join(first.dir, "meta.yaml"), []byte(deleted), 0o666); err != nil {
		t.Fatal(err)
	}
	third := open(4, "1")
	fourth := open(0, "1")
	if third.dir == first.dir || fourth.dir == third.dir || open(9, "1").dir != fourth.dir {
		t.Errorf("runs %s, %s, %s", first.dir, third.dir, fourth.dir)
	}
	if err := os.WriteFile(note, []byte(`{"run":"../elsewhere"}`), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := NewMLflow(store, Run{}, note, 4); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Error(err)
	}
}
