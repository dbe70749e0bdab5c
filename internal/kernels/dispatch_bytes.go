//go:build amd64 && !purego

package kernels

import (
	"runtime"

	"github.com/klauspost/cpuid/v2"
)

// hasVBMI reports whether tables of 256 bytes are an instruction or two.
func hasVBMI() bool { return cpuid.CPU.Supports(cpuid.AVX512VBMI, cpuid.AVX512BW) }

func (l *Levels) quantizeAVX512(dst []uint8, src []float32, n, to, from int) {
	quantizeBytes(&dst[0], &src[0], n, to, 4*from, &l.byteLevels)
}

func (l *Levels) dequantizeAVX512(dst []float32, src []uint8, n, to, from int) {
	if l.to.Signed {
		dequantizeBytesSigned(&dst[0], &src[0], n, 4*to, from, &l.byteLevels)
		return
	}
	dequantizeBytesUnsigned(&dst[0], &src[0], n, 4*to, from, &l.byteLevels)
}

var zeroLine [Block]float32

// pixelsAVX512 does whole runs of 16 pixels of the first w and says how many those are.
func (l *Levels) pixelsAVX512(dst []uint8, planes *[PixelLanes][]float32, w int) int {
	n := w / Block
	_ = dst[:n*lineBytes]
	for i := range n {
		var at [PixelLanes]*float32
		for c, plane := range planes {
			at[c] = &zeroLine[0]
			if plane != nil {
				at[c] = &plane[i*Block : (i+1)*Block][0]
			}
		}
		quantizePixels(&dst[i*lineBytes], &at, 1, &l.byteLevels)
	}
	return n * Block
}

// byteSum and byteProduct are AddBytes and MulBytes as the assembly reads them: low is in all four bytes.
type (
	byteSum struct {
		byA, byB, fixed, high float32
		low                   uint32
	}
	byteProduct struct {
		zeroA, zeroB, by, zero, high float32
		low                          uint32
	}
)

func (p *AddBytes) runAVX512(y, a, b []uint8, n int) {
	args := byteSum{p.ByA, p.ByB, p.Fixed, p.High, eachByte(uint8(int32(p.Low)))}
	if p.Signed {
		addBytesSigned(&y[0], &a[0], &b[0], n, &args)
		return
	}
	addBytesUnsigned(&y[0], &a[0], &b[0], n, &args)
}

func (p *MulBytes) runAVX512(y, a, b []uint8, n, step int) {
	args := byteProduct{p.ZeroA, p.ZeroB, p.By, p.Zero, p.High, eachByte(uint8(int32(p.Low)))}
	if p.Signed {
		mulBytesSigned(&y[0], &a[0], &b[0], n, step, &args)
		return
	}
	mulBytesUnsigned(&y[0], &a[0], &b[0], n, step, &args)
}

func (t *ByteTable) runVBMI(y, x []uint8, n int) {
	tableBytesVBMI(&y[0], &x[0], n, (*[256]uint8)(t))
}

func sumLinesAVX512(sums *[Int8Lanes]int32, x []uint8, n int, signed bool) {
	if signed {
		sumBytesSigned(sums, &x[0], n)
		return
	}
	sumBytesUnsigned(sums, &x[0], n)
}

func maxLinesAVX512(y, x []uint8, n, step int, signed bool) {
	if signed {
		maxBytesSigned(&y[0], &x[0], n, step)
		return
	}
	maxBytesUnsigned(&y[0], &x[0], n, step)
}

// vnni runs rows of pixels of a kernel that the assembly has, in groups of 4 as far as they go.
func (a *depthwiseRow) vnni() {
	for done := 0; done < a.pixels; {
		by, groups := 1, a.pixels-done
		if groups >= 4 {
			by, groups = 4, groups/4
		}
		b := depthwiseBytes{x: pointer(a.x[done*a.stride*lineBytes:]), w: pointer(a.w),
			y:    pointer(a.y[done*lineBytes:]),
			bias: pointer(a.bias), scale: pointer(a.scale), row: a.row, groups: groups, low: a.least,
			high: a.most, zero: a.zero,
			flip: a.flip}
		b.run(a.k, a.stride, by)
		done += by * groups
	}
	runtime.KeepAlive(a)
}

// run calls the routine of a kernel of k x k. A function value would make b escape.
func (b *depthwiseBytes) run(k, stride, by int) {
	switch 100*k + 10*stride + by {
	case 311:
		depthwise3Stride1By1(b)
	case 314:
		depthwise3Stride1By4(b)
	case 321:
		depthwise3Stride2By1(b)
	case 324:
		depthwise3Stride2By4(b)
	case 511:
		depthwise5Stride1By1(b)
	case 514:
		depthwise5Stride1By4(b)
	case 521:
		depthwise5Stride2By1(b)
	default:
		depthwise5Stride2By4(b)
	}
}
