package engine

import (
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestUses: the same addition or product takes a weight or a constant; the numbers, and
// what is before, tell which.
func TestUses(t *testing.T) {
	mask := onnxio.Floats([]float32{0, float32(math.Inf(-1)), 0, 0}, 1, 4, 1, 1)
	grid := onnxio.Floats([]float32{0, 1, 2, 3}, 1, 4, 1, 1)
	b := newNet(1, 2, 3, 8, 8)
	b.node("Sub", []string{"input", b.init("mean", b.random(1, 3, 1, 1))})
	b.node("Div", []string{b.last, b.init("std", b.random(1, 3, 1, 1))})
	b.node("Conv", []string{b.last, b.init("kernel", b.random(1, 4, 3, 3, 3))})
	b.node("Add", []string{b.last, b.init("bias", b.random(1, 1, 4, 1, 1))})
	b.node("Mul", []string{b.last, b.init("half", number(0.5))})
	b.node("Add", []string{b.last, b.init("grid", grid)})
	b.node("Add", []string{b.last, b.init("mask", mask)})
	b.node("Mul", []string{b.last, b.init("scale", b.random(1, 4, 1, 1))})
	b.init("unread", b.random(1, 4))
	b.m.Graph.Outputs = []*onnxio.ValueInfo{onnxio.TensorInfo(b.last, onnxio.Float)}
	uses, err := Uses(b.m)
	if err != nil {
		t.Fatal(err)
	}
	weights := map[string]bool{"kernel": true, "bias": true, "scale": true}
	for _, u := range uses {
		if got := u.Kind == UseWeight; got != weights[u.Name] {
			t.Errorf("%s is a %s: %s", u.Name, u.Kind, u.Reason)
		}
	}
	if len(uses) != 9 {
		t.Errorf("%d uses: %v", len(uses), uses)
	}
}
