package data

import (
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maskFile writes a paletted mask of one row, beside an image of its size, and gives the item.
func maskFile(t *testing.T, values ...uint8) Item {
	t.Helper()
	dir := t.TempDir()
	palette := make(color.Palette, 256)
	for i := range palette {
		palette[i] = color.RGBA{uint8(i * 7), uint8(i * 3), uint8(255 - i), 255}
	}
	m := image.NewPaletted(image.Rect(0, 0, len(values), 1), palette)
	copy(m.Pix, values)
	it := Item{Image: filepath.Join(dir, "image.png"), Mask: filepath.Join(dir, "mask.png")}
	for _, path := range []string{it.Image, it.Mask} {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(f, m); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return it
}

// The ignored value is Void in a sample, whatever it is in the file; a value that is no class
// is refused with what to do.
func TestIgnoredLabel(t *testing.T) {
	for ignore, c := range map[int]struct{ file, want []uint8 }{
		255: {[]uint8{0, 1, 2, 255}, []uint8{0, 1, 2, Void}},
		0:   {[]uint8{0, 1, 2, 0}, []uint8{Void, 1, 2, Void}},
	} {
		cfg := FilesConfig{Classes: []string{"0", "1", "2"}, Coding: Indexed, Ignore: &ignore}
		d, err := NewFiles([]Item{maskFile(t, c.file...)}, cfg)
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.Sample(0)
		if err != nil || !slices.Equal(s.Mask, c.want) {
			t.Errorf("ignoring %d: %v, %v", ignore, s.Mask, err)
		}
		counts, err := Counts(d)
		if err != nil || counts[1] != 1 || counts[2] != 1 {
			t.Errorf("ignoring %d: %v, %v", ignore, counts, err)
		}
	}
	d, err := NewFiles([]Item{maskFile(t, 0, 2, 255)}, FilesConfig{Classes: []string{"0", "1", "2"},
		Coding: Indexed})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Sample(0); err == nil || !strings.Contains(err.Error(), "--ignore 255") {
		t.Errorf("255 of three classes: %v", err)
	}
}

// A mask of 0, 1 and 255 may mean two things; one of 0 and 1, of 0 and 255, or of grey levels one.
func TestVoidUnsaid(t *testing.T) {
	for _, c := range []struct {
		values []uint8
		want   []uint8 // nil: refused
	}{
		{[]uint8{0, 1, 255}, nil}, {[]uint8{0, 1, 2, 255}, nil}, {[]uint8{0, 1}, []uint8{0, 1}},
		{[]uint8{0, 255}, []uint8{0, 1}},
		{[]uint8{0, 1, 60, 200, 254, 255}, []uint8{0, 0, 0, 1, 1, 1}},
	} {
		d, err := NewFiles([]Item{maskFile(t, c.values...)}, FilesConfig{Classes: foreground})
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.Sample(0)
		if c.want == nil && (err == nil || !strings.Contains(err.Error(), "--mask-classes")) ||
			c.want != nil && !slices.Equal(s.Mask, c.want) {
			t.Errorf("%v: %v, %v", c.values, s.Mask, err)
		}
	}
}
