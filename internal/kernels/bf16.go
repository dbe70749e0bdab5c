package kernels

import "math"

// A bf16 is the upper half of a float32: 8 bits of exponent and 7 of mantissa. Slices of them are []uint16.

// toBF16 rounds to nearest, ties to even. Denormal numbers become zero and NaN stays
// NaN, as VCVTNEPS2BF16 has it.
func toBF16(f float32) uint16 {
	b := math.Float32bits(f)
	switch {
	case b&0x7f800000 == 0:
		return uint16(b>>16) & 0x8000
	case b&0x7fffffff > 0x7f800000:
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

func fromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// ToBF16 rounds src to bf16: to nearest, ties to even, denormal numbers to zero. dst is as long as src.
func ToBF16(dst []uint16, src []float32) {
	n := len(src) &^ (BF16Lanes - 1)
	narrow(dst, src, src[min(len(src), Block):], n/BF16Lanes, BF16Lanes)
	for i, v := range src[n:] {
		dst[n+i] = toBF16(v)
	}
}

// FromBF16 is src in float32. dst is as long as src.
func FromBF16(dst []float32, src []uint16) {
	n := len(src) &^ (BF16Lanes - 1)
	widen(dst, dst[min(len(dst), Block):], src, n/BF16Lanes, BF16Lanes)
	for i, v := range src[n:] {
		dst[n+i] = fromBF16(v)
	}
}

// narrowGo computes, for i < n and lanes j < 16,
//
//	dst[32i+j] = bf16(lo[i step+j]), dst[32i+16+j] = bf16(hi[i step+j]).
func narrowGo(dst []uint16, lo, hi []float32, n, step int) {
	for i := range n {
		to, l, h := dst[i*BF16Lanes:][:BF16Lanes], lo[i*step:][:Block], hi[i*step:][:Block]
		for j := range Block {
			to[j], to[Block+j] = toBF16(l[j]), toBF16(h[j])
		}
	}
}

// widenGo computes, for i < n and lanes j < 16,
//
//	lo[i step+j] = src[32i+j], hi[i step+j] = src[32i+16+j].
func widenGo(lo, hi []float32, src []uint16, n, step int) {
	for i := range n {
		from, l, h := src[i*BF16Lanes:][:BF16Lanes], lo[i*step:][:Block], hi[i*step:][:Block]
		for j := range Block {
			l[j], h[j] = fromBF16(from[j]), fromBF16(from[Block+j])
		}
	}
}

const smallest = 0x1p-126 // that is not denormal

// daz is f with denormal numbers taken for zero, as the tile products take all they read and write.
func daz(f float32) float32 {
	if b := math.Float32bits(f); b&0x7f800000 == 0 {
		return math.Float32frombits(b & 0x80000000)
	}
	return f
}

// fused is c + a b, rounded once, where a and b are bf16 and nothing is denormal.
func fused(c, a, b float32) float32 {
	p := float32(a * b) // exact, unless it is tiny or huge
	if size := math.Float32bits(p) >> 23 & 0xff; size-1 < 0xfe || a == 0 || b == 0 {
		return daz(c + p)
	}
	return flush(float64(c) + float64(a)*float64(b))
}

// flush rounds to float32, and to zero what is denormal after rounding.
func flush(s float64) float32 {
	if math.Abs(s) < smallest-0x1p-151 {
		return float32(math.Copysign(0, s))
	}
	return float32(s)
}

// dotBF16 adds the products of a line of x with the weights of a step to the sums of 32 outputs, in the order
// of TDPBF16PS: for each output the products of the even and of the odd values are two sums, which are added
// to each other and then to the output's.
func dotBF16(sums *[tileOuts]float32, x, w []uint16) {
	var v [BF16Lanes]float32
	for k, h := range x[:BF16Lanes] {
		v[k] = daz(fromBF16(h))
	}
	for t := 0; t < tileOuts; t += Block {
		var even, odd [Block]float32
		for k := range Block {
			row := w[t*BF16Lanes+k*BF16Lanes:][:BF16Lanes]
			for o := range Block {
				even[o] = fused(even[o], v[2*k], daz(fromBF16(row[2*o])))
				odd[o] = fused(odd[o], v[2*k+1], daz(fromBF16(row[2*o+1])))
			}
		}
		for o := range Block {
			sums[t+o] = daz(daz(sums[t+o]) + daz(even[o]+odd[o]))
		}
	}
}
