package engine

import (
	"math"
)

// fuse folds elementwise ops into the op whose output they read, where nobody else reads it:
//
//	Conv, ConvTranspose, Gemm + Relu
//	MatMul + Add(row)
//	Conv, Gemm, MatMul + Sigmoid, HardSwish, Gelu and the like
//	Conv, ConvTranspose + Clip from 0 on
//	Conv + Add(residual) [+ Relu]
//	QLinearConv, QLinearAdd, QGemm + Clip of bytes
//	BatchNormalization (training) [+ Add(residual)] [+ Relu]
//	ReluGrad into the BatchNormalizationGrad that reads it, or into the convolution that made its input
//	MaxPoolGrad + ReluGrad, where the pool's input is the ReLU's output
//	MatMul + Softmax + MatMul, see attention
//	Concat, Split, Slice, Gather of channels and their shuffles, see regrouping
//	ConvGradBias of a MaxPoolGrad's output: the sum is taken of what goes into the pool's gradient
//
// A fused op's intermediate value no longer exists; a gradient that needs it prevents
// the fusion by reading it.
func fuse(g *graph) {
	fuseAttention(g)
	fuseChannels(g)
	for i := 0; i < len(g.ops); i++ {
		o := g.ops[i]
		fuseRowBias(g, o)
		for fuseInto(g, o) {
		}
	}
	for _, o := range append([]*op(nil), g.ops...) {
		if !fusePool(g, o) { // o is gone where it was folded
			fuseMask(g, o)
		}
	}
	for _, o := range g.ops {
		fuseBias(o)
	}
	g.index()
}

// fuseBias lets ConvGradBias sum the pooled gradient instead of the pool's: every
// element of it goes to one pixel.
func fuseBias(o *op) {
	if !o.path().sums || o.in[0].producer == nil {
		return
	}
	p := o.in[0].producer
	if !p.takes(stageOwnMask) {
		return
	}
	o.in[0] = p.in[0]
	if p.relu {
		o.mask = p.in[2]
	}
}

// fusePool folds dx = ReluGrad(dy, y) into the MaxPoolGrad whose output dy is, when that pooled y, and
// reports whether it did: where the maximum is positive, so is the pixel that it came from.
func fusePool(g *graph, o *op) bool {
	if o.stage() != stageMask || o.out[0] == nil {
		return false
	}
	p := o.in[0].producer
	if p == nil || !p.takes(stageOwnMask) || p.in[1] != o.in[1] || !o.in[0].private() {
		return false
	}
	p.relu = true
	g.take(p, o)
	return true
}

// fuseInto folds the one reader of o's output into o and reports whether it did.
func fuseInto(g *graph, o *op) bool {
	if o.relu || o.then != nil || o.within != nil || len(o.out) == 0 || o.out[0] == nil || o.out[0].output ||
		len(o.out[0].users) != 1 {
		return false
	}
	y, next := o.out[0], o.out[0].users[0]
	if next.relu || next.then != nil || next.residual != nil || next.mask != nil {
		return false
	}
	switch kind := next.stage(); {
	case !o.takes(kind):
		return false
	case kind == stageRelu:
		o.relu = true
	case kind == stageLevels:
		low, high, _ := levelBounds(next)
		o.within = &[2]int32{low, high}
	case kind == stageClip:
		if next.in[0] != y {
			return false
		}
		o.relu = true
		if _, high, _ := clipBounds(next); !math.IsInf(float64(high), 1) {
			o.high = high
		}
	case kind == stageMap:
		m, _ := mapOf(next)
		// convBF16 would leave o to float32
		if o.mask != nil || g.bf16 && (o.residual != nil || !m.KeepsZero()) {
			return false
		}
		o.then = &m
	case kind == stageResidual && o.residual == nil && y.isFloat4():
		other := next.in[0]
		if other == y {
			other = next.in[1]
		}
		if other == y || !other.isFloat4() || !equalDims(other.dims, y.dims) || other.kind == constant ||
			!g.before(other, o) {
			return false
		}
		o.residual = other
	default:
		return false
	}
	g.take(o, next)
	return true
}

// before reports whether v is there when o runs. A value made later but still before the Add cannot become
// o's residual unless o moves; o stays.
func (g *graph) before(v *value, o *op) bool {
	if v.producer == nil {
		return true
	}
	for _, x := range g.ops {
		if x == o {
			return false
		}
		if x == v.producer {
			return true
		}
	}
	return false
}

// fuseMask folds dx = ReluGrad(dy, y) into the BatchNormalizationGrad that alone reads dx, or into the
// convolution (a gradient's, or the gradient of a transposed one) whose output dy is.
func fuseMask(g *graph, o *op) {
	if o.stage() != stageMask || !o.out[0].isFloat4() {
		return
	}
	p := o.in[0].producer
	free := p != nil && p.takes(stageMask) && !p.relu && p.residual == nil && p.mask == nil
	if free && o.in[0].private() && g.before(o.in[1], p) {
		p.mask = o.in[1]
		g.take(p, o)
		return
	}
	if !o.out[0].private() {
		return
	}
	next := o.out[0].users[0]
	if !next.takes(stageFirstMask) || next.in[0] != o.out[0] {
		return
	}
	if p := o.in[1].producer; p != nil && p.node.Def.Running != nil && p.relu && p.residual == nil &&
		p.in[0] == next.in[1] {
		next.maskBias = p.in[2] // the mask is what was normalised, which the gradient reads anyway
	} else {
		next.mask = o.in[1]
	}
	next.in[0] = o.in[0]
	g.prune()
}
