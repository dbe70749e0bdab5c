package kernels

// BatchNormBF16 is batch normalization over a map in bf16, in training; y, dx, dy, the residual and the mask
// have the layout of x. It computes in float32 what BatchNorm does, and rounds what it writes. Sums run in
// float32 over 256 pixels and in float64 across those, per group of images and block of channels; the groups
// are merged in their order.
//
// Of a folded map (see FoldedWeights) lanes i and i + C/fold are one channel.
type BatchNormBF16 struct {
	l    LineLayout
	f    *BatchNorm // for the partial sums: blocks of 16 channels
	fold int
}

// NewBatchNormBF16 plans batch normalization of a map whose lines hold fold pixels.
func NewBatchNormBF16(x LineLayout, fold int) *BatchNormBF16 {
	return &BatchNormBF16{x, NewBatchNorm(x.wide()), fold}
}

// Chunks is the number of chunks of Normalize and BackwardData: one a block of an image.
func (k *BatchNormBF16) Chunks() int { return k.l.N * k.l.Blocks() }

// StatsChunks is the number of chunks of Stats and BackwardStats.
func (k *BatchNormBF16) StatsChunks() int { return k.f.groups * k.l.Blocks() }

// StatsScratch is the number of floats of the partial results of Stats.
func (k *BatchNormBF16) StatsScratch() int { return k.f.StatsScratch() }

// BackwardScratch is the number of floats of the partial results of BackwardStats.
func (k *BatchNormBF16) BackwardScratch() int { return k.f.BackwardScratch() }

// StatsReduce merges the groups: mean and (biased) variance of every channel.
func (k *BatchNormBF16) StatsReduce(mean, variance, scratch []float32) {
	if k.fold == 1 {
		k.f.StatsReduce(mean, variance, scratch)
		return
	}
	means, variances := make([]float32, k.l.C), make([]float32, k.l.C)
	k.f.StatsReduce(means, variances, scratch)
	channels, many := k.l.C/k.fold, float64(k.fold)
	for c := range channels {
		var m, v float64
		for i := c; i < k.l.C; i += channels {
			m += float64(means[i]) / many
			v += float64(variances[i]) / many
		}
		for i := c; i < k.l.C; i += channels {
			d := float64(means[i]) - m
			v += d * d / many
		}
		mean[c], variance[c] = float32(m), float32(v)
	}
}

// BackwardReduce adds the groups: the gradients of scale and bias.
func (k *BatchNormBF16) BackwardReduce(dscale, dbias, scratch []float32) {
	if k.fold == 1 {
		k.f.BackwardReduce(dscale, dbias, scratch)
		return
	}
	scales, biases := make([]float32, k.l.C), make([]float32, k.l.C)
	k.f.BackwardReduce(scales, biases, scratch)
	foldSums(dscale, scales, k.fold)
	foldSums(dbias, biases, k.fold)
}

// foldSums adds what the lanes of a folded map have to what its channels have.
func foldSums(dst, lanes []float32, fold int) {
	channels := len(lanes) / fold
	for c := range channels {
		var s float32
		for i := c; i < len(lanes); i += channels {
			s += lanes[i]
		}
		dst[c] = s
	}
}

// eachLane calls f for the lanes of block b: channel c is lane o of half t.
func (k *BatchNormBF16) eachLane(b int, f func(c, t, o int)) {
	channels := k.l.C / k.fold
	for i := range min(BF16Lanes, k.l.C-b*BF16Lanes) {
		f((b*BF16Lanes+i)%channels, i/Block, i%Block)
	}
}

// eachArea calls f for stretches of rows of an image's block, of up to 256 pixels where rows are
// no longer, at values of x.
func (k *BatchNormBF16) eachArea(n, b int, f func(at int, r lineArea)) {
	rows := max(1, 256/k.l.W)
	for h := 0; h < k.l.H; h += rows {
		f(k.l.value(n, b, h, 0), k.l.area(min(rows, k.l.H-h)))
	}
}

// record is where the partial sums of half t of block b of group g lie.
func (k *BatchNormBF16) record(scratch []float32, g, b, t int) *[2 * Block]float32 {
	return (*[2 * Block]float32)(scratch[(g*k.f.l.Blocks()+2*b+t)*2*Block:])
}

// wideSums is halfSums in float64.
type wideSums [2][2 * Block]float64

func (s *wideSums) add(part *halfSums) {
	for t := range s {
		for o := range s[t] {
			s[t][o] += float64(part[t][o])
		}
	}
}

// Stats computes mean and sum of squared deviations of a block of channels over one group of images. Sums are
// taken of the distance to the first pixel.
func (k *BatchNormBF16) Stats(chunk int, scratch []float32, x []uint16) {
	g, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	lo, hi := span(k.l.N, g, k.f.groups)
	var shift [2][Block]float32
	for i, h := range x[k.l.value(lo, b, 0, 0):][:BF16Lanes] {
		shift[i/Block][i%Block] = fromBF16(h)
	}
	var sums wideSums
	for n := lo; n < hi; n++ {
		k.eachArea(n, b, func(at int, r lineArea) {
			var part halfSums
			sumSquaresBF16(&part, x[at:], &shift, r)
			sums.add(&part)
		})
	}
	count := k.f.count(g)
	for t := range k.l.halves(b) {
		out := k.record(scratch, g, b, t)
		for o := range Block {
			sum, squares := sums[t][o], sums[t][o+Block]
			d := sum / count
			out[o] = float32(float64(shift[t][o]) + d)
			out[o+Block] = float32(max(0, squares-d*sum))
		}
	}
}

// Normalize computes a part of y = (x-mean)*invstd*scale + bias + residual, with ReLU when relu is
// set; residual may be nil.
func (k *BatchNormBF16) Normalize(chunk int, y, x []uint16, mean, invstd, scale, bias []float32,
	residual []uint16, relu bool) {
	n, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	var coef [2][3 * Block]float32 // mean, factor, bias
	k.eachLane(b, func(c, t, o int) {
		coef[t][o], coef[t][Block+o], coef[t][2*Block+o] = mean[c], invstd[c]*scale[c], bias[c]
	})
	at := k.l.value(n, b, 0, 0)
	if residual != nil {
		residual = residual[at:]
	}
	normalizeBF16(y[at:], x[at:], residual, &coef, k.l.area(k.l.H), relu)
	fillHalo(k.l, y, n, b, 0, k.l.H, 0)
}

// MaskBF16 is Mask with Y in bf16.
type MaskBF16 struct {
	Y    []uint16
	Bias []float32
}

// from is the mask from value at of the map on.
func (m MaskBF16) from(at int) MaskBF16 {
	if m.Y != nil {
		m.Y = m.Y[at:]
	}
	return m
}

// BackwardStats sums dy and dy*(x-mean)*invstd of a block of channels over one group of images,
// dy as the mask leaves it.
func (k *BatchNormBF16) BackwardStats(chunk int, scratch []float32, dy, x []uint16, mean, invstd,
	scale []float32, mask MaskBF16) {
	g, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	lo, hi := span(k.l.N, g, k.f.groups)
	var coef [2][3 * Block]float32 // mean, factor, bias
	k.eachLane(b, func(c, t, o int) {
		if coef[t][o] = mean[c]; mask.Bias != nil {
			coef[t][Block+o], coef[t][2*Block+o] = invstd[c]*scale[c], mask.Bias[c]
		}
	})
	var sums wideSums
	for n := lo; n < hi; n++ {
		k.eachArea(n, b, func(at int, r lineArea) {
			var part halfSums
			sumProductsBF16(&part, dy[at:], x[at:], mask.from(at), &coef, r)
			sums.add(&part)
		})
	}
	k.eachLane(b, func(c, t, o int) {
		out := k.record(scratch, g, b, t)
		out[o], out[o+Block] = float32(sums[t][o]), float32(sums[t][o+Block]*float64(invstd[c]))
	})
}

// BackwardData computes a part of what BatchNorm.BackwardData does. dx may lie over dy or x.
func (k *BatchNormBF16) BackwardData(chunk int, dx, dy, x []uint16, mean, invstd, scale, dscale,
	dbias []float32, mask MaskBF16) {
	img, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	n := float32(k.l.N * k.l.H * k.l.W * k.fold)
	var coef [2][5 * Block]float32 // mean, factor of dy, of x-mean, constant, bias
	k.eachLane(b, func(c, t, o int) {
		f, to := scale[c]*invstd[c], &coef[t]
		to[o], to[Block+o] = mean[c], f
		to[2*Block+o], to[3*Block+o] = -f*invstd[c]*dscale[c]/n, -f*dbias[c]/n
		if mask.Bias != nil {
			to[4*Block+o] = mask.Bias[c]
		}
	})
	at := k.l.value(img, b, 0, 0)
	normalizeBackwardBF16(dx[at:], dy[at:], x[at:], mask.from(at), &coef, k.l.area(k.l.H))
	fillHalo(k.l, dx, img, b, 0, k.l.H, 0)
}

// ChannelSumBF16 sums a map in bf16 over everything but its channels: the gradient of a convolution's bias.
type ChannelSumBF16 struct {
	l    LineLayout
	f    *ChannelSum
	fold int
}

// NewChannelSumBF16 plans the sum over a map whose lines hold fold pixels.
func NewChannelSumBF16(l LineLayout, fold int) *ChannelSumBF16 {
	return &ChannelSumBF16{l, NewChannelSum(l.wide()), fold}
}

// Chunks is the number of chunks of Partial.
func (k *ChannelSumBF16) Chunks() int { return k.f.groups * k.l.Blocks() }

// Scratch is the number of floats of the partial sums.
func (k *ChannelSumBF16) Scratch() int { return k.f.Scratch() }

// Partial sums one block of channels over one group of images; with a mask, of dy's layout,
// only where that is positive.
func (k *ChannelSumBF16) Partial(chunk int, scratch []float32, dy, mask []uint16) {
	g, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	lo, hi := span(k.l.N, g, k.f.groups)
	var sum [2][Block]float64
	var d, m pixels
	var none [Block]float32
	for n := lo; n < hi; n++ {
		for at, all := 0, k.l.H*k.l.W; at < all; at += pixelRun {
			many := min(pixelRun, all-at)
			d.load(&k.l, dy, n, b, at, many)
			if mask != nil {
				m.load(&k.l, mask, n, b, at, many)
			}
			for t := range k.l.halves(b) {
				var part [2 * Block]float32
				if mask != nil {
					sumProducts(&part, d[t][:], d[t][:], m[t][:], &none, rect{many * Block, 1, 0})
				} else {
					sumLanes((*[Block]float32)(part[:]), d[t][:many*Block])
				}
				for o := range Block {
					sum[t][o] += float64(part[o])
				}
			}
		}
	}
	for t := range k.l.halves(b) {
		for o, v := range sum[t] {
			scratch[(g*k.f.l.Blocks()+2*b+t)*Block+o] = float32(v)
		}
	}
}

// Reduce adds the groups.
func (k *ChannelSumBF16) Reduce(db, scratch []float32) {
	if k.fold == 1 {
		k.f.Reduce(db, scratch)
		return
	}
	lanes := make([]float32, k.l.C)
	k.f.Reduce(lanes, scratch)
	foldSums(db, lanes, k.fold)
}
