package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// attentionBias says what is added to the score of each query and key: the mask's element, and minus infinity
// where causality, the window or the padding forbids the key.
type attentionBias struct {
	mask        []float64 // nil: none
	stride      [4]int    // of the mask along B, Hq, S, T; 0 repeats
	maskKeys    int       // keys beyond it are forbidden
	causal      bool
	left, right int // window, -1: unbounded
	past        int
	queries     int
	valid       []int64 // keys that are not padding, per batch element; nil: all
}

func newAttentionBias(c *Eval, a *attention) (attentionBias, error) {
	n := c.Node
	bias := attentionBias{causal: n.Int("is_causal", 0) != 0, past: a.past, queries: a.queries,
		maskKeys: a.keys,
		left:     int(n.Int("left_window_size", -1)), right: int(n.Int("right_window_size", -1))}
	if c.Has(6) {
		if bias.valid = onnxio.Data[int64](c.In[6]); len(c.In[6].Dims) != 1 || len(bias.valid) != a.batch {
			return bias, n.Errorf("nonpad_kv_seqlen %s for a batch of %d", dimsText(c.In[6].Dims), a.batch)
		}
	}
	for b, v := range bias.valid {
		if v < 0 || v > int64(a.keys) {
			return bias, n.Errorf("nonpad_kv_seqlen[%d] is %d of %d keys", b, v, a.keys)
		}
	}
	if !c.Has(3) {
		return bias, nil
	}
	return bias, bias.setMask(c, a)
}

// setMask reads attn_mask, which broadcasts to [B,Hq,S,T]. Since version 24 its last dimension may be shorter
// than T; the keys that it leaves out are forbidden. Before, 1 repeats there as elsewhere.
func (bias *attentionBias) setMask(c *Eval, a *attention) error {
	m := c.In[3]
	bad := func() error {
		return c.Node.Errorf("attn_mask %s does not broadcast to [%d,%d,%d,%d]",
			dimsText(m.Dims), a.batch, a.heads, a.queries, a.keys)
	}
	if len(m.Dims) > 4 {
		return bad()
	}
	full, step := [4]int{a.batch, a.heads, a.queries, a.keys}, 1
	for k := 1; k <= len(m.Dims); k++ {
		d, axis := int(m.Dims[len(m.Dims)-k]), 4-k
		short := axis == 3 && c.Node.Int("version", c.Node.Since) >= 24 && d < a.keys
		switch {
		case d == full[axis] || short:
			bias.stride[axis] = step
		case d != 1:
			return bad()
		}
		if short {
			bias.maskKeys = d
		}
		step *= d
	}
	bias.mask = make([]float64, m.Size())
	if m.Type == onnxio.Bool {
		for i, open := range onnxio.Data[bool](m) {
			if !open {
				bias.mask[i] = math.Inf(-1)
			}
		}
		return nil
	}
	wide, err := asFloat64(c, m)
	if err == nil {
		copy(bias.mask, onnxio.Data[float64](wide))
	}
	return err
}

// place is the mask's element for a query and key.
func (bias *attentionBias) place(b, h, i, j int) int {
	return b*bias.stride[0] + h*bias.stride[1] + i*bias.stride[2] + j*bias.stride[3]
}

// row fills in the bias of query i over all keys; open is false when it sees none.
func (bias *attentionBias) row(dst []float64, b, h, i int) (open bool) {
	p := bias.past + i
	if bias.valid != nil {
		p = int(bias.valid[b]) - bias.queries + i
	}
	for j := range dst {
		v := 0.0
		switch {
		case bias.causal && j > p, bias.left >= 0 && j < p-bias.left, bias.right >= 0 && j-p > bias.right,
			j >= bias.maskKeys, bias.valid != nil && int64(j) >= bias.valid[b]:
			v = math.Inf(-1)
		case bias.mask != nil:
			v = bias.mask[bias.place(b, h, i, j)]
		}
		dst[j] = v
		open = open || !math.IsInf(v, -1)
	}
	return open
}
