package vision

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Views are what test-time augmentation can do, by name.
//
//	mirror  the image and its mirror image, left and right: half each
//	shift   the image, by a half, and moved by a pixel up and left and down and right, by a quarter each; what comes in at
//	        the border is mirrored there
//
// Both together are six views (Jordan, arXiv:2404.00498, section 3.5).
func Views() []string { return []string{"mirror", "shift"} }

// view is one way to look at an image.
type view struct {
	weight float64
	mirror bool
	by     int // pixels that the image moves, down and right
}

func viewsOf(names []string) ([]view, error) {
	out := []view{{weight: 1}}
	for i, name := range names {
		if !slices.Contains(Views(), name) {
			return nil, fmt.Errorf("no view %q: known are %v", name, Views())
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("view %q stands twice", name)
		}
		var more []view
		for _, v := range out {
			if name == "mirror" {
				m := v
				m.weight, m.mirror = v.weight/2, true
				v.weight /= 2
				more = append(more, v, m)
				continue
			}
			more = append(more, view{v.weight / 2, v.mirror, 0}, view{v.weight / 4, v.mirror, 1},
				view{v.weight / 4, v.mirror, -1})
		}
		out = more
	}
	return out, nil
}

// Augmented is run over several views of each image [N,C,H,W], whose outputs [N,K] are averaged:
// logits, or, as logs says, log-probabilities, which are log-probabilities again (of the geometric
// mean of the probabilities).
func Augmented(run Forward, names []string, logs bool) (Forward, error) {
	views, err := viewsOf(names)
	if err != nil || len(views) == 1 {
		return run, err
	}
	return func(ctx context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) {
		if x.Type != onnxio.Float || len(x.Dims) != 4 {
			return nil, fmt.Errorf("views of %v %v: float32 [N,C,H,W] is wanted", x.Type, x.Dims)
		}
		var mean *onnxio.Tensor
		for _, v := range views {
			y, err := run(ctx, v.of(x))
			if err != nil {
				return nil, err
			}
			if y == nil || y.Type != onnxio.Float || len(y.Dims) != 2 {
				return nil, fmt.Errorf("views are averaged of outputs float32 [N,K]")
			}
			if mean == nil {
				mean = onnxio.NewTensor(onnxio.Float, y.Dims...)
			}
			if !slices.Equal(mean.Dims, y.Dims) {
				return nil, fmt.Errorf("the views of a batch give outputs %v and %v", mean.Dims, y.Dims)
			}
			to := mean.Float32s()
			for i, o := range y.Float32s() {
				to[i] += float32(v.weight) * o
			}
		}
		if logs {
			normalize(mean)
		}
		return mean, nil
	}, nil
}

// of is a batch seen this way.
func (v view) of(x *onnxio.Tensor) *onnxio.Tensor {
	if !v.mirror && v.by == 0 {
		return x
	}
	h, w := int(x.Dims[2]), int(x.Dims[3])
	out := onnxio.NewTensor(onnxio.Float, x.Dims...)
	from, to := x.Float32s(), out.Float32s()
	for plane := 0; plane < len(from); plane += h * w {
		for i := range h {
			row := from[plane+reflected(i-v.by, h)*w:][:w]
			line := to[plane+i*w:][:w]
			for j := range w {
				k := j
				if v.mirror {
					k = w - 1 - j // of the image once it has moved
				}
				line[j] = row[reflected(k-v.by, w)]
			}
		}
	}
	return out
}

// reflected is the pixel that stands for i in 0 ... n-1, one step outside: the image mirrored
// without repeating its edge.
func reflected(i, n int) int {
	switch {
	case n == 1:
		return 0
	case i < 0:
		return -i
	case i >= n:
		return 2*(n-1) - i
	}
	return i
}

// normalize makes log-probabilities of each row.
func normalize(y *onnxio.Tensor) {
	k := int(y.Dims[1])
	for row := range slices.Chunk(y.Float32s(), max(k, 1)) {
		top, sum := float64(slices.Max(row)), 0.0
		for _, v := range row {
			sum += math.Exp(float64(v) - top)
		}
		for i, v := range row {
			row[i] = float32(float64(v) - top - math.Log(sum))
		}
	}
}
