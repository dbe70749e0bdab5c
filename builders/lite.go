package builders

import (
	"math"
	"strconv"
)

// efficientNetLites are EfficientNet-Lite0 to Lite4, which have no squeeze-and-excitation, ReLU6, and
// stem and head of one width, under the keys of the Python package efficientnet-lite-pytorch.
// Convolutions pad as TensorFlow's.
var efficientNetLites = []network{
	efficientNetLite("efficientnet_lite0", 224, 1, 1, 0.2),
	efficientNetLite("efficientnet_lite1", 240, 1, 1.1, 0.2),
	efficientNetLite("efficientnet_lite2", 260, 1.1, 1.2, 0.3),
	efficientNetLite("efficientnet_lite3", 280, 1.2, 1.4, 0.3),
	efficientNetLite("efficientnet_lite4", 300, 1.4, 1.8, 0.3),
}

// liteOptions are padding, initial weights and norms.
var liteOptions = append([]Option{SamePad(), NoBias(), Eps(0.001), Momentum(0.01)}, mobileInit...)

func efficientNetLite(name string, side int, width, depth float64, dropout float32) network {
	stages := scaled(width, depth)
	stages[0].in, stages[0].num, stages[len(stages)-1].num = 32, 1, 1
	total := 0
	for _, s := range stages {
		total += s.num
	}
	summary := "EfficientNet-Lite" + name[len(name)-1:]
	return deep(name, summary, side, 0.2, func(b *Builder, cfg Config) Value {
		x := b.liteConv("_conv_stem", "_bn0", b.Input(), 32, 3, Stride(2))
		x = b.ReLU6("_swish", x)
		at := 0
		for _, s := range stages {
			for range s.num {
				drop := float32(cfg.StochasticDepth * float64(at) / float64(total))
				x = b.Scope("_blocks."+strconv.Itoa(at)).liteBlock(x, s, drop)
				s.stride = 1
				at++
			}
		}
		x = b.ReLU6("_swish", b.liteConv("_conv_head", "_bn1", x, 1280, 1))
		x = b.Dropout("_dropout", b.Flatten("flatten", b.GlobalAvgPool2d("_avg_pooling", x)), dropout)
		bound := 1 / math.Sqrt(float64(max(cfg.Classes, 1)))
		return b.Linear("_fc", x, cfg.Classes, WeightInit(Uniform(bound)), BiasInit(Zeros))
	})
}

// liteConv is a convolution and its norm.
func (b *Builder) liteConv(conv, norm string, x Value, channels, k int, opts ...Option) Value {
	opts = append(opts, liteOptions...)
	return b.BatchNorm2d(norm, b.Conv2d(conv, x, channels, k, opts...), opts...)
}

// liteBlock expands the channels, convolves each on its own, and projects them.
func (b *Builder) liteBlock(x Value, s mbconv, drop float32) Value {
	if !b.is3("_expand_conv", x) {
		return Value{}
	}
	in, y := int(x.Shape[0]), x
	hidden := in * s.expand
	if s.expand != 1 {
		y = b.ReLU6("_swish", b.liteConv("_expand_conv", "_bn0", y, hidden, 1))
	}
	y = b.ReLU6("_swish", b.liteConv("_depthwise_conv", "_bn1", y, hidden, s.k, Stride(s.stride),
		Groups(hidden)))
	y = b.liteConv("_project_conv", "_bn2", y, s.out, 1)
	if s.stride == 1 && in == s.out {
		y = b.Add("add", b.StochasticDepth("stochastic_depth", y, drop), x)
	}
	return y
}
