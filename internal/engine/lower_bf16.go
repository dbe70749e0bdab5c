package engine

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
)

// Convolutions in bf16: maps and weights rounded to 8 bits, sums and biases in float32, and the weights of
// those of each channel on its own. Everything else stays in float32, with conversions where the two meet.

// BF16Runs reports whether this processor runs convolutions in bf16: with AMX.
func BF16Runs() bool { return kernels.LevelBF16() == "amx" }

// runsBF16 reports whether plans of these options run in bf16.
func (opt Options) runsBF16() bool { return opt.BF16 && (opt.twins || BF16Runs()) }

// half views n values of bf16.
func (b *buffer) half(n int) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(b.data))), n)
}

// half is the map of v in bf16, after allocation; nil for an absent value.
func (v *value) half() []uint16 {
	if v == nil {
		return nil
	}
	return v.buf.half(v.lines.Size())
}

// linesOf is the layout of v in bf16.
func linesOf(v *value, halo int) kernels.LineLayout {
	f := v.folded()
	return kernels.LineLayout{N: int(v.dims[0]), C: int(v.dims[1]) * f, H: int(v.dims[2]),
		W: int(v.dims[3]) / f, Halo: halo,
		Lanes: kernels.BF16Lanes}
}

// What a convolution takes, in GFLOP/s, and a conversion, in bytes a nanosecond, as
// measured on Sapphire Rapids.
const (
	bf16Rate    = 900
	floatRate   = 150
	reorderRate = 15
)

// convBF16 reports whether a convolution runs faster in bf16, conversions of its maps included.
func (l *layouts) convBF16(o *op) bool {
	if l.g.training {
		return trainsBF16(o)
	}
	p, ok := conv(o)
	if depthwise(o) {
		return depthwiseBF16(o) && (o.in[0].form() == linesForm || o.in[0].twin(linesForm) != nil)
	}
	if isFoldedConv(o) {
		return true
	}
	if gathers(o) {
		return group(o) == 1 && p.y.dims[1] >= lineChannels && (o.then == nil || o.then.Gate() != nil) &&
			o.mask == nil && o.residual == nil && l.writesBF16(o)
	}
	if !ok || group(o) != 1 || p.x.dims[1] < 16 || p.y.dims[1] < 16 {
		return false // tiles take 32 channels at a time: few are left to float32
	}
	if o.mask != nil || o.then != nil && (o.residual != nil || !o.then.KeepsZero()) {
		return false // the epilogue has no such stage
	}
	if _, err := planBF16(o, false); err != nil {
		return false
	}
	moved := 0.0
	for _, v := range []*value{o.in[0], o.residual} {
		if v != nil && v.lines == nil && v.twin(linesForm) == nil {
			moved += 6 * float64(v.size())
		}
	}
	if l.writesBF16(o) && !readInBF16(o.out[0]) {
		moved += 6 * float64(o.out[0].size())
	}
	gain := float64(convFLOPs(o)) * (1./floatRate - 1./bf16Rate)
	return gain > moved/reorderRate
}

// writesBF16 reports whether a convolution in bf16 writes its output so: for readers in bf16, or because a
// residual asks for it, and in training. Else it writes the float32 sums, in blocks.
func (l *layouts) writesBF16(o *op) bool {
	if _, ok := conv(o); !ok || l.g.training || depthwise(o) {
		return true
	}
	plain := o.then == nil || o.then.Gate() != nil // the epilogue has nothing else
	return o.path().transposed || o.residual != nil || o.out[0].fold > 0 || plain && readInBF16(o.out[0])
}

// depthwiseBF16 reports whether a convolution of each channel on its own may run in bf16.
func depthwiseBF16(o *op) bool {
	p, _ := conv(o)
	if !p.forward(o) || p.w.kind != constant || o.mask != nil || o.then != nil && o.then.Gate() == nil ||
		!fastConv(o) {
		return false
	}
	_, err := planDepthwiseBF16(o, false)
	return err == nil
}

// planDepthwiseBF16 makes the kernel of a convolution of each channel on its own, as planBF16 does.
func planDepthwiseBF16(o *op, settled bool) (*kernels.DepthwiseBF16, error) {
	spec, err := specBF16(o, settled)
	if err != nil {
		return nil, err
	}
	return kernels.NewDepthwiseBF16(spec)
}

// readInBF16 reports whether a convolution that may run in bf16 reads v, or what takes
// maps in bf16 as they are.
func readInBF16(v *value) bool {
	for _, o := range v.users {
		if p := o.path(); v.dims[1] >= lineChannels && p.lines != nil && (p.accepts == nil || p.accepts(o)) &&
			p.lines(o) {
			return true
		}
		if p, ok := conv(o); ok && (group(o) == 1 && p.y.dims[1] >= 16 || depthwise(o) && p.x == v &&
			depthwiseBF16(o)) {
			return true
		}
	}
	return false
}

// planBF16 makes the kernel of a convolution, forward or transposed: from the layouts of its values once they
// are settled, else with the halos that it needs.
func planBF16(o *op, settled bool) (*kernels.ConvBF16, error) {
	spec, err := specBF16(o, settled)
	if err != nil {
		return nil, err
	}
	p, _ := conv(o)
	switch {
	case p.x == o.out[0]:
		return kernels.NewConvBF16Data(spec)
	case settled && p.y.layout != nil:
		return kernels.NewConvBF16Float(spec, *p.y.layout)
	}
	return kernels.NewConvBF16(spec)
}

// specBF16 is the geometry of a convolution, forward, transposed or a gradient.
func specBF16(o *op, settled bool) (kernels.ConvBF16Spec, error) {
	p, _ := conv(o)
	w, ok := lineWindow(o)
	if !ok {
		return kernels.ConvBF16Spec{}, fmt.Errorf("lines of %v and %v pixels do not fit", p.x.folded(),
			p.y.folded())
	}
	hx, hy := w.halos()
	x, y := linesOf(p.x, hx), linesOf(p.y, hy)
	if settled && p.x.lines != nil {
		x = *p.x.lines
	}
	if settled && p.y.lines != nil {
		y = *p.y.lines
	}
	if gathers(o) {
		g, err := planGather(o)
		if err != nil {
			return kernels.ConvBF16Spec{}, err
		}
		return kernels.ConvBF16Spec{X: g.Lines, Y: y, Window: g.Window}, nil
	}
	if p.forward(o) && w.strides() {
		s, err := kernels.NewSubsample(x, w.sh, w.sw)
		if err != nil {
			return kernels.ConvBF16Spec{}, err
		}
		return kernels.ConvBF16Spec{X: s.Out, Y: y, Window: w.unstrided().window()}, nil
	}
	return kernels.ConvBF16Spec{X: x, Y: y, Window: w.window()}, nil
}

// convLines lowers Conv, ConvTranspose and ConvGradInput in bf16, with what was fused into them.
func (l *lowering) convLines(o *op) (bool, error) {
	l.spreads = true
	if depthwise(o) {
		return true, l.depthwiseLines(o)
	}
	c, err := planBF16(o, true)
	if err != nil {
		return false, err
	}
	bias := l.paddedBias(o)
	w, err := l.packedBF16(o, c)
	if err != nil {
		return false, err
	}
	from, read, err := l.linesRead(o)
	if err != nil {
		return false, err
	}
	scratch, per := l.perWorker(c.Scratch())
	if o.residual != nil && o.residual != o.in[0] { // each pixel is read when it is written
		l.inPlace(o, o.out[0], o.residual)
	}
	bufs := append([]*buffer{from, w, scratch, l.of(o.out[0])}, l.all(o.residual)...)
	if bias != nil {
		bufs = append(bufs, bias)
	}
	name := "conv "
	if o.node.Domain == ops.GradDomain {
		name = "conv backward-data "
	}
	s := l.add(name+kernels.LevelBF16()+" bf16", c.Chunks(), bufs, func() func(int, int) {
		x, weights := read(), w.half(c.WeightSize())
		e := o.epilogueBF16(bias)
		if o.out[0].lines != nil {
			y := o.out[0].half()
			return func(chunk, worker int) { c.Run(chunk, scratch.data[worker*per:][:per], y, x, weights, e) }
		}
		y := o.out[0].f()
		return func(chunk, worker int) {
			c.RunFloat(chunk, scratch.data[worker*per:][:per], y, x, weights, e)
		}
	})
	s.flops, s.cycles = convFLOPs(o), c.Cost()
	if o.then != nil && o.gate() == nil {
		l.mapInPlace(o.then, o.out[0])
	}
	if o.mask != nil {
		l.maskLines(o.out[0], o.out[0], o.mask)
	}
	return true, nil
}

// gate is the function after a convolution to bf16 where its kernel takes it, else nil.
func (o *op) gate() *kernels.Gate {
	if o.then == nil || o.out[0].lines == nil || o.residual != nil {
		return nil
	}
	return o.then.Gate()
}

// epilogueBF16 is what was fused into a convolution in bf16.
func (o *op) epilogueBF16(bias *buffer) kernels.EpilogueBF16 {
	e := kernels.EpilogueBF16{Residual: o.residual.half(), ReLU: o.relu, High: o.high, Gate: o.gate()}
	if bias != nil {
		e.Bias = bias.data
	}
	return e
}

// depthwiseLines lowers Conv of each channel on its own in bf16, with what was fused into it.
func (l *lowering) depthwiseLines(o *op) error {
	k, err := planDepthwiseBF16(o, true)
	if err != nil {
		return err
	}
	w, bias := o.in[1].konst, l.paddedBias(o)
	packed := l.form(w, k.Form(), k.WeightSize(), 1, func(dst []float32, _ int) { k.Pack(dst, w.Float32s()) })
	bufs := append([]*buffer{packed}, l.all(o.in[0], o.out[0], o.residual)...)
	if bias != nil {
		bufs = append(bufs, bias)
	}
	s := l.add("depthwise conv "+kernels.LevelBF16()+" bf16", k.Chunks(), bufs, func() func(int, int) {
		y, x, e := o.out[0].half(), o.in[0].half(), o.epilogueBF16(bias)
		return func(chunk, _ int) { k.Run(chunk, y, x, packed.data, e) }
	})
	s.flops, s.cycles = convFLOPs(o), k.Cost()
	return nil
}

// linesRead is what a convolution in bf16 reads as its map: its input, or what is gathered from that.
func (l *lowering) linesRead(o *op) (*buffer, func() []uint16, error) {
	if !gathers(o) {
		p, _ := conv(o)
		if w, ok := lineWindow(o); ok && p.forward(o) && w.strides() {
			b, s, err := l.subsample(o, w)
			if err != nil {
				return nil, nil, err
			}
			return b, func() []uint16 { return b.half(s.Out.Size()) }, nil
		}
		return l.of(o.in[0]), func() []uint16 { return o.in[0].half() }, nil
	}
	g, err := planGather(o)
	if err != nil {
		return nil, nil, err
	}
	b := l.gatherLines(o, g)
	return b, func() []uint16 { return b.half(g.Lines.Size()) }, nil
}

// subsample appends the step that copies the pixels that o, whose window is w, reads of its input in lines, and
// gives what it writes.
func (l *lowering) subsample(o *op, w geometry) (*buffer, *kernels.Subsample, error) {
	s, err := kernels.NewSubsample(*o.in[0].lines, w.sh, w.sw)
	if err != nil {
		return nil, nil, err
	}
	bytes := 2 * int64(s.Out.Size())
	b := l.buffer(int((bytes + 3) / 4))
	step := l.add("subsample", s.Chunks(), []*buffer{l.of(o.in[0]), b}, func() func(int, int) {
		dst, src := b.bytes(bytes), o.in[0].buf.bytes(o.in[0].memory())
		return func(chunk, _ int) { s.Run(chunk, dst, src) }
	})
	step.cycles = s.Cost()
	return b, s, nil
}

// mapInPlace takes a function of a value where it lies.
func (l *lowering) mapInPlace(f *kernels.Map, v *value) {
	if v.form() == linesForm {
		l.flatLines("function bf16", v, []*value{v}, func(y []uint16, _ [][]uint16, lo, hi int) {
			kernels.MapBF16(f, y[lo:hi], y[lo:hi])
		})
		return
	}
	n := int(v.size())
	if v.layout != nil {
		n = v.layout.Size()
	}
	l.add("function", (n+flatChunk-1)/flatChunk, l.all(v), func() func(int, int) {
		all := v.f()[:n]
		return func(chunk, _ int) {
			part := all[chunk*flatChunk : min(n, (chunk+1)*flatChunk)]
			f.Forward(part, part)
		}
	})
}

// farMatrix is the values of a matrix that does not stay in the second-level cache, in float32.
const farMatrix = 256 << 10

// gemmInBF16 reports whether a product with a constant matrix runs faster in bf16, rounding of A included.
func gemmInBF16(o *op, s kernels.GemmSpec) bool {
	if o.in[1].kind != constant || s.TransA || s.N < 32 || s.K < 32 {
		return false
	}
	if s.M < 8 { // a few rows take as long as B from memory, of which bf16 is half
		return int64(s.N)*int64(s.K) >= farMatrix
	}
	gain := 2 * float64(s.M) * float64(s.N) * float64(s.K) * (1./floatRate - 1./bf16Rate)
	return gain > 6*float64(s.M)*float64(s.K)/reorderRate
}

// chains reports whether products in bf16 alone read the output of o, a product, so that it can be what they
// read: rows of bf16.
func chains(o *op, s kernels.GemmSpec) bool {
	y := o.out[0]
	if y.output || s.N%lineChannels != 0 || o.then != nil && o.then.Gate() == nil {
		return false
	}
	for _, u := range y.users {
		if !u.path().product || u.in[0] != y || slices.Contains(u.in[1:], y) || !fastGemm(u) {
			return false
		}
		if t := gemmSpec(u); t.M != s.M || t.K != s.N || !gemmInBF16(u, t) {
			return false
		}
	}
	return len(y.users) > 0
}

// bf16Rows is the first input of a product as rows of bf16.
func (l *lowering) bf16Rows(x *value, g *kernels.GemmBF16) *buffer {
	if rows := l.rowsOf[x]; rows != nil {
		return rows
	}
	rows := l.buffer((g.M*g.LDA + 1) / 2)
	l.add("to bf16", g.RowsChunks(), []*buffer{l.of(x), rows}, func() func(int, int) {
		dst, src := rows.half(g.M*g.LDA), x.plainFloats()
		return func(chunk, _ int) { g.Rows(chunk, dst, src) }
	})
	return rows
}

// gemmBF16 lowers Gemm and MatMul with a constant B in bf16, from and to float32 where no other
// such product is before or behind them.
func (l *lowering) gemmBF16(o *op, s kernels.GemmSpec) (bool, error) {
	spec := kernels.GemmBF16Spec{M: s.M, N: s.N, K: s.K, LDA: kernels.PaddedLDA(s.K), Float: true}
	chained := chains(o, s)
	if chained {
		spec.LDC, spec.Float = kernels.PaddedLDA(s.N), false
	}
	g, err := kernels.NewGemmBF16(spec)
	if err != nil {
		return false, err
	}
	rows, to := l.bf16Rows(o.in[0], g), (*buffer)(nil)
	if chained {
		to = l.buffer((g.M*g.LDC + 1) / 2)
		l.rowsOf[o.out[0]] = to
	} else {
		to = l.of(o.out[0])
	}
	form := fmt.Sprintf("bf16 panels, transposed %t", s.TransB)
	matrix := l.form(o.in[1].konst, form, (g.PackedSize()+1)/2, g.PackChunks(),
		func(dst []float32, chunk int) {
			g.Pack(chunk, (&buffer{data: dst}).half(g.PackedSize()), o.in[1].konst.Float32s(), s.TransB)
		})
	bias := l.paddedBias(o)
	scratch, per := l.perWorker(g.Scratch())
	bufs := []*buffer{rows, matrix, scratch, to}
	if bias != nil {
		bufs = append(bufs, bias)
	}
	step := l.add("gemm "+kernels.LevelBF16()+" bf16", g.Chunks(), bufs, func() func(int, int) {
		a, b := rows.half(s.M*g.LDA), matrix.half(g.PackedSize())
		e := kernels.EpilogueBF16{ReLU: o.relu}
		if bias != nil {
			e.Bias = bias.data
		}
		if chained {
			c := to.half(g.M * g.LDC)
			if o.then != nil {
				e.Gate = o.then.Gate()
			}
			return func(chunk, worker int) { g.Run(chunk, scratch.data[worker*per:][:per], c, a, b, e) }
		}
		c := o.out[0].plainFloats()
		return func(chunk, worker int) { g.RunFloat(chunk, scratch.data[worker*per:][:per], c, a, b, e) }
	})
	step.flops, step.cycles = 2*int64(s.M)*int64(s.N)*int64(s.K), g.Cost()
	if o.then != nil && !chained {
		l.mapInPlace(o.then, o.out[0])
	}
	return true, nil
}

// packedBF16 is the weights of o as c reads them: made once for constants, in every run for what is computed.
func (l *lowering) packedBF16(o *op, c *kernels.ConvBF16) (*buffer, error) {
	if isFoldedConv(o) {
		return l.packedFolded(o, c)
	}
	w, floats := o.in[1], (c.WeightSize()+1)/2
	pack := func(dst, src []float32) {
		if gathers(o) {
			g, _ := planGather(o)
			src = g.Weights(int(w.dims[0]), src)
		}
		c.Pack((&buffer{data: dst}).half(c.WeightSize()), src)
	}
	if taps, err := weightTaps(o); err == nil && w.kind == param && w.store.pack != nil &&
		w.store.pack.key == taps.Form() {
		dst := l.buffer(floats)
		l.add("pack weights bf16", c.TapChunks(), []*buffer{w.store.buf, dst}, func() func(int, int) {
			from, to := w.store.buf.data, dst.half(c.WeightSize())
			return func(chunk, _ int) { c.PackTaps(chunk, to, from) }
		})
		return dst, nil
	}
	if w.kind == constant {
		return l.form(w.konst, formBF16(o, c), floats, 1, func(dst []float32, _ int) {
			pack(dst, w.konst.Float32s())
		}), nil
	}
	src, dst := l.of(w), l.buffer(floats)
	l.add("pack weights", 1, []*buffer{src, dst}, func() func(int, int) {
		from, to := w.plainFloats(), dst.data
		return func(int, int) { pack(to, from) }
	})
	return dst, nil
}

// formBF16 names the form of the packed weights of o.
func formBF16(o *op, c *kernels.ConvBF16) string {
	if gathers(o) {
		return c.Form() + ", gathered"
	}
	return c.Form()
}

// paddedBias is input 2 of o, padded with zeros to whole blocks of bf16; nil where there is none.
func (l *lowering) paddedBias(o *op) *buffer {
	if len(o.in) < 3 || o.in[2] == nil {
		return nil
	}
	v, fold := o.in[2], o.out[0].folded()
	n := (int(v.size())*fold + kernels.BF16Lanes - 1) / kernels.BF16Lanes * kernels.BF16Lanes
	pad := func(dst, bias []float32) {
		at := 0
		for range fold {
			at += copy(dst[at:], bias)
		}
		clear(dst[at:])
	}
	if v.kind == constant {
		return l.form(v.konst, fmt.Sprintf("%d times, padded to 32", fold), n, 1, func(dst []float32, _ int) {
			pad(dst, v.konst.Float32s())
		})
	}
	src, dst := l.of(v), l.buffer(n)
	l.add("pad", 1, []*buffer{src, dst}, func() func(int, int) {
		return func(int, int) { pad(dst.data, v.plainFloats()) }
	})
	return dst
}

// reorderBF16 plans the conversion between lines and another form of the same map.
func reorderBF16(lines, other *value) (*kernels.ReorderBF16, error) {
	if other.layout != nil {
		return kernels.NewReorderBF16Blocked(*other.layout, *lines.lines)
	}
	return kernels.NewReorderBF16(*lines.lines)
}

// toBF16 lowers the rounding of a map to bf16.
func (l *lowering) toBF16(o *op) (bool, error) {
	k, err := reorderBF16(o.out[0], o.in[0])
	if err != nil {
		return false, err
	}
	s := l.add("to bf16", k.Chunks(), l.all(o.in[0], o.out[0]), func() func(int, int) {
		dst, src := o.out[0].half(), o.in[0].f()
		return func(chunk, _ int) { k.ToBF16(chunk, dst, src) }
	})
	s.cycles = k.Cost()
	return true, nil
}

// fromBF16 lowers the conversion of a map in bf16 to a form in float32.
func (l *lowering) fromBF16(o *op) (bool, error) {
	k, err := reorderBF16(o.in[0], o.out[0])
	if err != nil {
		return false, err
	}
	s := l.add("from bf16", k.Chunks(), l.all(o.in[0], o.out[0]), func() func(int, int) {
		dst, src := o.out[0].f(), o.in[0].half()
		return func(chunk, _ int) { k.FromBF16(chunk, dst, src) }
	})
	s.cycles = k.Cost()
	return true, nil
}
