package builders

import "fmt"

// cifar are the residual networks for images of 32x32.
var cifar = []network{
	{Info{"resnet", "ResNet for small images: three layers of basic blocks with 16, 32, 64 channels",
		Config{Input: [3]int{3, 32, 32}, Classes: 10, Blocks: []int{2, 2, 2}, Width: 16}}, resnet},
	{Info{"resnet9", "ResNet-9 of the DAWNBench CIFAR-10 entries: eight 3x3 convolutions, two of the stages residual, one linear layer",
		Config{Input: [3]int{3, 32, 32}, Classes: 10, Width: 64}}, resnet9},
	plain("resnet20", "ResNet-20 for CIFAR-10 as its authors trained it, with shortcuts that have no weights",
		3),
	plain("resnet32", "ResNet-32 for CIFAR-10", 5),
	plain("resnet44", "ResNet-44 for CIFAR-10", 7),
	plain("resnet56", "ResNet-56 for CIFAR-10", 9),
	plain("resnet110", "ResNet-110 for CIFAR-10", 18),
	{Info{"wide_resnet28_10",
		"Wide ResNet-28-10 for CIFAR-10: blocks with the norms first, ten times as wide",
		Config{Input: [3]int{3, 32, 32}, Classes: 10, Blocks: []int{4, 4, 4}, Width: 160}}, wideResNet},
	{Info{"preact_resnet18", "PreAct ResNet-18 for CIFAR-10: norms and ReLU before the convolutions",
		Config{Input: [3]int{3, 32, 32}, Classes: 10, Blocks: []int{2, 2, 2, 2}, Width: 64}}, preactResNet},
}

// plain is a CIFAR network of option A with so many blocks in each of three layers.
func plain(name, summary string, blocks int) network {
	return network{Info{name, summary, Config{Input: [3]int{3, 32, 32}, Classes: 10,
		Blocks: []int{blocks, blocks, blocks}, Width: 16}},
		resnet20}
}

// resnet is the CIFAR ResNet of He et al. 2015 with projection shortcuts. The layers have Width, 2 and 4
// times Width channels: 16, 32 and 64 in the paper, more in the wide ones of Zagoruyko and Komodakis 2016.
func resnet(b *Builder, cfg Config) Value {
	x := b.ReLU("relu", b.BatchNorm2d("bn", b.Conv2d("conv", b.Input(), cfg.Width, 3, Pad(1), NoBias())))
	x = b.residualLayers(x, cfg, 3, (*Builder).basicBlock)
	x = b.Flatten("flatten", b.AvgPool2d("avg_pool", x, 8))
	return b.LogSoftmax("logsoftmax", b.Linear("fc", x, cfg.Classes))
}

// basicBlock is two 3x3 convolutions and a shortcut, which is a projection where the shape changes.
func (b *Builder) basicBlock(x Value, at place) Value {
	y := b.ReLU("relu1", b.BatchNorm2d("bn1", b.Conv2d("conv1", x, at.channels, 3, Stride(at.stride),
		Pad(1), NoBias())))
	y = b.BatchNorm2d("bn2", b.Conv2d("conv2", y, at.channels, 3, Pad(1), NoBias()))
	if at.changes(x, at.channels) {
		d := b.Scope("downsample")
		x = d.BatchNorm2d("1", d.Conv2d("0", x, at.channels, 3, Stride(at.stride), Pad(1), NoBias()))
	}
	return b.ReLU("relu2", b.Add("add", b.StochasticDepth("stochastic_depth", y, at.drop), x))
}

// resnet20 is the CIFAR network of He et al. 2015, section 4.2, with the shortcuts of its option A: where the
// shape changes, every second pixel and zeros for the further channels. Keys are those of the checkpoints
// that PyTorch users pass around. It gives logits.
func resnet20(b *Builder, cfg Config) Value {
	x := b.ReLU("relu", b.BatchNorm2d("bn1", b.Conv2d("conv1", b.Input(), cfg.Width, 3, Pad(1), NoBias(),
		WeightInit(KaimingNormal))))
	x = b.residualLayers(x, cfg, 3, (*Builder).plainBlock)
	return b.Linear("linear", b.Flatten("flatten", b.GlobalAvgPool2d("avg_pool", x)), cfg.Classes)
}

// plainBlock is a basic block whose shortcut has no weights.
func (b *Builder) plainBlock(x Value, at place) Value {
	he := WeightInit(KaimingNormal)
	y := b.ReLU("relu1", b.BatchNorm2d("bn1", b.Conv2d("conv1", x, at.channels, 3, Stride(at.stride), Pad(1),
		NoBias(), he)))
	y = b.BatchNorm2d("bn2", b.Conv2d("conv2", y, at.channels, 3, Pad(1), NoBias(), he))
	s := b.Scope("shortcut")
	if at.stride != 1 {
		x = s.AvgPool2d("subsample", x, 1, Stride(at.stride))
	}
	if len(x.Shape) == 3 && x.Shape[0] != int64(at.channels) {
		more := at.channels - int(x.Shape[0])
		x = s.PadChannels("pad", x, more/2, more-more/2)
	}
	return b.ReLU("relu2", b.Add("add", b.StochasticDepth("stochastic_depth", y, at.drop), x))
}

// resnet9 is the network of David Page's DAWNBench entry for CIFAR-10 (How to train your ResNet, 2018). The
// stages have Width, 2, 4 and 8 times Width channels. Its logits are scaled by 1/8, which keeps the classes'
// probabilities near to each other early on. Any height and width from 8 on fits: the last pool takes all
// that is left, 4x4 of CIFAR's 32x32.
func resnet9(b *Builder, cfg Config) Value {
	x := b.Scope("prep").convNorm(b.Input(), cfg.Width)
	for i := range 3 {
		layer := b.Scope(fmt.Sprintf("layer%d", i+1))
		x = layer.MaxPool2d("pool", layer.convNorm(x, cfg.Width<<(i+1)), 2)
		if i != 1 {
			r := layer.Scope("residual")
			y := r.Scope("res2").convNorm(r.Scope("res1").convNorm(x, cfg.Width<<(i+1)), cfg.Width<<(i+1))
			x = r.Add("add", x, y)
		}
	}
	x = b.Flatten("flatten", b.GlobalMaxPool2d("pool", x))
	return b.Scale("logits", b.Linear("linear", x, cfg.Classes, NoBias()), 0.125)
}

// convNorm is a 3x3 convolution that keeps the size, its norm and ReLU.
func (b *Builder) convNorm(x Value, channels int) Value {
	return b.ReLU("relu", b.BatchNorm2d("bn", b.Conv2d("conv", x, channels, 3, Pad(1), NoBias())))
}

// wideResNet is the network of Zagoruyko and Komodakis 2016: (depth-4)/6 blocks in each of three layers,
// norms before the convolutions. Keys are those of the checkpoints that PyTorch users pass around.
func wideResNet(b *Builder, cfg Config) Value {
	x := b.Conv2d("conv1", b.Input(), 16, 3, Pad(1))
	x = b.residualLayers(x, cfg, 3, (*Builder).wideBlock)
	x = b.ReLU("relu", b.BatchNorm2d("bn1", x))
	return b.Linear("linear", b.Flatten("flatten", b.GlobalAvgPool2d("avg_pool", x)), cfg.Classes)
}

// wideBlock has its norms first; the second convolution changes the size.
func (b *Builder) wideBlock(x Value, at place) Value {
	y := b.ReLU("relu1", b.BatchNorm2d("bn1", x))
	y = b.Dropout("dropout", b.Conv2d("conv1", y, at.channels, 3, Pad(1)), 0.3)
	y = b.ReLU("relu2", b.BatchNorm2d("bn2", y))
	y = b.Conv2d("conv2", y, at.channels, 3, Stride(at.stride), Pad(1))
	if at.changes(x, at.channels) {
		x = b.Conv2d("shortcut.0", x, at.channels, 1, Stride(at.stride))
	}
	return b.Add("add", b.StochasticDepth("stochastic_depth", y, at.drop), x)
}

// preactResNet is the network of He et al. 2016, Identity Mappings, for CIFAR-10, under the keys that
// PyTorch users pass around.
func preactResNet(b *Builder, cfg Config) Value {
	x := b.Conv2d("conv1", b.Input(), cfg.Width, 3, Pad(1), NoBias())
	x = b.residualLayers(x, cfg, 4, (*Builder).preactBlock)
	return b.Linear("linear", b.Flatten("flatten", b.GlobalAvgPool2d("avg_pool", x)), cfg.Classes)
}

// preactBlock has its norms first; where the shape changes, the shortcut takes what the first norm gives.
func (b *Builder) preactBlock(x Value, at place) Value {
	first := b.ReLU("relu1", b.BatchNorm2d("bn1", x))
	y := b.Conv2d("conv1", first, at.channels, 3, Stride(at.stride), Pad(1), NoBias())
	y = b.ReLU("relu2", b.BatchNorm2d("bn2", y))
	y = b.Conv2d("conv2", y, at.channels, 3, Pad(1), NoBias())
	if at.changes(x, at.channels) {
		x = b.Conv2d("shortcut.0", first, at.channels, 1, Stride(at.stride), NoBias())
	}
	return b.Add("add", b.StochasticDepth("stochastic_depth", y, at.drop), x)
}
