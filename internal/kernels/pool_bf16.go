package kernels

// PoolBF16Spec is the geometry of a pooling of maps in bf16; gradients have the layouts DX and DY.
type PoolBF16Spec struct {
	X, Y, DX, DY     LineLayout
	KH, KW           int
	StrideH, StrideW int
	PadTop, PadLeft  int
	CountIncludePad  bool
}

// PoolBF16 is a planned pooling of maps in bf16, maximum or average, or its backward pass. The maximum is
// taken of bf16 as it is; else strips of rows are widened to float32, where Pool does its work, and rounded.
type PoolBF16 struct {
	PoolBF16Spec
	back  bool
	rows  int // of a strip: of y, or of dx
	strip int // strips of a plane
}

// poolStrip is the floats of a strip of x, as far as rows can be divided: 128 KiB.
const poolStrip = 1 << 15

// NewPoolBF16 plans a pooling, or with back its gradient.
func NewPoolBF16(s PoolBF16Spec, back bool) *PoolBF16 {
	p := &PoolBF16{PoolBF16Spec: s, back: back}
	row := s.X.W * BF16Lanes
	if back {
		p.rows = max(1, min(s.X.H, max(poolStrip/row, 2*s.KH)))
		p.rows = min(s.X.H, (p.rows+s.StrideH-1)/s.StrideH*s.StrideH)
		p.strip = (s.X.H + p.rows - 1) / p.rows
		return p
	}
	p.rows = max(1, min(s.Y.H, (poolStrip/row-s.KH)/s.StrideH+1))
	p.strip = (s.Y.H + p.rows - 1) / p.rows
	return p
}

// Chunks is the number of chunks of every pass: strips of the blocks of all images.
func (p *PoolBF16) Chunks() int { return p.X.N * p.X.Blocks() * p.strip }

// Scratch is the number of floats that each concurrent call needs.
func (p *PoolBF16) Scratch() int {
	if p.back {
		rows := min(p.X.H, p.rows+2*(p.KH+p.StrideH))
		return 2*rows*p.X.W*BF16Lanes + 2*min(p.Y.H, rows/p.StrideH+p.KH+2)*p.Y.W*BF16Lanes
	}
	return min(p.X.H, (p.rows-1)*p.StrideH+p.KH)*p.X.W*BF16Lanes + p.rows*p.Y.W*BF16Lanes
}

// wideStrip is some rows of a block of a map in float32: two blocks of 16 channels.
type wideStrip struct {
	l    Layout
	data []float32
}

// strip takes rows rows of w pixels from the front of scratch.
func takeStrip(scratch *[]float32, rows, w int) wideStrip {
	s := wideStrip{l: Layout{N: 1, C: BF16Lanes, H: rows, W: w, Lanes: Block}}
	s.data = (*scratch)[:s.l.Size()]
	*scratch = (*scratch)[s.l.Size():]
	return s
}

// load widens rows of x from h on.
func (s *wideStrip) load(l *LineLayout, x []uint16, n, b, h int) {
	for i := range s.l.H {
		widen(s.data[s.l.at(0, 0, i, 0):], s.data[s.l.at(0, 1, i, 0):], x[l.value(n, b, h+i, 0):], l.W, Block)
	}
}

// store rounds rows [from, from+many) to y's rows from h on, halo included.
func (s *wideStrip) store(l *LineLayout, y []uint16, n, b, h, from, many int) {
	for i := range many {
		narrow(y[l.value(n, b, h+i, 0):], s.data[s.l.at(0, 0, from+i, 0):], s.data[s.l.at(0, 1, from+i, 0):],
			l.W, Block)
	}
	fillHalo(*l, y, n, b, h, h+many, 0)
}

// part is the image, block and rows of a chunk, of h in all.
func (p *PoolBF16) part(chunk, h int) (n, b, lo, hi int) {
	lo = chunk % p.strip * p.rows
	chunk /= p.strip
	return chunk / p.X.Blocks(), chunk % p.X.Blocks(), lo, min(h, lo+p.rows)
}

// local is the pooling of rows of x from h0 on to rows of y from o0 on.
func (p *PoolBF16) local(x, y Layout, h0, o0 int) *Pool {
	return NewPool(PoolSpec{X: x, Y: y, DX: x, DY: y, KH: p.KH, KW: p.KW, StrideH: p.StrideH,
		StrideW: p.StrideW,
		PadTop:  p.PadTop + h0 - o0*p.StrideH, PadLeft: p.PadLeft, CountIncludePad: p.CountIncludePad})
}

// windowsBF16 is many windows of high rows of wide lines of a map, row lines from row to row and
// step from window to window.
type windowsBF16 struct{ many, high, wide, row, step int }

// Max computes a part of the maximum. A window with a NaN has the quiet NaN 0x7fc0.
func (p *PoolBF16) Max(chunk int, _ []float32, y, x []uint16) {
	n, b, lo, hi := p.part(chunk, p.Y.H)
	for o := lo; o < hi; o++ {
		h0, h1 := max(0, o*p.StrideH-p.PadTop), min(p.X.H, o*p.StrideH-p.PadTop+p.KH)
		to := y[p.Y.value(n, b, o, 0):]
		for w := 0; w < p.Y.W; {
			first := w*p.StrideW - p.PadLeft
			w0, w1 := max(0, first), min(p.X.W, first+p.KW)
			r := windowsBF16{1, h1 - h0, w1 - w0, p.X.rowLines(), p.StrideW}
			if r.wide == p.KW { // and so are those up to the right edge
				r.many = min(p.Y.W-w, (p.X.W-p.KW-first)/p.StrideW+1)
			}
			maxWindowsBF16(to[w*BF16Lanes:], x[p.X.value(n, b, h0, w0):], r)
			w += r.many
		}
	}
	fillHalo(p.Y, y, n, b, lo, hi, 0)
}

// maxWindowsBF16Go writes the maximum of each window; NaN wins.
func maxWindowsBF16Go(y, x []uint16, r windowsBF16) {
	for i := range r.many {
		for c := range BF16Lanes {
			top, nan := int16(-1<<15), false
			for k := range r.high * r.wide {
				v := x[(i*r.step+k/r.wide*r.row+k%r.wide)*BF16Lanes+c]
				top, nan = max(top, orderedBF16(v)), nan || v&0x7fff > 0x7f80
			}
			if y[i*BF16Lanes+c] = uint16(orderedBF16(uint16(top))); nan {
				y[i*BF16Lanes+c] = 0x7fc0
			}
		}
	}
}

// orderedBF16 is a bf16 as an integer that compares as it does; it is its own reverse.
func orderedBF16(v uint16) int16 { return int16(v ^ uint16(int16(v)>>15)>>1) }

// Average computes a part of the average.
func (p *PoolBF16) Average(chunk int, scratch []float32, y, x []uint16) {
	if p.Y.H == 1 && p.Y.W == 1 && p.KH == p.X.H && p.KW == p.X.W && p.PadTop == 0 && p.PadLeft == 0 {
		p.averageAll(chunk, y, x)
		return
	}
	p.forward(chunk, scratch, y, x, (*Pool).Average)
}

// averageAll is Average of one window over all pixels of a block.
func (p *PoolBF16) averageAll(chunk int, y, x []uint16) {
	n, b := chunk/p.X.Blocks(), chunk%p.X.Blocks()
	var sums halfSums
	var zero [2][Block]float32
	rows := max(1, 4096/p.X.W) // of a call
	for h := 0; h < p.X.H; h += rows {
		sumSquaresBF16(&sums, x[p.X.value(n, b, h, 0):], &zero, p.X.area(min(rows, p.X.H-h)))
	}
	f := 1 / float32(p.X.H*p.X.W)
	to := y[p.Y.value(n, b, 0, 0):][:BF16Lanes]
	for c := range to {
		to[c] = toBF16(sums[c/Block][c%Block] * f)
	}
	fillHalo(p.Y, y, n, b, 0, 1, 0)
}

func (p *PoolBF16) forward(chunk int, scratch []float32, y, x []uint16, pool func(p *Pool, chunk int, y,
	x []float32)) {
	n, b, lo, hi := p.part(chunk, p.Y.H)
	h0 := max(0, lo*p.StrideH-p.PadTop)
	h1 := min(p.X.H, (hi-1)*p.StrideH-p.PadTop+p.KH)
	in, out := takeStrip(&scratch, h1-h0, p.X.W), takeStrip(&scratch, hi-lo, p.Y.W)
	in.load(&p.X, x, n, b, h0)
	k := p.local(in.l, out.l, h0, lo)
	for t := range 2 {
		if t < p.X.halves(b) {
			pool(k, t, out.data, in.data)
		} else {
			clear(out.data[out.l.at(0, t, 0, 0):])
		}
	}
	out.store(&p.Y, y, n, b, lo, 0, hi-lo)
}

// windows is the rows of y whose windows reach rows [lo, hi) of x, and the rows of x that those
// windows and [lo, hi) cover.
func (p *PoolBF16) windows(lo, hi int) (o0, o1, h0, h1 int) {
	o0 = max(0, (lo+p.PadTop-p.KH)/p.StrideH+1)
	if lo+p.PadTop < p.KH {
		o0 = 0
	}
	o1 = min(p.Y.H, (hi-1+p.PadTop)/p.StrideH+1)
	if h0, h1 = lo, hi; o0 < o1 {
		h0, h1 = min(lo, max(0, o0*p.StrideH-p.PadTop)), max(hi, min(p.X.H, (o1-1)*p.StrideH-p.PadTop+p.KH))
	}
	return o0, o1, h0, h1
}

// MaxBackward computes a part of the gradient of x as Pool.MaxBackward does.
func (p *PoolBF16) MaxBackward(chunk int, scratch []float32, dx, dy, x, y []uint16, relu bool) {
	n, b, lo, hi := p.part(chunk, p.X.H)
	o0, o1, h0, h1 := p.windows(lo, hi)
	if o0 >= o1 {
		p.none(dx, n, b, lo, hi)
		return
	}
	in, din := takeStrip(&scratch, h1-h0, p.X.W), takeStrip(&scratch, h1-h0, p.X.W)
	out, dout := takeStrip(&scratch, o1-o0, p.Y.W), takeStrip(&scratch, o1-o0, p.Y.W)
	in.load(&p.X, x, n, b, h0)
	out.load(&p.Y, y, n, b, o0)
	dout.load(&p.DY, dy, n, b, o0)
	k := p.local(in.l, out.l, h0, o0)
	for t := range 2 {
		k.MaxBackward(t, din.data, dout.data, in.data, out.data, relu)
	}
	din.store(&p.DX, dx, n, b, lo, lo-h0, hi-lo)
}

// AverageBackward computes a part of the gradient of x.
func (p *PoolBF16) AverageBackward(chunk int, scratch []float32, dx, dy []uint16) {
	n, b, lo, hi := p.part(chunk, p.X.H)
	o0, o1, h0, h1 := p.windows(lo, hi)
	if o0 >= o1 {
		p.none(dx, n, b, lo, hi)
		return
	}
	din, dout := takeStrip(&scratch, h1-h0, p.X.W), takeStrip(&scratch, o1-o0, p.Y.W)
	dout.load(&p.DY, dy, n, b, o0)
	k := p.local(din.l, dout.l, h0, o0)
	for t := range 2 {
		k.AverageBackward(t, din.data, dout.data)
	}
	din.store(&p.DX, dx, n, b, lo, lo-h0, hi-lo)
}

// none clears rows of dx that no window covers.
func (p *PoolBF16) none(dx []uint16, n, b, lo, hi int) {
	for h := lo; h < hi; h++ {
		clear(dx[p.DX.value(n, b, h, 0):][:p.DX.W*BF16Lanes])
	}
	fillHalo(p.DX, dx, n, b, lo, hi, 0)
}
