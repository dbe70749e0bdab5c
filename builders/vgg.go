package builders

// alexnets is torchvision.models.alexnet (Krizhevsky 2014, one tower).
var alexnets = []network{classifier("alexnet", "AlexNet: five convolutions, three fully connected layers",
	224, alexnet)}

func alexnet(b *Builder, cfg Config) Value {
	f, x := b.sequential("features"), b.Input()
	for _, l := range []struct {
		channels, k, stride, pad int
		pool                     bool
	}{{64, 11, 4, 2, true}, {192, 5, 1, 2, true}, {384, 3, 1, 1, false}, {256, 3, 1, 1, false},
		{256, 3, 1, 1, true}} {
		x = f.Conv2d(f.next(), x, l.channels, l.k, Stride(l.stride), Pad(l.pad))
		x = f.ReLU(f.next(), x)
		if l.pool {
			x = f.MaxPool2d(f.next(), x, 3, Stride(2))
		}
	}
	x = b.Flatten("flatten", b.AdaptiveAvgPool2d("avgpool", x, 6, 6))
	c := b.Scope("classifier")
	x = c.ReLU("2", c.Linear("1", c.Dropout("0", x, 0.5), 4096))
	x = c.ReLU("5", c.Linear("4", c.Dropout("3", x, 0.5), 4096))
	return c.Linear("6", x, cfg.Classes)
}

// vggs are torchvision.models.vgg (Simonyan and Zisserman 2014): configurations A, B, D and
// E, with and without norms.
var vggs = []network{
	vgg("vgg11", "VGG-11", false, 1, 1, 2, 2, 2), vgg("vgg11_bn", "VGG-11 with norms", true, 1, 1, 2, 2, 2),
	vgg("vgg13", "VGG-13", false, 2, 2, 2, 2, 2), vgg("vgg13_bn", "VGG-13 with norms", true, 2, 2, 2, 2, 2),
	vgg("vgg16", "VGG-16 as torchvision has it: thirteen 3x3 convolutions, three fully connected layers",
		false, 2, 2, 3, 3, 3),
	vgg("vgg16_bn", "VGG-16 with norms", true, 2, 2, 3, 3, 3),
	vgg("vgg19", "VGG-19", false, 2, 2, 4, 4, 4), vgg("vgg19_bn", "VGG-19 with norms", true, 2, 2, 4, 4, 4),
}

// vgg has so many convolutions in each of five stages. The stages have Width, 2, 4, 8 and 8 times Width
// channels, the fully connected layers 64 times Width features: 64 and 4096.
func vgg(name, summary string, norm bool, convs ...int) network {
	n := classifier(name, summary, 224, func(b *Builder, cfg Config) Value {
		normal, zero := WeightInit(Normal(0.01)), BiasInit(Zeros)
		x := b.vggFeatures(b.Input(), cfg.Width, norm, convs)
		x = b.Flatten("flatten", b.AdaptiveAvgPool2d("avgpool", x, 7, 7))
		c := b.Scope("classifier")
		x = c.Dropout("2", c.ReLU("1", c.Linear("0", x, 64*cfg.Width, normal, zero)), 0.5)
		x = c.Dropout("5", c.ReLU("4", c.Linear("3", x, 64*cfg.Width, normal, zero)), 0.5)
		return c.Linear("6", x, cfg.Classes, normal, zero)
	})
	n.Defaults.Width = 64
	return n
}

func (b *Builder) vggFeatures(x Value, width int, norm bool, convs []int) Value {
	f := b.sequential("features")
	for stage, n := range convs {
		for range n {
			x = f.Conv2d(f.next(), x, width<<min(stage, 3), 3, Pad(1), WeightInit(KaimingNormal),
				BiasInit(Zeros))
			if norm {
				x = f.BatchNorm2d(f.next(), x)
			}
			x = f.ReLU(f.next(), x)
		}
		x = f.MaxPool2d(f.next(), x, 2)
	}
	return x
}
