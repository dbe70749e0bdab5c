package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Arithmetic on vectors, each result in a register of its own. Operands are registers or numbers. Products
// and sums are rounded one by one, but for fma and fnma, so that the Go twins give the same bits.

type vec = reg.VecVirtual

// emit is an instruction of three operands, with and without broadcast of the first.
type emit func(ops ...Op)

// of gives "a op b"; b is a register or a number.
func (g *gen) of(f, broadcast emit, a vec, b any) vec {
	v := g.vec()
	switch b := b.(type) {
	case vec:
		f(b, a, v)
	case float64:
		g.with(f, broadcast, g.number(b), a, v)
	case uint32:
		g.with(f, broadcast, g.numberBits(b), a, v)
	default:
		panic(fmt.Sprintf("operand %v", b))
	}
	return v
}

func (g *gen) with(f, broadcast emit, m Mem, a, v vec) {
	if g.evex {
		broadcast(m, a, v)
	} else {
		f(m, a, v)
	}
}

func (g *gen) sum(a vec, b any) vec        { return g.of(g.VADDPS, g.VADDPS_BCST, a, b) }
func (g *gen) difference(a vec, b any) vec { return g.of(g.VSUBPS, g.VSUBPS_BCST, a, b) }
func (g *gen) mul(a vec, b any) vec        { return g.of(g.VMULPS, g.VMULPS_BCST, a, b) }
func (g *gen) quotient(a vec, b any) vec   { return g.of(g.VDIVPS, g.VDIVPS_BCST, a, b) }

// fma is a*b + c, rounded once, in place of c; fnma is c - a*b, fms a*b - c.
func (g *gen) fma(a vec, b any, c vec) vec {
	return g.multiplied(g.VFMADD231PS, g.VFMADD231PS_BCST, a, b, c)
}
func (g *gen) fnma(a vec, b any, c vec) vec {
	return g.multiplied(g.VFNMADD231PS, g.VFNMADD231PS_BCST, a, b, c)
}

func (g *gen) fms(a vec, b any, c vec) vec {
	return g.multiplied(g.VFMSUB231PS, g.VFMSUB231PS_BCST, a, b, c)
}

func (g *gen) multiplied(f, broadcast emit, a vec, b any, c vec) vec {
	switch b := b.(type) {
	case vec:
		f(b, a, c)
	case float64:
		g.with(f, broadcast, g.number(b), a, c)
	default:
		panic(fmt.Sprintf("operand %v", b))
	}
	return c
}

// copied is x in a register of its own.
func (g *gen) copied(x vec) vec {
	v := g.vec()
	g.VMOVAPS(x, v)
	return v
}

// larger is a where a > b, else b; smaller likewise. A NaN in b stays.
func (g *gen) larger(a, b vec) vec  { return g.of(g.VMAXPS, g.VMAXPS_BCST, a, b) }
func (g *gen) smaller(a, b vec) vec { return g.of(g.VMINPS, g.VMINPS_BCST, a, b) }

func (g *gen) atLeast(low float64, x vec) vec { return g.larger(g.constant(low), x) }
func (g *gen) atMost(high float64, x vec) vec { return g.smaller(g.constant(high), x) }

// constant is a number in a register.
func (g *gen) constant(f float64) vec {
	v := g.vec()
	if g.evex {
		g.VBROADCASTSS(g.number(f), v)
	} else {
		g.VMOVUPS(g.number(f), v)
	}
	return v
}

// numberBits is number for a pattern of bits.
func (g *gen) numberBits(bits uint32) Mem {
	name := fmt.Sprintf("number%s%08x", g.name, bits)
	if m, ok := g.numbers[name]; ok {
		return m
	}
	m := g.StaticGlobal(name)
	g.DataAttributes(attr.RODATA | attr.NOPTR)
	for i := range g.lanes {
		if i == 0 || !g.evex {
			g.AddDatum(4*i, U32(bits))
		}
	}
	g.numbers[name] = m
	return m
}

const (
	signBit   = uint32(1) << 31
	magnitude = signBit - 1
)

func (g *gen) bitAnd(a vec, b any) vec {
	if g.evex {
		return g.of(g.VPANDD, g.VPANDD_BCST, a, b)
	}
	return g.of(g.VANDPS, nil, a, b)
}

func (g *gen) bitOr(a vec, b any) vec {
	if g.evex {
		return g.of(g.VPORD, g.VPORD_BCST, a, b)
	}
	return g.of(g.VORPS, nil, a, b)
}

func (g *gen) bitXor(a vec, b any) vec {
	if g.evex {
		return g.of(g.VPXORD, g.VPXORD_BCST, a, b)
	}
	return g.of(g.VXORPS, nil, a, b)
}

func (g *gen) intSum(a vec, b any) vec        { return g.of(g.VPADDD, g.VPADDD_BCST, a, b) }
func (g *gen) intDifference(a vec, b any) vec { return g.of(g.VPSUBD, g.VPSUBD_BCST, a, b) }

func (g *gen) shiftLeft(a vec, n uint8) vec {
	v := g.vec()
	g.VPSLLD(U8(n), a, v)
	return v
}

func (g *gen) shiftRight(a vec, n uint8) vec {
	v := g.vec()
	g.VPSRAD(U8(n), a, v)
	return v
}

// magnitudeOf is |x|.
func (g *gen) magnitudeOf(x vec) vec { return g.bitAnd(x, magnitude) }

// signed gives a the sign of x; a has none.
func (g *gen) signed(a, x vec) vec { return g.bitOr(a, g.bitAnd(x, signBit)) }

// mask is the result of a comparison: a register of masks with AVX-512, else a vector.
type mask struct {
	k reg.OpmaskVirtual
	v vec
}

// compare is a op b, predicate one of VCMPPS's.
func (g *gen) compare(predicate int, a vec, b any) mask {
	if g.evex {
		k := g.K()
		switch b := b.(type) {
		case vec:
			g.VCMPPS(U8(predicate), b, a, k)
		case float64:
			g.VCMPPS_BCST(U8(predicate), g.number(b), a, k)
		}
		return mask{k: k}
	}
	v := g.vec()
	switch b := b.(type) {
	case vec:
		g.VCMPPS(U8(predicate), b, a, v)
	case float64:
		g.VCMPPS(U8(predicate), g.number(b), a, v)
	}
	return mask{v: v}
}

// VCMPPS's ordered, quiet "greater than", "greater or equal" and "less or equal".
const (
	greater   = 0x1e
	noLess    = 0x1d
	noGreater = 0x12
)

// choose is a where the mask is set, else b; the two may be registers or numbers, not both numbers.
func (g *gen) choose(m mask, a, b any) vec {
	register := func(x any) vec {
		if f, ok := x.(float64); ok {
			return g.constant(f)
		}
		return x.(vec)
	}
	v := g.vec()
	if g.evex {
		g.VBLENDMPS(register(a), register(b), m.k, v)
	} else {
		g.VBLENDVPS(m.v, register(a), register(b), v)
	}
	return v
}

// polynomial is c[0] + x*(c[1] + x*(c[2] + ...)), each step rounded once.
func (g *gen) polynomial(x vec, c []float64) vec {
	last := len(c) - 1
	v := g.constant(c[last])
	for i := last - 1; i >= 0; i-- {
		g.with(g.VFMADD213PS, g.VFMADD213PS_BCST, g.number(c[i]), x, v) // v = v*x + c[i]
	}
	return v
}

// The coefficients are minimax fits made for this package; their twins stand in vectormath.go.
var (
	expTerms = []float64{
		0.5, 0.166665181517601, 0.04166620597243309, 0.008368953131139278, 0.0013950602151453495,
	}
	tanhTerms = []float64{
		-0.3333328366279602, 0.13331490755081177, -0.05374349653720856, 0.02065058797597885,
		-0.005717045161873102,
	}
	erfTerms = []float64{
		1.1283791065216064, -0.3761235475540161, 0.112804114818573, -0.02671770751476288,
		0.004924789071083069, -0.0005660154274664819,
	}
	logTerms = []float64{
		0.33333316445350647, -0.25000810623168945, 0.2000228613615036, -0.16624553501605988,
		0.14181192219257355, -0.13128754496574402, 0.12881648540496826, -0.07859615981578827,
	}
	log1pTerms = []float64{
		1, -0.49999913573265076, 0.333302766084671, -0.2495734840631485, 0.19692462682724,
		-0.1535329967737198, 0.10684574395418167, -0.05775951221585274, 0.020277969539165497,
		-0.0033387753646820784,
	}
	tailTerms = []float64{
		0.6931470036506653, 0.7978939414024353, -0.18176332116127014, 0.036555420607328415,
		-0.005112427286803722, 0.00024029487394727767, 7.876497693359852e-05, -1.979463195311837e-05,
		1.9556725874281256e-06, -7.516363353943234e-08,
	}
)

const (
	roundingBits = uint32(0x4b400000) // of 1.5 * 2^23: adding it rounds to an integer
	rounding     = 12582912.0
	ln2High      = 0.693359375
	ln2Low       = -2.12194440e-4
	rootHalfBits = uint32(0x3f3504f3)
)

// expParts splits x = n ln 2 + r: e is exp(r)-1, n lies in the low bits of t and as a float in f.
func (g *gen) expParts(x vec) (e, t, f vec) {
	t = g.fma(x, math.Log2E, g.constant(rounding))
	f = g.difference(t, rounding)
	r := g.fnma(f, ln2Low, g.fnma(f, ln2High, g.copied(x)))
	p := g.polynomial(r, expTerms)
	square := g.mul(r, r)
	return g.fma(p, square, r), t, f
}

// exp is e to the power of x, denormal results included.
func (g *gen) exp(x vec) vec { return g.expUpTo89(g.atMost(89, x)) }

// expUpTo89 is exp for x of at most 89.
func (g *gen) expUpTo89(x vec) vec {
	e, t, f := g.expParts(g.atLeast(-104, x))
	return g.scaled(g.sum(e, 1.0), t, f)
}

// scaled is v times 2 to the power that expParts gave.
func (g *gen) scaled(v, t, f vec) vec {
	if g.evex {
		g.VSCALEFPS(f, v, v)
		return v
	}
	n := g.intDifference(t, roundingBits)
	half := g.shiftRight(n, 1)
	return g.mul(g.mul(v, g.power(half)), g.power(g.intDifference(n, half)))
}

// weight is exp for what may be -inf by design, where a row is filled up or masked: its 0 does not go by
// denormal numbers, which cost 150 cycles.
func (g *gen) weight(x vec) vec {
	below := g.compare(less, x, -104.0)
	e, t, f := g.expParts(g.atMost(89, g.atLeast(-104, x)))
	return g.scaled(g.choose(below, 0.0, g.sum(e, 1.0)), t, f)
}

// power is 2 to the power of an integer.
func (g *gen) power(n vec) vec { return g.shiftLeft(g.intSum(n, uint32(127)), 23) }

// expm1 is exp(x)-1 for x <= 0.
func (g *gen) expm1(x vec) vec {
	e, t, _ := g.expParts(g.atLeast(-25, x))
	s := g.power(g.intDifference(t, roundingBits))
	return g.fma(s, e, g.difference(s, 1.0))
}

// sigmoid is 1/(1+exp(-x)).
func (g *gen) sigmoid(x vec) vec {
	e := g.expUpTo89(g.bitOr(x, signBit))
	return g.quotient(g.choose(g.compare(less, x, 0.0), e, 1.0), g.sum(e, 1.0))
}

// tail is the normal distribution's exp(-x*x/2 - q(t)) for t = |x|: the probability of more than t.
func (g *gen) tail(x, t vec) vec {
	q := g.polynomial(g.atMost(6, t), tailTerms)
	return g.expUpTo89(g.fms(g.mul(x, -0.5), x, q))
}

// normal is the normal distribution function.
func (g *gen) normal(x vec) vec {
	h := g.tail(x, g.magnitudeOf(x))
	return g.choose(g.compare(less, x, 0.0), h, g.difference(g.constant(1), h))
}

func (g *gen) tanh(x vec) vec {
	z := g.magnitudeOf(x)
	z2 := g.mul(z, z)
	small := g.fma(g.mul(z, z2), g.polynomial(z2, tanhTerms), g.copied(z))
	e := g.exp(g.sum(z, z))
	large := g.difference(g.constant(1), g.quotient(g.constant(2), g.sum(e, 1.0)))
	return g.signed(g.choose(g.compare(less, z, 0.625), small, large), x)
}

func (g *gen) erf(x vec) vec {
	t := g.magnitudeOf(x)
	small := g.mul(t, g.polynomial(g.mul(t, t), erfTerms))
	z := g.mul(t, math.Sqrt2)
	h := g.tail(z, z)
	large := g.difference(g.constant(1), g.sum(h, h))
	return g.signed(g.choose(g.compare(less, t, 1.0), small, large), x)
}

// log is the natural logarithm.
func (g *gen) log(x vec) vec {
	tiny := g.compare(less, x, 0x1p-126)
	v := g.choose(tiny, g.mul(x, 0x1p23), x)
	n := g.shiftRight(g.intDifference(v, rootHalfBits), 23)
	f := g.difference(g.intDifference(v, g.shiftLeft(n, 23)), 1.0)
	count := g.vec()
	g.VCVTDQ2PS(n, count)
	count = g.choose(tiny, g.difference(count, 23.0), count)
	z := g.mul(f, f)
	y := g.mul(g.mul(f, z), g.polynomial(f, logTerms))
	y = g.fnma(z, 0.5, g.fma(count, ln2Low, y))
	y = g.fma(count, ln2High, g.sum(f, y))
	y = g.choose(g.compare(less, x, math.Inf(1)), y, x)
	y = g.choose(g.compare(less, x, 0.0), math.NaN(), y)
	return g.choose(g.compare(equal, x, 0.0), math.Inf(-1), y)
}

// softplus is log(1+exp(x)).
func (g *gen) softplus(x vec) vec {
	e := g.expUpTo89(g.bitOr(x, signBit))
	return g.fma(e, g.polynomial(e, log1pTerms), g.atLeast(0, x))
}
