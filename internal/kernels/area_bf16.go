package kernels

// lineArea is rows of width lines of a map in bf16, skip lines apart.
type lineArea struct{ width, rows, skip int }

// area is rows of a block's plane without its halo.
func (l *LineLayout) area(rows int) lineArea { return lineArea{l.W, rows, 2 * l.Halo} }

// extent is the values from the first to the last.
func (r lineArea) extent() int { return (r.rows*(r.width+r.skip) - r.skip) * BF16Lanes }

// runs calls f for stretches of up to 64 lines, at values from the first.
func (r lineArea) runs(f func(at, many int)) {
	for i := range r.rows {
		for w := 0; w < r.width; w += pixelRun {
			f((i*(r.width+r.skip)+w)*BF16Lanes, min(pixelRun, r.width-w))
		}
	}
}

// halfSums is two sums of each channel of a line: of channels 0 to 15 and of 16 to 31.
type halfSums [2][2 * Block]float32

// load widens many lines from x on.
func (p *pixels) loadLines(x []uint16, many int) { widen(p[0][:], p[1][:], x, many, Block) }

// storeLines is the reverse of loadLines.
func (p *pixels) storeLines(y []uint16, many int) { narrow(y, p[0][:], p[1][:], many, Block) }

// sumSquaresBF16Go adds d = x-shift and d*d to the sums.
func sumSquaresBF16Go(sums *halfSums, x []uint16, shift *[2][Block]float32, r lineArea) {
	var v pixels
	r.runs(func(at, many int) {
		v.loadLines(x[at:], many)
		for t := range sums {
			sumSquares(&sums[t], v[t][:many*Block], &shift[t])
		}
	})
}

// normalizeBF16Go is normalizeGo on lines; res may be nil.
func normalizeBF16Go(y, x, res []uint16, coef *[2][3 * Block]float32, r lineArea, relu bool) {
	var v, w pixels
	r.runs(func(at, many int) {
		v.loadLines(x[at:], many)
		if res != nil {
			w.loadLines(res[at:], many)
		}
		for t := range v {
			var more []float32
			if res != nil {
				more = w[t][:]
			}
			normalize(v[t][:], v[t][:], more, &coef[t], rect{many * Block, 1, 0}, relu)
		}
		v.storeLines(y[at:], many)
	})
}

// sumProductsBF16Go adds dy and dy*(x-mean), where the mask lets them through, to the sums; coef
// is mean, factor and bias.
func sumProductsBF16Go(sums *halfSums, dy, x []uint16, mask MaskBF16, coef *[2][3 * Block]float32,
	r lineArea) {
	var d, v, m pixels
	r.runs(func(at, many int) {
		d.loadLines(dy[at:], many)
		v.loadLines(x[at:], many)
		if mask.Y != nil {
			m.loadLines(mask.Y[at:], many)
		}
		all := rect{many * Block, 1, 0}
		for t := range sums {
			mean := (*[Block]float32)(coef[t][:])
			switch {
			case mask.Bias != nil:
				sumProductsRelu(&sums[t], d[t][:], v[t][:], &coef[t], all)
			case mask.Y != nil:
				sumProducts(&sums[t], d[t][:], v[t][:], m[t][:], mean, all)
			default:
				sumProducts(&sums[t], d[t][:], v[t][:], nil, mean, all)
			}
		}
	})
}

// normalizeBackwardBF16Go is normalizeBackwardGo, or normalizeBackwardReluGo, on lines.
func normalizeBackwardBF16Go(dx, dy, x []uint16, mask MaskBF16, coef *[2][5 * Block]float32, r lineArea) {
	var d, v, m pixels
	r.runs(func(at, many int) {
		d.loadLines(dy[at:], many)
		v.loadLines(x[at:], many)
		if mask.Y != nil {
			m.loadLines(mask.Y[at:], many)
		}
		all := rect{many * Block, 1, 0}
		for t := range d {
			four := (*[4 * Block]float32)(coef[t][:])
			switch {
			case mask.Bias != nil:
				normalizeBackwardRelu(d[t][:], d[t][:], v[t][:], &coef[t], all)
			case mask.Y != nil:
				normalizeBackward(d[t][:], d[t][:], v[t][:], m[t][:], four, all)
			default:
				normalizeBackward(d[t][:], d[t][:], v[t][:], nil, four, all)
			}
		}
		d.storeLines(dx[at:], many)
	})
}

// addBF16Go computes y = a + b, with relu max(a + b, 0), of whole lines.
func addBF16Go(y, a, b []uint16, relu bool) {
	var v, w [lineRun]float32
	for len(a) > 0 {
		n := min(len(a), lineRun)
		FromBF16(v[:n], a[:n])
		FromBF16(w[:n], b[:n])
		Add(v[:n], v[:n], w[:n])
		if relu {
			Relu(v[:n], v[:n])
		}
		ToBF16(y[:n], v[:n])
		y, a, b = y[n:], a[n:], b[n:]
	}
}

// reluBF16Go computes y = max(x, 0).
func reluBF16Go(y, x []uint16) {
	var v [lineRun]float32
	for len(x) > 0 {
		n := min(len(x), lineRun)
		FromBF16(v[:n], x[:n])
		Relu(v[:n], v[:n])
		ToBF16(y[:n], v[:n])
		y, x = y[n:], x[n:]
	}
}

// reluGradBF16Go computes dx = dy where y > 0, else 0.
func reluGradBF16Go(dx, dy, y []uint16) {
	var d, v [lineRun]float32
	for len(dy) > 0 {
		n := min(len(dy), lineRun)
		FromBF16(d[:n], dy[:n])
		FromBF16(v[:n], y[:n])
		ReluGrad(d[:n], d[:n], v[:n])
		ToBF16(dx[:n], d[:n])
		dx, dy, y = dx[n:], dy[n:], y[n:]
	}
}
