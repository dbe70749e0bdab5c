package data

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/pickle"
	"github.com/cnnkit/cnnkit/onnxio"
)

const cifarFixtures = "../../testdata/cifar/" // by make.py there

// small is CIFAR-10 with files of the fixtures' three records.
func small(files int) cifar {
	c := cifar10
	c.records, c.tests = 3, 3
	c.train, c.pickles.train = c.train[:files], c.pickles.train[:files]
	return c
}

func fixture(t testing.TB, name string) string {
	t.Helper()
	raw, err := os.ReadFile(cifarFixtures + name + ".pkl")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// Batches as Python 2's cPickle and Python 3's pickle write them, with either version of numpy.
func TestPickledBatches(t *testing.T) {
	for _, name := range []string{"python2", "python2-fortran", "python2-100", "python3-2", "python3-3",
		"python3-4", "python3-5", "python3-bytes"} {
		t.Run(name, func(t *testing.T) {
			c, factor := small(1), 1
			if name == "python2-100" {
				c.pickles.labels, c.classes, factor = cifar100.pickles.labels, cifar100.classes, 11
			}
			part := newCIFARPart(3)
			if err := c.readPickle(cifarFixtures+name+".pkl", part, 0, 3); err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				if part.labels[i] != uint8(factor*i) {
					t.Errorf("label %d is %d", i, part.labels[i])
				}
				for j := range cifarPixels {
					if got, want := part.pixels[i*cifarPixels+j], uint8(37*i+7*j); got != want {
						t.Fatalf("pixel %d of image %d is %d, not %d", j, i, got, want)
					}
				}
			}
		})
	}
}

func TestPickledSet(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "data_batch_1"), fixture(t, "python2"))
	put(t, filepath.Join(dir, "data_batch_2"), fixture(t, "python3-5"))
	put(t, filepath.Join(dir, "test_batch"), fixture(t, "python2"))
	put(t, filepath.Join(dir, "batches.meta"), fixture(t, "python2-meta"))
	s, err := small(2).open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Train.Len() != 6 || s.Validation.Len() != 3 || s.Train.Classes()[2] != "bird" ||
		s.Train.(Source).Label(5) != 2 {
		t.Errorf("%+v", s)
	}
	put(t, filepath.Join(dir, "batches.meta"), "\x80\x02}.")
	if _, err := small(2).open(dir, Options{}); err == nil || !strings.Contains(err.Error(),
		"batches.meta") || !strings.Contains(err.Error(), "10 names") {
		t.Errorf("%v", err)
	}
	os.Remove(filepath.Join(dir, "batches.meta"))
	if s, err := small(2).open(dir, Options{}); err != nil || s.Train.Classes()[9] != "truck" {
		t.Errorf("%v", err)
	}
	// The official set has batches of 10000.
	put(t, filepath.Join(dir, "cifar-10-batches-py", "data_batch_1"), fixture(t, "python2"))
	os.Remove(filepath.Join(dir, "data_batch_1"))
	var format *onnxio.FormatError
	if _, err := Open("cifar10=" + dir); !errors.As(err, &format) || !strings.Contains(err.Error(),
		filepath.Join("cifar-10-batches-py", "data_batch_1")) ||
		!strings.Contains(err.Error(), "10000 images") {
		t.Errorf("%v", err)
	}
}

// What cannot be a batch is an error that names the file; nothing is executed.
func TestHostilePickles(t *testing.T) {
	whole := fixture(t, "python2")
	dir := t.TempDir()
	for name, c := range map[string]struct{ content, says string }{
		"a call":       {"\x80\x02cos\nsystem\nU\x02ls\x85R.", "nothing was executed"},
		"another call": {"\x80\x02cnumpy\nndarray\n)R.", "ndarray"},
		"no dict":      {"\x80\x02].", "no dict"},
		"a tail":       {whole + "x", "follows"},
		"a label": {strings.Replace(whole, "(K\x00K\x01K\x02e", "(K\x00K\x0aK\x02e", 1),
			"label 10 is out of range"},
		"labels":        {strings.Replace(whole, "(K\x00K\x01K\x02e", "(K\x00K\x01e", 1), "3 labels"},
		"another shape": {strings.Replace(whole, "K\x03M\x00\x0c\x86", "K\x04M\x00\x0c\x86", 1), "BUILD"},
		"floats":        {strings.Replace(whole, "U\x02u1", "U\x02f1", 1), "BUILD"},
		"twice": {"\x80\x02}(U\x04data" +
			whole[strings.Index(whole, "cnumpy.core"):strings.Index(whole, "U\x06labels")] + ")bu.", "BUILD"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.content == whole {
				t.Fatal("nothing was replaced")
			}
			path := put(t, filepath.Join(dir, "data_batch_1"), c.content)
			err := small(1).readPickle(path, newCIFARPart(3), 0, 3)
			var format *onnxio.FormatError
			if !errors.As(err, &format) || format.Path != path || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
	for n := range len(whole) {
		var format *onnxio.FormatError
		if n > 400 && n < len(whole)-300 && n%97 != 0 {
			continue // within the pixels
		}
		if _, err := loadPickle(strings.NewReader(whole[:n]), int64(n), 3); !errors.As(err, &format) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	var limit *onnxio.LimitError
	path := put(t, filepath.Join(dir, "large"), strings.Repeat("x", 3*3*cifarPixels+1<<16+1))
	if err := small(1).readPickle(path, newCIFARPart(3), 0, 3); !errors.As(err, &limit) ||
		!strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	// One text, encoded over and over, would need far more memory than the file has bytes.
	bomb := "\x80\x02]q\x00(X\xe8\x03\x00\x00" + strings.Repeat("a", 1000) +
		"q\x01X\x06\x00\x00\x00latin1q\x02" +
		strings.Repeat("c_codecs\nencode\nh\x01h\x02\x86R", 50) + "e."
	if _, err := loadPickle(strings.NewReader(bomb), int64(len(bomb)), 100); !errors.As(err, &limit) {
		t.Errorf("%v", err)
	}
}

// cifarFolder is CIFAR-10 as folders of PNG files, two to train on and one to validate on of each class.
func cifarFolder(t *testing.T, side int) string {
	dir := t.TempDir()
	for i, class := range cifar10Classes {
		for _, name := range []string{"train/%s/0.png", "train/%s/1.png", "test/%s/0.png"} {
			img := image.NewRGBA(image.Rect(0, 0, side, side))
			img.Set(1, 0, color.RGBA{uint8(i), 2, 3, 255})
			save(t, filepath.Join(dir, fmt.Sprintf(name, class)), img)
		}
	}
	return dir
}

func TestCIFARFolders(t *testing.T) {
	dir := cifarFolder(t, 32)
	s, err := Open("cifar10=" + dir)
	if err != nil {
		t.Fatal(err)
	}
	train, ok := s.Train.(*Images)
	if !ok || train.Len() != 20 || s.Validation.Len() != 10 || !slices.Equal(train.Names, cifar10Classes) {
		t.Fatalf("%+v", s)
	}
	if at := 7*cifarPixels + 1; train.Labels[7] != 3 || train.Pixels[at] != 3 || train.Pixels[at+1024] != 2 {
		t.Errorf("label %d, pixel %d", train.Labels[7], train.Pixels[at])
	}
	if !slices.Equal(train.Norm().Mean, cifar10.mean) {
		t.Errorf("means %v", train.Norm().Mean)
	}
	if report, err := Verify("cifar10=" + dir); err != nil || len(report) != 0 {
		t.Errorf("%+v: %v", report, err)
	}
	os.RemoveAll(filepath.Join(dir, "train", "truck"))
	os.RemoveAll(filepath.Join(dir, "test", "truck"))
	if _, err := Open("cifar10=" + dir); err == nil || !strings.Contains(err.Error(), "images:"+dir) {
		t.Errorf("%v", err)
	}
	if _, err := Open("cifar10=" + cifarFolder(t, 8)); err == nil ||
		!strings.Contains(err.Error(), "[3 8 8]") {
		t.Errorf("%v", err)
	}
}

func TestVerifyPickled(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "cifar-100-python", "train"), "x")
	report, err := Verify("cifar100=" + dir)
	if err != nil || len(report) != 3 || report[0].File != "train" || report[0].Err == nil ||
		!errors.Is(report[2].Err, os.ErrNotExist) {
		t.Errorf("%+v: %v", report, err)
	}
}

func FuzzCIFARPickle(f *testing.F) {
	for _, name := range []string{"python2", "python2-fortran", "python3-2", "python3-5", "python2-meta"} {
		f.Add([]byte(fixture(f, name)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, part := small(1), newCIFARPart(3)
		d, err := loadPickle(bytes.NewReader(raw), int64(len(raw)), 3)
		if err == nil {
			err = c.batch(d, part, 0, 3)
		}
		if err == nil {
			for i, l := range part.labels {
				if int(l) >= len(c.classes) {
					t.Errorf("label %d of record %d", l, i)
				}
			}
			return
		}
		var format *onnxio.FormatError
		var limit *onnxio.LimitError
		if !errors.As(err, &format) && !errors.As(err, &limit) {
			t.Errorf("untyped: %v", err)
		}
	})
}

func FuzzCIFARBinary(f *testing.F) {
	f.Add([]byte(cifarFile(1, 3)), false)
	f.Add([]byte(cifarFile(2, 3)), true)
	f.Add([]byte(cifarFile(1, 3)+"x"), false)
	f.Fuzz(func(t *testing.T, raw []byte, hundred bool) {
		c := small(1)
		if hundred {
			c.labels, c.classes = cifar100.labels, cifar100.classes
		}
		part := newCIFARPart(3)
		if err := c.decode(bytes.NewReader(raw), "fuzz", part, 0, 3); err != nil {
			if format := new(onnxio.FormatError); !errors.As(err, &format) {
				t.Errorf("untyped: %v", err)
			}
			return
		}
		if len(raw) != 3*(c.labels+cifarPixels) {
			t.Errorf("%d bytes", len(raw))
		}
	})
}

func FuzzList(f *testing.F) {
	f.Add("# names\nAbyssinian_1 1 1 1\nBirman_2 8 1 3\n")
	f.Add("../x\n")
	f.Add("a\x00\n\xff 1\n")
	f.Fuzz(func(t *testing.T, list string) {
		rows, err := parseList(strings.NewReader(list), "fuzz.txt")
		if err != nil {
			return
		}
		for _, words := range rows {
			if p := filepath.Join("root", words[0]+".png"); filepath.Dir(p) != "root" {
				t.Errorf("%q leads to %s", words[0], p)
			}
		}
	})
}

// Set and Get of a dict whose keys Python 3 has read as bytes.
func TestLookUpBytes(t *testing.T) {
	d := &pickle.Dict{}
	d.Set(pickle.Bytes("labels"), int64(1))
	if lookUp(d, "labels") != any(int64(1)) || lookUp(d, "data") != nil {
		t.Errorf("%+v", d)
	}
}
