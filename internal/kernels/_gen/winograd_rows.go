package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The transforms of Winograd's F(4,5) along rows on the points 0, +-1/2, +-1, +-2 and infinity; see
// kernels/winograd_row_lines.go, whose twins have the same names.

func (g *gen) rowInput() line {
	return line{8, 8, func(x []reg.VecVirtual) []reg.VecVirtual {
		first, last := x[0], x[7]
		g.addTimes(-1, x[6], first)
		g.addTimes(-5.25, x[2], first)
		g.addTimes(5.25, x[4], first)
		g.addTimes(-1, x[1], last)
		g.addTimes(5.25, x[3], last)
		g.addTimes(-5.25, x[5], last)
		y := []reg.VecVirtual{first}
		for _, c := range []struct{ point, middle, low float64 }{{.5, -5, 4}, {1, -4.25, 1},
			{2, -1.25, .25}} {
			even, odd := x[6], x[5]
			if c.point != 2 {
				even, odd = g.copied(even), g.copied(odd)
			}
			g.addTimes(c.middle, x[4], even)
			g.addTimes(c.low, x[2], even)
			g.addTimes(c.middle, x[3], odd)
			g.addTimes(c.low, x[1], odd)
			plus, minus := g.pair(c.point, even, odd)
			y = append(y, plus, minus)
		}
		return append(y, last)
	}}
}

func (g *gen) rowOutput() line {
	return line{8, 4, func(m []reg.VecVirtual) []reg.VecVirtual {
		s1, d1 := g.pair(1, m[1], m[2])
		s2, d2 := g.pair(1, m[3], m[4])
		s3, d3 := g.pair(1, m[5], m[6])
		for _, s := range []reg.VecVirtual{s1, s2, s3} {
			g.addTimes(1, s, m[0])
		}
		g.addTimes(.125, d1, m[7])
		g.addTimes(1, d2, m[7])
		g.addTimes(8, d3, m[7])
		g.addTimes(.5, d1, d2)
		g.addTimes(2, d3, d2)
		g.addTimes(.25, s1, s2)
		g.addTimes(4, s3, s2)
		return []reg.VecVirtual{m[0], d2, s2, m[7]}
	}}
}

func (g *gen) rowGradient() line {
	return line{4, 8, func(y []reg.VecVirtual) []reg.VecVirtual {
		out := []reg.VecVirtual{y[0]}
		for _, p := range []float64{.5, 1, 2} {
			even := g.copied(y[0])
			g.addTimes(p*p, y[2], even)
			odd := g.copied(y[1])
			g.addTimes(p*p, y[3], odd)
			plus, minus := g.pair(p, even, odd)
			out = append(out, plus, minus)
		}
		return append(out, y[3])
	}}
}

func (g *gen) rowWeights() line {
	return line{5, 8, func(w []reg.VecVirtual) []reg.VecVirtual {
		out := []reg.VecVirtual{w[0]}
		for _, c := range []struct{ point, scale float64 }{{.5, 32. / 45}, {1, -2. / 9}, {2, 1. / 90}} {
			p := c.point
			even, odd := g.times(c.scale, w[0]), g.times(c.scale*p, w[1])
			g.addTimes(c.scale*p*p, w[2], even)
			g.addTimes(c.scale*p*p*p, w[3], odd)
			g.addTimes(c.scale*p*p*p*p, w[4], even)
			plus, minus := g.pair(1, even, odd)
			out = append(out, plus, minus)
		}
		return append(out, w[4])
	}}
}

func (g *gen) rowTaps() line {
	return line{8, 5, func(u []reg.VecVirtual) []reg.VecVirtual {
		s1, d1 := g.pair(1, u[1], u[2])
		s2, d2 := g.pair(1, u[3], u[4])
		s3, d3 := g.pair(1, u[5], u[6])
		sum := func(acc reg.VecVirtual, power int, a, b, c reg.VecVirtual) reg.VecVirtual {
			n := float64(int(1) << power)
			if acc == nil {
				acc = g.times(32./45/n, a)
			} else {
				g.addTimes(32./45/n, a, acc)
			}
			g.addTimes(-2./9, b, acc)
			g.addTimes(n/90, c, acc)
			return acc
		}
		return []reg.VecVirtual{sum(u[0], 0, s1, s2, s3), sum(nil, 1, d1, d2, d3), sum(nil, 2, s1, s2, s3),
			sum(nil, 3, d1, d2, d3), sum(u[7], 4, s1, s2, s3)}
	}}
}

// winogradRows emits the transforms along rows. Each handles rows of n tiles.
func (g *gen) winogradRows() {
	lanes := g.block
	g.row("rowInput", g.rowInput(),
		fmt.Sprintf("transforms rows of n tiles of 8 pixels, 4 apart, of %d lanes:", lanes), "",
		fmt.Sprintf("\tpositions[i*step+r*down+t*next:][:%d] = (B' x)[i], x[c] = pixels[r*row+(4*t+c)*%d:][:%d]", lanes, lanes, lanes))
	g.row("rowGradient", g.rowGradient(),
		fmt.Sprintf("transforms rows of n tiles of 4 pixels of %d lanes:", lanes), "",
		fmt.Sprintf("\tpositions[i*step+r*down+t*next:][:%d] = (A y)[i], y[c] = pixels[r*row+(4*t+c)*%d:][:%d]", lanes, lanes, lanes))
	g.row("rowOutput", g.rowOutput(),
		fmt.Sprintf("transforms rows of n tiles back to 4 pixels of %d lanes, the epilogue included:",
			lanes), "",
		fmt.Sprintf("\tpixels[at:][:%d] = finish( (A' m)[c] + bias, res[at:][:%d] ), at = r*row+(4*t+c)*%d,",
			lanes, lanes, lanes), "",
		fmt.Sprintf("with m[i] = positions[i*step+r*down+t*next:][:%d] and finish the epilogue. bias and res may be nil.", lanes))
	if lanes < block {
		return
	}
	g.row("rowWeights", g.rowWeights(),
		"transforms the 5 taps of a kernel's row for n input channels, of 16 output channels each:", "",
		"\tpositions[i*step+t*next:][:16] = (G w)[i], w[c] = pixels[c*row+t*16:][:16]")
	g.row("rowTaps", g.rowTaps(),
		"transforms the gradients of n input channels' weights back to 5 taps:", "",
		"\tpixels[c*row+t*16:][:16] = (G' u)[c], u[i] = positions[i*step+t*next:][:16]")
}

// fewLanes emits the transform of pixels of 1 to 4 lanes.
func (g *gen) fewLanes() {
	g.row("rowInput", g.rowInput(),
		"transforms rows of n tiles of 8 pixels, 4 apart, of so many lanes, 4 at most:", "",
		"\tpositions[i*step+r*down+t*next:][:4] = (B' x)[i], x[c] = pixels[r*row+(4*t+c)*lanes:][:lanes], then zeros")
}

// row emits a one-dimensional transform between pixels, or taps, and 8 positions.
func (g *gen) row(name string, l line, doc ...string) {
	g.text(name, "func(a *winogradTile)", doc...)
	a := g.arg("a")
	taps, few, back := l.in == 5 || l.out == 5, g.block == 4, l.out < 8
	x, v, row, down := g.GP64(), g.GP64(), g.GP64(), g.GP64()
	g.MOVQ(at(a, winoPixels), row)
	g.MOVQ(at(a, winoPositions), down)
	s := g.GP64()
	g.MOVQ(at(a, winoStep), s)
	g.SHLQ(U8(2), s)
	s3 := g.GP64()
	g.LEAQ(Mem{Base: s, Index: s, Scale: 2}, s3)
	next := g.GP64()
	g.MOVQ(at(a, winoNext), next)
	g.SHLQ(U8(2), next)

	move := reg.Register(nil) // bytes from a tile's pixels to the next's
	pixel := func(j int) Mem { return at(x, j*g.block*4) }
	switch {
	case taps:
		r, r3, r5 := g.multiples(at(a, winoRow))
		pixel = func(j int) Mem { return multiple(x, r, r3, r5, j) }
	case few:
		r, r3, r5 := g.multiples(at(a, winoLanes))
		move = g.GP64()
		g.MOVQ(r, move)
		g.SHLQ(U8(2), move)
		second := g.GP64()
		pixel = func(j int) Mem {
			if j == 0 {
				g.LEAQ(Mem{Base: x, Index: r, Scale: 4}, second)
			}
			if j < 4 {
				return multiple(x, r, r3, r5, j)
			}
			return multiple(second, r, r3, r5, j-4)
		}
	}
	var mask reg.VecVirtual
	if few {
		mask = g.laneMask(a)
	}

	g.Label("row")
	g.MOVQ(row, x)
	g.MOVQ(down, v)
	n := g.GP64()
	g.MOVQ(at(a, winoN), n)
	g.Label("tile")
	second := g.GP64()
	for h := range g.vectors() {
		bytes := h * g.lanes * 4
		g.LEAQ(Mem{Base: v, Index: s, Scale: 4}, second)
		position := func(i int) Mem {
			m := multiple(v, s, s3, nil, i%4)
			if i >= 4 {
				m.Base = second
			}
			m.Disp = bytes
			return m
		}
		here := func(j int) Mem {
			m := pixel(j)
			m.Disp += bytes
			return m
		}
		from, to := here, position
		if back {
			from, to = position, here
		}
		in := g.vecs(l.in)
		for i, w := range in {
			if few {
				g.VMASKMOVPS(from(i), mask, w)
			} else {
				g.VMOVUPS(from(i), w)
			}
		}
		out := l.emit(in)
		if back && !taps {
			g.pixelsOut(a, fmt.Sprint(bytes), bytes, x, out)
			continue
		}
		for i, w := range out {
			g.VMOVUPS(w, to(i))
		}
	}
	g.ADDQ(next, v)
	switch {
	case taps:
		g.ADDQ(U32(block*4), x)
	case few:
		g.ADDQ(move, x)
	default:
		g.ADDQ(U32(4*g.block*4), x)
	}
	g.DECQ(n)
	g.JNZ(LabelRef("tile"))
	if !taps {
		step := g.GP64()
		g.MOVQ(at(a, winoRow), step)
		g.LEAQ(Mem{Base: row, Index: step, Scale: 4}, row)
		g.MOVQ(at(a, winoDown), step)
		g.LEAQ(Mem{Base: down, Index: step, Scale: 4}, down)
		g.DECQ(at(a, winoRows))
		g.JNZ(LabelRef("row"))
	}
	g.ret()
}

// laneMask is a mask of a.lanes lanes.
func (g *gen) laneMask(a reg.Register) reg.VecVirtual {
	table := g.StaticGlobal("laneMask")
	g.DataAttributes(attr.RODATA | attr.NOPTR)
	for i := range 8 {
		ones := uint32(0)
		if i < 4 {
			ones = 1<<32 - 1
		}
		g.AddDatum(4*i, U32(ones))
	}
	lanes, base := g.GP64(), g.GP64()
	g.MOVQ(at(a, winoLanes), lanes)
	g.NEGQ(lanes)
	g.LEAQ(table, base)
	mask := g.vec()
	g.VMOVUPS(Mem{Base: base, Index: lanes, Scale: 4, Disp: 16}, mask)
	return mask
}
