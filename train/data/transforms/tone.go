package transforms

import "math/rand/v2"

// table maps the levels of a channel.
type table [256]uint8

// point maps every pixel; tables holds one table, or one for each channel.
func point(dst, src Image, tables []table) {
	for c := range src.C {
		t := &tables[min(c, len(tables)-1)]
		out := dst.plane(c)
		for i, p := range src.plane(c) {
			out[i] = t[p]
		}
	}
}

func tabulate(f func(level int) uint8) []table {
	var t [1]table
	for i := range t[0] {
		t[0][i] = f(i)
	}
	return t[:]
}

func invert(dst, src Image) {
	point(dst, src, tabulate(func(i int) uint8 { return uint8(255 - i) }))
}

// posterize keeps the upper bits.
func posterize(dst, src Image, bits int) {
	point(dst, src, tabulate(func(i int) uint8 { return uint8(i &^ (1<<(8-bits) - 1)) }))
}

// solarize inverts what is not below the threshold.
func solarize(dst, src Image, threshold float64) {
	point(dst, src, tabulate(func(i int) uint8 {
		if float64(i) < threshold {
			return uint8(i)
		}
		return uint8(255 - i)
	}))
}

// histogram counts the levels of a plane.
func histogram(plane []uint8) (h [256]int) {
	for _, p := range plane {
		h[p]++
	}
	return h
}

// stretch spreads the levels of each channel from 0 to 255 (PIL's autocontrast).
func stretch(dst, src Image) {
	tables := make([]table, src.C)
	for c := range tables {
		h := histogram(src.plane(c))
		lo, hi := 0, 255
		for h[lo] == 0 {
			lo++
		}
		for h[hi] == 0 {
			hi--
		}
		for i := range tables[c] {
			tables[c][i] = uint8(i)
			if hi > lo {
				scale := 255 / float64(hi-lo)
				tables[c][i] = uint8(min(max(float64(float64(i)*scale)+float64(-float64(lo)*scale), 0), 255))
			}
		}
	}
	point(dst, src, tables)
}

// equalize makes each channel's histogram flat.
func equalize(dst, src Image) {
	tables := make([]table, src.C)
	for c := range tables {
		h := histogram(src.plane(c))
		last, sum, kinds := 0, 0, 0
		for _, n := range h {
			if n > 0 {
				last, sum, kinds = n, sum+n, kinds+1
			}
		}
		step := (sum - last) / 255
		n := step / 2
		for i := range tables[c] {
			if kinds < 2 || step == 0 {
				tables[c][i] = uint8(i)
				continue
			}
			tables[c][i] = uint8(min(n/step, 255))
			n += h[i]
		}
	}
	point(dst, src, tables)
}

// recolor puts in the place of the image one of its size.
func (s *Sample) recolor(f func(dst, src Image)) { s.change(s.Image.C, s.Image.H, s.Image.W, f) }

// maybe is Apply of the transforms that do one thing with a probability.
func maybe(t checker, p float64, s *Sample, r *rand.Rand, f func(dst, src Image)) error {
	if err := ready(t, s); err != nil {
		return err
	}
	if r.Float64() < p {
		s.recolor(f)
	}
	return nil
}

// RandomInvert makes the negative with probability P (0.5 in JSON, if not given).
type RandomInvert struct {
	P float64 `json:"p"`
}

func (t RandomInvert) check() error { return checkP(t.P) }

// Apply inverts, or not.
func (t RandomInvert) Apply(s *Sample, r *rand.Rand) error { return maybe(t, t.P, s, r, invert) }

// RandomPosterize keeps the upper Bits of each pixel with probability P (0.5 in JSON, if not given).
type RandomPosterize struct {
	Bits int     `json:"bits"` // 1 to 8
	P    float64 `json:"p"`
}

func (t RandomPosterize) check() error {
	if t.Bits < 1 || t.Bits > 8 {
		return outOfRange("bits", t.Bits, 1, 8)
	}
	return checkP(t.P)
}

// Apply posterizes, or not.
func (t RandomPosterize) Apply(s *Sample, r *rand.Rand) error {
	return maybe(t, t.P, s, r, func(dst, src Image) { posterize(dst, src, t.Bits) })
}

// RandomSolarize inverts the pixels that are not below Threshold with probability P
// (0.5 in JSON, if not given).
type RandomSolarize struct {
	Threshold float64 `json:"threshold"` // 0 to 256
	P         float64 `json:"p"`
}

func (t RandomSolarize) check() error {
	if !(t.Threshold >= 0 && t.Threshold <= 256) {
		return outOfRange("threshold", t.Threshold, 0, 256)
	}
	return checkP(t.P)
}

// Apply solarizes, or not.
func (t RandomSolarize) Apply(s *Sample, r *rand.Rand) error {
	return maybe(t, t.P, s, r, func(dst, src Image) { solarize(dst, src, t.Threshold) })
}

// RandomAutocontrast stretches each channel from 0 to 255 with probability P (0.5 in JSON, if not
// given).
type RandomAutocontrast struct {
	P float64 `json:"p"`
}

func (t RandomAutocontrast) check() error { return checkP(t.P) }

// Apply stretches, or not.
func (t RandomAutocontrast) Apply(s *Sample, r *rand.Rand) error {
	return maybe(t, t.P, s, r, stretch)
}

// RandomEqualize flattens each channel's histogram with probability P (0.5 in JSON, if not given).
type RandomEqualize struct {
	P float64 `json:"p"`
}

func (t RandomEqualize) check() error { return checkP(t.P) }

// Apply equalizes, or not.
func (t RandomEqualize) Apply(s *Sample, r *rand.Rand) error { return maybe(t, t.P, s, r, equalize) }
