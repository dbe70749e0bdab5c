package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/internal/ops"
)

// A view is a plain value as numbers of another one, base, in strides: what transpositions, slices and
// reshapes make of base without computing anything. Readers that walk strides need no copy.
type view struct {
	base    *value
	offset  int
	dims    []int64
	strides []int
}

// mostViewed bounds the ops between a view and its base.
const mostViewed = 32

// viewOf finds the view that v is; its base is v itself where v is computed.
func viewOf(v *value) view { return viewWithin(v, mostViewed) }

func viewWithin(v *value, depth int) view {
	own := view{v, 0, v.dims, rowMajor(v.dims)}
	o := v.computedBy()
	if o == nil || depth == 0 || len(o.in) == 0 || !isFloat(o.in[0], v) || o.relu || o.then != nil {
		return own
	}
	p := o.path()
	if p.viewed == nil {
		return own
	}
	if w, ok := p.viewed(o, v, viewWithin(o.in[0], depth-1)); ok {
		return w
	}
	return own
}

// permuted is a view of all axes in another order.
func permuted(o *op, v *value, in view) (view, bool) {
	w := view{in.base, in.offset, v.dims, make([]int, len(v.dims))}
	for i, p := range permutation(o) {
		w.strides[i] = in.strides[p]
	}
	return w, true
}

// partOf is a view of one part of a Split.
func partOf(o *op, v *value, in view) (view, bool) {
	axis, ok := axisOf(o, v)
	w := view{in.base, in.offset, v.dims, in.strides}
	for _, part := range o.out {
		if part == nil || !ok {
			return w, false
		}
		if part == v {
			return w, true
		}
		w.offset += int(part.dims[axis]) * in.strides[axis]
	}
	return w, false
}

// gathered is a view of one index of an axis, which is gone.
func gathered(o *op, v *value, in view) (view, bool) {
	axis, ok := axisOf(o, o.in[0])
	if !ok || len(v.dims) != len(in.dims)-1 {
		return in, false
	}
	index, ok := indicesOf(o.in[1], in.dims[axis])
	if !ok || len(index) != 1 {
		return in, false
	}
	strides := slices.Delete(slices.Clone(in.strides), axis, axis+1)
	return view{in.base, in.offset + index[0]*in.strides[axis], v.dims, strides}, true
}

// sliced is a view of a Slice with constant bounds and steps forward.
func sliced(o *op, v *value, in view) (view, bool) {
	given, computed := o.constants()
	start, step, _, ok := ops.ResolveSlice(o.node, in.dims, given, computed)
	if !ok || slices.Min(step) < 1 {
		return in, false
	}
	w := view{in.base, in.offset, v.dims, slices.Clone(in.strides)}
	for i := range w.strides {
		w.offset += int(start[i]) * w.strides[i]
		w.strides[i] *= int(step[i])
	}
	return w, true
}

// reshaped gives a view other dims, where its strides allow it: axes that are joined
// follow one another in memory.
func reshaped(_ *op, v *value, in view) (view, bool) {
	w := view{in.base, in.offset, v.dims, make([]int, len(v.dims))}
	from, to := 0, 0
	for to < len(v.dims) || from < len(in.dims) {
		first, firstIn := to, from
		have, want := int64(1), int64(1)
		if from < len(in.dims) {
			have = in.dims[from]
			from++
		}
		if to < len(v.dims) {
			want = v.dims[to]
			to++
		}
		for have != want {
			if have < want && from < len(in.dims) {
				have *= in.dims[from]
				from++
			} else if have > want && to < len(v.dims) {
				want *= v.dims[to]
				to++
			} else {
				return in, false
			}
		}
		step, ok := joinedStride(in.dims[firstIn:from], in.strides[firstIn:from])
		if !ok {
			return in, false
		}
		for i := to - 1; i >= first; i-- {
			w.strides[i] = step
			step *= int(v.dims[i])
		}
	}
	return w, true
}

// joinedStride is the stride of axes walked as one.
func joinedStride(dims []int64, strides []int) (step int, ok bool) {
	next, step := 0, 0
	for i := len(dims) - 1; i >= 0; i-- {
		if dims[i] == 1 {
			continue
		}
		if next == 0 {
			step = strides[i]
		} else if strides[i] != next {
			return 0, false
		}
		next = strides[i] * int(dims[i])
	}
	return step, true
}

// offsets are where the matrices of the last two axes begin, for the leading axes of result.
func (w view) offsets(result []int64) []int {
	count := int64(1)
	for _, d := range result {
		count *= d
	}
	lead := len(w.dims) - 2
	out := make([]int, count)
	for i := range out {
		rest, at := int64(i), w.offset
		for axis := len(result) - 1; axis >= 0; axis-- {
			index := rest % result[axis]
			rest /= result[axis]
			if own := axis - len(result) + lead; own >= 0 && w.dims[own] != 1 {
				at += int(index) * w.strides[own]
			}
		}
		out[i] = at
	}
	return out
}

// stride is the distance of neighbors along an axis counted from the end; 1 where there are none.
func (w view) stride(fromEnd int) int {
	axis := len(w.dims) - fromEnd
	if w.dims[axis] == 1 {
		return 1
	}
	return w.strides[axis]
}
