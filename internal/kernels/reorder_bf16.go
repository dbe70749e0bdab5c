package kernels

import "fmt"

// ReorderBF16 converts between float32 and a bf16 map: from and to the plain layout
// [N,C,H,W], or a blocked one.
type ReorderBF16 struct {
	lines   LineLayout
	blocked Layout // of the same shape; N is 0 for the plain layout
	strips  int    // of rows of a block's plane
}

// segment is the number of pixels that are converted at once.
const segment = 32

var noLanes [segment * Block]float32

// NewReorderBF16 plans the conversion between the plain layout and l.
func NewReorderBF16(l LineLayout) (*ReorderBF16, error) {
	if err := l.valid(BF16Lanes); err != nil {
		return nil, err
	}
	const pixels = 4096 // of a chunk: 1 MiB is read and written
	return &ReorderBF16{lines: l, strips: min(l.H, (l.H*l.W+pixels-1)/pixels)}, nil
}

// NewReorderBF16Blocked plans the conversion between the blocked layout b and l. Their halos may differ.
func NewReorderBF16Blocked(b Layout, l LineLayout) (*ReorderBF16, error) {
	r, err := NewReorderBF16(l)
	if err != nil || l.N == 0 {
		return r, err
	}
	if err := b.valid(); err != nil {
		return nil, err
	}
	if b.N != l.N || b.C != l.C || b.H != l.H || b.W != l.W {
		return nil, fmt.Errorf("kernels: conversion of %+v to %+v", b, l)
	}
	r.blocked = b
	return r, nil
}

// Chunks is the number of chunks of either direction.
func (r *ReorderBF16) Chunks() int { return r.lines.N * r.lines.Blocks() * r.strips }

// Cost estimates either direction.
func (r *ReorderBF16) Cost() float64 {
	return float64(r.lines.N*r.lines.Blocks()*r.lines.H*r.lines.W) * (lineBytes + 2*lineBytes) / farBytes
}

// part is the image, block and rows of a chunk.
func (r *ReorderBF16) part(chunk int) (n, b, lo, hi int) {
	lo, hi = span(r.lines.H, chunk%r.strips, r.strips)
	chunk /= r.strips
	return chunk / r.lines.Blocks(), chunk % r.lines.Blocks(), lo, hi
}

// ToBF16 writes a part of the bf16 map, halo and lanes past C included. src is in the other layout.
func (r *ReorderBF16) ToBF16(chunk int, dst []uint16, src []float32) {
	n, b, lo, hi := r.part(chunk)
	l := r.lines
	var buf [2][segment * Block]float32
	for h := lo; h < hi; h++ {
		row := dst[l.at(n, b, h, 0)*BF16Lanes:][:l.W*BF16Lanes]
		for w := 0; w < l.W; w += segment {
			many := min(segment, l.W-w)
			first, second := r.load(&buf, src, n, b, h, w, many)
			narrow(row[w*BF16Lanes:], first, second, many, Block)
		}
	}
	fillHalo(l, dst, n, b, lo, hi, 0)
}

// load is 16 and 16 lanes of some pixels of a row: where they lie, or copied to buf.
func (r *ReorderBF16) load(buf *[2][segment * Block]float32, src []float32, n, b, h, w, many int) (lo,
	hi []float32) {
	l := r.lines
	both := [2][]float32{noLanes[:], noLanes[:]}
	for i := range both {
		c := b*BF16Lanes + i*Block
		cols := min(Block, l.C-c)
		switch {
		case cols <= 0:
		case r.blocked.N == 0:
			both[i] = buf[i][:]
			if cols < Block {
				clear(both[i])
			}
			gather(both[i], src[((n*l.C+c)*l.H+h)*l.W+w:], l.H*l.W, many, cols)
		case r.blocked.Lanes == Block:
			both[i] = src[r.blocked.at(n, c/Block, h, w):]
		default:
			both[i] = buf[i][:]
			from := src[r.blocked.at(n, 0, h, w):]
			for p := range many {
				clear(both[i][p*Block:][copy(both[i][p*Block:],
					from[p*r.blocked.Lanes:][:r.blocked.Lanes]):][:Block-r.blocked.Lanes])
			}
		}
	}
	return both[0], both[1]
}

// FromBF16 writes a part of the other map, of a blocked one halo and lanes past C included.
func (r *ReorderBF16) FromBF16(chunk int, dst []float32, src []uint16) {
	n, b, lo, hi := r.part(chunk)
	l := r.lines
	var buf [2][segment * Block]float32
	for h := lo; h < hi; h++ {
		row := src[l.at(n, b, h, 0)*BF16Lanes:][:l.W*BF16Lanes]
		for w := 0; w < l.W; w += segment {
			many := min(segment, l.W-w)
			r.store(&buf, dst, row[w*BF16Lanes:], n, b, h, w, many)
		}
	}
	if r.blocked.N == 0 {
		return
	}
	for c := b * BF16Lanes; c < min(l.C, (b+1)*BF16Lanes); c += Block {
		r.blocked.clearHalo(dst, n, c/Block, lo, hi)
	}
}

// store writes some pixels of a row, by way of buf where they do not lie in 16 lanes.
func (r *ReorderBF16) store(buf *[2][segment * Block]float32, dst []float32, row []uint16, n, b, h,
	w, many int) {
	l := r.lines
	both := [2][]float32{buf[0][:], buf[1][:]}
	direct := r.blocked.N > 0 && r.blocked.Lanes == Block
	for i := range both {
		if c := b*BF16Lanes + i*Block; direct && c < l.C {
			both[i] = dst[r.blocked.at(n, c/Block, h, w):]
		}
	}
	widen(both[0], both[1], row, many, Block)
	for i := range both {
		c := b*BF16Lanes + i*Block
		cols := min(Block, l.C-c)
		switch {
		case direct || cols <= 0:
		case r.blocked.N == 0:
			scatter(dst[((n*l.C+c)*l.H+h)*l.W+w:], both[i], l.H*l.W, many, cols)
		default:
			to := dst[r.blocked.at(n, 0, h, w):]
			for p := range many {
				copy(to[p*r.blocked.Lanes:][:r.blocked.Lanes], both[i][p*Block:])
			}
		}
	}
}
