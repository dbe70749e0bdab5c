package kernels

import "fmt"

// Function is a function of one element.
type Function int

// The functions, with the parameters that a Map of them has. Those up to Softsign have a gradient: of dy and
// the input x, or the output y for Relu, Sigmoid and Tanh.
const (
	FuncRelu            Function = iota // max(x, 0)
	FuncClip                            // low, high: x between the two
	FuncLeakyRelu                       // alpha: x where x >= 0, else alpha*x
	FuncThresholdedRelu                 // alpha: x where x > alpha, else 0
	// bias, lambd: x+bias where x < -lambd, x-bias where x > lambd, else 0
	FuncShrink
	FuncSigmoid     // 1/(1+exp(-x))
	FuncHardSigmoid // alpha, beta: alpha*x + beta between 0 and 1
	FuncTanh
	FuncSwish     // beta: x*sigmoid(beta*x); SiLU for beta 1
	FuncHardSwish // x * (x/6 + 1/2 between 0 and 1)
	FuncGelu      // x times the normal distribution function
	FuncGeluTanh  // its approximation by tanh
	FuncMish      // x*tanh(softplus(x))
	FuncElu       // a, b, c: a*x where x > 0, else b*(exp(c*x)-1), with c > 0; see Elu, Celu and Selu
	FuncSoftplus  // log(1+exp(x))
	FuncSoftsign  // x/(1+|x|)
	FuncErf
	FuncExp
	FuncLog
	FuncSqrt
	FuncReciprocal
	FuncAbs
	FuncNeg
	FuncSquare
	FuncSign
	FuncFloor
	FuncCeil
	FuncRound // to the nearest integer, halves to even
	functionCount

	funcExpression // see Expression
)

// Differentiable reports whether Backward knows the function.
func (m Map) Differentiable() bool {
	if m.expression != nil {
		return m.expression.differentiable()
	}
	return m.Function <= FuncSoftsign
}

// OfOutput reports whether the gradient is a function of the output instead of the input.
func (f Function) OfOutput() bool { return f == FuncRelu || f == FuncSigmoid || f == FuncTanh }

// Map is a function with its parameters.
type Map struct {
	Function
	h          [4]float32
	expression *expression // of funcExpression
}

// NewMap is f with the parameters that its constant names.
func NewMap(f Function, parameters ...float32) Map {
	m := Map{Function: f}
	copy(m.h[:], parameters)
	return m
}

// Elu is alpha*(exp(x)-1) below zero and x above.
func Elu(alpha float32) Map { return NewMap(FuncElu, 1, alpha, 1, alpha) }

// Selu is gamma times Elu.
func Selu(alpha, gamma float32) Map {
	return NewMap(FuncElu, gamma, gamma*alpha, 1, gamma*alpha)
}

// Celu is alpha*(exp(x/alpha)-1) below zero and x above, for alpha > 0.
func Celu(alpha float32) Map { return NewMap(FuncElu, 1, alpha, 1/alpha, 1) }

// KeepsZero reports whether the function of zero is zero, so that halos and empty lanes stay what they are.
func (m Map) KeepsZero() bool {
	var y [1]float32
	m.Forward(y[:], y[:])
	return y[0] == 0
}

// Forward computes y = f(x); y may be x.
func (m Map) Forward(y, x []float32) {
	x = x[:len(y)]
	if m.expression != nil {
		m.expression.forward(y, x)
		return
	}
	if current == levelGo {
		m.forwardGo(y, x)
		return
	}
	for n := whole(len(y)); n > 0; n = whole(len(y)) {
		mapBlocks(m.Function, &y[0], &x[0], &m.h[0], n/Block)
		y, x = y[n:], x[n:]
	}
	if len(y) > 0 {
		var t [Block]float32
		copy(t[:], x)
		mapBlocks(m.Function, &t[0], &t[0], &m.h[0], 1)
		copy(y, t[:])
	}
}

// Backward computes dx = dy*f'(v) with v the input, or the output where OfOutput says so; dx may be dy or v.
func (m Map) Backward(dx, dy, v []float32) {
	if !m.Differentiable() {
		panic(fmt.Sprintf("kernels: function %d has no gradient", m.Function))
	}
	dy, v = dy[:len(dx)], v[:len(dx)]
	if m.expression != nil {
		m.expression.backward(dx, dy, v)
		return
	}
	if current == levelGo {
		m.backwardGo(dx, dy, v)
		return
	}
	for n := whole(len(dx)); n > 0; n = whole(len(dx)) {
		gradBlocks(m.Function, &dx[0], &dy[0], &v[0], &m.h[0], n/Block)
		dx, dy, v = dx[n:], dy[n:], v[n:]
	}
	if len(dx) > 0 {
		var d, t [Block]float32
		copy(d[:], dy)
		copy(t[:], v)
		gradBlocks(m.Function, &d[0], &d[0], &t[0], &m.h[0], 1)
		copy(dx, d[:])
	}
}

// whole is how many of n floats one call of assembly takes: whole groups of 16, at most a stretch.
func whole(n int) int { return min(n, stretch) / Block * Block }
