package kernels

import "fmt"

// Subsample copies the pixels of a map of lines, of bf16 or bytes, that a convolution of 1x1 with a stride
// reads, so that they lie side by side: tiles run over the ends of rows then, and take the weights through the
// first-level cache less often. On bytes it has not paid.
type Subsample struct {
	In, Out          LineLayout
	strideH, strideW int
	parts            int // chunks of an image
}

// NewSubsample plans every strideH-th row and strideW-th pixel of x, from the first on.
func NewSubsample(x LineLayout, strideH, strideW int) (*Subsample, error) {
	if err := x.valid(x.Lanes); err != nil {
		return nil, err
	}
	if x.pixel() != lineBytes || min(strideH, strideW) < 1 {
		return nil, fmt.Errorf("kernels: every %dx%d-th pixel of %+v", strideH, strideW, x)
	}
	s := &Subsample{In: x, Out: x, strideH: strideH, strideW: strideW, parts: min(x.Blocks(), 8)}
	s.Out.H, s.Out.W, s.Out.Halo = (x.H+strideH-1)/strideH, (x.W+strideW-1)/strideW, 0
	return s, nil
}

// Chunks is the number of chunks of Run.
func (s *Subsample) Chunks() int { return s.In.N * s.parts }

// Run writes a part of dst; both are the bytes of maps.
func (s *Subsample) Run(chunk int, dst, src []uint8) {
	n := chunk / s.parts
	lo, hi := span(s.In.Blocks(), chunk%s.parts, s.parts)
	for b := lo; b < hi; b++ {
		for h := range s.Out.H {
			from, to := s.In.at(n, b, h*s.strideH, 0)*lineBytes, s.Out.at(n, b, h, 0)*lineBytes
			row := dst[to:][:s.Out.W*lineBytes]
			for len(row) > 0 {
				*(*[lineBytes]uint8)(row) = [lineBytes]uint8(src[from:][:lineBytes])
				row, from = row[lineBytes:], from+s.strideW*lineBytes
			}
		}
	}
}

// Cost estimates all of Run.
func (s *Subsample) Cost() float64 {
	return FarCost(2 * int64(s.Out.N) * int64(s.Out.imageLines()) * lineBytes)
}
