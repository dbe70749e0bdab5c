package engine

import (
	"fmt"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// Dynamic quantization: DynamicQuantizeLinear, whose scale and zero point follow from the numbers, and
// MatMulInteger and ConvInteger, which give the int32 sums of products of bytes less their zero points.

// dynamicQuantize lowers DynamicQuantizeLinear: the range in chunks, scale and zero point, then the bytes.
func (l *lowering) dynamicQuantize(o *op) (bool, error) {
	x, y := o.in[0], o.out[0]
	if !isFloat(x) || x.size() == 0 || len(o.out) < 3 || y == nil || o.out[1] == nil || o.out[2] == nil {
		return false, nil
	}
	n := int(x.size())
	chunks := (n + flatChunk - 1) / flatChunk
	ranges := l.buffer(2 * chunks)
	l.add("range", chunks, []*buffer{l.of(x), ranges}, func() func(int, int) {
		from := x.plainFloats()
		return func(chunk, _ int) {
			part := from[chunk*flatChunk : min(n, (chunk+1)*flatChunk)]
			ranges.data[2*chunk], ranges.data[2*chunk+1] = kernels.RowMin(part), kernels.RowMax(part)
		}
	})
	scale, zero := l.of(o.out[1]), l.of(o.out[2])
	l.add("scale", 1, []*buffer{ranges, scale, zero}, func() func(int, int) {
		return func(int, int) {
			lo, hi := ranges.data[0], ranges.data[1]
			for i := range chunks {
				lo, hi = min(lo, ranges.data[2*i]), max(hi, ranges.data[2*i+1])
			}
			scale.data[0], zero.bytes(1)[0] = ops.ByteRange(lo, hi)
		}
	})
	l.add("quantize", chunks, []*buffer{l.of(x), scale, zero, l.of(y)}, func() func(int, int) {
		to, from := y.bytes(), x.plainFloats()
		return func(chunk, _ int) {
			q := kernels.NewLevels(scale.data[0], kernels.Quantized{Zero: int32(zero.bytes(1)[0])})
			lo, hi := chunk*flatChunk, min(n, (chunk+1)*flatChunk)
			q.Quantize(to[lo:hi], from[lo:hi])
		}
	})
	return true, nil
}

// integerProduct is MatMulInteger, or ConvInteger of one group as a product of rows of pixels: sums of a,
// whose zero point may be computed, by constant weights.
type integerProduct struct {
	linearOp
	zero *value // of a; nil: 0
	k, n int
}

// integerInputs finds the inputs of MatMulInteger and ConvInteger, with so many outputs of the weights.
func integerInputs(o *op, outputs int64) (p integerProduct, ok bool) {
	in := func(i int) *value {
		if i < len(o.in) {
			return o.in[i]
		}
		return nil
	}
	p.x, p.w, p.alpha, p.zero = o.in[0], o.in[1], 1, in(2)
	if !p.x.isByte() || p.w == nil || p.w.kind != constant || !p.w.isByte() || p.x.size() == 0 ||
		o.out[0].size() == 0 {
		return p, false
	}
	if p.zero != nil && (p.zero.info.Type != p.x.info.Type || !p.zero.sized || p.zero.size() != 1) {
		return p, false
	}
	if p.zeros, ok = zerosOf(in(3), p.w.info.Type); !ok || len(p.zeros) != 1 &&
		int64(len(p.zeros)) != outputs {
		return p, false
	}
	return p, true
}

// plan makes the kernel for m rows.
func (p *integerProduct) plan(m int) (*kernels.GemmInt8, error) {
	p.copies = kernels.Int8Copies(p.most(p.column))
	line := (p.k + 63) / 64 * 64
	return kernels.NewGemmInt8(kernels.GemmInt8Spec{M: m, N: p.n, K: p.k + (p.copies-1)*line,
		LDA:  p.copies * line,
		From: kernels.Quantized{Signed: p.x.info.Type == onnxio.Int8}, Sums: true})
}

// offsets appends the step that computes what the zero point of a adds to each output:
// less the sum of its weights.
func (l *lowering) offsets(p *integerProduct, g *kernels.GemmInt8, b []int8) *buffer {
	base := make([]int32, g.Outputs())
	one := *g
	one.From.Zero = 1
	one.Offset(base, b, nil, false)
	dst := l.buffer(len(base))
	bufs := []*buffer{dst}
	if p.zero != nil {
		bufs = append(bufs, l.of(p.zero))
	}
	l.add("zero point", 1, bufs, func() func(int, int) {
		to := dst.ints(len(base))
		return func(int, int) {
			zero := p.zeroPoint()
			for i, s := range base {
				to[i] = zero * s
			}
		}
	})
	return dst
}

// zeroPoint is that of a, when it is there.
func (p *integerProduct) zeroPoint() int32 {
	if p.zero == nil {
		return 0
	}
	b := p.zero.buf.bytes(1)[0]
	if p.zero.info.Type == onnxio.Int8 {
		return int32(int8(b))
	}
	return int32(b)
}

// packedSums is the weights b of p as g reads them.
func (l *lowering) packedSums(p *integerProduct, g *kernels.GemmInt8, name string, b []int8) *buffer {
	return l.form(p.w.konst, p.form(name), (g.PackedSize()+3)/4, g.PackChunks(),
		func(dst []float32, chunk int) {
			g.Pack(chunk, (&buffer{data: dst}).bytes(int64(g.PackedSize())), b, false)
		})
}

// matMulSums lowers MatMulInteger with a constant matrix B.
func (l *lowering) matMulSums(o *op) (bool, error) {
	if len(o.in) < 2 || o.in[1] == nil || len(o.in[1].dims) != 2 || len(o.in[0].dims) < 2 {
		return false, nil
	}
	p, ok := integerInputs(o, o.in[1].dims[1])
	if !ok {
		return false, nil
	}
	p.k, p.n = int(p.w.dims[0]), int(p.w.dims[1])
	if p.k == 0 || p.x.dims[len(p.x.dims)-1] != int64(p.k) {
		return false, nil
	}
	g, err := p.plan(int(p.x.size()) / p.k)
	if err != nil {
		return false, nil // the reference kernel takes it
	}
	b := p.matrix(g.GemmInt8Spec)
	packed, offset := l.packedSums(&p, g, "int8 panels, sums", b), l.offsets(&p, g, b)
	rows := l.paddedRows(p.x, g.GemmInt8Spec, p.copies)
	scratch, per := l.perWorker(g.Scratch())
	y := l.of(o.out[0])
	s := l.add("gemm "+kernels.LevelInt8()+" int8", g.Chunks(), []*buffer{rows, packed, offset, scratch, y},
		func() func(int, int) {
			a, w := rows.bytes(int64(g.M*g.LDA)), packed.bytes(int64(g.PackedSize()))
			c, bias := y.ints(g.M*g.N), offset.ints(g.Outputs())
			return func(chunk, worker int) {
				g.RunSums(chunk, scratch.data[worker*per:][:per], c, a, w, bias)
			}
		})
	s.flops, s.cycles = 2*int64(g.M)*int64(g.N)*int64(p.k), g.Cost()
	return true, nil
}

// stripPixels is the most pixels of a chunk of a ConvInteger.
const stripPixels = 256

// convSums lowers ConvInteger with constant weights.
func (l *lowering) convSums(o *op) (bool, error) {
	if len(o.in) < 2 || o.in[1] == nil || len(o.in[1].dims) != 4 || !o.in[0].isByte4() {
		return false, nil
	}
	p, ok := integerInputs(o, o.in[1].dims[0])
	if !ok {
		return false, nil
	}
	c := &convRows{integerProduct: p}
	if c.v, ok = window(o, p.w.dims[2:], p.x.dims, o.out[0].dims); !ok {
		return false, nil
	}
	c.channels, c.h, c.wide = int(p.x.dims[1]), int(p.x.dims[2]), int(p.x.dims[3])
	c.high, c.across = int(o.out[0].dims[2]), int(o.out[0].dims[3])
	c.n, c.k = int(p.w.dims[0]), int(p.w.dims[1])*c.v.kh*c.v.kw
	if group(o) > 1 {
		return true, l.groupSums(o, c)
	}
	weights := *p.w // as a matrix [O,K]
	weights.dims = []int64{int64(c.n), int64(c.k)}
	c.w, c.transB = &weights, true
	plane := c.high * c.across
	c.strips = (plane + stripPixels - 1) / stripPixels
	size := (plane + c.strips - 1) / c.strips
	c.strips = (plane + size - 1) / size
	var err error
	if c.whole, err = c.plan(size); err != nil {
		return false, nil // the reference kernel takes it
	}
	if c.last, err = c.plan(plane - (c.strips-1)*size); err != nil {
		return false, nil
	}
	return true, l.rowSums(o, c)
}

// convRows is a ConvInteger of one group as products of rows: of each pixel of the output
// what lies under the kernel.
type convRows struct {
	integerProduct
	v            geometry
	channels     int
	h, wide      int // of the input
	high, across int // of the output
	strips       int // of an image
	whole, last  *kernels.GemmInt8
	// the ends of the kernel's scratch, of rows and of sums in a worker's memory, in floats
	at, rows, sums int
}

// reordered is the weights with the channels of a pixel side by side.
func (c *convRows) reordered(b []int8) []int8 {
	out, taps := make([]int8, len(b)), c.v.kh*c.v.kw
	line := c.whole.LDA / c.copies
	for i := range c.copies {
		for ch := range c.channels {
			for t := range taps {
				copy(out[(i*line+t*c.channels+ch)*c.n:][:c.n], b[(i*line+ch*taps+t)*c.n:])
			}
		}
	}
	return out
}

// rowSums appends the steps of c: the pixels of the input one after the other, then
// strips of pixels of the output.
func (l *lowering) rowSums(o *op, c *convRows) error {
	b := c.reordered(c.matrix(c.whole.GemmInt8Spec))
	packed, offset := l.packedSums(&c.integerProduct, c.whole, "int8 panels of pixels, sums",
		b), l.offsets(&c.integerProduct, c.whole, b)
	x, y, images := c.x, l.of(o.out[0]), int(c.x.dims[0])
	pixels := l.buffer((int(x.size()) + 3) / 4)
	l.add("to pixels", images*c.h, []*buffer{l.of(x), pixels}, func() func(int, int) {
		to, from := pixels.bytes(x.size()), x.bytes()
		return func(chunk, _ int) { c.toPixels(chunk, to, from) }
	})
	c.at = roundUp(max(c.whole.Scratch(), c.last.Scratch()))
	c.rows = c.at + roundUp(c.whole.M*c.whole.LDA/4)
	c.sums = c.rows + roundUp(c.whole.M*c.n)
	scratch, per := l.perWorker(c.sums)
	bufs := []*buffer{pixels, packed, offset, scratch, y}
	if c.zero != nil {
		bufs = append(bufs, l.of(c.zero))
	}
	s := l.add("conv "+kernels.LevelInt8()+" int8", images*c.strips, bufs, func() func(int, int) {
		from, w := pixels.bytes(x.size()), packed.bytes(int64(c.whole.PackedSize()))
		to, bias := y.ints(int(o.out[0].size())), offset.ints(c.whole.Outputs())
		return func(chunk, worker int) { c.run(chunk, scratch.data[worker*per:][:per], to, from, w, bias) }
	})
	s.flops = 2 * o.out[0].size() * int64(c.k)
	s.cycles = float64(images*(c.strips-1))*c.whole.Cost() + float64(images)*c.last.Cost()
	return nil
}

// toPixels writes a row of an image as pixels.
func (c *convRows) toPixels(chunk int, to, from []uint8) {
	n, h := chunk/c.h, chunk%c.h
	to = to[chunk*c.wide*c.channels:][:c.wide*c.channels]
	for ch := range c.channels {
		at := ch
		for _, v := range from[((n*c.channels+ch)*c.h+h)*c.wide:][:c.wide] {
			to[at] = v
			at += c.channels
		}
	}
}

// run computes a strip of pixels of an image.
func (c *convRows) run(chunk int, scratch []float32, y []int32, x, w []uint8, bias []int32) {
	n, strip := chunk/c.strips, chunk%c.strips
	g := c.whole
	if strip == c.strips-1 {
		g = c.last
	}
	rows := (&buffer{data: scratch[c.at:]}).bytes(int64(g.M * g.LDA))
	sums := (&buffer{data: scratch[c.rows:]}).ints(g.M * c.n)
	first, zero := strip*c.whole.M, uint8(c.zeroPoint())
	x = x[n*c.h*c.wide*c.channels:]
	for i := range g.M {
		row := rows[i*g.LDA:][:g.LDA]
		c.gather(row[:c.k], x, (first+i)/c.across, (first+i)%c.across, zero)
		line := g.LDA / c.copies
		clear(row[c.k:line])
		for j := 1; j < c.copies; j++ {
			copy(row[j*line:][:line], row[:line])
		}
	}
	for i := range g.Chunks() {
		g.RunSums(i, scratch[:c.at], sums, rows, w, bias)
	}
	plane := c.high * c.across
	for o := range c.n {
		to := y[(n*c.n+o)*plane+first:][:g.M]
		for i := range to {
			to[i] = sums[i*c.n+o]
		}
	}
}

// gather writes what lies under the kernel at a pixel of the output, zero points where that is padding.
func (c *convRows) gather(row, x []uint8, oh, ow int, zero uint8) {
	size := c.v.kw * c.channels
	for r := range c.v.kh {
		to := row[r*size:][:size]
		h, first := oh*c.v.sh-c.v.top+r*c.v.dh, ow*c.v.sw-c.v.left
		switch {
		case h < 0 || h >= c.h:
			fillBytes(to, zero)
		case c.v.dw == 1 && first >= 0 && first+c.v.kw <= c.wide:
			copy(to, x[(h*c.wide+first)*c.channels:])
		default:
			for s := range c.v.kw {
				part := to[s*c.channels:][:c.channels]
				if w := first + s*c.v.dw; w < 0 || w >= c.wide {
					fillBytes(part, zero)
				} else {
					copy(part, x[(h*c.wide+w)*c.channels:])
				}
			}
		}
	}
}

func fillBytes(s []uint8, v uint8) {
	for i := range s {
		s[i] = v
	}
}

// groupSums appends the step of a ConvInteger of several groups: each output of each image row by row.
func (l *lowering) groupSums(o *op, c *convRows) error {
	weights := *c.w
	weights.dims = []int64{int64(c.n), int64(c.k)}
	c.w, c.transB = &weights, true
	w, groups := c.centered(c.column), group(o)
	if groups < 1 || c.n%groups != 0 || c.channels%groups != 0 {
		return fmt.Errorf("%d and %d channels in %d groups", c.channels, c.n, groups)
	}
	y := l.of(o.out[0])
	scratch, per := l.perWorker(c.wide)
	bufs := []*buffer{l.of(c.x), scratch, y}
	if c.zero != nil {
		bufs = append(bufs, l.of(c.zero))
	}
	s := l.add("conv int8", int(c.x.dims[0])*c.n, bufs, func() func(int, int) {
		from, to := c.x.bytes(), y.ints(int(o.out[0].size()))
		return func(chunk, worker int) {
			row := (&buffer{data: scratch.data[worker*per:][:per]}).ints(c.wide)
			plane := to[chunk*c.high*c.across:][:c.high*c.across]
			c.output(plane, row, from, w, chunk/c.n, chunk%c.n, groups)
		}
	})
	s.flops = 2 * o.out[0].size() * int64(c.k)
	s.cycles = float64(s.flops)
	return nil
}

// output computes output o of image n.
func (c *convRows) output(y, row []int32, x []uint8, w []int16, n, o, groups int) {
	clear(y)
	zero, signed := c.zeroPoint(), c.x.info.Type == onnxio.Int8
	each := c.channels / groups
	for ch := range each {
		plane := x[(n*c.channels+o/(c.n/groups)*each+ch)*c.h*c.wide:][:c.h*c.wide]
		for h := range c.h {
			for i, b := range plane[h*c.wide:][:c.wide] {
				if row[i] = int32(b) - zero; signed {
					row[i] = int32(int8(b)) - zero
				}
			}
			for r := range c.v.kh {
				oh := h + c.v.top - r*c.v.dh
				if oh < 0 || oh%c.v.sh != 0 || oh/c.v.sh >= c.high {
					continue
				}
				to := y[oh/c.v.sh*c.across:][:c.across]
				c.addTaps(to, row, w[((o*each+ch)*c.v.kh+r)*c.v.kw:][:c.v.kw])
			}
		}
	}
}

// addTaps adds a row of the input by a row of the kernel to a row of the output.
func (c *convRows) addTaps(to, row []int32, w []int16) {
	for s, v := range w {
		first := s*c.v.dw - c.v.left
		lo := max(0, (-first+c.v.sw-1)/c.v.sw)
		if first >= 0 {
			lo = 0
		}
		for i := lo; i < len(to) && first+i*c.v.sw < len(row); i++ {
			to[i] += int32(v) * row[first+i*c.v.sw]
		}
	}
}
