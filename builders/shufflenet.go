package builders

import "strconv"

// shufflenets are torchvision.models.shufflenetv2 (Ma et al. 2018).
var shufflenets = []network{
	shuffleNet("shufflenet_v2_x0_5", "ShuffleNet v2, half as wide", 48, 1024),
	shuffleNet("shufflenet_v2_x1_0", "ShuffleNet v2", 116, 1024),
	shuffleNet("shufflenet_v2_x1_5", "ShuffleNet v2, one and a half times as wide", 176, 1024),
	shuffleNet("shufflenet_v2_x2_0", "ShuffleNet v2, twice as wide", 244, 2048),
}

// shuffleNet has three stages of width, 2 and 4 times width channels, and last ones at the end.
func shuffleNet(name, summary string, width, last int) network {
	return classifier(name, summary, 224, func(b *Builder, cfg Config) Value {
		x := b.sequential("conv1").conv(b.Input(), 24, 3, re, Stride(2), Pad(1))
		x = b.MaxPool2d("maxpool", x, 3, Stride(2), Pad(1))
		for i, blocks := range []int{4, 8, 4} {
			stage := b.Scope("stage" + strconv.Itoa(i+2))
			for j := range blocks {
				x = stage.Scope(strconv.Itoa(j)).shuffled(x, width<<i, j == 0)
			}
		}
		x = b.sequential("conv5").conv(x, last, 1, re)
		return b.Linear("fc", b.Flatten("flatten", b.GlobalAvgPool2d("mean", x)), cfg.Classes)
	})
}

// shuffled convolves half of the channels and lets the halves take turns; where it halves
// the size, it convolves both.
func (b *Builder) shuffled(x Value, channels int, halves bool) Value {
	rest, y, stride := x, x, 1
	if halves {
		stride = 2
		s := b.sequential("branch1")
		if b.is3("branch1", x) {
			rest = s.conv(x, int(x.Shape[0]), 3, nil, Stride(2), Pad(1), Groups(int(x.Shape[0])))
		}
		rest = s.conv(rest, channels/2, 1, re)
	} else {
		parts := b.Chunk("chunk", x, 1, 2)
		rest = parts[0]
		if len(parts) == 2 {
			y = parts[1]
		}
	}
	s := b.sequential("branch2")
	y = s.conv(y, channels/2, 1, re)
	y = s.conv(y, channels/2, 3, nil, Stride(stride), Pad(1), Groups(channels/2))
	y = s.conv(y, channels/2, 1, re)
	return b.ChannelShuffle("shuffle", b.Concat("cat", rest, y), 2)
}
