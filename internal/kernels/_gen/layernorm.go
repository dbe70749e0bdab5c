package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// layerNormRows emits LayerNormalization of rows of whole blocks.
func (g *gen) layerNormRows() {
	const signature = "y, x, scale, bias, h *float32, n, rows int"
	g.text("layerNormRows", "func("+signature+")",
		"computes y = (x-mean)/sqrt(variance+h[0])*scale + bias over rows of n groups, h[1] being one over a row's length.")
	if g.lanes == 8 {
		rowRoutines = append(rowRoutines, struct{ name, signature, call string }{"layerNormRows", signature,
			"y, x, scale, bias, h, n, rows"})
	}
	a := g.args("y", "x", "scale", "bias", "h", "n", "rows")
	x, y, scale, bias, count := g.GP64(), g.GP64(), g.GP64(), g.GP64(), g.GP64()
	eps, part := g.scalar(a[4], 0), g.scalar(a[4], 1)
	pass := func(name string, body func(j, d int), pointers ...reg.GPVirtual) {
		g.MOVQ(a[5], count)
		g.Label(name)
		g.each(body)
		for _, p := range pointers {
			g.ADDQ(U32(g.block*4), p)
		}
		g.DECQ(count)
		g.JNZ(LabelRef(name))
	}
	sums, squares := g.vecs(g.vectors()), g.vecs(g.vectors())
	clear := func(v []vec) {
		for _, s := range v {
			g.zero(s)
		}
	}
	centered := func(d int, mean vec) vec {
		v := g.vec()
		g.VMOVUPS(at(x, d), v)
		return g.difference(v, mean)
	}
	g.Label("row")
	clear(sums)
	g.MOVQ(a[1], x)
	pass("sum", func(j, d int) { g.VADDPS(at(x, d), sums[j], sums[j]) }, x)
	first := g.mul(g.fold(sums, g.VADDPS), part)
	clear(sums)
	clear(squares)
	g.MOVQ(a[1], x)
	pass("square", func(j, d int) {
		v := centered(d, first)
		g.VADDPS(v, sums[j], sums[j])
		g.plus(v, v, squares[j])
	}, x)
	rest := g.mul(g.fold(sums, g.VADDPS), part)
	variance := g.difference(g.mul(g.fold(squares, g.VADDPS), part), g.mul(rest, rest))
	root := g.vec()
	g.VSQRTPS(g.sum(g.atLeast(0, variance), eps), root)
	inverse := g.quotient(g.constant(1), root)
	g.MOVQ(a[0], y)
	g.MOVQ(a[1], x)
	g.MOVQ(a[2], scale)
	g.MOVQ(a[3], bias)
	pass("scale", func(j, d int) {
		v := g.mul(g.difference(centered(d, first), rest), inverse)
		g.VMULPS(at(scale, d), v, v)
		g.VADDPS(at(bias, d), v, v)
		g.VMOVUPS(v, at(y, d))
	}, x, y, scale, bias)
	g.MOVQ(y, a[0])
	g.MOVQ(x, a[1])
	g.DECQ(a[6])
	g.JNZ(LabelRef("row"))
	g.ret()
}
