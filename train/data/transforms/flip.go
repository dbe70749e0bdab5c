package transforms

import (
	"math/rand/v2"
	"slices"
)

// RandomHorizontalFlip mirrors left and right with probability P (0.5 in JSON, if not given).
type RandomHorizontalFlip struct {
	P float64 `json:"p"`
}

func (t RandomHorizontalFlip) check() error { return checkP(t.P) }

// Apply flips, or not.
func (t RandomHorizontalFlip) Apply(s *Sample, r *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	if r.Float64() < t.P {
		s.move(s.Image.H, s.Image.W, func(dst, src Image, _ bool) { mirror(dst, src) })
	}
	return nil
}

func mirror(dst, src Image) {
	for y := range src.C * src.H {
		in, out := src.Pix[y*src.W:][:src.W], dst.Pix[y*src.W:][:src.W]
		for x, p := range in {
			out[len(out)-1-x] = p
		}
	}
}

// AlternatingFlip mirrors left and right in every second epoch: half of the images, chosen by the run's seed,
// in the odd ones and the others in the even ones. So an image is seen as often either way, which chance does
// not see to (Jordan 2024, arXiv:2404.00498, section 3.6). An image of no run, of epoch 0, stays as it is.
type AlternatingFlip struct{}

// Apply flips, or not.
func (AlternatingFlip) Apply(s *Sample, _ *rand.Rand) error {
	if err := s.check(); err != nil {
		return err
	}
	if s.Epoch > 0 && (s.Key+uint64(s.Epoch))%2 == 0 {
		s.move(s.Image.H, s.Image.W, func(dst, src Image, _ bool) { mirror(dst, src) })
	}
	return nil
}

// RandomVerticalFlip mirrors top and bottom with probability P (0.5 in JSON, if not given).
type RandomVerticalFlip struct {
	P float64 `json:"p"`
}

func (t RandomVerticalFlip) check() error { return checkP(t.P) }

// Apply flips, or not.
func (t RandomVerticalFlip) Apply(s *Sample, r *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	if r.Float64() < t.P {
		s.move(s.Image.H, s.Image.W, func(dst, src Image, _ bool) { overturn(dst, src) })
	}
	return nil
}

func overturn(dst, src Image) {
	for c := range src.C {
		in, out := src.plane(c), dst.plane(c)
		for y := range src.H {
			copy(out[(src.H-1-y)*src.W:][:src.W], in[y*src.W:])
		}
	}
}

// turn rotates by quarters, counter-clockwise; dst is of the turned size.
func turn(dst, src Image, quarters int) {
	switch quarters {
	case 0:
		copy(dst.Pix, src.Pix)
	case 2:
		for c := range src.C {
			out := dst.plane(c)
			copy(out, src.plane(c))
			slices.Reverse(out)
		}
	default:
		for c := range src.C {
			in, out := src.plane(c), dst.plane(c)
			for y := range dst.H {
				for x := range dst.W {
					if quarters == 1 {
						out[y*dst.W+x] = in[x*src.W+src.W-1-y]
					} else {
						out[y*dst.W+x] = in[(src.H-1-x)*src.W+y]
					}
				}
			}
		}
	}
}
