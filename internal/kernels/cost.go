package kernels

// The costs of this file are in cycles of one core that multiplies 16 floats in each, with constants
// as measured on Zen 4. They choose between algorithms and tell a user what to expect; the README
// compares them with measurements.
const (
	inputCost    = 190     // of B' x B of 16 lanes
	outputCost   = 150     // of A' m A
	tapsCost     = 110     // of G w G'
	rowLineCost  = 40      // of B' x, A' m or A y of 16 lanes, along rows
	rowStoreCost = 3       // of a sum of products
	rowTapsCost  = 25      // of G w
	farBytes     = 6       // a cycle, from the third-level cache or memory
	nearFloats   = 1 << 18 // that stay in the second-level cache
	firstFloats  = 1 << 13 // that stay in the first-level cache, beside others
)

// NanosecondsPerCycle is the length of a cycle of the costs: 32 floating-point operations at 112 GFLOP/s.
const NanosecondsPerCycle = 32 / 112.

// BytesPerNanosecond is what elementwise kernels move.
const BytesPerNanosecond = 20

// far is the cost of moving floats that do not stay in the second-level cache.
func far(floats int) float64 {
	if floats < nearFloats {
		return 0
	}
	return float64(floats) * 4 / farBytes
}

// width is what a block of lanes costs: half for 8.
func (l Layout) width() float64 { return float64(l.Blocks()) * float64(min(l.Lanes, Block)) / Block }

// products is the number of multiplications of 16 floats by each pixel of out of taps taps of in.
func products(in, out Layout, pixels, taps int) float64 {
	return 1.05*float64(out.N*pixels*taps*in.C)*out.width() + far(taps*in.C*out.Blocks()*Block)
}

// ForwardCost estimates Forward.
func (c *Conv) ForwardCost() float64 {
	return products(c.X, c.Y, c.Y.H*c.Y.W, c.KH*c.KW) * c.density()
}

// BackwardDataCost estimates BackwardData.
func (c *Conv) BackwardDataCost() float64 {
	return products(c.DY, c.DX, c.DX.H*c.DX.W, c.KH*c.KW) * c.density() / float64(c.StrideH*c.StrideW)
}

// BackwardWeightsCost estimates BackwardWeights.
func (c *Conv) BackwardWeightsCost() float64 {
	return products(c.X, c.DY, c.DY.H*c.DY.W, c.KH*c.KW) * c.density()
}

// density is the share of the pairs of channels that are multiplied: all without groups.
func (c *Conv) density() float64 { return float64(total(c.outs)) / float64(len(c.outs)*c.X.C) }

// cost is of a pass that takes map a with map b: memory bounds it where they do not stay
// in the second-level cache.
func (d *Depthwise) cost(a, b Layout) float64 {
	return max(1.6*float64(d.Y.N*d.Y.Blocks()*d.Y.H*d.Y.W*len(d.taps)*d.per), far(a.Size()+b.Size()))
}

// ForwardCost estimates Forward.
func (d *Depthwise) ForwardCost() float64 { return d.cost(d.X, d.Y) }

// BackwardDataCost estimates BackwardData.
func (d *Depthwise) BackwardDataCost() float64 { return d.cost(d.DX, d.DY) }

// BackwardWeightsCost estimates BackwardWeights.
func (d *Depthwise) BackwardWeightsCost() float64 { return d.cost(d.X, d.DY) }

// Cost estimates Run and, unless the weights are constant, Transform.
func (p *tilePass) Cost(constant bool) float64 {
	in, out := float64(p.in.C), float64(p.out.Blocks())
	n := p.rows() * p.wide
	// of a register tile: few of them wait for the weights
	rows := float64(min(n, p.group*p.wide, tileWidth(false)))
	cost := float64(n) * (positions*in*out*(1+1.5/rows) + inputCost*float64(p.in.Blocks()*p.parts) +
		outputCost*out)
	if constant {
		return cost + float64(p.groups())*far(p.WeightSize())*waiting()
	}
	return cost + float64(p.groups())*far(p.WeightSize()) + tapsCost*in*out + 1.5*far(p.WeightSize())
}

// waiting is how much more of its time than Zen 4 this processor waits for memory: Intel's with AVX-512
// multiplies up to twice as many floats a second, 14 GB/s of weights a core.
func waiting() float64 {
	if current == levelAVX512 && intel() {
		return 2
	}
	return 1
}

// Cost estimates Run.
func (w *tileWeights) Cost() float64 {
	in, out := float64(w.c.C), float64(w.o.Blocks())
	n := float64(w.x.rows() * w.x.wide)
	cost := n * (positions*in*out + inputCost*float64(w.c.Blocks()*w.parts) + outputCost*out)
	blocks := (w.x.rows() + w.group - 1) / w.group
	cost += float64(w.groups)*tapsCost*in*out +
		float64(2*blocks+2*w.groups)*far(positions*w.uStep)*float64(w.parts)
	return cost + float64(2*blocks*w.parts)*far(positions*w.vStep)
}

// FarCost is the cost of moving bytes that come from memory.
func FarCost(bytes int64) float64 { return float64(bytes) / farBytes }

// Cost estimates Run and, unless the weights are constant, Transform.
func (p *rowPass) Cost(constant bool) float64 {
	c, tiles := float64(p.in.C), float64(p.out.N*p.wide)
	whole := (p.out.H/p.parts - p.kh + 1) * p.images * p.wide // go into the inner loop together
	pixels := float64(min(max(whole, p.images*p.wide), tileWidth(p.out.narrow())))
	taps := 0 // rows of the kernel inside the map
	for h := range p.out.H {
		taps += min(p.kh, p.in.H+p.top-h) - max(0, p.top-h)
	}
	cost := tiles * rowPositions * float64(taps) * c * p.out.width() * (1.05 + 1.5/pixels)
	cost += tiles * rowPositions * float64(p.out.H*p.out.Blocks()) * rowStoreCost
	cost += tiles * rowLineCost * (float64(p.in.H+p.kh*(p.parts-1))*p.in.lines() +
		float64(p.out.H)*p.out.width())
	cost += float64(p.Chunks()) * far(p.WeightSize())
	if !constant {
		cost += rowTapsCost*float64(p.kh)*c*float64(p.out.Blocks()) + 1.5*far(p.WeightSize())
	}
	return cost
}

// lines is what a transform's vectors of 16 lanes cost: those of 4 lanes as much as 8.
func (l Layout) lines() float64 {
	return float64(l.Blocks()) * float64(max(narrowBlock, l.Lanes)) / Block
}

// Cost estimates Run.
func (w *rowWeightsPass) Cost() float64 {
	c, n := float64(w.in.C), float64(w.out.N*w.wide)
	deep := float64(min(w.runs[0].length, gradDepth(w.out.narrow())))
	cost := n * rowPositions * float64(w.kh*w.out.H) * c * w.out.width() * (1.05 + 1.5/deep)
	cost += n * rowLineCost * (float64(w.out.H+w.parts*(w.kh-1))*w.in.lines() +
		float64(w.out.H)*w.out.width())
	cost += float64(w.groups) * rowTapsCost * float64(w.kh) * c * float64(w.out.Blocks())
	return cost + float64(2*w.units())*far(rowPositions*w.uStep)
}

// Cost estimates Run.
func (g *Gemm) Cost() float64 {
	rows := float64(min(g.M, tileWidth(false)))
	cost := 1.1*float64(g.M*g.panels()*g.K)*(1+1.5/rows) + far(g.K*g.N)
	if !g.Packed {
		cost += float64(g.chunks/g.across()) * float64(g.K*g.N) / 8
	}
	return cost
}
