package engine

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// The operators that losses are made of. They touch little data, so plain loops do; what counts is that a training
// step allocates nothing.

// arithmetic lowers Sub and Mul of equal shapes, or with one number as second operand.
func (l *lowering) arithmetic(o *op) (bool, error) {
	a, b := o.in[0], o.in[1]
	if scalesImages(o) {
		l.scaleImages(o)
		return true, nil
	}
	if !isFloat(a, b) || !equalDims(a.dims, o.out[0].dims) || b.size() != 1 && !equalDims(a.dims, b.dims) {
		return false, nil
	}
	n := int(a.size())
	l.add("elementwise", (n+flatChunk-1)/flatChunk, l.all(a, b, o.out[0]), func() func(int, int) {
		x, y, out := a.plainFloats(), b.plainFloats(), o.out[0].plainFloats()
		multiply, single := o.node.OpType == "Mul", b.size() == 1
		return func(chunk, _ int) {
			for i := chunk * flatChunk; i < min(n, (chunk+1)*flatChunk); i++ {
				v := y[0]
				if !single {
					v = y[i]
				}
				if multiply {
					out[i] = x[i] * v
				} else {
					out[i] = x[i] - v
				}
			}
		}
	})
	return true, nil
}

// expand lowers Expand of one number.
func (l *lowering) expand(o *op) (bool, error) {
	x, y := o.in[0], o.out[0]
	if !isFloat(x, y) || x.size() != 1 {
		return false, nil
	}
	n := int(y.size())
	l.add("fill", (n+flatChunk-1)/flatChunk, l.all(x, y), func() func(int, int) {
		from, to := x.plainFloats(), y.plainFloats()
		return func(chunk, _ int) {
			part := to[chunk*flatChunk : min(n, (chunk+1)*flatChunk)]
			for i := range part {
				part[i] = from[0]
			}
		}
	})
	return true, nil
}

// reduceMean lowers the mean over everything; partial sums in float64, added in the order of the chunks.
func (l *lowering) reduceMean(o *op) (bool, error) {
	x, y := o.in[0], o.out[0]
	if !isFloat(x, y) || y.size() != 1 {
		return false, nil
	}
	n := int(x.size())
	chunks := (n + flatChunk - 1) / flatChunk
	parts := make([]float64, chunks)
	l.add("mean", chunks, l.all(x, y), func() func(int, int) {
		from := x.plainFloats()
		return func(chunk, _ int) {
			sum := 0.0
			for _, v := range from[chunk*flatChunk : min(n, (chunk+1)*flatChunk)] {
				sum += float64(v)
			}
			parts[chunk] = sum
		}
	})
	l.add("reduce", 1, l.all(x, y), func() func(int, int) {
		to := y.plainFloats()
		return func(int, int) {
			sum := 0.0
			for _, v := range parts {
				sum += v
			}
			to[0] = float32(sum / float64(n))
		}
	})
	return true, nil
}

// softplus lowers Softplus and SoftplusGrad(dy, x).
func (l *lowering) softplus(o *op) (bool, error) {
	if !isFloat(o.in...) {
		return false, nil
	}
	out := o.out[0]
	n := int(out.size())
	const chunkSize = flatChunk / 8 // exponentials take their time
	l.add("softplus", (n+chunkSize-1)/chunkSize, l.all(append([]*value{out}, o.in...)...), func() func(int, int) {
		to, in := out.plainFloats(), o.in[0].plainFloats()
		span := func(chunk int) (lo, hi int) { return chunk * chunkSize, min(n, (chunk+1)*chunkSize) }
		if o.node.OpType == "Softplus" {
			return func(chunk, _ int) {
				lo, hi := span(chunk)
				for i := lo; i < hi; i++ {
					v := float64(in[i])
					to[i] = float32(max(v, 0) + math.Log1p(math.Exp(-math.Abs(v))))
				}
			}
		}
		x := o.in[1].plainFloats()
		return func(chunk, _ int) {
			lo, hi := span(chunk)
			for i := lo; i < hi; i++ {
				to[i] = in[i] * float32(1/(1+math.Exp(-float64(x[i]))))
			}
		}
	})
	return true, nil
}

// nll lowers NegativeLogLikelihoodLoss(x [N,C], target [N]) without class weights and its gradient
// (dloss, x, target), for the reductions mean and sum.
func (l *lowering) nll(o *op) (bool, error) {
	backward := o.node.OpType != "NegativeLogLikelihoodLoss"
	in := o.in
	if backward {
		in = in[1:]
	}
	x, target := in[0], in[1]
	mean := o.node.Str("reduction", "mean") == "mean"
	if len(in) > 2 && in[2] != nil || !isFloat(x) || len(x.dims) != 2 || target.info.Type != onnxio.Int64 ||
		!mean && o.node.Str("reduction", "mean") != "sum" {
		return false, nil
	}
	fail, cols := l.err, int(x.dims[1])
	ignore := o.node.Int("ignore_index", math.MinInt64)
	l.add("negative log-likelihood", 1, l.all(append([]*value{o.out[0]}, o.in...)...), func() func(int, int) {
		labels := onnxio.Data[int64](target.tensor())
		counted := func() float32 { // how many targets count, or 1 for the sum
			n := 0
			for _, t := range labels {
				if t != ignore {
					n++
				}
			}
			if !mean {
				return 1
			}
			return float32(n)
		}
		valid := func() bool {
			for i, t := range labels {
				if t != ignore && (t < 0 || t >= int64(cols)) {
					if *fail == nil {
						*fail = o.node.Errorf("target %d is %d; there are %d classes", i, t, cols)
					}
					return false
				}
			}
			return true
		}
		out := o.out[0].plainFloats()
		if backward {
			dloss := o.in[0].plainFloats()
			return func(int, int) {
				if !valid() {
					return
				}
				clear(out)
				g := -dloss[0] / counted()
				for i, t := range labels {
					if t != ignore {
						out[i*cols+int(t)] = g
					}
				}
			}
		}
		logs := x.plainFloats()
		return func(int, int) {
			if !valid() {
				return
			}
			sum := 0.0
			for i, t := range labels {
				if t != ignore {
					sum -= float64(logs[i*cols+int(t)])
				}
			}
			out[0] = float32(sum / float64(counted()))
		}
	})
	return true, nil
}
