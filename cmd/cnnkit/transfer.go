package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/onnxio"
)

// start fills a network with the weights of a checkpoint and says which classifier is replaced.
func start(c *cli.Context, m *onnxio.Model, path string) error {
	if path == "" {
		return nil
	}
	head, err := builders.Classifier(m)
	if err != nil {
		return usageError("--weights fills a network that is built by name, and an .onnx file has its weights: leave it out")
	}
	sd, err := convert.LoadKey(path, "")
	if err != nil {
		return badFile{err}
	}
	report, err := convert.Apply(m, sd, convert.ApplyOptions{Strict: true, Replaceable: head})
	if err != nil {
		bad := badFile{fmt.Errorf("%s: %w", path, err)}
		if errors.As(err, new(*convert.MatchError)) {
			return hinted{bad, "'cnnkit convert' has --key, --prefix and --map for checkpoints of other names; --input, --width and the like shape the network"}
		}
		return bad
	}
	var said []string
	for _, r := range report.Replaced {
		was := "which the file lacks"
		if r.Dict != nil {
			was = fmt.Sprintf("%v in the file", r.Dict)
		}
		said = append(said, fmt.Sprintf("%s %v (%s)", r.Name, r.Model, was))
	}
	if said != nil {
		fmt.Fprintf(c.App.ErrWriter, "cnnkit: replaced, with fresh weights: %s\n", strings.Join(said, ", "))
	}
	return nil
}
