package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// pooling holds the 2x2 windows of stride 2: two rows a and b of the map, one row y.
func pooling() {
	windows("maxPairsAVX2", "maxPairsAVX2 is maxPairsGo over n pixels of y.", []string{"y", "a", "b"}, func(p []Register, d int) {
		v := load(at(p[1], d))
		// A NaN in the first source gives the second: start from the other side so that the last NaN is not lost.
		VMAXPS(at(p[1], d+64), v, v)
		VMAXPS(at(p[2], d), v, v)
		VMAXPS(at(p[2], d+64), v, v)
		VMOVUPS(v, at(p[0], d))
	})
	windows("maxPairsBackwardAVX2", "maxPairsBackwardAVX2 is maxPairsBackwardGo over n pixels of y.", []string{"y", "a", "b", "dy", "da", "db"}, func(p []Register, d int) {
		top, rest := load(at(p[0], d)), load(at(p[3], d)) // rest: what is still to be given
		for i := range 4 {
			src, dst, disp := p[1+i/2], p[4+i/2], d+64*(i%2)
			m, give := load(at(src, disp)), YMM()
			VCMPPS(Imm(0), top, m, m) // equal
			VANDPS(m, rest, give)
			VMOVUPS(give, at(dst, disp))
			if i < 3 {
				VANDNPS(rest, m, rest)
			}
		}
	})
}

// windows walks n pixels; the pointers of pixel rows y and dy advance by one block, the others by two.
func windows(name, doc string, pointers []string, body func(p []Register, d int)) {
	args := ""
	for i, a := range pointers {
		if i > 0 {
			args += ", "
		}
		args += a
	}
	TEXT(name, 0, "func("+args+" *float32, n int)")
	Pragma("noescape")
	Doc(doc)
	p := make([]Register, len(pointers))
	for i, arg := range pointers {
		p[i] = Load(Param(arg), GP64())
	}
	n := Load(Param("n"), GP64())
	Label("block")
	for half := range 2 {
		body(p, 32*half)
	}
	for i, r := range p {
		step := 128
		if pointers[i] == "y" || pointers[i] == "dy" {
			step = 64
		}
		ADDQ(U32(step), r)
	}
	DECQ(n)
	JNZ(LabelRef("block"))
	finishStream()
}

// spreadAll broadcasts the floats at ptr.
func spreadAll(ptr Register, n int) []VecVirtual {
	out := make([]VecVirtual, n)
	for i := range out {
		out[i] = YMM()
		VBROADCASTSS(at(ptr, 4*i), out[i])
	}
	return out
}

func optimisers() {
	// h: weight decay, momentum, 1-dampening, factor of the gradient, factor of the buffer, learning rate.
	stream("sgdAVX2", "sgdAVX2 is sgdGo with momentum over n blocks; p -= h5*(h3*d + h4*m).", "p, grad, buf, h *float32", []string{"p", "grad", "buf"}, func() func([]Register, int) {
		h := spreadAll(Load(Param("h"), GP64()), 6)
		return func(p []Register, d int) {
			x, g, m := load(at(p[0], d)), load(at(p[1], d)), load(at(p[2], d))
			VFMADD231PS(h[0], x, g)
			VMULPS(h[1], m, m)
			VFMADD231PS(h[2], g, m)
			VMOVUPS(m, at(p[2], d))
			VMULPS(h[3], g, g)
			VFMADD231PS(h[4], m, g)
			VFNMADD231PS(h[5], g, x)
			VMOVUPS(x, at(p[0], d))
		}
	})
	// h: weight decay in the gradient, 1 - lr*decoupled decay, 1-beta1, beta2, 1-beta2, 1/correction2, eps, lr/correction1.
	stream("adamAVX2", "adamAVX2 is adamGo over n blocks.", "p, grad, m, v, h *float32", []string{"p", "grad", "m", "v"}, func() func([]Register, int) {
		h := spreadAll(Load(Param("h"), GP64()), 8)
		return func(p []Register, d int) {
			x, g, m, v := load(at(p[0], d)), load(at(p[1], d)), load(at(p[2], d)), load(at(p[3], d))
			VFMADD231PS(h[0], x, g)
			VMULPS(h[1], x, x)
			t := YMM()
			VSUBPS(m, g, t)
			VFMADD231PS(h[2], t, m)
			VMOVUPS(m, at(p[2], d))
			VMULPS(h[3], v, v)
			VMULPS(g, g, g)
			VFMADD231PS(h[4], g, v)
			VMOVUPS(v, at(p[3], d))
			VSQRTPS(v, v)
			VMULPS(h[5], v, v)
			VADDPS(h[6], v, v)
			VDIVPS(v, m, m)
			VFNMADD231PS(h[7], m, x)
			VMOVUPS(x, at(p[0], d))
		}
	})
}

// transposition turns an 8x8 block: dst[j*dstStride+i] = src[i*srcStride+j].
func transposition() {
	TEXT("transpose8AVX2", 0, "func(dst *float32, dstStride int, src *float32, srcStride int)")
	Pragma("noescape")
	Doc("transpose8AVX2 writes dst[j*dstStride+i] = src[i*srcStride+j] for i, j < 8; strides are in floats.")
	dst, src := Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	ds, ss := Load(Param("dstStride"), GP64()), Load(Param("srcStride"), GP64())
	SHLQ(Imm(2), ds)
	SHLQ(Imm(2), ss)
	var r, t, u [8]VecVirtual
	for i := range 8 {
		r[i] = load(at(src, 0))
		ADDQ(ss, src)
	}
	for i := 0; i < 8; i += 2 { // pairs of rows interleaved
		t[i], t[i+1] = YMM(), YMM()
		VUNPCKLPS(r[i+1], r[i], t[i])
		VUNPCKHPS(r[i+1], r[i], t[i+1])
	}
	for i := 0; i < 8; i += 4 { // columns of four rows
		for j := range 2 {
			u[i+2*j], u[i+2*j+1] = YMM(), YMM()
			VSHUFPS(Imm(0x44), t[i+2+j], t[i+j], u[i+2*j])
			VSHUFPS(Imm(0xee), t[i+2+j], t[i+j], u[i+2*j+1])
		}
	}
	for half := range 2 { // of eight rows
		for j := range 4 {
			v := YMM()
			VPERM2F128(Imm(uint64(0x20+0x11*half)), u[4+j], u[j], v)
			VMOVUPS(v, at(dst, 0))
			ADDQ(ds, dst)
		}
	}
	finishStream()
}
