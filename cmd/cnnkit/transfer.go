package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/convert/rewrite"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train"
)

// start fills a network with the weights of the recipe's checkpoint and says which classifier is replaced.
func start(c *cli.Context, m *onnxio.Model, recipe train.Recipe) error {
	report, err := recipe.Start(m)
	if errors.Is(err, train.ErrOwnWeights) {
		return usageError("%w", err)
	}
	if err != nil {
		bad := badFile{err}
		if errors.As(err, new(*convert.MatchError)) {
			return hinted{bad, "'cnnkit convert' has --key, --prefix and --map for checkpoints of other names; --input, --width and the like shape the network"}
		}
		return bad
	}
	sayScheme(c, recipe.Weights, report)
	sayReplaced(c, report.Replaced)
	return nil
}

// sayReplaced names the parameters of a classifier that start anew.
func sayReplaced(c *cli.Context, replaced []convert.Mismatch) {
	var said []string
	for _, r := range replaced {
		was := "which the file lacks"
		if r.Dict != nil {
			was = fmt.Sprintf("%v in the file", r.Dict)
		}
		said = append(said, fmt.Sprintf("%s %v (%s)", r.Name, r.Model, was))
	}
	if said != nil {
		fmt.Fprintf(c.App.ErrWriter, "cnnkit: replaced, with fresh weights: %s\n", strings.Join(said, ", "))
	}
}

// sayHead says which node of a model was taken for its classifier.
func sayHead(c *cli.Context, path string, head *rewrite.NewHead) {
	if head == nil {
		return
	}
	if n := head.Node; n != nil {
		fmt.Fprintf(c.App.ErrWriter, "cnnkit: %s: the classifier is %s %q\n", path, n.OpType, n.Name)
	}
	sayReplaced(c, head.Replaced)
}
