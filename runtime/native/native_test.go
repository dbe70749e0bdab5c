package native

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/internal/engine"
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
	if len(b.plans.idle) != 1 {
		t.Fatalf("Open leaves %d plans", len(b.plans.idle))
	}
	first := b.plans.idle[0].plan
	for range 3 {
		ran(t, b, batch(1, 0.5))
	}
	if len(b.plans.idle) != 1 || b.plans.idle[0].plan != first {
		t.Errorf("a Run of one image does not use the plan that Open has made: %d plans", len(b.plans.idle))
	}
	ran(t, b, batch(3, 0.5))
	second := b.plans.idle[1].plan
	ran(t, b, batch(1, 0.5))
	ran(t, b, batch(3, 0.5))
	if len(b.plans.idle) != 2 || b.plans.idle[0].plan != first || b.plans.idle[1].plan != second {
		t.Errorf("two shapes leave %d plans", len(b.plans.idle))
	}
}

func TestPlansAreBounded(t *testing.T) {
	b := opened(t, "lenet5")
	for n := range int64(2 * maxIdle) {
		ran(t, b, batch(1+n, 0.5))
	}
	if len(b.plans.idle) != maxIdle {
		t.Errorf("%d shapes leave %d plans", 2*maxIdle, len(b.plans.idle))
	}
	total := int64(0)
	for _, e := range b.plans.idle {
		total += e.plan.ArenaBytes()
	}
	if total != b.plans.bytes || total == 0 {
		t.Errorf("arenas of %d bytes are counted as %d", total, b.plans.bytes)
	}
}

func TestCache(t *testing.T) {
	var c cache
	plan := map[string]*engine.Plan{}
	put := func(shapes string, bytes int64) {
		plan[shapes] = &engine.Plan{}
		c.put(shapes, plan[shapes], bytes)
	}
	held := func() (out []string) {
		for _, e := range c.idle {
			out = append(out, e.shapes)
		}
		return out
	}
	put("a", maxIdleBytes/2)
	put("b", maxIdleBytes/2)
	put("c", 1) // "a" was used longest ago
	if got := held(); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("%v", got)
	}
	if c.take([]byte("a")) != nil || c.take([]byte("b")) != plan["b"] || c.bytes != 1 {
		t.Errorf("%v, %d bytes", held(), c.bytes)
	}
	put("huge", 3*maxIdleBytes)
	if got := held(); !slices.Equal(got, []string{"huge"}) {
		t.Errorf("%v", got)
	}
	put("d", 1)
	for i := range maxIdle {
		put(fmt.Sprint(i), 1)
	}
	if got := held(); len(got) != maxIdle || got[0] != "0" || c.bytes != maxIdle {
		t.Errorf("%v, %d bytes", got, c.bytes)
	}
	for _, e := range c.idle[len(c.idle):cap(c.idle)] {
		if e.plan != nil {
			t.Error("a plan that was forgotten is still held")
		}
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
	if n := len(b.plans.idle); n > cap(b.running)+1 || n > maxIdle {
		t.Errorf("%d plans where %d Runs at most are under way", n, cap(b.running))
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
