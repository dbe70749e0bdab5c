package kernels

// GemmSpec is a matrix product C[M,N] = op(A) op(B), row-major: A is [M,K] or, with TransA, [K,M]; B is [K,N] or, with
// TransB, [N,K].
type GemmSpec struct {
	M, N, K        int
	TransA, TransB bool
}

// Gemm is a planned matrix product. It runs on the convolution's inner loop: a row of A is a pixel, and 16 columns of B
// are the weights of an output block.
type Gemm struct {
	GemmSpec
	rows   int // of C, of one chunk
	chunks int
}

// NewGemm plans a matrix product.
func NewGemm(s GemmSpec) *Gemm {
	g := &Gemm{GemmSpec: s, rows: s.M}
	// A chunk packs 16 columns of B for itself, so few chunks share a panel: rows are split only when there are not
	// panels enough.
	panels := g.panels()
	parts := max(1, min((s.M+47)/48, pieces(2*s.M*s.N*s.K, 16)/panels))
	g.rows = (s.M + parts - 1) / parts
	g.chunks = panels * ((s.M + g.rows - 1) / g.rows)
	return g
}

func (g *Gemm) panels() int { return (g.N + Block - 1) / Block }

// Chunks is the number of chunks of Run.
func (g *Gemm) Chunks() int { return g.chunks }

// depth bounds how much of K is packed at once: 16 KiB of B stay in the first-level cache.
const depth = 256

// Scratch is the number of floats each concurrent Run needs.
func (g *Gemm) Scratch() int {
	n := min(depth, g.K)*Block + g.rows*Block
	if g.packs() {
		n += g.rows * (min(depth, g.K) + Block)
	}
	return n
}

// packs reports whether rows of A are copied first: where they lie across, and where their distance would put the rows
// of a tile into the same few sets of the cache.
func (g *Gemm) packs() bool { return g.TransA || g.K%128 == 0 && min(g.M, tileWidth(false)) > 8 }

// Run computes a part of c = a b + bias, with ReLU when relu is set; with accumulate it adds to c instead. bias is nil
// or one value a column.
func (g *Gemm) Run(chunk int, scratch, c, a, b, bias []float32, relu, accumulate bool) {
	panel, part := chunk%g.panels(), chunk/g.panels()
	col, cols := panel*Block, min(Block, g.N-panel*Block)
	lo, hi := part*g.rows, min(g.M, (part+1)*g.rows)
	most := min(depth, g.K)
	packed, scratch := scratch[:most*Block], scratch[most*Block:]
	sums := scratch[:(hi-lo)*Block]
	var rowsOfA []float32
	if g.packs() {
		rowsOfA = scratch[g.rows*Block:]
	}
	var first [Block]float32
	if bias != nil {
		copy(first[:], bias[col:col+cols])
	}
	// A whole panel is summed where it belongs, a part of one in scratch.
	y, stride, whole := sums, Block, cols == Block && g.K > 0
	if whole {
		y, stride = c[lo*g.N+col:], g.N
	}
	for k := 0; k < g.K || k == 0; k += most {
		deep := min(most, g.K-k)
		g.packB(packed, b, k, deep, col, cols)
		t := tile{y: y, w: packed[:deep*Block], runs: []run{{0, deep}}, yStride: stride}
		if k == 0 {
			t.bias = first[:]
		}
		if k > 0 || accumulate && whole {
			t.res = y
		}
		if k+most >= g.K && whole {
			t.act = Epilogue{ReLU: relu}.act()
		}
		if g.packs() {
			g.packA(rowsOfA, a, k, deep, lo, hi)
			t.x, t.xStride = rowsOfA, deep+Block
		} else {
			t.x, t.xStride = a[lo*g.K+k:], g.K
		}
		rowOfTiles(hi-lo, &t)
		if g.K == 0 {
			break
		}
	}
	if whole {
		return
	}
	for r := lo; r < hi; r++ {
		to, from := c[r*g.N+col:][:cols], sums[(r-lo)*Block:][:cols]
		for i, v := range from {
			if accumulate {
				v += to[i]
			}
			if relu && v < 0 {
				v = 0
			}
			to[i] = v
		}
	}
}

// packB copies deep rows of op(B), 16 columns of them, padded with zeros.
func (g *Gemm) packB(dst, b []float32, k, deep, col, cols int) {
	if g.TransB {
		if cols < Block {
			clear(dst[:deep*Block])
		}
		gather(dst, b[col*g.K+k:], g.K, deep, cols)
		return
	}
	for i := range deep {
		row := dst[i*Block:][:Block]
		n := copy(row, b[(k+i)*g.N+col:][:cols])
		clear(row[n:])
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
