package builders

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// detections are torchvision.models.detection for the 91 labels of COCO, 0 of which is the background: SSD
// (Liu et al. 2015), RetinaNet (Lin et al. 2017), FCOS (Tian et al. 2019) and Faster R-CNN (Ren et al. 2015).
// They are graphs for inference, of one image [1,3,H,W] with values from 0 to 1, which is resized and
// normalized inside, and give "boxes" [n,4] as x1, y1, x2, y2 in pixels of that image, "scores" [n] and
// "labels" [n], best first. H and W are the builder's.
var detections = []network{
	detector("ssd300_vgg16", "SSD on a VGG-16, for images of 300x300", 300, ssd300),
	detector("ssdlite320_mobilenet_v3_large", "SSDLite on a MobileNet v3, for images of 320x320",
		320, ssdLite320),
	detector("retinanet_resnet50_fpn", "RetinaNet on a feature pyramid of ResNet-50", 800, retinaNet),
	detector("fcos_resnet50_fpn", "FCOS on a feature pyramid of ResNet-50", 800, fcos),
	detector("fasterrcnn_resnet50_fpn", "Faster R-CNN on a feature pyramid of ResNet-50", 800,
		fasterRCNNResNet50),
	detector("fasterrcnn_mobilenet_v3_large_fpn", "Faster R-CNN on a feature pyramid of MobileNet v3", 800,
		fasterRCNNMobileNet(800, 1333, 1000)),
	detector("fasterrcnn_mobilenet_v3_large_320_fpn",
		"Faster R-CNN on a feature pyramid of MobileNet v3, for small images", 320,
		fasterRCNNMobileNet(320, 640, 150)),
}

// sight is an image as a detector's network sees it.
type sight struct {
	x        Value
	size     [2]int64 // without the padding
	original [2]int64
}

func detector(name, summary string, side int, build func(b *Builder, cfg Config) (sight, found)) network {
	info := Info{name, summary, Config{Input: [3]int{3, side, side}, Classes: 91}}
	return network{info, func(b *Builder, cfg Config) Value {
		if cfg.Input[0] != 3 || cfg.Classes < 2 {
			b.fail("transform", "%d channels and %d labels: images have 3 channels, and label 0 is the background", cfg.Input[0], cfg.Classes)
			return Value{}
		}
		b.detects()
		seen, f := build(b, cfg)
		down, right := float32(seen.original[0])/float32(seen.size[0]),
			float32(seen.original[1])/float32(seen.size[1])
		f.boxes = b.Scope("transform").with("Mul", "original_size", f.boxes, right, down, right, down)
		return b.give(f)
	}}
}

// detects makes the network one of a single image that gives boxes.
func (b *Builder) detects() {
	r := b.root
	r.single, r.main = true, "boxes"
	r.graph.Inputs[0].Type.Shape[0] = onnxio.Dim{Value: 1}
	delete(r.used, "output")
	r.used["boxes"] = true
}

// give makes outputs of f.
func (b *Builder) give(f found) Value {
	out := func(name string, kind onnxio.DataType, shape ...int64) Value {
		v := Value{Name: name, Shape: shape, count: "n", kind: kind}
		b.root.graph.Values = append(b.root.graph.Values, b.info(v))
		return v
	}
	boxes := out(f.boxes, onnxio.Float, 4)
	b.AddOutput("scores", out(f.scores, onnxio.Float))
	b.AddOutput("labels", out(f.labels, onnxio.Int64))
	return boxes
}

// imageNetMean and imageNetStd are what most detectors normalize with.
var (
	imageNetMean = []float32{0.485, 0.456, 0.406}
	imageNetStd  = []float32{0.229, 0.224, 0.225}
)

// resized is the input as torchvision's GeneralizedRCNNTransform makes it: normalized; resized so
// that the shorter side is least long, or the longer one most where that is less; and filled with
// zeros to multiples of 32.
func (b *Builder) resized(least, most int) sight {
	in := b.Input().Shape
	short, long := float64(min(in[1], in[2])), float64(max(in[1], in[2]))
	factor := math.Min(float64(least)/short, float64(most)/long)
	size := [2]int64{int64(math.Floor(float64(in[1]) * factor)), int64(math.Floor(float64(in[2]) * factor))}
	s := b.normalized01(imageNetMean, imageNetStd, size)
	if down, right := -size[0]&31, -size[1]&31; b.root.err == nil && (down != 0 || right != 0) {
		s.x = b.Scope("transform").zeroPad("pad", s.x, []int64{0, 0, 0}, []int64{0, down, right})
	}
	return s
}

// normalized01 is the input without the mean, divided by std, and resized.
func (b *Builder) normalized01(mean, std []float32, size [2]int64) sight {
	t, in := b.Scope("transform"), b.Input()
	x := t.Sub("centered", in, t.table("centered", "mean", mean, 3, 1, 1))
	x = t.Div("normalized", x, t.table("normalized", "std", std, 3, 1, 1))
	if size != [2]int64{in.Shape[1], in.Shape[2]} {
		x = t.Resize("resize", x, int(size[0]), int(size[1]), Bilinear)
	}
	return sight{x, size, [2]int64{in.Shape[1], in.Shape[2]}}
}

// columns turns what a head says of every place, [N,A*columns,H,W], into [H*W*A,columns].
func (b *Builder) columns(name string, x Value, columns int) string {
	if !b.is3(name, x) {
		return ""
	}
	y := b.Reshape(name+".kinds", x, -1, columns, int(x.Shape[1]), int(x.Shape[2]))
	y = b.Permute(name+".last", y, 0, 3, 4, 1, 2)
	return b.numbers("Reshape", name+".columns",
		[]string{y.Name, b.ints(name+".columns", "shape", -1, int64(columns))})
}
