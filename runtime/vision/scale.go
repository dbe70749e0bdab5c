package vision

import (
	"context"
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// AsLogits is run with its outputs as logits of one class against none: of probabilities log(p/(1-p)). A
// probability that float32 has rounded to 0 or 1 counts as the nearest number between.
func AsLogits(run Forward, scale Scale) Forward {
	return mapped(run, func(v float64) float64 {
		switch scale {
		case LogProbabilities:
			v = math.Exp(v)
		case Logits:
			return v
		}
		return logit(min(max(v, smallest), 1-epsilon))
	})
}

// AsLogarithms is run with its outputs as log-probabilities, where they are probabilities.
func AsLogarithms(run Forward, scale Scale) Forward {
	return mapped(run, func(v float64) float64 {
		if scale == Probabilities {
			return math.Log(max(v, smallest))
		}
		return v
	})
}

const (
	smallest = 0x1p-126 // of float32's normal numbers
	epsilon  = 0x1p-24  // float32's below 1
)

func mapped(run Forward, f func(float64) float64) Forward {
	return func(ctx context.Context, x *onnxio.Tensor) (*onnxio.Tensor, error) {
		y, err := run(ctx, x)
		if err != nil || y == nil || y.Type != onnxio.Float {
			return y, err
		}
		out := onnxio.NewTensor(onnxio.Float, y.Dims...)
		to := out.Float32s()
		for i, v := range y.Float32s() {
			to[i] = float32(f(float64(v)))
		}
		return out, nil
	}
}
