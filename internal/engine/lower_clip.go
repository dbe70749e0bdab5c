package engine

import (
	"math"

	"github.com/cnnkit/cnnkit/internal/kernels"
)

// clipBounds is what a Clip of float32 clips at, infinite where it does not; ok is false
// where a bound is not constant.
func clipBounds(o *op) (low, high float32, ok bool) {
	bounds := [2]float32{float32(math.Inf(-1)), float32(math.Inf(1))}
	if !isFloat(o.in[0]) {
		return 0, 0, false
	}
	for i, name := range []string{"min", "max"} {
		if a := o.node.Attr(name); a != nil { // before opset 11
			bounds[i] = a.F
			continue
		}
		if len(o.in) <= i+1 || o.in[i+1] == nil {
			continue
		}
		v := o.in[i+1]
		if v.kind != constant || v.size() != 1 {
			return 0, 0, false
		}
		bounds[i] = v.konst.Float32s()[0]
	}
	return bounds[0], bounds[1], bounds[0] <= bounds[1]
}

// keepsZero reports whether o is a Clip that leaves zeros, as halos and empty lanes are, what they are.
func keepsZero(o *op) bool {
	low, high, ok := clipBounds(o)
	return ok && low <= 0 && high >= 0
}

// fromZero reports whether o is a Clip that an epilogue does: ReLU6 and its like.
func fromZero(o *op) bool {
	low, high, ok := clipBounds(o)
	return ok && low == 0 && high > 0
}

// clip lowers Clip between constants.
func (l *lowering) clip(o *op) (bool, error) {
	low, high, ok := clipBounds(o)
	if !ok {
		return false, nil
	}
	l.inPlace(o, o.out[0], o.in[0])
	l.flat("clip", o.out[0], o.in[:1], func(y []float32, in [][]float32) func(lo, hi int) {
		return func(lo, hi int) { kernels.Clip(y[lo:hi], in[0][lo:hi], low, high) }
	})
	return true, nil
}

// clipGrad lowers ClipGrad(dy, x, y).
func (l *lowering) clipGrad(o *op) (bool, error) {
	if !isFloat(o.in[0]) {
		return false, nil
	}
	l.inPlace(o, o.out[0], o.in[0])
	l.flat("clip backward", o.out[0], o.in, func(dx []float32, in [][]float32) func(lo, hi int) {
		return func(lo, hi int) { kernels.ClipGrad(dx[lo:hi], in[0][lo:hi], in[1][lo:hi], in[2][lo:hi]) }
	})
	return true, nil
}
