package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	_ "github.com/cnnkit/cnnkit/runtime/onnxgo"
	"github.com/cnnkit/cnnkit/runtime/ort"
)

// threads is the checked --threads.
func threads(c *cli.Context) (int, error) {
	n := c.Int("threads")
	if n < 0 {
		return 0, usageError("--threads must not be negative")
	}
	return n, nil
}

// sessionOptions turns --threads and --provider into options for the engine.
func sessionOptions(c *cli.Context, engine string) ([]runtime.Option, error) {
	e, err := runtime.ParseEngine(engine)
	if err != nil {
		return nil, usageError("%w", err)
	}
	n, err := threads(c)
	if err != nil {
		return nil, err
	}
	p, err := precision(c)
	if err != nil {
		return nil, err
	}
	if p != runtime.Float32 && e != runtime.Native && e != runtime.Auto {
		return nil, usageError("--precision %s goes with --engine native, not %s", p, e)
	}
	opts := []runtime.Option{runtime.WithEngine(e), runtime.WithThreads(n), runtime.WithPrecision(p)}
	own, err := ortOptions(c)
	if err != nil {
		return nil, err
	}
	if !own.IsZero() {
		if e != runtime.ORT && e != runtime.Auto {
			return nil, usageError("--provider %s and options of ONNX Runtime go with --engine ort, not %s",
				c.String("provider"), e)
		}
		opts = append(opts, runtime.WithORT(own))
	}
	if own.Provider != "" {
		return opts, nil
	}
	device, err := cudaDevice(c.String("provider"))
	if err != nil || device < 0 {
		return opts, err
	}
	if e != runtime.ORT && e != runtime.Auto {
		return nil, usageError("--provider %s goes with --engine ort, not %s", c.String("provider"), e)
	}
	return append(opts, runtime.WithCUDA(device)), nil
}

// ortOptions reads --provider-option and --session-option, and a --provider that is neither the CPU nor CUDA.
func ortOptions(c *cli.Context) (runtime.ORTOptions, error) {
	var o runtime.ORTOptions
	if name := c.String("provider"); slices.Contains(ort.Providers(), name) {
		o.Provider = name
	}
	var err error
	if o.ProviderOptions, err = pairs(c, "provider-option"); err != nil {
		return o, err
	}
	if len(o.ProviderOptions) > 0 && (c.String("provider") == "cpu" || c.String("provider") == "") {
		return o, usageError("--provider-option goes with a --provider, which cpu is not")
	}
	if o.Entries, err = pairs(c, "session-option"); err != nil {
		return o, err
	}
	for key, value := range o.Entries {
		own := true
		switch key + "=" + value {
		case "graph=disable", "graph=basic", "graph=extended", "graph=all":
			o.Graph = value
		case "execution=sequential", "execution=parallel":
			o.Parallel = value == "parallel"
		case "arena=on", "arena=off":
			o.NoArena = value == "off"
		default:
			own = false
		}
		if own {
			delete(o.Entries, key)
		} else if !strings.Contains(key, ".") {
			return o, usageError(
				"--session-option is graph=disable|basic|extended|all, execution=sequential|parallel, "+
					"arena=on|off, or an entry such as session.intra_op.allow_spinning=0, not %s=%s",
				key, value)
		}
	}
	return o, nil
}

// pairs reads a flag of KEY=VALUE.
func pairs(c *cli.Context, flag string) (map[string]string, error) {
	var out map[string]string
	for _, text := range c.StringSlice(flag) {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, usageError("--%s wants KEY=VALUE, not %q", flag, text)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[key] = value
	}
	return out, nil
}

// precision is the checked --precision of verbs that have it. Where the processor has no bf16, it says so.
func precision(c *cli.Context) (runtime.Precision, error) {
	if c.String("precision") == "" {
		return runtime.Float32, nil
	}
	p, err := runtime.ParsePrecision(c.String("precision"))
	if err != nil {
		return "", usageError("--precision: %w", err)
	}
	if p == runtime.BF16 && !runtime.BF16Runs() {
		fmt.Fprintln(c.App.ErrWriter, "cnnkit: this processor has no AMX: --precision bf16 runs in float32")
	}
	return p, nil
}

// cudaDevice parses --provider; -1 is the CPU.
func cudaDevice(s string) (int, error) {
	name, number, numbered := strings.Cut(s, ":")
	switch {
	case s == "cpu" || s == "":
		return -1, nil
	case s == "cuda":
		return 0, nil
	case name == "cuda" && numbered:
		if n, err := strconv.Atoi(number); err == nil && n >= 0 {
			return n, nil
		}
	}
	return 0, usageError("--provider wants cpu, cuda or cuda:DEVICE, or one of %s, not %q",
		strings.Join(ort.Providers(), ", "), s)
}

// openSession opens a model with the verb's engine flags.
func openSession(c *cli.Context, m *onnxio.Model, path string) (runtime.Session, error) {
	return openEngine(c, m, path, c.String("engine"))
}

func openEngine(c *cli.Context, m *onnxio.Model, path, engine string) (runtime.Session, error) {
	opts, err := sessionOptions(c, engine)
	if err != nil {
		return nil, err
	}
	s, err := runtime.OpenModel(m, opts...)
	if err != nil {
		return nil, openError(path, err)
	}
	if s.Reason() != "" && s.Engine() != runtime.Native {
		fmt.Fprintf(c.App.ErrWriter, "cnnkit: engine %s: %s\n", s.Engine(), s.Reason())
	}
	return s, nil
}

// openError adds the file's name and what to do.
func openError(path string, err error) error {
	var missing *runtime.MissingError
	if errors.As(err, &missing) {
		return hinted{err, missing.Do}
	}
	return badFile{fmt.Errorf("%s: %w", path, err)}
}
