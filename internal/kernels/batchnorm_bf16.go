package kernels

// BatchNormBF16 is batch normalization over a map in bf16, in training; y, dx, dy, the residual and the mask have the layout
// of x. It computes in float32 what BatchNorm does, and rounds what it writes. Sums run in float32 over 64 pixels and in float64
// across those, per group of images and block of channels; the groups are merged in their order.
type BatchNormBF16 struct {
	l LineLayout
	f *BatchNorm // for the partial sums: blocks of 16 channels
}

// NewBatchNormBF16 plans batch normalization of a map.
func NewBatchNormBF16(x LineLayout) *BatchNormBF16 { return &BatchNormBF16{x, NewBatchNorm(x.wide())} }

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
	k.f.StatsReduce(mean, variance, scratch)
}

// BackwardReduce adds the groups: the gradients of scale and bias.
func (k *BatchNormBF16) BackwardReduce(dscale, dbias, scratch []float32) {
	k.f.BackwardReduce(dscale, dbias, scratch)
}

// runs calls f for stretches of up to 64 pixels of a plane.
func (k *BatchNormBF16) runs(f func(at, many int)) {
	for at, all := 0, k.l.H*k.l.W; at < all; at += pixelRun {
		f(at, min(pixelRun, all-at))
	}
}

// record is where the partial sums of half t of block b of group g lie.
func (k *BatchNormBF16) record(scratch []float32, g, b, t int) *[2 * Block]float32 {
	return (*[2 * Block]float32)(scratch[(g*k.f.l.Blocks()+2*b+t)*2*Block:])
}

// Stats computes mean and sum of squared deviations of a block of channels over one group of images. Sums are taken of the
// distance to the first pixel.
func (k *BatchNormBF16) Stats(chunk int, scratch []float32, x []uint16) {
	g, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	lo, hi := span(k.l.N, g, k.f.groups)
	var v pixels
	var shift [2][Block]float32
	v.load(&k.l, x, lo, b, 0, 1)
	for t := range shift {
		copy(shift[t][:], v[t][:])
	}
	var sum, squares [2][Block]float64
	for n := lo; n < hi; n++ {
		k.runs(func(at, many int) {
			v.load(&k.l, x, n, b, at, many)
			for t := range k.l.halves(b) {
				var part [2 * Block]float32
				sumSquares(&part, v[t][:many*Block], &shift[t])
				for o := range Block {
					sum[t][o] += float64(part[o])
					squares[t][o] += float64(part[o+Block])
				}
			}
		})
	}
	count := k.f.count(g)
	for t := range k.l.halves(b) {
		out := k.record(scratch, g, b, t)
		for o := range Block {
			d := sum[t][o] / count
			out[o] = float32(float64(shift[t][o]) + d)
			out[o+Block] = float32(max(0, squares[t][o]-d*sum[t][o]))
		}
	}
}

// Normalize computes a part of y = (x-mean)*invstd*scale + bias + residual, with ReLU when relu is set; residual may be nil.
func (k *BatchNormBF16) Normalize(chunk int, y, x []uint16, mean, invstd, scale, bias []float32, residual []uint16, relu bool) {
	n, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	var coef [2][3 * Block]float32 // mean, factor, bias
	for i := range min(BF16Lanes, k.l.C-b*BF16Lanes) {
		c, t, o := b*BF16Lanes+i, i/Block, i%Block
		coef[t][o], coef[t][Block+o], coef[t][2*Block+o] = mean[c], invstd[c]*scale[c], bias[c]
	}
	var v, r pixels
	k.runs(func(at, many int) {
		v.load(&k.l, x, n, b, at, many)
		if residual != nil {
			r.load(&k.l, residual, n, b, at, many)
		}
		for t := range k.l.halves(b) {
			var res []float32
			if residual != nil {
				res = r[t][:]
			}
			normalize(v[t][:], v[t][:], res, &coef[t], rect{many * Block, 1, 0}, relu)
		}
		v.store(&k.l, y, n, b, at, many)
	})
	fillHalo(k.l, y, n, b, 0, k.l.H, 0)
}

// MaskBF16 is Mask with Y in bf16.
type MaskBF16 struct {
	Y    []uint16
	Bias []float32
}

// BackwardStats sums dy and dy*(x-mean)*invstd of a block of channels over one group of images, dy as the mask leaves it.
func (k *BatchNormBF16) BackwardStats(chunk int, scratch []float32, dy, x []uint16, mean, invstd, scale []float32, mask MaskBF16) {
	g, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	lo, hi := span(k.l.N, g, k.f.groups)
	lanes := min(BF16Lanes, k.l.C-b*BF16Lanes)
	var coef [2][3 * Block]float32 // mean, factor, bias
	for i := range lanes {
		c, t, o := b*BF16Lanes+i, i/Block, i%Block
		if coef[t][o] = mean[c]; mask.Bias != nil {
			coef[t][Block+o], coef[t][2*Block+o] = invstd[c]*scale[c], mask.Bias[c]
		}
	}
	var sum, product [2][Block]float64
	var d, v, m pixels
	for n := lo; n < hi; n++ {
		k.runs(func(at, many int) {
			d.load(&k.l, dy, n, b, at, many)
			v.load(&k.l, x, n, b, at, many)
			if mask.Y != nil {
				m.load(&k.l, mask.Y, n, b, at, many)
			}
			for t := range k.l.halves(b) {
				var part [2 * Block]float32
				k.products(&part, d[t][:many*Block], v[t][:many*Block], m[t][:many*Block], &coef[t], mask)
				for o := range Block {
					sum[t][o] += float64(part[o])
					product[t][o] += float64(part[o+Block])
				}
			}
		})
	}
	for i := range lanes {
		t, o := i/Block, i%Block
		out := k.record(scratch, g, b, t)
		out[o], out[o+Block] = float32(sum[t][o]), float32(product[t][o]*float64(invstd[b*BF16Lanes+i]))
	}
}

// products adds to part what BackwardStats sums of some pixels of 16 channels.
func (k *BatchNormBF16) products(part *[2 * Block]float32, dy, x, y []float32, coef *[3 * Block]float32, mask MaskBF16) {
	r := rect{len(dy), 1, 0}
	switch {
	case mask.Bias != nil:
		sumProductsRelu(part, dy, x, coef, r)
	case mask.Y != nil:
		sumProducts(part, dy, x, y, (*[Block]float32)(coef[:]), r)
	default:
		sumProducts(part, dy, x, nil, (*[Block]float32)(coef[:]), r)
	}
}

// BackwardData computes a part of what BatchNorm.BackwardData does. dx may lie over dy or x.
func (k *BatchNormBF16) BackwardData(chunk int, dx, dy, x []uint16, mean, invstd, scale, dscale, dbias []float32, mask MaskBF16) {
	img, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	n := float32(k.l.N * k.l.H * k.l.W)
	var coef [2][5 * Block]float32 // mean, factor of dy, of x-mean, constant, bias
	for i := range min(BF16Lanes, k.l.C-b*BF16Lanes) {
		c, to, o := b*BF16Lanes+i, &coef[i/Block], i%Block
		f := scale[c] * invstd[c]
		to[o], to[Block+o] = mean[c], f
		to[2*Block+o], to[3*Block+o] = -f*invstd[c]*dscale[c]/n, -f*dbias[c]/n
		if mask.Bias != nil {
			to[4*Block+o] = mask.Bias[c]
		}
	}
	var d, v, m pixels
	k.runs(func(at, many int) {
		d.load(&k.l, dy, img, b, at, many)
		v.load(&k.l, x, img, b, at, many)
		if mask.Y != nil {
			m.load(&k.l, mask.Y, img, b, at, many)
		}
		r := rect{many * Block, 1, 0}
		for t := range k.l.halves(b) {
			four := (*[4 * Block]float32)(coef[t][:])
			switch {
			case mask.Bias != nil:
				normalizeBackwardRelu(d[t][:], d[t][:], v[t][:], &coef[t], r)
			case mask.Y != nil:
				normalizeBackward(d[t][:], d[t][:], v[t][:], m[t][:], four, r)
			default:
				normalizeBackward(d[t][:], d[t][:], v[t][:], nil, four, r)
			}
		}
		d.store(&k.l, dx, img, b, at, many)
	})
	fillHalo(k.l, dx, img, b, 0, k.l.H, 0)
}

// ChannelSumBF16 sums a map in bf16 over everything but its channels: the gradient of a convolution's bias.
type ChannelSumBF16 struct {
	l LineLayout
	f *ChannelSum
}

// NewChannelSumBF16 plans the sum over a map.
func NewChannelSumBF16(l LineLayout) *ChannelSumBF16 {
	return &ChannelSumBF16{l, NewChannelSum(l.wide())}
}

// Chunks is the number of chunks of Partial.
func (k *ChannelSumBF16) Chunks() int { return k.f.groups * k.l.Blocks() }

// Scratch is the number of floats of the partial sums.
func (k *ChannelSumBF16) Scratch() int { return k.f.Scratch() }

// Partial sums one block of channels over one group of images; with a mask, of dy's layout, only where that is positive.
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
func (k *ChannelSumBF16) Reduce(db, scratch []float32) { k.f.Reduce(db, scratch) }
