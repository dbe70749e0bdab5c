package engine

import (
	"github.com/cnnkit/cnnkit/internal/kernels"
)

// Convolutions of training in bf16: maps, as they are saved for the backward pass, and their
// gradients in bf16; weights, their gradients and the optimiser in float32. Weights are packed in
// every step, for each direction.

// trainsBF16 reports whether a convolution of a training graph runs in bf16: where the channels of one side
// fill a line. Maps of 16 channels that are not folded take as many bytes in bf16 as in float32, whose
// Winograd is as fast then.
func trainsBF16(o *op) bool {
	p, ok := conv(o)
	if !ok || group(o) != 1 || !fastConv(o) || max(p.x.dims[1], p.y.dims[1]) < lineChannels &&
		!isFoldedConv(o) {
		return false
	}
	if gathers(o) {
		_, err := planGather(o)
		return err == nil
	}
	_, err := planBF16(o, false)
	if err == nil && o.out[0] == p.w {
		_, _, err = planWeightsBF16(o, false)
	}
	return err == nil
}

// gathers reports whether o reads an input of the graph of few channels, of which the pixels under a row of
// the kernel go into one line.
func gathers(o *op) bool {
	p, ok := conv(o)
	if !ok || p.x != o.in[0] || p.x.kind != input || p.x.dims[1] >= lineChannels {
		return false
	}
	w, ok := lineWindow(o)
	return ok && w.dh == 1 && w.dw == 1 && p.x.dims[1]*int64(w.kw) <= kernels.BF16Lanes
}

// window is w as the kernels take it.
func (w geometry) window() kernels.Window {
	return kernels.Window{KH: w.kh, KW: w.kw, StrideH: w.sh, StrideW: w.sw, PadTop: w.top, PadLeft: w.left,
		DilH: w.dh, DilW: w.dw}
}

// planGather plans the input of a convolution that gathers.
func planGather(o *op) (*kernels.GatherBF16, error) {
	p, _ := conv(o)
	w, _ := lineWindow(o)
	x, y := p.x.dims, p.y.dims
	return kernels.NewGatherBF16(int(x[0]), int(x[1]), int(x[2]), int(x[3]), int(y[2]),
		int(y[3])/p.y.folded(), w.window())
}

// gatherLines appends the step that lays the input of a convolution out for it, and gives what it writes.
func (l *lowering) gatherLines(o *op, g *kernels.GatherBF16) *buffer {
	x, dst := o.in[0], l.buffer((g.Lines.Size()+1)/2)
	scratch, per := l.perWorker((g.Scratch() + 1) / 2)
	l.add("gather bf16", g.Chunks(), []*buffer{l.of(x), scratch, dst}, func() func(int, int) {
		from, to := x.plainFloats(), dst.half(g.Lines.Size())
		return func(chunk, worker int) {
			mine := (&buffer{data: scratch.data[worker*per:][:per]}).half(g.Scratch())
			g.Run(chunk, mine, to, from)
		}
	})
	return dst
}

// weightTaps is the form in which the weights of a convolution in bf16 are trained.
func weightTaps(o *op) (*kernels.TapWeights, error) {
	p, _ := conv(o)
	outs := int(p.y.dims[1]) * p.y.folded()
	if gathers(o) {
		g, err := planGather(o)
		if err != nil {
			return nil, err
		}
		return g.Taps(outs), nil
	}
	w, _ := lineWindow(o)
	return kernels.NewTapWeights(outs, int(p.x.dims[1])*p.x.folded(), w.kh, w.kw), nil
}

// mostRepacked bounds the bytes of repacked maps, of more than one image: they stay in the caches then.
const mostRepacked = 8 << 20

// planWeightsBF16 plans the gradient of a convolution's weights, from the layouts of its values once they are
// settled: in so many rounds of as many images each, one after the other.
func planWeightsBF16(o *op, settled bool) (k *kernels.ConvBF16Weights, rounds int, err error) {
	spec, err := specBF16(o, settled)
	if err != nil {
		return nil, 0, err
	}
	images := spec.X.N
	for rounds = 1; ; rounds++ {
		if images%rounds != 0 {
			continue
		}
		spec.X.N, spec.Y.N = images/rounds, images/rounds
		k, err = kernels.NewConvBF16Weights(spec)
		if err != nil || k.RepackSize() <= mostRepacked/2 || spec.X.N <= 1 {
			return k, rounds, err
		}
	}
}

// convWeightsLines lowers ConvGradWeight in bf16, to float32. The gradient of a packed param comes packed.
func (l *lowering) convWeightsLines(o *op) (bool, error) {
	k, rounds, err := planWeightsBF16(o, true)
	if err != nil {
		return false, err
	}
	x, size := l.of(o.in[0]), 0
	read := func() []uint16 { return o.in[0].half() }
	if gathers(o) {
		g, err := planGather(o)
		if err != nil {
			return false, err
		}
		x, size = l.gatherLines(o, g), g.Lines.Size()
		read = func() []uint16 { return x.half(size) }
	}
	dy, sums := l.of(o.in[1]), l.buffer(k.Sums())
	scratch, per := l.perWorker(k.Scratch())
	manyX, manyDY := k.Images()
	for round := range rounds {
		repacked := l.buffer((k.RepackSize() + 1) / 2)
		l.add("repack bf16", k.RepackChunks(), []*buffer{x, dy, repacked}, func() func(int, int) {
			to, xs, dys := repacked.half(k.RepackSize()), read()[round*manyX:], o.in[1].half()[round*manyDY:]
			return func(chunk, _ int) { k.Repack(chunk, to, xs, dys) }
		})
		bufs := []*buffer{repacked, sums, scratch}
		s := l.add("conv backward-weights "+kernels.LevelBF16()+" bf16", k.Chunks(), bufs,
			func() func(int, int) {
				from := repacked.half(k.RepackSize())
				return func(chunk, worker int) {
					k.Run(chunk, scratch.data[worker*per:][:per], sums.data, from, round > 0)
				}
			})
		s.flops, s.cycles = convFLOPs(o)/int64(rounds), k.Cost()
	}
	return true, l.reduceWeightsLines(o, k, sums)
}

// reduceWeightsLines adds the partial sums of the gradient of weights.
func (l *lowering) reduceWeightsLines(o *op, k *kernels.ConvBF16Weights, sums *buffer) error {
	dw := o.out[0]
	taps, err := weightTaps(o)
	if err != nil {
		return err
	}
	packed := l.buffer(taps.WeightSize())
	if dw.pack != nil {
		dw.buf = packed
		packed.shared++
	}
	l.add("reduce", k.ReduceTapsChunks(), []*buffer{sums, packed}, func() func(int, int) {
		return func(chunk, _ int) { k.ReduceTaps(chunk, packed.data, sums.data) }
	})
	switch {
	case isFoldedConv(o):
		return l.sumFolded(o, packed)
	case dw.pack == nil:
		l.add("unpack weights", 1, []*buffer{packed, l.of(dw)}, func() func(int, int) {
			to := dw.plainFloats()
			return func(int, int) { taps.Unpack(to, packed.data) }
		})
	}
	return nil
}
