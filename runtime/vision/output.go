package vision

import (
	"fmt"
	"math"
	"sort"

	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// Scale says what a model's output numbers are.
type Scale = spec.Scale

// The scales.
const (
	Logits           = spec.Logits
	LogProbabilities = spec.LogProbabilities
	Probabilities    = spec.Probabilities
)

// Guess is one class of a ranking, or one value.
type Guess struct {
	Class       int      `json:"class"`
	Label       string   `json:"label"`
	Probability float64  `json:"probability"`
	Value       *float64 `json:"value,omitempty"` // of a model that gives numbers, in place of a probability
	// of several labels: the probability is above the label's threshold
	Given *bool `json:"given,omitempty"`
}

// Result is what became of one image, as a line of JSON: its answer, or the reason why there is none.
type Result struct {
	File  string  `json:"file"`
	Top   []Guess `json:"top,omitempty"`
	Error string  `json:"error,omitempty"`
}

// Answers is Top by what a model's output is asked: classes, whose probabilities add up to 1; several
// labels, each with a probability of its own, given where that is above the label's threshold
// (out.Thresholds); or numbers, in their order.
func Answers(y *onnxio.Tensor, out spec.Output, k int, labels []string) ([][]Guess, error) {
	switch out.Task {
	case spec.Boxes:
		return nil, fmt.Errorf(
			"the model gives boxes, not classes of an image: run it, and read its outputs boxes, scores and labels")
	case spec.MultiLabel:
		all, err := ranked(y, k, labels, func(row []float32) []float64 {
			if out.Scale != Logits {
				return probabilities(row, out.Scale)
			}
			p := make([]float64, len(row))
			for i, v := range row {
				p[i] = 1 / (1 + math.Exp(-float64(v)))
			}
			return p
		})
		for _, row := range all {
			for j := range row {
				given := row[j].Probability > out.Threshold(row[j].Class)
				row[j].Given = &given
			}
		}
		return all, err
	case spec.Number:
		n := 1
		if len(y.Dims) > 1 {
			n = int(y.Dims[1])
		}
		all, err := guesses(y, labels, func(row []float32) []float64 { return make([]float64, len(row)) })
		for i, row := range all {
			for j := range row {
				v := float64(y.Float32s()[i*n+j])
				row[j].Value = &v
			}
		}
		return all, err
	}
	return Top(y, out.Scale, k, labels)
}

// Top ranks the k likeliest classes of every row of an output [N,classes], also
// [N,classes,1,1]. Labels may be nil.
func Top(y *onnxio.Tensor, scale Scale, k int, labels []string) ([][]Guess, error) {
	return ranked(y, k, labels, func(row []float32) []float64 { return probabilities(row, scale) })
}

// ranked has the k likeliest of each row first.
func ranked(y *onnxio.Tensor, k int, labels []string, probabilities func([]float32) []float64) ([][]Guess,
	error) {
	out, err := guesses(y, labels, probabilities)
	for i, all := range out {
		sort.SliceStable(all, func(a, b int) bool { return all[a].Probability > all[b].Probability })
		out[i] = all[:min(k, len(all))]
	}
	return out, err
}

// guesses are those of each row, in the order of the classes.
func guesses(y *onnxio.Tensor, labels []string, probabilities func([]float32) []float64) ([][]Guess, error) {
	bad := y.Type != onnxio.Float || len(y.Dims) < 2 || y.Dims[1] == 0
	for i := 2; !bad && i < len(y.Dims); i++ {
		bad = y.Dims[i] != 1
	}
	if bad {
		return nil, fmt.Errorf("the output is %v %v; a classifier gives float32 [N,classes]", y.Type, y.Dims)
	}
	n, classes := int(y.Dims[0]), int(y.Dims[1])
	out := make([][]Guess, n)
	for i := range out {
		row := probabilities(y.Float32s()[i*classes : (i+1)*classes])
		all := make([]Guess, classes)
		for c, p := range row {
			all[c] = Guess{Class: c, Label: fmt.Sprint(c), Probability: p}
			if c < len(labels) {
				all[c].Label = labels[c]
			}
		}
		out[i] = all
	}
	return out, nil
}

func probabilities(row []float32, scale Scale) []float64 {
	out := make([]float64, len(row))
	switch scale {
	case Probabilities:
		for i, v := range row {
			out[i] = float64(v)
		}
		return out
	case LogProbabilities:
		for i, v := range row {
			out[i] = math.Exp(float64(v))
		}
		return out
	}
	top := math.Inf(-1)
	for _, v := range row {
		top = max(top, float64(v))
	}
	sum := 0.0
	for i, v := range row {
		out[i] = math.Exp(float64(v) - top)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

// logit is the inverse of the sigmoid.
func logit(p float64) float64 { return math.Log(p / (1 - p)) }
