package main

import (
	"fmt"
	"maps"
	"slices"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of kernels.tile and kernels.gradTile.
const (
	tileY, tileX, tileW, tileBias, tileRes = 0, 24, 48, 72, 96
	tileRuns, tileRunsLen                  = 120, 128
	tileXStride, tileYStride               = 144, 152
	tileN, tileAct                         = 160, 168
	tileXNext, tileYNext                   = 176, 184
	tileTaps, tileTapsLen, tileHigh        = 200, 208, 224
	tileWNext, tileAhead, tileAheadStep    = 240, 248, 272
	tileXApart, tileYApart, tileYBeside    = 280, 296, 312
	tileAgain, tileFromX, tileFromY        = 320, 448, 456
	nowY, nowX, nowW, nowRes, nowLeft      = 464, 472, 480, 488, 496

	againTimes, againLeft           = 0, 32
	againHopY, againHopX, againHopW = 40, 48, 56
	againSize                       = 64

	gradDW, gradX, gradDY   = 0, 24, 48
	gradRows, gradCols      = 72, 80
	gradXStride, gradXRow   = 88, 96
	gradDYStride, gradDYRow = 104, 112
	gradApart               = 120
)

func (g *gen) convolution() {
	for p := 1; p <= g.pixels; p++ {
		g.convTile(p)
	}
}

// masked and between are kernels' activations of these names; 0 is none, 1 is ReLU.
const (
	masked  = 2
	between = 3
)

// group is how many pixels one base register reaches: multiples 0..6 of the stride are base + {s, 3s, 5s}*{1,
// 2, 4}. The tile says where groups lie: 0, apart[0], apart[1] and apart[0]+apart[1].
const group = 7

// pixels addresses the pixels of a tile.
type pixels struct {
	bases     []reg.GPVirtual
	s, s3, s5 reg.GPVirtual
	apart     []reg.GPVirtual
}

func (x pixels) at(i, disp int) Mem {
	m := Mem{Base: x.bases[i/group], Disp: disp}
	switch i % group {
	case 1, 2, 4:
		m.Index, m.Scale = x.s, uint8(i%group)
	case 3:
		m.Index, m.Scale = x.s3, 1
	case 5:
		m.Index, m.Scale = x.s5, 1
	case 6:
		m.Index, m.Scale = x.s3, 2
	}
	return m
}

// tilePixels makes the registers that address p pixels of a tile; place sets them.
func (g *gen) tilePixels(a reg.Register, p int) pixels {
	x := pixels{s: g.GP64(), s3: g.GP64(), s5: g.GP64()}
	for range (p + group - 1) / group {
		x.bases = append(x.bases, g.GP64())
	}
	g.MOVQ(at(a, tileXStride), x.s)
	g.SHLQ(U8(2), x.s)
	g.LEAQ(Mem{Base: x.s, Index: x.s, Scale: 2}, x.s3)
	g.LEAQ(Mem{Base: x.s, Index: x.s, Scale: 4}, x.s5)
	for i := range min(2, len(x.bases)-1) {
		x.apart = append(x.apart, g.GP64())
		g.MOVQ(at(a, tileXApart+8*i), x.apart[i])
	}
	return x
}

// place puts the pixels offset floats from the tile's origin.
func (g *gen) place(a reg.Register, x pixels, offset Mem) {
	g.MOVQ(offset, x.bases[0])
	g.SHLQ(U8(2), x.bases[0])
	g.ADDQ(at(a, nowX), x.bases[0])
	for i := 1; i < len(x.bases); i++ {
		g.LEAQ(Mem{Base: x.bases[i/3], Index: x.apart[min(i, 2)-1], Scale: 4}, x.bases[i])
	}
}

// convTile emits the tile of p pixels by a block of output channels: the sums stay in
// registers while the runs go by.
func (g *gen) convTile(p int) {
	g.text(fmt.Sprintf("convTile%d", p), "func(a *tile)",
		fmt.Sprintf("computes, for every pixel i < %d of n tiles t and every lane o of %d,", p, g.block), "",
		"\ty[at+o] = finish( bias[o] + sum over runs r, k < r.length of x[t*xNext+i*xStride+r.offset+k] * w[k'*16+o], res[at+o] ),",
		"\tat = t*yNext+i*yStride,", "",
		"where x and y begin at fromX and fromY, k' counts on through the runs and finish is the epilogue; all that as often as",
		"again says.")
	nv := g.vectors()
	a := g.arg("a")
	x := g.tilePixels(a, p)
	acc := g.vecs(p * nv)

	ahead, pace := g.ahead(a)

	g.beginTiles(a)
	g.Label("tile")
	g.startSums(a, acc)
	w, runs, many, count := []reg.Register{g.GP64()}, g.GP64(), g.GP64(), g.GP64()
	g.MOVQ(at(a, nowW), w[0])
	if g.paired {
		w = append(w, g.GP64())
		g.MOVQ(at(a, tileWNext), w[1])
		g.LEAQ(Mem{Base: w[0], Index: w[1], Scale: 4}, w[1])
	}
	g.MOVQ(at(a, tileRuns), runs)
	g.MOVQ(at(a, tileRunsLen), many)
	g.TESTQ(many, many)
	g.JZ(LabelRef("finish"))

	g.Label("run")
	g.place(a, x, at(runs, 0))
	g.MOVQ(at(runs, 8), count)
	const unroll = 4
	step := func(n int) {
		for k := range n {
			g.products(x, w, acc, p, k)
		}
		for _, b := range x.bases {
			g.ADDQ(U32(4*n), b)
		}
		for _, w := range w {
			g.ADDQ(U32(4*block*n), w)
		}
	}
	g.SUBQ(Imm(unroll), count)
	g.JL(LabelRef("rest"))
	g.Label("four")
	if g.paired {
		g.PREFETCHT1(at(ahead, 0))
		g.ADDQ(pace, ahead)
	}
	step(unroll)
	g.SUBQ(Imm(unroll), count)
	g.JGE(LabelRef("four"))
	g.Label("rest")
	g.ADDQ(Imm(unroll), count)
	g.JZ(LabelRef("next"))
	g.Label("one")
	step(1)
	g.DECQ(count)
	g.JNZ(LabelRef("one"))
	g.Label("next")
	g.ADDQ(Imm(16), runs)
	g.DECQ(many)
	g.JNZ(LabelRef("run"))

	g.Label("finish")
	g.storeSums(a, acc, p)
	g.tilesAgain(a)
	g.ret()
}

// beginTiles puts the assembly at the first tile.
func (g *gen) beginTiles(a reg.Register) {
	p, n := g.GP64(), g.GP64()
	for _, f := range []struct{ field, from, now int }{{tileX, tileFromX, nowX}, {tileRes, tileFromY, nowRes},
		{tileY, tileFromY, nowY}} {
		g.MOVQ(at(a, f.field), p)
		g.MOVQ(at(a, f.from), n)
		if f.field == tileRes { // nil stays nil
			g.TESTQ(p, p)
			g.CMOVQEQ(p, n)
		}
		g.LEAQ(Mem{Base: p, Index: n, Scale: 4}, p)
		g.MOVQ(p, at(a, f.now))
	}
	g.MOVQ(at(a, tileW), p)
	g.MOVQ(p, at(a, nowW))
	g.MOVQ(at(a, tileN), n)
	g.MOVQ(n, at(a, nowLeft))
}

// tilesAgain counts the tiles down, and goes back to those of the next time after the last.
func (g *gen) tilesAgain(a reg.Register) {
	g.DECQ(at(a, nowLeft))
	g.JNZ(LabelRef("tile"))
	r, n := g.GP64(), g.GP64()
	g.LEAQ(at(a, tileAgain), r)
	g.DECQ(at(r, againLeft))
	g.JG(LabelRef("hop"))
	g.MOVQ(at(r, againTimes), n)
	g.MOVQ(n, at(r, againLeft))
	g.ADDQ(Imm(againSize), r)
	g.DECQ(at(r, againLeft))
	g.JLE(LabelRef("done"))
	g.Label("hop")
	for _, f := range []struct{ now, hop int }{{nowX, againHopX}, {nowW, againHopW}, {nowY, againHopY}} {
		g.MOVQ(at(r, f.hop), n)
		g.SHLQ(U8(2), n)
		g.ADDQ(n, at(a, f.now))
	}
	g.advance(n, a, "begun")
	g.MOVQ(at(a, tileN), n)
	g.MOVQ(n, at(a, nowLeft))
	g.JMP(LabelRef("tile"))
	g.Label("done")
}

// startSums sets the sums to the bias or to zero.
func (g *gen) startSums(a reg.Register, acc []reg.VecVirtual) {
	nv := g.vectors()
	bias := g.GP64()
	g.MOVQ(at(a, tileBias), bias)
	g.TESTQ(bias, bias)
	g.JZ(LabelRef("zero"))
	for i, v := range acc {
		g.VMOVUPS(at(bias, i%nv*g.lanes*4), v)
	}
	g.JMP(LabelRef("begin"))
	g.Label("zero")
	for _, v := range acc {
		g.zero(v)
	}
	g.Label("begin")
}

// ahead loads where a pair of panels fetches from and how far it goes on with every four steps.
func (g *gen) ahead(a reg.Register) (from, pace reg.GPVirtual) {
	if !g.paired {
		return nil, nil
	}
	from, pace = g.GP64(), g.GP64()
	g.MOVQ(at(a, tileAhead), from)
	g.MOVQ(at(a, tileAheadStep), pace)
	return from, pace
}

// products adds one row of weights, of each panel, times one float of each pixel.
func (g *gen) products(x pixels, w []reg.Register, acc []reg.VecVirtual, p, k int) {
	row := g.vecs(g.vectors())
	if len(acc) >= 8 {
		for _, w := range w {
			g.PREFETCHT0(at(w, 4*block*k+2048))
		}
	}
	for j, v := range row {
		if g.paired {
			g.VMOVUPS(at(w[j], 4*block*k), v)
		} else {
			g.VMOVUPS(at(w[0], 4*block*k+4*g.lanes*j), v)
		}
	}
	for i := range p {
		g.product(x.at(i, 4*k), row, acc[i*len(row):])
	}
}

// product adds the float at m times row to sums.
func (g *gen) product(m Mem, row, sums []reg.VecVirtual) {
	if g.evex && len(row) == 1 {
		g.VFMADD231PS_BCST(m, row[0], sums[0])
		return
	}
	v := g.vec()
	g.VBROADCASTSS(m, v)
	for j := range row {
		g.VFMADD231PS(row[j], v, sums[j])
	}
}

// storeSums adds the residual, clips and stores, and moves on to the next tile.
func (g *gen) storeSums(a reg.Register, acc []reg.VecVirtual, p int) {
	nv := g.vectors()
	stride, to := g.GP64(), g.GP64()
	g.MOVQ(at(a, tileYStride), stride)
	g.SHLQ(U8(2), stride)
	beside := g.GP64()
	if g.paired {
		g.MOVQ(at(a, tileYBeside), beside)
	}
	each := func(field int, f func(m Mem, v reg.VecVirtual)) {
		for i := range p {
			if i%group == 0 && i > 0 {
				g.toGroup(a, field, i/group, to)
			}
			for j := range nv {
				m := at(to, j*g.lanes*4)
				if g.paired && j == 1 {
					m = Mem{Base: to, Index: beside, Scale: 4}
				}
				f(m, acc[i*nv+j])
			}
			g.ADDQ(stride, to)
		}
	}
	zero := g.vec()
	g.zero(zero)
	g.MOVQ(at(a, nowRes), to)
	g.CMPQ(at(a, tileAct), Imm(masked))
	g.JE(LabelRef("mask"))
	g.TESTQ(to, to)
	g.JZ(LabelRef("clip"))
	each(nowRes, func(m Mem, v reg.VecVirtual) { g.VADDPS(m, v, v) })
	g.Label("clip")
	g.CMPQ(at(a, tileAct), Imm(0))
	g.JE(LabelRef("store"))
	for _, v := range acc {
		g.VMAXPS(v, zero, v) // NaN where v is
	}
	g.CMPQ(at(a, tileAct), Imm(between))
	g.JNE(LabelRef("store"))
	g.VBROADCASTSS(at(a, tileHigh), zero)
	for _, v := range acc {
		g.VMINPS(v, zero, v)
	}
	g.JMP(LabelRef("store"))
	g.Label("mask")
	each(nowRes, func(m Mem, v reg.VecVirtual) { g.where(m, zero, v) })
	g.Label("store")
	g.MOVQ(at(a, nowY), to)
	each(nowY, func(m Mem, v reg.VecVirtual) { g.VMOVUPS(v, m) })
	g.MOVQ(at(a, tileXNext), stride)
	g.SHLQ(U8(2), stride)
	g.ADDQ(stride, at(a, nowX))
	g.MOVQ(at(a, tileYNext), stride)
	g.SHLQ(U8(2), stride)
	g.ADDQ(stride, at(a, nowY))
	g.advance(stride, a, "moved")
}

// advance adds n to the place in res, where there is one.
func (g *gen) advance(n, a reg.Register, label string) {
	g.CMPQ(at(a, nowRes), Imm(0))
	g.JE(LabelRef(label))
	g.ADDQ(n, at(a, nowRes))
	g.Label(label)
}

// toGroup points to at the first pixel of group i, in the map of the field.
func (g *gen) toGroup(a reg.Register, field, i int, to reg.Register) {
	apart := g.GP64()
	g.MOVQ(at(a, field), to)
	for bit := range 2 {
		if i>>bit&1 == 1 {
			g.MOVQ(at(a, tileYApart+8*bit), apart)
			g.LEAQ(Mem{Base: to, Index: apart, Scale: 4}, to)
		}
	}
}

func (g *gen) gradient() {
	for k := 1; k <= g.depth; k++ {
		g.gradTile(1, k)
	}
	for _, k := range slices.Sorted(maps.Keys(shortRuns)) {
		for m := 2; m <= g.mostRuns(k); m++ {
			g.gradTile(m, k)
		}
	}
}

// shortRuns are the lengths of runs that go into a tile together, for their sums are too few to fill the
// pipeline: rows of kernels over a single channel.
var shortRuns = map[int]bool{3: true, 5: true}

// mostRuns is the number of runs of k floats that one tile takes at most.
func (i isa) mostRuns(k int) int {
	if !shortRuns[k] {
		return 1
	}
	return max(1, min(5, i.depth/k))
}

// gradTile emits the tile of m runs of k floats of x by a block of lanes of dy: the sums stay in
// registers while the pixels go by.
func (g *gen) gradTile(m, k int) {
	if m == 1 {
		g.text(fmt.Sprintf("gradTile%d", k), "func(a *gradTile)",
			fmt.Sprintf("computes, for t < %d and every lane o of %d,", k, g.block), "",
			"\tdw[t*16+o] += sum over rows r, cols c of x[r*xRow+c*xStride+t] * dy[r*dyRow+c*dyStride+o]")
	} else {
		g.text(fmt.Sprintf("gradTile%dx%d", m, k), "func(a *gradTile)",
			fmt.Sprintf("computes, for i < %d, t < %d and every lane o of %d,", m, k, g.block), "",
			fmt.Sprintf("\tdw[(i*%d+t)*16+o] += sum over rows r, cols c of x[r*xRow+c*xStride+i*apart+t] * dy[r*dyRow+c*dyStride+o]", k))
	}
	nv := g.vectors()
	a := g.arg("a")
	acc := g.vecs(m * k * nv)
	dw := g.GP64()
	each := func(f func(m Mem, v reg.VecVirtual)) {
		g.MOVQ(at(a, gradDW), dw)
		for i, v := range acc {
			f(at(dw, (i/nv*block+i%nv*g.lanes)*4), v)
		}
	}
	each(func(m Mem, v reg.VecVirtual) { g.VMOVUPS(m, v) })
	for i := range acc {
		g.PREFETCHT0(at(dw, ((m*k*nv+i)/nv*block+i%nv*g.lanes)*4))
	}
	rowX, rowDY, rows := g.GP64(), g.GP64(), g.GP64()
	stepX, stepDY := g.GP64(), g.GP64()
	g.MOVQ(at(a, gradX), rowX)
	g.MOVQ(at(a, gradDY), rowDY)
	g.MOVQ(at(a, gradRows), rows)
	g.MOVQ(at(a, gradXStride), stepX)
	g.SHLQ(U8(2), stepX)
	g.MOVQ(at(a, gradDYStride), stepDY)
	g.SHLQ(U8(2), stepDY)
	apart, apart3 := g.GP64(), g.GP64()
	if m > 1 {
		g.MOVQ(at(a, gradApart), apart)
		g.SHLQ(U8(2), apart)
		g.LEAQ(Mem{Base: apart, Index: apart, Scale: 2}, apart3)
	}
	x, dy, cols := g.GP64(), g.GP64(), g.GP64()
	pixel := func() {
		d := g.vecs(nv)
		for j := range d {
			g.VMOVUPS(at(dy, j*g.lanes*4), d[j])
		}
		for i := range m {
			for t := range k {
				run := multiple(x, apart, apart3, nil, i)
				run.Disp = 4 * t
				g.product(run, d, acc[(i*k+t)*nv:])
			}
		}
		g.ADDQ(stepX, x)
		g.ADDQ(stepDY, dy)
	}
	g.Label("row")
	g.MOVQ(rowX, x)
	g.MOVQ(rowDY, dy)
	g.MOVQ(at(a, gradCols), cols)
	g.SUBQ(Imm(2), cols)
	g.JL(LabelRef("last"))
	g.Label("two")
	pixel()
	pixel()
	g.SUBQ(Imm(2), cols)
	g.JGE(LabelRef("two"))
	g.Label("last")
	g.ADDQ(Imm(2), cols)
	g.JZ(LabelRef("next"))
	pixel()
	g.Label("next")
	for _, r := range []struct {
		row   reg.Register
		field int
	}{{rowX, gradXRow}, {rowDY, gradDYRow}} {
		g.MOVQ(at(a, r.field), cols)
		g.LEAQ(Mem{Base: r.row, Index: cols, Scale: 4}, r.row)
	}
	g.DECQ(rows)
	g.JNZ(LabelRef("row"))
	each(func(m Mem, v reg.VecVirtual) { g.VMOVUPS(v, m) })
	g.ret()
}
