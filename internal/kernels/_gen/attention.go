package main

import (
	"math"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// decayEnd is kernels' constant of that name.
const decayEnd = -80.0

// decay is e to the power of x <= 0, and 0 below decayEnd.
func (g *gen) decay(x vec) vec {
	e, t, f := g.expParts(g.atLeast(decayEnd, x))
	v := g.sum(e, 1.0)
	if g.evex {
		g.VSCALEFPS(f, v, v)
	} else {
		v = g.mul(v, g.power(g.intDifference(t, roundingBits)))
	}
	return g.choose(g.compare(less, x, decayEnd), 0.0, v)
}

// attention emits the softmax of rows of scores.
func (g *gen) attention() {
	const signature = "y, mask, h *float32, n, rows, yStep, maskStep int"
	g.text("attentionRows", "func("+signature+")",
		"computes y = exp(t-max(t)) / sum(exp(t-max(t))) for t = y*h[0] + mask, over rows of n groups.",
		"Rows are yStep and maskStep floats apart.")
	if g.lanes == 8 {
		rowRoutines = append(rowRoutines, struct{ name, signature, call string }{"attentionRows", signature,
			"y, mask, h, n, rows, yStep, maskStep"})
	}
	a := g.args("y", "mask", "h", "n", "rows", "yStep", "maskStep")
	y, mask, count := g.GP64(), g.GP64(), g.GP64()
	g.SHLQ(U8(2), a[5])
	g.SHLQ(U8(2), a[6])
	scale := g.scalar(a[2], 0)
	pass := func(name string, body func(j, d int), pointers ...reg.GPVirtual) {
		g.MOVQ(a[0], y)
		g.MOVQ(a[1], mask)
		g.MOVQ(a[3], count)
		g.Label(name)
		g.each(body)
		for _, p := range pointers {
			g.ADDQ(U32(g.block*4), p)
		}
		g.DECQ(count)
		g.JNZ(LabelRef(name))
	}
	top, sums := g.vecs(g.vectors()), g.vecs(g.vectors())
	g.Label("row")
	for j := range top {
		if g.evex {
			g.VBROADCASTSS(g.number(math.Inf(-1)), top[j])
		} else {
			g.VMOVUPS(g.number(math.Inf(-1)), top[j])
		}
		g.zero(sums[j])
	}
	pass("scale", func(j, d int) {
		t := g.vec()
		g.VMULPS(at(y, d), scale, t)
		g.VADDPS(at(mask, d), t, t)
		g.VMOVUPS(t, at(y, d))
		g.VMAXPS(t, top[j], top[j])
	}, y, mask)
	shift := g.fold(top, g.VMAXPS)
	pass("exp", func(j, d int) {
		x := g.vec()
		g.VMOVUPS(at(y, d), x)
		e := g.decay(g.difference(x, shift))
		g.VMOVUPS(e, at(y, d))
		g.VADDPS(e, sums[j], sums[j])
	}, y)
	inverse := g.quotient(g.constant(1), g.fold(sums, g.VADDPS))
	pass("divide", func(j, d int) {
		v := g.vec()
		g.VMULPS(at(y, d), inverse, v)
		g.VMOVUPS(v, at(y, d))
	}, y)
	g.ADDQ(a[5], a[0])
	g.ADDQ(a[6], a[1])
	g.DECQ(a[4])
	g.JNZ(LabelRef("row"))
	g.ret()
}
