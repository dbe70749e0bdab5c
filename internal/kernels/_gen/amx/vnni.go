package main

import "fmt"

// vnniRows are the heights of the products without tiles: a tile of up to 16 pixels is cut into these.
var vnniRows = []int{8, 4, 2, 1}

// rowAddress is where pixel i of 8 lies: SI and DI are the first and the fifth, R8 and R12
// the stride and three of it.
func rowAddress(i, disp int) string {
	base := []string{"SI", "DI"}[i/4]
	switch i % 4 {
	case 0:
		return fmt.Sprintf("%d(%s)", disp, base)
	case 3:
		return fmt.Sprintf("%d(%s)(R12*1)", disp, base)
	}
	return fmt.Sprintf("%d(%s)(R8*%d)", disp, base, i%4)
}

// vnni writes the product of n pixels by VPDPBUSD, whose first operand is unsigned: signed pixels are
// multiplied with 128 added to them, and the products of 128 (Z22, Z23) are taken off. Sums of pixel i are
// Z2i and Z2i+1. Registers:
//
//	AX argument   SI, DI pixels 0 and 4   R8, R12 stride and three of it   R9 weights   R10 steps, R11 steps left
//	R13 place     R15 y                   CX, R14 scratch                  DX lines of weights left of a step
func (g *gen) vnni(n int, e epilogue, signed bool) {
	name := fmt.Sprintf("vnni%d%s", n, e.name)
	g.text(name, "(a *amxTiles)", 8, fmt.Sprintf(`computes, for every pixel i < %d and output o < 32,
//
//	sum = bias[o] + products of x[i stride + steps[s]...] and w[2048 s...] over all steps s,
//
// and stores %s at y[places[i]].`, n, e.doc))
	g.line("MOVQ a+0(FP), AX")
	for _, f := range [][2]string{{"x", "SI"}, {"stride", "R8"}, {"w", "R9"}, {"steps", "R10"},
		{"all", "R11"}, {"bias", "CX"}} {
		g.line("MOVQ %s, %s", arg(f[0]), f[1])
	}
	g.line("LEAQ (R8)(R8*2), R12")
	for i := range 2 * n {
		g.line("VMOVDQU64 %d(CX), Z%d", i%2*64, i)
	}
	if signed {
		g.line("MOVL $0x80808080, CX")
		g.line("VPBROADCASTD CX, Z26")
		g.line("VPXORD Z22, Z22, Z22")
		g.line("VPXORD Z23, Z23, Z23")
	}
	g.label("step")
	g.line("MOVQ SI, R14")
	g.line("ADDQ (R10), SI")
	g.line("LEAQ (SI)(R8*4), DI")
	g.line("MOVQ $8, DX")
	g.label("lines")
	for q := range 2 {
		g.line("VMOVDQU64 %d(R9), Z16", 64*q)
		g.line("VMOVDQU64 %d(R9), Z17", 1024+64*q)
		if signed {
			g.line("VPDPBUSD Z16, Z26, Z22")
			g.line("VPDPBUSD Z17, Z26, Z23")
		}
		for i := range n {
			z := 18 + i%4
			g.line("VPBROADCASTD %s, Z%d", rowAddress(i, 4*q), z)
			if signed {
				g.line("VPXORD Z26, Z%d, Z%d", z, z)
			}
			g.line("VPDPBUSD Z16, Z%d, Z%d", z, 2*i)
			g.line("VPDPBUSD Z17, Z%d, Z%d", z, 2*i+1)
		}
	}
	g.line("ADDQ $8, SI")
	g.line("ADDQ $8, DI")
	g.line("ADDQ $128, R9")
	g.line("DECQ DX")
	g.line("JNZ lines")
	g.line("MOVQ R14, SI")
	g.line("ADDQ $1024, R9")
	g.line("ADDQ $8, R10")
	g.line("DECQ R11")
	g.line("JNZ step")
	if signed {
		for i := range 2 * n {
			g.line("VPSUBD Z%d, Z%d, Z%d", 22+i%2, i, i)
		}
	}
	g.vnniStore(n, e)
	g.line("VZEROUPPER")
	g.line("RET")
}

// vnniStore finishes the pixels.
func (g *gen) vnniStore(n int, e epilogue) {
	g.line("MOVQ %s, R13", arg("places"))
	g.line("MOVQ %s, R15", arg("y"))
	if !e.second {
		g.constants(e)
	}
	for i := 0; i < n; i += e.each {
		many, z := min(n, e.each), 2*i
		g.addresses(e, many, func(j int) string { return fmt.Sprintf("%d(R13)", 4*(i+j)) })
		e.finish(g, z, many)
	}
}
