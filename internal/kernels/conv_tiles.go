package kernels

import "fmt"

// Window is how a convolution's kernel moves over its input.
type Window struct {
	KH, KW           int
	StrideH, StrideW int
	PadTop, PadLeft  int
	DilH, DilW       int
}

// tileConv is a convolution on tiles, of bf16 or bytes, or the gradient of the input of one.
type tileConv struct {
	in, out LineLayout // of what is read and written
	passes  []convPass
	kh, kw  int
	apart   int  // bytes between images of the output
	flipped bool // the gradient of the input: weights go from O to C
	repeat  int  // how often the steps are done, with other weights; 0 is once
}

// convPass writes the pixels of one residue of the stride. A forward convolution has a single pass.
type convPass struct {
	tiling
	schedule
	taps           []convTap
	weights        int   // where its weights begin, in bytes
	chunk          int   // its first
	bunch          int   // images that are one to the schedule
	rows           []int // of the pass in which each block begins, counted through the bunch, and the end
	top, left      int   // its first pixel
	downH, acrossW int   // between its pixels
}

// convTap is a weight of the kernel and the pixel of the input it is multiplied with, from that of
// the output times the stride.
type convTap struct{ h, w, kh, kw int }

// addForward adds the only pass of a forward convolution.
func (c *tileConv) addForward(v *Window) error {
	if (v.KH-1)*v.DilH >= c.in.H+2*c.in.Halo || (v.KW-1)*v.DilW >= c.in.W+2*c.in.Halo {
		return fmt.Errorf("kernels: a kernel of %dx%d does not fit %+v", v.KH, v.KW, c.in)
	}
	p := convPass{downH: 1, acrossW: 1}
	for k := range v.KH * v.KW {
		kh, kw := k/v.KW, k%v.KW
		p.taps = append(p.taps, convTap{kh*v.DilH - v.PadTop, kw*v.DilW - v.PadLeft, kh, kw})
	}
	return c.add(p, v.StrideH, v.StrideW)
}

// Bounds of a plan: residues of the stride and taps of a gradient, steps of a sum.
const (
	mostResidues = 256
	mostTaps     = 1 << 16
	mostReduced  = 1 << 24
)

// addBackward adds a pass for each residue of the stride.
func (c *tileConv) addBackward(v *Window) error {
	if v.StrideH*v.StrideW > mostResidues || v.KH*v.KW > mostTaps {
		return fmt.Errorf("kernels: gradient of a convolution with %+v", *v)
	}
	for k := range min(v.StrideH, c.out.H) * min(v.StrideW, c.out.W) {
		wide := min(v.StrideW, c.out.W)
		p := convPass{top: k / wide, left: k % wide, downH: v.StrideH, acrossW: v.StrideW}
		for k := range v.KH * v.KW {
			kh, kw := k/v.KW, k%v.KW
			h, w := p.top+v.PadTop-kh*v.DilH, p.left+v.PadLeft-kw*v.DilW
			if h%v.StrideH == 0 && w%v.StrideW == 0 {
				p.taps = append(p.taps, convTap{h / v.StrideH, w / v.StrideW, kh, kw})
			}
		}
		if err := c.add(p, 1, 1); err != nil {
			return err
		}
	}
	return nil
}

// valid bounds the numbers, so that products of two of them stay integers.
func (v *Window) valid(x, y LineLayout) error {
	low := min(v.KH, v.KW, v.StrideH, v.StrideW, v.DilH, v.DilW)
	high := max(v.KH, v.KW, v.StrideH, v.StrideW, v.DilH, v.DilW, v.PadTop, v.PadLeft)
	if low < 1 || min(v.PadTop, v.PadLeft) < 0 || high > mostLines {
		return fmt.Errorf("kernels: convolution with %+v", *v)
	}
	if x.N != y.N {
		return fmt.Errorf("kernels: convolution of %+v to %+v", x, y)
	}
	if float64(v.KH)*float64(v.KW)*float64(x.C)*float64(y.C) > 1<<40 {
		return fmt.Errorf("kernels: convolution of %d to %d channels with a kernel of %dx%d is too large",
			x.C, y.C, v.KH, v.KW)
	}
	return nil
}

// add plans p, whose pixels are strideH and strideW pixels of the input apart.
func (c *tileConv) add(p convPass, strideH, strideW int) error {
	h, w := (c.out.H-p.top+p.downH-1)/p.downH, (c.out.W-p.left+p.acrossW-1)/p.acrossW
	for _, t := range p.taps {
		if last := (h-1)*strideH + t.h; t.h < -c.in.Halo || last >= c.in.H+c.in.Halo {
			return fmt.Errorf("kernels: a window reaches row %d of %d with a halo of %d", max(last, -t.h),
				c.in.H, c.in.Halo)
		}
		if last := (w-1)*strideW + t.w; t.w < -c.in.Halo || last >= c.in.W+c.in.Halo {
			return fmt.Errorf("kernels: a window reaches column %d of %d with a halo of %d", max(last, -t.w),
				c.in.W, c.in.Halo)
		}
	}
	if c.in.Blocks()*len(p.taps) > mostReduced {
		return fmt.Errorf("kernels: sums over %d channels and %d taps", c.in.C, len(p.taps))
	}
	if n := len(c.passes); n > 0 {
		p.weights, p.chunk = c.passes[n-1].weights+c.passes[n-1].size(),
			c.passes[n-1].chunk+c.passes[n-1].chunks
	}
	if len(p.taps) == 0 { // nothing reaches these pixels
		p.bunch = 1
		p.schedule = schedule{images: c.out.N, outs: c.groups(), blocks: 1, strips: 1,
			chunks: min(1, c.out.N)}
		p.rows = []int{0, h}
		c.passes = append(c.passes, p)
		return nil
	}
	for range max(1, c.repeat) {
		p.addSteps(c)
	}
	grid := pixelGrid{h, w, strideH, strideW, c.in, c.in.imageBytes(), c.apart}
	tiles := grid.cut(1, len(p.steps))
	if p.downH == 1 && p.acrossW == 1 {
		tiles = grid.bunch(c.out.N, len(p.steps))
	}
	p.bunch = tiles.images
	var err error
	if p.rows, err = p.lay(grid, tiles, p.place(c.out.Halo, c.out.rowLines())); err != nil {
		return err
	}
	read := c.in.imageLines() * c.in.pixel() * min(c.kh, strideH) / strideH // other rows nobody reads
	p.schedule = newSchedule(c.out.N/p.bunch, c.groups(), &p.tiling, read*p.bunch, len(p.steps)*stepSize)
	c.passes = append(c.passes, p)
	return nil
}

// addSteps appends the steps of a sum: a line of each tap and block, or a row of taps of pixels of 4 lanes.
func (p *convPass) addSteps(c *tileConv) {
	if c.in.Lanes == PixelLanes {
		for _, t := range p.taps {
			if t.kw == 0 {
				p.steps = append(p.steps, (t.h*c.in.rowLines()+t.w)*PixelLanes)
			}
		}
		return
	}
	for b := range c.in.Blocks() {
		for _, t := range p.taps {
			p.steps = append(p.steps, (b*c.in.planeLines()+t.h*c.in.rowLines()+t.w)*lineBytes)
		}
	}
}

// place is where pixel (h, w) of the pass lies in a plane, in bytes.
func (p *convPass) place(halo, row int) func(h, w int) int {
	top, left, down, across := p.top+halo, p.left+halo, p.downH, p.acrossW
	return func(h, w int) int { return ((top+h*down)*row + left + w*across) * lineBytes }
}

// fetching is how many lines of the weights of the unit after u a step of u fetches.
func (p *convPass) fetching(u unit) int {
	if u.next == u.o {
		return 0
	}
	return fetching(u.hi-u.lo, len(p.steps)*stepSize, p.size())
}

// size is the bytes of its packed weights.
func (p *convPass) size() int { return p.outs * len(p.steps) * stepSize }

// groups is the number of groups of 32 outputs.
func (c *tileConv) groups() int { return (c.out.C + tileOuts - 1) / tileOuts }

// weightBytes is the bytes of the packed weights.
func (c *tileConv) weightBytes() int {
	last := &c.passes[len(c.passes)-1]
	return last.weights + last.size()
}

// eachWeight calls f for every weight: that of a pass, of output o and the k-th value of its reduction, and
// its place in plain [O,C,KH,KW].
func (c *tileConv) eachWeight(f func(p *convPass, o, k, plain int)) {
	outs, ins, lanes := c.out.C, c.in.C, c.in.Lanes
	for i := range c.passes {
		p := &c.passes[i]
		for o := range outs {
			for k := range ins {
				from := o*ins + k
				if c.flipped {
					from = k*outs + o
				}
				for t, tap := range p.taps {
					f(p, o, (k/lanes*len(p.taps)+t)*lanes+k%lanes, (from*c.kh+tap.kh)*c.kw+tap.kw)
				}
			}
		}
	}
}

// eachPlace calls f for the places of the pass's pixels in a plane.
func (p *convPass) eachPlace(l LineLayout, f func(place int)) {
	place := p.place(l.Halo, l.rowLines())
	for h := p.top; h < l.H; h += p.downH {
		for w := p.left; w < l.W; w += p.acrossW {
			f(place((h-p.top)/p.downH, (w-p.left)/p.acrossW))
		}
	}
}

// eachImage calls f for the images of a unit, with those rows of an output of so many whose halo the pass writes:
// the first pass does so for all.
func (p *convPass) eachImage(u unit, high int, f func(n, lo, hi int)) {
	if p.top > 0 || p.left > 0 {
		return
	}
	rows := p.rows[len(p.rows)-1] / p.bunch
	for i := range p.bunch {
		lo, hi := max(0, p.rows[u.lo]-i*rows), min(rows, p.rows[u.hi]-i*rows)
		if lo < hi {
			f(u.n*p.bunch+i, lo*p.downH, min(hi*p.downH, high))
		}
	}
}

// Chunks is the number of chunks of Run.
func (c *tileConv) Chunks() int {
	last := &c.passes[len(c.passes)-1]
	return last.chunk + last.chunks
}

// Scratch is the number of floats that each concurrent Run needs, on a boundary of 64 bytes best.
func (c *tileConv) Scratch() int { return tileScratch }

// pass is the one that a chunk belongs to.
func (c *tileConv) pass(chunk int) *convPass {
	i := len(c.passes) - 1
	for c.passes[i].chunk > chunk {
		i--
	}
	return &c.passes[i]
}

// Cost estimates Run.
func (c *tileConv) Cost() float64 {
	cost := FarCost(int64(c.in.N*(c.in.imageLines()*c.in.pixel()+c.out.imageLines()*lineBytes))) / 4
	for i := range c.passes {
		if p := &c.passes[i]; len(p.taps) > 0 {
			cost += p.cost(&p.tiling)
		}
	}
	return cost
}
