package kernels

import (
	"fmt"
	"math"
)

// PoolInt8Spec is the geometry of a pooling of quantized maps.
type PoolInt8Spec struct {
	X, Y LineLayout
	Window
	From, To           Quantized
	FromScale, ToScale float32 // of an average
	CountPad           bool    // an average counts padding as pixels of the value 0: every window is whole
	Fill               uint8   // of Y's halo
}

// PoolInt8 is a planned pooling of quantized maps. The halo of X is not read.
type PoolInt8 struct {
	PoolInt8Spec
	number [256]float32 // that a byte stands for
	strips int          // of the rows of a plane
}

// NewPoolInt8 plans a pooling; an error says that these kernels do not cover it.
func NewPoolInt8(s PoolInt8Spec) (*PoolInt8, error) {
	for _, l := range []LineLayout{s.X, s.Y} {
		if err := l.valid(Int8Lanes); err != nil {
			return nil, err
		}
	}
	if err := s.Window.valid(s.X, s.Y); err != nil {
		return nil, err
	}
	if s.X.C != s.Y.C {
		return nil, fmt.Errorf("kernels: pooling of %+v to %+v", s.X, s.Y)
	}
	const pixels = 1024
	p := &PoolInt8{PoolInt8Spec: s, strips: min(s.Y.H, (s.Y.H*s.Y.W+pixels-1)/pixels)}
	for i := range p.number {
		p.number[i] = s.FromScale * float32(s.From.value(uint8(i))-s.From.Zero)
	}
	return p, nil
}

// Chunks is the number of chunks.
func (p *PoolInt8) Chunks() int { return p.Y.N * p.Y.Blocks() * p.strips }

// part is the image, block and rows of a chunk.
func (p *PoolInt8) part(chunk int) (n, b, lo, hi int) {
	lo, hi = span(p.Y.H, chunk%p.strips, p.strips)
	chunk /= p.strips
	return chunk / p.Y.Blocks(), chunk % p.Y.Blocks(), lo, hi
}

// taps are those of the window of output i that lie within n pixels.
func taps(i, stride, pad, dilation, kernel, n int) (lo, hi int) {
	first := i*stride - pad
	for lo = 0; lo < kernel && first+lo*dilation < 0; lo++ {
	}
	for hi = kernel; hi > lo && first+(hi-1)*dilation >= n; hi-- {
	}
	return lo, hi
}

// Max computes a part of the largest values. A window over padding alone gives the least value there is.
func (p *PoolInt8) Max(chunk int, y, x []uint8) {
	n, b, first, last := p.part(chunk)
	low, _ := p.From.limits()
	for h := first; h < last; h++ {
		row := y[p.Y.value(n, b, h, 0):][:p.Y.W*lineBytes]
		fill(row, uint8(low))
		lo, hi := taps(h, p.StrideH, p.PadTop, p.DilH, p.KH, p.X.H)
		for k := lo; k < hi; k++ {
			for v := range p.KW {
				p.maxColumn(row, x, n, b, h*p.StrideH-p.PadTop+k*p.DilH, v*p.DilW-p.PadLeft)
			}
		}
	}
	fillHalo(p.Y, y, n, b, first, last, p.Fill)
}

// maxColumn takes into account the pixels of row h from column first on, a stride apart, as
// far as they lie in the map.
func (p *PoolInt8) maxColumn(row, x []uint8, n, b, h, first int) {
	lo := 0
	if first < 0 {
		lo = (-first + p.StrideW - 1) / p.StrideW
	}
	hi := min(p.Y.W, (p.X.W-first+p.StrideW-1)/p.StrideW)
	if lo < hi {
		maxLines(row[lo*lineBytes:], x[p.X.value(n, b, h, first+lo*p.StrideW):], hi-lo, p.StrideW*lineBytes,
			p.From.Signed)
	}
}

// Average computes a part of the means, in float32 and in the order of the pixels.
func (p *PoolInt8) Average(chunk int, y, x []uint8) {
	n, b, first, last := p.part(chunk)
	low, high := p.To.limits()
	for i := first * p.Y.W; i < last*p.Y.W; i++ {
		h, w := i/p.Y.W, i%p.Y.W
		hlo, hhi := taps(h, p.StrideH, p.PadTop, p.DilH, p.KH, p.X.H)
		wlo, whi := taps(w, p.StrideW, p.PadLeft, p.DilW, p.KW, p.X.W)
		count := (hhi - hlo) * (whi - wlo)
		if p.CountPad {
			count = p.KH * p.KW
		}
		var sums [Int8Lanes]float32
		for kh := hlo; kh < hhi; kh++ {
			for kw := wlo; kw < whi; kw++ {
				at := p.X.value(n, b, h*p.StrideH-p.PadTop+kh*p.DilH, w*p.StrideW-p.PadLeft+kw*p.DilW)
				for c, v := range x[at:][:Int8Lanes] {
					sums[c] += p.number[v]
				}
			}
		}
		line := y[p.Y.value(n, b, h, w):][:Int8Lanes]
		for c, sum := range sums {
			if count > 0 {
				sum /= float32(count)
			}
			q := float32(sum/p.ToScale) + float32(p.To.Zero)
			line[c] = uint8(int32(max(float64(low), min(math.RoundToEven(float64(q)), float64(high)))))
		}
	}
	fillHalo(p.Y, y, n, b, first, last, p.Fill)
}

// Global computes a part of the means of whole maps: whole numbers are summed, and scaled once.
func (p *PoolInt8) Global(chunk int, y, x []uint8) {
	n, b, _, _ := p.part(chunk)
	area := p.X.H * p.X.W
	var sums [Int8Lanes]int32
	for h := range p.X.H {
		sumLines(&sums, x[p.X.value(n, b, h, 0):], p.X.W, p.From.Signed)
	}
	call := int8Call{to: p.To}
	call.bounds(&Requantize{})
	by := p.FromScale / (p.ToScale * float32(area))
	line := y[p.Y.value(n, b, 0, 0):][:Int8Lanes]
	for c, sum := range sums {
		line[c] = call.requantize(sum-p.From.Zero*int32(area), by)
	}
	fillHalo(p.Y, y, n, b, 0, p.Y.H, p.Fill)
}
