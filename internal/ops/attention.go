package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Attention: softmax(cap(scale Q K') + bias) V for every head, where the bias comes from attn_mask,
// is_causal, the window and the padding. One attention value resolves a node; attentionmask.go has the bias,
// attentiongrad.go the gradient. Scores, softmax and sums are float64, whatever softmax_precision says.
//
// Shapes, P being the length of the past and T = P+L:
//
//	Q [B,Hq,S,D]  K [B,H,L,D]  V [B,H,L,E]  past_key [B,H,P,D]  past_value [B,H,P,E]  attn_mask to [B,Hq,S,T]
//	Y [B,Hq,S,E]  present_key [B,H,T,D]  present_value [B,H,T,E]  qk_matmul_output [B,Hq,S,T]
//
// Q, K, V and Y may have their heads side by side: Q [B,S,Hq*D]. Hq/H heads of Q share one of K and V.

func init() {
	register(&Def{
		Name: "Attention", Versions: []int64{23, 24, 25},
		Inputs: []Param{formal("Q", "T1"), formal("K", "T1"), formal("V", "T2"),
			formal("attn_mask", "U").optional(),
			formal("past_key", "T1").optional(), formal("past_value", "T2").optional(),
			formal("nonpad_kv_seqlen", "I").optional().since(24)},
		Outputs: []Param{formal("Y", "T1"), formal("present_key", "T1").optional(),
			formal("present_value", "T2").optional(), formal("qk_matmul_output", "T1").optional()},
		Types: map[string]TypeSet{"T1": Floats, "T2": Floats, "U": Numbers | Bools, "I": Set(onnxio.Int64)},
		Attrs: attentionAttrs(),
		Tol:   Tolerance{Abs: 1e-5, Rel: 1e-4}, Check: checkAttention,
		Infer: inferAttention, Eval: byFloat(evalAttention, evalAttention), Grad: gradAttention,
	}, attentionGradDef())
}

func attentionAttrs() []AttrDef {
	return []AttrDef{intA("is_causal"), intA("kv_num_heads"), intA("q_num_heads"),
		intA("qk_matmul_output_mode"),
		floatA("scale"), floatA("softcap"), intA("softmax_precision"), intA("left_window_size").since(25),
		intA("right_window_size").since(25)}
}

// attention is a node resolved over inputs of known shape.
type attention struct {
	batch, heads, kvHeads int // Hq, H
	queries, keys, past   int // S, T, P
	size, vSize           int // D, E
	sideBySide            bool
	scale, cap            float64
	bias                  attentionBias
}

func checkAttention(n *Node) error {
	if a := n.Attr("softmax_precision"); a != nil && !Floats.Has(onnxio.DataType(min(max(a.I, 0), 63))) {
		return n.Errorf("softmax_precision %d is no floating type", a.I)
	}
	if m := n.Int("qk_matmul_output_mode", 0); m < 0 || m > 3 {
		return n.Errorf("qk_matmul_output_mode %d is not 0 to 3", m)
	}
	if c := n.Float("softcap", 0); !(c >= 0) {
		return n.Errorf("softcap %v is negative", c)
	}
	for _, side := range []string{"left_window_size", "right_window_size"} {
		if w := n.Int(side, -1); w < -1 {
			return n.Errorf("%s %d is neither -1 nor a size", side, w)
		}
	}
	for _, heads := range []string{"q_num_heads", "kv_num_heads"} {
		if a := n.Attr(heads); a != nil && a.I < 1 {
			return n.Errorf("%s %d is not positive", heads, a.I)
		}
	}
	return nil
}

// splitHeads is a shape with its heads apart, [B,H,L,D], where they are side by side [B,L,H*D].
func splitHeads(n *Node, name string, s []onnxio.Dim, heads int64) ([]onnxio.Dim, error) {
	if len(s) == 4 {
		return s, nil
	}
	if heads < 1 {
		return nil, n.Errorf("inputs of three dimensions need q_num_heads and kv_num_heads")
	}
	size := unknownDim
	if s[2].Known() {
		if s[2].Value%heads != 0 {
			return nil, n.Errorf("%d heads do not divide %s %s", heads, name, shapeText(s))
		}
		size = knownDim(s[2].Value / heads)
	}
	return []onnxio.Dim{s[0], knownDim(heads), s[1], size}, nil
}

// attentionShapes are the shapes of Q, K, V, past_key and past_value with heads apart; nil where unknown.
type attentionShapes struct{ q, k, v, pastK, pastV []onnxio.Dim }

// newAttentionShapes checks the shapes of a node's inputs against each other, as far as they are known; ok is
// false when not all of Q, K and V have a rank.
func newAttentionShapes(n *Node, in [6][]onnxio.Dim) (s attentionShapes, ok bool, err error) {
	q, k, v := in[0], in[1], in[2]
	if q == nil || k == nil || v == nil {
		return s, false, nil
	}
	if len(q) != len(k) || len(q) != len(v) || len(q) < 3 || len(q) > 4 {
		return s, false, n.Errorf("Q %s, K %s and V %s do not all have three or four dimensions",
			shapeText(q), shapeText(k), shapeText(v))
	}
	if s.q, err = splitHeads(n, "Q", q, n.Int("q_num_heads", 0)); err != nil {
		return s, false, err
	}
	if s.k, err = splitHeads(n, "K", k, n.Int("kv_num_heads", 0)); err != nil {
		return s, false, err
	}
	if s.v, err = splitHeads(n, "V", v, n.Int("kv_num_heads", 0)); err != nil {
		return s, false, err
	}
	s.pastK, s.pastV = in[4], in[5]
	if !agree(s.q[0], s.k[0]) || !agree(s.q[3], s.k[3]) || !agreeAll(s.k[:3], s.v[:3]) ||
		!agree(s.q[0], s.v[0]) {
		return s, false, n.Errorf("Q %s, K %s and V %s do not fit", shapeText(q), shapeText(k), shapeText(v))
	}
	if h, kv := s.q[1], s.k[1]; h.Known() && kv.Known() && (kv.Value < 1 || h.Value%kv.Value != 0) {
		return s, false, n.Errorf("%d heads of Q cannot share %d of K", h.Value, kv.Value)
	}
	for _, p := range [][2][]onnxio.Dim{{s.pastK, s.k}, {s.pastV, s.v}} {
		past, now := p[0], p[1]
		if past != nil && (len(past) != 4 || !agreeAll(past[:2], now[:2]) || !agree(past[3], now[3])) {
			return s, false, n.Errorf("past %s does not fit %s", shapeText(past), shapeText(now))
		}
	}
	if s.pastK != nil && s.pastV != nil && !agree(s.pastK[2], s.pastV[2]) {
		return s, false, n.Errorf("past_key %s and past_value %s differ in length",
			shapeText(s.pastK), shapeText(s.pastV))
	}
	return s, true, nil
}

// total is how many keys there are, those of the past included.
func (s *attentionShapes) total(hasPast bool) onnxio.Dim {
	switch {
	case !hasPast:
		return s.k[2]
	case s.pastK == nil || !s.pastK[2].Known() || !s.k[2].Known():
		return unknownDim
	}
	return knownDim(s.pastK[2].Value + s.k[2].Value)
}

// pairedPast checks that past_key and past_value come together, and without nonpad_kv_seqlen.
func pairedPast(n *Node, has func(int) bool) error {
	if has(4) != has(5) {
		return n.Errorf("past_key and past_value must be given together")
	}
	if has(4) && has(6) {
		return n.Errorf("nonpad_kv_seqlen cannot be given with past_key and past_value")
	}
	return nil
}

func inferAttention(c *Infer) error {
	if err := inferReady(c); err != nil {
		return err
	}
	if err := pairedPast(c.Node, c.Has); err != nil {
		return err
	}
	q, v := c.In[0].Type, c.In[2].Type
	for i, t := range []onnxio.DataType{q, q, v, q} {
		c.SetType(i, t)
	}
	var in [6][]onnxio.Dim
	for i := range in {
		if shaped(c, i) {
			in[i] = c.In[i].Shape
		}
	}
	s, ok, err := newAttentionShapes(c.Node, in)
	if err != nil || !ok {
		return err
	}
	y := []onnxio.Dim{s.q[0], s.q[1], s.q[2], s.v[3]}
	if len(in[0]) == 3 {
		y = []onnxio.Dim{s.q[0], s.q[2], dimArithmetic("Mul", s.q[1], s.v[3], false)}
	}
	total := s.total(c.Has(4))
	c.Set(0, q, y)
	c.Set(1, q, []onnxio.Dim{s.k[0], s.k[1], total, s.k[3]})
	c.Set(2, v, []onnxio.Dim{s.v[0], s.v[1], total, s.v[3]})
	c.Set(3, q, []onnxio.Dim{s.q[0], s.q[1], s.q[2], total})
	return nil
}

// newAttention resolves a node whose inputs are there. The attributes may be those of AttentionGrad.
func newAttention(c *Eval) (*attention, error) {
	n := c.Node
	if err := checkAttention(n); err != nil {
		return nil, err
	}
	if err := pairedPast(n, c.Has); err != nil {
		return nil, err
	}
	var in [6][]onnxio.Dim
	for i := range in {
		if c.Has(i) {
			in[i] = knownDims(c.In[i].Dims)
		}
	}
	s, ok, err := newAttentionShapes(n, in)
	if err != nil || !ok {
		return nil, err
	}
	a := &attention{batch: int(s.q[0].Value), heads: int(s.q[1].Value), kvHeads: int(s.k[1].Value),
		queries: int(s.q[2].Value), keys: int(s.total(c.Has(4)).Value), size: int(s.q[3].Value),
		vSize: int(s.v[3].Value), sideBySide: len(in[0]) == 3, cap: float64(n.Float("softcap", 0))}
	if c.Has(4) {
		a.past = int(s.pastK[2].Value)
	}
	a.scale = 1 / math.Sqrt(float64(a.size))
	if v := n.Attr("scale"); v != nil {
		a.scale = float64(v.F)
	}
	a.bias, err = newAttentionBias(c, a)
	return a, err
}

// at is where row i of head h of batch element b begins in Q, K, V or Y as given: rows of size numbers, heads
// and length of them.
func (a *attention) at(b, h, i, heads, length, size int) int {
	if a.sideBySide {
		return ((b*length+i)*heads + h) * size
	}
	return ((b*heads+h)*length + i) * size
}

// cached is past followed by now, heads apart: [B,H,T,size].
func (a *attention) cached(past, now []float64, size int) []float64 {
	fresh := a.keys - a.past
	if past == nil && !a.sideBySide {
		return now
	}
	out := make([]float64, a.batch*a.kvHeads*a.keys*size)
	if len(out) == 0 {
		return out
	}
	for b := range a.batch {
		for h := range a.kvHeads {
			to := (b*a.kvHeads + h) * a.keys * size
			if past != nil {
				copy(out[to:][:a.past*size], past[(b*a.kvHeads+h)*a.past*size:])
			}
			for i := range fresh {
				copy(out[to+(a.past+i)*size:][:size], now[a.at(b, h, i, a.kvHeads, fresh, size):])
			}
		}
	}
	return out
}

// attentionRow is one query's row of the computation over all keys.
type attentionRow struct {
	raw, capped, biased, weight, bias []float64 // [T]
}

func (a *attention) newRow() *attentionRow {
	row := func() []float64 { return make([]float64, a.keys) }
	return &attentionRow{row(), row(), row(), row(), row()}
}

// fill computes a row: q is the query, k the keys [T,D] of its head.
func (a *attention) fill(r *attentionRow, b, h, i int, q, k []float64) {
	open := a.bias.row(r.bias, b, h, i)
	top := math.Inf(-1)
	for j := range r.raw {
		s := inner(k[j*a.size:], q) * a.scale
		r.raw[j] = s
		if a.cap > 0 {
			s = a.cap * math.Tanh(s/a.cap)
		}
		r.capped[j], r.biased[j] = s, s+r.bias[j]
		if math.IsInf(r.bias[j], -1) {
			r.biased[j] = math.Inf(-1) // whatever the score, NaN included
		}
		if r.biased[j] > top || math.IsNaN(r.biased[j]) {
			top = r.biased[j]
		}
	}
	clear(r.weight)
	if !open || math.IsInf(top, -1) {
		return // a query that sees no key
	}
	sum := 0.0
	for j, s := range r.biased {
		if !math.IsInf(r.bias[j], -1) {
			r.weight[j] = math.Exp(s - top)
			sum += r.weight[j]
		}
	}
	for j := range r.weight {
		r.weight[j] /= sum
	}
}

// exposed is the row that qk_matmul_output_mode asks for.
func (r *attentionRow) exposed(mode int64) []float64 {
	return [][]float64{r.raw, r.capped, r.biased, r.weight}[mode]
}

func evalAttention(c *Eval) error {
	a, err := newAttention(c)
	if err != nil {
		return err
	}
	B, H, KV := int64(a.batch), int64(a.heads), int64(a.kvHeads)
	S, T, E := int64(a.queries), int64(a.keys), int64(a.vSize)
	yDims := []int64{B, H, S, E}
	if a.sideBySide {
		yDims = []int64{B, S, H * E}
	}
	var out [4]*onnxio.Tensor
	for i, dims := range [][]int64{yDims, {B, KV, T, int64(a.size)}, {B, KV, T, E}, {B, H, S, T}} {
		if i > 0 && !c.Wants(i) {
			continue
		}
		t := c.In[0].Type
		if i == 2 {
			t = c.In[2].Type
		}
		if out[i], err = c.Alloc(i, t, dims...); err != nil {
			return err
		}
	}
	q := doubles(c, 0)
	k, v := a.cached(doubles(c, 4), doubles(c, 1), a.size), a.cached(doubles(c, 5), doubles(c, 2), a.vSize)
	putFloats(out[1], 0, k)
	putFloats(out[2], 0, v)
	if out[0].Size() == 0 && (out[3] == nil || out[3].Size() == 0) {
		return nil
	}
	mode, r, sum := c.Node.Int("qk_matmul_output_mode", 0), a.newRow(), make([]float64, a.vSize)
	a.each(func(b, h, i, kv int) {
		a.fill(r, b, h, i, q[a.at(b, h, i, a.heads, a.queries, a.size):][:a.size], k[kv*a.size:])
		putFloats(out[3], ((b*a.heads+h)*a.queries+i)*a.keys, r.exposed(mode))
		clear(sum)
		for j, w := range r.weight {
			if !math.IsInf(r.bias[j], -1) {
				for e, x := range v[(kv+j)*a.vSize:][:a.vSize] {
					sum[e] += w * x
				}
			}
		}
		putFloats(out[0], a.at(b, h, i, a.heads, a.queries, a.vSize), sum)
	})
	return nil
}

// each visits every query; kv is the row of the cache at which the keys of its head begin.
func (a *attention) each(f func(b, h, i, kv int)) {
	for b := range a.batch {
		for h := range a.heads {
			for i := range a.queries {
				f(b, h, i, (b*a.kvHeads+h/(a.heads/a.kvHeads))*a.keys)
			}
		}
	}
}
