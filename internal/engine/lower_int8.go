package engine

import (
	"fmt"
	"hash/maphash"
	"math"
	"unsafe"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Convolutions and matrix products of bytes with int32 sums, requantized: QLinearConv, QLinearMatMul, QGemm.

// Int8Level is the instruction set of the kernels of bytes: "amx", "avx512vnni" or "go".
func Int8Level() string { return kernels.LevelInt8() }

// integerKernel is a kernel: *kernels.ConvInt8 or *kernels.DepthwiseInt8.
type integerKernel interface {
	Form(groups int) string
	WeightSize() int
	Outputs() int
	Place(output int) int
	Pack(dst []uint8, weights []int16, groups int)
	Offset(dst []int32, weights []int16, bias []int32)
	Chunks() int
	Scratch() int
	Run(chunk int, scratch []float32, y, x, w []uint8, e kernels.Requantize)
	Cost() float64
}

// linearOp is the inputs of an operator of quantized linear algebra: a by constant weights b gives y.
type linearOp struct {
	a, y      quantization
	x, w      *value
	bias      *value
	weighted  []float32 // scales of b
	zeros     []int32   // zero points of b
	transB    bool
	copies    int // of a's rows, for weights that exceed int8 without their zero points
	alpha     float32
	realValue bool // y is float32
}

// linear finds the inputs; ok is false where something is not known, or is what no kernel computes.
func linear(o *op, bias, y int) (l linearOp, ok bool) {
	l.x, l.w, l.alpha = o.in[0], o.in[3], 1
	if l.a, ok = linearQuantization(o, 1, 2); !ok || !l.x.isByte() || l.a.typ != l.x.info.Type ||
		l.x.size() == 0 {
		return l, false
	}
	if l.y, ok = linearQuantization(o, y, y+1); ok && o.out[0].info.Type != l.y.typ {
		return l, false
	}
	if l.realValue = !ok && o.out[0].info.Type == onnxio.Float && len(o.in) <= y; !ok && !l.realValue {
		return l, false
	}
	if l.w.kind != constant || !l.w.isByte() || !o.in[4].floats() || o.out[0].size() == 0 {
		return l, false
	}
	l.weighted = o.in[4].konst.Float32s()
	if l.zeros, ok = zerosOf(o.in[5], l.w.info.Type); !ok {
		return l, false
	}
	if bias >= 0 && bias < len(o.in) && o.in[bias] != nil {
		if l.bias = o.in[bias]; l.bias.kind != constant || l.bias.info.Type != onnxio.Int32 {
			return l, false
		}
	}
	for i := range l.weighted {
		if s := l.scale(i); s != s || math.IsInf(float64(s), 0) {
			return l, false
		}
	}
	return l, true
}

// zerosOf are the numbers of a zero point.
func zerosOf(v *value, t onnxio.DataType) ([]int32, bool) {
	if v == nil {
		return []int32{0}, true
	}
	if v.kind != constant || v.info.Type != t {
		return nil, false
	}
	out := make([]int32, v.size())
	for i, b := range v.konst.Raw {
		out[i] = int32(b)
		if t == onnxio.Int8 {
			out[i] = int32(int8(b))
		}
	}
	return out, len(out) > 0
}

// scale is what the sums of output i are multiplied with.
func (l *linearOp) scale(i int) float32 {
	s := l.a.scale.konst.Float32s()[0] * l.weighted[i%len(l.weighted)]
	if !l.realValue {
		s /= l.y.scale.konst.Float32s()[0]
	}
	return l.alpha * s
}

// fits reports whether scales and zero points are one, or one for each of n outputs.
func (l *linearOp) fits(n int64) bool {
	one := func(m int) bool { return m == 1 || int64(m) == n }
	return one(len(l.weighted)) && one(len(l.zeros)) && (l.bias == nil || l.bias.size() == n)
}

// most is the largest difference of a weight and its zero point, in size; output
// tells whose zero point it is.
func (l *linearOp) most(output func(i int) int) int32 {
	most := int32(0)
	for i, b := range l.w.konst.Raw {
		w := int32(b)
		if l.w.info.Type == onnxio.Int8 {
			w = int32(int8(b))
		}
		if w -= l.zeros[output(i)%len(l.zeros)]; w == -128 {
			w++ // it fits
		}
		most = max(most, w, -w)
	}
	return most
}

// centered are the weights less their zero points.
func (l *linearOp) centered(output func(i int) int) []int16 {
	out := make([]int16, len(l.w.konst.Raw))
	for i, b := range l.w.konst.Raw {
		w := int32(b)
		if l.w.info.Type == onnxio.Int8 {
			w = int32(int8(b))
		}
		out[i] = int16(w - l.zeros[output(i)%len(l.zeros)])
	}
	return out
}

var zeroSeed = maphash.MakeSeed()

// form names packed weights together with the zero points that were taken off.
func (l *linearOp) form(of string) string {
	raw := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(l.zeros))), 4*len(l.zeros))
	return fmt.Sprintf("%s, zero %x", of, maphash.Bytes(zeroSeed, raw))
}

// kind is a quantization as kernels know it.
func (q quantization) kind() kernels.Quantized {
	return kernels.Quantized{Signed: q.typ == onnxio.Int8, Zero: q.level()}
}

// requantize is bias and scales in the order of the kernel.
func (l *linearOp) requantize(o *op, outputs, padded int, place func(int) int,
	offset []int32) kernels.Requantize {
	e := kernels.Requantize{Bias: offset, Scale: make([]float32, padded)}
	for i := range outputs {
		e.Scale[place(i)] = l.scale(i)
	}
	if o.within != nil {
		e.Low, e.High = o.within[0], o.within[1]
	}
	return e
}

// biases are the numbers of the bias, nil where there is none.
func (l *linearOp) biases() []int32 {
	if l.bias == nil {
		return nil
	}
	return onnxio.Data[int32](l.bias.konst)
}

// mostExpanded bounds the weights of a convolution in groups that is multiplied as one.
const mostExpanded = 1 << 26

// integerConv reports whether package kernels runs a QLinearConv.
func integerConv(o *op) bool {
	_, _, _, err := planInteger(o, false)
	return err == nil
}

// planInteger makes the kernel of a QLinearConv: from the layouts of its values once they are settled, else
// with the halos that it needs.
func planInteger(o *op, settled bool) (k integerKernel, l linearOp, groups int, err error) {
	l, ok := linear(o, 8, 6)
	if !ok || !l.x.isByte4() || !o.out[0].isByte4() || len(l.w.dims) != 4 || !l.fits(l.w.dims[0]) {
		return nil, l, 0, fmt.Errorf("not a two-dimensional convolution with constant weights")
	}
	if o.node.Int("channels_last", 0) != 0 || !agreeing(o) {
		return nil, l, 0, fmt.Errorf("channels last, or padding with several values")
	}
	x, y := l.x, o.out[0]
	w, ok := window(o, l.w.dims[2:], x.dims, y.dims)
	if !ok {
		return nil, l, 0, fmt.Errorf("not a two-dimensional convolution")
	}
	halo, _ := w.halos()
	spec := kernels.ConvInt8Spec{X: byteLines(x, halo), Y: byteLines(y, 0), From: l.a.kind(), To: l.y.kind(),
		Fill: y.zero, Window: w.window()}
	if settled {
		spec.X, spec.Y = *x.lines, *y.lines
	}
	groups = group(o)
	most := l.most(l.output)
	if int64(groups) == x.dims[1] && x.dims[1] == y.dims[1] && groups > 1 && most <= math.MaxInt8 &&
		spec.X.Lanes == kernels.Int8Lanes {
		k, err = kernels.NewDepthwiseInt8(spec)
		return k, l, groups, err
	}
	if groups > 1 && l.w.size()*int64(groups) > mostExpanded {
		return nil, l, 0, fmt.Errorf("%d groups of %v weights", groups, l.w.dims)
	}
	spec.Copies = kernels.Int8Copies(most)
	k, err = kernels.NewConvInt8(spec)
	return k, l, groups, err
}

// output is the output of a convolution that weight i belongs to.
func (l *linearOp) output(i int) int { return i / (len(l.w.konst.Raw) / int(l.w.dims[0])) }

// agreeing reports whether all that pad o's input pad it with the same byte.
func agreeing(o *op) bool {
	for _, u := range o.in[0].users {
		if z := u.padding(); z != nil && levelOf(z) != levelOf(o.in[2].konst) {
			return false
		}
	}
	return true
}

// padding is the zero point with which o pads its first input; nil where it does not, or none is known.
func (o *op) padding() *onnxio.Tensor {
	if p := o.path(); p.padding == 0 || p.padding >= len(o.in) || o.in[p.padding] == nil {
		return nil
	}
	t := o.in[o.path().padding].konst
	if t == nil || len(t.Raw) != 1 {
		return nil
	}
	return t
}

// pixelLanes are those of maps of few channels.
const pixelLanes = kernels.PixelLanes

// lanes are those of v as a map of bytes: 4 where it has few channels, and convolutions alone read it.
func (v *value) lanes() int {
	if v.lines != nil {
		return v.lines.Lanes
	}
	made := v.kind == computed && v.producer != nil && v.producer.role() != quantizes
	if v.dims[1] > pixelLanes || len(v.users) == 0 || v.output || made {
		return kernels.Int8Lanes
	}
	for _, u := range v.users {
		p := u.path()
		if p == nil || p.padding == 0 || u.in[0] != v || len(u.in[3].dims) != 4 ||
			u.in[3].dims[3] > kernels.Block ||
			u.node.Ints("dilations", 1, 1)[1] != 1 || group(u) != 1 {
			return kernels.Int8Lanes
		}
	}
	return pixelLanes
}

// byteLines is the layout of v as a map of bytes.
func byteLines(v *value, halo int) kernels.LineLayout {
	return kernels.LineLayout{N: int(v.dims[0]), C: int(v.dims[1]), H: int(v.dims[2]), W: int(v.dims[3]),
		Halo: halo, Lanes: v.lanes()}
}

// shapeBytes makes v a map of bytes. Its halo is settled last.
func (v *value) shapeBytes() {
	for _, u := range v.users {
		if z := u.padding(); z != nil {
			v.zero = z.Raw[0]
			break
		}
	}
	y := byteLines(v, 0)
	v.lines = &y
}

// haloInteger records the halo that a QLinearConv needs.
func haloInteger(l *layouts, o *op) {
	w, _ := window(o, o.in[3].dims[2:], o.in[0].dims, o.out[0].dims)
	halo, _ := w.halos()
	l.need(o.in[0], halo)
}

// levels is v's memory as bytes, after allocation.
func (v *value) bytes() []uint8 {
	if v.form() == bytesForm {
		return v.buf.bytes(int64(v.lines.Size()))
	}
	return v.buf.bytes(v.size())
}

// convInt8 lowers QLinearConv.
func (l *lowering) convInt8(o *op) (bool, error) {
	if o.in[0].form() != bytesForm || o.out[0].form() != bytesForm {
		return false, nil
	}
	k, p, groups, err := planInteger(o, true)
	if err != nil {
		return false, err
	}
	w := p.centered(p.output)
	packed := l.form(p.w.konst, p.form(k.Form(groups)), (k.WeightSize()+3)/4, 1, func(dst []float32, _ int) {
		k.Pack((&buffer{data: dst}).bytes(int64(k.WeightSize())), w, groups)
	})
	offset := make([]int32, k.Outputs())
	k.Offset(offset, w, p.biases())
	e := p.requantize(o, int(p.w.dims[0]), k.Outputs(), k.Place, offset)
	scratch, per := l.perWorker(k.Scratch())
	name := "conv "
	if _, dense := k.(*kernels.ConvInt8); !dense {
		name = "depthwise conv "
	}
	s := l.add(name+kernels.LevelInt8()+" int8", k.Chunks(), []*buffer{l.of(o.in[0]), packed, scratch,
		l.of(o.out[0])}, func() func(int, int) {
		y, x, w := o.out[0].bytes(), o.in[0].bytes(), packed.bytes(int64(k.WeightSize()))
		return func(chunk, worker int) { k.Run(chunk, scratch.data[worker*per:][:per], y, x, w, e) }
	})
	s.flops = 2 * o.out[0].size() * p.w.size() / p.w.dims[0]
	s.cycles = k.Cost()
	return true, nil
}

// productOf finds the inputs of QGemm and QLinearMatMul.
func productOf(o *op) (l linearOp, s kernels.GemmInt8Spec, ok bool) {
	bias, y := -1, 6
	if o.node.Domain == microsoft {
		bias, y = 6, 7
	}
	if len(o.in) < 6 {
		return l, s, false
	}
	l, ok = linear(o, bias, y)
	if !ok || len(l.w.dims) != 2 || len(l.x.dims) < 2 || o.node.Int("transA", 0) != 0 {
		return l, s, false
	}
	l.transB, l.alpha = o.node.Int("transB", 0) != 0, o.node.Float("alpha", 1)
	k, n := l.w.dims[0], l.w.dims[1]
	if l.transB {
		k, n = n, k
	}
	if l.x.dims[len(l.x.dims)-1] != k || !l.fits(n) {
		return l, s, false
	}
	l.copies = kernels.Int8Copies(l.most(l.column))
	line := int(k+63) / 64 * 64
	s = kernels.GemmInt8Spec{M: int(l.x.size() / k), N: int(n), K: int(k) + (l.copies-1)*line,
		LDA: l.copies * line, From: l.a.kind(),
		Sums: l.realValue}
	if !l.realValue {
		s.To = l.y.kind()
	}
	return l, s, true
}

// matrix is the weights of a product [K,N] less their zero points, in parts that fit
// int8, behind one another.
func (l *linearOp) matrix(s kernels.GemmInt8Spec) []int8 {
	wide := l.centered(l.column)
	k := s.K - (l.copies-1)*s.LDA/l.copies
	out := make([]int8, s.K*s.N)
	for i, w := range wide {
		row, column := i/s.N, i%s.N
		if l.transB {
			row, column = i%k, i/k
		}
		for copied := range l.copies {
			part := max(math.MinInt8, min(w, math.MaxInt8))
			out[(row+copied*s.LDA/l.copies)*s.N+column] = int8(part)
			w -= part
		}
	}
	return out
}

// column is the output of a product that element i of the weights belongs to.
func (l *linearOp) column(i int) int {
	if l.transB {
		return i / int(l.w.dims[1])
	}
	return i % int(l.w.dims[1])
}

// integerGemm reports whether package kernels runs a QGemm or QLinearMatMul.
func integerGemm(o *op) bool {
	_, s, ok := productOf(o)
	if !ok {
		return false
	}
	_, err := kernels.NewGemmInt8(s)
	return err == nil
}

// gemmInt8 lowers QGemm and QLinearMatMul.
func (l *lowering) gemmInt8(o *op) (bool, error) {
	p, spec, ok := productOf(o)
	if !ok {
		return false, nil
	}
	g, err := kernels.NewGemmInt8(spec)
	if err != nil {
		return false, err
	}
	b := p.matrix(spec)
	packed := l.form(p.w.konst, p.form(fmt.Sprintf("int8 panels, transposed %t", p.transB)),
		(g.PackedSize()+3)/4, g.PackChunks(),
		func(dst []float32, chunk int) {
			g.Pack(chunk, (&buffer{data: dst}).bytes(int64(g.PackedSize())), b, false)
		})
	offset := make([]int32, g.Outputs())
	g.Offset(offset, b, p.biases(), false)
	e := p.requantize(o, spec.N, g.Outputs(), func(i int) int { return i }, offset)
	rows := l.paddedRows(o.in[0], spec, p.copies)
	scratch, per := l.perWorker(g.Scratch())
	out, bytesOfA := l.of(o.out[0]), int64(spec.M*spec.LDA)
	sums := out
	if spec.Sums {
		sums = l.buffer(spec.M * spec.N)
	}
	s := l.add("gemm "+kernels.LevelInt8()+" int8", g.Chunks(), []*buffer{rows, packed, scratch, sums},
		func() func(int, int) {
			a, b := rows.bytes(bytesOfA), packed.bytes(int64(g.PackedSize()))
			if spec.Sums {
				c := sums.ints(spec.M * spec.N)
				return func(chunk, worker int) {
					g.RunSums(chunk, scratch.data[worker*per:][:per], c, a, b, offset)
				}
			}
			c := o.out[0].bytes()
			return func(chunk, worker int) { g.Run(chunk, scratch.data[worker*per:][:per], c, a, b, e) }
		})
	s.flops, s.cycles = 2*int64(spec.M)*int64(spec.N)*int64(spec.K), g.Cost()
	if spec.Sums {
		l.scaleSums(o.out[0], sums, spec, e.Scale)
	}
	return true, nil
}

// scaleSums makes float32 of the sums of a product.
func (l *lowering) scaleSums(y *value, sums *buffer, spec kernels.GemmInt8Spec, scale []float32) {
	l.add("scale", spec.M, []*buffer{sums, l.of(y)}, func() func(int, int) {
		to, from := y.plainFloats(), sums.ints(spec.M*spec.N)
		return func(row, _ int) {
			for i, v := range from[row*spec.N:][:spec.N] {
				to[row*spec.N+i] = float32(v) * scale[i]
			}
		}
	})
}

// paddedRows is the matrix a with rows of whole lines, each so often.
func (l *lowering) paddedRows(a *value, s kernels.GemmInt8Spec, copies int) *buffer {
	if s.LDA == s.K && copies == 1 {
		return l.of(a)
	}
	rows, line := l.buffer(s.M*s.LDA/4), s.LDA/copies
	k := s.K - (copies-1)*line
	l.add("pad rows", 1, []*buffer{l.of(a), rows}, func() func(int, int) {
		dst, src := rows.bytes(int64(s.M*s.LDA)), a.bytes()
		return func(int, int) {
			for i := range s.M * copies {
				clear(dst[i*line:][:line][copy(dst[i*line:], src[i/copies*k:][:k]):])
			}
		}
	})
	return rows
}

// ints views the buffer.
func (b *buffer) ints(n int) []int32 {
	return unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(b.data))), n)
}
