package kernels

import "fmt"

// axes are the axes of a loop nest over plain arrays: sizes, and for each array the distance of neighbors in
// floats, 0 where an axis is broadcast.
type axes struct {
	sizes   []int
	strides [][]int // of each array
}

// collapse drops axes of size 1 and joins neighbors that every array walks as one.
func (a axes) collapse() axes {
	c := axes{strides: make([][]int, len(a.strides))}
	for i, size := range a.sizes {
		if size == 1 {
			continue
		}
		last := len(c.sizes) - 1
		joined := last >= 0
		for k := range a.strides {
			joined = joined && c.strides[k][last] == size*a.strides[k][i]
		}
		if joined {
			c.sizes[last] *= size
		} else {
			c.sizes = append(c.sizes, size)
		}
		for k, s := range a.strides {
			if joined {
				c.strides[k][last] = s[i]
			} else {
				c.strides[k] = append(c.strides[k], s[i])
			}
		}
	}
	return c
}

// without removes axis i.
func (a axes) without(i int) axes {
	c := axes{sizes: omit(a.sizes, i)}
	for _, s := range a.strides {
		c.strides = append(c.strides, omit(s, i))
	}
	return c
}

func omit(x []int, i int) []int { return append(append([]int{}, x[:i]...), x[i+1:]...) }

// count is the number of points.
func (a axes) count() int {
	n := 1
	for _, size := range a.sizes {
		n *= size
	}
	return n
}

// maxAxes bounds the axes of a plan after collapsing.
const maxAxes = 8

// walk calls f with the offsets, of up to three arrays, of points lo to hi in row-major order.
func (a *axes) walk(lo, hi int, f func(offsets [3]int)) {
	var index [maxAxes]int
	var offsets [3]int
	rest := lo
	for i := len(a.sizes) - 1; i >= 0; i-- {
		index[i] = rest % a.sizes[i]
		rest /= a.sizes[i]
		for k, s := range a.strides {
			offsets[k] += index[i] * s[i]
		}
	}
	for range hi - lo {
		f(offsets)
		for i := len(a.sizes) - 1; i >= 0; i-- {
			index[i]++
			for k, s := range a.strides {
				offsets[k] += s[i]
			}
			if index[i] < a.sizes[i] {
				break
			}
			for k, s := range a.strides {
				offsets[k] -= index[i] * s[i]
			}
			index[i] = 0
		}
	}
}

func (a axes) valid() error {
	if len(a.sizes) > maxAxes {
		return fmt.Errorf("kernels: %d axes that do not join, at most %d", len(a.sizes), maxAxes)
	}
	for _, size := range a.sizes {
		if size <= 0 {
			return fmt.Errorf("kernels: empty axes %v", a.sizes)
		}
	}
	return nil
}

// strides are those of a row-major array.
func strides(dims []int) []int {
	s, n := make([]int, len(dims)), 1
	for i := len(dims) - 1; i >= 0; i-- {
		s[i] = n
		n *= dims[i]
	}
	return s
}

// broadcastStrides are those of an array of the given dims over a result of the given rank and dims.
func broadcastStrides(result, dims []int) ([]int, error) {
	s := make([]int, len(result))
	own := strides(dims)
	shift := len(result) - len(dims)
	for i := range dims {
		switch {
		case shift < 0 || dims[i] != 1 && dims[i] != result[shift+i]:
			return nil, fmt.Errorf("kernels: cannot broadcast %v to %v", dims, result)
		case dims[i] != 1:
			s[shift+i] = own[i]
		}
	}
	return s, nil
}

// runs cuts work of many runs of a length into chunks of about flatFloats floats:
// several runs, or parts of one.
type runs struct{ many, length, per, parts int }

func newRuns(many, length int) runs {
	r := runs{many: many, length: length, per: max(1, flatFloats/max(1, length)), parts: 1}
	if r.per == 1 {
		r.parts = (length + flatFloats - 1) / flatFloats
	}
	return r
}

func (r runs) chunks() int { return (r.many + r.per - 1) / r.per * r.parts }

// share is the runs lo to hi, and of each the floats from to to, of a chunk.
func (r runs) share(chunk int) (lo, hi, from, to int) {
	lo = chunk / r.parts * r.per
	from, to = span(r.length, chunk%r.parts, r.parts)
	return lo, min(r.many, lo+r.per), from, to
}

// Binary is a planned operation on plain arrays with broadcasting.
type Binary struct {
	op     Operation
	outer  axes // y, a, b
	inner  [3]int
	length int
	runs   runs
}

// NewBinary plans y = a op b for arrays of the given dims, those of a and b broadcast to
// those of y, from the right.
func NewBinary(op Operation, y, a, b []int) (*Binary, error) {
	all := axes{sizes: y, strides: [][]int{strides(y)}}
	for _, dims := range [][]int{a, b} {
		s, err := broadcastStrides(y, dims)
		if err != nil {
			return nil, err
		}
		all.strides = append(all.strides, s)
	}
	k := &Binary{op: op, outer: all.collapse(), length: 1}
	if last := len(k.outer.sizes) - 1; last >= 0 {
		k.length = k.outer.sizes[last]
		for i, s := range k.outer.strides {
			k.inner[i] = s[last]
		}
		k.outer = k.outer.without(last)
	}
	if err := k.outer.valid(); err != nil || k.length <= 0 {
		return nil, fmt.Errorf("kernels: operation on %v and %v: %w", a, b, err)
	}
	if _, ok := op.Swapped(); k.inner[1] == 0 && k.inner[2] != 0 && !ok {
		return nil, fmt.Errorf("kernels: operation %d with a broadcast first operand", op)
	}
	k.runs = newRuns(k.outer.count(), k.length)
	return k, nil
}

// Chunks is the number of chunks of Run.
func (k *Binary) Chunks() int { return k.runs.chunks() }

// Run computes a part of y; y may be an operand of its shape.
func (k *Binary) Run(chunk int, y, a, b []float32) {
	lo, hi, from, to := k.runs.share(chunk)
	k.outer.walk(lo, hi, func(at [3]int) {
		out := y[at[0]+from : at[0]+to]
		switch {
		case k.inner[1] != 0 && k.inner[2] != 0:
			k.op.Pair(out, a[at[1]+from:], b[at[2]+from:])
		case k.inner[2] != 0:
			swapped, _ := k.op.Swapped()
			swapped.Scalar(out, b[at[2]+from:][:len(out)], a[at[1]])
		case k.inner[1] != 0:
			k.op.Scalar(out, a[at[1]+from:][:len(out)], b[at[2]])
		default:
			fill(out, k.op.scalar(a[at[1]], b[at[2]]))
		}
	})
}

// StridedCopy is a planned copy between plain arrays that are walked in some strides: a slice, a piece of a
// concatenation or the inside of a padding, and every transposition.
type StridedCopy struct {
	outer             axes // of dst and src
	rows, cols        int  // of a matrix that is turned; cols is the length of a run where rows is 0
	dstStep, srcStep  int  // between neighbors of a run
	dstWidth, srcWide int  // strides of the turned matrix
	runs              runs
}

// turnedColumns is the number of columns of a tile that is turned: their lines of the
// destination stay in the cache.
const turnedColumns = 256

// NewStridedCopy plans dst[sum of i*dstStrides] = src[sum of i*srcStrides] for all indices i below sizes.
func NewStridedCopy(sizes, dstStrides, srcStrides []int) (*StridedCopy, error) {
	if len(dstStrides) != len(sizes) || len(srcStrides) != len(sizes) {
		return nil, fmt.Errorf("kernels: copy of %v with strides %v and %v", sizes, dstStrides, srcStrides)
	}
	a := axes{sizes, [][]int{dstStrides, srcStrides}}.collapse()
	k := &StridedCopy{outer: a, cols: 1, dstStep: 1, srcStep: 1}
	dst, src := unitAxis(a, 0), unitAxis(a, 1)
	switch last := len(a.sizes) - 1; {
	case last < 0:
	case dst >= 0 && src >= 0 && dst != src:
		k.rows, k.cols = a.sizes[dst], a.sizes[src]
		k.dstWidth, k.srcWide = a.strides[0][src], a.strides[1][dst]
		k.outer = a.without(max(dst, src)).without(min(dst, src))
	default:
		k.cols, k.dstStep, k.srcStep = a.sizes[last], a.strides[0][last], a.strides[1][last]
		k.outer = a.without(last)
	}
	if err := k.outer.valid(); err != nil || k.cols <= 0 {
		return nil, fmt.Errorf("kernels: copy of %v: %w", sizes, err)
	}
	k.runs = newRuns(k.outer.count(), max(1, k.rows)*k.cols)
	if k.rows > 0 && k.runs.parts > 1 {
		k.runs.parts = (k.cols + turnedColumns - 1) / turnedColumns
	}
	return k, nil
}

// unitAxis is the axis whose neighbors lie side by side in array k, -1 without one.
func unitAxis(a axes, k int) int {
	for i, s := range a.strides[k] {
		if s == 1 {
			return i
		}
	}
	return -1
}

// NewPermute plans the transposition of a row-major array: axis i of the result is
// axis perm[i] of the source.
func NewPermute(dims, perm []int) (*StridedCopy, error) {
	if len(perm) != len(dims) {
		return nil, fmt.Errorf("kernels: permutation %v of %v", perm, dims)
	}
	own := strides(dims)
	sizes, from := make([]int, len(dims)), make([]int, len(dims))
	seen := make([]bool, len(dims))
	for i, p := range perm {
		if p < 0 || p >= len(dims) || seen[p] {
			return nil, fmt.Errorf("kernels: permutation %v of %v", perm, dims)
		}
		seen[p] = true
		sizes[i], from[i] = dims[p], own[p]
	}
	return NewStridedCopy(sizes, strides(sizes), from)
}

// Chunks is the number of chunks of Run.
func (k *StridedCopy) Chunks() int { return k.runs.chunks() }

// Run copies a part.
func (k *StridedCopy) Run(chunk int, dst, src []float32) {
	lo, hi, _, _ := k.runs.share(chunk)
	from, to := span(k.cols, chunk%k.runs.parts, k.runs.parts)
	k.outer.walk(lo, hi, func(at [3]int) {
		if k.rows > 0 {
			for c := from; c < to; c += turnedColumns {
				turn(dst[at[0]+c*k.dstWidth:], k.dstWidth, src[at[1]+c:], k.srcWide, k.rows,
					min(turnedColumns, to-c))
			}
			return
		}
		out, in := at[0]+from*k.dstStep, at[1]+from*k.srcStep
		if k.dstStep == 1 && k.srcStep == 1 {
			copy(dst[out:out+to-from], src[in:])
			return
		}
		for range to - from {
			dst[out] = src[in]
			out, in = out+k.dstStep, in+k.srcStep
		}
	})
}
