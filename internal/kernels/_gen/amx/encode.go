package main

import (
	"fmt"
	"strings"
)

// Registers by their numbers in the encoding.
const (
	ax = iota
	cx
	dx
	bx
	sp
	bp
	si
	di
	r8
	r9
	r10
	r11
	r12
	r13
	r14
	r15
)

// The prefixes that VEX and EVEX call pp.
const (
	ppNone = iota
	pp66
	ppF3
	ppF2
)

// Products of tiles by the prefix of their encoding. The first letter is the sign of A, the second that of B.
const (
	bssd = ppF2 // TDPBSSD
	busd = pp66 // TDPBUSD
)

// raw writes an instruction that Go's assembler does not know; text says in a comment what it is.
func (g *gen) raw(text string, code ...byte) {
	var b strings.Builder
	for i, c := range code {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "BYTE $0x%02x", c)
	}
	g.line("%s // %s", b.String(), text)
}

// vex is the three-byte VEX prefix of map 0F38, W 0, L 0, of registers reg, index and base, with source vvvv.
func vex(reg, index, base, vvvv, pp int) []byte {
	p := byte(0xe2)
	for bit, r := range map[byte]int{0x80: reg, 0x40: index, 0x20: base} {
		if r >= 8 {
			p &^= bit
		}
	}
	return []byte{0xc4, p, byte(^vvvv&15<<3 | pp)}
}

// memory is ModRM, SIB and displacement of disp(base)(index*1).
func memory(reg, base, index, disp int) []byte {
	if index == sp || base&7 == bp {
		panic("no such address")
	}
	sib := byte(index&7<<3 | base&7)
	modrm := byte(reg&7<<3 | 4)
	switch {
	case disp == 0:
		return []byte{modrm, sib}
	case disp >= -128 && disp < 128:
		return []byte{0x40 | modrm, sib, byte(disp)}
	}
	return []byte{0x80 | modrm, sib, byte(disp), byte(disp >> 8), byte(disp >> 16), byte(disp >> 24)}
}

var names = []string{"AX", "CX", "DX", "BX", "SP", "BP", "SI", "DI", "R8", "R9", "R10", "R11", "R12", "R13",
	"R14", "R15"}

func address(base, index, disp int) string {
	s := fmt.Sprintf("(%s)(%s*1)", names[base], names[index])
	if disp != 0 {
		s = fmt.Sprint(disp) + s
	}
	return s
}

// tileLoad loads tile t from rows that are index bytes apart.
func (g *gen) tileLoad(t, base, index, disp int) {
	code := append(vex(t, index, base, 0, ppF2), 0x4b)
	g.raw(fmt.Sprintf("TILELOADD %s, tmm%d", address(base, index, disp), t),
		append(code, memory(t, base, index, disp)...)...)
}

// tileStore stores tile t into rows that are index bytes apart.
func (g *gen) tileStore(t, base, index, disp int) {
	code := append(vex(t, index, base, 0, ppF3), 0x4b)
	g.raw(fmt.Sprintf("TILESTORED tmm%d, %s", t, address(base, index, disp)),
		append(code, memory(t, base, index, disp)...)...)
}

// tileConfig loads the configuration of the tiles from (CX).
func (g *gen) tileConfig() { g.raw("LDTILECFG (CX)", 0xc4, 0xe2, 0x78, 0x49, 0x01) }

// tileZero clears tile t.
func (g *gen) tileZero(t int) {
	g.raw(fmt.Sprintf("TILEZERO tmm%d", t), 0xc4, 0xe2, 0x7b, 0x49, byte(0xc0|t<<3))
}

func (g *gen) tileRelease() { g.raw("TILERELEASE", 0xc4, 0xe2, 0x78, 0x49, 0xc0) }

// dotBF16 is c += a b for tiles of bf16.
func (g *gen) dotBF16(c, a, b int) {
	g.raw(fmt.Sprintf("TDPBF16PS tmm%d, tmm%d, tmm%d", b, a, c), append(vex(0, 0, 0, b, ppF3), 0x5c,
		byte(0xc0|c<<3|a))...)
}

// dotInt8 is c += a b for tiles of bytes, whose signs sign tells.
func (g *gen) dotInt8(sign, c, a, b int) {
	name := map[int]string{busd: "TDPBUSD", bssd: "TDPBSSD"}[sign]
	g.raw(fmt.Sprintf("%s tmm%d, tmm%d, tmm%d", name, b, a, c), append(vex(0, 0, 0, b, sign), 0x5e,
		byte(0xc0|c<<3|a))...)
}

// toBF16 rounds the floats of lo and hi into the lower and upper half of dst.
func (g *gen) toBF16(lo, hi, dst int) {
	p0, p2 := byte(0xf2), byte(0x48)
	for _, r := range []struct{ reg, eighth, sixteenth int }{{dst, 0x80, 0x10}, {lo, 0x20, 0x40}} {
		p0 &^= byte(r.reg>>3&1*r.eighth | r.reg>>4&1*r.sixteenth)
	}
	p2 &^= byte(hi >> 4 & 1 * 8)
	g.raw(fmt.Sprintf("VCVTNE2PS2BF16 Z%d, Z%d, Z%d", lo, hi, dst), 0x62, p0, byte(^hi&15<<3|4|ppF2), p2, 0x72,
		byte(0xc0|dst&7<<3|lo&7))
}
