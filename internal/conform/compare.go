package conform

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// The tolerances of ONNX's own runner.
const (
	relative = 1e-3
	absolute = 1e-7
)

// Compare says where got is not want, by ONNX's own rule.
func Compare(got, want *onnxio.Tensor) error {
	if got == nil {
		return errors.New("was not made")
	}
	if got.Type != want.Type || !slices.Equal(got.Dims, want.Dims) {
		return fmt.Errorf("got %v %v, want %v %v", got.Type, got.Dims, want.Type, want.Dims)
	}
	if err := got.Check(); err != nil {
		return err
	}
	if want.Type == onnxio.String {
		for i := range want.Strings {
			if !bytes.Equal(got.Strings[i], want.Strings[i]) {
				return fmt.Errorf("[%d]: got %q, want %q", i, got.Strings[i], want.Strings[i])
			}
		}
		return nil
	}
	a, b := floats(got), floats(want)
	if b == nil {
		if !bytes.Equal(got.Raw, want.Raw) {
			return fmt.Errorf("bytes % x, want % x", got.Raw[:min(16, len(got.Raw))],
				want.Raw[:min(16, len(want.Raw))])
		}
		return nil
	}
	for i, w := range b {
		g := a[i]
		near := !math.IsInf(w, 0) && math.Abs(g-w) <= absolute+relative*math.Abs(w)
		if g != w && !near && !(math.IsNaN(g) && math.IsNaN(w)) {
			return fmt.Errorf("[%d]: got %g, want %g", i, g, w)
		}
	}
	return nil
}

// floats is a floating or complex tensor in float64, nil for other types: those are compared by their bytes.
func floats(t *onnxio.Tensor) []float64 {
	switch t.Type {
	case onnxio.Float:
		return widened(onnxio.Data[float32](t), func(v float32) float64 { return float64(v) })
	case onnxio.Double:
		return widened(onnxio.Data[float64](t), func(v float64) float64 { return v })
	case onnxio.Float16:
		return widened(onnxio.Data[uint16](t), half)
	case onnxio.BFloat16:
		return widened(onnxio.Data[uint16](t), func(v uint16) float64 {
			return float64(math.Float32frombits(uint32(v) << 16))
		})
	case onnxio.Float8E4M3FN, onnxio.Float8E4M3FNUZ, onnxio.Float8E5M2, onnxio.Float8E5M2FNUZ:
		return widened(t.Raw, eighths[t.Type].value)
	case onnxio.Complex64:
		var out []float64
		for _, v := range onnxio.Data[complex64](t) {
			out = append(out, float64(real(v)), float64(imag(v)))
		}
		return out
	case onnxio.Complex128:
		var out []float64
		for _, v := range onnxio.Data[complex128](t) {
			out = append(out, real(v), imag(v))
		}
		return out
	}
	return nil
}

func widened[T any](in []T, f func(T) float64) []float64 {
	out := make([]float64, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}

// half decodes an IEEE half, written apart from the code under test.
func half(h uint16) float64 {
	sign := 1.0
	if h>>15 != 0 {
		sign = -1
	}
	exp, frac := int(h>>10&31), float64(h&1023)
	switch {
	case exp == 0:
		return sign * math.Ldexp(frac, -24)
	case exp < 31:
		return sign * math.Ldexp(1024+frac, exp-25)
	case frac == 0:
		return sign * math.Inf(1)
	}
	return math.NaN()
}

// eighth is the layout of a float8 type.
type eighth struct {
	mantissa, bias int
	finite         bool  // no infinities: all exponents are numbers'
	nans           []int // the bits that are no number, the sign left out; -1: only the negative zero
}

// eighths are the four float8 types that have a sign.
var eighths = map[onnxio.DataType]eighth{
	onnxio.Float8E4M3FN:   {3, 7, true, []int{0x7f}},
	onnxio.Float8E4M3FNUZ: {3, 8, true, []int{-1}},
	onnxio.Float8E5M2:     {2, 15, false, []int{0x7d, 0x7e, 0x7f}},
	onnxio.Float8E5M2FNUZ: {2, 16, true, []int{-1}},
}

// value decodes one number.
func (f eighth) value(b byte) float64 {
	bits := int(b & 0x7f)
	if slices.Contains(f.nans, bits) || b == 0x80 && slices.Contains(f.nans, -1) {
		return math.NaN()
	}
	exp, frac := bits>>f.mantissa, bits&(1<<f.mantissa-1)
	v := math.Ldexp(float64(frac), 1-f.bias-f.mantissa)
	switch {
	case !f.finite && bits == 0x7c:
		v = math.Inf(1)
	case exp > 0:
		v = math.Ldexp(float64(frac+(1<<f.mantissa)), exp-f.bias-f.mantissa)
	}
	if b&0x80 != 0 {
		v = -v
	}
	return v
}
