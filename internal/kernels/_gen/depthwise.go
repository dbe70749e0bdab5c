package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of kernels.depthGradTile.
const (
	depthGradDW, depthGradX, depthGradDY = 0, 24, 48
	depthGradTaps                        = 72
	depthGradRows, depthGradCols         = 96, 104
	depthGradXStride, depthGradXRow      = 112, 120
	depthGradDYRow                       = 128
)

func (g *gen) depthwise() {
	for p := 1; p <= g.pixels; p++ {
		g.depthTile(p)
	}
	for k := 1; k <= g.taps; k++ {
		g.depthGradTile(k)
	}
}

// depthTile emits the tile of p pixels by a block of channels: the sums stay in registers while the taps go by.
func (g *gen) depthTile(p int) {
	g.text(fmt.Sprintf("depthTile%d", p), "func(a *tile)",
		fmt.Sprintf("computes, for every pixel i < %d of n tiles t and every lane o of 16,", p), "",
		"\ty[at+o] = finish( bias[o] + sum over taps of x[t*xNext+i*xStride+tap.x+o] * w[tap.w+o], res[at+o] ),",
		"\tat = t*yNext+i*yStride,", "",
		"where finish is the epilogue. It moves y, x and res and counts n down.")
	nv := g.vectors()
	a := g.arg("a")
	x := g.tilePixels(a, p)
	acc := g.vecs(p * nv)
	g.Label("tile")
	g.startSums(a, acc)
	w, taps, many := g.GP64(), g.GP64(), g.GP64()
	g.MOVQ(at(a, tileTaps), taps)
	g.MOVQ(at(a, tileTapsLen), many)
	g.TESTQ(many, many)
	g.JZ(LabelRef("finish"))
	g.Label("tap")
	g.place(a, x, at(taps, 0))
	g.MOVQ(at(taps, 8), w)
	g.SHLQ(U8(2), w)
	g.ADDQ(at(a, tileW), w)
	row := g.load(w, 1)
	for i := range p {
		g.each(func(j, d int) { g.VFMADD231PS(x.at(i, d), row[j], acc[i*nv+j]) })
	}
	g.ADDQ(Imm(16), taps)
	g.DECQ(many)
	g.JNZ(LabelRef("tap"))
	g.Label("finish")
	g.storeSums(a, acc, p)
	g.DECQ(at(a, tileN))
	g.JNZ(LabelRef("tile"))
	g.ret()
}

// depthGradTile emits the sums of k taps: they stay in registers while the pixels go by, as do the taps' offsets.
func (g *gen) depthGradTile(k int) {
	g.text(fmt.Sprintf("depthGradTile%d", k), "func(a *depthGradTile)",
		fmt.Sprintf("computes, for the %d taps and every lane o of 16,", k), "",
		"\tdw[tap.w+o] += sum over rows r, cols c of x[r*xRow+c*xStride+tap.x+o] * dy[r*dyRow+c*16+o]", "",
		"It moves x and dy and counts rows down.")
	nv := g.vectors()
	a := g.arg("a")
	acc, offsets := g.vecs(k*nv), make([]reg.GPVirtual, k)
	g.sums(a, acc, func(m Mem, v reg.VecVirtual) { g.VMOVUPS(m, v) })
	taps := g.GP64()
	g.MOVQ(at(a, depthGradTaps), taps)
	for t := range offsets {
		offsets[t] = g.GP64()
		g.MOVQ(at(taps, 16*t), offsets[t])
		g.SHLQ(U8(2), offsets[t])
	}
	x, dy, cols, step := g.GP64(), g.GP64(), g.GP64(), g.GP64()
	g.Label("row")
	g.MOVQ(at(a, depthGradX), x)
	g.MOVQ(at(a, depthGradDY), dy)
	g.MOVQ(at(a, depthGradCols), cols)
	g.MOVQ(at(a, depthGradXStride), step)
	g.SHLQ(U8(2), step)
	g.Label("pixel")
	d := g.load(dy, 1)
	for t, offset := range offsets {
		g.each(func(j, disp int) { g.VFMADD231PS(Mem{Base: x, Index: offset, Scale: 1, Disp: disp}, d[j], acc[t*nv+j]) })
	}
	g.ADDQ(step, x)
	g.ADDQ(Imm(4*block), dy)
	g.DECQ(cols)
	g.JNZ(LabelRef("pixel"))
	for _, f := range []struct{ field, row int }{{depthGradX, depthGradXRow}, {depthGradDY, depthGradDYRow}} {
		g.MOVQ(at(a, f.row), step)
		g.SHLQ(U8(2), step)
		g.ADDQ(step, at(a, f.field))
	}
	g.DECQ(at(a, depthGradRows))
	g.JNZ(LabelRef("row"))
	g.sums(a, acc, func(m Mem, v reg.VecVirtual) { g.VMOVUPS(v, m) })
	g.ret()
}

// sums emits f for the vectors of a depthGradTile's sums and their places in dw.
func (g *gen) sums(a reg.Register, acc []reg.VecVirtual, f func(m Mem, v reg.VecVirtual)) {
	taps, to := g.GP64(), g.GP64()
	g.MOVQ(at(a, depthGradTaps), taps)
	nv := g.vectors()
	for t := range len(acc) / nv {
		g.MOVQ(at(taps, 16*t+8), to)
		g.SHLQ(U8(2), to)
		g.ADDQ(at(a, depthGradDW), to)
		g.each(func(j, d int) { f(at(to, d), acc[t*nv+j]) })
	}
}
