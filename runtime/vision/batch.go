package vision

import (
	"context"
	"fmt"
	"image"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// Session is the part of a runtime.Session that Of needs.
type Session interface {
	Run(ctx context.Context, in map[string]*onnxio.Tensor) (map[string]*onnxio.Tensor, error)
	Inputs() []*onnxio.ValueInfo
	Outputs() []*onnxio.ValueInfo
}

// Of runs a session on images, as Adapt says: its first input takes them, and its first output is the answer.
func Of(s Session, in spec.Input) Forward {
	input, output := s.Inputs()[0].Name, s.Outputs()[0].Name
	return Adapt(in, func(ctx context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) {
		ys, err := s.Run(ctx, map[string]*onnxio.Tensor{input: x})
		if err != nil {
			return nil, err
		}
		return ys[output], nil
	})
}

// Batch is images of one size on their way through a model.
type Batch[T any] struct {
	Of []T // what the images belong to, in their order
	x  []*onnxio.Tensor
}

// Run computes the model's output, which has a row for each image.
func (b Batch[T]) Run(ctx context.Context, run Forward) (*onnxio.Tensor, error) {
	x, err := Stack(b.x)
	if err != nil {
		return nil, err
	}
	y, err := run(ctx, x)
	if err != nil {
		return nil, err
	}
	if y == nil || len(y.Dims) == 0 || y.Dims[0] != int64(len(b.Of)) {
		var dims []int64
		if y != nil {
			dims = y.Dims
		}
		return nil, &onnxio.FormatError{Format: "model", Msg: fmt.Sprintf("the output is %v for %d images",
			dims, len(b.Of))}
	}
	return y, nil
}

// Singles is the batch as batches of one image.
func (b Batch[T]) Singles() []Batch[T] {
	out := make([]Batch[T], len(b.Of))
	for i := range out {
		out[i] = Batch[T]{b.Of[i : i+1], b.x[i : i+1]}
	}
	return out
}

// Batcher groups images into batches of a model's own size, else of Limit images, and in any case of one size
// of image. It is not safe for concurrent use.
type Batcher[T any] struct {
	Input spec.Input
	Limit int // 0: 1

	batch Batch[T]
}

// Add takes an image. Where it does not fit into the batch that is being gathered, it gives
// that one and begins another.
func (b *Batcher[T]) Add(of T, img image.Image) (full Batch[T], ready bool) {
	x := Input(img, b.Input)
	limit := max(b.Limit, 1)
	if b.Input.Batch > 0 {
		limit = b.Input.Batch
	}
	if n := len(b.batch.x); n >= limit || n > 0 && !slices.Equal(b.batch.x[0].Dims, x.Dims) {
		full, ready = b.Rest()
	}
	b.batch.Of, b.batch.x = append(b.batch.Of, of), append(b.batch.x, x)
	return full, ready
}

// Rest gives the images that have been gathered; ready says whether there are any.
func (b *Batcher[T]) Rest() (rest Batch[T], ready bool) {
	rest, b.batch = b.batch, Batch[T]{}
	return rest, len(rest.Of) > 0
}
