package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/internal/kernels"
)

// A slab is what a chunk of a streamed update computes and uses up: 96 KiB of gradient, which stay in the
// second-level cache, in runs of a page.
const (
	slabRows    = 24
	slabColumns = 1024
)

// streams reports whether o, the last op that touches the parameter v or its gradient dv, is a matrix product
// that computes dv for the update alone.
func streams(o *op, dv, v *value) bool {
	return o.path().product && o.out[0] == dv && dv.layout == nil && v.store.pack == nil &&
		!slices.Contains(o.in, v) &&
		!o.relu && o.then == nil && (len(o.in) < 3 || o.in[2] == nil) && fastGemm(o) && len(o.in[0].dims) == 2
}

// lowerStreamed lowers dW = op(A) op(B), the gradient of the weights of a fully connected layer, together
// with their update: slab by slab, so that a gradient of hundreds of megabytes never exists, and is not
// written to memory and read again. The numbers are those of the whole gradient.
func (t *Trainer) lowerStreamed(l *lowering, o *op, s *stored) {
	l.at = o
	spec := gemmSpec(o)
	spec.Packed = true
	g := kernels.NewGemm(spec)
	packed := l.packedPanels(g, o.in[1])
	t.makeSlots(s)
	across := (g.N + slabColumns - 1) / slabColumns
	chunks := (g.M + slabRows - 1) / slabRows * across
	work := roundUp(g.PartScratch(slabRows, slabColumns))
	per := work + slabRows*slabColumns
	scratch := l.buffer(per * l.threads)
	update := t.rule(s.name)
	step := l.add("gemm update "+kernels.Level(), chunks, []*buffer{l.of(o.in[0]), packed, scratch},
		func() func(int, int) {
			a := o.in[0].plainFloats()
			views := make([][][]float32, l.threads) // worker, slot
			for i := range views {
				views[i] = make([][]float32, len(s.slots))
			}
			return func(chunk, worker int) {
				lo, from := chunk/across*slabRows, chunk%across*slabColumns
				hi, to := min(g.M, lo+slabRows), min(g.N, from+slabColumns)
				mine, slots := scratch.data[worker*per:(worker+1)*per], views[worker]
				grad, n := mine[work:], to-from
				g.Part(mine[:work], grad, a, packed.data, lo, hi, from, to)
				for r := range hi - lo {
					at := (lo+r)*g.N + from
					for i, slot := range s.slots {
						slots[i] = slot.data[at : at+n]
					}
					update.Apply(s.buf.data[at:at+n], grad[r*n:(r+1)*n], slots)
				}
			}
		})
	floats := int64(s.size()) * int64(2+2*len(s.slots)) // parameters and state, there and back
	step.bytes = 4 * (floats + int64(g.PackedSize()) + o.in[0].size())
	step.flops = 2 * int64(g.M) * int64(g.N) * int64(g.K)
	step.cycles = g.Cost() + kernels.FarCost(step.bytes)
}
