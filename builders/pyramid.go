package builders

import (
	"math"
	"math/rand/v2"
	"strconv"
)

// What detectors on feature pyramids have in common (Lin et al. 2016).

// pyramidInit is kaiming_uniform_ with a = 1, whose bound is sqrt(3/fan_in).
var pyramidInit = []Option{BiasInit(Zeros), WeightInit(func(r *rand.Rand, shape []int64, data []float32) {
	Uniform(math.Sqrt(3/float64(fanIn(shape))))(r, shape, data)
})}

// headInit are the initial weights of heads.
var headInit = []Option{WeightInit(Normal(0.01)), BiasInit(Zeros)}

// resNetLayers are the outputs of ResNet-50's four layers.
func (b *Builder) resNetLayers(x Value) []Value {
	return b.dilatedLayers(b.resnetStem(x, 64), Config{Blocks: []int{3, 4, 6, 3}, Width: 64}, 4,
		bottleneck(1, 64), 4)
}

// pyramid256 gives features of 256 channels for each of those given, whose maps shrink: what is seen in the
// small ones is added to the larger.
func (b *Builder) pyramid256(features []Value) []Value {
	if b.root.err != nil {
		return nil
	}
	out := make([]Value, len(features))
	var above Value
	var names []string
	for i := len(features) - 1; i >= 0; i-- {
		at := strconv.Itoa(i)
		x := b.Conv2d("inner_blocks."+at+".0", features[i], 256, 1, pyramidInit...)
		if i < len(features)-1 && b.is3("fpn", x) {
			larger := b.Resize("upsample."+at, above, int(x.Shape[1]), int(x.Shape[2]), Nearest)
			x = b.Add("add."+at, x, larger)
		}
		above = x
		out[i] = b.Conv2d("layer_blocks."+at+".0", x, 256, 3, append([]Option{Pad(1)}, pyramidInit...)...)
	}
	for _, kind := range []string{"inner_blocks.", "layer_blocks."} {
		for i := range features {
			names = append(names, kind+strconv.Itoa(i))
		}
	}
	b.inOrder(names...)
	return out
}

// pooled adds a map of every second place of the last.
func (b *Builder) pooled(features []Value) []Value {
	if b.root.err != nil {
		return nil
	}
	return append(features, b.MaxPool2d("extra_blocks", features[len(features)-1], 1, Stride(2)))
}

// convolved adds two maps, each half as high as the one before, by convolutions of x.
func (b *Builder) convolved(features []Value, x Value) []Value {
	opts := append([]Option{Stride(2), Pad(1)}, pyramidInit...)
	p6 := b.Conv2d("extra_blocks.p6", x, 256, 3, opts...)
	p7 := b.Conv2d("extra_blocks.p7", b.ReLU("extra_blocks.relu", p6), 256, 3, opts...)
	return append(features, p6, p7)
}

// level is a map of a pyramid and the boxes around its places.
type level struct {
	x       Value
	anchors []float32
}

// count is the number of boxes.
func (l level) count() int64 { return int64(len(l.anchors) / 4) }

// levels are the maps with boxes of the given sides, one list for each map.
func (s sight) levels(features []Value, sizes [][]int, ratios ...float64) []level {
	var out []level
	for i, x := range features {
		if len(x.Shape) != 3 || len(s.x.Shape) != 3 {
			return nil
		}
		c := cell{x.Shape[1], x.Shape[2]}
		out = append(out, level{x, c.anchors(s.x.Shape[1]/c.height, s.x.Shape[2]/c.width, sizes[i], ratios)})
	}
	return out
}
