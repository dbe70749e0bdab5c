package train

import (
	"fmt"
	"math"

	"github.com/cnnkit/cnnkit/internal/kernels"
)

// Muon is torch.optim.Muon (Jordan et al., https://kellerjordan.github.io/posts/muon), for a matrix, or for
// filters [O,I,...] as a matrix [O,I*...]. With M = Momentum, per step:
//
//	v = M*v + (1-M)*g;  d = (1-M)*g + M*v;  p -= LR * WeightDecay * p;  p -= LR * sqrt(max(1, rows/columns)) * orthogonal(d)
//
// orthogonal keeps the singular vectors and brings the singular values near 1, by Steps of the quintic
// Newton-Schulz iteration. UnitNorm scales p to the norm sqrt(rows) first, and leaves out the factor of the
// rate, as the CIFAR-10 speed runs do (arXiv:2404.00498). A parameter of one dimension has SGD with
// Nesterov's momentum instead.
type Muon struct {
	LR, Momentum, WeightDecay float64
	Steps                     int
	UnitNorm                  bool

	rows, columns int
	vector        *SGD // in place of all of it
	work          *orthogonal
}

func newMuon(o Optimized) (Rule, error) {
	steps := 5
	if o.Config.NSSteps != 0 {
		steps = o.Config.NSSteps
	}
	u := &Muon{LR: o.LR, Momentum: o.Momentum, WeightDecay: o.WeightDecay, Steps: steps,
		UnitNorm: o.Config.UnitNorm}
	return u, u.shape(o.Dims)
}

// shape prepares for a parameter of dims.
func (u *Muon) shape(dims []int64) error {
	if len(dims) < 2 {
		u.vector = &SGD{LR: u.LR, Momentum: u.Momentum, WeightDecay: u.WeightDecay, Nesterov: u.Momentum > 0}
		return nil
	}
	u.rows, u.columns = int(dims[0]), 1
	for _, d := range dims[1:] {
		u.columns *= int(d)
	}
	if u.rows == 0 || u.columns == 0 {
		return fmt.Errorf("a parameter %v has no elements", dims)
	}
	u.work = newOrthogonal(u.rows, u.columns)
	return nil
}

// Slots is 1: the momentum.
func (u *Muon) Slots() int {
	if u.vector != nil {
		return u.vector.Slots()
	}
	return 1
}

// Begin implements Rule.
func (u *Muon) Begin(step int64) {
	if u.vector != nil {
		u.vector.Begin(step)
	}
}

// Apply implements Rule, for a whole parameter.
func (u *Muon) Apply(p, g []float32, slots [][]float32) {
	if u.vector != nil {
		u.vector.Apply(p, g, slots)
		return
	}
	v, d := slots[0], u.work.x
	m, fresh := float32(u.Momentum), float32(1-u.Momentum)
	for i, x := range g {
		v[i] += fresh * (x - v[i])
		d[i] = x + m*(v[i]-x)
	}
	u.work.run(u.Steps)
	rate, keep := u.LR, 1-u.LR*u.WeightDecay
	if u.UnitNorm {
		if n := norm(p); n > 0 {
			keep *= math.Sqrt(float64(u.rows)) / n
		}
	} else {
		rate *= math.Sqrt(max(1, float64(u.rows)/float64(u.columns)))
	}
	k, lr := float32(keep), float32(rate)
	for i, x := range p {
		p[i] = k*x - lr*d[i]
	}
}

// SetRate implements Rule.
func (u *Muon) SetRate(lr float64) {
	u.LR = lr
	if u.vector != nil {
		u.vector.LR = lr
	}
}

// SetMomentum implements MomentumRule.
func (u *Muon) SetMomentum(m float64) {
	u.Momentum = m
	if u.vector != nil {
		u.vector.Momentum = m
	}
}

// orthogonal is the memory of the iteration for one shape of matrix.
type orthogonal struct {
	rows, columns int
	x             []float32 // [rows,columns], in and out

	side              int       // the smaller of the two
	y, next           []float32 // the matrix with no more rows than columns
	a, a2             []float32 // [side,side]
	gram, square, mix *kernels.Gemm
	scratch           []float32
}

func newOrthogonal(rows, columns int) *orthogonal {
	n, k := min(rows, columns), max(rows, columns)
	o := &orthogonal{rows: rows, columns: columns, side: n, x: kernels.AlignedSlice(n * k),
		y: kernels.AlignedSlice(n * k), next: kernels.AlignedSlice(n * k),
		a: kernels.AlignedSlice(n * n), a2: kernels.AlignedSlice(n * n)}
	o.gram = kernels.NewGemm(kernels.GemmSpec{M: n, N: n, K: k, TransB: true})
	o.square = kernels.NewGemm(kernels.GemmSpec{M: n, N: n, K: n})
	o.mix = kernels.NewGemm(kernels.GemmSpec{M: n, N: k, K: n})
	o.scratch = kernels.AlignedSlice(max(o.gram.Scratch(), o.square.Scratch(), o.mix.Scratch(), 1))
	return o
}

func (o *orthogonal) product(g *kernels.Gemm, c, a, b []float32) {
	for chunk := range g.Chunks() {
		g.Run(chunk, o.scratch, c, a, b, nil, false, false)
	}
}

// run makes x orthogonal. With X scaled to norm 1: A = X X^T; X = a X + (b A + c A^2) X.
func (o *orthogonal) run(steps int) {
	const a, b, c = 3.4445, -4.7750, 2.0315
	scale := float32(1 / max(norm(o.x), 1e-7))
	tall := o.rows > o.columns
	for i := range o.rows {
		for j := range o.columns {
			v := o.x[i*o.columns+j] * scale
			if tall {
				o.y[j*o.rows+i] = v
			} else {
				o.y[i*o.columns+j] = v
			}
		}
	}
	for range steps {
		o.product(o.gram, o.a, o.y, o.y)
		o.product(o.square, o.a2, o.a, o.a)
		for i, v := range o.a {
			o.a2[i] = b*v + c*o.a2[i]
		}
		o.product(o.mix, o.next, o.a2, o.y)
		for i, v := range o.y {
			o.next[i] += a * v
		}
		o.y, o.next = o.next, o.y
	}
	for i := range o.rows {
		for j := range o.columns {
			if tall {
				o.x[i*o.columns+j] = o.y[j*o.rows+i]
			} else {
				o.x[i*o.columns+j] = o.y[i*o.columns+j]
			}
		}
	}
}

// Lookahead keeps slow weights, which every Steps updates move by Alpha towards the fast ones, and puts them
// back there: Zhang et al., Lookahead Optimizer, arXiv:1907.08610.
type Lookahead struct {
	Steps int     `json:"steps,omitzero"` // 0: none
	Alpha float64 `json:"alpha,omitzero"` // 0.5
}

func (l Lookahead) validate() error {
	if l.Steps < 0 || !(l.Alpha >= 0 && l.Alpha <= 1) || l.Steps == 0 && l.Alpha != 0 {
		return fmt.Errorf("lookahead is %+v: it wants steps of at least 1, and an alpha in (0,1]", l)
	}
	return nil
}

// lookahead keeps the slow weights in a slot behind the rule's own. The first update begins
// with a copy of the weights.
type lookahead struct {
	Rule
	steps int64
	alpha float32

	first, sync bool
}

// Slots is one more than the rule's.
func (u *lookahead) Slots() int { return u.Rule.Slots() + 1 }

// Begin implements Rule.
func (u *lookahead) Begin(step int64) {
	u.first, u.sync = step == 1, step%u.steps == 0
	u.Rule.Begin(step)
}

// Apply implements Rule.
func (u *lookahead) Apply(p, g []float32, slots [][]float32) {
	n := len(slots) - 1
	slow := slots[n]
	if u.first {
		copy(slow, p)
	}
	u.Rule.Apply(p, g, slots[:n])
	if !u.sync {
		return
	}
	for i, x := range p {
		slow[i] += u.alpha * (x - slow[i])
		p[i] = slow[i]
	}
}

// SetMomentum implements MomentumRule.
func (u *lookahead) SetMomentum(m float64) {
	if p, ok := u.Rule.(MomentumRule); ok {
		p.SetMomentum(m)
	}
}
