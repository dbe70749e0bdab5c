package main

import (
	"fmt"
	"strings"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Routines over a row, n > 0 groups of 16 floats. Sums have 16 lanes: lane o takes
// every 16th float from o on.

// routine begins a routine and records it for the choice of an instruction set. Its arguments are
// pointers to floats, then n.
func (g *gen) routine(name, pointers string, doc ...string) []reg.Register {
	signature := pointers + " *float32, n int"
	g.text(name, "func("+signature+")", doc...)
	if g.lanes == 8 {
		rowRoutines = append(rowRoutines, struct{ name, signature, call string }{name, signature,
			pointers + ", n"})
	}
	return g.args(strings.Split(pointers+", n", ", ")...)
}

func (g *gen) rows() {
	g.reductions()
	g.softmax()
	g.rowNormal()
	g.scaleAdd()
}

// reduce emits body for every group; it adds to sums, which lie at the first argument.
func (g *gen) reduce(a []reg.Register, blocks int, body func(sums []vec, j, disp int),
	pointers ...reg.Register) {
	sums := g.load(a[0], blocks)
	g.loop(a[len(a)-1], func() { g.each(func(j, d int) { body(sums, j, d) }) }, pointers...)
	g.store(sums, a[0])
	g.ret()
}

func (g *gen) reductions() {
	a := g.routine("rowSum", "s, x", "adds x[i*16+o] to s[o].")
	g.reduce(a, 1, func(s []vec, j, d int) { g.VADDPS(at(a[1], d), s[j], s[j]) }, a[1])

	a = g.routine("rowMax", "s, x", "makes s[o] the larger of itself and x[i*16+o]; NaN wins.")
	g.reduce(a, 1, func(s []vec, j, d int) { g.most(at(a[1], d), s[j]) }, a[1])

	a = g.routine("rowMin", "s, x", "makes s[o] the smaller of itself and x[i*16+o]; NaN wins.")
	g.reduce(a, 1, func(s []vec, j, d int) {
		w := g.vec()
		g.VMOVUPS(at(a[1], d), w)
		g.or(g.smaller(w, s[j]), g.smaller(s[j], w), s[j])
	}, a[1])

	a = g.routine("rowSquares", "s, x, h", "adds the square of x[i*16+o]-h[0] to s[o].")
	shift := g.scalar(a[2], 0)
	g.reduce(a, 1, func(s []vec, j, d int) {
		x := g.vec()
		g.VMOVUPS(at(a[1], d), x)
		x = g.difference(x, shift)
		g.plus(x, x, s[j])
	}, a[1])

	a = g.routine("rowProducts", "s, x, y", "adds x[i*16+o]*y[i*16+o] to s[o].")
	g.reduce(a, 1, func(s []vec, j, d int) {
		x := g.vec()
		g.VMOVUPS(at(a[1], d), x)
		g.plus(at(a[2], d), x, s[j])
	}, a[1], a[2])
}

func (g *gen) softmax() {
	a := g.routine("rowExp", "s, y, x, h", "computes y = exp(x-h[0]) and adds y[i*16+o] to s[o].")
	shift := g.scalar(a[3], 0)
	g.reduce(a, 1, func(s []vec, j, d int) {
		x := g.vec()
		g.VMOVUPS(at(a[2], d), x)
		e := g.weight(g.difference(x, shift))
		g.VMOVUPS(e, at(a[1], d))
		g.VADDPS(e, s[j], s[j])
	}, a[1], a[2])

	g.softmaxRow()

	a = g.routine("rowExpSum", "s, x, h", "adds exp(x[i*16+o]-h[0]) to s[o].")
	shift = g.scalar(a[2], 0)
	g.reduce(a, 1, func(s []vec, j, d int) {
		x := g.vec()
		g.VMOVUPS(at(a[1], d), x)
		g.VADDPS(g.weight(g.difference(x, shift)), s[j], s[j])
	}, a[1])

	a = g.routine("gradSoftmax", "dx, dy, y, h", "computes dx = (dy-h[0])*y.")
	sum := g.scalar(a[3], 0)
	g.through(a[4], func() {
		g.stored(g.mul(g.difference(g.loaded(a[1]), sum), g.loaded(a[2])), a[0])
	}, a[0], a[1], a[2])
	g.ret()

	a = g.routine("gradLogSoftmax", "dx, dy, y, h", "computes dx = dy - exp(y)*h[0].")
	sum = g.scalar(a[3], 0)
	g.through(a[4], func() {
		g.stored(g.difference(g.loaded(a[1]), g.mul(g.exp(g.loaded(a[2])), sum)), a[0])
	}, a[0], a[1], a[2])
	g.ret()
}

// fold combines the 16 lanes of a block, halves with halves, and spreads the result over a vector.
func (g *gen) fold(v []vec, f func(ops ...Op)) vec {
	half, quarter, other, all := g.YMM(), g.XMM(), g.XMM(), g.vec()
	if g.evex {
		g.VEXTRACTF64X4(U8(1), v[0], half)
		f(half, v[0].AsY(), half)
	} else {
		f(v[1], v[0], half)
	}
	g.VEXTRACTF128(U8(1), half, quarter)
	f(quarter, half.AsX(), quarter)
	for _, order := range []uint8{0x4e, 0xb1} {
		g.VPERMILPS(U8(order), quarter, other)
		f(other, quarter, quarter)
	}
	g.VBROADCASTSS(quarter, all)
	return all
}

// softmaxRow emits the softmax of a row of whole blocks, which is filled up with -inf.
func (g *gen) softmaxRow() {
	a := g.routine("softmaxRow", "y, x", "computes y = exp(x-max(x)) / sum(exp(x-max(x))) over n groups.")
	from, to, count := g.GP64(), g.GP64(), g.GP64()
	pass := func(body func(j, d int)) {
		g.MOVQ(a[0], to)
		g.MOVQ(a[1], from)
		g.MOVQ(a[2], count)
		label := fmt.Sprint("pass", g.passes)
		g.passes++
		g.Label(label)
		g.each(body)
		g.ADDQ(U32(g.block*4), from)
		g.ADDQ(U32(g.block*4), to)
		g.DECQ(count)
		g.JNZ(LabelRef(label))
	}
	top := g.load(a[1], 1)
	pass(func(j, d int) { g.VMAXPS(at(from, d), top[j], top[j]) })
	shift, sums := g.fold(top, g.VMAXPS), g.vecs(g.vectors())
	for _, s := range sums {
		g.zero(s)
	}
	pass(func(j, d int) {
		x := g.vec()
		g.VMOVUPS(at(from, d), x)
		e := g.weight(g.difference(x, shift))
		g.VMOVUPS(e, at(to, d))
		g.VADDPS(e, sums[j], sums[j])
	})
	inverse := g.quotient(g.constant(1), g.fold(sums, g.VADDPS))
	pass(func(j, d int) {
		y := g.vec()
		g.VMULPS(at(to, d), inverse, y)
		g.VMOVUPS(y, at(to, d))
	})
	g.ret()
}

// rowNormal emits the routines of LayerNormalization and RMSNormalization.
func (g *gen) rowNormal() {
	a := g.routine("rowNormal", "y, x, scale, bias, h",
		"computes y = (x-h[0])*h[1]*scale + bias; bias may be nil.")
	mean, inv := g.scalar(a[4], 0), g.scalar(a[4], 1)
	g.through(a[5], func() {
		v := g.mul(g.mul(g.difference(g.loaded(a[1]), mean), inv), g.loaded(a[2]))
		g.TESTQ(a[3], a[3])
		g.JZ(LabelRef("store"))
		g.VADDPS(at(a[3], 0), v, v)
		g.ADDQ(U32(g.lanes*4), a[3])
		g.Label("store")
		g.stored(v, a[0])
	}, a[0], a[1], a[2])
	g.ret()

	a = g.routine("rowNormalSums", "s, dy, x, scale, h",
		"adds d = dy*scale to s[o] and d*(x-h[0]) to s[16+o].")
	mean = g.scalar(a[4], 0)
	g.reduce(a, 2, func(s []vec, j, disp int) {
		d, x := g.vec(), g.vec()
		g.VMOVUPS(at(a[1], disp), d)
		g.VMULPS(at(a[3], disp), d, d)
		g.VMOVUPS(at(a[2], disp), x)
		g.VADDPS(d, s[j], s[j])
		g.plus(g.difference(x, mean), d, s[g.vectors()+j])
	}, a[1], a[2], a[3])

	a = g.routine("gradRowNormal", "dx, dy, x, scale, h",
		"computes dx = dy*scale*h[1] + (x-h[0])*h[2] + h[3].")
	h := g.parameters(a[4], 4)
	g.through(a[5], func() {
		v := g.mul(g.mul(g.loaded(a[1]), g.loaded(a[3])), h[1])
		v = g.sum(v, g.mul(g.difference(g.loaded(a[2]), h[0]), h[2]))
		g.stored(g.sum(v, h[3]), a[0])
	}, a[0], a[1], a[2], a[3])
	g.ret()

	a = g.routine("rowNormalWeights", "dscale, dbias, dy, x, h",
		"adds dy*(x-h[0])*h[1] to dscale and dy to dbias, which may be nil.")
	mean, inv = g.scalar(a[4], 0), g.scalar(a[4], 1)
	g.through(a[5], func() {
		d := g.loaded(a[2])
		v := g.mul(g.mul(g.difference(g.loaded(a[3]), mean), inv), d)
		g.stored(g.sum(g.loaded(a[0]), v), a[0])
		g.TESTQ(a[1], a[1])
		g.JZ(LabelRef("next"))
		g.stored(g.sum(g.loaded(a[1]), d), a[1])
		g.ADDQ(U32(g.lanes*4), a[1])
		g.Label("next")
	}, a[0], a[2], a[3])
	g.ret()
}

func (g *gen) scaleAdd() {
	a := g.routine("scaleAdd", "y, x, h", "adds h[0]*x to y.")
	by := g.scalar(a[2], 0)
	g.through(a[3], func() { g.stored(g.sum(g.loaded(a[0]), g.mul(g.loaded(a[1]), by)), a[0]) }, a[0], a[1])
	g.ret()
}

// resample emits the weighted sum of pixels of 16 lanes.
func (g *gen) resample() {
	g.text("resample", "func(y, x *float32, offsets *int, weights *float32, n, taps int)",
		"computes y[i*16:][:16] as the sum over k < taps of weights[i*taps+k] * x[offsets[i*taps+k]:][:16], for i < n.")
	if g.lanes == 8 {
		rowRoutines = append(rowRoutines, struct{ name, signature, call string }{"resample",
			"y, x *float32, offsets *int, weights *float32, n, taps int", "y, x, offsets, weights, n, taps"})
	}
	a := g.args("y", "x", "offsets", "weights", "n", "taps")
	taps, offset := g.GP64(), g.GP64()
	g.Label("pixel")
	tap := func() vec {
		w := g.vec()
		g.MOVQ(at(a[2], 0), offset)
		g.VBROADCASTSS(at(a[3], 0), w)
		g.ADDQ(U32(8), a[2])
		g.ADDQ(U32(4), a[3])
		return w
	}
	from := func(d int) Mem { return Mem{Base: a[1], Index: offset, Scale: 4, Disp: d} }
	w, sums := tap(), g.vecs(g.vectors())
	g.each(func(j, d int) { g.VMULPS(from(d), w, sums[j]) })
	g.MOVQ(a[5], taps)
	g.DECQ(taps)
	g.JZ(LabelRef("store"))
	g.Label("tap")
	w = tap()
	g.each(func(j, d int) { g.plus(from(d), w, sums[j]) })
	g.DECQ(taps)
	g.JNZ(LabelRef("tap"))
	g.Label("store")
	g.store(sums, a[0])
	g.ADDQ(U32(g.block*4), a[0])
	g.DECQ(a[4])
	g.JNZ(LabelRef("pixel"))
	g.ret()
}
