package engine

import (
	"sync"

	"github.com/cnnkit/cnnkit/internal/kernels"
)

// byWinograd plans o, whose direct kernel is c, by Winograd's method with the weights w, or for them. Passes
// are nil that do not pay or are not allowed.
func (l *lowering) byWinograd(o *op, c convolution, w *value) *kernels.Winograd {
	dense, ok := c.(*kernels.Conv)
	if !ok || !l.winograd {
		return &kernels.Winograd{}
	}
	return kernels.NewWinograd(dense, w.kind == constant, max(1, o.portions))
}

// transformed is the weights of c as one of its Winograd passes reads them: made once for constants, in every
// run for params.
func (l *lowering) transformed(w *value, pass kernels.WinogradPass, c convolution, form packing) *buffer {
	if w.kind == constant {
		chunks, part := transforming(w, pass, c)
		return l.form(w.konst, pass.Form(), pass.WeightSize(), chunks, part)
	}
	src, dst := l.packed(w, form), l.buffer(pass.WeightSize())
	scratch, per := l.perWorker(pass.TransformScratch())
	l.add("transform weights", pass.TransformChunks(), []*buffer{src, scratch, dst}, func() func(int, int) {
		return func(chunk, worker int) {
			pass.Transform(chunk, scratch.data[worker*per:][:per], dst.data, src.data)
		}
	})
	return dst
}

// transforming is how constant weights of c become those of a pass, block by block
// where no block needs others'.
func transforming(w *value, pass kernels.WinogradPass, c convolution) (chunks int,
	part func(dst []float32, chunk int)) {
	dense, ok := c.(*kernels.Conv)
	if !ok || pass.Flips() {
		return 1, func(dst []float32, _ int) {
			from, scratch := pack(w, c), kernels.AlignedSlice(pass.TransformScratch())
			for i := range pass.TransformChunks() {
				pass.Transform(i, scratch, dst, from)
			}
		}
	}
	scratch, n := roundUp(pass.TransformScratch()), dense.BlockSize()
	rooms := sync.Pool{New: func() any {
		room := kernels.AlignedSlice(scratch + n)
		return &room
	}}
	return pass.TransformChunks(), func(dst []float32, chunk int) {
		room := rooms.Get().(*[]float32)
		weights := (*room)[scratch:]
		dense.PackBlock(chunk, weights, w.konst.Float32s())
		pass.TransformBlock(chunk, (*room)[:scratch], dst, weights)
		rooms.Put(room)
	}
}

// perWorker is a buffer with n floats for each worker, the next one's per floats on.
func (l *lowering) perWorker(n int) (b *buffer, per int) {
	per = roundUp(n)
	return l.buffer(per * l.threads), per
}

// winogradPass appends a pass of c, with what was fused into it.
func (l *lowering) winogradPass(name string, o *op, pass kernels.WinogradPass, c convolution, form packing,
	bias *value) {
	l.spreads = true
	u := l.transformed(o.in[1], pass, c, form)
	scratch, per := l.perWorker(pass.Scratch())
	if p, _ := conv(o); p.forward(o) {
		l.leaveStatistics(o, pass.Moments())
	}
	bufs := append([]*buffer{l.of(o.in[0]), u, scratch, l.of(o.out[0])}, l.all(bias, o.residual, o.mask)...)
	bufs = append(bufs, o.out[0].stats.buffers()...)
	s := l.add(name+" "+kernels.Level(), pass.Chunks(), bufs, func() func(int, int) {
		y, x, e := o.out[0].f(), o.in[0].f(), o.epilogue(bias)
		if e.High != 0 { // the passes' own epilogue clips below alone
			clip := kernels.NewMap(kernels.FuncClip, 0, e.High)
			e.ReLU, e.High, e.Then = false, 0, &clip
		}
		return func(chunk, worker int) {
			pass.Run(chunk, scratch.data[worker*per:][:per], y, x, u.data, e)
		}
	})
	s.flops, s.cycles = convFLOPs(o), pass.Cost(true)
}

// winogradWeights sums the gradient of the weights into packed, or reports that the
// direct kernel does it better.
func (l *lowering) winogradWeights(o *op, c convolution, packed *buffer) bool {
	pass := l.byWinograd(o, c, o.out[0]).Weights
	if pass == nil {
		return false
	}
	scratch, per := l.perWorker(pass.Scratch())
	sums, x, dy := l.buffer(pass.Sums()), l.of(o.in[0]), l.of(o.in[1])
	s := l.add("winograd backward-weights "+kernels.Level(), pass.Chunks(), []*buffer{x, dy, scratch, sums},
		func() func(int, int) {
			xs, dys := o.in[0].f(), o.in[1].f()
			return func(chunk, worker int) {
				pass.Run(chunk, scratch.data[worker*per:][:per], sums.data, xs, dys)
			}
		})
	s.flops, s.cycles = convFLOPs(o), pass.Cost()
	l.add("reduce", pass.ReduceChunks(), []*buffer{sums, packed}, func() func(int, int) {
		return func(chunk, _ int) { pass.Reduce(chunk, packed.data, sums.data) }
	})
	return true
}
