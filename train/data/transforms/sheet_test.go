package transforms

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

const (
	sheetZoom = 4  // pixels of a sheet for one of an image
	sheetRows = 24 // cases of a sheet at most
	sheetGap  = 6
	sheetGain = 60 // of differences: one level is seen
)

// TestSheets draws, where CNNKIT_SHEETS names a folder, a picture for each transform. A row is a case: the
// input, our result, torchvision's, and their difference, sixty times as strong on grey.
func TestSheets(t *testing.T) {
	dir := os.Getenv("CNNKIT_SHEETS")
	if dir == "" {
		t.Skip("CNNKIT_SHEETS names no folder to draw into")
	}
	w := readWitness(t)
	sheets := map[string][][]Image{}
	for i, c := range w.Cases {
		in := w.image(w.Images[c.Image])
		s := Sample{Image: in}
		if err := redo(c.Op, c.Args, &s); err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		name := c.Op
		if c.Op == "auto" {
			name += "-" + string(c.Args.Operation)
		}
		theirs := w.image(c.place)
		sheets[name] = append(sheets[name], []Image{in, s.Image, theirs, difference(s.Image, theirs)})
	}
	if len(sheets) < 20 {
		t.Errorf("%d sheets", len(sheets))
	}
	for name, all := range sheets {
		every := (len(all) + sheetRows - 1) / sheetRows // of many cases some of each kind
		var rows [][]Image
		for i := 0; i < len(all); i += every {
			rows = append(rows, all[i])
		}
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s.png", name)))
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(f, sheet(rows)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// difference is grey where two images agree, black where they are of different sizes.
func difference(a, b Image) Image {
	d := Image{b.C, b.H, b.W, make([]uint8, len(b.Pix))}
	if len(a.Pix) != len(b.Pix) || a.W != b.W {
		return d
	}
	for i := range d.Pix {
		d.Pix[i] = uint8(min(max(128+sheetGain*(int(a.Pix[i])-int(b.Pix[i])), 0), 255))
	}
	return d
}

// sheet lays images out in rows, as wide and high as the largest.
func sheet(rows [][]Image) image.Image {
	side := [2]int{}
	for _, row := range rows {
		for _, m := range row {
			side = [2]int{max(side[0], m.W), max(side[1], m.H)}
		}
	}
	dx, dy := side[0]*sheetZoom+sheetGap, side[1]*sheetZoom+sheetGap
	columns := (len(rows) + 11) / 12 // a second one beside the first
	out := image.NewRGBA(image.Rect(0, 0, columns*(4*dx+sheetGap), min(len(rows), 12)*dy))
	for i := range out.Pix {
		out.Pix[i] = 255
	}
	for i, row := range rows {
		for j, m := range row {
			x0, y0 := i/12*(4*dx+sheetGap)+j*dx, i%12*dy
			for y := range m.H * sheetZoom {
				for x := range m.W * sheetZoom {
					at := func(c int) uint8 { return m.Pix[(min(c, m.C-1)*m.H+y/sheetZoom)*m.W+x/sheetZoom] }
					out.SetRGBA(x0+x, y0+y, color.RGBA{at(0), at(1), at(2), 255})
				}
			}
		}
	}
	return out
}
