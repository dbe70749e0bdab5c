package report

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	epochs := []Epoch{
		{Epoch: 1, Values: map[string]float64{"train_loss": 2.25, "lr": 1e-4, "odd \"<name>\"\n": 1}},
		{Epoch: 2, Values: map[string]float64{"train_loss": math.NaN(), "lr": 1e-25}},
	}
	var b bytes.Buffer
	if err := WriteLines(&b, epochs); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	if len(lines) != 3 || lines[1] != `{"epoch":2,"lr":1e-25,"train_loss":null}` {
		t.Fatalf("%q", lines)
	}
	back, err := ReadLines(&b)
	if err != nil || len(back) != 2 || back[0].Epoch != 1 || len(back[0].Values) != 3 ||
		back[0].Values["odd \"<name>\"\n"] != 1 ||
		back[0].Values["lr"] != 1e-4 || !math.IsNaN(back[1].Values["train_loss"]) {
		t.Errorf("%v, %v", back, err)
	}
	path := filepath.Join(t.TempDir(), "history.jsonl")
	for n := 1; n <= 2; n++ {
		if err := SaveLines(path, epochs[:n]); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || bytes.Count(got, []byte("\n")) != n {
			t.Errorf("after epoch %d: %q, %v", n, got, err)
		}
	}
}

func TestLinesRefuse(t *testing.T) {
	for _, s := range []string{"[]", `{"lr":1}`, `{"epoch":1.5}`, `{"epoch":null}`,
		`{"epoch":1,"lr":"a"}`, "{"} {
		if got, err := ReadLines(strings.NewReader(s)); err == nil {
			t.Errorf("%s is %v", s, got)
		}
	}
	if err := WriteLines(&bytes.Buffer{},
		[]Epoch{{Epoch: 1, Values: map[string]float64{"epoch": 2}}}); err == nil {
		t.Error("two fields of one name")
	}
}

func TestRunIsJSON(t *testing.T) {
	run := example(t)
	b, err := json.Marshal(run)
	if err != nil {
		t.Fatal(err)
	}
	var back Run
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Epochs) != len(run.Epochs) || back.Epochs[3].Values["lr"] != run.Epochs[3].Values["lr"] ||
		!bytes.Equal(back.Mistakes[0].Image, run.Mistakes[0].Image) ||
		back.Confusion.Counts[0][1] != run.Confusion.Counts[0][1] {
		t.Errorf("%.300s", b)
	}
}
