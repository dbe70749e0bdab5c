package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/infer"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/verify"
	"github.com/cnnkit/cnnkit/train"
)

func benchTrain(c *cli.Context) error {
	cases, err := chosenCases(c)
	if err != nil {
		return err
	}
	b, err := newBench(c)
	if err != nil {
		return err
	}
	batches, err := ints("batch", c.String("batch"))
	if err != nil {
		return err
	}
	if e := c.String("engine"); e != "native" {
		return usageError("only the native engine trains, not %s", e)
	}
	if path := c.String("model"); path != "" {
		k, err := modelCase(path, c.String("optimizer"))
		if err != nil {
			return err
		}
		cases = []benchCase{k}
	} else if c.IsSet("optimizer") {
		return usageError("--optimizer goes with --model: the cases have their own")
	}
	for _, k := range cases {
		sizes := batches
		if len(sizes) == 0 {
			sizes = []int{k.batch}
		}
		for _, n := range sizes {
			if err := b.train(k, n); err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
		}
	}
	return b.close()
}

// modelCase is a file's network as a case, of classes for images or pixels, or of a mask: its
// BatchNormalizations and Dropouts train, whatever the file says.
func modelCase(path, optimizer string) (benchCase, error) {
	m, err := loadModel(path)
	if err != nil {
		return benchCase{}, err
	}
	k := benchCase{name: path, batch: 16, optimizer: optimizer, model: m}
	shapes, err := infer.Shapes(m)
	if err != nil {
		return k, badFile{fmt.Errorf("%s: %w", path, err)}
	}
	out := m.Graph.Outputs[0]
	shape := shapes.ValueInfo(out.Name).Type.Shape
	if (len(shape) == 2 || len(shape) == 4) && shape[1].Known() {
		k.classes = int(shape[1].Value)
	}
	switch {
	case len(shape) == 4 && k.classes == 1:
		k.classes = 0 // a mask
	case k.classes < 2:
		return k, badFile{fmt.Errorf("%s: the output %q is %v: classes are [N,classes] or [N,classes,H,W], masks [N,1,H,W]",
			path, out.Name, shape)}
	}
	return k, nil
}

// train takes steps over four batches of n random images.
func (b *bench) train(k benchCase, n int) error {
	m := k.model
	if m == nil {
		var err error
		if m, err = k.build(); err != nil {
			return err
		}
	}
	graph, _, err := train.TrainingGraph(m, train.LossAuto)
	if err != nil {
		return err
	}
	cfg := train.Config{Epochs: 1, Batch: n, Optimizer: k.optimizer, LR: 1e-3}
	if k.optimizer == "sgd" {
		cfg.LR, cfg.Momentum = 0.01, 0.5
	}
	update, err := cfg.Rule()
	if err != nil {
		return err
	}
	p, err := precision(b.Context)
	if err != nil {
		return err
	}
	pool := parallel.New(b.threads)
	defer pool.Close()
	t, err := engine.NewTrainer(graph, engine.TrainOptions{Pool: pool, Loss: train.LossName, Update: update,
		NoWinograd: !b.winograd,
		BF16:       p == runtime.BF16})
	if err != nil {
		return err
	}
	batches, err := k.randomBatches(graph, n)
	if err != nil {
		return err
	}
	row := b.row("train", k.name, n, "native")
	row.Optimiser = k.optimizer
	i := 0
	return b.measure(row, t.Plan, func() error {
		i++
		return t.Step(b.Context.Context, batches[i%len(batches)])
	})
}

// randomBatches makes inputs and targets: classes, or for masks 0 and 1.
func (k benchCase) randomBatches(graph *onnxio.Model, n int) ([4]map[string]*onnxio.Tensor, error) {
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
			for j := range onnxio.Data[int64](t) {
				onnxio.Data[int64](t)[j] = r.Int64N(int64(k.classes))
			}
		case onnxio.Float:
			for j := range t.Float32s() {
				t.Float32s()[j] = float32(r.IntN(2))
			}
		}
		out[i] = in
	}
	return out, nil
}
