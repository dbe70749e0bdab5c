package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// transpose8 turns a square of 8x8 floats. It has one form: shuffles across 512 bits
// cost more than they save.
func (g *gen) transpose8() {
	g.text("transpose8", "func(dst *float32, dstStride int, src *float32, srcStride int)",
		"writes dst[j*dstStride+i] = src[i*srcStride+j] for i, j < 8.")
	a := g.args("dst", "dstStride", "src", "srcStride")
	g.SHLQ(U8(2), a[1])
	g.SHLQ(U8(2), a[3])
	var r, t, u [8]reg.VecVirtual
	for i := range r {
		r[i], t[i], u[i] = g.vec(), g.vec(), g.vec()
		g.VMOVUPS(at(a[2], 0), r[i])
		g.ADDQ(a[3], a[2])
	}
	for i := 0; i < 8; i += 2 { // pairs of rows interleaved
		g.VUNPCKLPS(r[i+1], r[i], t[i])
		g.VUNPCKHPS(r[i+1], r[i], t[i+1])
	}
	for i := 0; i < 8; i += 4 { // columns of four rows
		for j := range 2 {
			g.VSHUFPS(U8(0x44), t[i+2+j], t[i+j], u[i+2*j])
			g.VSHUFPS(U8(0xee), t[i+2+j], t[i+j], u[i+2*j+1])
		}
	}
	for half := range 2 { // of eight rows
		for j := range 4 {
			v := g.vec()
			g.VPERM2F128(U8(0x20+0x11*half), u[4+j], u[j], v)
			g.VMOVUPS(v, at(a[0], 0))
			g.ADDQ(a[1], a[0])
		}
	}
	g.ret()
}
