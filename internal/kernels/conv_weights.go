package kernels

// planBackwardWeights chooses into how many groups of images the sum is split: enough for sixteen chunks.
func (c *Conv) planBackwardWeights() {
	c.sums = max(1, min(c.Y.N, 16/c.Y.Blocks()))
}

// BackwardWeightsChunks is the number of chunks of BackwardWeights.
func (c *Conv) BackwardWeightsChunks() int { return c.sums * c.Y.Blocks() }

// BackwardWeightsScratch is the number of floats of its partial sums.
func (c *Conv) BackwardWeightsScratch() int { return c.sums * c.WeightSize() }

// BackwardWeights sums, over one group of images, the gradient of one output block's weights into scratch:
//
//	dw[k][o] = sum over pixels of x[pixel's window + k] * dy[pixel][o]
//
// A few rows of the map at a time go through all of k, so that they stay in the first-level cache.
func (c *Conv) BackwardWeights(chunk int, scratch, x, dy []float32) {
	group, ob := chunk/c.Y.Blocks(), chunk%c.Y.Blocks()
	reach, taps := c.outs[ob], c.KH*c.KW
	dw := scratch[group*c.WeightSize()+reach.offset*taps*Block:][:reach.channels*taps*Block]
	clear(dw)
	lo, hi := span(c.Y.N, group, c.sums)
	most := gradDepth(c.DY.narrow())
	rows := max(1, 128/c.DY.W)
	a := gradTile{cols: c.DY.W, xStride: c.StrideW * c.X.Lanes, xRow: c.StrideH * c.X.row(),
		dyStride: c.DY.Lanes, dyRow: c.DY.row(), narrow: c.DY.narrow()}
	for n := lo; n < hi; n++ {
		for h := 0; h < c.DY.H; h += rows {
			a.rows = min(rows, c.DY.H-h)
			a.dy = dy[c.DY.at(n, ob, h, 0):]
			origin := c.X.at(n, 0, h*c.StrideH-c.PadTop, -c.PadLeft)
			runs := c.runs[c.starts[reach.first]:c.starts[reach.last]]
			if most := mostRuns(runs[0].length, c.DY.narrow()); most > 1 && c.X.Blocks() == 1 &&
				len(runs) == c.KH {
				a.x, a.dw = x[origin:], dw
				c.together(&a, runs, most)
				continue
			}
			at := 0
			for _, r := range runs {
				wide, countWide, narrow, countNarrow := widths(r.length, most)
				from := origin + r.offset
				for i := range countWide + countNarrow {
					k := wide
					if i >= countWide {
						k = narrow
					}
					a.x, a.dw = x[from:], dw[at*Block:]
					gradTiles(k, &a)
					from, at = from+k, at+k
				}
			}
		}
	}
}

// together sums the rows of a kernel, short runs as far apart as rows of the map, most at a time: the sums of
// a single one would wait for each other.
func (c *Conv) together(a *gradTile, runs []run, most int) {
	k := runs[0].length
	a.apart = c.DilH * c.X.row()
	x, dw := a.x, a.dw
	wide, countWide, narrow, countNarrow := widths(len(runs), most)
	done := 0
	for i := range countWide + countNarrow {
		m := wide
		if i >= countWide {
			m = narrow
		}
		a.x, a.dw = x[done*a.apart:], dw[done*k*Block:]
		gradRuns(m, k, a)
		done += m
	}
}

const reduceSpan = 1 << 12 // floats of a chunk of ReduceWeights

// ReduceWeightsChunks is the number of chunks of ReduceWeights.
func (c *Conv) ReduceWeightsChunks() int { return (c.WeightSize() + reduceSpan - 1) / reduceSpan }

// ReduceWeights adds the groups' partial sums, in their order, into the packed gradient. It is zero between
// channels of different groups, as the weights are.
func (c *Conv) ReduceWeights(chunk int, dw, scratch []float32) {
	reduce(chunk, dw, scratch, c.WeightSize(), c.sums)
	if c.own == nil {
		return
	}
	const rows = reduceSpan / Block
	for i := chunk * rows; i < min(len(c.own), (chunk+1)*rows); i++ {
		row, own := dw[i*Block:][:Block], c.own[i]
		clear(row[:own.first])
		clear(row[own.last:])
	}
}

// reduce adds a chunk of groups slices of n floats each, in their order, into dst.
func reduce(chunk int, dst, parts []float32, n, groups int) {
	lo, hi := chunk*reduceSpan, min(n, (chunk+1)*reduceSpan)
	copy(dst[lo:hi], parts[lo:hi])
	for g := 1; g < groups; g++ {
		Add(dst[lo:hi], dst[lo:hi], parts[g*n+lo:g*n+hi])
	}
}
