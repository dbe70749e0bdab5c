package kernels

import "fmt"

// ConvBF16Spec is the geometry of a convolution in bf16: X [N,C,H,W] to Y [N,O,OH,OW], of one group.
type ConvBF16Spec struct {
	X, Y LineLayout
	Window
}

// ConvBF16 is a planned convolution in bf16 with float32 sums, or the gradient of the input of one. A sum
// depends neither on the other outputs nor on the batch or the chunks.
//
// Weights are packed [32 outputs][block of C, kh, kw][2][16][16][2]: for each step and each 16
// outputs 16 pairs of channels.
type ConvBF16 struct {
	tileConv
	float Layout // of what is written in float32 instead; N is 0 where nothing is
}

// NewConvBF16 plans a convolution; an error says that these kernels do not cover it.
func NewConvBF16(s ConvBF16Spec) (*ConvBF16, error) { return newConvBF16(s, Layout{}) }

func newConvBF16(s ConvBF16Spec, float Layout) (*ConvBF16, error) {
	c := &ConvBF16{tileConv: tileConv{in: s.X, out: s.Y, apart: s.Y.imageBytes(), kh: s.KH, kw: s.KW},
		float: float}
	if float.N > 0 {
		c.apart = float.image() * 4
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	if err := c.addForward(&s.Window); err != nil {
		return nil, err
	}
	return c, nil
}

// NewConvBF16Float plans a convolution whose output y is float32 in blocks of 16 lanes; s.Y tells its shape.
func NewConvBF16Float(s ConvBF16Spec, y Layout) (*ConvBF16, error) {
	if err := y.valid(); err != nil && s.Y.N > 0 {
		return nil, err
	}
	if y.Lanes != Block || y.N != s.Y.N || y.C != s.Y.C || y.H != s.Y.H || y.W != s.Y.W {
		return nil, fmt.Errorf("kernels: convolution to %+v stored as %+v", s.Y, y)
	}
	s.Y.Halo = y.Halo
	return newConvBF16(s, y)
}

// NewConvBF16Data plans the gradient of the input of the convolution s: from dy, of s.Y, to dx, of s.X.
// ConvHalo tells the halo that it needs around dy.
func NewConvBF16Data(s ConvBF16Spec) (*ConvBF16, error) {
	c := &ConvBF16{tileConv: tileConv{in: s.Y, out: s.X, apart: s.X.imageBytes(), kh: s.KH, kw: s.KW,
		flipped: true}}
	if err := s.validate(); err != nil {
		return nil, err
	}
	if err := c.addBackward(&s.Window); err != nil {
		return nil, err
	}
	return c, nil
}

func (s *ConvBF16Spec) validate() error {
	for _, l := range []LineLayout{s.X, s.Y} {
		if err := l.valid(BF16Lanes); err != nil {
			return err
		}
	}
	return s.Window.valid(s.X, s.Y)
}

// WeightSize is the number of packed weights.
func (c *ConvBF16) WeightSize() int { return c.weightBytes() / 2 }

// Pack rounds and packs weights [O,C,KH,KW], for either direction.
func (c *ConvBF16) Pack(dst []uint16, oihw []float32) {
	clear(dst[:c.WeightSize()])
	c.eachWeight(func(p *convPass, o, k, plain int) {
		dst[p.weights/2+packedBF16(o, k, len(p.steps))] = toBF16(oihw[plain])
	})
}

// packedBF16 is where the weight of output o and the k-th value of its reduction lies, of so many steps.
func packedBF16(o, k, steps int) int {
	step := o/tileOuts*steps + k/BF16Lanes
	return step*stepSize/2 + o%tileOuts/Block*Block*BF16Lanes + k%BF16Lanes/2*BF16Lanes + o%Block*2 + k%2
}

// Run computes a part of y = conv(x, w), with y's halo and lanes past O.
func (c *ConvBF16) Run(chunk int, scratch []float32, y, x, w []uint16, e EpilogueBF16) {
	if c.float.N > 0 {
		panic("kernels: Run of a convolution to float32")
	}
	c.run(chunk, scratch, y, nil, x, w, e)
}

// RunFloat is Run for a convolution to float32. There is no residual.
func (c *ConvBF16) RunFloat(chunk int, scratch, y []float32, x, w []uint16, e EpilogueBF16) {
	if c.float.N == 0 || e.Residual != nil {
		panic("kernels: RunFloat of a convolution to bf16 or with a residual")
	}
	c.run(chunk, scratch, nil, y, x, w, e)
}

func (c *ConvBF16) run(chunk int, scratch []float32, y []uint16, out []float32, x, w []uint16,
	e EpilogueBF16) {
	p := c.pass(chunk)
	image, plane := c.in.imageLines()*BF16Lanes, c.out.planeLines()*BF16Lanes
	a := bf16Call{t: &p.tiling, scratch: scratch, gate: e.Gate}
	a.low, a.high = e.bounds()
	w = w[p.weights/2:]
	p.each(chunk-p.chunk, func(u unit) {
		n, o := u.n*p.bunch, u.o
		to, size := (n*c.out.Blocks()+o)*plane, (p.bunch-1)*c.out.image()+plane
		if e.Residual != nil {
			a.res = e.Residual[to:][:size]
		}
		if out == nil {
			a.y = y[to:][:size]
		} else {
			a.out, a.apart = out[c.float.at(n, 2*o, -c.float.Halo, -c.float.Halo):], 0
			if 2*o+1 < c.float.Blocks() {
				a.apart = c.float.plane() * 4
			}
		}
		a.lo, a.hi = u.lo, u.hi
		if len(p.taps) == 0 {
			sums := [tileOuts]float32(biasOf(e.Bias, o))
			p.eachPlace(c.out, func(place int) { a.finish(&sums, place) })
		} else {
			a.x, a.w = x[n*image:][:p.bunch*image], w[o*len(p.steps)*stepSize/2:]
			a.bias = biasOf(e.Bias, o)
			a.next, a.lines = w[u.next*len(p.steps)*stepSize/2:], p.fetching(u)
			a.run()
		}
		p.eachImage(u, c.out.H, func(n, lo, hi int) { c.halo(y, out, n, o, lo, hi) })
	})
}

// halo clears what surrounds rows [lo, hi).
func (c *ConvBF16) halo(y []uint16, out []float32, n, o, lo, hi int) {
	switch {
	case out == nil:
		fillHalo(c.out, y, n, o, lo, hi, 0)
	default:
		for b := 2 * o; b < min(2*o+2, c.float.Blocks()); b++ {
			c.float.clearHalo(out, n, b, lo, hi)
		}
	}
}
