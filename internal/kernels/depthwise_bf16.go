package kernels

import "fmt"

// DepthwiseBF16 is a planned convolution of maps in bf16 whose channels are groups of their own, of any
// kernel, stride, dilation and pads. Its weights are float32, and so are its sums, to which every product
// is added in one rounding, in the order of the kernel's rows and columns.
//
// Weights are packed [C/32][KH][KW][2][16]: the even channels of a block, then the odd ones.
type DepthwiseBF16 struct {
	spec   ConvBF16Spec
	strips int // of the rows of a plane
	chunks int
}

// linesBF16 is the argument of the assembly, which reads the fields by their place, moves x and y and
// counts rows down. The units are bytes.
type linesBF16 struct {
	x, w, y, res, bias, gate    *byte
	kh, kw, down, across, apart int
	groups, rows, xNext, yNext  int
	order                       *byte
	low, high                   float32
}

// NewDepthwiseBF16 plans a convolution; an error says that these kernels do not cover it.
func NewDepthwiseBF16(s ConvBF16Spec) (*DepthwiseBF16, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	if s.X.C != s.Y.C || s.KH*s.KW > 1<<12 {
		return nil, fmt.Errorf("kernels: %d to %d channels of a depthwise convolution of %dx%d", s.X.C,
			s.Y.C, s.KH, s.KW)
	}
	if !s.inside() {
		return nil, fmt.Errorf("kernels: windows of %+v leave %+v", s.Window, s.X)
	}
	d := &DepthwiseBF16{spec: s}
	plane := d.pixelCycles() * float64(s.Y.H*s.Y.W)
	planes := s.Y.N * s.Y.Blocks()
	d.strips = max(1, min(s.Y.H, int(plane/chunkCycles)))
	d.chunks = max(min(1, planes), min(planes*d.strips, int(plane*float64(planes)/chunkCycles)))
	return d, nil
}

// inside reports whether all windows lie within X and its halo.
func (s *ConvBF16Spec) inside() bool {
	lastH := (s.Y.H-1)*s.StrideH - s.PadTop + (s.KH-1)*s.DilH
	lastW := (s.Y.W-1)*s.StrideW - s.PadLeft + (s.KW-1)*s.DilW
	return max(s.PadTop, s.PadLeft, lastH-s.X.H+1, lastW-s.X.W+1) <= s.X.Halo
}

// pixelCycles is what a line of the output takes.
func (d *DepthwiseBF16) pixelCycles() float64 { return float64(10 + 2*d.spec.KH*d.spec.KW) }

// block is the number of weights of a block of channels.
func (d *DepthwiseBF16) block() int { return d.spec.KH * d.spec.KW * BF16Lanes }

// WeightSize is the number of floats of the packed weights.
func (d *DepthwiseBF16) WeightSize() int { return d.spec.X.Blocks() * d.block() }

// Form names the form of packed weights: kernels of one form read the same.
func (d *DepthwiseBF16) Form() string {
	return fmt.Sprintf("bf16 depthwise %dx%d", d.spec.KH, d.spec.KW)
}

// Pack packs weights [C,1,KH,KW].
func (d *DepthwiseBF16) Pack(dst, w []float32) {
	clear(dst[:d.WeightSize()])
	taps := d.spec.KH * d.spec.KW
	for i, v := range w[:d.spec.X.C*taps] {
		c := i / taps
		dst[c/BF16Lanes*d.block()+i%taps*BF16Lanes+evenOdd(c%BF16Lanes)] = v
	}
}

// evenOdd is where lane c of a line lies once its even lanes stand before its odd ones.
func evenOdd(c int) int { return c/2 + c%2*Block }

// Chunks is the number of chunks of Run.
func (d *DepthwiseBF16) Chunks() int { return d.chunks }

// Cost estimates Run.
func (d *DepthwiseBF16) Cost() float64 {
	s := &d.spec
	pixels := float64(s.Y.N * s.Y.Blocks() * s.Y.H * s.Y.W)
	return amxCost(pixels*d.pixelCycles()) + FarCost(int64(s.X.Size()+s.Y.Size())*2)/4
}

// depthwiseLines is some rows of a block of channels of the output.
type depthwiseLines struct {
	y, x, res  []uint16 // res is nil or as y, but not y
	w          []float32
	bias       [BF16Lanes]float32 // even channels first, as w
	gate       *Gate
	low, high  float32
	rows, cols int
	kh, kw     int
	// values from row to row and from column to column of the kernel, and between pixels of x
	down, across, apart int
	xNext, yNext        int // from row to row
}

// Run computes a part of y = conv(x, w), with y's halo. A residual does not lie where y does.
func (d *DepthwiseBF16) Run(chunk int, y, x []uint16, w []float32, e EpilogueBF16) {
	s := &d.spec
	row := s.X.rowLines() * BF16Lanes
	a := depthwiseLines{gate: e.Gate, cols: s.Y.W, kh: s.KH, kw: s.KW, down: s.DilH * row,
		across: s.DilW * BF16Lanes, apart: s.StrideW * BF16Lanes, xNext: s.StrideH * row,
		yNext: s.Y.rowLines() * BF16Lanes}
	a.low, a.high = e.bounds()
	first, last := span(s.Y.N*s.Y.Blocks()*d.strips, chunk, d.chunks)
	for u := first; u < last; u++ {
		lo, hi := span(s.Y.H, u%d.strips, d.strips)
		n, b := u/d.strips/s.Y.Blocks(), u/d.strips%s.Y.Blocks()
		for c, v := range biasOf(e.Bias, b) {
			a.bias[evenOdd(c)] = v
		}
		to := s.Y.value(n, b, lo, 0)
		a.x, a.y = x[s.X.value(n, b, lo*s.StrideH-s.PadTop, -s.PadLeft):], y[to:]
		if e.Residual != nil {
			a.res = e.Residual[to:]
		}
		a.w, a.rows = w[b*d.block():][:d.block()], hi-lo
		a.run()
		fillHalo(s.Y, y, n, b, lo, hi, 0)
	}
}

// check panics where the call would leave a slice: the assembly does not look.
func (a *depthwiseLines) check() {
	lastY := (a.rows-1)*a.yNext + a.cols*BF16Lanes
	_, _ = a.y[:lastY], a.w[:a.kh*a.kw*BF16Lanes]
	_ = a.x[:(a.rows-1)*a.xNext+(a.cols-1)*a.apart+(a.kh-1)*a.down+(a.kw-1)*a.across+BF16Lanes]
	if a.res != nil && &a.res[:lastY][0] == &a.y[0] {
		panic("kernels: a depthwise convolution over its residual")
	}
}

func (a *depthwiseLines) run() {
	if a.rows <= 0 {
		return
	}
	a.check()
	if useAMX() {
		a.avx512()
		return
	}
	a.runGo()
}

// runGo computes, for every row r, pixel i and channel c < 32,
//
//	sum = bias[c] + sum over h, v of x[r xNext + i apart + h down + v across + c] * w[h][v][c]
//	y[r yNext + 32 i + c] = gate(clip(sum + res[r yNext + 32 i + c])).
func (a *depthwiseLines) runGo() {
	for r := range a.rows {
		for i := range a.cols {
			at := r*a.yNext + i*BF16Lanes
			for c := range BF16Lanes {
				sum := a.bias[evenOdd(c)]
				for h := range a.kh {
					x := a.x[r*a.xNext+i*a.apart+h*a.down+c:]
					for v := range a.kw {
						sum = fma32(fromBF16(x[v*a.across]), a.w[(h*a.kw+v)*BF16Lanes+evenOdd(c)], sum)
					}
				}
				if a.res != nil {
					sum += fromBF16(a.res[at+c])
				}
				a.y[at+c] = toBF16(finishBF16(sum, a.low, a.high, a.gate))
			}
		}
	}
}
