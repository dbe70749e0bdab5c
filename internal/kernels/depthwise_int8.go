package kernels

import "fmt"

// DepthwiseInt8 is a planned convolution of quantized maps whose channels are groups of their own, with
// weights that fit int8 once their zero point is taken off.
//
// Weights are packed [block of 64][rows/4][kw][4][16][4]: quads of rows, of 4 times 16
// channels in the order of Place.
type DepthwiseInt8 struct {
	spec   ConvInt8Spec
	parts  int // quads of rows
	strips int // of the rows of a plane
}

// depthwiseBytes is the argument of the assembly, which reads the fields by their place.
type depthwiseBytes struct {
	x, w, y, bias, scale *byte
	row, groups          int
	low, high            float32
	zero                 int32
	flip                 uint32
}

// NewDepthwiseInt8 plans a convolution; an error says that these kernels do not cover it.
func NewDepthwiseInt8(s ConvInt8Spec) (*DepthwiseInt8, error) {
	for _, l := range []LineLayout{s.X, s.Y} {
		if err := l.valid(Int8Lanes); err != nil {
			return nil, err
		}
	}
	for _, q := range []Quantized{s.From, s.To} {
		if err := q.valid(); err != nil {
			return nil, err
		}
	}
	if err := s.Window.valid(s.X, s.Y); err != nil {
		return nil, err
	}
	if s.X.C != s.Y.C || s.KH*s.KW > 1<<12 {
		return nil, fmt.Errorf("kernels: %d to %d channels of a depthwise convolution of %dx%d", s.X.C,
			s.Y.C, s.KH, s.KW)
	}
	last := [2]int{(s.Y.H-1)*s.StrideH - s.PadTop + (s.KH-1)*s.DilH, (s.Y.W-1)*s.StrideW - s.PadLeft +
		(s.KW-1)*s.DilW}
	if max(s.PadTop, s.PadLeft, last[0]-s.X.H+1, last[1]-s.X.W+1) > s.X.Halo {
		return nil, fmt.Errorf("kernels: windows of %+v leave %+v", s.Window, s.X)
	}
	d := &DepthwiseInt8{spec: s, parts: (s.KH + 3) / 4}
	each := float64(s.Y.W*s.KH*s.KW) * 4 // cycles of a row
	d.strips = max(1, min(s.Y.H, int(each*float64(s.Y.H)/chunkCycles)))
	return d, nil
}

// Place is where the bias and the scale of a channel belong.
func (d *DepthwiseInt8) Place(channel int) int {
	return channel/Int8Lanes*Int8Lanes + channel%Block/4*Block + channel%Int8Lanes/Block*4 + channel%4
}

// block is the number of packed weights of a block of channels.
func (d *DepthwiseInt8) block() int { return d.parts * d.spec.KW * 4 * lineBytes }

// WeightSize is the number of packed weights.
func (d *DepthwiseInt8) WeightSize() int { return d.spec.X.Blocks() * d.block() }

// Outputs is the number of biases and scales.
func (d *DepthwiseInt8) Outputs() int { return d.spec.X.Blocks() * Int8Lanes }

// Form names the form of packed weights: kernels of one form read the same.
func (d *DepthwiseInt8) Form(int) string {
	return fmt.Sprintf("int8 depthwise %dx%d", d.spec.KH, d.spec.KW)
}

// Pack packs weights [C,1,KH,KW], less their zero points; they fit int8. The groups
// are those of the channels.
func (d *DepthwiseInt8) Pack(dst []uint8, weights []int16, _ int) {
	clear(dst[:d.WeightSize()])
	taps := d.spec.KH * d.spec.KW
	for c := range d.spec.X.C {
		at := d.Place(c) % Int8Lanes
		for t, w := range weights[c*taps:][:taps] {
			h, v := t/d.spec.KW, t%d.spec.KW
			dst[c/Int8Lanes*d.block()+((h/4*d.spec.KW+v)*Int8Lanes+at)*4+h%4] = uint8(w)
		}
	}
}

// Offset computes the bias that takes X's zero point into account, in the order of Place.
// bias is nil or int32 [C].
func (d *DepthwiseInt8) Offset(dst []int32, weights []int16, bias []int32) {
	clear(dst[:d.Outputs()])
	taps := d.spec.KH * d.spec.KW
	off := d.spec.From.Zero
	if d.spec.From.Signed { // pixels are read with 128 added to them
		off += 128
	}
	for c := range d.spec.X.C {
		at := d.Place(c)
		if bias != nil {
			dst[at] = bias[c]
		}
		dst[at] -= off * sumOf(weights[c*taps:][:taps])
	}
}

// Scratch is the number of floats that Run needs: none.
func (d *DepthwiseInt8) Scratch() int { return 0 }

// Chunks is the number of chunks of Run.
func (d *DepthwiseInt8) Chunks() int { return d.spec.Y.N * d.spec.Y.Blocks() * d.strips }

// Cost estimates Run.
func (d *DepthwiseInt8) Cost() float64 {
	s := &d.spec
	pixels := float64(s.Y.N * s.Y.Blocks() * s.Y.H * s.Y.W)
	return amxCost(pixels*float64(20+3*s.KH*s.KW)) + FarCost(int64(s.X.Size()+s.Y.Size()))/4
}

// depthwiseRow is a row of pixels of a block of channels.
type depthwiseRow struct {
	x, w, y     []uint8
	bias        []int32
	scale       []float32
	k, stride   int // where the assembly has the kernel
	row, pixels int
	least, most float32
	zero        int32
	flip        uint32
	kh, kw      int
	// bytes of x from row to row and from column to column of the kernel, and between pixels
	down, across, apart int
}

// Run computes a part of y = conv(x, w), with y's halo.
func (d *DepthwiseInt8) Run(chunk int, _ []float32, y, x, w []uint8, e Requantize) {
	s := &d.spec
	lo, hi := span(s.Y.H, chunk%d.strips, d.strips)
	plane := chunk / d.strips
	n, b := plane/s.Y.Blocks(), plane%s.Y.Blocks()
	call := int8Call{to: s.To}
	call.bounds(&e)
	a := depthwiseRow{w: w[b*d.block():][:d.block()], bias: e.Bias[b*Int8Lanes:][:Int8Lanes],
		scale:  e.Scale[b*Int8Lanes:][:Int8Lanes],
		stride: s.StrideW, row: s.X.rowLines() * lineBytes, pixels: s.Y.W, least: call.least, most: call.most,
		zero: s.To.Zero,
		kh:   s.KH, kw: s.KW}
	if s.From.Signed {
		a.flip = 0x80808080
	}
	a.down, a.across, a.apart = s.DilH*a.row, s.DilW*lineBytes, s.StrideW*lineBytes
	if s.KH == s.KW && (s.KH == 3 || s.KH == 5) && s.DilH == 1 && s.DilW == 1 && s.StrideW <= 2 {
		a.k = s.KH
	}
	for h := lo; h < hi; h++ {
		from := s.X.value(n, b, h*s.StrideH-s.PadTop, -s.PadLeft)
		last := (s.KH-1)*a.down + (s.Y.W-1)*a.apart + (s.KW-1)*a.across + lineBytes
		a.x, a.y = x[from:][:last], y[s.Y.value(n, b, h, 0):][:s.Y.W*lineBytes]
		if a.k > 0 && useVNNI() {
			a.vnni()
		} else {
			a.runGo()
		}
	}
	fillHalo(s.Y, y, n, b, lo, hi, s.Fill)
}

// runGo computes, for every pixel i and lane c < 64,
//
//	y[64 i + c] = requantize(bias[c] + sum over h, v of (x[h down + v across + apart i + c] ^ flip) * w[h][v][c])
func (a *depthwiseRow) runGo() {
	to := int8Call{least: a.least, most: a.most, to: Quantized{Zero: a.zero}}
	for i := range a.pixels {
		for c := range Int8Lanes {
			at := c%Block/4*Block + c/Block*4 + c%4
			sum := a.bias[at]
			for h := range a.kh {
				for v := range a.kw {
					pixel := a.x[h*a.down+v*a.across+i*a.apart+c] ^ uint8(a.flip)
					sum += int32(pixel) * int32(int8(a.w[((h/4*a.kw+v)*Int8Lanes+at)*4+h%4]))
				}
			}
			a.y[i*lineBytes+c] = to.requantize(sum, a.scale[at])
		}
	}
}
