package transforms

import (
	"fmt"
	"math/rand/v2"
)

// maxSide bounds heights and widths, so that a recipe cannot ask for more memory than an image can need.
const maxSide = 1 << 14

// Image is an 8-bit image of 1 (grey) or 3 (RGB) channel planes.
type Image struct {
	C, H, W int
	Pix     []uint8 // [C,H,W]
}

// NewImage is a black image.
func NewImage(c, h, w int) Image { return Image{C: c, H: h, W: w, Pix: make([]uint8, c*h*w)} }

func (m Image) plane(c int) []uint8 { return m.Pix[c*m.H*m.W:][:m.H*m.W] }

func (m Image) check() error {
	if m.C != 1 && m.C != 3 || m.H <= 0 || m.W <= 0 || m.H > maxSide || m.W > maxSide ||
		len(m.Pix) != m.C*m.H*m.W {
		return fmt.Errorf("an image of [%d,%d,%d] in %d bytes: 1 or 3 channels of at most %dx%d are wanted",
			m.C, m.H, m.W,
			len(m.Pix), maxSide, maxSide)
	}
	return nil
}

// Mask holds a class for each pixel.
type Mask struct {
	H, W int
	Pix  []uint8 // [H,W]
}

func (m Mask) image() Image { return Image{C: 1, H: m.H, W: m.W, Pix: m.Pix} }

// Sample is what the transforms change: an image, for segmentation its mask, and its label.
//
// The pixels that a caller puts in are read, never written; results lie in buffers that belong to the Sample,
// and that the next transform but one writes again. So a loader's worker keeps one Sample, sets Image and
// Mask for each picture, applies the list, and takes the result out before the next. A Sample is not to be
// copied after its first use, nor used by two goroutines at once.
type Sample struct {
	Image Image
	Mask  *Mask // nil: none; otherwise as high and wide as Image
	Label int

	// Epoch counts from 1; Key is the sample's in the run, the same in every epoch. Zeros
	// say that there is no run.
	Epoch int
	Key   uint64

	images, masks buffers
	mask          Mask // what Mask points to after the first change
}

// buffers are written in turn: one is read from while the other is written.
type buffers [2][]uint8

// next is n bytes that are not those of in; what stands there is anything.
func (b *buffers) next(in []uint8, n int) []uint8 {
	i := 0
	if len(in) > 0 && len(b[0]) > 0 && &in[0] == &b[0][0] {
		i = 1
	}
	if cap(b[i]) < n {
		b[i] = make([]uint8, n)
	}
	b[i] = b[i][:n]
	return b[i]
}

func (s *Sample) check() error {
	if err := s.Image.check(); err != nil {
		return err
	}
	if m := s.Mask; m != nil && (m.H != s.Image.H || m.W != s.Image.W || len(m.Pix) != m.H*m.W) {
		return fmt.Errorf("a mask of [%d,%d] in %d bytes does not fit an image of [%d,%d,%d]", m.H,
			m.W, len(m.Pix),
			s.Image.C, s.Image.H, s.Image.W)
	}
	return nil
}

// change puts in the place of the image one of [c,h,w] that f writes.
func (s *Sample) change(c, h, w int, f func(dst, src Image)) {
	dst := Image{C: c, H: h, W: w, Pix: s.images.next(s.Image.Pix, c*h*w)}
	f(dst, s.Image)
	s.Image = dst
}

// move changes the geometry: f writes the image and, with masked, the mask, both h high and w wide.
func (s *Sample) move(h, w int, f func(dst, src Image, masked bool)) {
	dst := Image{C: s.Image.C, H: h, W: w, Pix: s.images.next(s.Image.Pix, s.Image.C*h*w)}
	f(dst, s.Image, false)
	s.Image = dst
	if s.Mask != nil {
		to := Mask{H: h, W: w, Pix: s.masks.next(s.Mask.Pix, h*w)}
		f(to.image(), s.Mask.image(), true)
		s.mask = to
		s.Mask = &s.mask
	}
}

// Transform changes a sample, drawing whatever is random from r. The package's transforms are plain values:
// they hold no state and are safe for concurrent use.
type Transform interface {
	Apply(s *Sample, r *rand.Rand) error
}

// checker refuses settings that make no sense; every transform of the package is one.
type checker interface{ check() error }

// ready is the first line of every Apply.
func ready(t checker, s *Sample) error {
	if err := t.check(); err != nil {
		return err
	}
	return s.check()
}
