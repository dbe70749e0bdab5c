package kernels

import "fmt"

// tileGemm is the plan of a matrix product on tiles, of bf16 or bytes: a row of A is a pixel, and 32 columns
// of B (a panel) are the weights of its outputs.
type tileGemm struct {
	kinds  [2][2]tiling // of a strip of rows and of the last; of whole panels and the last
	steps  int
	strips int // of rows
	rows   int // of a strip
	panels int
	across int // chunks side by side
	chunks int
	height int  // of C
	spare  bool // the last panel is not whole
}

// plan plans for rows of A of stride bytes, lanes values to a step, and rows of C of row bytes of elements of
// width bytes.
func (g *tileGemm) plan(m, n, k, lanes, stride, row, width int) error {
	if m < 0 || n < 1 || k < 1 || max(m, n, k) > 1<<28 || stride > 1<<30 || row < n*width || row > 1<<30 {
		return fmt.Errorf("kernels: matrix product [%d,%d] x [%d,%d]", m, k, k, n)
	}
	g.steps, g.panels, g.height, g.spare = (k+lanes-1)/lanes, (n+tileOuts-1)/tileOuts, m, n%tileOuts > 0
	if stride < g.steps*lineBytes {
		return fmt.Errorf("kernels: rows of A of %d bytes for K = %d: whole lines of %d values are needed",
			stride, k, lanes)
	}
	if m == 0 {
		return nil
	}
	near := max(32, nearBytes/2/stride/32*32) // rows of A that stay in the second-level cache
	g.strips = (m + near - 1) / near
	g.rows = min(m, ((m+g.strips-1)/g.strips+tileRows-1)/tileRows*tileRows)
	g.strips = (m + g.rows - 1) / g.rows
	for i, rows := range []int{g.rows, m - (g.strips-1)*g.rows} {
		for j, apart := range []int{row, tileOuts * width} {
			if err := g.kinds[i][j].planRows(rows, g.steps, stride, apart); err != nil {
				return err
			}
		}
	}
	g.cut()
	return nil
}

// planRows plans the tiles of a strip of rows, which are apart bytes apart in C.
func (t *tiling) planRows(rows, steps, stride, apart int) error {
	t.stride = stride
	for s := range steps {
		t.steps = append(t.steps, s*lineBytes)
	}
	c := flatCut(1, rows, rows)
	m, _ := c.best(steps)
	return t.plan(c, m, func(_, i int) int { return i * stride }, func(_, i int) int { return i * apart })
}

// cut decides on the chunks: groups of panels of a strip.
func (g *tileGemm) cut() {
	each := g.kinds[0][0].blockCycles() * float64(g.kinds[0][0].blocks()) // of a panel
	total := each * float64(g.panels*g.strips)
	most := max(1, int(callCycles/each))
	g.across = (g.panels + most - 1) / most
	if want := min(8, int(total/chunkCycles)); g.across*g.strips < want {
		g.across = min(g.panels, (want+g.strips-1)/g.strips)
	}
	g.chunks = g.across * g.strips
}

// part is what a chunk computes: the tiles of its strip, rows [first, last) and panels [from, to).
func (g *tileGemm) part(chunk int) (kind *[2]tiling, first, last, from, to int) {
	strip := chunk / g.across
	from, to = span(g.panels, chunk%g.across, g.across)
	kind = &g.kinds[0]
	if strip == g.strips-1 {
		kind = &g.kinds[1]
	}
	return kind, strip * g.rows, min(g.height, (strip+1)*g.rows), from, to
}

// fetching is the panel that comes after one, and how many lines of it a step of that fetches.
func (g *tileGemm) fetching(panel, blocks int) (next, lines int) {
	if panel+1 == g.panels {
		return panel, 0
	}
	return panel + 1, fetching(blocks, g.steps*stepSize, g.panels*g.steps*stepSize)
}

// PackChunks is the number of chunks of Pack: one a panel.
func (g *tileGemm) PackChunks() int { return g.panels }

// Chunks is the number of chunks of Run.
func (g *tileGemm) Chunks() int { return g.chunks }

// Scratch is the number of floats that each concurrent Run needs.
func (g *tileGemm) Scratch() int {
	if !g.spare {
		return tileScratch
	}
	return tileScratch + g.rows*tileOuts*2
}

// Cost estimates Run.
func (g *tileGemm) Cost() float64 {
	if g.height == 0 {
		return 0
	}
	t := &g.kinds[0][0]
	return amxCost(t.blockCycles()*float64(t.blocks()*g.panels*g.strips)) +
		far(g.panels*g.steps*stepSize/4)*float64(g.strips)
}
