package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Operators that only move numbers, of plain values: copies by strides.

// words reports whether values have elements of four bytes, which are copied as float32s are.
func words(vs ...*value) bool {
	types := []onnxio.DataType{onnxio.Float, onnxio.Int32, onnxio.Uint32}
	for _, v := range vs {
		if v == nil || v.size() == 0 || !slices.Contains(types, v.info.Type) {
			return false
		}
	}
	return true
}

// rowMajor are the strides of a plain value of the given dims.
func rowMajor(dims []int64) []int {
	s, n := make([]int, len(dims)), int64(1)
	for i := len(dims) - 1; i >= 0; i-- {
		s[i] = int(n)
		n *= dims[i]
	}
	return s
}

// move appends a copy between plain values by strides, from and to given offsets.
func (l *lowering) move(kernel string, y, x *value, dims, dst, src []int, to, from int) (bool, error) {
	k, err := kernels.NewStridedCopy(dims, dst, src)
	if err != nil {
		return false, nil // many axes: the reference kernel takes them
	}
	l.add(kernel, k.Chunks(), l.all(x, y), func() func(int, int) {
		out, in := y.f()[to:y.size()], x.f()[from:x.size()]
		return func(chunk, _ int) { k.Run(chunk, out, in) }
	})
	return true, nil
}

// permutation is the perm of a Transpose.
func permutation(o *op) []int {
	rank := len(o.in[0].dims)
	perm := make([]int, rank)
	for i := range perm {
		perm[i] = rank - 1 - i
	}
	for i, p := range o.node.Ints("perm") {
		perm[i] = int(p)
	}
	return perm
}

// tokens reports whether o brings a feature map's channels to the end, or back in front, and which.
func tokens(o *op) (toEnd, toFront bool) {
	if !o.in[0].isFloat4() || o.in[0].size() == 0 {
		return false, false
	}
	perm := permutation(o)
	return slices.Equal(perm, []int{0, 2, 3, 1}), slices.Equal(perm, []int{0, 3, 1, 2})
}

// tokenMaps: what is in blocks becomes tokens without a stop at the plain map, and tokens become blocks.
func tokenMaps(o *op) maps {
	if toEnd, _ := tokens(o); toEnd {
		return maps{in: []int{0}, follows: true}
	}
	return maps{out: []int{0}}
}

// turnsTokens reports whether a Transpose has a kernel for blocks: what comes from blocks or
// goes where blocks are read.
func turnsTokens(o *op) bool {
	toEnd, toFront := tokens(o)
	if toFront {
		return slices.ContainsFunc(o.out[0].users, readsBlocks)
	}
	return toEnd
}

// readsBlocks reports whether an op takes nothing but blocks.
func readsBlocks(o *op) bool {
	p := o.path()
	if p.maps == nil || p.accepts != nil && !p.accepts(o) {
		return false
	}
	m := p.maps(o)
	return len(m.in) > 0 && (!m.follows || len(o.in) > 1)
}

// transpose lowers Transpose.
func (l *lowering) transpose(o *op) (bool, error) {
	x, y := o.in[0], o.out[0]
	if x.layout != nil || y.layout != nil {
		layout := x.layout
		if layout == nil {
			layout = y.layout
		}
		k := kernels.NewTokens(*layout)
		l.add("tokens", k.Chunks(), l.all(x, y), func() func(int, int) {
			to, from := y.f(), x.f()
			if x.layout != nil {
				return func(chunk, _ int) { k.From(chunk, to, from) }
			}
			return func(chunk, _ int) { k.To(chunk, to, from) }
		})
		return true, nil
	}
	if !words(x) {
		return false, nil
	}
	if x.kind != param && keepsOrder(x.dims, permutation(o)) {
		l.alias(y, x)
		return true, nil
	}
	own, src := rowMajor(x.dims), make([]int, len(x.dims))
	for i, p := range permutation(o) {
		src[i] = own[p]
	}
	return l.move("transpose", y, x, extents(y.dims), rowMajor(y.dims), src, 0, 0)
}

// keepsOrder reports whether a permutation only moves axes of size 1: the numbers stay where they are.
func keepsOrder(dims []int64, perm []int) bool {
	last := -1
	for _, p := range perm {
		if dims[p] == 1 {
			continue
		}
		if p < last {
			return false
		}
		last = p
	}
	return true
}

// constants are the numbers of o's inputs, nil where they are not known; computed says that
// there is one that is not.
func (o *op) constants() (in []*onnxio.Tensor, computed func(i int) bool) {
	in = make([]*onnxio.Tensor, len(o.in))
	for i, v := range o.in {
		if v != nil && v.kind == constant {
			in[i] = v.konst
		}
	}
	return in, func(i int) bool { return i < len(o.in) && o.in[i] != nil && o.in[i].kind != constant }
}

// slice lowers Slice with constant bounds and steps forward.
func (l *lowering) slice(o *op) (bool, error) {
	x, y := o.in[0], o.out[0]
	if !words(x, y) {
		return false, nil
	}
	in, computed := o.constants()
	start, step, _, ok := ops.ResolveSlice(o.node, x.dims, in, computed)
	if !ok || slices.Min(step) < 1 {
		return false, nil
	}
	src, from := rowMajor(x.dims), 0
	for i := range src {
		from += int(start[i]) * src[i]
		src[i] *= int(step[i])
	}
	return l.move("slice", y, x, extents(y.dims), rowMajor(y.dims), src, 0, from)
}

// joins lowers Concat: of channels in blocks, or of plain values along any axis.
func (l *lowering) joins(o *op) (bool, error) {
	if done, err := l.concat(o); done || err != nil {
		return done, err
	}
	y := o.out[0]
	axis, ok := axisOf(o, y)
	if !ok || len(y.dims) > 8 || !words(y) {
		return false, nil
	}
	dst, at := rowMajor(y.dims), 0
	for _, v := range o.in {
		if v.size() == 0 {
			continue
		}
		done, err := l.move("concat", y, v, extents(v.dims), dst, rowMajor(v.dims), at*dst[axis], 0)
		if err != nil || !done {
			return done, err
		}
		at += int(v.dims[axis])
	}
	return true, nil
}

// axisOf is the axis of a Concat or Split of values of v's rank.
func axisOf(o *op, v *value) (int, bool) {
	axis := int(o.node.Int("axis", 0))
	if axis < 0 {
		axis += len(v.dims)
	}
	return axis, axis >= 0 && axis < len(v.dims)
}

// parts lowers Split: of channels in blocks, or of plain values along any axis.
func (l *lowering) parts(o *op) (bool, error) {
	if done, err := l.split(o); done || err != nil {
		return done, err
	}
	x := o.in[0]
	axis, ok := axisOf(o, x)
	if !ok || len(x.dims) > 8 || !words(x) || slices.Contains(o.out, nil) {
		return false, nil
	}
	src, at := rowMajor(x.dims), 0
	for _, v := range o.out {
		if v.size() == 0 {
			continue
		}
		done, err := l.move("split", v, x, extents(v.dims), rowMajor(v.dims), src, 0, at*src[axis])
		if err != nil || !done {
			return done, err
		}
		at += int(v.dims[axis])
	}
	return true, nil
}

// spread lowers Expand.
func (l *lowering) spread(o *op) (bool, error) {
	x, y := o.in[0], o.out[0]
	if !words(x, y) || len(x.dims) > len(y.dims) {
		return false, nil
	}
	src, own := make([]int, len(y.dims)), rowMajor(x.dims)
	for i, d := range x.dims {
		if d != 1 {
			src[len(y.dims)-len(x.dims)+i] = own[i]
		}
	}
	return l.move("expand", y, x, extents(y.dims), rowMajor(y.dims), src, 0, 0)
}

// pad lowers Pad with a constant number, or none, around a plain value.
func (l *lowering) pad(o *op) (bool, error) {
	x, y := o.in[0], o.out[0]
	in, computed := o.constants()
	begin, end, ok := ops.ResolvePad(o.node, len(x.dims), in, computed)
	if !ok || !isFloat(x, y) || o.node.Str("mode", "constant") != "constant" ||
		slices.Min(append(begin, end...)) < 0 {
		return false, nil
	}
	fill := o.node.Float("value", 0)
	if computed(2) {
		return false, nil
	}
	if len(in) > 2 && in[2] != nil {
		fill = in[2].Float32s()[0]
	}
	k, err := kernels.NewPadding(extents(x.dims), extents(y.dims), extents(begin))
	if err != nil {
		return false, nil
	}
	l.add("pad", k.Chunks(), l.all(x, y), func() func(int, int) {
		out, in := y.plainFloats(), x.plainFloats()
		return func(chunk, _ int) { k.Run(chunk, out, in, fill) }
	})
	return true, nil
}

// depthToSpace and spaceToDepth lower what they are named for.
func (l *lowering) depthToSpace(o *op) (bool, error) { return l.depth(o, false) }
func (l *lowering) spaceToDepth(o *op) (bool, error) { return l.depth(o, true) }

// depth moves blocks of pixels to channels or back: a transposition of what the blocks are seen as.
func (l *lowering) depth(o *op, toDepth bool) (bool, error) {
	x, y := o.in[0], o.out[0]
	if !words(x) || len(x.dims) != 4 {
		return false, nil
	}
	b, d := int(o.node.Int("blocksize", 1)), extents(x.dims)
	from, order := []int{d[0], d[1], d[2] / b, b, d[3] / b, b}, []int{0, 3, 5, 1, 2, 4}
	if !toDepth {
		from, order = []int{d[0], b, b, d[1] / (b * b), d[2], d[3]}, []int{0, 3, 4, 1, 5, 2}
		if o.node.Str("mode", "DCR") == "CRD" {
			from, order = []int{d[0], d[1] / (b * b), b, b, d[2], d[3]}, []int{0, 1, 4, 2, 5, 3}
		}
	}
	k, err := kernels.NewPermute(from, order)
	if err != nil {
		return false, err
	}
	l.add("transpose", k.Chunks(), l.all(x, y), func() func(int, int) {
		to, in := y.f(), x.f()
		return func(chunk, _ int) { k.Run(chunk, to, in) }
	})
	return true, nil
}
