package data

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

// Item is a sample of Files: an image file with its class, or with the file of its mask.
type Item struct {
	Image string
	Mask  string // "" where labels are the targets
	Label int

	Numbers []float32 // the target, where it is numbers: one for each of FilesConfig.Classes
	Weight  float64   // where FilesConfig.Weighted
}

// Files is a Dataset of image files, decoded when they are asked for.
type Files struct {
	items  []Item
	size   [3]int
	exact  bool // every file must have the size
	names  []string
	coding MaskCoding
	ignore *int
	norm   *Norm

	weights []float64
	limits  vision.Limits
}

// FilesConfig says how Files reads its items; names of classes are all that it cannot do without.
type FilesConfig struct {
	Classes []string
	// height and width of a batch's images; 0: that of the files, which must be of one size
	Size      [2]int
	Channels  int       // 3 (RGB) or 1 (grey); 0: 3
	Mean, Std []float32 // nil: ImageNet's, or for grey their means
	Coding    MaskCoding
	Ignore    *int // of Indexed masks: the value that does not count, Void in the samples
	Weighted  bool // the items have weights
	Limits    vision.Limits
}

// Normalisation where nothing else is said: that of ImageNet, which models trained elsewhere expect.
var (
	imagenetMean, imagenetStd = []float32{0.485, 0.456, 0.406}, []float32{0.229, 0.224, 0.225}
	greyMean, greyStd         = []float32{0.449}, []float32{0.226}
)

// maxSide bounds the height and the width that a batch may be asked for.
const maxSide = 1 << 14

// NewFiles checks the items: that they are files, their classes, and, when no size is given, that the
// first of them are of one size.
func NewFiles(items []Item, cfg FilesConfig) (*Files, error) {
	if len(items) == 0 {
		return nil, errors.New("no images")
	}
	if len(cfg.Classes) == 0 {
		return nil, errors.New("no classes")
	}
	if cfg.Ignore != nil && (*cfg.Ignore < 0 || *cfg.Ignore > 255 || len(cfg.Classes) > Void) {
		return nil, fmt.Errorf(
			"ignoring label %d of %d classes: 0 to 255, of at most 255 classes, is possible", *cfg.Ignore,
			len(cfg.Classes))
	}
	d := &Files{items: items, names: cfg.Classes, coding: cfg.Coding, ignore: cfg.Ignore, limits: cfg.Limits}
	d.size[0] = cfg.Channels
	mean, std := cfg.Mean, cfg.Std
	switch cfg.Channels {
	case 0, 3:
		d.size[0] = 3
		if mean == nil && std == nil {
			mean, std = imagenetMean, imagenetStd
		}
	case 1:
		if mean == nil && std == nil {
			mean, std = greyMean, greyStd
		}
	default:
		return nil, fmt.Errorf("%d channels: 3 (RGB) or 1 (grey) can be made of a file", cfg.Channels)
	}
	if len(mean) != d.size[0] || len(std) != d.size[0] {
		return nil, fmt.Errorf("%d means and %d deviations for %d channels", len(mean), len(std), d.size[0])
	}
	var err error
	if d.norm, err = NewNorm(mean, std); err != nil {
		return nil, err
	}
	for _, it := range items {
		if (it.Mask != "") != (items[0].Mask != "") {
			return nil, fmt.Errorf("%s: some images have masks and some have none", it.Image)
		}
		if n := len(it.Numbers); n != len(items[0].Numbers) || n > 0 && n != len(cfg.Classes) {
			return nil, fmt.Errorf("%s: a target of %d numbers, where there are %d names", it.Image, n,
				len(cfg.Classes))
		}
		if it.Mask == "" && it.Numbers == nil && (it.Label < 0 || it.Label >= len(cfg.Classes)) {
			return nil, fmt.Errorf("%s: label %d is out of range: there are %d classes", it.Image, it.Label,
				len(cfg.Classes))
		}
	}
	if cfg.Weighted {
		for _, it := range items {
			if !isWeight(it.Weight) {
				return nil, fmt.Errorf("%s: weight %v: a finite number that is not negative is wanted",
					it.Image, it.Weight)
			}
			d.weights = append(d.weights, it.Weight)
		}
	}
	return d, d.setSize(cfg.Size)
}

// Weights are those of the items.
func (d *Files) Weights() []float64 { return d.weights }

func (d *Files) setSize(size [2]int) error {
	if size == [2]int{} {
		d.exact = true
		for i, it := range d.items[:min(len(d.items), 32)] {
			w, h, err := header(it.Image, d.limits)
			if err != nil {
				return err
			}
			if i == 0 {
				size = [2]int{h, w}
			} else if size != [2]int{h, w} {
				return fmt.Errorf("the images differ in size (%s is %dx%d, %s %dx%d): say which size they are to be brought to",
					d.items[0].Image, size[1], size[0], it.Image, w, h)
			}
		}
	}
	if size[0] <= 0 || size[1] <= 0 || size[0] > maxSide || size[1] > maxSide {
		return fmt.Errorf("size %dx%d (height, width): 1 to %d are possible", size[0], size[1], maxSide)
	}
	d.size[1], d.size[2] = size[0], size[1]
	return nil
}

// regular refuses what is no plain file before it is opened, since opening a pipe would wait for its writer.
func regular(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing: put it there, or take it out of the set: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &onnxio.FormatError{Format: "image", Path: path, Msg: "not a regular file"}
	}
	return nil
}

// header reads an image's dimensions, upright.
func header(path string, lim vision.Limits) (w, h int, err error) {
	if err := regular(path); err != nil {
		return 0, 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	w, h, err = vision.Size(f, lim)
	if limit := new(onnxio.LimitError); errors.As(err, &limit) {
		return 0, 0, fmt.Errorf("%s: %w", path, err)
	}
	if err != nil {
		return 0, 0, damaged(path, err)
	}
	return w, h, nil
}

// load decodes a file within the limits; every error names it.
func load(path string, lim vision.Limits) (image.Image, error) {
	if err := regular(path); err != nil {
		return nil, err
	}
	img, err := vision.Load(path, lim)
	if format := new(onnxio.FormatError); errors.As(err, &format) {
		if format.Err != nil { // the decoder's own words
			return nil, damaged(path, format.Err)
		}
		return nil, damaged(path, format)
	}
	return img, err
}

// damaged says what to do about an image that cannot be decoded.
func damaged(path string, err error) error {
	return &onnxio.FormatError{Format: "image", Path: path,
		Msg: "damaged, or no image: replace the file, or take it out of the set", Err: err}
}

// Len is the number of images.
func (d *Files) Len() int { return len(d.items) }

// Shape is [C,H,W] of a batch's images.
func (d *Files) Shape() [3]int { return d.size }

// Classes names the classes.
func (d *Files) Classes() []string { return d.names }

// Label is the class of an image.
func (d *Files) Label(i int) int { return d.items[i].Label }

// Where is the image's path.
func (d *Files) Where(i int) string { return d.items[i].Image }

// Item is a sample's files.
func (d *Files) Item(i int) Item { return d.items[i] }

// Masked says that there are masks.
func (d *Files) Masked() bool { return d.items[0].Mask != "" }

// Width is how many numbers a target has.
func (d *Files) Width() int { return len(d.items[0].Numbers) }

// Norm is the normalisation.
func (d *Files) Norm() *Norm { return d.norm }

// Sample decodes an image, and its mask, at the size of the file.
func (d *Files) Sample(i int) (Sample, error) {
	if i < 0 || i >= len(d.items) {
		return Sample{}, fmt.Errorf("image %d of %d", i, len(d.items))
	}
	it := d.items[i]
	img, err := load(it.Image, d.limits)
	if err != nil {
		return Sample{}, err
	}
	s := Planes(img, d.size[0])
	s.Label, s.Numbers = it.Label, it.Numbers
	if d.exact && (s.H != d.size[1] || s.W != d.size[2]) {
		return Sample{}, fmt.Errorf("%s is %dx%d, others %dx%d: say which size they are to be brought to",
			it.Image, s.W, s.H, d.size[2], d.size[1])
	}
	if it.Mask != "" {
		if s.Mask, err = d.mask(it.Mask); err != nil {
			return Sample{}, err
		}
		if len(s.Mask) != s.H*s.W {
			w, h, _ := header(it.Mask, d.limits)
			return Sample{}, &onnxio.FormatError{Format: "mask", Path: it.Mask,
				Msg: fmt.Sprintf("%dx%d pixels, and its image %s has %dx%d: bring both to one size", w, h,
					it.Image, s.W, s.H)}
		}
	}
	return s, nil
}

// Fill decodes, resizes and normalizes.
func (d *Files) Fill(x, target *onnxio.Tensor, indices []int) error {
	return Fill(d, x, target, indices)
}

// Fill is Dataset.Fill of a Source: its samples, resized to its shape and normalized.
func Fill(d Source, x, target *onnxio.Tensor, indices []int) error {
	b, err := newBatchView(d, x, target, len(indices))
	if err != nil {
		return err
	}
	for n, i := range indices {
		s, err := d.Sample(i)
		if err != nil {
			return err
		}
		if err := b.put(n, s, d.Norm()); err != nil {
			return fmt.Errorf("%s: %w", d.Where(i), err)
		}
	}
	return nil
}

// each calls f for every sample on several goroutines, until ctx ends or f gives an error. The error is that
// of the first sample that has one.
func each(ctx context.Context, n, workers int, f func(i int) error) error {
	errs := make([]error, max(workers, 1))
	at := make([]int, len(errs))
	var next atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for !stop.Load() && ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(i); err != nil {
					errs[w], at[w] = err, i
					stop.Store(true)
					return
				}
			}
		})
	}
	wg.Wait()
	first := -1
	for w, err := range errs {
		if err != nil && (first < 0 || at[w] < at[first]) {
			first = w
		}
	}
	if first >= 0 {
		return errs[first]
	}
	return context.Cause(ctx)
}

// maxInMemory bounds what InMemory holds.
const maxInMemory = 8 << 30

// InMemory decodes a whole data set at the size of its batches, so that an epoch decodes
// nothing: what small sets want. Its 8-bit pixels and masks may take 8 GiB at most; a set of
// more than 256 classes stays as it is.
func InMemory(ctx context.Context, ds Dataset, workers int) (Dataset, error) {
	src, err := SourceOf(ds)
	if err != nil {
		return nil, err
	}
	shape, n := src.Shape(), src.Len()
	area := shape[1] * shape[2]
	per := shape[0] * area
	if total := int64(n) * int64(per+area); total > maxInMemory {
		return nil, &onnxio.LimitError{What: "bytes of a data set in memory", Got: total, Limit: maxInMemory}
	}
	if _, ok := src.(*Images); ok || len(src.Classes()) > 256 {
		return ds, nil
	}
	d := &Images{Size: shape, Names: src.Classes(), norm: src.Norm(), weights: Weights(ds),
		Pixels: make([]uint8, n*per), Labels: make([]uint8, n)}
	if src.Masked() {
		d.Masks = make([]uint8, n*area)
	}
	if k := src.Width(); k > 0 {
		d.numbers = make([]float32, n*k)
	}
	err = each(ctx, n, workers, func(i int) error {
		s, err := src.Sample(i)
		if err != nil {
			return err
		}
		s = s.Resized(shape[1], shape[2])
		copy(d.Pixels[i*per:(i+1)*per], s.Pixels)
		d.Labels[i] = uint8(s.Label)
		if d.Masks != nil {
			copy(d.Masks[i*area:(i+1)*area], s.Mask)
		}
		if k := d.Width(); k > 0 {
			copy(d.numbers[i*k:(i+1)*k], s.Numbers)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Sound decodes every sample and gives the subset of those that can be decoded, with the
// errors of the others, which name their files: for a caller who would rather skip corrupt
// images, and count them, than stop.
func Sound(ctx context.Context, ds Dataset, workers int) (Subset, []error, error) {
	src, err := SourceOf(ds)
	if err != nil {
		return Subset{}, nil, err
	}
	bad := make([]error, src.Len())
	err = each(ctx, src.Len(), workers, func(i int) error {
		_, bad[i] = src.Sample(i)
		return nil
	})
	if err != nil {
		return Subset{}, nil, err
	}
	sub := Subset{Dataset: ds}
	var errs []error
	for i, err := range bad {
		if err == nil {
			sub.Indices = append(sub.Indices, i)
		} else {
			errs = append(errs, err)
		}
	}
	if len(sub.Indices) == 0 {
		return sub, errs, fmt.Errorf("none of %d images can be read: %w", src.Len(), errs[0])
	}
	return sub, errs, nil
}
