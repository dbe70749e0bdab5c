package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/convert/rewrite"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/train"
)

// network builds the named network in the shape that the flags of a network's fields give it.
func network(c *cli.Context, name string) (*onnxio.Model, error) {
	fields := train.Fields{"model": name}
	if err := setFields(c, fields, train.OfNetwork); err != nil {
		return nil, err
	}
	return modelOf(fields)
}

// modelOf is the model that a recipe's fields name.
func modelOf(fields train.Fields) (*onnxio.Model, error) {
	m, _, err := headedModel(fields)
	return m, err
}

// headedModel is modelOf, and the classifier of an .onnx file that is replaced.
func headedModel(fields train.Fields) (*onnxio.Model, *rewrite.NewHead, error) {
	what, err := fields.Text("model")
	if err != nil {
		return nil, nil, usageError("%w", err)
	}
	if _, err := builders.Defaults(what); err != nil && what != "" && !strings.HasSuffix(what, ".onnx") {
		if isStateDict(what) {
			return nil, nil, usageError(
				"%s is a state dict, which has no graph: make a model of it with 'cnnkit convert %s model.onnx --arch NAME'", what, what)
		}
		return nil, nil, usageError("no network %q%s", what, didYouMean(what, builders.Names()))
	}
	m, head, err := fields.NetworkHead()
	if errors.As(err, new(*train.HeadError)) {
		return nil, nil, hinted{badFile{err},
			"leave out --classes to train the model with the outputs that it has, or export it with as many as are wanted"}
	}
	if err != nil && !strings.HasSuffix(what, ".onnx") {
		return nil, nil, usageError("%w", err)
	}
	return m, head, err
}

func buildCommand() *cli.Command {
	return &cli.Command{
		Name: "build", Usage: "write a network as an ONNX file",
		UsageText: "cnnkit build NAME --out f.onnx [--flags]",
		Description: "Networks (cnnkit list networks says what they are): " + networkList() + `.

  cnnkit build lenet5 --out lenet5.onnx
  cnnkit build resnet --blocks 3,4,5 --classes 100 --out resnet.onnx
  cnnkit build unet --input 1x128x128 --width 16 --weights unet.pth --out unet.onnx`,
		Flags: append(partFlags(train.OfNetwork), outFlag("the `FILE` to write"), jsonFlag(), presetFlag(),
			&cli.StringFlag{Name: "weights",
				Usage: "state dict (`FILE` .pt, .pth or .safetensors) to fill the network with"}),
		Action: func(c *cli.Context) error {
			name, err := one(c, "network NAME")
			if err != nil {
				return err
			}
			out, err := required(c, "out")
			if err != nil {
				return err
			}
			m, err := network(c, name)
			if err != nil {
				return err
			}
			if path := c.String("weights"); path != "" {
				if err := fill(m, path); err != nil {
					return err
				}
			}
			if err := preset(c, m); err != nil {
				return err
			}
			if err := check.Model(m); err != nil {
				return err
			}
			if err := saved(onnxio.Save(out, m)); err != nil {
				return err
			}
			return reportBuilt(c, name, out, m)
		},
	}
}

// preset stores how images are prepared, where --preset says it.
func preset(c *cli.Context, m *onnxio.Model) error {
	if !c.IsSet("preset") {
		return nil
	}
	s, err := spec.Get(m)
	if err != nil {
		return usageError("--preset: %w", err)
	}
	if err := s.Preset(c.String("preset"), m); err != nil {
		return usageError("--preset: %w", err)
	}
	spec.Set(m, s)
	return nil
}

// fill loads a state dict strictly into the model.
func fill(m *onnxio.Model, path string) error {
	sd, err := convert.Load(path)
	if err != nil {
		return badFile{err}
	}
	if _, err := convert.Apply(m, sd, convert.ApplyOptions{Strict: true}); err != nil {
		return badFile{fmt.Errorf("%s: %w", path, err)}
	}
	return nil
}

func reportBuilt(c *cli.Context, name, out string, m *onnxio.Model) error {
	n := builders.Parameters(m)
	if c.Bool("json") {
		return printJSON(c, map[string]any{"network": name, "file": out, "parameters": n,
			"opset": m.Opset("")})
	}
	fmt.Fprintf(c.App.Writer, "%s: %s, %d parameters, opset %d, input %s\n", out, name, n, m.Opset(""),
		shapeOf(m.Graph.Inputs[0].Type))
	return nil
}

// networkList names the builders, for a help text.
func networkList() string {
	var names []string
	for _, info := range builders.List() {
		names = append(names, info.Name)
	}
	return strings.Join(names, ", ")
}
