package transforms

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// operation is one of the fourteen that the automatic policies draw from; what it does is said by apply.
type operation string

const (
	identity     operation = "Identity"
	shearX       operation = "ShearX"
	shearY       operation = "ShearY"
	translateX   operation = "TranslateX"
	translateY   operation = "TranslateY"
	rotate       operation = "Rotate"
	brightness   operation = "Brightness"
	colour       operation = "Color"
	contrasting  operation = "Contrast"
	sharpness    operation = "Sharpness"
	posterizing  operation = "Posterize"
	solarizing   operation = "Solarize"
	autoContrast operation = "AutoContrast"
	equalizing   operation = "Equalize"
	inverting    operation = "Invert"
)

// look is how the geometric operations fill and interpolate.
type look struct {
	by       Interpolation
	fill     Ints
	maskFill int
}

func (l look) check() error {
	return RandomAffine{Degrees: Values{0}, Interpolation: l.by, Fill: l.fill, MaskFill: l.maskFill}.check()
}

// apply is torchvision's autoaugment._apply_op.
func (op operation) apply(s *Sample, magnitude float64, l look) error {
	h, w := s.Image.H, s.Image.W
	affine := func(tx, ty, shearX, shearY, cx, cy float64) {
		s.affine(h, w, affineMatrix(0, tx, ty, 1, shearX, shearY, cx, cy), l.by, l.fill, l.maskFill)
	}
	degrees := math.Atan(magnitude) * (180 / math.Pi)
	factor := float32(1 + magnitude)
	switch op {
	case identity:
	case shearX:
		affine(0, 0, degrees, 0, 0, 0)
	case shearY:
		affine(0, 0, 0, degrees, 0, 0)
	case translateX:
		affine(math.Trunc(magnitude), 0, 0, 0, float64(w)*0.5, float64(h)*0.5)
	case translateY:
		affine(0, math.Trunc(magnitude), 0, 0, float64(w)*0.5, float64(h)*0.5)
	case rotate:
		return s.rotate(magnitude, l.by, false, nil, l.fill, l.maskFill)
	case brightness:
		s.recolor(func(dst, src Image) { brighten(dst, src, factor) })
	case colour:
		s.recolor(func(dst, src Image) { saturate(dst, src, factor) })
	case contrasting:
		s.recolor(func(dst, src Image) { contrast(dst, src, factor) })
	case sharpness:
		s.recolor(func(dst, src Image) { sharpen(dst, src, factor) })
	case posterizing:
		s.recolor(func(dst, src Image) { posterize(dst, src, int(magnitude)) })
	case solarizing:
		s.recolor(func(dst, src Image) { solarize(dst, src, magnitude) })
	case autoContrast:
		s.recolor(stretch)
	case equalizing:
		s.recolor(equalize)
	case inverting:
		s.recolor(invert)
	default:
		return fmt.Errorf("no operation %q", string(op))
	}
	return nil
}

// scales are how strong each operation is at the last of its steps. Those not named have no strength.
type scales map[operation]float64

// signed tells the operations that go both ways.
func (op operation) signed() bool {
	switch op {
	case shearX, shearY, translateX, translateY, rotate, brightness, colour, contrasting, sharpness:
		return true
	}
	return false
}

// magnitude is the strength at step of bins (0 ... bins-1). It is computed in float32 from both ends, as
// torch.linspace does.
func (m scales) magnitude(op operation, step, bins int) float64 {
	end, ok := m[op]
	switch {
	case !ok:
		return 0
	case op == posterizing:
		return 8 - math.RoundToEven(float64(float32(step)/float32(float64(bins-1)/end)))
	case op == solarizing:
		return linspace(255, 0, step, bins)
	}
	return linspace(0, end, step, bins)
}

func linspace(from, to float64, i, n int) float64 {
	if n == 1 {
		return float64(float32(from))
	}
	a, b := float32(from), float32(to)
	step := (b - a) / float32(n-1)
	if i < n/2 {
		return float64(a + float32(step*float32(i)))
	}
	return float64(b - float32(step*float32(n-1-i)))
}

// ordinary are the scales of AutoAugment and RandAugment; translations depend on the image.
func ordinary(h, w int) scales {
	return scales{shearX: 0.3, shearY: 0.3, translateX: 150.0 / 331.0 * float64(w),
		translateY: 150.0 / 331.0 * float64(h),
		rotate:     30, brightness: 0.9, colour: 0.9, contrasting: 0.9, sharpness: 0.9, posterizing: 4,
		solarizing: 255}
}

// wide are the scales of TrivialAugmentWide.
var wide = scales{shearX: 0.99, shearY: 0.99, translateX: 32, translateY: 32, rotate: 135, brightness: 0.99,
	colour:      0.99,
	contrasting: 0.99, sharpness: 0.99, posterizing: 6, solarizing: 255}

// drawn are the operations that RandAugment and TrivialAugmentWide draw from, in torchvision's order.
var drawn = []operation{identity, shearX, shearY, translateX, translateY, rotate, brightness, colour,
	contrasting,
	sharpness, posterizing, solarizing, autoContrast, equalizing}

// RandAugment applies NumOps operations, drawn at random, at the strength Magnitude: Cubuk et al. 2019. Masks
// follow the geometric ones.
type RandAugment struct {
	NumOps int `json:"num_ops,omitempty"` // 2 if not given
	// 0 ... NumBins-1; 9 in JSON, if not given
	Magnitude     int           `json:"magnitude"`
	NumBins       int           `json:"num_magnitude_bins,omitempty"` // 31 if not given
	Interpolation Interpolation `json:"interpolation,omitempty"`      // Nearest if not given
	Fill          Ints          `json:"fill,omitempty"`
	MaskFill      int           `json:"mask_fill,omitempty"`
}

func (t RandAugment) settings() (ops, bins int) {
	ops, bins = t.NumOps, t.NumBins
	if ops == 0 {
		ops = 2
	}
	if bins == 0 {
		bins = 31
	}
	return ops, bins
}

func (t RandAugment) check() error {
	ops, bins := t.settings()
	if ops < 0 || ops > 100 {
		return outOfRange("num_ops", ops, 1, 100)
	}
	if bins < 2 || bins > 1000 {
		return outOfRange("num_magnitude_bins", bins, 2, 1000)
	}
	if t.Magnitude < 0 || t.Magnitude >= bins {
		return outOfRange("magnitude", t.Magnitude, 0, bins-1)
	}
	return look{t.Interpolation, t.Fill, t.MaskFill}.check()
}

// Apply augments.
func (t RandAugment) Apply(s *Sample, r *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	if err := t.Fill.checkChannels("fill", s.Image.C); err != nil {
		return err
	}
	ops, bins := t.settings()
	strength := ordinary(s.Image.H, s.Image.W)
	for range ops {
		op := drawn[r.IntN(len(drawn))]
		magnitude := strength.magnitude(op, t.Magnitude, bins)
		if op.signed() && r.IntN(2) == 1 {
			magnitude = -magnitude
		}
		if err := op.apply(s, magnitude, look{t.Interpolation, t.Fill, t.MaskFill}); err != nil {
			return err
		}
	}
	return nil
}

// TrivialAugmentWide applies one operation, drawn at random, at a random strength: Müller and Hutter 2021.
// Masks follow the geometric ones.
type TrivialAugmentWide struct {
	NumBins       int           `json:"num_magnitude_bins,omitempty"` // 31 if not given
	Interpolation Interpolation `json:"interpolation,omitempty"`      // Nearest if not given
	Fill          Ints          `json:"fill,omitempty"`
	MaskFill      int           `json:"mask_fill,omitempty"`
}

func (t TrivialAugmentWide) check() error {
	return RandAugment{NumBins: t.NumBins, Interpolation: t.Interpolation, Fill: t.Fill,
		MaskFill: t.MaskFill}.check()
}

// Apply augments.
func (t TrivialAugmentWide) Apply(s *Sample, r *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	if err := t.Fill.checkChannels("fill", s.Image.C); err != nil {
		return err
	}
	bins := t.NumBins
	if bins == 0 {
		bins = 31
	}
	op := drawn[r.IntN(len(drawn))]
	magnitude := 0.0
	if _, ok := wide[op]; ok {
		magnitude = wide.magnitude(op, r.IntN(bins), bins)
	}
	if op.signed() && r.IntN(2) == 1 {
		magnitude = -magnitude
	}
	return op.apply(s, magnitude, look{t.Interpolation, t.Fill, t.MaskFill})
}

// Policy names what an AutoAugment was searched on.
type Policy string

// The policies of Cubuk et al. 2018.
const (
	ImageNet Policy = "imagenet"
	CIFAR10  Policy = "cifar10"
	SVHN     Policy = "svhn"
)

// AutoAugment applies one of 25 pairs of operations, each with its own probability and strength: Cubuk et al.
// 2018. Masks follow the geometric ones.
type AutoAugment struct {
	Policy        Policy        `json:"policy,omitempty"`        // ImageNet if not given
	Interpolation Interpolation `json:"interpolation,omitempty"` // Nearest if not given
	Fill          Ints          `json:"fill,omitempty"`
	MaskFill      int           `json:"mask_fill,omitempty"`
}

func (t AutoAugment) check() error {
	if err := checkWord("policy", t.Policy, ImageNet, CIFAR10, SVHN); err != nil {
		return err
	}
	return look{t.Interpolation, t.Fill, t.MaskFill}.check()
}

// Apply augments.
func (t AutoAugment) Apply(s *Sample, r *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	if err := t.Fill.checkChannels("fill", s.Image.C); err != nil {
		return err
	}
	policy := policies[t.Policy]
	if t.Policy == "" {
		policy = policies[ImageNet]
	}
	strength := ordinary(s.Image.H, s.Image.W)
	pair := policy[r.IntN(len(policy))]
	probabilities := [2]float64{r.Float64(), r.Float64()}
	signs := [2]int{r.IntN(2), r.IntN(2)}
	for i, do := range pair {
		if probabilities[i] > do.p {
			continue
		}
		magnitude := strength.magnitude(do.op, do.step, 10)
		if do.op.signed() && signs[i] == 0 {
			magnitude = -magnitude
		}
		if err := do.op.apply(s, magnitude, look{t.Interpolation, t.Fill, t.MaskFill}); err != nil {
			return err
		}
	}
	return nil
}

// deed is an operation of a policy: how probable, and how strong (of ten steps; not used
// by those without strength).
type deed struct {
	op   operation
	p    float64
	step int
}
