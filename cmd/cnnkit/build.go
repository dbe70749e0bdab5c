package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// networkFlags configure a builder; build, train and convert share them.
func networkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "opset", Usage: "ONNX operator set, 13 to 21 (default 17)"},
		&cli.Uint64Flag{Name: "seed", Usage: "of the initial weights"},
		&cli.StringFlag{Name: "input", Usage: "input shape `CxHxW`, such as 3x32x32 (default: the network's own)"},
		&cli.IntFlag{Name: "classes", Usage: "number of classes, or of mask channels"},
		&cli.StringFlag{Name: "blocks", Usage: "residual networks: blocks per layer, such as 2,2,2"},
		&cli.IntFlag{Name: "width", Usage: "unet, VGG, residual networks: width, the channels of the first level"},
		&cli.IntFlag{Name: "depth", Usage: "unet: number of levels"},
		&cli.Float64Flag{Name: "stochastic-depth", Usage: "networks with residual blocks: probability `P` with which training drops the last one for an image; it rises linearly to that (default: torchvision's)"},
	}
}

// network builds the named network from networkFlags.
func network(c *cli.Context, name string) (*onnxio.Model, error) {
	cfg, err := builders.Defaults(name)
	if err != nil {
		return nil, usageError("no network %q%s", name, didYouMean(name, builders.Names()))
	}
	if s := c.String("input"); s != "" {
		if cfg.Input, err = dims(s); err != nil {
			return nil, err
		}
	}
	if s := c.String("blocks"); s != "" {
		if cfg.Blocks, err = ints("blocks", s); err != nil {
			return nil, err
		}
	}
	for flag, to := range map[string]*int{"classes": &cfg.Classes, "width": &cfg.Width, "depth": &cfg.Depth} {
		if !c.IsSet(flag) {
			continue
		}
		if *to = c.Int(flag); *to < 1 {
			return nil, usageError("--%s must be at least 1", flag)
		}
	}
	if c.IsSet("opset") {
		cfg.Opset = int64(c.Int("opset"))
	}
	if c.IsSet("stochastic-depth") {
		if cfg.StochasticDepth = c.Float64("stochastic-depth"); cfg.StochasticDepth == 0 && networkDrops(name) {
			cfg.StochasticDepth = builders.NoStochasticDepth
		}
	}
	cfg.Seed = c.Uint64("seed")
	m, err := builders.Build(name, cfg)
	if err != nil {
		return nil, usageError("%w", err)
	}
	return m, nil
}

// networkDrops says that a network has stochastic depth by default, which a flag of 0 turns off.
func networkDrops(name string) bool {
	def, err := builders.Defaults(name)
	return err == nil && def.StochasticDepth > 0
}

func buildCommand() *cli.Command {
	return &cli.Command{
		Name: "build", Usage: "write a network as an ONNX file", UsageText: "cnnkit build NAME --out f.onnx [--flags]",
		Description: "Networks (cnnkit list networks says more of them):\n" + networkList() + `
  cnnkit build lenet5 --out lenet5.onnx
  cnnkit build resnet --blocks 3,4,5 --classes 100 --out resnet.onnx
  cnnkit build unet --input 1x128x128 --width 16 --weights unet.pth --out unet.onnx`,
		Flags: append(networkFlags(), outFlag("the `FILE` to write"), jsonFlag(), presetFlag(),
			&cli.StringFlag{Name: "weights", Usage: "state dict (`FILE` .pt, .pth or .safetensors) to fill the network with"}),
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
		return printJSON(c, map[string]any{"network": name, "file": out, "parameters": n, "opset": m.Opset("")})
	}
	fmt.Fprintf(c.App.Writer, "%s: %s, %d parameters, opset %d, input %s\n", out, name, n, m.Opset(""), shapeOf(m.Graph.Inputs[0].Type))
	return nil
}

func networkList() string {
	s := ""
	for _, info := range builders.List() {
		s += fmt.Sprintf("  %-19s %s\n", info.Name, info.Summary)
	}
	return s
}
