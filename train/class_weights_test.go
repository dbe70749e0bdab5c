package train

import (
	"context"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/train/data"
)

// Balanced weights are those of the images to train on: four of a, one of b and one of c.
func TestBalancedClassWeights(t *testing.T) {
	splits := tinySplits(t)
	splits.Train = data.Subset{Dataset: splits.Train, Indices: []int{0, 1, 2, 3, 6, 9}}
	learnt := func(w ClassWeights) []float32 {
		m := tinyNet(t)
		cfg := Config{Epochs: 2, Batch: 3, Loss: LossAuto, Optimizer: "sgd", LR: 0.1, ClassWeights: w}
		if _, err := Run(context.Background(), m, splits, cfg, "", Observer{}); err != nil {
			t.Fatal(err)
		}
		return m.Graph.Initializer("fc.weight").Float32s()
	}
	balanced := learnt(ClassWeights{Balanced: true})
	if !slices.Equal(balanced, learnt(ClassWeights{Each: []float64{0.5, 2, 2}})) {
		t.Error("balanced weights are others than total by classes times count")
	}
	if slices.Equal(balanced, learnt(ClassWeights{})) {
		t.Error("the weights change nothing")
	}
}
