package train

import "math"

// The rules here scale a step by norms of the whole parameter: Apply takes whole
// parameters, never ranges of them.

// LARS is Algorithm 1 of You, Gitman, Ginsburg, Large Batch Training of Convolutional
// Networks, arXiv:1708.03888:
//
//	local = Trust * |p| / (|g| + WeightDecay*|p|)
//	v = Momentum*v + LR*local*(g + WeightDecay*p);  p -= v
//
// local is 1 where a norm is zero, and for parameters that are Plain.
type LARS struct {
	LR, Momentum, WeightDecay, Trust float64
	Plain                            bool
}

// Slots is 1: the momentum.
func (u *LARS) Slots() int { return 1 }

// Begin implements Rule.
func (u *LARS) Begin(int64) {}

// Apply implements Rule, for a whole parameter.
func (u *LARS) Apply(p, g []float32, slots [][]float32) {
	local := 1.0
	if pn, gn := norm(p), norm(g); !u.Plain && pn > 0 && gn > 0 {
		local = u.Trust * pn / (gn + u.WeightDecay*pn)
	}
	v, momentum, rate, decay := slots[0], float32(u.Momentum), float32(u.LR*local), float32(u.WeightDecay)
	for i, x := range p {
		v[i] = momentum*v[i] + rate*(g[i]+decay*x)
		p[i] = x - v[i]
	}
}

// SetRate implements Rule.
func (u *LARS) SetRate(lr float64) { u.LR = lr }

// LAMB is Algorithm 2 of You et al., Large Batch Optimization for Deep Learning, arXiv:1904.00962, with
// phi(x) = x: Adam's moments m and v, corrected for their bias, and
//
//	r = m/(sqrt(v)+Eps) + WeightDecay*p;  p -= LR * |p|/|r| * r
//
// The ratio is 1 where a norm is zero, and for parameters that are Plain.
type LAMB struct {
	LR          float64
	Betas       [2]float64
	Eps         float64
	WeightDecay float64
	Plain       bool

	correction1, correction2 float64
	r                        []float32
}

// Slots is 2: the moments.
func (u *LAMB) Slots() int { return 2 }

// Begin implements Rule.
func (u *LAMB) Begin(step int64) {
	u.correction1 = 1 / (1 - math.Pow(u.Betas[0], float64(step)))
	u.correction2 = 1 / (1 - math.Pow(u.Betas[1], float64(step)))
}

// Apply implements Rule, for a whole parameter; it must not be called concurrently.
func (u *LAMB) Apply(p, g []float32, slots [][]float32) {
	if cap(u.r) < len(p) {
		u.r = make([]float32, len(p))
	}
	m, v, r := slots[0], slots[1], u.r[:len(p)]
	b1, r1, b2, r2 := float32(u.Betas[0]), float32(1-u.Betas[0]), float32(u.Betas[1]), float32(1-u.Betas[1])
	c1, c2, eps, decay := float32(u.correction1), float32(u.correction2), float32(u.Eps),
		float32(u.WeightDecay)
	for i, x := range p {
		m[i] = b1*m[i] + r1*g[i]
		v[i] = b2*v[i] + r2*g[i]*g[i]
		r[i] = m[i]*c1/(root(v[i]*c2)+eps) + decay*x
	}
	ratio := 1.0
	if pn, rn := norm(p), norm(r); !u.Plain && pn > 0 && rn > 0 {
		ratio = pn / rn
	}
	rate := float32(u.LR * ratio)
	for i := range p {
		p[i] -= rate * r[i]
	}
}

// SetRate implements Rule.
func (u *LAMB) SetRate(lr float64) { u.LR = lr }

// norm is the Euclidean norm, summed in float64.
func norm(x []float32) float64 { return math.Sqrt(squares(x)) }

func squares(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return sum
}
