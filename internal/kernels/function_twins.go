package kernels

import "math"

// forwardGo computes y = f(x).
func (m *Map) forwardGo(y, x []float32) {
	for i, v := range x[:len(y)] {
		y[i] = m.value(v)
	}
}

// value is the function of one element.
func (m *Map) value(x float32) float32 {
	h := &m.h
	switch m.Function {
	case FuncRelu:
		return atLeast(0, x)
	case FuncClip:
		return atMost(h[1], atLeast(h[0], x))
	case FuncLeakyRelu:
		if x < 0 {
			return h[0] * x
		}
		return x
	case FuncThresholdedRelu:
		return where(x > h[0], x)
	case FuncShrink:
		return shrink(x, h[0], h[1])
	case FuncHardSigmoid:
		return atMost(1, atLeast(0, float32(h[0]*x)+h[1]))
	case FuncSwish:
		return x * sigmoid32(x*h[0])
	case FuncHardSwish:
		return x * atMost(1, atLeast(0, float32(x*(1/6.))+0.5))
	case FuncElu:
		if x > 0 {
			return h[0] * x
		}
		return h[1] * expm132(atMost(0, x*h[2]))
	}
	return smoothFunctions[m.Function](x)
}

// smoothFunctions are those without parameters.
var smoothFunctions = [functionCount]func(x float32) float32{
	FuncSigmoid:    sigmoid32,
	FuncTanh:       tanh32,
	FuncGelu:       gelu32,
	FuncGeluTanh:   func(x float32) float32 { return x * sigmoid32(geluInner2(x, x*x)) },
	FuncMish:       mish,
	FuncSoftplus:   softplus32,
	FuncSoftsign:   func(x float32) float32 { return x / (1 + magnitude(x)) },
	FuncErf:        erf32,
	FuncExp:        exp32,
	FuncLog:        log32,
	FuncSqrt:       func(x float32) float32 { return float32(math.Sqrt(float64(x))) },
	FuncReciprocal: func(x float32) float32 { return 1 / x },
	FuncAbs:        magnitude,
	FuncNeg:        func(x float32) float32 { return -x },
	FuncSquare:     func(x float32) float32 { return x * x },
	FuncSign:       sign,
	FuncFloor:      func(x float32) float32 { return float32(math.Floor(float64(x))) },
	FuncCeil:       func(x float32) float32 { return float32(math.Ceil(float64(x))) },
	FuncRound:      func(x float32) float32 { return float32(math.RoundToEven(float64(x))) },
}

func shrink(x, bias, lambd float32) float32 {
	switch {
	case x < -lambd:
		return x + bias
	case x > lambd:
		return x - bias
	}
	return 0
}

func sign(x float32) float32 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return x
}

// geluInner2 is 2*sqrt(2/pi)*(x + 0.044715*x*x*x).
func geluInner2(x, x2 float32) float32 { return x * (float32(x2*innerCubic) + innerLinear) }

const (
	innerLinear = 1.5957691216057308 // 2*sqrt(2/pi)
	innerCubic  = 0.044715 * innerLinear
	innerSlope  = 3 * innerCubic
	density     = 0.3989422804014327 // 1/sqrt(2*pi)
)

// mish is x*n/(n+2) for n = e*(e+2) and e = exp(x): x times the tanh of softplus.
func mish(x float32) float32 {
	e := exp32(atMost(20, x))
	n := float32(e * (e + 2))
	return x * (n / (n + 2))
}

// backwardGo computes dx = dy*f'(v).
func (m *Map) backwardGo(dx, dy, v []float32) {
	v = v[:len(dx)]
	for i, d := range dy[:len(dx)] {
		dx[i] = m.gradient(d, v[i])
	}
}

// gradient is dy*f'(v).
func (m *Map) gradient(dy, v float32) float32 {
	h := &m.h
	switch m.Function {
	case FuncRelu:
		return where(v > 0, dy)
	case FuncClip:
		return where(!(v < h[0] || v > h[1]), dy)
	case FuncLeakyRelu:
		if v > 0 {
			return dy
		}
		return dy * h[0]
	case FuncThresholdedRelu:
		return where(v > h[0], dy)
	case FuncShrink:
		return where(magnitude(v) > h[1], dy)
	case FuncSigmoid:
		return float32(dy*v) * (1 - v)
	case FuncHardSigmoid:
		y := float32(v*h[0]) + h[1]
		return where(y > 0 && y < 1, dy*h[0])
	case FuncTanh:
		return dy * (1 - float32(v*v))
	case FuncElu:
		if v > 0 {
			return dy * h[0]
		}
		return dy * float32(h[3]*exp32(v*h[2]))
	case FuncSoftsign:
		d := 1 + magnitude(v)
		return dy / float32(d*d)
	}
	return dy * m.slope(v)
}

// where is x, or 0 where not.
func where(yes bool, x float32) float32 {
	if yes {
		return x
	}
	return 0
}

// slope is the derivative of the functions that backwardGo multiplies by.
func (m *Map) slope(x float32) float32 {
	switch m.Function {
	case FuncSwish:
		t := float32(x * m.h[0])
		s := sigmoid32(t)
		return float32(float32(t*s)*(1-s)) + s
	case FuncHardSwish:
		switch {
		case x <= -3:
			return 0
		case x >= 3:
			return 1
		}
		return float32(x*(1/3.)) + 0.5
	case FuncGelu:
		d := exp32(float32(x*x) * -0.5)
		return normal32(x) + float32(x*float32(d*density))
	case FuncGeluTanh:
		x = atMost(12, atLeast(-12, x))
		x2 := float32(x * x)
		s := sigmoid32(geluInner2(x, x2))
		d := float32(float32(x*s) * (1 - s))
		return float32(d*(float32(x2*innerSlope)+innerLinear)) + s
	case FuncMish:
		x = atMost(20, x)
		e := exp32(x)
		n := float32(e * (e + 2))
		r := 1 / (n + 2)
		t, s := float32(n*r), e/(e+1)
		return float32(float32(x*float32((r+r)*(t+1)))*s) + t
	case FuncSoftplus:
		return sigmoid32(x)
	}
	panic("kernels: no gradient of this function")
}
