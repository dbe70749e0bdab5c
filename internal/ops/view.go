package ops

import (
	"github.com/cnnkit/cnnkit/onnxio"
)

// A strided view is dims with the distance, in elements, between neighbours along each;
// 0 repeats (broadcasting).

// strides are those of a contiguous row-major tensor.
func strides(dims []int64) []int64 {
	out := make([]int64, len(dims))
	n := int64(1)
	for i := len(dims) - 1; i >= 0; i-- {
		out[i] = n
		n *= dims[i]
	}
	return out
}

// spread is the strides of a tensor of shape dims seen as the broadcast shape to.
func spread(dims, to []int64) []int64 {
	out, s := make([]int64, len(to)), strides(dims)
	for i := range dims {
		if dims[i] != 1 {
			out[len(to)-len(dims)+i] = s[i]
		}
	}
	return out
}

// broadcast is the common shape of a and b; ok is false when there is none.
func broadcast(a, b []int64) (out []int64, ok bool) {
	out = make([]int64, max(len(a), len(b)))
	for i := range out {
		d, e := int64(1), int64(1)
		if j := i - len(out) + len(a); j >= 0 {
			d = a[j]
		}
		if j := i - len(out) + len(b); j >= 0 {
			e = b[j]
		}
		switch {
		case d == e, e == 1:
			out[i] = d
		case d == 1:
			out[i] = e
		default:
			return nil, false
		}
	}
	return out, true
}

// broadcastDims is broadcast with symbolic dimensions.
func broadcastDims(a, b []onnxio.Dim) (out []onnxio.Dim, ok bool) {
	out = make([]onnxio.Dim, max(len(a), len(b)))
	for i := range out {
		d, e := knownDim(1), knownDim(1)
		if j := i - len(out) + len(a); j >= 0 {
			d = a[j]
		}
		if j := i - len(out) + len(b); j >= 0 {
			e = b[j]
		}
		switch {
		case d.Known() && d.Value == 1:
			out[i] = e
		case e.Known() && e.Value == 1:
			out[i] = d
		case !agree(d, e):
			return nil, false
		case d.Known():
			out[i] = d
		case e.Known(), d.Param != "" && d.Param == e.Param:
			out[i] = e
		default:
			out[i] = unknownDim
		}
	}
	return out, true
}

// walk calls f for every row of the last dimension, in order, with the offsets at which the row begins in
// each view. Rank 0 is one row of one element.
func walk(dims []int64, views [][]int64, f func(n int64, at []int64)) {
	at := make([]int64, len(views))
	if len(dims) == 0 {
		f(1, at)
		return
	}
	for _, d := range dims {
		if d == 0 {
			return
		}
	}
	last := len(dims) - 1
	index := make([]int64, last)
	for {
		f(dims[last], at)
		i := last - 1
		for ; i >= 0; i-- {
			index[i]++
			for v, s := range views {
				at[v] += s[i]
			}
			if index[i] < dims[i] {
				break
			}
			for v, s := range views {
				at[v] -= s[i] * dims[i]
			}
			index[i] = 0
		}
		if i < 0 {
			return
		}
	}
}

// move copies a strided view of src to a strided view of dst; es is the element size in bytes.
func move(dst, src []byte, es int64, dims, dstStrides, srcStrides []int64, dstAt, srcAt int64) {
	ds, ss := int64(1), int64(1)
	if n := len(dims); n > 0 {
		ds, ss = dstStrides[n-1], srcStrides[n-1]
	}
	walk(dims, [][]int64{dstStrides, srcStrides}, func(n int64, at []int64) {
		d, s := (dstAt+at[0])*es, (srcAt+at[1])*es
		if ds == 1 && ss == 1 {
			copy(dst[d:d+n*es], src[s:s+n*es])
			return
		}
		for range n {
			copy(dst[d:d+es], src[s:s+es])
			d, s = d+ds*es, s+ss*es
		}
	})
}

// elementSize is the size in bytes of an element that has whole bytes; an error for strings and packed types,
// which the data-moving kernels take by way of moving alone.
func elementSize(c *Eval, t onnxio.DataType) (int64, error) {
	if b := t.Bits(); b >= 8 {
		return int64(b / 8), nil
	}
	return 0, &onnxio.UnsupportedError{Op: c.Node.OpType, Node: c.Node.Name,
		Reason: "element type " + t.String()}
}

// axisOf brings an axis attribute into [0, rank).
func axisOf(n *Node, axis int64, rank int) (int, error) {
	if axis < 0 {
		axis += int64(rank)
	}
	if axis < 0 || axis >= int64(rank) {
		return 0, n.Errorf("axis is out of range for rank %d", rank)
	}
	return int(axis), nil
}

// intsOf reads an integer tensor of any integer type.
func intsOf(t *onnxio.Tensor) ([]int64, bool) {
	switch {
	case t == nil || !hasData(t):
		return nil, false
	case t.Type == onnxio.Int64:
		return onnxio.Data[int64](t), true
	case t.Type == onnxio.Int32:
		out := make([]int64, t.Size())
		for i, v := range onnxio.Data[int32](t) {
			out[i] = int64(v)
		}
		return out, true
	}
	return nil, false
}

// listOf is an integer list that older versions give as an attribute and newer ones as input i; ok is false
// when it is absent or not yet known.
func (c *Infer) listOf(attr string, i int) (list []int64, present, known bool) {
	if a := c.Node.Attr(attr); a != nil {
		return a.Ints, true, true
	}
	if !c.Has(i) {
		return nil, false, true
	}
	list, known = intsOf(c.In[i].Const)
	return list, true, known
}

// listOf is the same while running.
func (c *Eval) listOf(attr string, i int) (list []int64, present bool) {
	if a := c.Node.Attr(attr); a != nil {
		return a.Ints, true
	}
	if !c.Has(i) {
		return nil, false
	}
	list, _ = intsOf(c.In[i])
	return list, true
}

// numeric are the element types that arithmetic is generic over.
type numeric interface {
	~float32 | ~float64 | ~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64
}
