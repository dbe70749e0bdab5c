package ops

import (
	"math"
	"strings"
)

// The equations of one step of one sequence.
//
//	RNN   h' = f(a)                                     a = W x + Wb + R h + Rb
//	GRU   z = f(az), r = f(ar), n = g(an), h' = (1-z) n + z h
//	      an = Wn x + Wbn + Rn (r h) + Rbn, or with linear_before_reset Wn x + Wbn + r (Rn h + Rbn)
//	LSTM  i = f(ai + Pi c), f = f(af + Pf c) (coupled: 1-i), n = g(an), c' = f c + i n
//	      o = f(ao + Po c'), h' = o h(c')
//
// clip bounds what the gates' functions are applied to (not c', as ONNX Runtime has it).

// gateFunction is a function of a gate and its derivative, which may use the function's value y at x.
type gateFunction struct {
	f  func(x float64) float64
	df func(x, y float64) float64
}

// gateFunctions are the activations by lower-case name: their default alpha and beta (NaN: the function has
// none) and the function for given ones.
var gateFunctions = map[string]struct {
	alpha, beta float64
	make        func(alpha, beta float64) gateFunction
}{
	"relu": {math.NaN(), math.NaN(), func(_, _ float64) gateFunction {
		return gateFunction{func(x float64) float64 { return max(x, 0) },
			func(x, _ float64) float64 { return step(x) }}
	}},
	"tanh": {math.NaN(), math.NaN(), func(_, _ float64) gateFunction {
		return gateFunction{math.Tanh, func(_, y float64) float64 { return 1 - y*y }}
	}},
	"sigmoid": {math.NaN(), math.NaN(), func(_, _ float64) gateFunction {
		return gateFunction{sigmoid, func(_, y float64) float64 { return y * (1 - y) }}
	}},
	"affine": {1, 0, func(a, b float64) gateFunction {
		return gateFunction{func(x float64) float64 { return a*x + b },
			func(_, _ float64) float64 { return a }}
	}},
	"leakyrelu": {0.01, math.NaN(), func(a, _ float64) gateFunction {
		return gateFunction{func(x float64) float64 { return x * slopeAt(x, a) },
			func(x, _ float64) float64 { return slopeAt(x, a) }}
	}},
	"thresholdedrelu": {1, math.NaN(), func(a, _ float64) gateFunction {
		return gateFunction{func(x float64) float64 { return x * atLeast(x, a) },
			func(x, _ float64) float64 { return atLeast(x, a) }}
	}},
	"scaledtanh": {1, 1, func(a, b float64) gateFunction {
		return gateFunction{func(x float64) float64 { return a * math.Tanh(b*x) },
			func(x, _ float64) float64 {
				t := math.Tanh(b * x)
				return a * b * (1 - t*t)
			}}
	}},
	"hardsigmoid": {0.2, 0.5, func(a, b float64) gateFunction {
		return gateFunction{func(x float64) float64 { return min(max(a*x+b, 0), 1) },
			func(_, y float64) float64 {
				if y > 0 && y < 1 {
					return a
				}
				return 0
			}}
	}},
	"elu": {1, math.NaN(), func(a, _ float64) gateFunction {
		return gateFunction{func(x float64) float64 {
			if x >= 0 {
				return x
			}
			return a * math.Expm1(x)
		}, func(x, _ float64) float64 {
			if x >= 0 {
				return 1
			}
			return a * math.Exp(x)
		}}
	}},
	"softsign": {math.NaN(), math.NaN(), func(_, _ float64) gateFunction {
		return gateFunction{func(x float64) float64 { return x / (1 + math.Abs(x)) },
			func(x, _ float64) float64 {
				d := 1 + math.Abs(x)
				return 1 / (d * d)
			}}
	}},
	"softplus": {math.NaN(), math.NaN(), func(_, _ float64) gateFunction {
		return gateFunction{softplus, func(x, _ float64) float64 { return sigmoid(x) }}
	}},
}

// slopeAt is LeakyRelu's slope.
func slopeAt(x, alpha float64) float64 {
	if x >= 0 {
		return 1
	}
	return alpha
}

// atLeast is 1 from the threshold on.
func atLeast(x, threshold float64) float64 {
	if x >= threshold {
		return 1
	}
	return 0
}

// recurrentFunctions resolves activations, activation_alpha and activation_beta: the functions of every
// direction in turn, of which those that have an alpha or a beta take the next of the lists, as long as there
// is one.
func recurrentFunctions(n *Node, op string, directions int) ([][]gateFunction, error) {
	names := functionsOf[op]
	all := make([]string, 0, directions*len(names))
	for range directions {
		all = append(all, names...)
	}
	if a := n.Attr("activations"); a != nil {
		// RNN's default names two whatever the direction.
		if len(a.Strings) != len(all) && !(op == "RNN" && len(a.Strings) == 2) {
			return nil, n.Errorf("%d activations where there are %d", len(a.Strings), len(all))
		}
		for i := range all {
			all[i] = strings.ToLower(string(a.Strings[i]))
		}
	}
	var alphas, betas []float32
	if a := n.Attr("activation_alpha"); a != nil {
		alphas = a.Floats
	}
	if a := n.Attr("activation_beta"); a != nil {
		betas = a.Floats
	}
	next := func(def float64, list *[]float32) float64 {
		if math.IsNaN(def) || len(*list) == 0 {
			return def
		}
		v := (*list)[0]
		*list = (*list)[1:]
		return float64(v)
	}
	out := make([][]gateFunction, directions)
	for i, name := range all {
		g, ok := gateFunctions[name]
		if !ok {
			return nil, n.Errorf("no activation is called %q", name)
		}
		d := i / len(names)
		alpha := next(g.alpha, &alphas)
		out[d] = append(out[d], g.make(alpha, next(g.beta, &betas)))
	}
	return out, nil
}

// cellWeights are the weights of one direction, or their gradients; bw, br and p may be nil.
type cellWeights struct{ w, r, bw, br, p []float64 }

// cellStep holds one step: the states before and after, the gates before and after their functions. more is
// for GRU what the reset gate is applied to, for LSTM h(c').
type cellStep struct {
	h, c, hNext, cNext []float64
	pre, gate, more    []float64
}

func (r *recurrent) newStep() *cellStep {
	h, g := r.hidden, r.gates*r.hidden
	return &cellStep{make([]float64, h), make([]float64, h), make([]float64, h), make([]float64, h),
		make([]float64, g), make([]float64, g), make([]float64, h)}
}

// start sets the states before the first step.
func (s *cellStep) start(r *recurrent, h0, c0 []float64, at int) {
	clear(s.h)
	clear(s.c)
	if h0 != nil {
		copy(s.h, h0[at:])
	}
	if c0 != nil {
		copy(s.c, c0[at:])
	}
}

// forward is one step in direction d.
func (r *recurrent) forward(d int, w *cellWeights, s *cellStep, x []float64) {
	switch r.op {
	case "RNN":
		r.affine(w, s.pre, x, s.h, 0, r.hidden)
		r.apply(r.functions[d][0], s.gate, s.pre)
		copy(s.hNext, s.gate)
	case "GRU":
		r.forwardGRU(r.functions[d], w, s, x)
	default:
		r.forwardLSTM(r.functions[d], w, s, x)
	}
}

// affine is pre[j] = W[j] x + Wb[j] + R[j] h + Rb[j] for the rows j from up to to.
func (r *recurrent) affine(w *cellWeights, pre, x, h []float64, from, to int) {
	for j := from; j < to; j++ {
		pre[j] = inner(w.w[j*len(x):], x) + inner(w.r[j*len(h):], h)
		if w.bw != nil {
			pre[j] += w.bw[j] + w.br[j]
		}
	}
}

// inner is the inner product of b with as many elements of a.
func inner(a, b []float64) float64 {
	sum := 0.0
	for i, v := range b {
		sum += a[i] * v
	}
	return sum
}

// apply is y = f(x), x clipped.
func (r *recurrent) apply(f gateFunction, y, x []float64) {
	for i, v := range x {
		y[i] = f.f(r.clipped(v))
	}
}

func (r *recurrent) clipped(v float64) float64 { return min(max(v, -r.clip), r.clip) }

// slope is the derivative of f after clipping.
func (r *recurrent) slope(f gateFunction, x, y float64) float64 {
	if x > r.clip || x < -r.clip {
		return 0
	}
	return f.df(x, y)
}

func (r *recurrent) forwardGRU(f []gateFunction, w *cellWeights, s *cellStep, x []float64) {
	h := r.hidden
	r.affine(w, s.pre, x, s.h, 0, 2*h)
	r.apply(f[0], s.gate[:2*h], s.pre[:2*h])
	reset, pre := s.gate[h:2*h], s.pre[2*h:]
	if r.linear {
		for j := range h {
			k := 2*h + j
			s.more[j], pre[j] = inner(w.r[k*h:], s.h), inner(w.w[k*len(x):], x)
			if w.bw != nil {
				s.more[j] += w.br[k]
				pre[j] += w.bw[k]
			}
			pre[j] += reset[j] * s.more[j]
		}
	} else {
		for j, v := range s.h {
			s.more[j] = reset[j] * v
		}
		r.affine(w, s.pre, x, s.more, 2*h, 3*h)
	}
	r.apply(f[1], s.gate[2*h:], pre)
	for j, v := range s.h {
		z := s.gate[j]
		s.hNext[j] = (1-z)*s.gate[2*h+j] + z*v
	}
}

func (r *recurrent) forwardLSTM(f []gateFunction, w *cellWeights, s *cellStep, x []float64) {
	h := r.hidden
	r.affine(w, s.pre, x, s.h, 0, 4*h)
	for j, c := range s.c {
		i, o, fg, n := j, h+j, 2*h+j, 3*h+j
		if w.p != nil {
			s.pre[i] += w.p[j] * c
			s.pre[fg] += w.p[2*h+j] * c
		}
		s.gate[i], s.gate[n] = f[0].f(r.clipped(s.pre[i])), f[1].f(r.clipped(s.pre[n]))
		if s.gate[fg] = 1 - s.gate[i]; !r.coupled {
			s.gate[fg] = f[0].f(r.clipped(s.pre[fg]))
		}
		s.cNext[j] = s.gate[fg]*c + s.gate[i]*s.gate[n]
		if w.p != nil {
			s.pre[o] += w.p[h+j] * s.cNext[j]
		}
		s.gate[o], s.more[j] = f[0].f(r.clipped(s.pre[o])), f[2].f(s.cNext[j])
		s.hNext[j] = s.gate[o] * s.more[j]
	}
}

// backward takes dh and dc, the gradients of the states after a step in direction d, to those before it, and
// adds to dx and the gradients dw of the weights.
func (r *recurrent) backward(d int, w, dw *cellWeights, s *cellStep, x, dx, dh, dc []float64) {
	switch r.op {
	case "RNN":
		dpre := make([]float64, r.hidden)
		for j, v := range dh {
			dpre[j] = v * r.slope(r.functions[d][0], s.pre[j], s.gate[j])
		}
		clear(dh)
		r.affineBack(w, dw, dpre, x, s.h, dx, dh, 0)
	case "GRU":
		r.backwardGRU(r.functions[d], w, dw, s, x, dx, dh)
	default:
		r.backwardLSTM(r.functions[d], w, dw, s, x, dx, dh, dc)
	}
}

// affineBack is the transpose of affine for the rows from `from` on, as many as dpre has.
func (r *recurrent) affineBack(w, dw *cellWeights, dpre, x, h, dx, dh []float64, from int) {
	for k, v := range dpre {
		j := from + k
		accumulate(dw.w[j*len(x):], dx, w.w[j*len(x):], x, v)
		accumulate(dw.r[j*len(h):], dh, w.r[j*len(h):], h, v)
		if dw.bw != nil {
			dw.bw[j] += v
			dw.br[j] += v
		}
	}
}

// accumulate is dw += v x and dx += v w.
func accumulate(dw, dx, w, x []float64, v float64) {
	for i, e := range x {
		dw[i] += v * e
		dx[i] += v * w[i]
	}
}

func (r *recurrent) backwardGRU(f []gateFunction, w, dw *cellWeights, s *cellStep, x, dx, dh []float64) {
	h := r.hidden
	dpre, before := make([]float64, 3*h), make([]float64, h) // before: the gradient of the state before
	for j, v := range dh {
		z, n := s.gate[j], s.gate[2*h+j]
		dpre[j] = v * (s.h[j] - n) * r.slope(f[0], s.pre[j], z)
		dpre[2*h+j] = v * (1 - z) * r.slope(f[1], s.pre[2*h+j], n)
		before[j] = v * z
	}
	reset := func(j int, v float64) {
		dpre[h+j] = v * r.slope(f[0], s.pre[h+j], s.gate[h+j])
	}
	if r.linear {
		for j, v := range dpre[2*h:] {
			k, through := 2*h+j, v*s.gate[h+j]
			reset(j, v*s.more[j])
			accumulate(dw.w[k*len(x):], dx, w.w[k*len(x):], x, v)
			accumulate(dw.r[k*h:], before, w.r[k*h:], s.h, through)
			if dw.bw != nil {
				dw.bw[k] += v
				dw.br[k] += through
			}
		}
	} else {
		da := make([]float64, h)
		r.affineBack(w, dw, dpre[2*h:], x, s.more, dx, da, 2*h)
		for j, v := range da {
			reset(j, v*s.h[j])
			before[j] += v * s.gate[h+j]
		}
	}
	r.affineBack(w, dw, dpre[:2*h], x, s.h, dx, before, 0)
	copy(dh, before)
}

func (r *recurrent) backwardLSTM(f []gateFunction, w, dw *cellWeights, s *cellStep, x, dx, dh, dc []float64) {
	h := r.hidden
	dpre := make([]float64, 4*h)
	for j, v := range dh {
		i, o, fg, n := j, h+j, 2*h+j, 3*h+j
		dpre[o] = v * s.more[j] * r.slope(f[0], s.pre[o], s.gate[o])
		d := dc[j] + v*s.gate[o]*f[2].df(s.cNext[j], s.more[j])
		if w.p != nil {
			d += dpre[o] * w.p[h+j]
		}
		di, df := d*s.gate[n], d*s.c[j]
		if r.coupled {
			di, df = di-df, 0
		}
		dpre[i] = di * r.slope(f[0], s.pre[i], s.gate[i])
		dpre[n] = d * s.gate[i] * r.slope(f[1], s.pre[n], s.gate[n])
		if !r.coupled {
			dpre[fg] = df * r.slope(f[0], s.pre[fg], s.gate[fg])
		}
		dc[j] = d * s.gate[fg]
		if w.p != nil {
			dc[j] += dpre[i]*w.p[j] + dpre[fg]*w.p[2*h+j]
			dw.p[j] += dpre[i] * s.c[j]
			dw.p[h+j] += dpre[o] * s.cNext[j]
			dw.p[2*h+j] += dpre[fg] * s.c[j]
		}
	}
	clear(dh)
	r.affineBack(w, dw, dpre, x, s.h, dx, dh, 0)
}
