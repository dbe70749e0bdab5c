package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
)

// regrouping is a feature map [N,C,H,W] whose channels are those of others: what Concat, Split, Slice and
// Gather along the channels make, and the shuffle of ShuffleNet, which is a Reshape to groups, a Transpose and
// a Reshape back.
type regrouping struct {
	from     []*value
	channels []kernels.Channel // of from
	moved    bool              // not by Concat and Split alone, which have kernels of their own
}

// taken is a channel of a map.
type taken struct {
	from    *value
	channel int
}

// mostFrom is the number of maps that a regrouping takes channels from, where it is more than one op: each
// makes a pass over the blocks.
const mostFrom = 2

var regroupingDef = &ops.Def{Name: composedChannels, Domain: layoutDomain}

// fuseChannels makes one op of operators that regroup channels one after the other.
func fuseChannels(g *graph) {
	known := map[*value]*regrouping{}
	for _, o := range g.ops {
		for _, y := range o.out {
			if r := regroupingOf(o, y, known); r != nil {
				known[y] = r
			}
		}
	}
	found := false
	list := make([]*op, 0, len(g.ops))
	for _, o := range g.ops {
		if slices.ContainsFunc(o.out, func(y *value) bool {
			return y != nil && (known[y] == nil || !known[y].moved)
		}) {
			list = append(list, o)
			continue
		}
		for _, y := range o.out {
			if y != nil {
				list, found = append(list, known[y].op(o, y)), true
			}
		}
	}
	if found {
		g.ops = list
		g.index()
		g.prune()
	}
}

// op gives y instead of o.
func (r *regrouping) op(o *op, y *value) *op {
	n := newNode(regroupingDef.Name, layoutDomain, y.name)
	n.Name = o.node.Name
	return &op{node: &ops.Node{Node: n, Def: regroupingDef}, in: r.from, out: []*value{y}, inputs: len(r.from),
		taken: r.channels, origin: o.origin}
}

// regroupingOf is what o makes its output y of, nil where that is no regrouping. What is known of its inputs
// goes through it, unless that makes it take channels from many maps.
func regroupingOf(o *op, y *value, known map[*value]*regrouping) *regrouping {
	p := o.path()
	if p.picks == nil || !regrouped(y) {
		return nil
	}
	list := p.picks(o, y)
	if list == nil || slices.ContainsFunc(list, func(t taken) bool { return !regrouped(t.from) }) {
		return nil
	}
	direct, through := &regrouping{moved: p.unblocked}, &regrouping{moved: p.unblocked}
	for _, t := range list {
		direct.take(t.from, t.channel)
		if r := known[t.from]; r != nil {
			c := r.channels[t.channel]
			through.take(r.from[c.Map], c.C)
			through.moved = through.moved || r.moved
		} else {
			through.take(t.from, t.channel)
		}
	}
	if len(through.from) > mostFrom {
		return direct
	}
	return through
}

func (r *regrouping) take(from *value, channel int) {
	i := slices.Index(r.from, from)
	if i < 0 {
		i = len(r.from)
		r.from = append(r.from, from)
	}
	r.channels = append(r.channels, kernels.Channel{Map: i, C: channel})
}

// regrouped reports whether v is a map that may be regrouped: not weights.
func regrouped(v *value) bool {
	return v.isFloat4() && v.size() > 0 && (v.kind == computed || v.kind == input)
}

// picksJoined are the channels of a Concat.
func picksJoined(o *op, _ *value) (list []taken) {
	if !alongChannels(o) {
		return nil
	}
	for _, v := range o.in {
		for c := range v.dims[1] {
			list = append(list, taken{v, int(c)})
		}
	}
	return list
}

// picksPart are those of a part of a Split.
func picksPart(o *op, y *value) (list []taken) {
	if !alongChannels(o) {
		return nil
	}
	at := int64(0)
	for i, n := range splitSizes(o) {
		if o.out[i] == y {
			for c := range n {
				list = append(list, taken{o.in[0], int(at + c)})
			}
		}
		at += n
	}
	return list
}

// picksSliced are those of a Slice that leaves the other axes whole.
func picksSliced(o *op, _ *value) (list []taken) {
	x := o.in[0]
	in, computed := o.constants()
	start, step, length, ok := ops.ResolveSlice(o.node, x.dims, in, computed)
	if !ok || len(x.dims) != 4 {
		return nil
	}
	for i, d := range x.dims {
		if i != 1 && (start[i] != 0 || step[i] != 1 || length[i] != d) {
			return nil
		}
	}
	for i := range length[1] {
		list = append(list, taken{x, int(start[1] + i*step[1])})
	}
	return list
}

// picksGathered are those of a Gather with a list of constant indices.
func picksGathered(o *op, y *value) (list []taken) {
	x := o.in[0]
	axis, ok := axisOf(o, x)
	if !ok || axis != 1 || len(x.dims) != 4 || len(o.in[1].dims) != 1 {
		return nil
	}
	indices, ok := indicesOf(o.in[1], x.dims[1])
	if !ok || int64(len(indices)) != y.dims[1] {
		return nil
	}
	for _, i := range indices {
		list = append(list, taken{x, i})
	}
	return list
}

// picksShuffled are those of a shuffle that o, a Reshape, ends.
func picksShuffled(o *op, y *value) (list []taken) {
	turned := o.in[0].computedBy()
	if turned == nil || !turned.path().permutes || !slices.Equal(permutation(turned), []int{0, 2, 1, 3, 4}) {
		return nil
	}
	grouped := turned.in[0].computedBy()
	if grouped == nil || !grouped.path().view {
		return nil
	}
	x, dims := grouped.in[0], turned.in[0].dims
	groups, each := dims[1], dims[2]
	if !equalDims(x.dims, y.dims) || !equalDims(dims, []int64{x.dims[0], groups, each, x.dims[2], x.dims[3]}) {
		return nil
	}
	for c := range x.dims[1] {
		list = append(list, taken{x, int(c%groups*each + c/groups)})
	}
	return list
}

// regroup lowers what fuseChannels makes.
func (l *lowering) regroup(o *op) (bool, error) {
	y := o.out[0]
	if y.layout != nil {
		l.takeChannels(y, o.in, o.taken)
		return true, nil
	}
	many, area := len(o.taken), int(y.dims[2]*y.dims[3])
	l.rows("copy channels", int(y.dims[0])*many, area, append(slices.Clone(o.in), y), func() func(lo, hi int) {
		to, from := y.f(), floatsOf(o.in)
		return func(lo, hi int) {
			for r := lo; r < hi; r++ {
				c := o.taken[r%many]
				at := (r/many*int(o.in[c.Map].dims[1]) + c.C) * area
				kernels.Copy(to[r*area:][:area], from[c.Map][at:])
			}
		}
	})
	return true, nil
}

// takeChannels makes the blocked map y of channels of others.
func (l *lowering) takeChannels(y *value, from []*value, channels []kernels.Channel) {
	layouts := make([]kernels.Layout, len(from))
	for i, v := range from {
		layouts[i] = *v.layout
	}
	k := kernels.NewChannels(*y.layout, layouts, channels)
	l.add("copy channels", k.Chunks(), append(l.all(from...), l.of(y)), func() func(int, int) {
		to, in := y.f(), floatsOf(from)
		return func(chunk, _ int) { k.Run(chunk, to, in) }
	})
}

func floatsOf(vs []*value) [][]float32 {
	list := make([][]float32, len(vs))
	for i, v := range vs {
		list[i] = v.f()
	}
	return list
}

// concat lowers Concat along the channels of blocked maps.
func (l *lowering) concat(o *op) (bool, error) {
	if o.out[0].layout == nil {
		return false, nil
	}
	r := &regrouping{}
	for _, t := range picksJoined(o, o.out[0]) {
		r.take(t.from, t.channel)
	}
	l.takeChannels(o.out[0], r.from, r.channels)
	return true, nil
}

// split lowers Split along the channels of a blocked map.
func (l *lowering) split(o *op) (bool, error) {
	if o.in[0].layout == nil {
		return false, nil
	}
	for _, y := range o.out {
		if y == nil {
			continue
		}
		r := &regrouping{}
		for _, t := range picksPart(o, y) {
			r.take(t.from, t.channel)
		}
		l.takeChannels(y, r.from, r.channels)
	}
	return true, nil
}
