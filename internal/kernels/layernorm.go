package kernels

import "math"

// LayerNorm computes y = (x-mean)/sqrt(variance+eps)*scale + bias over a row and gives mean and inverse
// deviation; bias may be nil. y may be x.
func LayerNorm(y, x, scale, bias []float32, eps float32) (mean, inv float32) {
	mean, inv = RowMoments(x, eps)
	rowNormal(y, x, scale, bias, mean, inv)
	return mean, inv
}

// RowMoments is the mean of a row and 1/sqrt(variance+eps).
func RowMoments(x []float32, eps float32) (mean, inv float32) {
	n := float64(len(x))
	mu := RowSum(x) / n
	mean = float32(mu)
	d := mu - float64(mean)
	variance := max(0, RowSquares(x, mean)/n-d*d)
	return mean, float32(1 / math.Sqrt(variance+float64(eps)))
}

// RowInverse is 1/sqrt(mean((x-shift)*(x-shift))+eps) of a row.
func RowInverse(x []float32, shift, eps float32) float32 {
	return float32(1 / math.Sqrt(RowSquares(x, shift)/float64(len(x))+float64(eps)))
}

// RMSNorm computes y = x/sqrt(mean(x*x)+eps)*scale over a row and gives the factor that x was
// multiplied by. y may be x.
func RMSNorm(y, x, scale []float32, eps float32) (inv float32) {
	inv = RowInverse(x, 0, eps)
	rowNormal(y, x, scale, nil, 0, inv)
	return inv
}

// rowNormal computes y = (x-mean)*inv*scale + bias; bias may be nil.
func rowNormal(y, x, scale, bias []float32, mean, inv float32) {
	y, scale = y[:len(x)], scale[:len(x)]
	h, n := [2]float32{mean, inv}, 0
	for ; current != levelGo && len(x)-n >= Block; n += whole(len(x) - n) {
		var b *float32
		if bias != nil {
			b = &bias[:len(x)][n]
		}
		rowNormalBlocks(&y[n], &x[n], &scale[n], b, &h[0], whole(len(x)-n)/Block)
	}
	for i := n; i < len(x); i++ {
		v := float32(float32((x[i]-mean)*inv) * scale[i])
		if bias != nil {
			v += bias[i]
		}
		y[i] = v
	}
}

// LayerNormGrad computes the gradient of x, given what LayerNorm gave:
//
//	dx = inv*(g - mean(g) - (x-mean)*inv*inv*mean(g*(x-mean))) for g = dy*scale
//
// dx may be dy or x.
func LayerNormGrad(dx, dy, x, scale []float32, mean, inv float32) {
	n := float64(len(x))
	sum, product := rowNormalSums(dy, x, scale, mean)
	i := float64(inv)
	gradRowNormal(dx, dy, x, scale, &[4]float32{mean, inv, float32(-i * i * i * product / n),
		float32(-i * sum / n)})
}

// RMSNormGrad computes the gradient of x: dx = inv*(g - x*inv*inv*mean(g*x)) for g =
// dy*scale. dx may be dy or x.
func RMSNormGrad(dx, dy, x, scale []float32, inv float32) {
	_, product := rowNormalSums(dy, x, scale, 0)
	i := float64(inv)
	gradRowNormal(dx, dy, x, scale, &[4]float32{0, inv, float32(-i * i * i * product / float64(len(x))), 0})
}

// rowNormalSums is the sums of d = dy*scale and of d*(x-mean).
func rowNormalSums(dy, x, scale []float32, mean float32) (sum, product float64) {
	dy, scale = dy[:len(x)], scale[:len(x)]
	eachBlocks(len(x), func(lo, hi int) {
		var s [2 * Block]float32
		if hi-lo >= Block && current != levelGo {
			rowNormalSumsBlocks(&s[0], &dy[lo], &x[lo], &scale[lo], &mean, (hi-lo)/Block)
		} else {
			for i := range hi - lo {
				d := float32(dy[lo+i] * scale[lo+i])
				s[i%Block] += d
				s[Block+i%Block] += float32(d * (x[lo+i] - mean))
			}
		}
		sum += lanesSum((*[Block]float32)(s[:]))
		product += lanesSum((*[Block]float32)(s[Block:]))
	})
	return sum, product
}

// gradRowNormal computes dx = dy*scale*h[1] + (x-h[0])*h[2] + h[3].
func gradRowNormal(dx, dy, x, scale []float32, h *[4]float32) {
	dx, dy, scale = dx[:len(x)], dy[:len(x)], scale[:len(x)]
	n := 0
	for ; current != levelGo && len(x)-n >= Block; n += whole(len(x) - n) {
		gradRowNormalBlocks(&dx[n], &dy[n], &x[n], &scale[n], &h[0], whole(len(x)-n)/Block)
	}
	for i := n; i < len(x); i++ {
		v := float32(float32(dy[i]*scale[i]) * h[1])
		dx[i] = v + float32((x[i]-h[0])*h[2]) + h[3]
	}
}

// LayerNormWeights adds a row's share to the gradients of scale and bias: dscale += dy*(x-mean)*inv and dbias
// += dy; dbias may be nil. With mean 0 it is RMSNorm's.
func LayerNormWeights(dscale, dbias, dy, x []float32, mean, inv float32) {
	dscale, dy = dscale[:len(x)], dy[:len(x)]
	h, n := [2]float32{mean, inv}, 0
	for ; current != levelGo && len(x)-n >= Block; n += whole(len(x) - n) {
		var b *float32
		if dbias != nil {
			b = &dbias[:len(x)][n]
		}
		rowNormalWeightsBlocks(&dscale[n], b, &dy[n], &x[n], &h[0], whole(len(x)-n)/Block)
	}
	for i := n; i < len(x); i++ {
		dscale[i] += float32(float32((x[i]-mean)*inv) * dy[i])
		if dbias != nil {
			dbias[i] += dy[i]
		}
	}
}

// mostNormRow is the longest row whose sums LayerNormRows takes in float32.
const mostNormRow = 4096

// LayerNormRows is LayerNorm of rows of cols floats that follow one another, without their
// statistics. Rows of whole blocks have sums of 16 lanes in float32; the sum of what differs from a
// rounded mean sets that right.
func LayerNormRows(y, x, scale, bias []float32, rows, cols int, eps float32) {
	if cols%Block != 0 || cols > mostNormRow || bias == nil {
		for r := range rows {
			LayerNorm(y[r*cols:][:cols], x[r*cols:][:cols], scale, bias, eps)
		}
		return
	}
	if rows == 0 || cols == 0 {
		return
	}
	h := [2]float32{eps, 1 / float32(cols)}
	y, x, scale, bias = y[:rows*cols], x[:rows*cols], scale[:cols], bias[:cols]
	if current == levelGo {
		for r := range rows {
			layerNormRowGo(y[r*cols:][:cols], x[r*cols:][:cols], scale, bias, h)
		}
		return
	}
	layerNormRowsBlocks(&y[0], &x[0], &scale[0], &bias[0], &h[0], cols/Block, rows)
}

// layerNormRowGo computes y = (x-mean)/sqrt(variance+h[0])*scale + bias over a row, h[1]
// being one over its length.
func layerNormRowGo(y, x, scale, bias []float32, h [2]float32) {
	add := func(a, b float32) float32 { return a + b }
	var sums, rests, squares [Block]float32
	for i, v := range x {
		sums[i%Block] += v
	}
	foldLanes(&sums, add)
	mean := float32(sums[0] * h[1])
	for i, v := range x {
		d := v - mean
		rests[i%Block] += d
		squares[i%Block] += float32(d * d)
	}
	foldLanes(&rests, add)
	foldLanes(&squares, add)
	rest := float32(rests[0] * h[1])
	variance := float32(squares[0]*h[1]) - float32(rest*rest)
	inverse := 1 / float32(math.Sqrt(float64(atLeast(0, variance)+h[0])))
	for i, v := range x {
		y[i] = float32(float32((v-mean-rest)*inverse)*scale[i]) + bias[i]
	}
}
