package transforms

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// Ints is one whole number or several: a size (32, or [height, width]), a padding (4, [left and right,
// top and bottom], or [left, top, right, bottom]), a fill (one level, or one for each channel). In
// JSON, one number stands bare.
type Ints []int

// UnmarshalJSON takes a number or a list of them.
func (v *Ints) UnmarshalJSON(b []byte) error {
	return oneOrMany((*[]int)(v), b, "a whole number or a list of them")
}

// MarshalJSON writes one number bare.
func (v Ints) MarshalJSON() ([]byte, error) { return bare(v) }

// Values is one number or several, as torchvision takes them: degrees 15 for [-15, 15], brightness 0.4 for
// [0.6, 1.4], or [least, most]. In JSON, one number stands bare.
type Values []float64

// UnmarshalJSON takes a number or a list of them.
func (v *Values) UnmarshalJSON(b []byte) error {
	return oneOrMany((*[]float64)(v), b, "a number or a list of them")
}

// MarshalJSON writes one number bare.
func (v Values) MarshalJSON() ([]byte, error) { return bare(v) }

func oneOrMany[T int | float64](v *[]T, b []byte, wanted string) error {
	var one T
	if json.Unmarshal(b, &one) == nil {
		*v = []T{one}
		return nil
	}
	var many []T
	if err := json.Unmarshal(b, &many); err != nil || len(many) == 0 {
		return fmt.Errorf("%s where %s is wanted", b, wanted)
	}
	*v = many
	return nil
}

func bare[T int | float64](v []T) ([]byte, error) {
	if len(v) == 1 {
		return json.Marshal(v[0])
	}
	return json.Marshal([]T(v))
}

// span is the interval that the setting means around a centre: x stands for [centre-x,
// centre+x]. Off is a nil setting.
func (v Values) span(centre float64) (lo, hi float64) {
	switch len(v) {
	case 0:
		return centre, centre
	case 1:
		return centre - v[0], centre + v[0]
	}
	return v[0], v[1]
}

// checkSpan allows nil, one number that is not negative, or two in order, in [least, most].
func (v Values) checkSpan(name string, centre, least, most float64) error {
	if len(v) > 2 || len(v) == 1 && !(v[0] >= 0) {
		return fmt.Errorf("%s %v: one number that is not negative, or [least, most], is wanted",
			name, []float64(v))
	}
	lo, hi := v.span(centre)
	if len(v) == 1 {
		lo = max(lo, least)
	}
	if !(least <= lo && lo <= hi && hi <= most) || math.IsInf(hi-lo, 0) {
		return fmt.Errorf("%s %v: not in order, or not within [%g, %g]", name, []float64(v), least, most)
	}
	return nil
}

// checkPair allows nil or two numbers in order, both in [least, most].
func (v Values) checkPair(name string, least, most float64) error {
	if v == nil {
		return nil
	}
	if len(v) != 2 || !(least <= v[0] && v[0] <= v[1] && v[1] <= most) || math.IsInf(v[1], 0) {
		return fmt.Errorf("%s %v: [least, most] within [%g, %g] is wanted", name, []float64(v), least, most)
	}
	return nil
}

// or is the setting, or what stands for it when it is not given.
func (v Values) or(lo, hi float64) (float64, float64) {
	if len(v) != 2 {
		return lo, hi
	}
	return v[0], v[1]
}

// pair is a size, one number standing for a square.
func (v Ints) pair() (h, w int) {
	if len(v) == 1 {
		return v[0], v[0]
	}
	return v[0], v[1]
}

func (v Ints) checkSize(name string) error {
	ok := len(v) == 1 || len(v) == 2
	for _, n := range v {
		ok = ok && n > 0 && n <= maxSide
	}
	if !ok {
		return fmt.Errorf("%s %v: one number or [height, width], from 1 to %d, is wanted", name,
			[]int(v), maxSide)
	}
	return nil
}

// sides are the four of a padding.
func (v Ints) sides() (left, top, right, bottom int) {
	switch len(v) {
	case 1:
		return v[0], v[0], v[0], v[0]
	case 2:
		return v[0], v[1], v[0], v[1]
	case 4:
		return v[0], v[1], v[2], v[3]
	}
	return 0, 0, 0, 0
}

func (v Ints) checkPadding() error {
	ok := len(v) < 3 || len(v) == 4
	for _, n := range v {
		ok = ok && n >= 0 && n <= maxSide
	}
	if !ok {
		return fmt.Errorf("padding %v: one, two or four numbers from 0 to %d are wanted", []int(v), maxSide)
	}
	return nil
}

// level is what fills channel c: the first of one, black of none.
func (v Ints) level(c int) uint8 {
	switch {
	case len(v) == 0:
		return 0
	case len(v) == 1:
		return uint8(v[0])
	}
	return uint8(v[c])
}

func (v Ints) checkLevels(name string) error {
	ok := len(v) < 2 || len(v) == 3
	for _, n := range v {
		ok = ok && n >= 0 && n <= 255
	}
	if !ok {
		return fmt.Errorf("%s %v: one level or one for each channel, from 0 to 255, is wanted",
			name, []int(v))
	}
	return nil
}

// checkChannels is for the moment the image is there.
func (v Ints) checkChannels(name string, c int) error {
	if len(v) > 1 && len(v) != c {
		return fmt.Errorf("%s %v for an image of %d channels", name, []int(v), c)
	}
	return nil
}

func checkP(p float64) error {
	if !(p >= 0 && p <= 1) {
		return fmt.Errorf("p %v: a probability from 0 to 1 is wanted", p)
	}
	return nil
}

func checkMaskFill(v int) error {
	if v < 0 || v > 255 {
		return fmt.Errorf("mask_fill %d: a class from 0 to 255 is wanted", v)
	}
	return nil
}

func checkWord[T ~string](name string, v T, known ...T) error {
	words := make([]string, len(known))
	for i, k := range known {
		if v == k {
			return nil
		}
		words[i] = string(k)
	}
	if v == "" {
		return nil
	}
	return fmt.Errorf("%s %q: %s are known", name, string(v), strings.Join(words, ", "))
}

func outOfRange(name string, v, least, most any) error {
	return fmt.Errorf("%s %v: from %v to %v is wanted", name, v, least, most)
}
