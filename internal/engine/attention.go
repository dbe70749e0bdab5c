package engine

import (
	"fmt"
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// attention is scaled-dot-product attention of many heads, composed by fuseAttention of the operator of that
// name, or of
//
//	MatMul(Softmax(scale * MatMul(q, k') + mask + ...), v)
//
// with reshapes between that leave the last two axes. q, k and v are views, so that nothing is
// transposed or cut out of the product that all three come from; the output, too, where a Transpose
// puts its heads side by side.
type attention struct {
	head       kernels.AttentionSpec
	q, k, v, y []int // where the heads begin in the op's inputs 0 to 2 and in its output
	mask       []int // the first row of the mask, input 3, of each head
	rows       int   // of the mask
}

var attentionDef = &ops.Def{Name: composedAttention, Domain: layoutDomain}

// fuseAttention composes attention.
func fuseAttention(g *graph) {
	found := false
	for _, o := range slices.Clone(g.ops) {
		switch {
		case o.path().attends:
			found = g.attendByHeads(o) || found
		case o.path().batched && len(o.out[0].dims) > 2:
			found = g.composeAttention(o) || found
		}
	}
	if found {
		g.prune()
	}
}

// added is a term that is added to scores seen in some dims.
type added struct {
	mask *value
	dims []int64
}

// composeAttention makes o, the product with the values, all of the attention that it ends.
func (g *graph) composeAttention(o *op) bool {
	soft := o.in[0].computedBy()
	if !o.in[0].private() || soft == nil || !soft.path().softmax || !multiplies(o) {
		return false
	}
	if _, count, inner, ok := softmaxAxis(soft); !ok || inner != 1 ||
		int64(count) != o.in[0].dims[len(o.in[0].dims)-1] {
		return false
	}
	scores, masks, scale := scoresOf(soft.in[0], mostViewed)
	if scores == nil || !multiplies(scores) || scores.out[0].size() != soft.in[0].size() ||
		!equalDims(lastTwo(scores.out[0]), lastTwo(soft.in[0])) {
		return false
	}
	q, qScale := unscaled(scores.in[0])
	k, kScale := unscaled(scores.in[1])
	a := &attention{}
	qv, kv, vv := viewOf(q), viewOf(k), viewOf(o.in[1])
	if qv.stride(1) != 1 {
		qv = view{q, 0, q.dims, rowMajor(q.dims)}
	}
	if kv.stride(1) != 1 && kv.stride(2) != 1 {
		kv = view{k, 0, k.dims, rowMajor(k.dims)}
	}
	if vv.stride(1) != 1 {
		vv = view{o.in[1], 0, o.in[1].dims, rowMajor(o.in[1].dims)}
	}
	y, next := outputView(o)
	of, yf := scores.out[0].dims, o.out[0].dims
	a.q, a.k = qv.offsets(of[:len(of)-2]), kv.offsets(of[:len(of)-2])
	a.v, a.y = vv.offsets(yf[:len(yf)-2]), y.offsets(yf[:len(yf)-2])
	a.head = kernels.AttentionSpec{Queries: int(yf[len(yf)-2]), Keys: int(of[len(of)-1]),
		Depth:  int(qv.dims[len(qv.dims)-1]),
		Values: int(yf[len(yf)-1]), QRow: qv.stride(2), KRow: kv.stride(1), KStep: kv.stride(2),
		VRow: vv.stride(2), YRow: y.stride(2),
		Scale: float32(scale * qScale * kScale)}
	in := []*value{qv.base, kv.base, vv.base}
	if len(a.q) != len(a.y) || !isFloat(in...) {
		return false
	}
	if len(masks) > 0 {
		mask, ok := g.maskOf(a, o, masks)
		if !ok {
			return false
		}
		in = append(in, mask)
	}
	g.attends(o, a, in, next)
	return true
}

// attends makes o attention, which writes next's output where there is one.
func (g *graph) attends(o *op, a *attention, in []*value, next *op) {
	if next != nil {
		g.take(o, next)
	}
	n := newNode(attentionDef.Name, layoutDomain, o.out[0].name)
	n.Name = o.node.Name
	o.node, o.in, o.inputs, o.attention = &ops.Node{Node: n, Def: attentionDef}, in, len(in), a
	g.index()
}

// attendByHeads makes an Attention of operator set 23 attention, where it has a finite constant for a mask or
// none, no past, and gives its first output alone.
func (g *graph) attendByHeads(o *op) bool {
	n := o.node
	if slices.ContainsFunc([]int{4, 5, 6}, func(i int) bool { return inputOf(o, i) != nil }) ||
		slices.ContainsFunc(o.out[1:], func(v *value) bool { return v != nil }) ||
		n.Int("is_causal", 0) != 0 || n.Float("softcap", 0) != 0 || n.Int("left_window_size", -1) >= 0 ||
		n.Int("right_window_size", -1) >= 0 || !isFloat(o.in[0], o.in[1], o.in[2], o.out[0]) {
		return false
	}
	y, next := view{o.out[0], 0, o.out[0].dims, rowMajor(o.out[0].dims)}, (*op)(nil)
	if len(y.dims) == 4 {
		y, next = outputView(o)
	}
	heads, shared := n.Int("q_num_heads", 0), n.Int("kv_num_heads", 0)
	qv, kv, vv := headed(o.in[0], heads), headed(o.in[1], shared), headed(o.in[2], shared)
	yv := apart(y, heads)
	all := qv.dims[:2]
	a := &attention{q: qv.offsets(all), k: repeated(kv, all), v: repeated(vv, all), y: yv.offsets(all)}
	a.head = kernels.AttentionSpec{Queries: int(qv.dims[2]), Keys: int(kv.dims[2]), Depth: int(qv.dims[3]),
		Values: int(vv.dims[3]), QRow: qv.stride(2), KRow: kv.stride(2), KStep: kv.stride(1),
		VRow: vv.stride(2), YRow: yv.stride(2),
		Scale: n.Float("scale", float32(1/math.Sqrt(float64(qv.dims[3]))))}
	in := []*value{qv.base, kv.base, vv.base}
	if len(a.q) > maxProducts {
		return false
	}
	if m := inputOf(o, 3); m != nil {
		if !m.floats() || slices.ContainsFunc(m.konst.Float32s(), func(v float32) bool { return v-v != 0 }) {
			return false
		}
		mask, ok := g.maskOf(a, o, []added{{m, []int64{all[0], all[1], qv.dims[2], kv.dims[2]}}})
		if !ok {
			return false
		}
		in = append(in, mask)
	}
	g.attends(o, a, in, next)
	return true
}

// headed is v as [B,heads,L,D], of neighboring numbers along D.
func headed(v *value, heads int64) view {
	if w := apart(viewOf(v), heads); w.stride(1) == 1 {
		return w
	}
	return apart(view{v, 0, v.dims, rowMajor(v.dims)}, heads)
}

// apart takes the heads of [B,L,heads*D] apart; what has four axes has them apart.
func apart(w view, heads int64) view {
	if len(w.dims) == 4 {
		return w
	}
	d := w.dims[2] / heads
	return view{w.base, w.offset, []int64{w.dims[0], heads, w.dims[1], d},
		[]int{w.strides[0], w.strides[2] * int(d), w.strides[1], w.strides[2]}}
}

// repeated are where the heads of keys or values begin that heads of queries share, all being those [B,Hq].
func repeated(w view, all []int64) []int {
	own := w.offsets(w.dims[:2])
	out := make([]int, 0, all[0]*all[1])
	for b := range all[0] {
		for h := range all[1] {
			out = append(out, own[b*w.dims[1]+h*w.dims[1]/all[1]])
		}
	}
	return out
}

// multiplies reports whether o is a product of pairs of matrices, nothing fused into
// it, that a plan can list.
func multiplies(o *op) bool {
	y := o.out[0]
	if !o.path().batched || len(o.in) != 2 || !isFloat(o.in[0], o.in[1], y) || o.relu || o.then != nil {
		return false
	}
	if min(len(o.in[0].dims), len(o.in[1].dims), len(y.dims)) < 2 {
		return false
	}
	last := lastTwo(y)
	return y.size()/(last[0]*last[1]) <= maxProducts
}

func lastTwo(v *value) []int64 { return v.dims[len(v.dims)-2:] }

// unscaled takes constant factors off v.
func unscaled(v *value) (*value, float64) {
	if c, factors := factorsOf(v, 0); len(factors) == 1 && equalDims(factors[0].dims, v.dims) {
		return factors[0], c
	}
	return v, 1
}

// scoresOf walks from the input of a softmax back to the product that its scores come from, over what is
// multiplied and then added, steps at most.
func scoresOf(v *value, steps int) (scores *op, masks []added, scale float64) {
	o := v.computedBy()
	if o == nil || !v.private() || len(v.dims) < 2 || steps == 0 {
		return nil, nil, 0
	}
	p := o.path()
	switch from, c := unscaled(v); {
	case o.path().batched:
		return o, nil, 1
	case from != v:
		scores, masks, scale = scoresOf(from, steps-1)
		if len(masks) > 0 { // a scaled mask
			return nil, nil, 0
		}
		return scores, nil, scale * c
	case p.view && len(o.in[0].dims) >= 2 && equalDims(lastTwo(o.in[0]), lastTwo(v)):
		return scoresOf(o.in[0], steps-1)
	case o.node.Def.Arithmetic == ops.Sum && o.node.Attr("axis") == nil:
		for i, x := range o.in {
			if !equalDims(x.dims, v.dims) {
				continue
			}
			if scores, masks, scale = scoresOf(x, steps-1); scores != nil {
				return scores, append([]added{{o.in[1-i], v.dims}}, masks...), scale
			}
		}
	}
	return nil, nil, 0
}

// outputView is how o's output lies in that of the Transpose that alone reads it, next;
// without one it lies plain.
func outputView(o *op) (y view, next *op) {
	v := o.out[0]
	y = view{v, 0, v.dims, rowMajor(v.dims)}
	if !v.private() || !v.users[0].path().permutes {
		return y, nil
	}
	next = v.users[0]
	own, strides := rowMajor(next.out[0].dims), make([]int, len(v.dims))
	for i, p := range permutation(next) {
		strides[p] = own[i]
	}
	turned := view{next.out[0], 0, v.dims, strides}
	if turned.stride(1) != 1 {
		return y, nil
	}
	return turned, next
}

// maskOf is the sum of what is added to the scores, and sets where each head's rows begin in it. Constants
// are added up once, for the heads that differ; more than one mask that is computed is left alone.
func (g *graph) maskOf(a *attention, o *op, masks []added) (*value, bool) {
	starts := make([][]int, len(masks)) // of each head's matrix
	for i, m := range masks {
		if !isFloat(m.mask) || len(m.mask.dims) > len(m.dims) {
			return nil, false
		}
		w := view{m.mask, 0, m.mask.dims, rowMajor(m.mask.dims)}
		for len(w.dims) < 2 {
			w.dims, w.strides = append([]int64{1}, w.dims...), append([]int{0}, w.strides...)
		}
		rows, columns := w.dims[len(w.dims)-2], w.dims[len(w.dims)-1]
		if columns != int64(a.head.Keys) || rows != 1 && rows != int64(a.head.Queries) {
			return nil, false
		}
		if starts[i] = w.offsets(m.dims[:len(m.dims)-2]); len(starts[i]) != len(a.q) {
			return nil, false
		}
		if len(masks) > 1 && (!m.mask.floats() || rows != int64(a.head.Queries)) {
			return nil, false
		}
		a.head.MaskRows = rows > 1
	}
	mask := masks[0].mask
	if len(masks) > 1 {
		var ok bool
		if mask, ok = g.sumOfMasks(a, o, masks, starts); !ok {
			return nil, false
		}
	} else {
		a.mask = starts[0]
		for i := range a.mask {
			a.mask[i] /= a.head.Keys
		}
	}
	a.rows = int(mask.size()) / a.head.Keys
	return mask, true
}

// sumOfMasks adds constant masks up: a matrix for every combination that a head has.
func (g *graph) sumOfMasks(a *attention, o *op, masks []added, starts [][]int) (*value, bool) {
	seen := map[string]int{}
	var combinations [][]int
	size := a.head.Queries * a.head.Keys
	for i := range a.q {
		var c []int
		for k := range masks {
			c = append(c, starts[k][i])
		}
		key := fmt.Sprint(c)
		at, ok := seen[key]
		if !ok {
			at = len(combinations)
			seen[key] = at
			combinations = append(combinations, c)
		}
		a.mask = append(a.mask, at*a.head.Queries)
	}
	if int64(len(combinations))*int64(size)*4 > maxFolded {
		return nil, false
	}
	t := onnxio.NewTensor(onnxio.Float, int64(len(combinations)), int64(a.head.Queries), int64(a.head.Keys))
	sum := t.Float32s()
	for i, c := range combinations {
		for k := len(masks) - 1; k >= 0; k-- {
			kernels.Add(sum[i*size:][:size], sum[i*size:][:size],
				masks[k].mask.konst.Float32s()[c[k]:][:size])
		}
	}
	return g.constant(o.out[0].name+"/mask", t), true
}

// attentionWork is about the number of operations of a chunk: 20 us.
const attentionWork = 2 << 20

// attention lowers what fuseAttention composed: a chunk is some heads, or a part of the queries of one.
func (l *lowering) attention(o *op) (bool, error) {
	a := o.attention
	spec := a.head
	k, level, err := l.head(spec)
	if err != nil {
		return false, err
	}
	heads, work := len(a.q), 2*spec.Queries*spec.Keys*(spec.Depth+spec.Values)
	per, parts := max(1, min(heads/8, attentionWork/work)), 1
	if heads < 16 {
		parts = max(1, min((spec.Queries+47)/48, 16/heads, work/attentionWork))
	}
	mask := l.paddedMask(o, k)
	scratch, size := l.perWorker(k.Scratch())
	bufs := append([]*buffer{scratch}, l.all(o.in[0], o.in[1], o.in[2], o.out[0])...)
	if mask != nil {
		bufs = append(bufs, mask)
	}
	chunks := (heads + per - 1) / per * parts
	s := l.add("attention "+level, chunks, bufs, func() func(int, int) {
		y, q, keys, v := o.out[0].plainFloats(), o.in[0].plainFloats(), o.in[1].plainFloats(),
			o.in[2].plainFloats()
		return func(chunk, worker int) {
			lo, hi := spec.Queries*(chunk%parts)/parts, spec.Queries*(chunk%parts+1)/parts
			for i := chunk / parts * per; i < min(heads, (chunk/parts+1)*per); i++ {
				var m []float32
				if mask != nil {
					m = mask.data[a.mask[i]*k.Width():]
				}
				k.Run(scratch.data[worker*size:][:size], y[a.y[i]:], q[a.q[i]:], keys[a.k[i]:],
					v[a.v[i]:], m, lo, hi)
			}
		}
	})
	s.flops, s.cycles = int64(heads)*int64(work),
		float64(heads)*(1.3*float64(work)/32+1.5*float64(spec.Queries*spec.Keys))
	return true, nil
}

// head is a planned head of attention.
type head interface {
	Scratch() int
	Width() int
	PadMask(dst, src []float32, rows int)
	Run(scratch, y, q, keys, v, mask []float32, lo, hi int)
}

// head plans a head and names its kernel: with products in bf16 where that is asked for and they are large
// enough to be worth the rounding of their operands.
func (l *lowering) head(spec kernels.AttentionSpec) (head, string, error) {
	if l.g.bf16 && min(spec.Queries, spec.Keys) >= 48 && min(spec.Depth, spec.Values) >= 32 {
		k, err := kernels.NewAttentionBF16(spec)
		return k, kernels.LevelBF16() + " bf16", err
	}
	k, err := kernels.NewAttention(spec)
	return k, kernels.Level(), err
}

// paddedMask is the mask with rows of whole blocks: packed once where it is constant, else before each use.
func (l *lowering) paddedMask(o *op, k head) *buffer {
	if len(o.in) < 4 {
		return nil
	}
	v, rows := o.in[3], o.attention.rows
	if v.kind == constant {
		return l.form(v.konst, fmt.Sprintf("rows padded to %d", k.Width()), rows*k.Width(), 1,
			func(dst []float32, _ int) { k.PadMask(dst, v.konst.Float32s(), rows) })
	}
	dst := l.buffer(rows * k.Width())
	l.add("pad rows", 1, []*buffer{l.of(v), dst}, func() func(int, int) {
		from := v.plainFloats()
		return func(int, int) { k.PadMask(dst.data, from, rows) }
	})
	return dst
}
