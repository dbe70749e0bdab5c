package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
)

func convertCommand() *cli.Command {
	return &cli.Command{
		Name: "convert", Usage: "convert weights between ONNX and PyTorch files", UsageText: "cnnkit convert IN OUT [--arch NAME --flags]",
		Description: `The extensions say what is read and written: .onnx, .pt, .pth, .safetensors. A state dict has no graph, so it needs
--arch (and the network's flags where they differ from its defaults) to become ONNX; --model takes the graph from a file.

  cnnkit convert lenet5.onnx lenet5.pth
  cnnkit convert resnet.pth resnet.onnx --arch resnet --blocks 2,2,2
  cnnkit convert weights.pt weights.safetensors`,
		Flags: append(networkFlags(), jsonFlag(),
			&cli.StringFlag{Name: "arch", Usage: "the network (`NAME`) that the state dict belongs to"},
			&cli.StringFlag{Name: "model", Usage: "an .onnx `FILE` whose graph the state dict fills"},
			&cli.BoolFlag{Name: "lenient", Usage: "leave what does not match and report it, instead of failing"}),
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return usageError("cnnkit convert takes two files: %s", c.Command.UsageText)
			}
			in, out := c.Args().Get(0), c.Args().Get(1)
			toONNX := strings.HasSuffix(out, ".onnx")
			if !toONNX && !isStateDict(out) {
				return usageError("%s: the extension must be .onnx, .pt, .pth or .safetensors", out)
			}
			sd, err := stateDict(in)
			if err != nil {
				return err
			}
			if !toONNX {
				if err := saved(convert.Save(out, sd)); err != nil {
					return err
				}
				return reportConverted(c, in, out, len(sd.Entries()))
			}
			m, err := graphFor(c, in)
			if err != nil {
				return err
			}
			report, err := convert.Apply(m, sd, convert.ApplyOptions{Strict: !c.Bool("lenient")})
			if err != nil {
				return badFile{fmt.Errorf("%s: %w", in, err)}
			}
			if text := report.String(); text != "" && c.Bool("lenient") {
				fmt.Fprintln(c.App.ErrWriter, text)
			}
			if err := check.Model(m); err != nil {
				return err
			}
			if err := saved(onnxio.Save(out, m)); err != nil {
				return err
			}
			return reportConverted(c, in, out, len(sd.Entries()))
		},
	}
}

// stateDict reads one from any of the formats.
func stateDict(path string) (*convert.StateDict, error) {
	if isStateDict(path) {
		sd, err := convert.Load(path)
		if err != nil {
			return nil, badFile{err}
		}
		return sd, nil
	}
	m, err := loadModel(path)
	if err != nil {
		return nil, err
	}
	return convert.FromModel(m)
}

// graphFor is the graph that the state dict of file in fills.
func graphFor(c *cli.Context, in string) (*onnxio.Model, error) {
	switch arch, model := c.String("arch"), c.String("model"); {
	case arch != "" && model != "":
		return nil, usageError("--arch and --model exclude each other")
	case arch != "":
		return network(c, arch)
	case model != "":
		return loadModel(model)
	case !isStateDict(in):
		return loadModel(in)
	}
	return nil, usageError("%s is a state dict, which has no graph: name the network with --arch, or give a graph with --model", in)
}

func reportConverted(c *cli.Context, in, out string, tensors int) error {
	if c.Bool("json") {
		return printJSON(c, map[string]any{"in": in, "out": out, "tensors": tensors})
	}
	fmt.Fprintf(c.App.Writer, "%s -> %s: %d tensors\n", in, out, tensors)
	return nil
}
