package builders

import "fmt"

// The residual networks for images of 32x32.

// resnet is the CIFAR ResNet of He et al. 2015 with projection shortcuts. The layers have Width, 2 and 4 times Width channels:
// 16, 32 and 64 in the paper, more in the wide ones of Zagoruyko and Komodakis 2016.
func resnet(b *Builder, cfg Config) Value {
	x := b.ReLU("relu", b.BatchNorm2d("bn", b.Conv2d("conv", b.Input(), cfg.Width, 3, Pad(1), NoBias())))
	x = b.residualLayers(x, cfg, 3, (*Builder).basicBlock)
	x = b.Flatten("flatten", b.AvgPool2d("avg_pool", x, 8))
	return b.LogSoftmax("logsoftmax", b.Linear("fc", x, cfg.Classes))
}

// basicBlock is two 3x3 convolutions and a shortcut, which is a projection where the shape changes.
func (b *Builder) basicBlock(x Value, channels, stride int, drop float32) Value {
	y := b.ReLU("relu1", b.BatchNorm2d("bn1", b.Conv2d("conv1", x, channels, 3, Stride(stride), Pad(1), NoBias())))
	y = b.BatchNorm2d("bn2", b.Conv2d("conv2", y, channels, 3, Pad(1), NoBias()))
	if stride != 1 || len(x.Shape) == 3 && x.Shape[0] != int64(channels) {
		d := b.Scope("downsample")
		x = d.BatchNorm2d("1", d.Conv2d("0", x, channels, 3, Stride(stride), Pad(1), NoBias()))
	}
	return b.ReLU("relu2", b.Add("add", b.StochasticDepth("stochastic_depth", y, drop), x))
}

// resnet20 is the CIFAR network of He et al. 2015, section 4.2, with the shortcuts of its option A: where the shape changes,
// every second pixel and zeros for the further channels. Keys are those of the checkpoints that PyTorch users pass around.
// It gives logits.
func resnet20(b *Builder, cfg Config) Value {
	x := b.ReLU("relu", b.BatchNorm2d("bn1", b.Conv2d("conv1", b.Input(), cfg.Width, 3, Pad(1), NoBias(), WeightInit(KaimingNormal))))
	x = b.residualLayers(x, cfg, 3, (*Builder).plainBlock)
	return b.Linear("linear", b.Flatten("flatten", b.GlobalAvgPool2d("avg_pool", x)), cfg.Classes)
}

// plainBlock is a basic block whose shortcut has no weights.
func (b *Builder) plainBlock(x Value, channels, stride int, drop float32) Value {
	he := WeightInit(KaimingNormal)
	y := b.ReLU("relu1", b.BatchNorm2d("bn1", b.Conv2d("conv1", x, channels, 3, Stride(stride), Pad(1), NoBias(), he)))
	y = b.BatchNorm2d("bn2", b.Conv2d("conv2", y, channels, 3, Pad(1), NoBias(), he))
	s := b.Scope("shortcut")
	if stride != 1 {
		x = s.AvgPool2d("subsample", x, 1, Stride(stride))
	}
	if len(x.Shape) == 3 && x.Shape[0] != int64(channels) {
		more := channels - int(x.Shape[0])
		x = s.PadChannels("pad", x, more/2, more-more/2)
	}
	return b.ReLU("relu2", b.Add("add", b.StochasticDepth("stochastic_depth", y, drop), x))
}

// resnet9 is the network of David Page's DAWNBench entry for CIFAR-10 (How to train your ResNet, 2018). The stages have
// Width, 2, 4 and 8 times Width channels. Its logits are scaled by 1/8, which keeps the classes' probabilities near to each
// other early on. Any height and width from 8 on fits: the last pool takes all that is left, 4x4 of CIFAR's 32x32.
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
