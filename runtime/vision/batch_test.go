package vision_test

import (
	"context"
	"image"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
	"github.com/cnnkit/cnnkit/runtime/vision"
)

// Images come out once and in order, in batches of one size of image and of so many at most; a
// model's own batch goes first.
func TestBatcher(t *testing.T) {
	sizes := []int{4, 4, 4, 6, 4, 6, 6, 6, 6}
	for _, c := range []struct {
		limit, fixed int
		want         []int
	}{{2, 0, []int{2, 1, 1, 1, 2, 2}}, {0, 0, []int{1, 1, 1, 1, 1, 1, 1, 1, 1}},
		{2, 3, []int{3, 1, 1, 3, 1}}} {
		b := vision.Batcher[int]{Input: spec.Input{Channels: 1, Batch: c.fixed, Std: []float32{1},
			Mean: []float32{0}}, Limit: c.limit}
		var got []int
		var order []int
		use := func(b vision.Batch[int]) {
			got, order = append(got, len(b.Of)), append(order, b.Of...)
			for i, one := range b.Singles() {
				if len(one.Of) != 1 || one.Of[0] != b.Of[i] {
					t.Errorf("image %d of %v alone is %v", i, b.Of, one.Of)
				}
			}
			y, err := b.Run(t.Context(), func(_ context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) {
				return x, nil
			})
			n := int64(sizes[b.Of[0]])
			if err != nil || !slices.Equal(y.Dims, []int64{int64(len(b.Of)), 1, n, n}) {
				t.Errorf("images %v are %v: %v", b.Of, y, err)
			}
		}
		for i, n := range sizes {
			if full, ready := b.Add(i, image.NewGray(image.Rect(0, 0, n, n))); ready {
				use(full)
			}
		}
		if rest, ready := b.Rest(); ready {
			use(rest)
		}
		_, ready := b.Rest()
		if ready || !slices.Equal(got, c.want) || !slices.Equal(order, []int{0, 1, 2, 3, 4, 5, 6, 7, 8}) {
			t.Errorf("limit %d, fixed %d: batches of %v, %v", c.limit, c.fixed, got, order)
		}
	}
}

// An output that has not a row for each image is an error, not a wrong answer.
func TestBatchRows(t *testing.T) {
	b := vision.Batcher[string]{Input: spec.Input{Channels: 1, Std: []float32{1}, Mean: []float32{0}},
		Limit: 2}
	b.Add("a", image.NewGray(image.Rect(0, 0, 4, 4)))
	rest, _ := b.Rest()
	for _, y := range []*onnxio.Tensor{nil, onnxio.NewTensor(onnxio.Float),
		onnxio.NewTensor(onnxio.Float, 2, 10)} {
		run := func(context.Context, *onnxio.Tensor) (*onnxio.Tensor, error) { return y, nil }
		if _, err := rest.Run(t.Context(), run); err == nil {
			t.Errorf("%v for one image", y)
		}
	}
}
