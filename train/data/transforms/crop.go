package transforms

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// PaddingMode says what stands outside the image.
type PaddingMode string

// The padding modes: a level; the edge's pixel; the image mirrored without repeating its edge, or with.
const (
	Constant  PaddingMode = "constant"
	Edge      PaddingMode = "edge"
	Reflect   PaddingMode = "reflect"
	Symmetric PaddingMode = "symmetric"
)

// outside is the index that stands for i in 0 ... n-1, or -1.
func (m PaddingMode) outside(i, n int) int {
	switch {
	case i >= 0 && i < n:
		return i
	case m == Edge || m == Reflect && n == 1:
		return min(max(i, 0), n-1)
	case m == Reflect:
		period := 2 * (n - 1)
		if i = (i%period + period) % period; i >= n {
			i = period - i
		}
		return i
	case m == Symmetric:
		if i = (i%(2*n) + 2*n) % (2 * n); i >= n {
			i = 2*n - 1 - i
		}
		return i
	}
	return -1
}

// window copies src, seen from (top, left), into dst.
func window(dst, src Image, top, left int, mode PaddingMode, fill Ints) {
	from, to := min(max(-left, 0), dst.W), max(min(src.W-left, dst.W), 0)
	for c := range src.C {
		in, out := src.plane(c), dst.plane(c)
		level := fill.level(c)
		for y := range dst.H {
			row := out[y*dst.W:][:dst.W]
			sy := mode.outside(y+top, src.H)
			if sy < 0 || from >= to && (mode == Constant || mode == "") {
				for x := range row {
					row[x] = level
				}
				continue
			}
			line := in[sy*src.W:][:src.W]
			side := func(x, end int) {
				for ; x < end; x++ {
					if sx := mode.outside(x+left, src.W); sx < 0 {
						row[x] = level
					} else {
						row[x] = line[sx]
					}
				}
			}
			if from >= to {
				side(0, dst.W)
				continue
			}
			side(0, from)
			copy(row[from:to], line[from+left:])
			side(to, dst.W)
		}
	}
}

func (s *Sample) window(top, left, h, w int, mode PaddingMode, fill Ints, maskFill int) {
	s.move(h, w, func(dst, src Image, masked bool) {
		if masked {
			fill = Ints{maskFill}
		}
		window(dst, src, top, left, mode, fill)
	})
}

// Pad widens the image by Padding: every side, [left and right, top and bottom], or
// [left, top, right, bottom].
type Pad struct {
	Padding  Ints        `json:"padding"`
	Fill     Ints        `json:"fill,omitempty"`
	MaskFill int         `json:"mask_fill,omitempty"`
	Mode     PaddingMode `json:"padding_mode,omitempty"` // Constant if not given
}

func (t Pad) check() error {
	if err := t.Padding.checkPadding(); err != nil {
		return err
	}
	if err := t.Fill.checkLevels("fill"); err != nil {
		return err
	}
	if err := checkMaskFill(t.MaskFill); err != nil {
		return err
	}
	return checkWord("padding_mode", t.Mode, Constant, Edge, Reflect, Symmetric)
}

// Apply pads.
func (t Pad) Apply(s *Sample, _ *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	if err := t.Fill.checkChannels("fill", s.Image.C); err != nil {
		return err
	}
	left, top, right, bottom := t.Padding.sides()
	h, w := s.Image.H+top+bottom, s.Image.W+left+right
	if h > maxSide || w > maxSide {
		return fmt.Errorf("padding %dx%d to %dx%d: sides of at most %d are wanted", s.Image.H, s.Image.W,
			h, w, maxSide)
	}
	s.window(-top, -left, h, w, t.Mode, t.Fill, t.MaskFill)
	return nil
}

// CenterCrop cuts Size out of the middle; an image that is smaller gets a black border.
type CenterCrop struct {
	Size Ints `json:"size"`
}

func (t CenterCrop) check() error { return t.Size.checkSize("size") }

// Apply crops.
func (t CenterCrop) Apply(s *Sample, _ *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	h, w := t.Size.pair()
	s.window(middle(s.Image.H, h), middle(s.Image.W, w), h, w, Constant, nil, 0)
	return nil
}

// middle is where a crop of n begins in a side of have.
func middle(have, n int) int {
	if n > have {
		return -((n - have) / 2)
	}
	return int(math.RoundToEven(float64(have-n) / 2))
}

// RandomCrop pads the image and cuts Size out of it anywhere.
type RandomCrop struct {
	Size    Ints `json:"size"`
	Padding Ints `json:"padding,omitempty"`
	// widens an image that is too small, on both sides
	PadIfNeeded bool        `json:"pad_if_needed,omitempty"`
	Fill        Ints        `json:"fill,omitempty"`
	MaskFill    int         `json:"mask_fill,omitempty"`
	Mode        PaddingMode `json:"padding_mode,omitempty"` // Constant if not given
}

func (t RandomCrop) check() error {
	if err := t.Size.checkSize("size"); err != nil {
		return err
	}
	return Pad{t.Padding, t.Fill, t.MaskFill, t.Mode}.check()
}

// Apply crops.
func (t RandomCrop) Apply(s *Sample, r *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	if err := t.Fill.checkChannels("fill", s.Image.C); err != nil {
		return err
	}
	h, w := t.Size.pair()
	left, top, right, bottom := t.Padding.sides()
	height, width := s.Image.H+top+bottom, s.Image.W+left+right
	if t.PadIfNeeded && (height < h || width < w) {
		if len(t.Padding) != 0 { // what is mirrored next is the padded image
			if err := (Pad{t.Padding, t.Fill, t.MaskFill, t.Mode}).Apply(s, nil); err != nil {
				return err
			}
		}
		left, top = max(w-width, 0), max(h-height, 0)
		width, height = width+2*left, height+2*top
	}
	if height < h || width < w {
		return fmt.Errorf("cannot cut %dx%d out of %dx%d (with its padding)", h, w, height, width)
	}
	i, j := 0, 0
	if height != h || width != w {
		i, j = r.IntN(height-h+1), r.IntN(width-w+1)
	}
	s.window(i-top, j-left, h, w, t.Mode, t.Fill, t.MaskFill)
	return nil
}

// RandomResizedCrop cuts out a rectangle of random area and shape and resizes it to Size: the crop
// of the Inception networks.
type RandomResizedCrop struct {
	Size          Ints          `json:"size"`
	Scale         Values        `json:"scale,omitempty"`         // share of the area; [0.08, 1] if not given
	Ratio         Values        `json:"ratio,omitempty"`         // width by height; [3/4, 4/3] if not given
	Interpolation Interpolation `json:"interpolation,omitempty"` // Bilinear if not given
}

func (t RandomResizedCrop) check() error {
	if err := t.Scale.checkPair("scale", 0, 1); err != nil {
		return err
	}
	if err := t.Ratio.checkPair("ratio", 1e-3, 1e3); err != nil {
		return err
	}
	return Resize{t.Size, t.Interpolation}.check()
}

// Apply crops and resizes.
func (t RandomResizedCrop) Apply(s *Sample, r *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	i, j, h, w := t.choose(s.Image.H, s.Image.W, r)
	if h != s.Image.H || w != s.Image.W {
		s.window(i, j, h, w, Constant, nil, 0)
	}
	h, w = t.Size.pair()
	s.resize(h, w, t.Interpolation)
	return nil
}

// choose tries ten times, then takes the most of the middle that keeps the ratio.
func (t RandomResizedCrop) choose(height, width int, r *rand.Rand) (i, j, h, w int) {
	least, most := t.Scale.or(0.08, 1)
	narrow, wide := t.Ratio.or(3.0/4, 4.0/3)
	for range 10 {
		area := float64(height*width) * uniform(r, least, most)
		ratio := math.Exp(uniform(r, math.Log(narrow), math.Log(wide)))
		w = int(math.RoundToEven(math.Sqrt(area * ratio)))
		h = int(math.RoundToEven(math.Sqrt(area / ratio)))
		if 0 < w && w <= width && 0 < h && h <= height {
			return r.IntN(height - h + 1), r.IntN(width - w + 1), h, w
		}
	}
	h, w = height, width
	if in := float64(width) / float64(height); in < narrow {
		h = max(int(math.RoundToEven(float64(w)/narrow)), 1)
	} else if in > wide {
		w = max(int(math.RoundToEven(float64(h)*wide)), 1)
	}
	return (height - h) / 2, (width - w) / 2, h, w
}
