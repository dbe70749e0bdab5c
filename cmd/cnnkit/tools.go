package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/convert/rewrite"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
)

// twoFiles are the arguments of a verb that reads one model and writes another.
func twoFiles(c *cli.Context) (in, out string, m *onnxio.Model, err error) {
	if c.NArg() != 2 {
		return "", "", nil, usageError("cnnkit %s takes IN and OUT: %s", c.Command.Name, c.Command.UsageText)
	}
	in, out = c.Args().Get(0), c.Args().Get(1)
	if !strings.HasSuffix(out, ".onnx") {
		return "", "", nil, usageError("%s: the extension must be .onnx", out)
	}
	m, err = loadModel(in)
	return in, out, m, err
}

// rewritten checks and saves a model.
func rewritten(path string, m *onnxio.Model) error {
	if err := check.Model(m); err != nil {
		return fmt.Errorf("the model that was made is not sound: %w", err)
	}
	return saved(onnxio.Save(path, m))
}

func simplifyCommand() *cli.Command {
	return &cli.Command{
		Name: "simplify", Usage: "fold constants, shapes and normalizations of a model",
		UsageText: "cnnkit simplify IN OUT [--dim N=4]",
		Description: `OUT computes what IN does in inference, in standard ONNX: what follows from constants and from known shapes is computed
now, a BatchNormalization behind a convolution goes into its weights, and what changes nothing or is not needed is left out.
--dim gives a symbolic dimension of the inputs a number, so that more shapes are known.

  cnnkit simplify exported.onnx small.onnx
  cnnkit simplify exported.onnx fixed.onnx --dim N=1`,
		Flags: []cli.Flag{&cli.StringSliceFlag{Name: "dim", Usage: "`NAME=NUMBER` of a symbolic dimension"},
			jsonFlag()},
		Action: func(c *cli.Context) error {
			in, out, m, err := twoFiles(c)
			if err != nil {
				return err
			}
			texts, err := pairs(c, "dim")
			if err != nil {
				return err
			}
			dims := map[string]int64{}
			for name, text := range texts {
				n, err := strconv.ParseInt(text, 10, 64)
				if err != nil || n < 0 {
					return usageError("--dim wants NAME=NUMBER, not %s=%s", name, text)
				}
				dims[name] = n
			}
			simple, done, err := rewrite.Simplify(m, dims)
			if err != nil {
				return badFile{fmt.Errorf("%s: %w", in, err)}
			}
			if err := rewritten(out, simple); err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c, done)
			}
			fmt.Fprintf(c.App.Writer,
				"%s: %d nodes, %s: %d (%d folded, %d normalizations fused, %d left out)\n", in, done.Before,
				out, done.After, done.Folded, done.Fused, done.Removed)
			return nil
		},
	}
}

func extractCommand() *cli.Command {
	return &cli.Command{
		Name: "extract", Usage: "cut a part out of a model",
		UsageText: "cnnkit extract IN OUT [--inputs A,B] [--outputs C]",
		Description: `OUT computes the values --outputs from the values --inputs, by their names in IN ('cnnkit inspect --json' lists them).

  cnnkit extract classifier.onnx logits.onnx --outputs logits
  cnnkit extract model.onnx backbone.onnx --outputs /layer4/Relu_output_0`,
		Flags: []cli.Flag{&cli.StringFlag{Name: "inputs",
			Usage: "`NAMES` of values (default: the model's inputs)"},
			&cli.StringFlag{Name: "outputs", Usage: "`NAMES` of values (default: the model's outputs)"}},
		Action: func(c *cli.Context) error {
			in, out, m, err := twoFiles(c)
			if err != nil {
				return err
			}
			part, err := rewrite.Extract(m, listed(c.String("inputs")), listed(c.String("outputs")))
			if err != nil {
				return badFile{fmt.Errorf("%s: %w", in, err)}
			}
			if err := rewritten(out, part); err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%s: %d of %d nodes\n", out, len(part.Graph.Nodes), len(m.Graph.Nodes))
			return nil
		},
	}
}

func listed(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func diffCommand() *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "compare two models", UsageText: "cnnkit diff A B [--json]",
		Description: `Lists how B differs from A: operator sets, inputs and outputs, nodes with their attributes, tensors with the largest
difference of their numbers, metadata. Exit code 0 when they are the same, 1 when they differ.

  cnnkit diff before.onnx after.onnx`,
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return usageError("cnnkit diff takes two models: %s", c.Command.UsageText)
			}
			a, err := loadModel(c.Args().Get(0))
			if err != nil {
				return err
			}
			b, err := loadModel(c.Args().Get(1))
			if err != nil {
				return err
			}
			found := rewrite.Diff(a, b)
			if c.Bool("json") {
				err = printJSON(c, map[string]any{"same": len(found) == 0,
					"differences": append([]rewrite.Difference{}, found...)})
			} else {
				for _, d := range found {
					fmt.Fprintf(c.App.Writer, "%s %s: %s\n", d.What, d.Name, d.Detail)
				}
			}
			if err == nil && len(found) > 0 {
				err = errNo
			}
			return err
		},
	}
}

func editCommand() *cli.Command {
	return &cli.Command{
		Name: "edit", Usage: "rename values and set metadata of a model",
		UsageText: "cnnkit edit IN OUT [--rename A=B] [--set KEY=VALUE] [--unset KEY] [--strip]",
		Description: `--strip leaves out documentation, metadata and the descriptions of values between nodes, before --set.

  cnnkit edit model.onnx named.onnx --rename x=input --rename 123=logits
  cnnkit edit model.onnx small.onnx --strip --set author=me`,
		Flags: []cli.Flag{&cli.StringSliceFlag{Name: "rename", Usage: "`OLD=NEW` name of a value"},
			&cli.StringSliceFlag{Name: "set", Usage: "`KEY=VALUE` of the metadata"},
			&cli.StringSliceFlag{Name: "unset", Usage: "`KEY` of the metadata"},
			&cli.BoolFlag{Name: "strip", Usage: "leave out what no run needs"}},
		Action: func(c *cli.Context) error {
			in, out, m, err := twoFiles(c)
			if err != nil {
				return err
			}
			names, err := pairs(c, "rename")
			if err != nil {
				return err
			}
			properties, err := pairs(c, "set")
			if err != nil {
				return err
			}
			if c.Bool("strip") {
				m = rewrite.Strip(m)
			}
			if m, err = rewrite.Rename(m, names); err != nil {
				return badFile{fmt.Errorf("%s: %w", in, err)}
			}
			m.Metadata = slices.DeleteFunc(slices.Clone(m.Metadata), func(p onnxio.Property) bool {
				return slices.Contains(c.StringSlice("unset"), p.Key)
			})
			for _, key := range slices.Sorted(maps.Keys(properties)) {
				m.SetProperty(key, properties[key])
			}
			return rewritten(out, m)
		},
	}
}

// inOpset is a model in another operator set: a network of a builder is built anew with its weights.
func inOpset(m *onnxio.Model, opset int64) (*onnxio.Model, error) {
	name, cfg, ok := builders.Arch(m)
	if !ok || opset == m.Opset("") {
		return rewrite.Opset(m, opset)
	}
	cfg.Opset = opset
	other, err := builders.Build(name, cfg)
	if err != nil {
		return nil, err
	}
	sd, err := convert.FromModel(m)
	if err != nil {
		return nil, err
	}
	if _, err := convert.Apply(other, sd, convert.ApplyOptions{Strict: true}); err != nil {
		return rewrite.Opset(m, opset) // a graph that was changed since
	}
	for _, p := range m.Metadata {
		if p.Key != "cnnkit.config" {
			other.SetProperty(p.Key, p.Value)
		}
	}
	return other, nil
}
