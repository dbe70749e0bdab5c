package data

import (
	"fmt"
	"image"
	"image/color"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

// Planes makes a sample of a decoded image: three planes R, G and B, or one of grey,
// weighed as ITU-R 601 does.
func Planes(img image.Image, channels int) Sample {
	m := vision.Planes(img, channels)
	return Sample{C: m.C, H: m.H, W: m.W, Pixels: m.Pix}
}

// MaskCoding says what a mask file's values mean.
type MaskCoding string

const (
	// Binary masks have 0 for background; foreground is 1 or, in grey levels, 128 and
	// above. It is the zero value.
	Binary MaskCoding = ""
	// Indexed masks have the class of each pixel for its value: its grey level, or its
	// index in the file's palette.
	Indexed MaskCoding = "indexed"
	// Trimap is that of the Oxford-IIIT Pet set: 1 pet, 2 background, 3 the border between them, which the
	// set calls not classified. Pet and border are foreground.
	Trimap MaskCoding = "trimap"
)

// Void is the value of a sample's mask, and of a target, where a pixel does not count. A set with such
// pixels has at most 255 classes.
const Void = 255

// mask reads a class for each pixel.
func (d *Files) mask(path string) ([]uint8, error) {
	img, err := load(path, d.limits)
	if err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) error {
		return &onnxio.FormatError{Format: "mask", Path: path, Msg: fmt.Sprintf(format, args...)}
	}
	coding, classes := d.coding, len(d.names)
	m := levels(img, coding)
	var top uint8
	for _, v := range m {
		top = max(top, v)
	}
	switch coding {
	case Binary:
		if voided(m) {
			return nil, bad("besides 255 it has small values such as %d, which look like classes with 255 for what does not count: "+
				"say how many classes there are and which value is void (--mask-classes K --ignore 255), or save foreground as 255 alone", leastLabel(m))
		}
		if top > 1 && top < 128 {
			return nil, bad("its largest value is %d: 0 and 1, or 0 and 255, are wanted of a mask of foreground; save it with these", top)
		}
		if top > 1 {
			for i, v := range m {
				m[i] = v >> 7
			}
		}
	case Trimap:
		for i, v := range m {
			if v < 1 || v > 3 {
				return nil, bad("value %d in a trimap: 1 (pet), 2 (background) and 3 (border) are wanted; save it with these, or take it out of the lists", v)
			}
			m[i] = v & 1
		}
	case Indexed:
		for i, v := range m {
			switch {
			case d.ignore != nil && int(v) == *d.ignore:
				m[i] = Void
			case int(v) >= classes:
				return nil, bad("label %d is out of range: there are %d classes; --ignore %d leaves such pixels out", v, classes, v)
			}
		}
	default:
		return nil, fmt.Errorf("mask coding %q: %q, %q or %q is wanted", coding, Binary, Indexed, Trimap)
	}
	return m, nil
}

// levels is a mask's values: a palette's indices, where they are what is wanted or the palette has
// colours, or else grey levels.
func levels(img image.Image, coding MaskCoding) []uint8 {
	p, ok := img.(*image.Paletted)
	if !ok || coding == Binary && greys(p.Palette) {
		return Planes(img, 1).Pixels
	}
	w, h := p.Bounds().Dx(), p.Bounds().Dy()
	out := make([]uint8, w*h)
	for y := range h {
		copy(out[y*w:(y+1)*w], p.Pix[y*p.Stride:])
	}
	return out
}

func greys(p color.Palette) bool {
	for _, c := range p {
		if r, g, b, _ := c.RGBA(); r != g || g != b {
			return false
		}
	}
	return true
}

// voided says that a mask has 255, and else only values so small that they are rather
// classes than grey levels.
func voided(m []uint8) bool {
	var has [256]bool
	for _, v := range m {
		has[v] = true
	}
	return has[Void] && slices.Contains(has[1:33], true) && !slices.Contains(has[33:Void], true)
}

// leastLabel is the least value above 0.
func leastLabel(m []uint8) uint8 {
	least := uint8(Void)
	for _, v := range m {
		if v > 0 {
			least = min(least, v)
		}
	}
	return least
}
