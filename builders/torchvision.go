package builders

import "strconv"

// The networks of torchvision.models, with torchvision's initial weights. Both give logits.

// resnet18 is torchvision.models.resnet18 (He et al. 2015, table 1), or with other numbers of blocks its kin of basic
// blocks: 3,4,6,3 is resnet34. The layers have Width, 2, 4 and 8 times Width channels.
func resnet18(b *Builder, cfg Config) Value {
	x := b.Conv2d("conv1", b.Input(), cfg.Width, 7, Stride(2), Pad(3), NoBias(), WeightInit(KaimingNormal))
	x = b.ReLU("relu", b.BatchNorm2d("bn1", x))
	x = b.MaxPool2d("maxpool", x, 3, Stride(2), Pad(1))
	x = b.residualLayers(x, cfg, 4, (*Builder).residual)
	x = b.Flatten("flatten", b.AdaptiveAvgPool2d("avgpool", x, 1, 1))
	return b.Linear("fc", x, cfg.Classes)
}

// residual is torchvision.models.resnet.BasicBlock: its shortcut is a 1x1 convolution where the shape changes.
func (b *Builder) residual(x Value, channels, stride int, drop float32) Value {
	he := WeightInit(KaimingNormal)
	y := b.ReLU("relu1", b.BatchNorm2d("bn1", b.Conv2d("conv1", x, channels, 3, Stride(stride), Pad(1), NoBias(), he)))
	y = b.BatchNorm2d("bn2", b.Conv2d("conv2", y, channels, 3, Pad(1), NoBias(), he))
	if stride != 1 || len(x.Shape) == 3 && x.Shape[0] != int64(channels) {
		d := b.Scope("downsample")
		x = d.BatchNorm2d("1", d.Conv2d("0", x, channels, 1, Stride(stride), NoBias(), he))
	}
	return b.ReLU("relu2", b.Add("add", b.StochasticDepth("stochastic_depth", y, drop), x))
}

// vgg16 is torchvision.models.vgg16 (Simonyan and Zisserman 2014, configuration D). The stages have Width, 2, 4, 8 and 8
// times Width channels, the fully connected layers 64 times Width features: 64 and 4096.
// Heights and widths of 224 to 287 fit, and those from each further multiple of 224 to 63 more.
func vgg16(b *Builder, cfg Config) Value {
	he, normal, zero := WeightInit(KaimingNormal), WeightInit(Normal(0.01)), BiasInit(Zeros)
	x, features := b.Input(), b.Scope("features")
	module := 0 // layers are named by their place in a torch.nn.Sequential
	next := func() string { module++; return strconv.Itoa(module - 1) }
	for stage, convs := range []int{2, 2, 3, 3, 3} {
		for range convs {
			x = features.Conv2d(next(), x, cfg.Width<<min(stage, 3), 3, Pad(1), he, zero)
			x = features.ReLU(next(), x)
		}
		x = features.MaxPool2d(next(), x, 2)
	}
	x = b.Flatten("flatten", b.AdaptiveAvgPool2d("avgpool", x, 7, 7))
	c := b.Scope("classifier")
	x = c.Dropout("2", c.ReLU("1", c.Linear("0", x, 64*cfg.Width, normal, zero)), 0.5)
	x = c.Dropout("5", c.ReLU("4", c.Linear("3", x, 64*cfg.Width, normal, zero)), 0.5)
	return c.Linear("6", x, cfg.Classes, normal, zero)
}
