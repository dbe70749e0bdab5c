package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/verify"
	"github.com/cnnkit/cnnkit/runtime/vision"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "compare engines with each other",
		UsageText: "cnnkit verify MODEL [WEIGHTS --arch NAME] [--data NAME | --input x.npy | --random] [--engines E,E | --precision bf16] [--nodes] [--json]",
		Description: `Runs the same inputs through every engine and reports, for each pair: the largest absolute difference of any output,
the same relative to the largest output, and, where a model classifies, how many labels (the largest of each row) agree.
Engines that are not installed or cannot run the model are left out, unless --engines names them.

Exit code 1 when a pair parts: when its largest difference is above --tolerance times the largest output of the second
engine, or above --tolerance itself where no output is above 1. The default, 1e-4, is far above what rounding in another
order gives (1e-6 is usual) and far below what a wrong operator does. In JSON, scale is that largest output, max_rel is
max_abs by scale, and a pair is ok when max_abs is at most allowed and no number is NaN or infinite for one engine only
(odd counts those).

--precision bf16 compares the native engine with itself instead: what its float32 and its bf16 give. The tolerance is 0.05 then.

With --arch NAME a second file is the weights of a network, and the model an export of it: does it give the same answers?

  cnnkit verify lenet5-mnist/model.onnx --data mnist --tolerance 1e-5
  cnnkit verify exported.onnx resnet50.pth --arch resnet50
  cnnkit verify resnet.onnx --data cifar10 --precision bf16
  cnnkit verify resnet.onnx --random --batch 4 --engines native,ort
  cnnkit verify resnet.onnx --input x.npy --nodes`,
		Flags: append(fieldFlags("data", "mean", "std", "classes", "blocks", "width", "depth"),
			presetFlag(), &cli.StringFlag{Name: "arch",
				Usage: "compare a model with the network `NAME` and the weights of a second file"},
			&cli.StringSliceFlag{Name: "input", Usage: "`NAME=FILE`.npy for every input of the model"},
			&cli.BoolFlag{Name: "random", Usage: "made-up inputs (the default)"},
			&cli.IntFlag{Name: "batch",
				Usage: "images at a time (default 4; with --data 500, or 20 with onnxgo)"},
			&cli.Uint64Flag{Name: "seed", Usage: "of the made-up inputs"},
			&cli.IntFlag{Name: "limit", Usage: "with --data: the first `N` images only"},
			&cli.StringFlag{Name: "engines",
				Usage: "engines to compare, such as native,ort,onnxgo (default: those that can run the model)"},
			&cli.StringFlag{Name: "provider", Value: "cpu",
				Usage: "ONNX Runtime's: cpu, cuda or cuda:`DEVICE`"},
			&cli.Float64Flag{Name: "tolerance", Value: 1e-4,
				Usage: "largest difference that passes, by the largest output where that is above 1"},
			&cli.StringFlag{Name: "precision",
				Usage: "compare the native engine's float32 with its `PRECISION`: bf16"},
			&cli.BoolFlag{Name: "nodes", Usage: "compare native and ort node by node"},
			threadsFlag(), jsonFlag(),
		),
		Action: func(c *cli.Context) error {
			if arch := c.String("arch"); arch != "" {
				if c.NArg() != 2 {
					return usageError("cnnkit verify --arch NAME takes a MODEL and its WEIGHTS")
				}
				if c.IsSet("input") || c.IsSet("data") {
					return usageError("--arch compares the answers to made-up inputs: --input and --data do not go with it")
				}
				return verifyWeights(c, c.Args().Get(0), c.Args().Get(1), arch)
			}
			path, err := one(c, "MODEL")
			if err != nil {
				return err
			}
			if err := checkVerifyFlags(c); err != nil {
				return err
			}
			m, err := loadModel(path)
			if err != nil {
				return err
			}
			if c.Bool("nodes") {
				return verifyNodes(c, path, m)
			}
			return verifyEngines(c, path, m)
		},
	}
}

func checkVerifyFlags(c *cli.Context) error {
	sources := 0
	for _, f := range []string{"data", "input", "random"} {
		if c.IsSet(f) {
			sources++
		}
	}
	switch {
	case sources > 1:
		return usageError("--data, --input and --random exclude each other")
	case c.Int("batch") < 0 || c.IsSet("batch") && c.Int("batch") == 0:
		return usageError("--batch must be at least 1")
	case c.Int("limit") < 0:
		return usageError("--limit must be at least 1")
	case c.IsSet("precision") && (c.IsSet("engines") || c.Bool("nodes")):
		return usageError("--precision compares the native engine with itself: --engines and --nodes do not go with it")
	case !(c.Float64("tolerance") >= 0):
		return usageError("--tolerance must not be negative")
	}
	return nil
}

// skipped is an engine that takes no part, and why.
type skipped struct {
	Engine string `json:"engine"`
	Reason string `json:"reason"`
}

// openEngines opens those that --engines names, or all that can run the model.
func openEngines(c *cli.Context, m *onnxio.Model, path string) (sessions []runtime.Session, out []skipped,
	err error) {
	names, named := []string{"native", "ort", "onnxgo"}, c.IsSet("engines")
	if named {
		names = strings.Split(c.String("engines"), ",")
	}
	defer func() {
		if err != nil {
			closeAll(sessions)
		}
	}()
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return sessions, nil, usageError("--engines names %s twice", name)
		}
		if name == "auto" {
			return sessions, nil, usageError("--engines takes engines by name: native, ort, onnxgo")
		}
		s, err := openEngineFor(c, m, path, name)
		var use usage
		if err != nil && (named || errors.As(err, &use)) {
			return sessions, nil, err
		}
		if err != nil {
			out = append(out, skipped{name, err.Error()})
			continue
		}
		sessions = append(sessions, s)
	}
	if len(sessions) < 2 {
		if len(out) > 0 && !named {
			return sessions, out, hinted{&runtime.MissingError{Component: "a second engine",
				Reason: out[0].Engine + ": " + out[0].Reason},
				"run 'cnnkit runtime install' for ONNX Runtime"}
		}
		return sessions, out, usageError("a comparison takes two engines: --engines native,ort")
	}
	return sessions, out, nil
}

// precisionTolerance is far above what 8 bits cost a trained network (a hundredth) and below
// what a wrong kernel does.
const precisionTolerance = 0.05

// named is a session under another name.
type named struct {
	runtime.Session
	name runtime.Engine
}

func (n named) Engine() runtime.Engine { return n.name }

// openPrecisions opens the native engine in float32 and in --precision.
func openPrecisions(c *cli.Context, m *onnxio.Model, path string) ([]runtime.Session, []skipped, error) {
	p, err := precision(c)
	if err != nil {
		return nil, nil, err
	}
	if p == runtime.Float32 {
		return nil, nil, usageError("--precision float32 is what is compared with: name another")
	}
	plain, err := openEngineFor(c, m, path, string(runtime.Native))
	if err != nil {
		return nil, nil, err
	}
	other, err := openEngineFor(c, m, path, string(runtime.Native), runtime.WithPrecision(p))
	if err != nil {
		plain.Close()
		return nil, nil, err
	}
	return []runtime.Session{plain, named{other, runtime.Native + runtime.Engine(" "+string(p))}}, nil, nil
}

// openEngineFor gives --provider to ONNX Runtime alone.
func openEngineFor(c *cli.Context, m *onnxio.Model, path, name string,
	more ...runtime.Option) (runtime.Session, error) {
	if name == "ort" {
		return openEngine(c, m, path, name)
	}
	n, err := threads(c)
	if err != nil {
		return nil, err
	}
	e, err := runtime.ParseEngine(name)
	if err != nil {
		return nil, usageError("%w", err)
	}
	s, err := runtime.OpenModel(m, append(more, runtime.WithEngine(e), runtime.WithThreads(n))...)
	if err != nil {
		return nil, openError(path, err)
	}
	return s, nil
}

func closeAll(sessions []runtime.Session) {
	for _, s := range sessions {
		s.Close()
	}
}

func verifyEngines(c *cli.Context, path string, m *onnxio.Model) error {
	open, tolerance := openEngines, c.Float64("tolerance")
	if c.IsSet("precision") {
		open = openPrecisions
		if !c.IsSet("tolerance") {
			tolerance = precisionTolerance
		}
	}
	sessions, out, err := open(c, m, path)
	if err != nil {
		return err
	}
	defer closeAll(sessions)
	e := verify.New(tolerance, sessions...)
	n, err := feed(c, m, path, sessions, e)
	if err != nil {
		return err
	}
	return reportVerified(c, path, e, n, out)
}

// feed runs the inputs that the flags choose and counts them.
func feed(c *cli.Context, m *onnxio.Model, path string, sessions []runtime.Session, e *verify.Engines) (int,
	error) {
	s := sessions[0]
	if c.String("data") == "" {
		in, err := inputsFor(c, s)
		if err != nil {
			return 0, err
		}
		return batchSize(in), e.Run(c.Context, in)
	}
	if err := respecify(c, m, path); err != nil {
		return 0, err
	}
	splits, err := openRecipe(c, train.Recipe{Data: c.String("data")}, m)
	if err != nil {
		return 0, err
	}
	if err := takesImages(m, splits, path); err != nil {
		return 0, err
	}
	batch := c.Int("batch")
	if batch == 0 {
		batch = 500
		for _, s := range sessions {
			batch = min(batch, batchOf(c, s.Engine()))
		}
	}
	meaning, err := spec.Get(m)
	if err != nil {
		return 0, badFile{err}
	}
	input := s.Inputs()[0].Name
	run := vision.Adapt(meaning.Input, func(ctx context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) {
		return onnxio.NewTensor(onnxio.Float, x.Dims[0], 1), e.Run(ctx, map[string]*onnxio.Tensor{input: x})
	})
	order := data.Sequence(splits.Validation.Len())
	if n := c.Int("limit"); n > 0 {
		order = order[:min(n, len(order))]
	}
	for at := 0; at < len(order); at += batch {
		part := order[at:min(at+batch, len(order))]
		x, err := images(splits, part)
		if err != nil {
			return 0, err
		}
		if _, err := run(c.Context, x); err != nil {
			return 0, err
		}
	}
	return len(order), nil
}

func images(splits data.Splits, indices []int) (*onnxio.Tensor, error) {
	x, target := train.NewBatch(splits.Validation.Shape(), len(indices))
	return x, splits.Validation.Fill(x, target, indices)
}

// inputsFor reads --input or makes inputs up.
func inputsFor(c *cli.Context, s runtime.Session) (map[string]*onnxio.Tensor, error) {
	if files := c.StringSlice("input"); len(files) > 0 {
		return inputs(files, s)
	}
	batch := c.Int("batch")
	if batch == 0 {
		batch = 4
	}
	in, err := verify.Random(s.Inputs(), int64(batch), c.Uint64("seed"))
	if err != nil {
		return nil, usageError("%w", err)
	}
	return in, nil
}

func batchSize(in map[string]*onnxio.Tensor) int {
	n := 0
	for _, t := range in {
		if len(t.Dims) > 0 {
			n = max(n, int(t.Dims[0]))
		}
	}
	return n
}

// comparison is a pair as the report shows it.
type comparison struct {
	verify.Pair
	Allowed float64 `json:"allowed"` // the largest max_abs that is ok
}

func reportVerified(c *cli.Context, path string, e *verify.Engines, n int, out []skipped) error {
	if out == nil {
		out = []skipped{}
	}
	pairs := make([]comparison, len(e.Pairs))
	for i, p := range e.Pairs {
		pairs[i] = comparison{p, p.Difference.Allowed(e.Tolerance)}
	}
	if c.Bool("json") {
		if err := printJSON(c, map[string]any{"file": path, "inputs": n, "tolerance": e.Tolerance,
			"tolerance_of": "max_abs / max(1, scale)", "ok": e.OK(), "pairs": pairs,
			"skipped": out}); err != nil {
			return err
		}
	} else if err := verifiedText(c.App.Writer, e.Tolerance, n, pairs, out); err != nil {
		return err
	}
	if !e.OK() {
		return errNo
	}
	return nil
}

func verifiedText(w io.Writer, tolerance float64, n int, pairs []comparison, out []skipped) error {
	for _, s := range out {
		fmt.Fprintf(w, "without %s: %s\n", s.Engine, s.Reason)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "engines\tlargest difference\tallowed\trelative\tlabels\t\n")
	for _, p := range pairs {
		same := ""
		if p.Labels > 0 {
			same = fmt.Sprintf("%d of %d agree", p.Agree, p.Labels)
		}
		fmt.Fprintf(t, "%s, %s\t%s\t%.3g\t%.3g\t%s\t%s\n", p.A, p.B, differs(p.Difference), p.Allowed,
			p.MaxRel, same, verdict(p.OK))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d inputs; tolerance %g, by the largest output where that is above 1\n", n,
		tolerance)
	return err
}

func differs(d verify.Difference) string {
	if d.Odd > 0 {
		return fmt.Sprintf("%.3g, and %d not finite", d.MaxAbs, d.Odd)
	}
	return fmt.Sprintf("%.3g", d.MaxAbs)
}

func verdict(ok bool) string {
	if ok {
		return "ok"
	}
	return "PART"
}
