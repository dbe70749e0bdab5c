package vision

import (
	"fmt"
	"image"
	"math"

	"golang.org/x/image/draw"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/vision/resample"
)

// Preprocessing is what a model's metadata says, or what its input's shape implies: the size, and values from 0 to 1.
// recorded tells which; a Size of 0 takes images as large as they are.
func Preprocessing(m *onnxio.Model) (p builders.Preprocessing, recorded bool, err error) {
	var in *onnxio.ValueInfo
	for _, v := range m.Graph.Inputs {
		if m.Graph.Initializer(v.Name) == nil {
			if in != nil {
				return p, false, fmt.Errorf("the model takes more than one input (%q, %q, ...), so it takes no images", in.Name, v.Name)
			}
			in = v
		}
	}
	if in == nil || in.Type == nil || in.Type.Elem != onnxio.Float || len(in.Type.Shape) != 4 {
		return p, false, fmt.Errorf("the model's input is no image: float32 [N,C,H,W] is wanted")
	}
	number := func(i int) int {
		if d := in.Type.Shape[i]; d.Known() && d.Value > 0 && d.Value < 1<<20 {
			return int(d.Value)
		}
		return 0
	}
	if p, recorded, err = builders.GetPreprocessing(m); err != nil {
		return p, recorded, &onnxio.FormatError{Format: "onnx", Where: "metadata preprocessing", Err: err}
	}
	if !recorded {
		p = builders.Preprocessing{Size: [2]int{number(2), number(3)}, Channels: number(1)}
		if p.Channels == 0 {
			p.Channels = 3
		}
	}
	if p.Channels != 1 && p.Channels != 3 {
		return p, recorded, fmt.Errorf("the model takes images of %d channels; grey (1) and RGB (3) can be made of a file", p.Channels)
	}
	if c := number(1); c != 0 && c != p.Channels {
		return p, recorded, &onnxio.FormatError{Format: "onnx", Where: "metadata preprocessing",
			Msg: fmt.Sprintf("%d channels, but the input has %d", p.Channels, c)}
	}
	return p, recorded, complete(&p)
}

// maxSide bounds the size that metadata may ask for.
const maxSide = 1 << 14

// complete fills in the neutral mean and standard deviation and refuses what makes no sense.
func complete(p *builders.Preprocessing) error {
	if len(p.Mean) == 0 {
		p.Mean = make([]float32, p.Channels)
	}
	if len(p.Std) == 0 {
		p.Std = []float32{1, 1, 1}[:p.Channels]
	}
	bad := len(p.Mean) != p.Channels || len(p.Std) != p.Channels
	for _, s := range p.Std {
		bad = bad || !(s != 0) || math.IsNaN(float64(s))
	}
	for _, side := range p.Size {
		bad = bad || side < 0 || side > maxSide
	}
	if bad {
		return &onnxio.FormatError{Format: "onnx", Where: "metadata preprocessing",
			Msg: fmt.Sprintf("size %v, mean %v and std %v for %d channels", p.Size, p.Mean, p.Std, p.Channels)}
	}
	return nil
}

// Input makes one image's input [1,C,H,W]: resized as PIL's bilinear filter does, and normalized: (v/255 - mean) / std.
func Input(img image.Image, p builders.Preprocessing) *onnxio.Tensor {
	m := Planes(img, p.Channels)
	h, w := p.Size[0], p.Size[1]
	if h == 0 {
		h = m.H
	}
	if w == 0 {
		w = m.W
	}
	dst := resample.New(m.C, h, w)
	resample.Resize(dst, m, resample.Bilinear)
	t := onnxio.NewTensor(onnxio.Float, 1, int64(p.Channels), int64(h), int64(w))
	x := t.Float32s()
	for i, v := range dst.Pix {
		c := i / (h * w)
		x[i] = (float32(v)/255 - p.Mean[c]) / p.Std[c]
	}
	return t
}

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

// Stack joins inputs [1,C,H,W] of one shape to [N,C,H,W].
func Stack(inputs []*onnxio.Tensor) (*onnxio.Tensor, error) {
	if len(inputs) == 0 {
		return nil, fmt.Errorf("no images")
	}
	dims := append([]int64{int64(len(inputs))}, inputs[0].Dims[1:]...)
	out := onnxio.NewTensor(onnxio.Float, dims...)
	size := len(inputs[0].Raw)
	for i, t := range inputs {
		if len(t.Raw) != size {
			return nil, fmt.Errorf("images of different sizes: %v and %v", inputs[0].Dims, t.Dims)
		}
		copy(out.Raw[i*size:], t.Raw)
	}
	return out, nil
}
