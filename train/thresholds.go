package train

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/cnnkit/cnnkit/onnxio/spec"
)

// Thresholds are the probabilities above which an image has a label, where it may have several: one for all
// labels or one for each, in their order; or, with Best, those of the highest F1 on the images that are
// measured. The zero value is 0.5. In JSON a list, or "f1".
type Thresholds struct {
	Best bool
	Each []float64
}

// bestThresholds is the word for Thresholds.Best.
const bestThresholds = "f1"

// IsZero reports whether the thresholds are the default.
func (h Thresholds) IsZero() bool { return !h.Best && len(h.Each) == 0 }

// UnmarshalJSON takes a list of probabilities, or "f1".
func (h *Thresholds) UnmarshalJSON(b []byte) error {
	*h = Thresholds{}
	if string(b) == `"`+bestThresholds+`"` {
		h.Best = true
		return nil
	}
	if err := json.Unmarshal(b, &h.Each); err != nil {
		return fmt.Errorf("thresholds is %s: it wants a probability for all labels or for each, or %q", b,
			bestThresholds)
	}
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (h Thresholds) MarshalJSON() ([]byte, error) {
	if h.Best {
		return json.Marshal(bestThresholds)
	}
	return json.Marshal(h.Each)
}

// parseThresholds reads the text of the flag.
func parseThresholds(text string) (any, error) {
	if text == bestThresholds {
		return text, nil
	}
	v, err := floats(text)
	if err != nil {
		return nil, fmt.Errorf(
			"it wants %s, or a probability for all labels or for each such as 0.5,0.3, not %q",
			bestThresholds, text)
	}
	return v, nil
}

// check compares thresholds with what is measured: k labels an image, where it may have several.
func (h Thresholds) check(several bool, k int) error {
	switch {
	case h.IsZero():
		return nil
	case !several:
		return fmt.Errorf("thresholds are those of several labels an image (task %s, loss %s), which is not what is "+
			"measured: leave them out", spec.MultiLabel, LossBCE)
	case h.Best:
		return nil
	}
	return spec.CheckThresholds(h.Each, k)
}

// of is the threshold of label i.
func (h Thresholds) of(i int) float64 {
	switch len(h.Each) {
	case 0:
		return 0.5
	case 1:
		return h.Each[0]
	}
	return h.Each[i]
}

// above says whether logit v of label i means that the image has the label.
func (h Thresholds) above(v float64, i int) bool {
	if len(h.Each) == 0 {
		return v > 0
	}
	return v > logit(h.of(i))
}

// logit is the inverse of the sigmoid.
func logit(p float64) float64 { return math.Log(p) - math.Log1p(-p) }

func sigmoid(v float64) float64 { return 1 / (1 + math.Exp(-v)) }

// BestThreshold is the probability above which a label's answers have the highest F1, 2TP/(2TP+FP+FN); of
// several, the one that the fewest answers are above. scores are logits. It lies near the middle between two
// answers' probabilities, with as few digits as that takes, and is 0.5 where no image has the label.
func BestThreshold(scores []float64, positive []bool) float64 {
	order := make([]int, len(scores))
	all := 0
	for i := range order {
		order[i] = i
		if positive[i] {
			all++
		}
	}
	if all == 0 {
		return 0.5
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	best, threshold, found := 0.0, 0.5, 0
	for at := 0; at < len(order); {
		score := scores[order[at]]
		for ; at < len(order) && scores[order[at]] == score; at++ {
			if positive[order[at]] {
				found++
			}
		}
		below := 0.0 // the next answer's probability
		if at < len(order) {
			below = sigmoid(scores[order[at]])
		}
		// 2TP/(2TP+FP+FN), of at answers that say the label and all images that have it
		if f1 := 2 * float64(found) / float64(at+all); f1 > best {
			best, threshold = f1, between(below, sigmoid(score))
		}
	}
	return threshold
}

// between is the middle of two numbers, or the number of fewest digits that it is rounded to between them.
func between(low, high float64) float64 {
	middle := (low + high) / 2
	for digits := 1; digits < 17; digits++ {
		v, err := strconv.ParseFloat(strconv.FormatFloat(middle, 'g', digits, 64), 64)
		if err == nil && low < v && v < high {
			return v
		}
	}
	return middle
}

// setThresholds tells predict, by the model's metadata, the thresholds that the validation has found.
func (r *run) setThresholds(v Score) {
	if !r.cfg.Thresholds.Best || v.Thresholds == nil {
		return
	}
	if s, err := spec.Get(r.result.Model); err == nil {
		s.Output.Thresholds = v.Thresholds
		spec.Set(r.result.Model, s)
	}
}

// settleThresholds finds the best thresholds of the answers so far, and counts by them.
func (t *tally) settleThresholds() {
	t.thresholds = Thresholds{}
	k := len(t.binary)
	for _, c := range t.columns() {
		t.thresholds.Each = append(t.thresholds.Each, BestThreshold(c.scores, c.positive))
	}
	clear(t.binary)
	t.right = 0
	for i, v := range t.rows {
		is, says := 0, 0
		if t.truths[i] > 0.5 {
			is = 1
		}
		if t.thresholds.above(v, i%k) {
			says = 1
		}
		if is == says {
			t.right++
		}
		t.binary[i%k][outcome[is][says]]++
	}
}
