package kernels

// schedule is the order in which the blocks of all planes are computed, and how they are cut into chunks. A
// unit is a stretch of the blocks of one image for one group of 32 outputs.
type schedule struct {
	images, outs int
	blocks       int // of a plane
	strips       int // of a plane: units of it
	chunks       int
	// together is so many images for one group of outputs before the next, where weights do not stay in the
	// second-level cache and images do; 0: all outputs of a strip, then the next.
	together int
}

// The length of a call of the assembly, which cannot be preempted, and of a chunk, in cycles at 2.6 GHz.
const (
	callCycles  = 110_000 // 42 us
	chunkCycles = 13_000  // 5 us: what a chunk takes at least
)

// newSchedule plans for maps of whose image so many bytes are read, and groups of outputs with so many bytes
// of weights.
func newSchedule(images, outs int, t *tiling, imageBytes, weightBytes int) schedule {
	s := schedule{images: images, outs: outs, blocks: t.blocks(), strips: 1}
	units := images * outs
	if units == 0 {
		return s
	}
	each := t.blockCycles()
	total := each * float64(s.blocks) * float64(units)
	if outs*weightBytes > nearBytes/2 && imageBytes <= nearBytes {
		s.together = min(images, nearBytes/max(1, imageBytes))
	}
	most := max(1, int(callCycles/each))
	if imageBytes > nearBytes {
		most = max(1, min(most, int(int64(s.blocks)*(nearBytes/2)/int64(imageBytes))))
	}
	s.strips = (s.blocks + most - 1) / most
	want := min(8, int(total/chunkCycles))
	if units*s.strips < want {
		s.strips = min(s.blocks, (want+units-1)/units)
	}
	s.chunks = max(1, min(units*s.strips, max(want, int(total/callCycles))))
	return s
}

const nearBytes = 1 << 20 // that stay in the second-level cache

// unit is the blocks [lo, hi) of image n for group o of outputs. That after it is for group next.
type unit struct{ n, o, lo, hi, next int }

// each calls f for the units of a chunk.
func (s *schedule) each(chunk int, f func(u unit)) {
	first, last := span(s.images*s.outs*s.strips, chunk, s.chunks)
	for i := first; i < last; i++ {
		u := s.unit(i)
		u.next = u.o
		if i+1 < s.images*s.outs*s.strips {
			u.next = s.unit(i + 1).o
		}
		f(u)
	}
}

// unit is number i of all.
func (s *schedule) unit(i int) (u unit) {
	var strip int
	if s.together > 0 {
		group := i / (s.together * s.outs * s.strips)
		first := group * s.together
		many := min(s.together, s.images-first)
		i -= first * s.outs * s.strips
		u.n, u.o, strip = first+i/s.strips%many, i/s.strips/many, i%s.strips
	} else {
		u.n, u.o, strip = i/s.outs/s.strips, i%s.outs, i/s.outs%s.strips
	}
	u.lo, u.hi = span(s.blocks, strip, s.strips)
	return u
}

// amxCost is cycles at 2.6 GHz in the unit of the costs.
func amxCost(cycles float64) float64 { return cycles / 2.6 / NanosecondsPerCycle }

// cost is that of all blocks, and of weights that do not stay in the second-level cache.
func (s *schedule) cost(t *tiling) float64 {
	times := 1
	if s.outs*len(t.steps)*stepSize > nearBytes {
		times = s.images * s.strips
		if s.together > 0 {
			times = (s.images + s.together - 1) / s.together
		}
	}
	return amxCost(t.blockCycles()*float64(s.blocks*s.images*s.outs)) +
		float64(times)*far(s.outs*len(t.steps)*stepSize/4)
}
