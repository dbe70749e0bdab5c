package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// recurrentInputs is how many inputs LSTM has, in whose order RecurrentGrad takes those of all three
// operators.
const recurrentInputs = 8

// recurrentGradDef is RecurrentGrad(X, W, R, B, sequence_lens, initial_h, initial_c, P, dY, dY_h, dY_c): the
// gradients of X, W, R, B, initial_h, initial_c and P, of no elements where the input is omitted. It runs the
// sequence again. Its attributes are those of the operator that forward names.
func recurrentGradDef(lstm *Def) *Def {
	d := &Def{Name: "RecurrentGrad", Domain: GradDomain, Versions: []int64{1}, Inputs: append([]Param{},
		lstm.Inputs...),
		Types: lstm.Types, Tol: recurrentTol}
	for _, a := range lstm.Attrs {
		a.Since, a.Until = 0, 0
		d.Attrs = append(d.Attrs, a)
	}
	d.Attrs = append(d.Attrs, intA("linear_before_reset"), stringA("forward").required())
	for _, name := range []string{"dY", "dY_h", "dY_c"} {
		d.Inputs = append(d.Inputs, Param{Name: name, Type: "T", Optional: true})
	}
	for _, name := range []string{"dX", "dW", "dR", "dB", "dinitial_h", "dinitial_c", "dP"} {
		d.Outputs = append(d.Outputs, Param{Name: name, Type: "T"})
	}
	d.Infer, d.Eval = inferRecurrentGrad, byFloat(evalRecurrentGrad, evalRecurrentGrad)
	return d
}

// gradientOf are the inputs whose gradients are RecurrentGrad's outputs.
var gradientOf = []int{0, 1, 2, 3, 5, 6, 7}

func gradRecurrent(g *Grad) error {
	inputs := make([]string, recurrentInputs+3)
	for i := range recurrentInputs {
		inputs[i] = g.In(i)
	}
	copy(inputs[recurrentInputs:], g.DOut)
	attrs := []*onnxio.Attribute{onnxio.StringAttr("forward", g.Node.OpType)}
	for _, a := range g.Node.Attrs {
		if a.Name != "output_sequence" {
			attrs = append(attrs, a)
		}
	}
	out, err := g.Emit(GradDomain, "RecurrentGrad", len(gradientOf), inputs, attrs...)
	if err != nil {
		return err
	}
	for k, i := range gradientOf {
		if i < len(g.Wants) && g.Wants[i] && g.In(i) != "" {
			g.DIn[i] = out[k]
		}
	}
	return nil
}

func inferRecurrentGrad(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	for k, i := range gradientOf {
		if c.Has(i) {
			setLike(c, k, c.In[i])
		} else {
			c.Set(k, c.In[0].Type, []onnxio.Dim{knownDim(0)})
		}
	}
	return nil
}

func evalRecurrentGrad(c *Eval) error {
	op := c.Node.Str("forward", "")
	if gatesOf[op] == 0 {
		return c.Node.Errorf("there is no %q", op)
	}
	r, err := newRecurrent(c.Node, op)
	if err != nil {
		return err
	}
	if err := r.sizeInputs(c); err != nil {
		return err
	}
	y, state := r.shapes()
	for i, want := range [][]int64{y, state, state} {
		if k := recurrentInputs + i; c.Has(k) && !equal(c.In[k].Dims, want) {
			return c.Node.Errorf("%s %s where %s is wanted",
				c.Node.InParams()[k].Name, dimsText(c.In[k].Dims), dimsText(want))
		}
	}
	var grads [recurrentInputs][]float64
	for _, i := range gradientOf {
		if c.Has(i) {
			grads[i] = make([]float64, c.In[i].Size())
		}
	}
	if r.steps > 0 && r.hidden > 0 {
		r.walkBack(c, &grads)
	}
	for k, i := range gradientOf {
		dims := []int64{0}
		if c.Has(i) {
			dims = c.In[i].Dims
		}
		out, err := c.Alloc(k, c.In[0].Type, dims...)
		if err != nil {
			return err
		}
		putFloats(out, 0, grads[i])
	}
	return nil
}

// walkBack runs every sequence of the batch forward, keeping its steps, then back.
func (r *recurrent) walkBack(c *Eval, grads *[recurrentInputs][]float64) {
	x, h0, c0 := doubles(c, 0), doubles(c, 5), doubles(c, 6)
	w, rec, b, p := doubles(c, 1), doubles(c, 2), doubles(c, 3), doubles(c, 7)
	dy, dyh, dyc := doubles(c, recurrentInputs), doubles(c, recurrentInputs+1), doubles(c, recurrentInputs+2)
	dh, dc := make([]float64, r.hidden), make([]float64, r.hidden)
	for d := range r.reverse {
		weights := r.weightsOf(d, w, rec, b, p)
		dw := r.weightsOf(d, grads[1], grads[2], grads[3], grads[7])
		for n := range r.batch {
			length := r.length(n)
			first := r.newStep()
			first.start(r, h0, c0, r.atState(d, n))
			steps := r.trace(d, weights, length, first, func(t int) []float64 {
				return x[r.atX(t, n):][:r.input]
			})
			clear(dh)
			clear(dc)
			if length > 0 {
				addTo(dh, dyh, r.atState(d, n))
				addTo(dc, dyc, r.atState(d, n))
			}
			for k := length - 1; k >= 0; k-- {
				t := r.at(k, d, length)
				addTo(dh, dy, r.atY(t, d, n))
				at := r.atX(t, n)
				r.backward(d, weights, dw, steps[k], x[at:][:r.input], grads[0][at:][:r.input], dh, dc)
			}
			if length > 0 && grads[5] != nil {
				copy(grads[5][r.atState(d, n):], dh)
			}
			if length > 0 && grads[6] != nil {
				copy(grads[6][r.atState(d, n):], dc)
			}
		}
	}
}

// trace runs a sequence of x(t) from the states that first begins with, and keeps every step.
func (r *recurrent) trace(d int, w *cellWeights, length int, first *cellStep,
	x func(t int) []float64) []*cellStep {
	steps := make([]*cellStep, length)
	s := first
	for k := range steps {
		if k > 0 {
			s = r.newStep()
			copy(s.h, steps[k-1].hNext)
			copy(s.c, steps[k-1].cNext)
		}
		r.forward(d, w, s, x(r.at(k, d, length)))
		steps[k] = s
	}
	return steps
}

// addTo is dst += src[at:]; a nil src is zero.
func addTo(dst, src []float64, at int) {
	if src == nil {
		return
	}
	for i := range dst {
		dst[i] += src[at+i]
	}
}
