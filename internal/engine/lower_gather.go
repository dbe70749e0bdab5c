package engine

import (
	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/onnxio"
)

// gather lowers Gather with constant indices of plain values: runs of what lies behind the axis are copied.
func (l *lowering) gather(o *op) (bool, error) {
	x, y := o.in[0], o.out[0]
	axis := int(o.node.Int("axis", 0))
	if axis < 0 {
		axis += len(x.dims)
	}
	if !words(x, y) || axis < 0 || axis >= len(x.dims) {
		return false, nil
	}
	indices, ok := indicesOf(o.in[1], x.dims[axis])
	if !ok {
		return false, nil
	}
	inner := 1
	for _, d := range x.dims[axis+1:] {
		inner *= int(d)
	}
	size, many := int(x.dims[axis]), len(indices)
	rows := int(y.size()) / inner
	l.rows("gather", rows, inner, []*value{x, y}, func() func(lo, hi int) {
		to, from := y.f(), x.f()
		return func(lo, hi int) {
			for r := lo; r < hi; r++ {
				at := (r/many*size + indices[r%many]) * inner
				kernels.Copy(to[r*inner:][:inner], from[at:])
			}
		}
	})
	return true, nil
}

// indicesOf are constant indices below size, counted from the front; ok is false where they are not known or
// one lies outside, which the reference kernel reports.
func indicesOf(v *value, size int64) (indices []int, ok bool) {
	if v == nil || v.kind != constant {
		return nil, false
	}
	var list []int64
	switch v.konst.Type {
	case onnxio.Int64:
		list = onnxio.Data[int64](v.konst)
	case onnxio.Int32:
		for _, i := range onnxio.Data[int32](v.konst) {
			list = append(list, int64(i))
		}
	}
	for _, i := range list {
		if i < 0 {
			i += size
		}
		if i < 0 || i >= size {
			return nil, false
		}
		indices = append(indices, int(i))
	}
	return indices, len(indices) > 0
}
