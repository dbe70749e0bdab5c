package main

import (
	"context"
	"encoding/json"
	"fmt"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/verify"
)

// benchCase is a network with the batch and optimiser it is trained with.
type benchCase struct {
	name      string
	network   string
	input     [3]int
	batch     int
	optimizer string
}

var benchCases = []benchCase{
	{"lenet5-28", "lenet5", [3]int{1, 28, 28}, 64, "sgd"},
	{"lenet5-32", "lenet5", [3]int{3, 32, 32}, 100, "sgd"},
	{"minivgg-28", "minivgg", [3]int{1, 28, 28}, 64, "sgd"},
	{"minivgg-32", "minivgg", [3]int{3, 32, 32}, 100, "sgd"},
	{"resnet-cifar", "resnet", [3]int{3, 32, 32}, 100, "adam"},
	{"unet-128", "unet", [3]int{3, 128, 128}, 4, "adam"},
}

func caseNames() []string {
	var out []string
	for _, b := range benchCases {
		out = append(out, b.name)
	}
	return out
}

func (b benchCase) build() (*onnxio.Model, error) {
	return builders.Build(b.network, builders.Config{Input: b.input})
}

// measurement is one line of the report: the fields that the scripts for other engines print, too.
type measurement struct {
	What      string  `json:"what"`
	Case      string  `json:"case"`
	Batch     int     `json:"batch"`
	Threads   int     `json:"threads"`
	Engine    string  `json:"engine"`
	Optimiser string  `json:"optimiser,omitempty"`
	Images    float64 `json:"images_per_s,omitempty"`
	MS        float64 `json:"ms,omitempty"`
	Min       float64 `json:"min"`
	Max       float64 `json:"max"`
	PeakRSS   int64   `json:"peak_rss_mb,omitempty"`
}

func benchCommand() *cli.Command {
	return &cli.Command{
		Name: "bench", Usage: "time training or inference", UsageText: "cnnkit bench train|infer [--cases A,B] [--threads N] [--json]",
		Description: "Medians over windows, with the fastest and the slowest: images/s for train, milliseconds a call for infer. Inputs are\n" +
			"random and in memory. Cases: " + strings.Join(caseNames(), ", ") + ".\n\n" +
			"  cnnkit bench train --cases resnet-cifar --threads 1\n" +
			"  cnnkit bench infer --cases unet-128 --batch 1,32 --engine native,ort --json\n" +
			"  cnnkit bench infer --model resnet.onnx",
		Subcommands: []*cli.Command{
			{Name: "train", Usage: "time training steps", UsageText: "cnnkit bench train [--cases A,B] [--threads N] [--json]",
				Flags: benchFlags(&cli.IntFlag{Name: "batch", Usage: "images a step (default: the case's)"}), Action: benchTrain},
			{Name: "infer", Usage: "time inference", UsageText: "cnnkit bench infer [--cases A,B | --model FILE] [--batch 1,32] [--engine native,ort] [--threads N] [--json]",
				Flags: benchFlags(
					&cli.StringFlag{Name: "batch", Value: "1,32", Usage: "batch sizes"},
					&cli.StringFlag{Name: "model", Usage: "an .onnx `FILE` instead of the cases"},
					&cli.StringFlag{Name: "engine", Value: "native", Usage: "engines, such as native,ort"},
					&cli.StringFlag{Name: "provider", Value: "cpu", Usage: "with --engine ort: cpu, cuda or cuda:`DEVICE`"}),
				Action: benchInfer},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError("unknown word %q%s", c.Args().First(), didYouMean(c.Args().First(), []string{"train", "infer"}))
			}
			return usageError("say what to time: cnnkit bench train or cnnkit bench infer")
		},
	}
}

func benchFlags(more ...cli.Flag) []cli.Flag {
	return append(more,
		&cli.StringFlag{Name: "cases", Value: "lenet5-28,minivgg-28,resnet-cifar,unet-128", Usage: "what to time"},
		&cli.IntFlag{Name: "windows", Value: 7, Usage: "measurements of which the median is taken"},
		&cli.Float64Flag{Name: "seconds", Value: 1, Usage: "length of a window"},
		threadsFlag(), &cli.BoolFlag{Name: "json", Usage: "print one line of JSON a measurement"})
}

// chosenCases parses --cases.
func chosenCases(c *cli.Context) ([]benchCase, error) {
	if err := none(c); err != nil {
		return nil, err
	}
	if c.Int("windows") < 1 || !(c.Float64("seconds") > 0) {
		return nil, usageError("--windows and --seconds must be positive")
	}
	var out []benchCase
	for _, name := range strings.Split(c.String("cases"), ",") {
		i := slices.IndexFunc(benchCases, func(b benchCase) bool { return b.name == name })
		if i < 0 {
			return nil, usageError("no case %q%s", name, didYouMean(name, caseNames()))
		}
		out = append(out, benchCases[i])
	}
	return out, nil
}

func benchThreads(c *cli.Context) (int, error) {
	n, err := threads(c)
	if n == 0 {
		n = goruntime.GOMAXPROCS(0)
	}
	return n, err
}

func benchInfer(c *cli.Context) error {
	cases, err := chosenCases(c)
	if err != nil {
		return err
	}
	n, err := benchThreads(c)
	if err != nil {
		return err
	}
	batches, err := ints("batch", c.String("batch"))
	if err != nil {
		return err
	}
	type target struct {
		name  string
		model *onnxio.Model
	}
	var targets []target
	if path := c.String("model"); path != "" {
		m, err := loadModel(path)
		if err != nil {
			return err
		}
		targets = append(targets, target{path, m})
	} else {
		for _, b := range cases {
			targets = append(targets, target{name: b.name})
		}
	}
	for i, t := range targets {
		if t.model == nil {
			if t.model, err = cases[i].build(); err != nil {
				return err
			}
		}
		for _, batch := range batches {
			for _, engine := range strings.Split(c.String("engine"), ",") {
				row, err := timeInference(c, t.name, t.model, batch, n, engine)
				if err != nil {
					return err
				}
				if err := reportMeasurement(c, row); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func timeInference(c *cli.Context, name string, m *onnxio.Model, batch, threads int, engine string) (measurement, error) {
	row := measurement{What: "infer", Case: name, Batch: batch, Threads: threads, Engine: engine}
	s, err := openEngineFor(c, m, name, engine)
	if err != nil {
		return row, err
	}
	defer s.Close()
	row.Engine = string(s.Engine())
	in, err := verify.Random(s.Inputs(), int64(batch), 0)
	if err != nil {
		return row, badFile{fmt.Errorf("%s: %w", name, err)}
	}
	times, err := windows(c, 500*time.Millisecond, func() error {
		_, err := s.Run(c.Context, in)
		return err
	})
	if err != nil {
		return row, err
	}
	row.MS, row.Min, row.Max = median(times), slices.Min(times), slices.Max(times)
	row.PeakRSS = peakRSS()
	return row, nil
}

// windows gives the milliseconds a call in each window, after a warm-up.
func windows(c *cli.Context, warm time.Duration, call func() error) ([]float64, error) {
	n, start := 0, time.Now()
	for n < 3 || time.Since(start) < warm {
		if err := step(c.Context, call); err != nil {
			return nil, err
		}
		n++
	}
	n = max(1, int(c.Float64("seconds")*float64(n)/time.Since(start).Seconds()+0.5))
	out := make([]float64, c.Int("windows"))
	for w := range out {
		start := time.Now()
		for range n {
			if err := step(c.Context, call); err != nil {
				return nil, err
			}
		}
		out[w] = 1e3 * time.Since(start).Seconds() / float64(n)
	}
	return out, nil
}

func step(ctx context.Context, call func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return call()
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

func reportMeasurement(c *cli.Context, m measurement) error {
	for _, v := range []*float64{&m.Images, &m.MS, &m.Min, &m.Max} {
		*v, _ = strconv.ParseFloat(strconv.FormatFloat(*v, 'g', 6, 64), 64)
	}
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(m)
	}
	unit, value := "ms", m.MS
	if m.What == "train" {
		unit, value = "images/s", m.Images
	}
	threads := "1 thread"
	if m.Threads != 1 {
		threads = fmt.Sprintf("%d threads", m.Threads)
	}
	_, err := fmt.Fprintf(c.App.Writer, "%s %-13s batch %-4d %-7s %s: %10.4g %s (%.4g to %.4g), peak %d MB\n",
		m.What, m.Case, m.Batch, m.Engine, threads, value, unit, m.Min, m.Max, m.PeakRSS)
	return err
}
