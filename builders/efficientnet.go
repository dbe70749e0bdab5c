package builders

import (
	"math"
	"strconv"
)

// efficientnets are torchvision.models.efficientnet (Tan and Le 2019, table 1, and 2021, table 4).
var efficientnets = []network{
	efficientNet("efficientnet_b0", "EfficientNet-B0", 224, scaled(1, 1), 0, 0.2),
	efficientNet("efficientnet_b1", "EfficientNet-B1", 240, scaled(1, 1.1), 0, 0.2),
	efficientNet("efficientnet_b2", "EfficientNet-B2", 288, scaled(1.1, 1.2), 0, 0.3),
	efficientNet("efficientnet_b3", "EfficientNet-B3", 300, scaled(1.2, 1.4), 0, 0.3),
	efficientNet("efficientnet_b4", "EfficientNet-B4", 380, scaled(1.4, 1.8), 0, 0.4),
	efficientNet("efficientnet_b5", "EfficientNet-B5", 456, scaled(1.6, 2.2), 0, 0.4, Eps(0.001),
		Momentum(0.01)),
	efficientNet("efficientnet_b6", "EfficientNet-B6", 528, scaled(1.8, 2.6), 0, 0.5, Eps(0.001),
		Momentum(0.01)),
	efficientNet("efficientnet_b7", "EfficientNet-B7", 600, scaled(2, 3.1), 0, 0.5, Eps(0.001),
		Momentum(0.01)),
	efficientNet("efficientnet_v2_s", "EfficientNet v2 S", 384, []mbconv{
		{true, 1, 3, 1, 24, 24, 2}, {true, 4, 3, 2, 24, 48, 4}, {true, 4, 3, 2, 48, 64, 4}, {false, 4, 3,
			2, 64, 128, 6},
		{false, 6, 3, 1, 128, 160, 9}, {false, 6, 3, 2, 160, 256, 15}}, 1280, 0.2, Eps(0.001)),
	efficientNet("efficientnet_v2_m", "EfficientNet v2 M", 480, []mbconv{
		{true, 1, 3, 1, 24, 24, 3}, {true, 4, 3, 2, 24, 48, 5}, {true, 4, 3, 2, 48, 80, 5}, {false, 4, 3,
			2, 80, 160, 7},
		{false, 6, 3, 1, 160, 176, 14}, {false, 6, 3, 2, 176, 304, 18}, {false, 6, 3, 1, 304, 512, 5}}, 1280,
		0.3, Eps(0.001)),
	efficientNet("efficientnet_v2_l", "EfficientNet v2 L", 480, []mbconv{
		{true, 1, 3, 1, 32, 32, 4}, {true, 4, 3, 2, 32, 64, 7}, {true, 4, 3, 2, 64, 96, 7}, {false, 4, 3,
			2, 96, 192, 10},
		{false, 6, 3, 1, 192, 224, 19}, {false, 6, 3, 2, 224, 384, 25}, {false, 6, 3, 1, 384, 640, 7}}, 1280,
		0.4, Eps(0.001)),
}

// mbconv is a stage of blocks, each expanding its channels so many times; fused ones do so
// by the k x k convolution.
type mbconv struct {
	fused                           bool
	expand, k, stride, in, out, num int
}

// scaled are the stages of B0 with channels and numbers of blocks multiplied.
func scaled(width, depth float64) []mbconv {
	stages := []mbconv{{false, 1, 3, 1, 32, 16, 1}, {false, 6, 3, 2, 16, 24, 2}, {false, 6, 5, 2, 24, 40, 2},
		{false, 6, 3, 2, 40, 80, 3}, {false, 6, 5, 1, 80, 112, 3}, {false, 6, 5, 2, 112, 192, 4},
		{false, 6, 3, 1, 192, 320, 1}}
	for i := range stages {
		s := &stages[i]
		s.in, s.out = divisible(float64(s.in)*width), divisible(float64(s.out)*width)
		s.num = int(math.Ceil(float64(s.num) * depth))
	}
	return stages
}

// efficientNet ends in last channels, or four times those of the last stage where that is 0.
func efficientNet(name, summary string, side int, stages []mbconv, last int, dropout float32,
	norm ...Option) network {
	opts := append(append([]Option{}, mobileInit...), norm...)
	if last == 0 {
		last = 4 * stages[len(stages)-1].out
	}
	return deep(name, summary, side, 0.2, func(b *Builder, cfg Config) Value {
		f := b.sequential("features")
		x := f.convNormAct(f.next(), b.Input(), stages[0].in, 3, (*Builder).SiLU,
			append([]Option{Stride(2)}, opts...)...)
		at, total := 0, 0
		for _, s := range stages {
			total += s.num
		}
		for _, s := range stages {
			stage := f.Scope(f.next())
			for i := range s.num {
				drop := float32(cfg.StochasticDepth * float64(at) / float64(total))
				x = stage.Scope(strconv.Itoa(i)).mbconv(x, s, drop, opts)
				s.stride = 1
				at++
			}
		}
		x = f.convNormAct(f.next(), x, last, 1, (*Builder).SiLU, opts...)
		bound := 1 / math.Sqrt(float64(max(cfg.Classes, 1)))
		return b.head(x, cfg.Classes, dropout, WeightInit(Uniform(bound)), BiasInit(Zeros))
	})
}

func (b *Builder) mbconv(x Value, s mbconv, drop float32, opts []Option) Value {
	if !b.is3("block", x) {
		return Value{}
	}
	with := func(more ...Option) []Option { return append(more, opts...) }
	in := int(x.Shape[0])
	q, y, expanded, silu := b.sequential("block"), x, divisible(float64(in*s.expand)), (*Builder).SiLU
	switch {
	case !s.fused:
		if expanded != in {
			y = q.convNormAct(q.next(), y, expanded, 1, silu, opts...)
		}
		y = q.convNormAct(q.next(), y, expanded, s.k, silu, with(Stride(s.stride), Groups(expanded))...)
		y = q.SqueezeExcitation(q.next(), y, max(1, in/4), silu, (*Builder).Sigmoid, opts...)
		y = q.convNormAct(q.next(), y, s.out, 1, nil, opts...)
	case expanded != in:
		y = q.convNormAct(q.next(), y, expanded, s.k, silu, with(Stride(s.stride))...)
		y = q.convNormAct(q.next(), y, s.out, 1, nil, opts...)
	default:
		y = q.convNormAct(q.next(), y, s.out, s.k, silu, with(Stride(s.stride))...)
	}
	if s.stride == 1 && in == s.out {
		y = b.Add("add", b.StochasticDepth("stochastic_depth", y, drop), x)
	}
	return y
}
