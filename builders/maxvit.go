package builders

import (
	"math"
	"strconv"
)

// maxvits is torchvision.models.maxvit (Tu et al. 2022).
var maxvits = []network{deep("maxvit_t", "MaxViT-T: convolutions, attention in windows and in grids", 224,
	0.2, maxViT)}

var (
	maxInit = []Option{WeightInit(Normal(0.02)), BiasInit(Zeros)}
	maxNorm = append([]Option{Eps(0.001), Momentum(0.01)}, maxInit...)
	gelu    = (*Builder).GELU
)

// Of MaxViT: features a head, and the side of a window.
const (
	maxHead   = 32
	maxWindow = 7
)

func maxViT(b *Builder, cfg Config) Value {
	with := func(more ...Option) []Option { return append(more, maxNorm...) }
	stem := b.Scope("stem")
	x := stem.convNormAct("0", b.Input(), 64, 3, gelu, with(Stride(2))...)
	x = stem.Conv2d("1.0", x, 64, 3, with(Pad(1))...)
	at, blocks := 0, []int{2, 2, 5, 2}
	for i, layers := range blocks {
		block := b.Scope("blocks." + strconv.Itoa(i) + ".layers")
		for j := range layers {
			drop := float32(cfg.StochasticDepth * float64(at) / 10)
			s := block.Scope(strconv.Itoa(j) + ".layers")
			x = s.Scope("MBconv").maxConv(x, 64<<i, 2-min(j, 1), drop)
			x = s.Scope("window_attention").partitioned(x, false, drop)
			x = s.Scope("grid_attention").partitioned(x, true, drop)
			at++
		}
	}
	c := b.Scope("classifier")
	x = c.LayerNorm("2", c.Flatten("1", c.GlobalAvgPool2d("0", x)))
	x = c.Tanh("4", c.Linear("3", x, 512, maxInit...))
	return c.Linear("5", x, cfg.Classes, append([]Option{NoBias()}, maxInit...)...)
}

// maxConv is an inverted residual with its norm first.
func (b *Builder) maxConv(x Value, channels, stride int, drop float32) Value {
	with := func(more ...Option) []Option { return append(more, maxNorm...) }
	shortcut := x
	if stride == 2 {
		shortcut = b.Conv2d("proj.1", b.AvgPool2d("proj.0", x, 3, Stride(2), Pad(1)), channels, 1, maxInit...)
	}
	s := b.Scope("layers")
	y := s.convNormAct("conv_a", s.BatchNorm2d("pre_norm", x, maxNorm...), 4*channels, 1, gelu, maxNorm...)
	y = s.convNormAct("conv_b", y, 4*channels, 3, gelu, with(Stride(stride), Groups(4*channels))...)
	y = s.SqueezeExcitation("squeeze_excitation", y, channels/4, (*Builder).SiLU, (*Builder).Sigmoid,
		maxInit...)
	y = s.Conv2d("conv_c", y, channels, 1, maxInit...)
	return b.Add("add", shortcut, b.StochasticDepth("stochastic_depth", y, drop))
}

// partitioned is attention within windows of 7x7 neighbors, or within grids of 7x7
// pixels far apart, and an MLP.
func (b *Builder) partitioned(x Value, grid bool, drop float32) Value {
	if !b.is3("attn_layer", x) {
		return Value{}
	}
	c, h, w := int(x.Shape[0]), int(x.Shape[1]), int(x.Shape[2])
	if h%maxWindow != 0 || h != w {
		b.fail("attn_layer", "a map of %dx%d is no square of windows of %d: sides of 224, 448, ... are",
			h, w, maxWindow)
		return Value{}
	}
	rows, high := h/maxWindow, maxWindow
	if grid {
		rows, high = high, rows
	}
	x = b.windows("partition", b.Permute("nhwc", x, 0, 2, 3, 1), rows, high, rows, high)
	if grid {
		x = b.Permute("swap", x, 0, 2, 1, 3)
	}
	attn := b.Scope("attn_layer")
	y := attn.Scope("1").relativeAttention(attn.LayerNorm("0", x), c)
	x = b.Add("add_1", x, b.StochasticDepth("stochastic_depth_1", y, drop))
	mlp := b.Scope("mlp_layer")
	y = mlp.GELU("2", mlp.Linear("1", mlp.LayerNorm("0", x), 4*c, maxInit...))
	x = b.Add("add_2", x, b.StochasticDepth("stochastic_depth_2", mlp.Linear("3", y, c, maxInit...), drop))
	if grid {
		x = b.Permute("swap_back", x, 0, 2, 1, 3)
	}
	x = b.Permute("departition", b.Reshape("rows", x, rows, rows, high, high, c), 0, 5, 1, 3, 2, 4)
	return b.Reshape("map", x, c, h, w)
}

// relativeAttention is attention with a bias by the tokens' places to each other.
func (b *Builder) relativeAttention(x Value, c int) Value {
	w, heads := maxWindow, c/maxHead
	table := b.Parameter("relative_position_bias_table", TruncNormal(0.02), (2*w-1)*(2*w-1), heads)
	index := b.IntBuffer("relative_position_index", positions(w), w*w, w*w)
	qkv := b.Chunk("chunk", b.Linear("to_qkv", x, 3*c, maxInit...), -1, 3)
	if len(qkv) != 3 {
		return Value{}
	}
	y := b.attend(qkv[0], qkv[1], qkv[2], heads, 1/math.Sqrt(float64(c)), func(products Value) Value {
		return b.Add("biased", products, b.relativeBias(table, b.flatIndex(index), w, heads))
	})
	return b.Linear("merge", y, c, maxInit...)
}

// flatIndex is an index [n,n] as a list.
func (b *Builder) flatIndex(index Value) Value {
	all := b.ints("flat_index", "shape", -1)
	return Value{Name: b.numbers("Reshape", "flat_index", []string{index.Name, all}),
		Shape: []int64{elements(index.Shape)}, fixed: true}
}
