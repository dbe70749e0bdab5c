package kernels

// lineRun is the number of values of bf16 that elementwise operations widen at once.
const lineRun = pixelRun * BF16Lanes

// ReluBF16 computes y = max(x, 0).
func ReluBF16(y, x []uint16) {
	n := len(x) &^ (BF16Lanes - 1)
	reluBF16(y[:n], x[:n])
	reluBF16Go(y[n:len(x)], x[n:])
}

// MapBF16 computes y = f(x) in float32.
func MapBF16(f *Map, y, x []uint16) {
	var v [lineRun]float32
	for len(x) > 0 {
		n := min(len(x), lineRun)
		FromBF16(v[:n], x[:n])
		f.Forward(v[:n], v[:n])
		ToBF16(y[:n], v[:n])
		y, x = y[n:], x[n:]
	}
}

// ReluGradBF16 computes dx = dy where y > 0, else 0.
func ReluGradBF16(dx, dy, y []uint16) {
	n := len(dy) &^ (BF16Lanes - 1)
	reluGradBF16(dx[:n], dy[:n], y[:n])
	reluGradBF16Go(dx[n:len(dy)], dy[n:], y[n:])
}

// AddBF16 computes y = a + b, with relu max(a + b, 0).
func AddBF16(y, a, b []uint16, relu bool) {
	n := len(a) &^ (BF16Lanes - 1)
	addBF16(y[:n], a[:n], b[:n], relu)
	addBF16Go(y[n:len(a)], a[n:], b[n:], relu)
}

// JoinBF16 puts channels of maps side by side: what Concat and Split along the channels do.
type JoinBF16 struct {
	to    LineLayout
	from  []JoinPart
	strip int
}

// JoinPart is some channels of a map of the output's height and width.
type JoinPart struct {
	Layout LineLayout
	First  int
	Count  int
}

// NewJoinBF16 plans a map of the channels of parts, one after the other.
func NewJoinBF16(to LineLayout, parts []JoinPart) *JoinBF16 {
	const pixels = 4096 // of a chunk
	return &JoinBF16{to, parts, min(to.H, (to.H*to.W+pixels-1)/pixels)}
}

// Chunks is the number of chunks of Run.
func (j *JoinBF16) Chunks() int { return j.to.N * j.to.Blocks() * j.strip }

// Run writes a part of y, halo included, from the maps xs of the parts.
func (j *JoinBF16) Run(chunk int, y []uint16, xs [][]uint16) {
	lo, hi := span(j.to.H, chunk%j.strip, j.strip)
	chunk /= j.strip
	n, b := chunk/j.to.Blocks(), chunk%j.to.Blocks()
	first, last := b*BF16Lanes, min(j.to.C, (b+1)*BF16Lanes)
	if last-first < BF16Lanes {
		for h := lo; h < hi; h++ {
			clear(y[j.to.value(n, b, h, 0):][:j.to.W*BF16Lanes])
		}
	}
	at := 0 // channel of the output where the part begins
	for i := range j.from {
		p := &j.from[i]
		for c := max(first, at); c < min(last, at+p.Count); {
			from := p.First + c - at
			many := min(min(last, at+p.Count)-c, BF16Lanes-from%BF16Lanes)
			for h := lo; h < hi; h++ {
				copyLineLanes(y[j.to.value(n, b, h, 0)+c-first:],
					xs[i][p.Layout.value(n, from/BF16Lanes, h, 0)+from%BF16Lanes:], j.to.W, many)
			}
			c += many
		}
		at += p.Count
	}
	fillHalo(j.to, y, n, b, lo, hi, 0)
}

// copyLineLanes copies lanes of n pixels.
func copyLineLanes(dst, src []uint16, n, lanes int) {
	if lanes == BF16Lanes {
		copy(dst[:n*BF16Lanes], src)
		return
	}
	for i := range n {
		copy(dst[i*BF16Lanes:][:lanes], src[i*BF16Lanes:])
	}
}
