package builders

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
)

// Initial weights follow PyTorch's defaults: kaiming_uniform with a = sqrt(5), which is the uniform distribution on
// (-1/sqrt(fan_in), 1/sqrt(fan_in)), for weights and biases alike. The generator is PCG seeded with the network's seed
// and the FNV-1a hash of the parameter's name, so that a layer more or less leaves the others as they were.

func (b *Builder) uniform(fan int64) func(string, []float32) {
	seed := b.root.seed
	return func(name string, data []float32) {
		h := fnv.New64a()
		h.Write([]byte(name))
		r := rand.New(rand.NewPCG(seed, h.Sum64()))
		bound := 1 / math.Sqrt(float64(fan))
		for i := range data {
			data[i] = float32((2*r.Float64() - 1) * bound)
		}
	}
}

func zeros(string, []float32) {}

func ones(_ string, data []float32) {
	for i := range data {
		data[i] = 1
	}
}
