package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
)

// layoutDomain is the domain of the ops that only change a layout.
const layoutDomain = "cnnkit.layout"

// chooseLayouts decides which values are blocked, inserts the conversions and settles every blocked value's halo.
//
// An op over feature maps that has a kernel for blocked values takes them: convolutions, pools and
// BatchNormalization always, elementwise ops and Concat where an input is blocked already. The halo of a value is the
// largest that a reader needs. Values that an elementwise kernel walks together have the same halo, so that it can
// walk them flat.
func chooseLayouts(g *graph) {
	l := &layouts{g: g, halo: map[*value]int{}, parent: map[*value]*value{}}
	l.findNarrow()
	old := g.ops
	g.ops = nil
	for _, o := range old {
		m, ok := l.rule(o)
		if !ok {
			for i, v := range o.in {
				o.in[i] = l.plain(v)
			}
			g.ops = append(g.ops, o)
			continue
		}
		for i, v := range o.in {
			if slices.Contains(m.in, i) {
				o.in[i] = l.blocked(v, o)
			} else {
				o.in[i] = l.plain(v)
			}
		}
		o.residual, o.mask = l.blocked(o.residual, o), l.blocked(o.mask, o)
		for _, i := range m.out {
			if i < len(o.out) && o.out[i] != nil {
				y := blocked(o.out[i], 0, l.lanes(o.out[i]))
				o.out[i].layout = &y
			}
		}
		if p := o.path(); p.halo != nil {
			p.halo(l, o)
		}
		g.ops = append(g.ops, o)
	}
	for i, v := range g.outputs {
		if v.layout != nil {
			g.outputs[i] = l.plain(v)
			g.outputs[i].output = true
		}
	}
	g.index()
	for _, v := range g.sortedValues() {
		if v.layout != nil {
			v.layout.Halo = l.halo[l.find(v)]
		}
	}
}

type layouts struct {
	g      *graph
	halo   map[*value]int
	parent map[*value]*value // union-find: values with one halo
	narrow map[int64]bool    // numbers of channels whose maps have 8 lanes
}

const narrowLanes = 8

// findNarrow chooses 8 lanes instead of 16 for maps of at most 8 channels, where every op on maps of so many channels
// can do with them: a convolution's output costs half the time then. All maps of a number of channels are alike, so that
// a value, its gradient and its mask can be walked together.
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
	if p == nil || p.maps == nil || p.accepts != nil && !p.accepts(o) {
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

// rule gives the inputs and outputs that are blocked when o runs; ok is false when it runs plain.
func (l *layouts) rule(o *op) (m maps, ok bool) {
	p := o.path()
	if p == nil || p.maps == nil || p.accepts != nil && !p.accepts(o) {
		return m, false
	}
	m = p.maps(o)
	blocked := !m.follows
	for _, i := range m.in {
		v := o.in[i]
		if !v.isFloat4() || v.size() == 0 {
			return m, false
		}
		blocked = blocked || v.layout != nil || v.twin(true) != nil
	}
	for _, i := range m.out {
		if v := o.out[i]; v != nil && (!v.isFloat4() || v.size() == 0) {
			return m, false
		}
	}
	return m, blocked
}

// twin is the same value in blocked or in plain form, nil if there is none yet.
func (v *value) twin(blockedForm bool) *value {
	for _, t := range v.twins {
		if (t.layout != nil) == blockedForm && (t.layout == nil || t.layout.Lanes >= narrowLanes) {
			return t
		}
	}
	return nil
}

// plain is v in plain form, converted if need be.
func (l *layouts) plain(v *value) *value {
	if v == nil || v.layout == nil {
		return v
	}
	if t := v.twin(false); t != nil {
		return t
	}
	return l.convert(v, "ToPlain", nil)
}

// blocked is v in blocked form for a reader. A graph input of few channels that only convolutions read as x keeps its
// channels instead of a padded block.
func (l *layouts) blocked(v *value, reader *op) *value {
	if v == nil || v.layout != nil {
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
	layout := blocked(v, 0, lanes)
	return l.convert(v, "ToBlocked", &layout)
}

func (l *layouts) convert(v *value, name string, layout *kernels.Layout) *value {
	t := &value{name: l.g.name(v.name + "/" + name), info: v.info, dims: v.dims, sized: true, layout: layout}
	l.g.values[t.name] = t
	n := newNode(name, layoutDomain, t.name)
	o := &op{node: &ops.Node{Node: n, Def: &ops.Def{Name: name, Domain: layoutDomain}}, in: []*value{v}, out: []*value{t}, inputs: 1, origin: v.name}
	t.producer = o
	l.g.ops = append(l.g.ops, o)
	v.twins = append(v.twins, t)
	t.twins = append(t.twins, v)
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
