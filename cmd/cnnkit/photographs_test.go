package main

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
)

// photographed is a network as photographs.py had it: weights of seed 0, and a last layer that is scaled.
func photographed(t *testing.T, name string, scale float64) string {
	t.Helper()
	m, err := builders.Build(name, builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var head *onnxio.Node
	for _, n := range m.Graph.Nodes {
		if n.OpType == "Gemm" {
			head = n
		}
	}
	for _, input := range head.Inputs[1:] {
		values := m.Graph.Initializer(input).Float32s()
		for i := range values {
			values[i] *= float32(scale)
		}
	}
	path := filepath.Join(t.TempDir(), name+".onnx")
	if err := onnxio.Save(path, m); err != nil {
		t.Fatal(err)
	}
	return path
}

// predict --preset imagenet gives the probabilities of PIL's and torchvision's transform and model, of 20
// photographs within 1e-3: testdata/builders/photographs.py.
func TestPhotographsAsTorchvision(t *testing.T) {
	root := os.Getenv("CNNKIT_DATA")
	if testing.Short() || root == "" {
		t.Skip("reads photographs of the Oxford-IIIT Pet data set: set CNNKIT_DATA, and run without -short")
	}
	const folder, classes = "../../testdata/builders", 1000
	var golden struct {
		Files []string
		Scale map[string]float64
	}
	text, err := os.ReadFile(filepath.Join(folder, "photographs.json"))
	if err == nil {
		err = json.Unmarshal(text, &golden)
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(folder, "photographs.bin"))
	if err != nil || len(raw) != 4*3*len(golden.Files)*classes {
		t.Fatalf("photographs.bin has %d bytes: %v", len(raw), err)
	}
	var files []string
	for _, name := range golden.Files {
		files = append(files, filepath.Join(root, "pets", "images", name))
		if _, err := os.Stat(files[len(files)-1]); err != nil {
			t.Skip(err)
		}
	}
	for k, name := range []string{"resnet18", "mobilenet_v3_large", "efficientnet_b0"} {
		t.Run(name, func(t *testing.T) {
			model := photographed(t, name, golden.Scale[name])
			far := func(preset string) (worst float64) {
				var got []prediction
				args := append([]string{"predict", model, "--preset", preset, "--top", "1000", "--engine",
					"native"}, files...)
				if answer(t, &got, args...); len(got) != len(files) {
					t.Fatalf("%d answers", len(got))
				}
				for i, row := range got {
					if len(row.Top) != classes {
						t.Fatalf("%d classes", len(row.Top))
					}
					for _, g := range row.Top {
						at := 4 * ((k*len(files)+i)*classes + g.Class)
						want := float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[at:])))
						worst = max(worst, math.Abs(g.Probability-want))
					}
				}
				return worst
			}
			worst := far("imagenet")
			if !(worst <= 1e-3) {
				t.Errorf("a probability is %v away from torchvision's", worst)
			}
			if other := far("half"); other <= 1e-3 {
				t.Errorf("images prepared otherwise give the same, within %v", other)
			}
			t.Logf("probabilities are within %.2g", worst)
		})
	}
}
