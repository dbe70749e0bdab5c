package kernels

import "fmt"

// GatherBF16 is a plain map of few channels [N,C,H,W], rounded to bf16, as a convolution of it reads
// it fastest: a pixel for each output column, whose lanes are the pixels under a row of the kernel, or
// under all of it where that fits 32 lanes. The convolution then has KH steps, or one, instead of
// KH*KW of a few lanes each.
//
// Lanes are (kh, kw, channel) of the gathered taps. Rows above and below the map are pixels of zeros.
type GatherBF16 struct {
	Lines       LineLayout // of what is written
	Window      Window     // of the convolution that reads it
	n, c, h, w  int
	from        Window // of the convolution of the map
	rows, lanes int    // of the kernel in a pixel, of one of them
	strips      int
}

// NewGatherBF16 plans the input of the convolution of a map [n,c,h,w] to oh x ow pixels.
func NewGatherBF16(n, c, h, w, oh, ow int, v Window) (*GatherBF16, error) {
	if min(n, c, h, w, oh, ow, v.KH, v.KW, v.StrideH, v.StrideW) < 1 || v.DilH != 1 || v.DilW != 1 ||
		v.PadTop < 0 || v.PadLeft < 0 {
		return nil, fmt.Errorf("kernels: gathering [%d,%d,%d,%d] for %+v", n, c, h, w, v)
	}
	if c > BF16Lanes || v.KW > BF16Lanes/c || max(oh, ow, v.KH, v.StrideH, v.StrideW, v.PadTop,
		v.PadLeft) > mostLines/4 {
		return nil, fmt.Errorf("kernels: %d pixels of %d channels do not fit a line", v.KW, c)
	}
	g := &GatherBF16{n: n, c: c, h: h, w: w, from: v, rows: 1, lanes: v.KW * c}
	g.Window = Window{KH: v.KH, KW: 1, StrideH: v.StrideH, StrideW: 1, DilH: 1, DilW: 1}
	high := int64(oh-1)*int64(v.StrideH) + int64(v.KH)
	if v.KH*g.lanes <= BF16Lanes {
		g.rows = v.KH
		g.Window.KH, g.Window.StrideH = 1, 1
		high = int64(oh)
	}
	if high > mostLines {
		return nil, fmt.Errorf("kernels: gathering %d rows", high)
	}
	g.Lines = LineLayout{N: n, C: g.rows * g.lanes, H: int(high), W: ow, Lanes: BF16Lanes}
	if err := g.Lines.valid(BF16Lanes); err != nil {
		return nil, err
	}
	const pixels = 8192 // of a chunk
	g.strips = min(g.Lines.H, (g.Lines.H*ow+pixels-1)/pixels)
	return g, nil
}

// Taps is the form of the weights of o outputs.
func (g *GatherBF16) Taps(o int) *TapWeights {
	return &TapWeights{O: o, C: g.c, KH: g.from.KH, KW: g.from.KW, Rows: g.rows, Across: g.from.KW}
}

// Weights gives plain weights [o,C,KH,KW] as those of the convolution that reads what is gathered.
func (g *GatherBF16) Weights(o int, oihw []float32) []float32 {
	t := g.Taps(o)
	taps, channels := t.shape()
	out := make([]float32, o*taps*channels)
	plain := 0
	for i := range o {
		for c := range g.c {
			for k := range g.from.KH * g.from.KW {
				kh, kw := k/g.from.KW, k%g.from.KW
				out[(i*channels+(kh%g.rows*g.from.KW+kw)*g.c+c)*taps+kh/g.rows] = oihw[plain]
				plain++
			}
		}
	}
	return out
}

// Chunks is the number of chunks of Run.
func (g *GatherBF16) Chunks() int { return g.n * g.strips }

// Scratch is the number of values that each concurrent Run needs: the rows of the map under one of the
// output, and one of each channel.
func (g *GatherBF16) Scratch() int { return g.rows*g.rowValues() + g.c*g.w }

// rowValues is the values of a row with its padding: as far as the last window reaches.
func (g *GatherBF16) rowValues() int {
	reach := (g.Lines.W-1)*g.from.StrideW + g.from.KW
	return max(reach, g.from.PadLeft+g.w) * g.c
}

// Run writes a part of dst from the plain map.
func (g *GatherBF16) Run(chunk int, scratch, dst []uint16, x []float32) {
	n := chunk / g.strips
	lo, hi := span(g.Lines.H, chunk%g.strips, g.strips)
	size, down := g.rowValues(), 1
	if g.rows == g.from.KH {
		down = g.from.StrideH
	}
	next := 0 // row that is not mixed yet, padding included; row i is in place i%rows
	for h := lo; h < hi; h++ {
		to := dst[g.Lines.value(n, 0, h, 0):]
		for r := range g.rows {
			i := h*down + r
			row := scratch[i%g.rows*size:][:size]
			if i >= next {
				g.mix(row, scratch[g.rows*size:], x, n, i-g.from.PadTop)
				next = i + 1
			}
			gatherLines(to[r*g.lanes:], row, g.Lines.W, g.lanes, g.from.StrideW*g.c, r == 0)
		}
	}
}

// gatherLinesGo copies lanes values, step apart in src, to the front of each of n lines; with whole
// the rest of a line is zero.
func gatherLinesGo(dst, src []uint16, n, lanes, step int, whole bool) {
	for i := range n {
		if whole {
			clear(dst[i*BF16Lanes+lanes:][:BF16Lanes-lanes])
		}
		copy(dst[i*BF16Lanes:][:lanes], src[i*step:])
	}
}

// mix writes row h of image n pixel by pixel, the padding left and right included. apart
// takes a row of each channel.
func (g *GatherBF16) mix(row, apart []uint16, x []float32, n, h int) {
	if h < 0 || h >= g.h {
		clear(row)
		return
	}
	left := g.from.PadLeft * g.c
	clear(row[:left])
	clear(row[left+g.w*g.c:])
	for c := range g.c {
		ToBF16(apart[c*g.w:][:g.w], x[((n*g.c+c)*g.h+h)*g.w:][:g.w])
	}
	row = row[left:][:g.w*g.c]
	if g.c == 3 {
		mixThree(row, apart[:g.w], apart[g.w:][:g.w], apart[2*g.w:][:g.w])
		return
	}
	for c := range g.c {
		at := c
		for _, v := range apart[c*g.w:][:g.w] {
			row[at] = v
			at += g.c
		}
	}
}

// mixThreeGo writes three rows pixel by pixel.
func mixThreeGo(dst, a, b, c []uint16) {
	for i, v := range a {
		to := dst[3*i:][:3]
		to[0], to[1], to[2] = v, b[i], c[i]
	}
}
