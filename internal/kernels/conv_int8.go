package kernels

// ConvInt8Spec is the geometry of a convolution of quantized maps: X [N,C,H,W] to Y [N,O,OH,OW], of one group, with weights
// of int8 whose zero point is 0. The halo of X holds From's zero point, as Y's will To's. Lanes of X past C do not matter.
type ConvInt8Spec struct {
	X, Y     LineLayout
	From, To Quantized
	Window
}

// ConvInt8 is a planned convolution of quantized maps with int32 sums.
//
// Weights are packed [32 outputs][block of C, kh, kw][2][16][16][4]: for each step and each 16 outputs 16 quads of channels.
type ConvInt8 struct {
	tileConv
	from, to Quantized
}

// NewConvInt8 plans a convolution; an error says that these kernels do not cover it.
func NewConvInt8(s ConvInt8Spec) (*ConvInt8, error) {
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
	c := &ConvInt8{tileConv{in: s.X, out: s.Y, kh: s.KH, kw: s.KW}, s.From, s.To}
	if err := c.addForward(&s.Window); err != nil {
		return nil, err
	}
	return c, nil
}

// WeightSize is the number of packed weights.
func (c *ConvInt8) WeightSize() int { return c.weightBytes() }

// Outputs is the number of biases and scales: O rounded up to whole lines.
func (c *ConvInt8) Outputs() int { return c.groups() * tileOuts }

// Pack packs weights [O,C,KH,KW] and computes the bias that takes X's zero point into account. bias is nil or int32 [O], in
// units of X's scale times the weights'.
func (c *ConvInt8) Pack(dst []uint8, offset []int32, oihw []int8, bias []int32) {
	clear(dst[:c.WeightSize()])
	clear(offset[:c.Outputs()])
	copy(offset, bias)
	c.eachWeight(func(p *convPass, o, k, plain int) {
		dst[packedInt8(o, k, len(p.steps))] = uint8(oihw[plain])
		offset[o] -= c.from.Zero * int32(oihw[plain])
	})
}

// Run computes a part of y = conv(x, w), with y's halo and lanes past O.
func (c *ConvInt8) Run(chunk int, scratch []float32, y, x, w []uint8, e Requantize) {
	p := c.pass(chunk)
	image, plane := c.in.imageLines()*Int8Lanes, c.out.planeLines()*Int8Lanes
	a := int8Call{t: &p.tiling, scratch: scratch, from: c.from, to: c.to}
	a.bounds(&e)
	p.each(chunk-p.chunk, func(n, o, lo, hi int) {
		b := o * tileOuts / Int8Lanes
		a.lo, a.hi = lo, hi
		a.y = y[(n*c.out.Blocks()+b)*plane:][:plane][o*tileOuts%Int8Lanes:]
		a.x, a.w = x[n*image:][:image], w[o*len(p.steps)*stepSize:]
		a.bias, a.scale = e.Bias[o*tileOuts:][:tileOuts], e.Scale[o*tileOuts:][:tileOuts]
		a.run()
		if o*tileOuts%Int8Lanes == 0 {
			first, last := p.outRows(p.rows[lo], p.rows[hi], c.out.H)
			fillHalo(c.out, y, n, b, first, last, uint8(c.to.Zero))
		}
	})
}
