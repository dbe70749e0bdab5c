package train

import (
	"errors"
	"fmt"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/train/data"
)

// What Config.Sampler may be.
const (
	SamplerBalanced = "balanced"
	SamplerWeights  = "weights"
)

// Samplers lists what Config.Sampler may be.
func Samplers() []string { return []string{SamplerBalanced, SamplerWeights} }

// WeightName names the training graph's input for the weights of a batch's images [N], which
// it has with SampleWeights.
const WeightName = "weight"

// errUnweighted says where weights come from.
var errUnweighted = errors.New("the data set has no weights: those of csv:FILE are in its --weight-column " +
	"(weight_column), and in Go data.WithWeights gives them")

// makeSampler finds the weights of the images to train on, for the sampler and for the loss.
func (r *run) makeSampler() error {
	// For other tasks the column is at least no target.
	read := r.cfg.Sampler == SamplerWeights || r.cfg.SampleWeights
	if r.recipe.WeightColumn != "" && r.recipe.Task == data.Classification && !read {
		return fmt.Errorf("nothing reads the weights of weight_column: draw by them (sampler=%s, --sampler), "+
			"let them weigh the loss (sample_weights=true, --sample-weights), or leave weight_column out",
			SamplerWeights)
	}
	weights := data.Weights(r.splits.Train)
	if r.cfg.SampleWeights {
		if weights == nil {
			return fmt.Errorf("data set %s: sample_weights: %w", r.splits.Name, errUnweighted)
		}
		r.weights = weights
	}
	var err error
	switch r.cfg.Sampler {
	case "":
		return nil
	case SamplerBalanced:
		if weights, err = data.BalancedWeights(r.splits.Train); err != nil {
			return fmt.Errorf("data set %s: sampler %s draws by class: %w; draw by weights of your own "+
				"(--weight-column, --sampler %s)", r.splits.Name, SamplerBalanced, err, SamplerWeights)
		}
	case SamplerWeights:
		if weights == nil {
			return fmt.Errorf("data set %s: sampler %s: %w", r.splits.Name, SamplerWeights, errUnweighted)
		}
	}
	if r.sampler, err = data.NewSampler(weights); err != nil {
		return fmt.Errorf("data set %s: sampler %s: %w", r.splits.Name, r.cfg.Sampler, err)
	}
	return nil
}

// images is how many an epoch has.
func (r *run) images() int {
	if r.cfg.Draws > 0 {
		return r.cfg.Draws
	}
	return r.splits.Train.Len()
}

// order is that of the images in the epoch in progress.
func (r *run) order() []int {
	if r.sampler != nil {
		return r.sampler.Draw(r.images(), r.cfg.Seed, r.at)
	}
	return data.Order(r.splits.Train.Len(), r.cfg.Seed, r.at)
}

// weigh adds the weights of a batch's images to the training graph's inputs.
func (r *run) weigh(in map[string]*onnxio.Tensor, indices []int) {
	if r.weights == nil {
		return
	}
	t := onnxio.NewTensor(onnxio.Float, int64(len(indices)))
	for i, at := range indices {
		t.Float32s()[i] = float32(r.weights[at])
	}
	in[WeightName] = t
}
