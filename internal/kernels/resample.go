package kernels

// Taps are the weighted sums of one axis of a resize: output i is the sum over k < Count of
// Weights[i*Count+k] times input Index[i*Count+k]. Nearest has 1 tap of weight 1, linear 2, cubic 4; the
// caller prepares them, weights of positions outside the input moved to the edge or zero.
type Taps struct {
	Count   int
	Index   []int
	Weights []float32
}

// Resample is a planned resize of a blocked map of 16 lanes along H and W.
type Resample struct {
	X, Y    Layout
	rows    Taps // of H
	columns Taps // of W
	offsets []int
	units   int // rows of Y in a chunk
}

// NewResample plans the resize of x to y, by rows along H and by columns along W.
func NewResample(x, y Layout, rows, columns Taps) *Resample {
	r := &Resample{X: x, Y: y, rows: rows, columns: columns, units: y.H}
	for _, i := range columns.Index {
		r.offsets = append(r.offsets, i*Block)
	}
	for r.units > 1 && r.units*y.W*Block > flatFloats {
		r.units = (r.units + 1) / 2
	}
	return r
}

// flatFloats is about the number of floats of a chunk that memory bounds: 128 KiB.
const flatFloats = 1 << 15

func (r *Resample) parts() int { return (r.Y.H + r.units - 1) / r.units }

// Chunks is the number of chunks of Run: some rows of one channel block of an image each.
func (r *Resample) Chunks() int { return r.Y.N * r.Y.Blocks() * r.parts() }

// Scratch is the number of floats of scratch that each worker needs.
func (r *Resample) Scratch() int { return r.X.W * Block }

// Run computes a part of y, halo included.
func (r *Resample) Run(chunk int, scratch, y, x []float32) {
	part, plane := chunk%r.parts(), chunk/r.parts()
	n, b := plane/r.Y.Blocks(), plane%r.Y.Blocks()
	lo, hi := part*r.units, min(r.Y.H, (part+1)*r.units)
	for h := lo; h < hi; h++ {
		from := r.row(n, b, h, scratch, x)
		resample(y[r.Y.at(n, b, h, 0):][:r.Y.W*Block], from, r.offsets, r.columns.Weights, r.columns.Count)
	}
	r.Y.clearHalo(y, n, b, lo, hi)
}

// row is the row of x's width that output row h is made of: one of x as it is, or a weighted sum in scratch.
func (r *Resample) row(n, b, h int, scratch, x []float32) []float32 {
	at := func(k int) []float32 { return x[r.X.at(n, b, r.rows.Index[h*r.rows.Count+k], 0):][:r.X.W*Block] }
	weights := r.rows.Weights[h*r.rows.Count:][:r.rows.Count]
	if len(weights) == 1 && weights[0] == 1 {
		return at(0)
	}
	sum := scratch[:r.X.W*Block]
	Scale(sum, at(0), weights[0])
	for k, w := range weights[1:] {
		Axpy(sum, at(k+1), w)
	}
	return sum
}

// resample computes y[i*16:][:16] as the sum over k < taps of weights[i*taps+k] * x[offsets[i*taps+k]:][:16].
func resample(y, x []float32, offsets []int, weights []float32, taps int) {
	n := len(y) / Block
	offsets, weights = offsets[:n*taps], weights[:n*taps]
	for _, o := range offsets {
		_ = x[o : o+Block]
	}
	if n == 0 || taps == 0 {
		return
	}
	if current != levelGo {
		resampleBlocks(&y[0], &x[0], &offsets[0], &weights[0], n, taps)
		return
	}
	for i := range n {
		to := y[i*Block:][:Block]
		for k := range taps {
			w, from := weights[i*taps+k], x[offsets[i*taps+k]:][:Block]
			for o, v := range from {
				if k == 0 {
					to[o] = w * v
				} else {
					to[o] += float32(w * v)
				}
			}
		}
	}
}
