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
	// Classes names the classes, in the order of the labels.
	Classes() []string
	// Fill writes the samples of the indices into x [N,C,H,W] float32 and target [N] int64.
	Fill(x, target *onnxio.Tensor, indices []int) error
}

// Splits is a data set in its two parts.
type Splits struct {
	Name       string
	Train      Dataset
	Validation Dataset
	Mean, Std  []float32 // with which the inputs are normalised
}

// Images is a Dataset of labelled 8-bit images in memory.
type Images struct {
	Size   [3]int  // C, H, W
	Pixels []uint8 // N*C*H*W, channel planes
	Labels []uint8
	Names  []string
	// table maps a pixel to its normalised value, per channel.
	table [][256]float32
}

// NewImages checks that pixels and labels fit and prepares normalisation: (p/255 - mean) / std, channel by channel.
func NewImages(size [3]int, pixels, labels []uint8, names []string, mean, std []float32) (*Images, error) {
	per := size[0] * size[1] * size[2]
	if per <= 0 || len(pixels) != per*len(labels) {
		return nil, fmt.Errorf("%d pixels do not make %d images of %v", len(pixels), len(labels), size)
	}
	if len(mean) != size[0] || len(std) != size[0] {
		return nil, fmt.Errorf("%d means and %d deviations for %d channels", len(mean), len(std), size[0])
	}
	for i, l := range labels {
		if int(l) >= len(names) {
			return nil, fmt.Errorf("label %d of image %d: there are %d classes", l, i, len(names))
		}
	}
	d := &Images{Size: size, Pixels: pixels, Labels: labels, Names: names, table: make([][256]float32, size[0])}
	for c := range d.table {
		for p := range 256 {
			d.table[c][p] = (float32(p)/255 - mean[c]) / std[c]
		}
	}
	return d, nil
}

// Len is the number of images.
func (d *Images) Len() int { return len(d.Labels) }

// Shape is [C,H,W].
func (d *Images) Shape() [3]int { return d.Size }

// Classes names the classes.
func (d *Images) Classes() []string { return d.Names }

// Fill writes normalised images and their labels.
func (d *Images) Fill(x, target *onnxio.Tensor, indices []int) error {
	area := d.Size[1] * d.Size[2]
	per := d.Size[0] * area
	to, labels := x.Float32s(), onnxio.Data[int64](target)
	if len(to) != per*len(indices) || len(labels) != len(indices) {
		return fmt.Errorf("batch of %d images of %v does not fit %v and %v", len(indices), d.Size, x.Dims, target.Dims)
	}
	for n, i := range indices {
		if i < 0 || i >= len(d.Labels) {
			return fmt.Errorf("image %d of %d", i, len(d.Labels))
		}
		labels[n] = int64(d.Labels[i])
		src := d.Pixels[i*per : (i+1)*per]
		for c := range d.table {
			table := &d.table[c]
			out := to[n*per+c*area:][:area]
			for j, p := range src[c*area:][:area] {
				out[j] = table[p]
			}
		}
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
