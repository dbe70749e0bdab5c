package kernels

import "math"

// Bytes one by one, a line or 16 of them at a time. Slices are whole lines where nothing else is said.

// byteLevels is how floats become bytes, as the assembly reads it.
type byteLevels struct {
	scale, least, most float32 // of the quotient, before the zero point is added
	odd                float32 // what stands for NaN
	zero               int32
}

// Levels converts between float32 and bytes: q = round(x/scale) + zero point, ties to even, saturated; NaN
// becomes 0. The reverse is (q - zero point) * scale.
type Levels struct {
	byteLevels
	to Quantized
}

// NewLevels is the conversion with a scale, to bytes of a kind.
func NewLevels(scale float32, to Quantized) Levels {
	low, high := to.limits()
	return Levels{byteLevels{scale, float32(low - to.Zero), float32(high - to.Zero), float32(-to.Zero),
		to.Zero}, to}
}

// level is the byte of a number.
func (l *byteLevels) level(x float32) uint8 {
	q := x / l.scale
	if q != q {
		q = l.odd
	}
	return uint8(int32(math.RoundToEven(float64(max(l.least, min(q, l.most))))) + l.zero)
}

// Quantize rounds numbers, of any count.
func (l *Levels) Quantize(dst []uint8, src []float32) {
	whole := len(src) / Block
	l.quantize(dst, src, whole, Block, Block)
	for i := whole * Block; i < len(src); i++ {
		dst[i] = l.level(src[i])
	}
}

// Dequantize is the reverse of Quantize.
func (l *Levels) Dequantize(dst []float32, src []uint8) {
	whole := len(src) / Block
	l.dequantize(dst, src, whole, Block, Block)
	for i := whole * Block; i < len(src); i++ {
		dst[i] = float32(l.to.value(src[i])-l.zero) * l.scale
	}
}

// quantize rounds n times 16 numbers; dst and src move by so many.
func (l *Levels) quantize(dst []uint8, src []float32, n, to, from int) {
	if n == 0 {
		return
	}
	_, _ = dst[:(n-1)*to+Block], src[:(n-1)*from+Block]
	if useVNNI() {
		l.quantizeAVX512(dst, src, n, to, from)
		return
	}
	for i := range n {
		for k, x := range src[i*from:][:Block] {
			dst[i*to+k] = l.level(x)
		}
	}
}

func (l *Levels) dequantize(dst []float32, src []uint8, n, to, from int) {
	if n == 0 {
		return
	}
	_, _ = dst[:(n-1)*to+Block], src[:(n-1)*from+Block]
	if useVNNI() {
		l.dequantizeAVX512(dst, src, n, to, from)
		return
	}
	for i := range n {
		for k, b := range src[i*from:][:Block] {
			dst[i*to+k] = float32(l.to.value(b)-l.zero) * l.scale
		}
	}
}

// pixels rounds w numbers of each plane to pixels of 4 lanes. Planes that are nil are of zeros.
func (l *Levels) pixels(dst []uint8, planes *[PixelLanes][]float32, w int) {
	at := 0
	if useVNNI() && w >= Block {
		at = l.pixelsAVX512(dst, planes, w)
	}
	for ; at < w; at++ {
		for c, plane := range planes {
			x := float32(0)
			if plane != nil {
				x = plane[at]
			}
			dst[at*PixelLanes+c] = l.level(x)
		}
	}
}

// AddBytes is y = ByA*a + (ByB*b + Fixed) of bytes, each sum rounded once, clipped, rounded to nearest even:
// the zero points of a, b and y are part of Fixed.
type AddBytes struct {
	Signed          bool
	ByA, ByB, Fixed float32
	Low, High       float32
}

// NewAddBytes adds bytes that stand for numbers with these scales.
func NewAddBytes(a, b, y Quantized, scaleA, scaleB, scaleY float32) AddBytes {
	byA, byB := scaleA/scaleY, scaleB/scaleY
	low, high := y.limits()
	return AddBytes{Signed: y.Signed, ByA: byA, ByB: byB, Low: float32(low), High: float32(high),
		Fixed: float32(y.Zero) - multiplyAdd(byA, float32(a.Zero), float32(byB*float32(b.Zero)))}
}

// Run computes whole lines. y may be a or b.
func (p *AddBytes) Run(y, a, b []uint8) {
	n := len(y) / lineBytes
	if n == 0 {
		return
	}
	_, _ = a[:len(y)], b[:len(y)]
	if useVNNI() {
		p.runAVX512(y, a, b, n)
		return
	}
	q := Quantized{Signed: p.Signed}
	for i := range y[:n*lineBytes] {
		sum := multiplyAdd(float32(q.value(a[i])), p.ByA, multiplyAdd(float32(q.value(b[i])), p.ByB, p.Fixed))
		y[i] = uint8(int32(math.RoundToEven(float64(max(p.Low, min(sum, p.High))))))
	}
}

// MulBytes is y = (a-ZeroA)*(b-ZeroB)*By + Zero of bytes in float32, clipped, rounded to nearest even.
type MulBytes struct {
	Signed              bool
	ZeroA, ZeroB        float32
	By, Zero, Low, High float32
}

// NewMulBytes multiplies bytes that stand for numbers with these scales.
func NewMulBytes(a, b, y Quantized, scaleA, scaleB, scaleY float32) MulBytes {
	low, high := y.limits()
	return MulBytes{Signed: y.Signed, ZeroA: float32(a.Zero), ZeroB: float32(b.Zero),
		By:   float32(scaleA*scaleB) / scaleY,
		Zero: float32(y.Zero), Low: float32(low), High: float32(high)}
}

// Run computes whole lines of a with those of b, which are step bytes apart: 64, or 0 for one line.
func (p *MulBytes) Run(y, a, b []uint8, step int) {
	n := len(y) / lineBytes
	if n == 0 {
		return
	}
	_, _ = a[:len(y)], b[:(n-1)*step+lineBytes]
	if useVNNI() {
		p.runAVX512(y, a, b, n, step)
		return
	}
	q := Quantized{Signed: p.Signed}
	for i := range y[:n*lineBytes] {
		product := (float32(q.value(a[i])) - p.ZeroA) * (float32(q.value(b[i/lineBytes*step+i%lineBytes])) -
			p.ZeroB)
		v := float32(product*p.By) + p.Zero
		y[i] = uint8(int32(math.RoundToEven(float64(max(p.Low, min(v, p.High))))))
	}
}

// multiplyAdd is a*b + c rounded once: the float64 sum is rounded to odd, so that
// rounding it again does no harm.
func multiplyAdd(a, b, c float32) float32 {
	product, add := float64(a)*float64(b), float64(c) // the product is exact
	sum := product + add
	part := sum - product
	rest := (product - (sum - part)) + (add - part)
	if bits := math.Float64bits(sum); rest != 0 && bits&1 == 0 {
		if (rest > 0) == (sum > 0) {
			bits++
		} else {
			bits--
		}
		sum = math.Float64frombits(bits)
	}
	return float32(sum)
}

// ByteTable is a function of a byte.
type ByteTable [256]uint8

// Run looks up bytes, of any count. y may be x.
func (t *ByteTable) Run(y, x []uint8) {
	at := 0
	if n := len(x) / lineBytes; n > 0 && hasVBMI() && useVNNI() {
		_ = y[:n*lineBytes]
		t.runVBMI(y, x, n)
		at = n * lineBytes
	}
	for i, b := range x[at:] {
		y[at+i] = t[b]
	}
}

// sumLines adds n lines of x to sums.
func sumLines(sums *[Int8Lanes]int32, x []uint8, n int, signed bool) {
	x = x[:n*lineBytes]
	if n > 0 && useVNNI() {
		sumLinesAVX512(sums, x, n, signed)
		return
	}
	q := Quantized{Signed: signed}
	for ; len(x) > 0; x = x[lineBytes:] {
		for c, v := range x[:lineBytes] {
			sums[c] += q.value(v)
		}
	}
}

// maxLines is y = max(y, x) of n lines, those of x step bytes apart.
func maxLines(y, x []uint8, n, step int, signed bool) {
	_, _ = y[:n*lineBytes], x[:(n-1)*step+lineBytes]
	if useVNNI() {
		maxLinesAVX512(y, x, n, step, signed)
		return
	}
	q := Quantized{Signed: signed}
	for i := range n {
		line, other := y[i*lineBytes:][:lineBytes], x[i*step:]
		for c := range line {
			if q.value(other[c]) > q.value(line[c]) {
				line[c] = other[c]
			}
		}
	}
}
