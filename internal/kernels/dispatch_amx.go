//go:build amd64 && !purego

package kernels

import (
	"runtime"
	"unsafe"
)

// amxConfigs are the configurations of the tiles for rows-1, in the format of LDTILECFG: the sums are tiles 0
// to 3, x is in 6 and the weights are in 7.
var amxConfigs = func() (all [tileRows][64]byte) {
	for r := range all {
		c := &all[r]
		c[0] = 1 // palette
		for t := range 8 {
			c[16+2*t], c[48+t] = lineBytes, byte(r+1)
		}
		c[48+7] = tileRows
	}
	return all
}()

// pointer is to the first element, nil where there is none.
func pointer[T any](s []T) *byte { return (*byte)(unsafe.Pointer(unsafe.SliceData(s))) }

// newAMX fills in what the geometry tells. The caller has checked the slices.
func newAMX(t *tiling, lo, hi int, scratch []float32) amxTiles {
	early, per, quads := t.turnover()
	return amxTiles{
		config: &amxConfigs[t.rows-1], origins: &t.origins[lo*t.m], places: &t.places[lo*t.m*tileRows],
		steps:  &t.steps[0],
		stride: t.stride, blocks: hi - lo, early: early, late: len(t.steps) - early, all: len(t.steps),
		per: per, quads: quads,
		scratch: pointer(scratch), trash: pointer(scratch[tileScratch-Block:]),
	}
}

// amx runs the call by assembly.
func (a *bf16Call) amx() {
	b := newAMX(a.t, a.lo, a.hi, a.scratch)
	b.x, b.w, b.bias, b.low, b.high, b.apart = pointer(a.x), pointer(a.w), pointer(a.bias), a.low,
		a.high, a.apart
	b.y, b.res, b.next, b.lines = pointer(a.y), pointer(a.res), pointer(a.next), a.lines
	if a.out != nil {
		b.y = pointer(a.out)
	}
	if a.more {
		b.biasRow, b.biasTile = tileOuts*4, tileRows*tileOuts*4
	}
	b.next, b.lines = pointer(a.next), a.lines
	b.gate = (*byte)(unsafe.Pointer(a.gate))
	switch 4*a.t.m + a.kind() {
	case 4:
		tiles1BF16(&b)
	case 5:
		tiles1BF16Add(&b)
	case 6:
		tiles1BF16Float(&b)
	case 7:
		tiles1BF16Gate(&b)
	case 8:
		tiles2BF16(&b)
	case 9:
		tiles2BF16Add(&b)
	case 10:
		tiles2BF16Float(&b)
	default:
		tiles2BF16Gate(&b)
	}
	runtime.KeepAlive(a)
}

// kind is the epilogue: bf16, bf16 with a residual, float32 or bf16 of a gate.
func (a *bf16Call) kind() int {
	switch {
	case a.gate != nil:
		return 3
	case a.out != nil:
		return 2
	case a.res != nil:
		return 1
	}
	return 0
}

// amx runs the call by assembly.
func (a *int8Call) amx() {
	b := newAMX(a.t, a.lo, a.hi, a.scratch)
	b.x, b.w, b.bias, b.scale, b.apart = pointer(a.x), pointer(a.w), pointer(a.bias),
		pointer(a.scale), a.apart
	b.y = pointer(a.y)
	b.levels(a)
	b.next, b.lines = pointer(a.next), a.lines
	if a.out != nil {
		b.y = pointer(a.out)
	}
	switch 4*a.t.m + 2*flag(a.out != nil) + flag(a.from.Signed) {
	case 4:
		tiles1USD(&b)
	case 5:
		tiles1SSD(&b)
	case 6:
		tiles1USDSum(&b)
	case 7:
		tiles1SSDSum(&b)
	case 8:
		tiles2USD(&b)
	case 9:
		tiles2SSD(&b)
	case 10:
		tiles2USDSum(&b)
	default:
		tiles2SSDSum(&b)
	}
	runtime.KeepAlive(a)
}

// levels fills in the bounds of bytes.
func (b *amxTiles) levels(a *int8Call) {
	low, _ := a.to.limits()
	b.high = a.most
	b.zero = (a.to.Zero - low) * 0x10001
	b.least = int32(eachByte(uint8(int32(a.least) + a.to.Zero - low)))
	b.flip = int32(eachByte(uint8(-low)))
}

// eachByte is four times b.
func eachByte(b uint8) uint32 { return uint32(b) * 0x01010101 }

// vnni runs the call by VPDPBUSD: tile by tile, up to 8 pixels at a time.
func (a *int8Call) vnni() {
	b := newAMX(a.t, a.lo, a.hi, a.scratch)
	b.w, b.bias, b.scale, b.apart = pointer(a.w), pointer(a.bias), pointer(a.scale), a.apart
	b.y = pointer(a.y)
	b.levels(a)
	if a.out != nil {
		b.y = pointer(a.out)
	}
	for i := a.lo * a.t.m; i < a.hi*a.t.m; i++ {
		for row := 0; row < a.t.rows; {
			n := 8
			for n > a.t.rows-row {
				n /= 2
			}
			b.x = &a.x[a.t.origins[i]+row*a.t.stride]
			b.places = &a.t.places[i*tileRows+row]
			a.vnniRows(n, &b)
			row += n
		}
	}
	runtime.KeepAlive(a)
}

// vnniRows computes n pixels.
func (a *int8Call) vnniRows(n int, b *amxTiles) {
	switch kind := 2*flag(a.out != nil) + flag(a.from.Signed); 4*n + kind {
	case 4:
		vnni1USD(b)
	case 5:
		vnni1SSD(b)
	case 6:
		vnni1USDSum(b)
	case 7:
		vnni1SSDSum(b)
	case 8:
		vnni2USD(b)
	case 9:
		vnni2SSD(b)
	case 10:
		vnni2USDSum(b)
	case 11:
		vnni2SSDSum(b)
	case 16:
		vnni4USD(b)
	case 17:
		vnni4SSD(b)
	case 18:
		vnni4USDSum(b)
	case 19:
		vnni4SSDSum(b)
	case 32:
		vnni8USD(b)
	case 33:
		vnni8SSD(b)
	case 34:
		vnni8USDSum(b)
	default:
		vnni8SSDSum(b)
	}
}

func narrow(dst []uint16, lo, hi []float32, n, step int) {
	if n == 0 || !useAMX() {
		narrowGo(dst, lo, hi, n, step)
		return
	}
	_, _, _ = dst[:n*BF16Lanes], lo[:(n-1)*step+Block], hi[:(n-1)*step+Block]
	narrowAMX(&dst[0], &lo[0], &hi[0], n, step*4)
}

func widen(lo, hi []float32, src []uint16, n, step int) {
	if n == 0 || !useAMX() {
		widenGo(lo, hi, src, n, step)
		return
	}
	_, _, _ = src[:n*BF16Lanes], lo[:(n-1)*step+Block], hi[:(n-1)*step+Block]
	widenAMX(&lo[0], &hi[0], &src[0], n, step*4)
}

// pairOrder is where VPERMI2W finds what pairGo writes.
var pairOrder = func() (order [64]uint16) {
	for o := range uint16(Block) {
		order[2*o], order[2*o+1], order[32+2*o], order[33+2*o] = o, 32+o, 16+o, 48+o
	}
	return order
}()

func pair(dst, src []uint16) {
	_, _ = dst[:stepSize/2], src[:stepSize/2]
	if !useAMX() {
		pairGo(dst, src)
		return
	}
	pairAMX(&dst[0], &src[0], &pairOrder, Block)
}

// turnPairs writes dst[c*apart+j] = src[j*16+c] for 16 pairs j and channels c.
func turnPairs(dst []uint32, apart int, src []uint32) {
	_, _ = dst[:(Block-1)*apart+Block], src[:Block*Block]
	if !useAMX() {
		turnPairsGo(dst, apart, src)
		return
	}
	for j := 0; j < Block; j += 8 {
		for c := 0; c < Block; c += 8 {
			transpose8AVX2((*float32)(unsafe.Pointer(&dst[c*apart+j])), apart,
				(*float32)(unsafe.Pointer(&src[j*Block+c])), Block)
		}
	}
}

// at0 is a pointer to the first of x, of which the kernel reads or writes so many; nil for none.
func at0(x []uint16, many int) *uint16 {
	if x == nil {
		return nil
	}
	return &x[:many][0]
}

func sumSquaresBF16(sums *halfSums, x []uint16, shift *[2][Block]float32, r lineArea) {
	if !useAMX() {
		sumSquaresBF16Go(sums, x, shift, r)
		return
	}
	sumSquaresBF16AVX512(&sums[0][0], at0(x, r.extent()), &shift[0][0], r.width, r.rows, r.skip*lineBytes)
}

func normalizeBF16(y, x, res []uint16, coef *[2][3 * Block]float32, r lineArea, relu bool) {
	if !useAMX() {
		normalizeBF16Go(y, x, res, coef, r, relu)
		return
	}
	n, skip := r.extent(), r.skip*lineBytes
	to, from, more := at0(y, n), at0(x, n), at0(res, n)
	switch {
	case res != nil && relu:
		normalizeAddReluBF16AVX512(to, from, more, &coef[0][0], r.width, r.rows, skip)
	case res != nil:
		normalizeAddBF16AVX512(to, from, more, &coef[0][0], r.width, r.rows, skip)
	case relu:
		normalizeReluBF16AVX512(to, from, nil, &coef[0][0], r.width, r.rows, skip)
	default:
		normalizeBF16AVX512(to, from, nil, &coef[0][0], r.width, r.rows, skip)
	}
}

func sumProductsBF16(sums *halfSums, dy, x []uint16, mask MaskBF16, coef *[2][3 * Block]float32, r lineArea) {
	if !useAMX() {
		sumProductsBF16Go(sums, dy, x, mask, coef, r)
		return
	}
	n, skip := r.extent(), r.skip*lineBytes
	d, v, m := at0(dy, n), at0(x, n), at0(mask.Y, n)
	switch {
	case mask.Bias != nil:
		sumProductsReluBF16AVX512(&sums[0][0], d, v, nil, &coef[0][0], r.width, r.rows, skip)
	case mask.Y != nil:
		sumProductsMaskBF16AVX512(&sums[0][0], d, v, m, &coef[0][0], r.width, r.rows, skip)
	default:
		sumProductsBF16AVX512(&sums[0][0], d, v, nil, &coef[0][0], r.width, r.rows, skip)
	}
}

func normalizeBackwardBF16(dx, dy, x []uint16, mask MaskBF16, coef *[2][5 * Block]float32, r lineArea) {
	if !useAMX() {
		normalizeBackwardBF16Go(dx, dy, x, mask, coef, r)
		return
	}
	n, skip := r.extent(), r.skip*lineBytes
	to, d, v, m := at0(dx, n), at0(dy, n), at0(x, n), at0(mask.Y, n)
	switch {
	case mask.Bias != nil:
		normalizeBackwardReluBF16AVX512(to, d, v, nil, &coef[0][0], r.width, r.rows, skip)
	case mask.Y != nil:
		normalizeBackwardMaskBF16AVX512(to, d, v, m, &coef[0][0], r.width, r.rows, skip)
	default:
		normalizeBackwardBF16AVX512(to, d, v, nil, &coef[0][0], r.width, r.rows, skip)
	}
}

func maxWindowsBF16(y, x []uint16, r windowsBF16) {
	if !useAMX() {
		maxWindowsBF16Go(y, x, r)
		return
	}
	reach := (r.many-1)*r.step + (r.high-1)*r.row + r.wide
	maxWindowsBF16AVX512(at0(y, r.many*BF16Lanes), at0(x, reach*BF16Lanes), r.many, r.high, r.wide,
		r.row*lineBytes, r.step*lineBytes)
}

func gatherLines(dst, src []uint16, n, lanes, step int, whole bool) {
	if !useAMX() {
		gatherLinesGo(dst, src, n, lanes, step, whole)
		return
	}
	to, from := at0(dst, (n-1)*BF16Lanes+lanes), at0(src, (n-1)*step+lanes)
	if whole {
		gatherLinesAVX512(at0(dst, n*BF16Lanes), from, n, 2*step, 1<<lanes-1)
	} else {
		gatherPartsAVX512(to, from, n, 2*step, 1<<lanes-1)
	}
}

func addBF16(y, a, b []uint16, relu bool) {
	n := len(y)
	switch {
	case n == 0 || !useAMX():
		addBF16Go(y, a, b, relu)
	case relu:
		addReluBF16AVX512(at0(y, n), at0(a, n), at0(b, n), n/BF16Lanes)
	default:
		addBF16AVX512(at0(y, n), at0(a, n), at0(b, n), n/BF16Lanes)
	}
}

func reluBF16(y, x []uint16) {
	n := len(y)
	if n == 0 || !useAMX() {
		reluBF16Go(y, x)
		return
	}
	reluBF16AVX512(at0(y, n), at0(x, n), n/BF16Lanes)
}

func reluGradBF16(dx, dy, y []uint16) {
	n := len(dx)
	if n == 0 || !useAMX() {
		reluGradBF16Go(dx, dy, y)
		return
	}
	reluGradBF16AVX512(at0(dx, n), at0(dy, n), at0(y, n), n/BF16Lanes)
}
