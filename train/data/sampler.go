package data

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
)

// Weighted is a Dataset whose samples have weights: how often a Sampler draws each, or
// how much its loss counts.
type Weighted interface {
	// Weights are a number for each sample, or nil. They must not be changed.
	Weights() []float64
}

// Wrapper is a Source that shows the samples of another in their order, resized for instance. Weights
// and Digest look through it.
type Wrapper interface {
	Unwrap() Source
}

// Weights are those of the samples of a data set, looking through subsets; nil where it has none.
func Weights(ds Dataset) []float64 {
	switch d := ds.(type) {
	case Weighted:
		return d.Weights()
	case Subset:
		all := Weights(d.Dataset)
		if all == nil {
			return nil
		}
		out := make([]float64, len(d.Indices))
		for i, j := range d.Indices {
			out[i] = all[j]
		}
		return out
	case *Subset:
		return Weights(*d)
	case subsetSource:
		return Weights(d.Subset)
	case Wrapper:
		return Weights(d.Unwrap())
	}
	return nil
}

// WithWeights is a data set with a weight for each of its samples, finite and not negative.
func WithWeights(ds Dataset, weights []float64) (Dataset, error) {
	src, err := SourceOf(ds)
	if err != nil {
		return nil, err
	}
	if len(weights) != src.Len() {
		return nil, fmt.Errorf("%d weights of %d samples: a weight for each sample is wanted", len(weights),
			src.Len())
	}
	for i, w := range weights {
		if !isWeight(w) {
			return nil, fmt.Errorf("%s: weight %v: a finite number that is not negative is wanted",
				src.Where(i), w)
		}
	}
	return weighted{src, weights}, nil
}

type weighted struct {
	Source
	weights []float64
}

func (w weighted) Weights() []float64 { return w.weights }
func (w weighted) Unwrap() Source     { return w.Source }

func isWeight(w float64) bool { return w >= 0 && !math.IsInf(w, 1) }

// BalancedWeights gives each sample the ClassWeights of its class, so that a Sampler
// draws every class alike often.
func BalancedWeights(ds Dataset) ([]float64, error) {
	labels, err := Labels(ds)
	if err != nil {
		return nil, err
	}
	classes, err := ClassWeights(ds)
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(labels))
	for i, l := range labels {
		out[i] = float64(classes[l])
	}
	return out, nil
}

// Sampler draws samples with replacement in proportion to their weights, as
// torch.utils.data.WeightedRandomSampler does. It is safe for concurrent use.
type Sampler struct {
	upTo []float64 // sums of the weights from the first on
	last int       // the last sample whose weight is not 0
}

// NewSampler takes a weight for each sample, finite and not negative; the weights need not add up to 1.
func NewSampler(weights []float64) (*Sampler, error) {
	s := &Sampler{upTo: make([]float64, len(weights)), last: -1}
	sum := 0.0
	for i, w := range weights {
		if !isWeight(w) {
			return nil, fmt.Errorf("weight %v of sample %d: a finite number that is not negative is wanted",
				w, i)
		}
		if w > 0 {
			s.last = i
		}
		sum += w
		s.upTo[i] = sum
	}
	switch {
	case s.last < 0:
		return nil, errors.New("no sample has a weight above 0: there is nothing to draw")
	case math.IsInf(sum, 1):
		return nil, errors.New("the sum of the weights is not finite: scale them down")
	}
	return s, nil
}

// samplerStream keeps the random numbers of a Sampler apart from those of Order.
const samplerStream = 0xd1342543de82ef95

// Draw gives n samples of an epoch, which depend on the weights, the seed and the epoch alone.
func (s *Sampler) Draw(n int, seed uint64, epoch int) []int {
	r := rand.New(rand.NewPCG(seed^samplerStream, 0x9e3779b97f4a7c15^uint64(epoch)))
	sum := s.upTo[len(s.upTo)-1]
	out := make([]int, n)
	for i := range out {
		u := r.Float64() * sum
		// A product that was rounded up to the sum is above no sum of weights.
		out[i] = min(sort.Search(len(s.upTo), func(j int) bool { return s.upTo[j] > u }), s.last)
	}
	return out
}
