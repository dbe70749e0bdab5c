package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/convert"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/train"
)

func convertCommand() *cli.Command {
	return &cli.Command{
		Name: "convert", Usage: "convert weights between ONNX and PyTorch files",
		UsageText: "cnnkit convert IN OUT [--arch NAME --flags]",
		Description: `OUT is .onnx, .pt, .pth or .safetensors. IN is told by its content, whatever its name is: an ONNX model, a file
of torch.save (a state dict, a checkpoint around one, a whole module), safetensors, or the index.json of shards.
Of a checkpoint's other objects only the names are read; nothing in a file is executed.

A state dict has no graph, so it needs --arch (and the network's flags where they differ from its defaults) to
become ONNX. An ONNX model that another exporter wrote gets its names back with --arch: lost ones are found by the graph's
structure, folded BatchNormalizations are unfolded, and the answers are compared. --model takes the graph from a file. Prefixes that all keys have ("module.", "model.", "backbone.")
are taken off where the network fits without them.

  cnnkit convert lenet5.onnx lenet5.pth
  cnnkit convert resnet.pth resnet.onnx --arch resnet --blocks 2,2,2
  cnnkit convert exported.onnx resnet50.pth --arch resnet50
  cnnkit convert old.onnx new.onnx --opset 17
  cnnkit convert last.ckpt model.onnx --model graph.onnx --key ema --prefix student. --report
  cnnkit convert weights.pt weights.safetensors

A line of --map FILE is a key of the file, "->" ("=", a comma or a blank will do) and a key of the model. * stands
for any text, and a left key with parentheses is a regular expression. FILE may be a JSON object as well.

  features.*.conv.* -> layers.*.*
  head\.(weight|bias) -> fc.$1`,
		Flags: append(partFlags(train.OfNetwork), jsonFlag(),
			presetFlag(), &cli.StringFlag{Name: "arch",
				Usage: "the network (`NAME`) that the state dict belongs to"},
			&cli.StringFlag{Name: "model", Usage: "an .onnx `FILE` whose graph the state dict fills"},
			&cli.StringFlag{Name: "key",
				Usage: "which state dict of several: `NAME`, dotted for one further down"},
			&cli.StringFlag{Name: "prefix", Usage: "what to take off the keys, with its dot: `model.`"},
			&cli.StringFlag{Name: "map", Usage: "rename keys by a `FILE`"},
			&cli.BoolFlag{Name: "report", Usage: "show first which key becomes which"},
			&cli.BoolFlag{Name: "float16",
				Usage: "store weights in float16: half the size, 11 bits (vectors, and what exceeds its range, stay float32)"},
			&cli.BoolFlag{Name: "bfloat16", Usage: "store weights in bfloat16: half the size, 8 bits"},
			&cli.BoolFlag{Name: "lenient",
				Usage: "leave what does not match and report it, instead of failing"}),
		Action: runConvert,
	}
}

// source is what a conversion reads.
type source struct {
	path  string
	model *onnxio.Model // nil for a state dict
	sd    *convert.StateDict
}

func runConvert(c *cli.Context) error {
	if c.NArg() != 2 {
		return usageError("cnnkit convert takes two files: %s", c.Command.UsageText)
	}
	in, out := c.Args().Get(0), c.Args().Get(1)
	toONNX := strings.HasSuffix(out, ".onnx")
	if !toONNX && !namesStateDict(out) {
		return usageError("%s: the extension must be .onnx, .pt, .pth or .safetensors", out)
	}
	if !toONNX && c.IsSet("preset") {
		return usageError("--preset says how images are prepared for a model, and %s is a state dict", out)
	}
	if !toONNX && c.IsSet("opset") {
		return usageError("--opset is of an ONNX graph, and %s is a state dict", out)
	}
	if c.Bool("float16") && c.Bool("bfloat16") {
		return usageError("--float16 and --bfloat16 exclude each other")
	}
	opt, err := applyOptions(c)
	if err != nil {
		return err
	}
	src, err := readSource(in, c.String("key"))
	if err != nil {
		return err
	}
	for _, note := range src.sd.Notes {
		fmt.Fprintf(c.App.ErrWriter, "%s: %s\n", in, note)
	}
	if arch := c.String("arch"); src.model != nil && arch != "" {
		if _, src.sd, err = recovered(c, in, src.model, arch); err != nil {
			return err
		}
	}
	if toONNX {
		return fillModel(c, src, out, opt)
	}
	sd, pairs, err := convert.Renamed(src.sd, opt)
	if err != nil {
		return badFile{fmt.Errorf("%s: %w", in, err)}
	}
	if c.Bool("report") && !c.Bool("json") {
		showPairs(c, src.sd, pairs)
	}
	if to := storedType(c); to != onnxio.Float {
		if sd, err = sd.Store(to); err != nil {
			return err
		}
	}
	if err := saved(convert.Save(out, sd)); err != nil {
		return err
	}
	return reportConverted(c, src, out, pairs)
}

func applyOptions(c *cli.Context) (convert.ApplyOptions, error) {
	opt := convert.ApplyOptions{Strict: !c.Bool("lenient"), Prefix: c.String("prefix")}
	path := c.String("map")
	if path == "" {
		return opt, nil
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", path)
	}
	if err == nil && info.Size() > 1<<20 {
		err = fmt.Errorf("%s: a key map of more than 1 MiB", path)
	}
	if err != nil {
		return opt, badFile{err}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return opt, badFile{err}
	}
	if opt.Map, err = convert.ParseKeyMap(text); err != nil {
		return opt, badFile{fmt.Errorf("%s: %w", path, err)}
	}
	return opt, nil
}

// readSource reads a state dict or a model. The content tells which; the extension counts where it does not.
func readSource(path, key string) (*source, error) {
	format, err := convert.DetectFile(path)
	if err != nil {
		return nil, badFile{err}
	}
	if format == convert.Unknown {
		m, err := loadModel(path)
		if err == nil && key != "" {
			return nil, usageError("--key chooses one of a checkpoint's state dicts; %s is an ONNX model",
				path)
		}
		if err == nil {
			sd, err := convert.FromModel(m)
			return &source{path, m, sd}, err
		}
		if !namesStateDict(path) {
			return nil, err
		}
	}
	sd, err := convert.LoadKey(path, key)
	if err != nil {
		return nil, badFile{err}
	}
	return &source{path, nil, sd}, nil
}

// fillModel gives the state dict to a graph and saves it.
func fillModel(c *cli.Context, src *source, out string, opt convert.ApplyOptions) error {
	m, err := graphFor(c, src)
	if err != nil {
		return err
	}
	report, err := convert.Apply(m, src.sd, opt)
	if c.Bool("report") && !c.Bool("json") {
		showMapping(c, src.sd, report)
	}
	if err != nil {
		return misfit(src, err, m)
	}
	sayScheme(c, src.path, report)
	if report.Prefix != "" {
		fmt.Fprintf(c.App.ErrWriter, "%s: the prefix %q is taken off the keys\n", src.path, report.Prefix)
	}
	if c.Bool("lenient") || c.Bool("report") {
		fmt.Fprintln(c.App.ErrWriter, report.String())
	}
	if err := preset(c, m); err != nil {
		return err
	}
	if to := storedType(c); to != onnxio.Float {
		if m, err = convert.Store(m, to); err != nil {
			return badFile{fmt.Errorf("%s: %w", src.path, err)}
		}
	}
	if err := check.Model(m); err != nil {
		return err
	}
	if err := saved(onnxio.Save(out, m)); err != nil {
		return err
	}
	return reportConverted(c, src, out, report.Pairs)
}

// sayScheme says whose names a file has, and what of the graph was made to be that library's.
func sayScheme(c *cli.Context, path string, r convert.Report) {
	if r.Scheme != "" {
		fmt.Fprintf(c.App.ErrWriter, "%s: the keys are those of %s\n", path, r.Scheme)
	}
	for _, what := range r.Adapted {
		fmt.Fprintf(c.App.ErrWriter, "%s: %s\n", path, what)
	}
}

// storedType is the type that weights are stored in.
func storedType(c *cli.Context) onnxio.DataType {
	switch {
	case c.Bool("float16"):
		return onnxio.Float16
	case c.Bool("bfloat16"):
		return onnxio.BFloat16
	}
	return onnxio.Float
}

// misfit says what to try: another number of classes, another network, or a prefix.
func misfit(src *source, err error, m *onnxio.Model) error {
	bad := badFile{fmt.Errorf("%s: %w", src.path, err)}
	var e *convert.MatchError
	if !errors.As(err, &e) {
		return bad
	}
	if n := classesOf(m, e.Report); n > 0 {
		return hinted{bad, fmt.Sprintf("the file's classifier has %d classes: say --classes %d", n, n)}
	}
	if fit := networksOf(src.sd, e.Report.Prefix); len(fit) > 0 {
		return hinted{bad, "its keys and shapes are those of --arch " + strings.Join(fit, ", or ") +
			", with no flag of shape but --classes"}
	}
	if e.Report.Better.Keys == 0 {
		return bad
	}
	return hinted{bad, fmt.Sprintf("try --prefix %s, with --lenient to leave the keys that do not have it",
		e.Report.Better.Prefix)}
}

// classesOf is the number of classes that a file has where all that does not fit is the classifier; else 0.
func classesOf(m *onnxio.Model, r convert.Report) int64 {
	if len(r.Mismatched) == 0 || len(r.Missing)+len(r.Unexpected)+len(r.Unused) > 0 {
		return 0
	}
	head, err := builders.Classifier(m)
	if err != nil {
		return 0
	}
	n := r.Mismatched[0].Dict
	for _, x := range r.Mismatched {
		if !slices.Contains(head, x.Name) || len(x.Dict) == 0 || x.Dict[0] != n[0] ||
			!slices.Equal(x.Dict[1:], x.Model[1:]) {
			return 0
		}
	}
	return n[0]
}

// networksOf are the networks in their own shape, but for the number of classes, whose parameters a state
// dict has, all of them and no other.
func networksOf(sd *convert.StateDict, prefix string) []string {
	dims := map[string][]int64{}
	for _, e := range sd.Entries() {
		if !strings.HasSuffix(e.Name, "num_batches_tracked") {
			dims[strings.TrimPrefix(e.Name, prefix)] = e.Tensor.Dims
		}
	}
	var fit []string
	for _, name := range builders.Names() {
		m, err := builders.Outline(name, builders.Config{})
		if err != nil {
			continue
		}
		head, err := builders.Classifier(m)
		if err != nil {
			continue
		}
		keys := 0
		same := func(t *onnxio.Tensor) bool {
			is := dims[t.Name]
			return slices.Equal(is, t.Dims) || slices.Contains(head, t.Name) && len(is) == len(t.Dims) &&
				slices.Equal(is[1:], t.Dims[1:])
		}
		fits := true
		for _, t := range m.Graph.Initializers {
			if len(t.Dims) > 0 {
				keys++
				fits = fits && same(t)
			}
		}
		if fits && keys == len(dims) {
			fit = append(fit, name)
		}
	}
	return fit
}

// graphFor is the graph that the state dict fills.
func graphFor(c *cli.Context, src *source) (*onnxio.Model, error) {
	switch arch, model := c.String("arch"), c.String("model"); {
	case arch != "" && model != "":
		return nil, usageError("--arch and --model exclude each other")
	case arch != "" && src.model != nil:
		return networkOf(c, arch, src.model)
	case arch != "":
		return network(c, arch)
	case model != "":
		return loadModel(model)
	case src.model != nil && c.IsSet("opset"):
		m, err := inOpset(src.model, int64(c.Int("opset")))
		if err != nil {
			return nil, badFile{fmt.Errorf("%s: %w", src.path, err)}
		}
		return m, nil
	case src.model != nil:
		return src.model, nil
	}
	return nil, usageError(
		"%s is a state dict, which has no graph: name the network with --arch, or give a graph with --model",
		src.path)
}

// showMapping lists the keys of the file and the initializers that they fill; Report.String has what is left.
func showMapping(c *cli.Context, sd *convert.StateDict, r convert.Report) {
	showPairs(c, sd, r.Pairs)
	for _, key := range r.Ignored {
		fmt.Fprintf(c.App.Writer, "%s ignored\n", key)
	}
}

func showPairs(c *cli.Context, sd *convert.StateDict, pairs []convert.Pair) {
	for _, p := range pairs {
		fmt.Fprintf(c.App.Writer, "%s -> %s %v\n", p.Key, p.Name, sd.Get(p.Key).Dims)
	}
}

func reportConverted(c *cli.Context, src *source, out string, pairs []convert.Pair) error {
	tensors := len(pairs)
	if c.Bool("json") {
		result := map[string]any{"in": src.path, "out": out, "tensors": tensors}
		if len(src.sd.Skipped) > 0 {
			result["skipped"] = src.sd.Skipped
		}
		if c.Bool("report") {
			result["mapping"] = pairs
		}
		return printJSON(c, result)
	}
	fmt.Fprintf(c.App.Writer, "%s -> %s: %d tensors%s\n", src.path, out, tensors, besides(src.sd.Skipped))
	return nil
}

// besides names what was in the file and is not converted.
func besides(skipped []string) string {
	if len(skipped) == 0 {
		return ""
	}
	shown := strings.Join(skipped[:min(len(skipped), 10)], ", ")
	if more := len(skipped) - 10; more > 0 {
		shown += fmt.Sprintf(" and %d more", more)
	}
	return "; not tensors, and left out: " + shown
}
