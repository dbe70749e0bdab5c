package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
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
		ins, outs := l.rule(o)
		if ins == nil {
			for i, v := range o.in {
				o.in[i] = l.plain(v)
			}
			g.ops = append(g.ops, o)
			continue
		}
		for i, v := range o.in {
			if slices.Contains(ins, i) {
				o.in[i] = l.blocked(v, o)
			} else {
				o.in[i] = l.plain(v)
			}
		}
		o.residual, o.mask = l.blocked(o.residual, o), l.blocked(o.mask, o)
		for _, i := range outs {
			if i < len(o.out) && o.out[i] != nil {
				y := blocked(o.out[i], 0, l.lanes(o.out[i]))
				o.out[i].layout = &y
			}
		}
		l.needs(o)
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

// narrowable reports whether o has kernels for maps of 8 lanes.
func (l *layouts) narrowable(o *op) bool {
	if _, ok := conv(o); ok {
		return fastConv(o) && !depthwise(o)
	}
	if x, y, w, ok := pool(o); ok {
		max := o.is("", "MaxPool") || o.is(ops.GradDomain, "MaxPoolGrad")
		two := w == geometry{kh: 2, kw: 2, sh: 2, sw: 2, dh: 1, dw: 1}
		return max && two && y.dims[2]*2 <= x.dims[2] && y.dims[3]*2 <= x.dims[3]
	}
	switch {
	case o.is("", "Relu"), o.is(ops.GradDomain, "ReluGrad"), o.is(ops.GradDomain, "ConvGradBias"), o.is("", "Add"),
		keepsZero(o), scalesImages(o), o.is(ops.GradDomain, "ClipGrad"):
		return true
	case o.is("", "Concat"), o.is("", "Split"):
		return false
	}
	ins, _ := l.rule(o)
	return ins == nil // it takes plain values
}

// lanes is the number of lanes of v in blocks.
func (l *layouts) lanes(v *value) int {
	if l.narrow[v.dims[1]] {
		return narrowLanes
	}
	return kernels.Block
}

// rule gives the indices of the inputs and outputs that are blocked when o runs; nil when o runs plain.
func (l *layouts) rule(o *op) (ins, outs []int) {
	switch {
	case fastConv(o):
		switch o.node.OpType {
		case "ConvGradWeight":
			return []int{0, 1}, []int{}
		default:
			return []int{0}, []int{0}
		}
	case o.is(ops.GradDomain, "ConvGradBias") && o.in[0].isFloat4():
		return []int{0}, []int{}
	case fastBatchNorm(o):
		return []int{0}, []int{0}
	case o.is(ops.GradDomain, "BatchNormalizationGrad") && o.out[0].isFloat4() && o.node.Int("frozen", 0) == 0:
		return []int{0, 1}, []int{0}
	}
	if _, _, _, ok := pool(o); ok {
		if o.is(ops.GradDomain, "MaxPoolGrad") {
			return []int{0, 1, 2}, []int{0}
		}
		return []int{0}, []int{0}
	}
	if l.followsInputs(o) {
		for i := range o.in {
			ins = append(ins, i)
		}
		for i := range o.out {
			outs = append(outs, i)
		}
		if onlyFirst(o) {
			ins = ins[:1]
		}
	}
	return ins, outs
}

// followsInputs reports whether o has kernels for both forms and an input is blocked already.
func (l *layouts) followsInputs(o *op) bool {
	switch {
	case o.is("", "Relu"), o.is(ops.GradDomain, "ReluGrad"), o.is("", "Add") && equalDims(o.in[0].dims, o.in[1].dims),
		keepsZero(o), scalesImages(o), o.is(ops.GradDomain, "ClipGrad"):
	case (o.is("", "Concat") || o.is("", "Split")) && len(o.in[0].dims) == 4 && (o.node.Int("axis", 0) == 1 || o.node.Int("axis", 0) == -3):
	default:
		return false
	}
	any := false
	for i, v := range o.in {
		if i > 0 && onlyFirst(o) {
			break
		}
		if !v.isFloat4() || v.size() == 0 {
			return false
		}
		any = any || v.layout != nil || v.twin(true) != nil
	}
	return any
}

// onlyFirst says that o's inputs after the first are no maps.
func onlyFirst(o *op) bool { return o.is("", "Split") || o.is("", "Clip") || scalesImages(o) }

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
	if v.kind == input && v.dims[1] <= 4 && !depthwise(reader) && (reader.is("", "Conv") || reader.is(ops.GradDomain, "ConvGradWeight") && reader.in[0] == v) {
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
	t := &value{name: l.g.name(v.name + "/" + name), info: v.info, dims: v.dims, layout: layout}
	l.g.values[t.name] = t
	n := &onnxio.Node{OpType: name, Domain: layoutDomain, Name: v.name, Inputs: []string{v.name}, Outputs: []string{t.name}}
	o := &op{node: &ops.Node{Node: n, Def: &ops.Def{Name: name, Domain: layoutDomain}}, in: []*value{v}, out: []*value{t}, origin: v.name}
	t.producer = o
	l.g.ops = append(l.g.ops, o)
	v.twins = append(v.twins, t)
	t.twins = append(t.twins, v)
	return t
}

// needs records the halos that o's kernels need and the values that must have the same.
func (l *layouts) needs(o *op) {
	if p, ok := conv(o); ok {
		w, _ := window(o, p.kernel, p.x.dims, p.y.dims)
		hx, hy := w.halos()
		switch o.node.OpType {
		case "Conv":
			l.need(o.in[0], hx)
			l.same(o.out[0], o.residual, o.mask)
		case "ConvGradWeight":
			l.need(o.in[0], hx)
		default:
			l.need(o.in[0], hy)
			l.same(o.out[0], o.residual, o.mask)
		}
		return
	}
	switch {
	case o.is("", "BatchNormalization"), o.is(ops.GradDomain, "BatchNormalizationGrad"):
		l.same(o.in[0], o.out[0], o.residual, o.mask)
		if o.is(ops.GradDomain, "BatchNormalizationGrad") {
			l.same(o.in[0], o.in[1])
		}
	case o.is(ops.GradDomain, "ConvGradBias"):
		l.same(o.in[0], o.mask)
	case o.is("", "Clip"), scalesImages(o):
		l.same(o.in[0], o.out[0])
	case o.is("", "Relu"), o.is(ops.GradDomain, "ReluGrad"), o.is("", "Add"), o.is(ops.GradDomain, "ClipGrad"):
		l.same(append(slices.Clone(o.in), o.out...)...)
	}
}

func (l *layouts) need(v *value, halo int) {
	r := l.find(v)
	l.halo[r] = max(l.halo[r], halo)
}

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
