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
	a := gradTile{cols: c.DY.W, xStride: c.StrideW * c.X.Lanes, xRow: c.StrideH * c.X.row(), dyStride: c.DY.Lanes, dyRow: c.DY.row(), narrow: c.DY.narrow()}
	for n := lo; n < hi; n++ {
		for h := 0; h < c.DY.H; h += rows {
			a.rows = min(rows, c.DY.H-h)
			a.dy = dy[c.DY.at(n, ob, h, 0):]
			origin := c.X.at(n, 0, h*c.StrideH-c.PadTop, -c.PadLeft)
			at := 0
			for _, r := range c.runs[c.starts[reach.first]:c.starts[reach.last]] {
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

const reduceSpan = 1 << 12 // floats of a chunk of ReduceWeights

// ReduceWeightsChunks is the number of chunks of ReduceWeights.
func (c *Conv) ReduceWeightsChunks() int { return (c.WeightSize() + reduceSpan - 1) / reduceSpan }

// ReduceWeights adds the groups' partial sums, in their order, into the packed gradient. It is zero between channels of
// different groups, as the weights are.
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
