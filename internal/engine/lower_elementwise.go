package engine

import (
	"fmt"

	"github.com/cnnkit/cnnkit/internal/kernels"
)

// mapOf is the function that an elementwise operator, or the gradient of one, computes.
func mapOf(o *op) (kernels.Map, bool) {
	if o.node.Def.Map == nil {
		return kernels.Map{}, false
	}
	return o.node.Def.Map(o.node)
}

// isMap reports whether all inputs of an elementwise operator are feature maps of one shape.
func isMap(o *op) bool {
	for _, v := range o.in {
		if !v.isFloat4() || v.size() == 0 || !equalDims(v.dims, o.out[0].dims) {
			return false
		}
	}
	_, ok := mapOf(o)
	return ok
}

// elementwise lowers a function of one element.
func (l *lowering) elementwise(o *op) (bool, error) {
	m, ok := mapOf(o)
	x, y := o.in[0], o.out[0]
	if !ok || !isFloat(x) {
		return false, nil
	}
	l.inPlace(o, y, x)
	name := "elementwise " + kernels.Level()
	if y.layout == nil || *y.layout == *x.layout && m.KeepsZero() {
		l.flat(name, y, o.in[:1], func(y []float32, in [][]float32) func(lo, hi int) {
			return func(lo, hi int) { m.Forward(y[lo:hi], in[0][lo:hi]) }
		})
		return true, nil
	}
	return l.stages(name, o, x, []kernels.Stage{kernels.MapStage(m)})
}

// stages appends a pass of stages over a blocked map.
func (l *lowering) stages(name string, o *op, x *value, stages []kernels.Stage, operands ...*value) (bool,
	error) {
	y := o.out[0]
	layouts := make([]kernels.Layout, len(operands))
	for i, v := range operands {
		if v.layout != nil {
			layouts[i] = *v.layout
		}
	}
	k, err := kernels.NewElementwise(*y.layout, *x.layout, stages, layouts...)
	if err != nil {
		return false, err
	}
	l.add(name, k.Chunks(), l.all(append([]*value{x, y}, operands...)...), func() func(int, int) {
		to, from, others := y.f(), x.f(), make([][]float32, len(operands))
		for i, v := range operands {
			others[i] = v.f()
		}
		return func(chunk, _ int) { k.Run(chunk, to, from, others...) }
	})
	return true, nil
}

// elementwiseGrad lowers dx = dy*f'(v).
func (l *lowering) elementwiseGrad(o *op) (bool, error) {
	m, ok := mapOf(o)
	if !ok || !m.Differentiable() || !isFloat(o.in...) || !equalDims(o.in[0].dims, o.in[1].dims) {
		return false, nil
	}
	dx, dy, v := o.out[0], o.in[0], o.in[1]
	l.inPlace(o, dx, dy, v)
	name := "elementwise backward " + kernels.Level()
	if dx.layout == nil || *dx.layout == *dy.layout && *dx.layout == *v.layout {
		l.flat(name, dx, o.in, func(dx []float32, in [][]float32) func(lo, hi int) { // zeros of dy stay zeros
			return func(lo, hi int) { m.Backward(dx[lo:hi], in[0][lo:hi], in[1][lo:hi]) }
		})
		return true, nil
	}
	k, err := kernels.NewElementwise(*dx.layout, *dy.layout, []kernels.Stage{kernels.MapStage(m)}, *v.layout)
	if err != nil {
		return false, err
	}
	l.add(name, k.Chunks(), l.all(dx, dy, v), func() func(int, int) {
		to, from, values := dx.f(), dy.f(), v.f()
		return func(chunk, _ int) { k.Backward(chunk, m, to, from, values) }
	})
	return true, nil
}

// combination is how an operator of two elements goes over a feature map: main is the index of the input
// that has the output's shape.
type combination struct {
	operation kernels.Operation
	main      int
	broadcast kernels.Broadcast
}

// blocked reports whether the second operand is in blocks, too.
func (c combination) blocked() bool {
	return c.broadcast == kernels.Same || c.broadcast == kernels.PerPixel
}

// combines reports whether an operator takes two elements of float32, broadcast as numpy does. Before version
// 7 PRelu had a slope for each channel, and the second operand of arithmetic began at an axis of the first.
func combines(o *op) bool {
	if len(o.in) != 2 || !isFloat(o.in...) {
		return false
	}
	numpy := o.node.Since >= 7 || o.node.Def.Arithmetic != 0 && o.node.Attr("axis") == nil
	return numpy || equalDims(o.in[0].dims, o.in[1].dims)
}

// combinationOf finds the combination; ok is false where package kernels has none for blocks.
func combinationOf(o *op) (c combination, ok bool) {
	if !combines(o) || !o.out[0].isFloat4() {
		return c, false
	}
	y := o.out[0]
	c.operation = *o.path().operation
	if !equalDims(o.in[0].dims, y.dims) {
		c.main = 1
		if c.operation, ok = c.operation.Swapped(); !ok {
			return c, false
		}
	}
	if !equalDims(o.in[c.main].dims, y.dims) {
		return c, false
	}
	c.broadcast, ok = broadcastOf(y.dims, o.in[1-c.main])
	return c, ok
}

// broadcastOf is the class in which v is broadcast to a map of the given dims.
func broadcastOf(dims []int64, v *value) (kernels.Broadcast, bool) {
	if len(v.dims) > 4 {
		return 0, false
	}
	own := []int64{1, 1, 1, 1}
	copy(own[4-len(v.dims):], v.dims)
	n, channels := dims[0], dims[1]
	switch {
	case equalDims(own, dims):
		return kernels.Same, len(v.dims) == 4
	case v.size() == 1:
		return kernels.Single, true
	case own[2] != 1 || own[3] != 1:
		return 0, false
	case own[0] == n && own[1] == channels && (v.kind == computed || v.kind == input):
		return kernels.PerPixel, len(v.dims) == 4
	case own[0] == 1 && own[1] == channels:
		return kernels.PerChannel, true
	case own[0] == n && own[1] == channels:
		return kernels.PerImageChannel, true
	}
	return kernels.PerImage, own[0] == n && own[1] == 1
}

func combinesMaps(o *op) bool {
	_, ok := combinationOf(o)
	return ok
}

func combinedMaps(o *op) maps {
	c, _ := combinationOf(o)
	if c.blocked() {
		return maps{in: []int{0, 1}, out: []int{0}, follows: true}
	}
	return maps{in: []int{c.main}, out: []int{0}, follows: true}
}

// haloCombined gives the maps of the output's shape one halo, so that the output may lie over an input.
func haloCombined(l *layouts, o *op) {
	c, _ := combinationOf(o)
	l.same(o.out[0], o.in[c.main])
	if c.broadcast == kernels.Same {
		l.same(o.out[0], o.in[1-c.main])
	}
}

// combine lowers an operator of two elements.
func (l *lowering) combine(o *op) (bool, error) {
	if !combines(o) {
		return false, nil
	}
	name, y := "elementwise "+kernels.Level(), o.out[0]
	if y.layout == nil {
		return l.combinePlain(name, o)
	}
	c, ok := combinationOf(o)
	if !ok {
		return false, fmt.Errorf("no kernel for %v with %v in blocks", o.in[0].dims, o.in[1].dims)
	}
	x, other := o.in[c.main], o.in[1-c.main]
	if c.broadcast != kernels.Same {
		l.inPlace(o, y, x)
		return l.stages(name, o, x, []kernels.Stage{kernels.PairStage(c.operation, c.broadcast, 0)}, other)
	}
	l.inPlace(o, y, x, other)
	if *y.layout == *x.layout && *y.layout == *other.layout && c.operation != kernels.OpDiv {
		l.flat(name, y, o.in, func(y []float32, in [][]float32) func(lo, hi int) {
			return func(lo, hi int) { c.operation.Pair(y[lo:hi], in[0][lo:hi], in[1][lo:hi]) }
		})
		return true, nil
	}
	return l.stages(name, o, x, []kernels.Stage{kernels.PairStage(c.operation, kernels.Same, 0)}, other)
}

// combinePlain lowers an operator of two elements of plain values, broadcast as ONNX does.
func (l *lowering) combinePlain(name string, o *op) (bool, error) {
	y, a, b := o.out[0], o.in[0], o.in[1]
	k, err := kernels.NewBinary(*o.path().operation, extents(y.dims), extents(a.dims), extents(b.dims))
	if err != nil {
		// a first operand that is broadcast by an operation that does not commute, or many axes
		return false, nil
	}
	var whole []*value
	for _, v := range o.in {
		if equalDims(v.dims, y.dims) {
			whole = append(whole, v)
		}
	}
	l.inPlace(o, y, whole...)
	l.add(name, k.Chunks(), l.all(a, b, y), func() func(int, int) {
		to, p, q := y.plainFloats(), a.plainFloats(), b.plainFloats()
		return func(chunk, _ int) { k.Run(chunk, to, p, q) }
	})
	return true, nil
}

func extents(dims []int64) []int {
	out := make([]int, len(dims))
	for i, d := range dims {
		out[i] = int(d)
	}
	return out
}
