//go:build !amd64 || purego

package kernels

// Without assembly the twins are the kernels.

func available() level { return levelGo }

func intel() bool { return false }

func tileWidth(narrow bool) int       { return 6 }
func pairWidth() int                  { return 0 }
func gradDepth(narrow bool) int       { return 16 }
func mostRuns(k int, narrow bool) int { return 1 }
func depthGradTaps(per int) int       { return 9 }
func quadWidth() int                  { return 6 }

func convTiles(p int, a *tile) {
	if a.taps != nil {
		depthTilesGo(p, a)
		return
	}
	convTilesGo(p, a)
}

func depthGradTiles(a *depthGradTile)                                 { depthGradTilesGo(a) }
func gemv(y *[packedGroup * Block]float32, x, w []float32, more bool) { gemvGo(y, x, w, more) }
func gradTiles(k int, a *gradTile)                                    { gradTilesGo(k, a) }
func transpose(dst, src []float32, rows, cols int)                    { transposeGo(dst, src, rows, cols) }
func scatter(dst, src []float32, stride, n, cols int)                 { scatterGo(dst, src, stride, n, cols) }
func gradRuns(m, k int, a *gradTile)                                  { gradRunsGo(m, k, a) }
func turn(dst []float32, dstStride int, src []float32, srcStride, rows, cols int) {
	turnGo(dst, dstStride, src, srcStride, rows, cols)
}
func gather(dst, src []float32, stride, n, cols int) { gatherGo(dst, src, stride, n, cols) }
func pickLanes(dst, src []float32, lanes *[Block]int32, keep bool) {
	pickLanesGo(dst, src, lanes, keep)
}
func maxPairs(y, a, b []float32, narrow bool) { maxPairsGo(y, a, b, narrow) }
func maxPairsBackward(da, db, a, b, y, dy []float32, narrow, relu bool) {
	maxPairsBackwardGo(da, db, a, b, y, dy, narrow, relu)
}
func sumSquares(s *[2 * Block]float32, x []float32, shift *[Block]float32) { sumSquaresGo(s, x, shift) }
func sumLanes(s *[Block]float32, x []float32)                              { sumLanesGo(s, x) }

func normalize(y, x, res []float32, coef *[3 * Block]float32, r rect, relu bool) {
	normalizeGo(y, x, res, coef, r, relu)
}

func sumProducts(s *[2 * Block]float32, dy, x, mask []float32, shift *[Block]float32, r rect) {
	sumProductsGo(s, dy, x, mask, shift, r)
}

func normalizeBackward(dx, dy, x, mask []float32, coef *[4 * Block]float32, r rect) {
	normalizeBackwardGo(dx, dy, x, mask, coef, r)
}

// Relu computes y = max(x, 0); NaN becomes 0.
func Relu(y, x []float32) { reluGo(y, x) }

// ReluGrad computes dx = dy where y > 0, else 0.
func ReluGrad(dx, dy, y []float32) { reluGradGo(dx, dy, y) }

// Clip computes y = low where x < low, high where x > high, else x; NaN stays.
func Clip(y, x []float32, low, high float32) { clipGo(y, x, low, high) }

// ClipGrad computes dx = dy where x = y, else 0.
func ClipGrad(dx, dy, x, y []float32) { clipGradGo(dx, dy, x, y) }

// Add computes y = a + b.
func Add(y, a, b []float32) { addGo(y, a, b) }

// SGD updates p by the gradient g; buf is the momentum buffer.
func SGD(p, g, buf []float32, h SGDParams) { sgdGo(p, g, buf, h) }

// Adam updates p by the gradient g; m and v are the moments.
func Adam(p, g, m, v []float32, h AdamParams) { adamGo(p, g, m, v, h) }
func winogradInput(a *winogradTile)           { winogradInputGo(a) }
func winogradGradient(a *winogradTile)        { winogradGradientGo(a) }
func winogradWeights(a *winogradTile)         { winogradWeightsGo(a) }
func winogradOutput(a *winogradTile)          { winogradOutputGo(a) }
func winogradTaps(a *winogradTile)            { winogradTapsGo(a) }
func maxWindows(a *windows)                   { maxWindowsGo(a) }
func maxWindowsBackward(a *windows)           { maxWindowsBackwardGo(a) }

func sumProductsRelu(s *[2 * Block]float32, dy, x []float32, coef *[3 * Block]float32, r rect) {
	sumProductsReluGo(s, dy, x, coef, r)
}
func normalizeBackwardRelu(dx, dy, x []float32, coef *[5 * Block]float32, r rect) {
	normalizeBackwardReluGo(dx, dy, x, coef, r)
}

func rowInput(a *winogradTile)    { rowInputGo(a) }
func rowGradient(a *winogradTile) { rowGradientGo(a) }
func rowOutput(a *winogradTile)   { rowOutputGo(a) }
func rowWeights(a *winogradTile)  { rowWeightsGo(a) }
func rowTaps(a *winogradTile)     { rowTapsGo(a) }
