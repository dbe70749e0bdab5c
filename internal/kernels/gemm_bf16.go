package kernels

// GemmBF16Spec is a matrix product C[M,N] = A[M,K] B[K,N], row-major, of bf16 with float32 sums.
type GemmBF16Spec struct {
	M, N, K int
	LDA     int  // values between rows of A: at least K rounded up to 32, and zeros from K on; 0 is K
	LDC     int  // values between rows of C: at least N; 0 is N
	Float   bool // C is float32
}

// GemmBF16 is a planned matrix product in bf16. It runs on the convolution's tiles: a row of A is a
// pixel, and 32 columns of packed B (a panel) are the weights of its outputs. A sum depends on
// neither M nor N nor the chunks.
//
// B is packed [N/32][K/32][2][16][16][2], with zeros past K and N.
type GemmBF16 struct {
	GemmBF16Spec
	tileGemm
}

// NewGemmBF16 plans a matrix product; an error says what does not fit.
func NewGemmBF16(s GemmBF16Spec) (*GemmBF16, error) {
	if s.LDA == 0 {
		s.LDA = s.K
	}
	if s.LDC == 0 {
		s.LDC = s.N
	}
	g := &GemmBF16{GemmBF16Spec: s}
	width := 2
	if s.Float {
		width = 4
	}
	if err := g.plan(s.M, s.N, s.K, BF16Lanes, 2*s.LDA, s.LDC*width, width); err != nil {
		return nil, err
	}
	return g, nil
}

// PackedSize is the number of values of B packed.
func (g *GemmBF16) PackedSize() int { return g.panels * g.steps * stepSize / 2 }

// Pack rounds and packs a part of B: [K,N], or [N,K] if it lies across.
func (g *GemmBF16) Pack(chunk int, dst []uint16, b []float32, across bool) {
	from := chunk * tileOuts
	panel := dst[chunk*g.steps*stepSize/2:][:g.steps*stepSize/2]
	clear(panel)
	for o := range min(tileOuts, g.N-from) {
		for k := range g.K {
			v := k*g.N + from + o
			if across {
				v = (from+o)*g.K + k
			}
			panel[packedBF16(o, k, g.steps)] = toBF16(b[v])
		}
	}
}

// Run computes a part of c = a b with an epilogue; b is packed, and residual is as c.
func (g *GemmBF16) Run(chunk int, scratch []float32, c, a, b []uint16, e EpilogueBF16) {
	if g.Float {
		panic("kernels: Run of a product to float32")
	}
	g.run(chunk, scratch, c, nil, a, b, e)
}

// RunFloat is Run for a product to float32. There is no residual.
func (g *GemmBF16) RunFloat(chunk int, scratch, c []float32, a, b []uint16, e EpilogueBF16) {
	if !g.Float || e.Residual != nil {
		panic("kernels: RunFloat of a product to bf16 or with a residual")
	}
	g.run(chunk, scratch, nil, c, a, b, e)
}

func (g *GemmBF16) run(chunk int, scratch []float32, c []uint16, out []float32, a, b []uint16,
	e EpilogueBF16) {
	kind, first, last, from, to := g.part(chunk)
	p := bf16Call{x: a[first*g.LDA:], scratch: scratch, gate: e.Gate}
	p.low, p.high = e.bounds()
	for panel := from; panel < to; panel++ {
		p.w = b[panel*g.steps*stepSize/2:]
		next, lines := g.fetching(panel, kind[0].blocks())
		p.next, p.lines = b[next*g.steps*stepSize/2:], lines
		p.bias = biasOf(e.Bias, panel)
		at, cols := first*g.LDC+panel*tileOuts, min(tileOuts, g.N-panel*tileOuts)
		if cols == tileOuts {
			p.t, p.hi = &kind[0], kind[0].blocks()
			p.into(c, out, e.Residual, at)
			p.run()
			continue
		}
		p.t, p.hi = &kind[1], kind[1].blocks()
		sums := scratch[tileScratch:]
		if g.Float {
			p.into(nil, sums, nil, 0)
			p.run()
			copyColumns(out[at:], g.LDC, sums, tileOuts, last-first, cols)
			continue
		}
		y, res := asBF16(sums), []uint16(nil)
		if e.Residual != nil {
			res = y[g.rows*tileOuts:]
			copyColumns(res, tileOuts, e.Residual[at:], g.LDC, last-first, cols)
		}
		p.into(y, nil, res, 0)
		p.run()
		copyColumns(c[at:], g.LDC, y, tileOuts, last-first, cols)
	}
}

// into sets what is written, from the element at on.
func (a *bf16Call) into(c []uint16, out []float32, res []uint16, at int) {
	a.y, a.out, a.res = nil, nil, nil
	if out != nil {
		a.out, a.apart = out[at:], lineBytes
		return
	}
	a.y = c[at:]
	if res != nil {
		a.res = res[at:]
	}
}

// copyColumns copies rows of cols values whose beginnings are dstApart and srcApart apart.
func copyColumns[T any](dst []T, dstApart int, src []T, srcApart, rows, cols int) {
	for r := range rows {
		copy(dst[r*dstApart:][:cols], src[r*srcApart:])
	}
}

// PaddedLDA is the distance between rows of A that suits its cache: K rounded up to 32, and an odd number of
// lines, so that the rows of a tile do not fall into the same few sets.
func PaddedLDA(k int) int { return ((k+BF16Lanes-1)/BF16Lanes | 1) * BF16Lanes }

// RowsChunks is the number of chunks of Rows.
func (g *GemmBF16) RowsChunks() int { return min(g.M, (g.M*g.K+1<<17-1)>>17) }

// Rows rounds a part of A [M,K] of float32 to rows of LDA values, zeros past K included.
func (g *GemmBF16) Rows(chunk int, dst []uint16, a []float32) {
	lo, hi := span(g.M, chunk, g.RowsChunks())
	for r := lo; r < hi; r++ {
		row := dst[r*g.LDA:][:g.LDA]
		ToBF16(row[:g.K], a[r*g.K:][:g.K])
		clear(row[g.K:])
	}
}
