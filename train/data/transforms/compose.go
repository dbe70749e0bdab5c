package transforms

import (
	"fmt"
	"math/rand/v2"
)

// Compose applies transforms one after the other.
type Compose []Transform

// Of is the list of the transforms, once their settings are checked.
func Of(ts ...Transform) (Compose, error) {
	c := Compose(ts)
	return c, c.check()
}

func (c Compose) check() error {
	for i, t := range c {
		if t == nil {
			return fmt.Errorf("transform %d is nil", i)
		}
		if err := checked(t); err != nil {
			return fmt.Errorf("transform %d, %s: %w", i, nameOf(t), err)
		}
	}
	return nil
}

// Apply applies every transform. An error names the one it is from.
func (c Compose) Apply(s *Sample, r *rand.Rand) error {
	for i, t := range c {
		if err := t.Apply(s, r); err != nil {
			return fmt.Errorf("transform %d, %s: %w", i, nameOf(t), err)
		}
	}
	return nil
}

// RandomApply applies the whole list with probability P (0.5 in JSON, if not given).
type RandomApply struct {
	Transforms Compose `json:"transforms"`
	P          float64 `json:"p"`
}

func (t RandomApply) check() error {
	if err := t.Transforms.check(); err != nil {
		return err
	}
	return checkP(t.P)
}

// Apply applies the list, or not.
func (t RandomApply) Apply(s *Sample, r *rand.Rand) error {
	if err := checkP(t.P); err != nil {
		return err
	}
	if r.Float64() < t.P {
		return t.Transforms.Apply(s, r)
	}
	return nil
}

// RandomChoice applies one of the transforms.
type RandomChoice struct {
	Transforms Compose `json:"transforms"`
	// how probable each is, relative to the others; all alike if not given
	Weights Values `json:"p,omitempty"`
}

func (t RandomChoice) check() error {
	if err := t.Transforms.check(); err != nil {
		return err
	}
	return checkWeights(len(t.Transforms), t.Weights)
}

func checkWeights(n int, weights Values) error {
	if n == 0 {
		return fmt.Errorf("transforms: none to choose from")
	}
	sum := 0.0
	for _, w := range weights {
		if !(w >= 0) {
			return fmt.Errorf("p %v: numbers that are not negative are wanted", []float64(weights))
		}
		sum += w
	}
	if len(weights) != 0 && (len(weights) != n || !(sum > 0 && sum < 1e9)) {
		return fmt.Errorf("p %v: a weight for each of %d transforms, not all zero, is wanted",
			[]float64(weights), n)
	}
	return nil
}

// choose is an index from 0 to n-1, as probable as its weight.
func choose(n int, weights Values, r *rand.Rand) int {
	if len(weights) == 0 {
		return r.IntN(n)
	}
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	at, last := r.Float64()*sum, 0
	for i, w := range weights {
		if w > 0 {
			if last = i; at < w {
				break
			}
		}
		at -= w
	}
	return last
}

// Apply applies one.
func (t RandomChoice) Apply(s *Sample, r *rand.Rand) error {
	if err := checkWeights(len(t.Transforms), t.Weights); err != nil {
		return err
	}
	return t.Transforms[choose(len(t.Transforms), t.Weights, r)].Apply(s, r)
}
