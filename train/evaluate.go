package train

import (
	"context"
	"fmt"
	"math"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data"
)

// Score is what a model reaches on a data set.
type Score struct {
	Images   int     `json:"images"`
	Loss     float64 `json:"loss"`     // mean over the images
	Accuracy float64 `json:"accuracy"` // share of images whose largest output is the label, 0..1
}

// Forward computes the first output of a model for a batch x [N,C,H,W].
type Forward func(ctx context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error)

// Evaluate scores any engine on a data set, batch images at a time. logs says that the outputs are log-probabilities;
// otherwise they are logits.
func Evaluate(ctx context.Context, forward Forward, ds data.Dataset, batch int, logs bool) (Score, error) {
	s := Score{Images: ds.Len()}
	if s.Images == 0 {
		return s, fmt.Errorf("the data set has no images")
	}
	shape := ds.Shape()
	order := data.Sequence(s.Images)
	for at := 0; at < len(order); at += batch {
		part := order[at:min(len(order), at+batch)]
		x, target := NewBatch(shape, len(part))
		if err := ds.Fill(x, target, part); err != nil {
			return s, err
		}
		y, err := forward(ctx, x)
		if err != nil {
			return s, err
		}
		loss, right, err := batchScore(y, target, logs)
		if err != nil {
			return s, err
		}
		s.Loss += loss
		s.Accuracy += float64(right)
	}
	s.Loss /= float64(s.Images)
	s.Accuracy /= float64(s.Images)
	return s, nil
}

// NewBatch allocates input [n,C,H,W] and target [n].
func NewBatch(shape [3]int, n int) (x, target *onnxio.Tensor) {
	x = onnxio.NewTensor(onnxio.Float, int64(n), int64(shape[0]), int64(shape[1]), int64(shape[2]))
	return x, onnxio.NewTensor(onnxio.Int64, int64(n))
}

// batchScore sums the negative log-likelihood and counts the right answers.
func batchScore(y, target *onnxio.Tensor, logs bool) (loss float64, right int, err error) {
	labels := onnxio.Data[int64](target)
	if y.Type != onnxio.Float || len(y.Dims) != 2 || int(y.Dims[0]) != len(labels) {
		return 0, 0, fmt.Errorf("the output is %v %v; a classifier gives float32 [%d,classes]", y.Type, y.Dims, len(labels))
	}
	cols := int(y.Dims[1])
	for i, label := range labels {
		row := y.Float32s()[i*cols : (i+1)*cols]
		if int(label) >= cols {
			return 0, 0, fmt.Errorf("label %d, but the model has %d outputs", label, cols)
		}
		if argmax(row) == int(label) {
			right++
		}
		loss -= float64(row[label])
		if !logs {
			loss += logSumExp(row)
		}
	}
	return loss, right, nil
}

// argmax is the index of the first largest value.
func argmax(row []float32) int {
	best := 0
	for i, v := range row {
		if v > row[best] {
			best = i
		}
	}
	return best
}

func logSumExp(row []float32) float64 {
	top := float64(row[argmax(row)])
	sum := 0.0
	for _, v := range row {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}

// native is the Forward of the native engine: one plan for full batches and one for the last.
func native(m *onnxio.Model, pool *parallel.Pool) Forward {
	var weights engine.Weights
	plans := map[int64]*engine.Plan{}
	return func(ctx context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) {
		in, out := m.Graph.Inputs[0].Name, m.Graph.Outputs[0].Name
		p := plans[x.Dims[0]]
		if p == nil {
			var err error
			if p, err = weights.Compile(m, engine.Options{Pool: pool, Shapes: map[string][]int64{in: x.Dims}}); err != nil {
				return nil, err
			}
			plans[x.Dims[0]] = p
		}
		res, err := p.Run(ctx, map[string]*onnxio.Tensor{in: x})
		if err != nil {
			return nil, err
		}
		return res[out], nil
	}
}
