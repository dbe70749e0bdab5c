package vision

import (
	"fmt"
	"image"
	"math"
	"slices"

	"golang.org/x/image/draw"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime/vision/resample"
)

// Preprocessing is how a model takes images, as spec.Get says; recorded tells whether its metadata says it. A
// Size of 0 takes images as large as they are.
func Preprocessing(m *onnxio.Model) (p spec.Input, recorded bool, err error) {
	s, err := spec.Get(m)
	_, recorded = m.Property("preprocessing")
	return s.Input, recorded, err
}

// Input makes one image's input [1,C,H,W] of float32, resized as PIL does and normalized: (v/255 - mean) /
// std, or bytes where the model takes these. Fed brings it into the model's layout and type.
func Input(img image.Image, p spec.Input) *onnxio.Tensor {
	m := Prepared(Planes(img, p.Channels), p)
	t := onnxio.NewTensor(onnxio.Float, 1, int64(m.C), int64(m.H), int64(m.W))
	x, area := t.Float32s(), m.H*m.W
	mean, std := p.Normal()
	for i, v := range m.Pix {
		c := i / area
		x[i] = (float32(v)/255 - mean[c]) / std[c]
	}
	return t
}

// Prepared is an image at the size that p wants: resized, and cropped where p has a Shorter side, as
// torchvision's Resize and CenterCrop do.
func Prepared(m resample.Image, p spec.Input) resample.Image {
	h, w := p.Sized(m.H, m.W)
	dst := resample.New(m.C, h, w)
	resample.Resize(dst, m, resample.Kernel(p.Resize))
	if p.Shorter == 0 || p.Size == [2]int{h, w} {
		return dst
	}
	top, left := Crop(h, p.Size[0]), Crop(w, p.Size[1])
	out := resample.New(m.C, p.Size[0], p.Size[1])
	for c := range out.C {
		for y := range out.H {
			copy(out.Pix[(c*out.H+y)*out.W:][:out.W], dst.Pix[(c*h+top+y)*w+left:])
		}
	}
	return out
}

// Crop is where torchvision's CenterCrop of n begins on a side.
func Crop(side, n int) int { return int(math.RoundToEven(float64(side-n) / 2)) }

// Planes are an image's three planes R, G and B, or one of gray, weighed as ITU-R 601 and PIL do.
func Planes(img image.Image, channels int) resample.Image {
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	m := resample.New(channels, h, w)
	if g, ok := img.(*image.Gray); ok {
		for y := range h {
			copy(m.Pix[y*w:(y+1)*w], g.Pix[y*g.Stride:])
		}
		for c := 1; c < channels; c++ {
			copy(m.Pix[c*h*w:], m.Pix[:h*w])
		}
		return m
	}
	rgba, ok := img.(*image.RGBA)
	if !ok || rgba.Stride != 4*w || b.Min != (image.Point{}) {
		rgba = image.NewRGBA(image.Rect(0, 0, w, h))
		draw.Draw(rgba, rgba.Bounds(), img, b.Min, draw.Src)
	}
	for i := range h * w {
		p := rgba.Pix[4*i : 4*i+3 : 4*i+3]
		if channels == 1 {
			m.Pix[i] = gray(p[0], p[1], p[2])
			continue
		}
		m.Pix[i], m.Pix[h*w+i], m.Pix[2*h*w+i] = p[0], p[1], p[2]
	}
	return m
}

func gray(r, g, b uint8) uint8 {
	return uint8((19595*uint32(r) + 38470*uint32(g) + 7471*uint32(b) + 1<<15) >> 16)
}

// Stack joins batches [n,...] of one shape but for n.
func Stack(parts []*onnxio.Tensor) (*onnxio.Tensor, error) {
	if len(parts) == 0 {
		return nil, fmt.Errorf("no images")
	}
	first, n := parts[0], int64(0)
	for _, t := range parts {
		if len(t.Dims) == 0 || t.Type != first.Type || !slices.Equal(t.Dims[1:], first.Dims[1:]) {
			return nil, fmt.Errorf("images of different sizes: %v and %v", first.Dims, t.Dims)
		}
		n += t.Dims[0]
	}
	out := onnxio.NewTensor(first.Type, append([]int64{n}, first.Dims[1:]...)...)
	at := 0
	for _, t := range parts {
		at += copy(out.Raw[at:], t.Raw)
	}
	return out, nil
}
