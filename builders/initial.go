package builders

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
)

// Init fills a new parameter of the given shape, as the functions of torch.nn.init do. r is the parameter's own: PCG
// seeded with the network's seed and the FNV-1a hash of the parameter's name, so that a layer more or less leaves the
// others as they were.
type Init func(r *rand.Rand, shape []int64, data []float32)

func (b *Builder) random(name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(b.root.seed, h.Sum64()))
}

// uniform is PyTorch's default for weights and biases alike: kaiming_uniform_ with a = sqrt(5), which is the uniform
// distribution on (-1/sqrt(fan_in), 1/sqrt(fan_in)).
func uniform(fanIn int64) Init {
	bound := 1 / math.Sqrt(float64(fanIn))
	return func(r *rand.Rand, _ []int64, data []float32) {
		for i := range data {
			data[i] = float32((2*r.Float64() - 1) * bound)
		}
	}
}

// KaimingNormal is kaiming_normal_ with mode fan_out and the gain of ReLU: standard deviation sqrt(2/fan_out), where
// fan_out is the number of outputs times the size of the kernel (He et al. 2015, section 2.2).
func KaimingNormal(r *rand.Rand, shape []int64, data []float32) {
	fan := shape[0]
	for _, d := range shape[min(2, len(shape)):] {
		fan *= d
	}
	Normal(math.Sqrt(2/float64(fan)))(r, shape, data)
}

// Normal is normal_ with mean 0.
func Normal(std float64) Init {
	return func(r *rand.Rand, _ []int64, data []float32) {
		for i := range data {
			data[i] = float32(r.NormFloat64() * std)
		}
	}
}

// Zeros is zeros_: new parameters are zero.
func Zeros(*rand.Rand, []int64, []float32) {}

// Ones is ones_.
func Ones(_ *rand.Rand, _ []int64, data []float32) {
	for i := range data {
		data[i] = 1
	}
}
