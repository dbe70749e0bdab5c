package builders

// inceptions are torchvision.models.googlenet (Szegedy et al. 2014, with norms) and
// inception_v3 (Szegedy et al. 2015).
var inceptions = []network{
	classifier("googlenet", "GoogLeNet; auxiliary heads hang on it in training", 224, googLeNet),
	classifier("inception_v3", "Inception v3; an auxiliary head hangs on it in training", 299, inceptionV3),
}

// aux marks v as the logits of an auxiliary head, whose loss training adds with the given
// weight. The metadata says so.
func (b *Builder) aux(v Value, weight float64) {
	b.root.heads = append(b.root.heads, Head{v.Name, weight})
}

// basic is torchvision's BasicConv2d.
func (b *Builder) basic(name string, x Value, channels, k int, opts ...Option) Value {
	s := b.Scope(name)
	return s.ReLU("relu",
		s.BatchNorm2d("bn", s.Conv2d("conv", x, channels, k, append([]Option{NoBias()}, opts...)...),
			Eps(0.001)))
}

var googInit = WeightInit(TruncNormal(0.01))

func googLeNet(b *Builder, cfg Config) Value {
	pool := func(name string, x Value, k int) Value { return b.MaxPool2d(name, x, k, Stride(2), CeilMode()) }
	x := pool("maxpool1", b.basic("conv1", b.Input(), 64, 7, Stride(2), Pad(3), googInit), 3)
	x = b.basic("conv3", b.basic("conv2", x, 64, 1, googInit), 192, 3, Pad(1), googInit)
	x = pool("maxpool2", x, 3)
	var heads []Value
	for _, l := range []struct {
		name                            string
		one, three1, three, five1, five int
		pooled                          int
	}{
		{"3a", 64, 96, 128, 16, 32, 32}, {"3b", 128, 128, 192, 32, 96, 64}, {"4a", 192, 96, 208, 16, 48, 64},
		{"4b", 160, 112, 224, 24, 64, 64}, {"4c", 128, 128, 256, 24, 64, 64}, {"4d", 112, 144, 288,
			32, 64, 64},
		{"4e", 256, 160, 320, 32, 128, 128}, {"5a", 256, 160, 320, 32, 128, 128}, {"5b", 384, 192, 384,
			48, 128, 128},
	} {
		s := b.Scope("inception" + l.name)
		one := s.basic("branch1", x, l.one, 1, googInit)
		three := s.basic("branch2.1", s.basic("branch2.0", x, l.three1, 1, googInit), l.three, 3,
			Pad(1), googInit)
		// 3x3 as torchvision's
		five := s.basic("branch3.1", s.basic("branch3.0", x, l.five1, 1, googInit), l.five, 3,
			Pad(1), googInit)
		pooled := s.basic("branch4.1", s.MaxPool2d("branch4.0", x, 3, Stride(1), Pad(1), CeilMode()),
			l.pooled, 1, googInit)
		x = s.Concat("cat", one, three, five, pooled)
		switch l.name {
		case "3b":
			x = pool("maxpool3", x, 3)
		case "4e":
			x = pool("maxpool4", x, 2)
		case "4a", "4d":
			heads = append(heads, x)
		}
	}
	for i, h := range heads {
		b.googHead([]string{"aux1", "aux2"}[i], h, cfg.Classes)
	}
	x = b.Dropout("dropout", b.Flatten("flatten", b.GlobalAvgPool2d("avgpool", x)), 0.2)
	return b.Linear("fc", x, cfg.Classes, googInit)
}

// googHead is an auxiliary classifier. Nothing reads it in inference.
func (b *Builder) googHead(name string, x Value, classes int) {
	s := b.Scope(name)
	x = s.basic("conv", s.AdaptiveAvgPool2d("avgpool", x, 4, 4), 128, 1, googInit)
	x = s.ReLU("relu", s.Linear("fc1", s.Flatten("flatten", x), 1024, googInit))
	b.aux(s.Linear("fc2", s.Dropout("dropout", x, 0.7), classes, googInit), 0.3)
}

var inceptionInit = WeightInit(TruncNormal(0.1))

func inceptionV3(b *Builder, cfg Config) Value {
	x := b.basic("Conv2d_1a_3x3", b.Input(), 32, 3, Stride(2), inceptionInit)
	x = b.basic("Conv2d_2a_3x3", x, 32, 3, inceptionInit)
	x = b.basic("Conv2d_2b_3x3", x, 64, 3, Pad(1), inceptionInit)
	x = b.MaxPool2d("maxpool1", x, 3, Stride(2))
	x = b.basic("Conv2d_3b_1x1", x, 80, 1, inceptionInit)
	x = b.basic("Conv2d_4a_3x3", x, 192, 3, inceptionInit)
	x = b.MaxPool2d("maxpool2", x, 3, Stride(2))
	for _, m := range []struct {
		name   string
		pooled int
	}{{"Mixed_5b", 32}, {"Mixed_5c", 64}, {"Mixed_5d", 64}} {
		x = b.Scope(m.name).mixed5(x, m.pooled)
	}
	x = b.Scope("Mixed_6a").mixed6a(x)
	for _, m := range []struct {
		name  string
		seven int
	}{{"Mixed_6b", 128}, {"Mixed_6c", 160}, {"Mixed_6d", 160}, {"Mixed_6e", 192}} {
		x = b.Scope(m.name).mixed6(x, m.seven)
	}
	b.inceptionHead(x, cfg.Classes)
	x = b.Scope("Mixed_7a").mixed7a(x)
	x = b.Scope("Mixed_7c").mixed7(b.Scope("Mixed_7b").mixed7(x))
	x = b.Flatten("flatten", b.Dropout("dropout", b.GlobalAvgPool2d("avgpool", x), 0.5))
	return b.Linear("fc", x, cfg.Classes, inceptionInit)
}

// inceptionHead is the auxiliary classifier. Nothing reads it in inference; of small
// images it sees an enlarged map.
func (b *Builder) inceptionHead(x Value, classes int) {
	s := b.Scope("AuxLogits")
	if b.is3("AuxLogits", x) && (x.Shape[1] < 17 || x.Shape[2] < 17) {
		x = s.Resize("enlarged", x, 17, 17, Nearest)
	}
	x = s.basic("conv0", s.AvgPool2d("avg_pool", x, 5, Stride(3)), 128, 1, inceptionInit)
	x = s.basic("conv1", x, 768, 5, WeightInit(TruncNormal(0.01)))
	x = s.Flatten("flatten", s.GlobalAvgPool2d("pool", x))
	b.aux(s.Linear("fc", x, classes, WeightInit(TruncNormal(0.001))), 0.4)
}

// chained is a convolution of a branch. It keeps the size, unless it halves it, without padding.
type chained struct {
	name                    string
	channels, height, width int
	halves                  bool
}

// branch is a chain of convolutions.
func (b *Builder) branch(x Value, convs ...chained) Value {
	for _, c := range convs {
		opts := []Option{inceptionInit, Kernel(c.height, c.width), Pads(c.height/2, c.width/2)}
		if c.halves {
			opts = append(opts, Stride(2), Pad(0))
		}
		x = b.basic(c.name, x, c.channels, 1, opts...)
	}
	return x
}

// mixed5 is torchvision's InceptionA.
func (b *Builder) mixed5(x Value, pooled int) Value {
	return b.Concat("cat",
		b.branch(x, chained{"branch1x1", 64, 1, 1, false}),
		b.branch(x, chained{"branch5x5_1", 48, 1, 1, false}, chained{"branch5x5_2", 64, 5, 5, false}),
		b.branch(x, chained{"branch3x3dbl_1", 64, 1, 1, false}, chained{"branch3x3dbl_2", 96, 3, 3, false},
			chained{"branch3x3dbl_3", 96, 3, 3, false}),
		b.branch(b.AvgPool2d("pool", x, 3, Stride(1), Pad(1)), chained{"branch_pool", pooled, 1, 1, false}))
}

// mixed6a is InceptionB.
func (b *Builder) mixed6a(x Value) Value {
	return b.Concat("cat",
		b.branch(x, chained{"branch3x3", 384, 3, 3, true}),
		b.branch(x, chained{"branch3x3dbl_1", 64, 1, 1, false}, chained{"branch3x3dbl_2", 96, 3, 3, false},
			chained{"branch3x3dbl_3", 96, 3, 3, true}),
		b.MaxPool2d("pool", x, 3, Stride(2)))
}

// mixed6 is InceptionC: kernels of seven in one direction.
func (b *Builder) mixed6(x Value, n int) Value {
	return b.Concat("cat",
		b.branch(x, chained{"branch1x1", 192, 1, 1, false}),
		b.branch(x, chained{"branch7x7_1", n, 1, 1, false}, chained{"branch7x7_2", n, 1, 7, false},
			chained{"branch7x7_3", 192, 7, 1, false}),
		b.branch(x, chained{"branch7x7dbl_1", n, 1, 1, false}, chained{"branch7x7dbl_2", n, 7, 1, false},
			chained{"branch7x7dbl_3", n, 1, 7, false}, chained{"branch7x7dbl_4", n, 7, 1, false},
			chained{"branch7x7dbl_5", 192, 1, 7, false}),
		b.branch(b.AvgPool2d("pool", x, 3, Stride(1), Pad(1)), chained{"branch_pool", 192, 1, 1, false}))
}

// mixed7a is InceptionD.
func (b *Builder) mixed7a(x Value) Value {
	return b.Concat("cat",
		b.branch(x, chained{"branch3x3_1", 192, 1, 1, false}, chained{"branch3x3_2", 320, 3, 3, true}),
		b.branch(x, chained{"branch7x7x3_1", 192, 1, 1, false}, chained{"branch7x7x3_2", 192, 1, 7, false},
			chained{"branch7x7x3_3", 192, 7, 1, false}, chained{"branch7x7x3_4", 192, 3, 3, true}),
		b.MaxPool2d("pool", x, 3, Stride(2)))
}

// mixed7 is InceptionE: two of its branches fork.
func (b *Builder) mixed7(x Value) Value {
	one := b.branch(x, chained{"branch1x1", 320, 1, 1, false})
	three := b.branch(x, chained{"branch3x3_1", 384, 1, 1, false})
	three = b.Concat("cat_3x3", b.branch(three, chained{"branch3x3_2a", 384, 1, 3, false}),
		b.branch(three, chained{"branch3x3_2b", 384, 3, 1, false}))
	double := b.branch(x, chained{"branch3x3dbl_1", 448, 1, 1, false}, chained{"branch3x3dbl_2",
		384, 3, 3, false})
	double = b.Concat("cat_3x3dbl", b.branch(double, chained{"branch3x3dbl_3a", 384, 1, 3, false}),
		b.branch(double, chained{"branch3x3dbl_3b", 384, 3, 1, false}))
	pool := b.branch(b.AvgPool2d("pool", x, 3, Stride(1), Pad(1)), chained{"branch_pool", 192, 1, 1, false})
	return b.Concat("cat", one, three, double, pool)
}
