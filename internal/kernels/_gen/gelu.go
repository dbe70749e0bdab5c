package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/operand"
)

// tailTable are polynomials of the probability of more than t of the normal distribution, around t =
// i/tailScale for column i, in (t-i/tailScale)*tailScale. They are Chebyshev interpolations made for this
// package; the twin's stand in gelu.go.
var tailTable = [][16]float64{
	{0.5, 0.34457826614379883, 0.21185541152954102, 0.1150696724653244, 0.054799288511276245,
		0.02275012992322445, 0.008197534829378128, 0.0025551302824169397, 0.0006871382938697934,
		0.00015910890942905098, 3.167140675941482e-05, 5.412604423327139e-06, 7.9334500924233e-07,
		9.964801961359626e-08, 1.0718265386344683e-08, 9.865898098482262e-10},
	{-0.1595769077539444, -0.14730805158615112, -0.11587662249803543, -0.07767442613840103,
		-0.044368334114551544, -0.021596387028694153, -0.008957811631262302, -0.0031661801040172577,
		-0.0009536352008581161, -0.00024476085673086345, -5.35321632924024e-05, -9.977023182727862e-06,
		-1.584531332810002e-06, -2.1444442666052055e-07, -2.4731093617447186e-08,
		-2.4304802614949494e-09},
	{-4.9629793608119144e-08, 0.011784251779317856, 0.01853984408080578, 0.01864173635840416,
		0.014198008924722672, 0.008638747967779636, 0.004299851134419441, 0.0017730701947584748,
		0.0006103002233430743, 0.00017620429571252316, 4.2813753680093214e-05, 8.775411515671294e-06,
		1.519924921922211e-06, 2.2274936384292232e-07, 2.7649679879004907e-08, 2.9111490995603617e-09},
	{0.00425586337223649, 0.003299647243693471, 0.0011124559678137302, -0.0009113054838962853,
		-0.001845685881562531, -0.0017277213046327233, -0.001137069659307599, -0.0005775257595814764,
		-0.00023497804068028927, -7.805994391674176e-05, -2.1410554836620577e-05,
		-4.883625933871372e-06, -9.30899716422573e-07, -1.4881163679092424e-07, -2.0002266509777655e-08,
		-2.3214559163875492e-09},
	{-1.8099644876201637e-06, -0.00044204926234669983, -0.0005789647111669183,
		-0.00038641932769678533, -8.48126583150588e-05, 0.00011311571870464832, 0.00015714988694526255,
		0.00011432652536313981, 5.919884279137477e-05, 2.3653439711779356e-05, 7.5501593528315425e-06,
		1.9613498807302676e-06, 4.193588267753512e-07, 7.435007631784174e-08, 1.0987720955313307e-08,
		1.0666471039755265e-09},
	{-9.956632129615173e-05, -6.448613567044958e-05, 1.0315893632650841e-05, 5.850120578543283e-05,
		5.466465518111363e-05, 2.3119251636671834e-05, -2.8935294267284917e-06, -1.165500270872144e-05,
		-9.424918061995413e-06, -4.886035640083719e-06, -1.8797529719449813e-06, -5.657557267113589e-07,
		-1.3672230636530003e-07, -2.6933554053698572e-08, -4.367270101113263e-09,
		-9.369023334926396e-10},
}

const (
	tailScale = 2.5
	tailEnd   = 6 // from here on the probability is that at 6, 1e-9
)

// gelu is x*Phi(x), as the larger of x and 0 less |x| times the tail beyond |x|. That larger one is taken as
// x less the smaller one, so that -Inf gives NaN, as the product of it and 0 is.
func (g *gen) gelu(x vec) vec {
	t := g.atMost(tailEnd, g.magnitudeOf(x))
	u := g.mul(t, tailScale)
	index := g.sum(u, rounding)
	f := g.difference(u, g.difference(index, rounding))
	var upper mask
	if !g.evex { // the fourth bit of the index, as a sign
		upper = mask{v: g.shiftLeft(index, 28)}
	}
	last := len(tailTable) - 1
	p := g.lookup(index, upper, last)
	for i := last - 1; i >= 0; i-- {
		p = g.fma(p, f, g.lookup(index, upper, i))
	}
	return g.fnma(t, p, g.difference(x, g.atMost(0, x)))
}

// lookup is row i of tailTable at the columns that the low 4 bits of index say.
func (g *gen) lookup(index vec, upper mask, i int) vec {
	m, v := g.tailRow(i), g.vec()
	g.VPERMPS(m, index, v)
	if g.evex {
		return v
	}
	high := g.vec()
	g.VPERMPS(m.Offset(32), index, high)
	return g.choose(upper, high, v)
}

// tailRow is a row of tailTable in memory.
func (g *gen) tailRow(i int) Mem {
	name := fmt.Sprintf("tail%s%d", g.name, i)
	if m, ok := g.numbers[name]; ok {
		return m
	}
	m := g.StaticGlobal(name)
	g.DataAttributes(attr.RODATA | attr.NOPTR)
	for k, c := range tailTable[i] {
		g.AddDatum(4*k, U32(math.Float32bits(float32(c))))
	}
	g.numbers[name] = m
	return m
}
