package kernels

// GemmSpec is a matrix product C[M,N] = op(A) op(B), row-major: A is [M,K] or, with TransA, [K,M]; B is
// [K,N] or, with TransB, [N,K].
type GemmSpec struct {
	M, N, K        int
	TransA, TransB bool
	// Packed says that B comes as Pack leaves it, whether it lay across before or not.
	Packed bool
	// Then is a function of what Run gives, nil for none.
	Then *Map
}

// Gemm is a planned matrix product. It runs on the convolution's inner loop: a row of A is a pixel,
// and 16 columns of B (a panel) are the weights of an output block. An element's sum does not
// depend on M or on how C is cut.
type Gemm struct {
	GemmSpec
	rows   int // of C, of one chunk
	wide   int // panels of one chunk
	chunks int
}

// NewGemm plans a matrix product.
func NewGemm(s GemmSpec) *Gemm {
	g := &Gemm{GemmSpec: s, rows: s.M}
	g.wide = g.together()
	flops, parts := 2*s.M*s.N*s.K, 0
	if g.Packed && s.M > fewGemmRows {
		want := shares(flops, 16) // since B is packed already
		g.wide = g.packedWide(want)
		parts = max((s.M+mostGemmRows-1)/mostGemmRows, min((s.M+leastGemmRows-1)/leastGemmRows,
			(want+g.across()-1)/g.across()))
	} else {
		// A chunk packs what it reads of B for itself, so few chunks share a panel: rows are split only when
		// there are not panels enough.
		parts = max(1, min((s.M+47)/48, pieces(flops, 16)/g.across()))
	}
	g.rows = (s.M + parts - 1) / parts
	g.chunks = g.across() * ((s.M + g.rows - 1) / g.rows)
	return g
}

const (
	fewGemmRows   = 14  // up to so many, a product is bound by the memory that B comes from
	leastGemmRows = 98  // of a chunk, where rows are split: fewer read B too often
	mostGemmRows  = 448 // of a chunk: a stretch of so many rows of A stays in the second-level cache
)

// packedWide is the number of panels of a chunk that reads packed B: pairs, and enough of them to be
// worth the copies of rows of A.
func (g *Gemm) packedWide(want int) int {
	least := 2
	if g.packs() {
		least = 8
	}
	groups := max(1, min(want, g.panels()/least))
	return ((g.panels()+groups-1)/groups + 1) / 2 * 2
}

// together is the number of panels that a chunk takes through K at a time: they share the copied rows of A.
// Few rows are bound by memory, and do better one panel after the other.
func (g *Gemm) together() int {
	switch {
	case g.Packed:
		return packedGroup
	case g.M <= 8:
		return 1
	case g.panels() >= manyPanels && g.packs():
		return 4
	case pairWidth() > 0:
		return 2
	}
	return 1
}

func (g *Gemm) panels() int { return (g.N + Block - 1) / Block }

// across is the number of chunks side by side.
func (g *Gemm) across() int { return (g.panels() + g.wide - 1) / g.wide }

// Chunks is the number of chunks of Run.
func (g *Gemm) Chunks() int { return g.chunks }

// depth bounds how much of K is packed at once: 16 KiB of a panel stay in the first-level cache.
const depth = 256

func (g *Gemm) deep() int { return min(depth, g.K) }

// Scratch is the number of floats each concurrent Run needs.
func (g *Gemm) Scratch() int { return g.PartScratch(g.rows, g.wide*Block) }

// PartScratch is the number of floats each concurrent Part of so many rows and columns needs.
func (g *Gemm) PartScratch(rows, columns int) int {
	panels := 2
	if !g.TransB {
		panels = (columns + Block - 1) / Block
	}
	n := rows*Block + panels*g.panelSize()
	if g.packs() {
		n += rows * (g.deep() + Block)
	}
	return n
}

// panelSize is the number of floats of scratch that a stretch of a panel takes;
// packed B is read where it lies.
func (g *Gemm) panelSize() int {
	if g.Packed {
		return 0
	}
	return apart(g.deep() * Block)
}

// packs reports whether rows of A are copied first: where they lie across, and where their distance would put
// the rows of a tile into the same few sets of the cache and the tile is wide, or several panels share the
// copies. The tiles of pairs of panels have few rows.
func (g *Gemm) packs() bool {
	many := (tileWidth(false) > 8 || g.Packed || g.panels() >= manyPanels) && (pairWidth() == 0 ||
		g.panels() == 1)
	return g.TransA || g.K%128 == 0 && g.M > 4 && many
}

// manyPanels is from how many panels on a chunk takes several.
const manyPanels = 64

// packedGroup is the number of panels that a chunk of a few rows takes. Packed B is stored in the order in
// which a chunk reads it, stretches of K one after the other:
//
//	[K/256][panel][256][16]
const packedGroup = 4

// PackedSize is the number of floats of B packed, with zeros past N.
func (g *Gemm) PackedSize() int { return g.panels() * g.K * Block }

// PackChunks is the number of chunks of Pack: one a group.
func (g *Gemm) PackChunks() int { return (g.panels() + packedGroup - 1) / packedGroup }

// Pack packs a part of B.
func (g *Gemm) Pack(chunk int, dst, b []float32) {
	from, to := chunk*packedGroup*Block, min(g.N, (chunk+1)*packedGroup*Block)
	for k := 0; k < g.K; k += depth {
		deep := min(depth, g.K-k)
		if !g.TransB {
			g.copyB(dst[g.packedAt(from, k, deep):], deep*Block, b, k, deep, from, to)
			continue
		}
		for col := from; col < to; col += Block {
			g.turnB(dst[g.packedAt(col, k, deep):][:deep*Block], b, k, deep, col)
		}
	}
}

// packedAt is where rows k to k+deep of the panel that begins at column col lie in packed B.
func (g *Gemm) packedAt(col, k, deep int) int { return g.panels()*k*Block + col*deep }

// Run computes a part of c = a b + bias, with ReLU when relu is set; with accumulate it adds to c instead.
// bias is nil or one value a column.
func (g *Gemm) Run(chunk int, scratch, c, a, b, bias []float32, relu, accumulate bool) {
	group, part := chunk%g.across(), chunk/g.across()
	p := gemmPart{lo: part * g.rows, hi: min(g.M, (part+1)*g.rows), from: group * g.wide * Block,
		to: min(g.N, (group+1)*g.wide*Block), stride: g.N, bias: bias, relu: relu, accumulate: accumulate}
	p.c = c[p.lo*g.N+p.from:]
	g.part(&p, scratch, a, b)
	if g.Then == nil {
		return
	}
	for r := p.lo; r < p.hi; r++ {
		row := c[r*g.N+p.from : r*g.N+p.to]
		g.Then.Forward(row, row)
	}
}

// Part computes rows [lo, hi) and columns [from, to) of a b into c, [hi-lo, to-from].
// from is a multiple of 16.
func (g *Gemm) Part(scratch, c, a, b []float32, lo, hi, from, to int) {
	g.part(&gemmPart{lo: lo, hi: hi, from: from, to: to, c: c, stride: to - from}, scratch, a, b)
}

// gemmPart is rows [lo, hi) and columns [from, to) of a product and what becomes of them.
type gemmPart struct {
	lo, hi, from, to int
	c                []float32 // from the first element on
	stride           int       // of the rows of c
	bias             []float32
	relu, accumulate bool
}

// part computes p, a stretch of K after the other. Where B lies across, panels are turned just before they
// are used; where it does not, all panels are copied together, along the rows of B.
func (g *Gemm) part(p *gemmPart, scratch, a, b []float32) {
	if g.single(p) {
		g.row(p, a, b)
		return
	}
	rows, most := p.hi-p.lo, g.deep()
	sums, scratch := scratch[:rows*Block], scratch[rows*Block:]
	var rowsOfA []float32
	if g.packs() {
		rowsOfA, scratch = scratch[:rows*(most+Block)], scratch[rows*(most+Block):]
	}
	for k := 0; k < g.K || k == 0; k += most {
		deep := min(most, g.K-k)
		t := tile{runs: []run{{0, deep}}, x: rowsOfA, xStride: deep + Block}
		if g.packs() {
			g.packA(rowsOfA, a, k, deep, p.lo, p.hi)
		} else {
			t.x, t.xStride = a[p.lo*g.K+k:], g.K
		}
		if !g.Packed && !g.TransB {
			g.copyB(scratch, g.panelSize(), b, k, deep, p.from, p.to)
		}
		for col := p.from; col < p.to; {
			many := g.beside(p, col)
			switch {
			case g.Packed:
				t.w, t.wNext = b[g.packedAt(col, k, deep):], deep*Block
				g.fetch(p, &t, b, col+many*Block, k, deep)
			case g.TransB:
				t.w, t.wNext = scratch, g.panelSize()
				for i := range many {
					g.turnB(scratch[i*g.panelSize():][:deep*Block], b, k, deep, col+i*Block)
				}
			default:
				t.w, t.wNext = scratch[(col-p.from)/Block*g.panelSize():], g.panelSize()
			}
			if t.w = t.w[:(many-1)*t.wNext+deep*Block]; many == 1 {
				t.wNext = 0
			}
			g.panel(p, t, sums, col, k == 0, k+most >= g.K)
			col += many * Block
		}
		if g.K == 0 {
			break
		}
	}
}

// beside is the number of panels from column col on that go into the inner loop together.
func (g *Gemm) beside(p *gemmPart, col int) int {
	if pairWidth() > 0 && p.to-col >= 2*Block && g.K > 0 {
		return 2
	}
	return 1
}

// fetch lets t fetch the panels of packed B that come next, at column col or in the next stretch of
// K, spread over its tiles.
func (g *Gemm) fetch(p *gemmPart, t *tile, b []float32, col, k, deep int) {
	if col >= p.to {
		if col, k = p.from, k+deep; k >= g.K {
			t.ahead, t.aheadStep = nil, 0
			return
		}
		deep = min(depth, g.K-k)
	}
	tiles := (p.hi - p.lo + fewGemmRows - 1) / fewGemmRows
	t.ahead = b[g.packedAt(col, k, deep):]
	t.aheadStep = (8*Block*4 + tiles - 1) / tiles
}

// single reports whether p is the product of a row with a group of panels that come from the second-level
// cache. The panels go side by side then; from memory they do as well one by one.
func (g *Gemm) single(p *gemmPart) bool {
	return g.Packed && g.M == 1 && g.K > 0 && !p.accumulate && g.K*g.N <= nearFloats &&
		(p.to-p.from+Block-1)/Block == packedGroup
}

// row is part for a row. Its sums are those of panel.
func (g *Gemm) row(p *gemmPart, a, b []float32) {
	var sums [packedGroup * Block]float32
	if p.bias != nil {
		copy(sums[:], p.bias[p.from:p.to])
	}
	for k := 0; k < g.K; k += depth {
		deep := min(depth, g.K-k)
		at := g.packedAt(p.from, k, deep)
		gemv(&sums, a[k:][:deep], b[at:][:packedGroup*deep*Block], k > 0)
	}
	for i, v := range sums[:p.to-p.from] {
		if p.relu && v < 0 {
			v = 0
		}
		p.c[i] = v
	}
}

// gemvGo computes, for panels p < 4 and every lane o of 16,
//
//	y[p*16+o] = y[p*16+o] + sum over i < len(x) of x[i] * w[(p*len(x)+i)*16+o],
//
// in that order, or with more the sum first.
func gemvGo(y *[packedGroup * Block]float32, x, w []float32, more bool) {
	for p := range packedGroup {
		sums, panel := y[p*Block:][:Block], w[p*len(x)*Block:]
		var acc [Block]float32
		if !more {
			copy(acc[:], sums)
		}
		for i, v := range x {
			for o, f := range panel[i*Block:][:Block] {
				acc[o] += v * f
			}
		}
		for o, v := range acc {
			if more {
				v += sums[o]
			}
			sums[o] = v
		}
	}
}

// panel adds a stretch of K to the sums of a panel, or of two; first and last say that it is the first and
// the last. A whole panel is summed where it belongs, a part of one in scratch.
func (g *Gemm) panel(p *gemmPart, t tile, sums []float32, col int, first, last bool) {
	rows, cols := p.hi-p.lo, min(t.lanes(), p.to-col)
	c := p.c[col-p.from:]
	whole := cols == t.lanes()
	t.y, t.yStride = sums, Block
	if whole {
		t.y, t.yStride = c, p.stride
	}
	var bias [2 * Block]float32
	if first {
		if p.bias != nil {
			copy(bias[:], p.bias[col:col+cols])
		}
		t.bias = bias[:]
	}
	if !first || p.accumulate && whole {
		t.res = t.y
	}
	if last && whole {
		t.act = Epilogue{ReLU: p.relu}.act()
	}
	rowOfTiles(rows, &t)
	if whole || !last {
		return
	}
	for r := range rows {
		to, from := c[r*p.stride:][:cols], sums[r*Block:][:cols]
		for i, v := range from {
			if p.accumulate {
				v += to[i]
			}
			if p.relu && v < 0 {
				v = 0
			}
			to[i] = v
		}
	}
}

// turnB copies deep rows of B, which lies across, 16 columns of them from col on, padded with zeros.
func (g *Gemm) turnB(dst, b []float32, k, deep, col int) {
	cols := min(Block, g.N-col)
	if cols < Block {
		clear(dst[:deep*Block])
	}
	gather(dst, b[col*g.K+k:], g.K, deep, cols)
}

// copyB copies deep rows of B, columns [from, to) of them, into panels that are stride floats
// apart, padded with zeros.
func (g *Gemm) copyB(dst []float32, stride int, b []float32, k, deep, from, to int) {
	for i := range deep {
		row := b[(k+i)*g.N+from:][:to-from]
		at := i * Block
		for ; len(row) >= Block; at += stride {
			*(*[Block]float32)(dst[at:]) = *(*[Block]float32)(row)
			row = row[Block:]
		}
		if len(row) > 0 {
			clear(dst[at+copy(dst[at:], row) : at+Block])
		}
	}
}

// packA copies rows [lo, hi) of op(A), deep floats of each, a block apart: dst[r][i] = op(a)[lo+r][k+i].
func (g *Gemm) packA(dst, a []float32, k, deep, lo, hi int) {
	if g.TransA {
		turn(dst, deep+Block, a[k*g.M+lo:], g.M, deep, hi-lo)
		return
	}
	for r := lo; r < hi; r++ {
		copy(dst[(r-lo)*(deep+Block):], a[r*g.K+k:][:deep])
	}
}

// turnGo writes dst[c*dstStride+r] = src[r*srcStride+c] for r < rows, c < cols.
func turnGo(dst []float32, dstStride int, src []float32, srcStride, rows, cols int) {
	for r := range rows {
		for c, v := range src[r*srcStride:][:cols] {
			dst[c*dstStride+r] = v
		}
	}
}

// gatherGo writes dst[i*16+o] = src[o*stride+i] for i < n, o < cols.
func gatherGo(dst, src []float32, stride, n, cols int) {
	for o := range cols {
		for i, v := range src[o*stride:][:n] {
			dst[i*Block+o] = v
		}
	}
}

// scatterGo writes dst[o*stride+i] = src[i*16+o] for i < n, o < cols.
func scatterGo(dst, src []float32, stride, n, cols int) {
	for o := range cols {
		for i := range dst[o*stride:][:n] {
			dst[o*stride+i] = src[i*Block+o]
		}
	}
}
