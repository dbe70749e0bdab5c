package kernels

// pixels is a stretch of pixels of a LineLayout of bf16 in float32: channels 0 to 15 and 16 to 31 of each.
type pixels [2][pixelRun * Block]float32

// pixelRun is the number of pixels that are worked on at once: 8 KiB in float32.
const pixelRun = 64

// load widens many pixels of block b of image n from pixel at of the map on, row by row.
func (p *pixels) load(l *LineLayout, x []uint16, n, b, at, many int) {
	h, w := at/l.W, at%l.W
	for i := 0; i < many; h, w = h+1, 0 {
		run := min(l.W-w, many-i)
		widen(p[0][i*Block:], p[1][i*Block:], x[l.value(n, b, h, w):], run, Block)
		i += run
	}
}

// halves is the number of blocks of 16 channels of block b that have any.
func (l *LineLayout) halves(b int) int { return min(2, (l.C-b*BF16Lanes+Block-1)/Block) }

// wide is the layout in float32 of which a block of l is two blocks.
func (l *LineLayout) wide() Layout { return Layout{l.N, l.C, l.H, l.W, 0, Block} }
