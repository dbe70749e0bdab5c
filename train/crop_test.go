package train

import (
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime/vision"
	"github.com/cnnkit/cnnkit/train/data"
)

// Images are validated on as predict prepares them: resized by the shorter side, and cropped.
func TestValidationIsCropped(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"a/0.png", "a/1.png", "b/2.png", "b/3.png"} {
		img := image.NewRGBA(image.Rect(0, 0, 60+7*i, 40))
		for x := range img.Rect.Dx() {
			for y := range 40 {
				img.SetRGBA(x, y, color.RGBA{uint8(4 * x), uint8(6 * y), uint8(x * y), 255})
			}
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(f, img); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	m, err := builders.Build("resnet", builders.Config{Input: [3]int{3, 32, 32}, Classes: 2})
	if err != nil {
		t.Fatal(err)
	}
	s, err := spec.Get(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Preset("imagenet", m); err != nil {
		t.Fatal(err)
	}
	spec.Set(m, s)
	splits, err := Recipe{Data: "images:" + dir, Validation: 0.5}.Open(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	src, err := data.SourceOf(splits.Validation)
	if err != nil {
		t.Fatal(err)
	}
	for i := range splits.Validation.Len() {
		img, err := vision.Load(src.Where(i), vision.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		want := vision.Input(img, s.Input)
		x, target := data.NewBatch(splits.Validation, 1)
		if err := splits.Validation.Fill(x, target, []int{i}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(x.Dims, want.Dims) || !slices.Equal(x.Float32s(), want.Float32s()) {
			t.Errorf("%s is validated on otherwise than predicted", src.Where(i))
		}
	}
}
