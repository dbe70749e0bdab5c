package ops

import (
	"math"
	"strconv"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Casts that Go has no conversion for: from and to the types that are storage, and strings.

// stored reports whether elements of type t are decoded before anything is computed with them.
func stored(t onnxio.DataType) bool { return isHalf(t) || narrows.Has(t) }

// stage is how many elements are converted at once: a multiple of 8, so that packed elements begin at a byte.
const stage = 4096

// part is elements [at, at+n) of a tensor of whole-byte elements.
func part(t *onnxio.Tensor, at, n int64) *onnxio.Tensor {
	size := int64(t.Type.Bits() / 8)
	return &onnxio.Tensor{Type: t.Type, Dims: []int64{n}, Raw: t.Raw[at*size:][:n*size]}
}

// castStored converts between two types of which at least one is storage.
func castStored(n *Node, dst, src *onnxio.Tensor, how conversion) error {
	target := encodedFrom(dst.Type, src.Type)
	buffer := onnxio.NewTensor(target, min(src.Size(), stage))
	codes := make([]byte, min(src.Size(), stage))
	for at, size := int64(0), src.Size(); at < size; at += stage {
		m := min(size-at, stage)
		from := decoded(src, at, m, codes)
		to := part(buffer, 0, m)
		if target == dst.Type {
			to = part(dst, at, m)
		}
		if err := castPlain(n, to, from, how.nearest); err != nil {
			return err
		}
		if target != dst.Type {
			encodeStored(dst, to, at, codes[:m], how)
		}
	}
	return nil
}

// encodedFrom is the type from which elements of type t are encoded: t itself unless it is storage. Halves
// take the float64 of numbers that float32 would round first.
func encodedFrom(t, src onnxio.DataType) onnxio.DataType {
	switch {
	case isHalf(t) && (src.Bits() <= 16 || src == onnxio.Float):
		return onnxio.Float
	case isHalf(t), narrowFloats.Has(t):
		return onnxio.Double
	case narrowInts.Has(t):
		return wideType(t)
	}
	return t
}

// decoded is elements [at, at+m) of t in a type that Go computes in.
func decoded(t *onnxio.Tensor, at, m int64, codes []byte) *onnxio.Tensor {
	switch {
	case isHalf(t.Type):
		return widen(part(t, at, m))
	case !narrows.Has(t.Type):
		return part(t, at, m)
	case packed(t.Type):
		codes = codes[:m]
		unpack(codes, t.Raw, t.Type.Bits(), at)
	default:
		codes = t.Raw[at:][:m]
	}
	out := onnxio.NewTensor(wideType(t.Type), m)
	decodeNarrow(out, codes, t.Type)
	return out
}

// encodeStored writes src as elements at, at+1, ... of dst; src has the type that encodedFrom says.
func encodeStored(dst, src *onnxio.Tensor, at int64, codes []byte, how conversion) {
	t := dst.Type
	switch {
	case isHalf(t) && src.Type == onnxio.Float:
		narrow(part(dst, at, int64(len(codes))), src)
		return
	case isHalf(t):
		for i, v := range onnxio.Data[float64](src) {
			onnxio.Data[uint16](dst)[at+int64(i)] = doubleToHalf(v, t)
		}
		return
	case narrowInts.Has(t):
		codes = src.Raw
	case t == onnxio.Float8E8M0:
		for i, v := range onnxio.Data[float64](src) {
			codes[i] = encodeScale(v, !how.wrap, how.scale)
		}
	default:
		f := narrowFormats[t]
		for i, v := range onnxio.Data[float64](src) {
			codes[i] = f.encode(v, !how.wrap)
		}
	}
	if bits := int64(t.Bits()); bits < 8 {
		pack(dst.Raw[at*bits/8:][:(int64(len(codes))*bits+7)/8], codes, int(bits))
	} else {
		copy(dst.Raw[at:], codes)
	}
}

// doubleToHalf rounds once: the float32 in between keeps in its last bit that something was cut off.
func doubleToHalf(v float64, t onnxio.DataType) uint16 {
	f := float32(v)
	if bits := math.Float32bits(f); float64(f) != v && v == v && bits&1 == 0 {
		if math.Abs(float64(f)) > math.Abs(v) {
			bits--
		} else {
			bits++
		}
		f = math.Float32frombits(bits)
	}
	if t == onnxio.BFloat16 {
		return floatToBrain(f)
	}
	return floatToHalf(f)
}

// oddly is the odd one of the two numbers around sum + rest, where sum is rounded and rest is what it lacks:
// a later rounding to fewer bits then goes as if nothing had been rounded before.
func oddly(sum, rest float64) float64 {
	bits := math.Float64bits(sum)
	if bits&1 == 1 || math.IsInf(sum, 0) || sum != sum {
		return sum
	}
	if (rest > 0) == (sum > 0) {
		return math.Float64frombits(bits + 1)
	}
	return math.Float64frombits(bits - 1)
}

// castText converts from or to strings: decimal numbers in plain or scientific form, INF and NaN in any case.
func castText(n *Node, dst, src *onnxio.Tensor, how conversion) error {
	if dst.Type == onnxio.String {
		return formatAll(n, dst, src)
	}
	clear(dst.Raw)
	parse := parseAs(dst.Type)
	for at, size := int64(0), src.Size(); at < size; at++ {
		number, err := parse(string(src.Strings[at]))
		if err != nil {
			return n.Errorf("string %d cannot become %v: %w", at, dst.Type, err)
		}
		if err := convertOne(n, dst, number, at, how); err != nil {
			return err
		}
	}
	return nil
}

// convertOne writes the scalar src as element at of dst, whose elements before at are written.
func convertOne(n *Node, dst, src *onnxio.Tensor, at int64, how conversion) error {
	one := onnxio.NewTensor(dst.Type)
	if err := convert(n, one, src, how); err != nil {
		return err
	}
	if !packed(dst.Type) {
		copy(part(dst, at, 1).Raw, one.Raw)
		return nil
	}
	bits := int64(dst.Type.Bits())
	for i := range bits { // bit by bit, as an element may lie across two bytes
		k := at*bits + i
		dst.Raw[k/8] = dst.Raw[k/8]&^(1<<(k%8)) | one.Raw[0]>>i&1<<(k%8)
	}
	return nil
}

// parseAs reads a string as a scalar of the type that loses nothing on the way to t.
func parseAs(t onnxio.DataType) func(s string) (*onnxio.Tensor, error) {
	switch {
	case t == onnxio.Float:
		return func(s string) (*onnxio.Tensor, error) {
			v, err := strconv.ParseFloat(s, 32)
			return onnxio.Scalar(onnxio.Float, float32(v)), beyondRange(err)
		}
	case t == onnxio.Uint64:
		return func(s string) (*onnxio.Tensor, error) {
			if v, err := strconv.ParseUint(s, 10, 64); err == nil {
				return onnxio.Scalar(onnxio.Uint64, v), nil
			}
			return parseWhole(s)
		}
	case Integers.Has(t), narrowInts.Has(t):
		return parseWhole
	}
	return func(s string) (*onnxio.Tensor, error) {
		v, err := strconv.ParseFloat(s, 64)
		return onnxio.Scalar(onnxio.Double, v), beyondRange(err)
	}
}

// beyondRange drops the error of a number too large for a float, which has become infinity.
func beyondRange(err error) error {
	if e, ok := err.(*strconv.NumError); ok && e.Err == strconv.ErrRange {
		return nil
	}
	return err
}

// parseWhole reads an integer, or what is before the point of a number that has one.
func parseWhole(s string) (*onnxio.Tensor, error) {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(s, 64)
		if ferr != nil || !(math.Abs(f) < 1<<63) {
			return nil, err
		}
		v = int64(f)
	}
	return onnxio.Scalar(onnxio.Int64, v), nil
}

// formatAll writes numbers as strings.
func formatAll(n *Node, dst, src *onnxio.Tensor) error {
	codes := make([]byte, min(src.Size(), stage))
	for at, size := int64(0), src.Size(); at < size; at += stage {
		from := decoded(src, at, min(size-at, stage), codes)
		text, err := formatOf(n, from, src.Type)
		if err != nil {
			return err
		}
		for i := range from.Size() {
			dst.Strings[at+i] = []byte(text(i))
		}
	}
	return nil
}

// formatOf is how element i of t is written; typ is the type that t was decoded from.
func formatOf(n *Node, t *onnxio.Tensor, typ onnxio.DataType) (text func(i int64) string, err error) {
	switch {
	case t.Type == onnxio.Float:
		data := onnxio.Data[float32](t)
		return func(i int64) string { return plainDecimal(float64(data[i]), typ) }, nil
	case t.Type == onnxio.Double:
		data := onnxio.Data[float64](t)
		return func(i int64) string { return plainDecimal(data[i], typ) }, nil
	case t.Type == onnxio.Bool:
		return func(i int64) string {
			if t.Raw[i] != 0 {
				return "True"
			}
			return "False"
		}, nil
	case t.Type == onnxio.Uint64:
		return func(i int64) string { return strconv.FormatUint(onnxio.Data[uint64](t)[i], 10) }, nil
	case Integers.Has(t.Type):
		wide := onnxio.NewTensor(onnxio.Int64, t.Dims...)
		if err := castPlain(n, wide, t, false); err != nil {
			return nil, err
		}
		return func(i int64) string { return strconv.FormatInt(onnxio.Data[int64](wide)[i], 10) }, nil
	}
	return nil, n.Errorf("cannot cast %v to a string", t.Type)
}

// plainDecimal is the shortest decimal that a number of the given type is read back from, as NumPy prints it:
// with a point, and an exponent only below 1e-4 and from 1e16 on.
func plainDecimal(v float64, t onnxio.DataType) string {
	switch {
	case v != v:
		return "nan"
	case math.IsInf(v, 1):
		return "inf"
	case math.IsInf(v, -1):
		return "-inf"
	}
	digits := shortestDigits(v, t)
	if a := math.Abs(v); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(v, 'e', digits, 64)
	}
	exp := 0
	if v != 0 {
		text := strconv.FormatFloat(v, 'e', digits, 64)
		exp, _ = strconv.Atoi(text[len(text)-3:])
	}
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'e', digits, 64), 64)
	return strconv.FormatFloat(v, 'f', max(digits-exp, 1), 64)
}

// shortestDigits is how many digits after the first a number of type t needs.
func shortestDigits(v float64, t onnxio.DataType) int {
	same := func(w float64) bool { return float32(w) == float32(v) }
	switch {
	case t == onnxio.Double:
		same = func(w float64) bool { return w == v }
	case isHalf(t):
		code := doubleToHalf(v, t)
		same = func(w float64) bool { return doubleToHalf(w, t) == code }
	}
	for digits := range 17 {
		if w, err := strconv.ParseFloat(strconv.FormatFloat(v, 'e', digits, 64), 64); err == nil && same(w) {
			return digits
		}
	}
	return 17
}
