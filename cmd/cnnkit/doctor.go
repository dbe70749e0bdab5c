package main

import (
	"errors"
	"fmt"
	"io/fs"
	goruntime "runtime"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/ort"
	"github.com/cnnkit/cnnkit/train/data"
)

// finding is one line of the doctor's report.
type finding struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Says string `json:"says"`
	Do   string `json:"do,omitempty"`
}

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "say what this machine and installation can do",
		UsageText:   "cnnkit doctor [--json]",
		Description: "Reports the kernels in use, threads, ONNX Runtime, CUDA and data sets, each with what to do where something is\nmissing. Nothing that is missing is an error: the native engine needs none of it.",
		Flags:       []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := none(c); err != nil {
				return err
			}
			findings := append([]finding{kernelLevel(), threadCount()}, library()...)
			findings = append(findings, dataSets()...)
			if c.Bool("json") {
				return printJSON(c, map[string]any{"version": moduleVersion(), "go": goruntime.Version(),
					"platform": goruntime.GOOS + "/" + goruntime.GOARCH, "findings": findings})
			}
			fmt.Fprintf(c.App.Writer, "cnnkit %s (%s, %s/%s)\n", moduleVersion(), goruntime.Version(),
				goruntime.GOOS, goruntime.GOARCH)
			t := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
			for _, f := range findings {
				mark := "-"
				if f.OK {
					mark = "ok"
				}
				fmt.Fprintf(t, "%s\t%s\t%s\n", mark, f.What, f.Says)
				if f.Do != "" {
					fmt.Fprintf(t, "\t\t%s\n", f.Do)
				}
			}
			return t.Flush()
		},
	}
}

func kernelLevel() finding {
	f := finding{What: "native engine", OK: true, Says: fmt.Sprintf("kernels %s, bf16 %s, int8 %s",
		kernels.Level(), kernels.LevelBF16(), kernels.LevelInt8())}
	if err := kernels.LevelError(); err != nil {
		f.OK, f.Says, f.Do = false, f.Says+"; "+err.Error(),
			"unset CNNKIT_CPU, or set it to amx, avx512vnni, avx512, avx2 or go"
	}
	return f
}

func threadCount() finding {
	return finding{What: "threads", OK: true, Says: fmt.Sprintf("%d of %d processors",
		goruntime.GOMAXPROCS(0), goruntime.NumCPU())}
}

// library reports on ONNX Runtime and its CUDA provider.
func library() []finding {
	lib, cuda := finding{What: "ONNX Runtime"}, finding{What: "CUDA"}
	version, err := ort.Version()
	if err != nil {
		lib.Says, lib.Do = reason(err)
		cuda.Says = "needs ONNX Runtime"
		return []finding{lib, cuda}
	}
	path, _ := ort.Library()
	lib.OK, lib.Says = true, fmt.Sprintf("%s, %s", version, path)
	if err := ort.CUDA(0); err != nil {
		cuda.Says, cuda.Do = reason(err)
	} else {
		cuda.OK, cuda.Says = true, "ONNX Runtime's CUDA provider works on device 0"
	}
	return []finding{lib, cuda}
}

func reason(err error) (says, do string) {
	var missing *runtime.MissingError
	if errors.As(err, &missing) {
		return missing.Reason, missing.Do
	}
	return err.Error(), ""
}

func dataSets() []finding {
	var out []finding
	for _, name := range data.Names() {
		f := finding{What: "data set " + name}
		folder, err := data.Find(name)
		switch {
		case err == nil && folder == "":
			f.OK, f.Says = true, "part of the program"
		case err == nil:
			f.OK, f.Says = true, "in "+folder
		case errors.Is(err, fs.ErrNotExist):
			f.Says = "not here (see 'cnnkit data list')"
		default:
			f.Says = err.Error()
		}
		out = append(out, f)
	}
	return out
}
