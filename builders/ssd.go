package builders

import (
	"math"
	"slices"
	"strconv"

	"github.com/cnnkit/cnnkit/onnxio"
)

// ssd is what the two SSDs differ in.
type ssd struct {
	side      int
	mean, std []float32
	scales    []float64   // of the levels, and one more
	ratios    [][]float64 // of the levels
	steps     []float32   // of the levels; nil: the side divided by the map's
	topK      int         // boxes of a label before suppression
	suppression
}

func ssd300(b *Builder, cfg Config) (sight, found) {
	s := ssd{300, []float32{0.48235, 0.45882, 0.40784}, []float32{1. / 255, 1. / 255, 1. / 255},
		[]float64{0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05}, [][]float64{{2}, {2, 3}, {2, 3},
			{2, 3}, {2}, {2}},
		[]float32{8, 16, 32, 64, 100, 300}, 400, suppression{0.45, 0.01, 200}}
	seen := b.normalized01(s.mean, s.std, [2]int64{300, 300})
	init := []Option{WeightInit(XavierUniform), BiasInit(Zeros), Pad(1)}
	predict := func(b *Builder, name string, x Value, channels int) Value {
		return b.Conv2d(name, x, channels, 3, init...)
	}
	return seen, s.detect(b, cfg, b.Scope("backbone").ssdVGG(seen.x), predict)
}

// ssdVGG are the features of VGG-16 with layers for smaller maps.
func (b *Builder) ssdVGG(x Value) []Value {
	scale := b.Parameter("scale_weight", Fill(20), 512)
	f := b.sequential("features")
	vgg := []Option{Pad(1), WeightInit(KaimingNormal), BiasInit(Zeros)}
	for i, stage := range [][]int{{64, 64}, {128, 128}, {256, 256, 256}, {512, 512, 512}} {
		switch i {
		case 1, 2:
			x = f.MaxPool2d(f.next(), x, 2)
		case 3:
			x = f.MaxPool2d(f.next(), x, 2, CeilMode())
		}
		for _, channels := range stage {
			x = f.Conv2d(f.next(), x, channels, 3, vgg...)
			x = f.ReLU(f.next(), x)
		}
	}
	if b.root.err != nil {
		return nil
	}
	unit := b.unitLength("normalized", x)
	out := []Value{b.Mul("rescaled", b.Reshape("scale_weight_chw", scale, 512, 1, 1), unit)}
	e := b.sequential("extra.0")
	x = e.MaxPool2d(e.next(), x, 2)
	for range 3 {
		x = e.Conv2d(e.next(), x, 512, 3, vgg...)
		x = e.ReLU(e.next(), x)
	}
	init := []Option{WeightInit(XavierUniform), BiasInit(Zeros)}
	with := func(more ...Option) []Option { return append(more, init...) }
	fc := e.Scope(e.next())
	x = fc.ReLU("2", fc.Conv2d("1", fc.MaxPool2d("0", x, 3, Stride(1), Pad(1)), 1024, 3,
		with(Pad(6), Dilation(6))...))
	x = fc.ReLU("4", fc.Conv2d("3", x, 1024, 1, init...))
	out = append(out, x)
	for i, l := range []struct {
		narrow, channels int
		opts             []Option
	}{{256, 512, with(Stride(2), Pad(1))}, {128, 256, with(Stride(2), Pad(1))}, {128, 256, init},
		{128, 256, init}} {
		s := b.Scope("extra." + strconv.Itoa(i+1))
		x = s.ReLU("1", s.Conv2d("0", x, l.narrow, 1, init...))
		x = s.ReLU("3", s.Conv2d("2", x, l.channels, 3, l.opts...))
		out = append(out, x)
	}
	return out
}

// unitLength is torch.nn.functional.normalize over the channels: x divided by its length.
func (b *Builder) unitLength(name string, x Value) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	axes := Value{Name: b.ints(name, "axes", 1), fixed: true}
	shape := []int64{1, x.Shape[1], x.Shape[2]}
	sum := b.apply("ReduceSum", name+".sum", []Value{b.Mul(name+".square", x, x), axes}, shape)
	length := b.apply1("Sqrt", name+".length", sum)
	return b.Div(name, x, b.apply("Max", name+".positive", []Value{length, b.constant(name, "least", 1e-12)},
		shape))
}

// detect gives what the heads find in the features. predict is a level's part of a head, module name.
func (s ssd) detect(b *Builder, cfg Config, features []Value, predict func(b *Builder, name string, x Value,
	channels int) Value) found {
	if b.root.err != nil {
		return found{}
	}
	heads, anchors := b.Scope("head"), []float32{}
	all := func(head string, columns int) string {
		var levels []string
		list := heads.Scope(head + ".module_list")
		for i, x := range features {
			name := strconv.Itoa(i)
			levels = append(levels, list.columns(name, predict(list, name, x, columns*(2+2*len(s.ratios[i]))),
				columns))
		}
		return heads.join(head, 0, levels...)
	}
	logits, deltas := all("classification_head", cfg.Classes), all("regression_head", 4)
	if b.root.err != nil {
		return found{}
	}
	for i, x := range features {
		step := float32(s.side) / float32(x.Shape[2])
		if s.steps != nil {
			step = s.steps[i]
		}
		level := cell{x.Shape[1], x.Shape[2]}
		anchors = append(anchors, level.defaultBoxes(s.side, step, s.scales[i], s.scales[i+1],
			s.ratios[i])...)
	}
	d, n := b.Scope("detections"), int64(len(anchors)/4)
	boxes := d.decoded("decode", deltas, d.table("decode", "anchors", anchors, n, 4).Name, [2]float32{10, 5})
	boxes = d.inside("clip", boxes, [2]int64{int64(s.side), int64(s.side)})
	scores, places := d.best("top", d.foreground(logits), d.ints("top", "k", min(int64(s.topK), n)))
	return d.bestOfClasses("nms", d.take("boxes", boxes, places, 0), scores, 1, s.suppression)
}

// foreground are the probabilities [C-1,M] of the labels from 1 on, from logits [M,C].
func (b *Builder) foreground(logits string) string {
	p := b.numbers("Softmax", "softmax", []string{logits}, onnxio.IntAttr("axis", -1))
	return b.withoutBackground("scores", p, onnxio.IntsAttr("perm", 1, 0))
}

// withoutBackground turns [M,C,...] into [C-1,M,...].
func (b *Builder) withoutBackground(name, x string, perm *onnxio.Attribute) string {
	x = b.numbers("Transpose", name+".labels_first", []string{x}, perm)
	return b.numbers("Slice", name, []string{x, b.ints(name, "from", 1), b.ints(name, "to", math.MaxInt32),
		b.ints(name, "axes", 0)})
}

// ssdLiteInit are the initial weights and norms of SSDLite.
var ssdLiteInit = []Option{WeightInit(Normal(0.03)), BiasInit(Zeros), Eps(0.001), Momentum(0.03)}

func ssdLite320(b *Builder, cfg Config) (sight, found) {
	s := ssd{side: 320, topK: 300, suppression: suppression{0.55, 0.001, 300}}
	for i := range 6 {
		s.scales, s.ratios = append(s.scales, 0.2+(0.95-0.2)*float64(i)/5), append(s.ratios, []float64{2, 3})
	}
	s.scales = append(s.scales, 1)
	half := []float32{0.5, 0.5, 0.5}
	seen := b.normalized01(half, half, [2]int64{320, 320})
	return seen, s.detect(b, cfg, b.Scope("backbone").ssdMobileNet(seen.x), func(b *Builder, name string,
		x Value, channels int) Value {
		if !b.is3(name, x) {
			return Value{}
		}
		m, deep := b.Scope(name), append([]Option{Groups(int(x.Shape[0]))}, ssdLiteInit...)
		return m.Conv2d("1", m.convNormAct("0", x, int(x.Shape[0]), 3, (*Builder).ReLU6, deep...), channels,
			1, ssdLiteInit...)
	})
}

// ssdMobileNet are features of MobileNet v3 large with half the channels at its end, and of layers for
// smaller maps. The first are those that a bneck expands.
func (b *Builder) ssdMobileNet(x Value) []Value {
	rows := slices.Clone(largeV3)
	for i := 12; i < 15; i++ {
		rows[i].channels /= 2
		if i > 12 {
			rows[i].expanded /= 2
		}
	}
	front, back := b.Scope("features.0"), b.Scope("features.1")
	x = front.convNormAct("0", x, 16, 3, hs, append([]Option{Stride(2)}, ssdLiteInit...)...)
	for i, r := range rows[:12] {
		x = front.Scope(strconv.Itoa(i+1)).bneck(x, r, 1, false, ssdLiteInit)
	}
	split := rows[12]
	x = front.convNormAct("13", x, split.expanded, 1, split.act, ssdLiteInit...)
	out := []Value{x}
	rest := &sequential{back.Scope("0"), 1}
	x = rest.projected(x, split, 1, ssdLiteInit)
	x = back.Scope("1").bneck(x, rows[13], 1, false, ssdLiteInit)
	x = back.Scope("2").bneck(x, rows[14], 1, false, ssdLiteInit)
	x = back.convNormAct("3", x, 480, 1, hs, ssdLiteInit...)
	out = append(out, x)
	for i, channels := range []int{512, 256, 256, 128} {
		e, deep := b.Scope("extra."+strconv.Itoa(i)), append([]Option{Stride(2), Groups(channels / 2)},
			ssdLiteInit...)
		x = e.convNormAct("0", x, channels/2, 1, (*Builder).ReLU6, ssdLiteInit...)
		x = e.convNormAct("1", x, channels/2, 3, (*Builder).ReLU6, deep...)
		x = e.convNormAct("2", x, channels, 1, (*Builder).ReLU6, ssdLiteInit...)
		out = append(out, x)
	}
	return out
}
