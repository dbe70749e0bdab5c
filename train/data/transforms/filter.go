package transforms

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// sharpen blends with the image smoothed by [1 1 1; 1 5 1; 1 1 1] / 13, whose edge is the image's own (PIL's
// SMOOTH). No sum of levels over 13 lies halfway between two, so whole numbers round as PIL's float32 does.
func sharpen(dst, src Image, factor float32) {
	h, w := src.H, src.W
	copy(dst.Pix, src.Pix) // the edge: blended with itself
	for c := range src.C {
		in, out := src.plane(c), dst.plane(c)
		for y := 1; y < h-1; y++ {
			above, row, below := in[(y-1)*w:][:w], in[y*w:][:w], in[(y+1)*w:][:w]
			to := out[y*w:][:w]
			for x := 1; x < w-1; x++ {
				sum := int(above[x-1]) + int(above[x]) + int(above[x+1]) + int(row[x-1]) + 5*int(row[x]) +
					int(row[x+1]) +
					int(below[x-1]) + int(below[x]) + int(below[x+1])
				to[x] = blend(uint8((2*sum+13)/26), row[x], factor)
			}
		}
	}
}

// RandomAdjustSharpness sharpens with probability P (0.5 in JSON, if not given): Factor 0 is
// smooth, 1 the image, 2 sharp.
type RandomAdjustSharpness struct {
	Factor float64 `json:"sharpness_factor"`
	P      float64 `json:"p"`
}

func (t RandomAdjustSharpness) check() error {
	if !(t.Factor >= 0 && t.Factor <= 1e6) {
		return outOfRange("sharpness_factor", t.Factor, 0, 1e6)
	}
	return checkP(t.P)
}

// Apply sharpens, or not.
func (t RandomAdjustSharpness) Apply(s *Sample, r *rand.Rand) error {
	return maybe(t, t.P, s, r, func(dst, src Image) { sharpen(dst, src, float32(t.Factor)) })
}

// GaussianBlur blurs by a kernel of KernelSize (odd; one number or [width, height])
// and a deviation from Sigma.
type GaussianBlur struct {
	KernelSize Ints   `json:"kernel_size"`
	Sigma      Values `json:"sigma,omitempty"` // one number, or [least, most]; [0.1, 2] if not given
}

func (t GaussianBlur) check() error {
	ok := len(t.KernelSize) == 1 || len(t.KernelSize) == 2
	for _, k := range t.KernelSize {
		ok = ok && k > 0 && k%2 == 1 && k < maxSide
	}
	if !ok {
		return fmt.Errorf("kernel_size %v: one odd number or [width, height] is wanted", []int(t.KernelSize))
	}
	lo, hi := t.sigma()
	if len(t.Sigma) > 2 || !(1e-3 <= lo && lo <= hi && hi <= 1e4) {
		return fmt.Errorf("sigma %v: one number or [least, most] from 0.001 to 10000 is wanted",
			[]float64(t.Sigma))
	}
	return nil
}

func (t GaussianBlur) sigma() (lo, hi float64) {
	if len(t.Sigma) == 1 {
		return t.Sigma[0], t.Sigma[0]
	}
	return t.Sigma.or(0.1, 2)
}

// Apply blurs.
func (t GaussianBlur) Apply(s *Sample, r *rand.Rand) error {
	if err := ready(t, s); err != nil {
		return err
	}
	kw, kh := t.KernelSize.pair()
	if kw/2 >= s.Image.W || kh/2 >= s.Image.H {
		return fmt.Errorf("kernel_size [%d %d] reaches past an image of %dx%d", kw, kh, s.Image.H, s.Image.W)
	}
	lo, hi := t.sigma()
	sigma := uniform(r, lo, hi)
	s.recolor(func(dst, src Image) { blur(dst, src, gaussian(kw, sigma), gaussian(kh, sigma)) })
	return nil
}

func gaussian(n int, sigma float64) []float32 {
	k := make([]float32, n)
	var sum float32
	for i := range k {
		x := (float64(i) - float64(n-1)/2) / sigma
		k[i] = float32(math.Exp(-0.5 * x * x))
		sum += k[i]
	}
	for i := range k {
		k[i] /= sum
	}
	return k
}

// blur filters the rows by kx, then the columns by ky, mirrored at the edge, and rounds half to even.
func blur(dst, src Image, kx, ky []float32) {
	h, w, rx, ry := src.H, src.W, len(kx)/2, len(ky)/2
	mid := make([]float32, h*w)
	line := make([]float32, w+2*rx)
	sums := make([]float32, w)
	for c := range src.C {
		in, out := src.plane(c), dst.plane(c)
		for y := range h {
			for x := range line {
				line[x] = float32(in[y*w+Reflect.outside(x-rx, w)])
			}
			row := mid[y*w:][:w]
			clear(row)
			for i, k := range kx {
				for x, v := range line[i:][:w] {
					row[x] += float32(k * v)
				}
			}
		}
		for y := range h {
			clear(sums)
			for i, k := range ky {
				for x, v := range mid[Reflect.outside(y+i-ry, h)*w:][:w] {
					sums[x] += float32(k * v)
				}
			}
			for x, v := range sums {
				out[y*w+x] = uint8(min(max(math.RoundToEven(float64(v)), 0), 255))
			}
		}
	}
}
