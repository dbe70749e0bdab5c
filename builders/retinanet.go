package builders

import (
	"math"
	"strconv"
)

// dense is a detector that asks every place of every map.
type dense struct {
	topK int // boxes of a level before suppression
	suppression
	decode func(b *Builder, deltas, anchors string) string
}

// denseFeatures are the maps of RetinaNet and FCOS: of ResNet-50's layers 2 to 4, and two smaller ones.
func (b *Builder) denseFeatures(x Value) []Value {
	layers := b.Scope("body").resNetLayers(x)
	if b.root.err != nil {
		return nil
	}
	f := b.Scope("fpn")
	features := f.pyramid256(layers[1:])
	if b.root.err != nil {
		return nil
	}
	return f.convolved(features, features[len(features)-1])
}

func retinaNet(b *Builder, cfg Config) (sight, found) {
	seen := b.resized(800, 1333)
	var sizes [][]int
	for _, s := range []float64{32, 64, 128, 256, 512} {
		sizes = append(sizes, []int{int(s), int(s * math.Pow(2, 1./3)), int(s * math.Pow(2, 2./3))})
	}
	levels := seen.levels(b.Scope("backbone").denseFeatures(seen.x), sizes, 0.5, 1, 2)
	tower := func(b *Builder, x Value) Value {
		for i := range 4 {
			s := b.Scope("conv." + strconv.Itoa(i))
			x = s.ReLU("1", s.Conv2d("0", x, 256, 3, append([]Option{Pad(1)}, headInit...)...))
		}
		return x
	}
	var scores, deltas []string
	classes, boxes := b.Scope("head.classification_head").sharing(), b.Scope("head.regression_head").sharing()
	for _, l := range levels {
		y := classes.places("cls_logits", tower(classes, l.x), 9*cfg.Classes, rare)
		scores = append(scores, classes.numbers("Sigmoid", "sigmoid",
			[]string{classes.columns("scores", y, cfg.Classes)}))
	}
	for _, l := range levels {
		deltas = append(deltas, boxes.columns("deltas", boxes.places("bbox_reg", tower(boxes, l.x),
			9*4, Zeros), 4))
	}
	d := dense{1000, suppression{0.5, 0.05, 300}, func(b *Builder, deltas, anchors string) string {
		return b.decoded("decode", deltas, anchors, [2]float32{1, 1})
	}}
	return seen, d.detect(b, cfg, seen, levels, scores, deltas)
}

// rare are initial biases that give a probability of a hundredth.
var rare = Fill(float32(-math.Log((1 - 0.01) / 0.01)))

// places is a head's last convolution.
func (b *Builder) places(name string, x Value, channels int, bias Init) Value {
	return b.Conv2d(name, x, channels, 3, Pad(1), WeightInit(Normal(0.01)), BiasInit(bias))
}

func fcos(b *Builder, cfg Config) (sight, found) {
	seen := b.resized(800, 1333)
	levels := seen.levels(b.Scope("backbone").denseFeatures(seen.x), [][]int{{8}, {16}, {32}, {64}, {128}}, 1)
	tower := func(b *Builder, x Value) Value {
		s := b.sequential("conv")
		for range 4 {
			x = s.Conv2d(s.next(), x, 256, 3, append([]Option{Pad(1)}, headInit...)...)
			x = s.GroupNorm(s.next(), x, 32)
			x = s.ReLU(s.next(), x)
		}
		return x
	}
	classes, boxes := b.Scope("head.classification_head").sharing(), b.Scope("head.regression_head").sharing()
	var scores, reach []string
	for _, l := range levels {
		y := classes.places("cls_logits", tower(classes, l.x), cfg.Classes, rare)
		scores = append(scores, classes.numbers("Sigmoid", "sigmoid",
			[]string{classes.columns("scores", y, cfg.Classes)}))
	}
	for i, l := range levels {
		y := tower(boxes, l.x)
		reach = append(reach,
			boxes.columns("reach", boxes.ReLU("relu", boxes.places("bbox_reg", y, 4, Zeros)), 4))
		center := boxes.columns("centered", boxes.places("bbox_ctrness", y, 1, Zeros), 1)
		both := b.numbers("Mul", "head.centered",
			[]string{scores[i], b.numbers("Sigmoid", "head.centerness", []string{center})})
		scores[i] = b.numbers("Sqrt", "head.scores", []string{both})
	}
	d := dense{1000, suppression{0.6, 0.2, 100}, func(b *Builder, reach, anchors string) string {
		return b.reaching("decode", reach, anchors)
	}}
	return seen, d.detect(b, cfg, seen, levels, scores, reach)
}

// detect gives the best of the boxes that the levels' scores [M,C] and deltas [M,4] tell of.
func (d dense) detect(b *Builder, cfg Config, seen sight, levels []level, scores, deltas []string) found {
	if b.root.err != nil {
		return found{}
	}
	var boxes, best, labels []string
	for i, l := range levels {
		s, n := b.Scope("detections."+strconv.Itoa(i)), l.count()
		flat := s.numbers("Reshape", "flat", []string{scores[i], s.ints("flat", "shape", -1)})
		top, places := s.best("top", flat, s.ints("top", "k", min(int64(d.topK), n*int64(cfg.Classes))))
		count := s.ints("anchor", "classes", int64(cfg.Classes))
		anchor := s.numbers("Div", "anchor", []string{places, count})
		from := s.take("anchors", s.table("anchors", "all", l.anchors, n, 4).Name, anchor, 0)
		boxes = append(boxes, d.decode(s, s.take("deltas", deltas[i], anchor, 0), from))
		best, labels = append(best, top), append(labels, s.numbers("Mod", "labels", []string{places, count}))
	}
	s := b.Scope("detections")
	all := found{s.inside("clip", s.join("boxes", 0, boxes...), seen.size), s.join("scores", 0, best...),
		s.join("labels", 0, labels...)}
	return s.bestOfAll("nms", all, cfg.Classes, d.suppression)
}
