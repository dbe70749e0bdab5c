package engine

import (
	"context"
	"testing"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// wide is a network of fully connected layers whose first one has a gradient of several slabs in both
// directions, none of them whole.
func wide(seed uint64) *net {
	b := newNet(seed, "N", 1300)
	b.linear(1300, 70)
	b.node("Relu", []string{b.last})
	w := b.init("plain.weight", b.random(0.1, 70, 1050))
	b.node("MatMul", []string{b.last, w})
	b.linear(1050, 10)
	return b
}

// What is streamed has the bits of the whole gradient: with a rate of 1 and no momentum the new weights
// are the old ones less it.
func TestStreamedUpdateHasTheBitsOfTheWholeGradient(t *testing.T) {
	for _, batch := range []int64{1, 5, 300} {
		b := wide(21)
		m := b.nll(0)
		in := map[string]*onnxio.Tensor{"input": b.random(1, batch, 1300), "target": classes(b, batch)}
		loss := m.Graph.Outputs[len(m.Graph.Outputs)-1].Name
		whole, err := NewTrainer(m, TrainOptions{Loss: loss})
		if err != nil {
			t.Fatal(err)
		}
		if err := whole.Step(context.Background(), in); err != nil {
			t.Fatal(err)
		}
		for _, threads := range []int{1, 3} {
			pool := parallel.New(threads)
			defer pool.Close()
			tr, err := NewTrainer(m, TrainOptions{Pool: pool, Loss: loss, Update: plainSGD{1, 0}})
			if err != nil {
				t.Fatal(err)
			}
			if err := tr.Step(context.Background(), in); err != nil {
				t.Fatal(err)
			}
			streamed := 0
			for _, s := range tr.Plan().Steps() {
				if s.Kernel == "gemm update "+kernels.Level() {
					streamed++
				}
			}
			if streamed == 0 {
				t.Fatal("nothing was streamed")
			}
			for _, name := range tr.Params() {
				g, err := whole.Gradient(name)
				if err != nil {
					t.Fatal(err)
				}
				old := m.Graph.Initializer(name).Float32s()
				for i, v := range tr.params[name].plain(tr.params[name].buf).Float32s() {
					if want := old[i] - g.Float32s()[i]; v != want {
						t.Fatalf("batch %d, %d threads: element %d of %s is %v, want %v", batch, threads, i,
							name, v, want)
					}
				}
			}
		}
	}
}

// The gradient of a large layer takes no memory.
func TestStreamedGradientTakesNoMemory(t *testing.T) {
	b := newNet(22, "N", 4000)
	b.linear(4000, 2000)
	b.linear(2000, 10)
	m := b.nll(0)
	pool := parallel.New(2)
	defer pool.Close()
	tr, err := NewTrainer(m, TrainOptions{Pool: pool, Loss: "loss", Update: plainSGD{0.1, 0}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Step(context.Background(), map[string]*onnxio.Tensor{"input": b.random(1, 2, 4000),
		"target": classes(b, 2)}); err != nil {
		t.Fatal(err)
	}
	if got, gradient := tr.Plan().ArenaBytes(), int64(4*4000*2000); got > gradient/10 {
		t.Errorf("the arena has %d bytes; the gradient alone would take %d", got, gradient)
	}
}
