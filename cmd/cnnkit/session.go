package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
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
	opts := []runtime.Option{runtime.WithEngine(e), runtime.WithThreads(n)}
	device, err := cudaDevice(c.String("provider"))
	if err != nil || device < 0 {
		return opts, err
	}
	if e != runtime.ORT && e != runtime.Auto {
		return nil, usageError("--provider %s goes with --engine ort, not %s", c.String("provider"), e)
	}
	return append(opts, runtime.WithCUDA(device)), nil
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
	return 0, usageError("--provider wants cpu, cuda or cuda:DEVICE, not %q", s)
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
