package engine

import (
	"fmt"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/onnxio"
)

// looseQuantization is the quantization of inputs s and s+1, whose zero point may be omitted.
func looseQuantization(o *op, s int, t onnxio.DataType) (quantization, bool) {
	if s+1 < len(o.in) && o.in[s+1] != nil {
		return linearQuantization(o, s, s+1)
	}
	if s >= len(o.in) || !o.in[s].floats() || o.in[s].size() != 1 {
		return quantization{}, false
	}
	zero := &value{kind: constant}
	zero.hold(onnxio.NewTensor(t))
	return quantization{scale: o.in[s], zero: zero, typ: t}, true
}

// planIntegerPool makes the kernel of a MaxPool of bytes, QLinearAveragePool or QLinearGlobalAveragePool.
func planIntegerPool(o *op) (*kernels.PoolInt8, error) {
	x, y := o.in[0], o.out[0]
	if !x.isByte4() || !y.isByte4() || x.size() == 0 || y.size() == 0 || len(o.out) > 1 && o.out[1] != nil ||
		o.node.Int("channels_last", 0) != 0 || x.lanes() != kernels.Int8Lanes ||
		y.lanes() != kernels.Int8Lanes {
		return nil, fmt.Errorf("not a pooling of maps")
	}
	spec := kernels.PoolInt8Spec{X: byteLines(x, 0), Y: byteLines(y, 0), Fill: y.zero}
	if x.lines != nil && y.lines != nil {
		spec.X, spec.Y = *x.lines, *y.lines
	}
	spec.From.Signed = x.info.Type == onnxio.Int8
	kernel := o.node.Ints("kernel_shape")
	if len(kernel) == 0 {
		kernel = x.dims[2:]
	}
	w, ok := window(o, kernel, x.dims, y.dims)
	if !ok || max(w.top, w.bottom) >= w.kh || max(w.left, w.right) >= w.kw || max(w.dh, w.dw) > 1 &&
		max(w.top, w.left, w.bottom, w.right) > 0 {
		return nil, fmt.Errorf("a window of padding")
	}
	spec.CountPad = o.node.Int("count_include_pad", 0) == 1
	if spec.CountPad && o.node.Int("ceil_mode", 0) != 0 {
		return nil, fmt.Errorf("padding that counts, and more than that")
	}
	spec.Window = kernels.Window{KH: w.kh, KW: w.kw, StrideH: w.sh, StrideW: w.sw, PadTop: w.top,
		PadLeft: w.left, DilH: w.dh, DilW: w.dw}
	if o.node.Domain == microsoft {
		from, okX := looseQuantization(o, 1, x.info.Type)
		to, okY := looseQuantization(o, 3, x.info.Type)
		if !okX || !okY || from.typ != x.info.Type || to.typ != x.info.Type {
			return nil, fmt.Errorf("scales that are not known")
		}
		spec.From, spec.To = from.kind(), to.kind()
		spec.FromScale, spec.ToScale = from.scale.konst.Float32s()[0], to.scale.konst.Float32s()[0]
	}
	return kernels.NewPoolInt8(spec)
}

// poolInt8 lowers poolings of bytes: those of the largest value have no scale, of those
// of means one has no window.
func (l *lowering) poolInt8(o *op) (bool, error) {
	if o.in[0].form() != bytesForm || o.out[0].form() != bytesForm {
		return false, nil
	}
	k, err := planIntegerPool(o)
	if err != nil {
		return false, err
	}
	l.add("pool int8", k.Chunks(), l.all(o.in[0], o.out[0]), func() func(int, int) {
		y, x := o.out[0].bytes(), o.in[0].bytes()
		switch {
		case o.node.Domain != microsoft:
			return func(chunk, _ int) { k.Max(chunk, y, x) }
		case len(o.node.Ints("kernel_shape")) == 0:
			return func(chunk, _ int) { k.Global(chunk, y, x) }
		}
		return func(chunk, _ int) { k.Average(chunk, y, x) }
	})
	return true, nil
}
