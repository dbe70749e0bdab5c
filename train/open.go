package train

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/train/data"
)

// Open opens the recipe's data set: Data at Size, with Validation or Fold and Subset taken from its images to
// train on, normalised by Mean and Std; without these as m says, where it does, as it has learnt with that.
// Image files that no Size is given for are brought to the size and the channels of m's input. m may be nil.
//
// Which images are validated on depends on the data alone, so that runs of every seed, and cnnkit eval, take
// the same ones; the subset depends on the seed.
func (recipe Recipe) Open(ctx context.Context, m *onnxio.Model) (data.Splits, error) {
	size, err := recipe.size()
	if err != nil {
		return data.Splits{}, err
	}
	o := data.Options{Validation: recipe.Validation, Mean: recipe.Mean, Std: recipe.Std}
	o.Limits.NoEXIF, o.Ignore, o.Task, o.WeightColumn = recipe.NoEXIF, recipe.IgnoreIndex, recipe.Task,
		recipe.WeightColumn
	for k := range recipe.MaskClasses {
		o.MaskClasses = append(o.MaskClasses, strconv.Itoa(k))
	}
	if ofFiles(recipe.Data) {
		o = forModel(o, m)
		if size != [2]int{} {
			o.Size = size
		}
	}
	s, err := data.OpenWith(recipe.Data, o)
	if err != nil {
		return s, err
	}
	if mean, std := normalisation(m); o.Mean == nil && len(mean) == s.Train.Shape()[0] {
		if err := s.Normalise(mean, std); err != nil {
			return s, err
		}
	}
	if size != [2]int{} {
		if s.Train, err = atSize(s.Train, size); err != nil {
			return s, err
		}
		if s.Validation, err = atSize(s.Validation, size); err != nil {
			return s, err
		}
	}
	if _, divided := s.Train.(data.Subset); recipe.Validation > 0 && !divided {
		if s.Train, s.Validation, err = split(s.Train, recipe.Validation); err != nil {
			return s, fmt.Errorf("data set %s: %w", recipe.Data, err)
		}
	}
	if recipe.Fold != "" {
		if err := recipe.divide(&s); err != nil {
			return s, fmt.Errorf("data set %s: %w", recipe.Data, err)
		}
	}
	if p, ok := croppedInput(m, size); ok && ofFiles(recipe.Data) {
		if s.Validation, err = cropped(s.Validation, p); err != nil {
			return s, err
		}
	}
	if recipe.Subset > 0 {
		part, err := data.Take(s.Train, recipe.Subset, recipe.Seed, recipe.Stratified)
		if err != nil {
			return s, fmt.Errorf("data set %s: %w", recipe.Data, err)
		}
		s.Train = part
	}
	if recipe.InMemory {
		workers := cmp.Or(recipe.Workers, runtime.GOMAXPROCS(0))
		if s.Train, err = data.InMemory(ctx, s.Train, workers); err == nil {
			s.Validation, err = data.InMemory(ctx, s.Validation, workers)
		}
	}
	return s, err
}

// divide makes s the fold that Fold names.
func (recipe Recipe) divide(s *data.Splits) error {
	i, k, err := recipe.fold()
	if err != nil {
		return err
	}
	whole := s.Train
	if sub, ok := whole.(data.Subset); ok { // of a set without parts
		whole = sub.Dataset
	}
	folds, err := data.KFold(whole, k, 0)
	if err != nil {
		return err
	}
	s.Train, s.Validation = folds[i-1].Train, folds[i-1].Validation
	return nil
}

func split(ds data.Dataset, share float64) (train, validation data.Dataset, err error) {
	a, b, err := data.Split(ds, share, 0)
	return a, b, err
}

// ofFiles says that a word names image files, which can be read at any size.
func ofFiles(word string) bool {
	if scheme, _, ok := strings.Cut(word, ":"); ok && slices.Contains(data.Schemes(), scheme) {
		return true
	}
	name, _, _ := strings.Cut(word, "=")
	return slices.Contains([]string{"pets", "pets-breeds", "nuclei"}, name)
}

// forModel asks for images as a model takes them.
func forModel(o data.Options, m *onnxio.Model) data.Options {
	if m == nil || m.Graph == nil || len(m.Graph.Inputs) == 0 {
		return o
	}
	in, err := spec.Get(m)
	if err != nil {
		return o // of which the engine, or the comparison with the data, tells
	}
	if in.Input.Size[0] > 0 && in.Input.Size[1] > 0 {
		o.Size = in.Input.Size
	}
	axis := 1
	if in.Input.Layout == spec.NHWC {
		axis = 3
	}
	if _, said := m.Property("preprocessing"); said || m.Graph.Inputs[0].Type.Shape[axis].Known() {
		o.Channels = in.Input.Channels
	}
	if mean, std := normalisation(m); o.Mean == nil && len(mean) == o.Channels {
		o.Mean, o.Std = mean, std
	}
	return o
}

// normalisation is what a model says that it has learned with, or wants for its type, else nil.
func normalisation(m *onnxio.Model) (mean, std []float32) {
	if m == nil {
		return nil, nil
	}
	s, err := spec.Get(m)
	if _, said := m.Property("preprocessing"); err == nil && (said || s.Input.Type == "uint8") {
		return s.Input.Normal()
	}
	return nil, nil
}

// size reads Size: 128x128, height first, or 128.
func (recipe Recipe) size() ([2]int, error) {
	if recipe.Size == "" {
		return [2]int{}, nil
	}
	h, w, two := strings.Cut(recipe.Size, "x")
	if !two {
		w = h
	}
	height, err1 := strconv.Atoi(h)
	width, err2 := strconv.Atoi(w)
	if err1 != nil || err2 != nil || height < 1 || width < 1 {
		return [2]int{}, fmt.Errorf("size is %q: it wants HEIGHTxWIDTH such as 128x128", recipe.Size)
	}
	return [2]int{height, width}, nil
}

// fold reads Fold: 2/5 is the second of five.
func (recipe Recipe) fold() (i, k int, err error) {
	if recipe.Fold == "" {
		return 0, 0, nil
	}
	first, second, _ := strings.Cut(recipe.Fold, "/")
	i, err1 := strconv.Atoi(first)
	k, err2 := strconv.Atoi(second)
	if err1 != nil || err2 != nil || k < 2 || i < 1 || i > k {
		return 0, 0, fmt.Errorf("fold is %q: it wants I/K such as 2/5, the second of five", recipe.Fold)
	}
	return i, k, nil
}

// ValidateData names the first of the fields that Open reads that makes no sense.
func (recipe Recipe) ValidateData() error {
	switch {
	case recipe.Stratified && recipe.Subset == 0:
		return fmt.Errorf("stratified goes with subset: say how many images")
	case !(recipe.Validation >= 0 && recipe.Validation < 1):
		return fmt.Errorf("validation is %v: a share in (0,1) is wanted", recipe.Validation)
	case recipe.Task != "" && !slices.Contains(data.Tasks(), string(recipe.Task)):
		return fmt.Errorf("task is %q: %s is wanted", recipe.Task, strings.Join(data.Tasks(), " or "))
	case recipe.MaskClasses < 0 || recipe.MaskClasses == 1 || recipe.MaskClasses > 256:
		return fmt.Errorf("mask_classes is %d: 2 to 256 are wanted, background included", recipe.MaskClasses)
	case recipe.IgnoreIndex != nil && recipe.MaskClasses == 0:
		return fmt.Errorf("ignore_index goes with mask_classes: say how many classes the masks have")
	case recipe.IgnoreIndex != nil && (*recipe.IgnoreIndex < 0 || *recipe.IgnoreIndex > 255 ||
		recipe.MaskClasses > data.Void):
		return fmt.Errorf("ignore_index is %d of %d classes: 0 to 255, of at most 255 classes, is possible",
			*recipe.IgnoreIndex, recipe.MaskClasses)
	case recipe.Validation > 0 && recipe.Fold != "":
		return fmt.Errorf("validation and fold both say which images to validate on: give one of them")
	case len(recipe.Mean) != len(recipe.Std):
		return fmt.Errorf("mean has %d numbers and std %d: both want one a channel", len(recipe.Mean),
			len(recipe.Std))
	}
	if _, _, err := recipe.fold(); err != nil {
		return err
	}
	_, err := recipe.size()
	return err
}

// resized is a data set of labelled images at another size.
type resized struct {
	data.Source
	shape [3]int
}

// atSize is the data set with images of a size.
func atSize(ds data.Dataset, size [2]int) (data.Dataset, error) {
	shape := ds.Shape()
	if size == [2]int{shape[1], shape[2]} {
		return ds, nil
	}
	src, err := data.SourceOf(ds)
	if err != nil {
		return nil, err
	}
	return resized{src, [3]int{shape[0], size[0], size[1]}}, nil
}

// Unwrap implements data.Wrapper.
func (d resized) Unwrap() data.Source { return d.Source }

// Shape is [C,H,W].
func (d resized) Shape() [3]int { return d.shape }

// Fill implements data.Dataset.
func (d resized) Fill(x, target *onnxio.Tensor, indices []int) error {
	in, labels := x.Float32s(), onnxio.Data[int64](target)
	per := d.shape[0] * d.shape[1] * d.shape[2]
	if len(in) != len(indices)*per || len(labels) != len(indices) {
		return fmt.Errorf("a batch of %d images of %v does not fit %v and %v", len(indices), d.shape, x.Dims,
			target.Dims)
	}
	for n, i := range indices {
		s, err := d.Sample(i)
		if err != nil {
			return err
		}
		s = s.Resized(d.shape[1], d.shape[2])
		d.Norm().Apply(in[n*per:(n+1)*per], s.Pixels)
		labels[n] = int64(s.Label)
	}
	return nil
}
