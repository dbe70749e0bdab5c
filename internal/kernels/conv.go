package kernels

import "fmt"

// ConvSpec is the geometry of a two-dimensional convolution: X [N,C,H,W] to Y [N,O,OH,OW]. DX and DY are the
// layouts of the gradients, of the same shapes as X and Y; they may be left zero when there are none.
// Backward-data needs the halo around DY that ConvHalo tells; without it BackwardData panics.
type ConvSpec struct {
	X, Y, DX, DY     Layout
	KH, KW           int
	StrideH, StrideW int
	PadTop, PadLeft  int
	DilH, DilW       int
	Group            int // of channels, each convolved by itself; 0 is one
}

// ConvHalo is the halo that the forward pass needs around X and backward-data around DY. The
// padding at the bottom and on the right is what the last window reaches past X: negative where no
// window reaches the last pixels.
func ConvHalo(kh, kw, strideH, strideW, padTop, padLeft, padBottom, padRight, dilH, dilW int) (x, dy int) {
	need := func(k, stride, dilation, before, after int) int {
		return max(0, ((k-1)*dilation-before+stride-1)/stride, ((k-1)*dilation-after)/stride)
	}
	x = max(padTop, padLeft, padBottom, padRight, 0)
	dy = max(need(kh, strideH, dilH, padTop, padBottom), need(kw, strideW, dilW, padLeft, padRight))
	return x, dy
}

// Conv is a planned convolution.
//
// Weights are packed [O/16][K][16], where K runs over (block of C, kh, kw, channel in the block): real
// channels only, the lanes past O are zero. Backward-data reads them flipped: [C/16][K'][16] with K' over
// (parity of the position in the stride, block of O, kh, kw, channel).
//
// With groups, K runs over the blocks of C in which the groups of the 16 output channels lie, and a weight
// between channels of different groups is zero. Groups of multiples of 16 channels waste nothing, groups
// of 4 do 4 times the work.
type Conv struct {
	ConvSpec
	outs, ins []reach // of the blocks of y, and of the blocks of 16 channels of dx
	runs      []run   // of the forward pass, from the window's origin
	starts    []int   // of each block of x in runs
	back      []parity
	backTaps  int   // of all parities
	own       []own // lanes of the rows of packed weights that are not zero for good; nil: all
	wide      int   // blocks of y that a forward unit has: 2 where tiles take two panels of weights
	units     int   // rows a forward unit has
	forward   int   // chunks
	data      int
	need      int // halo around dy that backward-data reads
	sums      int // partial sums of the weight gradient
}

// parity is the part of backward-data that writes the pixels of one residue of the stride.
type parity struct {
	h, w   int
	runs   []run
	starts []int    // of each block of dy in runs
	taps   [][2]int // (kh, kw) in the order of the flipped weights of one block of O
	before int      // taps of the parities before
	top    int      // row of dy of the first tap, less the row of dx over the stride
	rows   int      // of taps
	apart  int      // rows of dy between those
}

// NewConv plans a convolution; an error says that these kernels do not cover it.
func NewConv(s ConvSpec) (*Conv, error) {
	if err := s.settle(); err != nil {
		return nil, err
	}
	c := &Conv{ConvSpec: s}
	c.planGroups()
	c.planForward()
	c.planBackwardData()
	c.planBackwardWeights()
	return c, nil
}

// Check refuses what NewConv refuses, without planning anything.
func (s ConvSpec) Check() error { return s.settle() }

// settle fills in what was left zero and checks the geometry.
func (s *ConvSpec) settle() error {
	if s.DX == (Layout{}) {
		s.DX = s.X
	}
	if s.DY == (Layout{}) {
		s.DY = s.Y
	}
	s.Group = max(s.Group, 1)
	for _, l := range []Layout{s.X, s.Y, s.DX, s.DY} {
		if err := l.valid(); err != nil {
			return err
		}
	}
	if !s.X.sameShape(s.DX) || !s.Y.sameShape(s.DY) || s.X.N != s.Y.N {
		return fmt.Errorf("kernels: convolution of %+v to %+v with gradients %+v and %+v", s.X,
			s.Y, s.DX, s.DY)
	}
	if s.Y.Lanes < narrowBlock || s.DY.Lanes < narrowBlock {
		return fmt.Errorf("kernels: a convolution's output has 16 or 8 lanes")
	}
	if s.Group < 1 || s.X.C%s.Group != 0 || s.Y.C%s.Group != 0 {
		return fmt.Errorf("kernels: convolution of %d to %d channels in %d groups", s.X.C, s.Y.C, s.Group)
	}
	if s.KH < 1 || s.KW < 1 || s.StrideH < 1 || s.StrideW < 1 || s.DilH < 1 || s.DilW < 1 || s.PadTop < 0 ||
		s.PadLeft < 0 {
		return fmt.Errorf("kernels: convolution with kernel %dx%d, strides %dx%d, dilations %dx%d, pads %d,%d", s.KH, s.KW,
			s.StrideH, s.StrideW, s.DilH, s.DilW, s.PadTop, s.PadLeft)
	}
	bottom := (s.Y.H-1)*s.StrideH + (s.KH-1)*s.DilH + 1 - s.X.H - s.PadTop
	right := (s.Y.W-1)*s.StrideW + (s.KW-1)*s.DilW + 1 - s.X.W - s.PadLeft
	if x := max(s.PadTop, s.PadLeft, bottom, right); s.X.Halo < x {
		return fmt.Errorf("kernels: the convolution needs a halo of %d around x, which has %d", x, s.X.Halo)
	}
	return nil
}

// planForward lists the runs. Where taps are adjacent and all lanes real, a row of the kernel is one run.
func (c *Conv) planForward() {
	x := c.X
	for b := range x.Blocks() {
		c.starts = append(c.starts, len(c.runs))
		for kh := range c.KH {
			base := b*x.plane() + kh*c.DilH*x.row()
			if c.DilW == 1 && x.real(b) == x.Lanes {
				c.runs = append(c.runs, run{base, c.KW * x.Lanes})
				continue
			}
			for kw := range c.KW {
				c.runs = append(c.runs, run{base + kw*c.DilW*x.Lanes, x.real(b)})
			}
		}
	}
	c.starts = append(c.starts, len(c.runs))
	c.wide = 1
	if pairWidth() > 0 && c.Group == 1 && c.Y.Blocks() > 1 {
		c.wide = 2
	}
	perRow := c.Y.W * widest(c.outs) * c.KH * c.KW * Block * 2 * c.wide
	planes := c.Y.N * c.stripes()
	least := (shares(planes*c.Y.H*perRow, 4) + planes - 1) / planes // units of a plane
	c.units = max(1, min((c.Y.H+least-1)/least, 1_000_000/max(perRow, 1)))
	if whole := rowsOfTile(c.Y.W, c.tileWidth()); whole > 1 {
		c.units = min(c.Y.H, (c.units+whole-1)/whole*whole)
	}
	// Weights of a few pixels come from memory: a float takes as long as 24 operations.
	c.forward = shares(max(planes*c.Y.H*perRow, 24*c.WeightSize()), c.forwardUnits())
}

// trim leaves out the rows of a kernel that lie in the halo, where all runs belong to one block of channels:
// the runs and the weights of a row follow one another. The zero trim leaves nothing out.
type trim struct {
	rows     int // of the kernel; 0: nothing is left out
	runs     int // of a row
	weights  int // floats of a row
	dilation int
}

// newTrim is for runs of the blocks that r reaches, with rows of the kernel of taps taps.
func newTrim(r reach, runs, taps, rows, dilation int) trim {
	if r.last-r.first > 1 || rows < 2 {
		return trim{}
	}
	return trim{rows, runs / rows, taps / rows * r.channels * Block, dilation}
}

// inside keeps the rows that lie in [0, high) when the first lies at top, one at least. The same rows are to
// be kept for the many windows from there on, of at most most, each step rows below the last.
func (t trim) inside(runs []run, w []float32, top, step, most, high int) (in []run, weights []float32,
	many int) {
	if t.rows < 2 {
		return runs, w, most
	}
	if room := high - 1 - top - (t.rows-1)*t.dilation; top >= 0 && room >= 0 {
		return runs, w, min(most, room/step+1)
	}
	lo, hi := 0, t.rows
	for lo < hi-1 && top+lo*t.dilation < 0 {
		lo++
	}
	for hi > lo+1 && top+(hi-1)*t.dilation >= high {
		hi--
	}
	return runs[lo*t.runs : hi*t.runs], w[lo*t.weights : hi*t.weights], 1
}

// order is the order in which the parts of the planes of a map are computed.
type order struct {
	images, blocks, parts int  // parts of a plane
	together              int  // images whose planes of one block follow one another
	inner                 bool // the blocks of one part follow one another
}

// newOrder is the order in which a dense convolution reads a source: where the map is too large for the
// second-level cache and all weights are not, a stretch of its rows is read from memory once, for all blocks;
// where the weights are too large, those of a block are read once for as many images as stay in the cache.
func newOrder(source, out Layout, parts, weights int) order {
	o := order{images: out.N, blocks: out.Blocks(), parts: parts, together: 1}
	o.inner = source.image() > 64<<10 && weights <= 128<<10
	if weights > nearFloats {
		o.together = max(1, nearFloats/source.image())
	}
	return o
}

// unit is where unit u begins: image, output block and part of the plane.
func (o *order) unit(u int) (n, b, part int) {
	if o.inner {
		return u / o.blocks / o.parts, u % o.blocks, u / o.blocks % o.parts
	}
	first := u / (o.together * o.blocks * o.parts) * o.together
	u -= first * o.blocks * o.parts
	each := min(o.together, o.images-first) * o.parts // units of a block
	return first + u%each/o.parts, u / each, u % o.parts
}

// turn says that unit u is number i of n units that read the same weights in a row; 0 of them
// where weights take turns.
func (o *order) turn(u int) (i, n int) {
	if o.inner {
		return 0, 0
	}
	first := u / (o.together * o.blocks * o.parts) * o.together
	n = min(o.together, o.images-first) * o.parts
	return (u - first*o.blocks*o.parts) % n, n
}

// order is newOrder for a dense convolution. In groups, a block reads few of the others' channels.
func (c *Conv) order(source, out Layout, parts, weights int) order {
	if c.Group > 1 {
		return order{images: out.N, blocks: out.Blocks(), parts: parts, together: 1}
	}
	return newOrder(source, out, parts, weights)
}

func (c *Conv) forwardUnits() int { return c.Y.N * c.stripes() * ((c.Y.H + c.units - 1) / c.units) }

// stripes is the number of the blocks of y, or of pairs of them.
func (c *Conv) stripes() int { return (c.Y.Blocks() + c.wide - 1) / c.wide }

// tileWidth is the number of pixels of the widest tile of the forward pass.
func (c *Conv) tileWidth() int {
	if c.wide > 1 {
		return pairWidth()
	}
	return tileWidth(c.Y.narrow())
}

// WeightSize is the number of floats of the packed weights.
func (c *Conv) WeightSize() int { return total(c.outs) * c.KH * c.KW * Block }

// row is the packed row of weights of (output block, input block, kh, kw, lane).
func (c *Conv) row(ob, b, kh, kw, lane int) int {
	r := &c.outs[ob]
	return (r.offset+(b-r.first)*c.X.Lanes)*c.KH*c.KW + (kh*c.KW+kw)*c.X.real(b) + lane
}

// Pack packs weights [O,C/Group,KH,KW].
func (c *Conv) Pack(dst, oihw []float32) {
	for i := range c.PackChunks() {
		c.PackPart(i, dst, oihw)
	}
}

// PackChunks is the number of chunks of PackPart: one a block of output channels, or one for all groups.
func (c *Conv) PackChunks() int {
	if c.Group > 1 {
		return 1
	}
	return len(c.outs)
}

// PackPart packs a part of the weights. 16 weights of each of 16 output channels are turned at a time, so
// that both sides move whole lines of the cache.
func (c *Conv) PackPart(chunk int, dst, oihw []float32) {
	if c.Group > 1 {
		clear(dst[:c.WeightSize()])
		c.eachWeight(func(packed, plain int) { dst[packed] = oihw[plain] })
		return
	}
	n := c.BlockSize()
	c.PackBlock(chunk, dst[chunk*n:][:n], oihw)
}

// BlockSize is the number of floats of the packed weights of an output block, without groups.
func (c *Conv) BlockSize() int { return c.X.C * c.KH * c.KW * Block }

// PackBlock packs the weights of an output block, without groups.
func (c *Conv) PackBlock(block int, dst, oihw []float32) {
	taps := c.KH * c.KW
	outs, deep := min(Block, c.Y.C-block*Block), c.X.C*taps
	src := oihw[block*Block*deep:][:outs*deep]
	var turned [Block * Block]float32
	i, tap := 0, 0 // channel and tap of the next row
	for k := 0; k < deep; k += Block {
		n := min(Block, deep-k)
		gather(turned[:], src[k:], deep, n, outs)
		for j := range n {
			b, lane := i/c.X.Lanes, i%c.X.Lanes
			row := b*c.X.Lanes*taps + tap*c.X.real(b) + lane
			copy(dst[row*Block:][:Block], turned[j*Block:])
			if tap++; tap == taps {
				i, tap = i+1, 0
			}
		}
	}
}

// Unpack is the reverse of Pack.
func (c *Conv) Unpack(oihw, packed []float32) {
	c.eachWeight(func(p, plain int) { oihw[plain] = packed[p] })
}

func (c *Conv) eachWeight(f func(packed, plain int)) {
	plain, in, out := 0, c.X.C/c.Group, c.Y.C/c.Group
	for o := range c.Y.C {
		for i := o / out * in; i < (o/out+1)*in; i++ {
			for kh := range c.KH {
				for kw := range c.KW {
					f(c.row(o/Block, i/c.X.Lanes, kh, kw, i%c.X.Lanes)*Block+o%Block, plain)
					plain++
				}
			}
		}
	}
}

// fetch lets unit i of n fetch its share of the weights that come next into the second-level cache: they may
// lie in memory, where the inner loop would wait for them.
func (c *Conv) fetch(a *tile, next []float32, i, n int) {
	a.ahead, a.aheadStep = nil, 0
	if n == 0 || len(next) == 0 {
		return
	}
	from, to := span(min(len(next), 2*a.wNext), i, n)
	tiles := (c.units*c.Y.W + pairWidth() - 1) / pairWidth()
	a.ahead = next[from:]
	a.aheadStep = max(4, 4*(to-from)/(tiles*max(1, a.wNext/Block/4))/4*4)
}

// ForwardChunks is the number of chunks of Forward.
func (c *Conv) ForwardChunks() int { return c.forward }

// Forward computes a part of y = conv(x, w).
func (c *Conv) Forward(chunk int, y, x, w []float32, e Epilogue) {
	lo, hi := span(c.forwardUnits(), chunk, c.forward)
	perPlane := (c.Y.H + c.units - 1) / c.units
	turns := c.order(c.X, c.Y, perPlane, c.WeightSize())
	turns.blocks = c.stripes()
	a := tile{xStride: c.StrideW * c.X.Lanes, yStride: c.Y.Lanes, narrow: c.Y.narrow(), act: e.act(),
		high: e.High}
	beside := e.beside()
	for u := lo; u < hi; u++ {
		n, ob, part := turns.unit(u)
		ob *= c.wide
		blocks := min(c.wide, c.Y.Blocks()-ob)
		r := c.outs[ob]
		panel := r.channels * c.KH * c.KW * Block
		runs, weights := c.runs[c.starts[r.first]:c.starts[r.last]],
			w[r.offset*c.KH*c.KW*Block:][:blocks*panel]
		if a.wNext = 0; blocks > 1 {
			a.wNext, a.yBeside = panel, c.Y.plane()
			i, n := turns.turn(u)
			c.fetch(&a, w[r.offset*c.KH*c.KW*Block+blocks*panel:c.WeightSize()], i, n)
		}
		trim := newTrim(r, len(runs), c.KH*c.KW, c.KH, c.DilH)
		if e.Bias != nil {
			a.bias = e.Bias[ob*Block:][:blocks*Block]
		}
		first, last := part*c.units, min(c.Y.H, (part+1)*c.units)
		for h, many := first, 0; h < last; h += many {
			to, top := c.Y.at(n, ob, h, 0), h*c.StrideH-c.PadTop
			a.y = y[to:]
			a.x = x[c.X.at(n, 0, top, -c.PadLeft):]
			a.runs, a.w, many = trim.inside(runs, weights, top, c.StrideH, last-h, c.X.H)
			if beside != nil {
				a.res = beside[to:]
			}
			rowsOfTiles(many, c.Y.W, c.StrideH*c.X.row(), c.Y.row(), &a)
		}
		for b := ob; b < ob+blocks; b++ {
			e.finish(&c.Y, y, n, b, first, last)
			if e.Moments != nil {
				var m moments
				for h := first; h < last; h++ {
					m.add(y[c.Y.at(n, b, h, 0):][:c.Y.W*Block])
				}
				m.store(e.Moments[((n*perPlane+part)*c.Y.Blocks()+b)*record:])
			}
			c.Y.clearHalo(y, n, b, first, last)
		}
	}
}
