package engine

import (
	"math"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/onnxio"
)

// What is done with maps of bytes beside convolutions: sums, tables, pools, and the ways in and out.

// quantizer is the conversion of a QuantizeLinear or DequantizeLinear; t is the type of its bytes.
func quantizer(o *op, t onnxio.DataType) (l kernels.Levels, ok bool) {
	if len(o.in) < 2 || t != onnxio.Uint8 && t != onnxio.Int8 || !o.in[1].floats() || o.in[1].size() != 1 ||
		o.node.Int("block_size", 0) != 0 {
		return l, false
	}
	if p := onnxio.DataType(o.node.Int("precision", 0)); p != onnxio.Undefined && p != onnxio.Float {
		return l, false
	}
	q := kernels.Quantized{Signed: t == onnxio.Int8}
	if len(o.in) > 2 && o.in[2] != nil {
		if o.in[2].kind != constant || o.in[2].size() != 1 {
			return l, false
		}
		q.Zero = levelOf(o.in[2].konst)
	}
	return kernels.NewLevels(o.in[1].konst.Float32s()[0], q), true
}

// quantizesMap reports whether a QuantizeLinear has one scale, from float32 to bytes.
func quantizesMap(o *op) bool {
	_, ok := quantizer(o, o.out[0].info.Type)
	return ok && isFloat(o.in[0])
}

// wantsBytes reports whether a reader of v works on lines.
func wantsBytes(v *value) bool {
	for _, u := range v.users {
		p := u.path()
		if p == nil || p.maps == nil || p.accepts != nil && !p.accepts(u) {
			continue
		}
		if m := p.maps(u); m.bytes && m.from == bytesForm {
			return true
		}
	}
	return false
}

// quantizedMaps is the form of QuantizeLinear: blocks or plain float32 to lines, where a reader wants these.
func quantizedMaps(o *op) maps {
	x, y := o.in[0], o.out[0]
	m := maps{in: []int{0}, out: []int{0}, from: blockedForm, to: bytesForm, bytes: true}
	if !x.isFloat4() || !y.isByte4() {
		return maps{bytes: true}
	}
	plain := x.form() == plainForm && x.twin(blockedForm) == nil && x.twin(linesForm) == nil
	if plain && !wantsBytes(y) {
		return maps{bytes: true}
	}
	if plain || y.lanes() == pixelLanes {
		m.from = plainForm
	}
	return m
}

// dequantizesMap reports whether a DequantizeLinear has one scale, from bytes to float32.
func dequantizesMap(o *op) bool {
	_, ok := quantizer(o, o.in[0].info.Type)
	return ok && isFloat(o.out[0])
}

// inLines reports whether v is there in lines.
func (v *value) inLines() bool {
	if v.twin(bytesForm) != nil {
		v = v.twin(bytesForm)
	}
	return v.form() == bytesForm && v.lanes() == kernels.Int8Lanes
}

// dequantizedMaps is the form of DequantizeLinear.
func dequantizedMaps(o *op) maps {
	if !o.in[0].isByte4() || !o.out[0].isFloat4() || !o.in[0].inLines() {
		return maps{bytes: true}
	}
	m := maps{in: []int{0}, out: []int{0}, from: bytesForm, to: blockedForm, bytes: true}
	if o.out[0].output {
		m.to = plainForm
	}
	return m
}

// reorderBytes plans the conversion between lines and another form of the same map.
func reorderBytes(lines, other *value) (*kernels.ReorderInt8, error) {
	if other.layout != nil {
		return kernels.NewReorderInt8Blocked(*other.layout, *lines.lines, lines.zero)
	}
	return kernels.NewReorderInt8(*lines.lines, lines.zero)
}

// quantize lowers QuantizeLinear.
func (l *lowering) quantize(o *op) (bool, error) {
	q, ok := quantizer(o, o.out[0].info.Type)
	if !ok || !isFloat(o.in[0]) {
		return false, nil
	}
	if o.out[0].form() != bytesForm {
		l.flatBytes("quantize", o.in[0], o.out[0], func(lo, hi int) {
			q.Quantize(o.out[0].bytes()[lo:hi], o.in[0].plainFloats()[lo:hi])
		})
		return true, nil
	}
	k, err := reorderBytes(o.out[0], o.in[0])
	if err != nil {
		return false, err
	}
	s := l.add("quantize", k.Chunks(), l.all(o.in[0], o.out[0]), func() func(int, int) {
		dst, src := o.out[0].bytes(), o.in[0].f()
		return func(chunk, _ int) { k.Quantize(chunk, dst, src, &q) }
	})
	s.cycles = k.Cost()
	return true, nil
}

// dequantize lowers DequantizeLinear.
func (l *lowering) dequantize(o *op) (bool, error) {
	q, ok := quantizer(o, o.in[0].info.Type)
	if !ok || !isFloat(o.out[0]) || o.in[0].kind == constant {
		return false, nil
	}
	if o.in[0].form() != bytesForm {
		l.flatBytes("dequantize", o.in[0], o.out[0], func(lo, hi int) {
			q.Dequantize(o.out[0].plainFloats()[lo:hi], o.in[0].bytes()[lo:hi])
		})
		return true, nil
	}
	k, err := reorderBytes(o.in[0], o.out[0])
	if err != nil {
		return false, err
	}
	s := l.add("dequantize", k.Chunks(), l.all(o.in[0], o.out[0]), func() func(int, int) {
		dst, src := o.out[0].f(), o.in[0].bytes()
		return func(chunk, _ int) { k.Dequantize(chunk, dst, src, &q) }
	})
	s.cycles = k.Cost()
	return true, nil
}

// flatBytes appends a step over plain values of one size.
func (l *lowering) flatBytes(kernel string, x, y *value, f func(lo, hi int)) {
	n := int(y.size())
	l.add(kernel, (n+flatChunk-1)/flatChunk, l.all(x, y), func() func(int, int) {
		return func(chunk, _ int) { f(chunk*flatChunk, min(n, (chunk+1)*flatChunk)) }
	})
}

// toBytes lowers the conversion of plain bytes to lines, fromBytes its reverse.
func (l *lowering) toBytes(o *op) (bool, error) {
	k, err := reorderBytes(o.out[0], o.in[0])
	if err != nil {
		return false, err
	}
	l.add("to lines", k.Chunks(), l.all(o.in[0], o.out[0]), func() func(int, int) {
		dst, src := o.out[0].bytes(), o.in[0].bytes()
		return func(chunk, _ int) { k.ToLines(chunk, dst, src) }
	})
	return true, nil
}

func (l *lowering) fromBytes(o *op) (bool, error) {
	k, err := reorderBytes(o.in[0], o.out[0])
	if err != nil {
		return false, err
	}
	l.add("from lines", k.Chunks(), l.all(o.in[0], o.out[0]), func() func(int, int) {
		dst, src := o.out[0].bytes(), o.in[0].bytes()
		return func(chunk, _ int) { k.FromLines(chunk, dst, src) }
	})
	return true, nil
}

// pairOf finds the quantizations of a QLinearAdd or QLinearMul of bytes, those of the second operand and the
// output last. ok is false where they are not known.
func pairOf(o *op) (q [3]quantization, ok bool) {
	y := o.out[0]
	if len(o.in) < 7 || !y.isByte() || y.size() < 2 {
		return q, false
	}
	for i, scale := range []int{1, 4, 6} {
		if q[i], ok = looseQuantization(o, scale, y.info.Type); !ok || q[i].typ != y.info.Type {
			return q, false
		}
	}
	same := func(v *value) bool {
		return v.isByte() && v.info.Type == y.info.Type && equalDims(v.dims, y.dims)
	}
	return q, same(o.in[0]) && (same(o.in[3]) || o.gated())
}

// gated reports whether the second operand has one number for each channel of the first.
func (o *op) gated() bool {
	a, b := o.in[0], o.in[3]
	return a.isByte4() && b.isByte4() && equalDims(b.dims, []int64{a.dims[0], a.dims[1], 1, 1})
}

// scaled is the scale as a number.
func (q quantization) scaled() float32 { return q.scale.konst.Float32s()[0] }

// adder is the kernel of a QLinearAdd of two maps of one shape.
func adder(o *op) (k kernels.AddBytes, ok bool) {
	q, ok := pairOf(o)
	if !ok || !equalDims(o.in[0].dims, o.in[3].dims) {
		return k, false
	}
	k = kernels.NewAddBytes(q[0].kind(), q[1].kind(), q[2].kind(), q[0].scaled(), q[1].scaled(),
		q[2].scaled())
	if o.within != nil {
		k.Low, k.High = max(k.Low, float32(o.within[0])), min(k.High, float32(o.within[1]))
	}
	return k, finite(k.ByA, k.ByB, k.Fixed)
}

// multiplier is the kernel of a QLinearMul of two maps of one shape, or of a map and
// a number for each channel.
func multiplier(o *op) (k kernels.MulBytes, ok bool) {
	q, ok := pairOf(o)
	if !ok {
		return k, false
	}
	k = kernels.NewMulBytes(q[0].kind(), q[1].kind(), q[2].kind(), q[0].scaled(), q[1].scaled(),
		q[2].scaled())
	return k, finite(k.By)
}

func finite(numbers ...float32) bool {
	for _, f := range numbers {
		if f != f || math.IsInf(float64(f), 0) {
			return false
		}
	}
	return true
}

func integerAdd(o *op) bool {
	_, ok := adder(o)
	return ok
}

func integerMul(o *op) bool {
	_, ok := multiplier(o)
	return ok
}

// pairMaps is the form of QLinearAdd and QLinearMul: lines where an input is in lines.
func pairMaps(o *op) maps {
	if !o.out[0].isByte4() || !o.in[0].inLines() && !o.in[3].inLines() {
		return maps{bytes: true}
	}
	return maps{in: []int{0, 3}, out: []int{0}, from: bytesForm, to: bytesForm, bytes: true}
}

// addBytes lowers QLinearAdd.
func (l *lowering) addBytes(o *op) (bool, error) {
	k, ok := adder(o)
	if !ok {
		return false, nil
	}
	return l.pairBytes("add int8", o, func(y, a, b []uint8, _ bool) { k.Run(y, a, b) })
}

// mulBytes lowers QLinearMul.
func (l *lowering) mulBytes(o *op) (bool, error) {
	k, ok := multiplier(o)
	if !ok || o.out[0].form() != bytesForm && o.gated() && o.out[0].size() != o.in[3].size() {
		return false, nil
	}
	return l.pairBytes("multiply int8", o, func(y, a, b []uint8, gated bool) {
		if gated {
			k.Run(y, a, b, 0)
			return
		}
		k.Run(y, a, b, kernels.Int8Lanes)
	})
}

// pairBytes appends a step over two maps of bytes, in lines or plain, whose buffers are whole lines.
func (l *lowering) pairBytes(kernel string, o *op, run func(y, a, b []uint8, gated bool)) (bool, error) {
	a, b, y := o.in[0], o.in[3], o.out[0]
	if y.form() == bytesForm {
		gated := !equalDims(a.dims, b.dims)
		return true, l.walk(kernel, y, []*value{a, b}, func() func(at []int, n int) {
			to, p, q := y.bytes(), a.bytes(), b.bytes()
			return func(at []int, n int) { run(to[at[0]:][:n], p[at[1]:][:n], q[at[2]:], gated) }
		})
	}
	const line = kernels.Int8Lanes
	n := (int(y.size()) + line - 1) / line * line
	l.add(kernel, (n+flatChunk-1)/flatChunk, l.all(a, b, y), func() func(int, int) {
		to, p, q := y.buf.bytes(int64(n)), a.buf.bytes(int64(n)), b.buf.bytes(int64(n))
		return func(chunk, _ int) {
			lo, hi := chunk*flatChunk, min(n, (chunk+1)*flatChunk)
			run(to[lo:hi], p[lo:hi], q[lo:hi], false)
		}
	})
	return true, nil
}

// walk appends a step over the rows of maps in lines.
func (l *lowering) walk(kernel string, y *value, ins []*value, bind func() func(at []int, n int)) error {
	var layouts []kernels.LineLayout
	for _, v := range ins {
		layouts = append(layouts, *v.lines)
	}
	k, err := kernels.NewWalkInt8(y.zero, *y.lines, layouts...)
	if err != nil {
		return err
	}
	l.add(kernel, k.Chunks(), append(l.all(ins...), l.of(y)), func() func(int, int) {
		f, to := bind(), y.bytes()
		return func(chunk, _ int) { k.Each(chunk, to, f) }
	})
	return nil
}

// levelBounds are what a Clip of bytes clips to.
func levelBounds(o *op) (low, high int32, ok bool) {
	if o.node.Attr("min") != nil || o.node.Attr("max") != nil { // before version 11, of floats
		return 0, 0, false
	}
	low, high = 0, math.MaxUint8
	if o.in[0].info.Type == onnxio.Int8 {
		low, high = math.MinInt8, math.MaxInt8
	}
	for i, to := range []*int32{&low, &high} {
		if len(o.in) <= i+1 || o.in[i+1] == nil {
			continue
		}
		v := o.in[i+1]
		if v.kind != constant || v.size() != 1 || v.info.Type != o.in[0].info.Type {
			return 0, 0, false
		}
		*to = levelOf(v.konst)
	}
	return low, high, low <= high && (low != 0 || high != 0)
}

// clipsBytes reports whether the bounds of a Clip of bytes are known.
func clipsBytes(o *op) bool {
	_, _, ok := levelBounds(o)
	return ok && len(o.out) == 1 && o.out[0].isByte()
}

// lookUp lowers functions of one byte: Table, and Clip.
func (l *lowering) lookUp(o *op) (bool, error) {
	table := &kernels.ByteTable{}
	if o.node.Domain == bytesDomain {
		copy(table[:], o.in[1].konst.Raw)
	} else {
		low, high, ok := levelBounds(o)
		if !ok {
			return false, nil
		}
		for i := range table {
			n := int32(i)
			if o.in[0].info.Type == onnxio.Int8 {
				n = int32(int8(i))
			}
			table[i] = uint8(max(low, min(n, high)))
		}
	}
	x, y := o.in[0], o.out[0]
	if y.form() != bytesForm {
		l.flatBytes("table", x, y, func(lo, hi int) { table.Run(y.bytes()[lo:hi], x.bytes()[lo:hi]) })
		return true, nil
	}
	return true, l.walk("table", y, []*value{x}, func() func(at []int, n int) {
		to, from := y.bytes(), x.bytes()
		return func(at []int, n int) { table.Run(to[at[0]:][:n], from[at[1]:][:n]) }
	})
}

// integerPool reports whether package kernels runs a pooling of bytes.
func integerPool(o *op) bool {
	_, err := planIntegerPool(o)
	return err == nil
}

// joinsBytes reports whether a Concat is one of maps of bytes along their channels.
func joinsBytes(o *op) bool {
	for _, v := range o.in {
		if !v.isByte4() || v.size() == 0 {
			return false
		}
	}
	return alongChannels(o)
}

// joinedBytes is the form of such a Concat: lines where an input is in lines.
func joinedBytes(o *op) maps {
	for _, v := range o.in {
		if v.inLines() {
			return maps{in: upTo(len(o.in)), out: []int{0}, from: bytesForm, to: bytesForm, bytes: true}
		}
	}
	return maps{bytes: true}
}

// joinBytes lowers Concat of lines.
func (l *lowering) joinBytes(o *op) (bool, error) {
	y := o.out[0]
	if y.form() != bytesForm {
		return false, nil
	}
	var parts []*kernels.PartInt8
	first := 0
	for _, v := range o.in {
		p, err := kernels.NewPartInt8(*y.lines, *v.lines, first, y.zero)
		if err != nil {
			return false, err
		}
		parts = append(parts, p)
		first += int(v.dims[1])
	}
	l.add("concat int8", parts[0].Chunks(), append(l.all(o.in...), l.of(y)), func() func(int, int) {
		to := y.bytes()
		var from [][]uint8
		for _, v := range o.in {
			from = append(from, v.bytes())
		}
		return func(chunk, _ int) {
			for i, p := range parts {
				p.Join(chunk, to, from[i])
			}
		}
	})
	return true, nil
}
