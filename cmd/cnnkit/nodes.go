package main

import (
	"fmt"
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

// verifyNodes compares native and ort node by node on one batch.
func verifyNodes(c *cli.Context, path string, m *onnxio.Model) error {
	if s := c.String("engines"); s != "" && s != "native,ort" && s != "ort,native" {
		return usageError("--nodes compares native and ort: leave --engines out")
	}
	opts, err := sessionOptions(c, "ort")
	if err != nil {
		return err
	}
	in, err := oneBatch(c, m, path)
	if err != nil {
		return err
	}
	nodes, err := verify.Nodes(c.Context, m, in, c.Float64("tolerance"), opts...)
	if err != nil {
		return openError(path, err)
	}
	var first *verify.Node
	for i := range nodes {
		if !nodes[i].OK {
			first = &nodes[i]
			break
		}
	}
	if c.Bool("json") {
		err = printJSON(c, map[string]any{"file": path, "a": "native", "b": "ort",
			"tolerance": c.Float64("tolerance"),
			"ok":        first == nil, "first": first, "nodes": nodes})
	} else {
		err = printNodes(c, nodes, first)
	}
	if err == nil && first != nil {
		return errNo
	}
	return err
}

func printNodes(c *cli.Context, nodes []verify.Node, first *verify.Node) error {
	t := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "op\tname\tshape\tlargest difference\trelative\t")
	for _, n := range nodes {
		fmt.Fprintf(t, "%s\t%s\t%v\t%s\t%.3g\t%s\n", n.Op, n.Name, n.Shape, differs(n.Difference), n.MaxRel,
			verdict(n.OK))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if first == nil {
		fmt.Fprintf(c.App.Writer, "native and ort agree at all %d values\n", len(nodes))
	} else {
		fmt.Fprintf(c.App.Writer, "native and ort part at %s %q, output %q\n", first.Op, first.Name,
			first.Output)
	}
	return nil
}

// oneBatch is the inputs for --nodes; of a data set it takes the first images.
func oneBatch(c *cli.Context, m *onnxio.Model, path string) (map[string]*onnxio.Tensor, error) {
	s, err := openEngineFor(c, m, path, string(runtime.Native))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if c.String("data") == "" {
		return inputsFor(c, s)
	}
	if err := respecify(c, m, path); err != nil {
		return nil, err
	}
	meaning, err := spec.Get(m)
	if err != nil {
		return nil, badFile{fmt.Errorf("%s: %w", path, err)}
	}
	splits, err := openRecipe(c, train.Recipe{Data: c.String("data")}, m)
	if err != nil {
		return nil, err
	}
	if err := takesImages(m, splits, path); err != nil {
		return nil, err
	}
	n := c.Int("batch")
	if n == 0 {
		n = 4
	}
	if meaning.Input.Batch > 0 {
		n = meaning.Input.Batch
	}
	x, err := images(splits, data.Sequence(min(n, splits.Validation.Len())))
	if err != nil {
		return nil, err
	}
	return map[string]*onnxio.Tensor{s.Inputs()[0].Name: vision.Fed(meaning.Input, x)}, nil
}
