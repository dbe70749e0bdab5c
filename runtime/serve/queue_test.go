package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/serve/internal/oip"
)

// double is a session that doubles "x" [N,2] once it may go on, and keeps what it was asked.
type double struct {
	runtime.Session
	gate chan struct{} // nil: always open
	mu   sync.Mutex
	runs [][]float32
	ends []context.Context
}

var elem = []*onnxio.ValueInfo{onnxio.TensorInfo("x", onnxio.Float, onnxio.Shape("N", 2)...)}

func (d *double) Inputs() []*onnxio.ValueInfo   { return elem }
func (d *double) Defaults() []*onnxio.ValueInfo { return nil }
func (d *double) Outputs() []*onnxio.ValueInfo  { return elem }
func (d *double) Close() error                  { return nil }

func (d *double) Run(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]*onnxio.Tensor, error) {
	d.mu.Lock()
	d.runs = append(d.runs, slices.Clone(in["x"].Float32s()))
	d.ends = append(d.ends, ctx)
	d.mu.Unlock()
	if d.gate != nil {
		select {
		case <-d.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	out := in["x"].Clone()
	for i, v := range out.Float32s() {
		if v == 13 {
			return nil, errors.New("thirteen")
		}
		out.Float32s()[i] = 2 * v
	}
	return map[string]*onnxio.Tensor{"x": out}, nil
}

func (d *double) asked() [][]float32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.runs)
}

func doubling(t *testing.T, d *double, config *oip.ModelConfig) *model {
	opt := &Options{MaxQueue: 4}
	opt.settle()
	m := &model{name: "double", version: 1, session: d, config: config, metrics: newMetrics(),
		log: slog.New(slog.DiscardHandler)}
	m.queue = queueOf(config, opt)
	m.levels = config.GetDynamicBatching().GetPriorityLevels()
	m.start(1)
	t.Cleanup(m.close)
	return m
}

func batching(most int32) *oip.ModelConfig {
	return &oip.ModelConfig{MaxBatchSize: most, DynamicBatching: &oip.ModelDynamicBatching{PriorityLevels: 3,
		DefaultPriorityLevel: 2}}
}

func numbered1(v float32, priority uint64) *request {
	return &request{inputs: map[string]*onnxio.Tensor{"x": onnxio.Floats([]float32{v, v}, 1, 2)},
		priority: priority}
}

// later asks in the background.
func later(ctx context.Context, m *model, r *request) chan result {
	out := make(chan result, 1)
	go func() {
		tensors, err := m.inferAs(ctx, r, func() {})
		out <- result{tensors, err}
	}()
	return out
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 2000 {
		if is() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("still waiting: %s", what)
}

// While one run goes on others wait; then they go together, those of the highest priority first. One
// too many is refused at once.
func TestQueue(t *testing.T) {
	d := &double{gate: make(chan struct{})}
	m := doubling(t, d, batching(3))
	ctx := t.Context()
	first := later(ctx, m, numbered1(1, 0))
	until(t, "the first run", func() bool { return len(d.asked()) == 1 })
	var waiting []chan result
	for i, priority := range []uint64{3, 0, 1, 2} {
		waiting = append(waiting, later(ctx, m, numbered1(float32(i+2), priority)))
		until(t, "a place in the queue", func() bool { return m.queue.waiting() == i+1 })
	}
	start := time.Now()
	if _, err := m.inferAs(ctx, numbered1(9, 0), func() {}); statusOf(err) != 429 ||
		time.Since(start) > time.Second {
		t.Errorf("a full queue: %v after %v", err, time.Since(start))
	}
	if _, err := m.inferAs(ctx, numbered1(9, 4), func() {}); statusOf(err) != 400 {
		t.Errorf("a priority that is not there: %v", err)
	}
	close(d.gate)
	for i, out := range append([]chan result{first}, waiting...) {
		r := <-out
		if r.err != nil || r.outputs["x"].Float32s()[0] != float32(2*(i+1)) {
			t.Errorf("answer %d: %v %v", i, r.outputs, r.err)
		}
	}
	want := "[[1 1] [4 4 3 3 5 5] [2 2]]"
	if got := fmt.Sprint(d.asked()); got != want {
		t.Errorf("runs %s, not %s", got, want)
	}
}

// Requests whose clients have gone keep no place from others.
func TestPlacesOfThoseGone(t *testing.T) {
	d := &double{gate: make(chan struct{})}
	m := doubling(t, d, batching(8))
	first := later(t.Context(), m, numbered1(1, 0))
	until(t, "the first run", func() bool { return len(d.asked()) == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	for i := range m.queue.limit {
		later(ctx, m, numbered1(2, 0))
		until(t, "a place in the queue", func() bool { return m.queue.waiting() == i+1 })
	}
	cancel()
	last := later(t.Context(), m, numbered1(3, 0))
	until(t, "its place alone", func() bool { return m.queue.waiting() == 1 })
	close(d.gate)
	for _, out := range []chan result{first, last} {
		if r := <-out; r.err != nil {
			t.Error(r.err)
		}
	}
}

// A request that fails in a batch fails alone.
func TestFaultOfOne(t *testing.T) {
	d := &double{gate: make(chan struct{})}
	m := doubling(t, d, batching(8))
	first := later(t.Context(), m, numbered1(1, 0))
	until(t, "the first run", func() bool { return len(d.asked()) == 1 })
	good, bad := later(t.Context(), m, numbered1(5, 0)), later(t.Context(), m, numbered1(13, 0))
	until(t, "two in the queue", func() bool { return m.queue.waiting() == 2 })
	close(d.gate)
	<-first
	if r := <-good; r.err != nil || r.outputs["x"].Float32s()[1] != 10 {
		t.Errorf("the good request: %v", r)
	}
	if r := <-bad; statusOf(r.err) != 400 {
		t.Errorf("the bad request: %v", r.err)
	}
}

// A request whose client has gone, or whose time is over, is answered at once; the run ends when nobody
// waits for it, and not before.
func TestDeadlines(t *testing.T) {
	d := &double{gate: make(chan struct{})}
	m := doubling(t, d, batching(8))
	first := later(t.Context(), m, numbered1(1, 0))
	until(t, "the first run", func() bool { return len(d.asked()) == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	gone := later(ctx, m, numbered1(2, 0))
	slow := numbered1(3, 0)
	slow.timeout = 20 * time.Millisecond
	if _, err := m.inferAs(t.Context(), slow, func() {}); statusOf(err) != 504 {
		t.Errorf("a timeout in the queue: %v", err)
	}
	until(t, "two in the queue", func() bool { return m.queue.waiting() >= 1 })
	d.gate <- struct{}{} // ends the first run
	<-first
	until(t, "the second run", func() bool { return len(d.asked()) == 2 })
	if got := d.asked()[1]; len(got) != 2 {
		t.Errorf("the request whose time was over runs: %v", got)
	}
	cancel()
	if r := <-gone; statusOf(r.err) != statusClosed {
		t.Errorf("a client that has gone: %v", r.err)
	}
	until(t, "the end of the run", func() bool { return d.ends[1].Err() != nil })

	one, cancelOne := context.WithCancel(t.Context())
	blocked := later(t.Context(), m, numbered1(4, 0))
	until(t, "the third run", func() bool { return len(d.asked()) == 3 })
	a, b := later(one, m, numbered1(5, 0)), later(t.Context(), m, numbered1(6, 0))
	until(t, "two in the queue", func() bool { return m.queue.waiting() == 2 })
	d.gate <- struct{}{}
	<-blocked
	until(t, "the fourth run", func() bool { return len(d.asked()) == 4 })
	cancelOne()
	<-a
	if d.ends[3].Err() != nil {
		t.Error("the run ends although one still waits for it")
	}
	close(d.gate)
	if r := <-b; r.err != nil || r.outputs["x"].Float32s()[0] != 12 {
		t.Errorf("the one that still waits: %v", r)
	}
}

// A free worker waits only for requests that are on their way, and no longer than the delay.
func TestWaitForThoseOnTheirWay(t *testing.T) {
	d := &double{}
	m := doubling(t, d, batching(8))
	m.queue.delay = 10 * time.Second
	start := time.Now()
	if r := <-later(t.Context(), m, numbered1(1, 0)); r.err != nil || time.Since(start) > 5*time.Second {
		t.Fatalf("alone: %v after %v", r.err, time.Since(start))
	}
	arrived := m.queue.expect()
	first := later(t.Context(), m, numbered1(2, 0))
	until(t, "the first", func() bool { return m.queue.waiting() == 1 })
	second := make(chan result, 1)
	go func() {
		out, err := m.inferAs(t.Context(), numbered1(3, 0), arrived)
		second <- result{out, err}
	}()
	<-first
	<-second
	if got := fmt.Sprint(d.asked()); got != "[[1 1] [2 2 3 3]]" {
		t.Errorf("runs %s", got)
	}
	m.queue.delay = 10 * time.Millisecond
	defer m.queue.expect()()
	if r := <-later(t.Context(), m, numbered1(4, 0)); r.err != nil {
		t.Error(r.err)
	}
}

func TestRunSizes(t *testing.T) {
	for most, want := range map[int64]string{0: "[]", 1: "[1]", 2: "[1 2]", 5: "[1 2 3 4 5]",
		32: "[1 2 3 4 6 8 12 16 24 32]"} {
		if got := fmt.Sprint(runSizes(most)); got != want {
			t.Errorf("up to %d: %s, not %s", most, got, want)
		}
	}
}
