package transforms_test

import (
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/train/data/transforms"
)

// An image is mirrored in every second epoch; which ones begin depends on the seed, and is half of them.
func TestAlternatingFlip(t *testing.T) {
	pix := []uint8{1, 2, 3, 4, 5, 6}
	flipped := []uint8{3, 2, 1, 6, 5, 4}
	is := func(key uint64, epoch int) bool {
		s := transforms.Sample{Image: transforms.Image{C: 1, H: 2, W: 3, Pix: pix}, Epoch: epoch, Key: key}
		if err := (transforms.AlternatingFlip{}).Apply(&s, nil); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(s.Image.Pix, pix) && !slices.Equal(s.Image.Pix, flipped) {
			t.Fatalf("%v", s.Image.Pix)
		}
		return slices.Equal(s.Image.Pix, flipped)
	}
	first := 0
	for i := range 1000 {
		key := transforms.Key(7, i)
		if is(key, 1) {
			first++
		}
		for epoch := range 4 {
			if is(key, epoch+1) == is(key, epoch+2) {
				t.Fatalf("image %d is the same in epochs %d and %d", i, epoch+1, epoch+2)
			}
		}
		if is(key, 0) {
			t.Fatalf("image %d is mirrored without a run", i)
		}
	}
	if first < 440 || first > 560 {
		t.Errorf("%d of 1000 images are mirrored in the first epoch", first)
	}
	if transforms.Key(7, 3) == transforms.Key(8, 3) {
		t.Error("the seed changes nothing")
	}
}
