package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/verify"
)

func benchStartCommand() *cli.Command {
	return &cli.Command{
		Name: "start", Usage: "time opening a file and its first answer",
		UsageText: "cnnkit bench start --model FILE [--engine native,ort] [--starts 1] [--threads N] [--json]",
		Description: "Milliseconds from the file to the first answer at batch 1, and how many of them opening takes: the median of so many\n" +
			"starts, one after the other. The first start of a process pays for memory that the later ones find again.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "model", Required: true, Usage: "an .onnx `FILE`"},
			&cli.StringFlag{Name: "engine", Value: "native", Usage: "engines, such as native,ort"},
			&cli.StringFlag{Name: "provider", Value: "cpu",
				Usage: "with --engine ort: cpu, cuda or cuda:`DEVICE`"},
			&cli.IntFlag{Name: "starts", Value: 1, Usage: "sessions to open"},
			&cli.BoolFlag{Name: "no-winograd", Usage: "keep the native engine's convolutions direct"},
			threadsFlag(), &cli.BoolFlag{Name: "json", Usage: "print one line of JSON a measurement"}},
		Action: benchStart,
	}
}

func benchStart(c *cli.Context) error {
	if err := none(c); err != nil {
		return err
	}
	if c.Int("starts") < 1 {
		return usageError("--starts must be positive")
	}
	b, err := newBench(c)
	if err != nil {
		return err
	}
	for _, e := range strings.Split(c.String("engine"), ",") {
		if err := b.starts(c.String("model"), e); err != nil {
			return err
		}
	}
	return nil
}

// starts measures one engine.
func (b *bench) starts(path, engineName string) error {
	var opens, all []float64
	row := b.row("start", path, 1, engineName)
	for range b.Int("starts") {
		opened, answered, err := b.start(path, engineName)
		if err != nil {
			return err
		}
		opens = append(opens, 1e3*opened.Seconds())
		all = append(all, 1e3*(opened+answered).Seconds())
	}
	row.Open, row.MS, row.Min, row.Max = median(opens), median(all), slices.Min(all), slices.Max(all)
	row.PeakRSS = peakRSS()
	return b.report(row)
}

// start opens the file and runs it once. Making the input does not count.
func (b *bench) start(path, engineName string) (opened, answered time.Duration, err error) {
	began := time.Now()
	m, err := onnxio.Load(path)
	if err != nil {
		return 0, 0, badFile{err}
	}
	s, err := openEngineFor(b.Context, m, path, engineName, b.direct()...)
	if err != nil {
		return 0, 0, err
	}
	defer s.Close()
	opened = time.Since(began)
	in, err := verify.Random(s.Inputs(), 1, 0)
	if err != nil {
		return 0, 0, badFile{fmt.Errorf("%s: %w", path, err)}
	}
	began = time.Now()
	err = step(b.Context.Context, func() error {
		_, err := s.Run(b.Context.Context, in)
		return err
	})
	return opened, time.Since(began), err
}
