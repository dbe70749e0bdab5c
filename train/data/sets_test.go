package data

import (
	"errors"
	"image"
	"image/color"
	"image/png"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

// put writes a file of the set under test.
func put(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// paint writes an image of one colour, in the format of the file's name.
func paint(t *testing.T, path string, w, h int, c color.Color) string {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, c)
		}
	}
	return save(t, path, img)
}

func save(t *testing.T, path string, img image.Image) string {
	t.Helper()
	put(t, path, "")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	switch filepath.Ext(path) {
	case ".bmp":
		err = bmp.Encode(f, img)
	case ".tiff":
		err = tiff.Encode(f, img, nil)
	default:
		err = png.Encode(f, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// gray writes a mask of these values.
func gray(t *testing.T, path string, w int, values ...uint8) string {
	t.Helper()
	return save(t, path, &image.Gray{Pix: values, Stride: w, Rect: image.Rect(0, 0, w, len(values)/w)})
}

var red, blue = color.RGBA{200, 10, 20, 255}, color.RGBA{30, 40, 250, 255}

func TestImageFolder(t *testing.T) {
	dir := t.TempDir()
	for i, ext := range []string{".png", ".bmp", ".tiff", ".PNG", ".png"} {
		paint(t, filepath.Join(dir, "red", string(rune('a'+i))+ext), 5, 4, red)
		paint(t, filepath.Join(dir, "blue", "deeper", string(rune('a'+i))+ext), 5, 4, blue)
	}
	put(t, filepath.Join(dir, "blue", "notes.txt"), "not an image")
	put(t, filepath.Join(dir, ".cache", "x.png"), "not a class")
	s, err := Open("images:" + dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Train.Len() != 8 || s.Validation.Len() != 2 || s.Train.Shape() != [3]int{3, 4, 5} ||
		!slices.Equal(s.Train.Classes(), []string{"blue", "red"}) {
		t.Fatalf("%d and %d images of %v, classes %v", s.Train.Len(), s.Validation.Len(), s.Train.Shape(),
			s.Train.Classes())
	}
	if c, err := Counts(s.Validation); err != nil || !slices.Equal(c, []int64{1, 1}) {
		t.Errorf("counts %v of the part to validate on: %v", c, err)
	}
	x, y := NewBatch(s.Train, 8)
	if err := s.Train.Fill(x, y, Sequence(8)); err != nil {
		t.Fatal(err)
	}
	for i, label := range onnxio.Data[int64](y) {
		want := [3]uint8{blue.R, blue.G, blue.B}
		if label == 1 {
			want = [3]uint8{red.R, red.G, red.B}
		}
		for c, v := range want {
			if got := x.Float32s()[i*60+c*20+19]; got != (float32(v)/255-imagenetMean[c])/imagenetStd[c] {
				t.Errorf("image %d, channel %d: %v", i, c, got)
			}
		}
	}
	// Given parts, another size and grey.
	for _, part := range []string{"train", "val"} {
		paint(t, filepath.Join(dir, part, "red", "a.png"), 9, 9, red)
		paint(t, filepath.Join(dir, part, "blue", "a.png"), 7, 5, blue)
	}
	if _, err := Open("images:" + dir); err == nil || !strings.Contains(err.Error(), "differ in size") {
		t.Errorf("images of several sizes: %v", err)
	}
	s, err = OpenWith("images:"+dir, Options{Size: [2]int{6, 8}, Channels: 1, Mean: []float32{0},
		Std: []float32{1}})
	if err != nil {
		t.Fatal(err)
	}
	if s.Train.Len() != 2 || s.Validation.Len() != 2 || s.Train.Shape() != [3]int{1, 6, 8} {
		t.Errorf("%d and %d images of %v", s.Train.Len(), s.Validation.Len(), s.Train.Shape())
	}
	x, y = NewBatch(s.Train, 2)
	if err := s.Train.Fill(x, y, []int{0, 1}); err != nil {
		t.Fatal(err)
	}
	if got, want := x.Float32s()[0]*255,
		(299*float64(blue.R)+587*float64(blue.G)+114*float64(blue.B))/1000; math.Abs(float64(got)-
		want) > 1.01 {
		t.Errorf("grey level %v, want %v", got, want)
	}
}

func TestMaskPairs(t *testing.T) {
	dir := t.TempDir()
	images, masks := filepath.Join(dir, "images"), filepath.Join(dir, "masks")
	for _, n := range []string{"a", "b", "c", "d", "e"} {
		paint(t, filepath.Join(images, n+".png"), 2, 2, red)
	}
	gray(t, filepath.Join(masks, "a.png"), 2, 0, 255, 130, 3)
	gray(t, filepath.Join(masks, "b_mask.png"), 2, 0, 1, 1, 0)
	gray(t, filepath.Join(masks, "c.bmp"), 2, 0, 0, 0, 0)
	save(t, filepath.Join(masks, "d.png"), &image.Paletted{Pix: []uint8{0, 1, 0, 1}, Stride: 2,
		Rect: image.Rect(0, 0, 2, 2), Palette: color.Palette{color.Black, red}})
	// A palette of grey levels is read by its levels: here 0 is white.
	save(t, filepath.Join(masks, "e.png"), &image.Paletted{Pix: []uint8{0, 1, 0, 1}, Stride: 2,
		Rect: image.Rect(0, 0, 2, 2), Palette: color.Palette{color.White, color.Black}})
	word := "masks:" + images + "," + masks
	s, err := Open(word)
	if err != nil {
		t.Fatal(err)
	}
	if s.Train.Len() != 4 || s.Validation.Len() != 1 || !Masked(s.Train) || !Masked(s.Validation) {
		t.Errorf("%d and %d images", s.Train.Len(), s.Validation.Len())
	}
	all := s.Train.(Subset).Dataset
	want := []float32{0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1, 0, 1, 0}
	x, y := NewBatch(all, 5)
	if err := all.Fill(x, y, Sequence(5)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(y.Dims, []int64{5, 1, 2, 2}) || !slices.Equal(y.Float32s(), want) {
		t.Errorf("masks %v %v", y.Dims, y.Float32s())
	}
	classes := onnxio.NewTensor(onnxio.Int64, 5, 2, 2)
	if err := all.Fill(x, classes, Sequence(5)); err != nil {
		t.Fatal(err)
	}
	for i, v := range onnxio.Data[int64](classes) {
		if float32(v) != want[i] {
			t.Errorf("class %d of pixel %d", v, i)
		}
	}
	if err := all.Fill(x, onnxio.NewTensor(onnxio.Int64, 5), Sequence(5)); err == nil ||
		!strings.Contains(err.Error(), "targets are masks") {
		t.Errorf("labels of a set of masks: %v", err)
	}
	mem, err := InMemory(t.Context(), all, 3)
	if err != nil {
		t.Fatal(err)
	}
	x2, y2 := NewBatch(mem, 5)
	if err := mem.Fill(x2, y2, Sequence(5)); err != nil || string(x2.Raw) != string(x.Raw) ||
		string(y2.Raw) != string(y.Raw) {
		t.Errorf("in memory it is another set: %v", err)
	}
	if w, err := ClassWeights(all); err != nil || w[0] != 20/(2*12.) || w[1] != 20/(2*8.) {
		t.Errorf("class weights %v: %v", w, err)
	}
	// Classes for values.
	if _, err := Open("masks:" + images); err == nil {
		t.Error("one folder is no error")
	}
	gray(t, filepath.Join(masks, "a.png"), 2, 0, 1, 2, 3)
	indexed, err := OpenWith(word, Options{MaskClasses: []string{"sky", "sea", "land", "ship"}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := indexed.Train.(Subset).Dataset.(*Files).Sample(0)
	if err != nil || !slices.Equal(m.Mask, []uint8{0, 1, 2, 3}) {
		t.Errorf("%v: %v", m.Mask, err)
	}
	if x, y := NewBatch(indexed.Train, 3); !slices.Equal(y.Dims, []int64{3, 2, 2}) || x.Dims[0] != 3 {
		t.Errorf("a batch of %v", y.Dims)
	}
}

func TestCSV(t *testing.T) {
	dir := t.TempDir()
	paint(t, filepath.Join(dir, "x", "1.png"), 2, 2, red)
	absolute := paint(t, filepath.Join(t.TempDir(), "2.png"), 2, 2, blue)
	table := put(t, filepath.Join(dir, "t.csv"),
		"\ufefflabel, path ,Split\n\"cat, big\",x/1.png,train\ndog,"+absolute+",train\ndog,x/1.png,val\n")
	s, err := Open("csv:" + table)
	if err != nil {
		t.Fatal(err)
	}
	labels, err := Labels(s.Train)
	if err != nil || !slices.Equal(labels, []int{0, 1}) || !slices.Equal(s.Train.Classes(),
		[]string{"cat, big", "dog"}) || s.Validation.Len() != 1 {
		t.Errorf("labels %v of %q, %d to validate on: %v", labels, s.Train.Classes(), s.Validation.Len(), err)
	}
	put(t, table, "path,label\nx/1.png,10\nx/1.png,2\nx/1.png,2\nx/1.png,10\n")
	s, err = Open("csv:" + table)
	if err != nil {
		t.Fatal(err)
	}
	if labels, _ := Labels(s.Train); !slices.Equal(labels, []int{2, 10}) && !slices.Equal(labels,
		[]int{10, 2}) || len(s.Train.Classes()) != 11 {
		t.Errorf("labels %v of %q", labels, s.Train.Classes())
	}
}

// pets makes a small set in the official layout: pixel values of the trimap are pet, background, border, pet.
func pets(t *testing.T, annotations string) string {
	dir := t.TempDir()
	for _, n := range []string{"Birman_1", "Birman_2", "great_dane_1", "great_dane_2"} {
		// whatever its name
		save(t, filepath.Join(dir, "images", n+".jpg"), image.NewGray(image.Rect(0, 0, 4, 1)))
		gray(t, filepath.Join(dir, annotations, "trimaps", n+".png"), 4, 1, 2, 3, 1)
	}
	put(t, filepath.Join(dir, annotations, "trainval.txt"),
		"#Image CLASS-ID SPECIES BREED ID\nBirman_1 8 1 3\ngreat_dane_1 13 2 7\n")
	put(t, filepath.Join(dir, annotations, "test.txt"), "great_dane_2 13 2 7\nBirman_2 8 1 3\n")
	return dir
}

func TestPets(t *testing.T) {
	for _, annotations := range []string{".", "annotations"} {
		dir := pets(t, annotations)
		s, err := OpenWith("pets="+dir, Options{Size: [2]int{1, 4}})
		if err != nil {
			t.Fatal(err)
		}
		x, y := NewBatch(s.Train, 2)
		if err := s.Train.Fill(x, y, []int{0, 1}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(y.Float32s(), []float32{1, 0, 1, 1, 1, 0, 1, 1}) {
			t.Errorf("masks %v", y.Float32s())
		}
		if s, err = Open("pets-breeds=" + dir); err != nil {
			t.Fatal(err)
		}
		labels, err := Labels(s.Validation)
		if err != nil || !slices.Equal(labels, []int{1, 0}) || !slices.Equal(s.Train.Classes(),
			[]string{"Birman", "great dane"}) {
			t.Errorf("labels %v of %v: %v", labels, s.Train.Classes(), err)
		}
		if s.Train.Shape() != [3]int{3, 128, 128} {
			t.Errorf("shape %v", s.Train.Shape())
		}
	}
}

// The real sets, where they are.
func TestRealPetsAndNuclei(t *testing.T) {
	if os.Getenv("CNNKIT_DATA") == "" {
		t.Skip("CNNKIT_DATA is not set: no pets and no nuclei here")
	}
	for _, c := range []struct {
		name              string
		train, validation int
		shape             [3]int
		foreground        float64 // share of the pixels
	}{
		{"pets", 300, 298, [3]int{3, 128, 128}, 1 - 0.594},
		{"nuclei", 268, 66, [3]int{1, 128, 128}, 0.08},
	} {
		s, err := Open(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if s.Train.Len() != c.train || s.Validation.Len() != c.validation || s.Train.Shape() != c.shape {
			t.Errorf("%s: %d and %d images of %v", c.name, s.Train.Len(), s.Validation.Len(), s.Train.Shape())
		}
		n, err := Counts(s.Train)
		if err != nil {
			t.Fatal(err)
		}
		v, err := Counts(s.Validation)
		if err != nil {
			t.Fatal(err)
		}
		share := float64(n[1]+v[1]) / float64(n[0]+n[1]+v[0]+v[1])
		t.Logf("%s: foreground %.4f", c.name, share)
		if math.Abs(share-c.foreground) > 0.01 {
			t.Errorf("%s: foreground %.4f of the pixels, want about %.4f", c.name, share, c.foreground)
		}
		if c.name == "nuclei" { // its mean and deviation are those of the part to train on
			x, y := NewBatch(s.Train, c.train)
			if err := s.Train.Fill(x, y, Sequence(c.train)); err != nil {
				t.Fatal(err)
			}
			var sum, squares float64
			for _, p := range x.Float32s() {
				sum, squares = sum+float64(p), squares+float64(p)*float64(p)
			}
			mean := sum / float64(x.Size())
			if variance := squares/float64(x.Size()) - mean*mean; math.Abs(mean) > 0.01 ||
				math.Abs(variance-1) > 0.01 {
				t.Errorf("nuclei: mean %v, variance %v after normalisation by %v, %v", mean, variance,
					s.Mean, s.Std)
			}
		}
	}
	s, err := Open("pets-breeds")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := Counts(s.Train); err != nil || !slices.Equal(s.Train.Classes(),
		[]string{"Abyssinian", "american bulldog", "Bengal"}) {
		t.Errorf("breeds %v %v: %v", s.Train.Classes(), c, err)
	}
}

// What is wrong with a set is said, with the file's name.
func TestBadSets(t *testing.T) {
	classes := func(t *testing.T) string {
		dir := t.TempDir()
		for _, c := range []string{"a", "b"} {
			for _, n := range []string{"1.png", "2.png"} {
				paint(t, filepath.Join(dir, c, n), 3, 3, red)
			}
		}
		return dir
	}
	masks := func(t *testing.T) (string, string) {
		images, masks := t.TempDir(), t.TempDir()
		for _, n := range []string{"1.png", "2.png"} {
			paint(t, filepath.Join(images, n), 2, 2, red)
			gray(t, filepath.Join(masks, n), 2, 0, 255, 0, 255)
		}
		return images, masks
	}
	var format *onnxio.FormatError
	var limit *onnxio.LimitError
	for _, c := range []struct {
		name string
		open func(t *testing.T) (string, Options)
		says []string
		is   any
	}{
		{"a corrupt image", func(t *testing.T) (string, Options) {
			dir := classes(t)
			put(t, filepath.Join(dir, "b", "2.png"), "\x89PNG\r\n\x1a\nrubbish")
			return "images:" + dir, Options{Size: [2]int{3, 3}}
		}, []string{filepath.Join("b", "2.png")}, &format},
		{"a corrupt image whose size is wanted", func(t *testing.T) (string, Options) {
			dir := classes(t)
			put(t, filepath.Join(dir, "b", "2.png"), "rubbish")
			return "images:" + dir, Options{}
		}, []string{filepath.Join("b", "2.png")}, &format},
		{"a folder for an image", func(t *testing.T) (string, Options) {
			dir := t.TempDir()
			return "csv:" + put(t, filepath.Join(dir, "t.csv"), "path,label\n.,0\n.,1\n.,0\n.,1\n"),
				Options{Size: [2]int{3, 3}}
		}, []string{"not a regular file"}, &format},
		{"a missing image", func(t *testing.T) (string, Options) {
			dir := t.TempDir()
			return "csv:" + put(t, filepath.Join(dir, "t.csv"),
				"path,label\ngone.png,0\ngone.png,1\ngone.png,0\ngone.png,1\n"), Options{Size: [2]int{3, 3}}
		}, []string{"gone.png"}, nil},
		{"a missing mask", func(t *testing.T) (string, Options) {
			images, masks := masks(t)
			os.Remove(filepath.Join(masks, "2.png"))
			return "masks:" + images + "," + masks, Options{}
		}, []string{"2.png", "no mask", "1 of 2"}, nil},
		{"a mask of another size", func(t *testing.T) (string, Options) {
			images, masks := masks(t)
			gray(t, filepath.Join(masks, "2.png"), 2, 0, 255)
			return "masks:" + images + "," + masks, Options{}
		}, []string{"2.png", "2x1", "2x2"}, &format},
		{"a mask of grey levels", func(t *testing.T) (string, Options) {
			images, masks := masks(t)
			gray(t, filepath.Join(masks, "2.png"), 2, 0, 7, 0, 0)
			return "masks:" + images + "," + masks, Options{}
		}, []string{"2.png", "value is 7"}, &format},
		{"a mask's label out of range", func(t *testing.T) (string, Options) {
			images, masks := masks(t)
			return "masks:" + images + "," + masks, Options{MaskClasses: []string{"a", "b", "c"}}
		}, []string{".png", "255 is out of range", "3 classes"}, &format},
		{"two images of a name", func(t *testing.T) (string, Options) {
			images, masks := masks(t)
			paint(t, filepath.Join(images, "1.bmp"), 2, 2, red)
			return "masks:" + images + "," + masks, Options{}
		}, []string{"1.bmp", "1.png"}, nil},
		{"one class only", func(t *testing.T) (string, Options) {
			dir := classes(t)
			os.RemoveAll(filepath.Join(dir, "b"))
			return "images:" + dir, Options{}
		}, []string{"one class only (a)"}, nil},
		{"one class only in a table", func(t *testing.T) (string, Options) {
			return "csv:" + put(t, filepath.Join(t.TempDir(), "t.csv"),
				"path,label\na.png,1\nb.png,1\n"), Options{}
		}, []string{"one class only (1)"}, nil},
		{"no images", func(t *testing.T) (string, Options) { return "images:" + t.TempDir(), Options{} },
			[]string{"no images"}, &format},
		{"no images of a class", func(t *testing.T) (string, Options) {
			dir := classes(t)
			os.Mkdir(filepath.Join(dir, "c"), 0o777)
			return "images:" + dir, Options{}
		}, []string{filepath.Join("", "c"), "no images"}, &format},
		{"no pairs", func(t *testing.T) (string, Options) {
			return "masks:" + t.TempDir() + "," + t.TempDir(), Options{}
		}, []string{"no images"}, &format},
		{"no rows", func(t *testing.T) (string, Options) {
			return "csv:" + put(t, filepath.Join(t.TempDir(), "t.csv"), "path,label\n"), Options{}
		}, []string{"t.csv", "no images"}, &format},
		{"an empty list", func(t *testing.T) (string, Options) {
			dir := pets(t, ".")
			put(t, filepath.Join(dir, "test.txt"), "# none\n")
			return "pets=" + dir, Options{}
		}, []string{"test.txt", "no images"}, &format},
		{"no columns", func(t *testing.T) (string, Options) {
			return "csv:" + put(t, filepath.Join(t.TempDir(), "t.csv"), "a.png,1\n"), Options{}
		}, []string{"t.csv", "line 1", "path and label"}, &format},
		{"a ragged table", func(t *testing.T) (string, Options) {
			return "csv:" + put(t, filepath.Join(t.TempDir(), "t.csv"),
				"path,label\na.png,1\nb.png\n"), Options{}
		}, []string{"t.csv", "line 3"}, &format},
		{"a table's label out of range", func(t *testing.T) (string, Options) {
			return "csv:" + put(t, filepath.Join(t.TempDir(), "t.csv"),
				"path,label\na.png,-1\nb.png,1\n"), Options{}
		}, []string{"t.csv", "-1 is out of range"}, &format},
		{"a giant label", func(t *testing.T) (string, Options) {
			return "csv:" + put(t, filepath.Join(t.TempDir(), "t.csv"),
				"path,label\na.png,2000000000\nb.png,1\n"), Options{}
		}, []string{"t.csv", "2000000000 is out of range"}, &format},
		{"a breed out of range", func(t *testing.T) (string, Options) {
			dir := pets(t, ".")
			put(t, filepath.Join(dir, "test.txt"), "Birman_2 38 1 1\n")
			return "pets-breeds=" + dir, Options{}
		}, []string{"test.txt", "Birman_2", "out of range"}, &format},
		{"a trimap's value out of range", func(t *testing.T) (string, Options) {
			dir := pets(t, ".")
			gray(t, filepath.Join(dir, "trimaps", "Birman_1.png"), 4, 1, 2, 3, 4)
			return "pets=" + dir, Options{}
		}, []string{"Birman_1.png", "value 4"}, &format},
		{"a list that leads elsewhere", func(t *testing.T) (string, Options) {
			dir := pets(t, ".")
			put(t, filepath.Join(dir, "test.txt"), "../../x 1 1 1\n")
			return "pets=" + dir, Options{}
		}, []string{"test.txt", "line 1", "../../x"}, &format},
		{"an image in both lists", func(t *testing.T) (string, Options) {
			dir := pets(t, ".")
			put(t, filepath.Join(dir, "test.txt"), "Birman_1 8 1 3\n")
			return "pets=" + dir, Options{}
		}, []string{"Birman_1.jpg", "both lists"}, nil},
		{"too many pixels", func(t *testing.T) (string, Options) {
			return "images:" + classes(t), Options{Limits: vision.Limits{Pixels: 8}}
		}, []string{"1.png", "pixels"}, &limit},
		{"too many pixels to decode", func(t *testing.T) (string, Options) {
			return "images:" + classes(t), Options{Limits: vision.Limits{Pixels: 8}, Size: [2]int{2, 2}}
		}, []string{".png", "pixels"}, &limit},
		{"too many bytes", func(t *testing.T) (string, Options) {
			return "images:" + classes(t), Options{Limits: vision.Limits{Bytes: 8}, Size: [2]int{2, 2}}
		}, []string{".png", "bytes"}, &limit},
		{"a hostile size", func(t *testing.T) (string, Options) {
			return "images:" + classes(t), Options{Size: [2]int{1 << 30, 1 << 30}}
		}, []string{"1073741824"}, nil},
		{"a set in memory at another size", func(t *testing.T) (string, Options) {
			return "mnist", Options{Size: [2]int{32, 32}}
		}, []string{"28x28", "32x32"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			word, o := c.open(t)
			o.Validation = 0.5
			s, err := OpenWith(word, o)
			if err == nil {
				for _, part := range []Dataset{s.Train, s.Validation} {
					x, y := NewBatch(part, part.Len())
					err = errors.Join(err, part.Fill(x, y, Sequence(part.Len())))
				}
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%v\ndoes not say %q", err, s)
				}
			}
			if c.is != nil && !errors.As(err, c.is) {
				t.Errorf("%v\nis no %T", err, c.is)
			}
		})
	}
}

// Corrupt images are skipped, and counted, where the caller asks for that.
func TestSound(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"1", "2", "3", "4"} {
		paint(t, filepath.Join(dir, "a", n+".png"), 3, 3, red)
		paint(t, filepath.Join(dir, "b", n+".png"), 3, 3, red)
	}
	put(t, filepath.Join(dir, "b", "2.png"), "rubbish")
	s, err := OpenWith("images:"+dir, Options{Size: [2]int{3, 3}})
	if err != nil {
		t.Fatal(err)
	}
	all := s.Train.(Subset).Dataset
	good, bad, err := Sound(t.Context(), all, 2)
	if err != nil || good.Len() != 7 || slices.Contains(good.Indices, 5) || len(bad) != 1 ||
		!strings.Contains(bad[0].Error(), "2.png") {
		t.Errorf("%v, %v: %v", good.Indices, bad, err)
	}
	if _, err := InMemory(t.Context(), all, 2); err == nil || !strings.Contains(err.Error(), "2.png") {
		t.Errorf("in memory: %v", err)
	}
}

// A file cut anywhere gives an error that names it.
func TestTruncatedImage(t *testing.T) {
	dir := t.TempDir()
	path := paint(t, filepath.Join(dir, "a", "1.png"), 3, 3, red)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewFiles([]Item{{Image: path}}, FilesConfig{Classes: []string{"a"}, Size: [2]int{3, 3}})
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) - 12 { // what follows is the chunk IEND, which no reader needs
		put(t, path, string(whole[:n]))
		var format *onnxio.FormatError
		if _, err := d.Sample(0); !errors.As(err, &format) || !strings.Contains(err.Error(), path) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

// cifarFile is a file of records whose pixels are their label.
func cifarFile(labelBytes, records int) string {
	var b strings.Builder
	for i := range records {
		for range labelBytes {
			b.WriteByte(byte(i % 10))
		}
		b.WriteString(strings.Repeat(string([]byte{byte(i % 10)}), cifarPixels))
	}
	return b.String()
}

func TestCIFAR100(t *testing.T) {
	if len(cifar100Classes) != 100 || !slices.IsSorted(cifar100Classes) {
		t.Fatalf("%d classes", len(cifar100Classes))
	}
	dir := t.TempDir()
	put(t, filepath.Join(dir, "cifar-100-binary", "train.bin"), cifarFile(2, 50000))
	put(t, filepath.Join(dir, "cifar-100-binary", "test.bin"), cifarFile(2, 10000))
	s, err := Open("cifar100=" + dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Train.Len() != 50000 || s.Validation.Len() != 10000 || s.Train.(*Images).Labels[7] != 7 ||
		s.Train.(*Images).Pixels[7*cifarPixels] != 7 {
		t.Errorf("%d and %d images", s.Train.Len(), s.Validation.Len())
	}
	for name, content := range map[string]string{"cut": cifarFile(2, 9999), "longer": cifarFile(2, 10000) +
		"x", "label": strings.Repeat("\xff", 3074*10000)} {
		put(t, filepath.Join(dir, "cifar-100-binary", "test.bin"), content)
		var format *onnxio.FormatError
		if _, err := Open("cifar100=" + dir); !errors.As(err, &format) ||
			!strings.Contains(err.Error(), "test.bin") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLookUp(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("CNNKIT_DATA", "")
	t.Setenv("XDG_CACHE_HOME", cache)
	if _, err := Open("nuclei"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if got := Places("pets-breeds"); len(got) != 1 || filepath.Base(got[0]) != "pets" {
		t.Errorf("places %v", got)
	}
	root := t.TempDir()
	t.Setenv("CNNKIT_DATA", root)
	put(t, filepath.Join(root, "nuclei", "train.txt"), "a\n")
	if dir, err := Find("nuclei"); err != nil || dir != filepath.Join(root, "nuclei") {
		t.Errorf("%s: %v", dir, err)
	}
	for word, want := range map[string]bool{"mnist": true, "pets=/x": true, "images:x": true, "csv:x": true,
		"image:x": false, "mnits": false} {
		if Known(word) != want {
			t.Errorf("Known(%q) is %v", word, !want)
		}
	}
}

func FuzzCSV(f *testing.F) {
	f.Add("path,label\na.png,cat\nb.png,dog\n")
	f.Add("path,label,split\n\"a,b.png\",1,train\nb.png,0,val\n")
	f.Add("label,path\n-1,x\n")
	f.Add("path,x,y\na.png,1,2\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, task := range []Task{Classification, MultiLabel, Regression} {
			got, err := readCSV(strings.NewReader(text), "fuzz.csv", task, "")
			if err != nil {
				continue
			}
			for _, it := range append(got.train, got.validation...) {
				whole := it.Label >= 0 && it.Label < len(got.classes)
				if task != Classification {
					whole = len(it.Numbers) == len(got.classes)
				}
				if it.Image == "" || !whole {
					t.Errorf("%+v of %d classes", it, len(got.classes))
				}
			}
		}
	})
}
