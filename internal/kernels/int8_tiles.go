package kernels

import (
	"fmt"
	"math"
)

// Quantized is how a map or matrix of bytes stands for real numbers: unsigned or signed, with a zero point.
// Slices of either are []uint8.
type Quantized struct {
	Signed bool
	Zero   int32
}

// limits are the least and the largest value.
func (q Quantized) limits() (low, high int32) {
	if q.Signed {
		return math.MinInt8, math.MaxInt8
	}
	return 0, math.MaxUint8
}

func (q Quantized) valid() error {
	if low, high := q.limits(); q.Zero < low || q.Zero > high {
		return fmt.Errorf("kernels: zero point %d is not in [%d,%d]", q.Zero, low, high)
	}
	return nil
}

// value is a byte as a number.
func (q Quantized) value(b uint8) int32 {
	if q.Signed {
		return int32(int8(b))
	}
	return int32(b)
}

// Requantize is what a product of bytes does to its int32 sums: start from the bias (as Pack returns it,
// padded with zeros to a multiple of 32), multiply with the scale of the output (finite, padded alike), round
// to nearest, ties to even, add the output's zero point, and saturate to [Low, High] of the quantized values,
// or to all of them where both are 0.
type Requantize struct {
	Bias      []int32
	Scale     []float32
	Low, High int32
}

// int8Call is a product of tiles of bytes: blocks [lo, hi) of t for 32 outputs.
type int8Call struct {
	t           *tiling
	lo, hi      int
	x, w        []uint8
	bias        []int32   // 32
	scale       []float32 // 32
	y           []uint8
	out         []int32 // the sums themselves, instead of y
	apart       int     // bytes of out from the first 16 outputs to the second
	from, to    Quantized
	least, most float32 // of the scaled sums, before the zero point is added
	scratch     []float32
	next        []uint8 // of which each step fetches lines: the weights of the next call
	lines       int
}

// bounds sets the limits of the scaled sums.
func (a *int8Call) bounds(e *Requantize) {
	low, high := a.to.limits()
	if e.Low != 0 || e.High != 0 {
		low, high = max(low, e.Low), min(high, e.High)
	}
	a.least, a.most = float32(low-a.to.Zero), float32(high-a.to.Zero)
}

// check panics where the call would leave a slice: the assembly does not look.
func (a *int8Call) check() {
	t := a.t
	_, _, _ = a.x[:t.reach], a.w[:len(t.steps)*stepSize], a.bias[:tileOuts]
	_, _ = t.origins[a.lo*t.m:a.hi*t.m], t.places[a.lo*t.m*tileRows:a.hi*t.m*tileRows]
	_ = a.scratch[:tileScratch]
	if a.out != nil {
		_ = a.out[:(t.extent+a.apart)/4]
		return
	}
	_, _ = a.y[:t.extent-tileOuts], a.scale[:tileOuts]
}

// run computes the call.
func (a *int8Call) run() {
	if a.lo >= a.hi {
		return
	}
	a.check()
	switch {
	case useAMX():
		a.amx()
	case useVNNI():
		a.vnni()
	default:
		a.runGo()
	}
}

// runGo computes, for every pixel i of every tile and o < 32,
//
//	sum = bias[o] + sum over steps s, k < 64 of x[origin + i stride + steps[s] + k] * w[s][o/16][k/4][o%16][k%4]
//
// and stores it, or requantized, at the pixel's place. Sums wrap around.
func (a *int8Call) runGo() {
	t := a.t
	for i := a.lo * t.m; i < a.hi*t.m; i++ {
		for row := range t.rows {
			if place := int(t.places[i*tileRows+row]); place >= 0 {
				sums := a.sums(t.origins[i] + row*t.stride)
				a.finish(&sums, place)
			}
		}
	}
}

// sums are those of the pixel at the byte at of x.
func (a *int8Call) sums(at int) [tileOuts]int32 {
	sums := [tileOuts]int32(a.bias)
	for s, step := range a.t.steps {
		w := a.w[s*stepSize:][:stepSize]
		for k, b := range a.x[at+step:][:Int8Lanes] {
			v := a.from.value(b)
			for t := range 2 {
				row := w[t*stepSize/2+k/4*lineBytes+k%4:][:lineBytes-3]
				for o := range Block {
					sums[t*Block+o] += v * int32(int8(row[4*o]))
				}
			}
		}
	}
	return sums
}

func (a *int8Call) finish(sums *[tileOuts]int32, place int) {
	for o, v := range sums {
		switch {
		case a.out == nil:
			a.y[place+o] = a.requantize(v, a.scale[o])
		case o < Block:
			a.out[place/4+o] = v
		case a.apart > 0:
			a.out[(place+a.apart)/4+o-Block] = v
		}
	}
}

func (a *int8Call) requantize(sum int32, scale float32) uint8 {
	v := min(max(float32(sum)*scale, a.least), a.most)
	return uint8(int32(math.RoundToEven(float64(v))) + a.to.Zero)
}

// packedInt8 is where the weight of output o and the k-th value of its reduction lies, of so many steps.
func packedInt8(o, k, steps int) int {
	step := o/tileOuts*steps + k/Int8Lanes
	return step*stepSize + o%tileOuts/Block*stepSize/2 + k%Int8Lanes/4*lineBytes + o%Block*4 + k%4
}
