package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// RotaryEmbedding turns pairs of numbers by the angle of their token's position: of X [B,H,S,D] or, heads
// side by side, [B,S,H*D], the first rotary_embedding_dim of each D numbers (0: all). A pair is numbers k and
// k+half, or with interleaved 2k and 2k+1. Its gradient is the turn back.

func init() {
	attrs := []AttrDef{intA("interleaved"), intA("num_heads"), intA("rotary_embedding_dim")}
	def := func(name, domain string, versions []int64, turn float64) *Def {
		eval := func(c *Eval) error { return evalRotary(c, turn) }
		return &Def{Name: name, Domain: domain, Versions: versions, Attrs: attrs, Tol: arithmeticTol,
			Inputs: []Param{formal("X", "T"), formal("cos_cache", "T"), formal("sin_cache", "T"),
				formal("position_ids", "M").optional()},
			Outputs: []Param{{Name: "Y", Type: "T"}}, Types: map[string]TypeSet{"T": Floats,
				"M": Set(onnxio.Int64)},
			Infer: inferRotary, Eval: byFloat(eval, eval)}
	}
	forward := def("RotaryEmbedding", "", []int64{23}, 1)
	forward.Grad = func(g *Grad) (err error) {
		if g.Wants[0] {
			inputs := []string{g.DOut[0], g.In(1), g.In(2), g.In(3)}
			g.DIn[0], err = g.One(GradDomain, "RotaryEmbeddingGrad", inputs, g.Node.Attrs...)
		}
		for i := 1; err == nil && i < 3; i++ {
			if g.Wants[i] {
				err = g.Node.Errorf("%s has no gradient", g.Node.InParams()[i].Name)
			}
		}
		return err
	}
	register(forward, def("RotaryEmbeddingGrad", GradDomain, []int64{1}, -1))
}

// rotary is a node resolved.
type rotary struct {
	batch, heads, tokens, size int
	half                       int // pairs per head
	sideBySide, interleaved    bool
}

func newRotary(n *Node, x, cos, sin, ids []int64) (*rotary, error) {
	r := &rotary{interleaved: n.Int("interleaved", 0) != 0}
	heads := n.Int("num_heads", 0)
	switch {
	case len(x) == 4:
		r.batch, r.heads, r.tokens, r.size = int(x[0]), int(x[1]), int(x[2]), int(x[3])
	case len(x) != 3:
		return nil, n.Errorf("X %s has neither three nor four dimensions", dimsText(x))
	case heads < 1 || x[2]%heads != 0:
		return nil, n.Errorf("X %s in num_heads %d", dimsText(x), heads)
	default:
		r.batch, r.tokens, r.heads, r.size, r.sideBySide = int(x[0]), int(x[1]), int(heads),
			int(x[2]/heads), true
	}
	turned := n.Int("rotary_embedding_dim", 0)
	if turned == 0 {
		turned = int64(r.size)
	}
	if turned < 0 || turned > int64(r.size) || turned%2 != 0 {
		return nil, n.Errorf("rotary_embedding_dim %d of heads of %d", turned, r.size)
	}
	r.half = int(turned / 2)
	want := []int64{int64(r.batch), int64(r.tokens), turned / 2}
	if ids != nil {
		if !equal(ids, want[:2]) {
			return nil, n.Errorf("position_ids %s where %s is wanted", dimsText(ids), dimsText(want[:2]))
		}
		if len(cos) != 2 || cos[1] != want[2] || !equal(sin, cos) {
			return nil, n.Errorf("cos_cache %s and sin_cache %s where [?,%d] is wanted",
				dimsText(cos), dimsText(sin), want[2])
		}
		return r, nil
	}
	if !equal(cos, want) || !equal(sin, want) {
		return nil, n.Errorf("cos_cache %s and sin_cache %s where %s is wanted",
			dimsText(cos), dimsText(sin), dimsText(want))
	}
	return r, nil
}

func inferRotary(c *Infer) error {
	if err := inferSame(c); err != nil {
		return err
	}
	var dims [4][]int64
	for i := range dims {
		if c.Has(i) {
			d, ok := c.In[i].Dims()
			if !ok {
				return nil
			}
			dims[i] = d
		}
	}
	_, err := newRotary(c.Node, dims[0], dims[1], dims[2], dims[3])
	return err
}

// evalRotary turns by the angle times turn, 1 or -1.
func evalRotary(c *Eval, turn float64) error {
	x := c.In[0]
	var ids []int64
	if c.Has(3) {
		ids = append([]int64{}, c.In[3].Dims...)
	}
	r, err := newRotary(c.Node, x.Dims, c.In[1].Dims, c.In[2].Dims, ids)
	if err != nil {
		return err
	}
	y, err := c.Alloc(0, x.Type, x.Dims...)
	if err != nil || x.Size() == 0 {
		return err
	}
	src, cos, sin := doubles(c, 0), doubles(c, 1), doubles(c, 2)
	dst := append([]float64(nil), src...)
	for b := range r.batch {
		for t := range r.tokens {
			row := int64(b*r.tokens + t)
			if ids != nil {
				if row = onnxio.Data[int64](c.In[3])[row]; row < 0 || row >= c.In[1].Dims[0] {
					return c.Node.Errorf("position_ids names row %d of %d", row, c.In[1].Dims[0])
				}
			}
			at := int(row) * r.half
			for h := range r.heads {
				r.turn(dst, src, r.at(b, h, t), cos[at:], sin[at:], turn)
			}
		}
	}
	putFloats(y, 0, dst)
	return nil
}

// at is where token t of head h begins.
func (r *rotary) at(b, h, t int) int {
	if r.sideBySide {
		return ((b*r.tokens+t)*r.heads + h) * r.size
	}
	return ((b*r.heads+h)*r.tokens + t) * r.size
}

// turn is y1 = cos x1 - sin x2, y2 = sin x1 + cos x2 for the pairs of one head.
func (r *rotary) turn(dst, src []float64, at int, cos, sin []float64, turn float64) {
	for k := range r.half {
		i, j := at+k, at+r.half+k
		if r.interleaved {
			i, j = at+2*k, at+2*k+1
		}
		s := sin[k] * turn
		dst[i], dst[j] = cos[k]*src[i]-s*src[j], s*src[i]+cos[k]*src[j]
	}
}
