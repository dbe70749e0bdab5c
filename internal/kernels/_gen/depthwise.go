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
		g.depthTile("depthTile", p, 1, "tap.x+o] * w[tap.w+o]")
	}
	for k := 1; k <= g.taps; k++ {
		g.depthGradTile("depthGradTile", k, 1, "dw[tap.w+o]", "tap.x+o]")
	}
	for p := 1; p <= g.quads.pixels; p++ {
		g.depthTile("quadTile", p, 4, "tap.x+o/4*4+j] * w[tap.w+j*16+o]")
	}
	for k := 1; k <= g.quads.taps; k++ {
		g.depthGradTile("quadGradTile", k, 4, "dw[tap.w+j*16+o]", "tap.x+o/4*4+j]")
	}
}

// lane emits f with lane j of every group of per lanes of the vector at m, spread over the group.
func (g *gen) lane(m Mem, j, per int, f func(v Op)) {
	if per == 1 {
		f(m)
		return
	}
	v := g.vec()
	g.VPERMILPS(Imm(uint64(j*0x55)), m, v)
	f(v)
}

// depthTile emits the tile of p pixels by a block of channels in groups of per: the sums stay in
// registers while the taps go by.
func (g *gen) depthTile(name string, p, per int, product string) {
	over := map[int]string{1: "taps", 4: "taps and j < 4"}[per]
	g.text(fmt.Sprint(name, p), "func(a *tile)",
		fmt.Sprintf("computes, for every pixel i < %d of n tiles t and every lane o of 16,", p), "",
		"\ty[at+o] = finish( bias[o] + sum over "+over+" of x[t*xNext+i*xStride+"+product+", res[at+o] ),",
		"\tat = t*yNext+i*yStride,", "",
		"where x and y begin at fromX and fromY and finish is the epilogue; all that as often as again says.")
	nv := g.vectors()
	a := g.arg("a")
	x := g.tilePixels(a, p)
	acc := g.vecs(p * nv)
	g.beginTiles(a)
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
	g.ADDQ(at(a, nowW), w)
	for from := range per {
		row := g.vecs(nv)
		g.each(func(j, d int) { g.VMOVUPS(at(w, 4*block*from+d), row[j]) })
		for i := range p {
			g.each(func(j, d int) {
				g.lane(x.at(i, d), from, per, func(v Op) { g.VFMADD231PS(v, row[j], acc[i*nv+j]) })
			})
		}
	}
	g.ADDQ(Imm(16), taps)
	g.DECQ(many)
	g.JNZ(LabelRef("tap"))
	g.Label("finish")
	g.storeSums(a, acc, p)
	g.tilesAgain(a)
	g.ret()
}

// depthGradTile emits the sums of k taps: they stay in registers while the pixels go
// by, as do the taps' offsets.
func (g *gen) depthGradTile(name string, k, per int, sum, x string) {
	each := map[int]string{1: "", 4: ", every j < 4"}[per]
	g.text(fmt.Sprint(name, k), "func(a *depthGradTile)",
		fmt.Sprintf("computes, for the %d taps%s and every lane o of 16,", k, each), "",
		"\t"+sum+" += sum over rows r, cols c of x[r*xRow+c*xStride+"+x+" * dy[r*dyRow+c*16+o]", "",
		"It moves x and dy and counts rows down.")
	nv := g.vectors()
	a := g.arg("a")
	acc, offsets := g.vecs(k*per*nv), make([]reg.GPVirtual, k)
	g.sums(a, acc, per, func(m Mem, v reg.VecVirtual) { g.VMOVUPS(m, v) })
	taps := g.GP64()
	g.MOVQ(at(a, depthGradTaps), taps)
	for t := range offsets {
		offsets[t] = g.GP64()
		g.MOVQ(at(taps, 16*t), offsets[t])
		g.SHLQ(U8(2), offsets[t])
	}
	px, dy, cols, step := g.GP64(), g.GP64(), g.GP64(), g.GP64()
	g.Label("row")
	g.MOVQ(at(a, depthGradX), px)
	g.MOVQ(at(a, depthGradDY), dy)
	g.MOVQ(at(a, depthGradCols), cols)
	g.MOVQ(at(a, depthGradXStride), step)
	g.SHLQ(U8(2), step)
	g.Label("pixel")
	d := g.load(dy, 1)
	for t, offset := range offsets {
		for from := range per {
			g.each(func(j, disp int) {
				m := Mem{Base: px, Index: offset, Scale: 1, Disp: disp}
				g.lane(m, from, per, func(v Op) { g.VFMADD231PS(v, d[j], acc[(t*per+from)*nv+j]) })
			})
		}
	}
	g.ADDQ(step, px)
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
	g.sums(a, acc, per, func(m Mem, v reg.VecVirtual) { g.VMOVUPS(v, m) })
	g.ret()
}

// sums emits f for the vectors of a depthGradTile's sums and their places in dw.
func (g *gen) sums(a reg.Register, acc []reg.VecVirtual, per int, f func(m Mem, v reg.VecVirtual)) {
	taps, to := g.GP64(), g.GP64()
	g.MOVQ(at(a, depthGradTaps), taps)
	nv := g.vectors()
	for t := range len(acc) / nv / per {
		g.MOVQ(at(taps, 16*t+8), to)
		g.SHLQ(U8(2), to)
		g.ADDQ(at(a, depthGradDW), to)
		for i := range per * nv {
			f(at(to, i*g.lanes*4), acc[t*per*nv+i])
		}
	}
}
