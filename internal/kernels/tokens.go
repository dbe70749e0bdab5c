package kernels

// Tokens converts between a blocked map of 16 lanes and the plain layout [N,H,W,C], in which the channels of
// a pixel lie side by side.
type Tokens struct{ l Layout }

// NewTokens plans the conversion to and from l.
func NewTokens(l Layout) *Tokens { return &Tokens{l} }

// Chunks is the number of chunks of either direction: one a row of an image.
func (k *Tokens) Chunks() int { return k.l.N * k.l.H }

// From writes a row of the plain map.
func (k *Tokens) From(chunk int, nhwc, src []float32) {
	n, h := chunk/k.l.H, chunk%k.l.H
	row := nhwc[chunk*k.l.W*k.l.C:][:k.l.W*k.l.C]
	for b := range k.l.Blocks() {
		from, lanes := src[k.l.at(n, b, h, 0):][:k.l.W*Block], k.l.real(b)
		for w := range k.l.W {
			to := row[w*k.l.C+b*Block:]
			if lanes == Block {
				*(*[Block]float32)(to) = *(*[Block]float32)(from[w*Block:])
			} else {
				copy(to, from[w*Block:][:lanes])
			}
		}
	}
}

// To writes a row of the blocked map, halo and pad lanes included.
func (k *Tokens) To(chunk int, dst, nhwc []float32) {
	n, h := chunk/k.l.H, chunk%k.l.H
	row := nhwc[chunk*k.l.W*k.l.C:][:k.l.W*k.l.C]
	for b := range k.l.Blocks() {
		to, lanes := dst[k.l.at(n, b, h, 0):][:k.l.W*Block], k.l.real(b)
		for w := range k.l.W {
			from := row[w*k.l.C+b*Block:]
			if lanes == Block {
				*(*[Block]float32)(to[w*Block:]) = *(*[Block]float32)(from)
			} else {
				clear(to[w*Block+copy(to[w*Block:], from[:lanes]):][:Block-lanes])
			}
		}
		k.l.clearHalo(dst, n, b, h, h+1)
	}
}

// TokensBF16 is Tokens of a map in bf16.
type TokensBF16 struct{ l LineLayout }

// NewTokensBF16 plans the conversion to and from l.
func NewTokensBF16(l LineLayout) *TokensBF16 { return &TokensBF16{l} }

// Chunks is the number of chunks of either direction: one a row of an image.
func (k *TokensBF16) Chunks() int { return k.l.N * k.l.H }

// From writes a row of the plain map.
func (k *TokensBF16) From(chunk int, nhwc []float32, src []uint16) {
	k.each(chunk, nhwc, func(row []float32, at, real int) {
		line := src[at:][:k.l.W*BF16Lanes]
		if real == BF16Lanes {
			widen(row, row[Block:], line, k.l.W, k.l.C)
			return
		}
		for i, v := range line {
			if c := i % BF16Lanes; c < real {
				row[i/BF16Lanes*k.l.C+c] = fromBF16(v)
			}
		}
	})
}

// To rounds a row to that of the map in bf16, halo and lanes past C included.
func (k *TokensBF16) To(chunk int, dst []uint16, nhwc []float32) {
	k.each(chunk, nhwc, func(row []float32, at, real int) {
		line := dst[at:][:k.l.W*BF16Lanes]
		if real == BF16Lanes {
			narrow(line, row, row[Block:], k.l.W, k.l.C)
			return
		}
		for i := range line {
			if c := i % BF16Lanes; c < real {
				line[i] = toBF16(row[i/BF16Lanes*k.l.C+c])
			} else {
				line[i] = 0
			}
		}
	})
	n, h := chunk/k.l.H, chunk%k.l.H
	for b := range k.l.Blocks() {
		fillHalo(k.l, dst, n, b, h, h+1, 0)
	}
}

// each calls f for the blocks of a row: the plain row from the block's first channel on, where the block's row
// begins, and how many channels it has.
func (k *TokensBF16) each(chunk int, nhwc []float32, f func(row []float32, at, real int)) {
	n, h := chunk/k.l.H, chunk%k.l.H
	row := nhwc[chunk*k.l.W*k.l.C:][:k.l.W*k.l.C]
	for b := range k.l.Blocks() {
		f(row[b*BF16Lanes:], k.l.value(n, b, h, 0), min(BF16Lanes, k.l.C-b*BF16Lanes))
	}
}

// MapMeans is the mean of every channel of a blocked map of 16 lanes, plain: [N,C].
type MapMeans struct{ l Layout }

// NewMapMeans plans the means over l.
func NewMapMeans(l Layout) *MapMeans { return &MapMeans{l} }

// Chunks is the number of chunks of Run: one a channel block of an image.
func (k *MapMeans) Chunks() int { return k.l.N * k.l.Blocks() }

// Run computes the means of a block.
func (k *MapMeans) Run(chunk int, y, x []float32) {
	n, b := chunk/k.l.Blocks(), chunk%k.l.Blocks()
	var sum [Block]float64
	for h := range k.l.H {
		var row [Block]float32
		sumLanes(&row, x[k.l.at(n, b, h, 0):][:k.l.W*Block])
		for o, v := range row {
			sum[o] += float64(v)
		}
	}
	for o := range k.l.real(b) {
		y[n*k.l.C+b*Block+o] = float32(sum[o] / float64(k.l.H*k.l.W))
	}
}
