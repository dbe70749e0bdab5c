package builders

import "strconv"

// What the residual networks have in common.

// place is what a residual block needs to know of where it stands.
type place struct {
	channels, stride int
	before, dilation int     // of the block before, and of this one
	drop             float32 // probability that StochasticDepth drops the branch
}

// changes says that the block gives x another shape.
func (at place) changes(x Value, out int) bool {
	return at.stride != 1 || len(x.Shape) == 3 && x.Shape[0] != int64(out)
}

// residualBlock is a residual block.
type residualBlock func(b *Builder, x Value, at place) Value

// residualLayers are so many layers of cfg.Blocks blocks. Each has twice the channels of the one before, from
// cfg.Width on; all but the first halve height and width. Of all n blocks together, block i = 1..n is dropped
// with probability cfg.StochasticDepth*i/n, as in the paper (Huang et al. 2016, section 3: linear decay).
func (b *Builder) residualLayers(x Value, cfg Config, layers int, block residualBlock) Value {
	if out := b.dilatedLayers(x, cfg, layers, block, layers); len(out) > 0 {
		return out[len(out)-1]
	}
	return Value{}
}

// dilatedLayers are residualLayers of which those from the given one on widen their kernels instead of
// halving; all layers' outputs are given.
func (b *Builder) dilatedLayers(x Value, cfg Config, layers int, block residualBlock, from int) []Value {
	if !b.hasBlocks(cfg.Blocks, layers) {
		return nil
	}
	p := cfg.StochasticDepth
	if !(p >= 0 && p < 1) {
		b.fail("stochastic_depth", "%v is no probability in [0,1) of dropping the last block", p)
	}
	done, n := 0, 0
	for _, blocks := range cfg.Blocks {
		n += blocks
	}
	var out []Value
	dilation := 1
	for i, blocks := range cfg.Blocks {
		layer := b.Scope("layer" + strconv.Itoa(i+1))
		at := place{channels: cfg.Width << i, stride: 1, before: dilation, dilation: dilation}
		if i >= from {
			dilation *= 2
			at.dilation = dilation
		} else if i > 0 {
			at.stride = 2
		}
		for j := range blocks {
			done++
			at.drop = float32(p * float64(done) / float64(n))
			x = block(layer.Scope(strconv.Itoa(j)), x, at)
			at.stride, at.before = 1, at.dilation
		}
		out = append(out, x)
	}
	return out
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
