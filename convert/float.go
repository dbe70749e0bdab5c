package convert

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// converted gives src's elements in dst's type, copied; false when the shapes differ or
// the types do not convert.
func converted(dst, src *onnxio.Tensor) ([]byte, bool) {
	if !slices.Equal(dst.Dims, src.Dims) {
		return nil, false
	}
	if dst.Type == src.Type {
		return append(make([]byte, 0, len(src.Raw)), src.Raw...), true
	}
	if _, narrow := float8s[src.Type]; !isFloat(dst.Type) || !isFloat(src.Type) && !narrow {
		return nil, false
	}
	out := onnxio.NewTensor(dst.Type, dst.Dims...)
	for i := range int(src.Size()) {
		setFloat(out, i, floatAt(src, i))
	}
	return out.Raw, true
}

func floatAt(t *onnxio.Tensor, i int) float64 {
	switch t.Type {
	case onnxio.Double:
		return onnxio.Data[float64](t)[i]
	case onnxio.Float16:
		return fromHalf(onnxio.Data[uint16](t)[i])
	case onnxio.BFloat16:
		return float64(math.Float32frombits(uint32(onnxio.Data[uint16](t)[i]) << 16))
	}
	if f, narrow := float8s[t.Type]; narrow {
		return f.value(t.Raw[i])
	}
	return float64(t.Float32s()[i])
}

func setFloat(t *onnxio.Tensor, i int, v float64) {
	switch t.Type {
	case onnxio.Double:
		onnxio.Data[float64](t)[i] = v
	case onnxio.Float16:
		onnxio.Data[uint16](t)[i] = toHalf(v)
	case onnxio.BFloat16:
		onnxio.Data[uint16](t)[i] = toBFloat(float32(v))
	default:
		t.Float32s()[i] = float32(v)
	}
}

// fromHalf widens IEEE 754 binary16.
func fromHalf(h uint16) float64 {
	sign := 1.0
	if h>>15 != 0 {
		sign = -1
	}
	exp, frac := int(h>>10&31), float64(h&1023)
	switch {
	case exp == 31 && frac != 0:
		return math.NaN()
	case exp == 31:
		return sign * math.Inf(1)
	case exp == 0:
		return sign * math.Ldexp(frac, -24)
	}
	return sign * math.Ldexp(1024+frac, exp-25)
}

// float8 describes a float of one byte: the bits of its mantissa, its exponent's bias, the code
// without sign from which on it is NaN, and the code of infinity (0: there is none). Without NaN
// codes, -0 is the only NaN.
type float8 struct {
	mantissa, bias int
	nan, inf       byte
}

// float8s are the types of the OCP specification and, with NUZ, of Graphcore and AMD;
// an E8M0 is a power of two.
var float8s = map[onnxio.DataType]float8{
	onnxio.Float8E4M3FN: {3, 7, 0x7f, 0}, onnxio.Float8E4M3FNUZ: {3, 8, 0, 0},
	onnxio.Float8E5M2: {2, 15, 0x7d, 0x7c}, onnxio.Float8E5M2FNUZ: {2, 16, 0, 0}, onnxio.Float8E8M0: {},
}

func (f float8) value(code byte) float64 {
	if f.mantissa == 0 {
		if code == 0xff {
			return math.NaN()
		}
		return math.Ldexp(1, int(code)-127)
	}
	sign, abs := 1.0, code&0x7f
	if code >= 0x80 {
		sign = -1
	}
	switch {
	case f.nan == 0 && code == 0x80, f.nan != 0 && abs >= f.nan:
		return math.NaN()
	case f.inf != 0 && abs == f.inf:
		return math.Inf(int(sign))
	}
	exp, frac := int(abs>>f.mantissa), float64(abs&(1<<f.mantissa-1))
	if exp == 0 {
		return math.Copysign(math.Ldexp(frac, 1-f.bias-f.mantissa), sign)
	}
	return sign * math.Ldexp(frac+float64(int(1)<<f.mantissa), exp-f.bias-f.mantissa)
}

// toHalf rounds to IEEE 754 binary16, to nearest even.
func toHalf(v float64) uint16 {
	sign := uint16(math.Float64bits(v) >> 48 & 0x8000)
	a := math.Abs(v)
	switch {
	case a != a:
		return sign | 0x7e00
	case a >= 65520: // halfway from the largest half to the next power
		return sign | 0x7c00
	case a < math.Ldexp(1, -14):
		return sign | uint16(math.RoundToEven(math.Ldexp(a, 24)))
	}
	frac, exp := math.Frexp(a) // frac in [0.5, 1)
	bits := int(math.RoundToEven(math.Ldexp(frac, 11)))
	return sign | uint16((exp+13)<<10+bits) // bits holds the leading 1 (1024), or 2048 after rounding up
}

func toBFloat(f float32) uint16 {
	b := math.Float32bits(f)
	if f != f {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
