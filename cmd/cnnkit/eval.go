package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
)

func evalCommand() *cli.Command {
	return &cli.Command{
		Name: "eval", Usage: "measure a classifier on a data set", UsageText: "cnnkit eval MODEL --data NAME [--engine E] [--json]",
		Description: `Accuracy and mean loss on the validation part of a data set, by any engine.

  cnnkit eval lenet5-mnist/model.onnx --data mnist
  cnnkit eval lenet5-mnist/model.onnx --data mnist --engine ort --json`,
		Flags: append(engineFlags(), dataFlag(), jsonFlag(),
			&cli.IntFlag{Name: "batch", Usage: "images at a time (default 500; 20 for onnxgo)"}),
		Action: func(c *cli.Context) error {
			path, err := one(c, "MODEL")
			if err != nil {
				return err
			}
			splits, err := openData(c)
			if err != nil {
				return err
			}
			m, err := loadModel(path)
			if err != nil {
				return err
			}
			s, err := openSession(c, m, path)
			if err != nil {
				return err
			}
			defer s.Close()
			if err := takesImages(s, splits, path); err != nil {
				return err
			}
			return evaluate(c, s, m, splits)
		},
	}
}

func evaluate(c *cli.Context, s runtime.Session, m *onnxio.Model, splits data.Splits) error {
	started := time.Now()
	score, err := train.Evaluate(c.Context, forward(s), splits.Validation, batchOf(c, s.Engine()), logProbabilities(m))
	if err != nil {
		return err
	}
	seconds := time.Since(started).Seconds()
	if c.Bool("json") {
		return printJSON(c, struct {
			Engine   string  `json:"engine"`
			Images   int     `json:"images"`
			Accuracy float64 `json:"accuracy"`
			Loss     float64 `json:"loss"`
			Seconds  float64 `json:"seconds"`
		}{string(s.Engine()), score.Images, score.Accuracy, score.Loss, seconds})
	}
	fmt.Fprintf(c.App.Writer, "%s on %s: accuracy %.2f%%, loss %.4f (%d images, %.2f s, engine %s)\n",
		c.Args().First(), splits.Name, 100*score.Accuracy, score.Loss, score.Images, seconds, s.Engine())
	return nil
}

// batchOf is --batch, or what suits the engine: onnx-go takes several times as long for an image in a batch of 100 as in
// one of 20.
func batchOf(c *cli.Context, e runtime.Engine) int {
	switch n := c.Int("batch"); {
	case n > 0:
		return n
	case e == runtime.OnnxGo:
		return 20
	}
	return 500
}

// forward feeds a session's first input and takes its first output.
func forward(s runtime.Session) train.Forward {
	in, out := s.Inputs()[0].Name, s.Outputs()[0].Name
	return func(ctx context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) {
		ys, err := s.Run(ctx, map[string]*onnxio.Tensor{in: x})
		if err != nil {
			return nil, err
		}
		return ys[out], nil
	}
}

// logProbabilities says whether a model's first output comes from a LogSoftmax.
func logProbabilities(m *onnxio.Model) bool {
	for _, n := range m.Graph.Nodes {
		for _, o := range n.Outputs {
			if len(m.Graph.Outputs) > 0 && o == m.Graph.Outputs[0].Name {
				return n.OpType == "LogSoftmax"
			}
		}
	}
	return false
}

func dataFlag() cli.Flag {
	return &cli.StringFlag{Name: "data", Usage: "data set `NAME` or NAME=FOLDER (see 'cnnkit data list')"}
}

func openData(c *cli.Context) (data.Splits, error) {
	name, err := required(c, "data")
	if err != nil {
		return data.Splits{}, hinted{err, "see 'cnnkit data list' for what there is"}
	}
	return namedData(name)
}

func namedData(name string) (data.Splits, error) {
	if known, _, _ := strings.Cut(name, "="); !slices.Contains(data.Names(), known) {
		return data.Splits{}, usageError("no data set %q%s", known, didYouMean(known, data.Names()))
	}
	splits, err := data.Open(name)
	if err != nil {
		return splits, hinted{badFile{err}, "see 'cnnkit data list' for what there is"}
	}
	return splits, nil
}

// takesImages compares the data with what the model takes and gives.
func takesImages(s runtime.Session, splits data.Splits, path string) error {
	shape := splits.Validation.Shape()
	if len(s.Inputs()) != 1 {
		return badFile{fmt.Errorf("%s takes %d inputs; a classifier of images takes one", path, len(s.Inputs()))}
	}
	in := s.Inputs()[0]
	bad := in.Type == nil || in.Type.Elem != onnxio.Float || in.Type.HasShape && len(in.Type.Shape) != 4
	if !bad && in.Type.HasShape {
		for i, d := range in.Type.Shape[1:] {
			bad = bad || d.Known() && d.Value != int64(shape[i])
		}
	}
	if bad {
		return badFile{fmt.Errorf("%s takes %s %s, but data set %s has images of %dx%dx%d",
			path, in.Type.Elem, shapeOf(in.Type), splits.Name, shape[0], shape[1], shape[2])}
	}
	return nil
}
