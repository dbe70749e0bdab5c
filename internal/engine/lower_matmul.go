package engine

import (
	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
)

// batches is a MatMul of many pairs of matrices: [...,M,K] by [...,K,N].
type batches struct {
	gemm kernels.GemmSpec
	a, b []int // offsets of the pairs' matrices
}

// maxProducts bounds the pairs that a plan lists.
const maxProducts = 1 << 20

// batchesOf finds the pairs; ok is false where package kernels has no kernel.
func batchesOf(o *op) (p batches, ok bool) {
	a, b, y := o.in[0], o.in[1], o.out[0]
	fused := o.relu || o.then != nil || len(o.in) > 2 && o.in[2] != nil
	if !isFloat(a, b, y) || len(a.dims) < 2 || len(b.dims) < 2 || fused {
		return p, false
	}
	rank := len(y.dims)
	p.gemm = kernels.GemmSpec{M: int(y.dims[rank-2]), N: int(y.dims[rank-1]), K: int(a.dims[len(a.dims)-1])}
	many := y.size() / int64(p.gemm.M*p.gemm.N)
	if many > maxProducts {
		return p, false
	}
	for i := range many {
		p.a = append(p.a, broadcastOffset(y.dims[:rank-2], a.dims[:len(a.dims)-2], i)*p.gemm.M*p.gemm.K)
		p.b = append(p.b, broadcastOffset(y.dims[:rank-2], b.dims[:len(b.dims)-2], i)*p.gemm.K*p.gemm.N)
	}
	return p, true
}

// broadcastOffset is where an array of the given dims, broadcast to those of result, has element i of it.
func broadcastOffset(result, dims []int64, i int64) int {
	at, step := int64(0), int64(1)
	for axis := len(result) - 1; axis >= len(result)-len(dims); axis-- {
		if d := dims[axis-len(result)+len(dims)]; d != 1 {
			at += i % result[axis] * step
			step *= d
		}
		i /= result[axis]
	}
	return int(at)
}

// products lowers a MatMul of many pairs: a chunk is one of a pair's product.
func (l *lowering) products(o *op) (bool, error) {
	p, ok := batchesOf(o)
	if !ok {
		return false, nil
	}
	g := kernels.NewGemm(p.gemm)
	scratch, per := l.perWorker(g.Scratch())
	each := g.Chunks()
	bufs := append([]*buffer{scratch}, l.all(o.in[0], o.in[1], o.out[0])...)
	s := l.add("gemms "+kernels.Level(), len(p.a)*each, bufs, func() func(int, int) {
		c, a, b, size := o.out[0].plainFloats(), o.in[0].plainFloats(), o.in[1].plainFloats(), g.M*g.N
		return func(chunk, worker int) {
			i := chunk / each
			g.Run(chunk%each, scratch.data[worker*per:][:per], c[i*size:][:size], a[p.a[i]:], b[p.b[i]:],
				nil, false, false)
		}
	})
	s.flops, s.cycles = 2*int64(len(p.a))*int64(g.M)*int64(g.N)*int64(g.K), float64(len(p.a))*g.Cost()
	return true, nil
}

// fuseRowBias makes the Add of a row that alone reads a product's output the bias of its product.
func fuseRowBias(g *graph, o *op) {
	if !o.path().product || len(o.in) != 2 || !fastGemm(o) || o.relu || o.then != nil {
		return
	}
	if o.node.Float("beta", 1) != 1 { // would scale the row
		return
	}
	if o.out[0].output || len(o.out[0].users) != 1 {
		return
	}
	y, next := o.out[0], o.out[0].users[0]
	if next.node.Def.Arithmetic != ops.Sum || !combines(next) || next.relu || next.then != nil {
		return
	}
	bias := next.in[0]
	if bias == y {
		bias = next.in[1]
	}
	n := y.dims[len(y.dims)-1]
	row := isFloat(bias) && bias.size() == n && len(bias.dims) > 0 && bias.dims[len(bias.dims)-1] == n
	if !row || bias.kind == computed || bias.kind == input || !equalDims(next.out[0].dims, y.dims) {
		return
	}
	o.in, o.inputs = append(o.in, bias), 3
	g.take(o, next)
}
