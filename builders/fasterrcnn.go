package builders

import (
	"math"
	"strconv"

	"github.com/cnnkit/cnnkit/onnxio"
)

// fasterRCNN is what the Faster R-CNNs differ in: how many boxes a level proposes and all do together,
// and which scores these need.
type fasterRCNN struct {
	proposals int
	least     float32
}

func fasterRCNNResNet50(b *Builder, cfg Config) (sight, found) {
	seen, back := b.resized(800, 1333), b.Scope("backbone")
	layers := back.Scope("body").resNetLayers(seen.x)
	f := back.Scope("fpn")
	features := f.pooled(f.pyramid256(layers))
	levels := seen.levels(features, [][]int{{32}, {64}, {128}, {256}, {512}}, 0.5, 1, 2)
	return seen, fasterRCNN{1000, 0}.detect(b, cfg, seen, levels)
}

// fasterRCNNMobileNet resizes as resized does, and has so many proposals.
func fasterRCNNMobileNet(least, most, proposals int) func(b *Builder, cfg Config) (sight, found) {
	return func(b *Builder, cfg Config) (sight, found) {
		seen, back := b.resized(least, most), b.Scope("backbone")
		x := back.mobileNetV3Features("body", seen.x, largeV3, len(largeV3), mobileInit)
		f := back.Scope("fpn")
		features := f.pooled(f.pyramid256([]Value{x[13], x[16]}))
		sizes := []int{32, 64, 128, 256, 512}
		levels := seen.levels(features, [][]int{sizes, sizes, sizes}, 0.5, 1, 2)
		return seen, fasterRCNN{proposals, 0.05}.detect(b, cfg, seen, levels)
	}
}

// detect gives what the box head makes of the proposals. It does not look at the last level.
func (r fasterRCNN) detect(b *Builder, cfg Config, seen sight, levels []level) found {
	if b.root.err != nil {
		return found{}
	}
	proposals := r.propose(b, seen, levels)
	h := b.Scope("roi_heads")
	proposals, x := h.pooledBoxes(proposals, seen, levels[:len(levels)-1])
	head, p := h.Scope("box_head"), h.Scope("box_predictor")
	x = head.numbers("Flatten", "flatten", []string{x}, onnxio.IntAttr("axis", 1))
	x = head.numbers("Relu", "relu6", []string{head.product("fc6", x, 256*7*7, 1024)})
	x = head.numbers("Relu", "relu7", []string{head.product("fc7", x, 1024, 1024)})
	logits := p.product("cls_score", x, 1024, cfg.Classes)
	deltas := p.product("bbox_pred", x, 1024, 4*cfg.Classes)
	d := b.Scope("detections")
	deltas = d.numbers("Reshape", "deltas",
		[]string{deltas, d.ints("deltas", "shape", 0, int64(cfg.Classes), 4)})
	from := d.numbers("Unsqueeze", "proposals", []string{proposals, d.ints("proposals", "axes", 1)})
	boxes := d.inside("clip", d.decoded("decode", deltas, from, [2]float32{10, 5}), seen.size)
	boxes = d.withoutBackground("boxes", boxes, onnxio.IntsAttr("perm", 1, 0, 2))
	scores := d.ofSize("large", boxes, d.foreground(logits), 0.01)
	return d.bestOfClasses("nms", boxes, scores, 1, suppression{0.5, 0.05, 100})
}

// product is a linear layer of rows x [n,in].
func (b *Builder) product(name, x string, in, out int) string {
	inputs := append([]string{x}, b.weights(name, options(nil), out, int64(out), int64(in))...)
	return b.numbers("Gemm", name, inputs, onnxio.IntAttr("transB", 1))
}

// propose gives boxes [n,4] in which there may be something.
func (r fasterRCNN) propose(b *Builder, seen sight, levels []level) string {
	h, f := b.Scope("rpn.head").sharing(), b.Scope("rpn")
	var scores, boxes, from []string
	for i, l := range levels {
		s, kinds := f.Scope(strconv.Itoa(i)), int(l.count()/(l.x.Shape[1]*l.x.Shape[2]))
		c := h.Scope("conv.0")
		x := c.ReLU("1", c.Conv2d("0", l.x, 256, 3, append([]Option{Pad(1)}, headInit...)...))
		logits := h.columns("scores", h.Conv2d("cls_logits", x, kinds, 1, headInit...), 1)
		deltas := h.columns("deltas", h.Conv2d("bbox_pred", x, 4*kinds, 1, headInit...), 4)
		logits = s.numbers("Reshape", "flat", []string{logits, s.ints("flat", "shape", -1)})
		count := min(int64(r.proposals), l.count())
		top, places := s.best("top", logits, s.ints("top", "k", count))
		anchors := s.take("anchors", s.table("anchors", "all", l.anchors, l.count(), 4).Name, places, 0)
		boxes = append(boxes, s.decoded("decode", s.take("deltas", deltas, places, 0), anchors,
			[2]float32{1, 1}))
		scores = append(scores, top)
		level := s.ints("level", "index", int64(i))
		from = append(from, s.numbers("Expand", "level", []string{level, s.ints("level", "count", count)}))
	}
	all := found{f.inside("clip", f.join("boxes", 0, boxes...), seen.size), f.join("logits", 0, scores...),
		f.join("levels", 0, from...)}
	all.scores = f.ofSize("large", all.boxes, f.numbers("Sigmoid", "scores", []string{all.scores}), 0.001)
	// torchvision's proposals may have this very score, suppression's must have more
	least := math.Nextafter32(r.least, -1)
	if r.least == 0 {
		least = rejected / 2.
	}
	return f.bestOfAll("nms", all, len(levels), suppression{0.7, least, r.proposals}).boxes
}

// pooledBoxes gives boxes [n,4], in another order, and the 7x7 features [n,256,7,7] in them, of the map that
// goes with their size: of levels' first, for the smallest.
func (b *Builder) pooledBoxes(boxes string, seen sight, levels []level) (ordered, features string) {
	s := b.Scope("box_roi_pool")
	scale := func(l level) float64 {
		return math.Round(math.Log2(float64(float32(float64(l.x.Shape[1]) / float64(seen.size[0])))))
	}
	first, last := -scale(levels[0]), -scale(levels[len(levels)-1])
	from, to := s.halves("corners", boxes)
	sides := s.numbers("Sub", "sides", []string{to, from})
	width := s.numbers("Split", "width", []string{sides, s.ints("width", "sizes", 1, 1)},
		onnxio.IntAttr("axis", -1))
	area := s.numbers("Mul", "area", []string{width, s.second("height")})
	side := s.numbers("Squeeze", "side", []string{s.numbers("Sqrt", "root", []string{area}),
		s.ints("side", "axes", -1)})
	attrs := []*onnxio.Attribute{onnxio.IntAttr("output_height", 7), onnxio.IntAttr("output_width", 7),
		onnxio.IntAttr("sampling_ratio", 2)}
	if b.root.opset >= 16 {
		attrs = append(attrs, onnxio.StringAttr("coordinate_transformation_mode", "output_half_pixel"))
	}
	var parts, maps []string
	for i, l := range levels[:int(last-first)+1] {
		own, k := s.Scope(strconv.Itoa(i)), first+float64(i)
		low, high := float32(-1), float32(math.Inf(1))
		if k > first {
			low = float32(224 * math.Exp2(k-4-1e-6))
		}
		if k < last {
			high = float32(224 * math.Exp2(k-3-1e-6))
		}
		mask := own.numbers("And", "own", []string{own.with("GreaterOrEqual", "low", side, low),
			own.with("Less", "high", side, high)})
		places := own.numbers("Squeeze", "places", []string{own.numbers("NonZero", "place", []string{mask}),
			own.ints("places", "axes", 0)})
		part := own.take("boxes", boxes, places, 0)
		image := own.numbers("ConstantOfShape", "image",
			[]string{own.numbers("Shape", "count", []string{places})},
			onnxio.TensorAttr("value", onnxio.Int64s([]int64{0})))
		align := append([]*onnxio.Attribute{onnxio.FloatAttr("spatial_scale", float32(math.Exp2(-k)))},
			attrs...)
		parts, maps = append(parts, part), append(maps, own.numbers("RoiAlign", "align",
			[]string{l.x.Name, part, image}, align...))
	}
	return s.join("boxes", 0, parts...), s.join("features", 0, maps...)
}
