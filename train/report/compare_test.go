package report

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/runtime/vision"
)

// disc is a mask of w by h pixels with a disc of one class in it.
func disc(w, h, x, y, r, class, classes int) vision.Mask {
	m := vision.Mask{W: w, H: h, Classes: classes, Pixels: make([]uint8, w*h)}
	for v := range h {
		for u := range w {
			if (u-x)*(u-x)+(v-y)*(v-y) <= r*r {
				m.Pixels[v*w+u] = uint8(class)
			}
		}
	}
	return m
}

// slope is a picture whose colours rise to the right and downwards.
func slope(w, h int) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.SetRGBA(x, y, color.RGBA{uint8(60 + 150*x/w), uint8(60 + 150*y/h), 140, 255})
		}
	}
	return img
}

func TestCompare(t *testing.T) {
	input, truth := slope(200, 120), disc(200, 120, 100, 60, 40, 1, 2)
	for _, c := range []struct {
		truth      *vision.Mask
		prediction vision.Mask
		panels     int
	}{
		{&truth, disc(200, 120, 90, 60, 40, 1, 2), 3},
		{&truth, disc(50, 30, 22, 15, 10, 1, 2), 3},
		{nil, disc(200, 120, 90, 60, 40, 1, 2), 2},
	} {
		out, err := Compare(input, c.truth, c.prediction)
		if err != nil {
			t.Fatal(err)
		}
		gap, bar := 4, 24
		if want := image.Rect(0, 0, c.panels*(200+gap)+gap, bar+120+gap); out.Bounds() != want {
			t.Errorf("%v, want %v", out.Bounds(), want)
		}
		if got, want := out.At(gap+100, bar+60), input.At(100, 60); got != want {
			t.Errorf("the input is %v, want %v", got, want)
		}
		last := gap + (c.panels-1)*(200+gap)
		if out.At(last+90, bar+60) == input.At(90, 60) || out.At(last+2, bar+2) != input.At(2, 2) {
			t.Error("the prediction is not laid over the image")
		}
	}
	small, err := Compare(slope(28, 28), nil, disc(28, 28, 14, 14, 5, 1, 2))
	if err != nil || small.Bounds().Dx() < 2*smallest {
		t.Errorf("%v, %v", small.Bounds(), err)
	}
	if _, err := Compare(image.NewGray(image.Rect(0, 0, 0, 5)), nil, truth); err == nil {
		t.Error("an empty image")
	}
}

func TestOverlap(t *testing.T) {
	mask := func(classes int, p ...uint8) vision.Mask {
		return vision.Mask{W: len(p), H: 1, Classes: classes, Pixels: p}
	}
	for _, c := range []struct {
		name string
		a, b vision.Mask
		want Agreement
	}{
		{"two classes", mask(2, 0, 1, 1, 1), mask(2, 0, 0, 1, 1), Agreement{2.0 / 3, 0.8}},
		{"nothing", mask(2, 0, 0), mask(2, 0, 0), Agreement{1, 1}},
		{"apart", mask(2, 0, 1), mask(2, 1, 0), Agreement{0, 0}},
		{"three, one of which does not occur", mask(4, 0, 0, 1, 2), mask(4, 0, 1, 1, 2),
			Agreement{(0.5 + 0.5 + 1) / 3, (2.0/3 + 2.0/3 + 1) / 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Overlap(c.a, c.b); math.Abs(got.IoU-c.want.IoU) > 1e-12 ||
				math.Abs(got.Dice-c.want.Dice) > 1e-12 {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestPixels(t *testing.T) {
	img, err := Pixels(3, 1, 2, []uint8{1, 2, 3, 4, 5, 6})
	if err != nil || img.At(1, 0) != (color.RGBA{2, 4, 6, 255}) {
		t.Errorf("%v, %v", img, err)
	}
	img, err = Pixels(1, 2, 1, []uint8{7, 8})
	if err != nil || img.At(0, 1) != (color.Gray{8}) {
		t.Errorf("%v, %v", img, err)
	}
	b, err := PNG(img)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := png.Decode(bytes.NewReader(b)); err != nil || back.Bounds() != img.Bounds() {
		t.Errorf("%v, %v", back, err)
	}
	for _, c := range [][4]int{{2, 1, 1, 2}, {1, 0, 1, 0}, {1, 2, 2, 3}} {
		if _, err := Pixels(c[0], c[1], c[2], make([]uint8, c[3])); err == nil {
			t.Errorf("%v", c)
		}
	}
}
