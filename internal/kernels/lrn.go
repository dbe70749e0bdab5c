package kernels

// LRN is a planned local response normalization of a blocked map of 16 lanes:
//
//	y[c] = x[c] / (bias + alpha/size * sum of x[j]*x[j])^beta for c-(size-1)/2 <= j <= c+size/2
type LRN struct {
	l                 Layout
	size              int
	alpha, beta, bias float32
}

// lrnPixels is the number of pixels that are normalized at a time.
const lrnPixels = 64

// NewLRN plans the normalization.
func NewLRN(l Layout, size int, alpha, beta, bias float32) *LRN {
	return &LRN{l, size, alpha, beta, bias}
}

// Chunks is the number of chunks of Run: one a row of an image.
func (k *LRN) Chunks() int { return k.l.N * k.l.H }

// Scratch is the number of floats of scratch that each worker needs.
func (k *LRN) Scratch() int { return 2 * k.l.Blocks() * Block * lrnPixels }

// Run computes a part of y, of x's layout, its halo included.
func (k *LRN) Run(chunk int, scratch, y, x []float32) {
	n, h := chunk/k.l.H, chunk%k.l.H
	values, squares := scratch[:k.l.C*lrnPixels], scratch[k.l.Blocks()*Block*lrnPixels:]
	for w := 0; w < k.l.W; w += lrnPixels {
		pixels := min(lrnPixels, k.l.W-w)
		for b := range k.l.Blocks() {
			scatter(values[b*Block*lrnPixels:], x[k.l.at(n, b, h, w):], lrnPixels, pixels, k.l.real(b))
		}
		OpMul.Pair(squares[:len(values)], values, values)
		k.normalize(values, squares, pixels)
		for b := range k.l.Blocks() {
			to := y[k.l.at(n, b, h, w):][:pixels*Block]
			if k.l.real(b) < Block {
				clear(to)
			}
			gather(to, values[b*Block*lrnPixels:], lrnPixels, pixels, k.l.real(b))
		}
	}
	for b := range k.l.Blocks() {
		k.l.clearHalo(y, n, b, h, h+1)
	}
}

// normalize divides the values of all channels by what the squares around them give.
func (k *LRN) normalize(values, squares []float32, pixels int) {
	var base, root [lrnPixels]float32
	pixels = (pixels + Block - 1) / Block * Block // no rests; what lies beyond is not read
	s := base[:pixels]
	for c := range k.l.C {
		clear(s)
		for j := max(0, c-(k.size-1)/2); j <= min(k.l.C-1, c+k.size/2); j++ {
			OpAdd.Pair(s, s, squares[j*lrnPixels:][:pixels])
		}
		OpMul.Scalar(s, s, k.alpha/float32(k.size))
		OpAdd.Scalar(s, s, k.bias)
		k.power(s, root[:pixels])
		v := values[c*lrnPixels:][:pixels]
		OpDiv.Pair(v, v, s)
	}
}

// power raises s to beta.
func (k *LRN) power(s, root []float32) {
	if k.beta == 0.75 {
		sqrtMap.Forward(s, s)
		sqrtMap.Forward(root, s)
		OpMul.Pair(s, s, root)
		return
	}
	logMap.Forward(s, s)
	OpMul.Scalar(s, s, k.beta)
	expMap.Forward(s, s)
}

var sqrtMap = NewMap(FuncSqrt)
