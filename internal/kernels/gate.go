package kernels

import (
	"math"
	"sync"
)

// Gate is a function x*s(x) with s(-x) = 1 - s(x), as SiLU, GELU and HardSwish are, to some 14 bits: what
// maps in bf16 need. The assembly reads it as it lies.
//
// It is the larger of x and 0 less t*q(t), where t is |x| up to the limit and q(t) = 1 - s(t) a polynomial of
// degree 3 for each of 16 intervals around i*limit/15. From the last on q is 0.
type Gate struct {
	coef         [4][Block]float32
	limit, scale float32
}

// gates are those that there are, by the function.
var gates = map[Function]func() *Gate{
	FuncSwish: gateOf(13, func(t float64) float64 { return 1 / (1 + math.Exp(t)) }),
	FuncGelu:  gateOf(5, func(t float64) float64 { return math.Erfc(t/math.Sqrt2) / 2 }),
	FuncGeluTanh: gateOf(5, func(t float64) float64 {
		return 1 / (1 + math.Exp(2*math.Sqrt(2/math.Pi)*(t+0.044715*t*t*t)))
	}),
	FuncHardSwish: gateOf(6, func(t float64) float64 { return max(0, (3-t)/6) }), // 3 ends an interval
}

// Gate is the map as a Gate, nil where it is none.
func (m Map) Gate() *Gate {
	make := gates[m.Function]
	if make == nil || m.Function == FuncSwish && m.h[0] != 1 {
		return nil
	}
	return make()
}

// gateOf fits the polynomials of q at the first call.
func gateOf(limit float64, q func(t float64) float64) func() *Gate {
	return sync.OnceValue(func() *Gate {
		g := &Gate{limit: float32(limit), scale: float32((Block - 1) / limit)}
		for i := range Block - 1 {
			lo, hi := max(0, float64(i)-0.5)*limit/(Block-1), (float64(i)+0.5)*limit/(Block-1)
			for k, c := range cubic(lo, hi, q) {
				g.coef[k][i] = float32(c)
			}
		}
		return g
	})
}

// cubic is the polynomial, lowest coefficient first, that meets f at the Chebyshev nodes of an interval.
func cubic(lo, hi float64, f func(t float64) float64) (p [4]float64) {
	var t, d [4]float64 // nodes and divided differences
	for k := range t {
		t[k] = (lo+hi)/2 + (hi-lo)/2*math.Cos(math.Pi*(float64(k)+0.5)/4)
		d[k] = f(t[k])
	}
	for k := 1; k < 4; k++ {
		for j := 3; j >= k; j-- {
			d[j] = (d[j] - d[j-1]) / (t[j] - t[j-k])
		}
	}
	p[0] = d[3]
	for k := 2; k >= 0; k-- { // p = p*(x-t[k]) + d[k]
		for j := 3; j > 0; j-- {
			p[j] = p[j-1] - t[k]*p[j]
		}
		p[0] = d[k] - t[k]*p[0]
	}
	return p
}

// at is the gate of x, with the bits of the assembly's.
func (g *Gate) at(x float32) float32 {
	t := atMost(g.limit, magnitude(x))
	i := math.Float32bits(fma32(t, g.scale, rounding)) % Block
	q := g.coef[3][i]
	for k := 2; k >= 0; k-- {
		q = fma32(q, t, g.coef[k][i])
	}
	if x < 0 {
		x = 0
	}
	return fma32(-t, q, x)
}
