package transforms

import (
	"math"
	"math/rand/v2"
)

// NewRand is the source of one sample's random numbers: it depends on the run's seed, the epoch and
// the sample's index alone, so that neither the order of the samples nor the number of workers changes
// what becomes of an image.
func NewRand(seed uint64, epoch, index int) *rand.Rand {
	a, b := Seeds(seed, epoch, index)
	return rand.New(rand.NewPCG(a, b))
}

// Seeds are the two words that NewRand seeds its PCG with, for a worker that seeds one PCG again and again.
func Seeds(seed uint64, epoch, index int) (uint64, uint64) {
	a := mix(seed ^ mix(uint64(epoch)+0x9e3779b97f4a7c15))
	return a, mix(a ^ mix(uint64(index)+0xd1b54a32d192ed03))
}

// Key is a sample's number in a run, the same in every epoch.
func Key(seed uint64, index int) uint64 {
	_, key := Seeds(seed, 0, index)
	return key
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// uniform rounds its product, so that no processor's fused multiply-add changes a draw.
func uniform(r *rand.Rand, lo, hi float64) float64 { return lo + float64((hi-lo)*r.Float64()) }

// beta draws from Beta(a, a) as x/(x+y), x and y from Gamma(a). Their logarithms are used, since both
// would vanish for a small a.
func beta(r *rand.Rand, a float64) float64 {
	x, y := logGamma(r, a), logGamma(r, a)
	return 1 / (1 + math.Exp(y-x))
}

// logGamma is the logarithm of a draw from Gamma(a), after Marsaglia and Tsang (2000).
func logGamma(r *rand.Rand, a float64) float64 {
	boost := 0.0
	if a < 1 {
		boost = math.Log(1-r.Float64()) / a
		a++
	}
	d := a - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := r.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(1-r.Float64()) < 0.5*x*x+d-d*v+d*math.Log(v) {
			return math.Log(d*v) + boost
		}
	}
}
