package kernels

import "math"

// EpilogueBF16 is what a product in bf16 does to its float32 sums before it rounds or stores them: add the
// bias (nil, or float32 padded with zeros to a multiple of 32) and the residual (nil, or of the output's
// layout, with a bf16 output alone), then clip at zero and at High, then take the gate of it (nil for none;
// products of tiles take none with a residual or a float32 output).
type EpilogueBF16 struct {
	Bias     []float32
	Residual []uint16
	ReLU     bool
	High     float32 // where ReLU clips above, 0 for nowhere
	Gate     *Gate
}

// bounds are those of the result: infinite where nothing is clipped.
func (e *EpilogueBF16) bounds() (low, high float32) {
	low, high = float32(math.Inf(-1)), float32(math.Inf(1))
	if e.ReLU {
		low = 0
		if e.High > 0 {
			high = e.High
		}
	}
	return low, high
}

// bf16Call is a product of tiles: blocks [lo, hi) of t for 32 outputs.
type bf16Call struct {
	t         *tiling
	lo, hi    int
	x, w      []uint16
	bias      []float32 // 32, or with more 32 a pixel in order
	more      bool      // continue sums
	y, res    []uint16  // res may be nil
	out       []float32 // instead of y
	apart     int       // bytes of out from the first 16 outputs to the second; 0: nobody wants those
	low, high float32
	gate      *Gate
	scratch   []float32
	next      []uint16 // of which each step fetches lines: the weights of the next call
	lines     int
}

var noBias [tileOuts]float32

// biasOf is the bias of group o of outputs.
func biasOf(bias []float32, o int) []float32 {
	if bias == nil {
		return noBias[:]
	}
	return bias[o*tileOuts:][:tileOuts]
}

// check panics where the call would leave a slice: the assembly does not look.
func (a *bf16Call) check() {
	t := a.t
	_, _, _ = a.x[:(t.reach+1)/2], a.w[:len(t.steps)*stepSize/2], a.bias[:tileOuts]
	if a.more {
		_ = a.bias[:(a.hi-a.lo)*t.m*tileRows*tileOuts]
	}
	_, _ = t.origins[a.lo*t.m:a.hi*t.m], t.places[a.lo*t.m*tileRows:a.hi*t.m*tileRows]
	_ = a.scratch[:tileScratch]
	if a.gate != nil && (a.out != nil || a.res != nil) {
		panic("kernels: a gate of float32 or with a residual")
	}
	if a.out != nil {
		_ = a.out[:(t.extent+max(a.apart, 0)+3)/4]
		return
	}
	_ = a.y[:t.extent/2]
	if a.res != nil {
		_ = a.res[:t.extent/2]
	}
}

// run computes the call.
func (a *bf16Call) run() {
	if a.lo >= a.hi {
		return
	}
	a.check()
	if useAMX() {
		a.amx()
		return
	}
	a.runGo()
}

// runGo computes, for every pixel i of every tile and o < 32,
//
//	sum = bias[o] + sum over steps s, k < 32 of x[origin/2 + i stride/2 + steps[s]/2 + k] * w[s][o/16][k/2][o%16][k%2]
//
// in the order of TDPBF16PS, adds the residual, clips and stores at the pixel's place.
func (a *bf16Call) runGo() {
	t := a.t
	for i := a.lo * t.m; i < a.hi*t.m; i++ {
		for row := range t.rows {
			if place := int(t.places[i*tileRows+row]); place >= 0 {
				sums := [tileOuts]float32(a.bias)
				if a.more {
					sums = [tileOuts]float32(a.bias[((i-a.lo*t.m)*tileRows+row)*tileOuts:])
				}
				a.sum(&sums, t.origins[i]+row*t.stride)
				a.finish(&sums, place)
			}
		}
	}
}

// sum adds the products of the pixel at the byte at of x.
func (a *bf16Call) sum(sums *[tileOuts]float32, at int) {
	for s, step := range a.t.steps {
		dotBF16(sums, a.x[(at+step)/2:], a.w[s*stepSize/2:])
	}
}

func (a *bf16Call) finish(sums *[tileOuts]float32, place int) {
	for o, v := range sums {
		if a.res != nil {
			v += fromBF16(a.res[place/2+o])
		}
		v = finishBF16(v, a.low, a.high, a.gate)
		switch {
		case a.out == nil:
			a.y[place/2+o] = toBF16(v)
		case o < Block:
			a.out[place/4+o] = v
		case a.apart > 0:
			a.out[(place+a.apart)/4+o-Block] = v
		}
	}
}

// finishBF16 clips and takes the gate.
func finishBF16(v, low, high float32, g *Gate) float32 {
	if v < low {
		v = low
	}
	if v > high {
		v = high
	}
	if g != nil {
		v = g.at(v)
	}
	return v
}
