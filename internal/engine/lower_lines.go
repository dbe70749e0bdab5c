package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/internal/kernels"
)

// Operators on maps in bf16 beside convolutions: they widen what they read, compute in float32
// what they compute on blocks, and round what they write. Statistics, their sums and the gradients
// of parameters are float32.

// lineChannels is the number of channels of a map that fill a line, so that it takes half of float32's bytes.
const lineChannels = kernels.BF16Lanes

// inLines reports whether o, which is no convolution, runs on maps in bf16: where they fill lines, in
// training always, in inference where one of its inputs is in bf16 already. It settles the inputs in m.
func (l *layouts) inLines(o *op, p *path, m *maps) bool {
	if p.lines == nil || !p.lines(o) || l.g.training && p.linesIn != nil {
		return false
	}
	in := m.in
	if p.linesIn != nil {
		in = p.linesIn(o)
	}
	if len(in) == 0 { // a map of what is none
		return o.out[0].dims[1] >= lineChannels && readInBF16(o.out[0])
	}
	if v := o.in[in[0]]; v.dims[1] < lineChannels && v.fold == 0 {
		return false
	}
	if !l.g.training && !slices.ContainsFunc(in, func(i int) bool {
		return o.in[i].form() == linesForm || o.in[i].twin(linesForm) != nil
	}) {
		return false
	}
	m.in = in
	return true
}

// scalesMaps reports whether o multiplies a map by a factor for each of its channels.
func scalesMaps(o *op) bool {
	c, ok := combinationOf(o)
	if !ok || c.operation != kernels.OpMul {
		return false
	}
	switch c.broadcast {
	case kernels.PerPixel, kernels.PerChannel, kernels.PerImageChannel:
		return true
	}
	return false
}

func scaledMap(o *op) []int {
	c, _ := combinationOf(o)
	return []int{c.main}
}

// scaleLines lowers the Mul of a map by a factor for each of its channels.
func (l *lowering) scaleLines(o *op) error {
	c, _ := combinationOf(o)
	x, y, factors := o.in[c.main], o.out[0], o.in[1-c.main]
	l.inPlace(o, y, x)
	k := kernels.NewScaleBF16(*y.lines, c.broadcast != kernels.PerChannel)
	l.add("scale bf16", k.Chunks(), l.all(x, factors, y), func() func(int, int) {
		to, from, f := y.half(), x.half(), factors.plainFloats()
		return func(chunk, _ int) { k.Run(chunk, to, from, f) }
	})
	return nil
}

// addsMaps reports whether o adds two maps of one shape.
func addsMaps(o *op) bool {
	return len(o.in) == 2 && o.in[0].isFloat4() && o.in[1].isFloat4() && equalDims(o.in[0].dims, o.in[1].dims)
}

// onLines reports whether o was given maps in bf16.
func (o *op) onLines() bool {
	has := func(v *value) bool { return v != nil && v.form() == linesForm }
	return slices.ContainsFunc(o.in, has) || slices.ContainsFunc(o.out, has)
}

// tokenLines lowers the Transpose that brings channels to the end or back in front.
func (l *lowering) tokenLines(o *op) error {
	x, y := o.in[0], o.out[0]
	back := y.form() == linesForm
	m := x
	if back {
		m = y
	}
	k := kernels.NewTokensBF16(*m.lines)
	l.add("tokens bf16", k.Chunks(), l.all(x, y), func() func(int, int) {
		if back {
			to, from := y.half(), x.plainFloats()
			return func(chunk, _ int) { k.To(chunk, to, from) }
		}
		to, from := y.plainFloats(), x.half()
		return func(chunk, _ int) { k.From(chunk, to, from) }
	})
	return nil
}

// poolLines lowers poolings and their gradients.
func (l *lowering) poolLines(o *op) error {
	x, y, w, _ := pool(o)
	spec := kernels.PoolBF16Spec{X: *x.lines, Y: *y.lines, DX: *x.lines, DY: *y.lines, KH: w.kh, KW: w.kw,
		StrideH: w.sh, StrideW: w.sw, PadTop: w.top, PadLeft: w.left,
		CountIncludePad: o.node.Int("count_include_pad", 0) == 1}
	back := o.path().pool.backward
	kind := *o.path().pool
	if kind.maximum && kind.backward {
		spec.X, spec.Y = *o.in[1].lines, *o.in[2].lines
	}
	k := kernels.NewPoolBF16(spec, back)
	scratch, per := l.perWorker(k.Scratch())
	bufs := append(l.all(o.in...), l.of(o.out[0]), scratch)
	l.add("pool bf16", k.Chunks(), bufs, func() func(int, int) {
		out, in := o.out[0].half(), o.in[0].half()
		mine := func(worker int) []float32 { return scratch.data[worker*per:][:per] }
		switch {
		case kind.maximum && kind.backward:
			x, y := o.in[1].half(), o.in[2].half()
			return func(chunk, worker int) { k.MaxBackward(chunk, mine(worker), out, in, x, y, o.relu) }
		case kind.maximum:
			return func(chunk, worker int) { k.Max(chunk, mine(worker), out, in) }
		case kind.backward:
			return func(chunk, worker int) { k.AverageBackward(chunk, mine(worker), out, in) }
		}
		return func(chunk, worker int) { k.Average(chunk, mine(worker), out, in) }
	})
	return nil
}

// batchNormLines lowers BatchNormalization.
func (l *lowering) batchNormLines(o *op) error {
	k := kernels.NewBatchNormBF16(*o.out[0].lines, o.out[0].folded())
	mean, invstd := l.normStatistics(o, func() (*buffer, func(mean, variance []float32)) {
		x, scratch := o.in[0], l.buffer(k.StatsScratch())
		l.add("batch statistics bf16", k.StatsChunks(), []*buffer{l.of(x), scratch}, func() func(int, int) {
			from := x.half()
			return func(chunk, _ int) { k.Stats(chunk, scratch.data, from) }
		})
		return scratch, func(mean, variance []float32) { k.StatsReduce(mean, variance, scratch.data) }
	})
	bufs := append([]*buffer{mean, invstd}, l.all(o.in[0], o.in[1], o.in[2], o.residual, o.out[0])...)
	l.add("normalize bf16", k.Chunks(), bufs, func() func(int, int) {
		y, x, scale, bias, r, relu := o.out[0].half(), o.in[0].half(), o.in[1].f(), o.in[2].f(),
			o.residual.half(), o.relu
		return func(chunk, _ int) { k.Normalize(chunk, y, x, mean.data, invstd.data, scale, bias, r, relu) }
	})
	return nil
}

// batchNormGradLines lowers BatchNormalizationGrad.
func (l *lowering) batchNormGradLines(o *op) error {
	k := kernels.NewBatchNormBF16(*o.out[0].lines, o.out[0].folded())
	scratch, sums := l.buffer(k.BackwardScratch()), l.normSums(o)
	dy, x, mean, invstd, scale := l.of(o.in[0]), l.of(o.in[1]), l.of(o.in[3]), l.of(o.in[4]), l.of(o.in[2])
	masks := l.all(o.mask, o.maskBias)
	mask := func() kernels.MaskBF16 { return kernels.MaskBF16{Y: o.mask.half(), Bias: o.maskBias.f()} }
	l.add("statistics backward bf16", k.StatsChunks(), append([]*buffer{dy, x, mean, invstd, scratch, scale},
		masks...), func() func(int, int) {
		dys, xs, m := o.in[0].half(), o.in[1].half(), mask()
		return func(chunk, _ int) {
			k.BackwardStats(chunk, scratch.data, dys, xs, mean.data, invstd.data, scale.data, m)
		}
	})
	l.reduceNormSums(o, scratch, sums, k.BackwardReduce)
	l.inPlace(o, o.out[0], o.in[0], o.in[1])
	bufs := append([]*buffer{dy, x, mean, invstd, sums[0], sums[1], scale, l.of(o.out[0])}, masks...)
	l.add("normalize backward bf16", k.Chunks(), bufs, func() func(int, int) {
		dx, dys, xs, m := o.out[0].half(), o.in[0].half(), o.in[1].half(), mask()
		return func(chunk, _ int) {
			k.BackwardData(chunk, dx, dys, xs, mean.data, invstd.data, scale.data, sums[0].data,
				sums[1].data, m)
		}
	})
	return nil
}

// channelSumLines lowers ConvGradBias.
func (l *lowering) channelSumLines(o *op) error {
	k := kernels.NewChannelSumBF16(*o.in[0].lines, o.in[0].folded())
	scratch, db := l.buffer(k.Scratch()), l.of(o.out[0])
	l.add("channel sum bf16", k.Chunks(), append(l.all(o.in[0], o.mask), scratch), func() func(int, int) {
		dy, y := o.in[0].half(), o.mask.half()
		return func(chunk, _ int) { k.Partial(chunk, scratch.data, dy, y) }
	})
	l.add("reduce", 1, []*buffer{scratch, db}, func() func(int, int) {
		return func(int, int) { k.Reduce(db.data, scratch.data) }
	})
	return nil
}

// flatLines appends a step over maps in bf16 of one layout, cut into chunks.
func (l *lowering) flatLines(kernel string, out *value, ins []*value, f func(out []uint16, in [][]uint16,
	lo, hi int)) {
	l.of(out)
	n := out.lines.Size()
	const per = 2 * flatChunk
	l.add(kernel, (n+per-1)/per, append(l.all(ins...), l.of(out)), func() func(int, int) {
		to, from := out.half(), make([][]uint16, len(ins))
		for i, v := range ins {
			from[i] = v.half()
		}
		return func(chunk, _ int) { f(to, from, chunk*per, min(n, (chunk+1)*per)) }
	})
}

func (l *lowering) reluLines(o *op) error {
	l.inPlace(o, o.out[0], o.in[0])
	l.flatLines("relu bf16", o.out[0], o.in, func(y []uint16, in [][]uint16, lo, hi int) {
		kernels.ReluBF16(y[lo:hi], in[0][lo:hi])
	})
	return nil
}

func (l *lowering) reluGradLines(o *op) error {
	l.inPlace(o, o.out[0], o.in[0])
	l.maskLines(o.out[0], o.in[0], o.in[1])
	return nil
}

// maskLines is dx = dy where y is positive, else 0.
func (l *lowering) maskLines(dx, dy, y *value) {
	l.flatLines("relu backward bf16", dx, []*value{dy, y}, func(dx []uint16, in [][]uint16, lo, hi int) {
		kernels.ReluGradBF16(dx[lo:hi], in[0][lo:hi], in[1][lo:hi])
	})
}

func (l *lowering) addLines(o *op) error {
	l.inPlace(o, o.out[0], o.in...)
	l.flatLines("add bf16", o.out[0], o.in, func(y []uint16, in [][]uint16, lo, hi int) {
		kernels.AddBF16(y[lo:hi], in[0][lo:hi], in[1][lo:hi], o.relu)
	})
	return nil
}

// concatLines lowers Concat along the channels.
func (l *lowering) concatLines(o *op) error {
	var parts []kernels.JoinPart
	for _, v := range o.in {
		parts = append(parts, kernels.JoinPart{Layout: *v.lines, Count: int(v.dims[1])})
	}
	l.joinLines("concat bf16", o.out[0], o.in, parts)
	return nil
}

// splitLines lowers Split along the channels.
func (l *lowering) splitLines(o *op) error {
	at := 0
	for i, n := range splitSizes(o) {
		if v := o.out[i]; v != nil {
			l.joinLines("split bf16", v, o.in[:1],
				[]kernels.JoinPart{{Layout: *o.in[0].lines, First: at, Count: int(n)}})
		}
		at += int(n)
	}
	return nil
}

func (l *lowering) joinLines(kernel string, out *value, ins []*value, parts []kernels.JoinPart) {
	k := kernels.NewJoinBF16(*out.lines, parts)
	l.add(kernel, k.Chunks(), append(l.all(ins...), l.of(out)), func() func(int, int) {
		y, xs := out.half(), make([][]uint16, len(ins))
		for i, v := range ins {
			xs[i] = v.half()
		}
		return func(chunk, _ int) { k.Run(chunk, y, xs) }
	})
}
