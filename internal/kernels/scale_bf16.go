package kernels

// ScaleBF16 multiplies the channels of a map in bf16 by factors: of each image, as squeeze-and-excitation
// has them, or of all.
type ScaleBF16 struct {
	l      LineLayout
	images bool // factors [N,C], else [C]
	strips int  // of the rows of a plane
}

// NewScaleBF16 plans the product of a map and factors of float32, [N,C] with images, else [C].
func NewScaleBF16(l LineLayout, images bool) *ScaleBF16 {
	const pixels = 4096 // of a chunk
	return &ScaleBF16{l, images, min(l.H, (l.H*l.W+pixels-1)/pixels)}
}

// Chunks is the number of chunks of Run.
func (k *ScaleBF16) Chunks() int { return k.l.N * k.l.Blocks() * k.strips }

// Run computes a part of y = x*factors, halo included; y may be x.
func (k *ScaleBF16) Run(chunk int, y, x []uint16, factors []float32) {
	lo, hi := span(k.l.H, chunk%k.strips, k.strips)
	chunk /= k.strips
	n, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	from := b * BF16Lanes
	factors = factors[from:]
	if k.images {
		factors = factors[n*k.l.C:]
	}
	var coef [2][3 * Block]float32 // less 0, times the factor, plus 0
	for c, f := range factors[:min(BF16Lanes, k.l.C-from)] {
		coef[c/Block][Block+c%Block] = f
	}
	at := k.l.value(n, b, lo, 0)
	normalizeBF16(y[at:], x[at:], nil, &coef, k.l.area(hi-lo), false)
	fillHalo(k.l, y, n, b, lo, hi, 0)
}
