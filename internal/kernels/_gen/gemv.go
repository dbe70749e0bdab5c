package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// gemvPanels is kernels' number of panels of a group.
const gemvPanels = 4

// gemv emits the product of one row with a group of panels: their sums hide each other's latency.
func (g *gen) gemv() {
	g.text("gemv", "func(y, x, w *float32, k, step, more int)",
		"computes, for panels p < 4 and every lane o of 16,", "",
		"\ty[p*16+o] = y[p*16+o] + sum over i < k of x[i] * w[p*step+i*16+o],", "",
		"in that order, or with more 1 the sum first. k > 0.")
	a := g.args("y", "x", "w", "k", "step", "more")
	nv := g.vectors()
	g.SHLQ(U8(2), a[4])
	step3 := g.GP64()
	g.LEAQ(Mem{Base: a[4], Index: a[4], Scale: 2}, step3)
	acc := g.vecs(gemvPanels * nv)
	sums := func(f func(m Mem, v reg.VecVirtual)) {
		for i, v := range acc {
			f(at(a[0], (i/nv*block+i%nv*g.lanes)*4), v)
		}
	}
	g.TESTQ(a[5], a[5])
	g.JNZ(LabelRef("zero"))
	sums(func(m Mem, v reg.VecVirtual) { g.VMOVUPS(m, v) })
	g.JMP(LabelRef("row"))
	g.Label("zero")
	for _, v := range acc {
		g.zero(v)
	}
	g.Label("row")
	x := g.vec()
	g.VBROADCASTSS(at(a[1], 0), x)
	for i, v := range acc {
		m := Mem{Base: a[2], Disp: i % nv * g.lanes * 4}
		switch i / nv {
		case 1, 2:
			m.Index, m.Scale = a[4], uint8(i/nv)
		case 3:
			m.Index, m.Scale = step3, 1
		}
		g.VFMADD231PS(m, x, v)
	}
	g.ADDQ(Imm(4), a[1])
	g.ADDQ(Imm(4*block), a[2])
	g.DECQ(a[3])
	g.JNZ(LabelRef("row"))
	g.TESTQ(a[5], a[5])
	g.JZ(LabelRef("store"))
	sums(func(m Mem, v reg.VecVirtual) { g.VADDPS(m, v, v) })
	g.Label("store")
	sums(func(m Mem, v reg.VecVirtual) { g.VMOVUPS(v, m) })
	g.ret()
}
