//go:build unix

package onnxio

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestKilledWhileSaving kills a process that saves two models in turn, at random moments: what is on disk is
// always one of the two, whole.
func TestKilledWhileSaving(t *testing.T) {
	model := func(fill float32) *Model {
		data := make([]float32, 1<<18)
		for i := range data {
			data[i] = fill
		}
		return &Model{IRVersion: 8, Graph: &Graph{Name: "g", Initializers: []*Tensor{Floats(data)}}}
	}
	if path := os.Getenv("CNNKIT_TEST_SAVE_TO"); path != "" {
		a, b := model(1), model(2)
		for {
			if Save(path, a) != nil || Save(path, b) != nil {
				os.Exit(1)
			}
		}
	}
	if testing.Short() {
		t.Skip("starts twenty processes: run without -short")
	}
	path := filepath.Join(t.TempDir(), "m.onnx")
	if err := Save(path, model(1)); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		child := exec.Command(os.Args[0], "-test.run=^TestKilledWhileSaving$")
		child.Env = append(os.Environ(), "CNNKIT_TEST_SAVE_TO="+path)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20*time.Millisecond + rand.N(60*time.Millisecond))
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // killed, as it should be
		m, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		v := m.Graph.Initializers[0].Float32s()
		for _, x := range v {
			if x != v[0] {
				t.Fatalf("%v among %v", x, v[0])
			}
		}
	}
}
