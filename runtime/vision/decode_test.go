package vision_test

import (
	"image"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/runtime/npy"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

// The golden files are Pillow's (testdata/images/decode/make.py). Every format must give its very levels, but
// for JPEG: image/jpeg and libjpeg round their inverse DCTs differently in a few samples of a hundred, by one
// level, of which a chroma sample makes up to two, and one of luma and one of chroma three.
func TestDecodingAsPIL(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(files, "decode", "*.npy"))
	if err != nil || len(paths) < 30 {
		t.Fatalf("%d golden files, %v", len(paths), err)
	}
	for _, golden := range paths {
		picture := strings.TrimSuffix(golden, ".npy")
		want, err := npy.Load(golden)
		if err != nil {
			t.Fatal(err)
		}
		img, err := vision.Load(picture, vision.Limits{})
		if err != nil {
			t.Error(err)
			continue
		}
		got := vision.Planes(img, 3)
		if int64(got.H) != want.Dims[0] || int64(got.W) != want.Dims[1] {
			t.Errorf("%s is %dx%d, not %v", picture, got.H, got.W, want.Dims)
			continue
		}
		worst, off := 0, 0
		for i, v := range got.Pix {
			c, at := i/(got.H*got.W), i%(got.H*got.W)
			if d := int(v) - int(want.Raw[3*at+c]); d != 0 {
				off++
				worst = max(worst, d, -d)
			}
		}
		jpeg := strings.HasSuffix(picture, ".jpg")
		if !jpeg && off > 0 || worst > 3 || 10*off > len(got.Pix) {
			t.Errorf("%s: %d of %d levels differ, by %d at most", filepath.Base(picture), off,
				len(got.Pix), worst)
		} else if off > 0 {
			t.Logf("%s: %d of %d levels differ, by %d at most", filepath.Base(picture), off,
				len(got.Pix), worst)
		}
	}
}

// The size is that of the picture that Decode gives, and NoEXIF leaves it as the sensor saw it.
func TestOrientation(t *testing.T) {
	for name, want := range map[string]image.Point{"orientation6.jpg": {9, 14}, "orientation6.png": {9, 14},
		"orientation7.webp": {9, 14},
		"orientation5.tiff": {9, 14}, "orientation3.jpg": {14, 9}} {
		path := filepath.Join(files, "decode", name)
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if w, h, err := vision.Size(f, vision.Limits{}); err != nil || (image.Point{w, h}) != want {
			t.Errorf("%s: %dx%d, %v", name, w, h, err)
		}
		img, err := vision.Load(path, vision.Limits{NoEXIF: true})
		if err != nil || img.Bounds().Dx() != 14 || img.Bounds().Dy() != 9 {
			t.Errorf("%s without EXIF: %v, %v", name, img.Bounds(), err)
		}
	}
}

// Files that systems leave beside one's own are no images.
func TestHidden(t *testing.T) {
	for name, want := range map[string]bool{"a.png": true, "A.JPG": true, "._a.png": false, ".a.png": false,
		"a.txt": false, "x/.a.png": false} {
		if vision.IsImage(name) != want {
			t.Errorf("IsImage(%q) is %v", name, !want)
		}
	}
}
