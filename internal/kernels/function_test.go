package kernels

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// maps are all functions with parameters of a network's kind.
var maps = []struct {
	name string
	m    Map
}{
	{"relu", NewMap(FuncRelu)}, {"clip", NewMap(FuncClip, 0, 6)}, {"leaky relu", NewMap(FuncLeakyRelu, 0.1)},
	{"thresholded relu", NewMap(FuncThresholdedRelu, 0.5)}, {"shrink", NewMap(FuncShrink, 0.25, 0.5)},
	{"sigmoid", NewMap(FuncSigmoid)}, {"hard sigmoid", NewMap(FuncHardSigmoid, 0.2, 0.5)}, {"tanh",
		NewMap(FuncTanh)},
	{"silu", NewMap(FuncSwish, 1)}, {"swish", NewMap(FuncSwish, 1.702)}, {"hard swish",
		NewMap(FuncHardSwish)},
	{"gelu", NewMap(FuncGelu)}, {"gelu tanh", NewMap(FuncGeluTanh)}, {"mish", NewMap(FuncMish)},
	{"elu", Elu(0.7)}, {"selu", Selu(1.6732632, 1.050701)}, {"celu", Celu(1.5)}, {"softplus",
		NewMap(FuncSoftplus)},
	{"softsign", NewMap(FuncSoftsign)}, {"erf", NewMap(FuncErf)}, {"exp", NewMap(FuncExp)}, {"log",
		NewMap(FuncLog)},
	{"sqrt", NewMap(FuncSqrt)}, {"reciprocal", NewMap(FuncReciprocal)}, {"abs", NewMap(FuncAbs)}, {"neg",
		NewMap(FuncNeg)},
	{"square", NewMap(FuncSquare)}, {"sign", NewMap(FuncSign)}, {"floor", NewMap(FuncFloor)}, {"ceil",
		NewMap(FuncCeil)},
	{"round", NewMap(FuncRound)}, {"composed", composed},
}

// composed is an expression with a part of every kind.
var composed = Expression(func(x Term) Term {
	s := x.Of(FuncSigmoid)
	return x.Times(s).Plus(x.Scaled(0.25)).Minus(s.Times(s)).Over(x.Times(x).Shifted(3).OfMap(Elu(0.5)))
})

// twin computes f, and its gradient of dy = 1, by the twins.
func (m Map) twin(y, dx, x, dy []float32) {
	if m.expression == nil {
		if m.forwardGo(y, x); dx != nil {
			m.backwardGo(dx, dy, x)
		}
		return
	}
	defer func(was level) { current = was }(current)
	current = levelGo
	if m.Forward(y, x); dx != nil {
		m.Backward(dx, dy, x)
	}
}

// edges are floats at which functions turn.
var edges = []float32{0, float32(math.Copysign(0, -1)), 1, -1, 0.5, -0.5, 3, -3, 6, -6, 0.625, -0.625, 20,
	-20, -25, 88.7, 89, -87.4, -103.9,
	-104, -105, 1e-40, -1e-40, math.SmallestNonzeroFloat32, math.MaxFloat32, -math.MaxFloat32, 0x1p-126,
	inf32, -inf32, nan32}

// awkward is floats of every magnitude, edges among them.
func awkward(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		switch r.IntN(4) {
		case 0:
			x[i] = edges[r.IntN(len(edges))]
		case 1:
			x[i] = math.Float32frombits(r.Uint32())
		default:
			x[i] = float32(r.NormFloat64() * 4)
		}
	}
	return x
}

var awkwardLengths = []int{1, 5, 15, 16, 17, 33, 100, stretch + 37}

// sameBits fails where bits differ, all NaNs being one.
func sameBits(t *testing.T, name string, got, want, x []float32) {
	t.Helper()
	for i, w := range want {
		if g := got[i]; math.Float32bits(g) != math.Float32bits(w) && !(g != g && w != w) {
			t.Fatalf("%s of %g, number %d of %d: %g (%08x), twin %g (%08x)", name, x[i], i, len(want), g,
				math.Float32bits(g), w, math.Float32bits(w))
		}
	}
}

// TestFunctions compares the bits of every function and gradient with the twin's.
func TestFunctions(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(21, 1))
		for _, f := range maps {
			for _, n := range awkwardLengths {
				x, dy := awkward(r, n), awkward(r, n)
				checkFunction(t, f.name, f.m, x, dy)
			}
		}
	})
}

func checkFunction(t *testing.T, name string, m Map, x, dy []float32) {
	t.Helper()
	n := len(x)
	got, want := guard(n), make([]float32, n)
	m.Forward(got.s, x)
	m.twin(want, nil, x, nil)
	got.intact(t, name)
	sameBits(t, name, got.s, want, x)
	copy(got.s, x)
	m.Forward(got.s, got.s)
	sameBits(t, name+" in place", got.s, want, x)
	if !m.Differentiable() {
		return
	}
	m.Backward(got.s, dy, x)
	m.twin(make([]float32, n), want, x, dy)
	got.intact(t, name+" backward")
	sameBits(t, name+" backward", got.s, want, x)
	noAllocations(t, name, func() {
		m.Forward(got.s, x)
		m.Backward(got.s, dy, x)
	})
}

// FuzzFunctions compares functions with their twins on the bits that the fuzzer gives.
func FuzzFunctions(f *testing.F) {
	f.Add(uint8(5), []byte{0, 0, 128, 63, 0, 0, 200, 194})
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		x := make([]float32, len(data)/4)
		for i := range x {
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		k := maps[int(which)%len(maps)]
		best, was := available(), current
		defer func() { current = was }()
		for current = levelAVX2; current <= best; current++ {
			checkFunction(t, k.name, k.m, x, x)
		}
	})
}

func sigmoid64(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func softplus64(x float64) float64 { return math.Max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

func elu64(x, a, b, c float64) float64 {
	if x > 0 {
		return a * x
	}
	return b * math.Expm1(c*x)
}

// accuracy is how far functions may be from float64's: by units in the last place of the exact value, or, of
// those without such a limit, relative to what is above one. An error of floor counts as none: silu and mish
// multiply a denormal number by x.
var accuracy = []struct {
	name      string
	m         Map
	f         func(x float64) float64
	ulps, abs float64
	floor     float64
}{
	{"exp", NewMap(FuncExp), math.Exp, 2, 0, 0},
	{"sigmoid", NewMap(FuncSigmoid), sigmoid64, 3, 0, 0},
	{"tanh", NewMap(FuncTanh), math.Tanh, 3, 0, 0},
	{"log", NewMap(FuncLog), math.Log, 2, 0, 0},
	{"erf", NewMap(FuncErf), math.Erf, 3, 0, 0},
	{"silu", NewMap(FuncSwish, 1), func(x float64) float64 { return x * sigmoid64(x) }, 4, 0, 0x1p-142},
	{"gelu", NewMap(FuncGelu), func(x float64) float64 { return x * math.Erfc(-x/math.Sqrt2) / 2 },
		0, 5e-7, 0},
	{"gelu tanh", NewMap(FuncGeluTanh), func(x float64) float64 {
		return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	}, 0, 5e-7, 0},
	{"mish", NewMap(FuncMish), func(x float64) float64 { return x * math.Tanh(softplus64(x)) },
		4, 0, 0x1p-142},
	{"softplus", NewMap(FuncSoftplus), softplus64, 3, 0, 0},
	{"elu", Elu(1), func(x float64) float64 { return elu64(x, 1, 1, 1) }, 3, 0, 0},
	{"celu", Celu(1.5), func(x float64) float64 { return elu64(x, 1, 1.5, 1/1.5) }, 4, 0, 0},
	{"softsign", NewMap(FuncSoftsign), func(x float64) float64 { return x / (1 + math.Abs(x)) }, 1.5, 0, 0},
	{"hard swish", NewMap(FuncHardSwish), func(x float64) float64 {
		return x * math.Max(0, math.Min(1, x/6+0.5))
	}, 0, 3e-7, 0},
	{"hard sigmoid", NewMap(FuncHardSigmoid, 0.2, 0.5), func(x float64) float64 {
		return math.Max(0, math.Min(1, float64(float32(0.2))*x+0.5))
	}, 0, 1e-7, 0},
	{"sqrt", NewMap(FuncSqrt), math.Sqrt, 0.5, 0, 0},
	{"reciprocal", NewMap(FuncReciprocal), func(x float64) float64 { return 1 / x }, 0.5, 0, 0},
}

// TestAccuracy holds the functions against float64 over a sweep of all magnitudes, with more of [-110, 110].
func TestAccuracy(t *testing.T) {
	var x []float32
	for bits := uint64(0); bits < 1<<32; bits += 99991 {
		if v := math.Float32frombits(uint32(bits)); v == v {
			x = append(x, v)
		}
	}
	for i := range 200_000 {
		x = append(x, float32(i-100_000)*0.0011, float32(i-100_000)*1e-4)
	}
	x = append(x, edges[:len(edges)-1]...)
	y := make([]float32, len(x))
	for _, k := range accuracy {
		k.m.Forward(y, x)
		worst, at := 0.0, float32(0)
		for i, v := range x {
			want := k.f(float64(v))
			if want != want && math.Abs(float64(v)) > 1e30 {
				continue // infinity times zero
			}
			if e := errorOf(y[i], want, k.ulps > 0); !(e <= worst) &&
				!(math.Abs(float64(y[i])-want) < k.floor) {
				worst, at = e, v
			}
		}
		limit := k.abs
		if k.ulps > 0 {
			limit = k.ulps
		}
		t.Logf("%-12s error %.3g at %g", k.name, worst, at)
		if !(worst <= limit) {
			t.Errorf("%s: error %.3g at %g, at most %g", k.name, worst, at, limit)
		}
	}
}

// errorOf is the distance from the exact value: in units in its last place, or relative to what is above one.
func errorOf(got float32, want float64, ulps bool) float64 {
	switch rounded := float32(want); {
	case got == rounded || got != got && want != want:
		return 0
	case math.IsInf(float64(got), 0) || math.IsInf(float64(rounded), 0) || got != got || want != want:
		return math.Inf(1)
	}
	d := math.Abs(float64(got) - want)
	if !ulps {
		return d / math.Max(1, math.Abs(want))
	}
	_, e := math.Frexp(want)
	return d / math.Ldexp(1, max(e-24, -149))
}

// TestGradients holds every gradient against the difference quotient of the twin in float64 arithmetic.
func TestGradients(t *testing.T) {
	for _, f := range maps {
		if !f.m.Differentiable() {
			continue
		}
		for x := float32(-7.03); x < 7; x += 0.0917 {
			const h = 0x1p-7
			y := [3]float32{x - h, x, x + h}
			f.m.Forward(y[:], y[:])
			want := float64(y[2]-y[0]) / (2 * h)
			v := x
			if f.m.OfOutput() {
				v = y[1]
			}
			dx := [1]float32{1}
			f.m.Backward(dx[:], dx[:], []float32{v})
			left, right := float64(y[1]-y[0])/h, float64(y[2]-y[1])/h
			if kink := math.Abs(left-right) > 0.02; !kink && math.Abs(float64(dx[0])-want) > 2e-3 {
				t.Errorf("%s'(%g) = %g, want %g", f.name, x, dx[0], want)
			}
		}
	}
}

// TestOperations compares the bits of every operation with the twin's.
func TestOperations(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(22, 1))
		for o := range operationCount {
			for _, n := range awkwardLengths {
				a, b, got, want := awkward(r, n), awkward(r, n), guard(n), make([]float32, n)
				name := fmt.Sprintf("operation %d", o)
				o.Pair(got.s, a, b)
				o.pairGo(want, a, b)
				got.intact(t, name)
				if o == OpMax || o == OpMin {
					ignoreZeroSigns(got.s, want)
				}
				sameBits(t, name, got.s, want, a)
				lanes := [Block]float32(awkward(r, Block))
				o.Lanes(got.s, a, &lanes)
				o.lanesGo(want, a, &lanes)
				got.intact(t, name)
				if o == OpMax || o == OpMin {
					ignoreZeroSigns(got.s, want)
				}
				sameBits(t, name+" by lanes", got.s, want, a)
				if swapped, ok := o.Swapped(); ok {
					swapped.Pair(got.s, b, a)
					o.pairGo(want, a, b)
					if o == OpMax || o == OpMin {
						ignoreZeroSigns(got.s, want)
					}
					sameBits(t, name+" swapped", got.s, want, a)
				}
				noAllocations(t, name, func() { o.Scalar(got.s, a, 3) })
			}
		}
	})
}

// ignoreZeroSigns makes zeros positive: the larger of 0 and -0 is either.
func ignoreZeroSigns(xs ...[]float32) {
	for _, x := range xs {
		for i, v := range x {
			if v == 0 {
				x[i] = 0
			}
		}
	}
}
