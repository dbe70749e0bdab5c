package engine

import (
	"context"
	"errors"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestNoSilentZeros: a parameter that an operator has no gradient by is refused, behind other operators too;
// one whose numbers an operator does not look at is trained by what else reads it.
func TestNoSilentZeros(t *testing.T) {
	build := func(between string, read func(b *net, p string) string) error {
		b := newNet(1, 2, 3)
		p := b.init("p", number(0.5))
		if between != "" {
			p = b.node(between, []string{p})
		}
		y := read(b, p)
		b.node("Mul", []string{y, p})
		b.node("ReduceSum", []string{b.last}, onnxio.IntAttr("keepdims", 0))
		b.m.Graph.Outputs = []*onnxio.ValueInfo{onnxio.TensorInfo(b.last, onnxio.Float)}
		tr, err := NewTrainer(b.m, TrainOptions{Loss: b.last, Params: []string{"p"}})
		if err != nil {
			t.Fatal(err)
		}
		return tr.Step(context.Background(), map[string]*onnxio.Tensor{"input": b.random(1, 2, 3)})
	}
	pad := func(b *net, p string) string {
		return b.node("Pad", []string{"input", b.init("pads", onnxio.Int64s([]int64{0, 1, 0, 1})), p})
	}
	for _, between := range []string{"", "Tanh"} {
		var unsupported *onnxio.UnsupportedError
		if err := build(between, pad); !errors.As(err, &unsupported) || unsupported.Op != "Pad" {
			t.Errorf("a trained number behind %q as what Pad pads with: %v", between, err)
		}
	}
	like := func(b *net, p string) string { return b.node("CastLike", []string{"input", p}) }
	if err := build("", like); err != nil {
		t.Errorf("a trained number as the target of CastLike: %v", err)
	}
}
