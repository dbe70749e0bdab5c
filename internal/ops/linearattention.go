package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// LinearAttention keeps a matrix S [D,E] for each head in place of a cache of keys and
// values. Per token, in float64:
//
//	S = exp(decay) S                        gated, gated_delta
//	u = v, or beta (v - S'k)                delta, gated_delta
//	S = S + k u', output = scale S'q
//
// Heads stand side by side: query [B,T,Hq*D], key [B,T,H*D], value [B,T,H*E], decay [B,T,H] or [B,T,H*D],
// beta [B,T,H] or [B,T,1], states [B,H,D,E]; Hq/H heads of the query share a state.

func init() {
	register(&Def{Name: "LinearAttention", Versions: []int64{27},
		Attrs: []AttrDef{intA("chunk_size"), intA("kv_num_heads").required(), intA("q_num_heads").required(),
			floatA("scale"),
			stringA("update_rule")},
		Inputs: []Param{formal("query", "T"), formal("key", "T"), formal("value", "T"),
			formal("past_state", "S").optional(),
			formal("decay", "T").optional(), formal("beta", "T").optional()},
		Outputs: []Param{formal("output", "T"), formal("present_state", "S")},
		Types:   map[string]TypeSet{"T": Floats, "S": Floats}, Tol: Tolerance{Abs: 1e-5, Rel: 1e-4},
		Check: checkLinearAttention, Infer: inferLinearAttention, Eval: byFloat(evalLinearAttention,
			evalLinearAttention)})
}

// updateRules says of each rule whether it decays and whether it corrects.
var updateRules = map[string]struct{ decays, corrects bool }{
	"linear": {}, "gated": {decays: true}, "delta": {corrects: true}, "gated_delta": {true, true},
}

func checkLinearAttention(n *Node) error {
	q, kv := n.Int("q_num_heads", 0), n.Int("kv_num_heads", 0)
	if kv < 1 || q < 1 || q%kv != 0 {
		return n.Errorf("%d heads of the query cannot share %d states", q, kv)
	}
	if _, ok := updateRules[n.Str("update_rule", "gated_delta")]; !ok {
		return n.Errorf("update_rule %q is unknown", n.Str("update_rule", ""))
	}
	return nil
}

// linearAttention is a node resolved.
type linearAttention struct {
	batch, tokens, heads, states int // Hq and H
	size, vSize                  int // D and E
	perKey                       bool
	betas                        int // per token
	scale                        float64
	decays, corrects             bool
}

func newLinearAttention(n *Node, in [6][]int64) (*linearAttention, error) {
	if err := checkLinearAttention(n); err != nil {
		return nil, err
	}
	rule, q, k, v := updateRules[n.Str("update_rule", "gated_delta")], in[0], in[1], in[2]
	a := &linearAttention{heads: int(n.Int("q_num_heads", 0)), states: int(n.Int("kv_num_heads", 0)),
		decays: rule.decays, corrects: rule.corrects, scale: float64(n.Float("scale", 0))}
	h, kv := int64(a.heads), int64(a.states)
	if len(q) != 3 || len(k) != 3 || len(v) != 3 || !equal(q[:2], k[:2]) || !equal(q[:2], v[:2]) ||
		q[2]%h != 0 || v[2]%kv != 0 || k[2]%kv != 0 || k[2]/kv != q[2]/h {
		return nil, n.Errorf("query %s, key %s and value %s in %d and %d heads",
			dimsText(q), dimsText(k), dimsText(v), h, kv)
	}
	a.batch, a.tokens, a.size, a.vSize = int(q[0]), int(q[1]), int(q[2]/h), int(v[2]/kv)
	if a.scale == 0 {
		a.scale = 1 / math.Sqrt(float64(a.size))
	}
	past, decay, beta := in[3], in[4], in[5]
	if past != nil && !equal(past, []int64{q[0], kv, q[2] / h, v[2] / kv}) {
		return nil, n.Errorf("past_state %s is not [%d,%d,%d,%d]", dimsText(past), q[0], kv, q[2]/h, v[2]/kv)
	}
	if (decay != nil) != a.decays || (beta != nil) != a.corrects {
		return nil, n.Errorf("the rule %s takes decay: %v, beta: %v",
			n.Str("update_rule", "gated_delta"), a.decays, a.corrects)
	}
	if decay != nil {
		a.perKey = len(decay) == 3 && decay[2] != kv
		if len(decay) != 3 || !equal(decay[:2], q[:2]) || a.perKey && decay[2] != k[2] {
			return nil, n.Errorf("decay %s with key %s", dimsText(decay), dimsText(k))
		}
	}
	if beta != nil {
		if len(beta) != 3 || !equal(beta[:2], q[:2]) || beta[2] != 1 && beta[2] != kv {
			return nil, n.Errorf("beta %s with key %s", dimsText(beta), dimsText(k))
		}
		a.betas = int(beta[2])
	}
	return a, nil
}

func inferLinearAttention(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	if err := checkLinearAttention(c.Node); err != nil {
		return err
	}
	t := c.In[0].Type
	state := t
	if c.Has(3) {
		state = c.In[3].Type
	}
	c.SetType(0, t)
	c.SetType(1, state)
	var dims [6][]int64
	for i := range dims {
		if c.Has(i) {
			d, ok := c.In[i].Dims()
			if !ok {
				return inferLinearRanks(c, state)
			}
			dims[i] = append([]int64{}, d...)
		}
	}
	a, err := newLinearAttention(c.Node, dims)
	if err != nil {
		return err
	}
	c.Set(0, t, knownDims([]int64{int64(a.batch), int64(a.tokens), int64(a.heads * a.vSize)}))
	c.Set(1, state, knownDims([]int64{int64(a.batch), int64(a.states), int64(a.size), int64(a.vSize)}))
	return nil
}

// inferLinearRanks is the inference of shapes that are not all numbers.
func inferLinearRanks(c *Infer, state onnxio.DataType) error {
	if !shaped(c, 0) || len(c.In[0].Shape) != 3 {
		return nil
	}
	q := c.In[0].Shape
	width := unknownDim
	if shaped(c, 2) && len(c.In[2].Shape) == 3 {
		per := dimArithmetic("Div", c.In[2].Shape[2], knownDim(c.Node.Int("kv_num_heads", 1)), false)
		width = dimArithmetic("Mul", per, knownDim(c.Node.Int("q_num_heads", 1)), false)
	}
	c.Set(0, c.In[0].Type, []onnxio.Dim{q[0], q[1], width})
	c.Set(1, state, []onnxio.Dim{q[0], knownDim(c.Node.Int("kv_num_heads", 1)), unknownDim, unknownDim})
	return nil
}

func evalLinearAttention(c *Eval) error {
	var dims [6][]int64
	for i := range dims {
		if c.Has(i) {
			dims[i] = append([]int64{}, c.In[i].Dims...)
		}
	}
	a, err := newLinearAttention(c.Node, dims)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, c.In[0].Type, dims[0][0], dims[0][1], int64(a.heads*a.vSize))
	if err != nil {
		return err
	}
	stateType := c.In[0].Type
	if c.Has(3) {
		stateType = c.In[3].Type
	}
	state, err := c.Alloc(1, stateType, dims[0][0], int64(a.states), int64(a.size), int64(a.vSize))
	if err != nil || state.Size() == 0 {
		clear(y.Raw)
		return err
	}
	data := [6][]float64{doubles(c, 0), doubles(c, 1), doubles(c, 2), doubles(c, 3), doubles(c, 4),
		doubles(c, 5)}
	s, u, out := make([]float64, a.size*a.vSize), make([]float64, a.vSize), make([]float64, a.vSize)
	for b := range a.batch {
		for h := range a.states {
			clear(s)
			if data[3] != nil {
				copy(s, data[3][(b*a.states+h)*len(s):])
			}
			for t := b * a.tokens; t < (b+1)*a.tokens; t++ {
				a.update(s, u, t, h, &data)
				group := a.heads / a.states
				for q := h * group; q < (h+1)*group; q++ {
					a.read(out, s, data[0][(t*a.heads+q)*a.size:][:a.size], a.scale)
					putFloats(y, (t*a.heads+q)*a.vSize, out)
				}
			}
			putFloats(state, (b*a.states+h)*len(s), s)
		}
	}
	return nil
}

// update is one token's change of the state; u is space.
func (a *linearAttention) update(s, u []float64, t, h int, data *[6][]float64) {
	row := t*a.states + h
	k := data[1][row*a.size:][:a.size]
	for d := range k {
		if !a.decays {
			break
		}
		g := row
		if a.perKey {
			g = row*a.size + d
		}
		f := math.Exp(data[4][g])
		for e := range a.vSize {
			s[d*a.vSize+e] *= f
		}
	}
	copy(u, data[2][row*a.vSize:])
	if a.corrects {
		beta := data[5][t*a.betas+h%a.betas]
		for d, x := range k {
			for e := range u {
				u[e] -= x * s[d*a.vSize+e]
			}
		}
		for e := range u {
			u[e] *= beta
		}
	}
	for d, x := range k {
		for e, v := range u {
			s[d*a.vSize+e] += x * v
		}
	}
}

// read is out = scale S'q.
func (a *linearAttention) read(out, s, q []float64, scale float64) {
	clear(out)
	for d, x := range q {
		for e := range out {
			out[e] += scale * x * s[d*a.vSize+e]
		}
	}
}
