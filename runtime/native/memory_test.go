package native

import (
	"context"
	"math/rand/v2"
	"os"
	goruntime "runtime"
	"slices"
	"sync"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
)

// freeSize is a network that takes images of any size.
func freeSize(t testing.TB, network string) *onnxio.Model {
	t.Helper()
	m, err := builders.Build(network, builders.Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	m.Graph.Inputs[0].Type.Shape[2] = onnxio.Dim{Param: "H"}
	m.Graph.Inputs[0].Type.Shape[3] = onnxio.Dim{Param: "W"}
	return m
}

// held is what the process holds after a collection.
func held() uint64 {
	var stats goruntime.MemStats
	goruntime.GC()
	goruntime.GC()
	goruntime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// A session that is asked for many batch and image sizes holds at most twice what the largest alone takes.
// CNNKIT_SOAK=1 asks 10,000 times.
func TestMemoryIsFlatOverManyShapes(t *testing.T) {
	runs, smallest, largest, batches := 200, int64(32), int64(64), int64(8)
	if os.Getenv("CNNKIT_SOAK") != "" {
		runs, largest, batches = 10_000, 32+200, 64
	}
	b, err := Open(freeSize(t, "resnet18"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	run := func(batch, size int64) {
		x := onnxio.NewTensor(onnxio.Float, batch, 3, size, size)
		if _, err := b.Run(context.Background(), map[string]*onnxio.Tensor{"input": x}); err != nil {
			t.Fatalf("%d images of %d: %v", batch, size, err)
		}
	}
	before := held()
	run(batches, largest)
	alone := held() - before
	r := rand.New(rand.NewPCG(1, 2))
	for i := range runs {
		size, batch := smallest+r.Int64N(largest-smallest+1), 1+r.Int64N(batches)
		if runs > 1000 && i%100 > 0 { // a large one now and then, so that it takes minutes and not hours
			batch = max(1, min(batch, 1<<14/(size*size)))
		}
		run(batch, size)
		if i%100 == 99 {
			if now := held() - before; now > 2*alone {
				t.Fatalf("after %d runs the session holds %d bytes; the largest shape alone took %d",
					i+1, now, alone)
			}
		}
	}
	t.Logf("%d runs: %d MB held, %d MB for the largest shape alone", runs, (held()-before)>>20, alone>>20)
}

// Sixteen callers with images of their own sizes get the answers that each gets alone.
func TestConcurrentRunsOfMixedShapes(t *testing.T) {
	b, err := Open(freeSize(t, "resnet18"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	const callers = 16
	shapes, want := [callers][2]int64{}, [callers][]float32{}
	run := func(i int) []float32 {
		x := onnxio.NewTensor(onnxio.Float, shapes[i][0], 3, shapes[i][1], shapes[i][1])
		for k := range x.Float32s() {
			x.Float32s()[k] = float32((k*31+i)%17) / 17
		}
		out, err := b.Run(context.Background(), map[string]*onnxio.Tensor{"input": x})
		if err != nil {
			t.Error(err)
			return nil
		}
		return out["output"].Float32s()
	}
	for i := range shapes {
		shapes[i] = [2]int64{1 + int64(i)%3, 32 + int64(i*5)%24}
		want[i] = run(i)
	}
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for k := range 3 {
				at := (i + k*5) % callers
				if got := run(at); !slices.Equal(got, want[at]) {
					t.Errorf("caller %d: shape %v has another answer beside others", i, shapes[at])
				}
			}
		})
	}
	wg.Wait()
}
