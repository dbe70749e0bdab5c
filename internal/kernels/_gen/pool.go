package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of kernels.windows.
const (
	windowsY, windowsX, windowsDY, windowsDX = 0, 24, 48, 72
	windowsN, windowsKH, windowsKW           = 96, 104, 112
	windowsXRow, windowsDXRow, windowsStep   = 120, 128, 136
	windowsRelu                              = 144
)

func (g *gen) windows() {
	g.maxWindows()
	g.maxWindowsBackward()
}

// window emits body for every pixel of a window of kh x kw; pointers are at the first one of each row and
// come with the field that has the distance between their rows.
func (g *gen) window(a reg.Register, body func(p []reg.Register), rows []reg.Register, fields ...int) {
	kh, kw, step := g.GP64(), g.GP64(), g.GP64()
	p := make([]reg.Register, len(rows))
	for i := range p {
		p[i] = g.GP64()
	}
	g.MOVQ(at(a, windowsKH), kh)
	g.Label("row")
	for i := range p {
		g.MOVQ(rows[i], p[i])
		g.MOVQ(at(a, fields[i]), step)
		g.LEAQ(Mem{Base: rows[i], Index: step, Scale: 4}, rows[i])
	}
	g.MOVQ(at(a, windowsKW), kw)
	g.Label("pixel")
	body(p)
	for i := range p {
		g.ADDQ(U32(g.block*4), p[i])
	}
	g.DECQ(kw)
	g.JNZ(LabelRef("pixel"))
	g.DECQ(kh)
	g.JNZ(LabelRef("row"))
}

func (g *gen) maxWindows() {
	g.text("maxWindows", "func(a *windows)", "computes the maximum of n windows of kh x kw pixels:", "",
		"\ty[i*16:][:16] = max over r < kh, c < kw of x[r*xRow+i*step+c*16:][:16]", "",
		"NaN wins. It counts n down.")
	a := g.arg("a")
	y, x, row, step := g.GP64(), g.GP64(), g.GP64(), g.GP64()
	g.MOVQ(at(a, windowsY), y)
	g.MOVQ(at(a, windowsX), x)
	g.Label("window")
	v := g.load(x, 1)
	g.MOVQ(x, row)
	g.window(a, func(p []reg.Register) {
		g.each(func(j, d int) { g.most(at(p[0], d), v[j]) })
	}, []reg.Register{row}, windowsXRow)
	g.store(v, y)
	g.ADDQ(U32(g.block*4), y)
	g.MOVQ(at(a, windowsStep), step)
	g.LEAQ(Mem{Base: x, Index: step, Scale: 4}, x)
	g.DECQ(at(a, windowsN))
	g.JNZ(LabelRef("window"))
	g.ret()
}

func (g *gen) maxWindowsBackward() {
	g.text("maxWindowsBackward", "func(a *windows)",
		"adds dy[i*16:][:16] to the first pixel of window i, row by row, that equals y, lane by lane:", "",
		"\tdx[r*dxRow+i*step+c*16:][:16] += dy[i*16:][:16] where x[r*xRow+i*step+c*16:][:16] = y[i*16:][:16]",
		"",
		"With relu 1, only where y is positive. It counts n down.")
	a := g.arg("a")
	y, dy, x, dx, xRow, dxRow, step := g.GP64(), g.GP64(), g.GP64(), g.GP64(), g.GP64(), g.GP64(), g.GP64()
	g.MOVQ(at(a, windowsY), y)
	g.MOVQ(at(a, windowsDY), dy)
	g.MOVQ(at(a, windowsX), x)
	g.MOVQ(at(a, windowsDX), dx)
	zero := g.vec()
	g.zero(zero)
	g.Label("window")
	top, give := g.load(y, 1), g.load(dy, 1)
	g.CMPQ(at(a, windowsRelu), Imm(0))
	g.JE(LabelRef("all"))
	g.each(func(j, d int) { g.where(at(y, d), zero, give[j]) })
	g.Label("all")
	g.MOVQ(x, xRow)
	g.MOVQ(dx, dxRow)
	g.window(a, func(p []reg.Register) {
		g.each(func(j, d int) {
			taken := g.vec()
			g.take(at(p[0], d), top[j], give[j], taken)
			g.VADDPS(at(p[1], d), taken, taken)
			g.VMOVUPS(taken, at(p[1], d))
		})
	}, []reg.Register{xRow, dxRow}, windowsXRow, windowsDXRow)
	g.ADDQ(U32(g.block*4), y)
	g.ADDQ(U32(g.block*4), dy)
	g.MOVQ(at(a, windowsStep), step)
	g.LEAQ(Mem{Base: x, Index: step, Scale: 4}, x)
	g.LEAQ(Mem{Base: dx, Index: step, Scale: 4}, dx)
	g.DECQ(at(a, windowsN))
	g.JNZ(LabelRef("window"))
	g.ret()
}
