//go:build amd64 && !purego

package kernels

import "github.com/klauspost/cpuid/v2"

// available asks for what the operating system saves as well as for what the processor has: cpuid reports
// a set only when both hold.
func available() level {
	switch {
	case cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512DQ, cpuid.AVX512VL, cpuid.AVX2, cpuid.FMA3):
		return levelAVX512
	case cpuid.CPU.Supports(cpuid.AVX2, cpuid.FMA3):
		return levelAVX2
	}
	return levelGo
}

func intel() bool { return cpuid.CPU.VendorID == cpuid.Intel }

func hasVNNI() bool { return cpuid.CPU.Supports(cpuid.AVX512VNNI) }

// tileWidth is the number of pixels of the widest tile of the convolution.
func tileWidth(narrow bool) int {
	switch {
	case current == levelAVX512 && narrow:
		return tileWidthNarrowAVX512
	case current == levelAVX512:
		return tileWidthAVX512
	case narrow:
		return tileWidthNarrowAVX2
	}
	return tileWidthAVX2
}

// pairWidth is the number of pixels of the widest tile for two panels of weights, 0 where one
// panel at a time is as fast.
func pairWidth() int {
	if current == levelAVX512 {
		return tileWidthPairAVX512
	}
	return 0
}

// gradDepth is the number of floats of x of the deepest tile of the weight gradient.
func gradDepth(narrow bool) int {
	switch {
	case current == levelGo:
		return 16
	case current == levelAVX512 && narrow:
		return gradDepthNarrowAVX512
	case current == levelAVX512:
		return gradDepthAVX512
	case narrow:
		return gradDepthNarrowAVX2
	}
	return gradDepthAVX2
}

func convTiles(p int, a *tile) {
	if a.taps != nil {
		depthTiles(p, a)
		return
	}
	a.check(p)
	switch {
	case current == levelGo || a.wNext > 0 && current != levelAVX512:
		convTilesGo(p, a)
	case a.wNext > 0:
		convTilesPairAVX512(p, a)
	case current == levelAVX512 && a.narrow:
		convTilesNarrowAVX512(p, a)
	case current == levelAVX512:
		convTilesAVX512(p, a)
	case a.narrow:
		convTilesNarrowAVX2(p, a)
	default:
		convTilesAVX2(p, a)
	}
}

func depthTiles(p int, a *tile) {
	a.check(p)
	switch {
	case current == levelGo:
		depthTilesGo(p, a)
	case current == levelAVX512 && a.per == 4:
		quadTilesAVX512(p, a)
	case current == levelAVX512:
		depthTilesAVX512(p, a)
	case a.per == 4:
		quadTilesAVX2(p, a)
	default:
		depthTilesAVX2(p, a)
	}
}

// quadWidth is the number of pixels of the widest tile for groups of four channels.
func quadWidth() int {
	if current == levelAVX512 {
		return quadWidthAVX512
	}
	return quadWidthAVX2
}

// depthGradTaps is the most taps of a tile of the weight gradient with groups of per channels.
func depthGradTaps(per int) int {
	switch {
	case current == levelAVX2 && per == 4:
		return quadGradTapsAVX2
	case current == levelAVX2:
		return depthGradTapsAVX2
	case per == 4:
		return quadGradTapsAVX512
	}
	return depthGradTapsAVX512
}

func depthGradTiles(a *depthGradTile) {
	a.check()
	switch {
	case current == levelGo:
		depthGradTilesGo(a)
	case current == levelAVX512 && a.per == 4:
		quadGradTilesAVX512(len(a.taps), a)
	case current == levelAVX512:
		depthGradTilesAVX512(len(a.taps), a)
	case a.per == 4:
		quadGradTilesAVX2(len(a.taps), a)
	default:
		depthGradTilesAVX2(len(a.taps), a)
	}
}

func gradTiles(k int, a *gradTile) {
	a.check(1, k)
	switch {
	case current == levelGo:
		gradTilesGo(k, a)
	case current == levelAVX512 && a.narrow:
		gradTilesNarrowAVX512(k, a)
	case current == levelAVX512:
		gradTilesAVX512(k, a)
	case a.narrow:
		gradTilesNarrowAVX2(k, a)
	default:
		gradTilesAVX2(k, a)
	}
}

func gemv(y *[packedGroup * Block]float32, x, w []float32, more bool) {
	_ = w[packedGroup*len(x)*Block-1]
	switch {
	case current == levelGo || len(x) == 0:
		gemvGo(y, x, w, more)
	case current == levelAVX512:
		gemvAVX512(&y[0], &x[0], &w[0], len(x), len(x)*Block, flag(more))
	default:
		gemvAVX2(&y[0], &x[0], &w[0], len(x), len(x)*Block, flag(more))
	}
}

// gradRuns is gradTiles for m runs.
func gradRuns(m, k int, a *gradTile) {
	a.check(m, k)
	if m == 1 {
		gradTiles(k, a)
		return
	}
	switch {
	case current == levelGo:
		gradRunsGo(m, k, a)
	case current == levelAVX512 && a.narrow:
		gradRunsNarrowAVX512(m, k, a)
	case current == levelAVX512:
		gradRunsAVX512(m, k, a)
	case a.narrow:
		gradRunsNarrowAVX2(m, k, a)
	default:
		gradRunsAVX2(m, k, a)
	}
}

// mostRuns is the number of runs of k floats that a tile of gradRuns takes at most.
func mostRuns(k int, narrow bool) int {
	switch {
	case current == levelGo:
		return 1
	case current == levelAVX512 && narrow:
		return mostRunsNarrowAVX512(k)
	case current == levelAVX512:
		return mostRunsAVX512(k)
	case narrow:
		return mostRunsNarrowAVX2(k)
	}
	return mostRunsAVX2(k)
}

func pickLanes(dst, src []float32, lanes *[Block]int32, keep bool) {
	n := len(dst) / Block
	if current == levelGo || n == 0 {
		pickLanesGo(dst, src, lanes, keep)
		return
	}
	_ = src[n*Block-1]
	if current == levelAVX512 {
		pickLanesAVX512(&dst[0], &src[0], &lanes[0], n, flag(keep))
	} else {
		pickLanesAVX2(&dst[0], &src[0], &lanes[0], n, flag(keep))
	}
}

func maxPairs(y, a, b []float32, narrow bool) {
	block := lanes(narrow)
	n := len(y) / block
	if current == levelGo || n == 0 {
		maxPairsGo(y, a, b, narrow)
		return
	}
	_, _ = a[2*n*block-1], b[2*n*block-1]
	switch {
	case current == levelAVX512 && narrow:
		maxPairsNarrowAVX512(&y[0], &a[0], &b[0], n)
	case current == levelAVX512:
		maxPairsAVX512(&y[0], &a[0], &b[0], n)
	case narrow:
		maxPairsNarrowAVX2(&y[0], &a[0], &b[0], n)
	default:
		maxPairsAVX2(&y[0], &a[0], &b[0], n)
	}
}

func maxPairsBackward(da, db, a, b, y, dy []float32, narrow, relu bool) {
	block := lanes(narrow)
	n := len(y) / block
	if current == levelGo || n == 0 {
		maxPairsBackwardGo(da, db, a, b, y, dy, narrow, relu)
		return
	}
	last := 2*n*block - 1
	_, _, _, _, _ = da[last], db[last], a[last], b[last], dy[n*block-1]
	switch {
	case current == levelAVX512 && narrow:
		maxPairsBackwardNarrowAVX512(&da[0], &db[0], &a[0], &b[0], &y[0], &dy[0], n, flag(relu))
	case current == levelAVX512:
		maxPairsBackwardAVX512(&da[0], &db[0], &a[0], &b[0], &y[0], &dy[0], n, flag(relu))
	case narrow:
		maxPairsBackwardNarrowAVX2(&da[0], &db[0], &a[0], &b[0], &y[0], &dy[0], n, flag(relu))
	default:
		maxPairsBackwardAVX2(&da[0], &db[0], &a[0], &b[0], &y[0], &dy[0], n, flag(relu))
	}
}

func sumSquares(s *[2 * Block]float32, x []float32, shift *[Block]float32) {
	n := len(x) / Block
	switch {
	case current == levelGo || n == 0:
		sumSquaresGo(s, x, shift)
	case current == levelAVX512:
		sumSquaresAVX512(&s[0], &x[0], &shift[0], n)
	default:
		sumSquaresAVX2(&s[0], &x[0], &shift[0], n)
	}
}

func sumLanes(s *[Block]float32, x []float32) {
	n := len(x) / Block
	switch {
	case current == levelGo || n == 0:
		sumLanesGo(s, x)
	case current == levelAVX512:
		sumLanesAVX512(&s[0], &x[0], n)
	default:
		sumLanesAVX2(&s[0], &x[0], n)
	}
}

// first is a pointer to the first of at least n floats, or nil for a nil slice.
func first(x []float32, n int) *float32 {
	if x == nil {
		return nil
	}
	return &x[:n][0]
}

func normalize(y, x, res []float32, coef *[3 * Block]float32, r rect, relu bool) {
	n := r.width / Block
	if current == levelGo || r.empty() {
		normalizeGo(y, x, res, coef, r, relu)
		return
	}
	to, px, pres := first(y, r.extent()), first(x, r.extent()), first(res, r.extent())
	if current == levelAVX512 {
		normalizeAVX512(to, px, pres, &coef[0], n, r.rows, r.skip, flag(relu))
	} else {
		normalizeAVX2(to, px, pres, &coef[0], n, r.rows, r.skip, flag(relu))
	}
}

func sumProducts(s *[2 * Block]float32, dy, x, mask []float32, shift *[Block]float32, r rect) {
	n := r.width / Block
	if current == levelGo || r.empty() {
		sumProductsGo(s, dy, x, mask, shift, r)
		return
	}
	pdy, px, pm := first(dy, r.extent()), first(x, r.extent()), first(mask, r.extent())
	if current == levelAVX512 {
		sumProductsAVX512(&s[0], pdy, px, pm, &shift[0], n, r.rows, r.skip)
	} else {
		sumProductsAVX2(&s[0], pdy, px, pm, &shift[0], n, r.rows, r.skip)
	}
}

func normalizeBackward(dx, dy, x, mask []float32, coef *[4 * Block]float32, r rect) {
	n := r.width / Block
	if current == levelGo || r.empty() {
		normalizeBackwardGo(dx, dy, x, mask, coef, r)
		return
	}
	to, pdy, px, pm := first(dx, r.extent()), first(dy, r.extent()), first(x, r.extent()), first(mask,
		r.extent())
	if current == levelAVX512 {
		normalizeBackwardAVX512(to, pdy, px, pm, &coef[0], n, r.rows, r.skip)
	} else {
		normalizeBackwardAVX2(to, pdy, px, pm, &coef[0], n, r.rows, r.skip)
	}
}

func sumProductsRelu(s *[2 * Block]float32, dy, x []float32, coef *[3 * Block]float32, r rect) {
	n := r.width / Block
	if current == levelGo || r.empty() {
		sumProductsReluGo(s, dy, x, coef, r)
		return
	}
	pdy, px := first(dy, r.extent()), first(x, r.extent())
	if current == levelAVX512 {
		sumProductsReluAVX512(&s[0], pdy, px, &coef[0], n, r.rows, r.skip)
	} else {
		sumProductsReluAVX2(&s[0], pdy, px, &coef[0], n, r.rows, r.skip)
	}
}

func normalizeBackwardRelu(dx, dy, x []float32, coef *[5 * Block]float32, r rect) {
	n := r.width / Block
	if current == levelGo || r.empty() {
		normalizeBackwardReluGo(dx, dy, x, coef, r)
		return
	}
	to, pdy, px := first(dx, r.extent()), first(dy, r.extent()), first(x, r.extent())
	if current == levelAVX512 {
		normalizeBackwardReluAVX512(to, pdy, px, &coef[0], n, r.rows, r.skip)
	} else {
		normalizeBackwardReluAVX2(to, pdy, px, &coef[0], n, r.rows, r.skip)
	}
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

// turn writes dst[c*dstStride+r] = src[r*srcStride+c] for r < rows, c < cols.
func turn(dst []float32, dstStride int, src []float32, srcStride, rows, cols int) {
	if current == levelGo || rows < 8 || cols < 8 {
		turnGo(dst, dstStride, src, srcStride, rows, cols)
		return
	}
	_, _ = dst[(cols-1)*dstStride+rows-1], src[(rows-1)*srcStride+cols-1]
	tall, wide := rows&^7, cols&^7
	for r := 0; r < tall; r += 8 {
		for c := 0; c < wide; c += 8 {
			transpose8AVX2(&dst[c*dstStride+r], dstStride, &src[r*srcStride+c], srcStride)
		}
	}
	if tall < rows {
		turnGo(dst[tall:], dstStride, src[tall*srcStride:], srcStride, rows-tall, wide)
	}
	if wide < cols {
		turnGo(dst[wide*dstStride:], dstStride, src[wide:], srcStride, rows, cols-wide)
	}
}
