package transforms

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
)

// Value is what RandomErasing leaves: Levels (one, or one for each channel; none for black), or noise.
type Value struct {
	Levels Ints
	Random bool // every pixel of every channel a level from 0 to 255, all alike probable
}

// UnmarshalJSON takes a level, a list of levels, or "random".
func (v *Value) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte(`"random"`)) {
		*v = Value{Random: true}
		return nil
	}
	v.Random = false
	if err := v.Levels.UnmarshalJSON(b); err != nil {
		return fmt.Errorf(`%s where a level, a list of levels or "random" is wanted`, b)
	}
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (v Value) MarshalJSON() ([]byte, error) {
	switch {
	case v.Random:
		return []byte(`"random"`), nil
	case len(v.Levels) == 0:
		return []byte("0"), nil
	}
	return json.Marshal(v.Levels)
}

// RandomErasing erases a rectangle with probability P (0.5 in JSON, if not given): Zhong et al. 2017. It
// works on levels: where torchvision erases normalised values by 0, the Value to give is the data set's mean
// times 255. The mask stays.
type RandomErasing struct {
	P     float64 `json:"p"`
	Scale Values  `json:"scale,omitempty"` // share of the area; [0.02, 0.33] if not given
	Ratio Values  `json:"ratio,omitempty"` // height by width; [0.3, 3.3] if not given
	Value Value   `json:"value,omitzero"`
}

func (t RandomErasing) check() error {
	if err := t.Scale.checkPair("scale", 0, 1); err != nil {
		return err
	}
	if err := t.Ratio.checkPair("ratio", 1e-3, 1e3); err != nil {
		return err
	}
	if err := t.Value.Levels.checkLevels("value"); err != nil {
		return err
	}
	return checkP(t.P)
}

// Apply erases, or not.
func (t RandomErasing) Apply(s *Sample, r *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	if err := t.Value.Levels.checkChannels("value", s.Image.C); err != nil {
		return err
	}
	if r.Float64() >= t.P {
		return nil
	}
	i, j, h, w := t.choose(s.Image.H, s.Image.W, r)
	if h == 0 || w == 0 {
		return nil
	}
	s.recolor(func(dst, src Image) {
		copy(dst.Pix, src.Pix)
		erase(dst, i, j, h, w, t.Value, r)
	})
	return nil
}

// choose tries ten times for a rectangle that is less than the image in both ways.
func (t RandomErasing) choose(height, width int, r *rand.Rand) (i, j, h, w int) {
	least, most := t.Scale.or(0.02, 0.33)
	low, high := t.Ratio.or(0.3, 3.3)
	for range 10 {
		area := float64(height*width) * uniform(r, least, most)
		ratio := math.Exp(uniform(r, math.Log(low), math.Log(high)))
		h = int(math.RoundToEven(math.Sqrt(area * ratio)))
		w = int(math.RoundToEven(math.Sqrt(area / ratio)))
		if h < height && w < width {
			return r.IntN(height - h + 1), r.IntN(width - w + 1), h, w
		}
	}
	return 0, 0, 0, 0
}

func erase(dst Image, i, j, h, w int, v Value, r *rand.Rand) {
	for c := range dst.C {
		plane, level := dst.plane(c), v.Levels.level(c)
		for y := i; y < i+h; y++ {
			row := plane[y*dst.W+j:][:w]
			for x := range row {
				if v.Random {
					level = uint8(r.Uint32() >> 24)
				}
				row[x] = level
			}
		}
	}
}
