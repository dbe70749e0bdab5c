package kernels

// Reorder converts between the plain layout [N,C,H,W] and a blocked one.
type Reorder struct {
	l     Layout
	parts int // of the rows of a block
}

// NewReorder plans the conversion to and from l. Without a halo a plane is a few long rows.
func NewReorder(l Layout) *Reorder {
	parts := rowParts(l.H, l.H*l.W*l.Lanes)
	if l.Halo == 0 {
		for l.H%parts > 0 {
			parts--
		}
		l.H, l.W = parts, l.H/parts*l.W
	}
	return &Reorder{l, parts}
}

// rowParts is the number of parts of so many rows for moving so many floats of a plane: about 5 us a part.
func rowParts(rows, floats int) int { return max(1, min(8, rows, floats/(16<<10))) }

// Chunks is the number of chunks of either direction: parts of the rows of a channel block of an image.
func (r *Reorder) Chunks() int { return r.l.N * r.l.Blocks() * r.parts }

// part is what a chunk converts: rows [lo, hi) of block b of image n.
func (r *Reorder) part(chunk int) (n, b, lo, hi int) {
	lo, hi = span(r.l.H, chunk%r.parts, r.parts)
	chunk /= r.parts
	return chunk / r.l.Blocks(), chunk % r.l.Blocks(), lo, hi
}

// ToBlocked writes a part of the blocked map, halo and pad lanes included.
func (r *Reorder) ToBlocked(chunk int, dst, nchw []float32) {
	l := r.l
	n, b, lo, hi := r.part(chunk)
	channels := l.real(b)
	area := l.H * l.W
	src := nchw[(n*l.C+b*l.Lanes)*area:]
	if l.Lanes < narrowBlock { // the halo is a few floats at a time: all at once is faster
		l.clearRows(dst, n, lo, hi)
		for h := lo; h < hi; h++ {
			row := dst[l.at(n, b, h, 0):][:l.W*l.Lanes]
			if l.Lanes == 1 {
				copy(row, src[h*l.W:])
				continue
			}
			if l.Lanes == 3 {
				interleave(row, src[h*l.W:][:l.W], src[area+h*l.W:], src[2*area+h*l.W:])
				continue
			}
			for c := range channels {
				for w, v := range src[c*area+h*l.W:][:l.W] {
					row[w*l.Lanes+c] = v
				}
			}
		}
		return
	}
	for h := lo; h < hi; h++ {
		row := dst[l.at(n, b, h, 0):][:l.W*l.Lanes]
		if channels < l.Lanes {
			clear(row)
		}
		if l.Lanes == Block {
			gather(row, src[h*l.W:], area, l.W, channels)
			continue
		}
		for c := range channels {
			for w, v := range src[c*area+h*l.W:][:l.W] {
				row[w*l.Lanes+c] = v
			}
		}
	}
	l.clearHalo(dst, n, b, lo, hi)
}

// clearRows zeroes rows [lo, hi) of an image of one block, with the halo around them.
func (l *Layout) clearRows(dst []float32, n, lo, hi int) {
	if lo == 0 {
		lo = -l.Halo
	}
	if hi == l.H {
		hi += l.Halo
	}
	clear(dst[l.at(n, 0, lo, -l.Halo):][:(hi-lo)*l.row()])
}

// interleave writes dst = r[0], g[0], b[0], r[1] and so on.
func interleave(dst, r, g, b []float32) {
	g, b = g[:len(r)], b[:len(r)]
	for i, v := range r {
		pixel := dst[3*i : 3*i+3 : 3*i+3]
		pixel[0], pixel[1], pixel[2] = v, g[i], b[i]
	}
}

// ToPlain writes a part of the plain map.
func (r *Reorder) ToPlain(chunk int, nchw, src []float32) {
	l := r.l
	n, b, lo, hi := r.part(chunk)
	area := l.H * l.W
	dst := nchw[(n*l.C+b*l.Lanes)*area:]
	for h := lo; h < hi; h++ {
		row := src[l.at(n, b, h, 0):][:l.W*l.Lanes]
		if l.Lanes == Block {
			scatter(dst[h*l.W:], row, area, l.W, l.real(b))
			continue
		}
		for c := range l.C {
			to := dst[c*area+h*l.W:][:l.W]
			for w := range to {
				to[w] = row[w*l.Lanes+c]
			}
		}
	}
}
