package kernels

import "fmt"

// planBackwardData lists, for every parity of the stride, the taps that reach its pixels:
//
//	dx[h] = sum over kh with (h + PadTop - kh*DilH) divisible by StrideH of dy[(h + PadTop - kh*DilH)/StrideH] * w[kh]
//
// and likewise for w. For h = s*StrideH + ph the taps are the same for all s, and the row of dy is
// s plus a constant, so each parity is a stride-1 convolution of dy. Taps go from last to first,
// which makes them ascend in dy.
func (c *Conv) planBackwardData() {
	dy := c.DY
	for ph := range min(c.StrideH, c.DX.H) {
		for pw := range min(c.StrideW, c.DX.W) {
			p := parity{h: ph, w: pw, before: c.backTaps}
			type tap struct{ k, at int }
			var rows, cols []tap
			for kh := c.KH - 1; kh >= 0; kh-- {
				if d := ph + c.PadTop - kh*c.DilH; d%c.StrideH == 0 {
					rows = append(rows, tap{kh, d / c.StrideH})
				}
			}
			for kw := c.KW - 1; kw >= 0; kw-- {
				if d := pw + c.PadLeft - kw*c.DilW; d%c.StrideW == 0 {
					cols = append(cols, tap{kw, d / c.StrideW})
				}
			}
			for _, r := range rows {
				for _, q := range cols {
					lastH, lastW := (c.DX.H-1-ph)/c.StrideH, (c.DX.W-1-pw)/c.StrideW
					c.need = max(c.need, -r.at, -q.at, r.at+lastH+1-dy.H, q.at+lastW+1-dy.W)
					p.taps = append(p.taps, [2]int{r.k, q.k})
				}
			}
			for b := range dy.Blocks() {
				p.starts = append(p.starts, len(p.runs))
				for _, r := range rows {
					joined := -1 // index of the run that the next tap may extend
					for _, q := range cols {
						at := b*dy.plane() + (r.at+dy.Halo)*dy.row() + (q.at+dy.Halo)*dy.Lanes
						n := dy.real(b)
						if joined >= 0 && n == dy.Lanes && p.runs[joined].offset+p.runs[joined].length == at {
							p.runs[joined].length += n
							continue
						}
						p.runs = append(p.runs, run{at, n})
						joined = len(p.runs) - 1
					}
				}
			}
			p.starts = append(p.starts, len(p.runs))
			if p.rows = len(rows); p.rows > 1 {
				p.top, p.apart = rows[0].at, rows[1].at-rows[0].at
			}
			c.backTaps += len(p.taps)
			c.back = append(c.back, p)
		}
	}
	flops := c.DX.N * c.DX.Blocks() * c.DX.H * c.DX.W * c.backTaps * widest(c.ins) * Block * 2 / max(1,
		c.StrideH*c.StrideW)
	c.data = shares(flops, c.dataUnits())
}

// dataUnits counts (image, block of C, stride rows of dx).
func (c *Conv) dataUnits() int { return c.DX.N * c.DX.Blocks() * c.dataRows() }

func (c *Conv) dataRows() int { return (c.DX.H + c.StrideH - 1) / c.StrideH }

// FlipSize is the number of floats of the flipped weights.
func (c *Conv) FlipSize() int { return total(c.ins) * c.backTaps * Block }

// FlipChunks is the number of chunks of Flip.
func (c *Conv) FlipChunks() int { return len(c.ins) }

// Flip writes the weights in the form backward-data reads, from the packed form.
func (c *Conv) Flip(chunk int, flipped, w []float32) {
	r := c.ins[chunk]
	c.flipBlock(chunk, flipped[r.offset*c.backTaps*Block:][:r.channels*c.backTaps*Block], w)
}

// flipBlock writes the flipped weights of block cb of dx.
func (c *Conv) flipBlock(cb int, dst, w []float32) {
	r, channels := c.ins[cb], min(Block, c.X.C-cb*Block)
	if channels < Block {
		clear(dst)
	}
	for _, p := range c.back {
		at := p.before * r.channels * Block
		for ob := r.first; ob < r.last; ob++ {
			lanes := c.Y.real(ob)
			for _, t := range p.taps {
				src := w[c.row(ob, cb, t[0], t[1], 0)*Block:][:channels*Block]
				transpose(dst[at:at+lanes*Block], src, lanes, channels)
				at += lanes * Block
			}
		}
	}
}

// transposeGo writes dst[o*16+i] = src[i*16+o] for o < rows, i < cols.
func transposeGo(dst, src []float32, rows, cols int) {
	for i := range cols {
		for o, v := range src[i*Block:][:rows] {
			dst[o*Block+i] = v
		}
	}
}

// BackwardDataChunks is the number of chunks of BackwardData.
func (c *Conv) BackwardDataChunks() int { return c.data }

// BackwardData computes a part of dx, the gradient of the convolution's input, from dy and the flipped
// weights. It is the forward pass of a transposed convolution too.
func (c *Conv) BackwardData(chunk int, dx, dy, flipped []float32, e Epilogue) {
	if c.DY.Halo < c.need {
		panic(fmt.Sprintf("kernels: backward-data needs a halo of %d around dy, which has %d",
			c.need, c.DY.Halo))
	}
	lo, hi := span(c.dataUnits(), chunk, c.data)
	l := c.DX
	turns := c.order(c.DY, l, c.dataRows(), c.FlipSize())
	a := tile{xStride: c.DY.Lanes, yStride: c.StrideW * l.Lanes, narrow: l.narrow(), act: e.act(),
		high: e.High}
	beside := e.beside()
	for u, stride := lo, 0; u < hi; u += stride {
		n, cb, s := turns.unit(u)
		if stride = 1; !turns.inner { // rows follow one another
			stride = min(hi-u, c.dataRows()-s)
		}
		if e.Bias != nil {
			a.bias = e.Bias[cb*Block:][:Block]
		}
		first, last := s*c.StrideH, min(l.H, (s+stride)*c.StrideH)
		r := c.ins[cb]
		for i := range c.back {
			p := &c.back[i]
			runs := p.runs[p.starts[r.first]:p.starts[r.last]]
			weights := flipped[(r.offset*c.backTaps+p.before*r.channels)*Block:][:len(
				p.taps)*r.channels*Block]
			trim := newTrim(r, len(runs), len(p.taps), p.rows, p.apart)
			for h, many := first+p.h, 0; h < last; h += many * c.StrideH {
				row, to := h/c.StrideH, l.at(n, cb, h, p.w)
				a.runs, a.w, many = trim.inside(runs, weights, row+p.top, 1, (last-h+c.StrideH-1)/c.StrideH,
					c.DY.H)
				a.y, a.x = dx[to:], dy[n*c.DY.image()+row*c.DY.row():]
				if beside != nil {
					a.res = beside[to:]
				}
				rowsOfTiles(many, (l.W-p.w+c.StrideW-1)/c.StrideW, c.DY.row(), c.StrideH*l.row(), &a)
			}
		}
		l.clearHalo(dx, n, cb, first, last)
	}
}
