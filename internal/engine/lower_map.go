package engine

import (
	"fmt"
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// toBlocked and toPlain lower the layout conversions.
func (l *lowering) toBlocked(o *op) (bool, error) {
	if o.in[0].lines != nil {
		return l.fromBF16(o)
	}
	k := kernels.NewReorder(*o.out[0].layout)
	l.add("to blocked", k.Chunks(), []*buffer{l.of(o.in[0]), l.of(o.out[0])}, func() func(int, int) {
		dst, src := o.out[0].f(), o.in[0].plainFloats()
		return func(chunk, _ int) { k.ToBlocked(chunk, dst, src) }
	})
	return true, nil
}

func (l *lowering) toPlain(o *op) (bool, error) {
	if o.in[0].form() == bytesForm {
		return l.fromBytes(o)
	}
	if o.in[0].lines != nil {
		return l.fromBF16(o)
	}
	k := kernels.NewReorder(*o.in[0].layout)
	l.add("to plain", k.Chunks(), []*buffer{l.of(o.in[0]), l.of(o.out[0])}, func() func(int, int) {
		dst, src := o.out[0].plainFloats(), o.in[0].f()
		return func(chunk, _ int) { k.ToPlain(chunk, dst, src) }
	})
	return true, nil
}

// pool lowers MaxPool, AveragePool, those of whole maps and their gradients.
func (l *lowering) pool(o *op) (bool, error) {
	x, y, w, ok := pool(o)
	if !ok || o.out[0].layout == nil {
		return false, nil
	}
	spec := kernels.PoolSpec{X: *x.layout, Y: *y.layout, DX: *x.layout, DY: *y.layout, KH: w.kh, KW: w.kw,
		StrideH: w.sh, StrideW: w.sw, PadTop: w.top, PadLeft: w.left,
		CountIncludePad: o.node.Int("count_include_pad", 0) == 1}
	kind := *o.path().pool
	if kind.maximum && kind.backward {
		spec.X, spec.Y = *o.in[1].layout, *o.in[2].layout
	}
	k := kernels.NewPool(spec)
	if kind.maximum && kind.backward && k.InPlace() {
		l.inPlace(o, o.out[0], o.in[1])
	}
	bufs := append(l.all(o.in...), l.of(o.out[0]))
	l.add("pool", k.Chunks(), bufs, func() func(int, int) {
		out, in := o.out[0].f(), o.in[0].f()
		switch {
		case kind.maximum && kind.backward:
			x, y := o.in[1].f(), o.in[2].f()
			return func(chunk, _ int) { k.MaxBackward(chunk, out, in, x, y, o.relu) }
		case kind.maximum:
			return func(chunk, _ int) { k.Max(chunk, out, in) }
		case kind.backward:
			return func(chunk, _ int) { k.AverageBackward(chunk, out, in) }
		}
		return func(chunk, _ int) { k.Average(chunk, out, in) }
	})
	return true, nil
}

// batchNorm lowers BatchNormalization: in training statistics first, with the running ones updated in place.
func (l *lowering) batchNorm(o *op) (bool, error) {
	if o.out[0].layout == nil {
		return false, nil
	}
	k := kernels.NewBatchNorm(*o.out[0].layout)
	mean, invstd := l.normStatistics(o, func() (*buffer, func(mean, variance []float32)) {
		return l.batchSums(o, k)
	})
	bufs := append([]*buffer{mean, invstd}, l.all(o.in[0], o.in[1], o.in[2], o.residual, o.out[0])...)
	l.add("normalize", k.Chunks(), bufs, func() func(int, int) {
		y, x, scale, bias, r, relu := o.out[0].f(), o.in[0].f(), o.in[1].f(), o.in[2].f(),
			o.residual.f(), o.relu
		return func(chunk, _ int) { k.Normalize(chunk, y, x, mean.data, invstd.data, scale, bias, r, relu) }
	})
	return true, nil
}

// normStatistics is the mean and the inverse deviation that a BatchNormalization normalizes by: those of the
// batch in training, from what sums adds up, else the running ones.
func (l *lowering) normStatistics(o *op, sums func() (*buffer, func(mean, variance []float32))) (mean,
	invstd *buffer) {
	channels := int(o.in[0].dims[1])
	eps := o.node.Float("epsilon", 1e-5)
	if !training(o) && o.in[3].kind == constant && o.in[4].kind == constant {
		return l.fixedStatistics(o, channels, eps)
	}
	mean, invstd = l.buffer(channels), l.buffer(channels)
	if training(o) {
		scratch, reduce := sums()
		l.batchStatistics(o, scratch, reduce, mean, invstd, eps)
	} else {
		runningMean, variance := l.of(o.in[3]), l.of(o.in[4])
		l.add("inverse deviation", 1, []*buffer{runningMean, variance, mean, invstd}, func() func(int, int) {
			return func(int, int) {
				copy(mean.data[:channels], runningMean.data)
				inverse(invstd.data[:channels], variance.data, eps)
				clearTails(channels, mean.data, invstd.data)
			}
		})
	}
	return mean, invstd
}

// fixedStatistics is normStatistics where the running ones are constants.
func (l *lowering) fixedStatistics(o *op, channels int, eps float32) (mean, invstd *buffer) {
	running, variance := o.in[3].konst, o.in[4].konst
	mean = l.form(running, "vector", roundUp(channels), 1, func(dst []float32, _ int) {
		copy(dst, running.Float32s()[:channels])
	})
	invstd = l.form(variance, fmt.Sprintf("inverse deviation, epsilon %g", eps), roundUp(channels), 1,
		func(dst []float32, _ int) {
			inverse(dst[:channels], variance.Float32s(), eps)
		})
	return mean, invstd
}

func inverse(dst, variance []float32, eps float32) {
	for i := range dst {
		dst[i] = float32(1 / math.Sqrt(float64(variance[i])+float64(eps)))
	}
}

// batchSums gives the partial sums of a batch's statistics, which the convolution before has left or a step
// of their own adds up, and what reduces them.
func (l *lowering) batchSums(o *op, k *kernels.BatchNorm) (*buffer, func(mean, variance []float32)) {
	x, channels := l.of(o.in[0]), int(o.in[0].dims[1])
	if s := o.in[0].stats; s != nil {
		return s.buf, func(mean, variance []float32) { s.Reduce(mean[:channels], variance, s.buf.data) }
	}
	scratch := l.buffer(k.StatsScratch())
	l.add("batch statistics", k.StatsChunks(), []*buffer{x, scratch}, func() func(int, int) {
		return func(chunk, _ int) { k.Stats(chunk, scratch.data, x.data) }
	})
	return scratch, func(mean, variance []float32) { k.StatsReduce(mean, variance, scratch.data) }
}

// batchStatistics computes mean and inverse deviation over the batch from partial sums, saves them where the
// gradient wants them and moves the running statistics: running = momentum*running + (1-momentum)*batch.
func (l *lowering) batchStatistics(o *op, scratch *buffer, sum func(mean, variance []float32), mean,
	invstd *buffer, eps float32) {
	channels := int(o.in[0].dims[1])
	variance := l.buffer(channels)
	saved := func(i int) *value {
		if i < len(o.out) {
			return o.out[i]
		}
		return nil
	}
	bufs := append([]*buffer{scratch, mean, invstd, variance}, l.all(o.in[3], o.in[4])...)
	bufs = append(bufs, l.all(o.out[1:]...)...)
	momentum := o.node.Float("momentum", 0.9)
	l.add("reduce", 1, bufs, func() func(int, int) {
		runMean, runVar, oldMean, oldVar := saved(1).f(), saved(2).f(), o.in[3].f(), o.in[4].f()
		savedMean, savedInv := saved(3).f(), saved(4).f()
		return func(int, int) {
			sum(mean.data, variance.data)
			l.jointMoments(mean.data[:channels], variance.data[:channels])
			unbias := float32(1)
			if n := l.jointCount(o.in[0]); o.node.Int(unbiasedAttr, 0) == 1 && n > 1 {
				unbias = float32(n) / float32(n-1)
			}
			inverse(invstd.data[:channels], variance.data, eps)
			clearTails(channels, mean.data, invstd.data)
			copy(savedMean, mean.data)
			copy(savedInv, invstd.data)
			move(runMean, oldMean, mean.data[:channels], momentum, 1)
			move(runVar, oldVar, variance.data[:channels], momentum, unbias)
		}
	})
}

// normalizes reports whether o is a BatchNormalization by channels, of float32 throughout:
// what the fast paths compute.
func normalizes(o *op) bool {
	if o.node.Def.Running == nil || o.node.Since < 9 && o.node.Int("spatial", 1) == 0 {
		return false
	}
	return !slices.ContainsFunc(o.in, func(v *value) bool { return v != nil && v.info.Type != onnxio.Float })
}

// training reports whether a BatchNormalization takes the statistics of its batch.
func training(o *op) bool { return ops.BatchTraining(o.node) }

// clearTails zeroes what lies behind the channels, so that pad lanes stay zero whatever is computed in them.
func clearTails(channels int, vectors ...[]float32) {
	for _, v := range vectors {
		clear(v[channels:])
	}
}

// move is dst = momentum*old + (1-momentum)*factor*batch; nothing when dst is nil.
func move(dst, old, batch []float32, momentum, factor float32) {
	if dst == nil {
		return
	}
	for i, b := range batch {
		dst[i] = momentum*old[i] + (1-momentum)*factor*b
	}
}

// unbiasedAttr is the private attribute that makes a training BatchNormalization move its running variance by
// the unbiased variance of the batch, as PyTorch does, where ONNX says biased.
const unbiasedAttr = "cnnkit_unbiased"

// batchNormGrad lowers BatchNormalizationGrad(dy, x, scale, saved_mean, saved_invstd).
func (l *lowering) batchNormGrad(o *op) (bool, error) {
	if o.out[0].layout == nil {
		return false, nil
	}
	k := kernels.NewBatchNorm(*o.out[0].layout)
	scratch, sums := l.buffer(k.BackwardScratch()), l.normSums(o)
	dy, x, mean, invstd := l.of(o.in[0]), l.of(o.in[1]), l.of(o.in[3]), l.of(o.in[4])
	mask := l.all(o.mask, o.maskBias)
	l.add("statistics backward", k.StatsChunks(),
		append([]*buffer{dy, x, mean, invstd, scratch, l.of(o.in[2])}, mask...), func() func(int, int) {
			scale, mask := o.in[2].f(), kernels.Mask{Y: o.mask.f(), Bias: o.maskBias.f()}
			return func(chunk, _ int) {
				k.BackwardStats(chunk, scratch.data, dy.data, x.data, mean.data, invstd.data, scale, mask)
			}
		})
	l.reduceNormSums(o, scratch, sums, k.BackwardReduce)
	l.inPlace(o, o.out[0], o.in[0], o.in[1])
	bufs := append([]*buffer{dy, x, mean, invstd, sums[0], sums[1], l.of(o.in[2]), l.of(o.out[0])}, mask...)
	l.add("normalize backward", k.Chunks(), bufs, func() func(int, int) {
		dx, scale, mask := o.out[0].f(), o.in[2].f(), kernels.Mask{Y: o.mask.f(), Bias: o.maskBias.f()}
		return func(chunk, _ int) {
			k.BackwardData(chunk, dx, dy.data, x.data, mean.data, invstd.data, scale, sums[0].data,
				sums[1].data, mask)
		}
	})
	return true, nil
}

// normSums are the buffers of the gradients of scale and bias of a BatchNormalizationGrad,
// which its first output needs.
func (l *lowering) normSums(o *op) (sums [2]*buffer) {
	for i := range sums {
		if v := o.out[i+1 : min(i+2, len(o.out))]; len(v) == 1 && v[0] != nil {
			sums[i] = l.of(v[0])
		} else {
			sums[i] = l.buffer(int(o.in[1].dims[1]))
		}
	}
	return sums
}

// reduceNormSums adds up the partial sums of a BatchNormalizationGrad.
func (l *lowering) reduceNormSums(o *op, scratch *buffer, sums [2]*buffer,
	reduce func(dscale, dbias, scratch []float32)) {
	channels := int(o.in[1].dims[1])
	l.add("reduce", 1, []*buffer{scratch, sums[0], sums[1]}, func() func(int, int) {
		return func(int, int) {
			reduce(sums[0].data, sums[1].data, scratch.data)
			l.jointSums(sums[0].data[:channels], sums[1].data[:channels])
			clearTails(channels, sums[0].data, sums[1].data)
		}
	})
}

// splitSizes are the numbers of channels of all parts of a Split, those that are omitted among them.
func splitSizes(o *op) []int64 {
	in, want := make([]*ops.Value, len(o.in)), make([]bool, len(o.out))
	for i, v := range o.in {
		if v != nil {
			in[i] = v.info
		}
	}
	for i := range want {
		want[i] = true
	}
	parts, err := ops.InferOutputs(o.node, in, want)
	if err != nil {
		return nil // it was inferred before
	}
	sizes := make([]int64, len(parts))
	for i, v := range parts {
		sizes[i] = v.Shape[1].Value
	}
	return sizes
}
