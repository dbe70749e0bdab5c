package infer_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/infer"
)

// decode reads a fixture without its weights, which are in a file that is not there.
func decode(t *testing.T, path string) *onnxio.Model {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnxio.Decode(bytes.NewReader(raw), int64(len(raw)), onnxio.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What PyTorch exports is inferred at least as well as ONNX's own inference does, which
// testdata/infer/make.py asked: its numbers are the same here, its symbols the same or numbers.
func TestAgainstONNX(t *testing.T) {
	files, err := filepath.Glob("../../testdata/infer/*.onnx")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".onnx"), func(t *testing.T) {
			r, err := infer.Shapes(decode(t, path))
			if err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(path + ".json")
			if err != nil {
				t.Fatal(err)
			}
			var want map[string][]any
			if err := json.Unmarshal(raw, &want); err != nil {
				t.Fatal(err)
			}
			for name, w := range want {
				v := r.ValueInfo(name).Type
				same := v.HasShape && len(v.Shape) == len(w)
				for i := 0; same && i < len(w); i++ {
					switch d := v.Shape[i]; x := w[i].(type) {
					case float64:
						same = d.Known() && d.Value == int64(x)
					case string: // unk__3 is a name for what ONNX cannot tell, M one that only the output declares
						same = d.Known() || d.Param == x || strings.HasPrefix(x, "unk__") || x == "M"
					}
				}
				if !same {
					t.Errorf("%s is %+v, where ONNX says %v", name, v.Shape, w)
				}
			}
		})
	}
}

// Shapes that a network computes from its batch size are known but for the batch.
func TestComputedFromBatch(t *testing.T) {
	m := decode(t, "../../testdata/infer/views.onnx")
	r, err := infer.Shapes(m)
	if err != nil {
		t.Fatal(err)
	}
	ops := map[string]bool{}
	for _, n := range m.Graph.Nodes {
		ops[n.OpType] = true
		s := r.ValueInfo(n.Outputs[0]).Type
		if !s.HasShape {
			t.Errorf("%s %q has no shape", n.OpType, n.Name)
		}
		for i, d := range s.Shape {
			if !d.Known() && !(i == 0 && d.Param == "N") && n.Outputs[0] != "output" {
				t.Errorf("%s %q is %+v", n.OpType, n.Name, s.Shape)
			}
		}
	}
	for _, op := range []string{"Shape", "Gather", "Concat", "Reshape"} {
		if !ops[op] {
			t.Errorf("the fixture has no %s", op)
		}
	}
	if s := r.ValueInfo("output").Type.Shape; len(s) != 2 || s[1].Value != 3 {
		t.Errorf("the output is %+v", s)
	}
}
