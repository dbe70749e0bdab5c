package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/verify"
)

func benchInfer(c *cli.Context) error {
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
	engines := strings.Split(c.String("engine"), ",")
	inferAll := func(name string, m *onnxio.Model) error {
		for _, batch := range batches {
			for _, e := range engines {
				if err := b.infer(name, m, batch, e); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if path := c.String("model"); path != "" {
		m, err := loadModel(path)
		if err != nil {
			return err
		}
		if err := inferAll(path, m); err != nil {
			return err
		}
		return b.close()
	}
	for _, k := range cases {
		m, err := k.build()
		if err != nil {
			return err
		}
		if err := inferAll(k.name, m); err != nil {
			return err
		}
	}
	return b.close()
}

// infer measures one engine on one batch size.
func (b *bench) infer(name string, m *onnxio.Model, batch int, engineName string) error {
	if b.perStep() {
		return b.inferSteps(name, m, batch, engineName)
	}
	p, err := precision(b.Context)
	if err != nil {
		return err
	}
	var more []runtime.Option
	if engineName == string(runtime.Native) {
		more = append(more, runtime.WithPrecision(p))
	}
	streams := b.Int("streams")
	switch {
	case streams < 0:
		return usageError("--streams must not be negative")
	case streams > 0 && (engineName != string(runtime.Native) || b.perStep() || b.IsSet("threads")):
		return usageError("--streams goes with --engine native, and neither with --threads nor with --per-op")
	case streams > 0:
		more = append(more, runtime.WithStreams(streams))
	}
	s, err := openEngineFor(b.Context, m, name, engineName, append(more, b.direct()...)...)
	if err != nil {
		return err
	}
	defer s.Close()
	in, err := verify.Random(s.Inputs(), int64(batch), 0)
	if err != nil {
		return badFile{fmt.Errorf("%s: %w", name, err)}
	}
	row := b.row("infer", name, batch, string(s.Engine()))
	if streams > 0 {
		row.Threads, row.Streams = 1, streams
		return b.inferStreams(s, in, row)
	}
	return b.measure(row, nil, func() error {
		_, err := s.Run(b.Context.Context, in)
		return err
	})
}

// inferStreams keeps as many calls going as there are streams; the time of one is
// what its share of all takes.
func (b *bench) inferStreams(s runtime.Session, in map[string]*onnxio.Tensor, row measurement) error {
	ctx, cancel := context.WithCancel(b.Context.Context)
	defer cancel()
	done := make(chan error)
	for range row.Streams {
		go func() {
			for {
				_, err := s.Run(ctx, in)
				select {
				case done <- err:
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	return b.measure(row, nil, func() error { return <-done })
}

// inferSteps profiles the native engine's plan, which a session keeps to itself.
func (b *bench) inferSteps(name string, m *onnxio.Model, batch int, engineName string) error {
	if engineName != "native" {
		return usageError("--per-op and --trace show the native engine's steps, not those of %s", engineName)
	}
	p, err := precision(b.Context)
	if err != nil {
		return err
	}
	pool := parallel.New(b.threads)
	defer pool.Close()
	plan, err := engine.Compile(bound(m, int64(batch)), engine.Options{Pool: pool, NoWinograd: !b.winograd,
		BF16: p == runtime.BF16})
	if err != nil {
		return badFile{fmt.Errorf("%s: %w", name, err)}
	}
	in, err := verify.Random(plan.Inputs(), int64(batch), 0)
	if err != nil {
		return badFile{fmt.Errorf("%s: %w", name, err)}
	}
	return b.measure(b.row("infer", name, batch, "native"), func() *engine.Plan { return plan },
		func() error {
			_, err := plan.Run(b.Context.Context, in)
			return err
		})
}
