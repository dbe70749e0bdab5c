package kernels

import "math"

// stretch bounds the floats of one call of assembly, which cannot be preempted.
const stretch = 1 << 14

// reluGo computes y = max(x, 0); NaN stays, as in the fused kernels.
func reluGo(y, x []float32) {
	x = x[:len(y)]
	for i, v := range x {
		if v < 0 {
			v = 0
		}
		y[i] = v
	}
}

// reluGradGo computes dx = dy where y > 0, else 0.
func reluGradGo(dx, dy, y []float32) {
	dy, y = dy[:len(dx)], y[:len(dx)]
	for i, v := range dy {
		if !(y[i] > 0) {
			v = 0
		}
		dx[i] = v
	}
}

// clipGo computes y = low where x < low, high where x > high, else x; NaN stays.
func clipGo(y, x []float32, low, high float32) {
	x = x[:len(y)]
	for i, v := range x {
		if v < low {
			v = low
		}
		if v > high {
			v = high
		}
		y[i] = v
	}
}

// clipGradGo computes dx = dy where x = y, else 0.
func clipGradGo(dx, dy, x, y []float32) {
	dy, x, y = dy[:len(dx)], x[:len(dx)], y[:len(dx)]
	for i, v := range dy {
		if x[i] != y[i] {
			v = 0
		}
		dx[i] = v
	}
}

// addGo computes y = a + b.
func addGo(y, a, b []float32) {
	a, b = a[:len(y)], b[:len(y)]
	for i, v := range a {
		y[i] = v + b[i]
	}
}

// AddRelu computes y = max(a + b, 0).
func AddRelu(y, a, b []float32) {
	Add(y, a, b)
	Relu(y, y)
}

// Mul computes y = a * b.
func Mul(y, a, b []float32) { OpMul.Pair(y, a, b) }

// Scale computes y = a * x.
func Scale(y, x []float32, a float32) { OpMul.Scalar(y, x, a) }

// Axpy computes y += a * x.
func Axpy(y, x []float32, a float32) {
	x = x[:len(y)]
	for n := whole(len(y)); n > 0 && current != levelGo; n = whole(len(y)) {
		scaleAddBlocks(&y[0], &x[0], &a, n/Block)
		y, x = y[n:], x[n:]
	}
	for i, v := range x {
		y[i] += float32(a * v)
	}
}

// Fill sets every float of y to v.
func Fill(y []float32, v float32) {
	for i := range y {
		y[i] = v
	}
}

// Copy computes y = x.
func Copy(y, x []float32) { copy(y, x[:len(y)]) }

// SGDParams are the settings of one SGD update, as torch.optim.SGD has them. Like PyTorch's they are float64,
// and what is computed from them is rounded once: 1-0.999 is 0.001 and not what float32 leaves of it.
type SGDParams struct {
	LR, Momentum, Dampening, WeightDecay float64
	Nesterov                             bool
	First                                bool // the momentum buffer takes the gradient as it is
}

// sgdGo updates p by PyTorch's rule:
//
//	g += WeightDecay*p
//	buf = Momentum*buf + (1-Dampening)*g   (buf = g when First)
//	p -= LR * (g + Momentum*buf if Nesterov else buf)
//
// Without momentum buf is not touched and p -= LR*g.
func sgdGo(p, g, buf []float32, h SGDParams) {
	g = g[:len(p)]
	lr, decay, momentum, rest := float32(h.LR), float32(h.WeightDecay), float32(h.Momentum),
		float32(1-h.Dampening)
	if h.Momentum == 0 {
		for i, v := range p {
			p[i] = v - lr*(g[i]+decay*v)
		}
		return
	}
	buf = buf[:len(p)]
	for i, v := range p {
		d := g[i] + decay*v
		m := d
		if !h.First {
			m = momentum*buf[i] + rest*d
		}
		buf[i] = m
		if h.Nesterov {
			m = d + momentum*m
		}
		p[i] = v - lr*m
	}
}

// AdamParams are the settings of one Adam update. Correction1 is 1-Beta1^step and Correction2 the
// square root of 1-Beta2^step.
type AdamParams struct {
	LR, Beta1, Beta2, Eps, WeightDecay float64
	Correction1, Correction2           float64
	Decoupled                          bool // AdamW: p *= 1 - LR*WeightDecay instead of g += WeightDecay*p
}

// adamGo updates p by PyTorch's rule:
//
//	m += (g-m)*(1-Beta1);  v = Beta2*v + (1-Beta2)*g*g
//	p -= LR/Correction1 * m / (sqrt(v)/Correction2 + Eps)
func adamGo(p, g, m, v []float32, h AdamParams) {
	g, m, v = g[:len(p)], m[:len(p)], v[:len(p)]
	k := h.coefficients()
	for i, x := range p {
		x -= k.shrink * x
		d := g[i] + k.decay*x
		mi := m[i] + (d-m[i])*k.rest1
		vi := k.beta2*v[i] + k.rest2*d*d
		m[i], v[i] = mi, vi
		p[i] = x - k.step*mi/(float32(math.Sqrt(float64(vi)))/k.correction2+k.eps)
	}
}

// adamCoefficients are what an update multiplies by, in the order in which the assembly reads them.
type adamCoefficients struct{ shrink, decay, rest1, beta2, rest2, step, correction2, eps float32 }

func (h AdamParams) coefficients() adamCoefficients {
	k := adamCoefficients{rest1: float32(1 - h.Beta1), beta2: float32(h.Beta2), rest2: float32(1 - h.Beta2),
		step: float32(h.LR / h.Correction1), correction2: float32(h.Correction2), eps: float32(h.Eps)}
	if h.Decoupled {
		k.shrink = float32(h.LR * h.WeightDecay)
	} else {
		k.decay = float32(h.WeightDecay)
	}
	return k
}

// LogSoftmaxGradRows computes dx = dy - exp(y) * sum(dy) of every row.
func LogSoftmaxGradRows(dx, dy, y []float32, rows, cols int) {
	for r := range rows {
		LogSoftmaxGrad(dx[r*cols:][:cols], dy[r*cols:][:cols], y[r*cols:][:cols])
	}
}
