package builders

import "fmt"

// classics are the networks for small images without residual blocks.
var classics = []network{
	{Info{"lenet5", "LeNet-5: two 5x5 convolutions, three fully connected layers",
		Config{Input: [3]int{1, 28, 28}, Classes: 10}}, lenet5},
	{Info{"minivgg", "MiniVGG: four 3x3 convolutions in two stages, three fully connected layers",
		Config{Input: [3]int{1, 28, 28}, Classes: 10}}, minivgg},
	{Info{"unet", "U-Net: encoder, bottleneck and decoder with skip connections; one mask channel a class",
		Config{Input: [3]int{3, 128, 128}, Classes: 1, Width: 64, Depth: 4}}, unet},
}

// lenet5 is LeNet-5 with ReLU and max pooling.
func lenet5(b *Builder, cfg Config) Value {
	x := b.ReLU("relu1", b.Conv2d("conv1", b.Input(), 6, 5, Pad(2)))
	x = b.MaxPool2d("pool1", x, 2)
	x = b.ReLU("relu2", b.Conv2d("conv2", x, 16, 5))
	x = b.MaxPool2d("pool2", x, 2)
	return b.fullyConnected(x, cfg.Classes)
}

// minivgg is two stages of two 3x3 convolutions, one of them padded.
func minivgg(b *Builder, cfg Config) Value {
	x := b.ReLU("relu11", b.Conv2d("conv11", b.Input(), 16, 3))
	x = b.ReLU("relu12", b.Conv2d("conv12", x, 16, 3))
	x = b.MaxPool2d("pool1", x, 2)
	x = b.ReLU("relu21", b.Conv2d("conv21", x, 32, 3))
	x = b.ReLU("relu22", b.Conv2d("conv22", x, 32, 3, Pad(1)))
	x = b.MaxPool2d("pool2", x, 2)
	return b.fullyConnected(x, cfg.Classes)
}

// fullyConnected is the end of LeNet-5 and MiniVGG.
func (b *Builder) fullyConnected(x Value, classes int) Value {
	x = b.Flatten("flatten", x)
	x = b.ReLU("relu3", b.Linear("fc1", x, 120))
	x = b.ReLU("relu4", b.Linear("fc2", x, 84))
	return b.LogSoftmax("logsoftmax", b.Linear("fc3", x, classes))
}

// unet is the U-Net of Ronneberger et al. 2015 with padded convolutions.
func unet(b *Builder, cfg Config) Value {
	if cfg.Depth < 1 || cfg.Depth > 12 || cfg.Width < 1 || cfg.Classes < 1 {
		b.fail("depth", "%d levels of width %d to %d channels: all must be positive, and at most 12 levels",
			cfg.Depth, cfg.Width, cfg.Classes)
		return Value{}
	}
	if f := 1 << cfg.Depth; cfg.Input[1]%f != 0 || cfg.Input[2]%f != 0 {
		b.fail("depth", "%d levels halve height and width %d times; %dx%d cannot be", cfg.Depth, cfg.Depth,
			cfg.Input[1], cfg.Input[2])
		return Value{}
	}
	double := func(name string, x Value, channels int) Value {
		s := b.Scope(name)
		x = s.ReLU("1", s.Conv2d("0", x, channels, 3, Pad(1)))
		return s.ReLU("3", s.Conv2d("2", x, channels, 3, Pad(1)))
	}
	x := b.Input()
	var skips []Value
	for k := range cfg.Depth {
		if k > 0 {
			x = b.MaxPool2d(fmt.Sprintf("pool%d", k), x, 2)
		}
		x = double(fmt.Sprintf("enc%d", k+1), x, cfg.Width<<k)
		skips = append(skips, x)
	}
	x = double("bottleneck", b.MaxPool2d(fmt.Sprintf("pool%d", cfg.Depth), x, 2), cfg.Width<<cfg.Depth)
	for k := cfg.Depth; k > 0; k-- {
		up := b.ConvTranspose2d(fmt.Sprintf("upconv%d", k), x, cfg.Width<<(k-1), 2, Stride(2))
		x = double(fmt.Sprintf("dec%d", k), b.Concat(fmt.Sprintf("concat%d", k), up, skips[k-1]),
			cfg.Width<<(k-1))
	}
	return b.Conv2d("conv_final", x, cfg.Classes, 1)
}
