package transforms

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// blend is a + factor (b - a) in float32, cut off to a level: PIL's Image.blend. Within [0,
// 1] nothing needs clipping.
func blend(a, b uint8, factor float32) uint8 {
	return uint8(min(max(float32(a)+float32(factor*float32(int(b)-int(a))), 0), 255))
}

// brighten blends with black.
func brighten(dst, src Image, factor float32) {
	point(dst, src, tabulate(func(i int) uint8 { return blend(0, uint8(i), factor) }))
}

// contrast blends with the mean grey.
func contrast(dst, src Image, factor float32) {
	sum, n := 0, src.H*src.W
	if src.C == 1 {
		for _, p := range src.Pix {
			sum += int(p)
		}
	} else {
		r, g, b := src.plane(0), src.plane(1), src.plane(2)
		for i := range r {
			sum += int(luma(r[i], g[i], b[i]))
		}
	}
	mean := uint8(float64(sum)/float64(n) + 0.5)
	point(dst, src, tabulate(func(i int) uint8 { return blend(mean, uint8(i), factor) }))
}

// saturate blends with the grey image.
func saturate(dst, src Image, factor float32) {
	if src.C == 1 {
		copy(dst.Pix, src.Pix)
		return
	}
	r, g, b := src.plane(0), src.plane(1), src.plane(2)
	or, og, ob := dst.plane(0), dst.plane(1), dst.plane(2)
	for i := range r {
		l := luma(r[i], g[i], b[i])
		or[i], og[i], ob[i] = blend(l, r[i], factor), blend(l, g[i], factor), blend(l, b[i], factor)
	}
}

// luma weighs the channels as ITU-R 601 does, in PIL's fixed point.
func luma(r, g, b uint8) uint8 {
	return uint8((19595*uint32(r) + 38470*uint32(g) + 7471*uint32(b) + 1<<15) >> 16)
}

// turnHue moves the hue by a share of the circle, by way of PIL's 8-bit HSV.
func turnHue(dst, src Image, share float64) {
	if src.C == 1 {
		copy(dst.Pix, src.Pix)
		return
	}
	by := uint8(int(share * 255))
	r, g, b := src.plane(0), src.plane(1), src.plane(2)
	or, og, ob := dst.plane(0), dst.plane(1), dst.plane(2)
	for i := range r {
		h, s, v := toHSV(r[i], g[i], b[i])
		or[i], og[i], ob[i] = fromHSV(h+by, s, v)
	}
}

func toHSV(r, g, b uint8) (h, s, v uint8) {
	most, least := max(r, g, b), min(r, g, b)
	if most == least {
		return 0, 0, most
	}
	chroma := float32(most - least)
	saturation := chroma / float32(most)
	rc, gc, bc := float32(most-r)/chroma, float32(most-g)/chroma, float32(most-b)/chroma
	var hue float32
	switch most {
	case r:
		hue = bc - gc
	case g:
		hue = float32(2 + float64(rc) - float64(bc))
	default:
		hue = float32(4 + float64(gc) - float64(rc))
	}
	turn := float64(hue)/6 + 1
	hue = float32(turn - math.Floor(turn))
	return uint8(min(float64(hue)*255, 255)), uint8(min(float64(saturation)*255, 255)), most
}

func fromHSV(h, s, v uint8) (r, g, b uint8) {
	if s == 0 {
		return v, v, v
	}
	at := float64(h) * 6 / 255
	sixth := math.Floor(at)
	f := float32(at - sixth)
	fs := float32(float64(s) / 255)
	level := func(part float64) uint8 { return uint8(math.Floor(float64(float64(v)*part) + 0.5)) }
	p := level(1 - float64(fs))
	q := level(1 - float64(float32(fs*f)))
	t := level(1 - float64(float64(fs)*(1-float64(f))))
	switch int(sixth) % 6 {
	case 0:
		return v, t, p
	case 1:
		return q, v, p
	case 2:
		return p, v, t
	case 3:
		return p, q, v
	case 4:
		return t, p, v
	}
	return v, p, q
}

// ColorJitter changes brightness, contrast and saturation by factors (0.4 for one in [0.6, 1.4], or
// [least, most]) and the hue by a share of the circle (0.1 for one in [-0.1, 0.1], or [least, most], from
// -0.5 to 0.5), in random order.
type ColorJitter struct {
	Brightness Values `json:"brightness,omitempty"`
	Contrast   Values `json:"contrast,omitempty"`
	Saturation Values `json:"saturation,omitempty"`
	Hue        Values `json:"hue,omitempty"`
}

func (t ColorJitter) check() error {
	if err := t.Brightness.checkSpan("brightness", 1, 0, 1e6); err != nil {
		return err
	}
	if err := t.Contrast.checkSpan("contrast", 1, 0, 1e6); err != nil {
		return err
	}
	if err := t.Saturation.checkSpan("saturation", 1, 0, 1e6); err != nil {
		return err
	}
	if len(t.Hue) == 1 && t.Hue[0] > 0.5 {
		return fmt.Errorf("hue %v: at most 0.5 is wanted", t.Hue[0])
	}
	return t.Hue.checkSpan("hue", 0, -0.5, 0.5)
}

// Apply changes the colours.
func (t ColorJitter) Apply(s *Sample, r *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	order := [4]int{0, 1, 2, 3}
	r.Shuffle(4, func(i, j int) { order[i], order[j] = order[j], order[i] })
	settings := [4]Values{t.Brightness, t.Contrast, t.Saturation, t.Hue}
	var drawn [4]float64
	for i, v := range settings {
		if len(v) == 0 {
			continue
		}
		lo, hi := v.span(1)
		if i == 3 {
			lo, hi = v.span(0)
		} else {
			lo = max(lo, 0)
		}
		drawn[i] = uniform(r, lo, hi)
	}
	for _, i := range order {
		if len(settings[i]) == 0 {
			continue
		}
		s.recolor(func(dst, src Image) {
			switch i {
			case 0:
				brighten(dst, src, float32(drawn[i]))
			case 1:
				contrast(dst, src, float32(drawn[i]))
			case 2:
				saturate(dst, src, float32(drawn[i]))
			case 3:
				turnHue(dst, src, drawn[i])
			}
		})
	}
	return nil
}

// Grayscale leaves one grey channel, or with Channels 3 three alike.
type Grayscale struct {
	Channels int `json:"num_output_channels,omitempty"` // 1 if not given
}

func (t Grayscale) check() error {
	if t.Channels != 0 && t.Channels != 1 && t.Channels != 3 {
		return fmt.Errorf("num_output_channels %d: 1 or 3 is wanted", t.Channels)
	}
	return nil
}

// Apply takes the colours away.
func (t Grayscale) Apply(s *Sample, _ *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	s.change(max(t.Channels, 1), s.Image.H, s.Image.W, grey)
	return nil
}

func grey(dst, src Image) {
	out := dst.plane(0)
	if src.C == 1 {
		copy(out, src.Pix)
	} else {
		r, g, b := src.plane(0), src.plane(1), src.plane(2)
		for i := range out {
			out[i] = luma(r[i], g[i], b[i])
		}
	}
	for c := 1; c < dst.C; c++ {
		copy(dst.plane(c), out)
	}
}

// RandomGrayscale takes the colours away with probability P (0.1 in JSON, if not given);
// the channels stay as many.
type RandomGrayscale struct {
	P float64 `json:"p"`
}

func (t RandomGrayscale) check() error { return checkP(t.P) }

// Apply takes the colours away, or not.
func (t RandomGrayscale) Apply(s *Sample, r *rand.Rand) error { return maybe(t, t.P, s, r, grey) }
