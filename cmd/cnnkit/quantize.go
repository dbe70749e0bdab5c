package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/convert/quantize"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/vision"
	"github.com/cnnkit/cnnkit/train"
	"github.com/cnnkit/cnnkit/train/data"
)

func quantizeCommand() *cli.Command {
	return &cli.Command{
		Name: "quantize", Usage: "make an int8 model of a float32 one",
		UsageText: "cnnkit quantize MODEL [--data NAME | --images DIR] --out FILE [--method M] [--per-channel] " +
			"[--exclude NODE] [--no-gate] [--trainable]",
		Description: `Runs the model on images, finds the range of every map, and writes a model with QuantizeLinear and DequantizeLinear
around its convolutions and matrix products: activations in uint8, weights in int8, biases corrected for what rounding the
weights adds on average. Without --per-channel the weights' ranges are first made alike from layer to layer.

The gate measures both models on this machine, layer by layer. What is not faster in int8 stays in float32; while more than
--max-loss is lost, so does the layer that adds the most error to the output. Of a data set's validation part --score images
count; without labels, how often the largest output is the float32 model's. Exit code 1, after the table, where the whole
model would be slower, or lose too much. --no-gate quantizes everything.

What int8 loses, training gets back: --trainable writes a model that rounds as the int8 one does and learns, 'cnnkit train
MODEL' fine-tunes it at a low rate, and quantize without --data and --images makes bytes of its weights. The same makes
an int8 model of what PyTorch's quantization-aware training exports.

  cnnkit quantize resnet9-cifar10/model.onnx --data cifar10 --per-channel --out resnet9-int8.onnx
  cnnkit quantize model.onnx --data cifar10 --per-channel --trainable --out rounding.onnx
  cnnkit train rounding.onnx --data cifar10 --lr 1e-5 --epochs 2 --out tuned
  cnnkit quantize tuned/model.onnx --out int8.onnx
  cnnkit quantize resnet18.onnx --images photos/ --preset imagenet --method entropy --out resnet18-int8.onnx`,
		Flags: append(slices.Concat(specFlags(), fieldFlags("data", "threads", "no_exif")), jsonFlag(),
			&cli.StringFlag{Name: "images", Usage: "`DIR` of images to find ranges on, instead of --data"},
			&cli.StringFlag{Name: "out", Usage: "the .onnx `FILE` to write"},
			&cli.StringFlag{Name: "method", Value: string(quantize.MinMax), Usage: "how ranges are found: " +
				strings.Join(quantize.Methods(), ", ")},
			&cli.BoolFlag{Name: "per-channel", Usage: "a scale for each output of a layer's weights"},
			&cli.StringSliceFlag{Name: "exclude", Usage: "a `NODE` that stays in float32"},
			&cli.BoolFlag{Name: "no-gate", Usage: "quantize every layer, whatever it gains and costs"},
			&cli.BoolFlag{Name: "trainable",
				Usage: "keep the weights in float32, with the rounding behind them, for 'cnnkit train'"},
			&cli.Float64Flag{Name: "max-loss", Value: 0.005,
				Usage: "the largest share of right answers that may be lost"},
			&cli.IntFlag{Name: "calibrate", Value: 256, Usage: "images to find ranges on"},
			&cli.IntFlag{Name: "score", Value: 2000,
				Usage: "images of the validation part that the gate counts on"},
			&cli.IntFlag{Name: "batch", Value: 16, Usage: "images at a time"}),
		Action: runQuantize,
	}
}

func runQuantize(c *cli.Context) error {
	path, m, err := specified(c)
	if err != nil {
		return err
	}
	out, err := required(c, "out")
	if err != nil {
		return err
	}
	if c.String("data") == "" && c.String("images") == "" {
		return finishQuantized(c, m, path, out)
	}
	opt, err := quantizeOptions(c)
	if err != nil {
		return err
	}
	on, err := calibration(c, m, path)
	if err != nil {
		return err
	}
	q, report, err := quantize.Static(c.Context, m, on, opt)
	if refused := errors.Is(err, quantize.ErrSlower) || errors.Is(err, quantize.ErrWorse); refused {
		if err := reportQuantized(c, "", report, err); err != nil {
			return err
		}
		return errNo
	}
	if err != nil {
		return badFile{fmt.Errorf("%s: %w", path, err)}
	}
	if err := saved(onnxio.Save(out, q)); err != nil {
		return err
	}
	return reportQuantized(c, out, report, nil)
}

// finishQuantized makes bytes of the weights of a model that --trainable has made.
func finishQuantized(c *cli.Context, m *onnxio.Model, path, out string) error {
	q, count, err := quantize.Finish(m)
	if err != nil {
		return badFile{fmt.Errorf("%s: %w", path, err)}
	}
	if count == 0 {
		return usageError("either --data or --images says what to find ranges on: %s has no weights with "+
			"QuantizeLinear behind them", path)
	}
	if err := saved(onnxio.Save(out, q)); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, map[string]any{"file": out, "weights": count})
	}
	fmt.Fprintf(c.App.Writer, "wrote %s: %d weights in int8\n", out, count)
	return nil
}

func quantizeOptions(c *cli.Context) (opt quantize.Options, err error) {
	if opt.Method, err = quantize.ParseMethod(c.String("method")); err != nil {
		return opt, usageError("%w", err)
	}
	if c.String("data") != "" && c.String("images") != "" {
		return opt, usageError("either --data or --images says what to find ranges on")
	}
	for _, name := range []string{"calibrate", "score", "batch"} {
		if c.Int(name) < 1 {
			return opt, usageError("--%s must be at least 1", name)
		}
	}
	loss := c.Float64("max-loss")
	if !(loss >= 0 && loss <= 1) {
		return opt, usageError("--max-loss must be from 0 to 1")
	}
	if opt.Threads, err = threads(c); err != nil {
		return opt, err
	}
	opt.PerChannel, opt.NoGate, opt.MaxLoss = c.Bool("per-channel"), c.Bool("no-gate"), &loss
	opt.Trainable = c.Bool("trainable")
	opt.Exclude = c.StringSlice("exclude")
	return opt, nil
}

// calibration is the images that the flags name, as the model takes them.
func calibration(c *cli.Context, m *onnxio.Model, path string) (quantize.Data, error) {
	meaning, err := spec.Get(m)
	if err != nil {
		return quantize.Data{}, badFile{fmt.Errorf("%s: %w", path, err)}
	}
	if c.String("images") != "" {
		batches, err := pictureBatches(c, meaning.Input)
		return quantize.Data{Batches: batches}, err
	}
	splits, err := openRecipe(c, train.Recipe{Data: c.String("data")}, m)
	if err != nil {
		return quantize.Data{}, err
	}
	if err := takesImages(m, splits, path); err != nil {
		return quantize.Data{}, err
	}
	batches, err := setBatches(c, splits.Train, meaning.Input)
	return quantize.Data{Batches: batches, Score: scoreOn(c, splits)}, err
}

// batchSize is --batch, or what the model is fixed to.
func calibrationBatch(c *cli.Context, in spec.Input) int {
	if in.Batch > 0 {
		return in.Batch
	}
	return c.Int("batch")
}

// setBatches are images of a data set, drawn evenly from all of it.
func setBatches(c *cli.Context, set data.Dataset, in spec.Input) ([]*onnxio.Tensor, error) {
	batch := calibrationBatch(c, in)
	order := rand.New(rand.NewPCG(1, 1)).Perm(set.Len())
	order = order[:min(len(order), max(batch, c.Int("calibrate")))]
	var out []*onnxio.Tensor
	for ; len(order) >= batch; order = order[batch:] {
		x, target := train.NewBatch(set.Shape(), batch)
		if data.Masked(set) {
			target = onnxio.NewTensor(onnxio.Float, int64(batch), 1, x.Dims[2], x.Dims[3])
		}
		if err := set.Fill(x, target, order[:batch]); err != nil {
			return nil, badFile{err}
		}
		out = append(out, vision.Fed(in, x))
	}
	if len(out) == 0 {
		return nil, usageError("the data set has fewer images than a batch of %d: lower --batch", batch)
	}
	return out, nil
}

// pictureBatches are those of a folder; images that cannot be read are reported and left out.
func pictureBatches(c *cli.Context, in spec.Input) ([]*onnxio.Tensor, error) {
	files, err := vision.Files([]string{c.String("images")})
	if err != nil {
		return nil, badFile{err}
	}
	batch := min(calibrationBatch(c, in), len(files))
	if in.Batch > 0 {
		batch = in.Batch
	}
	var out, held []*onnxio.Tensor
	for _, file := range files[:min(len(files), max(batch, c.Int("calibrate")))] {
		img, err := vision.Load(file, vision.Limits{NoEXIF: c.Bool("no-exif")})
		if err != nil {
			fmt.Fprintf(c.App.ErrWriter, "cnnkit: %s\n", strings.TrimSpace(err.Error()))
			continue
		}
		x := vision.Input(img, in)
		if len(held) > 0 && !slices.Equal(held[0].Dims, x.Dims) {
			return nil, usageError("%s is %v, the images before %v: --size brings them to one size", file,
				x.Dims[2:], held[0].Dims[2:])
		}
		if held = append(held, x); len(held) < batch {
			continue
		}
		stacked, err := vision.Stack(held)
		if err != nil {
			return nil, err
		}
		out, held = append(out, vision.Fed(in, stacked)), nil
	}
	if len(out) == 0 {
		return nil, badFile{fmt.Errorf("%s: fewer images than a batch of %d", c.String("images"), batch)}
	}
	return out, nil
}

// scoreOn measures models on the validation part: their accuracy.
func scoreOn(c *cli.Context, splits data.Splits) func(context.Context, *onnxio.Model) (float64, error) {
	set := splits.Validation
	if n := c.Int("score"); n < set.Len() {
		set = data.Subset{Dataset: set, Indices: rand.New(rand.NewPCG(2, 1)).Perm(set.Len())[:n]}
	}
	splits.Validation = set
	return func(ctx context.Context, m *onnxio.Model) (float64, error) {
		s, err := runtime.OpenModel(m, runtime.WithEngine(runtime.Native))
		if err != nil {
			return 0, err
		}
		defer s.Close()
		loss, run, err := scored(m, splits, s)
		if err != nil {
			return 0, err
		}
		score, err := train.Measure(ctx, run, set, train.EvaluationBatch(set.Shape()), loss, nil)
		return score.Accuracy, err
	}
}

func reportQuantized(c *cli.Context, out string, r *quantize.Report, refusal error) error {
	if c.Bool("json") {
		why := ""
		if refusal != nil {
			why = refusal.Error()
		}
		return printJSON(c, map[string]any{"file": out, "report": r, "refused": why})
	}
	w := c.App.Writer
	if r != nil {
		if err := quantizedText(w, r); err != nil {
			return err
		}
	}
	if refusal != nil {
		fmt.Fprintf(w, "refused: %v\n", refusal)
		return nil
	}
	fmt.Fprintf(w, "wrote %s\n", out)
	return nil
}

func quantizedText(w io.Writer, r *quantize.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "layer\top\tfloat32\tint8\tgain\tshare of the error\truns in\t")
	for _, l := range r.Layers {
		gain := ""
		if l.Int8 > 0 {
			gain = fmt.Sprintf("%.2f", float64(l.Float32)/float64(l.Int8))
		}
		why := l.Type
		if l.Reason != "" {
			why += ": " + l.Reason
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.1f%%\t%s\t\n", l.Name, l.Op, micro(l.Float32), micro(l.Int8),
			gain, 100*l.Share, why)
	}
	fmt.Fprintf(t, "whole model\t\t%s\t%s\t%.2f\t\t\t\n", micro(r.Float32), micro(r.Int8),
		float64(r.Float32)/float64(max(r.Int8, 1)))
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "score %.4f in float32, %.4f in int8\n", r.FloatScore, r.Score)
	return err
}
