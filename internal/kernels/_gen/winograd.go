package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The transforms of Winograd's F(4x4,3x3) on the points 0, +-a, +-b and infinity with a = 1/sqrt(2), b
// = sqrt(2); see kernels/winograd.go. Each is a one-dimensional transform applied to the columns of a
// tile and then to its rows.

const (
	pointA = math.Sqrt2 / 2
	pointB = math.Sqrt2
)

// line is a one-dimensional transform of in to out vectors. It may overwrite what it is given.
type line struct {
	in, out int
	emit    func(x []reg.VecVirtual) []reg.VecVirtual
}

// multiples fills s, s3 and s5 from a count of floats.
func (g *gen) multiples(floats Mem) (s, s3, s5 reg.GPVirtual) {
	s, s3, s5 = g.GP64(), g.GP64(), g.GP64()
	g.MOVQ(floats, s)
	g.SHLQ(U8(2), s)
	g.LEAQ(Mem{Base: s, Index: s, Scale: 2}, s3)
	g.LEAQ(Mem{Base: s, Index: s, Scale: 4}, s5)
	return s, s3, s5
}

// number is the operand that multiplies a vector by f: one float with AVX-512, which
// broadcasts it, else a whole vector.
func (g *gen) number(f float64) Mem {
	bits := math.Float32bits(float32(f))
	name := fmt.Sprintf("number%s%08x", g.name, bits)
	if m, ok := g.numbers[name]; ok {
		return m
	}
	m := g.StaticGlobal(name)
	g.DataAttributes(attr.RODATA | attr.NOPTR)
	for i := range g.lanes {
		if i == 0 || g.lanes < 16 {
			g.AddDatum(4*i, U32(bits))
		}
	}
	g.numbers[name] = m
	return m
}

// addTimes adds f*x to acc.
func (g *gen) addTimes(f float64, x, acc reg.VecVirtual) {
	switch {
	case f == 1:
		g.VADDPS(x, acc, acc)
	case f == -1:
		g.VSUBPS(x, acc, acc)
	case f < 0 && g.lanes == 16:
		g.VFNMADD231PS_BCST(g.number(-f), x, acc)
	case f < 0:
		g.VFNMADD231PS(g.number(-f), x, acc)
	case g.lanes == 16:
		g.VFMADD231PS_BCST(g.number(f), x, acc)
	default:
		g.VFMADD231PS(g.number(f), x, acc)
	}
}

// times gives f*x.
func (g *gen) times(f float64, x reg.VecVirtual) reg.VecVirtual {
	v := g.vec()
	if g.lanes == 16 {
		g.VMULPS_BCST(g.number(f), x, v)
	} else {
		g.VMULPS(g.number(f), x, v)
	}
	return v
}

// pair gives t + f*u and t - f*u.
func (g *gen) pair(f float64, t, u reg.VecVirtual) (sum, difference reg.VecVirtual) {
	minus := g.copied(t)
	g.addTimes(-f, u, minus)
	g.addTimes(f, u, t)
	return t, minus
}

func (g *gen) inputLine() line {
	return line{6, 6, func(x []reg.VecVirtual) []reg.VecVirtual {
		g.addTimes(1, x[4], x[0])
		g.addTimes(-2.5, x[2], x[0])
		g.addTimes(1, x[1], x[5])
		g.addTimes(-2.5, x[3], x[5])
		t1, t2 := g.copied(x[4]), g.copied(x[3])
		g.addTimes(-2, x[2], t1)
		g.addTimes(-2, x[1], t2)
		g.addTimes(-.5, x[2], x[4])
		g.addTimes(-.5, x[1], x[3])
		r1, r2 := g.pair(pointA, t1, t2)
		r3, r4 := g.pair(pointB, x[4], x[3])
		return []reg.VecVirtual{x[0], r1, r2, r3, r4, x[5]}
	}}
}

func (g *gen) outputLine() line {
	return line{6, 4, func(m []reg.VecVirtual) []reg.VecVirtual {
		s1, d1 := g.pair(1, m[1], m[2])
		s2, d2 := g.pair(1, m[3], m[4])
		y1, y2 := g.times(pointA, d1), g.times(.5, s1)
		g.addTimes(1, s1, m[0])
		g.addTimes(1, s2, m[0])
		g.addTimes(pointB, d2, y1)
		g.addTimes(2, s2, y2)
		g.addTimes(pointA/2, d1, m[5])
		g.addTimes(pointB*2, d2, m[5])
		return []reg.VecVirtual{m[0], y1, y2, m[5]}
	}}
}

func (g *gen) gradientLine() line {
	return line{4, 6, func(y []reg.VecVirtual) []reg.VecVirtual {
		t1, t2 := g.copied(y[0]), g.copied(y[1])
		g.addTimes(.5, y[2], t1)
		g.addTimes(.5, y[3], t2)
		r1, r2 := g.pair(pointA, t1, t2)
		t3, t4 := g.copied(y[0]), g.copied(y[1])
		g.addTimes(2, y[2], t3)
		g.addTimes(2, y[3], t4)
		r3, r4 := g.pair(pointB, t3, t4)
		return []reg.VecVirtual{y[0], r1, r2, r3, r4, y[3]}
	}}
}

func (g *gen) weightsLine() line {
	return line{3, 6, func(w []reg.VecVirtual) []reg.VecVirtual {
		t := g.times(-2./3, w[0])
		g.addTimes(-1./3, w[2], t)
		r2, r1 := g.pair(pointA/1.5, t, w[1])
		s := g.times(1./6, w[0])
		g.addTimes(1./3, w[2], s)
		r3, r4 := g.pair(pointB/6, s, w[1])
		return []reg.VecVirtual{w[0], r1, r2, r3, r4, w[2]}
	}}
}

func (g *gen) weightsBackLine() line {
	return line{6, 3, func(u []reg.VecVirtual) []reg.VecVirtual {
		s1, d1 := g.pair(1, u[1], u[2])
		s2, d2 := g.pair(1, u[3], u[4])
		w1 := g.times(-pointA/1.5, d1)
		g.addTimes(pointB/6, d2, w1)
		g.addTimes(-2./3, s1, u[0])
		g.addTimes(1./6, s2, u[0])
		g.addTimes(-1./3, s1, u[5])
		g.addTimes(1./3, s2, u[5])
		return []reg.VecVirtual{u[0], w1, u[5]}
	}}
}

// tile emits a two-dimensional transform. column(j) is called before column j is loaded, with load giving
// the operand of its row i; row(i) before row i is stored. What does not fit into registers between the
// passes goes to the stack.
func (g *gen) tile(l line, spill reg.Register, load func(i, j int) Mem, column, row func(int),
	store func(i, j int, v reg.VecVirtual)) {
	keep := 0 // columns that stay in registers
	if g.lanes == 16 {
		keep = 21 / l.out
	}
	type place struct {
		v    reg.VecVirtual
		kept bool
	}
	mid := make([][]place, l.out)
	for i := range mid {
		mid[i] = make([]place, l.in)
	}
	slot := func(i, j int) Mem { return at(spill, ((j-keep)*l.out+i)*g.lanes*4) }
	for j := range l.in {
		column(j)
		x := g.vecs(l.in)
		for i := range x {
			g.VMOVUPS(load(i, j), x[i])
		}
		for i, v := range l.emit(x) {
			if j < keep {
				mid[i][j] = place{v, true}
			} else {
				g.VMOVAPS(v, slot(i, j))
			}
		}
	}
	for i := range l.out {
		row(i)
		x := make([]reg.VecVirtual, l.in)
		for j := range x {
			if x[j] = mid[i][j].v; !mid[i][j].kept {
				x[j] = g.vec()
				g.VMOVAPS(slot(i, j), x[j])
			}
		}
		for j, v := range l.emit(x) {
			store(i, j, v)
		}
	}
}

// multiple is base + k*step for k < 6.
func multiple(base, s, s3, s5 reg.Register, k int) Mem {
	m := Mem{Base: base}
	switch k {
	case 1, 2, 4:
		m.Index, m.Scale = s, uint8(k)
	case 3:
		m.Index, m.Scale = s3, 1
	case 5:
		m.Index, m.Scale = s5, 1
	}
	return m
}

// Offsets of the fields of kernels.winogradTile.
const (
	winoPixels, winoPositions, winoBias, winoRes, winoSpill = 0, 24, 48, 72, 96
	winoRow, winoStep, winoNext, winoN, winoAct             = 120, 128, 136, 144, 152
	winoRows, winoDown, winoLanes                           = 160, 168, 176
)

// winograd emits the transforms. Each handles n tiles (or channels) one after the other.
func (g *gen) winograd() {
	g.winogradTo("winogradInput", g.inputLine(), 4*block,
		"transforms n tiles of 6x6 pixels, 4 apart, of 16 lanes:", "",
		"\tpositions[(i*6+j)*step+t*next:][:16] = (B' x B)[i][j], x[r][c] = pixels[r*row+(4*t+c)*16:][:16]")
	g.winogradTo("winogradGradient", g.gradientLine(), 4*block,
		"transforms n tiles of 4x4 pixels of 16 lanes:", "",
		"\tpositions[(i*6+j)*step+t*next:][:16] = (A x A')[i][j], x[r][c] = pixels[r*row+(4*t+c)*16:][:16]")
	g.winogradTo("winogradWeights", g.weightsLine(), 0,
		"transforms the 3x3 taps of n input channels, of 16 output channels each:", "",
		"\tpositions[(i*6+j)*step+t*next:][:16] = (G w G')[i][j], w[r][c] = pixels[(r*3+c)*row+t*16:][:16]")
	g.winogradFrom("winogradOutput", g.outputLine(),
		"transforms n tiles back to 4x4 pixels of 16 lanes, the epilogue included:", "",
		"\tpixels[r*row+(4*t+c)*16:][:16] = finish( (A' m A)[r][c] + bias, res[r*row+(4*t+c)*16:][:16] )", "",
		"with m[i][j] = positions[(i*6+j)*step+t*next:][:16] and finish the epilogue. bias and res may be nil.")
	g.winogradFrom("winogradTaps", g.weightsBackLine(),
		"transforms the gradients of n input channels' weights back to 3x3 taps:", "",
		"\tpixels[(r*3+c)*row+t*16:][:16] = (G' m G)[r][c], m[i][j] = positions[(i*6+j)*step+t*next:][:16]")
}

// halves emits body for every vector of a block, then moves on to the next tile and
// repeats while there is one.
func (g *gen) halves(a reg.Register, body func(bytes int), pointers ...func()) {
	g.Label("tile")
	for j := range g.vectors() {
		body(j * g.lanes * 4)
	}
	for _, move := range pointers {
		move()
	}
	g.DECQ(at(a, winoN))
	g.JNZ(LabelRef("tile"))
	g.ret()
}

// next moves a pointer to the positions by a.next.
func (g *gen) next(a reg.Register, positions reg.GPVirtual) func() {
	return func() {
		step := g.GP64()
		g.MOVQ(at(a, winoNext), step)
		g.LEAQ(Mem{Base: positions, Index: step, Scale: 4}, positions)
	}
}

// winogradTo emits a transform to the 36 positions. Pixels lie in rows, pixelsApart floats from tile to tile;
// with 0 they are the taps of weights, all of them row floats apart.
func (g *gen) winogradTo(name string, l line, pixelsApart int, doc ...string) {
	g.text(name, "func(a *winogradTile)", append(doc, "", "It counts n down.")...)
	a := g.arg("a")
	v, x, from, to, spill := g.GP64(), g.GP64(), g.GP64(), g.GP64(), g.GP64()
	g.MOVQ(at(a, winoPositions), v)
	g.MOVQ(at(a, winoPixels), x)
	g.MOVQ(at(a, winoSpill), spill)
	r, r3, r5 := g.multiples(at(a, winoRow))
	s, s3, s5 := g.multiples(at(a, winoStep))
	taps := pixelsApart == 0
	if taps {
		pixelsApart = block
	}
	g.halves(a, func(bytes int) {
		load := func(i, j int) Mem {
			m := multiple(x, r, r3, r5, i)
			m.Disp = j*block*4 + bytes
			return m
		}
		column := func(j int) {}
		if !taps && bytes == 0 {
			below := g.GP64()
			if l.in == 6 {
				g.LEAQ(Mem{Base: x, Index: r3, Scale: 2}, below)
			} else {
				g.LEAQ(Mem{Base: x, Index: r, Scale: 4}, below)
			}
			column = func(j int) { g.askFor(below, r, r3, j) }
		}
		if taps { // column j has the taps j, j+3 and j+6
			load = func(i, j int) Mem {
				m := multiple(from, r, r3, r5, 3*(i%2))
				if i == 2 {
					m.Index, m.Scale = r3, 2
				}
				m.Disp = bytes
				return m
			}
			column = func(j int) {
				if j == 0 {
					g.MOVQ(x, from)
				} else {
					g.ADDQ(r, from)
				}
			}
		}
		g.tile(l, spill, load, column,
			func(i int) {
				if i == 0 {
					g.MOVQ(v, to)
				} else {
					g.LEAQ(Mem{Base: to, Index: s3, Scale: 2}, to)
				}
			},
			func(i, j int, y reg.VecVirtual) {
				m := multiple(to, s, s3, s5, j)
				m.Disp = bytes
				g.VMOVUPS(y, m)
			})
	}, g.next(a, v), func() { g.ADDQ(U32(pixelsApart*4), x) })
}

// askFor prefetches what column j of a tile has in the four rows below it, of which the next row of tiles
// consists: rows of a map are too short for the processor to see a stream in them.
func (g *gen) askFor(below, r, r3 reg.Register, j int) {
	if j >= 4 {
		return
	}
	for i := range 4 {
		m := multiple(below, r, r3, nil, i)
		m.Disp = j * block * 4
		g.PREFETCHT1(m)
	}
}

// winogradFrom emits a transform from the 36 positions to 4x4 pixels with the epilogue of a
// convolution, or to 3x3 taps.
func (g *gen) winogradFrom(name string, l line, doc ...string) {
	g.text(name, "func(a *winogradTile)", append(doc, "", "It counts n down.")...)
	a := g.arg("a")
	m, y, from, to, spill, row := g.GP64(), g.GP64(), g.GP64(), g.GP64(), g.GP64(), g.GP64()
	g.MOVQ(at(a, winoPositions), m)
	g.MOVQ(at(a, winoPixels), y)
	g.MOVQ(at(a, winoSpill), spill)
	g.MOVQ(at(a, winoRow), row)
	g.SHLQ(U8(2), row)
	step, six, six3, six5 := g.GP64(), g.GP64(), g.GP64(), g.GP64()
	g.MOVQ(at(a, winoStep), step)
	g.SHLQ(U8(2), step)
	g.LEAQ(Mem{Base: step, Index: step, Scale: 2}, six)
	g.ADDQ(six, six)
	g.LEAQ(Mem{Base: six, Index: six, Scale: 2}, six3)
	g.LEAQ(Mem{Base: six, Index: six, Scale: 4}, six5)
	taps := l.out == 3
	three := g.GP64()
	g.LEAQ(Mem{Base: row, Index: row, Scale: 2}, three)
	g.halves(a, func(bytes int) {
		var out []reg.VecVirtual
		g.tile(l, spill,
			func(i, j int) Mem {
				p := multiple(from, six, six3, six5, i)
				p.Disp = bytes
				return p
			},
			func(j int) {
				if j == 0 {
					g.MOVQ(m, from)
				} else {
					g.ADDQ(step, from)
				}
			},
			func(i int) {
				out = nil
				if !taps && bytes == 0 {
					next := g.GP64()
					g.LEAQ(Mem{Base: y, Index: row, Scale: 4}, next)
					g.askFor(next, row, three, i)
				}
				if i == 0 {
					g.MOVQ(y, to)
				} else if !taps {
					g.ADDQ(row, to)
				}
			},
			func(i, j int, v reg.VecVirtual) {
				if taps {
					g.VMOVUPS(v, at(to, bytes))
					g.ADDQ(row, to)
					return
				}
				if out = append(out, v); len(out) == l.out {
					g.pixelsOut(a, fmt.Sprintf("%d_%d", bytes, i), bytes, to, out)
				}
			})
	}, g.next(a, m), func() {
		if taps {
			g.ADDQ(U32(block*4), y)
			return
		}
		g.ADDQ(U32(4*block*4), y)
	})
}

// pixelsOut adds bias and residual to the pixels of a row of a tile, clips and stores them. res lies to
// pixels as the row to the tile.
func (g *gen) pixelsOut(a reg.Register, label string, bytes int, to reg.GPVirtual, out []reg.VecVirtual) {
	p := g.GP64()
	g.MOVQ(at(a, winoBias), p)
	g.TESTQ(p, p)
	g.JZ(LabelRef("biased" + label))
	b := g.vec()
	g.VMOVUPS(at(p, bytes), b)
	for _, v := range out {
		g.VADDPS(b, v, v)
	}
	g.Label("biased" + label)
	zero := g.vec()
	g.zero(zero)
	g.MOVQ(at(a, winoRes), p)
	g.TESTQ(p, p)
	g.JZ(LabelRef("added" + label))
	g.SUBQ(at(a, winoPixels), p)
	g.ADDQ(to, p)
	g.CMPQ(at(a, winoAct), Imm(masked))
	g.JE(LabelRef("mask" + label))
	for j, v := range out {
		g.VADDPS(at(p, j*g.block*4+bytes), v, v)
	}
	g.Label("added" + label)
	g.CMPQ(at(a, winoAct), Imm(0))
	g.JE(LabelRef("store" + label))
	for _, v := range out {
		g.VMAXPS(v, zero, v) // NaN where v is
	}
	g.JMP(LabelRef("store" + label))
	g.Label("mask" + label)
	for j, v := range out {
		g.where(at(p, j*g.block*4+bytes), zero, v)
	}
	g.Label("store" + label)
	for j, v := range out {
		g.VMOVUPS(v, at(to, j*g.block*4+bytes))
	}
}
