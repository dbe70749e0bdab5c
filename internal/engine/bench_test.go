package engine_test

import (
	"context"
	"fmt"
	"os"
	"sort"
	"testing"
	"time"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train"
)

// The cases of the comparison with PyTorch: network, input, batch and optimiser.
var cases = []struct {
	name, arch string
	input      [3]int
	batch      int64
	update     engine.Update
}{
	{"lenet5-28", "lenet5", [3]int{1, 28, 28}, 64, &train.SGD{LR: 0.01, Momentum: 0.5}},
	{"lenet5-32", "lenet5", [3]int{3, 32, 32}, 100, &train.SGD{LR: 0.01, Momentum: 0.5}},
	{"minivgg-28", "minivgg", [3]int{1, 28, 28}, 64, &train.SGD{LR: 0.01, Momentum: 0.5}},
	{"minivgg-32", "minivgg", [3]int{3, 32, 32}, 100, &train.SGD{LR: 0.01, Momentum: 0.5}},
	{"resnet-cifar", "resnet", [3]int{3, 32, 32}, 100, &train.Adam{LR: 1e-3, Betas: [2]float64{0.9, 0.999},
		Eps: 1e-8}},
	{"unet-128", "unet", [3]int{3, 128, 128}, 4, &train.Adam{LR: 1e-3, Betas: [2]float64{0.9, 0.999},
		Eps: 1e-8}},
}

// BenchmarkTrain runs training steps; images/s is the figure to compare. With CNNKIT_PROFILE=1 it prints
// where a step's time goes.
func BenchmarkTrain(b *testing.B) {
	for _, c := range cases {
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/threads=%d", c.name, threads), func(b *testing.B) {
				m, err := builders.Build(c.arch, builders.Config{Input: c.input})
				if err != nil {
					b.Fatal(err)
				}
				graph, loss, err := train.TrainingGraph(m, train.LossAuto)
				if err != nil {
					b.Fatal(err)
				}
				pool := parallel.New(threads)
				defer pool.Close()
				tr, err := engine.NewTrainer(graph, engine.TrainOptions{Pool: pool, Loss: train.LossName,
					Update: c.update})
				if err != nil {
					b.Fatal(err)
				}
				x := onnxio.NewTensor(onnxio.Float, c.batch, int64(c.input[0]), int64(c.input[1]),
					int64(c.input[2]))
				for i := range x.Float32s() {
					x.Float32s()[i] = float32(i*7919%1000)/500 - 1
				}
				target := onnxio.NewTensor(onnxio.Int64, c.batch)
				if loss == train.LossBCE {
					target = onnxio.NewTensor(onnxio.Float, c.batch, 1, int64(c.input[1]), int64(c.input[2]))
				}
				in := map[string]*onnxio.Tensor{"input": x, train.TargetName: target}
				step := func() {
					if err := tr.Step(context.Background(), in); err != nil {
						b.Fatal(err)
					}
				}
				step()
				step()
				if os.Getenv("CNNKIT_PROFILE") != "" {
					profile(b, tr.Plan(), step)
				}
				n := 0
				start := time.Now()
				for b.Loop() {
					step()
					n++
				}
				b.ReportMetric(float64(n)*float64(c.batch)/time.Since(start).Seconds(), "images/s")
			})
		}
	}
}

// profile prints the time of a plan's steps by kernel and by node, the slowest first.
func profile(b *testing.B, p *engine.Plan, step func()) {
	p.Profile(true)
	for range 5 {
		step()
	}
	steps := p.Steps()
	p.Profile(false)
	var total time.Duration
	kernels := map[string]time.Duration{}
	for _, s := range steps {
		total += s.Time
		kernels[s.Kernel] += s.Time
	}
	var names []string
	for name := range kernels {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool { return kernels[names[i]] > kernels[names[j]] })
	text := fmt.Sprintf("a step takes %v in %d steps\n", total, len(steps))
	for _, name := range names {
		text += fmt.Sprintf("%6.2f%% %12v  %s\n", 100*float64(kernels[name])/float64(total),
			kernels[name], name)
	}
	sort.SliceStable(steps, func(i, j int) bool { return steps[i].Time > steps[j].Time })
	for _, s := range steps[:min(len(steps), 20)] {
		text += fmt.Sprintf("%12v %7.1f GFLOP/s  %-24s %-24s %v, %d chunks\n", s.Time,
			float64(s.FLOPs)/float64(s.Time.Nanoseconds()+1), s.Name, s.Kernel, s.Shape, s.Chunks)
	}
	b.Log(text)
}
