package draw

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Choices are those of drawing number seed.
func Choices(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, 20+r.IntN(300))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Shorten drops choices from the end as long as the model still fails, so that the one to look at is small.
func Shorten(choices []byte, fails func([]byte) bool) []byte {
	for step := len(choices) / 2; step > 0; {
		if less := choices[:len(choices)-step]; len(less) > 0 && fails(less) {
			choices = less
			step = min(step, len(choices)/2)
			continue
		}
		step /= 2
	}
	return choices
}

// tolerances are relative to the largest number. Exact types have none.
var tolerances = map[onnxio.DataType]float64{onnxio.Float: 1e-3, onnxio.Double: 1e-6, onnxio.Float16: 2e-2,
	onnxio.BFloat16: 1e-1}

// Near compares by the largest number of the output: sums are taken in another order, Winograd's method
// rounds more.
func Near(got, want *onnxio.Tensor) error {
	if got.Type != want.Type || !slices.Equal(got.Dims, want.Dims) {
		return fmt.Errorf("%v %v, want %v %v", got.Type, got.Dims, want.Type, want.Dims)
	}
	if err := got.Check(); err != nil {
		return err
	}
	a, b := numbers(got), numbers(want)
	scale := 1.0
	for _, v := range b {
		if !math.IsInf(v, 0) && !math.IsNaN(v) {
			scale = max(scale, math.Abs(v))
		}
	}
	for i, w := range b {
		g := a[i]
		near := math.Abs(g-w) <= tolerances[want.Type]*scale && !math.IsInf(w, 0)
		if g != w && !near && !(math.IsNaN(g) && math.IsNaN(w)) {
			return fmt.Errorf("[%d] is %g, want %g (of %v %v)", i, g, w, want.Type, want.Dims)
		}
	}
	return nil
}

// numbers are a tensor's elements; of a type that has no arithmetic, its bytes.
func numbers(t *onnxio.Tensor) []float64 {
	out := []float64{}
	switch t.Type {
	case onnxio.Float:
		for _, v := range t.Float32s() {
			out = append(out, float64(v))
		}
	case onnxio.Double:
		out = append(out, onnxio.Data[float64](t)...)
	case onnxio.Float16:
		for _, v := range onnxio.Data[uint16](t) {
			out = append(out, half(v))
		}
	case onnxio.BFloat16:
		for _, v := range onnxio.Data[uint16](t) {
			out = append(out, float64(math.Float32frombits(uint32(v)<<16)))
		}
	case onnxio.Int32:
		for _, v := range onnxio.Data[int32](t) {
			out = append(out, float64(v))
		}
	case onnxio.Int64:
		for _, v := range onnxio.Data[int64](t) {
			out = append(out, float64(v))
		}
	default:
		for _, v := range t.Raw {
			out = append(out, float64(v))
		}
	}
	return out
}

func half(h uint16) float64 {
	exp, v := int(h>>10&31), float64(h&1023)
	switch {
	case exp == 31 && v != 0:
		return math.NaN()
	case exp == 31:
		v = math.Inf(1)
	case exp == 0:
		v = math.Ldexp(v, -24)
	default:
		v = math.Ldexp(1024+v, exp-25)
	}
	if h>>15 != 0 {
		return -v
	}
	return v
}
