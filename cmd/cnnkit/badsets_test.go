package main

import (
	"image"
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// greyPicture writes a PNG of one level.
func greyPicture(t *testing.T, path string, w, h int, level uint8) {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, w, h))
	for i := range img.Pix {
		img.Pix[i] = level
	}
	img.Set(0, 0, color.Gray{0}) // some background in every mask
	if level < 128 {
		img.Set(0, 0, color.Gray{level})
	}
	putPicture(t, path, img)
}

// putPicture writes a picture, and the folders that it lies in.
func putPicture(t testing.TB, path string, img image.Image) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := writePNG(path, img); err != nil {
		t.Fatal(err)
	}
}

// Data sets of one's own with a fault: the training ends with exit code 3 and one sentence that names the
// file and says what to do.
func TestBadSets(t *testing.T) {
	folder := func(t *testing.T, classes ...string) string {
		dir := t.TempDir()
		for _, c := range classes {
			for _, n := range []string{"0.png", "1.png", "2.png", "3.png"} {
				greyPicture(t, filepath.Join(dir, c, n), 16, 16, 50)
			}
		}
		return dir
	}
	pairs := func(t *testing.T) string { return folder(t, "images", "masks") }
	masks := func(dir string) string {
		return "masks:" + filepath.Join(dir, "images") + "," + filepath.Join(dir, "masks")
	}
	white := func(t *testing.T, dir string) {
		for _, n := range []string{"0.png", "1.png", "2.png", "3.png"} {
			greyPicture(t, filepath.Join(dir, "masks", n), 16, 16, 255)
		}
	}
	pets := func(t *testing.T) string {
		dir := t.TempDir()
		for list, names := range map[string][]string{"trainval.txt": {"A_1", "B_1"},
			"test.txt": {"A_2", "B_2"}} {
			write(t, filepath.Join(dir, list), []byte(strings.Join(names, " 1 1 1\n")+" 2 1 1\n"))
			for _, n := range names {
				greyPicture(t, filepath.Join(dir, "images", n+".jpg"), 16, 16, 50)
				greyPicture(t, filepath.Join(dir, "trimaps", n+".png"), 16, 16, 1)
			}
		}
		return dir
	}
	for _, c := range []struct {
		name string
		set  func(t *testing.T) string
		says []string
	}{
		{"a corrupt image", func(t *testing.T) string {
			dir := folder(t, "a", "b")
			write(t, filepath.Join(dir, "b", "2.png"), []byte("\x89PNG\r\n\x1a\nrubbish"))
			return "images:" + dir
		}, []string{filepath.Join("b", "2.png"), "replace the file"}},
		{"a cut image", func(t *testing.T) string {
			dir := folder(t, "a", "b")
			path := filepath.Join(dir, "b", "2.png")
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, whole[:len(whole)-20])
			return "images:" + dir
		}, []string{filepath.Join("b", "2.png"), "replace the file"}},
		{"a missing image", func(t *testing.T) string {
			dir := pets(t)
			os.Remove(filepath.Join(dir, "images", "B_1.jpg"))
			return "pets=" + dir
		}, []string{"B_1.jpg is missing", "put it there"}},
		{"a missing mask", func(t *testing.T) string {
			dir := pairs(t)
			os.Remove(filepath.Join(dir, "masks", "2.png"))
			return masks(dir)
		}, []string{filepath.Join("images", "2.png"), "no mask in", "put it there"}},
		{"a missing trimap", func(t *testing.T) string {
			dir := pets(t)
			os.Remove(filepath.Join(dir, "trimaps", "A_1.png"))
			return "pets=" + dir
		}, []string{"A_1.png", "mask is missing", "out of the list"}},
		{"one class only", func(t *testing.T) string { return "images:" + folder(t, "a") },
			[]string{"one class only (a)", "a folder"}},
		{"no images", func(t *testing.T) string { return "images:" + t.TempDir() },
			[]string{"no images", "a folder for each class"}},
		{"no folder", func(t *testing.T) string { return "images:" + filepath.Join(t.TempDir(), "nowhere") },
			[]string{"nowhere", "a folder for each class"}},
		{"a class without images", func(t *testing.T) string {
			dir := folder(t, "a", "b")
			if err := os.Mkdir(filepath.Join(dir, "c"), 0o777); err != nil {
				t.Fatal(err)
			}
			return "images:" + dir
		}, []string{"c: images: the class has no images", "remove the folder"}},
		{"a mask of another size", func(t *testing.T) string {
			dir := pairs(t)
			white(t, dir)
			greyPicture(t, filepath.Join(dir, "masks", "2.png"), 8, 16, 255)
			return masks(dir)
		}, []string{filepath.Join("masks", "2.png"), "8x16", "16x16", "bring both to one size"}},
		{"a mask of grey levels", func(t *testing.T) string { return masks(pairs(t)) },
			[]string{filepath.Join("masks", ""), "value is 50", "save it"}},
		{"a trimap of unknown values", func(t *testing.T) string {
			dir := pets(t)
			greyPicture(t, filepath.Join(dir, "trimaps", "B_1.png"), 16, 16, 9)
			return "pets=" + dir
		}, []string{"B_1.png", "value 9 in a trimap", "save it"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := c.set(t)
			args := []string{"train", "lenet5", "--input", "3x32x32", "--data", set, "--epochs", "1",
				"--batch", "2", "--out", filepath.Join(t.TempDir(), "run")}
			if !strings.HasPrefix(set, "images:") {
				args[1] = "unet"
				args = append(args, "--width", "2")
			}
			r := cnnkit(t, args...)
			if r.code != exitBadFile {
				t.Errorf("exit code %d: %s", r.code, r.err)
			}
			for _, s := range c.says {
				if !strings.Contains(r.err, s) {
					t.Errorf("%s\ndoes not say %q", r.err, s)
				}
			}
			if strings.Contains(r.err, "data list") || strings.Contains(r.err, ": :") ||
				strings.Count(strings.TrimSpace(r.err), "\n") > 0 {
				t.Errorf("not one sentence to the point: %s", r.err)
			}
		})
	}
}
