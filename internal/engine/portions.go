package engine

import (
	"slices"
	"time"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Portions: where the maps of a whole batch do not stay in the second-level cache and those of few images do,
// a stretch of the graph runs in portions of the batch: a thread takes some images through all ops of the
// stretch, in memory of its own, then the next. Maps inside the stretch take the room of a portion, not of
// the batch. What enters and leaves the stretch is a map of all images, of which each portion has a pane.

// portions is the stretch of ops [from, to) of a graph, and how its batch is cut.
type portions struct {
	from, to      int
	images, count int // of a portion, of them
}

// has reports whether op i is in the stretch.
func (p *portions) has(i int) bool { return p != nil && i >= p.from && i < p.to }

// What a portion is planned for, in bytes.
const (
	nearBytes    = 1 << 20 // of maps that stay in the second-level cache
	nearWeights  = 64 << 10
	portionBytes = 16 << 10 // what beginning a step costs is as much as reading so many
	leastBytes   = 4 << 20  // that a stretch must save for portions to pay
	mostPortion  = 8        // images
)

// choosePortions finds the stretch that reads and writes the most bytes less from far, by so many threads;
// nil where there is none. Portions of forced images, where that is not 0, take the longest stretch instead.
func (g *graph) choosePortions(threads, forced int) *portions {
	if g.training || g.keep || forced < 0 {
		return nil
	}
	var best *portions
	most := int64(leastBytes)
	if forced > 0 {
		most = 0
	}
	n := g.batch()
	for images := int64(1); images < n && images <= mostPortion; images *= 2 {
		count := n / images
		rounds := (count + int64(threads) - 1) / int64(threads)
		alone := count*100 < 85*rounds*int64(threads) // threads wait for each other
		if n%images != 0 || (alone || forced > 0) && images != int64(forced) {
			continue
		}
		from, sum := 0, int64(0)
		for i, o := range g.ops {
			saved := int64(1)
			switch {
			case !o.imagewise(n, images):
				saved = -sum
			case forced == 0:
				saved = o.saves(n, images)
			}
			if sum += saved; sum <= 0 {
				from, sum = i+1, 0
			} else if sum > most {
				best, most = &portions{from, i + 1, int(images), int(count)}, sum
			}
		}
	}
	return best
}

// batch is the number of images of the first input that has four axes; 0: there is none.
func (g *graph) batch() int64 {
	for _, v := range g.inputs {
		if len(v.dims) == 4 {
			return v.dims[0]
		}
	}
	return 0
}

// imagewise reports whether o, of maps of n images, computes each image of its outputs from that image of its
// inputs alone, and portions of so many images are whole float32s.
func (o *op) imagewise(n, images int64) bool {
	if o.folded() {
		return true
	}
	p := o.path()
	if p.maps == nil && !p.converts || p.mixes != nil && p.mixes(o) || len(o.bodies) > 0 {
		return false
	}
	blocks := 0
	for _, v := range append(o.reads(), o.out...) {
		switch {
		case v == nil, v.kind == constant:
		case v.kind == param || len(v.dims) != 4 || v.dims[0] != n || v.memory()/n*images%4 != 0:
			return false
		case v.form() != plainForm:
			blocks++
		}
	}
	return blocks > 0 && !o.readsBatch(p) && o.sameApart(&portions{images: int(images), count: int(n / images)})
}

// readsBatch reports whether a constant stands where o has a map: it may be of all images.
func (o *op) readsBatch(p *path) bool {
	isConstant := func(i int) bool { return i < len(o.in) && o.in[i] != nil && o.in[i].kind == constant }
	if p.operation != nil {
		return slices.ContainsFunc(upTo(2), func(i int) bool {
			return isConstant(i) && len(o.in[i].dims) == 4 && o.in[i].dims[0] != 1
		})
	}
	return p.converts && isConstant(0) || p.maps != nil && slices.ContainsFunc(p.maps(o).in, isConstant)
}

// sameApart reports whether the kernels take o for the same in a portion. What is broadcast to a map may have
// the shape of one image, and a constant may name the batch.
func (o *op) sameApart(p *portions) bool {
	small := *o
	part := func(list []*value) []*value {
		out := slices.Clone(list)
		for i, v := range out {
			if v != nil && v.kind != constant {
				w := *v
				w.portion(p)
				out[i] = &w
			}
		}
		return out
	}
	small.in, small.out, small.portions = part(o.in), part(o.out), p.count
	row := o.path()
	if row.accepts != nil && row.accepts(o) != row.accepts(&small) {
		return false
	}
	if row.operation == nil {
		return true
	}
	c, ok := combinationOf(o)
	d, same := combinationOf(&small)
	return ok == same && c == d
}

// memory is the bytes that v takes.
func (v *value) memory() int64 {
	switch v.form() {
	case blockedForm:
		return 4 * int64(v.layout.Size())
	case linesForm:
		return 2 * int64(v.lines.Size())
	case bytesForm:
		return int64(v.lines.Size())
	}
	n, _ := onnxio.CheckedBytes(v.info.Type, v.dims)
	return n
}

// saves estimates how many bytes fewer o reads and writes from far in portions of so many of n images: maps
// of a portion stay near, as far as they fit, and weights are read for each portion.
func (o *op) saves(n, images int64) int64 {
	all, weights := int64(0), int64(0)
	for _, v := range append(o.reads(), o.out...) {
		switch {
		case v == nil:
		case v.kind == constant:
			weights += o.packedBytes(v)
		default:
			all += v.memory()
		}
	}
	count := n / images
	saved := -count * portionBytes
	if weights > nearWeights {
		saved -= (count - 1) * weights
	}
	if all > 2*nearBytes {
		saved += int64(float64(all) * min(1, float64(nearBytes)/float64(all/count)))
	}
	return saved
}

// packedBytes is about what the constant w of o takes as its kernel reads it: Winograd's are of
// 36 numbers for 9, those of bf16 half.
func (o *op) packedBytes(w *value) int64 {
	size := int64(len(w.konst.Raw))
	switch {
	case o.onLines():
		return size / 2
	case o.out[0].form() == blockedForm && len(w.dims) == 4 && w.dims[2] == 3 && w.dims[3] == 3 && group(o) == 1:
		return size * 4
	}
	return size
}

// pane is a map of all images and the part of it that a portion reads or writes.
type pane struct {
	all, part *value
}

// portions lowers a stretch: its ops once for each worker, as they are for a portion, and one step that runs
// them.
func (l *lowering) portions(p *portions) error {
	ops := l.g.ops[p.from:p.to]
	panes, inside := l.cut(ops, p)
	teams := make([]team, l.threads) // any worker may come first
	outer, outerThreads, outerBuffers := l.steps, l.threads, l.buffers
	l.threads = 1
	for i := range teams {
		l.steps, l.buffers = nil, nil
		for _, v := range inside {
			v.buf = nil
		}
		for _, o := range ops {
			if err := l.op(o, false); err != nil {
				return err
			}
		}
		lifetimes(l.steps, nil, nil)
		teams[i].values = make(map[*value]*buffer, len(inside))
		for _, v := range inside {
			teams[i].values[v] = v.buf
		}
		teams[i].steps = l.steps
		teams[i].offsets, teams[i].size = allocate(l.buffers)
	}
	l.steps, l.threads, l.buffers = outer, outerThreads, outerBuffers
	l.addPortions(p, ops[0], teams, panes)
	return nil
}

// team is what one worker needs for portions: steps, and the memory of what is inside the stretch.
type team struct {
	steps   []*step
	values  map[*value]*buffer // inside the stretch
	offsets map[*buffer]int
	size    int
}

// cut makes the values inside the stretch maps of a portion, and puts panes in the place of those that enter
// or leave it.
func (l *lowering) cut(ops []*op, p *portions) (panes []pane, inside []*value) {
	within := map[*op]bool{}
	for _, o := range ops {
		within[o] = true
	}
	parts := map[*value]*value{}
	part := func(v *value) *value {
		if v == nil || v.kind == constant {
			return v
		}
		if w := parts[v]; w != nil {
			return w
		}
		w := v
		leaves := v.output || slices.ContainsFunc(v.users, func(u *op) bool { return !within[u] })
		if leaves || !within[v.producer] {
			w = v.pane(p)
			panes = append(panes, pane{v, w})
		} else {
			inside = append(inside, v)
		}
		w.portion(p)
		parts[v] = w
		return w
	}
	for _, o := range ops {
		if o.folded() {
			continue
		}
		o.portions = p.count
		for _, list := range [][]*value{o.in, o.out} {
			for i, v := range list {
				list[i] = part(v)
			}
		}
		o.residual, o.mask = part(o.residual), part(o.mask)
	}
	return panes, inside
}

// pane is a copy of v with a buffer that is placed anew for every portion, in which nobody else works.
func (v *value) pane(p *portions) *value {
	w := *v
	w.buf = &buffer{floats: int(v.memory()/4) / p.count, shared: 2, persistent: true}
	return &w
}

// portion makes v a map of a portion.
func (v *value) portion(p *portions) {
	v.dims = slices.Clone(v.dims)
	v.dims[0] = int64(p.images)
	if v.layout != nil {
		y := *v.layout
		y.N = p.images
		v.layout = &y
	}
	if v.lines != nil {
		y := *v.lines
		y.N = p.images
		v.lines = &y
	}
}

// addPortions appends the step that runs the portions, each with the steps of a worker's team.
func (l *lowering) addPortions(p *portions, o *op, teams []team, panes []pane) {
	size := 0
	for _, t := range teams {
		size = max(size, roundUp(t.size))
	}
	room := l.buffer(size * len(teams))
	bufs := []*buffer{room}
	for _, w := range panes {
		bufs = append(bufs, l.of(w.all))
	}
	at := l.at
	l.at = o
	s := l.add("portions", p.count, bufs, func() func(int, int) {
		runs := make([][][]func(int, int), len(teams)) // of a worker, of a portion, of a step
		for i, t := range teams {
			runs[i] = bindPortions(p, t, panes)
		}
		ended, timed := l.ended, l.timed
		return func(portion, worker int) {
			runPortion(teams[worker].steps, runs[worker][portion], ended, timed())
		}
	})
	l.at = at
	s.teams, s.room, s.portions = teams, room, p
	s.bytes = 0
	for _, inner := range teams[0].steps {
		s.flops += inner.flops * int64(p.count)
		s.bytes += inner.bytes * int64(p.count)
		s.cycles += inner.cost() * float64(p.count)
	}
}

// bindPortions binds a team's steps for each portion, anew where they touch a pane.
func bindPortions(p *portions, t team, panes []pane) [][]func(int, int) {
	for v, b := range t.values {
		v.buf = b
	}
	runs := make([][]func(int, int), p.count)
	for portion := range runs {
		for _, w := range panes {
			b := w.part.buf
			b.data = w.all.buf.data[portion*b.floats:][:b.floats:b.floats]
		}
		runs[portion] = make([]func(int, int), len(t.steps))
		for i, s := range t.steps {
			if portion > 0 && !s.touches(panes) {
				runs[portion][i] = runs[0][i]
			} else {
				runs[portion][i] = s.bind()
			}
		}
	}
	for _, w := range panes {
		w.part.buf.data = nil // a step that looks later than when it is bound fails
	}
	return runs
}

func (s *step) touches(panes []pane) bool {
	return slices.ContainsFunc(panes, func(w pane) bool { return slices.Contains(s.bufs, w.part.buf) })
}

// runPortion runs the steps for one portion, until the run has ended.
func runPortion(steps []*step, runs []func(int, int), ended func() bool, timed bool) {
	for i, s := range steps {
		if ended() {
			return
		}
		start := time.Time{}
		if timed {
			start = time.Now()
		}
		for chunk := range s.chunks {
			runs[i](chunk, 0)
		}
		if timed {
			s.time.Add(int64(time.Since(start)))
		}
	}
}

// places gives the buffers of the teams their places in an arena in which room lies at the given offset.
func (s *step) places(at int, offsets map[*buffer]int) {
	for i, t := range s.teams {
		for b, offset := range t.offsets {
			offsets[b] = at + i*(s.room.floats/len(s.teams)) + offset
		}
	}
}

// spent is the time of step i of the teams, as part of the time that the portions take.
func (s *step) spent(i, runs int) time.Duration {
	sum := int64(0)
	for _, t := range s.teams {
		sum += t.steps[i].time.Load()
	}
	return time.Duration(sum / int64(len(s.teams)*runs))
}
