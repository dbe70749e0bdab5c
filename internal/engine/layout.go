package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
)

// layoutDomain is the domain of the ops that only change a layout.
const layoutDomain = "cnnkit.layout"

// chooseLayouts decides which values are blocked, inserts the conversions and settles
// every blocked value's halo.
//
// An op over feature maps that has a kernel for blocked values takes them: convolutions, pools and
// BatchNormalization always, elementwise ops and Concat where an input is blocked already. The halo of a
// value is the largest that a reader needs. Values that an elementwise kernel walks together have the same
// halo, so that it can walk them flat.
func chooseLayouts(g *graph) {
	if g.bf16 && !g.training {
		foldNarrow(g)
	}
	l := &layouts{g: g, halo: map[*value]int{}, parent: map[*value]*value{}}
	l.findNarrow()
	old := g.ops
	g.ops = nil
	for _, o := range old {
		m, form := l.rule(o)
		out := form
		switch {
		case m.bytes:
			out = m.to
		case form == linesForm && !l.writesBF16(o):
			out = blockedForm
		}
		for i, v := range o.in {
			if slices.Contains(m.in, i) && (i > 0 || form != linesForm || !gathers(o)) {
				o.in[i] = l.in(v, form, o)
			} else {
				o.in[i] = l.plain(v)
			}
		}
		o.residual, o.mask = l.in(o.residual, form, o), l.in(o.mask, form, o)
		for _, i := range m.out {
			if i < len(o.out) && o.out[i] != nil {
				o.out[i].shape(out, l.lanes(o.out[i]))
			}
		}
		if p := o.path(); (form != plainForm || out != plainForm) && p.halo != nil {
			p.halo(l, o)
		}
		g.ops = append(g.ops, o)
		for _, v := range o.out { // at once: plain it takes less memory
			if v != nil && v.output {
				l.plain(v)
			}
		}
	}
	for i, v := range g.outputs {
		if v.form() != plainForm {
			g.outputs[i] = l.plain(v)
			g.outputs[i].output = true
		}
	}
	g.index()
	for _, v := range g.sortedValues() {
		switch v.form() {
		case blockedForm:
			v.layout.Halo = l.halo[l.find(v)]
		case linesForm, bytesForm:
			v.lines.Halo = l.halo[l.find(v)]
		}
	}
}

// form is how a value lies in memory.
type form uint8

const (
	plainForm   form = iota // row-major
	blockedForm             // float32 in blocks of channels: value.layout
	linesForm               // bf16 in blocks of 32 channels: value.lines
	bytesForm               // bytes in blocks of 64 channels, or pixels of 4: value.lines
)

func (v *value) form() form {
	switch {
	case v.layout != nil:
		return blockedForm
	case v.lines != nil && v.lines.Lanes == kernels.BF16Lanes:
		return linesForm
	case v.lines != nil:
		return bytesForm
	}
	return plainForm
}

// shape gives v a form. Its halo is settled last.
func (v *value) shape(f form, lanes int) {
	switch f {
	case blockedForm:
		y := blocked(v, 0, lanes)
		v.layout = &y
	case linesForm:
		y := linesOf(v, 0)
		v.lines = &y
	case bytesForm:
		v.shapeBytes()
	}
}

type layouts struct {
	g      *graph
	halo   map[*value]int
	parent map[*value]*value // union-find: values with one halo
	narrow map[int64]bool    // numbers of channels whose maps have 8 lanes
}

const narrowLanes = 8

// findNarrow chooses 8 lanes instead of 16 for maps of at most 8 channels, where every op on maps of so many
// channels can do with them: a convolution's output costs half the time then. All maps of a number of
// channels are alike, so that a value, its gradient and its mask can be walked together.
func (l *layouts) findNarrow() {
	l.narrow = map[int64]bool{}
	for _, o := range l.g.ops {
		for _, v := range append(o.reads(), o.out...) {
			if !v.isFloat4() || v.dims[1] > narrowLanes {
				continue
			}
			if _, seen := l.narrow[v.dims[1]]; !seen {
				l.narrow[v.dims[1]] = true
			}
			if !l.narrowable(o) {
				l.narrow[v.dims[1]] = false
			}
		}
	}
}

// narrowable reports whether o has kernels for maps of 8 lanes, or takes plain values.
func (l *layouts) narrowable(o *op) bool {
	p := o.path()
	if p.maps == nil || p.accepts != nil && !p.accepts(o) {
		return true
	}
	return p.narrow != nil && p.narrow(o)
}

// lanes is the number of lanes of v in blocks.
func (l *layouts) lanes(v *value) int {
	if l.narrow[v.dims[1]] {
		return narrowLanes
	}
	return kernels.Block
}

// rule gives the inputs and outputs that are maps when o runs, and their form;
// plainForm where there are none.
func (l *layouts) rule(o *op) (m maps, f form) {
	p := o.path()
	if p.maps == nil || p.accepts != nil && !p.accepts(o) {
		return maps{}, plainForm
	}
	m = p.maps(o)
	if m.bytes {
		return m, m.from
	}
	f = blockedForm
	if m.follows {
		f = plainForm
	}
	for _, i := range m.in {
		v := o.in[i]
		if !v.isFloat4() || v.size() == 0 {
			return maps{}, plainForm
		}
		if v.form() != plainForm || v.twin(blockedForm) != nil || v.twin(linesForm) != nil {
			f = blockedForm
		}
	}
	for _, i := range m.out {
		if v := o.out[i]; v != nil && (!v.isFloat4() || v.size() == 0) {
			return maps{}, plainForm
		}
	}
	if f == plainForm {
		return maps{}, f
	}
	if l.g.bf16 && p.bf16 && l.convBF16(o) {
		return m, linesForm
	}
	if l.g.bf16 && l.inLines(o, p, &m) {
		return m, linesForm
	}
	return m, f
}

// twin is the same value in another form, nil if there is none yet.
func (v *value) twin(f form) *value {
	for _, t := range v.twins {
		if t.form() == f && (f != blockedForm || t.layout.Lanes >= narrowLanes) {
			return t
		}
	}
	return nil
}

// in is v in a form for a reader, converted if need be.
func (l *layouts) in(v *value, f form, reader *op) *value {
	switch {
	case v == nil || v.form() == f:
		return v
	case f == plainForm:
		return l.plain(v)
	case f == blockedForm:
		return l.blocked(v, reader)
	case f == bytesForm:
		if t := v.twin(bytesForm); t != nil {
			return t
		}
		return l.convert(v, toBytes, func(t *value) { t.users = slices.Clone(v.users); t.shapeBytes() })
	}
	if t := v.twin(linesForm); t != nil {
		return t
	}
	return l.convert(v, toBF16, func(t *value) { t.shape(linesForm, 0) })
}

// plain is v in plain form.
func (l *layouts) plain(v *value) *value {
	if v == nil || v.form() == plainForm {
		return v
	}
	if t := v.twin(plainForm); t != nil {
		return t
	}
	return l.convert(v, toPlain, func(*value) {})
}

// blocked is v in blocked form for a reader. A graph input of few channels that only convolutions read as x
// keeps its channels instead of a padded block.
func (l *layouts) blocked(v *value, reader *op) *value {
	if v == nil || v.form() == blockedForm {
		return v
	}
	lanes := l.lanes(v)
	if p, ok := conv(reader); v.kind == input && v.dims[1] <= 4 && ok && p.x == v && !depthwise(reader) {
		lanes = int(v.dims[1])
	}
	for _, t := range v.twins {
		if t.layout != nil && t.layout.Lanes == lanes {
			return t
		}
	}
	return l.convert(v, toBlocked, func(t *value) { t.shape(blockedForm, lanes) })
}

// convert adds the op that gives v in another form. All forms of a value know each other.
func (l *layouts) convert(v *value, name string, shape func(t *value)) *value {
	t := &value{name: l.g.name(v.name + "/" + name), info: v.info, dims: v.dims, sized: true}
	shape(t)
	l.g.values[t.name] = t
	n := newNode(name, layoutDomain, t.name)
	o := &op{node: &ops.Node{Node: n, Def: &ops.Def{Name: name, Domain: layoutDomain}}, in: []*value{v},
		out: []*value{t}, inputs: 1, origin: v.name}
	t.producer = o
	l.g.ops = append(l.g.ops, o)
	for _, other := range append([]*value{v}, v.twins...) {
		other.twins = append(other.twins, t)
		t.twins = append(t.twins, other)
	}
	return t
}

// need asks for a halo of v.
func (l *layouts) need(v *value, halo int) {
	r := l.find(v)
	l.halo[r] = max(l.halo[r], halo)
}

// same asks for one halo of all vs.
func (l *layouts) same(vs ...*value) {
	for _, v := range vs[1:] {
		if v == nil {
			continue
		}
		a, b := l.find(vs[0]), l.find(v)
		if a != b {
			l.parent[b] = a
			l.halo[a] = max(l.halo[a], l.halo[b])
		}
	}
}

func (l *layouts) find(v *value) *value {
	for l.parent[v] != nil {
		v = l.parent[v]
	}
	return v
}
