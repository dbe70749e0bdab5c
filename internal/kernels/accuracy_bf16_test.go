package kernels

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestBF16Stack runs eight residual 3x3 convolutions with random weights of He's variance in float32 and
// in bf16, and bounds what bf16 costs: the relative L2 error of each map. Rounding a map costs 1.7e-3 of
// it, rounding weights as much again, and the error grows with the depth. A trained network amplifies
// less than random weights.
func TestBF16Stack(t *testing.T) {
	const depth, channels, size = 8, 64, 14
	r := rand.New(rand.NewPCG(21, 1))
	l := plane(2, channels, size, size, 1)
	float, err := NewConv(ConvSpec{X: l, Y: l, KH: 3, KW: 3, StrideH: 1, StrideW: 1, PadTop: 1, PadLeft: 1,
		DilH: 1, DilW: 1})
	if err != nil {
		t.Fatal(err)
	}
	half, err := NewConvBF16(float.ConvSpec.bf16(l, l))
	if err != nil {
		t.Fatal(err)
	}
	x := toBlocked(l, random(r, l.N*channels*size*size))
	hx := toLines(half.in, toPlain(l, x))
	w, packed := AlignedSlice(float.WeightSize()), AlignedBF16(half.WeightSize())
	scratch := AlignedSlice(half.Scratch())
	for layer := range depth {
		weights := random(r, channels*channels*9)
		for i := range weights {
			weights[i] *= float32(math.Sqrt(2.0 / (channels * 9)))
		}
		float.Pack(w, weights)
		half.Pack(packed, weights)
		y, hy := AlignedSlice(l.Size()), AlignedBF16(half.out.Size())
		for i := range float.ForwardChunks() {
			float.Forward(i, y, x, w, Epilogue{Residual: x, ReLU: true})
		}
		for i := range half.Chunks() {
			half.Run(i, scratch, hy, hx, packed, EpilogueBF16{Residual: hx, ReLU: true})
		}
		x, hx = y, hy
		e := relativeError(fromLines(half.out, hy), toPlain(l, y))
		t.Logf("layer %d: relative L2 error %.2e", layer+1, e)
		if limit := 2.5e-3 * math.Sqrt(float64(layer+2)); e > limit || e < 1e-4 {
			t.Errorf("layer %d: relative L2 error %.2e, want at most %.2e", layer+1, e, limit)
		}
	}
}

// relativeError is the L2 norm of the difference over that of want.
func relativeError(got, want []float32) float64 {
	var difference, norm float64
	for i, v := range want {
		d := float64(got[i]) - float64(v)
		difference, norm = difference+d*d, norm+float64(v)*float64(v)
	}
	return math.Sqrt(difference / norm)
}
