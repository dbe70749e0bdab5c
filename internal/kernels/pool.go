package kernels

// PoolSpec is the geometry of a pooling window over X [N,C,H,W] giving Y [N,C,OH,OW]; DX and DY are the
// layouts of the gradients.
type PoolSpec struct {
	X, Y, DX, DY     Layout
	KH, KW           int
	StrideH, StrideW int
	PadTop, PadLeft  int
	CountIncludePad  bool
}

// Pool is a planned pooling, maximum or average, and its backward pass. Padding never wins a maximum.
type Pool struct{ PoolSpec }

// NewPool plans a pooling. Maps of 8 lanes must be pooled by maximum, 2x2 with stride 2.
func NewPool(s PoolSpec) *Pool { return &Pool{s} }

// Chunks is the number of chunks of every pass: one a channel block of an image.
func (p *Pool) Chunks() int { return p.X.N * p.X.Blocks() }

// pairs reports the window of nearly every network: 2x2, stride 2, no padding.
func (p *Pool) pairs() bool {
	return p.KH == 2 && p.KW == 2 && p.StrideH == 2 && p.StrideW == 2 && p.PadTop == 0 && p.PadLeft == 0 &&
		p.Y.H*2 <= p.X.H && p.Y.W*2 <= p.X.W
}

// InPlace reports whether MaxBackward may write dx over x, given one layout.
func (p *Pool) InPlace() bool { return p.pairs() }

// window clips the window of output pixel i to [0, size).
func window(i, stride, pad, k, size int) (lo, hi int) {
	lo = i*stride - pad
	return max(lo, 0), min(lo+k, size)
}

// eachRun calls f for the windows of a row of y, all of those at once that no edge clips: many windows from
// ow on, the first from (h0, w0) on, of kh x kw pixels.
func (p *Pool) eachRun(oh int, f func(ow, many, h0, w0, kh, kw int)) {
	h0, h1 := window(oh, p.StrideH, p.PadTop, p.KH, p.X.H)
	for ow := 0; ow < p.Y.W; {
		w0, w1 := window(ow, p.StrideW, p.PadLeft, p.KW, p.X.W)
		many := 1
		if w1-w0 == p.KW {
			many = min(p.Y.W-ow, (p.X.W-w1)/p.StrideW+1)
		}
		f(ow, many, h0, w0, h1-h0, w1-w0)
		ow += many
	}
}

// Max computes a part of the maximum.
func (p *Pool) Max(chunk int, y, x []float32) {
	n, b := chunk/p.X.Blocks(), chunk%p.X.Blocks()
	for oh := range p.Y.H {
		out := y[p.Y.at(n, b, oh, 0):][:p.Y.W*p.Y.Lanes]
		if p.pairs() {
			maxPairs(out, x[p.X.at(n, b, 2*oh, 0):], x[p.X.at(n, b, 2*oh+1, 0):], p.Y.narrow())
			continue
		}
		p.eachRun(oh, func(ow, many, h0, w0, kh, kw int) {
			k := windows{y: out[ow*Block:], x: x[p.X.at(n, b, h0, w0):], n: many, kh: kh, kw: kw,
				xRow: p.X.row(), step: p.StrideW * Block}
			maxWindows(&k)
		})
	}
	p.Y.clearHalo(y, n, b, 0, p.Y.H)
}

// maxPairsGo computes y[w] = max(a[2w], a[2w+1], b[2w], b[2w+1]) for blocks of 16 lanes, or of 8.
func maxPairsGo(y, a, b []float32, narrow bool) {
	block := lanes(narrow)
	for w := 0; w < len(y); w += block {
		p, q := a[2*w:][:2*block], b[2*w:][:2*block]
		for o := range block {
			y[w+o] = max(p[o], p[o+block], q[o], q[o+block])
		}
	}
}

// MaxBackward computes a part of the gradient of x: dy goes to the first pixel of its window, row by row,
// that holds the maximum y; with relu set only where that is positive, which is the gradient of max(relu(.)).
func (p *Pool) MaxBackward(chunk int, dx, dy, x, y []float32, relu bool) {
	n, b := chunk/p.X.Blocks(), chunk%p.X.Blocks()
	if p.pairs() {
		p.maxBackwardPairs(n, b, dx, dy, x, y, relu)
		return
	}
	for h := range p.X.H {
		clear(dx[p.DX.at(n, b, h, 0):][:p.X.W*Block])
	}
	for oh := range p.Y.H {
		p.eachRun(oh, func(ow, many, h0, w0, kh, kw int) {
			k := windows{y: y[p.Y.at(n, b, oh, ow):], x: x[p.X.at(n, b, h0, w0):],
				dy: dy[p.DY.at(n, b, oh, ow):], dx: dx[p.DX.at(n, b, h0, w0):],
				n: many, kh: kh, kw: kw, xRow: p.X.row(), dxRow: p.DX.row(), step: p.StrideW * Block,
				relu: flag(relu)}
			maxWindowsBackward(&k)
		})
	}
	p.DX.clearHalo(dx, n, b, 0, p.X.H)
}

func (p *Pool) maxBackwardPairs(n, b int, dx, dy, x, y []float32, relu bool) {
	lanes := p.X.Lanes
	for h := range p.X.H {
		from := 2 * p.Y.W // of what no window covers
		if h >= 2*p.Y.H {
			from = 0
		}
		if from < p.X.W {
			clear(dx[p.DX.at(n, b, h, from):][:(p.X.W-from)*lanes])
		}
	}
	p.DX.clearHalo(dx, n, b, 0, p.X.H)
	x, dx, y, dy = x[p.X.at(n, b, 0, 0):], dx[p.DX.at(n, b, 0, 0):], y[p.Y.at(n, b, 0, 0):],
		dy[p.DY.at(n, b, 0, 0):]
	xRow, dxRow, yRow, dyRow := p.X.row(), p.DX.row(), p.Y.row(), p.DY.row()
	for h := range p.Y.H {
		maxPairsBackward(dx[2*h*dxRow:], dx[(2*h+1)*dxRow:], x[2*h*xRow:], x[(2*h+1)*xRow:],
			y[h*yRow:][:p.Y.W*lanes], dy[h*dyRow:],
			p.X.narrow(), relu)
	}
}

// maxPairsBackwardGo gives dy[w] to the first of a[2w], a[2w+1], b[2w], b[2w+1] that equals y[w], and zero to
// the others; with relu only where y is positive.
func maxPairsBackwardGo(da, db, a, b, y, dy []float32, narrow, relu bool) {
	block := lanes(narrow)
	for w := 0; w < len(y); w += block {
		p, q := a[2*w:][:2*block], b[2*w:][:2*block]
		dp, dq := da[2*w:][:2*block], db[2*w:][:2*block]
		for o := range block {
			m, g := y[w+o], dy[w+o]
			if relu && !(m > 0) {
				g = 0
			}
			var g0, g1, g2, g3 float32
			switch m {
			case p[o]:
				g0 = g
			case p[o+block]:
				g1 = g
			case q[o]:
				g2 = g
			case q[o+block]:
				g3 = g
			}
			dp[o], dp[o+block], dq[o], dq[o+block] = g0, g1, g2, g3
		}
	}
}

// windows is a call of a pooling's inner loop: n windows of kh x kw pixels of 16 lanes. The assembly reads
// the fields by their place and counts n down.
type windows struct {
	y, x, dy, dx      []float32
	n, kh, kw         int
	xRow, dxRow, step int // floats between rows and between windows
	relu              int
}

func (a *windows) check(backward bool) {
	_ = a.y[:a.n*Block]
	last := (a.n-1)*a.step + a.kw*Block
	_ = a.x[:(a.kh-1)*a.xRow+last]
	if backward {
		_ = a.dy[:a.n*Block]
		_ = a.dx[:(a.kh-1)*a.dxRow+last]
	}
}

// maxWindowsGo computes the maximum of n windows of kh x kw pixels:
//
//	y[i*16:][:16] = max over r < kh, c < kw of x[r*xRow+i*step+c*16:][:16]
func maxWindowsGo(a *windows) {
	for i := range a.n {
		y := (*[Block]float32)(a.y[i*Block:])
		copy(y[:], a.x[i*a.step:])
		for r := range a.kh {
			for c := range a.kw {
				for o, v := range a.x[r*a.xRow+i*a.step+c*Block:][:Block] {
					y[o] = max(y[o], v)
				}
			}
		}
	}
}

// maxWindowsBackwardGo adds dy[i*16:][:16] to the first pixel of window i, row by row,
// that equals y, lane by lane:
//
//	dx[r*dxRow+i*step+c*16:][:16] += dy[i*16:][:16] where x[r*xRow+i*step+c*16:][:16] = y[i*16:][:16]
//
// With relu 1, only where y is positive.
func maxWindowsBackwardGo(a *windows) {
	for i := range a.n {
		y, give := (*[Block]float32)(a.y[i*Block:]), *(*[Block]float32)(a.dy[i*Block:])
		for o, v := range y {
			if a.relu != 0 && !(v > 0) {
				give[o] = 0
			}
		}
		for r := range a.kh {
			for c := range a.kw {
				x, dx := (*[Block]float32)(a.x[r*a.xRow+i*a.step+c*Block:]),
					(*[Block]float32)(a.dx[r*a.dxRow+i*a.step+c*Block:])
				for o := range x {
					if x[o] == y[o] {
						dx[o] += give[o]
						give[o] = 0
					}
				}
			}
		}
	}
}

// share is what each pixel of a window counts: one over the window's pixels, padding included or not.
func (p *Pool) share(h0, h1, w0, w1 int) float32 {
	if p.CountIncludePad {
		return 1 / float32(p.KH*p.KW)
	}
	return 1 / float32((h1-h0)*(w1-w0))
}

// Average computes a part of the average.
func (p *Pool) Average(chunk int, y, x []float32) {
	n, b := chunk/p.X.Blocks(), chunk%p.X.Blocks()
	for oh := range p.Y.H {
		h0, h1 := window(oh, p.StrideH, p.PadTop, p.KH, p.X.H)
		for ow := range p.Y.W {
			w0, w1 := window(ow, p.StrideW, p.PadLeft, p.KW, p.X.W)
			var sum [Block]float32
			for h := h0; h < h1; h++ {
				sumLanes(&sum, x[p.X.at(n, b, h, w0):][:(w1-w0)*Block])
			}
			f := p.share(h0, h1, w0, w1)
			to := (*[Block]float32)(y[p.Y.at(n, b, oh, ow):])
			for o := range to {
				to[o] = sum[o] * f
			}
		}
	}
	p.Y.clearHalo(y, n, b, 0, p.Y.H)
}

// AverageBackward computes a part of the gradient of x.
func (p *Pool) AverageBackward(chunk int, dx, dy []float32) {
	n, b := chunk/p.X.Blocks(), chunk%p.X.Blocks()
	for h := range p.X.H {
		clear(dx[p.DX.at(n, b, h, 0):][:p.X.W*Block])
	}
	for oh := range p.Y.H {
		h0, h1 := window(oh, p.StrideH, p.PadTop, p.KH, p.X.H)
		for ow := range p.Y.W {
			w0, w1 := window(ow, p.StrideW, p.PadLeft, p.KW, p.X.W)
			f := p.share(h0, h1, w0, w1)
			give := *(*[Block]float32)(dy[p.DY.at(n, b, oh, ow):])
			for o := range give {
				give[o] *= f
			}
			for h := h0; h < h1; h++ {
				row := dx[p.DX.at(n, b, h, w0):][:(w1-w0)*Block]
				for w := 0; w < len(row); w += Block {
					Add(row[w:w+Block], row[w:w+Block], give[:])
				}
			}
		}
	}
	p.DX.clearHalo(dx, n, b, 0, p.X.H)
}
