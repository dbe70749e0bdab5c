//go:build amd64 && !purego

package kernels

import (
	"runtime"
	"unsafe"
)

// lineOrder is where VPERMW finds the lanes of a line whose even lanes stand before its odd ones.
var lineOrder = func() (order [BF16Lanes]uint16) {
	for c := range order {
		order[c] = uint16(evenOdd(c))
	}
	return order
}()

// avx512 runs the call by assembly. Where the pixels of a row are no whole groups, the last group overlaps
// the one before.
func (a *depthwiseLines) avx512() {
	n, kind := 7, 2*a.kw+a.apart/BF16Lanes
	if a.across != BF16Lanes || a.apart > 2*BF16Lanes || a.kw != 3 && a.kw != 5 && a.kw != 7 {
		n, kind = 4, 0
	}
	switch {
	case a.cols < n:
		a.groups(kind, false, 0, a.cols)
	case a.cols%n == 0:
		a.groups(kind, true, 0, a.cols/n)
	default:
		a.groups(kind, true, 0, a.cols/n)
		a.groups(kind, true, a.cols-n, 1)
	}
}

// groups computes groups of pixels, or single ones, from a column on, by the routines of a kind: twice the
// kernel's width and the stride, or 0 for any.
func (a *depthwiseLines) groups(kind int, many bool, from, n int) {
	b := linesBF16{x: pointer(a.x[from*a.apart:]), w: pointer(a.w), y: pointer(a.y[from*BF16Lanes:]),
		bias: pointer(a.bias[:]), gate: (*byte)(unsafe.Pointer(a.gate)),
		kh: a.kh, kw: a.kw, down: 2 * a.down, across: 2 * a.across, apart: 2 * a.apart, groups: n,
		rows: a.rows, xNext: 2 * a.xNext, yNext: 2 * a.yNext, order: pointer(lineOrder[:]), low: a.low,
		high: a.high}
	if a.res != nil {
		b.res = pointer(a.res[from*BF16Lanes:])
	}
	if many {
		manyLines(kind, &b)
	} else {
		singleLines(kind, &b)
	}
	runtime.KeepAlive(a)
}

func manyLines(kind int, b *linesBF16) {
	switch kind {
	case 7:
		depthwise3Stride1By7BF16(b)
	case 8:
		depthwise3Stride2By7BF16(b)
	case 11:
		depthwise5Stride1By7BF16(b)
	case 12:
		depthwise5Stride2By7BF16(b)
	case 15:
		depthwise7Stride1By7BF16(b)
	case 16:
		depthwise7Stride2By7BF16(b)
	default:
		depthwiseBy4BF16(b)
	}
}

func singleLines(kind int, b *linesBF16) {
	switch kind {
	case 7:
		depthwise3Stride1By1BF16(b)
	case 8:
		depthwise3Stride2By1BF16(b)
	case 11:
		depthwise5Stride1By1BF16(b)
	case 12:
		depthwise5Stride2By1BF16(b)
	case 15:
		depthwise7Stride1By1BF16(b)
	case 16:
		depthwise7Stride2By1BF16(b)
	default:
		depthwiseBy1BF16(b)
	}
}

// mixOrder is, for each word of 32 mixed pixels, the pixel it comes from, and 32 more from the second channel.
var mixOrder = func() (order [96]uint16) {
	for i := range order {
		order[i] = uint16(i/3 + i%3%2*BF16Lanes)
	}
	return order
}()

func mixThree(dst, a, b, c []uint16) {
	n := 0
	if useAMX() {
		n = len(a) / BF16Lanes
	}
	if done := n * BF16Lanes; n > 0 {
		mixThreeAVX512(at0(dst, 3*done), at0(a, done), at0(b, done), at0(c, done), n, &mixOrder)
		dst, a, b, c = dst[3*done:], a[done:], b[done:], c[done:]
	}
	mixThreeGo(dst, a, b, c)
}
