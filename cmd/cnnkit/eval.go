package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/vision"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
)

func evalCommand() *cli.Command {
	return &cli.Command{
		Name: "eval", Usage: "measure a model on a data set",
		UsageText: "cnnkit eval MODEL --data NAME [--size HxW] [--engine E] [--json]",
		Description: `Accuracy and mean loss on the validation part of a data set, by any engine; of masks also IoU and Dice, those of the
foreground where there is one, and of each class; of several labels an image the scores of each label. --thresholds f1 finds
the probabilities above which labels are best given, which 'spec set --thresholds' writes into the model. Where a recipe.json
stands beside the model, the metrics that it names are measured too; and of the data that the run was trained on, the images
that it left out.

  cnnkit eval lenet5-mnist/model.onnx --data mnist
  cnnkit eval lenet5-mnist/model.onnx --data mnist --engine ort --json
  cnnkit eval unet-pets/model.onnx --data pets
  cnnkit eval airbench/model.onnx --data cifar10 --tta mirror,shift
  cnnkit eval from-pytorch.onnx --data cifar10 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225`,
		Flags: append(slices.Concat(engineFlags(), fieldFlags("data", "size", "validation", "fold", "task",
			"weight_column", "no_exif",
			"mask_classes", "ignore_index", "mean", "std", "thresholds")),
			cropFlag(), presetFlag(), jsonFlag(),
			&cli.StringFlag{Name: "metrics", Usage: "`NAMES` of what to measure beside accuracy: " +
				strings.Join(train.Metrics(), ", ") + " (default: those of the recipe)"},
			&cli.StringFlag{Name: "tta", Usage: "`VIEWS` of each image, whose answers are averaged: " +
				strings.Join(vision.Views(), ", ") + " (test-time augmentation)"},
			&cli.IntFlag{Name: "batch",
				Usage: "images at a time (default 500, fewer of large images; 20 for onnxgo)"}),
		Action: func(c *cli.Context) error {
			path, m, err := specified(c)
			if err != nil {
				return err
			}
			name, err := required(c, "data")
			if err != nil {
				return hinted{err, "see 'cnnkit data list' for what there is"}
			}
			run, err := runOf(path)
			if err != nil {
				return err
			}
			wanted, err := wantedMetrics(c, run)
			if err != nil {
				return err
			}
			recipe := train.Recipe{Data: name, Size: c.String("size"), Validation: c.Float64("validation"),
				Fold: c.String("fold"), NoEXIF: c.Bool("no-exif")}
			recipe.MaskClasses, recipe.Task = c.Int("mask-classes"), data.Task(c.String("task"))
			recipe.WeightColumn = c.String("weight-column")
			if c.IsSet("ignore") {
				ignore := c.Int("ignore")
				recipe.IgnoreIndex = &ignore
			}
			if recipe.Mean, recipe.Std, err = normalisation(c); err != nil {
				return err
			}
			asTrained(c, &recipe, run)
			if err := recipe.ValidateData(); err != nil {
				return usageError("%w", err)
			}
			splits, err := openRecipe(c, recipe, m)
			if err != nil {
				return err
			}
			if err := asked(m, recipe.Task); err != nil {
				return badFile{fmt.Errorf("%s: %w", path, err)}
			}
			s, err := openSession(c, m, path)
			if err != nil {
				return err
			}
			defer s.Close()
			if err := takesImages(m, splits, path); err != nil {
				return err
			}
			return evaluate(c, s, m, splits, wanted)
		},
	}
}

// normalisation reads --mean and --std.
func normalisation(c *cli.Context) (mean, std []float32, err error) {
	if !c.IsSet("mean") && !c.IsSet("std") {
		return nil, nil, nil
	}
	if mean, err = floats("mean", c.String("mean")); err != nil {
		return nil, nil, err
	}
	if std, err = floats("std", c.String("std")); err != nil {
		return nil, nil, err
	}
	if len(mean) != len(std) {
		return nil, nil, usageError("--mean has %d numbers and --std %d: both want one a channel",
			len(mean), len(std))
	}
	return mean, std, nil
}

// runOf is the recipe beside a model that a run has left; empty where there is none.
func runOf(path string) (recipe train.Recipe, err error) {
	f, err := os.Open(filepath.Join(filepath.Dir(path), train.RecipeFile))
	if err != nil {
		return recipe, nil
	}
	defer f.Close()
	fields, err := train.ReadFields(f)
	if err == nil {
		recipe, err = fields.Recipe("")
	}
	if err != nil {
		return recipe, badFile{fmt.Errorf("%s: %w", f.Name(), err)}
	}
	return recipe, nil
}

// wantedMetrics are those of --metrics, or of the run's recipe.
func wantedMetrics(c *cli.Context, run train.Recipe) ([]string, error) {
	names := c.String("metrics")
	if names == "" {
		return run.Metrics, nil
	}
	wanted := strings.Split(names, ",")
	for _, name := range wanted {
		if !slices.Contains(train.Metrics(), name) {
			return nil, usageError("no metric %q%s", name, didYouMean(name, train.Metrics()))
		}
	}
	return wanted, nil
}

// asTrained gives the recipe of an evaluation what the run of the same data says and no flag does: what its
// targets are, and which images it did not train on. It warns of flags that choose other ones.
func asTrained(c *cli.Context, recipe *train.Recipe, run train.Recipe) {
	if run.Data != recipe.Data {
		return
	}
	if !c.IsSet("task") {
		recipe.Task = run.Task
	}
	if !c.IsSet("weight-column") {
		recipe.WeightColumn = run.WeightColumn
	}
	if !c.IsSet("mask-classes") {
		recipe.MaskClasses = run.MaskClasses
	}
	if !c.IsSet("ignore") && recipe.MaskClasses == run.MaskClasses {
		recipe.IgnoreIndex = run.IgnoreIndex
	}
	part := func(r train.Recipe) string {
		switch {
		case r.Fold != "":
			return "--fold " + r.Fold
		case r.Validation > 0:
			return fmt.Sprintf("--validation %v", r.Validation)
		}
		return "the set's own part"
	}
	was := part(run)
	if !c.IsSet("fold") && !c.IsSet("validation") {
		recipe.Fold, recipe.Validation = run.Fold, run.Validation
		if run.Fold != "" || run.Validation > 0 {
			fmt.Fprintf(c.App.ErrWriter, "cnnkit: measuring on what the run did not train on: %s\n", was)
		}
		return
	}
	if is := part(*recipe); is != was {
		fmt.Fprintf(c.App.ErrWriter,
			"cnnkit: the run left out %s, and %s was asked for: images that it was trained on count\n",
			was, is)
	}
}

// asked puts the task of a table into the metadata of m, which is in memory alone.
func asked(m *onnxio.Model, task data.Task) error {
	if task == data.Classification {
		return nil
	}
	s, err := spec.Get(m)
	if err != nil {
		return err
	}
	s.Output.Task = map[data.Task]spec.Task{data.MultiLabel: spec.MultiLabel,
		data.Regression: spec.Number}[task]
	spec.Set(m, s)
	return nil
}

// scored is what outputs and targets are, as train.Measure wants to know it, and a Forward whose outputs are
// that: of probabilities their logits, or their logarithms.
func scored(m *onnxio.Model, splits data.Splits, s runtime.Session) (string, train.Forward, error) {
	mean, err := spec.Get(m)
	if err != nil {
		return "", nil, badFile{err}
	}
	run := vision.Of(s, mean.Input)
	out := m.Graph.Outputs[0].Type
	scale := mean.Output.Scale
	switch one := out != nil && len(out.Shape) == 4 && out.Shape[channelAxis(mean)].Value == 1; {
	case data.Width(splits.Validation) > 0 && mean.Output.Task == spec.MultiLabel:
		return train.LossBCE, vision.AsLogits(run, scale), nil
	case data.Width(splits.Validation) > 0:
		return train.LossMSE, run, nil
	case data.Masked(splits.Validation) && one:
		return train.LossBCE, vision.AsLogits(run, scale), nil
	case scale == spec.Logits:
		return train.LossCrossEntropy, run, nil
	}
	return train.LossNLL, vision.AsLogarithms(run, scale), nil
}

// channelAxis is where a mask's channels are.
func channelAxis(s spec.Spec) int {
	if s.Input.Layout == spec.NHWC {
		return 3
	}
	return 1
}

func evaluate(c *cli.Context, s runtime.Session, m *onnxio.Model, splits data.Splits, wanted []string) error {
	if data.Masked(splits.Validation) {
		for _, name := range []string{"iou", "dice"} {
			if !slices.Contains(wanted, name) {
				wanted = append(slices.Clone(wanted), name)
			}
		}
	}
	if n := data.Width(splits.Validation); n > 0 && len(wanted) == 0 {
		if s, err := spec.Get(m); err == nil && s.Output.Task == spec.MultiLabel {
			wanted = []string{"map", "f1"}
		} else {
			wanted = []string{"mae", "r2"}
		}
	}
	started := time.Now()
	batch := batchOf(c, s.Engine())
	if c.Int("batch") == 0 {
		batch = min(batch, train.EvaluationBatch(splits.Validation.Shape()))
	}
	loss, run, err := scored(m, splits, s)
	if err != nil {
		return err
	}
	if run, err = withViews(c, run, splits, loss == train.LossNLL); err != nil {
		return err
	}
	cfg := train.Config{Loss: loss, Metrics: wanted}
	several := loss == train.LossBCE && data.Width(splits.Validation) > 0
	if cfg.Thresholds, err = labelThresholds(c, m, several); err != nil {
		return err
	}
	score, err := cfg.Measure(c.Context, run, splits.Validation, batch)
	if err != nil {
		return err
	}
	tabled := several || data.Masked(splits.Validation)
	seconds := time.Since(started).Seconds()
	if c.Bool("json") {
		out := map[string]any{"engine": string(s.Engine()), "images": score.Images, "loss": score.Loss,
			"seconds": seconds}
		if !math.IsNaN(score.Accuracy) {
			out["accuracy"] = score.Accuracy
		}
		for name, v := range score.Metrics {
			out[name] = v
		}
		if slices.Contains(wanted, "confusion") {
			out["confusion"] = score.Confusion
		}
		if tabled {
			out["classes"] = classRows(score, several)
		}
		return printJSON(c, out)
	}
	fmt.Fprintf(c.App.Writer, "%s on %s: ", c.Args().First(), splits.Name)
	if !math.IsNaN(score.Accuracy) {
		fmt.Fprintf(c.App.Writer, "accuracy %.2f%%, ", 100*score.Accuracy)
	}
	if loss == train.LossMSE {
		fmt.Fprintf(c.App.Writer, "loss (mse) %.4f", score.Loss)
	} else {
		fmt.Fprintf(c.App.Writer, "loss %.4f", score.Loss)
	}
	for _, name := range wanted {
		if v, ok := score.Metrics[name]; ok {
			fmt.Fprintf(c.App.Writer, ", %s %.4f", name, v)
		}
	}
	fmt.Fprintf(c.App.Writer, " (%d images, %.2f s, engine %s)\n", score.Images, seconds, s.Engine())
	if !tabled {
		return nil
	}
	if err := showClasses(c, score, several); err != nil {
		return err
	}
	if cfg.Thresholds.Best {
		text := make([]string, len(score.Thresholds))
		for i, p := range score.Thresholds {
			text[i] = strconv.FormatFloat(p, 'g', -1, 64)
		}
		fmt.Fprintf(c.App.Writer,
			"\nthe thresholds are those of the highest F1 on these images, whose figures flatter them; "+
				"to keep them:\ncnnkit spec set %s --thresholds %s\n", quoted(c.Args().First()),
			strings.Join(text, ","))
	}
	return nil
}

// labelThresholds are those of --thresholds, or of several labels those that the model says.
func labelThresholds(c *cli.Context, m *onnxio.Model, several bool) (train.Thresholds, error) {
	if !c.IsSet("thresholds") {
		s, err := spec.Get(m)
		if err != nil || !several {
			return train.Thresholds{}, err
		}
		return train.Thresholds{Each: s.Output.Thresholds}, nil
	}
	h, err := thresholdsOf(c)
	if err != nil {
		return h, err
	}
	if !several {
		return h, usageError("--thresholds are of several labels an image: say --task multi-label")
	}
	if err := spec.CheckThresholds(h.Each, spec.Width(m)); err != nil {
		return h, usageError("--thresholds: %w", err)
	}
	return h, nil
}

// classRow is a class's scores. Those of a class that occurs neither as a target nor
// as an answer do not exist.
type classRow struct {
	Class     string   `json:"class"`
	Samples   int64    `json:"samples"` // images that have the label, or pixels of the class
	Threshold *float64 `json:"threshold,omitempty"`
	Precision *float64 `json:"precision"`
	Recall    *float64 `json:"recall"`
	F1        *float64 `json:"f1"`
	IoU       *float64 `json:"iou"`
}

func classRows(score train.Score, several bool) []classRow {
	out := make([]classRow, len(score.Classes))
	for i, s := range score.Classes {
		out[i] = classRow{Class: s.Class, Samples: s.Samples}
		if s.Occurs() {
			out[i].Precision, out[i].Recall, out[i].F1, out[i].IoU = &s.Precision, &s.Recall, &s.F1, &s.IoU
		}
		if several {
			p := 0.5
			if score.Thresholds != nil {
				p = score.Thresholds[i]
			}
			out[i].Threshold = &p
		}
	}
	return out
}

// showClasses prints a line for each label, or for each class of masks.
func showClasses(c *cli.Context, score train.Score, several bool) error {
	t := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	text := func(v *float64) string {
		if v == nil {
			return "-"
		}
		return fmt.Sprintf("%.4f", *v)
	}
	if several {
		fmt.Fprintln(t, "label\timages\tthreshold\tprecision\trecall\tf1")
	} else {
		fmt.Fprintln(t, "class\tpixels\tiou\tdice\tprecision\trecall")
	}
	for _, r := range classRows(score, several) {
		if several {
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\n", r.Class, r.Samples, text(r.Threshold),
				text(r.Precision), text(r.Recall), text(r.F1))
		} else {
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\n", r.Class, r.Samples, text(r.IoU), text(r.F1),
				text(r.Precision), text(r.Recall))
		}
	}
	return t.Flush()
}

// withViews averages the answers to the views of --tta.
func withViews(c *cli.Context, run train.Forward, splits data.Splits, logs bool) (train.Forward, error) {
	if !c.IsSet("tta") {
		return run, nil
	}
	if data.Masked(splits.Validation) {
		return nil, usageError("--tta is for answers to whole images, and data set %s has masks", splits.Name)
	}
	run, err := vision.Augmented(run, strings.Split(c.String("tta"), ","), logs)
	if err != nil {
		return nil, usageError("--tta: %w", err)
	}
	return run, nil
}

// batchOf is --batch, or what suits the engine: onnx-go takes several times as long for an image in a
// batch of 100 as in one of 20.
func batchOf(c *cli.Context, e runtime.Engine) int {
	switch n := c.Int("batch"); {
	case n > 0:
		return n
	case e == runtime.OnnxGo:
		return 20
	}
	return 500
}

// openRecipe opens a recipe's data set for a model, or for none.
func openRecipe(c *cli.Context, recipe train.Recipe, m *onnxio.Model) (data.Splits, error) {
	if !data.Known(recipe.Data) {
		known, _, _ := strings.Cut(recipe.Data, "=")
		return data.Splits{}, usageError("no data set %q%s", known, didYouMean(known, data.Names()))
	}
	splits, err := recipe.Open(c.Context, m)
	if err != nil {
		// files of one's own, about which the error says what to do
		if strings.ContainsAny(recipe.Data, ":=") {
			return splits, badFile{err}
		}
		return splits, hinted{badFile{err}, "see 'cnnkit data list' for what there is"}
	}
	return splits, nil
}

// takesImages compares the data with what the model takes and gives.
func takesImages(m *onnxio.Model, splits data.Splits, path string) error {
	shape := splits.Validation.Shape()
	s, err := spec.Get(m)
	if err != nil {
		return badFile{fmt.Errorf("%s: %w", path, err)}
	}
	in, err := spec.Infer(m)
	if err != nil {
		return badFile{fmt.Errorf("%s: %w", path, err)}
	}
	h, w := in.Input.Size[0], in.Input.Size[1]
	if s.Input.Channels != shape[0] || h != 0 && h != shape[1] || w != 0 && w != shape[2] {
		return badFile{fmt.Errorf("%s takes %s %s, but data set %s has images of %dx%dx%d",
			path, s.Input.Type, shapeOf(m.Graph.Inputs[0].Type), splits.Name, shape[0], shape[1], shape[2])}
	}
	return nil
}
