package builders

import "strconv"

// mobilenets are torchvision.models.mobilenetv2 (Sandler et al. 2018) and mobilenetv3 (Howard et al. 2019).
var mobilenets = []network{
	classifier("mobilenet_v2", "MobileNet v2: inverted residuals of depthwise convolutions", 224,
		mobileNetV2),
	classifier("mobilenet_v3_small", "MobileNet v3 small", 224, mobileNetV3(smallV3, 1024)),
	classifier("mobilenet_v3_large", "MobileNet v3 large", 224, mobileNetV3(largeV3, 1280)),
}

// mobileInit are the initial weights of torchvision's mobile networks.
var mobileInit = []Option{WeightInit(KaimingNormal), BiasInit(Zeros)}

func mobileNetV2(b *Builder, cfg Config) Value {
	x := b.mobileNetV2Features("features", b.Input())
	return b.head(x[len(x)-1], cfg.Classes, 0.2, WeightInit(Normal(0.01)), BiasInit(Zeros))
}

// mobileNetV2Features are the outputs of the nineteen modules.
func (b *Builder) mobileNetV2Features(name string, x Value) []Value {
	f := b.sequential(name)
	out := []Value{f.convNormAct(f.next(), x, 32, 3, (*Builder).ReLU6, append([]Option{Stride(2)},
		mobileInit...)...)}
	for _, s := range []struct{ expand, channels, blocks, stride int }{
		{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2},
		{6, 320, 1, 1}} {
		for i := range s.blocks {
			stride := 1
			if i == 0 {
				stride = s.stride
			}
			x := out[len(out)-1]
			out = append(out, f.Scope(f.next()).invertedV2(x, s.expand, s.channels, stride))
		}
	}
	return append(out, f.convNormAct(f.next(), out[len(out)-1], 1280, 1, (*Builder).ReLU6, mobileInit...))
}

// invertedV2 expands the channels, convolves each on its own, and projects them.
func (b *Builder) invertedV2(x Value, expand, channels, stride int) Value {
	if !b.is3("conv", x) {
		return Value{}
	}
	c, y, hidden := b.sequential("conv"), x, int(x.Shape[0])*expand
	if expand != 1 {
		y = c.convNormAct(c.next(), y, hidden, 1, (*Builder).ReLU6, mobileInit...)
	}
	y = c.convNormAct(c.next(), y, hidden, 3, (*Builder).ReLU6,
		append([]Option{Stride(stride), Groups(hidden)}, mobileInit...)...)
	y = c.conv(y, channels, 1, nil, mobileInit...)
	if stride == 1 && x.Shape[0] == int64(channels) {
		y = b.Add("add", x, y)
	}
	return y
}

// bneck is a row of tables 1 and 2 of the MobileNet v3 paper.
type bneck struct {
	k, expanded, channels int
	squeeze               bool
	act                   Activation
	stride                int
}

var (
	re = (*Builder).ReLU
	hs = (*Builder).HardSwish

	smallV3 = []bneck{
		{3, 16, 16, true, re, 2}, {3, 72, 24, false, re, 2}, {3, 88, 24, false, re, 1}, {5, 96,
			40, true, hs, 2},
		{5, 240, 40, true, hs, 1}, {5, 240, 40, true, hs, 1}, {5, 120, 48, true, hs, 1}, {5, 144,
			48, true, hs, 1},
		{5, 288, 96, true, hs, 2}, {5, 576, 96, true, hs, 1}, {5, 576, 96, true, hs, 1},
	}
	largeV3 = []bneck{
		{3, 16, 16, false, re, 1}, {3, 64, 24, false, re, 2}, {3, 72, 24, false, re, 1}, {5, 72,
			40, true, re, 2},
		{5, 120, 40, true, re, 1}, {5, 120, 40, true, re, 1}, {3, 240, 80, false, hs, 2}, {3, 200, 80,
			false, hs, 1},
		{3, 184, 80, false, hs, 1}, {3, 184, 80, false, hs, 1}, {3, 480, 112, true, hs, 1}, {3, 672, 112,
			true, hs, 1},
		{5, 672, 160, true, hs, 2}, {5, 960, 160, true, hs, 1}, {5, 960, 160, true, hs, 1},
	}
)

// v3Options are the initial weights and norms of MobileNet v3.
var v3Options = append([]Option{Eps(0.001), Momentum(0.01)}, mobileInit...)

func mobileNetV3(rows []bneck, last int) func(*Builder, Config) Value {
	return func(b *Builder, cfg Config) Value {
		x := b.mobileNetV3Features("features", b.Input(), rows, len(rows), v3Options)
		y := b.Flatten("flatten", b.GlobalAvgPool2d("avgpool", x[len(x)-1]))
		c, init := b.Scope("classifier"), []Option{WeightInit(Normal(0.01)), BiasInit(Zeros)}
		y = c.Dropout("2", c.HardSwish("1", c.Linear("0", y, last, init...)), 0.2)
		return c.Linear("3", y, cfg.Classes, init...)
	}
}

// mobileNetV3Features are the modules' outputs. Rows from dilated on have kernels twice as wide, and the
// first of them keeps the size.
func (b *Builder) mobileNetV3Features(name string, x Value, rows []bneck, dilated int,
	opts []Option) []Value {
	f := b.Scope(name)
	out := []Value{f.convNormAct("0", x, 16, 3, hs, append([]Option{Stride(2)}, opts...)...)}
	for i, r := range rows {
		dilation := 1
		if i >= dilated {
			r.stride, dilation = 1, 2
		}
		out = append(out, f.Scope(strconv.Itoa(i+1)).bneck(out[i], r, dilation, i == dilated, opts))
	}
	name = strconv.Itoa(len(rows) + 1)
	return append(out, f.convNormAct(name, out[len(rows)], 6*rows[len(rows)-1].channels, 1, hs, opts...))
}

// bneck is an inverted residual with squeeze-and-excitation, where r says so.
func (b *Builder) bneck(x Value, r bneck, dilation int, alone bool, opts []Option) Value {
	if !b.is3("block", x) {
		return Value{}
	}
	s, y := b.sequential("block"), x
	if int64(r.expanded) != x.Shape[0] {
		y = s.convNormAct(s.next(), y, r.expanded, 1, r.act, opts...)
	}
	y = s.projected(y, r, dilation, opts)
	if r.stride == 1 && !alone && x.Shape[0] == int64(r.channels) {
		y = b.Add("add", y, x)
	}
	return y
}

// projected is what follows a bneck's expansion.
func (s *sequential) projected(y Value, r bneck, dilation int, opts []Option) Value {
	y = s.convNormAct(s.next(), y, r.expanded, r.k, r.act,
		append([]Option{Stride(r.stride), Dilation(dilation), Groups(r.expanded)}, opts...)...)
	if r.squeeze {
		y = s.SqueezeExcitation(s.next(), y, divisible(float64(r.expanded/4)), re, (*Builder).HardSigmoid,
			opts...)
	}
	return s.convNormAct(s.next(), y, r.channels, 1, nil, opts...)
}
