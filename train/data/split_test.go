package data

import (
	"math"
	"slices"
	"testing"
)

// labelled is a set of one-pixel images with these labels.
func labelled(t *testing.T, classes int, labels ...uint8) *Images {
	t.Helper()
	names := make([]string, classes)
	for i := range names {
		names[i] = string(rune('a' + i))
	}
	d, err := NewImages([3]int{1, 1, 1}, slices.Clone(labels), labels, names, []float32{0}, []float32{1})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// skewed has 10, 20, ..., 100 samples of 10 classes, 550 in all.
func skewed(t *testing.T) *Images {
	var labels []uint8
	for i := range 100 {
		for c := range 10 {
			if i < 10*(c+1) {
				labels = append(labels, uint8(c))
			}
		}
	}
	return labelled(t, 10, labels...)
}

func counts(t *testing.T, ds Dataset) []int64 {
	t.Helper()
	c, err := Counts(ds)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTake(t *testing.T) {
	d := skewed(t)
	for n := 1; n <= d.Len(); n += 7 {
		s, err := Take(d, n, 3, true)
		if err != nil {
			t.Fatal(err)
		}
		if s.Len() != n || !slices.IsSorted(s.Indices) || len(slices.Compact(slices.Clone(s.Indices))) != n {
			t.Fatalf("%d: %v", n, s.Indices)
		}
		for c, got := range counts(t, s) {
			exact := float64(n) * float64(c+1) / 55
			if n >= 10 && got == 0 {
				t.Errorf("%d: no sample of class %d", n, c)
			}
			if n >= 55 && math.Abs(float64(got)-exact) >= 1 {
				t.Errorf("%d: %d of class %d, its share is %v", n, got, c, exact)
			}
		}
	}
	again, _ := Take(d, 160, 3, true)
	same, _ := Take(d, 160, 3, true)
	other, _ := Take(d, 160, 4, true)
	if !slices.Equal(again.Indices, same.Indices) || slices.Equal(again.Indices, other.Indices) {
		t.Error("the subset must depend on the seed and on nothing else")
	}
	if plain, err := Take(d, 160, 3, false); err != nil || plain.Len() != 160 ||
		slices.Equal(plain.Indices, again.Indices) {
		t.Errorf("%d samples: %v", plain.Len(), err)
	}
	for _, n := range []int{-1, 0, 551} {
		if _, err := Take(d, n, 0, true); err == nil {
			t.Errorf("%d of 550 is no error", n)
		}
	}
}

// The experiment with little data: 160 images of MNIST, each digit with its share.
func TestTake160OfMNIST(t *testing.T) {
	s, err := Open("mnist")
	if err != nil {
		t.Fatal(err)
	}
	sub, err := Take(s.Train, 160, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	all := counts(t, s.Train)
	for c, got := range counts(t, sub) {
		if exact := 160 * float64(all[c]) / 60000; math.Abs(float64(got)-exact) >= 1 {
			t.Errorf("%d of digit %d, its share is %v", got, c, exact)
		}
	}
	// Of a subset another can be taken, and its samples are those of the whole.
	half, err := Take(sub, 80, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	src, err := SourceOf(half)
	if err != nil {
		t.Fatal(err)
	}
	got, err := src.Sample(5)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := s.Train.(*Images).Sample(sub.Indices[half.Indices[5]])
	if !slices.Equal(got.Pixels, want.Pixels) || got.Label != want.Label || src.Label(5) != want.Label {
		t.Error("a subset of a subset has other samples")
	}
}

func TestSplit(t *testing.T) {
	d := skewed(t)
	train, validation, err := Split(d, 0.2, 7)
	if err != nil {
		t.Fatal(err)
	}
	if c := counts(t, validation); !slices.Equal(c, []int64{2, 4, 6, 8, 10, 12, 14, 16, 18, 20}) {
		t.Errorf("to validate on: %v", c)
	}
	all := slices.Concat(train.Indices, validation.Indices)
	slices.Sort(all)
	if !slices.Equal(all, Sequence(550)) {
		t.Error("the parts are not a partition")
	}
	_, same, _ := Split(d, 0.2, 7)
	_, other, _ := Split(d, 0.2, 8)
	if !slices.Equal(validation.Indices, same.Indices) || slices.Equal(validation.Indices, other.Indices) {
		t.Error("the split must depend on the seed and on nothing else")
	}
	// A class of one stays to train on; one of two goes into both parts.
	train, validation, err = Split(labelled(t, 3, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 2), 0.1, 0)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := counts(t, train), counts(t, validation); !slices.Equal(a, []int64{7, 1, 1}) ||
		!slices.Equal(b, []int64{1, 0, 1}) {
		t.Errorf("%v and %v", a, b)
	}
	for _, fraction := range []float64{-1, 0, 1, 2, math.NaN()} {
		if _, _, err := Split(d, fraction, 0); err == nil {
			t.Errorf("a fraction of %v is no error", fraction)
		}
	}
	if _, _, err := Split(labelled(t, 2, 0, 1), 0.5, 0); err == nil {
		t.Error("classes of one sample each are no error")
	}
}

func TestKFold(t *testing.T) {
	d := skewed(t)
	for _, k := range []int{2, 3, 5, 7, 550} {
		folds, err := KFold(d, k, 1)
		if err != nil || len(folds) != k {
			t.Fatalf("%d folds: %v", len(folds), err)
		}
		var seen []int
		for _, f := range folds {
			both := slices.Concat(f.Train.Indices, f.Validation.Indices)
			slices.Sort(both)
			if !slices.Equal(both, Sequence(550)) {
				t.Fatalf("k=%d: a fold is not a partition", k)
			}
			if n := f.Validation.Len(); n != 550/k && n != 550/k+1 {
				t.Errorf("k=%d: %d samples in a part", k, n)
			}
			for c, got := range counts(t, f.Validation) {
				if exact := float64(10*(c+1)) / float64(k); math.Abs(float64(got)-exact) >= 1 {
					t.Errorf("k=%d: %d of class %d, its share is %v", k, got, c, exact)
				}
			}
			seen = append(seen, f.Validation.Indices...)
		}
		slices.Sort(seen)
		if !slices.Equal(seen, Sequence(550)) {
			t.Errorf("k=%d: not every sample is validated on once", k)
		}
	}
	for _, k := range []int{-1, 0, 1, 551} {
		if _, err := KFold(d, k, 0); err == nil {
			t.Errorf("%d folds are no error", k)
		}
	}
}

func TestClassWeights(t *testing.T) {
	w, err := ClassWeights(labelled(t, 4, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2))
	if err != nil || !slices.Equal(w, []float32{12. / 18, 2, 1, 0}) {
		t.Errorf("%v: %v", w, err)
	}
}
