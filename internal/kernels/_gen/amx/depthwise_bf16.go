package main

import "fmt"

// lineFields are those of the argument of depthwiseBF16, in order, of 8 bytes each; low and high follow.
var lineFields = []string{"x", "w", "y", "res", "bias", "gate", "kh", "kw", "down", "across", "apart",
	"groups", "rows", "xNext", "yNext", "order"}

func lineArg(name string) string {
	for i, f := range lineFields {
		if f == name {
			return fmt.Sprintf("%d(AX)", 8*i)
		}
	}
	panic(name)
}

// linesAtOnce are the pixels of a row that a routine keeps the sums of.
var linesAtOnce = []int{7, 1}

// depthwiseLines writes the convolutions of maps in bf16 whose channels are groups of their own. A line is
// widened as it lies: its even channels by a shift, its odd ones by a mask. Registers:
//
//	AX argument      SI, DI first pixel of x and y     R13 from y to the residual, 0 for none
//	DX row of x      BX its weights                    R12 rows of the kernel   R11 bias   CX groups left
//	R8 bytes between rows of x
//
// Sums of pixel p are Z(2p), the even channels, and Z(2p+1), weights from Z14 on.
func (g *gen) depthwiseLines() {
	for _, kw := range []int{3, 5, 7} {
		for _, stride := range []int{1, 2} {
			for _, n := range linesAtOnce {
				name := fmt.Sprintf("depthwise%dStride%dBy%dBF16", kw, stride, n)
				g.lineRows(name, n, fmt.Sprintf("kw = %d, across = 64 and apart = %d", kw, 64*stride), func() {
					g.knownColumns(kw, stride, n)
				})
			}
		}
	}
	for _, n := range []int{4, 1} {
		g.lineRows(fmt.Sprintf("depthwiseBy%dBF16", n), n, "", func() { g.anyColumns(n) })
	}
}

// lineRows writes a routine for groups of n pixels; sum adds the products of a row of the kernel
// and moves BX behind their weights.
func (g *gen) lineRows(name string, n int, known string, sum func()) {
	if known != "" {
		known = ", for " + known
	}
	g.text(name, "(a *linesBF16)", 8, fmt.Sprintf(`computes, for every row r < rows, pixel i < %d groups and channel c < 32,
//
//	sum = bias[c] + sum over h < kh, v < kw of x[r xNext + i apart + h down + v across + 2 c] * w[h][v][c]
//	y[r yNext + 64 i + 2 c] = gate(clip(sum + res[r yNext + 64 i + 2 c]))%s; each product is added in one rounding.`, n, known))
	g.line("MOVQ a+0(FP), AX")
	for _, f := range [][2]string{{"bias", "R11"}, {"down", "R8"}, {"res", "R13"}} {
		g.line("MOVQ %s, %s", lineArg(f[0]), f[1])
	}
	g.line("TESTQ R13, R13")
	g.line("JZ row")
	g.line("SUBQ %s, R13", lineArg("y"))
	g.label("row")
	g.line("MOVL $0xffff0000, DX")
	g.line("VPBROADCASTD DX, Z31")
	g.line("MOVQ %s, SI", lineArg("x"))
	g.line("MOVQ %s, DI", lineArg("y"))
	g.line("MOVQ %s, CX", lineArg("groups"))
	g.label("group")
	for i := range 2 * n {
		if i < 2 {
			g.line("VMOVUPS %d(R11), Z%d", 64*i, i)
		} else {
			g.line("VMOVAPS Z%d, Z%d", i%2, i)
		}
	}
	g.line("MOVQ SI, DX")
	g.line("MOVQ %s, BX", lineArg("w"))
	g.line("MOVQ %s, R12", lineArg("kh"))
	g.label("kernel")
	sum()
	g.line("ADDQ R8, DX")
	g.line("DECQ R12")
	g.line("JNZ kernel")
	g.finishLines(n)
	g.line("MOVQ %s, DX", lineArg("apart"))
	g.line("IMULQ $%d, DX", n)
	g.line("ADDQ DX, SI")
	g.line("ADDQ $%d, DI", 64*n)
	g.line("DECQ CX")
	g.line("JNZ group")
	for _, f := range []string{"x", "y"} {
		g.line("MOVQ %s, DX", lineArg(f+"Next"))
		g.line("ADDQ DX, %s", lineArg(f))
	}
	g.line("DECQ %s", lineArg("rows"))
	g.line("JNZ row")
	g.end()
}

// knownColumns adds the products of a row of kw weights: all pixels that reach a column take it as it comes.
func (g *gen) knownColumns(kw, stride, n int) {
	for i := range 2 * kw {
		g.line("VMOVUPS %d(BX), Z%d", 64*i, 14+i)
	}
	for column := range (n-1)*stride + kw {
		g.line("VPSLLD $16, %d(DX), Z28", 64*column)
		g.line("VPANDD %d(DX), Z31, Z29", 64*column)
		for p := range n {
			if v := column - p*stride; v >= 0 && v < kw {
				g.line("VFMADD231PS Z28, Z%d, Z%d", 14+2*v, 2*p)
				g.line("VFMADD231PS Z29, Z%d, Z%d", 15+2*v, 2*p+1)
			}
		}
	}
	g.line("ADDQ $%d, BX", 128*kw)
}

// anyColumns adds the products of a row of any number of weights at any distance, one after the other.
// R14 and R15 are 1 and 3 times the bytes between pixels.
func (g *gen) anyColumns(n int) {
	g.line("MOVQ %s, R14", lineArg("apart"))
	g.line("LEAQ (R14)(R14*2), R15")
	g.line("MOVQ DX, R9")
	g.line("MOVQ %s, R10", lineArg("kw"))
	g.label("column")
	g.line("VMOVUPS (BX), Z14")
	g.line("VMOVUPS 64(BX), Z15")
	for p, at := range []string{"(R9)", "(R9)(R14*1)", "(R9)(R14*2)", "(R9)(R15*1)"}[:n] {
		g.line("VPSLLD $16, %s, Z28", at)
		g.line("VPANDD %s, Z31, Z29", at)
		g.line("VFMADD231PS Z28, Z14, Z%d", 2*p)
		g.line("VFMADD231PS Z29, Z15, Z%d", 2*p+1)
	}
	g.line("ADDQ $128, BX")
	g.line("ADDQ %s, R9", lineArg("across"))
	g.line("DECQ R10")
	g.line("JNZ column")
}

// finishLines adds the residual, clips, takes the gate and stores n pixels.
func (g *gen) finishLines(n int) {
	g.line("TESTQ R13, R13")
	g.line("JZ clip")
	for p := range n {
		at := fmt.Sprintf("%d(DI)(R13*1)", 64*p)
		g.line("VPSLLD $16, %s, Z28", at)
		g.line("VPANDD %s, Z31, Z29", at)
		g.line("VADDPS Z28, Z%d, Z%d", 2*p, 2*p)
		g.line("VADDPS Z29, Z%d, Z%d", 2*p+1, 2*p+1)
	}
	g.label("clip")
	g.line("VBROADCASTSS %d(AX), Z28", 8*len(lineFields))
	g.line("VBROADCASTSS %d(AX), Z29", 8*len(lineFields)+4)
	for i := range 2 * n {
		g.line("VMAXPS Z%d, Z28, Z%d", i, i)
	}
	for i := range 2 * n {
		g.line("VMINPS Z%d, Z29, Z%d", i, i)
	}
	g.line("MOVQ %s, DX", lineArg("gate"))
	g.line("TESTQ DX, DX")
	g.line("JZ store")
	g.gateConstants("DX", "BX", 14)
	for i := range 2 * n {
		g.gate(i, 14, 23+4*(i%2))
	}
	g.label("store")
	g.line("MOVQ %s, DX", lineArg("order"))
	g.line("VMOVDQU64 (DX), Z28")
	for p := range n {
		g.toBF16(2*p, 2*p+1, 2*p)
		g.line("VPERMW Z%d, Z28, Z%d", 2*p, 2*p)
		g.line("VMOVDQU64 Z%d, %d(DI)", 2*p, 64*p)
	}
}

// gateConstants loads the table at a pointer: 4 coefficients, what takes the sign off, the limit, the scale,
// what rounds to an integer, and zero, into 9 registers from at on. It uses tmp.
func (g *gen) gateConstants(table, tmp string, at int) {
	for i := range 4 {
		g.line("VMOVUPS %d(%s), Z%d", 64*i, table, at+i)
	}
	g.line("MOVL $0x7fffffff, %s", tmp)
	g.line("VPBROADCASTD %s, Z%d", tmp, at+4)
	g.line("VBROADCASTSS 256(%s), Z%d", table, at+5)
	g.line("VBROADCASTSS 260(%s), Z%d", table, at+6)
	g.line("MOVL $0x4b400000, %s", tmp) // 1.5 * 2^23
	g.line("VPBROADCASTD %s, Z%d", tmp, at+7)
	g.line("VPXORQ Z%d, Z%d, Z%d", at+8, at+8, at+8)
}

// gate takes the gate of Z x, by 4 registers from tmp on.
func (g *gen) gate(x, table, tmp int) {
	t, index, q, c := tmp, tmp+1, tmp+2, tmp+3
	g.line("VPANDD Z%d, Z%d, Z%d", table+4, x, t)
	g.line("VMINPS Z%d, Z%d, Z%d", t, table+5, t)
	g.line("VMOVAPS Z%d, Z%d", t, index)
	g.line("VFMADD213PS Z%d, Z%d, Z%d", table+7, table+6, index)
	g.line("VPERMPS Z%d, Z%d, Z%d", table+3, index, q)
	for i := 2; i >= 0; i-- {
		g.line("VPERMPS Z%d, Z%d, Z%d", table+i, index, c)
		g.line("VFMADD213PS Z%d, Z%d, Z%d", c, t, q)
	}
	g.line("VMAXPS Z%d, Z%d, Z%d", x, table+8, x)
	g.line("VFNMADD231PS Z%d, Z%d, Z%d", q, t, x)
}
