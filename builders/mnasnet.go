package builders

import (
	"math"
	"math/rand/v2"
	"strconv"
)

// mnasnets are torchvision.models.mnasnet (Tan et al. 2019, B1).
var mnasnets = []network{
	mnasNet("mnasnet0_5", "MNASNet, half as wide", 0.5),
	mnasNet("mnasnet0_75", "MNASNet, three quarters as wide", 0.75),
	mnasNet("mnasnet1_0", "MNASNet", 1),
	mnasNet("mnasnet1_3", "MNASNet, 1.3 times as wide", 1.3),
}

// mnasOptions: the momentum is TensorFlow's 0.9997, the other way round.
var mnasOptions = append([]Option{Momentum(0.0003)}, mobileInit...)

func mnasNet(name, summary string, alpha float64) network {
	width := func(n int) int { return divisible(float64(n) * alpha) }
	return classifier(name, summary, 224, func(b *Builder, cfg Config) Value {
		with := func(more ...Option) []Option { return append(more, mnasOptions...) }
		s := b.sequential("layers")
		x := s.conv(b.Input(), width(32), 3, re, with(Stride(2), Pad(1))...)
		x = s.conv(x, width(32), 3, re, with(Pad(1), Groups(width(32)))...)
		x = s.conv(x, width(16), 1, nil, mnasOptions...)
		for _, r := range []struct{ channels, k, stride, expand, blocks int }{
			{24, 3, 2, 3, 3}, {40, 5, 2, 3, 3}, {80, 5, 2, 6, 3}, {96, 3, 1, 6, 2}, {192, 5, 2, 6, 4},
			{320, 3, 1, 6, 1}} {
			stack := s.Scope(s.next())
			for i := range r.blocks {
				x = stack.Scope(strconv.Itoa(i)).mnasBlock(x, width(r.channels), r.k, r.stride, r.expand)
				r.stride = 1
			}
		}
		x = s.conv(x, 1280, 1, re, mnasOptions...)
		return b.head(x, cfg.Classes, 0.2, WeightInit(fanOutUniform), BiasInit(Zeros))
	})
}

// mnasBlock is an inverted residual.
func (b *Builder) mnasBlock(x Value, channels, k, stride, expand int) Value {
	if !b.is3("layers", x) {
		return Value{}
	}
	s, hidden := b.sequential("layers"), int(x.Shape[0])*expand
	y := s.conv(x, hidden, 1, re, mnasOptions...)
	y = s.conv(y, hidden, k, re, append([]Option{Stride(stride), Pad(k / 2), Groups(hidden)},
		mnasOptions...)...)
	y = s.conv(y, channels, 1, nil, mnasOptions...)
	if stride == 1 && x.Shape[0] == int64(channels) {
		y = b.Add("add", y, x)
	}
	return y
}

// fanOutUniform is kaiming_uniform_ of a linear layer with mode fan_out and the gain
// of the sigmoid, which is 1.
func fanOutUniform(r *rand.Rand, shape []int64, data []float32) {
	Uniform(math.Sqrt(3/float64(shape[0])))(r, shape, data)
}
