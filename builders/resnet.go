package builders

// resnets are torchvision.models.resnet (He et al. 2015, table 1) and its kin: ResNeXt (Xie et
// al. 2017), whose middle convolutions have groups, and Wide ResNet (Zagoruyko and Komodakis
// 2016), whose are twice as wide.
var resnets = []network{
	resnetOf("resnet18", "ResNet-18 as torchvision has it: four layers of two basic blocks",
		(*Builder).residual, 2, 2, 2, 2),
	resnetOf("resnet34", "ResNet-34", (*Builder).residual, 3, 4, 6, 3),
	resnetOf("resnet50", "ResNet-50: four layers of bottleneck blocks", bottleneck(1, 64), 3, 4, 6, 3),
	resnetOf("resnet101", "ResNet-101", bottleneck(1, 64), 3, 4, 23, 3),
	resnetOf("resnet152", "ResNet-152", bottleneck(1, 64), 3, 8, 36, 3),
	resnetOf("resnext50_32x4d", "ResNeXt-50, 32 groups of 4 channels", bottleneck(32, 4), 3, 4, 6, 3),
	resnetOf("resnext101_32x8d", "ResNeXt-101, 32 groups of 8 channels", bottleneck(32, 8), 3, 4, 23, 3),
	resnetOf("resnext101_64x4d", "ResNeXt-101, 64 groups of 4 channels", bottleneck(64, 4), 3, 4, 23, 3),
	resnetOf("wide_resnet50_2", "Wide ResNet-50-2", bottleneck(1, 128), 3, 4, 6, 3),
	resnetOf("wide_resnet101_2", "Wide ResNet-101-2", bottleneck(1, 128), 3, 4, 23, 3),
}

func resnetOf(name, summary string, block residualBlock, blocks ...int) network {
	n := classifier(name, summary, 224, func(b *Builder, cfg Config) Value {
		x := b.residualLayers(b.resnetStem(b.Input(), cfg.Width), cfg, 4, block)
		x = b.Flatten("flatten", b.AdaptiveAvgPool2d("avgpool", x, 1, 1))
		return b.Linear("fc", x, cfg.Classes)
	})
	n.Defaults.Blocks, n.Defaults.Width = blocks, 64
	return n
}

// resnetStem is what stands before the layers, which have width, 2, 4 and 8 times width channels.
func (b *Builder) resnetStem(x Value, width int) Value {
	return b.MaxPool2d("maxpool", b.resnetFirst(x, width), 3, Stride(2), Pad(1))
}

// resnetFirst is the convolution of x, with its norm and activation.
func (b *Builder) resnetFirst(x Value, width int) Value {
	x = b.Conv2d("conv1", x, width, 7, Stride(2), Pad(3), NoBias(), WeightInit(KaimingNormal))
	return b.ReLU("relu", b.BatchNorm2d("bn1", x))
}

// residual is torchvision.models.resnet.BasicBlock: its shortcut is a 1x1 convolution
// where the shape changes.
func (b *Builder) residual(x Value, at place) Value {
	he := WeightInit(KaimingNormal)
	y := b.Conv2d("conv1", x, at.channels, 3, Stride(at.stride), Pad(1), NoBias(), he)
	y = b.ReLU("relu1", b.BatchNorm2d("bn1", y))
	y = b.BatchNorm2d("bn2", b.Conv2d("conv2", y, at.channels, 3, Pad(1), NoBias(), he))
	return b.ReLU("relu2", b.Add("add", b.StochasticDepth("stochastic_depth", y, at.drop),
		b.downsample(x, at, at.channels)))
}

// bottleneck is torchvision.models.resnet.Bottleneck: 1x1, 3x3 in groups of perGroup channels (of 64 in the
// first layer), and 1x1 to four times the channels.
func bottleneck(groups, perGroup int) residualBlock {
	return func(b *Builder, x Value, at place) Value {
		he, out := WeightInit(KaimingNormal), 4*at.channels
		width := at.channels * perGroup / 64 * groups
		y := b.ReLU("relu1", b.BatchNorm2d("bn1", b.Conv2d("conv1", x, width, 1, NoBias(), he)))
		y = b.Conv2d("conv2", y, width, 3, Stride(at.stride), Pad(at.before), Dilation(at.before),
			Groups(groups), NoBias(), he)
		y = b.ReLU("relu2", b.BatchNorm2d("bn2", y))
		y = b.BatchNorm2d("bn3", b.Conv2d("conv3", y, out, 1, NoBias(), he))
		return b.ReLU("relu3", b.Add("add", b.StochasticDepth("stochastic_depth", y, at.drop),
			b.downsample(x, at, out)))
	}
}

// downsample is the shortcut of x: a 1x1 convolution where the shape changes.
func (b *Builder) downsample(x Value, at place, out int) Value {
	if !at.changes(x, out) {
		return x
	}
	d := b.Scope("downsample")
	return d.BatchNorm2d("1", d.Conv2d("0", x, out, 1, Stride(at.stride), NoBias(),
		WeightInit(KaimingNormal)))
}
