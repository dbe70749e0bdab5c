package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// A resizing is a Resize or its gradient: what each place of the output is made of.
type resizing func(o *op) (taps [][][]ops.ResizeTap, ok bool)

func resizes(o *op) ([][][]ops.ResizeTap, bool) {
	in, computed := o.constants()
	dims := slices.Clone(o.in[0].dims)
	if o.portions > 0 { // sizes are of the batch
		dims[0] *= int64(o.portions)
	}
	return ops.ResolveResize(o.node, dims, in, computed)
}

func resizesBack(o *op) ([][][]ops.ResizeTap, bool) {
	in, computed := o.constants()
	return ops.ResolveResizeGrad(o.node, in, computed)
}

// taps are the weighted sums of a feature map along H and W; ok is false for what else is resized.
func (r resizing) taps(o *op) (rows, columns kernels.Taps, ok bool) {
	x, y := o.in[0], o.out[0]
	if !x.isFloat4() || !y.isFloat4() || x.size() == 0 || y.size() == 0 {
		return rows, columns, false
	}
	taps, ok := r(o)
	if !ok || taps[0] != nil || taps[1] != nil {
		return rows, columns, false
	}
	return tapsOf(taps[2], int(x.dims[2])), tapsOf(taps[3], int(x.dims[3])), true
}

// tapsOf is one axis as the kernel reads it: as many taps everywhere, those that are missing of weight 0.
// Taps that have weight 0 stay: NaN times 0 is NaN.
func tapsOf(places [][]ops.ResizeTap, size int) kernels.Taps {
	t := kernels.Taps{Count: 1}
	if places == nil {
		for i := range size {
			t.Index, t.Weights = append(t.Index, i), append(t.Weights, 1)
		}
		return t
	}
	for _, p := range places {
		t.Count = max(t.Count, len(p))
	}
	for _, p := range places {
		for k := range t.Count {
			var tap ops.ResizeTap
			if k < len(p) {
				tap = p[k]
			} else if len(p) > 0 {
				tap.At = p[0].At
			}
			t.Index, t.Weights = append(t.Index, int(tap.At)), append(t.Weights, float32(tap.Weight))
		}
	}
	return t
}

// fast reports whether package kernels resizes it.
func (r resizing) fast(o *op) bool {
	_, _, ok := r.taps(o)
	return ok
}

// lower lowers the resize of a blocked map.
func (r resizing) lower(l *lowering, o *op) (bool, error) {
	rows, columns, ok := r.taps(o)
	x, y := o.in[0], o.out[0]
	if !ok || x.layout == nil || y.layout == nil {
		return false, nil
	}
	k := kernels.NewResample(*x.layout, *y.layout, rows, columns)
	scratch, per := l.perWorker(k.Scratch())
	l.add("resize "+kernels.Level(), k.Chunks(), append(l.all(x, y), scratch), func() func(int, int) {
		to, from := y.f(), x.f()
		return func(chunk, worker int) { k.Run(chunk, scratch.data[worker*per:][:per], to, from) }
	})
	return true, nil
}

// fastLRN reports whether package kernels runs an LRN. Its power is no 1 where beta
// is 0 and the sum no number.
func fastLRN(o *op) bool {
	return o.in[0].isFloat4() && o.in[0].size() > 0 && o.node.Int("size", 0) > 0 &&
		o.node.Float("beta", 0.75) != 0
}

// lrn lowers LRN of a blocked map.
func (l *lowering) lrn(o *op) (bool, error) {
	x, y, n := o.in[0], o.out[0], o.node
	if y.layout == nil {
		return false, nil
	}
	size := int(min(n.Int("size", 1), 2*x.dims[1]+1))
	alpha := n.Float("alpha", 1e-4) * (float32(size) / float32(n.Int("size", 1)))
	k := kernels.NewLRN(*y.layout, size, alpha, n.Float("beta", 0.75), n.Float("bias", 1))
	scratch, per := l.perWorker(k.Scratch())
	l.add("lrn "+kernels.Level(), k.Chunks(), append(l.all(x, y), scratch), func() func(int, int) {
		to, from := y.f(), x.f()
		return func(chunk, worker int) { k.Run(chunk, scratch.data[worker*per:][:per], to, from) }
	})
	return true, nil
}

// groupsOf is the number of groups that a normalization of feature maps takes each by itself, 0 where package
// kernels has no kernel. GroupNormalization had one scale for each group before version 21.
func groupsOf(o *op) int64 {
	x := o.in[0]
	if !x.isFloat4() || x.size() == 0 || !isFloat(o.in...) {
		return 0
	}
	channels := x.dims[1]
	for _, v := range o.in[1:] {
		if v.size() != channels {
			return 0
		}
	}
	if o.node.Attr("num_groups") == nil { // InstanceNormalization: each channel is one
		return channels
	}
	groups := o.node.Int("num_groups", 0)
	if o.node.Since < 21 && groups != channels || groups < 1 || channels%groups != 0 {
		return 0
	}
	return groups
}

func fastGroupNorm(o *op) bool { return groupsOf(o) > 0 }

// groupNorm lowers GroupNormalization and InstanceNormalization of a blocked map.
func (l *lowering) groupNorm(o *op) (bool, error) {
	x, y := o.in[0], o.out[0]
	if y.layout == nil {
		return false, nil
	}
	k := kernels.NewGroupNorm(*y.layout, int(groupsOf(o)))
	scratch, mean, inv := l.buffer(k.Scratch()), l.buffer(k.Groups()), l.buffer(k.Groups())
	eps := o.node.Float("epsilon", 1e-5)
	l.add("group statistics", k.Chunks(), []*buffer{l.of(x), scratch}, func() func(int, int) {
		from := x.f()
		return func(chunk, _ int) { k.Stats(chunk, scratch.data, from) }
	})
	l.add("reduce", 1, []*buffer{scratch, mean, inv}, func() func(int, int) {
		return func(int, int) { k.Reduce(mean.data, inv.data, scratch.data, eps) }
	})
	l.add("normalize", k.Chunks(), append(l.all(o.in...), l.of(y), mean, inv), func() func(int, int) {
		to, from, scale, bias := y.f(), x.f(), o.in[1].f(), o.in[2].f()
		return func(chunk, _ int) { k.Normalize(chunk, to, from, mean.data, inv.data, scale, bias) }
	})
	return true, nil
}

// meanOf are the axes of a ReduceMean of float32, counted from the front; nil where they are not known.
func meanOf(o *op) []int64 {
	if !isFloat(o.in[0]) {
		return nil
	}
	axes := o.node.Ints("axes")
	if len(o.in) > 1 && o.in[1] != nil {
		if o.in[1].kind != constant {
			return nil
		}
		axes = onnxio.Data[int64](o.in[1].konst)
	}
	rank, out := int64(len(o.in[0].dims)), []int64{}
	for _, a := range axes {
		if a < 0 {
			a += rank
		}
		out = append(out, a)
	}
	if len(out) == 0 && o.node.Int("noop_with_empty_axes", 0) == 0 {
		for i := range rank {
			out = append(out, i)
		}
	}
	return out
}

// meansMaps reports whether o is the mean of every channel of feature maps.
func meansMaps(o *op) bool {
	axes := meanOf(o)
	both := len(axes) == 2 && min(axes[0], axes[1]) == 2 && max(axes[0], axes[1]) == 3
	return both && o.in[0].isFloat4() && o.in[0].size() > 0
}

// means lowers ReduceMean: of whole maps in blocks, of rows, or of everything.
func (l *lowering) means(o *op) (bool, error) {
	x, y := o.in[0], o.out[0]
	if x.layout != nil {
		k := kernels.NewMapMeans(*x.layout)
		l.add("means", k.Chunks(), l.all(x, y), func() func(int, int) {
			to, from := y.f(), x.f()
			return func(chunk, _ int) { k.Run(chunk, to, from) }
		})
		return true, nil
	}
	if !trailing(o) || y.size() == 1 {
		return l.reduceMean(o)
	}
	cols := int(x.size() / y.size())
	l.rows("means "+kernels.Level(), int(y.size()), cols, []*value{x, y}, func() func(lo, hi int) {
		to, from := y.plainFloats(), x.plainFloats()
		return func(lo, hi int) {
			for r := lo; r < hi; r++ {
				to[r] = float32(kernels.RowSum(from[r*cols:][:cols]) / float64(cols))
			}
		}
	})
	return true, nil
}

// trailing says that the axes that o sums over are the last ones, and that there is something to sum.
func trailing(o *op) bool {
	x, axes := o.in[0], meanOf(o)
	if len(axes) == 0 || x.size() == 0 {
		return false
	}
	for i := range axes {
		if !slices.Contains(axes, int64(len(x.dims)-1-i)) {
			return false
		}
	}
	return true
}

// reduced lowers a reduction of rows.
func reduced(of func(row []float32) float64) func(*lowering, *op) (bool, error) {
	return func(l *lowering, o *op) (bool, error) {
		if !trailing(o) {
			return false, nil
		}
		x, y := o.in[0], o.out[0]
		cols := int(x.size() / y.size())
		l.rows("row sums "+kernels.Level(), int(y.size()), cols, []*value{x, y}, func() func(lo, hi int) {
			to, from := y.plainFloats(), x.plainFloats()
			return func(lo, hi int) {
				for r := lo; r < hi; r++ {
					to[r] = float32(of(from[r*cols:][:cols]))
				}
			}
		})
		return true, nil
	}
}
