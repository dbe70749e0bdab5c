package data

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func TestMNISTIsEmbedded(t *testing.T) {
	s, err := Open("mnist")
	if err != nil {
		t.Fatal(err)
	}
	if s.Train.Len() != 60000 || s.Validation.Len() != 10000 || s.Train.Shape() != [3]int{1, 28, 28} {
		t.Fatalf("%d and %d images of %v", s.Train.Len(), s.Validation.Len(), s.Train.Shape())
	}
	// Over the training set, normalised pixels have mean 0 and deviation 1, to the digits that
	// mean and std are given in.
	x, y := onnxio.NewTensor(onnxio.Float, 60000, 1, 28, 28), onnxio.NewTensor(onnxio.Int64, 60000)
	if err := s.Train.Fill(x, y, Sequence(60000)); err != nil {
		t.Fatal(err)
	}
	var sum, squares float64
	for _, v := range x.Float32s() {
		sum += float64(v)
		squares += float64(v) * float64(v)
	}
	n := float64(x.Size())
	if m := sum / n; m < -0.001 || m > 0.001 {
		t.Errorf("mean %v", m)
	}
	if v := squares / n; v < 0.998 || v > 1.002 {
		t.Errorf("variance %v", v)
	}
	if got := onnxio.Data[int64](y)[:5]; !slices.Equal(got, []int64{5, 0, 4, 1, 9}) {
		t.Errorf("first labels %v", got)
	}
}

func TestCIFAR10(t *testing.T) {
	if os.Getenv("CNNKIT_DATA") == "" {
		t.Skip("CNNKIT_DATA is not set: no CIFAR-10 here")
	}
	s, err := Open("cifar10")
	if err != nil {
		t.Fatal(err)
	}
	if s.Train.Len() != 50000 || s.Validation.Len() != 10000 {
		t.Errorf("%d and %d images", s.Train.Len(), s.Validation.Len())
	}
	if l := s.Validation.(*Images).Labels[:4]; !slices.Equal(l, []uint8{3, 8, 8, 0}) {
		t.Errorf("first test labels %v", l)
	}
}

func TestUnknownDataSet(t *testing.T) {
	if _, err := Open("mnits"); err == nil {
		t.Error("no error")
	}
	t.Setenv("CNNKIT_DATA", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if _, err := Open("cifar10"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestOrderIsAPermutationOfSeedAndEpoch(t *testing.T) {
	a, b, c, d := Order(1000, 1, 1), Order(1000, 1, 1), Order(1000, 1, 2), Order(1000, 2, 1)
	if !slices.Equal(a, b) || slices.Equal(a, c) || slices.Equal(a, d) {
		t.Error("the order must depend on seed and epoch, on nothing else")
	}
	slices.Sort(a)
	if !slices.Equal(a, Sequence(1000)) {
		t.Error("not a permutation")
	}
}

func idx(dims ...byte) []byte {
	out := []byte{0, 0, 8, byte(len(dims))}
	n := 1
	for _, d := range dims {
		out = append(out, 0, 0, 0, d)
		n *= int(d)
	}
	return append(out, make([]byte, n)...)
}

func TestTruncatedIDX(t *testing.T) {
	whole := idx(3, 4, 5)
	if _, _, err := ReadIDX(bytes.NewReader(whole), "x"); err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		var format *onnxio.FormatError
		if _, _, err := ReadIDX(bytes.NewReader(whole[:n]), "x"); !errors.As(err, &format) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	if _, _, err := ReadIDX(bytes.NewReader(append(whole, 0)), "x"); err == nil {
		t.Error("a byte too many is no error")
	}
	if _, _, err := ReadIDX(bytes.NewReader([]byte{0, 0, 8, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff}), "x"); err == nil {
		t.Error("a giant is no error")
	}
}

func FuzzIDX(f *testing.F) {
	f.Add(idx(2, 3))
	f.Add(idx(1, 1, 1, 1))
	f.Add([]byte{0, 0, 8, 3, 0, 0, 0, 2})
	f.Fuzz(func(t *testing.T, raw []byte) {
		dims, data, err := ReadIDX(bytes.NewReader(raw), "fuzz")
		if err != nil {
			return
		}
		n := 1
		for _, d := range dims {
			n *= d
		}
		if n != len(data) {
			t.Errorf("%v with %d elements", dims, len(data))
		}
	})
}

// Without package mnist its set is looked up as the others are, and the error says what to import.
func TestMNISTIsNotCarried(t *testing.T) {
	carried := embedded
	if carried == nil {
		t.Fatal("this test's program imports package mnist")
	}
	defer func() { embedded = carried }()
	embedded = nil
	dir := t.TempDir()
	t.Setenv("CNNKIT_DATA", dir)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	for _, f := range []func() error{
		func() error { _, err := Open("mnist"); return err },
		func() error { _, err := Find("mnist"); return err },
		func() error { _, err := Verify("mnist"); return err },
	} {
		if err := f(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(),
			`import _ "github.com/cnnkit/cnnkit/train/data/mnist"`) {
			t.Error(err)
		}
	}
	part := func(name string) {
		raw, err := fs.ReadFile(carried.files, name)
		if err == nil {
			err = os.MkdirAll(filepath.Join(dir, "mnist"), 0o777)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "mnist", name), raw, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range remotes["mnist"] {
		part(f.file)
	}
	if s, err := Open("mnist"); err != nil || s.Train.Len() != 60000 {
		t.Error(err)
	}
	report, err := Verify("mnist")
	if err != nil || len(report) != 4 || Sums(report) != nil {
		t.Error(report, err)
	}
}
