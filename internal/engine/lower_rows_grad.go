package engine

import (
	"github.com/cnnkit/cnnkit/internal/kernels"
)

// mapNorm reports whether a RowNormalizationGrad is that of a GroupNormalization or InstanceNormalization of
// feature maps with a scale for each channel, and of how many groups.
func mapNorm(o *op) (groups int, ok bool) {
	x := o.in[1]
	if !x.isFloat4() || !isFloat(o.in...) || o.node.Int("rms", 0) != 0 || o.in[2].size() != x.dims[1] {
		return 0, false
	}
	plane := x.dims[2] * x.dims[3]
	size := o.node.Int("size", 0)
	if o.node.Int("inner", 0) != plane || o.node.Int("count", 0) != x.dims[1] || size <= 0 ||
		x.dims[1]*plane%size != 0 {
		return 0, false
	}
	return int(x.dims[1] * plane / size), size%plane == 0
}

func isMapNorm(o *op) bool {
	_, ok := mapNorm(o)
	return ok
}

// rowNormalGrad lowers RowNormalizationGrad(dy, x, scale), which gives dx, dscale and dbias: of maps in
// blocks by groups, of plain values by rows.
func (l *lowering) rowNormalGrad(o *op) (bool, error) {
	if o.in[1].layout != nil {
		return true, l.groupNormGrad(o)
	}
	dy, x, scale := o.in[0], o.in[1], o.in[2]
	cols, rms, eps := int(o.node.Int("size", 0)), o.node.Int("rms", 0) != 0, o.node.Float("epsilon", 1e-5)
	outs := make([]*value, 3)
	copy(outs, o.out)
	dx, dscale, dbias := outs[0], outs[1], outs[2]
	count := int(o.node.Int("count", 0))
	if !isFloat(dy, x, scale) || o.node.Int("inner", 0) != 1 || cols <= 0 || int(scale.size()) != cols ||
		count != cols {
		return false, nil
	}
	rows := int(x.size()) / cols
	chunks := max(1, min(16, rows/8)) // each with sums of its own
	per := roundUp(cols)
	sums := l.buffer(2 * per * chunks)
	name, bufs := "row normalization backward "+kernels.Level(), append(l.all(dy, x, scale, dx), sums)
	l.add(name, chunks, bufs, func() func(int, int) {
		from, in, by, to := dy.plainFloats(), x.plainFloats(), scale.plainFloats(), dx.f()
		return func(chunk, _ int) {
			mine := sums.data[2*per*chunk:]
			k := normalRow{scale: by, dscale: mine[:cols], dbias: mine[per:][:cols], rms: rms, eps: eps}
			clear(mine[:2*per])
			for r := rows * chunk / chunks; r < rows*(chunk+1)/chunks; r++ {
				var out []float32
				if to != nil {
					out = to[r*cols:][:cols]
				}
				k.backward(out, from[r*cols:][:cols], in[r*cols:][:cols])
			}
		}
	})
	l.add("reduce", 1, append(l.all(dscale, dbias), sums), func() func(int, int) {
		to := [2][]float32{dscale.f(), dbias.f()}
		return func(int, int) {
			for i, t := range to {
				if t == nil {
					continue
				}
				clear(t[:cols])
				for chunk := range chunks {
					kernels.Add(t[:cols], t[:cols], sums.data[2*per*chunk+i*per:][:cols])
				}
			}
		}
	})
	return true, nil
}

// normalRow is what the gradients of the rows of a normalization share.
type normalRow struct {
	scale, dscale, dbias []float32
	rms                  bool
	eps                  float32
}

// backward computes dx, which may be nil, and adds to the gradients of scale and bias.
func (k *normalRow) backward(dx, dy, x []float32) {
	var mean, inv float32
	if k.rms {
		inv = kernels.RowInverse(x, 0, k.eps)
	} else {
		mean, inv = kernels.RowMoments(x, k.eps)
	}
	kernels.LayerNormWeights(k.dscale, k.dbias, dy, x, mean, inv)
	switch {
	case dx == nil:
	case k.rms:
		kernels.RMSNormGrad(dx, dy, x, k.scale, inv)
	default:
		kernels.LayerNormGrad(dx, dy, x, k.scale, mean, inv)
	}
}

// groupNormGrad lowers the gradient of GroupNormalization or InstanceNormalization of maps in blocks.
func (l *lowering) groupNormGrad(o *op) error {
	dy, x, scale := o.in[0], o.in[1], o.in[2]
	outs := make([]*value, 3)
	copy(outs, o.out)
	groups, _ := mapNorm(o)
	k := kernels.NewGroupNorm(*x.layout, groups)
	scratch, mean, inv := l.buffer(k.Scratch()), l.buffer(k.Groups()), l.buffer(k.Groups())
	eps := o.node.Float("epsilon", 1e-5)
	channels := int(x.dims[1])
	ds, db := l.buffer(channels), l.buffer(channels)
	l.add("group statistics", k.Chunks(), []*buffer{l.of(x), scratch}, func() func(int, int) {
		from := x.f()
		return func(chunk, _ int) { k.Stats(chunk, scratch.data, from) }
	})
	l.add("reduce", 1, []*buffer{scratch, mean, inv}, func() func(int, int) {
		return func(int, int) { k.Reduce(mean.data, inv.data, scratch.data, eps) }
	})
	l.add("group statistics backward", k.Chunks(), append(l.all(dy, x), scratch, mean),
		func() func(int, int) {
			grad, from := dy.f(), x.f()
			return func(chunk, _ int) { k.BackwardStats(chunk, scratch.data, grad, from, mean.data) }
		})
	l.add("reduce", 1, append(l.all(outs[1], outs[2]), scratch, inv, ds, db), func() func(int, int) {
		dscale, dbias := outs[1].f(), outs[2].f()
		return func(int, int) {
			k.BackwardWeights(ds.data, db.data, scratch.data, inv.data)
			copy(dscale, ds.data[:channels])
			copy(dbias, db.data[:channels])
		}
	})
	if outs[0] == nil {
		return nil
	}
	l.add("normalize backward", k.Chunks(), append(l.all(dy, x, scale, outs[0]), scratch, mean, inv),
		func() func(int, int) {
			dx, grad, from, by := outs[0].f(), dy.f(), x.f(), scale.f()
			return func(chunk, _ int) {
				k.BackwardData(chunk, dx, grad, from, mean.data, inv.data, by, scratch.data)
			}
		})
	return nil
}

// haloNormGrad gives dy, x and dx one layout.
func haloNormGrad(l *layouts, o *op) { l.same(o.in[0], o.in[1], o.out[0]) }
