package kernels

// Reorder converts between the plain layout [N,C,H,W] and a blocked one.
type Reorder struct{ l Layout }

// NewReorder plans the conversion to and from l. Without a halo a plane is one long row.
func NewReorder(l Layout) *Reorder {
	if l.Halo == 0 {
		l.H, l.W = 1, l.H*l.W
	}
	return &Reorder{l}
}

// Chunks is the number of chunks of either direction: one a channel block of an image.
func (r *Reorder) Chunks() int { return r.l.N * r.l.Blocks() }

// ToBlocked writes a part of the blocked map, halo and pad lanes included.
func (r *Reorder) ToBlocked(chunk int, dst, nchw []float32) {
	l := r.l
	n, b := chunk/l.Blocks(), chunk%l.Blocks()
	channels := l.real(b)
	area := l.H * l.W
	src := nchw[(n*l.C+b*l.Lanes)*area:]
	if l.Lanes < narrowBlock { // the halo is a few floats at a time: all at once is faster
		clear(dst[n*l.image():][:l.image()])
		for h := range l.H {
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
	for h := range l.H {
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
	l.clearHalo(dst, n, b, 0, l.H)
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
	n, b := chunk/l.Blocks(), chunk%l.Blocks()
	area := l.H * l.W
	dst := nchw[(n*l.C+b*l.Lanes)*area:]
	for h := range l.H {
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

// CopyChannels copies channels [SrcC, SrcC+Count) of one blocked map to [DstC, ...) of another of the same N, H and W.
type CopyChannels struct {
	dst, src         Layout
	dstC, srcC, many int
}

// NewCopyChannels plans the copy. Concat copies its inputs in their order: the piece that begins a block of dst zeroes
// the lanes after it, so that lanes nobody writes are zero in the end.
func NewCopyChannels(dst Layout, dstC int, src Layout, srcC, count int) *CopyChannels {
	return &CopyChannels{dst, src, dstC, srcC, count}
}

// Chunks is the number of chunks of Run: one an image.
func (k *CopyChannels) Chunks() int { return k.dst.N }

// Run copies a part.
func (k *CopyChannels) Run(chunk int, dst, src []float32) {
	n := chunk
	for done := 0; done < k.many; {
		d, s := k.dstC+done, k.srcC+done
		lanes := min(Block-d%Block, Block-s%Block, k.many-done)
		for h := range k.dst.H {
			to := dst[k.dst.at(n, d/Block, h, 0):][:k.dst.W*Block]
			from := src[k.src.at(n, s/Block, h, 0):][:k.dst.W*Block]
			if lanes == Block {
				copy(to, from)
				continue
			}
			copyLanes(to, from, d%Block, s%Block, lanes)
		}
		k.dst.clearHalo(dst, n, d/Block, 0, k.dst.H)
		done += lanes
	}
}

func copyLanes(to, from []float32, d, s, lanes int) {
	for w := 0; w < len(to); w += Block {
		if d == 0 {
			clear(to[w+lanes : w+Block])
		}
		copy(to[w+d:w+d+lanes], from[w+s:w+s+lanes])
	}
}
