package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/onnxio"
)

// NaN and infinities of the input. Winograd's method mixes the pixels of a tile, and kernels on blocks of
// channels multiply by zero what is not theirs: channels of other groups, and lanes past the last channel. Of
// numbers that makes what ONNX says; of NaN and infinities it makes NaN in other places too.
//
// Such NaN is never lost: fast kernels pass it on, and before a reference kernel reads it, the kernel's
// inputs are looked at. So a plan that holds such kernels looks for NaN in what it gives, and where it
// finds any, a careful plan of the same graph runs instead, whose kernels mix nothing. Without NaN this
// costs one look at the outputs.

// spreads reports whether the direct kernel of a convolution multiplies zeros with channels or
// lanes that are not its own.
func spreads(o *op) bool {
	p, ok := conv(o)
	if !ok || len(o.in[0].dims) != 4 || len(o.out[0].dims) != 4 {
		return false
	}
	in, out, groups := o.in[0].dims[1], o.out[0].dims[1], int64(max(group(o), 1))
	if per := p.x.dims[1] / groups; groups > 1 && in == out && (per == 1 || per == 4 && in > narrowLanes) {
		return false // every lane by itself, or with those of its group
	}
	shared := groups > 1 && (in/groups%kernels.Block != 0 || out/groups%kernels.Block != 0)
	return shared || in%kernels.Block != 0
}

// watchOutputs looks for NaN in the outputs of a plan that may have spread it.
func (p *Plan) watchOutputs() {
	if !p.spreads || p.suspect || p.err != nil {
		return
	}
	p.suspect = slices.ContainsFunc(p.results, hasNaN)
}

// hasNaN reports whether a float32 tensor has NaN among its elements.
func hasNaN(t *onnxio.Tensor) bool {
	if t == nil || t.Type != onnxio.Float {
		return false
	}
	x := t.Float32s()
	for len(x) >= 8 {
		// NaN in one makes NaN of the sum, and so do infinities of two signs, which are looked at below.
		if s := (x[0] + x[1]) + (x[2] + x[3]) + ((x[4] + x[5]) + (x[6] + x[7])); s != s &&
			slices.ContainsFunc(x[:8], isNaN) {
			return true
		}
		x = x[8:]
	}
	return slices.ContainsFunc(x, isNaN)
}

func isNaN(v float32) bool { return v != v }
