package engine

import (
	"math"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// The operators that losses are made of. They touch little data, so plain loops do; what counts is that a
// training step allocates nothing.

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

// nll lowers NegativeLogLikelihoodLoss(x [N,C], target [N]) without class weights and its gradient
// (dloss, x, target), for the reductions mean and sum.
func (l *lowering) nll(o *op) (bool, error) {
	backward := o.node.Domain == ops.GradDomain
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
