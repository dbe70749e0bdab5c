package main

import (
	"errors"
	"fmt"
	"image"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

func predictCommand() *cli.Command {
	return &cli.Command{
		Name: "predict", Usage: "classify images",
		UsageText: "cnnkit predict MODEL IMAGE... [--top 5] [--engine E] [--json] [--shard I/N] [--out FILE]",
		Description: `Images are PNG, JPEG, GIF, BMP, TIFF or WebP files, or folders of them. How they are prepared, and the labels, come
from the model's metadata, as train and 'spec set' write it; of a model that says nothing, from the flags. Photographs are
turned upright by their EXIF orientation, and transparent pixels have the color that the file gives them.

With --out there is a JSON line an image in FILE, also for those that cannot be read; the same command goes on with a FILE
where a run was ended.

  cnnkit predict lenet5-mnist/model.onnx seven.png
  cnnkit predict lenet5-mnist/model.onnx digits/ --top 1 --json
  cnnkit predict lenet5-mnist/model.onnx digits/ --shard 2/8 --out digits-{shard}.jsonl
  cnnkit predict resnet18.onnx photo.jpg --preset imagenet --labels imagenet.txt`,
		Flags: append(slices.Concat(engineFlags(), specFlags(), fieldFlags("thresholds", "no_exif"),
			shardFlags()), jsonFlag(),
			outFlag("write JSON lines to `FILE`, in which {shard} is the part's number"),
			&cli.IntFlag{Name: "top", Value: 5, Usage: "classes to show for each image"},
			&cli.IntFlag{Name: "batch", Value: 32, Usage: "images at a time"}),
		Action: func(c *cli.Context) error {
			if c.Int("top") < 1 {
				return usageError("--top must be at least 1")
			}
			part, err := shardOf(c)
			if err != nil {
				return err
			}
			p, err := openPictures(c)
			if err != nil {
				return err
			}
			defer p.session.Close()
			if c.String("out") != "" {
				p.files = part.of(unique(p.files))
				return p.predictInto(c, part)
			}
			p.files = part.of(p.files)
			var rows []prediction
			if err := p.predict(c, func(some []prediction) error {
				rows = append(rows, some...)
				return nil
			}); err != nil {
				return err
			}
			if err := reportPredictions(c, rows); err != nil {
				return err
			}
			return p.failure()
		},
	}
}

// predict hands over the answers of each batch.
func (p *pictures) predict(c *cli.Context, use func([]prediction) error) error {
	return p.each(c, func(files []picture, y *onnxio.Tensor) error {
		tops, err := vision.Answers(y, p.spec.Output, c.Int("top"), p.spec.Labels)
		if err != nil {
			return badFile{fmt.Errorf("%s: %w", p.path, err)}
		}
		rows := make([]prediction, len(files))
		for i, f := range files {
			rows[i] = prediction{f.file, tops[i]}
		}
		return use(rows)
	})
}

// predictInto writes a line for each image that has none yet.
func (p *pictures) predictInto(c *cli.Context, part shard) error {
	all := len(p.files)
	r, err := openResults(c.String("out"), part, p.model, p.files, c.Int("top"))
	if err != nil {
		return err
	}
	p.files = r.left(p.files)
	if n := all - len(p.files); n > 0 {
		fmt.Fprintf(c.App.ErrWriter, "cnnkit: %s has %d of %d images already\n", r.path, n, all)
	}
	p.bad = func(file string, err error) error { return r.add(vision.Result{File: file, Error: err.Error()}) }
	err = p.predict(c, func(rows []prediction) error {
		lines := make([]vision.Result, len(rows))
		for i, row := range rows {
			lines[i] = vision.Result{File: row.File, Top: row.Top}
		}
		return r.add(lines...)
	})
	if err := errors.Join(err, r.close()); err != nil {
		return err
	}
	fmt.Fprintln(c.App.Writer, r.path)
	p.failed += r.bad
	p.total = all
	return p.failure()
}

type prediction struct {
	File string         `json:"file"`
	Top  []vision.Guess `json:"top"`
}

func reportPredictions(c *cli.Context, rows []prediction) error {
	if c.Bool("json") {
		return printJSON(c, rows)
	}
	t := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		file := r.File
		for _, g := range r.Top {
			switch {
			case g.Value != nil:
				fmt.Fprintf(t, "%s\t%s\t%.6g\n", file, g.Label, *g.Value)
			case g.Given != nil:
				fmt.Fprintf(t, "%s\t%s\t%6.2f%%\t%s\n", file, g.Label, 100*g.Probability,
					map[bool]string{true: "yes", false: "no"}[*g.Given])
			default:
				fmt.Fprintf(t, "%s\t%s\t%6.2f%%\n", file, g.Label, 100*g.Probability)
			}
			file = ""
		}
	}
	return t.Flush()
}

// picture is one image on its way through the model.
type picture struct {
	file  string
	image image.Image
}

// pictures are the images of a command line and the model that they go through.
type pictures struct {
	path    string
	model   *onnxio.Model
	session runtime.Session
	spec    spec.Spec
	files   []string
	failed  int
	total   int                                // of the images; 0: files
	bad     func(file string, err error) error // of an image that cannot be read; nil: it is only said
}

// openPictures reads the arguments MODEL IMAGE...
func openPictures(c *cli.Context) (*pictures, error) {
	if c.NArg() < 2 {
		return nil, usageError("cnnkit %s takes a MODEL and at least one IMAGE or folder: %s", c.Command.Name,
			c.Command.UsageText)
	}
	if c.Int("batch") < 1 {
		return nil, usageError("--batch must be at least 1")
	}
	p := &pictures{path: c.Args().First()}
	var err error
	if p.model, err = loadModel(p.path); err != nil {
		return nil, err
	}
	if err := respecify(c, p.model, p.path); err != nil {
		return nil, err
	}
	if p.spec, err = spec.Get(p.model); err != nil {
		return nil, badFile{fmt.Errorf("%s: %w", p.path, err)}
	}
	if p.files, err = vision.Files(c.Args().Tail()); err != nil {
		return nil, badFile{err}
	}
	if _, said := p.model.Property("preprocessing"); !said {
		fmt.Fprintf(c.App.ErrWriter,
			"cnnkit: %s does not say how images are prepared: taking values from 0 to 1\n", p.path)
	}
	p.session, err = openSession(c, p.model, p.path)
	return p, err
}

// each runs the images in batches of one size and hands over the model's first output. An image that cannot
// be read is reported and skipped.
func (p *pictures) each(c *cli.Context, use func([]picture, *onnxio.Tensor) error) error {
	run := vision.Of(p.session, p.spec.Input)
	flush := func(b vision.Batch[picture]) error {
		y, err := b.Run(c.Context, run)
		if err != nil {
			return fmt.Errorf("%s: %w", p.path, err)
		}
		return use(b.Of, y)
	}
	batches := vision.Batcher[picture]{Input: p.spec.Input, Limit: c.Int("batch")}
	for _, file := range p.files {
		img, err := vision.Load(file, vision.Limits{NoEXIF: c.Bool("no-exif")})
		if err != nil {
			p.failed++
			fmt.Fprintf(c.App.ErrWriter, "cnnkit: %s\n", strings.TrimSpace(err.Error()))
			if p.bad != nil {
				if err := p.bad(file, err); err != nil {
					return err
				}
			}
			continue
		}
		if full, ready := batches.Add(picture{file, img}, img); ready {
			if err := flush(full); err != nil {
				return err
			}
		}
	}
	if rest, ready := batches.Rest(); ready {
		return flush(rest)
	}
	return nil
}

func (p *pictures) failure() error {
	if p.failed == 0 {
		return nil
	}
	return badFile{fmt.Errorf("%d of %d images could not be read", p.failed, max(p.total, len(p.files)))}
}
