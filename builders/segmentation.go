package builders

// segmentations are torchvision.models.segmentation for the 21 classes of Pascal VOC: FCN (Long et al. 2014),
// DeepLab v3 (Chen et al. 2017) and LR-ASPP (Howard et al. 2019). Their output is as large as the input.
// Those whose published weights have an auxiliary head have it, and training adds its loss with half the
// weight, as torchvision's does.
var segmentations = []network{
	segmenter("fcn_resnet50", "FCN on a ResNet-50; an auxiliary head hangs on it in training",
		onResNet(fcn, 3, 4, 6, 3)),
	segmenter("fcn_resnet101", "FCN on a ResNet-101; an auxiliary head hangs on it in training",
		onResNet(fcn, 3, 4, 23, 3)),
	segmenter("deeplabv3_resnet50", "DeepLab v3 on a ResNet-50; an auxiliary head hangs on it in training",
		onResNet(deepLab, 3, 4, 6, 3)),
	segmenter("deeplabv3_resnet101", "DeepLab v3 on a ResNet-101; an auxiliary head hangs on it in training",
		onResNet(deepLab, 3, 4, 23, 3)),
	segmenter("deeplabv3_mobilenet_v3_large",
		"DeepLab v3 on a MobileNet v3; an auxiliary head hangs on it in training",
		func(b *Builder, cfg Config) Value {
			low, high := b.dilatedMobileNetV3()
			return b.masks(high, low, cfg.Classes, deepLab)
		}),
	segmenter("lraspp_mobilenet_v3_large", "LR-ASPP on a MobileNet v3", func(b *Builder, cfg Config) Value {
		low, high := b.dilatedMobileNetV3()
		return b.enlarged("out", b.Scope("classifier").liteRASPP(low, high, cfg.Classes))
	}),
}

// segmenter is a network of torchvision's that gives masks.
func segmenter(name, summary string, build func(b *Builder, cfg Config) Value) network {
	return network{Info{name, summary, Config{Input: [3]int{3, 520, 520}, Classes: 21}}, build}
}

// maskHead gives masks of x, smaller than the input.
type maskHead func(b *Builder, x Value, classes int) Value

// onResNet puts a head on a ResNet that widens its kernels in the last two layers instead of halving.
func onResNet(head maskHead, blocks ...int) func(*Builder, Config) Value {
	return func(b *Builder, cfg Config) Value {
		layers := b.Scope("backbone").dilatedResNet(Config{Blocks: blocks, Width: 64})
		if len(layers) < 4 {
			return Value{}
		}
		return b.masks(layers[3], layers[2], cfg.Classes, head)
	}
}

// dilatedResNet are the outputs of the four layers of bottlenecks.
func (b *Builder) dilatedResNet(cfg Config) []Value {
	return b.dilatedLayers(b.resnetStem(b.Input(), cfg.Width), cfg, 4, bottleneck(1, 64), 2)
}

// dilatedMobileNetV3 are MobileNet v3 large's features, an eighth and a sixteenth as high as the input.
func (b *Builder) dilatedMobileNetV3() (low, high Value) {
	x := b.mobileNetV3Features("backbone", b.Input(), largeV3, len(largeV3)-3, v3Options)
	return x[4], x[len(x)-1]
}

// masks is what FCN and DeepLab do with their features; low gets the auxiliary head.
func (b *Builder) masks(high, low Value, classes int, head maskHead) Value {
	out := b.enlarged("out", head(b.Scope("classifier"), high, classes))
	b.aux(b.enlarged("aux", fcn(b.Scope("aux_classifier"), low, classes)), 0.5)
	return out
}

// enlarged has the size of the input.
func (b *Builder) enlarged(name string, x Value) Value {
	in := b.Input().Shape
	return b.Resize(name, x, int(in[1]), int(in[2]), Bilinear)
}

// fcn is torchvision's FCNHead.
func fcn(b *Builder, x Value, classes int) Value {
	if !b.is3("0", x) {
		return Value{}
	}
	y := b.ReLU("2", b.BatchNorm2d("1", b.Conv2d("0", x, int(x.Shape[0]/4), 3, Pad(1), NoBias())))
	return b.Conv2d("4", b.Dropout("3", y, 0.1), classes, 1)
}

// deepLab is torchvision's DeepLabHead: pyramid, convolution, masks.
func deepLab(b *Builder, x Value, classes int) Value {
	x = b.Scope("0").pyramid(x, 12, 24, 36)
	x = b.ReLU("3", b.BatchNorm2d("2", b.Conv2d("1", x, 256, 3, Pad(1), NoBias())))
	return b.Conv2d("4", x, classes, 1)
}

// pyramid is torchvision's ASPP: convolutions of several dilations and the mean of
// every channel, side by side.
func (b *Builder) pyramid(x Value, dilations ...int) Value {
	if !b.is3("convs", x) {
		return Value{}
	}
	convs := b.sequential("convs")
	branches := []Value{convs.convNormAct(convs.next(), x, 256, 1, (*Builder).ReLU)}
	for _, d := range dilations {
		branches = append(branches, convs.convNormAct(convs.next(), x, 256, 3, (*Builder).ReLU, Dilation(d)))
	}
	p := convs.Scope(convs.next())
	mean := p.BatchNorm2d("2", p.Conv2d("1", p.GlobalAvgPool2d("0", x), 256, 1, NoBias()))
	mean = p.Resize("enlarged", p.ReLU("3", mean), int(x.Shape[1]), int(x.Shape[2]), Bilinear)
	y := b.Concat("cat", append(branches, mean)...)
	project := b.Scope("project")
	y = project.BatchNorm2d("1", project.Conv2d("0", y, 256, 1, NoBias()))
	return project.Dropout("3", project.ReLU("2", y), 0.5)
}

// liteRASPP is torchvision's LRASPPHead.
func (b *Builder) liteRASPP(low, high Value, classes int) Value {
	if !b.is3("cbr", low) {
		return Value{}
	}
	x, scale := b.convNormAct("cbr", high, 128, 1, (*Builder).ReLU), b.Scope("scale")
	s := scale.Sigmoid("2", scale.Conv2d("1", scale.GlobalAvgPool2d("0", high), 128, 1, NoBias()))
	x = b.Resize("enlarged", b.Mul("scaled", x, s), int(low.Shape[1]), int(low.Shape[2]), Bilinear)
	y := b.Conv2d("low_classifier", low, classes, 1)
	return b.Add("add", y, b.Conv2d("high_classifier", x, classes, 1))
}
