package train

import "math"

// RMSprop is torch.optim.RMSprop.
type RMSprop struct {
	LR, Alpha, Eps, WeightDecay, Momentum float64
	Centered                              bool
}

// Slots: the mean square; with Centered the mean; with Momentum the buffer.
func (u *RMSprop) Slots() int {
	n := 1
	if u.Centered {
		n++
	}
	if u.Momentum > 0 {
		n++
	}
	return n
}

// Begin implements Rule.
func (u *RMSprop) Begin(int64) {}

// Apply implements Rule.
func (u *RMSprop) Apply(p, g []float32, slots [][]float32) {
	square, rest := slots[0], slots[1:]
	var mean, buf []float32
	if u.Centered {
		mean, rest = rest[0], rest[1:]
	}
	if u.Momentum > 0 {
		buf = rest[0]
	}
	lr, alpha, fresh, eps := float32(u.LR), float32(u.Alpha), float32(1-u.Alpha), float32(u.Eps)
	decay, momentum := float32(u.WeightDecay), float32(u.Momentum)
	for i, x := range p {
		d := g[i] + decay*x
		square[i] = alpha*square[i] + fresh*d*d
		v := square[i]
		if mean != nil {
			mean[i] += (d - mean[i]) * fresh
			v = max(0, v-mean[i]*mean[i])
		}
		d /= root(v) + eps
		if buf != nil {
			buf[i] = momentum*buf[i] + d
			d = buf[i]
		}
		p[i] = x - lr*d
	}
}

// SetRate implements Rule.
func (u *RMSprop) SetRate(lr float64) { u.LR = lr }

// Adagrad is torch.optim.Adagrad.
type Adagrad struct {
	LR, LRDecay, WeightDecay, Initial, Eps float64 // Initial is what the sum of squares starts from

	rate  float32
	first bool
}

// Slots is 1: the sum of squares.
func (u *Adagrad) Slots() int { return 1 }

// Begin implements Rule.
func (u *Adagrad) Begin(step int64) {
	u.rate, u.first = float32(u.LR/(1+float64(step-1)*u.LRDecay)), step == 1
}

// Apply implements Rule.
func (u *Adagrad) Apply(p, g []float32, slots [][]float32) {
	sum, decay, eps := slots[0], float32(u.WeightDecay), float32(u.Eps)
	for i, x := range p {
		d := g[i] + decay*x
		if u.first {
			sum[i] = float32(u.Initial)
		}
		sum[i] += d * d
		p[i] = x - u.rate*d/(root(sum[i])+eps)
	}
}

// SetRate implements Rule.
func (u *Adagrad) SetRate(lr float64) { u.LR = lr }

// Lion is Algorithm 2 of Chen et al., Symbolic Discovery of Optimization Algorithms, arXiv:2302.06675:
//
//	p -= LR * (sign(Betas[0]*m + (1-Betas[0])*g) + WeightDecay*p);  m = Betas[1]*m + (1-Betas[1])*g
type Lion struct {
	LR          float64
	Betas       [2]float64
	WeightDecay float64
}

// Slots is 1: the momentum.
func (u *Lion) Slots() int { return 1 }

// Begin implements Rule.
func (u *Lion) Begin(int64) {}

// Apply implements Rule.
func (u *Lion) Apply(p, g []float32, slots [][]float32) {
	m, lr, decay := slots[0], float32(u.LR), float32(u.WeightDecay)
	b1, r1, b2, r2 := float32(u.Betas[0]), float32(1-u.Betas[0]), float32(u.Betas[1]), float32(1-u.Betas[1])
	for i, x := range p {
		c := b1*m[i] + r1*g[i]
		d := c // 0, or not a number, stays what it is
		if c > 0 {
			d = 1
		} else if c < 0 {
			d = -1
		}
		m[i] = b2*m[i] + r2*g[i]
		p[i] = x - lr*(d+decay*x)
	}
}

// SetRate implements Rule.
func (u *Lion) SetRate(lr float64) { u.LR = lr }

func root(x float32) float32 { return float32(math.Sqrt(float64(x))) }
