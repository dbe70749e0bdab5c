package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train"
)

func trainCommand() *cli.Command {
	return &cli.Command{
		Name: "train", Usage: "train a network, by name or from a file", UsageText: "cnnkit train NAME|MODEL --data NAME --out DIR [--flags]",
		Description: `NAME is one of the networks of 'cnnkit build', with its flags; MODEL an .onnx file, whose weights are the start.
Flags that are left out have the network's defaults. DIR gets model.onnx (last epoch), best.onnx (highest validation
accuracy), history.csv and history.png. Ctrl-C finishes the step, saves interrupted.onnx and says how to go on.

  cnnkit train lenet5 --data mnist --epochs 5 --out lenet5-mnist
  cnnkit train minivgg --data mnist --optimizer adam --lr 0.001 --out minivgg-mnist
  cnnkit train lenet5-mnist/model.onnx --data mnist --epochs 2 --out more`,
		Flags: append(networkFlags(), append(trainFlags(), dataFlag(), outFlag("the `DIR` to write"), threadsFlag(), jsonFlag())...),
		Action: func(c *cli.Context) error {
			what, err := one(c, "network NAME or MODEL file")
			if err != nil {
				return err
			}
			dir, err := required(c, "out")
			if err != nil {
				return err
			}
			m, err := modelToTrain(c, what)
			if err != nil {
				return err
			}
			cfg, err := trainConfig(c, m)
			if err != nil {
				return err
			}
			splits, err := openData(c)
			if err != nil {
				return err
			}
			p := newProgress(c, cfg)
			result, err := train.Run(c.Context, m, splits, cfg, dir, p.observer())
			p.close()
			if err != nil {
				return trainError(c, err, dir)
			}
			return reportTrained(c, result, dir)
		},
	}
}

func trainFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "epochs", Usage: "times to go through the data"},
		&cli.IntFlag{Name: "batch", Usage: "images a step"},
		&cli.StringFlag{Name: "loss", Usage: "auto, nll, cross-entropy or bce-with-logits"},
		&cli.StringFlag{Name: "optimizer", Usage: "sgd, adam or adamw"},
		&cli.Float64Flag{Name: "lr", Usage: "learning rate"},
		&cli.Float64Flag{Name: "momentum", Usage: "sgd: momentum"},
		&cli.Float64Flag{Name: "dampening", Usage: "sgd: dampening of the momentum"},
		&cli.BoolFlag{Name: "nesterov", Usage: "sgd: Nesterov's momentum"},
		&cli.StringFlag{Name: "betas", Usage: "adam, adamw: decay rates `B1,B2` (default 0.9,0.999)"},
		&cli.Float64Flag{Name: "eps", Usage: "adam, adamw: the constant in the denominator (default 1e-8)"},
		&cli.Float64Flag{Name: "weight-decay", Usage: "weight decay"},
	}
}

// modelToTrain builds a network by name or loads a file.
func modelToTrain(c *cli.Context, what string) (*onnxio.Model, error) {
	if !strings.HasSuffix(what, ".onnx") {
		m, err := network(c, what)
		if err != nil && isStateDict(what) {
			return nil, usageError("%s is a state dict, which has no graph: make a model of it with 'cnnkit convert %s model.onnx --arch NAME'", what, what)
		}
		return m, err
	}
	for _, flag := range []string{"opset", "input", "classes", "blocks", "width", "depth"} {
		if c.IsSet(flag) {
			return nil, usageError("--%s shapes a network that is built by name; %s has its shape already", flag, what)
		}
	}
	return loadModel(what)
}

// trainConfig is the network's defaults with what the flags say on top.
func trainConfig(c *cli.Context, m *onnxio.Model) (train.Config, error) {
	arch, _, _ := builders.Arch(m)
	cfg := train.Defaults(arch)
	cfg.Seed = c.Uint64("seed")
	n, err := threads(c)
	if err != nil {
		return cfg, err
	}
	cfg.Threads = n
	if o := c.String("optimizer"); o != "" && o != cfg.Optimizer {
		cfg.Optimizer, cfg.LR, cfg.Momentum = o, 1e-3, 0
		if o == "sgd" {
			cfg.LR, cfg.Momentum = 0.01, 0.5
		}
	}
	for flag, to := range map[string]*int{"epochs": &cfg.Epochs, "batch": &cfg.Batch} {
		if c.IsSet(flag) {
			*to = c.Int(flag)
		}
	}
	for flag, to := range map[string]*float64{"lr": &cfg.LR, "momentum": &cfg.Momentum, "dampening": &cfg.Dampening,
		"eps": &cfg.Eps, "weight-decay": &cfg.WeightDecay} {
		if c.IsSet(flag) {
			*to = c.Float64(flag)
		}
	}
	if c.IsSet("loss") {
		losses := []string{train.LossAuto, train.LossNLL, train.LossCrossEntropy, train.LossBCE}
		if cfg.Loss = c.String("loss"); !slices.Contains(losses, cfg.Loss) {
			return cfg, usageError("no loss %q: known are %s", cfg.Loss, strings.Join(losses, ", "))
		}
	}
	cfg.Nesterov = c.Bool("nesterov")
	if s := c.String("betas"); s != "" {
		if n, err := fmt.Sscanf(s, "%g,%g", &cfg.Betas[0], &cfg.Betas[1]); n != 2 || err != nil {
			return cfg, usageError("--betas wants two numbers such as 0.9,0.999, not %q", s)
		}
	}
	if _, err := cfg.Update(); err != nil {
		return cfg, usageError("%w", err)
	}
	return cfg, nil
}

// trainError says how to go on after an interruption.
func trainError(c *cli.Context, err error, dir string) error {
	var stopped *train.InterruptedError
	if !errors.As(err, &stopped) {
		return err
	}
	if stopped.Saved == "" {
		return hinted{err, "nothing was trained yet: run the same command again"}
	}
	again := fmt.Sprintf("go on with: cnnkit train %s --data %s --out %s", stopped.Saved, c.String("data"), dir)
	for _, f := range trainFlags() {
		if name := f.Names()[0]; c.IsSet(name) {
			again += fmt.Sprintf(" --%s=%v", name, c.Value(name))
		}
	}
	return hinted{err, again}
}

func reportTrained(c *cli.Context, r *train.Result, dir string) error {
	best := r.History[r.Best]
	last, bestFile := filepath.Join(dir, train.LastFile), filepath.Join(dir, train.BestFile)
	csv, png := filepath.Join(dir, train.HistoryFile), filepath.Join(dir, train.PlotFile)
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(map[string]any{"done": true, "loss": r.Loss, "best_epoch": best.Epoch,
			"best_accuracy": best.ValidationAccuracy, "model": last, "best": bestFile, "history": csv, "plot": png})
	}
	w := c.App.Writer
	fmt.Fprintf(w, "best: epoch %d with validation accuracy %.2f%%, in %s\n", best.Epoch, 100*best.ValidationAccuracy, bestFile)
	fmt.Fprintf(w, "last: epoch %d, in %s; history in %s and %s\n", len(r.History), last, csv, png)
	return nil
}
