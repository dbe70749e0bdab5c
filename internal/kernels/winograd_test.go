package kernels

import (
	"math/rand/v2"
	"testing"
)

var winogradCases = []convCase{
	square(2, 16, 8, 16, 3, 1, 1),
	square(1, 33, 7, 17, 3, 1, 1),
	square(3, 16, 10, 32, 3, 1, 0),
	square(1, 16, 3, 16, 3, 1, 1),
	square(2, 20, 5, 100, 3, 1, 2), // several groups of output blocks
	square(1, 130, 4, 40, 3, 1, 1),
	square(1, 128, 6, 16, 3, 1, 1), // rows of V a power of two apart
	square(4, 16, 29, 16, 3, 1, 1), // several chunks
	square(1, 16, 48, 32, 3, 1, 1),
	{1, 16, 9, 14, 16, 3, 3, 1, 1, 0, 2, 1, 0, 1, 1, 0, false, false}, // pads differ
	{2, 17, 11, 6, 18, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 3, false, false}, // more halo than needed
	square(1, 3, 6, 5, 3, 1, 1),
}

// winogradTolerance is relative to the sum of magnitudes, as tolerance: the transforms multiply and cancel, which costs
// about a digit at the worst pixel.
const winogradTolerance = 4e-5

func TestWinograd(t *testing.T) {
	levels(t, func(t *testing.T) {
		for _, c := range winogradCases {
			t.Run(c.String(), func(t *testing.T) { checkWinograd(t, c, rand.New(rand.NewPCG(1, 2))) })
		}
	})
}

func checkWinograd(t *testing.T, c convCase, r *rand.Rand) {
	s, _ := c.spec()
	k, err := NewConv(s)
	if err != nil {
		t.Fatal(err)
	}
	x, w, dy := random(r, c.n*c.c*c.h*c.w), random(r, c.o*c.c*9), random(r, c.n*c.o*s.Y.H*s.Y.W)
	y, dx, dw := c.naive(s, x, w, dy)
	scale := func(m []float64) { // to the tolerance of this test
		for i := range m {
			m[i] *= winogradTolerance / tolerance
		}
	}
	scale(y.m)
	scale(dx.m)
	scale(dw.m)
	packed := AlignedSlice(k.WeightSize())
	k.Pack(packed, w)
	flipped := AlignedSlice(k.FlipSize())
	for i := range k.FlipChunks() {
		k.Flip(i, flipped, packed)
	}
	bx, bdy := toBlocked(s.X, x), toBlocked(s.DY, dy)
	plan := planWinograd(k)
	run := func(p *WinogradPass, name string, l Layout, from, weights []float32, want wide, e Epilogue) []float32 {
		scratch, u, out := guard(p.Scratch()), guard(p.WeightSize()), guard(l.Size())
		spill := AlignedSlice(p.TransformScratch())
		for i := range p.TransformChunks() {
			p.Transform(i, spill, u.s, weights)
		}
		for i := range p.Chunks() {
			for j := range scratch.s {
				scratch.s[j] = nan // what other chunks left must not matter
			}
			p.Run(i, scratch.s, out.s, from, u.s, e)
		}
		scratch.intact(t, name+" scratch")
		u.intact(t, name+" weights")
		out.intact(t, name)
		zeroElsewhere(t, name, l, out.s)
		same(t, name, toPlain(l, out.s), want.v, want.m)
		return out.s
	}
	run(plan.Forward, "y", s.Y, bx, packed, y, Epilogue{})
	run(plan.Data, "dx", s.DX, bdy, flipped, dx, Epilogue{})

	bias, res := AlignedSlice(s.Y.Blocks()*Block), random(r, len(dy))
	copy(bias, random(r, c.o))
	for i := range y.v {
		y.v[i] = max(0, y.v[i]+float64(bias[i/(s.Y.H*s.Y.W)%c.o])+float64(res[i]))
	}
	run(plan.Forward, "y with epilogue", s.Y, bx, packed, y, Epilogue{Bias: bias, Residual: toBlocked(s.Y, res), ReLU: true})

	records := AlignedSlice(plan.Forward.Moments().Size())
	plain := toPlain(s.Y, run(plan.Forward, "y with moments", s.Y, bx, packed, y, Epilogue{Bias: bias, Residual: toBlocked(s.Y, res), ReLU: true, Moments: records}))
	checkMoments(t, plan.Forward.Moments(), records, s.Y, plain)

	mask := random(r, len(x))
	for i := range dx.v {
		if !(mask[i] > 0) {
			dx.v[i] = 0
		}
	}
	run(plan.Data, "dx with mask", s.DX, bdy, flipped, dx, Epilogue{Mask: toBlocked(s.DX, mask)})

	g := plan.Weights
	sums, scratch, packedGrad := guard(g.Sums()), guard(g.Scratch()), guard(k.WeightSize())
	for i := range g.Chunks() {
		for j := range scratch.s {
			scratch.s[j] = nan
		}
		g.Run(i, scratch.s, sums.s, bx, bdy)
	}
	for i := range g.ReduceChunks() {
		g.Reduce(i, packedGrad.s, sums.s)
	}
	sums.intact(t, "sums")
	scratch.intact(t, "scratch")
	packedGrad.intact(t, "dw")
	grad := make([]float32, len(w))
	k.Unpack(grad, packedGrad.s)
	same(t, "dw", grad, dw.v, dw.m)
}
