package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func depthwise(n, c, size, k, stride, pad int) convCase { return square(n, c, size, c, k, stride, pad) }

var depthwiseCases = []convCase{
	depthwise(1, 1, 1, 1, 1, 0),
	depthwise(2, 16, 8, 3, 1, 1),
	depthwise(1, 33, 7, 3, 1, 1),
	depthwise(1, 16, 29, 3, 1, 1),
	depthwise(2, 20, 57, 3, 2, 1),
	depthwise(3, 32, 14, 5, 1, 2),
	depthwise(1, 17, 15, 5, 2, 2),
	depthwise(1, 40, 9, 7, 1, 3),
	depthwise(1, 5, 7, 2, 3, 0), // stride > kernel: pixels that no tap reaches
	depthwise(1, 3, 5, 3, 1, 3), // more padding than taps reach
	depthwise(2, 48, 40, 3, 1, 1),
	{1, 18, 11, 13, 18, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2, 0, false, false}, // dilated
	{1, 18, 11, 13, 18, 3, 3, 2, 2, 3, 3, 3, 3, 3, 3, 0, false, false},
	{1, 16, 6, 40, 16, 1, 3, 1, 2, 0, 1, 0, 1, 1, 1, 2, false, false},
	{1, 4, 9, 9, 4, 3, 3, 1, 1, 0, 2, 1, 0, 1, 1, 0, false, false}, // pads differ
}

// checkDepthwise compares the passes of a convolution in groups of per channels.
func checkDepthwise(t *testing.T, c convCase, per int, r *rand.Rand) {
	s, ok := c.spec()
	s.Group = c.c / per
	if !ok {
		t.Skip("no output")
	}
	d, err := NewDepthwise(s)
	if err != nil {
		t.Fatal(err)
	}
	if d.need > s.DY.Halo-c.moreHalo {
		t.Fatalf("backward-data needs a halo of %d, ConvHalo says %d", d.need, s.DY.Halo-c.moreHalo)
	}
	checkPasses(t, c, s.Group, d, s, r)
}

func TestDepthwise(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(13, 14))
		for _, c := range depthwiseCases {
			t.Run(c.String(), func(t *testing.T) { checkDepthwise(t, c, 1, r) })
			c.c, c.o = (c.c+3)&^3, (c.c+3)&^3
			t.Run(c.String()+" in groups of 4", func(t *testing.T) { checkDepthwise(t, c, 4, r) })
		}
		for i := range 60 {
			per := 1 + i%2*3
			c := randomDepthwise(r, per)
			t.Run(fmt.Sprintf("%v in groups of %d", c, per), func(t *testing.T) {
				checkDepthwise(t, c, per, r)
			})
		}
	})
}

func randomDepthwise(r *rand.Rand, per int) convCase {
	c := randomConv(r)
	c.c = (c.c + per - 1) / per * per
	c.o, c.small = c.c, false
	return c
}

func TestDepthwiseRefuses(t *testing.T) {
	good, _ := depthwise(1, 32, 8, 3, 1, 1).spec()
	good.Group = 32
	for name, change := range map[string]func(*ConvSpec){
		"groups of 2": func(s *ConvSpec) { s.Group = 16 },
		"multiplier":  func(s *ConvSpec) { s.Y.C, s.DY.C = 64, 64 },
		"no halo":     func(s *ConvSpec) { s.X.Halo = 0 },
		"lanes": func(s *ConvSpec) {
			s.Group = 8
			for _, l := range []*Layout{&s.X, &s.Y, &s.DX, &s.DY} {
				l.C, l.Lanes = 8, 8
			}
		},
	} {
		s := good
		change(&s)
		if _, err := NewDepthwise(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestDepthTiles compares the inner loops of every width with their twins.
func TestDepthTiles(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(15, 16))
		for _, per := range []int{1, 4} {
			for p := 1; p <= (&tile{per: per}).width(); p++ {
				t.Run(fmt.Sprintf("%d of %d", p, per), func(t *testing.T) { checkDepthTiles(t, p, per, r) })
			}
			for k := 1; k <= depthGradTaps(per); k++ {
				t.Run(fmt.Sprintf("%d taps of %d", k, per), func(t *testing.T) {
					checkDepthGrad(t, k, per, r)
				})
			}
		}
	})
}

func checkDepthTiles(t *testing.T, p, per int, r *rand.Rand) {
	const n, xNext, yNext = 3, 40 * Block, 31 * Block
	taps := []tap{{0, 2 * per * Block}, {3 * Block, 0}, {70 * Block, per * Block}}
	x, w, bias, res := random(r, 300*Block), random(r, 3*per*Block), random(r, Block), random(r, 100*Block)
	for _, a := range []tile{{}, {bias: bias}, {bias: bias, res: res}, {res: res, act: clipped},
		{bias: bias, act: clipped}, {res: res, act: masked},
		{bias: bias, res: res, act: between, high: 1.5}} {
		got, want := guard(100*Block), guard(100*Block)
		a.per, a.x, a.w, a.taps, a.n, a.xStride, a.yStride, a.xNext, a.yNext = per, x, w, taps, n, 2*Block,
			Block, xNext, yNext
		b := a
		a.y, b.y = got.s, want.s
		convTiles(p, &a)
		depthTilesGo(p, &b)
		nearly(t, fmt.Sprintf("act %d", a.act), got, want)
	}
}

func checkDepthGrad(t *testing.T, k, per int, r *rand.Rand) {
	taps := make([]tap, k)
	for i := range taps {
		taps[i] = tap{(i*i + 1) * Block, (k - 1 - i) * per * Block}
	}
	got, want := guard(k*per*Block), guard(k*per*Block)
	copy(got.s, random(r, k*per*Block))
	copy(want.s, got.s)
	a := depthGradTile{per: per, dw: got.s, x: random(r, 300*Block), dy: random(r, 100*Block), taps: taps,
		rows: 3, cols: 11,
		xStride: 2 * Block, xRow: 50 * Block, dyRow: 13 * Block}
	b := a
	b.dw = want.s
	depthGradTiles(&a)
	depthGradTilesGo(&b)
	nearly(t, "dw", got, want)
}

// nearly compares sums of tens of products of normal numbers, of magnitude 3 and more, that
// differ by fused multiply-add.
func nearly(t *testing.T, name string, a, b guarded) {
	t.Helper()
	a.intact(t, name)
	for i := range a.s {
		if d := a.s[i] - b.s[i]; !(d <= 3*tolerance && d >= -3*tolerance) {
			t.Fatalf("%s: at %d %g, twin %g", name, i, a.s[i], b.s[i])
		}
	}
}

func TestDepthwiseAllocations(t *testing.T) {
	levels(t, func(t *testing.T) {
		s, _ := depthwise(1, 16, 32, 3, 2, 1).spec()
		s.Group = 4
		d, err := NewDepthwise(s)
		if err != nil {
			t.Fatal(err)
		}
		x, y, w := AlignedSlice(s.X.Size()), AlignedSlice(s.Y.Size()), AlignedSlice(d.WeightSize())
		dx, dy, scratch := AlignedSlice(s.DX.Size()), AlignedSlice(s.DY.Size()),
			AlignedSlice(d.BackwardWeightsScratch())
		noAllocations(t, "Forward", func() { d.Forward(0, y, x, w, Epilogue{ReLU: true}) })
		noAllocations(t, "Flip", func() { d.Flip(0, w, y) })
		noAllocations(t, "BackwardData", func() { d.BackwardData(0, dx, dy, w, Epilogue{}) })
		noAllocations(t, "BackwardWeights", func() { d.BackwardWeights(0, scratch, x, dy) })
		noAllocations(t, "ReduceWeights", func() { d.ReduceWeights(0, w, scratch) })
	})
}

// FuzzDepthwise compares the kernels of each level with the naive convolution on any geometry.
func FuzzDepthwise(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 8))
		per := 1 + r.IntN(2)*3
		c := randomDepthwise(r, per)
		best, was := available(), current
		defer func() { current = was }()
		for current = levelGo; current <= best; current++ {
			checkDepthwise(t, c, per, r)
		}
	})
}
