package kernels

import "math"

// The kernels of this file work on rows: the last axis of a plain value. Sums over a row have 16 lanes, lane
// o taking every 16th element from o on, in float32 over a stretch and in float64 over those, so that every
// level gives the same bits.

// lanesSum adds lanes up in a fixed order.
func lanesSum(s *[Block]float32) float64 {
	sum := 0.0
	for _, v := range s {
		sum += float64(v)
	}
	return sum
}

// eachBlocks calls f for stretches of whole blocks of n floats, lo to hi, and then for the
// rest, shorter than a block.
func eachBlocks(n int, f func(lo, hi int)) {
	for lo := 0; lo < n; {
		size := whole(n - lo)
		if size == 0 {
			size = n - lo
		}
		f(lo, lo+size)
		lo += size
	}
}

// padded is a rest of a row, filled up to a block.
func padded(x []float32, fill float32) (p [Block]float32) {
	n := copy(p[:], x)
	for i := n; i < Block; i++ {
		p[i] = fill
	}
	return p
}

// RowSum is the sum of a row.
func RowSum(x []float32) float64 {
	sum := 0.0
	eachBlocks(len(x), func(lo, hi int) {
		var s [Block]float32
		if part := x[lo:hi]; current != levelGo && len(part) >= Block {
			rowSumBlocks(&s[0], &part[0], len(part)/Block)
		} else {
			for i, v := range part {
				s[i%Block] += v
			}
		}
		sum += lanesSum(&s)
	})
	return sum
}

// RowMax is the largest element of a row that is not empty; NaN wins.
func RowMax(x []float32) float32 {
	s := spread(-inf32)
	eachBlocks(len(x), func(lo, hi int) {
		if part := x[lo:hi]; current != levelGo && len(part) >= Block {
			rowMaxBlocks(&s[0], &part[0], len(part)/Block)
		} else {
			for i, v := range part {
				s[i%Block] = max(s[i%Block], v)
			}
		}
	})
	top := s[0]
	for _, v := range s {
		top = max(top, v)
	}
	return top
}

// RowMin is the smallest element of a row that is not empty; NaN wins.
func RowMin(x []float32) float32 {
	s := spread(inf32)
	eachBlocks(len(x), func(lo, hi int) {
		if part := x[lo:hi]; current != levelGo && len(part) >= Block {
			rowMinBlocks(&s[0], &part[0], len(part)/Block)
		} else {
			for i, v := range part {
				s[i%Block] = min(s[i%Block], v)
			}
		}
	})
	least := s[0]
	for _, v := range s {
		least = min(least, v)
	}
	return least
}

// RowSquares is the sum of the squares of x-shift.
func RowSquares(x []float32, shift float32) float64 {
	sum := 0.0
	eachBlocks(len(x), func(lo, hi int) {
		var s [Block]float32
		if part := x[lo:hi]; current != levelGo && len(part) >= Block {
			rowSquaresBlocks(&s[0], &part[0], &shift, len(part)/Block)
		} else {
			for i, v := range part {
				d := v - shift
				s[i%Block] += float32(d * d)
			}
		}
		sum += lanesSum(&s)
	})
	return sum
}

// RowProducts is the sum of x*y.
func RowProducts(x, y []float32) float64 {
	y = y[:len(x)]
	sum := 0.0
	eachBlocks(len(x), func(lo, hi int) {
		var s [Block]float32
		if part := x[lo:hi]; current != levelGo && len(part) >= Block {
			rowProductsBlocks(&s[0], &part[0], &y[lo], len(part)/Block)
		} else {
			for i, v := range part {
				s[i%Block] += float32(v * y[lo+i])
			}
		}
		sum += lanesSum(&s)
	})
	return sum
}

// rowExp computes y = exp(x-shift) and gives the sum of y; y may be nil, where the sum alone is wanted.
func rowExp(y, x []float32, shift float32) float64 {
	sum := 0.0
	eachBlocks(len(x), func(lo, hi int) {
		var s [Block]float32
		part, to := x[lo:hi], []float32(nil)
		if y != nil {
			to = y[lo:hi]
		}
		switch {
		case current == levelGo:
			rowExpGo(&s, to, part, shift)
		case len(part) < Block:
			p := padded(part, -inf32)
			rowExpBlocks(&s[0], &p[0], &p[0], &shift, 1)
			copy(to, p[:])
		case y == nil:
			rowExpSumBlocks(&s[0], &part[0], &shift, len(part)/Block)
		default:
			rowExpBlocks(&s[0], &to[0], &part[0], &shift, len(part)/Block)
		}
		sum += lanesSum(&s)
	})
	return sum
}

// rowExpGo adds exp(x-shift) to the lanes, and stores it unless y is nil.
func rowExpGo(s *[Block]float32, y, x []float32, shift float32) {
	for i, v := range x {
		e := exp32(v - shift)
		if y != nil {
			y[i] = e
		}
		s[i%Block] += e
	}
}

// paddedRow is the longest row, in floats, that one routine takes through all of its passes.
const paddedRow = 2048

// SoftmaxRows computes y = exp(x-max)/sum(exp(x-max)) over every row of x [rows,cols]; y may be x.
func SoftmaxRows(y, x []float32, rows, cols int) {
	switch {
	case cols > paddedRow:
		for r := range rows {
			longSoftmax(y[r*cols:][:cols], x[r*cols:][:cols])
		}
	case cols%Block == 0:
		for r := range rows {
			softmaxRow(y[r*cols:][:cols], x[r*cols:][:cols])
		}
	default:
		shortSoftmax(y, x, rows, cols)
	}
}

// shortSoftmax fills rows up to whole blocks.
func shortSoftmax(y, x []float32, rows, cols int) {
	var row [paddedRow]float32
	part := row[:(cols+Block-1)/Block*Block]
	for r := range rows {
		copy(part, x[r*cols:][:cols])
		fill(part[cols:], -inf32)
		softmaxRow(part, part)
		copy(y[r*cols:][:cols], part)
	}
}

// longSoftmax is the softmax of a row with its sum in float64.
func longSoftmax(y, x []float32) {
	OpMul.Scalar(y, y, float32(1/rowExp(y, x, RowMax(x))))
}

// softmaxRow computes y = exp(x-max)/sum(exp(x-max)) over a row of whole blocks.
func softmaxRow(y, x []float32) {
	if len(x) == 0 {
		return
	}
	if current != levelGo {
		softmaxRowBlocks(&y[:len(x)][0], &x[0], len(x)/Block)
		return
	}
	top, sums := spread(-inf32), [Block]float32{}
	for i, v := range x {
		top[i%Block] = max(top[i%Block], v)
	}
	foldLanes(&top, func(a, b float32) float32 { return max(a, b) })
	rowExpGo(&sums, y, x, top[0])
	foldLanes(&sums, func(a, b float32) float32 { return a + b })
	inverse := 1 / sums[0]
	for i := range x {
		y[i] *= inverse
	}
}

// foldLanes combines halves with halves until the first lane has all.
func foldLanes(s *[Block]float32, f func(a, b float32) float32) {
	for n := Block / 2; n > 0; n /= 2 {
		for i := range n {
			s[i] = f(s[i], s[i+n])
		}
	}
}

// LogSoftmaxRows computes y = (x - max) - log(sum(exp(x-max))) over every row of x [rows,cols]; y may be x.
// The maximum goes first: the rounding of a sum of it and the logarithm, shared by the row, would leave
// exponentials whose sum is not 1.
func LogSoftmaxRows(y, x []float32, rows, cols int) {
	switch {
	case cols == 0:
	case cols < Block:
		shortLogSoftmax(y, x, rows, cols)
	default:
		for r := range rows {
			logSoftmaxRow(y[r*cols:][:cols], x[r*cols:][:cols])
		}
	}
}

func logSoftmaxRow(y, x []float32) {
	top := RowMax(x)
	log := float32(math.Log(rowExp(nil, x, top)))
	OpSub.Scalar(y, x, top)
	OpSub.Scalar(y, y, log)
}

// shortLogSoftmax takes several rows of less than a block, such as the scores of ten classes, through one
// call of a kernel, each filled up to a block: one row alone would wait for the latency of its exponential.
func shortLogSoftmax(y, x []float32, rows, cols int) {
	const together = 16
	var exps [together * Block]float32
	for lo := 0; lo < rows; lo += together {
		hi := min(rows, lo+together)
		for r := lo; r < hi; r++ {
			row := x[r*cols:][:cols]
			top := row[0]
			for _, v := range row {
				top = max(top, v)
			}
			to := exps[(r-lo)*Block:][:Block]
			for i, v := range row {
				y[r*cols+i] = v - top
				to[i] = v - top
			}
			fill(to[cols:], -inf32)
		}
		part := exps[:(hi-lo)*Block]
		rowExp(part, part, 0)
		for r := lo; r < hi; r++ {
			log := float32(math.Log(lanesSum((*[Block]float32)(exps[(r-lo)*Block:]))))
			row := y[r*cols:][:cols]
			for i := range row {
				row[i] -= log
			}
		}
	}
}

// SoftmaxGrad computes dx = y*(dy - sum(dy*y)) over a row; dx may be dy or y.
func SoftmaxGrad(dx, dy, y []float32) {
	sum := float32(RowProducts(dy, y))
	n := 0
	if dx = dx[:len(dy)]; current != levelGo {
		for ; len(dx)-n >= Block; n += whole(len(dx) - n) {
			gradSoftmaxBlocks(&dx[n], &dy[n], &y[n], &sum, whole(len(dx)-n)/Block)
		}
	}
	for i := n; i < len(dx); i++ {
		dx[i] = (dy[i] - sum) * y[i]
	}
}

// LogSoftmaxGrad computes dx = dy - exp(y)*sum(dy) over a row; dx may be dy or y.
func LogSoftmaxGrad(dx, dy, y []float32) {
	sum := float32(RowSum(dy))
	n := 0
	if dx = dx[:len(dy)]; current != levelGo {
		for ; len(dx)-n >= Block; n += whole(len(dx) - n) {
			gradLogSoftmaxBlocks(&dx[n], &dy[n], &y[n], &sum, whole(len(dx)-n)/Block)
		}
	}
	for i := n; i < len(dx); i++ {
		dx[i] = dy[i] - float32(exp32(y[i])*sum)
	}
}

// columns is the number of columns that SoftmaxColumns takes at a time.
const columns = 512

// SoftmaxColumns computes the softmax, or its logarithm, of columns [lo, hi) of x [count,inner], down the
// columns: over an axis that is not the last. y may be x.
func SoftmaxColumns(y, x []float32, count, inner, lo, hi int, logarithm bool) {
	var top, sum, part [columns]float32
	for ; lo < hi && count > 0; lo += columns {
		n := min(columns, hi-lo)
		row := func(m []float32, i int) []float32 { return m[i*inner+lo:][:n] }
		copy(top[:n], row(x, 0))
		for i := 1; i < count; i++ {
			OpMax.Pair(top[:n], top[:n], row(x, i))
		}
		clear(sum[:n])
		for i := range count {
			to := part[:n]
			if !logarithm {
				to = row(y, i)
			}
			OpSub.Pair(to, row(x, i), top[:n])
			expMap.Forward(to, to)
			OpAdd.Pair(sum[:n], sum[:n], to)
		}
		if logarithm {
			logMap.Forward(sum[:n], sum[:n])
		}
		for i := range count {
			if logarithm {
				OpSub.Pair(row(y, i), row(x, i), top[:n])
				OpSub.Pair(row(y, i), row(y, i), sum[:n])
			} else {
				OpDiv.Pair(row(y, i), row(y, i), sum[:n])
			}
		}
	}
}

var expMap, logMap = NewMap(FuncExp), NewMap(FuncLog)
