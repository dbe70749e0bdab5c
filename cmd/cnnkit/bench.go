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

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/runtime"
)

// measurement is one line of the report: the fields that the scripts for other engines print, too.
type measurement struct {
	What      string  `json:"what"`
	Case      string  `json:"case"`
	Batch     int     `json:"batch"`
	Threads   int     `json:"threads"`
	Streams   int     `json:"streams,omitempty"`
	Engine    string  `json:"engine"`
	Level     string  `json:"level,omitempty"`    // native: instruction set
	Winograd  *bool   `json:"winograd,omitempty"` // native: whether convolutions may use it
	Optimiser string  `json:"optimiser,omitempty"`
	Images    float64 `json:"images_per_s,omitempty"`
	MS        float64 `json:"ms,omitempty"`
	Open      float64 `json:"open_ms,omitempty"` // start: of MS, what opening takes
	Min       float64 `json:"min"`
	Max       float64 `json:"max"`
	CPU       float64 `json:"cpu_ms,omitempty"` // of all threads in user mode, a call: the median, too
	PeakRSS   int64   `json:"peak_rss_mb,omitempty"`
}

func benchCommand() *cli.Command {
	return &cli.Command{
		Name: "bench", Usage: "time training, inference or the start",
		UsageText: "cnnkit bench train|infer|start [--cases A,B | --model FILE] [--batch 1,32] [--threads N] [--json]",
		Description: "Medians over windows, with the fastest and the slowest: images/s for train, milliseconds a call for infer, from\n" +
			"the file to the first answer for start. Inputs are random and in memory; the peak memory is the process's until then.\n\n" +
			"Cases: " + strings.Join(caseNames(), ", ") + ".\n\n" +
			"--per-op times each step of the native engine's plan instead (--windows times --seconds long), --trace writes such a\n" +
			"run for chrome://tracing or ui.perfetto.dev: an event a step, one after the other, each as long as its mean over the\n" +
			"run. The chunks that threads share a step in are not shown.\n\n" +
			"  cnnkit bench train --cases resnet-cifar --threads 1\n" +
			"  cnnkit bench infer --cases unet-128 --batch 1,32 --engine native,ort --json\n" +
			"  cnnkit bench infer --model resnet.onnx --batch 1 --per-op --trace resnet.json\n" +
			"  cnnkit bench start --model resnet.onnx --engine native,ort",
		Subcommands: []*cli.Command{
			{Name: "train", Usage: "time training steps",
				UsageText: "cnnkit bench train [--cases A,B | --model FILE --optimizer adamw] [--batch 32,64] [--threads N] [--per-op] [--trace FILE] [--json]",
				Flags: benchFlags(
					&cli.StringFlag{Name: "batch", Usage: "images a step (default: the case's, or 16)"},
					&cli.StringFlag{Name: "model", Usage: "an .onnx `FILE` of a network for classes or masks instead of the cases"},
					&cli.StringFlag{Name: "optimizer", Value: "sgd",
						Usage: "with --model: sgd, adam or adamw"},
					&cli.StringFlag{Name: "engine", Value: "native",
						Usage: "native is the only one that trains"}, precisionFlag()),
				Action: benchTrain},
			{Name: "infer", Usage: "time inference",
				UsageText: "cnnkit bench infer [--cases A,B | --model FILE] [--batch 1,32] [--engine native,ort] [--threads N | --streams N] [--per-op] [--trace FILE] [--json]",
				Flags: benchFlags(
					&cli.StringFlag{Name: "batch", Value: "1,32", Usage: "batch sizes"},
					&cli.StringFlag{Name: "model", Usage: "an .onnx `FILE` instead of the cases"},
					&cli.StringFlag{Name: "engine", Value: "native", Usage: "engines, such as native,ort"},
					&cli.StringFlag{Name: "provider", Value: "cpu",
						Usage: "with --engine ort: cpu, cuda or cuda:`DEVICE`"}, precisionFlag(),
					&cli.IntFlag{Name: "streams",
						Usage: "calls at a time of the native engine, of one thread each: ms is the time of a call by throughput"}),
				Action: benchInfer},
			benchStartCommand(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError("unknown word %q%s", c.Args().First(),
					didYouMean(c.Args().First(), []string{"train", "infer", "start"}))
			}
			return usageError("say what to time: cnnkit bench train, cnnkit bench infer or cnnkit bench start")
		},
	}
}

func benchFlags(more ...cli.Flag) []cli.Flag {
	return append(more,
		&cli.StringFlag{Name: "cases", Value: "lenet5-28,minivgg-28,resnet-cifar,unet-128",
			Usage: "what to time"},
		&cli.IntFlag{Name: "windows", Aliases: []string{"rounds"}, Value: 7,
			Usage: "measurements of which the median is taken"},
		&cli.Float64Flag{Name: "seconds", Aliases: []string{"time"}, Value: 1, Usage: "length of a window"},
		&cli.BoolFlag{Name: "per-op", Usage: "time each step of the native engine's plan"},
		&cli.StringFlag{Name: "trace", Usage: "write the steps' mean times as Chrome trace events to `FILE`"},
		&cli.BoolFlag{Name: "no-winograd",
			Usage: "keep the native engine's convolutions direct (as CNNKIT_WINOGRAD=off does)"},
		threadsFlag(), &cli.BoolFlag{Name: "json", Usage: "print one line of JSON a measurement"})
}

// bench is one call of the verb: how to measure and where the report goes.
type bench struct {
	*cli.Context
	threads  int
	winograd bool
	titled   bool // the table has its header
	trace    chromeTrace
}

// newBench reads the flags.
func newBench(c *cli.Context) (*bench, error) {
	n, err := threads(c)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		n = goruntime.GOMAXPROCS(0)
	}
	return &bench{Context: c, threads: n, winograd: engine.WinogradAllowed() && !c.Bool("no-winograd")}, nil
}

// direct is the option that keeps convolutions direct, where the flag asks for it.
func (b *bench) direct() []runtime.Option {
	if b.winograd {
		return nil
	}
	return []runtime.Option{runtime.WithoutWinograd()}
}

// perStep says that steps are to be timed, not calls.
func (b *bench) perStep() bool { return b.Bool("per-op") || b.IsSet("trace") }

// close writes the trace.
func (b *bench) close() error {
	if !b.IsSet("trace") {
		return nil
	}
	return saved(b.trace.save(b.String("trace")))
}

// row starts a measurement of what.
func (b *bench) row(what, name string, batch int, engine string) measurement {
	m := measurement{What: what, Case: name, Batch: batch, Threads: b.threads, Engine: engine}
	if engine == "native" {
		m.Level, m.Winograd = kernels.Level(), &b.winograd
	}
	return m
}

// measure times call, which runs the plan once, and reports.
func (b *bench) measure(m measurement, plan func() *engine.Plan, call func() error) error {
	warm := 700 * time.Millisecond
	if b.perStep() {
		p, err := b.profile(m, warm, plan, call)
		if err != nil {
			return err
		}
		b.trace.add(p)
		return b.reportProfile(p)
	}
	times, cpu, err := b.windows(warm, call)
	if err != nil {
		return err
	}
	m.PeakRSS, m.CPU = peakRSS(), median(cpu)
	if m.What == "train" {
		rate := func(ms float64) float64 { return 1e3 * float64(m.Batch) / ms }
		m.Images, m.Min, m.Max = rate(median(times)), rate(slices.Max(times)), rate(slices.Min(times))
	} else {
		m.MS, m.Min, m.Max = median(times), slices.Min(times), slices.Max(times)
	}
	return b.report(m)
}

// windows gives the milliseconds a call in each window, after a warm-up, and those of
// all threads in user mode.
func (b *bench) windows(warm time.Duration, call func() error) (times, cpu []float64, err error) {
	each, err := b.warm(warm, call)
	if err != nil {
		return nil, nil, err
	}
	n := max(1, int(b.Float64("seconds")/each.Seconds()+0.5))
	for range b.Int("windows") {
		start, user := time.Now(), userTime()
		for range n {
			if err := step(b.Context.Context, call); err != nil {
				return nil, nil, err
			}
		}
		times = append(times, 1e3*time.Since(start).Seconds()/float64(n))
		cpu = append(cpu, 1e3*(userTime()-user).Seconds()/float64(n))
	}
	return times, cpu, nil
}

// warm calls for a while, and thrice unless a call takes seconds. It gives the time of a call after the
// first, which may compile.
func (b *bench) warm(d time.Duration, call func() error) (time.Duration, error) {
	var first time.Duration
	n, start := 0, time.Now()
	for n < 2 || time.Since(start) < d || n < 3 && time.Since(start) < 3*time.Second {
		if err := step(b.Context.Context, call); err != nil {
			return 0, err
		}
		if n++; n == 1 {
			first = time.Since(start)
		}
	}
	return (time.Since(start) - first) / time.Duration(n-1), nil
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

// short keeps six digits.
func short(v float64) float64 {
	s, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64)
	return s
}

// report prints a measurement as it comes: a line of JSON, or of a table.
func (b *bench) report(m measurement) error {
	for _, v := range []*float64{&m.Images, &m.MS, &m.Open, &m.Min, &m.Max, &m.CPU} {
		*v = short(*v)
	}
	w := b.App.Writer
	if b.Bool("json") {
		return json.NewEncoder(w).Encode(m)
	}
	unit, value := "ms", m.MS
	if m.What == "train" {
		unit, value = "images/s", m.Images
	}
	if !b.titled {
		b.titled = true
		fmt.Fprintf(w, "%-14s %5s %7s  %-7s %10s %10s %10s %8s\n", "case", "batch", "threads", "engine", unit,
			"min", "max", "peak MB")
	}
	_, err := fmt.Fprintf(w, "%-14s %5d %7d  %-7s %10.4g %10.4g %10.4g %8d\n",
		m.Case, m.Batch, m.Threads, m.Engine, value, m.Min, m.Max, m.PeakRSS)
	return err
}
