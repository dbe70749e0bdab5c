package builders

import "strconv"

// densenets are torchvision.models.densenet (Huang et al. 2017).
var densenets = []network{
	denseNet("densenet121", "DenseNet-121", 32, 64, 6, 12, 24, 16),
	denseNet("densenet161", "DenseNet-161", 48, 96, 6, 12, 36, 24),
	denseNet("densenet169", "DenseNet-169", 32, 64, 6, 12, 32, 32),
	denseNet("densenet201", "DenseNet-201", 32, 64, 6, 12, 48, 32),
}

// denseNet adds growth channels a layer to the channels that it starts with.
func denseNet(name, summary string, growth, channels int, blocks ...int) network {
	he := []Option{NoBias(), WeightInit(KaimingNormalIn)}
	return classifier(name, summary, 224, func(b *Builder, cfg Config) Value {
		f := b.Scope("features")
		x := f.Conv2d("conv0", b.Input(), channels, 7, append([]Option{Stride(2), Pad(3)}, he...)...)
		x = f.MaxPool2d("pool0", f.ReLU("relu0", f.BatchNorm2d("norm0", x)), 3, Stride(2), Pad(1))
		for i, layers := range blocks {
			x = f.Scope("denseblock"+strconv.Itoa(i+1)).denseBlock(x, layers, growth, he)
			if i < len(blocks)-1 && b.is3("transition", x) {
				t := f.Scope("transition" + strconv.Itoa(i+1))
				x = t.Conv2d("conv", t.ReLU("relu", t.BatchNorm2d("norm", x)), int(x.Shape[0]/2), 1, he...)
				x = t.AvgPool2d("pool", x, 2)
			}
		}
		x = b.ReLU("relu", f.BatchNorm2d("norm5", x))
		return b.Linear("classifier", b.Flatten("flatten", b.GlobalAvgPool2d("avgpool", x)), cfg.Classes,
			BiasInit(Zeros))
	})
}

// denseBlock joins to its channels those that each layer makes of all before.
func (b *Builder) denseBlock(x Value, layers, growth int, he []Option) Value {
	for i := range layers {
		l := b.Scope("denselayer" + strconv.Itoa(i+1))
		y := l.Conv2d("conv1", l.ReLU("relu1", l.BatchNorm2d("norm1", x)), 4*growth, 1, he...)
		y = l.Conv2d("conv2", l.ReLU("relu2", l.BatchNorm2d("norm2", y)), growth, 3,
			append([]Option{Pad(1)}, he...)...)
		x = l.Concat("cat", x, y)
	}
	return x
}
