package kernels

import "fmt"

// ReorderInt8 converts between a map of bytes in lines, or in pixels of 4 lanes, and the plain or the blocked
// one: bytes to bytes, and by Levels float32 to bytes and back.
type ReorderInt8 struct {
	lines   LineLayout
	blocked Layout // of the same shape; N is 0 for the plain layout
	strips  int
	zero    uint8 // of the halo and the lanes past C
}

// NewReorderInt8 plans the conversion between the plain layout and l, whose halo is filled with zero.
func NewReorderInt8(l LineLayout, zero uint8) (*ReorderInt8, error) {
	if err := l.valid(l.Lanes); err != nil || l.Lanes != Int8Lanes && l.Lanes != PixelLanes {
		return nil, fmt.Errorf("kernels: conversion of %+v", l)
	}
	const pixels = 4096
	return &ReorderInt8{lines: l, strips: min(l.H, (l.H*l.W+pixels-1)/pixels), zero: zero}, nil
}

// NewReorderInt8Blocked plans the conversion between the blocked layout b of float32 and
// l. Their halos may differ.
func NewReorderInt8Blocked(b Layout, l LineLayout, zero uint8) (*ReorderInt8, error) {
	r, err := NewReorderInt8(l, zero)
	if err != nil {
		return nil, err
	}
	if err := b.valid(); err != nil {
		return nil, err
	}
	if b.N != l.N || b.C != l.C || b.H != l.H || b.W != l.W || l.Lanes != Int8Lanes {
		return nil, fmt.Errorf("kernels: conversion of %+v to %+v", b, l)
	}
	r.blocked = b
	return r, nil
}

// Chunks is the number of chunks of any direction.
func (r *ReorderInt8) Chunks() int { return r.lines.N * r.lines.Blocks() * r.strips }

// Cost estimates a conversion of float32.
func (r *ReorderInt8) Cost() float64 {
	return FarCost(int64(r.lines.Size()) + 4*int64(r.lines.N*r.lines.C)*int64(r.lines.H*r.lines.W))
}

// part is the image, block and rows of a chunk.
func (r *ReorderInt8) part(chunk int) (n, b, lo, hi int) {
	lo, hi = span(r.lines.H, chunk%r.strips, r.strips)
	chunk /= r.strips
	return chunk / r.lines.Blocks(), chunk % r.lines.Blocks(), lo, hi
}

// plain is where row h of channel c lies.
func (r *ReorderInt8) plain(n, c, h int) int { return ((n*r.lines.C+c)*r.lines.H + h) * r.lines.W }

// ToLines writes a part of the lines from plain bytes.
func (r *ReorderInt8) ToLines(chunk int, dst, src []uint8) {
	n, b, lo, hi := r.part(chunk)
	l := r.lines
	for h := lo; h < hi; h++ {
		row := dst[l.value(n, b, h, 0):][:l.W*l.Lanes]
		if l.C-b*l.Lanes < l.Lanes {
			fill(row, r.zero)
		}
		for c := range min(l.Lanes, l.C-b*l.Lanes) {
			for w, v := range src[r.plain(n, b*l.Lanes+c, h):][:l.W] {
				row[w*l.Lanes+c] = v
			}
		}
	}
	r.fill(dst, n, b, lo, hi)
}

// fill writes the halo, whatever the lanes are.
func (r *ReorderInt8) fill(dst []uint8, n, b, lo, hi int) {
	if r.lines.Lanes == Int8Lanes {
		fillHalo(r.lines, dst, n, b, lo, hi, r.zero)
		return
	}
	one := r.lines
	one.N = 1
	fillHalo(one, dst[n*r.lines.image():], 0, 0, lo, hi, r.zero)
}

// FromLines writes a part of the plain bytes.
func (r *ReorderInt8) FromLines(chunk int, dst, src []uint8) {
	n, b, lo, hi := r.part(chunk)
	l := r.lines
	if l.H*l.W == 1 {
		copy(dst[r.plain(n, b*l.Lanes, 0):][:min(l.Lanes, l.C-b*l.Lanes)], src[l.value(n, b, 0, 0):])
		return
	}
	for h := lo; h < hi; h++ {
		row := src[l.value(n, b, h, 0):][:l.W*l.Lanes]
		for c := range min(l.Lanes, l.C-b*l.Lanes) {
			to := dst[r.plain(n, b*l.Lanes+c, h):][:l.W]
			for w := range to {
				to[w] = row[w*l.Lanes+c]
			}
		}
	}
}

// Quantize writes a part of the lines, or pixels, from float32 in the other layout.
func (r *ReorderInt8) Quantize(chunk int, dst []uint8, src []float32, q *Levels) {
	n, b, lo, hi := r.part(chunk)
	l := r.lines
	for h := lo; h < hi; h++ {
		row := dst[l.value(n, b, h, 0):][:l.W*l.Lanes]
		switch {
		case l.Lanes == PixelLanes:
			var planes [PixelLanes][]float32
			for c := range l.C {
				planes[c] = src[r.plain(n, c, h):][:l.W]
			}
			q.pixels(row, &planes, l.W)
		case r.blocked.N == 0:
			r.eachTurned(n, b, h, func(buf []float32, plain, lane, channels, pixels int) {
				turn(buf, Block, src[plain:], l.H*l.W, channels, pixels)
				q.quantize(row[lane:], buf, pixels, Int8Lanes, Block)
			})
		case r.blocked.Lanes != Block:
			r.quantizeEach(row, src, n, b, h, q)
		default:
			for c := b * Int8Lanes; c < min(l.C, (b+1)*Int8Lanes); c += Block {
				q.quantize(row[c%Int8Lanes:], src[r.blocked.at(n, c/Block, h, 0):], l.W, Int8Lanes, Block)
			}
		}
	}
	r.fill(dst, n, b, lo, hi)
}

// eachTurned calls f for pieces of a row of the plain layout, up to 64 pixels of up to 16 channels: buf has
// room for them pixel by pixel, 16 floats each, and zeros for the channels that there are not. plain and lane
// are where the piece begins in the plain layout and in a row of lines.
func (r *ReorderInt8) eachTurned(n, b, h int, f func(buf []float32, plain, lane, channels, pixels int)) {
	const pixels = 64
	var buf [pixels * Block]float32
	for c := b * Int8Lanes; c < min(r.lines.C, (b+1)*Int8Lanes); c += Block {
		channels := min(Block, r.lines.C-c)
		if channels < Block {
			clear(buf[:])
		}
		for w := 0; w < r.lines.W; w += pixels {
			f(buf[:], r.plain(n, c, h)+w, w*Int8Lanes+c%Int8Lanes, channels, min(pixels, r.lines.W-w))
		}
	}
}

// quantizeEach does so one by one, from blocks of 8 lanes or fewer.
func (r *ReorderInt8) quantizeEach(row []uint8, src []float32, n, b, h int, q *Levels) {
	l := r.lines
	for c := range min(l.Lanes, l.C-b*l.Lanes) {
		at, step := r.blocked.at(n, 0, h, 0)+c, r.blocked.Lanes
		for w := range l.W {
			row[w*l.Lanes+c] = q.level(src[at+w*step])
		}
	}
}

// Dequantize writes a part of the other layout in float32, of a blocked one halo and lanes past C included.
func (r *ReorderInt8) Dequantize(chunk int, dst []float32, src []uint8, q *Levels) {
	n, b, lo, hi := r.part(chunk)
	l := r.lines
	for h := lo; h < hi; h++ {
		row := src[l.value(n, b, h, 0):][:l.W*l.Lanes]
		switch {
		case r.blocked.N == 0:
			r.eachTurned(n, b, h, func(buf []float32, plain, lane, channels, pixels int) {
				q.dequantize(buf, row[lane:], pixels, Block, Int8Lanes)
				turn(dst[plain:], l.H*l.W, buf, Block, pixels, channels)
			})
			continue
		case r.blocked.Lanes != Block:
			r.dequantizeEach(dst, row, n, b, h, q)
			continue
		}
		for c := b * Int8Lanes; c < min(l.C, (b+1)*Int8Lanes); c += Block {
			to := dst[r.blocked.at(n, c/Block, h, 0):]
			q.dequantize(to, row[c%Int8Lanes:], l.W, Block, Int8Lanes)
			if real := l.C - c; real < Block {
				clearLanes(to[:l.W*Block], real, Block)
			}
		}
	}
	if r.blocked.N == 0 {
		return
	}
	for c := b * Int8Lanes; c < min(l.C, (b+1)*Int8Lanes); c += r.blocked.Lanes {
		r.blocked.clearHalo(dst, n, c/r.blocked.Lanes, lo, hi)
	}
}

func (r *ReorderInt8) dequantizeEach(dst []float32, row []uint8, n, b, h int, q *Levels) {
	l := r.lines
	step := r.blocked.Lanes
	if l.C < step {
		clear(dst[r.blocked.at(n, 0, h, 0):][:l.W*step])
	}
	for c := range min(l.Lanes, l.C-b*l.Lanes) {
		at := r.blocked.at(n, 0, h, 0) + c
		for w := range l.W {
			dst[at+w*step] = float32(q.to.value(row[w*l.Lanes+c])-q.zero) * q.scale
		}
	}
}

// Part is where a map of fewer channels lies in one of more, channels behind one another: blocks of lines are
// copied where its first channel begins a line, else its lanes.
type PartInt8 struct {
	whole, part LineLayout
	first       int // channel
	zero        uint8
}

// NewPartInt8 plans the copy of part to the channels of whole from first on. The halo of
// whole is filled with zero.
func NewPartInt8(whole, part LineLayout, first int, zero uint8) (*PartInt8, error) {
	for _, l := range []LineLayout{whole, part} {
		if err := l.valid(Int8Lanes); err != nil {
			return nil, err
		}
	}
	if whole.N != part.N || whole.H != part.H || whole.W != part.W || first < 0 || first+part.C > whole.C {
		return nil, fmt.Errorf("kernels: %+v from channel %d of %+v", part, first, whole)
	}
	return &PartInt8{whole, part, first, zero}, nil
}

// Chunks is the number of chunks of Join: one an image, so that no two write one line.
func (p *PartInt8) Chunks() int { return p.whole.N }

// Join copies the part of an image to the whole.
func (p *PartInt8) Join(n int, whole, part []uint8) {
	for c := 0; c < p.part.C; {
		to, from := (p.first+c)%Int8Lanes, c%Int8Lanes
		lanes := min(Int8Lanes-to, Int8Lanes-from, p.part.C-c)
		b := (p.first + c) / Int8Lanes
		for h := range p.whole.H {
			dst, src := whole[p.whole.value(n, b, h, 0)+to:], part[p.part.value(n, c/Int8Lanes, h, 0)+from:]
			if lanes == Int8Lanes {
				copy(dst[:p.whole.W*Int8Lanes], src)
				continue
			}
			for w := range p.whole.W {
				copy(dst[w*Int8Lanes:][:lanes], src[w*Int8Lanes:])
			}
		}
		fillHalo(p.whole, whole, n, b, 0, p.whole.H, p.zero)
		c += lanes
	}
}

// WalkInt8 is the rows of maps of lines that have one shape, whose halos may differ. Maps other than the
// first may be of one pixel.
type WalkInt8 struct {
	maps   []LineLayout // the first is written
	zero   uint8        // of its halo
	strips int
}

// NewWalkInt8 plans a walk over y and others of its shape.
func NewWalkInt8(zero uint8, y LineLayout, others ...LineLayout) (*WalkInt8, error) {
	for _, l := range append([]LineLayout{y}, others...) {
		if err := l.valid(Int8Lanes); err != nil {
			return nil, err
		}
		if l.N != y.N || l.C != y.C || (l.H != y.H || l.W != y.W) && (l.H != 1 || l.W != 1) {
			return nil, fmt.Errorf("kernels: %+v beside %+v", l, y)
		}
	}
	const pixels = 2048
	return &WalkInt8{append([]LineLayout{y}, others...), zero, min(y.H, (y.H*y.W+pixels-1)/pixels)}, nil
}

// Chunks is the number of chunks.
func (k *WalkInt8) Chunks() int { return k.maps[0].N * k.maps[0].Blocks() * k.strips }

// Each calls f with where stretches of n bytes begin in each map, and fills y's halo.
func (k *WalkInt8) Each(chunk int, y []uint8, f func(at []int, n int)) {
	l := k.maps[0]
	lo, hi := span(l.H, chunk%k.strips, k.strips)
	plane := chunk / k.strips
	image, b := plane/l.Blocks(), plane%l.Blocks()
	rows, gaps := 1, 0
	for _, m := range k.maps {
		gaps += m.Halo
	}
	if gaps == 0 { // rows follow one another
		rows = hi - lo
	}
	var space [4]int
	for h := lo; h < hi; h += rows {
		at := space[:0]
		for _, m := range k.maps {
			at = append(at, m.value(image, b, min(h, m.H-1), 0))
		}
		f(at, rows*l.W*Int8Lanes)
	}
	fillHalo(l, y, image, b, lo, hi, k.zero)
}
