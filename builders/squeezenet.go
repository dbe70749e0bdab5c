package builders

// squeezenets are torchvision.models.squeezenet (Iandola et al. 2016).
var squeezenets = []network{
	classifier("squeezenet1_0", "SqueezeNet 1.0", 224, squeezenet(96, 7, map[int]bool{3: true, 7: true})),
	classifier("squeezenet1_1", "SqueezeNet 1.1, a third of the work", 224,
		squeezenet(64, 3, map[int]bool{2: true, 4: true})),
}

// fires are the channels between the 1x1 and 3x3 convolutions of the eight fire modules.
var fires = []int{16, 16, 32, 32, 48, 48, 64, 64}

// squeezenet starts with a convolution of k x k, and pools after the fire modules of these numbers as well.
func squeezenet(channels, k int, pools map[int]bool) func(*Builder, Config) Value {
	return func(b *Builder, cfg Config) Value {
		he, zero := WeightInit(KaimingUniform), BiasInit(Zeros)
		f := b.sequential("features")
		x := f.Conv2d(f.next(), b.Input(), channels, k, Stride(2), he, zero)
		x = f.ReLU(f.next(), x)
		x = f.MaxPool2d(f.next(), x, 3, Stride(2), CeilMode())
		for i, squeeze := range fires {
			x = f.Scope(f.next()).fire(x, squeeze, he, zero)
			if pools[i+1] {
				x = f.MaxPool2d(f.next(), x, 3, Stride(2), CeilMode())
			}
		}
		c := b.Scope("classifier")
		x = c.Conv2d("1", c.Dropout("0", x, 0.5), cfg.Classes, 1, WeightInit(Normal(0.01)), zero)
		return b.Flatten("flatten", c.GlobalAvgPool2d("3", c.ReLU("2", x)))
	}
}

// fire squeezes the channels and expands them four times each by 1x1 and 3x3 convolutions.
func (b *Builder) fire(x Value, squeeze int, opts ...Option) Value {
	x = b.ReLU("squeeze_activation", b.Conv2d("squeeze", x, squeeze, 1, opts...))
	one := b.ReLU("expand1x1_activation", b.Conv2d("expand1x1", x, 4*squeeze, 1, opts...))
	three := b.Conv2d("expand3x3", x, 4*squeeze, 3, append([]Option{Pad(1)}, opts...)...)
	return b.Concat("cat", one, b.ReLU("expand3x3_activation", three))
}
