package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/onnxio/infer"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "say whether a file is sound", UsageText: "cnnkit check FILE [--json]",
		Description: "Checks an .onnx file's structure, operator schemas and shapes, and warns of what other programs may not take, or reads a state dict (.pt, .pth, .safetensors)\n" +
			"whole. Exit code 1 when it is read but not sound, 3 when it cannot be read.",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			path, err := one(c, "FILE")
			if err != nil {
				return err
			}
			var problems, warnings []string
			if isStateDict(path) {
				if _, err := convert.Load(path); err != nil {
					return badFile{err}
				}
			} else {
				m, err := loadModel(path)
				if err != nil {
					return err
				}
				problems, warnings = checked(m)
			}
			return reportCheck(c, path, problems, warnings)
		},
	}
}

// checked gives what is wrong with a model, and what other programs may not take.
func checked(m *onnxio.Model) (problems, warnings []string) {
	warnings = check.Warnings(m)
	if problems = lines(check.Model(m)); problems != nil {
		return problems, warnings
	}
	shapes, err := infer.Shapes(m)
	if err != nil {
		return lines(err), warnings
	}
	return nil, append(warnings, shapes.Warnings...)
}

func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

func reportCheck(c *cli.Context, path string, problems, warnings []string) error {
	if c.Bool("json") {
		report := map[string]any{"file": path, "ok": len(problems) == 0,
			"problems": append([]string{}, problems...), "warnings": append([]string{}, warnings...)}
		if err := printJSON(c, report); err != nil {
			return err
		}
	} else {
		for _, w := range warnings {
			fmt.Fprintf(c.App.Writer, "%s: warning: %s\n", path, w)
		}
		for _, p := range problems {
			fmt.Fprintf(c.App.Writer, "%s: %s\n", path, p)
		}
		if len(problems) == 0 {
			fmt.Fprintf(c.App.Writer, "%s: ok\n", path)
		}
	}
	if len(problems) > 0 {
		return errNo
	}
	return nil
}

// isStateDict reports whether a file holds tensors without a graph: by its content, or by its extension where
// the content says nothing.
func isStateDict(path string) bool {
	format, err := convert.DetectFile(path)
	return err == nil && format != convert.Unknown || namesStateDict(path)
}

// namesStateDict goes by the extension.
func namesStateDict(path string) bool {
	for _, ext := range []string{".pt", ".pth", ".th", ".bin", ".safetensors"} {
		if strings.HasSuffix(strings.ToLower(path), ext) {
			return true
		}
	}
	return false
}
