package main

import "fmt"

// bytes writes what is done with bytes one by one: with AVX-512, and its VBMI for tables.
func (g *gen) bytes() {
	for _, signed := range []bool{false, true} {
		g.addBytes(signed)
		g.mulBytes(signed)
		g.maxBytes(signed)
		g.sumBytes(signed)
		g.dequantize(signed)
	}
	g.tableBytes()
	g.quantize()
	g.quantizePixels()
}

// suffix and extend depend on whether bytes are signed.
func suffix(signed bool) string {
	if signed {
		return "Signed"
	}
	return "Unsigned"
}

func extend(signed bool) string {
	if signed {
		return "VPMOVSXBD"
	}
	return "VPMOVZXBD"
}

// load moves arguments of 8 bytes each to registers.
func (g *gen) load(names ...string) {
	for i := 0; i < len(names); i += 2 {
		g.line("MOVQ %s+%d(FP), %s", names[i], 4*i, names[i+1])
	}
}

// loop counts CX down.
func (g *gen) loop(body func()) {
	g.label("next")
	body()
	g.line("DECQ CX")
	g.line("JNZ next")
	g.line("VZEROUPPER")
	g.line("RET")
}

// bounded loads so many factors to Z16 and on, the upper bound behind them, and to Z30 and Z31 what packLine
// needs.
func (g *gen) bounded(factors int) {
	for i := range factors + 1 {
		g.line("VBROADCASTSS %d(AX), Z%d", 4*i, 16+i)
	}
	g.line("VPBROADCASTD %d(AX), Z30", 4*(factors+1))
	g.line("VMOVDQU64 packed<>(SB), Z31")
}

// packLine rounds Z0, Z2, Z4 and Z6 to bytes between those of Z30 and the upper bound in Z<high>, and stores
// them. What lies below all bytes stays below when it becomes an integer.
func (g *gen) packLine(high int, signed bool) {
	for i := range 4 {
		g.line("VMINPS Z%d, Z%d, Z%d", high, 2*i, 2*i)
		g.line("VCVTPS2DQ Z%d, Z%d", 2*i, 2*i)
	}
	g.line("VPACKSSDW Z2, Z0, Z0")
	g.line("VPACKSSDW Z6, Z4, Z4")
	g.line("VPACK%sSWB Z4, Z0, Z0", map[bool]string{false: "U", true: "S"}[signed])
	g.line("VPERMD Z0, Z31, Z0")
	g.line("VPMAX%sB Z30, Z0, Z0", map[bool]string{false: "U", true: "S"}[signed])
	g.line("VMOVDQU64 Z0, (DI)")
}

func (g *gen) addBytes(signed bool) {
	g.text("addBytes"+suffix(signed), "(y, a, b *uint8, n int, p *byteSum)", 40,
		"is y[i] = max(round(min(a[i]*byA + (b[i]*byB + fixed), high)), low) of n lines; each sum is rounded once.")
	g.load("y", "DI", "a", "SI", "b", "DX", "n", "CX", "p", "AX")
	g.bounded(3)
	g.loop(func() {
		for i := range 4 {
			g.line("%s %d(SI), Z%d", extend(signed), 16*i, 2*i)
			g.line("%s %d(DX), Z%d", extend(signed), 16*i, 2*i+1)
			g.line("VCVTDQ2PS Z%d, Z%d", 2*i, 2*i)
			g.line("VCVTDQ2PS Z%d, Z%d", 2*i+1, 2*i+1)
			g.line("VFMADD213PS Z18, Z17, Z%d", 2*i+1)
			g.line("VFMADD213PS Z%d, Z16, Z%d", 2*i+1, 2*i)
		}
		g.packLine(19, signed)
		for _, r := range []string{"DI", "SI", "DX"} {
			g.line("ADDQ $64, %s", r)
		}
	})
}

func (g *gen) mulBytes(signed bool) {
	g.text("mulBytes"+suffix(signed), "(y, a, b *uint8, n, step int, p *byteProduct)", 48,
		"is y[i] = max(round(min((a[i]-zeroA) * (b[i]-zeroB) * by + zero, high)), low) of n lines, those of b step bytes apart.")
	g.load("y", "DI", "a", "SI", "b", "DX", "n", "CX", "step", "R8", "p", "AX")
	g.bounded(4)
	g.loop(func() {
		for i := range 4 {
			g.line("%s %d(SI), Z%d", extend(signed), 16*i, 2*i)
			g.line("%s %d(DX), Z%d", extend(signed), 16*i, 2*i+1)
			g.line("VCVTDQ2PS Z%d, Z%d", 2*i, 2*i)
			g.line("VCVTDQ2PS Z%d, Z%d", 2*i+1, 2*i+1)
			g.line("VSUBPS Z16, Z%d, Z%d", 2*i, 2*i)
			g.line("VSUBPS Z17, Z%d, Z%d", 2*i+1, 2*i+1)
			g.line("VMULPS Z%d, Z%d, Z%d", 2*i+1, 2*i, 2*i)
			g.line("VMULPS Z18, Z%d, Z%d", 2*i, 2*i)
			g.line("VADDPS Z19, Z%d, Z%d", 2*i, 2*i)
		}
		g.packLine(20, signed)
		g.line("ADDQ $64, DI")
		g.line("ADDQ $64, SI")
		g.line("ADDQ R8, DX")
	})
}

func (g *gen) maxBytes(signed bool) {
	instruction := map[bool]string{false: "VPMAXUB", true: "VPMAXSB"}[signed]
	g.text("maxBytes"+suffix(signed), "(y, x *uint8, n, step int)", 32,
		"is y[i] = max(y[i], x[i]) of n lines, those of x step bytes apart.")
	g.load("y", "DI", "x", "SI", "n", "CX", "step", "DX")
	g.loop(func() {
		g.line("VMOVDQU64 (SI), Z0")
		g.line("%s (DI), Z0, Z0", instruction)
		g.line("VMOVDQU64 Z0, (DI)")
		g.line("ADDQ $64, DI")
		g.line("ADDQ DX, SI")
	})
}

func (g *gen) sumBytes(signed bool) {
	g.text("sumBytes"+suffix(signed), "(sums *[64]int32, x *uint8, n int)", 24,
		"adds n lines to sums.")
	g.load("sums", "DI", "x", "SI", "n", "CX")
	for i := range 4 {
		g.line("VMOVDQU64 %d(DI), Z%d", 64*i, i)
	}
	g.label("lines")
	for i := range 4 {
		g.line("%s %d(SI), Z%d", extend(signed), 16*i, 4+i)
		g.line("VPADDD Z%d, Z%d, Z%d", 4+i, i, i)
	}
	g.line("ADDQ $64, SI")
	g.line("DECQ CX")
	g.line("JNZ lines")
	for i := range 4 {
		g.line("VMOVDQU64 Z%d, %d(DI)", i, 64*i)
	}
	g.line("VZEROUPPER")
	g.line("RET")
}

func (g *gen) tableBytes() {
	g.text("tableBytesVBMI", "(y, x *uint8, n int, table *[256]uint8)", 32,
		"is y[i] = table[x[i]] of n lines.")
	g.load("y", "DI", "x", "SI", "n", "CX", "table", "AX")
	for i := range 4 {
		g.line("VMOVDQU64 %d(AX), Z%d", 64*i, i)
	}
	g.loop(func() {
		g.line("VMOVDQU64 (SI), Z4")
		g.line("VMOVDQA64 Z4, Z5")
		g.line("VMOVDQA64 Z4, Z6")
		g.line("VPMOVB2M Z4, K1")
		g.line("VPERMI2B Z1, Z0, Z5")
		g.line("VPERMI2B Z3, Z2, Z6")
		g.line("VPBLENDMB Z6, Z5, K1, Z7")
		g.line("VMOVDQU64 Z7, (DI)")
		g.line("ADDQ $64, SI")
		g.line("ADDQ $64, DI")
	})
}

// levels rounds the quotient of Z0 and the scale: scale, least, most and what stands for NaN are in Z16 to
// Z19, the zero point in Z20.
func (g *gen) levels() {
	g.line("VDIVPS Z16, Z0, Z0")
	g.line("VCMPPS $3, Z0, Z0, K1")
	g.line("VMOVAPS Z19, K1, Z0")
	g.line("VMAXPS Z17, Z0, Z0")
	g.line("VMINPS Z18, Z0, Z0")
	g.line("VCVTPS2DQ Z0, Z0")
	g.line("VPADDD Z20, Z0, Z0")
}

// levelConstants loads what levels needs from (AX).
func (g *gen) levelConstants() {
	for i := range 4 {
		g.line("VBROADCASTSS %d(AX), Z%d", 4*i, 16+i)
	}
	g.line("VPBROADCASTD 16(AX), Z20")
}

func (g *gen) quantize() {
	g.text("quantizeBytes", "(dst *uint8, src *float32, n, dstStep, srcStep int, p *byteLevels)", 48,
		"rounds 16 floats to 16 bytes, n times: dst and src move by so many bytes.")
	g.load("dst", "DI", "src", "SI", "n", "CX", "dstStep", "R8", "srcStep", "R9", "p", "AX")
	g.levelConstants()
	g.loop(func() {
		g.line("VMOVUPS (SI), Z0")
		g.levels()
		g.line("VPMOVDB Z0, (DI)")
		g.line("ADDQ R8, DI")
		g.line("ADDQ R9, SI")
	})
}

func (g *gen) quantizePixels() {
	g.text("quantizePixels", "(dst *uint8, planes *[4]*float32, n int, p *byteLevels)", 32,
		"rounds n times 16 floats of each of 4 planes to 16 pixels of 4 bytes.")
	g.load("dst", "DI", "planes", "DX", "n", "CX", "p", "AX")
	g.levelConstants()
	for i, r := range []string{"R8", "R9", "R10", "R11"} {
		g.line("MOVQ %d(DX), %s", 8*i, r)
	}
	g.line("MOVL $255, AX")
	g.line("VPBROADCASTD AX, Z21")
	g.loop(func() {
		for i, r := range []string{"R8", "R9", "R10", "R11"} {
			g.line("VMOVUPS (%s), Z0", r)
			g.levels()
			g.line("VPANDD Z21, Z0, Z0")
			if i == 0 {
				g.line("VMOVDQA64 Z0, Z1")
			} else {
				g.line("VPSLLD $%d, Z0, Z0", 8*i)
				g.line("VPORD Z0, Z1, Z1")
			}
			g.line("ADDQ $64, %s", r)
		}
		g.line("VMOVDQU64 Z1, (DI)")
		g.line("ADDQ $64, DI")
	})
}

func (g *gen) dequantize(signed bool) {
	g.text("dequantizeBytes"+suffix(signed),
		"(dst *float32, src *uint8, n, dstStep, srcStep int, p *byteLevels)", 48,
		"is the reverse of quantizeBytes: (byte - zero) * scale.")
	g.load("dst", "DI", "src", "SI", "n", "CX", "dstStep", "R8", "srcStep", "R9", "p", "AX")
	g.line("VBROADCASTSS (AX), Z16")
	g.line("VPBROADCASTD 16(AX), Z20")
	g.loop(func() {
		g.line("%s (SI), Z0", extend(signed))
		g.line("VPSUBD Z20, Z0, Z0")
		g.line("VCVTDQ2PS Z0, Z0")
		g.line("VMULPS Z16, Z0, Z0")
		g.line("VMOVUPS Z0, (DI)")
		g.line("ADDQ R8, DI")
		g.line("ADDQ R9, SI")
	})
}

// depthwiseFields are those of the argument of depthwise, in order.
var depthwiseFields = []string{"x", "w", "y", "bias", "scale", "row", "groups"}

func depthwiseArg(name string) string {
	for i, f := range depthwiseFields {
		if f == name {
			return fmt.Sprintf("%d(AX)", 8*i)
		}
	}
	panic(name)
}

// depthwise writes a convolution of k x k of each channel on its own, for groups of so many pixels of a
// row, stride apart. The bytes of up to 4 rows at a column are interleaved to quads, which all pixels use
// that reach them. Sums of 16 channels of pixel p are Z4p to Z4p+3, in the order in which the packing to
// bytes undoes the interleaving.
func (g *gen) depthwise(k, stride, pixels int) {
	name := fmt.Sprintf("depthwise%dStride%dBy%d", k, stride, pixels)
	g.text(name, "(a *depthwiseBytes)", 8, fmt.Sprintf(`computes, for every pixel i < %d groups and lane c < 64,
//
//	y[64 i + c] = requantize(bias[c] + sum over h, v < %d of (x[h row + 64 (%d i + v) + c] ^ flip) * w[h][v][c]).`, pixels, k, stride))
	g.line("MOVQ a+0(FP), AX")
	for _, f := range [][2]string{{"x", "SI"}, {"w", "R9"}, {"y", "DI"}, {"bias", "R10"}, {"scale", "R11"},
		{"row", "R8"}, {"groups", "CX"}} {
		g.line("MOVQ %s, %s", depthwiseArg(f[0]), f[1])
	}
	for i, c := range []string{"VBROADCASTSS 56(AX)", "VBROADCASTSS 60(AX)", "VPBROADCASTD 64(AX)",
		"VPBROADCASTD 68(AX)"} {
		g.line("%s, Z%d", c, 28+i) // low, high, zero, flip
	}
	g.line("MOVL $0x00ff00ff, AX")
	g.line("VPBROADCASTD AX, Z27")
	g.loop(func() {
		for i := range 4 * pixels {
			g.line("VMOVDQU64 %d(R10), Z%d", i%4*64, i)
		}
		for rows := 0; rows < k; rows += 4 {
			g.line("LEAQ (SI), DX")
			if rows > 0 {
				g.line("LEAQ (SI)(R8*4), DX")
			}
			g.line("LEAQ (DX)(R8*2), BX")
			for column := range (pixels-1)*stride + k {
				g.interleave(column, min(4, k-rows))
				g.multiply(column, k, stride, pixels, rows/4)
			}
		}
		g.storeDepthwise(pixels)
		g.line("ADDQ $%d, SI", pixels*stride*64)
		g.line("ADDQ $%d, DI", pixels*64)
	})
}

// interleave brings up to 4 rows at a column to Z16 to Z19.
func (g *gen) interleave(column, rows int) {
	at := []string{"%d(DX)", "%d(DX)(R8*1)", "%d(BX)", "%d(BX)(R8*1)"}
	for r := range rows {
		g.line("VPXORD "+at[r]+", Z31, Z%d", column*64, 16+r)
	}
	second, third, fourth := 17, 18, 19
	if rows < 2 {
		second = 16
	}
	g.line("VPUNPCKLBW Z%d, Z16, Z20", second)
	g.line("VPUNPCKHBW Z%d, Z16, Z21", second)
	if rows < 3 { // their weights are zero
		g.line("VMOVDQA64 Z20, Z22")
		g.line("VMOVDQA64 Z21, Z23")
	} else {
		if rows < 4 {
			fourth = third
		}
		g.line("VPUNPCKLBW Z%d, Z%d, Z22", fourth, third)
		g.line("VPUNPCKHBW Z%d, Z%d, Z23", fourth, third)
	}
	g.line("VPUNPCKLWD Z22, Z20, Z16")
	g.line("VPUNPCKHWD Z22, Z20, Z17")
	g.line("VPUNPCKLWD Z23, Z21, Z18")
	g.line("VPUNPCKHWD Z23, Z21, Z19")
}

func (g *gen) multiply(column, k, stride, pixels, part int) {
	for p := range pixels {
		v := column - p*stride
		if v < 0 || v >= k {
			continue
		}
		for j := range 4 {
			g.line("VPDPBUSD %d(R9), Z%d, Z%d", ((part*k+v)*4+j)*64, 16+j, 4*p+j)
		}
	}
}

func (g *gen) storeDepthwise(pixels int) {
	for p := range pixels {
		for j := range 4 {
			z := 4*p + j
			g.line("VCVTDQ2PS Z%d, Z%d", z, z)
			g.line("VMULPS %d(R11), Z%d, Z%d", 64*j, z, z)
			g.line("VMAXPS Z28, Z%d, Z%d", z, z)
			g.line("VMINPS Z29, Z%d, Z%d", z, z)
			g.line("VCVTPS2DQ Z%d, Z%d", z, z)
			g.line("VPADDD Z30, Z%d, Z%d", z, z)
		}
		g.line("VPACKSSDW Z%d, Z%d, Z20", 4*p+1, 4*p)
		g.line("VPACKSSDW Z%d, Z%d, Z21", 4*p+3, 4*p+2)
		g.line("VPANDD Z27, Z20, Z20")
		g.line("VPANDD Z27, Z21, Z21")
		g.line("VPACKUSWB Z21, Z20, Z20")
		g.line("VMOVDQU64 Z20, %d(DI)", 64*p)
	}
}
