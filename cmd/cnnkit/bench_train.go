package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/verify"
	"github.com/cnnkit/cnnkit/train"
)

func benchTrain(c *cli.Context) error {
	cases, err := chosenCases(c)
	if err != nil {
		return err
	}
	n, err := benchThreads(c)
	if err != nil {
		return err
	}
	if c.Int("batch") < 0 {
		return usageError("--batch must be at least 1")
	}
	for _, b := range cases {
		if c.IsSet("batch") {
			b.batch = max(1, c.Int("batch"))
		}
		row, err := timeTraining(c, b, n)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		if err := reportMeasurement(c, row); err != nil {
			return err
		}
	}
	return nil
}

// timeTraining takes steps over four batches of random images.
func timeTraining(c *cli.Context, b benchCase, threads int) (measurement, error) {
	row := measurement{What: "train", Case: b.name, Batch: b.batch, Threads: threads, Engine: "native", Optimiser: b.optimizer}
	m, err := b.build()
	if err != nil {
		return row, err
	}
	graph, _, err := train.TrainingGraph(m, train.LossAuto)
	if err != nil {
		return row, err
	}
	cfg := train.Config{Epochs: 1, Batch: b.batch, Optimizer: b.optimizer, LR: 1e-3}
	if b.optimizer == "sgd" {
		cfg.LR, cfg.Momentum = 0.01, 0.5
	}
	update, err := cfg.Update()
	if err != nil {
		return row, err
	}
	pool := parallel.New(threads)
	defer pool.Close()
	t, err := engine.NewTrainer(graph, engine.TrainOptions{Pool: pool, Loss: train.LossName, Update: update})
	if err != nil {
		return row, err
	}
	batches, err := randomBatches(graph, b.batch)
	if err != nil {
		return row, err
	}
	i := 0
	times, err := windows(c, 700*time.Millisecond, func() error {
		i++
		return t.Step(c.Context, batches[i%len(batches)])
	})
	if err != nil {
		return row, err
	}
	rate := func(ms float64) float64 { return 1e3 * float64(b.batch) / ms }
	row.Images, row.Min, row.Max = rate(median(times)), rate(slices.Max(times)), rate(slices.Min(times))
	row.PeakRSS = peakRSS()
	return row, nil
}

// randomBatches makes inputs and targets: classes below 10, or for masks 0 and 1.
func randomBatches(graph *onnxio.Model, n int) ([4]map[string]*onnxio.Tensor, error) {
	var out [4]map[string]*onnxio.Tensor
	r := rand.New(rand.NewPCG(1, 2))
	var inputs []*onnxio.ValueInfo
	for _, v := range graph.Graph.Inputs {
		if graph.Graph.Initializer(v.Name) == nil {
			inputs = append(inputs, v)
		}
	}
	for i := range out {
		in, err := verify.Random(inputs, int64(n), uint64(i))
		if err != nil {
			return out, err
		}
		switch t := in[train.TargetName]; t.Type {
		case onnxio.Int64:
			for k := range onnxio.Data[int64](t) {
				onnxio.Data[int64](t)[k] = r.Int64N(10)
			}
		case onnxio.Float:
			for k := range t.Float32s() {
				t.Float32s()[k] = float32(r.IntN(2))
			}
		}
		out[i] = in
	}
	return out, nil
}
