package kernels

import (
	"errors"
	"fmt"
	"math"
)

// ConvInt8Spec is the geometry of a convolution of quantized maps: X [N,C,H,W] to Y [N,O,OH,OW]. The halo of
// X holds From's zero point. Lanes of X past C do not matter, and those of Y past O are not written.
//
// X may have 4 lanes, of up to 4 channels: a step of the sum is then a row of the kernel, of up
// to 16 pixels side by side.
type ConvInt8Spec struct {
	X, Y     LineLayout
	From, To Quantized
	Window
	Fill uint8 // of Y's halo
	// Copies is how often each pixel is multiplied: twice or three times with parts of weights that exceed
	// int8 once their zero point is taken off. 0 is once.
	Copies int
}

// Int8Copies is the number of copies for weights of which the largest is most, less their zero point.
func Int8Copies(most int32) int { return int(max(1, (most+math.MaxInt8-1)/math.MaxInt8)) }

// ConvInt8 is a planned convolution of quantized maps with int32 sums.
//
// Weights are packed [32 outputs][block of C, kh, kw][2][16][16][4]: for each step and each 16
// outputs 16 quads of channels.
type ConvInt8 struct {
	tileConv
	from, to Quantized
	fill     uint8
	copies   int
}

// NewConvInt8 plans a convolution; an error says that these kernels do not cover it.
func NewConvInt8(s ConvInt8Spec) (*ConvInt8, error) {
	if s.X.Lanes == PixelLanes && (s.X.C > PixelLanes || s.KW > Block || s.DilW != 1) {
		return nil, fmt.Errorf("kernels: pixels of %d lanes for %+v", s.X.Lanes, s)
	}
	if err := s.X.valid(s.X.Lanes); err != nil || s.X.Lanes != PixelLanes && s.X.Lanes != Int8Lanes {
		return nil, errors.Join(err, fmt.Errorf("kernels: lanes of %+v", s.X))
	}
	if err := s.Y.valid(Int8Lanes); err != nil {
		return nil, err
	}
	for _, q := range []Quantized{s.From, s.To} {
		if err := q.valid(); err != nil {
			return nil, err
		}
	}
	if err := s.Window.valid(s.X, s.Y); err != nil {
		return nil, err
	}
	c := &ConvInt8{tileConv{in: s.X, out: s.Y, apart: s.Y.imageBytes(), kh: s.KH, kw: s.KW}, s.From, s.To,
		s.Fill, max(1, s.Copies)}
	c.repeat = c.copies
	if c.copies > 3 {
		return nil, fmt.Errorf("kernels: %d copies of weights", c.copies)
	}
	if err := c.addForward(&s.Window); err != nil {
		return nil, err
	}
	return c, nil
}

// WeightSize is the number of packed weights.
func (c *ConvInt8) WeightSize() int { return c.weightBytes() }

// Place is where the bias and the scale of an output belong.
func (c *ConvInt8) Place(output int) int { return output }

// Outputs is the number of biases and scales: O rounded up to whole lines.
func (c *ConvInt8) Outputs() int { return c.groups() * tileOuts }

// Form names the form of packed weights: kernels of one form read the same.
func (c *ConvInt8) Form(groups int) string {
	return fmt.Sprintf("int8 %dx%d of %d, lanes %d, copies %d, groups %d", c.kh, c.kw, c.in.C, c.in.Lanes,
		c.copies, groups)
}

// Pack packs weights [O,C/groups,KH,KW], less their zero points. Groups of channels are multiplied with zeros
// where they do not belong together.
func (c *ConvInt8) Pack(dst []uint8, oihw []int16, groups int) {
	clear(dst[:c.WeightSize()])
	steps, taps := len(c.passes[0].steps), c.kh*c.kw
	ins, outs := c.in.C/groups, c.out.C/groups
	for o := range c.out.C {
		first := o / outs * ins
		for i := range ins * taps {
			w := int32(oihw[o*ins*taps+i])
			k := c.reduced(first+i/taps, i%taps)
			for copied := range c.copies {
				part := max(math.MinInt8, min(w, math.MaxInt8))
				dst[packedInt8(o, k+copied*steps/c.copies*Int8Lanes, steps)] = uint8(part)
				w -= part
			}
		}
	}
}

// Offset computes the bias that takes X's zero point into account. bias is nil or int32 [O], in units of X's
// scale times the weights'.
func (c *ConvInt8) Offset(dst []int32, oihw []int16, bias []int32) {
	clear(dst[:c.Outputs()])
	copy(dst, bias)
	each := len(oihw) / c.out.C
	for o := range c.out.C {
		dst[o] -= c.from.Zero * sumOf(oihw[o*each:][:each])
	}
}

// sumOf is the sum of weights.
func sumOf(weights []int16) int32 {
	sum := int32(0)
	for _, w := range weights {
		sum += int32(w)
	}
	return sum
}

// reduced is the place of a channel and a tap in the sum.
func (c *ConvInt8) reduced(channel, tap int) int {
	if c.in.Lanes == PixelLanes {
		return tap/c.kw*Int8Lanes + tap%c.kw*PixelLanes + channel
	}
	return (channel/Int8Lanes*c.kh*c.kw+tap)*Int8Lanes + channel%Int8Lanes
}

// Run computes a part of y = conv(x, w), with y's halo and lanes past O.
func (c *ConvInt8) Run(chunk int, scratch []float32, y, x, w []uint8, e Requantize) {
	p := c.pass(chunk)
	image, plane := c.in.image(), c.out.planeLines()*Int8Lanes
	a := int8Call{t: &p.tiling, scratch: scratch, from: c.from, to: c.to}
	a.bounds(&e)
	p.each(chunk-p.chunk, func(u unit) {
		n, o := u.n*p.bunch, u.o
		b := o * tileOuts / Int8Lanes
		a.lo, a.hi = u.lo, u.hi
		a.y = y[(n*c.out.Blocks()+b)*plane:][:(p.bunch-1)*c.out.image()+plane][o*tileOuts%Int8Lanes:]
		a.x, a.w = x[n*image:][:p.bunch*image], w[o*len(p.steps)*stepSize:]
		a.next, a.lines = w[u.next*len(p.steps)*stepSize:], p.fetching(u)
		a.bias, a.scale = e.Bias[o*tileOuts:][:tileOuts], e.Scale[o*tileOuts:][:tileOuts]
		a.run()
		if o*tileOuts%Int8Lanes == 0 {
			p.eachImage(u, c.out.H, func(n, lo, hi int) { fillHalo(c.out, y, n, b, lo, hi, c.fill) })
		}
	})
}
