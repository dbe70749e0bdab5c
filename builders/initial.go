package builders

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
)

// Init fills a new parameter of the given shape, as the functions of torch.nn.init do. r is the parameter's
// own: PCG seeded with the network's seed and the FNV-1a hash of the parameter's name, so that a layer more
// or less leaves the others as they were.
type Init func(r *rand.Rand, shape []int64, data []float32)

func (b *Builder) random(name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(b.root.seed, h.Sum64()))
}

// uniform is PyTorch's default for weights and biases alike: kaiming_uniform_ with a = sqrt(5), which is the
// uniform distribution on (-1/sqrt(fan_in), 1/sqrt(fan_in)).
func uniform(fanIn int64) Init {
	return Uniform(1 / math.Sqrt(float64(fanIn)))
}

// KaimingNormal is kaiming_normal_ with mode fan_out and the gain of ReLU: standard
// deviation sqrt(2/fan_out), where fan_out is the number of outputs times the size of the
// kernel (He et al. 2015, section 2.2).
func KaimingNormal(r *rand.Rand, shape []int64, data []float32) {
	fan := shape[0]
	for _, d := range shape[min(2, len(shape)):] {
		fan *= d
	}
	Normal(math.Sqrt(2/float64(fan)))(r, shape, data)
}

// KaimingNormalIn is kaiming_normal_ with mode fan_in and the gain of ReLU.
func KaimingNormalIn(r *rand.Rand, shape []int64, data []float32) {
	Normal(math.Sqrt(2/float64(fanIn(shape))))(r, shape, data)
}

// KaimingUniform is kaiming_uniform_ with mode fan_in and the gain of ReLU.
func KaimingUniform(r *rand.Rand, shape []int64, data []float32) {
	Uniform(math.Sqrt(6/float64(fanIn(shape))))(r, shape, data)
}

// XavierUniform is xavier_uniform_: uniform with bound sqrt(6/(fan_in+fan_out)).
func XavierUniform(r *rand.Rand, shape []int64, data []float32) {
	window := elements(shape[2:])
	Uniform(math.Sqrt(6/float64(window*(shape[0]+shape[1]))))(r, shape, data)
}

// fanIn is the number of inputs of an output.
func fanIn(shape []int64) int64 { return elements(shape[1:]) }

// Uniform is uniform_ between -bound and bound.
func Uniform(bound float64) Init {
	return func(r *rand.Rand, _ []int64, data []float32) {
		for i := range data {
			data[i] = float32((2*r.Float64() - 1) * bound)
		}
	}
}

// TruncNormal is trunc_normal_ with mean 0 and bounds -2 and 2: what lies outside is drawn again.
func TruncNormal(std float64) Init {
	return func(r *rand.Rand, _ []int64, data []float32) {
		for i := range data {
			v := r.NormFloat64() * std
			for math.Abs(v) > 2 {
				v = r.NormFloat64() * std
			}
			data[i] = float32(v)
		}
	}
}

// Fill is constant_.
func Fill(v float32) Init {
	return func(_ *rand.Rand, _ []int64, data []float32) {
		for i := range data {
			data[i] = v
		}
	}
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
func Ones(r *rand.Rand, shape []int64, data []float32) { Fill(1)(r, shape, data) }
