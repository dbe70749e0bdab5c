package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// rowConv is the convolution of a row x of w pixels of c channels with weights [o,c,1,v.KW],
// pixels outside being zero.
func rowConv(x []float32, c, w int, weights func(o, c, kw int) float32, o, ow int, v Window) []float32 {
	y := make([]float32, ow*o)
	for i := range y {
		for k := range v.KW * c {
			if at := i/o*v.StrideW + k/c - v.PadLeft; at >= 0 && at < w {
				y[i] += x[at*c+k%c] * weights(i%o, k%c, k/c)
			}
		}
	}
	return y
}

// The convolution of folded rows with expanded weights is that of the rows, and Sum
// is the transpose of Expand.
func TestFoldedWeights(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 1))
	const o, c, w = 3, 2, 12
	for i := range 60 {
		v := Window{KH: 1, KW: 1 + r.IntN(5), StrideH: 1, StrideW: 1 + i%3, DilH: 1, DilW: 1}
		v.PadLeft = r.IntN(v.KW)
		f := Fold{1 + r.IntN(3), 1 + r.IntN(3)}
		to, ok := FoldWindow(v, f)
		if ok != (v.StrideW*f.Y%f.X == 0) {
			t.Fatalf("%+v folded by %+v: %t", v, f, ok)
		}
		if !ok {
			continue
		}
		t.Run(fmt.Sprintf("%+v %+v", v, f), func(t *testing.T) {
			ow := (w + v.PadLeft - v.KW) / v.StrideW / f.Y * f.Y // the rest is padding on the right
			taps := NewTapWeights(f.Y*o, f.X*c, 1, to.KW)
			fold, err := NewFoldedWeights(o, c, v, f, taps)
			if err != nil {
				t.Fatal(err)
			}
			x, weights := random(r, w*c), random(r, o*c*v.KW)
			wide := guard(taps.WeightSize())
			fold.Expand(wide.s, weights)
			want := rowConv(x, c, w, func(o, ch, kw int) float32 { return weights[(o*c+ch)*v.KW+kw] }, o,
				ow, v)
			got := rowConv(x, c*f.X, w/f.X, func(o, ch, kw int) float32 {
				return wide.s[taps.at(o, ch, 0, kw)]
			}, o*f.Y, ow/f.Y, to)
			for i, y := range want {
				if d := math.Abs(float64(got[i] - y)); !(d < 1e-5) {
					t.Fatalf("at %d %g, not folded %g", i, got[i], y)
				}
			}
			gradient, sums := random(r, taps.WeightSize()), guard(len(weights))
			fold.Sum(sums.s, gradient)
			var a, b float64
			for i, g := range gradient {
				a += float64(g * wide.s[i])
			}
			for i, s := range sums.s {
				b += float64(s * weights[i])
			}
			if !(math.Abs(a-b) < 1e-4) {
				t.Fatalf("%g by expanded weights, %g by summed gradients", a, b)
			}
		})
	}
}

// Sums of channels by assembly are those of the twins, bit by bit, for any mask and rows with a gap.
func TestAreaSumsBF16(t *testing.T) {
	r := rand.New(rand.NewPCG(32, 1))
	for i := range 30 {
		a := lineArea{1 + r.IntN(80), 1 + r.IntN(4), r.IntN(5)}
		n := a.extent()
		x, dy, m := AlignedBF16(n), AlignedBF16(n), AlignedBF16(n)
		for _, s := range [][]uint16{x, dy, m} {
			ToBF16(s, random(r, n))
		}
		var shift [2][Block]float32
		var coef [2][3 * Block]float32
		for t := range coef {
			copy(coef[t][:], random(r, 3*Block))
			copy(shift[t][:], coef[t][:])
		}
		mask := [](MaskBF16){{}, {Y: m}, {Bias: coef[0][:]}}[i%3]
		var got, want [2]halfSums
		both := func(to *[2]halfSums) {
			sumSquaresBF16(&to[0], x, &shift, a)
			sumProductsBF16(&to[1], dy, x, mask, &coef, a)
		}
		both(&got)
		onTwins(func() { both(&want) })
		if got != want {
			t.Fatalf("%+v, mask %d: the twins have other sums", a, i%3)
		}
	}
}
