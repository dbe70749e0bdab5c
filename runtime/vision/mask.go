package vision

import (
	"fmt"
	"image"
	"image/color"
	"math"

	"golang.org/x/image/draw"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Mask holds a class for each pixel; with a single output channel 1 is foreground and 0 background.
type Mask struct {
	W, H    int
	Classes int // 2 for a single channel
	Pixels  []uint8
}

// Masks reads an output [N,C,H,W]: one channel is foreground where its probability is above the threshold; of
// several channels the largest wins.
func Masks(y *onnxio.Tensor, scale Scale, threshold float64) ([]Mask, error) {
	if y.Type != onnxio.Float || len(y.Dims) != 4 || y.Dims[1] < 1 || y.Dims[1] > 256 {
		return nil, fmt.Errorf(
			"the output is %v %v; a segmentation gives float32 [N,C,H,W] of 1 to 256 channels",
			y.Type, y.Dims)
	}
	n, c, h, w := int(y.Dims[0]), int(y.Dims[1]), int(y.Dims[2]), int(y.Dims[3])
	limit := float32(threshold)
	switch scale {
	case Logits:
		limit = float32(logit(threshold))
	case LogProbabilities:
		limit = float32(math.Log(threshold))
	}
	out := make([]Mask, n)
	for i := range out {
		out[i] = Mask{W: w, H: h, Classes: max(c, 2), Pixels: make([]uint8, w*h)}
		planes := y.Float32s()[i*c*h*w : (i+1)*c*h*w]
		for at := range w * h {
			if c == 1 {
				if planes[at] > limit {
					out[i].Pixels[at] = 1
				}
				continue
			}
			best := 0
			for k := 1; k < c; k++ {
				if planes[k*h*w+at] > planes[best*h*w+at] {
					best = k
				}
			}
			out[i].Pixels[at] = uint8(best)
		}
	}
	return out, nil
}

// Resized is the mask at another size, by nearest pixel.
func (m Mask) Resized(w, h int) Mask {
	out := Mask{W: w, H: h, Classes: m.Classes, Pixels: make([]uint8, w*h)}
	for y := range h {
		from := m.Pixels[y*m.H/h*m.W:]
		for x := range w {
			out.Pixels[y*w+x] = from[x*m.W/w]
		}
	}
	return out
}

// Share is the part of the pixels that is not class 0.
func (m Mask) Share() float64 {
	n := 0
	for _, p := range m.Pixels {
		if p != 0 {
			n++
		}
	}
	return float64(n) / float64(max(1, len(m.Pixels)))
}

// Image is the mask as a picture: black and white for two classes, else paletted with the class as the index.
func (m Mask) Image() image.Image {
	r := image.Rect(0, 0, m.W, m.H)
	if m.Classes == 2 {
		img := image.NewGray(r)
		for i, p := range m.Pixels {
			img.Pix[i] = 255 * p
		}
		return img
	}
	palette := make(color.Palette, m.Classes)
	for c := range palette {
		palette[c] = Color(c)
	}
	img := image.NewPaletted(r, palette)
	copy(img.Pix, m.Pixels)
	return img
}

// Overlay lays the mask, of the image's size, over the image, half transparent; class 0 stays
// clear. Edges are drawn opaque.
func Overlay(img image.Image, m Mask) image.Image {
	b := img.Bounds()
	out := image.NewRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	draw.Draw(out, out.Bounds(), img, b.Min, draw.Src)
	for y := range m.H {
		for x := range m.W {
			class := m.Pixels[y*m.W+x]
			if class == 0 {
				continue
			}
			c := Color(int(class))
			if m.Classes == 2 {
				c = Color(1)
			}
			share := 0.45
			if m.edge(x, y) {
				share = 1
			}
			at := out.PixOffset(x, y)
			for k, v := range [3]uint8{c.R, c.G, c.B} {
				out.Pix[at+k] = uint8(share*float64(v) + (1-share)*float64(out.Pix[at+k]) + 0.5)
			}
			out.Pix[at+3] = 255
		}
	}
	return out
}

// edge says that a neighbour is of another class.
func (m Mask) edge(x, y int) bool {
	p := m.Pixels[y*m.W+x]
	for _, d := range [4][2]int{{-1, 0}, {1, 0}, {0, -1}, {0, 1}} {
		u, v := x+d[0], y+d[1]
		if u >= 0 && u < m.W && v >= 0 && v < m.H && m.Pixels[v*m.W+u] != p {
			return true
		}
	}
	return false
}

// The colours of Okabe and Ito, which people tell apart whatever colours they see; class 0 is black.
var colors = []color.RGBA{
	{0, 0, 0, 255}, {230, 159, 0, 255}, {86, 180, 233, 255}, {0, 158, 115, 255},
	{240, 228, 66, 255}, {0, 114, 178, 255}, {213, 94, 0, 255}, {204, 121, 167, 255},
}

// Color is the colour of a class. Beyond the eighth they come again, darker.
func Color(class int) color.RGBA {
	if class < len(colors) {
		return colors[class]
	}
	c := colors[1+(class-1)%(len(colors)-1)]
	f := 1 / (1 + 0.6*float64((class-1)/(len(colors)-1)))
	return color.RGBA{uint8(float64(c.R) * f), uint8(float64(c.G) * f), uint8(float64(c.B) * f), 255}
}
