package builders

import "strconv"

// What the residual networks have in common.

// residualBlock is a residual block with channels and stride, whose branch StochasticDepth drops with probability drop.
type residualBlock func(b *Builder, x Value, channels, stride int, drop float32) Value

// residualLayers are so many layers of cfg.Blocks blocks. Each has twice the channels of the one before, from cfg.Width on;
// all but the first halve height and width. Of all n blocks together, block i = 1..n is dropped with probability
// cfg.StochasticDepth*i/n, as in the paper (Huang et al. 2016, section 3: linear decay).
func (b *Builder) residualLayers(x Value, cfg Config, layers int, block residualBlock) Value {
	if !b.hasBlocks(cfg.Blocks, layers) {
		return Value{}
	}
	p := cfg.StochasticDepth
	if !(p >= 0 && p < 1) {
		b.fail("stochastic_depth", "%v is no probability in [0,1) of dropping the last block", p)
	}
	at, n := 0, 0
	for _, blocks := range cfg.Blocks {
		n += blocks
	}
	for i, blocks := range cfg.Blocks {
		layer := b.Scope("layer" + strconv.Itoa(i+1))
		for j := range blocks {
			stride := 1
			if i > 0 && j == 0 {
				stride = 2
			}
			at++
			x = block(layer.Scope(strconv.Itoa(j)), x, cfg.Width<<i, stride, float32(p*float64(at)/float64(n)))
		}
	}
	return x
}

// hasBlocks checks a number of blocks for each layer.
func (b *Builder) hasBlocks(blocks []int, layers int) bool {
	if len(blocks) != layers {
		b.fail("blocks", "%v: a number for each of the %d layers", blocks, layers)
	}
	for _, n := range blocks {
		if n < 1 {
			b.fail("blocks", "%v: at least one block a layer", blocks)
		}
	}
	return b.root.err == nil
}
