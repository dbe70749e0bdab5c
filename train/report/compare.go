package report

import (
	"fmt"
	"image"
	"image/color"
	"sync"

	"golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"

	"github.com/cnnkit/cnnkit/runtime/vision"
)

// smallest is the width that a panel of Compare has at least: that of its caption. Smaller images are drawn
// larger, by a whole number.
const smallest = 160

// Compare draws an image, the image under its true mask and under the predicted mask side by side, each with
// its caption. Masks are brought to the image's size; without truth (nil) there are two panels.
func Compare(input image.Image, truth *vision.Mask, prediction vision.Mask) (image.Image, error) {
	b := input.Bounds()
	if b.Empty() {
		return nil, fmt.Errorf("an image of %v", b)
	}
	type panel struct {
		caption string
		image   image.Image
	}
	panels := []panel{{"input", input}}
	caption := "prediction"
	if truth != nil {
		t := truth.Resized(b.Dx(), b.Dy())
		panels = append(panels, panel{"truth", vision.Overlay(input, t)})
		caption = fmt.Sprintf("prediction, IoU %.3f", Overlap(t, prediction.Resized(b.Dx(), b.Dy())).IoU)
	}
	panels = append(panels, panel{caption, vision.Overlay(input, prediction.Resized(b.Dx(), b.Dy()))})

	scale := (smallest + b.Dx() - 1) / b.Dx()
	w, h := scale*b.Dx(), scale*b.Dy()
	size := max(13, float64(w)/24)
	gap, bar := max(4, w/60), int(1.9*size)
	out := image.NewRGBA(image.Rect(0, 0, len(panels)*(w+gap)+gap, bar+h+gap))
	draw.Draw(out, out.Bounds(), image.White, image.Point{}, draw.Src)
	for i, p := range panels {
		at := image.Pt(gap+i*(w+gap), bar)
		draw.NearestNeighbor.Scale(out, image.Rect(0, 0, w, h).Add(at), p.image, p.image.Bounds(),
			draw.Src, nil)
		if err := write(out, at.X, bar-int(0.6*size), w, p.caption, size); err != nil {
			return nil, err
		}
	}
	return out, nil
}

var regular = sync.OnceValues(func() (*opentype.Font, error) { return opentype.Parse(goregular.TTF) })

// write writes a line of text centred in [x,x+w), y being its base line.
func write(on draw.Image, x, y, w int, text string, size float64) error {
	f, err := regular()
	if err != nil {
		return err
	}
	face, err := opentype.NewFace(f, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
	if err != nil {
		return err
	}
	defer face.Close()
	d := font.Drawer{Dst: on, Src: image.NewUniform(color.Gray{Y: 40}), Face: face}
	d.Dot = fixed.Point26_6{X: fixed.I(x) + (fixed.I(w)-d.MeasureString(text))/2, Y: fixed.I(y)}
	d.DrawString(text)
	return nil
}

// Agreement is how well two masks agree: of two classes the foreground, of more the mean
// over the classes that occur.
type Agreement struct {
	IoU  float64 `json:"iou"`
	Dice float64 `json:"dice"`
}

// Overlap compares masks of one size; two empty ones agree. Pixels that are of no
// class in truth do not count.
func Overlap(truth, prediction vision.Mask) Agreement {
	classes := max(truth.Classes, prediction.Classes)
	both, either := make([]int, classes), make([]int, classes)
	for i, t := range truth.Pixels {
		if int(t) >= classes {
			continue // void
		}
		p := prediction.Pixels[i]
		either[t]++
		if t == p {
			both[t]++
		} else {
			either[p]++
		}
	}
	var a Agreement
	n := 0.0
	for c := range classes {
		if either[c] == 0 || c == 0 && classes == 2 {
			continue
		}
		n++
		a.IoU += float64(both[c]) / float64(either[c])
		a.Dice += 2 * float64(both[c]) / float64(both[c]+either[c])
	}
	if n == 0 {
		return Agreement{1, 1}
	}
	return Agreement{a.IoU / n, a.Dice / n}
}

// NewTriple makes the pictures of a Triple: the image, and the masks laid over it. Truth may be nil.
func NewTriple(name string, input image.Image, truth *vision.Mask, prediction vision.Mask) (Triple, error) {
	b := input.Bounds()
	t := Triple{Name: name}
	var err error
	if t.Input, err = PNG(input); err != nil {
		return t, err
	}
	p := prediction.Resized(b.Dx(), b.Dy())
	if truth != nil {
		m := truth.Resized(b.Dx(), b.Dy())
		a := Overlap(m, p)
		t.Scores = map[string]float64{"iou": a.IoU, "dice": a.Dice}
		if t.Truth, err = PNG(vision.Overlay(input, m)); err != nil {
			return t, err
		}
	}
	t.Prediction, err = PNG(vision.Overlay(input, p))
	return t, err
}
