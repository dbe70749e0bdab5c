package engine

import (
	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/onnxio"
)

// flatChunk is the number of floats of one chunk of an elementwise step: 64 KiB, about 10 us.
const flatChunk = 1 << 14

// flat appends a step over equally long slices, cut into chunks.
func (l *lowering) flat(kernel string, out *value, ins []*value,
	bind func(out []float32, in [][]float32) func(lo, hi int)) {
	l.of(out)
	n := int(out.size())
	if out.layout != nil {
		n = out.layout.Size()
	}
	l.add(kernel, (n+flatChunk-1)/flatChunk, append(l.all(ins...), l.of(out)), func() func(int, int) {
		in := [][]float32{}
		for _, v := range ins {
			in = append(in, v.f()[:n])
		}
		f := bind(out.f()[:n], in)
		return func(chunk, _ int) { f(chunk*flatChunk, min(n, (chunk+1)*flatChunk)) }
	})
}

func isFloat(vs ...*value) bool {
	for _, v := range vs {
		if v == nil || v.info.Type != onnxio.Float || v.size() == 0 {
			return false
		}
	}
	return true
}

func (l *lowering) relu(o *op) (bool, error) {
	if !isFloat(o.in[0]) {
		return false, nil
	}
	l.inPlace(o, o.out[0], o.in[0])
	l.flat("relu", o.out[0], o.in, func(y []float32, in [][]float32) func(lo, hi int) {
		return func(lo, hi int) { kernels.Relu(y[lo:hi], in[0][lo:hi]) }
	})
	return true, nil
}

func (l *lowering) reluGrad(o *op) (bool, error) {
	if !isFloat(o.in[0]) {
		return false, nil
	}
	l.inPlace(o, o.out[0], o.in[0])
	l.flat("relu backward", o.out[0], o.in, func(dx []float32, in [][]float32) func(lo, hi int) {
		return func(lo, hi int) { kernels.ReluGrad(dx[lo:hi], in[0][lo:hi], in[1][lo:hi]) }
	})
	return true, nil
}

// sumRows lowers SumTo from [rows,cols] to [cols]: the gradient of a fully connected layer's bias.
func (l *lowering) sumRows(o *op) (bool, error) {
	x, y := o.in[0], o.out[0]
	if !isFloat(x) || len(x.dims) != 2 || len(y.dims) == 0 || y.size() != x.dims[1] || x.dims[0] == 1 ||
		y.dims[len(y.dims)-1] != x.dims[1] {
		return false, nil
	}
	rows, cols := int(x.dims[0]), int(x.dims[1])
	const per = 128 // columns of a chunk
	l.add("sum rows", (cols+per-1)/per, l.all(x, y), func() func(int, int) {
		in, out := x.f(), y.f()
		return func(chunk, _ int) {
			lo, hi := chunk*per, min(cols, (chunk+1)*per)
			copy(out[lo:hi], in[lo:hi])
			for r := 1; r < rows; r++ {
				kernels.Add(out[lo:hi], out[lo:hi], in[r*cols+lo:r*cols+hi])
			}
		}
	})
	return true, nil
}

// fastGemm reports whether the op is one matrix product that package kernels runs: alpha and beta 1, C a row.
// The rows of MatMul's A may have several axes.
func fastGemm(o *op) bool {
	a, b := o.in[0], o.in[1]
	if !isFloat(a, b) || len(b.dims) != 2 {
		return false
	}
	if len(a.dims) < 2 || o.node.Float("alpha", 1) != 1 {
		return false
	}
	if len(o.in) < 3 || o.in[2] == nil {
		return true
	}
	c, n := o.in[2], o.out[0].dims[len(o.out[0].dims)-1]
	row := c.size() == n && len(c.dims) > 0 && c.dims[len(c.dims)-1] == n
	return o.node.Float("beta", 1) == 1 && isFloat(c) && row
}

// gemmSpec is the geometry of an op that fastGemm accepts.
func gemmSpec(o *op) kernels.GemmSpec {
	n, k := o.in[1].dims[1], o.in[0].dims[len(o.in[0].dims)-1]
	s := kernels.GemmSpec{M: int(o.in[0].size() / k), N: int(n), K: int(k)}
	s.TransA, s.TransB = o.node.Int("transA", 0) != 0, o.node.Int("transB", 0) != 0
	if s.TransA {
		s.M, s.K = s.K, s.M
	}
	if s.TransB {
		s.N = int(o.in[1].dims[0])
	}
	return s
}

// matMul lowers MatMul: one product, or many.
func (l *lowering) matMul(o *op) (bool, error) {
	if fastGemm(o) {
		return l.gemm(o)
	}
	return l.products(o)
}

// gemm lowers one product. A constant B is packed once.
func (l *lowering) gemm(o *op) (bool, error) {
	if !fastGemm(o) {
		return false, nil
	}
	spec := gemmSpec(o)
	if l.g.bf16 && gemmInBF16(o, spec) {
		return l.gemmBF16(o, spec)
	}
	spec.Packed, spec.Then = o.in[1].kind == constant, o.then
	g := kernels.NewGemm(spec)
	matrix, bias := l.gemmMatrix(g, o.in[1]), l.optional(o, 2)
	per := roundUp(g.Scratch())
	scratch := l.buffer(per * l.threads)
	bufs := append([]*buffer{scratch, matrix}, l.all(o.in[0], bias, o.out[0])...)
	s := l.add("gemm "+kernels.Level(), g.Chunks(), bufs, func() func(int, int) {
		c, a, b, relu := o.out[0].plainFloats(), o.in[0].plainFloats(), matrix.data, o.relu
		var add []float32
		if bias != nil {
			add = bias.f()[:g.N]
		}
		return func(chunk, worker int) {
			g.Run(chunk, scratch.data[worker*per:(worker+1)*per], c, a, b, add, relu, false)
		}
	})
	s.flops, s.cycles = 2*int64(g.M)*int64(g.N)*int64(g.K), g.Cost()
	return true, nil
}

// gemmMatrix is the buffer of B as g reads it.
func (l *lowering) gemmMatrix(g *kernels.Gemm, b *value) *buffer {
	if !g.Packed {
		return l.of(b)
	}
	form := "panels"
	if g.TransB {
		form = "panels of the transpose"
	}
	return l.form(b.konst, form, g.PackedSize(), g.PackChunks(), func(dst []float32, chunk int) {
		g.Pack(chunk, dst, b.konst.Float32s())
	})
}

// packedPanels packs B each time.
func (l *lowering) packedPanels(g *kernels.Gemm, b *value) *buffer {
	dst := l.buffer(g.PackedSize())
	l.add("pack", g.PackChunks(), []*buffer{l.of(b), dst}, func() func(int, int) {
		from := b.plainFloats()
		return func(chunk, _ int) { g.Pack(chunk, dst.data, from) }
	})
	return dst
}
