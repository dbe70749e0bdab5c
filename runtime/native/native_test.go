package native

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
)

func opened(t testing.TB, network string) *Backend {
	t.Helper()
	m, err := builders.Build(network, builders.Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// batch is an input of LeNet-5 whose images are all of one value.
func batch(n int64, value float32) map[string]*onnxio.Tensor {
	x := onnxio.NewTensor(onnxio.Float, n, 1, 28, 28)
	for i := range x.Float32s() {
		x.Float32s()[i] = value
	}
	return map[string]*onnxio.Tensor{"input": x}
}

func ran(t testing.TB, b *Backend, in map[string]*onnxio.Tensor) []float32 {
	t.Helper()
	out, err := b.Run(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out["output"].Float32s()
}

func TestPlansAreKept(t *testing.T) {
	b := opened(t, "lenet5")
	if len(b.lanes.idle) != 1 || b.lanes.idle[0].Segments() != 1 {
		t.Fatalf("Open leaves %d lanes", len(b.lanes.idle))
	}
	lane := b.lanes.idle[0]
	for range 3 {
		ran(t, b, batch(1, 0.5))
	}
	if lane.Segments() != 1 {
		t.Errorf("Runs of one image do not use the plan that Open has made: %d plans", lane.Segments())
	}
	ran(t, b, batch(3, 0.5))
	ran(t, b, batch(1, 0.5))
	ran(t, b, batch(3, 0.5))
	if len(b.lanes.idle) != 1 || lane.Segments() != 2 {
		t.Errorf("two shapes leave %d plans in %d lanes", lane.Segments(), len(b.lanes.idle))
	}
}

// Many shapes share the memory of the one that takes most, which need not be the largest batch: some run in
// portions. The number of plans is bounded.
func TestManyShapesTakeTheMemoryOfOne(t *testing.T) {
	b, largest := opened(t, "lenet5"), int64(0)
	for n := range int64(100) {
		alone := opened(t, "lenet5")
		ran(t, alone, batch(100-n, 0.5))
		largest = max(largest, alone.lanes.idle[0].Bytes())
		ran(t, b, batch(100-n, 0.5))
	}
	if got := b.lanes.idle[0].Bytes(); got != largest {
		t.Errorf("100 shapes take %d bytes, one alone at most %d", got, largest)
	}
	if n := b.lanes.idle[0].Segments(); n > 64 {
		t.Errorf("100 shapes leave %d plans", n)
	}
}

// Concurrent Runs of one shape must not see each other's intermediate values.
func TestConcurrentRuns(t *testing.T) {
	b := opened(t, "lenet5")
	var want [8][]float32
	for i := range want {
		want[i] = slices.Clone(ran(t, b, batch(2, float32(i))))
	}
	var wg sync.WaitGroup
	for i := range 8 * cap(b.running) {
		wg.Go(func() {
			out, err := b.Run(context.Background(), batch(2, float32(i%8)))
			if err != nil || !slices.Equal(out["output"].Float32s(), want[i%8]) {
				t.Errorf("run %d has another answer when others run beside it; %v", i, err)
			}
		})
	}
	wg.Wait()
	if n := len(b.lanes.idle); n > cap(b.running)+1 {
		t.Errorf("%d lanes where %d Runs at most are under way", n, cap(b.running))
	}
}

// A Run that waits for others to end gives up with its context.
func TestWaitingRunIsCancelled(t *testing.T) {
	b := opened(t, "lenet5")
	for range cap(b.running) {
		b.running <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.Run(ctx, batch(1, 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	<-b.running
	ran(t, b, batch(1, 0))
}

func TestMissingInput(t *testing.T) {
	if _, err := opened(t, "lenet5").Run(context.Background(), nil); err == nil {
		t.Error("ran without an input")
	}
}

func BenchmarkRun(b *testing.B) {
	backend := opened(b, "lenet5")
	in := batch(1, 0.5)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := backend.Run(context.Background(), in); err != nil {
			b.Fatal(err)
		}
	}
}

// Streams run at once, and give the bits that one thread gives.
func TestStreams(t *testing.T) {
	m, err := builders.Build("lenet5", builders.Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	alone, err := Open(m, Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	b, err := Open(m, Options{Streams: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var wg sync.WaitGroup
	for i := range 12 {
		want := slices.Clone(ran(t, alone, batch(2, float32(i))))
		wg.Go(func() {
			out, err := b.Run(context.Background(), batch(2, float32(i)))
			if err != nil || !slices.Equal(out["output"].Float32s(), want) {
				t.Errorf("run %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if n := len(b.lanes.idle); n < 1 || n > 3 {
		t.Errorf("3 streams leave %d lanes", n)
	}
}
