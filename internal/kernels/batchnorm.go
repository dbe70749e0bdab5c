package kernels

// BatchNorm is batch normalisation over a blocked map, in training and in inference; y, dx, dy and the
// residual have the layout of x.
//
// Sums run in float32 along a row of the map and in float64 across rows, per group of images and channel
// block; the groups are merged in their order.
type BatchNorm struct {
	l      Layout
	groups int
}

// NewBatchNorm plans batch normalisation of a map.
func NewBatchNorm(x Layout) *BatchNorm {
	work := x.N * x.Blocks() * x.H * x.W * Block * 8
	return &BatchNorm{x, max(1, min(x.N, 16/x.Blocks(), pieces(work, x.N)))}
}

// Chunks is the number of chunks of Normalize and BackwardData: one a channel block of an image.
func (k *BatchNorm) Chunks() int { return k.l.N * k.l.Blocks() }

// StatsChunks is the number of chunks of Stats and BackwardStats.
func (k *BatchNorm) StatsChunks() int { return k.groups * k.l.Blocks() }

// StatsScratch is the number of floats of the partial results of Stats.
func (k *BatchNorm) StatsScratch() int { return k.StatsChunks() * 2 * Block }

// BackwardScratch is the number of floats of the partial results of BackwardStats.
func (k *BatchNorm) BackwardScratch() int { return k.StatsChunks() * 2 * Block }

// count is the number of pixels of a channel in group g.
func (k *BatchNorm) count(g int) float64 {
	lo, hi := span(k.l.N, g, k.groups)
	return float64((hi - lo) * k.l.H * k.l.W)
}

// Stats computes mean and sum of squared deviations of one channel block over one group of images. Sums are
// taken of the distance to the first pixel, so that a large mean does not cost the variance its digits.
func (k *BatchNorm) Stats(chunk int, scratch, x []float32) {
	g, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	lo, hi := span(k.l.N, g, k.groups)
	shift := *(*[Block]float32)(x[k.l.at(lo, b, 0, 0):])
	var sum, squares [Block]float64
	for n := lo; n < hi; n++ {
		for h := range k.l.H {
			var row [2 * Block]float32
			sumSquares(&row, x[k.l.at(n, b, h, 0):][:k.l.W*Block], &shift)
			for o := range sum {
				sum[o] += float64(row[o])
				squares[o] += float64(row[o+Block])
			}
		}
	}
	out := (*[2 * Block]float32)(scratch[chunk*2*Block:])
	count := k.count(g)
	for o := range sum {
		d := sum[o] / count
		out[o] = float32(float64(shift[o]) + d)
		out[o+Block] = float32(max(0, squares[o]-d*sum[o]))
	}
}

// sumSquaresGo adds, for every lane o, x[w*16+o]-shift[o] to sums[o] and its square to sums[16+o].
func sumSquaresGo(sums *[2 * Block]float32, x []float32, shift *[Block]float32) {
	for w := 0; w < len(x); w += Block {
		v := (*[Block]float32)(x[w:])
		for o := range v {
			d := v[o] - shift[o]
			sums[o] += d
			sums[o+Block] += d * d
		}
	}
}

// StatsReduce merges the groups: mean and (biased) variance of every channel.
func (k *BatchNorm) StatsReduce(mean, variance, scratch []float32) {
	for c := range k.l.C {
		var n, m, m2 float64
		for g := range k.groups {
			part := scratch[(g*k.l.Blocks()+c/Block)*2*Block:]
			count, pm, pm2 := k.count(g), float64(part[c%Block]), float64(part[Block+c%Block])
			d := pm - m
			total := n + count
			m += d * count / total
			m2 += pm2 + d*d*n*count/total
			n = total
		}
		mean[c], variance[c] = float32(m), float32(m2/n)
	}
}

// Normalize computes a part of y = (x-mean)*invstd*scale + bias + residual, with ReLU when relu is set;
// residual may be nil. The vectors are padded with zeros to a multiple of 16.
func (k *BatchNorm) Normalize(chunk int, y, x, mean, invstd, scale, bias, residual []float32, relu bool) {
	n, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	var coef [3 * Block]float32 // mean, factor, bias
	for o := range k.l.real(b) {
		c := b*Block + o
		coef[o], coef[Block+o], coef[2*Block+o] = mean[c], invstd[c]*scale[c], bias[c]
	}
	at := k.l.at(n, b, 0, 0)
	var res []float32
	if residual != nil {
		res = residual[at:]
	}
	normalize(y[at:], x[at:], res, &coef, k.l.rect(k.l.H), relu)
	k.l.clearHalo(y, n, b, 0, k.l.H)
}

// normalizeGo computes y = max0?((x-mean)*factor + bias + res) lane by lane; coef holds mean, factor, bias.
func normalizeGo(y, x, res []float32, coef *[3 * Block]float32, r rect, relu bool) {
	for w := range r.pixels() {
		to, v := (*[Block]float32)(y[w:]), (*[Block]float32)(x[w:])
		for o := range to {
			r := (v[o]-coef[o])*coef[Block+o] + coef[2*Block+o]
			if res != nil {
				r += res[w+o]
			}
			if relu && r < 0 {
				r = 0
			}
			to[o] = r
		}
	}
}

// Mask says where a ReLU that follows batch normalisation lets the gradient through: where its output Y is
// positive, or, when Bias is given instead, where the normalised x is, which saves reading a map. The zero
// value lets everything through.
type Mask struct{ Y, Bias []float32 }

// BackwardStats sums dy and dy*(x-mean)*invstd of one channel block over one group of images,
// dy as the mask leaves it.
func (k *BatchNorm) BackwardStats(chunk int, scratch, dy, x, mean, invstd, scale []float32, mask Mask) {
	g, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	lo, hi := span(k.l.N, g, k.groups)
	var coef [3 * Block]float32 // mean, factor, bias
	for o := range k.l.real(b) {
		c := b*Block + o
		if coef[o] = mean[c]; mask.Bias != nil {
			coef[Block+o], coef[2*Block+o] = invstd[c]*scale[c], mask.Bias[c]
		}
	}
	shift := (*[Block]float32)(coef[:])
	var sum, product [Block]float64
	rows := max(1, 256/k.l.W) // in float32
	for n := lo; n < hi; n++ {
		for h := 0; h < k.l.H; h += rows {
			at, r := k.l.at(n, b, h, 0), k.l.rect(min(rows, k.l.H-h))
			var part [2 * Block]float32
			switch {
			case mask.Bias != nil:
				sumProductsRelu(&part, dy[at:], x[at:], &coef, r)
			case mask.Y != nil:
				sumProducts(&part, dy[at:], x[at:], mask.Y[at:], shift, r)
			default:
				sumProducts(&part, dy[at:], x[at:], nil, shift, r)
			}
			for o := range sum {
				sum[o] += float64(part[o])
				product[o] += float64(part[o+Block])
			}
		}
	}
	out := (*[2 * Block]float32)(scratch[chunk*2*Block:])
	for o := range k.l.real(b) {
		out[o] = float32(sum[o])
		out[o+Block] = float32(product[o] * float64(invstd[b*Block+o]))
	}
}

// sumProductsGo adds, for every lane o, d = dy[w*16+o] (zero where mask is not positive) to sums[o] and
// d*(x[w*16+o]-shift[o]) to sums[16+o].
func sumProductsGo(sums *[2 * Block]float32, dy, x, mask []float32, shift *[Block]float32, r rect) {
	for w := range r.pixels() {
		d, v := (*[Block]float32)(dy[w:]), (*[Block]float32)(x[w:])
		for o := range d {
			if mask != nil && !(mask[w+o] > 0) {
				continue
			}
			sums[o] += d[o]
			sums[o+Block] += d[o] * (v[o] - shift[o])
		}
	}
}

// sumProductsReluGo is sumProductsGo with a mask that is positive where (x-mean)*factor + bias is; coef
// holds mean, factor, bias.
func sumProductsReluGo(sums *[2 * Block]float32, dy, x []float32, coef *[3 * Block]float32, r rect) {
	for w := range r.pixels() {
		d, v := (*[Block]float32)(dy[w:]), (*[Block]float32)(x[w:])
		for o := range d {
			t := v[o] - coef[o]
			if t*coef[Block+o]+coef[2*Block+o] > 0 {
				sums[o] += d[o]
				sums[o+Block] += d[o] * t
			}
		}
	}
}

// BackwardReduce adds the groups: the gradients of scale and bias.
func (k *BatchNorm) BackwardReduce(dscale, dbias, scratch []float32) {
	for c := range k.l.C {
		var s, p float64
		for g := range k.groups {
			part := scratch[(g*k.l.Blocks()+c/Block)*2*Block:]
			s += float64(part[c%Block])
			p += float64(part[Block+c%Block])
		}
		dbias[c], dscale[c] = float32(s), float32(p)
	}
}

// BackwardData computes a part of
//
//	dx = scale*invstd * (dy - dbias/n - (x-mean)*invstd*dscale/n)
//
// with n the number of pixels of a channel and dy as the mask leaves it.
func (k *BatchNorm) BackwardData(chunk int, dx, dy, x, mean, invstd, scale, dscale, dbias []float32,
	mask Mask) {
	img, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	n := float32(k.l.N * k.l.H * k.l.W)
	var coef [5 * Block]float32 // mean, factor of dy, of x-mean, constant, bias
	for o := range k.l.real(b) {
		c := b*Block + o
		f := scale[c] * invstd[c]
		coef[o], coef[Block+o] = mean[c], f
		coef[2*Block+o], coef[3*Block+o] = -f*invstd[c]*dscale[c]/n, -f*dbias[c]/n
		if mask.Bias != nil {
			coef[4*Block+o] = mask.Bias[c]
		}
	}
	four := (*[4 * Block]float32)(coef[:])
	at, r := k.l.at(img, b, 0, 0), k.l.rect(k.l.H)
	switch {
	case mask.Bias != nil:
		normalizeBackwardRelu(dx[at:], dy[at:], x[at:], &coef, r)
	case mask.Y != nil:
		normalizeBackward(dx[at:], dy[at:], x[at:], mask.Y[at:], four, r)
	default:
		normalizeBackward(dx[at:], dy[at:], x[at:], nil, four, r)
	}
	k.l.clearHalo(dx, img, b, 0, k.l.H)
}

// normalizeBackwardGo computes dx = d*coef1 + (x-mean)*coef2 + coef3 lane by lane, d being
// dy where mask is positive.
func normalizeBackwardGo(dx, dy, x, mask []float32, coef *[4 * Block]float32, r rect) {
	for w := range r.pixels() {
		to, d, v := (*[Block]float32)(dx[w:]), (*[Block]float32)(dy[w:]), (*[Block]float32)(x[w:])
		for o := range to {
			g := d[o]
			if mask != nil && !(mask[w+o] > 0) {
				g = 0
			}
			to[o] = g*coef[Block+o] + (v[o]-coef[o])*coef[2*Block+o] + coef[3*Block+o]
		}
	}
}

// normalizeBackwardReluGo is normalizeBackwardGo with a mask that is positive where
// (x-mean)*coef1 + coef4 is.
func normalizeBackwardReluGo(dx, dy, x []float32, coef *[5 * Block]float32, r rect) {
	for w := range r.pixels() {
		to, d, v := (*[Block]float32)(dx[w:]), (*[Block]float32)(dy[w:]), (*[Block]float32)(x[w:])
		for o := range to {
			g, t := d[o], v[o]-coef[o]
			if !(t*coef[Block+o]+coef[4*Block+o] > 0) {
				g = 0
			}
			to[o] = g*coef[Block+o] + t*coef[2*Block+o] + coef[3*Block+o]
		}
	}
}

// ChannelSum sums a blocked map over everything but its channels: the gradient of a convolution's bias.
type ChannelSum struct {
	l      Layout
	groups int
}

// NewChannelSum plans the sum over a map of 16 or 8 lanes.
func NewChannelSum(l Layout) *ChannelSum {
	work := l.N * l.Blocks() * l.H * l.W * Block * 8
	return &ChannelSum{l, max(1, min(l.N, 16/l.Blocks(), pieces(work, l.N)))}
}

// Chunks is the number of chunks of Partial, Scratch the floats of its results.
func (k *ChannelSum) Chunks() int { return k.groups * k.l.Blocks() }

// Scratch is the number of floats of the partial sums.
func (k *ChannelSum) Scratch() int { return k.Chunks() * Block }

// Partial sums one channel block over one group of images; with a mask, of dy's layout,
// only where that is positive.
func (k *ChannelSum) Partial(chunk int, scratch, dy, mask []float32) {
	g, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	lo, hi := span(k.l.N, g, k.groups)
	var sum [Block]float64
	rows := max(1, 256/k.l.W) // in float32
	for n := lo; n < hi; n++ {
		for first := 0; first < k.l.H; first += rows {
			var part [2 * Block]float32
			for h := first; h < min(first+rows, k.l.H); h++ {
				at, width := k.l.at(n, b, h, 0), k.l.W*k.l.Lanes
				if mask != nil {
					k.row(&part, dy[at:][:width], mask[at:][:width])
				} else {
					k.row(&part, dy[at:][:width], nil)
				}
			}
			for o := range k.l.Lanes {
				sum[o] += float64(part[o])
			}
		}
	}
	for o, v := range sum {
		scratch[chunk*Block+o] = float32(v)
	}
}

// row adds the pixels of a row to the first lanes of sum. Pixels of 8 lanes go in pairs.
func (k *ChannelSum) row(sum *[2 * Block]float32, x, mask []float32) {
	whole := len(x) &^ (Block - 1)
	if mask == nil {
		sumLanes((*[Block]float32)(sum[:]), x[:whole])
	} else {
		var none [Block]float32
		sumProducts(sum, x, x, mask, &none, rect{whole, 1, 0})
	}
	if k.l.Lanes < Block {
		for o := range narrowBlock {
			sum[o] += sum[o+narrowBlock]
			sum[o+narrowBlock] = 0
		}
		for o, v := range x[whole:] {
			if mask == nil || mask[whole+o] > 0 {
				sum[o] += v
			}
		}
	}
}

// sumLanesGo adds x[w*16+o] to sums[o].
func sumLanesGo(sums *[Block]float32, x []float32) {
	for w := 0; w < len(x); w += Block {
		v := (*[Block]float32)(x[w:])
		for o := range v {
			sums[o] += v[o]
		}
	}
}

// Reduce adds the groups.
func (k *ChannelSum) Reduce(db, scratch []float32) {
	for c := range k.l.C {
		var s float64
		for g := range k.groups {
			s += float64(scratch[(g*k.l.Blocks()+c/Block)*Block+c%Block])
		}
		db[c] = float32(s)
	}
}
