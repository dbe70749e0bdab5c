package kernels

import "math"

// The functions of this file are the twins of those that the generator composes its routines of: the same
// operations in the same order, each rounded to float32, so that both give the same bits. The conversions
// around products keep the compiler from fusing them with a sum; fma32 is where the routines fuse them.

// The coefficients are minimax fits made for this package.
var (
	expTerms = []float32{
		0.5, 0.166665181517601, 0.04166620597243309, 0.008368953131139278, 0.0013950602151453495,
	}
	tanhTerms = []float32{
		-0.3333328366279602, 0.13331490755081177, -0.05374349653720856, 0.02065058797597885,
		-0.005717045161873102,
	}
	erfTerms = []float32{
		1.1283791065216064, -0.3761235475540161, 0.112804114818573, -0.02671770751476288,
		0.004924789071083069, -0.0005660154274664819,
	}
	logTerms = []float32{
		0.33333316445350647, -0.25000810623168945, 0.2000228613615036, -0.16624553501605988,
		0.14181192219257355, -0.13128754496574402, 0.12881648540496826, -0.07859615981578827,
	}
	log1pTerms = []float32{
		1, -0.49999913573265076, 0.333302766084671, -0.2495734840631485, 0.19692462682724,
		-0.1535329967737198, 0.10684574395418167, -0.05775951221585274, 0.020277969539165497,
		-0.0033387753646820784,
	}
	tailTerms = []float32{
		0.6931470036506653, 0.7978939414024353, -0.18176332116127014, 0.036555420607328415,
		-0.005112427286803722, 0.00024029487394727767, 7.876497693359852e-05, -1.979463195311837e-05,
		1.9556725874281256e-06, -7.516363353943234e-08,
	}
)

const (
	rounding     = 12582912 // 1.5 * 2^23: adding it rounds to an integer
	ln2High      = 0.693359375
	ln2Low       = -2.12194440e-4
	rootHalfBits = 0x3f3504f3
)

var (
	inf32 = float32(math.Inf(1))
	nan32 = float32(math.NaN())
)

// fma32 is a*b + c, rounded once. The sum in float64 is rounded to odd, after which rounding it to float32
// gives what one rounding would (Boldo and Melquiond, Emulation of a FMA and correctly rounded sums, 2008).
func fma32(a, b, c float32) float32 {
	p, z := float64(a)*float64(b), float64(c) // the product is exact
	s := p + z
	v := s - p
	if e := (p - (s - v)) + (z - v); e < 0 || e > 0 {
		if bits := math.Float64bits(s); bits&1 == 0 {
			if (e > 0) == (s > 0) {
				s = math.Float64frombits(bits + 1)
			} else {
				s = math.Float64frombits(bits - 1)
			}
		}
	}
	return float32(s)
}

// polynomial is c[0] + x*(c[1] + x*(c[2] + ...)), each step rounded once.
func polynomial(x float32, c []float32) float32 {
	v := c[len(c)-1]
	for i := len(c) - 2; i >= 0; i-- {
		v = fma32(v, x, c[i])
	}
	return v
}

func magnitude(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
func negative(x float32) float32  { return math.Float32frombits(math.Float32bits(x) | 1<<31) }

// signed gives a the sign of x; a has none.
func signed(a, x float32) float32 {
	return math.Float32frombits(math.Float32bits(a) | math.Float32bits(x)&(1<<31))
}

// atLeast is low where x < low, else x; atMost likewise. NaN stays.
func atLeast(low, x float32) float32 {
	if low > x {
		return low
	}
	return x
}

func atMost(high, x float32) float32 {
	if high < x {
		return high
	}
	return x
}

// expParts splits x = n ln 2 + r into exp(r)-1 and n.
func expParts(x float32) (e float32, n int32) {
	t := fma32(x, math.Log2E, rounding)
	f := t - rounding
	r := fma32(-f, ln2Low, fma32(-f, ln2High, x))
	p := polynomial(r, expTerms)
	return fma32(p, r*r, r), int32(math.Float32bits(t) - math.Float32bits(rounding))
}

// power is 2 to the power of n.
func power(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }

// exp32 is e to the power of x, denormal results included.
func exp32(x float32) float32 {
	if x != x {
		return x
	}
	e, n := expParts(atMost(89, atLeast(-104, x)))
	half := n >> 1
	return float32(float32((e+1)*power(half)) * power(n-half))
}

// expm132 is exp(x)-1 for x <= 0.
func expm132(x float32) float32 {
	if x != x {
		return x
	}
	e, n := expParts(atLeast(-25, x))
	s := power(n)
	return fma32(s, e, s-1)
}

// sigmoid32 is 1/(1+exp(-x)).
func sigmoid32(x float32) float32 {
	e := exp32(negative(x))
	if x < 0 {
		return e / (e + 1)
	}
	return 1 / (e + 1)
}

// tail32 is the normal distribution's exp(-x*x/2 - q(t)) for t = |x|: the probability of more than t.
func tail32(x, t float32) float32 {
	q := polynomial(atMost(6, t), tailTerms)
	return exp32(fma32(x*-0.5, x, -q))
}

// normal32 is the normal distribution function.
func normal32(x float32) float32 {
	h := tail32(x, magnitude(x))
	if x < 0 {
		return h
	}
	return 1 - h
}

func tanh32(x float32) float32 {
	z := magnitude(x)
	if z < 0.625 {
		z2 := float32(z * z)
		return signed(fma32(z*z2, polynomial(z2, tanhTerms), z), x)
	}
	return signed(1-2/(exp32(z+z)+1), x)
}

func erf32(x float32) float32 {
	t := magnitude(x)
	if t < 1 {
		return signed(float32(t*polynomial(float32(t*t), erfTerms)), x)
	}
	z := float32(t * math.Sqrt2)
	h := tail32(z, z)
	return signed(1-(h+h), x)
}

// log32 is the natural logarithm.
func log32(x float32) float32 {
	switch {
	case x == 0:
		return -inf32
	case x < 0:
		return nan32
	case !(x < inf32):
		return x
	}
	v, shift := x, float32(0)
	if x < 0x1p-126 {
		v, shift = x*0x1p23, 23
	}
	n := int32(math.Float32bits(v)-rootHalfBits) >> 23
	f := math.Float32frombits(math.Float32bits(v)-uint32(n)<<23) - 1
	count := float32(n) - shift
	z := float32(f * f)
	y := float32(float32(f*z) * polynomial(f, logTerms))
	y = fma32(-z, 0.5, fma32(count, ln2Low, y))
	return fma32(count, ln2High, f+y)
}

// softplus32 is log(1+exp(x)).
func softplus32(x float32) float32 {
	e := exp32(negative(x))
	return fma32(e, polynomial(e, log1pTerms), atLeast(0, x))
}
