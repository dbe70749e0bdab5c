package kernels

// Operation is a function of two elements.
type Operation int

// The operations. Max and Min of a NaN are NaN.
const (
	OpAdd Operation = iota
	OpSub
	OpMul
	OpDiv
	OpMax
	OpMin
	OpPRelu   // a where a >= 0, else a*b
	OpSubFrom // b - a
	OpDivInto // b / a
	operationCount
)

// Swapped is the operation that does with (b, a) what o does with (a, b); ok is false for PRelu.
func (o Operation) Swapped() (swapped Operation, ok bool) {
	switch o {
	case OpAdd, OpMul, OpMax, OpMin:
		return o, true
	case OpSub:
		return OpSubFrom, true
	case OpDiv:
		return OpDivInto, true
	case OpSubFrom:
		return OpSub, true
	case OpDivInto:
		return OpDiv, true
	}
	return o, false
}

// scalar computes one element.
func (o Operation) scalar(a, b float32) float32 {
	switch o {
	case OpAdd:
		return a + b
	case OpSub:
		return a - b
	case OpMul:
		return a * b
	case OpDiv:
		return a / b
	case OpMax:
		return max(a, b)
	case OpMin:
		return min(a, b)
	case OpPRelu:
		if a < 0 {
			return a * b
		}
		return a
	case OpSubFrom:
		return b - a
	case OpDivInto:
		return b / a
	}
	panic("kernels: no such operation")
}

// pairGo computes y = a op b.
func (o Operation) pairGo(y, a, b []float32) {
	a, b = a[:len(y)], b[:len(y)]
	for i, v := range a {
		y[i] = o.scalar(v, b[i])
	}
}

// lanesGo computes y[i] = a[i] op b[i%16].
func (o Operation) lanesGo(y, a []float32, b *[Block]float32) {
	for i, v := range a[:len(y)] {
		y[i] = o.scalar(v, b[i%Block])
	}
}

// Pair computes y = a op b; y may be a or b.
func (o Operation) Pair(y, a, b []float32) {
	a, b = a[:len(y)], b[:len(y)]
	if current == levelGo {
		o.pairGo(y, a, b)
		return
	}
	for n := whole(len(y)); n > 0; n = whole(len(y)) {
		pairBlocks(o, &y[0], &a[0], &b[0], n/Block)
		y, a, b = y[n:], a[n:], b[n:]
	}
	o.pairGo(y, a, b)
}

// Lanes computes y[i] = a[i] op b[i%16]: a map's pixels with a number for each channel
// of the block. y may be a.
func (o Operation) Lanes(y, a []float32, b *[Block]float32) {
	a = a[:len(y)]
	if current == levelGo {
		o.lanesGo(y, a, b)
		return
	}
	for n := whole(len(y)); n > 0; n = whole(len(y)) {
		lanesBlocks(o, &y[0], &a[0], &b[0], n/Block)
		y, a = y[n:], a[n:]
	}
	o.lanesGo(y, a, b)
}

// Scalar computes y = a op b; y may be a.
func (o Operation) Scalar(y, a []float32, b float32) {
	lanes := spread(b)
	o.Lanes(y, a, &lanes)
}

// spread is v in every lane.
func spread(v float32) (lanes [Block]float32) {
	for i := range lanes {
		lanes[i] = v
	}
	return lanes
}
