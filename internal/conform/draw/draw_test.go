package draw

import (
	"bytes"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/onnxio/infer"
)

// What is drawn is sound, the same each time, and of nearly all operators that are drawn at all.
func TestNew(t *testing.T) {
	drawn := map[string]int{}
	for seed := range uint64(3000) {
		c := New(Choices(seed), 12, true)
		if err := check.Structure(c.Model); err != nil && len(c.Model.Graph.Outputs) > 0 {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := check.Model(c.Model); err != nil && len(c.Model.Graph.Outputs) > 0 {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if _, err := infer.Shapes(c.Model); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, n := range c.Model.Graph.Nodes {
			drawn[n.OpType]++
		}
		if seed%100 == 0 {
			a, err := onnxio.Encode(c.Model)
			if err != nil {
				t.Fatal(err)
			}
			b, err := onnxio.Encode(New(Choices(seed), 12, true).Model)
			if err != nil || !bytes.Equal(a, b) {
				t.Fatalf("seed %d: the same choices make another model: %v", seed, err)
			}
		}
	}
	never := 0
	for _, f := range forms {
		if drawn[f.op] == 0 {
			drawn[f.op] = -1
			never++
			t.Logf("never drawn: %s", f.op)
		}
	}
	t.Log(drawn)
	if never > len(drawn)/4 {
		t.Errorf("%d operators are never drawn", never)
	}
}
