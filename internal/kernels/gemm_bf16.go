package kernels

import "fmt"

// GemmBF16Spec is a matrix product C[M,N] = A[M,K] B[K,N], row-major, of bf16 with float32 sums.
type GemmBF16Spec struct {
	M, N, K int
	LDA     int  // values between rows of A: at least K rounded up to 32, and zeros from K on; 0 is K
	Float   bool // C is float32
}

// GemmBF16 is a planned matrix product in bf16. It runs on the convolution's tiles: a row of A is a pixel, and 32 columns of
// packed B (a panel) are the weights of its outputs. A sum depends on neither M nor N nor the chunks.
//
// B is packed [N/32][K/32][2][16][16][2], with zeros past K and N.
type GemmBF16 struct {
	GemmBF16Spec
	kinds  [2][2]tiling // of a strip of rows and of the last, whole panels and the last
	strips int          // of rows
	rows   int          // of a strip
	panels int
	across int // chunks side by side
	chunks int
}

// NewGemmBF16 plans a matrix product; an error says what does not fit.
func NewGemmBF16(s GemmBF16Spec) (*GemmBF16, error) {
	if s.LDA == 0 {
		s.LDA = s.K
	}
	if s.M < 0 || s.N < 1 || s.K < 1 || max(s.M, s.N, s.K, s.LDA) > 1<<30 {
		return nil, fmt.Errorf("kernels: matrix product [%d,%d] x [%d,%d]", s.M, s.K, s.K, s.N)
	}
	g := &GemmBF16{GemmBF16Spec: s, panels: (s.N + tileOuts - 1) / tileOuts}
	if s.LDA < g.steps()*BF16Lanes {
		return nil, fmt.Errorf("kernels: rows of A of %d values for K = %d: a multiple of 32 is needed", s.LDA, s.K)
	}
	if s.M == 0 {
		return g, nil
	}
	near := max(48, nearBytes/2/(2*s.LDA)/48*48) // rows of A that stay in the second-level cache
	g.strips = (s.M + near - 1) / near
	g.rows = min(s.M, ((s.M+g.strips-1)/g.strips+tileRows-1)/tileRows*tileRows)
	g.strips = (s.M + g.rows - 1) / g.rows
	for i, rows := range []int{g.rows, s.M - (g.strips-1)*g.rows} {
		for j, apart := range []int{s.N * g.width(), tileOuts * g.width()} {
			if err := g.kinds[i][j].planRows(rows, g.steps(), s.LDA*2, apart); err != nil {
				return nil, err
			}
		}
	}
	g.cut()
	return g, nil
}

// planRows plans the tiles of a strip of rows.
func (t *tiling) planRows(rows, steps, stride, apart int) error {
	t.stride = stride
	for s := range steps {
		t.steps = append(t.steps, s*lineBytes)
	}
	c := flatCut(1, rows, rows)
	m, _ := c.best(steps)
	return t.plan(c, m, func(i int) int { return i * stride }, func(i int) int { return i * apart })
}

// cut decides on the chunks: groups of panels of a strip.
func (g *GemmBF16) cut() {
	each := g.kinds[0][0].blockCycles() * float64(g.kinds[0][0].blocks()) // of a panel
	total := each * float64(g.panels*g.strips)
	most := max(1, int(callCycles/each))
	g.across = (g.panels + most - 1) / most
	if want := min(8, int(total/chunkCycles)); g.across*g.strips < want {
		g.across = min(g.panels, (want+g.strips-1)/g.strips)
	}
	g.chunks = g.across * g.strips
}

// width is the bytes of an element of C.
func (g *GemmBF16) width() int {
	if g.Float {
		return 4
	}
	return 2
}

func (g *GemmBF16) steps() int { return (g.K + BF16Lanes - 1) / BF16Lanes }

// PackedSize is the number of values of B packed.
func (g *GemmBF16) PackedSize() int { return g.panels * g.steps() * stepSize / 2 }

// PackChunks is the number of chunks of Pack: one a panel.
func (g *GemmBF16) PackChunks() int { return g.panels }

// Pack rounds and packs a part of B: [K,N], or [N,K] if it lies across.
func (g *GemmBF16) Pack(chunk int, dst []uint16, b []float32, across bool) {
	from := chunk * tileOuts
	panel := dst[chunk*g.steps()*stepSize/2:][:g.steps()*stepSize/2]
	clear(panel)
	for o := range min(tileOuts, g.N-from) {
		for k := range g.K {
			v := k*g.N + from + o
			if across {
				v = (from+o)*g.K + k
			}
			panel[packedBF16(o, k, g.steps())] = toBF16(b[v])
		}
	}
}

// Chunks is the number of chunks of Run.
func (g *GemmBF16) Chunks() int { return g.chunks }

// Scratch is the number of floats that each concurrent Run needs.
func (g *GemmBF16) Scratch() int {
	if g.N%tileOuts == 0 {
		return tileScratch
	}
	return tileScratch + g.rows*tileOuts*2
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

func (g *GemmBF16) run(chunk int, scratch []float32, c []uint16, out []float32, a, b []uint16, e EpilogueBF16) {
	strip := chunk / g.across
	from, to := span(g.panels, chunk%g.across, g.across)
	first, last := strip*g.rows, min(g.M, (strip+1)*g.rows)
	kind := &g.kinds[0]
	if strip == g.strips-1 {
		kind = &g.kinds[1]
	}
	p := bf16Call{x: a[first*g.LDA:], scratch: scratch}
	p.low, p.high = e.bounds()
	for panel := from; panel < to; panel++ {
		p.w = b[panel*g.steps()*stepSize/2:]
		p.bias = biasOf(e.Bias, panel)
		at, cols := first*g.N+panel*tileOuts, min(tileOuts, g.N-panel*tileOuts)
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
			copyColumns(out[at:], g.N, sums, tileOuts, last-first, cols)
			continue
		}
		y, res := asBF16(sums), []uint16(nil)
		if e.Residual != nil {
			res = y[g.rows*tileOuts:]
			copyColumns(res, tileOuts, e.Residual[at:], g.N, last-first, cols)
		}
		p.into(y, nil, res, 0)
		p.run()
		copyColumns(c[at:], g.N, y, tileOuts, last-first, cols)
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

// Cost estimates Run.
func (g *GemmBF16) Cost() float64 {
	if g.M == 0 {
		return 0
	}
	t := &g.kinds[0][0]
	return amxCost(t.blockCycles()*float64(t.blocks()*g.panels*g.strips)) + far(g.PackedSize()/2)*float64(g.strips)
}

// PaddedLDA is the distance between rows of A that suits its cache: K rounded up to 32, and an odd number of lines, so that
// the rows of a tile do not fall into the same few sets.
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
