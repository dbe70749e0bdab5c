package data

import (
	"fmt"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/vision/resample"
)

// NewBatch allocates what Fill fills: x [n,C,H,W] float32, and the target, which is
//
//	labels           [n]       int64
//	masks of 2       [n,1,H,W] float32, 0 or 1, as a binary loss takes them
//	masks of more    [n,H,W]   int64, as a cross-entropy takes them
//	numbers          [n,K]     float32
//
// Fill itself takes masks in either form, whatever the number of classes.
func NewBatch(ds Dataset, n int) (x, target *onnxio.Tensor) {
	shape := ds.Shape()
	c, h, w := int64(shape[0]), int64(shape[1]), int64(shape[2])
	x = onnxio.NewTensor(onnxio.Float, int64(n), c, h, w)
	switch k := Width(ds); {
	case k > 0:
		return x, onnxio.NewTensor(onnxio.Float, int64(n), int64(k))
	case !Masked(ds):
		return x, onnxio.NewTensor(onnxio.Int64, int64(n))
	case len(ds.Classes()) == 2:
		return x, onnxio.NewTensor(onnxio.Float, int64(n), 1, h, w)
	}
	return x, onnxio.NewTensor(onnxio.Int64, int64(n), h, w)
}

// batchView is a batch's memory, seen sample by sample.
type batchView struct {
	x        []float32
	labels   []int64   // [N], or
	classes  []int64   // [N,H,W], or
	binary   []float32 // [N,1,H,W], or
	numbers  []float32 // [N,K]
	per, hw  int
	c, h, w  int
	n        int
	ofClass  bool
	ofBinary bool
}

// newBatchView checks that x and target are a batch of n samples of the data set.
func newBatchView(ds Source, x, target *onnxio.Tensor, n int) (*batchView, error) {
	s := ds.Shape()
	b := &batchView{c: s[0], h: s[1], w: s[2], hw: s[1] * s[2], per: s[0] * s[1] * s[2], n: n}
	misfit := func(why string) error {
		return fmt.Errorf("a batch of %d images of %v does not fit %v %v and %v %v%s", n, s, x.Type, x.Dims,
			target.Type, target.Dims, why)
	}
	if x.Type != onnxio.Float || len(x.Raw) != 4*b.per*n {
		return nil, misfit("")
	}
	b.x = x.Float32s()
	N, h, w := int64(n), int64(b.h), int64(b.w)
	switch dims, k := target.Dims, ds.Width(); {
	case k > 0 && target.Type == onnxio.Float && slices.Equal(dims, []int64{N, int64(k)}):
		b.numbers = target.Float32s()
	case k > 0:
		return nil, misfit(fmt.Sprintf(": the targets are numbers, float32 [N,%d]", k))
	case !ds.Masked() && target.Type == onnxio.Int64 && slices.Equal(dims, []int64{N}):
		b.labels = onnxio.Data[int64](target)
	case ds.Masked() && target.Type == onnxio.Int64 && slices.Equal(dims, []int64{N, h, w}):
		b.classes, b.ofClass = onnxio.Data[int64](target), true
	case ds.Masked() && target.Type == onnxio.Float && slices.Equal(dims, []int64{N, 1, h, w}):
		b.binary, b.ofBinary = target.Float32s(), true
	case ds.Masked():
		return nil, misfit(": the targets are masks, int64 [N,H,W] or float32 [N,1,H,W]")
	default:
		return nil, misfit(": the targets are labels, int64 [N]")
	}
	return b, nil
}

func (b *batchView) input(n int) []float32 { return b.x[n*b.per : (n+1)*b.per] }

// target writes the n-th sample's label, or its mask, which is of the batch's size.
func (b *batchView) target(n int, s Sample) {
	switch {
	case b.ofClass:
		to := b.classes[n*b.hw : (n+1)*b.hw]
		for i, m := range s.Mask {
			to[i] = int64(m)
		}
	case b.ofBinary:
		to := b.binary[n*b.hw : (n+1)*b.hw]
		for i, m := range s.Mask {
			to[i] = float32(m)
		}
	case b.numbers != nil:
		k := len(b.numbers) / b.n
		copy(b.numbers[n*k:(n+1)*k], s.Numbers)
	default:
		b.labels[n] = int64(s.Label)
	}
}

// put normalises a sample of any size into the n-th place.
func (b *batchView) put(n int, s Sample, norm *Norm) error {
	if s.C != b.c || s.H <= 0 || s.W <= 0 || len(s.Pixels) != s.C*s.H*s.W && s.Values == nil {
		return fmt.Errorf("an image of [%d,%d,%d] in %d bytes, where [%d,%d,%d] is wanted", s.C, s.H, s.W,
			len(s.Pixels), b.c, b.h, b.w)
	}
	if (b.ofClass || b.ofBinary) && len(s.Mask) != s.H*s.W {
		return fmt.Errorf("a mask of %d pixels for an image of %dx%d", len(s.Mask), s.H, s.W)
	}
	if s.Values != nil {
		if s.H != b.h || s.W != b.w || len(s.Values) != b.per {
			return fmt.Errorf("%d values of [%d,%d,%d], where [%d,%d,%d] is wanted", len(s.Values), s.C, s.H,
				s.W, b.c, b.h, b.w)
		}
		copy(b.input(n), s.Values)
		b.target(n, s)
		return nil
	}
	s = s.Resized(b.h, b.w)
	norm.Apply(b.input(n), s.Pixels)
	b.target(n, s)
	return nil
}

// Resized is the sample at another size: the image as PIL resizes it, bilinear with a kernel that widens when
// it shrinks; the mask by nearest pixel center.
func (s Sample) Resized(h, w int) Sample {
	if s.H == h && s.W == w {
		return s
	}
	out := Sample{C: s.C, H: h, W: w, Label: s.Label, Numbers: s.Numbers, Pixels: make([]uint8, s.C*h*w)}
	resample.Resize(resample.Image{C: s.C, H: h, W: w, Pix: out.Pixels}, resample.Image{C: s.C, H: s.H,
		W: s.W, Pix: s.Pixels}, resample.Bilinear)
	if s.Mask != nil {
		out.Mask = make([]uint8, h*w)
		for y := range h {
			from := s.Mask[(2*y+1)*s.H/(2*h)*s.W:][:s.W]
			for x := range w {
				out.Mask[y*w+x] = from[(2*x+1)*s.W/(2*w)]
			}
		}
	}
	return out
}
