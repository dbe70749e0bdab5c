package transforms

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// place says where an image lies among the bytes.
type place struct {
	Shape  [3]int
	Offset int
}

type witness struct {
	Images    map[string]place
	Strengths map[string]map[operation][]float64
	Signed    map[string][]operation
	Cases     []struct {
		Op, Image string
		Args      arguments
		place
	}
	bytes []byte
}

// arguments are those of torchvision's functions.
type arguments struct {
	Size, Padding, Box, Fill, Value Ints
	Interpolation                   Interpolation
	PaddingMode                     PaddingMode `json:"padding_mode"`
	Degrees, Scale, Factor, Sigma   float64
	Threshold, Magnitude            float64
	Translate, Shear, Center        Values
	Expand                          bool
	Channels, Bits                  int
	KernelSize                      Ints `json:"kernel_size"`
	Operation                       operation
}

func readWitness(t *testing.T) (w witness) {
	dir := "../../../testdata/transforms/"
	if live := os.Getenv("CNNKIT_TRANSFORMS"); live != "" { // what make.py has written just now
		dir = live + "/"
	}
	text, err := os.ReadFile(dir + "cases.json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir + "cases.bin.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if w.bytes, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w witness) image(p place) Image {
	n := p.Shape[0] * p.Shape[1] * p.Shape[2]
	return Image{p.Shape[0], p.Shape[1], p.Shape[2], w.bytes[p.Offset:][:n:n]}
}

// once applies a transform that has nothing to draw, or only the one value.
func once(s *Sample, t Transform) error { return t.Apply(s, rand.New(rand.NewPCG(1, 2))) }

// redo does with our functions what the case did with torchvision's.
func redo(op string, a arguments, s *Sample) error {
	as := func(f func(dst, src Image)) error { s.recolor(f); return nil }
	factor := float32(a.Factor)
	switch op {
	case "resize":
		return once(s, Resize{a.Size, a.Interpolation})
	case "pad":
		return once(s, Pad{Padding: a.Padding, Fill: a.Fill, Mode: a.PaddingMode})
	case "center_crop":
		return once(s, CenterCrop{a.Size})
	case "crop":
		s.window(a.Box[0], a.Box[1], a.Box[2], a.Box[3], Constant, nil, 0)
		return nil
	case "hflip":
		return once(s, RandomHorizontalFlip{1})
	case "vflip":
		return once(s, RandomVerticalFlip{1})
	case "rotate":
		return once(s, RandomRotation{Values{a.Degrees, a.Degrees}, a.Interpolation, a.Expand, a.Center,
			a.Fill, 0})
	case "affine":
		cx, cy := float64(s.Image.W)*0.5, float64(s.Image.H)*0.5
		if a.Center != nil {
			cx, cy = a.Center[0], a.Center[1]
		}
		m := affineMatrix(a.Degrees, a.Translate[0], a.Translate[1], a.Scale, a.Shear[0], a.Shear[1], cx, cy)
		s.affine(s.Image.H, s.Image.W, m, a.Interpolation, a.Fill, 0)
		return nil
	case "brightness":
		return once(s, ColorJitter{Brightness: Values{a.Factor, a.Factor}})
	case "contrast":
		return once(s, ColorJitter{Contrast: Values{a.Factor, a.Factor}})
	case "saturation":
		return once(s, ColorJitter{Saturation: Values{a.Factor, a.Factor}})
	case "hue":
		return once(s, ColorJitter{Hue: Values{a.Factor, a.Factor}})
	case "sharpness":
		return as(func(dst, src Image) { sharpen(dst, src, factor) })
	case "grayscale":
		return once(s, Grayscale{a.Channels})
	case "invert":
		return once(s, RandomInvert{1})
	case "autocontrast":
		return once(s, RandomAutocontrast{1})
	case "equalize":
		return once(s, RandomEqualize{1})
	case "posterize":
		return once(s, RandomPosterize{a.Bits, 1})
	case "solarize":
		return once(s, RandomSolarize{a.Threshold, 1})
	case "blur":
		return once(s, GaussianBlur{a.KernelSize, Values{a.Sigma}})
	case "erase":
		return as(func(dst, src Image) {
			copy(dst.Pix, src.Pix)
			erase(dst, a.Box[0], a.Box[1], a.Box[2], a.Box[3], Value{Levels: a.Value}, nil)
		})
	case "auto":
		return a.Operation.apply(s, a.Magnitude, look{})
	}
	return fmt.Errorf("no case %q", op)
}

// Every function makes torchvision's bytes, two apart, which may differ by a level in a few of them.
// Blurring: torchvision sums the kernel's products in an order that its convolution chooses, and a sum
// beside a half rounds either way. Turning with bilinear weights: PIL cuts the fraction off, so where the
// weighted sum is a whole number (in the middle of an image of odd size), the last bit of the sine decides,
// in which Go's and C's differ.
func TestTorchvision(t *testing.T) {
	w := readWitness(t)
	far := map[string]int{}
	for i, c := range w.Cases {
		in := w.image(w.Images[c.Image])
		before := bytes.Clone(in.Pix)
		s := Sample{Image: in}
		if err := redo(c.Op, c.Args, &s); err != nil {
			t.Errorf("case %d, %s of %s, %+v: %v", i, c.Op, c.Image, c.Args, err)
			continue
		}
		if !bytes.Equal(in.Pix, before) {
			t.Fatalf("case %d, %s wrote to its input", i, c.Op)
		}
		want := w.image(c.place)
		if s.Image.C != want.C || s.Image.H != want.H || s.Image.W != want.W {
			t.Errorf("case %d, %s of %s, %+v: %d %d %d, torchvision %v", i, c.Op, c.Image, c.Args, s.Image.C,
				s.Image.H, s.Image.W, c.Shape)
			continue
		}
		most, differ := 0, 0
		for j, p := range s.Image.Pix {
			if d := int(p) - int(want.Pix[j]); d != 0 {
				most, differ = max(most, d, -d), differ+1
			}
		}
		tolerance := 0
		if c.Op == "blur" || c.Args.Interpolation == Bilinear && (c.Op == "rotate" || c.Op == "affine") {
			tolerance = 1
			far[c.Op] += differ
		}
		if most > tolerance || differ > len(want.Pix)/200 {
			t.Errorf("case %d, %s of %s, %+v: %d of %d bytes differ, by at most %d", i, c.Op, c.Image,
				c.Args, differ,
				len(want.Pix), most)
		}
	}
	t.Logf("%d cases; bytes that differ by a level: %v", len(w.Cases), far)
}

// The operations' strengths are torchvision's, at every step.
func TestStrengths(t *testing.T) {
	w := readWitness(t)
	ours := map[string]scales{"auto": ordinary(32, 48), "rand": ordinary(32, 48), "wide": wide}
	for kind, ops := range w.Strengths {
		for op, want := range ops {
			for i, v := range want {
				if got := ours[kind].magnitude(op, i, len(want)); math.Abs(got-v) > 1e-5 {
					t.Errorf("%s %s, step %d: %v, torchvision %v", kind, op, i, got, v)
				}
			}
		}
		if len(ops) != len(ours[kind]) {
			t.Errorf("%s: %d operations have a strength, in torchvision %d", kind, len(ours[kind]), len(ops))
		}
		for op := range ops {
			if op.signed() != slices.Contains(w.Signed[kind], op) {
				t.Errorf("%s %s: signed is %v", kind, op, op.signed())
			}
		}
	}
}
