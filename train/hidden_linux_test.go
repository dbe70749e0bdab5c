package train

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// The link of BenchmarkHidden: 10 Gbit/s, and the latency of a message through a kernel's TCP.
const (
	linkBandwidth = 10e9 / 8
	linkLatency   = 50 * time.Microsecond
)

// watched is an exchange that notes when gradients are posted, in processor time of the one thread that
// computes, and when the step begins to wait for them.
type watched struct {
	*ranks
	h       *hub
	posts   []time.Duration
	bytes   []float64
	waiting time.Duration
	now     func() time.Duration
}

func (w *watched) Post(x []float32) {
	w.posts, w.bytes = append(w.posts, w.now()), append(w.bytes, 4*float64(len(x)))
	w.ranks.Post(x)
}

func (w *watched) Wait() error {
	w.waiting = w.now()
	w.h.begin(w.comm.Rank())
	return w.ranks.Wait()
}

// modelled is how much of the exchange of N ranks lies before the wait, when threads compute as many times as
// fast as one, and how long the exchange takes.
func (w *watched) modelled(n int, threads float64) (hidden float64, all time.Duration) {
	at := func(d time.Duration) time.Duration { return time.Duration(float64(d) / threads) }
	end := time.Duration(0)
	for i, post := range w.posts {
		took := 2*linkLatency + time.Duration(2*float64(n-1)/float64(n)*w.bytes[i]/linkBandwidth*1e9)
		end = max(end, at(post)) + took
		all += took
	}
	return 1 - float64(max(0, end-at(w.waiting)))/float64(all), all
}

// processorTime is that of the calling thread.
func processorTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

// BenchmarkHidden says how much of the exchange of a ResNet-18's gradients (224x224, 1000 classes, 46.8 MB)
// is hidden behind the backward pass on a link of 10 Gbit/s: of two ranks of one thread each whose Comm
// sleeps as long as the link would take, and, from the processor time at which gradients are posted, of more
// ranks and threads. Processor time does not depend on what else runs.
func BenchmarkHidden(b *testing.B) {
	const batch = 8
	m, err := builders.Build("resnet18", builders.Config{})
	if err != nil {
		b.Fatal(err)
	}
	graph, _, err := TrainingGraph(m, LossAuto)
	if err != nil {
		b.Fatal(err)
	}
	h, comms := newHub(2)
	h.slow(2*linkLatency, linkBandwidth)
	watch := make([]*watched, 2)
	for rank, err := range eachRank(comms, func(c Comm) error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		r, err := newRanks(c)
		if err != nil {
			return err
		}
		defer r.close()
		w := &watched{ranks: r, h: h, now: processorTime}
		watch[c.Rank()] = w
		pool := parallel.New(1)
		defer pool.Close()
		update, err := Config{Epochs: 1, Batch: batch, Optimizer: "sgd", LR: 0.01, Momentum: 0.9}.Rule()
		if err != nil {
			return err
		}
		trainer, err := engine.NewTrainer(graph, engine.TrainOptions{Pool: pool, Loss: LossName,
			Update: update, Exchange: w})
		if err != nil {
			return err
		}
		x, target := NewBatch([3]int{3, 224, 224}, batch)
		in := map[string]*onnxio.Tensor{m.Graph.Inputs[0].Name: x, TargetName: target}
		for i := range b.N + 1 {
			if i == 1 && c.Rank() == 0 { // the first compiles
				b.ResetTimer()
				h.forget()
			}
			begin := processorTime()
			w.posts, w.bytes = nil, nil
			w.now = func() time.Duration { return processorTime() - begin }
			r.begin(b.Context(), portion{c.Rank() * batch, batch, 2 * batch})
			h.end(c.Rank())
			if err := trainer.Step(b.Context(), in); err != nil {
				return err
			}
		}
		return nil
	}) {
		if err != nil {
			b.Fatalf("rank %d: %v", rank, err)
		}
	}
	w := watch[0]
	b.ReportMetric(100*h.hidden(), "%hidden")
	b.Logf("of %v asleep %.1f%% before the wait; a step takes %v of one processor's time, its gradients are posted at %v",
		h.waited, 100*h.hidden(), w.waiting, w.posts)
	for _, n := range []int{2, 4, 16, 64} {
		for _, threads := range []float64{1, 4, 16} {
			hidden, all := w.modelled(n, threads)
			b.Logf("%d ranks of %v threads: exchange %v, %.0f%% hidden", n, threads,
				all.Round(time.Millisecond), 100*hidden)
		}
	}
}
