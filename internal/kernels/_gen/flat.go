package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The routines of this file walk n > 0 groups of 16 floats. They use no fused multiply-add: memory bounds
// them anyway, and so they give the bits of their Go twins.

func (g *gen) flat() {
	g.relu()
	g.reluGrad()
	g.clip()
	g.clipGrad()
	g.add()
	g.sgd()
	g.adam()
}

func (g *gen) relu() {
	g.text("relu", "func(y, x *float32, n int)", "computes y = 0 where x < 0, else x.")
	a, zero := g.args("y", "x", "n"), g.vec()
	g.zero(zero)
	g.loop(a[2], func() {
		v := g.load(a[1], 1)
		g.each(func(j, d int) { g.VMAXPS(v[j], zero, v[j]) })
		g.store(v, a[0])
	}, a[0], a[1])
	g.ret()
}

func (g *gen) reluGrad() {
	g.text("reluGrad", "func(dx, dy, y *float32, n int)", "computes dx = dy where y > 0, else 0.")
	a, zero := g.args("dx", "dy", "y", "n"), g.vec()
	g.zero(zero)
	g.loop(a[3], func() {
		v := g.load(a[1], 1)
		g.each(func(j, d int) { g.where(at(a[2], d), zero, v[j]) })
		g.store(v, a[0])
	}, a[0], a[1], a[2])
	g.ret()
}

func (g *gen) clip() {
	g.text("clip", "func(y, x, h *float32, n int)",
		"computes y = h[0] where x < h[0], h[1] where x > h[1], else x.")
	a := g.args("y", "x", "h", "n")
	low, high := g.scalar(a[2], 0), g.scalar(a[2], 1)
	g.loop(a[3], func() {
		v := g.load(a[1], 1)
		g.each(func(j, d int) {
			g.VMAXPS(v[j], low, v[j])
			g.VMINPS(v[j], high, v[j])
		})
		g.store(v, a[0])
	}, a[0], a[1])
	g.ret()
}

func (g *gen) clipGrad() {
	g.text("clipGrad", "func(dx, dy, x, y *float32, n int)", "computes dx = dy where x = y, else 0.")
	a := g.args("dx", "dy", "x", "y", "n")
	g.loop(a[4], func() {
		v, x := g.load(a[1], 1), g.load(a[2], 1)
		g.each(func(j, d int) { g.whereEqual(at(a[3], d), x[j], v[j]) })
		g.store(v, a[0])
	}, a[0], a[1], a[2], a[3])
	g.ret()
}

// whereEqual keeps v where x equals what lies at m and clears it elsewhere.
func (g *gen) whereEqual(m Mem, x, v reg.VecVirtual) {
	if g.evex {
		k := g.K()
		g.VCMPPS(Imm(equal), m, x, k)
		g.VMOVAPS_Z(v, k, v)
		return
	}
	g.VCMPPS(Imm(equal), m, x, x)
	g.VANDPS(x, v, v)
}

func (g *gen) add() {
	g.text("add", "func(y, a, b *float32, n int)", "computes y = a + b.")
	a := g.args("y", "a", "b", "n")
	g.loop(a[3], func() {
		v := g.load(a[1], 1)
		g.each(func(j, d int) { g.VADDPS(at(a[2], d), v[j], v[j]) })
		g.store(v, a[0])
	}, a[0], a[1], a[2])
	g.ret()
}

// scalar is a float32 of every lane, from a field of the array that p points to.
func (g *gen) scalar(p reg.Register, i int) reg.VecVirtual {
	v := g.vec()
	g.VBROADCASTSS(at(p, 4*i), v)
	return v
}

// plus computes v += a*b, rounded twice.
func (g *gen) plus(a, b Op, v reg.VecVirtual) {
	t := g.vec()
	g.VMULPS(a, b, t)
	g.VADDPS(t, v, v)
}

func (g *gen) sgd() {
	g.text("sgd", "func(p, grad, buf, h *float32, n, first, nesterov int)",
		"computes d = grad + h[1]*p; buf = h[2]*buf + h[3]*d, or d when first is 1; p -= h[0] * (d + h[2]*buf when",
		"nesterov is 1, else buf).")
	a := g.args("p", "grad", "buf", "h", "n", "first", "nesterov")
	rate, decay, momentum, damp := g.scalar(a[3], 0), g.scalar(a[3], 1), g.scalar(a[3], 2), g.scalar(a[3], 3)
	g.loop(a[4], func() {
		p, d, m := g.load(a[0], 1), g.load(a[1], 1), g.vecs(g.vectors())
		g.each(func(j, disp int) {
			g.plus(decay, p[j], d[j])
			g.VMOVAPS(d[j], m[j])
		})
		g.TESTQ(a[5], a[5])
		g.JNZ(LabelRef("moved"))
		g.each(func(j, disp int) {
			g.VMULPS(at(a[2], disp), momentum, m[j])
			g.plus(damp, d[j], m[j])
		})
		g.Label("moved")
		g.store(m, a[2])
		g.TESTQ(a[6], a[6])
		g.JZ(LabelRef("step"))
		g.each(func(j, disp int) {
			g.VMULPS(m[j], momentum, m[j])
			g.VADDPS(m[j], d[j], m[j])
		})
		g.Label("step")
		g.each(func(j, disp int) {
			g.VMULPS(m[j], rate, m[j])
			g.VSUBPS(m[j], p[j], p[j])
		})
		g.store(p, a[0])
	}, a[0], a[1], a[2])
	g.ret()
}

func (g *gen) adam() {
	g.text("adam", "func(p, grad, m, v, h *float32, n int)",
		"computes x = p - h[0]*p; d = g + h[1]*x; m += (d-m)*h[2]; v = h[3]*v + h[4]*d*d;",
		"p = x - h[5]*m/(sqrt(v)/h[6] + h[7]).")
	a := g.args("p", "grad", "m", "v", "h", "n")
	h := make([]reg.VecVirtual, 8)
	for i := range h {
		h[i] = g.scalar(a[4], i)
	}
	g.loop(a[5], func() {
		g.each(func(j, disp int) {
			p, d, m, v, t := g.vec(), g.vec(), g.vec(), g.vec(), g.vec()
			g.VMOVUPS(at(a[0], disp), p)
			g.VMOVUPS(at(a[1], disp), d)
			g.VMOVUPS(at(a[2], disp), m)
			g.VMULPS(p, h[0], t)
			g.VSUBPS(t, p, p)
			g.plus(h[1], p, d)
			g.VSUBPS(m, d, t)
			g.plus(h[2], t, m)
			g.VMOVUPS(m, at(a[2], disp))
			g.VMULPS(at(a[3], disp), h[3], v)
			g.VMULPS(d, h[4], t)
			g.plus(d, t, v)
			g.VMOVUPS(v, at(a[3], disp))
			g.VSQRTPS(v, v)
			g.VDIVPS(h[6], v, v)
			g.VADDPS(h[7], v, v)
			g.VMULPS(m, h[5], m)
			g.VDIVPS(v, m, m)
			g.VSUBPS(m, p, p)
			g.VMOVUPS(p, at(a[0], disp))
		})
	}, a[0], a[1], a[2], a[3])
	g.ret()
}
