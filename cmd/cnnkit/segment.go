package main

import (
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

func segmentCommand() *cli.Command {
	return &cli.Command{
		Name: "segment", Usage: "draw the masks that a model finds in images", UsageText: "cnnkit segment MODEL IMAGE... --out DIR [--engine E] [--json]",
		Description: `For each image DIR gets NAME.mask.png and NAME.overlay.png, both of the image's size. One output channel is foreground
where its probability is above --threshold; of several channels the largest wins, and the mask's palette index is the
class.

  cnnkit segment unet.onnx cells.png --out masks`,
		Flags: append(engineFlags(), jsonFlag(), outFlag("the `DIR` to write"),
			&cli.Float64Flag{Name: "threshold", Value: 0.5, Usage: "probability from which a pixel is foreground"},
			&cli.IntFlag{Name: "batch", Value: 1, Usage: "images at a time"}),
		Action: func(c *cli.Context) error {
			dir, err := required(c, "out")
			if err != nil {
				return err
			}
			if t := c.Float64("threshold"); !(t > 0 && t < 1) {
				return usageError("--threshold must be between 0 and 1")
			}
			p, err := openPictures(c)
			if err != nil {
				return err
			}
			defer p.session.Close()
			names, err := outputNames(p.files)
			if err != nil {
				return err
			}
			if err := saved(os.MkdirAll(dir, 0o777)); err != nil {
				return err
			}
			var rows []segmentation
			err = p.each(c, func(files []picture, y *onnxio.Tensor) error {
				masks, err := vision.Masks(y, vision.ScaleOf(p.model), c.Float64("threshold"))
				if err != nil {
					return badFile{fmt.Errorf("%s: %w", p.path, err)}
				}
				for i, f := range files {
					row, err := writeMask(filepath.Join(dir, names[f.file]), f, masks[i])
					if err != nil {
						return err
					}
					rows = append(rows, row)
				}
				return nil
			})
			if err != nil {
				return err
			}
			if err := reportSegmentations(c, rows); err != nil {
				return err
			}
			return p.failure()
		},
	}
}

type segmentation struct {
	File       string  `json:"file"`
	Mask       string  `json:"mask"`
	Overlay    string  `json:"overlay"`
	Foreground float64 `json:"foreground"` // share of the pixels that are not class 0
}

func writeMask(stem string, p picture, m vision.Mask) (segmentation, error) {
	b := p.image.Bounds()
	m = m.Resized(b.Dx(), b.Dy())
	s := segmentation{File: p.file, Mask: stem + ".mask.png", Overlay: stem + ".overlay.png", Foreground: m.Share()}
	if err := writePNG(s.Mask, m.Image()); err != nil {
		return s, err
	}
	return s, writePNG(s.Overlay, vision.Overlay(p.image, m))
}

func writePNG(path string, img image.Image) error {
	return saved(onnxio.WriteFile(path, func(w io.Writer) error { return png.Encode(w, img) }))
}

// outputNames gives each file its name in the output folder: without the extension, unless two would be the same.
func outputNames(files []string) (map[string]string, error) {
	stem := func(f string) string { return strings.TrimSuffix(filepath.Base(f), filepath.Ext(f)) }
	for _, name := range []func(string) string{stem, filepath.Base} {
		out, taken := map[string]string{}, map[string]bool{}
		for _, f := range files {
			out[f] = name(f)
			taken[name(f)] = true
		}
		if len(taken) == len(out) {
			return out, nil
		}
	}
	return nil, usageError("images of the same name from different folders would overwrite each other in --out: give them one folder at a time")
}

func reportSegmentations(c *cli.Context, rows []segmentation) error {
	if c.Bool("json") {
		return printJSON(c, rows)
	}
	for _, r := range rows {
		fmt.Fprintf(c.App.Writer, "%s: %.1f%% foreground, %s, %s\n", r.File, 100*r.Foreground, r.Mask, r.Overlay)
	}
	return nil
}
