package kernels

import (
	"math"
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
	{1, 16, 3, 9, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 0, false, false}, // lower than a tile
	{1, 16, 9, 2, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, false, false}, // narrower

	// Along rows.
	square(2, 16, 8, 16, 5, 1, 2),
	square(1, 33, 7, 17, 5, 1, 2),
	square(10, 8, 8, 16, 5, 1, 0), // a last chunk of fewer images
	square(1, 20, 5, 100, 5, 1, 4),
	square(1, 128, 9, 20, 5, 1, 2),                                     // tiles of V a power of two apart
	{1, 128, 24, 20, 4, 5, 5, 1, 1, 2, 2, 2, 2, 1, 1, 0, false, false}, // rows in parts
	{1, 17, 11, 14, 18, 5, 5, 1, 1, 1, 0, 3, 4, 1, 1, 3, false, false}, // pads differ
	{2, 6, 9, 7, 5, 3, 5, 1, 1, 1, 2, 1, 2, 1, 1, 0, false, false},     // 3x5
	{12, 6, 14, 14, 16, 5, 5, 1, 1, 0, 0, 0, 0, 1, 1, 0, false, true},  // 8 lanes in
	{3, 6, 12, 13, 7, 5, 5, 1, 1, 2, 2, 2, 2, 1, 1, 1, false, true},    // 8 lanes in and out
	{2, 1, 28, 28, 6, 5, 5, 1, 1, 2, 2, 2, 2, 1, 1, 0, true, true},     // 1 lane in
	{3, 3, 17, 15, 16, 5, 5, 1, 1, 2, 2, 2, 2, 1, 1, 1, true, false},   // 3 lanes in
	{1, 4, 8, 9, 8, 5, 5, 1, 1, 0, 0, 0, 0, 1, 1, 0, true, true},       // 4 lanes in
}

// winogradTolerance is relative to the sum of magnitudes, as tolerance: the transforms multiply and cancel,
// which costs about a digit at the worst pixel.
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
	x, w, dy := random(r, c.n*c.c*c.h*c.w), random(r, c.o*c.c*c.kh*c.kw), random(r, c.n*c.o*s.Y.H*s.Y.W)
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
	bx, bdy := toBlocked(s.X, x), toBlocked(s.DY, dy)
	plan := planWinograd(k)
	run := func(p WinogradPass, name string, l Layout, from []float32, want wide, e Epilogue) []float32 {
		scratch, u, out := guard(p.Scratch()), guard(p.WeightSize()), guard(l.Size())
		own := guard(p.TransformScratch())
		for i := range p.TransformChunks() {
			p.Transform(i, own.s, u.s, packed)
		}
		own.intact(t, name+" scratch for the weights")
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
	run(plan.Forward, "y", s.Y, bx, y, Epilogue{})
	if plan.Data != nil {
		run(plan.Data, "dx", s.DX, bdy, dx, Epilogue{})
	} else if !c.small {
		t.Fatal("no backward-data")
	}

	bias, res := AlignedSlice(s.Y.Blocks()*Block), random(r, len(dy))
	copy(bias, random(r, c.o))
	for i := range y.v {
		y.v[i] = max(0, y.v[i]+float64(bias[i/(s.Y.H*s.Y.W)%c.o])+float64(res[i]))
	}
	run(plan.Forward, "y with epilogue", s.Y, bx, y, Epilogue{Bias: bias, Residual: toBlocked(s.Y, res),
		ReLU: true})

	if !s.Y.narrow() {
		records := AlignedSlice(plan.Forward.Moments().Size())
		plain := toPlain(s.Y, run(plan.Forward, "y with moments", s.Y, bx, y,
			Epilogue{Bias: bias, Residual: toBlocked(s.Y, res), ReLU: true, Moments: records}))
		checkMoments(t, plan.Forward.Moments(), records, s.Y, plain)
	}

	if plan.Data != nil {
		mask := random(r, len(x))
		for i := range dx.v {
			if !(mask[i] > 0) {
				dx.v[i] = 0
			}
		}
		run(plan.Data, "dx with mask", s.DX, bdy, dx, Epilogue{Mask: toBlocked(s.DX, mask)})
	}

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

// The transforms along rows and their twins agree, and write nothing outside their slices.
func TestRowTransforms(t *testing.T) {
	kernels := []struct {
		name      string
		asm, twin func(*winogradTile)
		reads     int // pixels of a tile
		lanes     []int
		back      bool // positions are read
	}{
		{"input", rowInput, rowInputGo, 8, []int{1, 3, 4, 8, 16}, false},
		{"gradient", rowGradient, rowGradientGo, 4, []int{8, 16}, false},
		{"output", rowOutput, rowOutputGo, 4, []int{8, 16}, true},
	}
	levels(t, func(t *testing.T) {
		for _, k := range kernels {
			for _, lanes := range k.lanes {
				r := rand.New(rand.NewPCG(4, uint64(lanes)))
				const n, rows = 3, 2
				wide := max(4, lanes)
				a := winogradTile{n: n, rows: rows, lanes: lanes, next: wide, down: n*wide + 5,
					row: (4*(n-1)+k.reads)*lanes + 2, act: clipped}
				a.step = rows*a.down + 3
				pixels, positions := a.row*(rows-1)+(4*(n-1)+k.reads)*lanes, 7*a.step+(rows-1)*a.down+n*wide
				from, to := random(r, pixels), positions
				if k.back {
					from, to = random(r, positions), pixels
					a.bias, a.res = random(r, Block), random(r, pixels)
				}
				run := func(f func(*winogradTile)) []float32 {
					g, b := guard(to), a
					for i := range g.s {
						g.s[i] = 0
					}
					if b.pixels, b.positions = from, g.s; k.back {
						b.pixels, b.positions = g.s, from
					}
					f(&b)
					g.intact(t, k.name)
					return g.s
				}
				got, want := run(k.asm), run(k.twin)
				for i, v := range want {
					// Of 8 terms of magnitude 3 with factors up to 8.
					if d := math.Abs(float64(got[i] - v)); !(d <= tolerance*20) {
						t.Fatalf("%s of %d lanes: %g at %d, twin %g", k.name, lanes, got[i], i, v)
					}
				}
			}
		}
	})
}
