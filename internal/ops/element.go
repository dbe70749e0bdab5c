package ops

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Element types below a byte and the floats of at most 8 bits are storage, as the half types are: they are
// moved, quantized to and cast from, and no other kernel computes in them. A code is one element of such a
// type in a byte of its own, in the low bits.

// The storage types.
var (
	narrowInts   = Set(onnxio.Int4, onnxio.Uint4, onnxio.Int2, onnxio.Uint2)
	float8s      = Set(onnxio.Float8E4M3FN, onnxio.Float8E4M3FNUZ, onnxio.Float8E5M2, onnxio.Float8E5M2FNUZ)
	float4And6   = Set(onnxio.Float4E2M1, onnxio.Float6E2M3, onnxio.Float6E3M2)
	narrowFloats = float8s | float4And6 | Set(onnxio.Float8E8M0)
	narrows      = narrowInts | narrowFloats
)

// packed reports whether the elements of t share bytes.
func packed(t onnxio.DataType) bool { return t.Bits() > 0 && t.Bits() < 8 }

// unpack writes the codes of elements at, at+1, ... of packed raw.
func unpack(codes, raw []byte, bits int, at int64) {
	mask := byte(1)<<bits - 1
	pos := at * int64(bits)
	for i := range codes {
		k, shift := pos/8, pos%8
		v := raw[k] >> shift
		if shift+int64(bits) > 8 {
			v |= raw[k+1] << (8 - shift)
		}
		codes[i] = v & mask
		pos += int64(bits)
	}
}

// pack is the reverse of unpack from the first element on; raw ends with the last code, its unused bits zero.
func pack(raw, codes []byte, bits int) {
	clear(raw)
	mask := byte(1)<<bits - 1
	pos := 0
	for _, v := range codes {
		k, shift := pos/8, pos%8
		raw[k] |= v & mask << shift
		if shift+bits > 8 {
			raw[k+1] |= v & mask >> (8 - shift)
		}
		pos += bits
	}
}

// narrowFloat describes a floating type of at most 8 bits with a sign: exponent and mantissa in bits, the
// exponent's bias, the codes of the largest number, of infinity and of NaN without their sign (0: there is
// none).
type narrowFloat struct {
	mantissa, bias  int
	sign            byte
	most, inf, nan  byte
	unsignedSpecial bool // one zero and one NaN, which has the code of -0
	values          [256]float32
}

var narrowFormats = map[onnxio.DataType]*narrowFloat{
	onnxio.Float8E4M3FN:   {mantissa: 3, bias: 7, sign: 0x80, most: 0x7e, nan: 0x7f},
	onnxio.Float8E4M3FNUZ: {mantissa: 3, bias: 8, sign: 0x80, most: 0x7f, unsignedSpecial: true},
	onnxio.Float8E5M2:     {mantissa: 2, bias: 15, sign: 0x80, most: 0x7b, inf: 0x7c, nan: 0x7e},
	onnxio.Float8E5M2FNUZ: {mantissa: 2, bias: 16, sign: 0x80, most: 0x7f, unsignedSpecial: true},
	onnxio.Float4E2M1:     {mantissa: 1, bias: 1, sign: 0x08, most: 0x07},
	onnxio.Float6E2M3:     {mantissa: 3, bias: 1, sign: 0x20, most: 0x1f},
	onnxio.Float6E3M2:     {mantissa: 2, bias: 3, sign: 0x20, most: 0x1f},
}

func init() {
	for _, f := range narrowFormats {
		for c := range f.values {
			f.values[c] = f.decode(byte(c))
		}
	}
}

// decode is the number of a code.
func (f *narrowFloat) decode(code byte) float32 {
	abs := code & (f.sign - 1)
	sign := 1.0
	if code&f.sign != 0 {
		sign = -1
	}
	switch {
	case f.unsignedSpecial && code == f.sign, f.nan != 0 && abs > f.most && abs != f.inf:
		return float32(math.Copysign(math.NaN(), sign))
	case f.inf != 0 && abs == f.inf:
		return float32(math.Inf(int(sign)))
	}
	exp, frac := int(abs>>f.mantissa), float64(abs&(1<<f.mantissa-1))
	if exp == 0 {
		return float32(math.Copysign(math.Ldexp(frac, 1-f.bias-f.mantissa), sign))
	}
	return float32(sign * math.Ldexp(frac+float64(int(1)<<f.mantissa), exp-f.bias-f.mantissa))
}

// encode rounds to the nearest number, ties to the even code. Beyond the largest one, saturate gives the
// largest, else infinity or NaN; a type without these always saturates, and has a zero for NaN.
func (f *narrowFloat) encode(v float64, saturate bool) byte {
	sign := byte(0)
	if math.Signbit(v) {
		sign = f.sign
	}
	switch {
	case v != v && f.unsignedSpecial:
		return f.sign
	case v != v && f.nan == 0:
		return sign ^ f.sign // as ONNX's reference has it
	case v != v:
		return sign | f.nan
	}
	abs := f.magnitude(math.Abs(v))
	switch {
	case abs <= int(f.most) && abs == 0 && f.unsignedSpecial:
		return 0
	case abs <= int(f.most):
		return sign | byte(abs)
	case saturate || f.nan == 0 && !f.unsignedSpecial:
		return sign | f.most
	case f.unsignedSpecial:
		return f.sign
	case f.inf != 0:
		return sign | f.inf
	}
	return sign | f.nan
}

// magnitude is the code of v >= 0 as if exponents had no upper end, at most one beyond the largest.
func (f *narrowFloat) magnitude(v float64) int {
	switch {
	case v == 0:
		return 0
	case v > float64(f.values[f.most])*2:
		return int(f.most) + 1
	}
	_, exp := math.Frexp(v) // v = frac * 2^exp, frac in [1/2,1)
	exp = max(exp-1, 1-f.bias)
	// The carry of a rounding moves into the exponent; below 2^(1-bias) there is no implicit one to take
	// away.
	units := int(math.RoundToEven(math.Ldexp(v, f.mantissa-exp)))
	return (exp+f.bias-1)<<f.mantissa + units
}

// scaleNaN is the NaN of float8e8m0, whose other codes c stand for 2^(c-127): an exponent without sign or
// mantissa.
const scaleNaN = 255

func decodeScale(code byte) float32 {
	if code == scaleNaN {
		return float32(math.NaN())
	}
	return float32(math.Ldexp(1, int(code)-127))
}

// encodeScale is the power of two above |v|, below it, or nearest (ties up). A number outside the range is
// NaN unless saturate brings it to the nearest end: so it is for 0 too.
func encodeScale(v float64, saturate bool, round string) byte {
	v = math.Abs(v)
	low, high := math.Ldexp(1, -127), math.Ldexp(1, 127)
	switch {
	case v != v, !saturate && (v < low || v > high):
		return scaleNaN
	case v <= low:
		return 0
	case v >= high:
		return 254
	}
	frac, exp := math.Frexp(v) // in [1/2,1)
	code := exp - 1 + 127
	if frac > 0.5 && round == "up" || frac >= 0.75 && round == "nearest" {
		code++
	}
	return byte(code)
}

// decodeNarrow writes the numbers that codes of a narrow type stand for into dst: int8 for narrow integers
// with a sign, uint8 for those without, float32 for floats.
func decodeNarrow(dst *onnxio.Tensor, codes []byte, t onnxio.DataType) {
	switch {
	case t == onnxio.Int4, t == onnxio.Int2:
		to, shift := onnxio.Data[int8](dst), 8-t.Bits()
		for i, c := range codes {
			to[i] = int8(c<<shift) >> shift
		}
	case narrowInts.Has(t):
		copy(dst.Raw, codes)
	case t == onnxio.Float8E8M0:
		for i, c := range codes {
			onnxio.Data[float32](dst)[i] = decodeScale(c)
		}
	default:
		to, values := onnxio.Data[float32](dst), &narrowFormats[t].values
		for i, c := range codes {
			to[i] = values[c]
		}
	}
}

// wideType is the type that decodeNarrow writes.
func wideType(t onnxio.DataType) onnxio.DataType {
	switch {
	case narrowFloats.Has(t):
		return onnxio.Float
	case t == onnxio.Int4, t == onnxio.Int2:
		return onnxio.Int8
	}
	return onnxio.Uint8
}
