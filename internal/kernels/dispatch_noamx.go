//go:build !amd64 || purego

package kernels

func narrow(dst []uint16, lo, hi []float32, n, step int) { narrowGo(dst, lo, hi, n, step) }
func widen(lo, hi []float32, src []uint16, n, step int)  { widenGo(lo, hi, src, n, step) }
func (a *bf16Call) amx()                                 { a.runGo() }
func (a *int8Call) amx()                                 { a.runGo() }
func pair(dst, src []uint16)                             { pairGo(dst, src) }
func turnPairs(dst []uint32, apart int, src []uint32)    { turnPairsGo(dst, apart, src) }
func (a *int8Call) vnni()                                { a.runGo() }
func hasVNNI() bool                                      { return false }
func hasVBMI() bool                                      { return false }
func (a *depthwiseRow) vnni()                            { a.runGo() }
func mixThree(dst, a, b, c []uint16)                     { mixThreeGo(dst, a, b, c) }
func (a *depthwiseLines) avx512()                        { a.runGo() }
func maxWindowsBF16(y, x []uint16, r windowsBF16)        { maxWindowsBF16Go(y, x, r) }
func addBF16(y, a, b []uint16, relu bool)                { addBF16Go(y, a, b, relu) }
func reluBF16(y, x []uint16)                             { reluBF16Go(y, x) }
func reluGradBF16(dx, dy, y []uint16)                    { reluGradBF16Go(dx, dy, y) }

func gatherLines(dst, src []uint16, n, lanes, step int, whole bool) {
	gatherLinesGo(dst, src, n, lanes, step, whole)
}

func sumSquaresBF16(sums *halfSums, x []uint16, shift *[2][Block]float32, r lineArea) {
	sumSquaresBF16Go(sums, x, shift, r)
}

func normalizeBF16(y, x, res []uint16, coef *[2][3 * Block]float32, r lineArea, relu bool) {
	normalizeBF16Go(y, x, res, coef, r, relu)
}

func sumProductsBF16(sums *halfSums, dy, x []uint16, mask MaskBF16, coef *[2][3 * Block]float32, r lineArea) {
	sumProductsBF16Go(sums, dy, x, mask, coef, r)
}

func normalizeBackwardBF16(dx, dy, x []uint16, mask MaskBF16, coef *[2][5 * Block]float32, r lineArea) {
	normalizeBackwardBF16Go(dx, dy, x, mask, coef, r)
}

// The rest is never called: useVNNI says so.

func (l *Levels) quantizeAVX512(dst []uint8, src []float32, n, to, from int)         {}
func (l *Levels) dequantizeAVX512(dst []float32, src []uint8, n, to, from int)       {}
func (l *Levels) pixelsAVX512(dst []uint8, planes *[PixelLanes][]float32, w int) int { return 0 }
func (p *AddBytes) runAVX512(y, a, b []uint8, n int)                                 {}
func (p *MulBytes) runAVX512(y, a, b []uint8, n, step int)                           {}
func (t *ByteTable) runVBMI(y, x []uint8, n int)                                     {}
func sumLinesAVX512(sums *[Int8Lanes]int32, x []uint8, n int, signed bool)           {}
func maxLinesAVX512(y, x []uint8, n, step int, signed bool)                          {}
