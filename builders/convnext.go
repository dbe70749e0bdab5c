package builders

import "strconv"

// convnexts are torchvision.models.convnext (Liu et al. 2022).
var convnexts = []network{
	convNeXt("convnext_tiny", "ConvNeXt tiny", 96, 0.1, 3, 3, 9, 3),
	convNeXt("convnext_small", "ConvNeXt small", 96, 0.4, 3, 3, 27, 3),
	convNeXt("convnext_base", "ConvNeXt base", 128, 0.5, 3, 3, 27, 3),
	convNeXt("convnext_large", "ConvNeXt large", 192, 0.5, 3, 3, 27, 3),
}

var convNeXtInit = []Option{WeightInit(TruncNormal(0.02)), BiasInit(Zeros)}

// convNeXt has four stages of width to 8 times width channels.
func convNeXt(name, summary string, width int, drop float64, blocks ...int) network {
	return deep(name, summary, 224, drop, func(b *Builder, cfg Config) Value {
		with := func(more ...Option) []Option { return append(more, convNeXtInit...) }
		f := b.sequential("features")
		stem := f.Scope(f.next())
		x := stem.LayerNorm2d("1", stem.Conv2d("0", b.Input(), width, 4, with(Stride(4))...), Eps(1e-6))
		at, total := 0, 0
		for _, n := range blocks {
			total += n
		}
		for i, n := range blocks {
			if i > 0 {
				down := f.Scope(f.next())
				x = down.Conv2d("1", down.LayerNorm2d("0", x, Eps(1e-6)), width<<i, 2, with(Stride(2))...)
			}
			stage := f.Scope(f.next())
			for j := range n {
				drop := cfg.StochasticDepth * float64(at) / float64(total-1)
				x = stage.Scope(strconv.Itoa(j)).convNeXtBlock(x, width<<i, float32(drop))
				at++
			}
		}
		c := b.Scope("classifier")
		x = c.LayerNorm("0", b.Flatten("flatten", b.GlobalAvgPool2d("avgpool", x)), Eps(1e-6))
		return c.Linear("2", x, cfg.Classes, convNeXtInit...)
	})
}

// convNeXtBlock is a depthwise convolution and two linear layers over the channels.
func (b *Builder) convNeXtBlock(x Value, channels int, drop float32) Value {
	scale := b.Parameter("layer_scale", Fill(1e-6), channels, 1, 1)
	s := b.Scope("block")
	y := s.Conv2d("0", x, channels, 7, append([]Option{Pad(3), Groups(channels)}, convNeXtInit...)...)
	y = s.LayerNorm("2", s.Permute("1", y, 0, 2, 3, 1), Eps(1e-6))
	y = s.GELU("4", s.Linear("3", y, 4*channels, convNeXtInit...))
	y = s.Permute("6", s.Linear("5", y, channels, convNeXtInit...), 0, 3, 1, 2)
	y = b.StochasticDepth("stochastic_depth", b.Mul("scaled", scale, y), drop)
	return b.Add("add", y, x)
}
