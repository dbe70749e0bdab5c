package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/train"
)

func specCommand() *cli.Command {
	return &cli.Command{
		Name: "spec", Usage: "show or set what a model means: how images are prepared, its output, its labels",
		UsageText: "cnnkit spec show MODEL [--json], or cnnkit spec set MODEL [--out FILE] [--preset P] [--mean M --std S] " +
			"[--size HxW] [--crop HxW] [--labels FILE]",
		Description: `A graph says how numbers flow, not what they are. What a model means stands in its metadata, and is inferred where it
does not: predict, segment, eval, train and verify ask nothing else. set writes it into the model, or into --out.

  cnnkit spec show resnet18.onnx
  cnnkit spec set resnet18.onnx --preset imagenet --labels imagenet.txt`,
		Subcommands: []*cli.Command{
			{Name: "show", Usage: "what the model means", UsageText: "cnnkit spec show MODEL [--json]",
				Flags: []cli.Flag{jsonFlag()}, Action: showSpec},
			{Name: "set", Usage: "write it into the model",
				UsageText: "cnnkit spec set MODEL [--out FILE] [--flags]",
				Flags: append(append(specFlags(), fieldFlags("thresholds")...),
					outFlag("the `FILE` to write (default: the model itself)")),
				Action: setSpec},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usageError("unknown word %q%s", c.Args().First(),
					didYouMean(c.Args().First(), []string{"show", "set"}))
			}
			return usageError("say what to do: cnnkit spec show MODEL, or cnnkit spec set MODEL")
		},
	}
}

func showSpec(c *cli.Context) error {
	path, err := one(c, "MODEL")
	if err != nil {
		return err
	}
	m, err := loadModel(path)
	if err != nil {
		return err
	}
	s, err := spec.Get(m)
	if err != nil {
		return badFile{fmt.Errorf("%s: %w", path, err)}
	}
	if c.Bool("json") {
		return printJSON(c, s)
	}
	return specText(c, s)
}

func specText(c *cli.Context, s spec.Spec) error {
	w, in := c.App.Writer, s.Input
	size := func(n int) string {
		if n == 0 {
			return "any"
		}
		return strconv.Itoa(n)
	}
	fmt.Fprintf(w, "input:   %s %s, batch %s, %d channels, height %s, width %s\n", in.Type, in.Layout,
		size(in.Batch),
		in.Channels, size(in.Size[0]), size(in.Size[1]))
	if in.Shorter > 0 {
		fmt.Fprintf(w, "images:  shorter side to %d (%s), then the middle\n", in.Shorter, in.Resize)
	}
	fmt.Fprintf(w, "values:  mean %v, deviation %v\n", in.Mean, in.Std)
	fmt.Fprintf(w, "output:  %s, %s\n", s.Output.Task, s.Output.Scale)
	if len(s.Output.Thresholds) > 0 {
		fmt.Fprintf(w, "         given above %v\n", s.Output.Thresholds)
	}
	if len(s.Labels) > 0 {
		fmt.Fprintf(w, "labels:  %s\n", strings.Join(s.Labels[:min(len(s.Labels), 10)], ", "))
	}
	for _, what := range s.Inferred {
		fmt.Fprintf(w, "not said: %s\n", what)
	}
	return nil
}

func setSpec(c *cli.Context) error {
	path, m, err := specified(c)
	if err != nil {
		return err
	}
	s, err := spec.Get(m)
	if err != nil {
		return badFile{fmt.Errorf("%s: %w", path, err)}
	}
	spec.Set(m, s)
	out := c.String("out")
	if out == "" {
		out = path
	}
	if err := saved(onnxio.Save(out, m)); err != nil {
		return err
	}
	return specText(c, s)
}

// specFlags say what a model means where its metadata says otherwise, or nothing.
func specFlags() []cli.Flag {
	return append(fieldFlags("mean", "std", "size"), cropFlag(), labelsFlag(), presetFlag())
}

func cropFlag() cli.Flag {
	return &cli.StringFlag{Name: "crop",
		Usage: "`HEIGHTxWIDTH` of the middle that is taken, after the shorter side has been resized to --size N (256 for 224)"}
}

func labelsFlag() cli.Flag {
	return &cli.StringFlag{Name: "labels", Usage: "`FILE` with the name of a class on each line"}
}

func presetFlag() cli.Flag {
	return &cli.StringFlag{Name: "preset",
		Usage: "how images are prepared: imagenet, half (-1 to 1) or none (0 to 1); --mean, --std, --size and --crop change it"}
}

// specified loads the one argument, a model, and puts what the flags of specFlags say into its metadata.
func specified(c *cli.Context) (path string, m *onnxio.Model, err error) {
	if path, err = one(c, "MODEL"); err != nil {
		return path, nil, err
	}
	if m, err = loadModel(path); err != nil {
		return path, nil, err
	}
	return path, m, respecify(c, m, path)
}

// respecify puts what the flags say into the metadata of m, which is in memory alone.
func respecify(c *cli.Context, m *onnxio.Model, path string) error {
	set := false
	for _, name := range []string{"preset", "mean", "std", "size", "crop", "labels", "thresholds"} {
		set = set || c.IsSet(name)
	}
	if !set {
		return nil
	}
	s, err := spec.Get(m)
	if err != nil {
		return badFile{fmt.Errorf("%s: %w", path, err)}
	}
	if name := c.String("preset"); c.IsSet("preset") {
		if err := s.Preset(name, m); err != nil {
			return usageError("--preset: %w", err)
		}
	}
	mean, std, err := normalisation(c)
	if err != nil {
		return err
	}
	if mean != nil {
		s.Input.Mean, s.Input.Std = mean, std
	}
	if err := geometry(c, m, &s.Input); err != nil {
		return err
	}
	if err := s.Input.Check(); err != nil {
		return usageError("%w", err)
	}
	if file := c.String("labels"); file != "" {
		if s.Labels, err = readLabels(file); err != nil {
			return badFile{err}
		}
	}
	if err := thresholds(c, &s, m); err != nil {
		return err
	}
	spec.Set(m, s)
	return nil
}

// thresholds puts those of --thresholds into s. A model of logits [N,K] that says no task is asked
// for several labels by it.
func thresholds(c *cli.Context, s *spec.Spec, m *onnxio.Model) error {
	if !c.IsSet("thresholds") || c.Command.Name == "eval" { // which measures by them
		return nil
	}
	h, err := thresholdsOf(c)
	if err != nil {
		return err
	}
	if h.Best {
		err := usageError("--thresholds f1 finds thresholds on images whose labels are known, which cnnkit %s has not", c.Command.Name)
		return hinted{err, "find them with 'cnnkit eval MODEL --data NAME --thresholds f1', and give their numbers"}
	}
	if _, said := m.Property("output"); !said && s.Output.Task == spec.Classes &&
		s.Output.Scale == spec.Logits {
		s.Output.Task = spec.MultiLabel
	}
	if s.Output.Task != spec.MultiLabel {
		return usageError("--thresholds are of several labels an image, and the model is asked for %s (%s)",
			s.Output.Task, s.Output.Scale)
	}
	if err := spec.CheckThresholds(h.Each, spec.Width(m)); err != nil {
		return usageError("--thresholds: %w", err)
	}
	s.Output.Thresholds = h.Each
	return nil
}

// thresholdsOf reads --thresholds.
func thresholdsOf(c *cli.Context) (train.Thresholds, error) {
	fields := train.Fields{}
	if err := fields.SetFlag("thresholds", c.String("thresholds")); err != nil {
		return train.Thresholds{}, usageError("--thresholds: %w", err)
	}
	switch v := fields["thresholds"].(type) {
	case []float64:
		return train.Thresholds{Each: v}, nil
	default:
		return train.Thresholds{Best: true}, nil
	}
}

// geometry reads --size and --crop.
func geometry(c *cli.Context, m *onnxio.Model, in *spec.Input) error {
	if c.IsSet("size") {
		size, err := side(c, "size")
		if err != nil {
			return err
		}
		in.Size, in.Shorter = size, 0
	}
	if c.IsSet("crop") {
		crop, err := side(c, "crop")
		if err != nil {
			return err
		}
		shorter := in.Size[0]
		if !c.IsSet("size") || in.Size[0] != in.Size[1] {
			return usageError("--crop goes with --size N, the length that the shorter side is resized to before")
		}
		in.Size, in.Shorter = crop, shorter
	}
	graph, err := spec.Infer(m)
	if err != nil {
		return badFile{err}
	}
	for i, fixed := range graph.Input.Size {
		if fixed != 0 && in.Size[i] != fixed {
			return usageError("the model takes images of %dx%d only, not %dx%d", graph.Input.Size[0],
				graph.Input.Size[1], in.Size[0], in.Size[1])
		}
	}
	return nil
}

// side reads HEIGHTxWIDTH, or one number for both.
func side(c *cli.Context, name string) (size [2]int, err error) {
	h, w, two := strings.Cut(c.String(name), "x")
	if !two {
		w = h
	}
	height, err1 := strconv.Atoi(h)
	width, err2 := strconv.Atoi(w)
	if err1 != nil || err2 != nil || height < 1 || width < 1 {
		return size, usageError("--%s wants HEIGHTxWIDTH such as 224x224, not %q", name, c.String(name))
	}
	return [2]int{height, width}, nil
}

// maxLabels bounds the classes that a file may name.
const maxLabels = 1 << 20

// readLabels reads a name on each line; empty lines at the end are none.
func readLabels(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		if len(out) == maxLabels {
			return nil, fmt.Errorf("%s: %w", path, &onnxio.LimitError{What: "labels", Got: maxLabels + 1,
				Limit: maxLabels})
		}
		out = append(out, strings.TrimSpace(strings.TrimPrefix(scan.Text(), "\ufeff")))
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	if err := scan.Err(); err != nil || len(out) == 0 {
		return nil, &onnxio.FormatError{Format: "labels", Path: path, Msg: "a name on each line is wanted",
			Err: err}
	}
	return out, nil
}
