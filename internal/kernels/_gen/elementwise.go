package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// greater is the comparison predicate "ordered, greater than".
const greater = 30

// stream walks n blocks of 16 floats: body gets the byte offset of each half, to add to the pointers it is given.
// Pointers advance together.
func stream(name, doc, args string, pointers []string, prepare func() func(p []Register, half int)) {
	TEXT(name, 0, "func("+args+", n int)")
	Pragma("noescape")
	Doc(doc)
	p := make([]Register, len(pointers))
	for i, arg := range pointers {
		p[i] = Load(Param(arg), GP64())
	}
	body := prepare()
	n := Load(Param("n"), GP64())
	Label("block")
	for half := range 2 {
		body(p, 32*half)
	}
	for _, r := range p {
		ADDQ(Imm(64), r)
	}
	DECQ(n)
	JNZ(LabelRef("block"))
	finishStream()
}

// finishStream ends a routine; sums are stored before it where there are any.
func finishStream() {
	VZEROUPPER()
	RET()
}

func load(m Mem) VecVirtual {
	v := YMM()
	VMOVUPS(m, v)
	return v
}

func zeroY() VecVirtual {
	z := YMM()
	VXORPS(z, z, z)
	return z
}

// keepWhere zeroes v where the memory at mask is not positive.
func keepWhere(v VecVirtual, mask Mem, zero VecVirtual) {
	m := load(mask)
	VCMPPS(Imm(greater), zero, m, m)
	VANDPS(m, v, v)
}

func elementwise() {
	stream("reluAVX2", "reluAVX2 is reluGo over n blocks of 16.", "y, x *float32", []string{"y", "x"}, func() func([]Register, int) {
		zero := zeroY()
		return func(p []Register, d int) {
			v := load(at(p[1], d))
			VMAXPS(zero, v, v)
			VMOVUPS(v, at(p[0], d))
		}
	})
	stream("reluGradAVX2", "reluGradAVX2 is reluGradGo over n blocks of 16.", "dx, dy, y *float32", []string{"dx", "dy", "y"}, func() func([]Register, int) {
		zero := zeroY()
		return func(p []Register, d int) {
			v := load(at(p[1], d))
			keepWhere(v, at(p[2], d), zero)
			VMOVUPS(v, at(p[0], d))
		}
	})
	stream("addAVX2", "addAVX2 is addGo over n blocks of 16.", "y, a, b *float32", []string{"y", "a", "b"}, func() func([]Register, int) {
		return func(p []Register, d int) {
			v := load(at(p[1], d))
			VADDPS(at(p[2], d), v, v)
			VMOVUPS(v, at(p[0], d))
		}
	})
}

// coefficients loads rows of 16 floats: [row][half].
func coefficients(ptr Register, rows int) [][2]VecVirtual {
	out := make([][2]VecVirtual, rows)
	for r := range out {
		for h := range 2 {
			out[r][h] = load(at(ptr, r*64+h*32))
		}
	}
	return out
}

// sums is a routine that adds into rows of 16 lanes at "sums" while it walks blocks.
func sums(name, doc, args string, pointers []string, rows int, shift bool, body func(p []Register, d int, acc []VecVirtual, shift VecVirtual)) {
	TEXT(name, 0, "func(sums *float32, "+args+", n int)")
	Pragma("noescape")
	Doc(doc)
	to := Load(Param("sums"), GP64())
	acc := coefficients(to, rows)
	var by [][2]VecVirtual
	if shift {
		by = coefficients(Load(Param("shift"), GP64()), 1)
	}
	p := make([]Register, len(pointers))
	for i, arg := range pointers {
		p[i] = Load(Param(arg), GP64())
	}
	n := Load(Param("n"), GP64())
	Label("block")
	for h := range 2 {
		var s VecVirtual
		if shift {
			s = by[0][h]
		}
		row := make([]VecVirtual, rows)
		for r := range row {
			row[r] = acc[r][h]
		}
		body(p, 32*h, row, s)
	}
	for _, r := range p {
		ADDQ(Imm(64), r)
	}
	DECQ(n)
	JNZ(LabelRef("block"))
	for r := range rows {
		for h := range 2 {
			VMOVUPS(acc[r][h], at(to, r*64+h*32))
		}
	}
	finishStream()
}

func normalization() {
	sums("sumLanesAVX2", "sumLanesAVX2 is sumLanesGo over n blocks.", "x *float32", []string{"x"}, 1, false,
		func(p []Register, d int, acc []VecVirtual, _ VecVirtual) { VADDPS(at(p[0], d), acc[0], acc[0]) })
	sums("sumSquaresAVX2", "sumSquaresAVX2 is sumSquaresGo over n blocks.", "x, shift *float32", []string{"x"}, 2, true,
		func(p []Register, d int, acc []VecVirtual, shift VecVirtual) {
			v := load(at(p[0], d))
			VSUBPS(shift, v, v)
			VADDPS(v, acc[0], acc[0])
			VFMADD231PS(v, v, acc[1])
		})
	products := func(name, doc, args string, pointers []string, masked bool) {
		sums(name, doc, args, pointers, 2, true, func(p []Register, d int, acc []VecVirtual, shift VecVirtual) {
			g, v := load(at(p[0], d)), load(at(p[1], d))
			if masked {
				keepWhere(g, at(p[2], d), zeroY())
			}
			VSUBPS(shift, v, v)
			VADDPS(g, acc[0], acc[0])
			VFMADD231PS(g, v, acc[1])
		})
	}
	products("sumProductsAVX2", "sumProductsAVX2 is sumProductsGo without a mask.", "dy, x, shift *float32", []string{"dy", "x"}, false)
	products("sumProductsMaskedAVX2", "sumProductsMaskedAVX2 is sumProductsGo.", "dy, x, mask, shift *float32", []string{"dy", "x", "mask"}, true)

	for _, v := range []struct {
		name           string
		residual, relu bool
	}{{"normalizeAVX2", false, false}, {"normalizeReluAVX2", false, true}, {"normalizeAddAVX2", true, false}, {"normalizeAddReluAVX2", true, true}} {
		args, pointers := "y, x, coef *float32", []string{"y", "x"}
		if v.residual {
			args, pointers = "y, x, res, coef *float32", []string{"y", "x", "res"}
		}
		stream(v.name, v.name+" is normalizeGo over n blocks.", args, pointers, func() func([]Register, int) {
			c := coefficients(Load(Param("coef"), GP64()), 3)
			zero := zeroY()
			return func(p []Register, d int) {
				x := load(at(p[1], d))
				VSUBPS(c[0][d/32], x, x)
				VFMADD213PS(c[2][d/32], c[1][d/32], x)
				if v.residual {
					VADDPS(at(p[2], d), x, x)
				}
				if v.relu {
					VMAXPS(zero, x, x)
				}
				VMOVUPS(x, at(p[0], d))
			}
		})
	}
	for _, v := range []struct {
		name   string
		masked bool
	}{{"normalizeBackwardAVX2", false}, {"normalizeBackwardMaskedAVX2", true}} {
		args, pointers := "dx, dy, x, coef *float32", []string{"dx", "dy", "x"}
		if v.masked {
			args, pointers = "dx, dy, x, mask, coef *float32", []string{"dx", "dy", "x", "mask"}
		}
		stream(v.name, v.name+" is normalizeBackwardGo over n blocks.", args, pointers, func() func([]Register, int) {
			c := coefficients(Load(Param("coef"), GP64()), 4)
			zero := zeroY()
			return func(p []Register, d int) {
				h := d / 32
				g, x := load(at(p[1], d)), load(at(p[2], d))
				if v.masked {
					keepWhere(g, at(p[3], d), zero)
				}
				VSUBPS(c[0][h], x, x)
				VFMADD213PS(c[3][h], c[2][h], x)
				VFMADD231PS(g, c[1][h], x)
				VMOVUPS(x, at(p[0], d))
			}
		})
	}
}
