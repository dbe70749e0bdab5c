package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// CausalConvWithState is a depthwise convolution along time that sees the present and the k-1 steps before
// it: input [N,C,L], weight [C,1,k], past_state and present_state [N,C,k-1].
//
//	padded = past_state (zeros), input
//	a[t] = bias + sum over i < k of weight[i] padded[t+i]
//	output = a, or with activation silu (swish) a sigmoid(a)

func init() {
	activation := stringA("activation")
	grad := gradDef("CausalConvGrad", []string{"dy", "input", "weight"},
		[]string{"dinput", "dweight", "dbias"}, activation)
	grad.Inputs = append(grad.Inputs, formal("bias", "T").optional(), formal("past_state", "T").optional())
	grad.Infer, grad.Eval, grad.Tol = inferCausalConvGrad, byFloat(evalCausalConvGrad,
		evalCausalConvGrad), reduceTol
	register(&Def{Name: "CausalConvWithState", Versions: []int64{27}, Attrs: []AttrDef{activation},
		Types: floatsT,
		Inputs: []Param{formal("input", "T"), formal("weight", "T"), formal("bias", "T").optional(),
			formal("past_state", "T").optional()},
		Outputs: []Param{formal("output", "T"), formal("present_state", "T")}, Tol: reduceTol,
		Weights: []int{1, 2},
		Check:   checkCausalConv, Infer: inferCausalConv, Eval: byFloat(evalCausalConv, evalCausalConv),
		Grad: gradCausalConv}, grad)
}

func checkCausalConv(n *Node) error {
	switch a := n.Str("activation", "none"); a {
	case "none", "silu", "swish":
		return nil
	default:
		return n.Errorf("activation %q is not none, silu or swish", a)
	}
}

// causalConv is a node resolved.
type causalConv struct {
	batch, channels, length, kernel int
	silu                            bool
}

// newCausalConv checks the shapes of input, weight, bias and past_state, as far as they
// are known; nil is omitted.
func newCausalConv(n *Node, x, w, bias, past []onnxio.Dim) (*causalConv, error) {
	if err := checkCausalConv(n); err != nil {
		return nil, err
	}
	if len(x) != 3 || len(w) != 3 || !agree(w[0], x[1]) || !agree(w[1], knownDim(1)) || w[2].Known() &&
		w[2].Value < 1 {
		return nil, n.Errorf("input %s with weight %s", shapeText(x), shapeText(w))
	}
	if bias != nil && !agreeAll(bias, x[1:2]) {
		return nil, n.Errorf("bias %s with input %s", shapeText(bias), shapeText(x))
	}
	if past != nil && !agreeAll(past, stateDims(x, w)) {
		return nil, n.Errorf("past_state %s where %s is wanted", shapeText(past), shapeText(stateDims(x, w)))
	}
	return &causalConv{int(x[0].Value), int(x[1].Value), int(x[2].Value), int(w[2].Value),
		n.Str("activation", "none") != "none"}, nil
}

// stateDims is the shape of a state.
func stateDims(x, w []onnxio.Dim) []onnxio.Dim {
	steps := unknownDim
	if w[2].Known() {
		steps = knownDim(w[2].Value - 1)
	}
	return []onnxio.Dim{x[0], x[1], steps}
}

func inferCausalConv(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	setLike(c, 0, c.In[0])
	c.SetType(1, c.In[0].Type)
	if !shaped(c, 0, 1) {
		return nil
	}
	var bias, past []onnxio.Dim
	if shaped(c, 2) {
		bias = c.In[2].Shape
	}
	if shaped(c, 3) {
		past = c.In[3].Shape
	}
	x, w := c.In[0].Shape, c.In[1].Shape
	if _, err := newCausalConv(c.Node, x, w, bias, past); err != nil {
		return err
	}
	c.Set(1, c.In[0].Type, stateDims(x, w))
	return nil
}

// causalConvOf resolves a node that runs; in are the numbers of input, weight, bias and past_state.
func causalConvOf(c *Eval, in [4]int) (v *causalConv, data [4][]float64, err error) {
	var dims [4][]onnxio.Dim
	for k, i := range in {
		if c.Has(i) {
			dims[k], data[k] = knownDims(c.In[i].Dims), doubles(c, i)
		}
	}
	v, err = newCausalConv(c.Node, dims[0], dims[1], dims[2], dims[3])
	return v, data, err
}

// padded is channel row of the input behind its past.
func (v *causalConv) padded(dst, x, past []float64, row int) {
	before := v.kernel - 1
	clear(dst[:before])
	if past != nil {
		copy(dst[:before], past[row*before:])
	}
	copy(dst[before:], x[row*v.length:][:v.length])
}

func evalCausalConv(c *Eval) error {
	v, in, err := causalConvOf(c, [4]int{0, 1, 2, 3})
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, c.In[0].Type, c.In[0].Dims...)
	if err != nil {
		return err
	}
	var state *onnxio.Tensor
	before := v.kernel - 1
	if c.Wants(1) {
		if state, err = c.Alloc(1, c.In[0].Type, int64(v.batch), int64(v.channels),
			int64(before)); err != nil {
			return err
		}
	}
	if y.Size() == 0 && (state == nil || state.Size() == 0) {
		return nil
	}
	line, out := make([]float64, before+v.length), make([]float64, v.length)
	for row := range v.batch * v.channels {
		v.padded(line, in[0], in[3], row)
		putFloats(state, row*before, line[v.length:])
		for t := range out {
			if out[t] = v.at(in[1], in[2], line, row%v.channels, t); v.silu {
				out[t] *= sigmoid(out[t])
			}
		}
		putFloats(y, row*v.length, out)
	}
	return nil
}

// at is a[t] of a channel.
func (v *causalConv) at(w, bias, line []float64, channel, t int) float64 {
	sum := inner(line[t:], w[channel*v.kernel:][:v.kernel])
	if bias != nil {
		sum += bias[channel]
	}
	return sum
}

func gradCausalConv(g *Grad) error {
	if len(g.DOut) > 1 && g.DOut[1] != "" || len(g.Wants) > 3 && g.Wants[3] {
		return g.Node.Errorf("the state has no gradient")
	}
	inputs := []string{g.DOut[0], g.In(0), g.In(1), g.In(2), g.In(3)}
	out, err := g.Emit(GradDomain, "CausalConvGrad", 3, inputs, g.Node.Attrs...)
	for i := 0; err == nil && i < min(len(g.Wants), 3); i++ {
		if g.Wants[i] {
			g.DIn[i] = out[i]
		}
	}
	return err
}

func inferCausalConvGrad(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	setLike(c, 0, c.In[1])
	setLike(c, 1, c.In[2])
	c.SetType(2, c.In[0].Type)
	if shaped(c, 1) && len(c.In[1].Shape) == 3 {
		c.Set(2, c.In[0].Type, c.In[1].Shape[1:2])
	}
	return nil
}

// evalCausalConvGrad gives the gradients of input, weight and bias; the one of a bias
// that is omitted is given too.
func evalCausalConvGrad(c *Eval) error {
	v, in, err := causalConvOf(c, [4]int{1, 2, 3, 4})
	if err != nil {
		return err
	}
	if !equal(c.In[0].Dims, c.In[1].Dims) {
		return c.Node.Errorf("dy %s with input %s", dimsText(c.In[0].Dims), dimsText(c.In[1].Dims))
	}
	var out [3]*onnxio.Tensor
	var grads [3][]float64
	for i, dims := range [][]int64{c.In[1].Dims, c.In[2].Dims, {int64(v.channels)}} {
		if out[i], err = c.Alloc(i, c.In[1].Type, dims...); err != nil {
			return err
		}
		grads[i] = make([]float64, out[i].Size())
	}
	if len(grads[0]) > 0 {
		v.walkBack(doubles(c, 0), in, &grads)
	}
	for i, g := range grads {
		putFloats(out[i], 0, g)
	}
	return nil
}

// walkBack adds up the gradients of input, weight and bias.
func (v *causalConv) walkBack(dy []float64, in [4][]float64, grads *[3][]float64) {
	before := v.kernel - 1
	line, dline := make([]float64, before+v.length), make([]float64, before+v.length)
	for row := range v.batch * v.channels {
		channel := row % v.channels
		w, dw := in[1][channel*v.kernel:][:v.kernel], grads[1][channel*v.kernel:][:v.kernel]
		v.padded(line, in[0], in[3], row)
		clear(dline)
		for t := range v.length {
			d := dy[row*v.length+t]
			if v.silu {
				a := v.at(in[1], in[2], line, channel, t)
				s := sigmoid(a)
				d *= s + a*s*(1-s)
			}
			grads[2][channel] += d
			accumulate(dw, dline[t:], w, line[t:][:v.kernel], d)
		}
		copy(grads[0][row*v.length:], dline[before:])
	}
}
