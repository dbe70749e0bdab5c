package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/runtime/serve"
)

func exportCommand() *cli.Command {
	triton := &cli.Command{
		Name: "triton", Usage: "write a model repository that Triton serves, and cnnkit serve too",
		UsageText: "cnnkit export triton MODEL --out REPO [--name NAME] [--version 1] [--max-batch 32]",
		Description: `Writes REPO/NAME/VERSION/model.onnx and REPO/NAME/config.pbtxt, and labels.txt where the model has labels.

  cnnkit export triton lenet5-mnist/model.onnx --out repository --name digits
  cnnkit serve repository`,
		Flags: []cli.Flag{
			outFlag("the `REPO` to write into"),
			&cli.StringFlag{Name: "name",
				Usage: "of the model (default: the file's, of a model.onnx the folder's)"},
			&cli.Int64Flag{Name: "version", Value: 1, Usage: "of the model, from 1"},
			&cli.IntFlag{Name: "max-batch", Value: 32,
				Usage: "images of one run, where the model's batch is free"},
			&cli.DurationFlag{Name: "max-delay", Value: time.Millisecond,
				Usage: "how long Triton may wait to fill a batch"},
			&cli.IntFlag{Name: "instances", Value: 1, Usage: "runs that go on at once"},
			&cli.BoolFlag{Name: "gpu", Usage: "let Triton put the model on a GPU"},
		},
		Action: exportTriton,
	}
	return &cli.Command{Name: "export", Usage: "lay a model out for another server",
		UsageText:   "cnnkit export triton MODEL --out REPO",
		Subcommands: []*cli.Command{triton},
		Action: func(c *cli.Context) error {
			return usageError("cnnkit export takes a target: cnnkit export triton")
		}}
}

func exportTriton(c *cli.Context) error {
	path, err := one(c, "MODEL")
	if err != nil {
		return err
	}
	repo, err := required(c, "out")
	if err != nil {
		return err
	}
	if c.Int64("version") < 1 || c.Int("max-batch") < 1 || c.Int("instances") < 1 ||
		c.Duration("max-delay") < 0 {
		return usageError("--version, --max-batch and --instances must be at least 1, --max-delay not negative")
	}
	m, err := loadModel(path)
	if err != nil {
		return err
	}
	e := serve.Export{Name: c.String("name"), Version: c.Int64("version"), MaxBatch: c.Int("max-batch"),
		MaxDelay:  c.Duration("max-delay"),
		Instances: c.Int("instances"), GPU: c.Bool("gpu")}
	if e.Name == "" {
		e.Name = serve.NameOf(path)
	}
	if err := e.Triton(repo, m); err != nil {
		return saved(err)
	}
	fmt.Fprintln(c.App.Writer, strings.TrimSpace(filepath.Join(repo, e.Name)))
	return nil
}
