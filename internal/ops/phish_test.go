package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/internal/kernels"
)

// Phish is an activation that ONNX has not: x*tanh(gelu(x)). This row of the table and the kernel expression
// in it are all that adding it takes: registry, inference, reference kernel, gradient, blocked maps, fusion
// into convolutions and the fast kernels of every level follow. See TestAddedOperator.
var phish = activation{name: "Phish", versions: []int64{1},
	fast: func(*Node) (kernels.Map, bool) {
		return kernels.Expression(func(x kernels.Term) kernels.Term {
			return x.Times(x.Of(kernels.FuncGelu).Of(kernels.FuncTanh))
		}), true
	},
	f: plain(func(x float64) float64 { return x * math.Tanh(x*normal(x)) }),
	derivative: plain(func(x float64) float64 {
		t := math.Tanh(x * normal(x))
		return t + x*(1-t*t)*(normal(x)+x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi))
	}),
}

// normal is the distribution function of the normal distribution.
func normal(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }

// A row in the table is registered with the others, before package engine looks for functions of one element.
var _ = func() bool {
	activations = append(activations, phish)
	return true
}()
