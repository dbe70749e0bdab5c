package vision_test

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime/npy"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

const files = "../../testdata/images"

var imagenet = builders.Preprocessing{Size: [2]int{17, 20}, Channels: 3, Mean: []float32{0.485, 0.456, 0.406},
	Std: []float32{0.229, 0.224, 0.225}}

func load(t *testing.T, name string) image.Image {
	t.Helper()
	img, err := vision.Load(filepath.Join(files, name), vision.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestFormats(t *testing.T) {
	want := load(t, "gradient.png")
	for name, tolerance := range map[string]int{"gradient.bmp": 0, "gradient.tiff": 0, "gradient.webp": 0,
		"gradient.jpg": 24, "gradient.gif": 48} {
		got := load(t, name)
		if got.Bounds().Dx() != 64 || got.Bounds().Dy() != 48 {
			t.Errorf("%s is %v", name, got.Bounds())
			continue
		}
		worst := 0
		for y := range 48 {
			for x := range 64 {
				r, g, b, _ := got.At(x, y).RGBA()
				u, v, w, _ := want.At(x, y).RGBA()
				for _, d := range []int{int(r>>8) - int(u>>8), int(g>>8) - int(v>>8), int(b>>8) - int(w>>8)} {
					worst = max(worst, d, -d)
				}
			}
		}
		if worst > tolerance {
			t.Errorf("%s is %d of 255 off", name, worst)
		}
	}
}

// The resizing is PIL's, to the level; what is left is the rounding of float32.
func TestResizingAsPIL(t *testing.T) {
	for name, size := range map[string][2]int{"small": {17, 20}, "large": {80, 96}} {
		want, err := npy.Load(filepath.Join(files, name+".npy"))
		if err != nil {
			t.Fatal(err)
		}
		p := imagenet
		p.Size = size
		got := vision.Input(load(t, "gradient.png"), p)
		if len(got.Raw) != len(want.Raw) {
			t.Fatalf("%s: %v, not %v", name, got.Dims, want.Dims)
		}
		worst := 0.0
		for i, v := range got.Float32s() {
			worst = math.Max(worst, math.Abs(float64(v-want.Float32s()[i])))
		}
		if worst > 1e-6 {
			t.Errorf("%s: %g off", name, worst)
		}
	}
}

func TestGrey(t *testing.T) {
	p := builders.Preprocessing{Channels: 1, Mean: []float32{0.5}, Std: []float32{0.25}}
	a, b := vision.Input(load(t, "gradient.png"), p), vision.Input(load(t, "grey.png"), p)
	for i, v := range a.Float32s() {
		if d := math.Abs(float64(v - b.Float32s()[i])); d > 1.01/255/0.25 { // PIL's rounding
			t.Fatalf("pixel %d: %v and %v", i, v, b.Float32s()[i])
		}
	}
	white := image.NewGray(image.Rect(5, 5, 8, 7)) // bounds need not start at 0
	for i := range white.Pix {
		white.Pix[i] = 255
	}
	x := vision.Input(white, p)
	if x.Dims[2] != 2 || x.Dims[3] != 3 || x.Float32s()[5] != 2 {
		t.Errorf("%v %v", x.Dims, x.Float32s())
	}
}

func TestLimits(t *testing.T) {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 100, 100))); err != nil {
		t.Fatal(err)
	}
	var limit *onnxio.LimitError
	if _, err := vision.Decode(bytes.NewReader(b.Bytes()), vision.Limits{Pixels: 9999}); !errors.As(err,
		&limit) {
		t.Errorf("10000 pixels of 9999: %v", err)
	}
	if _, err := vision.Decode(bytes.NewReader(b.Bytes()), vision.Limits{Pixels: 10000}); err != nil {
		t.Error(err)
	}
	// A header of 60000 x 60000 pixels and nothing behind it.
	huge := append([]byte(nil), b.Bytes()...)
	copy(huge[16:24], []byte{0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60})
	if _, err := vision.Decode(bytes.NewReader(huge), vision.Limits{}); err == nil {
		t.Error("a PNG of 3.6 gigapixels was decoded")
	}
	if _, err := vision.Load(filepath.Join(files, "gradient.png"), vision.Limits{Bytes: 10}); !errors.As(err,
		&limit) {
		t.Errorf("a file above the limit: %v", err)
	}
	var format *onnxio.FormatError
	for name, data := range map[string][]byte{"empty": {}, "text": []byte("hello"), "cut": b.Bytes()[:50]} {
		if _, err := vision.Decode(bytes.NewReader(data), vision.Limits{}); !errors.As(err, &format) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := vision.Load(t.TempDir(), vision.Limits{}); !errors.As(err, &format) {
		t.Errorf("a folder: %v", err)
	}
}

func TestFiles(t *testing.T) {
	got, err := vision.Files([]string{files, filepath.Join(files, "make.py")})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 8 || filepath.Base(got[0]) != "gradient.bmp" || filepath.Base(got[7]) != "make.py" {
		t.Errorf("%v", got)
	}
	if _, err := vision.Files([]string{t.TempDir()}); err == nil {
		t.Error("an empty folder has images")
	}
	if _, err := vision.Files([]string{"nowhere.png"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestPreprocessing(t *testing.T) {
	m, err := builders.Build("lenet5", builders.Config{})
	if err != nil {
		t.Fatal(err)
	}
	p, recorded, err := vision.Preprocessing(m)
	if err != nil || recorded || p.Size != [2]int{28, 28} || p.Channels != 1 || p.Std[0] != 1 {
		t.Errorf("%+v, %v, %v", p, recorded, err)
	}
	builders.SetPreprocessing(m, builders.Preprocessing{Size: [2]int{28, 28}, Channels: 1,
		Mean: []float32{0.1307}, Std: []float32{0.3081}})
	if p, recorded, err = vision.Preprocessing(m); err != nil || !recorded || p.Mean[0] != 0.1307 {
		t.Errorf("%+v, %v, %v", p, recorded, err)
	}
	for _, bad := range []string{`{`, `{"size":[28,28],"channels":3,"mean":[0,0,0],"std":[1,1,1]}`,
		`{"size":[28,28],"channels":1,"mean":[0],"std":[0]}`,
		`{"size":[99999999,28],"channels":1,"mean":[0],"std":[1]}`,
		`{"size":[28,28],"channels":1,"mean":[0,0],"std":[1]}`, `{"size":[28,28],"channels":-1}`} {
		m.SetProperty("preprocessing", bad)
		if _, _, err := vision.Preprocessing(m); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestTop(t *testing.T) {
	logits := onnxio.Floats([]float32{0, float32(math.Log(2)), float32(math.Log(5)), 3, 3, 3}, 2, 3)
	top, err := vision.Top(logits, vision.Logits, 2, []string{"cat", "dog"})
	if err != nil {
		t.Fatal(err)
	}
	if g := top[0][0]; g.Class != 2 || g.Label != "2" || math.Abs(g.Probability-0.625) > 1e-6 {
		t.Errorf("%+v", g)
	}
	if g := top[0][1]; g.Class != 1 || g.Label != "dog" || math.Abs(g.Probability-0.25) > 1e-6 {
		t.Errorf("%+v", g)
	}
	if len(top[1]) != 2 || top[1][0].Class != 0 { // equals keep their order
		t.Errorf("%+v", top[1])
	}
	logs := onnxio.Floats([]float32{float32(math.Log(0.25)), float32(math.Log(0.75))}, 1, 2)
	if top, _ = vision.Top(logs, vision.LogProbabilities, 9, nil); len(top[0]) != 2 ||
		math.Abs(top[0][0].Probability-0.75) > 1e-6 {
		t.Errorf("%+v", top)
	}
	for _, bad := range []*onnxio.Tensor{onnxio.Floats([]float32{1}, 1), onnxio.NewTensor(onnxio.Float, 1, 3,
		2, 2), onnxio.NewTensor(onnxio.Float, 2, 0), onnxio.NewTensor(onnxio.Int64, 1, 3)} {
		if _, err := vision.Top(bad, vision.Logits, 1, nil); err == nil {
			t.Errorf("%s %v was ranked", bad.Type, bad.Dims)
		}
	}
}

func TestMasks(t *testing.T) {
	y := onnxio.Floats([]float32{-1, 0.5, 2, -3}, 1, 1, 2, 2)
	masks, err := vision.Masks(y, vision.Logits, 0.5)
	if err != nil || !bytes.Equal(masks[0].Pixels, []byte{0, 1, 1, 0}) || masks[0].Share() != 0.5 {
		t.Fatalf("%v, %v", masks, err)
	}
	// sigmoid(0.5) = 0.62
	if masks, _ = vision.Masks(y, vision.Logits, 0.8); !bytes.Equal(masks[0].Pixels, []byte{0, 0, 1, 0}) {
		t.Errorf("above 0.8: %v", masks[0].Pixels)
	}
	if masks, _ = vision.Masks(y, vision.Probabilities, 0.5); !bytes.Equal(masks[0].Pixels,
		[]byte{0, 0, 1, 0}) {
		t.Errorf("probabilities: %v", masks[0].Pixels)
	}
	three := onnxio.Floats([]float32{0, 9, 1, 1, 2, 3}, 1, 3, 1, 2)
	if masks, err = vision.Masks(three, vision.Logits, 0.5); err != nil || !bytes.Equal(masks[0].Pixels,
		[]byte{2, 0}) {
		t.Fatalf("%v, %v", masks, err)
	}
	if p, ok := masks[0].Image().(*image.Paletted); !ok || p.ColorIndexAt(0, 0) != 2 {
		t.Error("the palette's index is not the class")
	}
	big := masks[0].Resized(4, 2)
	if !bytes.Equal(big.Pixels, []byte{2, 2, 0, 0, 2, 2, 0, 0}) {
		t.Errorf("%v", big.Pixels)
	}
	over := vision.Overlay(image.NewRGBA(image.Rect(3, 3, 7, 5)), big)
	if over.Bounds().Dx() != 4 || over.At(3, 0) != (color.RGBA{}) || over.At(1, 0) != vision.Color(2) {
		t.Errorf("%v, %v, %v", over.Bounds(), over.At(3, 0), over.At(1, 0))
	}
	if _, err := vision.Masks(onnxio.NewTensor(onnxio.Float, 1, 10), vision.Logits, 0.5); err == nil {
		t.Error("a classifier's output became a mask")
	}
}

func TestAnswers(t *testing.T) {
	y := onnxio.NewTensor(onnxio.Float, 1, 3)
	copy(y.Float32s(), []float32{0, 2, -2})
	several, err := vision.Answers(y, spec.Output{Task: spec.MultiLabel, Scale: spec.Logits}, 2,
		[]string{"a", "b", "c"})
	if err != nil || len(several[0]) != 2 || several[0][0].Label != "b" ||
		math.Abs(several[0][0].Probability-0.880797) > 1e-6 || several[0][1].Probability != 0.5 {
		t.Errorf("%+v, %v", several, err)
	}
	if *several[0][0].Given != true || *several[0][1].Given != false {
		t.Errorf("of 88%% and 50%% given are %v and %v", *several[0][0].Given, *several[0][1].Given)
	}
	by, err := vision.Answers(y, spec.Output{Task: spec.MultiLabel, Scale: spec.Logits,
		Thresholds: []float64{0.4, 0.9, 0.1}}, 3, nil)
	if err != nil || *by[0][0].Given || !*by[0][1].Given || !*by[0][2].Given {
		t.Errorf("by thresholds: %+v, %v", by, err)
	}
	numbers, err := vision.Answers(y, spec.Output{Task: spec.Number, Scale: spec.Logits}, 1,
		[]string{"a", "b", "c"})
	if err != nil || len(numbers[0]) != 3 || *numbers[0][1].Value != 2 || numbers[0][2].Label != "c" {
		t.Errorf("%+v, %v", numbers, err)
	}
	classes, err := vision.Answers(y, spec.Output{Task: spec.Classes, Scale: spec.Logits}, 1, nil)
	if err != nil || classes[0][0].Class != 1 || classes[0][0].Value != nil {
		t.Errorf("%+v, %v", classes, err)
	}
}
