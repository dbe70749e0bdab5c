package main

import (
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// box is a picture of w by h pixels, black but for a box of a grey level.
func box(w, h int, bright image.Rectangle, level uint8) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			v := uint8(0)
			if image.Pt(x, y).In(bright) {
				v = level
			}
			img.SetRGBA(x, y, color.RGBA{v, v, v, 255})
		}
	}
	return img
}

func readPNG(t *testing.T, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

type comparedFile struct {
	File, Compare string
	IoU           *float64
	Dice          *float64
}

func TestSegmentCompare(t *testing.T) {
	dir := t.TempDir()
	images, masks, out := filepath.Join(dir, "images"), filepath.Join(dir, "masks"), filepath.Join(dir, "out")
	for _, d := range []string{images, masks} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	half := image.Rect(100, 0, 200, 100)
	writePicture(t, filepath.Join(images, "a.png"), box(200, 100, half, 255))
	writePicture(t, filepath.Join(images, "b.png"), box(200, 100, half, 255))
	writePicture(t, filepath.Join(masks, "a.png"), box(200, 100, half, 255))
	writePicture(t, filepath.Join(masks, "b_mask.png"), box(200, 100, image.Rect(0, 0, 200, 100), 1))
	model := brightness(t)

	var rows []comparedFile
	answer(t, &rows, "segment", model, images, "--out", out, "--compare", "--masks", masks,
		"--engine", "native")
	if len(rows) != 2 || rows[0].IoU == nil || *rows[0].IoU != 1 || *rows[0].Dice != 1 ||
		*rows[1].IoU != 0.5 || math.Abs(*rows[1].Dice-2.0/3) > 1e-9 {
		t.Fatalf("%+v", rows)
	}
	with := readPNG(t, rows[1].Compare).Bounds()
	if with.Dx() < 600 || with.Dx() > 640 || rows[1].Compare != filepath.Join(out, "b.compare.png") {
		t.Errorf("%s is %v", rows[1].Compare, with)
	}
	if s := done(t, "segment", model, images, "--out", out, "--compare", "--masks", masks, "--engine",
		"native"); !strings.Contains(s, "IoU 0.500\n") || !strings.Contains(s, "mean IoU 0.750 of 2 images") {
		t.Error(s)
	}

	var alone []comparedFile
	answer(t, &alone, "segment", model, images, "--out", out, "--compare", "--engine", "native")
	if len(alone) != 2 || alone[0].IoU != nil {
		t.Fatalf("%+v", alone)
	}
	if b := readPNG(t, alone[0].Compare).Bounds(); b.Dx() < 400 || b.Dx() > 430 {
		t.Errorf("without truth: %v", b)
	}

	writePicture(t, filepath.Join(masks, "a.png"), box(200, 100, half, 2)) // a trimap needs 1 to 3 everywhere
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"--masks " + masks, exitUsage, "--masks goes with --compare"},
		{"--compare --mask-coding trimap", exitUsage, "--mask-coding goes with --masks"},
		{"--compare --masks " + masks + " --mask-coding rgb", exitUsage, "binary, indexed or trimap"},
		{"--compare --masks " + out, exitBadFile, "no mask of that name"},
		{"--compare --masks " + filepath.Join(dir, "nowhere"), exitBadFile, "nowhere"},
		{"--compare --masks " + filepath.Join(images, "a.png"), exitUsage, "no folder"},
		{"--compare --masks " + masks, exitBadFile, "its largest value is 2"},
		{"--compare --masks " + masks + " --mask-coding trimap", exitBadFile, "value 0 in a trimap"},
	} {
		t.Run(c.args[:min(len(c.args), 20)], func(t *testing.T) {
			r := cnnkit(t, append([]string{"segment", model, images, "--engine", "native", "--out",
				filepath.Join(dir, "other")}, strings.Fields(c.args)...)...)
			if r.code != c.code || !strings.Contains(r.err, c.says) {
				t.Errorf("exit code %d, want %d; %s", r.code, c.code, r.err)
			}
		})
	}
	writePicture(t, filepath.Join(masks, "a.png"), box(190, 100, half, 255))
	if r := cnnkit(t, "segment", model, filepath.Join(images, "a.png"), "--engine", "native", "--out", out,
		"--compare", "--masks", masks); r.code != exitBadFile || !strings.Contains(r.err, "190x100") {
		t.Errorf("%d %s", r.code, r.err)
	}
}
