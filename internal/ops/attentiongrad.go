package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// attentionGradDef is AttentionGrad(Q, K, V, attn_mask, past_key, past_value, nonpad_kv_seqlen, dY): the
// gradients of Q, K, V and of a floating mask (else of no elements). It computes the weights again. version
// is the forward node's.
func attentionGradDef() *Def {
	d := &Def{Name: "AttentionGrad", Domain: GradDomain, Versions: []int64{1},
		Tol: Tolerance{Abs: 1e-5, Rel: 1e-4},
		Inputs: []Param{formal("Q", "T"), formal("K", "T"), formal("V", "T2"),
			formal("attn_mask", "U").optional(),
			formal("past_key", "T").optional(), formal("past_value", "T2").optional(),
			formal("nonpad_kv_seqlen", "I").optional(), formal("dY", "T")},
		Outputs: []Param{formal("dQ", "T"), formal("dK", "T"), formal("dV", "T2"), formal("dattn_mask", "U")},
		Types:   map[string]TypeSet{"T": Floats, "T2": Floats, "U": Numbers | Bools, "I": Set(onnxio.Int64)}}
	for _, a := range attentionAttrs() {
		a.Since = 0
		d.Attrs = append(d.Attrs, a)
	}
	d.Attrs = append(d.Attrs, intA("version"))
	d.Infer, d.Eval = inferAttentionGrad, byFloat(evalAttentionGrad, evalAttentionGrad)
	return d
}

func gradAttention(g *Grad) error {
	for i, d := range g.DOut {
		if i > 0 && d != "" {
			return g.Node.Errorf("only the output Y has a gradient")
		}
	}
	for i := 4; i < len(g.Wants); i++ {
		if g.Wants[i] && g.In(i) != "" {
			return g.Node.Errorf("%s has no gradient", g.Node.InParams()[i].Name)
		}
	}
	inputs := make([]string, 7)
	for i := range inputs {
		inputs[i] = g.In(i)
	}
	attrs := append([]*onnxio.Attribute{onnxio.IntAttr("version", g.Node.Since)}, g.Node.Attrs...)
	out, err := g.Emit(GradDomain, "AttentionGrad", 4, append(inputs, g.DOut[0]), attrs...)
	if err != nil {
		return err
	}
	for i, d := range out {
		if i < len(g.Wants) && g.Wants[i] && g.In(i) != "" {
			g.DIn[i] = d
		}
	}
	return nil
}

// maskGradient reports whether the mask has a gradient: a floating one that is added to the scores.
func maskGradient(t onnxio.DataType) bool { return Floats.Has(t) }

func inferAttentionGrad(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	for i := range 4 {
		if c.Has(i) && (i < 3 || maskGradient(c.In[i].Type)) {
			setLike(c, i, c.In[i])
		} else {
			c.Set(i, c.In[0].Type, []onnxio.Dim{knownDim(0)})
		}
	}
	return nil
}

func evalAttentionGrad(c *Eval) error {
	a, err := newAttention(c)
	if err != nil {
		return err
	}
	if int(c.In[7].Size()) != a.batch*a.heads*a.queries*a.vSize {
		return c.Node.Errorf("dY %s with Q %s and V %s",
			dimsText(c.In[7].Dims), dimsText(c.In[0].Dims), dimsText(c.In[2].Dims))
	}
	var grads [4][]float64
	for i := range grads {
		t, dims := c.In[0].Type, []int64{0}
		if c.Has(i) && (i < 3 || maskGradient(c.In[i].Type)) {
			t, dims = c.In[i].Type, c.In[i].Dims
		}
		out, err := c.Alloc(i, t, dims...)
		if err != nil {
			return err
		}
		grads[i] = make([]float64, out.Size())
	}
	if c.In[7].Size() > 0 {
		a.walkBack(c, &grads)
	}
	for i, g := range grads {
		putFloats(c.Out[i], 0, g)
	}
	return nil
}

// walkBack adds up the gradients of Q, K, V and the mask. With weights w and dw = dY V': dS = w (dw - sum w
// dw) is the mask's gradient, and through the cap and the scale that of Q K'.
func (a *attention) walkBack(c *Eval, grads *[4][]float64) {
	q, dy := doubles(c, 0), doubles(c, 7)
	k, v := a.cached(doubles(c, 4), doubles(c, 1), a.size), a.cached(doubles(c, 5), doubles(c, 2), a.vSize)
	fresh := a.keys - a.past
	r, dw := a.newRow(), make([]float64, a.keys)
	a.each(func(b, h, i, kv int) {
		query := a.at(b, h, i, a.heads, a.queries, a.size)
		a.fill(r, b, h, i, q[query:][:a.size], k[kv*a.size:])
		d := dy[a.at(b, h, i, a.heads, a.queries, a.vSize):][:a.vSize]
		sum := 0.0
		for j, w := range r.weight {
			dw[j] = inner(v[(kv+j)*a.vSize:], d)
			sum += w * dw[j]
		}
		shared := h / (a.heads / a.kvHeads)
		for j, w := range r.weight {
			if math.IsInf(r.bias[j], -1) {
				continue
			}
			ds := w * (dw[j] - sum)
			if len(grads[3]) > 0 {
				grads[3][a.bias.place(b, h, i, j)] += ds
			}
			if a.cap > 0 {
				t := r.capped[j] / a.cap
				ds *= 1 - t*t
			}
			ds *= a.scale
			key := (kv + j) * a.size
			for e, x := range k[key:][:a.size] {
				grads[0][query+e] += ds * x
			}
			if j < a.past {
				continue
			}
			dk := grads[1][a.at(b, shared, j-a.past, a.kvHeads, fresh, a.size):][:a.size]
			for e := range dk {
				dk[e] += ds * q[query+e]
			}
			dv := grads[2][a.at(b, shared, j-a.past, a.kvHeads, fresh, a.vSize):][:a.vSize]
			for e := range dv {
				dv[e] += w * d[e]
			}
		}
	})
}
