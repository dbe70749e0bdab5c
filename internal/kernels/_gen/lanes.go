package main

import (
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// pickLanes moves lanes of one block into others of another.
func (g *gen) pickLanes() {
	g.text("pickLanes", "func(dst, src *float32, lanes *int32, n, keep int)",
		"sets lanes of n > 0 blocks of 16 from those of others, lane by lane:", "",
		"\tdst[i*16+l] = src[i*16+lanes[l]]", "",
		"Where lanes[l] is negative, dst[i*16+l] stays as it is with keep 1, and becomes 0 with keep 0.")
	a := g.args("dst", "src", "lanes", "n", "keep")
	dst, src, n, keep := a[0], a[1], a[3], a[4]
	index := g.load(a[2], 1)
	g.NEGQ(keep)
	if g.evex {
		taken, kept := g.K(), g.K()
		g.VPMOVD2M(index[0], taken)
		g.KNOTW(taken, taken)
		g.KMOVW(keep.(reg.GPVirtual).As32(), kept)
		g.loop(n, func() {
			v := g.vec()
			g.VMOVUPS_Z(at(dst, 0), kept, v)
			g.VPERMPS(at(src, 0), index[0], taken, v)
			g.VMOVUPS(v, at(dst, 0))
		}, dst, src)
		g.ret()
		return
	}
	high, kept := g.vecs(2), g.vec()
	for j := range high { // the sign says that a lane comes from the second vector
		g.VPSLLD(U8(28), index[j], high[j])
	}
	whole := g.XMM()
	g.MOVQ(keep, whole)
	g.VPBROADCASTD(whole, kept)
	g.loop(n, func() {
		v := g.load(src, 1)
		g.each(func(j, d int) {
			low, up, old := g.vec(), g.vec(), g.vec()
			g.VPERMPS(v[0], index[j], low)
			g.VPERMPS(v[1], index[j], up)
			g.VBLENDVPS(high[j], up, low, low)
			g.VANDPS(at(dst, d), kept, old)
			g.VBLENDVPS(index[j], old, low, low)
			g.VMOVUPS(low, at(dst, d))
		})
	}, dst, src)
	g.ret()
}
