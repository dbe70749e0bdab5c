package transforms

import (
	"fmt"
	"math/rand/v2"

	"github.com/cnnkit/cnnkit/runtime/vision/resample"
)

// Interpolation says how a pixel between pixels is made.
type Interpolation string

// The interpolations. Where a shrinking image is resized, Bilinear and Bicubic widen
// their kernels (antialias).
const (
	Nearest  Interpolation = "nearest"
	Bilinear Interpolation = "bilinear"
	Bicubic  Interpolation = "bicubic"
)

// Resize makes the shorter side of the image Size, or the image Size [height, width].
// Masks take the nearest pixel.
type Resize struct {
	Size          Ints          `json:"size"`
	Interpolation Interpolation `json:"interpolation,omitempty"` // Bilinear if not given
}

func (t Resize) check() error {
	if err := t.Size.checkSize("size"); err != nil {
		return err
	}
	return checkWord("interpolation", t.Interpolation, Nearest, Bilinear, Bicubic)
}

// Apply resizes.
func (t Resize) Apply(s *Sample, _ *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	h, w := t.Size[0], t.Size[len(t.Size)-1]
	if len(t.Size) == 1 {
		if s.Image.W <= s.Image.H {
			h = t.Size[0] * s.Image.H / s.Image.W
		} else {
			w = t.Size[0] * s.Image.W / s.Image.H
		}
		if h > maxSide || w > maxSide {
			return fmt.Errorf("resizing %dx%d to %dx%d: sides of at most %d are wanted", s.Image.H, s.Image.W,
				h, w, maxSide)
		}
	}
	s.resize(h, w, t.Interpolation)
	return nil
}

func (s *Sample) resize(h, w int, by Interpolation) {
	if h == s.Image.H && w == s.Image.W {
		return
	}
	s.move(h, w, func(dst, src Image, masked bool) {
		if masked {
			resize(dst, src, Nearest)
		} else {
			resize(dst, src, by)
		}
	})
}

// resize is PIL's Image.resize.
func resize(dst, src Image, by Interpolation) {
	if by == Nearest {
		scale(dst, src, [6]float64{float64(src.W) / float64(dst.W), 0, 0, 0, float64(src.H) / float64(dst.H),
			0}, nil)
		return
	}
	resample.Resize(resample.Image(dst), resample.Image(src), resample.Kernel(by))
}
