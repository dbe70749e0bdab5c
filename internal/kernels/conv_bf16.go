package kernels

import "fmt"

// ConvBF16Spec is the geometry of a convolution in bf16: X [N,C,H,W] to Y [N,O,OH,OW], of one group.
type ConvBF16Spec struct {
	X, Y             LineLayout
	KH, KW           int
	StrideH, StrideW int
	PadTop, PadLeft  int
	DilH, DilW       int
}

// ConvBF16 is a planned convolution in bf16 with float32 sums, or the gradient of the input of one. A sum depends neither
// on the other outputs nor on the batch or the chunks.
//
// Weights are packed [32 outputs][block of C, kh, kw][2][16][16][2]: for each step and each 16 outputs 16 pairs of channels.
type ConvBF16 struct {
	in, out LineLayout // of what is read and written
	float   Layout     // of what is written in float32 instead; N is 0 where nothing is
	passes  []bf16Pass
	kernel  int // its weights for a pair of channels
	kw      int
	flipped bool // the gradient of the input: weights go from O to C
}

// bf16Pass writes the pixels of one residue of the stride. A forward convolution has a single pass.
type bf16Pass struct {
	tiling
	schedule
	taps           []bf16Tap
	weights        int // where its weights begin
	chunk          int // its first
	rows           []int
	top, left      int // its first pixel
	downH, acrossW int // between its pixels
}

// bf16Tap is a weight of the kernel and the pixel of the input it is multiplied with, from that of the output times the
// stride.
type bf16Tap struct{ h, w, kh, kw int }

// NewConvBF16 plans a convolution; an error says that these kernels do not cover it.
func NewConvBF16(s ConvBF16Spec) (*ConvBF16, error) {
	c := &ConvBF16{in: s.X, out: s.Y, kernel: s.KH * s.KW, kw: s.KW}
	if err := s.validate(); err != nil {
		return nil, err
	}
	p := bf16Pass{downH: 1, acrossW: 1}
	for k := range s.KH * s.KW {
		kh, kw := k/s.KW, k%s.KW
		p.taps = append(p.taps, bf16Tap{kh*s.DilH - s.PadTop, kw*s.DilW - s.PadLeft, kh, kw})
	}
	return c, c.add(p, s.StrideH, s.StrideW)
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
	c, err := NewConvBF16(s)
	if err != nil {
		return nil, err
	}
	c.float = y
	return c, nil
}

// NewConvBF16Data plans the gradient of the input of the convolution s: from dy, of s.Y, to dx, of s.X. ConvHalo tells the
// halo that it needs around dy.
func NewConvBF16Data(s ConvBF16Spec) (*ConvBF16, error) {
	c := &ConvBF16{in: s.Y, out: s.X, kernel: s.KH * s.KW, kw: s.KW, flipped: true}
	if err := s.validate(); err != nil {
		return nil, err
	}
	for k := range s.StrideH * s.StrideW {
		p := bf16Pass{top: k / s.StrideW, left: k % s.StrideW, downH: s.StrideH, acrossW: s.StrideW}
		if p.top >= s.X.H || p.left >= s.X.W {
			continue
		}
		for k := range s.KH * s.KW {
			kh, kw := k/s.KW, k%s.KW
			h, w := p.top+s.PadTop-kh*s.DilH, p.left+s.PadLeft-kw*s.DilW
			if h%s.StrideH == 0 && w%s.StrideW == 0 {
				p.taps = append(p.taps, bf16Tap{h / s.StrideH, w / s.StrideW, kh, kw})
			}
		}
		if err := c.add(p, 1, 1); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (s *ConvBF16Spec) validate() error {
	for _, l := range []LineLayout{s.X, s.Y} {
		if err := l.valid(BF16Lanes); err != nil {
			return err
		}
	}
	return validWindow(s.X, s.Y, s.KH, s.KW, s.StrideH, s.StrideW, s.PadTop, s.PadLeft, s.DilH, s.DilW)
}

// validWindow bounds the numbers of a window, so that products of two of them stay integers.
func validWindow(x, y LineLayout, kh, kw, strideH, strideW, padTop, padLeft, dilH, dilW int) error {
	low := min(kh, kw, strideH, strideW, dilH, dilW)
	if high := max(kh, kw, strideH, strideW, dilH, dilW, padTop, padLeft); low < 1 || padTop < 0 || padLeft < 0 || high > mostLines {
		return fmt.Errorf("kernels: convolution with kernel %dx%d, strides %dx%d, dilations %dx%d, pads %d,%d", kh, kw, strideH,
			strideW, dilH, dilW, padTop, padLeft)
	}
	if x.N != y.N {
		return fmt.Errorf("kernels: convolution of %+v to %+v", x, y)
	}
	if float64(kh)*float64(kw)*float64(x.C)*float64(y.C) > 1<<40 {
		return fmt.Errorf("kernels: convolution of %d to %d channels with a kernel of %dx%d is too large", x.C, y.C, kh, kw)
	}
	return nil
}

// add plans p, whose pixels are strideH and strideW pixels of the input apart.
func (c *ConvBF16) add(p bf16Pass, strideH, strideW int) error {
	h, w := (c.out.H-p.top+p.downH-1)/p.downH, (c.out.W-p.left+p.acrossW-1)/p.acrossW
	for _, t := range p.taps {
		if last := (h-1)*strideH + t.h; t.h < -c.in.Halo || last >= c.in.H+c.in.Halo {
			return fmt.Errorf("kernels: a window reaches row %d of %d with a halo of %d", max(last, -t.h), c.in.H, c.in.Halo)
		}
		if last := (w-1)*strideW + t.w; t.w < -c.in.Halo || last >= c.in.W+c.in.Halo {
			return fmt.Errorf("kernels: a window reaches column %d of %d with a halo of %d", max(last, -t.w), c.in.W, c.in.Halo)
		}
	}
	if n := len(c.passes); n > 0 {
		p.weights, p.chunk = c.passes[n-1].weights+c.passes[n-1].size(), c.passes[n-1].chunk+c.passes[n-1].chunks
	}
	if len(p.taps) == 0 { // nothing reaches these pixels
		p.schedule = schedule{images: c.out.N, outs: c.out.Blocks(), blocks: 1, strips: 1, chunks: min(1, c.out.N)}
		p.rows = []int{0, h}
		c.passes = append(c.passes, p)
		return nil
	}
	for b := range c.in.Blocks() {
		for _, t := range p.taps {
			p.steps = append(p.steps, (b*c.in.planeLines()+t.h*c.in.rowLines()+t.w)*lineBytes)
		}
	}
	var err error
	if p.rows, err = p.cut(pixelGrid{h, w, strideH, strideW, c.in}, p.place(c.out.Halo, c.out.rowLines())); err != nil {
		return err
	}
	p.schedule = newSchedule(c.out.N, c.out.Blocks(), &p.tiling, c.in.imageLines()*lineBytes, len(p.steps)*stepSize)
	c.passes = append(c.passes, p)
	return nil
}

// place is where pixel (h, w) of the pass lies in a plane, in bytes.
func (p *bf16Pass) place(halo, row int) func(h, w int) int {
	top, left, down, across := p.top+halo, p.left+halo, p.downH, p.acrossW
	return func(h, w int) int { return ((top+h*down)*row + left + w*across) * lineBytes }
}

// size is the number of packed weights of a group of 32 outputs times the groups.
func (p *bf16Pass) size() int { return p.outs * len(p.steps) * stepSize / 2 }

// WeightSize is the number of packed weights.
func (c *ConvBF16) WeightSize() int {
	last := &c.passes[len(c.passes)-1]
	return last.weights + last.size()
}

// Pack rounds and packs weights [O,C,KH,KW], for either direction.
func (c *ConvBF16) Pack(dst []uint16, oihw []float32) {
	clear(dst[:c.WeightSize()])
	outs, ins := c.out.C, c.in.C
	for i := range c.passes {
		p := &c.passes[i]
		for o := range outs {
			for k := range ins {
				for t, tap := range p.taps {
					at, from := packedBF16(o, (k/BF16Lanes*len(p.taps)+t)*BF16Lanes+k%BF16Lanes, len(p.steps)), o*ins+k
					if c.flipped {
						from = k*outs + o
					}
					dst[p.weights+at] = toBF16(oihw[from*c.kernel+tap.kh*c.kw+tap.kw])
				}
			}
		}
	}
}

// packedBF16 is where the weight of output o and the k-th value of its reduction lies, of so many steps.
func packedBF16(o, k, steps int) int {
	step := o/tileOuts*steps + k/BF16Lanes
	return step*stepSize/2 + o%tileOuts/Block*Block*BF16Lanes + k%BF16Lanes/2*BF16Lanes + o%Block*2 + k%2
}

// Chunks is the number of chunks of Run.
func (c *ConvBF16) Chunks() int {
	last := &c.passes[len(c.passes)-1]
	return last.chunk + last.chunks
}

// Scratch is the number of floats that each concurrent Run needs, on a boundary of 64 bytes best.
func (c *ConvBF16) Scratch() int { return tileScratch }

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

// pass is the one that a chunk belongs to.
func (c *ConvBF16) pass(chunk int) *bf16Pass {
	i := len(c.passes) - 1
	for c.passes[i].chunk > chunk {
		i--
	}
	return &c.passes[i]
}

func (c *ConvBF16) run(chunk int, scratch []float32, y []uint16, out []float32, x, w []uint16, e EpilogueBF16) {
	p := c.pass(chunk)
	image, plane := c.in.imageLines()*BF16Lanes, c.out.planeLines()*BF16Lanes
	a := bf16Call{t: &p.tiling, scratch: scratch}
	a.low, a.high = e.bounds()
	w = w[p.weights:]
	p.each(chunk-p.chunk, func(n, o, lo, hi int) {
		to := (n*c.out.Blocks() + o) * plane
		if e.Residual != nil {
			a.res = e.Residual[to:][:plane]
		}
		if out == nil {
			a.y = y[to:][:plane]
		} else {
			a.out, a.apart = out[c.float.at(n, 2*o, -c.float.Halo, -c.float.Halo):], 0
			if 2*o+1 < c.float.Blocks() {
				a.apart = c.float.plane() * 4
			}
		}
		a.lo, a.hi = lo, hi
		if len(p.taps) == 0 {
			p.fill(&a, c.out, biasOf(e.Bias, o))
		} else {
			a.x, a.w, a.bias = x[n*image:][:image], w[o*len(p.steps)*stepSize/2:], biasOf(e.Bias, o)
			a.run()
		}
		c.halo(p, y, out, n, o, p.rows[lo], p.rows[hi])
	})
}

// fill finishes pixels that nothing reaches.
func (p *bf16Pass) fill(a *bf16Call, l LineLayout, bias []float32) {
	place := p.place(l.Halo, l.rowLines())
	sums := [tileOuts]float32(bias)
	for h := p.top; h < l.H; h += p.downH {
		for w := p.left; w < l.W; w += p.acrossW {
			a.finish(&sums, place((h-p.top)/p.downH, (w-p.left)/p.acrossW))
		}
	}
}

// halo clears what surrounds rows [lo, hi) of the pass. The first pass does so for all.
func (c *ConvBF16) halo(p *bf16Pass, y []uint16, out []float32, n, o, lo, hi int) {
	if p.top > 0 || p.left > 0 {
		return
	}
	lo, hi = lo*p.downH, min(hi*p.downH, c.out.H)
	if out == nil {
		fillHalo(c.out, y, n, o, lo, hi, 0)
		return
	}
	if lo == hi {
		return
	}
	for b := 2 * o; b < min(2*o+2, c.float.Blocks()); b++ {
		c.float.clearHalo(out, n, b, lo, hi)
	}
}

// Cost estimates Run.
func (c *ConvBF16) Cost() float64 {
	cost := FarCost(int64(c.in.Size()+c.out.Size())*2) / 4
	for i := range c.passes {
		if p := &c.passes[i]; len(p.taps) > 0 {
			cost += p.cost(&p.tiling)
		}
	}
	return cost
}
