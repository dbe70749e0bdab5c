package main

import (
	"cmp"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/vision"
	"github.com/cnnkit/cnnkit/train/data"
	"github.com/cnnkit/cnnkit/train/report"
)

func segmentCommand() *cli.Command {
	return &cli.Command{
		Name: "segment", Usage: "draw the masks that a model finds in images",
		UsageText: "cnnkit segment MODEL IMAGE... --out DIR [--compare [--masks DIR]] [--engine E] [--json]",
		Description: `For each image DIR gets NAME.mask.png and NAME.overlay.png, both of the image's size. One output channel is foreground
where its probability is above --threshold; of several channels the largest wins, and the mask's palette index is the
class.

With --compare DIR also gets NAME.compare.png: the image, the truth and the prediction side by side. The truth is the file
of --masks with the image's name, but for the extension and a _mask at its end, and of the image's size; without --masks
there are the image and the prediction. --mask-coding says what its values mean: binary (0 and 1, or 0 and 255), indexed
(the class), or trimap (1 and 3 foreground, 2 background, as in the Oxford-IIIT Pet set).

  cnnkit segment unet.onnx cells.png --out masks
  cnnkit segment unet.onnx pets/images --out masks --compare --masks pets/trimaps --mask-coding trimap`,
		Flags: append(slices.Concat(engineFlags(), specFlags(), fieldFlags("no_exif")), jsonFlag(),
			outFlag("the `DIR` to write"),
			&cli.Float64Flag{Name: "threshold", Value: 0.5,
				Usage: "probability from which a pixel is foreground"},
			&cli.BoolFlag{Name: "compare", Usage: "also draw input, truth and prediction side by side"},
			&cli.StringFlag{Name: "masks", Usage: "the `DIR` of the true masks, for --compare"},
			&cli.StringFlag{Name: "mask-coding",
				Usage: "what the true masks' values are: binary, indexed or trimap (default: binary; of several classes indexed)"},
			&cli.IntFlag{Name: "batch", Value: 1, Usage: "images at a time"}),
		Action: func(c *cli.Context) error {
			dir, err := required(c, "out")
			if err != nil {
				return err
			}
			if t := c.Float64("threshold"); !(t > 0 && t < 1) {
				return usageError("--threshold must be between 0 and 1")
			}
			coding, err := maskCoding(c)
			if err != nil {
				return err
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
			truths, err := trueMasks(c.String("masks"), p.files)
			if err != nil {
				return err
			}
			if err := saved(os.MkdirAll(dir, 0o777)); err != nil {
				return err
			}
			var rows []segmentation
			err = p.each(c, func(files []picture, y *onnxio.Tensor) error {
				masks, err := vision.Masks(y, p.spec.Output.Scale, c.Float64("threshold"))
				if err != nil {
					return badFile{fmt.Errorf("%s: %w", p.path, err)}
				}
				for i, f := range files {
					stem := filepath.Join(dir, names[f.file])
					row, err := writeMask(stem, f, masks[i])
					if err != nil {
						return err
					}
					if c.Bool("compare") {
						if err := row.compare(stem, f, truths[f.file],
							truthConfig(c, coding, masks[i].Classes), masks[i]); errors.As(err,
							new(badFile)) {
							p.failed++
							fmt.Fprintf(c.App.ErrWriter, "cnnkit: %s\n", strings.TrimSpace(err.Error()))
						} else if err != nil {
							return err
						}
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
	Compare    string  `json:"compare,omitempty"`

	*report.Agreement // with the true mask
}

// maskCoding reads --mask-coding; "" leaves it to the number of classes.
func maskCoding(c *cli.Context) (string, error) {
	coding := c.String("mask-coding")
	switch {
	case c.String("masks") != "" && !c.Bool("compare"):
		return "", usageError("--masks goes with --compare")
	case coding != "" && c.String("masks") == "":
		return "", usageError("--mask-coding goes with --masks")
	case !slices.Contains([]string{"", "binary", "indexed", "trimap"}, coding):
		return "", usageError("--mask-coding is binary, indexed or trimap, not %q", coding)
	}
	return coding, nil
}

// trueMasks finds each image's mask in dir; "" has none.
func trueMasks(dir string, files []string) (map[string]string, error) {
	out := map[string]string{}
	if dir == "" {
		return out, nil
	}
	if info, err := os.Stat(dir); err != nil {
		return nil, badFile{err}
	} else if !info.IsDir() {
		return nil, usageError("--masks %s is no folder", dir)
	}
	found, err := vision.Files([]string{dir})
	if err != nil {
		return nil, badFile{err}
	}
	of := map[string]string{}
	for _, f := range found {
		if other, ok := of[stem(f)]; ok {
			return nil, badFile{fmt.Errorf(
				"%s and %s have the same name but for the extension: which of them is meant?", other, f)}
		}
		of[stem(f)] = f
	}
	for _, f := range files {
		mask := cmp.Or(of[stem(f)], of[stem(f)+"_mask"])
		if mask == "" {
			return nil, badFile{fmt.Errorf("%s: no mask of that name in %s", f, dir)}
		}
		out[f] = mask
	}
	return out, nil
}

// compare draws the prediction beside the image and, where there is its file, the truth. An
// error of that is a badFile.
func (s *segmentation) compare(stem string, p picture, truthFile string, cfg data.FilesConfig,
	m vision.Mask) error {
	var truth *vision.Mask
	b := p.image.Bounds()
	if truthFile != "" {
		t, err := readMask(p, truthFile, cfg)
		if err != nil {
			return badFile{err}
		}
		a := report.Overlap(t, m.Resized(b.Dx(), b.Dy()))
		truth, s.Agreement = &t, &a
	}
	img, err := report.Compare(p.image, truth, m)
	if err != nil {
		return err
	}
	s.Compare = stem + ".compare.png"
	return writePNG(s.Compare, img)
}

// truthConfig says how true masks of so many classes are read: as training reads them.
func truthConfig(c *cli.Context, coding string, classes int) data.FilesConfig {
	cfg := data.FilesConfig{Classes: make([]string, classes), Size: [2]int{1, 1},
		Limits: vision.Limits{NoEXIF: c.Bool("no-exif")}}
	switch {
	case coding == "trimap":
		cfg.Coding = data.Trimap
	case coding == "indexed" || coding == "" && classes > 2:
		cfg.Coding = data.Indexed
	}
	return cfg
}

// readMask reads a true mask.
func readMask(p picture, file string, cfg data.FilesConfig) (vision.Mask, error) {
	ds, err := data.NewFiles([]data.Item{{Image: p.file, Mask: file}}, cfg)
	if err != nil {
		return vision.Mask{}, err
	}
	s, err := ds.Sample(0)
	return vision.Mask{W: s.W, H: s.H, Classes: len(cfg.Classes), Pixels: s.Mask}, err
}

func writeMask(stem string, p picture, m vision.Mask) (segmentation, error) {
	b := p.image.Bounds()
	m = m.Resized(b.Dx(), b.Dy())
	s := segmentation{File: p.file, Mask: stem + ".mask.png", Overlay: stem + ".overlay.png",
		Foreground: m.Share()}
	if err := writePNG(s.Mask, m.Image()); err != nil {
		return s, err
	}
	return s, writePNG(s.Overlay, vision.Overlay(p.image, m))
}

func writePNG(path string, img image.Image) error {
	return saved(onnxio.WriteFile(path, func(w io.Writer) error { return png.Encode(w, img) }))
}

// stem is a file's name without folder and extension.
func stem(f string) string { return strings.TrimSuffix(filepath.Base(f), filepath.Ext(f)) }

// outputNames gives each file its name in the output folder: without the extension,
// unless two would be the same.
func outputNames(files []string) (map[string]string, error) {
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
	return nil, usageError(
		"images of the same name from different folders would overwrite each other in --out: give them one folder at a time")
}

func reportSegmentations(c *cli.Context, rows []segmentation) error {
	if c.Bool("json") {
		return printJSON(c, rows)
	}
	iou, n := 0.0, 0
	for _, r := range rows {
		fmt.Fprintf(c.App.Writer, "%s: %.1f%% foreground, %s, %s", r.File, 100*r.Foreground,
			r.Mask, r.Overlay)
		if r.Compare != "" {
			fmt.Fprintf(c.App.Writer, ", %s", r.Compare)
		}
		if r.Agreement != nil {
			fmt.Fprintf(c.App.Writer, ", IoU %.3f", r.IoU)
			iou, n = iou+r.IoU, n+1
		}
		fmt.Fprintln(c.App.Writer)
	}
	if n > 1 {
		fmt.Fprintf(c.App.Writer, "mean IoU %.3f of %d images\n", iou/float64(n), n)
	}
	return nil
}
