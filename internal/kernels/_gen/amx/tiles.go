package main

import "fmt"

// field is a field of the argument of the products, as the assembly reads it.
type field struct{ name, typ, doc string }

var fields = []field{
	{"config", "*[64]byte", "of the tiles"},
	{"x", "*byte", "where origins count from"},
	{"w", "*byte", "2 KiB a step"},
	{"bias", "*byte", "32 sums to begin with"},
	{"y", "*byte", "where places count from"},
	{"res", "*byte", "the same for the residual"},
	{"trash", "*byte", "a line for pixels that nobody wants"},
	{"scratch", "*byte", "2 x m x 2 KiB"},
	{"scale", "*byte", "32 floats, of bytes alone"},
	{"origins", "*int", "m a block: bytes from x to the first pixel of each tile"},
	{"places", "*int32", "16 m a block: bytes from y to each pixel, negative for trash"},
	{"steps", "*int", "bytes from a tile's origin, of each step of the reduction"},
	{"stride", "int", "bytes between the pixels of a tile"},
	{"blocks", "int", "counted down"},
	{"early", "int", "steps that also finish pixels of the block before"},
	{"late", "int", "the other steps"},
	{"all", "int", "early + late"},
	{"per", "int", "pixels finished in an early step: 1, 2 or 4 quads"},
	{"quads", "int", ""},
	{"apart", "int", "bytes from the first 16 outputs to the second, of float32 and int32"},
	{"low", "float32", "bounds of the result"},
	{"high", "float32", ""},
	{"zero", "int32", "zero point, from the least byte that there is, in both words"},
	{"least", "int32", "lower bound of the result, from there, in all bytes"},
	{"flip", "int32", "0x80808080 where bytes are signed"},
	{"_", "int32", ""},
	{"toggle", "int", "zero; where in scratch the block goes"},
	{"delta", "int", "from the first tile's origin to the second's"},
	{"none", "int", "zero"},
	{"biasRow", "int", "bytes from the bias of a pixel to that of the next: 0, or 128 where sums are continued"},
	{"biasTile", "int", "the same from tile to tile"},
	{"biasAt", "int", "zero; where a block's bias lies"},
	{"gate", "*byte", "a Gate, where the epilogue takes one"},
	{"next", "*byte", "the weights of the next call, to be fetched into the second-level cache"},
	{"lines", "int", "lines of them a step"},
}

// offset is where a field lies.
func offset(name string) int {
	at := 0
	for _, f := range fields {
		if f.name == name {
			return at
		}
		at += size(f)
	}
	panic("no field " + name)
}

func size(f field) int {
	if f.typ == "float32" || f.typ == "int32" {
		return 4
	}
	return 8
}

// arg is the memory operand of a field.
func arg(name string) string { return fmt.Sprintf("%d(AX)", offset(name)) }

// structure declares the argument and asserts its layout.
func (g *gen) structure() {
	fmt.Fprint(&g.decl, "// amxTiles is the argument of the products of tiles: of m tiles of pixels with 32 output channels, block after block.\ntype amxTiles struct {\n")
	for _, f := range fields {
		fmt.Fprintf(&g.decl, "%s %s", f.name, f.typ)
		if f.doc != "" {
			fmt.Fprintf(&g.decl, " // %s", f.doc)
		}
		fmt.Fprintln(&g.decl)
	}
	fmt.Fprint(&g.decl, "}\n\n// The assembly reads the fields at these places: an index other than 0 does not compile.\nvar (\n")
	end := 0
	for _, f := range fields {
		if f.name != "_" {
			fmt.Fprintf(&g.decl, "_ = [1]struct{}{}[unsafe.Offsetof(amxTiles{}.%s)-%d]\n", f.name, end)
		}
		end += size(f)
	}
	fmt.Fprintf(&g.decl, "_ = [1]struct{}{}[unsafe.Sizeof(amxTiles{})-%d]\n)\n\n", end)
}

// epilogue is what becomes of the sums of pixels. Those of pixel i are in registers z+2i and z+2i+1, and the
// i-th of pixelAddress points to where it goes, or to trash.
type epilogue struct {
	name     string
	dot      func(g *gen, c, a, b int)
	residual bool // R14 points to the residual
	second   bool // the second 16 outputs go to an address of their own, R14 bytes further
	each     int  // pixels that are finished together, or one alone
	finish   func(g *gen, z, pixels int)
	doc      string
}

var pixelAddress = []string{"CX", "R14"}

var epilogues = []epilogue{
	{"BF16", (*gen).dotBF16, false, false, 1, finishBF16, "bf16 = clip(sum)"},
	{"BF16Gate", (*gen).dotBF16, false, false, 1, finishGate, "bf16 = gate(clip(sum))"},
	{"BF16Add", (*gen).dotBF16, true, false, 1, finishAdd, "bf16 = clip(sum + residual)"},
	{"BF16Float", (*gen).dotBF16, false, true, 1, finishFloat, "float32 = clip(sum)"},
	{"USD", dotWith(busd), false, false, 2, finishInt8, "byte = clip(round(sum * scale) + zero), x of uint8"},
	{"SSD", dotWith(bssd), false, false, 2, finishInt8, "byte = clip(round(sum * scale) + zero), x of int8"},
	{"USDSum", dotWith(busd), false, true, 1, finishSum, "int32 = sum, x of uint8"},
	{"SSDSum", dotWith(bssd), false, true, 1, finishSum, "int32 = sum, x of int8"},
}

func dotWith(sign int) func(*gen, int, int, int) {
	return func(g *gen, c, a, b int) { g.dotInt8(sign, c, a, b) }
}

// clip bounds the sums of a pixel where they are not NaN.
func (g *gen) clip(z int) {
	for _, op := range []string{"VMAXPS Z%d, Z30, Z%d", "VMINPS Z%d, Z31, Z%d"} {
		g.line(op, z, z)
		g.line(op, z+1, z+1)
	}
}

func finishBF16(g *gen, z, _ int) {
	g.clip(z)
	g.toBF16(z, z+1, z)
	g.line("VMOVDQU64 Z%d, (CX)", z)
}

func finishAdd(g *gen, z, pixels int) {
	for i := range 2 {
		g.line("VPMOVZXWD %d(R14), Z%d", 32*i, z+2+i)
		g.line("VPSLLD $16, Z%d, Z%d", z+2+i, z+2+i)
		g.line("VADDPS Z%d, Z%d, Z%d", z+2+i, z+i, z+i)
	}
	finishBF16(g, z, pixels)
}

// finishGate has the table from Z16 on.
func finishGate(g *gen, z, _ int) {
	g.clip(z)
	for i := range 2 {
		g.gate(z+i, 16, z+2+4*i)
	}
	g.toBF16(z, z+1, z)
	g.line("VMOVDQU64 Z%d, (CX)", z)
}

// finishFloat stores the first lanes last: apart is 0 where nobody wants the second.
func finishFloat(g *gen, z, pixels int) {
	g.clip(z)
	finishSum(g, z, pixels)
}

func finishSum(g *gen, z, _ int) {
	g.line("VMOVUPS Z%d, (CX)(R14*1)", z+1)
	g.line("VMOVUPS Z%d, (CX)", z)
}

// finishInt8 packs to bytes of a range that begins at zero, which saturates: what lies below it stays below when
// it becomes an integer, and what lies above it is bounded first.
func finishInt8(g *gen, z, pixels int) {
	for i := range 2 * pixels {
		g.line("VCVTDQ2PS Z%d, Z%d", z+i, z+i)
		g.line("VMULPS Z%d, Z%d, Z%d", 28+i%2, z+i, z+i)
		g.line("VMINPS Z31, Z%d, Z%d", z+i, z+i)
		g.line("VCVTPS2DQ Z%d, Z%d", z+i, z+i)
	}
	for i := range pixels {
		g.line("VPACKSSDW Z%d, Z%d, Z%d", z+2*i+1, z+2*i, z+2*i)
		g.line("VPADDSW Z27, Z%d, Z%d", z+2*i, z+2*i)
	}
	g.line("VPACKUSWB Z%d, Z%d, Z%d", z+2*(pixels-1), z, z)
	g.line("VPERMD Z%d, Z24, Z%d", z, z)
	g.line("VPMAXUB Z25, Z%d, Z%d", z, z)
	g.line("VPXORD Z26, Z%d, Z%d", z, z)
	g.line("VMOVDQU Y%d, (CX)", z)
	if pixels > 1 {
		g.line("VEXTRACTI64X4 $1, Z%d, (R14)", z)
	}
}

// order is where VPERMD finds the bytes of four vectors of 16 that were packed in pairs, and
// then the pairs.
func (g *gen) order() {
	for i := range 16 {
		fmt.Fprintf(&g.asm, "DATA packed<>+%d(SB)/4, $%d\n", 4*i, i%4*4+i/4)
	}
	fmt.Fprint(&g.asm, "GLOBL packed<>(SB), RODATA|NOPTR, $64\n")
}

// addresses finds where pixels with their places at places(i) go: CX, and R14 for the second or as
// the epilogue wants it.
func (g *gen) addresses(e epilogue, pixels int, places func(i int) string) {
	for i := range pixels {
		r := pixelAddress[i]
		g.line("MOVLQSX %s, %s", places(i), r)
		switch {
		case e.residual:
			g.line("MOVQ %s, R14", arg("res"))
		case e.second:
			g.line("MOVQ %s, R14", arg("apart"))
		}
		g.line("TESTQ %s, %s", r, r)
		if e.residual {
			g.line("LEAQ (R14)(CX*1), R14")
		}
		g.line("LEAQ (R15)(%s*1), %s", r, r)
		g.line("CMOVQLT %s, %s", arg("trash"), r)
		switch {
		case e.residual:
			g.line("CMOVQLT %s, R14", arg("trash"))
		case e.second:
			g.line("CMOVQLT %s, R14", arg("none"))
		}
	}
}

// finishPixels finishes those from number i on, from BX and DX on.
func (g *gen) finishPixels(e epilogue, i, pixels int) {
	g.addresses(e, pixels, func(j int) string { return fmt.Sprintf("%d(DX)", 4*(i+j)) })
	for j := range 2 * pixels {
		g.line("VMOVUPS %d(BX), Z%d", 128*i+64*j, j)
	}
	e.finish(g, 0, pixels)
}

// pixels finishes n pixels and moves on.
func (g *gen) pixels(e epilogue, n int) {
	for i := 0; i < n; i += e.each {
		g.finishPixels(e, i, min(n, e.each))
	}
	g.line("ADDQ $%d, DX", 4*n)
	g.line("ADDQ $%d, BX", 128*n)
}

// quads finishes as many times 4 pixels as DI says.
func (g *gen) quads(e epilogue) {
	g.labels++
	l := fmt.Sprintf("quad%d", g.labels)
	g.label(l)
	g.pixels(e, 4)
	g.line("DECQ DI")
	g.line("JNZ %s", l)
}

// The tiles of x and w; those before are sums, that of tile i and half h of the outputs number i + m h. A tile
// is loaded again and again, for the fewer hold something, the better: both threads of a core share what it
// has beyond the eight of each, and a tile is not written before the one that it takes the place of is free.
const (
	tileX = 6
	tileW = 7
)

// step multiplies m tiles of x with two of w and moves on. The second tile of x takes the halves in reverse,
// so that it finds the one before it. Clearing a tile gives its place back at once.
func (g *gen) step(m int, e epilogue) {
	g.line("MOVQ (R10), R14")
	g.line("ADDQ SI, R14")
	loaded := -1
	for i := range m {
		if i > 0 {
			g.line("ADDQ %s, R14", arg("delta"))
			g.tileZero(tileX)
		}
		g.tileLoad(tileX, r14, r8, 0)
		for _, h := range [][]int{{0, 1}, {1, 0}}[i] {
			if h != loaded {
				if m > 1 && loaded >= 0 {
					g.tileZero(tileW)
				}
				g.tileLoad(tileW, r9, r12, 1024*h)
				loaded = h
			}
			e.dot(g, i+m*h, tileX, tileW)
		}
	}
	if m > 1 {
		g.tileZero(tileX)
		g.tileZero(tileW)
	}
	g.line("ADDQ $8, R10")
	g.line("ADDQ $2048, R9")
	g.fetch()
}

// fetch fetches lines of the weights that come next.
func (g *gen) fetch() {
	g.labels++
	l := fmt.Sprintf("fetch%d", g.labels)
	g.line("MOVQ %s, R14", arg("lines"))
	g.line("TESTQ R14, R14")
	g.line("JZ %sed", l)
	g.line("MOVQ %s, CX", arg("next"))
	g.label(l)
	g.line("PREFETCHT1 (CX)")
	g.line("ADDQ $64, CX")
	g.line("DECQ R14")
	g.line("JNZ %s", l)
	g.line("MOVQ CX, %s", arg("next"))
	g.label(l + "ed")
}

// stepLoop runs as many steps as R11 says, each followed by body.
func (g *gen) stepLoop(label string, m int, e epilogue, body func()) {
	g.label(label)
	g.step(m, e)
	body()
	g.line("DECQ R11")
	g.line("JNZ %s", label)
}

// tiles writes the product of m tiles of pixels. Registers:
//
//	AX argument    BX sums of the block before, 0 at first     DX places of its pixels
//	SI first tile  R8 bytes between pixels                     R9 weights, R12 bytes between their rows
//	R10 steps      R11 steps left                              R13 bytes of origins that were used
//	R15 y          CX, R14 scratch                             DI quads left
func (g *gen) tiles(m int, e epilogue) {
	name := fmt.Sprintf("tiles%d%s", m, e.name)
	g.text(name, "(a *amxTiles)", 8, fmt.Sprintf(`computes, for every block b, tile t < %d, pixel i < 16 and output o < 32,
//
//	sum = bias[o] + products of x[origins[%d b+t] + i stride + steps[s]...] and w[2048 s...] over all steps s,
//
// and stores %s at y[places[16 (%d b+t) + i]]. While a block is multiplied, the one before is finished.`, m, m, e.doc, m))
	g.prologue(e)
	g.label("block")
	g.begin(m)
	g.line("TESTQ BX, BX")
	g.line("JZ alone")
	g.line("MOVQ %s, R11", arg("early"))
	g.line("CMPQ %s, $2", arg("per"))
	g.line("JLT one")
	g.line("JEQ two")
	g.stepLoop("four", m, e, func() {
		g.line("MOVQ %s, DI", arg("quads"))
		g.quads(e)
	})
	g.line("JMP rest")
	g.stepLoop("one", m, e, func() { g.pixels(e, 1) })
	g.line("JMP rest")
	g.stepLoop("two", m, e, func() { g.pixels(e, 2) })
	g.label("rest")
	g.line("MOVQ %s, R11", arg("late"))
	g.line("TESTQ R11, R11")
	g.line("JNZ plain")
	g.line("JMP done")
	g.label("alone")
	g.line("MOVQ %s, R11", arg("all"))
	g.stepLoop("plain", m, e, func() {})
	g.label("done")
	g.store(m)
	g.line("DECQ %s", arg("blocks"))
	g.line("JNZ block")
	g.line("MOVQ $%d, DI", 4*m)
	g.quads(e)
	g.tileRelease()
	g.line("VZEROUPPER")
	g.line("RET")
}

func (g *gen) prologue(e epilogue) {
	g.line("MOVQ a+0(FP), AX")
	g.line("MOVQ %s, CX", arg("config"))
	g.tileConfig()
	g.line("MOVQ %s, R8", arg("stride"))
	g.line("MOVQ $64, R12")
	g.line("XORL R13, R13")
	g.line("XORL BX, BX")
	g.line("MOVQ %s, DX", arg("places"))
	g.line("MOVQ %s, R15", arg("y"))
	g.constants(e)
}

// constants loads those of an epilogue into Z16 to Z31.
func (g *gen) constants(e epilogue) {
	g.line("VBROADCASTSS %s, Z30", arg("low"))
	g.line("VBROADCASTSS %s, Z31", arg("high"))
	if e.name == "BF16Gate" {
		g.line("MOVQ %s, CX", arg("gate"))
		g.gateConstants("CX", "R14", 16)
	}
	if e.name == "USD" || e.name == "SSD" {
		g.line("MOVQ %s, CX", arg("scale"))
		g.line("VMOVUPS (CX), Z28")
		g.line("VMOVUPS 64(CX), Z29")
		g.line("VMOVDQU64 packed<>(SB), Z24")
		for i, name := range []string{"least", "flip", "zero"} {
			g.line("VPBROADCASTD %s, Z%d", arg(name), 25+i)
		}
	}
}

// begin finds the tiles of a block and loads the bias into the sums: rows that are 0 bytes
// apart, or sums to continue.
func (g *gen) begin(m int) {
	g.line("MOVQ %s, CX", arg("origins"))
	g.line("MOVQ (CX)(R13*1), SI")
	if m > 1 {
		g.line("MOVQ 8(CX)(R13*1), R14")
		g.line("SUBQ SI, R14")
		g.line("MOVQ R14, %s", arg("delta"))
	}
	g.line("ADDQ %s, SI", arg("x"))
	g.line("ADDQ $%d, R13", 8*m)
	g.line("MOVQ %s, R9", arg("w"))
	g.line("MOVQ %s, R10", arg("steps"))
	g.line("MOVQ %s, CX", arg("bias"))
	g.line("ADDQ %s, CX", arg("biasAt"))
	g.line("MOVQ %s, R14", arg("biasRow"))
	for i := range m {
		g.tileLoad(i, cx, r14, 0)
		g.tileLoad(i+m, cx, r14, 64)
		g.line("ADDQ %s, CX", arg("biasTile"))
	}
	g.line("SUBQ %s, CX", arg("bias"))
	g.line("MOVQ CX, %s", arg("biasAt"))
}

// store puts the sums into the half of scratch that the block before does not use.
func (g *gen) store(m int) {
	g.line("MOVQ %s, BX", arg("toggle"))
	g.line("XORQ $%d, %s", 2048*m, arg("toggle"))
	g.line("ADDQ %s, BX", arg("scratch"))
	g.line("MOVQ $128, R14")
	for i := range m {
		g.tileStore(i, bx, r14, 2048*i)
		g.tileStore(i+m, bx, r14, 2048*i+64)
	}
}
