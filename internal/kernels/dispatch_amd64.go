//go:build !purego

package kernels

import (
	"unsafe"

	"github.com/klauspost/cpuid/v2"
)

// available is the best level that processor and operating system support.
func available() level {
	switch {
	case cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512DQ, cpuid.AVX512VL, cpuid.AVX512BW, cpuid.AVX2, cpuid.FMA3):
		return levelAVX512
	case cpuid.CPU.Supports(cpuid.AVX2, cpuid.FMA3):
		return levelAVX2
	}
	return levelGo
}

// tileWidth is the most pixels of a convolution tile, gradDepth the most weight rows of a gradient tile.
func tileWidth() int {
	if current == levelAVX512 {
		return 14
	}
	return 6
}

func gradDepth() int {
	if current == levelAVX2 {
		return 6
	}
	return 16
}

// blocks is the number of whole blocks in a slice, when there is assembly to walk them.
func blocks(s []float32) int {
	if current == levelGo {
		return 0
	}
	return len(s) / Block
}

func convTiles(p int, a *tile) {
	if current == levelGo || a.n == 0 {
		convTilesGo(p, a)
		return
	}
	// The assembly reads without looking: look here.
	last := a.n*p - 1
	_ = a.y[last*a.yStride+Block-1]
	if a.res != nil {
		_ = a.res[last*a.yStride+Block-1]
	}
	if a.bias != nil {
		_ = a.bias[Block-1]
	}
	rows := 0
	for _, r := range a.runs {
		_ = a.x[r.offset : last*a.xStride+r.offset+r.length]
		rows += r.length
	}
	_ = a.w[:rows*Block]
	convTilesAsm(p, (*byte)(unsafe.Pointer(a)))
}

func convTilesAsm(p int, a *byte) {
	if current == levelAVX512 {
		switch p {
		case 1:
			convAVX512_1(a)
		case 2:
			convAVX512_2(a)
		case 3:
			convAVX512_3(a)
		case 4:
			convAVX512_4(a)
		case 5:
			convAVX512_5(a)
		case 6:
			convAVX512_6(a)
		case 7:
			convAVX512_7(a)
		case 8:
			convAVX512_8(a)
		case 9:
			convAVX512_9(a)
		case 10:
			convAVX512_10(a)
		case 11:
			convAVX512_11(a)
		case 12:
			convAVX512_12(a)
		case 13:
			convAVX512_13(a)
		case 14:
			convAVX512_14(a)
		default:
			panic("kernels: tile width")
		}
		return
	}
	switch p {
	case 1:
		convAVX2_1(a)
	case 2:
		convAVX2_2(a)
	case 3:
		convAVX2_3(a)
	case 4:
		convAVX2_4(a)
	case 5:
		convAVX2_5(a)
	case 6:
		convAVX2_6(a)
	default:
		panic("kernels: tile width")
	}
}

func gradTiles(k int, a *gradTile) {
	if current == levelGo || a.rows == 0 || a.cols == 0 {
		gradTilesGo(k, a)
		return
	}
	_ = a.dw[:k*Block]
	_ = a.x[(a.rows-1)*a.xRow+(a.cols-1)*a.xStride+k-1]
	_ = a.dy[(a.rows-1)*a.dyRow+(a.cols-1)*a.dyStride+Block-1]
	gradTilesAsm(k, (*byte)(unsafe.Pointer(a)))
}

func gradTilesAsm(k int, a *byte) {
	if current == levelAVX512 {
		switch k {
		case 1:
			gradAVX512_1(a)
		case 2:
			gradAVX512_2(a)
		case 3:
			gradAVX512_3(a)
		case 4:
			gradAVX512_4(a)
		case 5:
			gradAVX512_5(a)
		case 6:
			gradAVX512_6(a)
		case 7:
			gradAVX512_7(a)
		case 8:
			gradAVX512_8(a)
		case 9:
			gradAVX512_9(a)
		case 10:
			gradAVX512_10(a)
		case 11:
			gradAVX512_11(a)
		case 12:
			gradAVX512_12(a)
		case 13:
			gradAVX512_13(a)
		case 14:
			gradAVX512_14(a)
		case 15:
			gradAVX512_15(a)
		case 16:
			gradAVX512_16(a)
		default:
			panic("kernels: gradient depth")
		}
		return
	}
	switch k {
	case 1:
		gradAVX2_1(a)
	case 2:
		gradAVX2_2(a)
	case 3:
		gradAVX2_3(a)
	case 4:
		gradAVX2_4(a)
	case 5:
		gradAVX2_5(a)
	case 6:
		gradAVX2_6(a)
	default:
		panic("kernels: gradient depth")
	}
}

// Relu computes y = max(x, 0); NaN becomes 0.
func Relu(y, x []float32) {
	x = x[:len(y)]
	n := blocks(y)
	if n > 0 {
		reluAVX2(&y[0], &x[0], n)
	}
	reluGo(y[n*Block:], x[n*Block:])
}

// ReluGrad computes dx = dy where y > 0, else 0.
func ReluGrad(dx, dy, y []float32) {
	dy, y = dy[:len(dx)], y[:len(dx)]
	n := blocks(dx)
	if n > 0 {
		reluGradAVX2(&dx[0], &dy[0], &y[0], n)
	}
	reluGradGo(dx[n*Block:], dy[n*Block:], y[n*Block:])
}

// Add computes y = a + b.
func Add(y, a, b []float32) {
	a, b = a[:len(y)], b[:len(y)]
	n := blocks(y)
	if n > 0 {
		addAVX2(&y[0], &a[0], &b[0], n)
	}
	addGo(y[n*Block:], a[n*Block:], b[n*Block:])
}

// SGD updates p by the gradient g; buf is the momentum buffer.
func SGD(p, g, buf []float32, h SGDParams) {
	n := blocks(p)
	if n == 0 || h.Momentum == 0 {
		sgdGo(p, g, buf, h)
		return
	}
	g, buf = g[:len(p)], buf[:len(p)]
	k := [6]float32{h.WeightDecay, h.Momentum, 1 - h.Dampening, 0, 1, h.LR}
	if h.First {
		k[1], k[2] = 0, 1
	}
	if h.Nesterov {
		k[3], k[4] = 1, h.Momentum
	}
	sgdAVX2(&p[0], &g[0], &buf[0], &k[0], n)
	sgdGo(p[n*Block:], g[n*Block:], buf[n*Block:], h)
}

// Adam updates p by the gradient g; m and v are the moments.
func Adam(p, g, m, v []float32, h AdamParams) {
	n := blocks(p)
	if n == 0 {
		adamGo(p, g, m, v, h)
		return
	}
	g, m, v = g[:len(p)], m[:len(p)], v[:len(p)]
	k := [8]float32{h.WeightDecay, 1, 1 - h.Beta1, h.Beta2, 1 - h.Beta2, 1 / h.Correction2, h.Eps, h.LR / h.Correction1}
	if h.Decoupled {
		k[0], k[1] = 0, 1-h.LR*h.WeightDecay
	}
	adamAVX2(&p[0], &g[0], &m[0], &v[0], &k[0], n)
	adamGo(p[n*Block:], g[n*Block:], m[n*Block:], v[n*Block:], h)
}

func maxPairs(y, a, b []float32) {
	n := blocks(y)
	if n == 0 {
		maxPairsGo(y, a, b)
		return
	}
	_, _ = a[2*len(y)-1], b[2*len(y)-1]
	maxPairsAVX2(&y[0], &a[0], &b[0], n)
}

func maxPairsBackward(da, db, a, b, y, dy []float32) {
	n := blocks(y)
	if n == 0 {
		maxPairsBackwardGo(da, db, a, b, y, dy)
		return
	}
	for _, s := range [][]float32{da, db, a, b} {
		_ = s[2*len(y)-1]
	}
	_ = dy[len(y)-1]
	maxPairsBackwardAVX2(&y[0], &a[0], &b[0], &dy[0], &da[0], &db[0], n)
}

func sumLanes(sums *[Block]float32, x []float32) {
	if n := blocks(x); n > 0 {
		sumLanesAVX2(&sums[0], &x[0], n)
		return
	}
	sumLanesGo(sums, x)
}

func sumSquares(sums *[2 * Block]float32, x []float32, shift *[Block]float32) {
	if n := blocks(x); n > 0 {
		sumSquaresAVX2(&sums[0], &x[0], &shift[0], n)
		return
	}
	sumSquaresGo(sums, x, shift)
}

func sumProducts(sums *[2 * Block]float32, dy, x, mask []float32, shift *[Block]float32) {
	n := blocks(dy)
	switch {
	case n == 0:
		sumProductsGo(sums, dy, x, mask, shift)
	case mask == nil:
		_ = x[len(dy)-1]
		sumProductsAVX2(&sums[0], &dy[0], &x[0], &shift[0], n)
	default:
		_, _ = x[len(dy)-1], mask[len(dy)-1]
		sumProductsMaskedAVX2(&sums[0], &dy[0], &x[0], &mask[0], &shift[0], n)
	}
}

func normalize(y, x, res []float32, coef *[3 * Block]float32, relu bool) {
	n := blocks(y)
	if n == 0 {
		normalizeGo(y, x, res, coef, relu)
		return
	}
	_ = x[len(y)-1]
	if res != nil {
		_ = res[len(y)-1]
	}
	switch {
	case res == nil && relu:
		normalizeReluAVX2(&y[0], &x[0], &coef[0], n)
	case res == nil:
		normalizeAVX2(&y[0], &x[0], &coef[0], n)
	case relu:
		normalizeAddReluAVX2(&y[0], &x[0], &res[0], &coef[0], n)
	default:
		normalizeAddAVX2(&y[0], &x[0], &res[0], &coef[0], n)
	}
}

func normalizeBackward(dx, dy, x, mask []float32, coef *[4 * Block]float32) {
	n := blocks(dx)
	if n == 0 {
		normalizeBackwardGo(dx, dy, x, mask, coef)
		return
	}
	_, _ = dy[len(dx)-1], x[len(dx)-1]
	if mask == nil {
		normalizeBackwardAVX2(&dx[0], &dy[0], &x[0], &coef[0], n)
		return
	}
	_ = mask[len(dx)-1]
	normalizeBackwardMaskedAVX2(&dx[0], &dy[0], &x[0], &mask[0], &coef[0], n)
}

// transpose writes dst[o*16+i] = src[i*16+o] for o < rows, i < cols.
func transpose(dst, src []float32, rows, cols int) {
	if current == levelGo || rows < Block || cols < Block {
		transposeGo(dst, src, rows, cols)
		return
	}
	_, _ = dst[Block*Block-1], src[Block*Block-1]
	for i := 0; i < Block; i += 8 {
		for o := 0; o < Block; o += 8 {
			transpose8AVX2(&dst[o*Block+i], Block, &src[i*Block+o], Block)
		}
	}
}

// gather writes dst[i*16+o] = src[o*stride+i] for i < n, o < cols.
func gather(dst, src []float32, stride, n, cols int) {
	if current == levelGo || n < 8 || cols < 8 {
		gatherGo(dst, src, stride, n, cols)
		return
	}
	_, _ = dst[(n-1)*Block+cols-1], src[(cols-1)*stride+n-1]
	whole, tall := n&^7, cols&^7
	for o := 0; o < tall; o += 8 {
		for i := 0; i < whole; i += 8 {
			transpose8AVX2(&dst[i*Block+o], Block, &src[o*stride+i], stride)
		}
	}
	if whole < n {
		gatherGo(dst[whole*Block:], src[whole:], stride, n-whole, tall)
	}
	if tall < cols {
		gatherGo(dst[tall:], src[tall*stride:], stride, n, cols-tall)
	}
}

// scatter writes dst[o*stride+i] = src[i*16+o] for i < n, o < cols.
func scatter(dst, src []float32, stride, n, cols int) {
	if current == levelGo || n < 8 || cols < 8 {
		scatterGo(dst, src, stride, n, cols)
		return
	}
	_, _ = src[(n-1)*Block+cols-1], dst[(cols-1)*stride+n-1]
	whole, tall := n&^7, cols&^7
	for o := 0; o < tall; o += 8 {
		for i := 0; i < whole; i += 8 {
			transpose8AVX2(&dst[o*stride+i], stride, &src[i*Block+o], Block)
		}
	}
	if whole < n {
		scatterGo(dst[whole:], src[whole*Block:], stride, n-whole, tall)
	}
	if tall < cols {
		scatterGo(dst[tall*stride:], src[tall:], stride, n, cols-tall)
	}
}
