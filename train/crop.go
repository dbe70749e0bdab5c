package train

import (
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime/vision"
	"github.com/cnnkit/cnnkit/runtime/vision/resample"
	"github.com/cnnkit/cnnkit/train/data"
)

// croppedInput is a model's input where images are cropped for it, and no other size is asked for.
func croppedInput(m *onnxio.Model, size [2]int) (spec.Input, bool) {
	if m == nil {
		return spec.Input{}, false
	}
	s, err := spec.Get(m)
	ok := err == nil && (s.Input.Shorter > 0 || s.Input.Resize != "" && s.Input.Resize != "bilinear")
	return s.Input, ok && (size == [2]int{} || size == s.Input.Size)
}

// croppedSource is a data set whose images are resized and cropped as a model wants
// them, and its masks with them.
type croppedSource struct {
	data.Source
	in spec.Input
}

// cropped is the data set with images as predict prepares them.
func cropped(ds data.Dataset, in spec.Input) (data.Dataset, error) {
	src, err := data.SourceOf(ds)
	if err != nil {
		return nil, err
	}
	return croppedSource{src, in}, nil
}

// Unwrap implements data.Wrapper.
func (d croppedSource) Unwrap() data.Source { return d.Source }

// Sample resizes and crops.
func (d croppedSource) Sample(i int) (data.Sample, error) {
	s, err := d.Source.Sample(i)
	if err != nil {
		return s, err
	}
	m := vision.Prepared(resample.Image{C: s.C, H: s.H, W: s.W, Pix: s.Pixels}, d.in)
	out := data.Sample{C: m.C, H: m.H, W: m.W, Pixels: m.Pix, Label: s.Label, Numbers: s.Numbers}
	if s.Mask != nil {
		by := d.in
		by.Resize = string(resample.Nearest)
		out.Mask = vision.Prepared(resample.Image{C: 1, H: s.H, W: s.W, Pix: s.Mask}, by).Pix
	}
	return out, nil
}

// Fill implements data.Dataset.
func (d croppedSource) Fill(x, target *onnxio.Tensor, indices []int) error {
	return data.Fill(d, x, target, indices)
}
