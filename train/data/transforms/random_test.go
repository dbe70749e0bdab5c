package transforms

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

func noise(c, h, w int, seed uint64) Image {
	r := rand.New(rand.NewPCG(seed, 3))
	m := NewImage(c, h, w)
	for i := range m.Pix {
		m.Pix[i] = uint8(r.Uint32())
	}
	return m
}

func classes(h, w int) *Mask {
	m := &Mask{H: h, W: w, Pix: make([]uint8, h*w)}
	for i := range m.Pix {
		m.Pix[i] = uint8(i % 3)
	}
	return m
}

// places is an image whose pixels say where they are: the column, the row, and 77 everywhere.
func places(h, w int) Image {
	m := NewImage(3, h, w)
	for y := range h {
		for x := range w {
			m.Pix[y*w+x], m.Pix[h*w+y*w+x], m.Pix[2*h*w+y*w+x] = uint8(x), uint8(y), 77
		}
	}
	return m
}

// within five standard deviations of a binomial count.
func expect(t *testing.T, what string, got, n int, p float64) {
	t.Helper()
	if d := math.Abs(float64(got) - float64(n)*p); d > 5*math.Sqrt(float64(n)*p*(1-p))+1 {
		t.Errorf("%s: %d of %d, %g expected", what, got, n, float64(n)*p)
	}
}

const draws = 20000

// Each of the transforms with a probability acts as often as it says.
func TestProbabilities(t *testing.T) {
	in := noise(3, 4, 4, 9)
	list := `[{"name": "RandomHorizontalFlip", "p": 0.3}, {"name": "RandomVerticalFlip", "p": 0.3}, {"name": "RandomInvert", "p": 0.3},
		{"name": "RandomPosterize", "bits": 2, "p": 0.3}, {"name": "RandomSolarize", "threshold": 100, "p": 0.3},
		{"name": "RandomAdjustSharpness", "sharpness_factor": 0, "p": 0.3}, {"name": "RandomAutocontrast", "p": 0.3},
		{"name": "RandomGrayscale", "p": 0.3},
		{"name": "RandomErasing", "p": 0.3, "scale": [0.2, 0.2], "ratio": [1, 1], "value": "random"},
		{"name": "RandomApply", "transforms": [{"name": "RandomInvert", "p": 1}], "p": 0.3},
		{"name": "RandomChoice", "transforms": [{"name": "RandomInvert", "p": 0}, {"name": "RandomInvert", "p": 1}], "p": [7, 3]}]`
	c, err := Parse([]byte(list))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range c {
		acted := 0
		var s Sample
		for i := range draws {
			s.Image = in
			if err := x.Apply(&s, NewRand(5, 0, i)); err != nil {
				t.Fatal(err)
			}
			if &s.Image.Pix[0] != &in.Pix[0] {
				acted++
				if bytes.Equal(s.Image.Pix, in.Pix) {
					t.Fatalf("%s acted without effect", nameOf(x))
				}
			}
		}
		expect(t, nameOf(x), acted, draws, 0.3)
	}
}

// A crop begins anywhere that its padding allows, all places alike.
func TestRandomCropPlaces(t *testing.T) {
	in := places(12, 10)
	var rows, columns [9]int
	var s Sample
	for i := range draws {
		s.Image = in
		if err := (RandomCrop{Size: Ints{12, 10}, Padding: Ints{4}, Mode: Edge}).Apply(&s,
			NewRand(1, 1, i)); err != nil {
			t.Fatal(err)
		}
		// the pixel in the middle tells where the crop began
		columns[int(s.Image.plane(0)[6*10+5])-5+4]++
		rows[int(s.Image.plane(1)[6*10+5])-6+4]++
	}
	for i := range rows {
		expect(t, "row", rows[i], draws, 1.0/9)
		expect(t, "column", columns[i], draws, 1.0/9)
	}
	s.Image = in
	if err := (RandomCrop{Size: Ints{13, 10}}).Apply(&s, NewRand(1, 1, 1)); err == nil ||
		!strings.Contains(err.Error(), "cannot cut 13x10 out of 12x10") {
		t.Error(err)
	}
	if err := (RandomCrop{Size: Ints{30, 40}, PadIfNeeded: true, Mode: Reflect}).Apply(&s,
		NewRand(1, 1, 1)); err != nil || s.Image.H != 30 || s.Image.W != 40 {
		t.Error(err, s.Image.H, s.Image.W)
	}
}

// Areas are uniform over the scale, the logarithms of the ratios too; what cannot fit
// falls back to the middle.
func TestRandomResizedCropShares(t *testing.T) {
	crop := RandomResizedCrop{Size: Ints{8}, Scale: Values{0.2, 0.6}, Ratio: Values{0.5, 2}}
	var small, tall, top int
	for i := range draws {
		y, x, h, w := crop.choose(400, 400, NewRand(2, 0, i))
		if y < 0 || x < 0 || y+h > 400 || x+w > 400 {
			t.Fatalf("%d %d %d %d", y, x, h, w)
		}
		area, ratio := float64(h*w)/160000, float64(w)/float64(h)
		if area < 0.195 || area > 0.605 || ratio < 0.495 || ratio > 2.02 {
			t.Fatalf("area %v, ratio %v", area, ratio)
		}
		if area < 0.4 {
			small++
		}
		if ratio < 1 {
			tall++
		}
		if h < 400 && y*2 < 400-h {
			top++
		}
	}
	// All shapes fit here: the longest side is sqrt(0.6*2)*400 > 400 only in a corner of the draws,
	// which favours small ones.
	if f := float64(small) / draws; f < 0.49 || f > 0.56 {
		t.Errorf("%v of the areas are below the middle", f)
	}
	expect(t, "taller than wide", tall, draws, 0.5)
	if f := float64(top) / draws; f < 0.48 || f > 0.51 {
		t.Errorf("%v of the crops lie in the upper half", f)
	}
	if y, x, h, w := (RandomResizedCrop{Scale: Values{1, 1}, Ratio: Values{1, 1}}).choose(10, 40,
		NewRand(0, 0, 0)); y != 0 || x != 15 || h != 10 || w != 10 {
		t.Error("the fallback of a wide image is", y, x, h, w)
	}
	if y, x, h, w := (RandomResizedCrop{Scale: Values{1, 1}, Ratio: Values{1, 1}}).choose(40, 10,
		NewRand(0, 0, 0)); y != 15 || x != 0 || h != 10 || w != 10 {
		t.Error("the fallback of a tall image is", y, x, h, w)
	}
}

// Erased areas are uniform over the scale.
func TestRandomErasingShares(t *testing.T) {
	e := RandomErasing{P: 1}
	small, n := 0, 0
	for i := range draws {
		_, _, h, w := e.choose(500, 500, NewRand(3, 0, i))
		area := float64(h*w) / 250000
		if area < 0.0195 || area > 0.335 {
			t.Fatalf("area %v", area)
		}
		n++
		if area < 0.175 {
			small++
		}
	}
	if f := float64(small) / float64(n); f < 0.49 || f > 0.53 { // the largest of the narrow ones do not fit
		t.Errorf("%v of the areas are below the middle", f)
	}
	s := Sample{Image: noise(3, 9, 9, 1), Mask: classes(9, 9)}
	before := bytes.Clone(s.Mask.Pix)
	if err := e.Apply(&s, NewRand(0, 0, 0)); err != nil || !bytes.Equal(before, s.Mask.Pix) {
		t.Error("erasing changes the mask", err)
	}
}

// Angles, factors and operations are drawn as they say.
func TestDraws(t *testing.T) {
	var s Sample
	grey := Image{1, 1, 1, []uint8{100}}
	var dark, least, most int
	least = 255
	for i := range draws {
		s.Image = grey
		if err := (ColorJitter{Brightness: Values{0.5}}).Apply(&s, NewRand(4, 0, i)); err != nil {
			t.Fatal(err)
		}
		p := int(s.Image.Pix[0])
		least, most = min(least, p), max(most, p)
		if p < 100 {
			dark++
		}
	}
	expect(t, "darker", dark, draws, 0.5)
	if least < 50 || least > 51 || most < 148 || most > 150 {
		t.Error("brightness from", least, "to", most)
	}
	in := noise(3, 8, 8, 2)
	same := 0
	for i := range draws {
		s.Image = in
		if err := (TrivialAugmentWide{}).Apply(&s, NewRand(4, 0, i)); err != nil {
			t.Fatal(err)
		}
		if &s.Image.Pix[0] == &in.Pix[0] {
			same++
		}
	}
	expect(t, "identities", same, draws, 1.0/14)
}

// The same seed, epoch and index make the same bytes, in any order and in any number of goroutines;
// another epoch makes others.
func TestDeterminism(t *testing.T) {
	list, err := Parse([]byte(every))
	if err != nil {
		t.Fatal(err)
	}
	const n = 64
	run := func(epoch, workers int) [][]byte {
		out := make([][]byte, n)
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				var s Sample
				for i := n - 1 - w; i >= 0; i -= workers {
					s.Image, s.Mask = noise(3, 40, 33, uint64(i)), classes(40, 33)
					if err := list.Apply(&s, NewRand(11, epoch, i)); err != nil {
						t.Error(err)
						return
					}
					out[i] = slices.Concat(s.Image.Pix, s.Mask.Pix)
				}
			})
		}
		wg.Wait()
		return out
	}
	one, many, later := run(0, 1), run(0, 5), run(1, 1)
	same := 0
	for i := range one {
		if !bytes.Equal(one[i], many[i]) {
			t.Fatalf("image %d depends on the workers", i)
		}
		if bytes.Equal(one[i], later[i]) {
			same++
		}
	}
	if same > 3 {
		t.Errorf("%d of %d images are alike in two epochs", same, n)
	}
}

// Masks go where their images go: an image that holds the mask in every channel ends
// up holding the moved mask.
func TestMasksFollow(t *testing.T) {
	list, err := Parse([]byte(`[{"name": "Pad", "padding": [3, 1]}, {"name": "RandomCrop", "size": 30, "padding": 4},
		{"name": "RandomHorizontalFlip"}, {"name": "RandomVerticalFlip"}, {"name": "RandomRotation", "degrees": 40},
		{"name": "RandomAffine", "degrees": 10, "translate": [0.2, 0.1], "scale": [0.7, 1.2], "shear": 9},
		{"name": "RandomResizedCrop", "size": [25, 28], "interpolation": "nearest"}, {"name": "CenterCrop", "size": 33},
		{"name": "Resize", "size": [19, 41], "interpolation": "nearest"}]`))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		in := noise(1, 31, 27, uint64(i))
		s := Sample{Image: in, Mask: &Mask{31, 27, bytes.Clone(in.Pix)}}
		if err := list.Apply(&s, NewRand(6, 0, i)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(s.Image.Pix, s.Mask.Pix) || s.Mask.H != 19 || s.Mask.W != 41 {
			t.Fatalf("sample %d: the mask lost its image", i)
		}
	}
	s := Sample{Image: noise(3, 8, 8, 1), Mask: classes(8, 8)}
	if err := (RandomRotation{Degrees: Values{45, 45}, Interpolation: Bilinear, Fill: Ints{9},
		MaskFill: 255}).Apply(&s, NewRand(0, 0, 0)); err != nil {
		t.Fatal(err)
	}
	if s.Mask.Pix[0] != 255 || s.Image.Pix[0] != 9 {
		t.Error("corners", s.Mask.Pix[0], s.Image.Pix[0])
	}
	for _, p := range s.Mask.Pix {
		if p > 2 && p != 255 {
			t.Fatal("a mask was interpolated:", p)
		}
	}
}

// The policies run on grey and colour, and never write to what they are given.
func TestPolicies(t *testing.T) {
	for _, x := range []Transform{AutoAugment{}, AutoAugment{Policy: CIFAR10}, AutoAugment{Policy: SVHN},
		RandAugment{Magnitude: 9},
		RandAugment{NumOps: 4, Magnitude: 30, Interpolation: Bilinear, Fill: Ints{128}},
		TrivialAugmentWide{}} {
		for _, c := range []int{1, 3} {
			in := noise(c, 21, 13, 5)
			before := bytes.Clone(in.Pix)
			var s Sample
			changed := 0
			for i := range 1000 {
				s.Image = in
				if err := x.Apply(&s, NewRand(8, 0, i)); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(s.Image.Pix, in.Pix) {
					changed++
				}
			}
			if !bytes.Equal(in.Pix, before) || changed < 500 {
				t.Errorf("%T %d: %d changed; input intact: %v", x, c, changed, bytes.Equal(in.Pix, before))
			}
		}
	}
}

// Images that are none, and masks that do not fit, are errors of every transform.
func TestWrongSamples(t *testing.T) {
	c, err := Parse([]byte(every))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Sample{
		{}, {Image: Image{3, 2, 2, make([]uint8, 11)}}, {Image: Image{2, 2, 2, make([]uint8, 8)}},
		{Image: NewImage(3, 2, 2), Mask: &Mask{2, 3, make([]uint8, 6)}}, {Image: NewImage(3, 2, 2),
			Mask: &Mask{2, 2, nil}},
	} {
		for i, x := range c {
			s := Sample{Image: s.Image, Mask: s.Mask}
			for try := 0; ; try++ { // until RandomApply applies
				err := x.Apply(&s, NewRand(0, 0, try))
				if err != nil {
					break
				}
				if try == 50 {
					t.Fatalf("%s takes it", nameOf(c[i]))
				}
			}
		}
	}
	s := Sample{Image: NewImage(1, 9, 9)}
	for _, x := range []Transform{Pad{Fill: Ints{1, 2, 3}},
		RandomErasing{P: 1, Value: Value{Levels: Ints{1, 2, 3}}}, GaussianBlur{KernelSize: Ints{19}},
		Pad{Padding: Ints{maxSide}}, RandomCrop{}, RandomChoice{}} {
		if err := x.Apply(&s, NewRand(0, 0, 0)); err == nil {
			t.Errorf("%+v takes a grey image of 9x9", x)
		}
	}
	thin := Sample{Image: NewImage(1, 1, maxSide)}
	if err := (Resize{Size: Ints{2}}).Apply(&thin, nil); err == nil {
		t.Error("a thin image grows without bound")
	}
}

func TestNormalize(t *testing.T) {
	n, err := Normalize([]float32{0.5, 0, 1}, []float32{0.5, 1, 2})
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float32, 6)
	if err := n.Into(x, Image{3, 1, 2, []uint8{0, 255, 0, 255, 0, 255}}); err != nil ||
		!slices.Equal(x, []float32{-1, 1, 0, 1, -0.5, 0}) {
		t.Error(x, err)
	}
	if n.Into(x[:5], NewImage(3, 1, 2)) == nil || n.Into(x[:2], NewImage(1, 1, 2)) == nil {
		t.Error("sizes that do not fit are taken")
	}
	for _, c := range [][2][]float32{{{1}, {0}}, {{1, 2}, {1, 1}}, {{1}, {1, 1}},
		{{float32(math.NaN())}, {1}}, {nil, nil}} {
		if _, err := Normalize(c[0], c[1]); err == nil {
			t.Errorf("%v is taken", c)
		}
	}
}

func benchmark(b *testing.B, in Image, list string) {
	var c Compose
	if err := json.Unmarshal([]byte(list), &c); err != nil {
		b.Fatal(err)
	}
	pcg := rand.NewPCG(0, 0)
	r := rand.New(pcg)
	var s Sample
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		pcg.Seed(Seeds(1, 0, i))
		i++
		s.Image = in
		if err := c.Apply(&s, r); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
}

// Images of 3x32x32 (one of 3x375x500) in a second, on one core.
func BenchmarkTransforms(b *testing.B) {
	for _, c := range []struct{ name, list string }{
		{"CropFlip", `[{"name": "RandomCrop", "size": 32, "padding": 4}, {"name": "RandomHorizontalFlip"}]`},
		{"CropFlipErase", `[{"name": "RandomCrop", "size": 32, "padding": 4, "padding_mode": "reflect"}, {"name": "RandomHorizontalFlip"}, {"name": "RandomErasing"}]`},
		{"Rotation", `[{"name": "RandomRotation", "degrees": 15}]`},
		{"RotationBilinear", `[{"name": "RandomRotation", "degrees": 15, "interpolation": "bilinear"}]`},
		{"AffineBilinear", `[{"name": "RandomAffine", "degrees": 15, "translate": [0.1, 0.1], "scale": [0.9, 1.1], "shear": 10, "interpolation": "bilinear"}]`},
		{"ResizedCrop", `[{"name": "RandomResizedCrop", "size": 32}]`},
		{"ColorJitter", `[{"name": "ColorJitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}]`},
		{"GaussianBlur", `[{"name": "GaussianBlur", "kernel_size": 5}]`},
		{"AutoAugment", `[{"name": "AutoAugment", "policy": "cifar10"}]`},
		{"RandAugment", `[{"name": "RandAugment"}]`},
		{"TrivialAugmentWide", `[{"name": "TrivialAugmentWide"}]`},
	} {
		b.Run(c.name, func(b *testing.B) { benchmark(b, noise(3, 32, 32, 1), c.list) })
	}
	b.Run("Resize375x500to224", func(b *testing.B) {
		benchmark(b, noise(3, 375, 500, 1), `[{"name": "Resize", "size": 224}]`)
	})
}
