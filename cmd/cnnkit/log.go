package main

import (
	"cmp"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/train/report"
)

// openLogger opens what --log names when a run begins.
type openLogger = func(run report.Run, steps int64) (report.Logger, error)

// loggers reads --log.
func loggers(c *cli.Context, j job) ([]openLogger, error) {
	if c.String("log") == "" {
		return nil, nil
	}
	var out []openLogger
	for word := range strings.SplitSeq(c.String("log"), ",") {
		name, store, _ := strings.Cut(strings.TrimSpace(word), "=")
		switch {
		case name == "jsonl" && store == "":
			out = append(out, func(_ report.Run, steps int64) (report.Logger, error) {
				return report.NewLineLogger(filepath.Join(j.dir, report.StepLinesFile), steps)
			})
		case name == "mlflow":
			out = append(out, func(run report.Run, steps int64) (report.Logger, error) {
				return report.NewMLflow(cmp.Or(store, "mlruns"), run, filepath.Join(j.dir, report.MLflowFile),
					steps)
			})
		default:
			return nil, usageError("--log: %q is no log: jsonl, mlflow or mlflow=STORE is wanted", word)
		}
	}
	return out, nil
}
