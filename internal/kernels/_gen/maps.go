package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The routines of this file walk n > 0 blocks of 16 lanes.

func (g *gen) maps() {
	g.sumLanes()
	g.sumSquares()
	g.sumProducts()
	g.sumProductsRelu()
	g.normalize()
	g.normalizeBackward()
	g.normalizeBackwardRelu()
	g.maxPairs()
	g.maxPairsBackward()
	if g.lanes == 8 {
		g.transpose8()
	}
}

// args loads arguments into registers.
func (g *gen) args(names ...string) []reg.Register {
	r := make([]reg.Register, len(names))
	for i, n := range names {
		r[i] = g.arg(n)
	}
	return r
}

// each emits f for the vectors of a block; disp is a vector's offset in bytes.
func (g *gen) each(f func(j, disp int)) {
	for j := range g.vectors() {
		f(j, j*g.lanes*4)
	}
}

// load fills the vectors of n blocks.
func (g *gen) load(from reg.Register, n int) []reg.VecVirtual {
	v := g.vecs(n * g.vectors())
	for i := range v {
		g.VMOVUPS(at(from, i*g.lanes*4), v[i])
	}
	return v
}

func (g *gen) store(v []reg.VecVirtual, to reg.Register) {
	for i := range v {
		g.VMOVUPS(v[i], at(to, i*g.lanes*4))
	}
}

// loop emits body n times and moves the pointers on by a block, or by as many blocks as given.
func (g *gen) loop(n reg.Register, body func(), pointers ...reg.Register) {
	g.Label("loop")
	body()
	for _, p := range pointers {
		g.ADDQ(U32(g.block*4), p)
	}
	g.DECQ(n)
	g.JNZ(LabelRef("loop"))
}

// area emits body for n blocks of each of rows rows and moves the pointers on; between rows they skip some
// floats. A maybe is a pointer that may be nil, and that body itself moves from block to block.
func (g *gen) area(n, rows, skip reg.Register, body func(), maybe reg.Register, pointers ...reg.Register) {
	count := g.GP64()
	g.SHLQ(U8(2), skip)
	g.Label("row")
	g.MOVQ(n, count)
	g.loop(count, body, pointers...)
	for _, p := range pointers {
		g.ADDQ(skip, p)
	}
	if maybe != nil {
		g.TESTQ(maybe, maybe)
		g.JZ(LabelRef("below"))
		g.ADDQ(skip, maybe)
		g.Label("below")
	}
	g.DECQ(rows)
	g.JNZ(LabelRef("row"))
}

// less is VCMPPS's ordered, quiet "less than"; equal its "equal", differ its negation.
const (
	less   = 0x11
	equal  = 0x00
	differ = 0x04
)

// where keeps v where 0 < mask and clears it elsewhere.
func (g *gen) where(mask Mem, zero, v reg.VecVirtual) {
	if g.evex {
		k := g.K()
		g.VCMPPS(Imm(less), mask, zero, k)
		g.VMOVAPS_Z(v, k, v)
		return
	}
	m := g.vec()
	g.VCMPPS(Imm(less), mask, zero, m)
	g.VANDPS(m, v, v)
}

// take moves give to taken where v equals top; elsewhere taken is zero and give stays.
func (g *gen) take(v Mem, top, give, taken reg.VecVirtual) {
	if g.evex {
		same, other := g.K(), g.K()
		g.VCMPPS(Imm(equal), v, top, same)
		g.VCMPPS(Imm(differ), v, top, other)
		g.VMOVAPS_Z(give, same, taken)
		g.VMOVAPS_Z(give, other, give)
		return
	}
	m := g.vec()
	g.VCMPPS(Imm(equal), v, top, m)
	g.VANDPS(give, m, taken)
	g.VANDNPS(give, m, give)
}

// most makes v the larger of v and what lies at m. VMAXPS gives its second source when one is NaN. Both
// orders, or-ed, keep every NaN and else change nothing.
func (g *gen) most(m Mem, v reg.VecVirtual) {
	w, r := g.vec(), g.vec()
	g.VMOVUPS(m, w)
	g.VMAXPS(w, v, r)
	g.VMAXPS(v, w, w)
	g.or(w, r, v)
}

func (g *gen) or(a Op, b, dst reg.VecVirtual) {
	if g.evex {
		g.VPORD(a, b, dst)
	} else {
		g.VORPS(a, b, dst)
	}
}

func (g *gen) sumLanes() {
	g.text("sumLanes", "func(sums, x *float32, n int)", "adds x[w*16+o] to sums[o], for w < n and o < 16.")
	a := g.args("sums", "x", "n")
	sums := g.load(a[0], 1)
	g.loop(a[2], func() {
		g.each(func(j, d int) { g.VADDPS(at(a[1], d), sums[j], sums[j]) })
	}, a[1])
	g.store(sums, a[0])
	g.ret()
}

func (g *gen) sumSquares() {
	g.text("sumSquares", "func(sums, x, shift *float32, n int)",
		"adds d = x[w*16+o]-shift[o] to sums[o] and d*d to sums[16+o], for w < n and o < 16.")
	a := g.args("sums", "x", "shift", "n")
	sums, shift := g.load(a[0], 2), g.load(a[2], 1)
	g.loop(a[3], func() {
		x := g.load(a[1], 1)
		g.each(func(j, d int) {
			g.VSUBPS(shift[j], x[j], x[j])
			g.VADDPS(x[j], sums[j], sums[j])
			g.VFMADD231PS(x[j], x[j], sums[g.vectors()+j])
		})
	}, a[1])
	g.store(sums, a[0])
	g.ret()
}

func (g *gen) sumProducts() {
	g.text("sumProducts", "func(sums, dy, x, mask, shift *float32, n, rows, skip int)",
		"adds d = dy[w*16+o] to sums[o] and d*(x[w*16+o]-shift[o]) to sums[16+o], for w < n and o < 16,",
		"where mask is nil or mask[w*16+o] > 0, for rows of n blocks, skip floats apart.")
	a := g.args("sums", "dy", "x", "mask", "shift", "n", "rows", "skip")
	sums, shift, zero := g.load(a[0], 2), g.load(a[4], 1), g.vec()
	g.zero(zero)
	g.area(a[5], a[6], a[7], func() {
		d, x := g.load(a[1], 1), g.load(a[2], 1)
		g.masked(a[3], zero, d)
		g.each(func(j, disp int) { g.VSUBPS(shift[j], x[j], x[j]) })
		g.addProducts(sums, d, x)
	}, a[3], a[1], a[2])
	g.store(sums, a[0])
	g.ret()
}

func (g *gen) addProducts(sums, d, x []reg.VecVirtual) {
	g.each(func(j, disp int) {
		g.VADDPS(d[j], sums[j], sums[j])
		g.VFMADD231PS(x[j], d[j], sums[g.vectors()+j])
	})
}

func (g *gen) sumProductsRelu() {
	g.text("sumProductsRelu", "func(sums, dy, x, coef *float32, n, rows, skip int)",
		"adds d = dy[w*16+o] to sums[o] and d*(x[w*16+o]-mean[o]) to sums[16+o], for w < n and o < 16, where",
		"(x-mean)*factor + bias > 0, for rows of n blocks, skip floats apart; coef holds 16 each of mean, factor and bias.")
	a := g.args("sums", "dy", "x", "coef", "n", "rows", "skip")
	sums, zero := g.load(a[0], 2), g.vec()
	c := g.coefficients(a[3], 3)
	g.zero(zero)
	g.area(a[4], a[5], a[6], func() {
		d, x := g.load(a[1], 1), g.load(a[2], 1)
		g.each(func(j, disp int) { g.VSUBPS(c(0, j), x[j], x[j]) })
		g.whereNormal(x, zero, d, c, 1, 2)
		g.addProducts(sums, d, x)
	}, nil, a[1], a[2])
	g.store(sums, a[0])
	g.ret()
}

// coefficients gives the vectors of an array of n blocks: in registers, or, where those are few, in memory.
func (g *gen) coefficients(p reg.Register, n int) func(i, j int) Op {
	if g.lanes == 8 {
		return func(i, j int) Op { return at(p, (i*g.vectors()+j)*g.lanes*4) }
	}
	v := g.load(p, n)
	return func(i, j int) Op { return v[i*g.vectors()+j] }
}

// whereNormal clears d where t*factor + bias, computed as normalize does, is not positive.
func (g *gen) whereNormal(t []reg.VecVirtual, zero reg.VecVirtual, d []reg.VecVirtual, c func(i, j int) Op,
	factor, bias int) {
	g.each(func(j, disp int) {
		z := g.vec()
		g.VMOVUPS(c(bias, j), z)
		g.VFMADD231PS(c(factor, j), t[j], z)
		if g.evex {
			k := g.K()
			g.VCMPPS(Imm(less), z, zero, k)
			g.VMOVAPS_Z(d[j], k, d[j])
			return
		}
		g.VCMPPS(Imm(less), z, zero, z)
		g.VANDPS(z, d[j], d[j])
	})
}

// masked clears d where mask is not positive, unless mask is nil, and moves mask on.
func (g *gen) masked(mask reg.Register, zero reg.VecVirtual, d []reg.VecVirtual) {
	g.TESTQ(mask, mask)
	g.JZ(LabelRef("all"))
	g.each(func(j, disp int) { g.where(at(mask, disp), zero, d[j]) })
	g.ADDQ(U32(block*4), mask)
	g.Label("all")
}

func (g *gen) normalize() {
	g.text("normalize", "func(y, x, res, coef *float32, n, rows, skip, relu int)",
		"computes y = max0?((x-mean)*factor + bias + res) lane by lane for rows of n blocks, skip floats apart; coef holds 16 each of mean,",
		"factor and bias; res may be nil.")
	a := g.args("y", "x", "res", "coef", "n", "rows", "skip", "relu")
	coef, zero, nv := g.load(a[3], 3), g.vec(), g.vectors()
	g.zero(zero)
	g.area(a[4], a[5], a[6], func() {
		v, sum := g.load(a[1], 1), g.vecs(nv)
		g.each(func(j, d int) {
			g.VSUBPS(coef[j], v[j], v[j])
			g.VMOVAPS(coef[2*nv+j], sum[j])
			g.VFMADD231PS(coef[nv+j], v[j], sum[j])
		})
		g.TESTQ(a[2], a[2])
		g.JZ(LabelRef("clip"))
		g.each(func(j, d int) { g.VADDPS(at(a[2], d), sum[j], sum[j]) })
		g.ADDQ(U32(block*4), a[2])
		g.Label("clip")
		g.TESTQ(a[7], a[7])
		g.JZ(LabelRef("store"))
		g.each(func(j, d int) { g.VMAXPS(sum[j], zero, sum[j]) })
		g.Label("store")
		g.store(sum, a[0])
	}, a[2], a[0], a[1])
	g.ret()
}

func (g *gen) normalizeBackward() {
	g.text("normalizeBackward", "func(dx, dy, x, mask, coef *float32, n, rows, skip int)",
		"computes dx = d*coef1 + (x-coef0)*coef2 + coef3 lane by lane for rows of n blocks, skip floats apart, d being dy where mask is nil or",
		"positive, else 0; coef holds 16 of each.")
	a := g.args("dx", "dy", "x", "mask", "coef", "n", "rows", "skip")
	zero, c := g.vec(), g.coefficients(a[4], 4)
	g.zero(zero)
	g.area(a[5], a[6], a[7], func() {
		d, v := g.load(a[1], 1), g.load(a[2], 1)
		g.masked(a[3], zero, d)
		g.each(func(j, disp int) { g.VSUBPS(c(0, j), v[j], v[j]) })
		g.normalBackward(a[0], d, v, c)
	}, a[3], a[0], a[1], a[2])
	g.ret()
}

// normalBackward stores d*coef1 + t*coef2 + coef3.
func (g *gen) normalBackward(to reg.Register, d, t []reg.VecVirtual, c func(i, j int) Op) {
	sum := g.vecs(g.vectors())
	g.each(func(j, disp int) {
		g.VMOVUPS(c(3, j), sum[j])
		g.VFMADD231PS(c(2, j), t[j], sum[j])
		g.VFMADD231PS(c(1, j), d[j], sum[j])
	})
	g.store(sum, to)
}

func (g *gen) normalizeBackwardRelu() {
	g.text("normalizeBackwardRelu", "func(dx, dy, x, coef *float32, n, rows, skip int)",
		"computes dx = d*coef1 + (x-coef0)*coef2 + coef3 lane by lane for rows of n blocks, skip floats apart, d being dy where",
		"(x-coef0)*coef1 + coef4 > 0, else 0; coef holds 16 of each.")
	a := g.args("dx", "dy", "x", "coef", "n", "rows", "skip")
	zero, c := g.vec(), g.coefficients(a[3], 5)
	g.zero(zero)
	g.area(a[4], a[5], a[6], func() {
		d, v := g.load(a[1], 1), g.load(a[2], 1)
		g.each(func(j, disp int) { g.VSUBPS(c(0, j), v[j], v[j]) })
		g.whereNormal(v, zero, d, c, 1, 4)
		g.normalBackward(a[0], d, v, c)
	}, nil, a[0], a[1], a[2])
	g.ret()
}

func (g *gen) maxPairs() {
	g.text("maxPairs", "func(y, a, b *float32, n int)",
		"computes y[w] = max(a[2w], a[2w+1], b[2w], b[2w+1]) for n blocks of "+fmt.Sprint(g.block)+
			" lanes; NaN wins.")
	p := g.args("y", "a", "b", "n")
	g.loop(p[3], func() {
		g.each(func(j, d int) {
			v := g.vec()
			g.VMOVUPS(at(p[1], d), v)
			g.most(at(p[1], d+g.block*4), v)
			g.most(at(p[2], d), v)
			g.most(at(p[2], d+g.block*4), v)
			g.VMOVUPS(v, at(p[0], d))
		})
	}, p[0], p[1], p[1], p[2], p[2])
	g.ret()
}

func (g *gen) maxPairsBackward() {
	g.text("maxPairsBackward", "func(da, db, a, b, y, dy *float32, n, relu int)",
		"gives dy[w] to the first of a[2w], a[2w+1], b[2w], b[2w+1] that equals y[w], and zero to the others, for n",
		fmt.Sprintf("blocks of %d lanes; with relu 1, only where y is positive.", g.block))
	p := g.args("da", "db", "a", "b", "y", "dy", "n", "relu")
	zero := g.vec()
	g.zero(zero)
	g.loop(p[6], func() {
		g.each(func(j, d int) {
			top, give := g.vec(), g.vec()
			g.VMOVUPS(at(p[4], d), top)
			g.VMOVUPS(at(p[5], d), give)
			label := fmt.Sprint("all", j)
			g.TESTQ(p[7], p[7])
			g.JZ(LabelRef(label))
			g.where(at(p[4], d), zero, give)
			g.Label(label)
			for i := range 4 {
				taken := g.vec()
				disp := d + i%2*g.block*4
				g.take(at(p[2+i/2], disp), top, give, taken)
				g.VMOVUPS(taken, at(p[i/2], disp))
			}
		})
	}, p[0], p[0], p[1], p[1], p[2], p[2], p[3], p[3], p[4], p[5])
	g.ret()
}
