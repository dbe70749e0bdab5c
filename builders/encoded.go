package builders

import (
	"fmt"
	"strconv"
)

// encoded are the networks of segmentation_models_pytorch: a decoder for masks on the features of a
// classifier, with that package's keys and defaults.
var encoded = encodedNetworks()

// An encoder gives features from a half of the input's size down to a thirty-second.
type encoder struct {
	name     string
	features func(b *Builder) []Value
}

// A decoder gives masks of the features.
type decoder struct {
	name, summary string
	build         func(b *Builder, features []Value, classes int) Value
}

func encodedNetworks() []network {
	var out []network
	for _, d := range []decoder{
		{"unet", "U-Net", (*Builder).encodedUNet}, {"unetplusplus", "U-Net++",
			(*Builder).encodedUNetPlusPlus},
		{"fpn", "feature pyramid", (*Builder).encodedPyramid},
	} {
		for _, e := range []encoder{
			{"resnet18", encodeResNet((*Builder).residual, 2, 2, 2, 2)}, {"resnet34",
				encodeResNet((*Builder).residual, 3, 4, 6, 3)},
			{"resnet50", encodeResNet(bottleneck(1, 64), 3, 4, 6, 3)}, {"mobilenet_v2", encodeMobileNetV2},
		} {
			out = append(out, d.on(e))
		}
	}
	return out
}

// on is the network of an encoder and a decoder.
func (d decoder) on(e encoder) network {
	summary := fmt.Sprintf("%s of segmentation_models_pytorch on a %s; one mask channel a class",
		d.summary, e.name)
	info := Info{"smp-" + d.name + "-" + e.name, summary, Config{Input: [3]int{3, 256, 256}, Classes: 1}}
	return network{info, func(b *Builder, cfg Config) Value {
		if cfg.Input[1]%32 != 0 || cfg.Input[2]%32 != 0 {
			b.fail("encoder", "halves height and width five times: %dx%d are no multiples of 32",
				cfg.Input[1], cfg.Input[2])
			return Value{}
		}
		return d.build(b, e.features(b.Scope("encoder")), cfg.Classes)
	}}
}

func encodeResNet(block residualBlock, blocks ...int) func(*Builder) []Value {
	return func(b *Builder) []Value {
		first := b.resnetFirst(b.Input(), 64)
		x := b.MaxPool2d("maxpool", first, 3, Stride(2), Pad(1))
		return append([]Value{first}, b.dilatedLayers(x, Config{Blocks: blocks, Width: 64}, 4, block, 4)...)
	}
}

func encodeMobileNetV2(b *Builder) []Value {
	x := b.mobileNetV2Features("features", b.Input())
	return []Value{x[1], x[3], x[6], x[13], x[18]}
}

// decoderInit are a decoder's initial weights, maskInit those of the convolution behind it.
var (
	decoderInit = []Option{WeightInit(KaimingUniform), BiasInit(Zeros)}
	maskInit    = []Option{WeightInit(XavierUniform), BiasInit(Zeros)}
)

// decoderChannels are those of the five blocks.
var decoderChannels = []int{256, 128, 64, 32, 16}

// maskChannels is the convolution that ends U-Nets.
func (b *Builder) maskChannels(x Value, classes int) Value {
	return b.Scope("segmentation_head").Conv2d("0", x, classes, 3, append([]Option{Pad(1)}, maskInit...)...)
}

func (b *Builder) encodedUNet(features []Value, classes int) Value {
	if b.root.err != nil {
		return Value{}
	}
	x, s := features[4], b.Scope("decoder.blocks")
	for i, channels := range decoderChannels {
		var skips []Value
		if i < 4 {
			skips = features[3-i : 4-i]
		}
		x = s.Scope(strconv.Itoa(i)).upBlock(x, channels, skips...)
	}
	return b.maskChannels(x, classes)
}

// upBlock doubles height and width, joins the skips, and convolves twice.
func (b *Builder) upBlock(x Value, channels int, skips ...Value) Value {
	if !b.is3("upsample", x) {
		return Value{}
	}
	x = b.doubled("upsample", x, Nearest)
	if len(skips) > 0 {
		x = b.Concat("cat", append([]Value{x}, skips...)...)
	}
	x = b.convNormAct("conv1", x, channels, 3, (*Builder).ReLU, decoderInit...)
	return b.convNormAct("conv2", x, channels, 3, (*Builder).ReLU, decoderInit...)
}

// doubled has twice the height and width.
func (b *Builder) doubled(name string, x Value, mode string) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	return b.Resize(name, x, int(2*x.Shape[1]), int(2*x.Shape[2]), mode)
}

// encodedUNetPlusPlus is the decoder of Zhou et al. 2018. Block x_i_j reads block x_i_j-1 (the encoder where
// i is j), and joins what blocks x_i+1_j to x_j_j and the encoder give of twice its height.
func (b *Builder) encodedUNetPlusPlus(features []Value, classes int) Value {
	if b.root.err != nil {
		return Value{}
	}
	s, names := b.Scope("decoder.blocks"), []string{}
	made := map[[2]int]Value{}
	for j := range 4 {
		for i := j; i >= 0; i-- {
			x, channels := features[4-i], int(features[3-j].Shape[0])
			if i < j {
				x = made[[2]int{i, j - 1}]
			}
			if i == 0 {
				channels = decoderChannels[j]
			}
			var skips []Value
			for k := i + 1; k <= j; k++ {
				skips = append(skips, made[[2]int{k, j}])
			}
			made[[2]int{i, j}] = s.Scope(fmt.Sprintf("x_%d_%d", i, j)).upBlock(x, channels,
				append(skips, features[3-j])...)
		}
		for i := range j + 1 {
			names = append(names, fmt.Sprintf("x_%d_%d", i, j))
		}
	}
	s.inOrder(names...)
	return b.maskChannels(s.Scope("x_0_4").upBlock(made[[2]int{0, 3}], decoderChannels[4]), classes)
}

// encodedPyramid is the feature pyramid of Kirillov et al. 2019, whose levels are added up at a
// quarter of the input's size.
func (b *Builder) encodedPyramid(features []Value, classes int) Value {
	if b.root.err != nil {
		return Value{}
	}
	d := b.Scope("decoder")
	levels := []Value{d.Conv2d("p5", features[4], 256, 1, decoderInit...)}
	for i := range 3 {
		p := d.Scope("p" + strconv.Itoa(4-i))
		skip := p.Conv2d("skip_conv", features[3-i], 256, 1, decoderInit...)
		levels = append(levels, p.Add("add", p.doubled("upsample", levels[i], Nearest), skip))
	}
	var sum Value
	for i, x := range levels {
		x = d.Scope("seg_blocks."+strconv.Itoa(i)).pyramidBlock(x, 3-i)
		if i > 0 {
			x = d.Add("merge", sum, x)
		}
		sum = x
	}
	head, in := b.Scope("segmentation_head"), b.Input().Shape
	y := head.Conv2d("0", d.Dropout2d("dropout", sum, 0.2), classes, 1, maskInit...)
	return head.Resize("1", y, int(in[1]), int(in[2]), Aligned)
}

// pyramidBlock convolves and doubles x so many times, and once at least convolves it.
func (b *Builder) pyramidBlock(x Value, doublings int) Value {
	for i := range max(1, doublings) {
		s := b.Scope("block." + strconv.Itoa(i) + ".block")
		x = s.Conv2d("0", x, 128, 3, append([]Option{Pad(1), NoBias()}, decoderInit...)...)
		x = s.ReLU("2", s.GroupNorm("1", x, 32))
		if doublings > 0 {
			x = b.doubled("upsample", x, Aligned)
		}
	}
	return x
}
