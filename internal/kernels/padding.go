package kernels

import "fmt"

// Padding is a planned frame of one number around a plain array.
type Padding struct {
	x, y, begin []int
	own         []int // strides of x
	rows        runs  // of y
}

// NewPadding plans the copy of an array of dims x into one of dims y, begin places from
// its start along each axis.
func NewPadding(x, y, begin []int) (*Padding, error) {
	k := &Padding{x: x, y: y, begin: begin, own: strides(x)}
	rank, many := len(y), 1
	if rank == 0 || rank > maxAxes || len(x) != rank || len(begin) != rank {
		return nil, fmt.Errorf("kernels: padding of %v to %v", x, y)
	}
	for i, d := range y {
		if begin[i] < 0 || x[i] <= 0 || begin[i]+x[i] > d {
			return nil, fmt.Errorf("kernels: %v from %v on does not lie in %v", x, begin, y)
		}
		if i < rank-1 {
			many *= d
		}
	}
	k.rows = newRuns(many, y[rank-1])
	k.rows.parts = 1
	return k, nil
}

// Chunks is the number of chunks of Run.
func (k *Padding) Chunks() int { return k.rows.chunks() }

// Run computes a part of y.
func (k *Padding) Run(chunk int, y, x []float32, value float32) {
	lo, hi, _, _ := k.rows.share(chunk)
	last := len(k.y) - 1
	for r := lo; r < hi; r++ {
		row := y[r*k.y[last]:][:k.y[last]]
		at, inside := k.row(r)
		if !inside {
			fill(row, value)
			continue
		}
		b := k.begin[last]
		fill(row[:b], value)
		copy(row[b:], x[at:at+k.x[last]])
		fill(row[b+k.x[last]:], value)
	}
}

// row is where row r of y has its numbers in x; inside is false where it has none.
func (k *Padding) row(r int) (at int, inside bool) {
	for i := len(k.y) - 2; i >= 0; i-- {
		index := r%k.y[i] - k.begin[i]
		r /= k.y[i]
		if index < 0 || index >= k.x[i] {
			return 0, false
		}
		at += index * k.own[i]
	}
	return at, true
}
