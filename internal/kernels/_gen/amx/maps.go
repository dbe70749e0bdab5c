package main

// maps writes what training does with maps in bf16: 32 channels of a pixel are a line, which is widened to
// two registers of float32. Rows are n lines, skip bytes apart.
func (g *gen) maps() {
	g.sumSquaresBF16()
	for _, m := range []mask{noMask, ownMask, reluMask} {
		g.sumProductsBF16(m)
		g.normalizeBackwardBF16(m)
	}
	for _, residual := range []bool{false, true} {
		for _, relu := range []bool{false, true} {
			g.normalizeBF16(residual, relu)
		}
	}
	g.addBF16(false)
	g.addBF16(true)
	g.reluBF16()
	g.reluGradBF16()
	g.maxWindowsBF16()
	g.gatherBF16()
	g.mixBF16()
}

// mask is where a gradient passes: everywhere, where another map is positive, or where the normalized map is.
type mask int

const (
	noMask mask = iota
	ownMask
	reluMask
)

var maskNames = []string{"", "Mask", "Relu"}

// widen loads the line at (p) into Z lo and Z hi.
func (g *gen) widen(p string, lo, hi int) {
	g.line("VPMOVZXWD (%s), Z%d", p, lo)
	g.line("VPMOVZXWD 32(%s), Z%d", p, hi)
	g.line("VPSLLD $16, Z%d, Z%d", lo, lo)
	g.line("VPSLLD $16, Z%d, Z%d", hi, hi)
}

// area runs body for R9 lines of each of R8 rows and moves the pointers on: by a line, and
// by R10 bytes after a row.
func (g *gen) area(body func(), pointers ...string) {
	g.label("row")
	g.line("MOVQ R9, CX")
	g.label("next")
	body()
	for _, p := range pointers {
		g.line("ADDQ $64, %s", p)
	}
	g.line("DECQ CX")
	g.line("JNZ next")
	for _, p := range pointers {
		g.line("ADDQ R10, %s", p)
	}
	g.line("DECQ R8")
	g.line("JNZ row")
}

// coefficients loads n vectors of each half: from Z first on those of channels 0 to 15, then those of 16 to
// 31, which lie apart bytes on.
func (g *gen) coefficients(p string, first, n, apart int) {
	for t := range 2 {
		for i := range n {
			g.line("VMOVUPS %d(%s), Z%d", t*apart+64*i, p, first+t*n+i)
		}
	}
}

func (g *gen) end() {
	g.line("VZEROUPPER")
	g.line("RET")
}

func (g *gen) sumSquaresBF16() {
	g.text("sumSquaresBF16AVX512", "(sums *float32, x *uint16, shift *float32, n, rows, skip int)", 48,
		"adds d = x[c]-shift[c] to sums[c] and d*d to sums[16+c] for c < 16, and for c >= 16 to sums[16+c] and sums[32+c].")
	g.load("sums", "AX", "x", "SI", "shift", "BX", "n", "R9", "rows", "R8", "skip", "R10")
	g.coefficients("AX", 8, 2, 128)
	g.coefficients("BX", 16, 1, 64)
	g.area(func() {
		g.widen("SI", 0, 1)
		for t := range 2 {
			g.line("VSUBPS Z%d, Z%d, Z%d", 16+t, t, t)
			g.line("VADDPS Z%d, Z%d, Z%d", t, 8+2*t, 8+2*t)
			g.line("VFMADD231PS Z%d, Z%d, Z%d", t, t, 9+2*t)
		}
	}, "SI")
	g.storeSums()
}

func (g *gen) storeSums() {
	for i := range 4 {
		g.line("VMOVUPS Z%d, %d(AX)", 8+i, 64*i)
	}
	g.end()
}

// masked clears the gradient in Z0 and Z1 where m says. Z2 and Z3 are x - mean, the map that masks is at
// (R11), Z31 is zero, and factor and bias are the registers of a half, those of the other apart.
func (g *gen) masked(m mask, factor, bias, apart int) {
	switch m {
	case noMask:
		return
	case ownMask:
		g.widen("R11", 4, 5)
	case reluMask:
		for t := range 2 {
			g.line("VMOVAPS Z%d, Z%d", bias+t*apart, 4+t)
			g.line("VFMADD231PS Z%d, Z%d, Z%d", factor+t*apart, 2+t, 4+t)
		}
	}
	for t := range 2 {
		g.line("VCMPPS $1, Z%d, Z31, K%d", 4+t, 1+t)
		g.line("VMOVAPS.Z Z%d, K%d, Z%d", t, 1+t, t)
	}
}

// pointersOf is the pointers that a pass over dy, x and perhaps a mask moves.
func pointersOf(m mask, p ...string) []string {
	if m == ownMask {
		return append(p, "R11")
	}
	return p
}

func (g *gen) sumProductsBF16(m mask) {
	g.text("sumProducts"+maskNames[m]+"BF16AVX512",
		"(sums *float32, dy, x, mask *uint16, coef *float32, n, rows, skip int)", 64,
		"adds d = dy[c] to sums[c] and d*(x[c]-mean[c]) to sums[16+c] for c < 16, and so on as sumSquaresBF16AVX512;",
		"coef is 16 each of mean, factor and bias, twice.")
	g.load("sums", "AX", "dy", "DI", "x", "SI", "mask", "R11", "coef", "BX", "n", "R9", "rows", "R8",
		"skip", "R10")
	g.coefficients("AX", 8, 2, 128)
	g.coefficients("BX", 16, 3, 192)
	g.line("VPXORQ Z31, Z31, Z31")
	g.area(func() {
		g.widen("DI", 0, 1)
		g.widen("SI", 2, 3)
		for t := range 2 {
			g.line("VSUBPS Z%d, Z%d, Z%d", 16+3*t, 2+t, 2+t)
		}
		g.masked(m, 17, 18, 3)
		for t := range 2 {
			g.line("VADDPS Z%d, Z%d, Z%d", t, 8+2*t, 8+2*t)
			g.line("VFMADD231PS Z%d, Z%d, Z%d", 2+t, t, 9+2*t)
		}
	}, pointersOf(m, "DI", "SI")...)
	g.storeSums()
}

func (g *gen) normalizeBF16(residual, relu bool) {
	name := "normalize"
	if residual {
		name += "Add"
	}
	if relu {
		name += "Relu"
	}
	g.text(name+"BF16AVX512", "(y, x, res *uint16, coef *float32, n, rows, skip int)", 56,
		"computes y = max0?((x-mean)*factor + bias + res) for rows of n lines; coef is 16 each of mean, factor and bias, twice.")
	g.load("y", "DI", "x", "SI", "res", "R11", "coef", "BX", "n", "R9", "rows", "R8", "skip", "R10")
	g.coefficients("BX", 16, 3, 192)
	g.line("VPXORQ Z31, Z31, Z31")
	pointers := []string{"DI", "SI"}
	if residual {
		pointers = append(pointers, "R11")
	}
	g.area(func() {
		g.widen("SI", 2, 3)
		if residual {
			g.widen("R11", 4, 5)
		}
		for t := range 2 {
			g.line("VSUBPS Z%d, Z%d, Z%d", 16+3*t, 2+t, 2+t)
			g.line("VMOVAPS Z%d, Z%d", 18+3*t, t)
			g.line("VFMADD231PS Z%d, Z%d, Z%d", 17+3*t, 2+t, t)
			if residual {
				g.line("VADDPS Z%d, Z%d, Z%d", 4+t, t, t)
			}
			if relu {
				g.line("VMAXPS Z%d, Z31, Z%d", t, t)
			}
		}
		g.toBF16(0, 1, 0)
		g.line("VMOVDQU64 Z0, (DI)")
	}, pointers...)
	g.end()
}

func (g *gen) normalizeBackwardBF16(m mask) {
	g.text("normalizeBackward"+maskNames[m]+"BF16AVX512",
		"(dx, dy, x, mask *uint16, coef *float32, n, rows, skip int)", 64,
		"computes dx = dy*coef1 + (x-coef0)*coef2 + coef3 for rows of n lines, dy where the mask is positive, else 0; coef is 16 each",
		"of 5, twice.")
	g.load("dx", "DX", "dy", "DI", "x", "SI", "mask", "R11", "coef", "BX", "n", "R9", "rows", "R8",
		"skip", "R10")
	g.coefficients("BX", 16, 5, 320)
	g.line("VPXORQ Z31, Z31, Z31")
	g.area(func() {
		g.widen("DI", 0, 1)
		g.widen("SI", 2, 3)
		for t := range 2 {
			g.line("VSUBPS Z%d, Z%d, Z%d", 16+5*t, 2+t, 2+t)
		}
		g.masked(m, 17, 20, 5)
		for t := range 2 {
			g.line("VMOVAPS Z%d, Z%d", 19+5*t, 4+t)
			g.line("VFMADD231PS Z%d, Z%d, Z%d", 18+5*t, 2+t, 4+t)
			g.line("VFMADD231PS Z%d, Z%d, Z%d", 17+5*t, t, 4+t)
		}
		g.toBF16(4, 5, 0)
		g.line("VMOVDQU64 Z0, (DX)")
	}, pointersOf(m, "DX", "DI", "SI")...)
	g.end()
}

func (g *gen) addBF16(relu bool) {
	name := map[bool]string{false: "addBF16AVX512", true: "addReluBF16AVX512"}[relu]
	g.text(name, "(y, a, b *uint16, n int)", 32, "computes y = max0?(a + b) for n lines.")
	g.load("y", "DI", "a", "SI", "b", "DX", "n", "CX")
	g.line("VPXORQ Z31, Z31, Z31")
	g.loop(func() {
		g.widen("SI", 0, 1)
		g.widen("DX", 2, 3)
		for t := range 2 {
			g.line("VADDPS Z%d, Z%d, Z%d", 2+t, t, t)
			if relu {
				g.line("VMAXPS Z%d, Z31, Z%d", t, t)
			}
		}
		g.toBF16(0, 1, 0)
		g.line("VMOVDQU64 Z0, (DI)")
		for _, p := range []string{"DI", "SI", "DX"} {
			g.line("ADDQ $64, %s", p)
		}
	})
}

func (g *gen) reluBF16() {
	g.text("reluBF16AVX512", "(y, x *uint16, n int)", 24, "computes y = max(x, 0) for n lines; NaN stays.")
	g.load("y", "DI", "x", "SI", "n", "CX")
	g.line("VPXORQ Z31, Z31, Z31")
	g.loop(func() {
		g.widen("SI", 0, 1)
		for t := range 2 {
			g.line("VMAXPS Z%d, Z31, Z%d", t, t)
		}
		g.toBF16(0, 1, 0)
		g.line("VMOVDQU64 Z0, (DI)")
		g.line("ADDQ $64, DI")
		g.line("ADDQ $64, SI")
	})
}

func (g *gen) reluGradBF16() {
	g.text("reluGradBF16AVX512", "(dx, dy, y *uint16, n int)", 32,
		"computes dx = dy where y > 0, else 0, for n lines.")
	g.load("dx", "DI", "dy", "SI", "y", "R11", "n", "CX")
	g.line("VPXORQ Z31, Z31, Z31")
	g.loop(func() {
		g.widen("SI", 0, 1)
		g.masked(ownMask, 0, 0, 0)
		g.toBF16(0, 1, 0)
		g.line("VMOVDQU64 Z0, (DI)")
		for _, p := range []string{"DI", "SI", "R11"} {
			g.line("ADDQ $64, %s", p)
		}
	})
}

// maxWindowsBF16 takes maxima of bf16 as of int16: flipping the lower bits of negative numbers puts them in
// order. The largest magnitude tells where there is NaN.
func (g *gen) maxWindowsBF16() {
	g.text("maxWindowsBF16AVX512", "(y, x *uint16, n, kh, kw, row, step int)", 56,
		"is y[i] = max of x over kh rows, row bytes apart, of kw lines, for n windows step bytes apart; NaN wins.")
	g.load("y", "DI", "x", "SI", "n", "CX", "kh", "R8", "kw", "R9", "row", "R10", "step", "R11")
	for i, v := range []string{"0x7fff", "0x7f80", "0x7fc0", "0x8000"} {
		g.line("MOVL $%s, AX", v)
		g.line("VPBROADCASTW AX, Z%d", 28+i)
	}
	g.label("window")
	g.line("VMOVDQA64 Z31, Z0")
	g.line("VPXORQ Z1, Z1, Z1")
	g.line("MOVQ SI, DX")
	g.line("MOVQ R8, BX")
	g.label("row")
	g.line("MOVQ DX, AX")
	g.line("MOVQ R9, R12")
	g.label("tap")
	g.line("VMOVDQU64 (AX), Z2")
	g.ordered(2, 3)
	g.line("VPMAXSW Z3, Z0, Z0")
	g.line("VPANDQ Z28, Z2, Z2")
	g.line("VPMAXUW Z2, Z1, Z1")
	g.line("ADDQ $64, AX")
	g.line("DECQ R12")
	g.line("JNZ tap")
	g.line("ADDQ R10, DX")
	g.line("DECQ BX")
	g.line("JNZ row")
	g.ordered(0, 3)
	g.line("VPCMPUW $6, Z29, Z1, K1")
	g.line("VMOVDQU16 Z30, K1, Z3")
	g.line("VMOVDQU64 Z3, (DI)")
	g.line("ADDQ $64, DI")
	g.line("ADDQ R11, SI")
	g.line("DECQ CX")
	g.line("JNZ window")
	g.end()
}

// ordered is the bf16 of Z from as int16 in their order, in Z to; it is its own reverse.
func (g *gen) ordered(from, to int) {
	g.line("VPSRAW $15, Z%d, Z%d", from, to)
	g.line("VPSRLW $1, Z%d, Z%d", to, to)
	g.line("VPXORQ Z%d, Z%d, Z%d", from, to, to)
}

func (g *gen) gatherBF16() {
	for _, whole := range []bool{true, false} {
		name, doc := "gatherLinesAVX512",
			"copies the values that mask says from src to n lines, src moving by step bytes; the rest of a line is zero."
		if !whole {
			name, doc = "gatherPartsAVX512", "is gatherLinesAVX512 that leaves the rest of a line as it is."
		}
		g.text(name, "(dst, src *uint16, n, step int, mask uint64)", 40, doc)
		g.load("dst", "DI", "src", "SI", "n", "CX", "step", "DX", "mask", "AX")
		g.line("KMOVQ AX, K1")
		g.loop(func() {
			g.line("VMOVDQU16.Z (SI), K1, Z0")
			if whole {
				g.line("VMOVDQU64 Z0, (DI)")
			} else {
				g.line("VMOVDQU16 Z0, K1, (DI)")
			}
			g.line("ADDQ $64, DI")
			g.line("ADDQ DX, SI")
		})
	}
}

// mixBF16 takes each word of the output from two of the channels by one permutation, and from the third by
// another under a mask.
func (g *gen) mixBF16() {
	g.text("mixThreeAVX512", "(dst, a, b, c *uint16, n int, order *[96]uint16)", 48,
		"is dst[3i] = a[i], dst[3i+1] = b[i], dst[3i+2] = c[i] for 32n values; order is from mixOrder.")
	g.load("dst", "DI", "a", "SI", "b", "DX", "c", "BX", "n", "CX", "order", "AX")
	for k := range 3 {
		mask := uint32(0)
		for j := range 32 {
			if (32*k+j)%3 == 2 {
				mask |= 1 << j
			}
		}
		g.line("VMOVDQU64 %d(AX), Z%d", 64*k, 3+k)
		g.line("MOVL $%#x, R8", mask)
		g.line("KMOVD R8, K%d", 1+k)
	}
	g.loop(func() {
		for i, r := range []string{"SI", "DX", "BX"} {
			g.line("VMOVDQU64 (%s), Z%d", r, i)
			g.line("ADDQ $64, %s", r)
		}
		for k := range 3 {
			g.line("VMOVDQA64 Z%d, Z6", 3+k)
			g.line("VPERMI2W Z1, Z0, Z6")
			g.line("VPERMW Z2, Z%d, K%d, Z6", 3+k, 1+k)
			g.line("VMOVDQU64 Z6, %d(DI)", 64*k)
		}
		g.line("ADDQ $192, DI")
	})
}
