package engine

import (
	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
)

// rowChunk is about the number of floats of a chunk of rows.
const rowChunk = 4096

// rows appends a step over the rows of plain values, cols floats each, cut into chunks.
func (l *lowering) rows(kernel string, count, cols int, vs []*value, bind func() func(lo, hi int)) {
	per := max(1, rowChunk/max(cols, 1))
	l.add(kernel, (count+per-1)/per, l.all(vs...), func() func(int, int) {
		f := bind()
		return func(chunk, _ int) { f(chunk*per, min(count, (chunk+1)*per)) }
	})
}

// softmaxAxis splits the shape of a Softmax, LogSoftmax or a gradient of one around its axis.
func softmaxAxis(o *op) (outer, count, inner int, ok bool) {
	dims := o.in[0].dims
	def, flattens := int64(-1), o.node.Domain == "" && o.node.Since < 13
	if o.node.Domain == ops.GradDomain {
		flattens = o.node.Int("flatten", 0) != 0
	}
	if flattens {
		def = 1 // and the axes from it on are one
	}
	axis := int(o.node.Int("axis", def))
	if axis < 0 {
		axis += len(dims)
	}
	if axis < 0 || axis >= len(dims) || !isFloat(o.in...) {
		return 0, 0, 0, false
	}
	size := func(d []int64) int {
		n := int64(1)
		for _, v := range d {
			n *= v
		}
		return int(n)
	}
	if flattens {
		return size(dims[:axis]), size(dims[axis:]), 1, true
	}
	return size(dims[:axis]), int(dims[axis]), size(dims[axis+1:]), true
}

// softmax and logSoftmax lower what they are named for, over any axis.
func (l *lowering) softmax(o *op) (bool, error)    { return l.softmaxOf(o, false) }
func (l *lowering) logSoftmax(o *op) (bool, error) { return l.softmaxOf(o, true) }

func (l *lowering) softmaxOf(o *op, logarithm bool) (bool, error) {
	outer, count, inner, ok := softmaxAxis(o)
	if !ok {
		return false, nil
	}
	x, y := o.in[0], o.out[0]
	l.inPlace(o, y, x)
	name := "softmax " + kernels.Level()
	if inner == 1 {
		l.rows(name, outer, count, []*value{x, y}, func() func(lo, hi int) {
			to, from := y.plainFloats(), x.plainFloats()
			return func(lo, hi int) {
				part, in := to[lo*count:hi*count], from[lo*count:hi*count]
				if logarithm {
					kernels.LogSoftmaxRows(part, in, hi-lo, count)
				} else {
					kernels.SoftmaxRows(part, in, hi-lo, count)
				}
			}
		})
		return true, nil
	}
	const wide = 512 // columns of a chunk
	parts := (inner + wide - 1) / wide
	l.add(name, outer*parts, l.all(x, y), func() func(int, int) {
		to, from := y.plainFloats(), x.plainFloats()
		return func(chunk, _ int) {
			at, lo := chunk/parts*count*inner, chunk%parts*wide
			kernels.SoftmaxColumns(to[at:], from[at:], count, inner, lo, min(inner, lo+wide), logarithm)
		}
	})
	return true, nil
}

// softmaxGrad and logSoftmaxGrad lower the gradients of (dy, y), over the last axis.
func (l *lowering) softmaxGrad(o *op) (bool, error) { return l.softmaxGradOf(o, kernels.SoftmaxGrad) }
func (l *lowering) logSoftmaxGrad(o *op) (bool, error) {
	return l.softmaxGradOf(o, kernels.LogSoftmaxGrad)
}

func (l *lowering) softmaxGradOf(o *op, grad func(dx, dy, y []float32)) (bool, error) {
	outer, count, inner, ok := softmaxAxis(o)
	if !ok || inner != 1 {
		return false, nil
	}
	dx, dy, y := o.out[0], o.in[0], o.in[1]
	l.inPlace(o, dx, dy, y)
	l.rows("softmax backward "+kernels.Level(), outer, count, []*value{dx, dy, y}, func() func(lo, hi int) {
		to, from, out := dx.plainFloats(), dy.plainFloats(), y.plainFloats()
		return func(lo, hi int) {
			for r := lo; r < hi; r++ {
				grad(to[r*count:][:count], from[r*count:][:count], out[r*count:][:count])
			}
		}
	})
	return true, nil
}

// layerNorm and rmsNorm lower LayerNormalization and RMSNormalization.
func (l *lowering) layerNorm(o *op) (bool, error) { return l.rowNormal(o, false) }
func (l *lowering) rmsNorm(o *op) (bool, error)   { return l.rowNormal(o, true) }

// rowNormal lowers a normalization over trailing axes, scale and bias of their shape.
func (l *lowering) rowNormal(o *op, rms bool) (bool, error) {
	x, y, scale := o.in[0], o.out[0], o.in[1]
	var bias *value
	if len(o.in) > 2 && !rms {
		bias = o.in[2]
	}
	axis := int(o.node.Int("axis", -1))
	if axis < 0 {
		axis += len(x.dims)
	}
	if axis < 0 || axis >= len(x.dims) || !isFloat(x, scale) || bias != nil && !isFloat(bias) {
		return false, nil
	}
	cols := 1
	for _, d := range x.dims[axis:] {
		cols *= int(d)
	}
	count := int(x.size()) / cols
	if int(scale.size()) != cols || bias != nil && int(bias.size()) != cols {
		return false, nil
	}
	stats := make([]*value, 2)
	copy(stats, o.out[1:])
	for _, s := range stats {
		if s != nil && (!isFloat(s) || rms) {
			return false, nil
		}
	}
	l.inPlace(o, y, x)
	name, eps := "row normalization "+kernels.Level(), o.node.Float("epsilon", 1e-5)
	l.rows(name, count, cols, []*value{x, y, scale, bias, stats[0], stats[1]}, func() func(lo, hi int) {
		to, from, by, plus, means, invs := y.plainFloats(), x.plainFloats(), scale.f(), bias.f(),
			stats[0].f(), stats[1].f()
		if plus != nil {
			plus = plus[:cols]
		}
		return func(lo, hi int) {
			if !rms && means == nil && invs == nil {
				kernels.LayerNormRows(to[lo*cols:hi*cols], from[lo*cols:hi*cols], by, plus, hi-lo, cols, eps)
				return
			}
			for r := lo; r < hi; r++ {
				out, in := to[r*cols:][:cols], from[r*cols:][:cols]
				if rms {
					kernels.RMSNorm(out, in, by[:cols], eps)
					continue
				}
				mean, inv := kernels.LayerNorm(out, in, by[:cols], plus, eps)
				if means != nil {
					means[r] = mean
				}
				if invs != nil {
					invs[r] = inv
				}
			}
		}
	})
	return true, nil
}
