package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/onnxio/infer"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "say whether a file is sound", UsageText: "cnnkit check FILE [--json]",
		Description: "Checks an .onnx file's structure, operator schemas and shapes, or reads a state dict (.pt, .pth, .safetensors)\n" +
			"whole. Exit code 1 when it is read but not sound, 3 when it cannot be read.",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			path, err := one(c, "FILE")
			if err != nil {
				return err
			}
			var problems []string
			if isStateDict(path) {
				if _, err := convert.Load(path); err != nil {
					return badFile{err}
				}
			} else {
				m, err := loadModel(path)
				if err != nil {
					return err
				}
				if problems = lines(check.Model(m)); problems == nil {
					_, err := infer.Shapes(m)
					problems = lines(err)
				}
			}
			return reportCheck(c, path, problems)
		},
	}
}

func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

func reportCheck(c *cli.Context, path string, problems []string) error {
	if c.Bool("json") {
		if problems == nil {
			problems = []string{}
		}
		if err := printJSON(c, map[string]any{"file": path, "ok": len(problems) == 0, "problems": problems}); err != nil {
			return err
		}
	} else {
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

// isStateDict goes by the extension: what is no state dict is taken for a model.
func isStateDict(path string) bool {
	for _, ext := range []string{".pt", ".pth", ".th", ".bin", ".safetensors"} {
		if strings.HasSuffix(strings.ToLower(path), ext) {
			return true
		}
	}
	return false
}
