package data

import (
	"fmt"
	"math/rand/v2"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Dataset gives samples by index. It is safe for concurrent use.
type Dataset interface {
	// Len is the number of samples.
	Len() int
	// Shape is [C,H,W] of the input.
	Shape() [3]int
	// Classes names the classes, in the order of the labels, or of the values of a mask.
	Classes() []string
	// Fill writes the samples of the indices into x [N,C,H,W] float32 and target, of the
	// form that NewBatch gives it.
	Fill(x, target *onnxio.Tensor, indices []int) error
}

// Source is a Dataset that also gives its samples as they are before normalisation, which is what transforms,
// loaders and splits work on. Every data set that Open gives is one, and SourceOf finds it behind subsets.
type Source interface {
	Dataset
	// Sample decodes a sample. Its image may be larger or smaller than Shape, and may lie in the data set's
	// memory: it is to be read only.
	Sample(i int) (Sample, error)
	// Label is the class of a sample, known without decoding it; 0 where masks are the targets.
	Label(i int) int
	// Where names a sample in errors and reports: its file, or its number.
	Where(i int) string
	// Masked says that the targets are masks.
	Masked() bool
	// Width is how many numbers a target has; 0 where labels or masks are the targets. Classes names them.
	Width() int
	// Norm is how pixels become inputs.
	Norm() *Norm
}

// Sample is a decoded image with what is to be learnt of it.
type Sample struct {
	C, H, W int
	Pixels  []uint8 // [C,H,W]
	Mask    []uint8 // [H,W], a class for each pixel; nil where labels are the targets
	Label   int
	Numbers []float32 // the target, where it is numbers: values to predict, or 0 and 1 of several labels
	// Values [C,H,W] are taken for the input in place of normalised Pixels. Data sets leave it
	// nil; a transform may set it.
	Values []float32
}

// Splits is a data set in its two parts.
type Splits struct {
	Name       string
	Train      Dataset
	Validation Dataset
	Mean, Std  []float32 // with which the inputs are normalised
}

// Norm maps pixels to inputs: (p/255 - mean) / std, channel by channel.
type Norm struct {
	Mean, Std []float32
	table     [][256]float32
}

// NewNorm makes the table of it.
func NewNorm(mean, std []float32) (*Norm, error) {
	if len(mean) == 0 || len(mean) != len(std) {
		return nil, fmt.Errorf("%d means and %d deviations: one of each for every channel is wanted",
			len(mean), len(std))
	}
	n := &Norm{Mean: mean, Std: std, table: make([][256]float32, len(mean))}
	for c := range n.table {
		if !(std[c] > 0) {
			return nil, fmt.Errorf("deviation %v of channel %d: more than 0 is wanted", std[c], c)
		}
		for p := range 256 {
			n.table[c][p] = (float32(p)/255 - mean[c]) / std[c]
		}
	}
	return n, nil
}

// Apply normalises pixels [C,H,W] into out, which is as long.
func (n *Norm) Apply(out []float32, pixels []uint8) {
	area := len(pixels) / len(n.table)
	for c := range n.table {
		table := &n.table[c]
		to := out[c*area:][:area]
		for j, p := range pixels[c*area:][:area] {
			to[j] = table[p]
		}
	}
}

// Images is a Dataset of 8-bit images in memory, with labels, or with masks.
type Images struct {
	Size   [3]int  // C, H, W
	Pixels []uint8 // N*C*H*W, channel planes
	Labels []uint8 // N
	Masks  []uint8 // N*H*W, a class for each pixel; nil where labels are the targets
	Names  []string

	numbers []float32 // N*len(Names), where numbers are the targets
	norm    *Norm
	weights []float64 // N, or nil
}

// NewImages makes a data set of images of a size C, H, W: pixels [N,C,H,W] and labels [N], numbers of names.
// It copies neither. Inputs are (p/255 - mean) / std, channel by channel.
func NewImages(size [3]int, pixels, labels []uint8, names []string, mean, std []float32) (*Images, error) {
	per, err := product(size[:]...)
	if err != nil || per == 0 || len(pixels)/per != len(labels) || len(pixels)%per != 0 {
		return nil, fmt.Errorf("%d pixels do not make %d images of %v", len(pixels), len(labels), size)
	}
	if len(mean) != size[0] || len(std) != size[0] {
		return nil, fmt.Errorf("%d means and %d deviations for %d channels", len(mean), len(std), size[0])
	}
	for i, l := range labels {
		if int(l) >= len(names) {
			return nil, fmt.Errorf("label %d of image %d is out of range: there are %d classes", l,
				i, len(names))
		}
	}
	norm, err := NewNorm(mean, std)
	if err != nil {
		return nil, err
	}
	return &Images{Size: size, Pixels: pixels, Labels: labels, Names: names, norm: norm}, nil
}

// product multiplies sizes, none of which may be negative, within 31 bits.
func product(sizes ...int) (int, error) {
	n := int64(1)
	for _, s := range sizes {
		if s < 0 || s > 1<<31-1 {
			return 0, fmt.Errorf("size %d", s)
		}
		if n *= int64(s); n > 1<<31-1 {
			return 0, &onnxio.LimitError{What: "elements", Got: n, Limit: 1<<31 - 1}
		}
	}
	return int(n), nil
}

// Len is the number of images.
func (d *Images) Len() int { return len(d.Labels) }

// Shape is [C,H,W].
func (d *Images) Shape() [3]int { return d.Size }

// Classes names the classes.
func (d *Images) Classes() []string { return d.Names }

// Label is the class of an image.
func (d *Images) Label(i int) int { return int(d.Labels[i]) }

// Where gives an image's number.
func (d *Images) Where(i int) string { return fmt.Sprintf("image %d", i) }

// Masked says that there are masks.
func (d *Images) Masked() bool { return d.Masks != nil }

// Width is how many numbers a target has.
func (d *Images) Width() int {
	if d.numbers == nil {
		return 0
	}
	return len(d.Names)
}

// NewValues is NewImages with numbers for targets, len(names) for each image: values to predict, or
// 0 and 1 of several labels.
func NewValues(size [3]int, pixels []uint8, numbers []float32, names []string, mean, std []float32) (*Images,
	error) {
	if len(names) == 0 || len(numbers)%len(names) != 0 {
		return nil, fmt.Errorf("%d numbers do not make targets of %d", len(numbers), len(names))
	}
	d, err := NewImages(size, pixels, make([]uint8, len(numbers)/len(names)), names, mean, std)
	if err == nil {
		d.numbers = numbers
	}
	return d, err
}

// Weights are those that InMemory has found.
func (d *Images) Weights() []float64 { return d.weights }

// Norm is the normalisation.
func (d *Images) Norm() *Norm { return d.norm }

// Sample gives an image where it lies.
func (d *Images) Sample(i int) (Sample, error) {
	if i < 0 || i >= len(d.Labels) {
		return Sample{}, fmt.Errorf("image %d of %d", i, len(d.Labels))
	}
	area := d.Size[1] * d.Size[2]
	per := d.Size[0] * area
	s := Sample{C: d.Size[0], H: d.Size[1], W: d.Size[2], Pixels: d.Pixels[i*per : (i+1)*per : (i+1)*per],
		Label: int(d.Labels[i])}
	if d.Masks != nil {
		s.Mask = d.Masks[i*area : (i+1)*area : (i+1)*area]
	}
	if n := d.Width(); n > 0 {
		s.Numbers = d.numbers[i*n : (i+1)*n : (i+1)*n]
	}
	return s, nil
}

// Fill writes normalised images and their labels or masks.
func (d *Images) Fill(x, target *onnxio.Tensor, indices []int) error {
	b, err := newBatchView(d, x, target, len(indices))
	if err != nil {
		return err
	}
	for n, i := range indices {
		s, err := d.Sample(i)
		if err != nil {
			return err
		}
		d.norm.Apply(b.input(n), s.Pixels)
		b.target(n, s)
	}
	return nil
}

// Subset is a Dataset of some samples of another.
type Subset struct {
	Dataset
	Indices []int
}

// Len is the number of samples.
func (s Subset) Len() int { return len(s.Indices) }

// Fill maps the indices.
func (s Subset) Fill(x, target *onnxio.Tensor, indices []int) error {
	mapped := make([]int, len(indices))
	for i, j := range indices {
		if j < 0 || j >= len(s.Indices) {
			return fmt.Errorf("sample %d of %d", j, len(s.Indices))
		}
		mapped[i] = s.Indices[j]
	}
	return s.Dataset.Fill(x, target, mapped)
}

// subsetSource is a Subset of a Source.
type subsetSource struct {
	Subset
	src Source
}

func (s subsetSource) Label(i int) int    { return s.src.Label(s.Indices[i]) }
func (s subsetSource) Where(i int) string { return s.src.Where(s.Indices[i]) }
func (s subsetSource) Masked() bool       { return s.src.Masked() }
func (s subsetSource) Width() int         { return s.src.Width() }
func (s subsetSource) Norm() *Norm        { return s.src.Norm() }

func (s subsetSource) Sample(i int) (Sample, error) {
	if i < 0 || i >= len(s.Indices) {
		return Sample{}, fmt.Errorf("sample %d of %d", i, len(s.Indices))
	}
	return s.src.Sample(s.Indices[i])
}

// SourceOf gives the data set as a Source, looking through subsets.
func SourceOf(ds Dataset) (Source, error) {
	switch d := ds.(type) {
	case Source:
		return d, nil
	case Subset:
		src, err := SourceOf(d.Dataset)
		if err != nil {
			return nil, err
		}
		for _, i := range d.Indices {
			if i < 0 || i >= src.Len() {
				return nil, fmt.Errorf("a subset has sample %d of %d", i, src.Len())
			}
		}
		return subsetSource{d, src}, nil
	case *Subset:
		return SourceOf(*d)
	}
	return nil, fmt.Errorf("a data set of type %T gives no single samples", ds)
}

// Masked says that the data set's targets are masks.
func Masked(ds Dataset) bool {
	src, err := SourceOf(ds)
	return err == nil && src.Masked()
}

// Width is how many numbers a target of the data set has; 0 where labels or masks are the targets.
func Width(ds Dataset) int {
	if src, err := SourceOf(ds); err == nil {
		return src.Width()
	}
	return 0
}

// Order is the order of an epoch: a permutation of n samples that depends on seed and epoch alone.
func Order(n int, seed uint64, epoch int) []int {
	return rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15^uint64(epoch))).Perm(n)
}

// Sequence is 0, 1, ..., n-1.
func Sequence(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}
