package kernels

import "math"

// GroupNorm normalizes each group of channels of each image of a blocked map of 16 lanes: GroupNormalization,
// and InstanceNormalization with as many groups as channels.
type GroupNorm struct {
	l      Layout
	groups int
}

// NewGroupNorm plans the normalization; groups divides the channels.
func NewGroupNorm(l Layout, groups int) *GroupNorm { return &GroupNorm{l, groups} }

// Chunks is the number of chunks of every pass over maps: one a channel block of an image.
func (k *GroupNorm) Chunks() int { return k.l.N * k.l.Blocks() }

// Scratch is the number of floats of the partial sums.
func (k *GroupNorm) Scratch() int { return k.Chunks() * 2 * Block }

// Groups is the number of means and of inverse deviations.
func (k *GroupNorm) Groups() int { return k.l.N * k.groups }

// Stats computes mean and sum of squared deviations of the channels of a block.
func (k *GroupNorm) Stats(chunk int, scratch, x []float32) {
	n, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	var m moments
	for h := range k.l.H {
		m.add(x[k.l.at(n, b, h, 0):][:k.l.W*Block])
	}
	var part [record]float32
	m.store(part[:])
	copy(scratch[chunk*2*Block:][:2*Block], part[:])
}

// Reduce merges the channels of each group: mean and inverse deviation of [N,groups].
func (k *GroupNorm) Reduce(mean, inv, scratch []float32, eps float32) {
	per, pixels := k.l.C/k.groups, float64(k.l.H*k.l.W)
	for g := range k.Groups() {
		var n, mu, m2 float64
		for c := g % k.groups * per; c < (g%k.groups+1)*per; c++ {
			part := scratch[(g/k.groups*k.l.Blocks()+c/Block)*2*Block+c%Block:]
			d := float64(part[0]) - mu
			total := n + pixels
			mu += d * pixels / total
			m2 += float64(part[Block]) + d*d*n*pixels/total
			n = total
		}
		mean[g], inv[g] = float32(mu), float32(1/math.Sqrt(m2/n+float64(eps)))
	}
}

// Normalize computes a part of y = (x-mean)*inv*scale + bias; scale and bias are of
// [C], nil for ones and zeros.
func (k *GroupNorm) Normalize(chunk int, y, x, mean, inv, scale, bias []float32) {
	n, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	var coef [3 * Block]float32
	for o := range k.l.real(b) {
		c := b*Block + o
		g := n*k.groups + c*k.groups/k.l.C
		coef[o], coef[Block+o] = mean[g], inv[g]
		if scale != nil {
			coef[Block+o] *= scale[c]
		}
		if bias != nil {
			coef[2*Block+o] = bias[c]
		}
	}
	at := k.l.at(n, b, 0, 0)
	normalize(y[at:], x[at:], nil, &coef, k.l.rect(k.l.H), false)
	k.l.clearHalo(y, n, b, 0, k.l.H)
}

// BackwardStats sums dy and dy*(x-mean) of the channels of a block.
func (k *GroupNorm) BackwardStats(chunk int, scratch, dy, x, mean []float32) {
	n, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	var shift [Block]float32
	for o := range k.l.real(b) {
		shift[o] = mean[n*k.groups+(b*Block+o)*k.groups/k.l.C]
	}
	var sum [2 * Block]float64
	rows := max(1, 256/k.l.W) // in float32
	for h := 0; h < k.l.H; h += rows {
		var part [2 * Block]float32
		at := k.l.at(n, b, h, 0)
		sumProducts(&part, dy[at:], x[at:], nil, &shift, k.l.rect(min(rows, k.l.H-h)))
		for o, v := range part {
			sum[o] += float64(v)
		}
	}
	for o, v := range sum {
		scratch[chunk*2*Block+o] = float32(v)
	}
}

// BackwardWeights adds the images: the gradients of scale and bias.
func (k *GroupNorm) BackwardWeights(dscale, dbias, scratch, inv []float32) {
	for c := range k.l.C {
		var s, p float64
		for n := range k.l.N {
			part := scratch[(n*k.l.Blocks()+c/Block)*2*Block+c%Block:]
			s += float64(part[0])
			p += float64(part[Block]) * float64(inv[n*k.groups+c*k.groups/k.l.C])
		}
		dbias[c], dscale[c] = float32(s), float32(p)
	}
}

// BackwardData computes a part of dx = inv*(g - mean(g) - (x-mean)*inv*inv*mean(g*(x-mean))) for g =
// dy*scale, means being over a group; scale may be nil for ones.
func (k *GroupNorm) BackwardData(chunk int, dx, dy, x, mean, inv, scale, scratch []float32) {
	n, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	per := k.l.C / k.groups
	size := float64(per * k.l.H * k.l.W)
	var coef [4 * Block]float32
	for o := range k.l.real(b) {
		c := b*Block + o
		group := c * k.groups / k.l.C
		g := n*k.groups + group
		s, p := k.groupSums(n, group, scale, scratch)
		i := float64(inv[g])
		coef[o], coef[Block+o] = mean[g], inv[g]
		if scale != nil {
			coef[Block+o] *= scale[c]
		}
		coef[2*Block+o], coef[3*Block+o] = float32(-i*i*i*p/size), float32(-i*s/size)
	}
	at := k.l.at(n, b, 0, 0)
	normalizeBackward(dx[at:], dy[at:], x[at:], nil, &coef, k.l.rect(k.l.H))
	k.l.clearHalo(dx, n, b, 0, k.l.H)
}

// groupSums adds the channels of a group of image n: the sums of dy*scale and of dy*scale*(x-mean).
func (k *GroupNorm) groupSums(n, group int, scale, scratch []float32) (sum, product float64) {
	per := k.l.C / k.groups
	for c := group * per; c < (group+1)*per; c++ {
		part, by := scratch[(n*k.l.Blocks()+c/Block)*2*Block+c%Block:], 1.0
		if scale != nil {
			by = float64(scale[c])
		}
		sum += float64(part[0]) * by
		product += float64(part[Block]) * by
	}
	return sum, product
}
