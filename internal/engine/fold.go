package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/internal/kernels"
)

// Folding: in bf16 a line of a map of 16 channels holds two pixels of a row, so that it takes half of the
// memory and its convolutions half of the products. Convolutions have other weights then
// (kernels.FoldedWeights), which training makes in every step; those of the model stay as they are.

const (
	foldChannels = lineChannels / 2
	foldPixels   = 2
)

// folded is the number of pixels in a line of v.
func (v *value) folded() int { return max(1, v.fold) }

// foldNarrow folds maps of 16 channels where every op that touches them has a kernel for that, so that no such
// map needs another form. In training, where maps meet their gradients, it folds all or none.
func foldNarrow(g *graph) {
	for _, o := range g.ops {
		for _, v := range append(o.reads(), o.out...) {
			if v.foldable() {
				v.fold = foldPixels
			}
		}
	}
	for again := true; again; {
		again = false
		for _, o := range g.ops {
			if foldsAll(o, g.training) {
				continue
			}
			again = true
			touched := append(o.reads(), o.out...)
			if g.training {
				touched = g.sortedValues()
			}
			for _, v := range touched {
				if v != nil {
					v.fold = 0
				}
			}
		}
	}
}

// foldable reports whether two pixels of v fit a line.
func (v *value) foldable() bool {
	return v != nil && v.isFloat4() && v.size() > 0 && v.kind == computed && !v.output && v.dims[1] == foldChannels &&
		v.dims[3]%foldPixels == 0
}

// foldsAll reports whether o computes with the folded maps among its values, if there are any.
func foldsAll(o *op, training bool) bool {
	isFolded := func(v *value) bool { return v != nil && v.fold > 0 }
	if !slices.ContainsFunc(o.reads(), isFolded) && !slices.ContainsFunc(o.out, isFolded) {
		return true
	}
	p := o.path()
	if p.accepts != nil && !p.accepts(o) || p.maps == nil {
		return false
	}
	if p.conv != nil {
		return training && trainsBF16(o) || !training && infersFolded(o)
	}
	if !p.folds || !p.lines(o) {
		return false
	}
	m := p.maps(o)
	for _, i := range m.in {
		if !isFolded(o.in[i]) {
			return false
		}
	}
	return !slices.ContainsFunc(m.out, func(i int) bool {
		return i < len(o.out) && o.out[i] != nil && !isFolded(o.out[i])
	})
}

// infersFolded reports whether o, a convolution in inference, computes with its folded maps.
func infersFolded(o *op) bool {
	p, _ := conv(o)
	if group(o) != 1 || !fastConv(o) || o.mask != nil ||
		o.then != nil && (o.then.Gate() == nil || o.residual != nil) {
		return false
	}
	if gathers(o) {
		_, err := planGather(o)
		return err == nil && o.residual == nil
	}
	_, err := planBF16(o, false)
	return err == nil && p.x.dims[1] >= foldChannels && p.y.dims[1] >= foldChannels
}

// foldOf is how the maps of a convolution are folded.
func foldOf(o *op) kernels.Fold {
	p, _ := conv(o)
	return kernels.Fold{X: p.x.folded(), Y: p.y.folded()}
}

// isFoldedConv reports whether o is a convolution of folded maps.
func isFoldedConv(o *op) bool {
	_, ok := conv(o)
	return ok && foldOf(o) != kernels.Fold{X: 1, Y: 1}
}

// lineWindow is the window of a convolution over lines, each of which may hold several pixels.
func lineWindow(o *op) (geometry, bool) {
	p, _ := conv(o)
	w, ok := window(o, p.kernel, p.x.dims, p.y.dims)
	if f := foldOf(o); ok && isFoldedConv(o) {
		var v kernels.Window
		if v, ok = kernels.FoldWindow(w.window(), f); !ok {
			return w, false
		}
		w.kw, w.sw, w.left = v.KW, v.StrideW, v.PadLeft
		w.right = (int(p.y.dims[3])/f.Y-1)*w.sw + w.kw - int(p.x.dims[3])/f.X - w.left
	}
	return w, ok
}

// foldedWeights plans the weights of a convolution of folded maps.
func foldedWeights(o *op) (*kernels.FoldedWeights, *kernels.TapWeights, error) {
	p, _ := conv(o)
	w, _ := window(o, p.kernel, p.x.dims, p.y.dims)
	taps, err := weightTaps(o)
	if err != nil {
		return nil, nil, err
	}
	f, err := kernels.NewFoldedWeights(int(p.y.dims[1]), int(p.x.dims[1]), w.window(), foldOf(o), taps)
	return f, taps, err
}

// packedFolded is the weights of o, a convolution of folded maps, as c reads them: made once for constants, in
// every run for what is computed.
func (l *lowering) packedFolded(o *op, c *kernels.ConvBF16) (*buffer, error) {
	f, taps, err := foldedWeights(o)
	if err != nil {
		return nil, err
	}
	w := o.in[1]
	if w.kind == constant {
		return l.form(w.konst, c.Form()+", "+f.Form(), (c.WeightSize()+1)/2, 1, func(dst []float32, _ int) {
			wide, to := make([]float32, taps.WeightSize()), (&buffer{data: dst}).half(c.WeightSize())
			f.Expand(wide, w.konst.Float32s())
			for chunk := range c.TapChunks() {
				c.PackTaps(chunk, to, wide)
			}
		}), nil
	}
	wide, dst := l.buffer(taps.WeightSize()), l.buffer((c.WeightSize()+1)/2)
	l.add("fold weights", 1, []*buffer{l.of(w), wide}, func() func(int, int) {
		from := w.plainFloats()
		return func(int, int) { f.Expand(wide.data, from) }
	})
	l.add("pack weights bf16", c.TapChunks(), []*buffer{wide, dst}, func() func(int, int) {
		to := dst.half(c.WeightSize())
		return func(chunk, _ int) { c.PackTaps(chunk, to, wide.data) }
	})
	return dst, nil
}

// sumFolded gives the gradient of the weights of the model from that of the weights of folded maps.
func (l *lowering) sumFolded(o *op, wide *buffer) error {
	f, _, err := foldedWeights(o)
	if err != nil {
		return err
	}
	dw := o.out[0]
	l.add("unfold weights", 1, []*buffer{wide, l.of(dw)}, func() func(int, int) {
		to := dw.plainFloats()
		return func(int, int) { f.Sum(to, wide.data) }
	})
	return nil
}
