package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

var nan = float32(math.NaN())

// twin is a kernel and its twin in Go: each gets buffers filled alike and writes into them.
type twin struct {
	name      string
	asm, twin func(b [][]float32, blocks int)
	sizes     []int // blocks of each buffer for one block of work; negative: a fixed number of blocks
	exact     bool  // same bits
	optional  int   // index of a buffer that may be nil, 0 for none
}

func lanes16(s []float32) *[Block]float32     { return (*[Block]float32)(s) }
func lanes32(s []float32) *[2 * Block]float32 { return (*[2 * Block]float32)(s) }

// rows is n blocks in rows as long as can be, with a gap of a block between them: the
// last of what is left over.
func rows(n int) rect {
	if n >= 7 {
		return rect{(n / 2) * Block, 2, (n % 2) * Block}
	}
	return rect{n * Block, 1, 0}
}

var twins = []twin{
	{"relu", func(b [][]float32, n int) { Relu(b[0], b[1]) }, func(b [][]float32, n int) {
		reluGo(b[0], b[1])
	}, []int{1, 1}, true, 0},
	{"reluGrad", func(b [][]float32, n int) { ReluGrad(b[0], b[1], b[2]) },
		func(b [][]float32, n int) { reluGradGo(b[0], b[1], b[2]) }, []int{1, 1, 1}, true, 0},
	{"clip", func(b [][]float32, n int) { Clip(b[0], b[1], -0.5, 0.75) },
		func(b [][]float32, n int) { clipGo(b[0], b[1], -0.5, 0.75) }, []int{1, 1}, true, 0},
	{"clipGrad", func(b [][]float32, n int) {
		clipGo(b[3], b[2], -0.5, 0.75)
		ClipGrad(b[0], b[1], b[2], b[3])
	}, func(b [][]float32, n int) {
		clipGo(b[3], b[2], -0.5, 0.75)
		clipGradGo(b[0], b[1], b[2], b[3])
	}, []int{1, 1, 1, 1}, true, 0},
	{"add", func(b [][]float32, n int) { Add(b[0], b[1], b[2]) }, func(b [][]float32, n int) {
		addGo(b[0], b[1], b[2])
	}, []int{1, 1, 1}, true, 0},
	{"sumLanes", func(b [][]float32, n int) { sumLanes(lanes16(b[0]), b[1]) },
		func(b [][]float32, n int) { sumLanesGo(lanes16(b[0]), b[1]) }, []int{-1, 1}, true, 0},
	{"sumSquares", func(b [][]float32, n int) { sumSquares(lanes32(b[0]), b[1], lanes16(b[2])) },
		func(b [][]float32, n int) { sumSquaresGo(lanes32(b[0]), b[1], lanes16(b[2])) }, []int{-2, 1, -1},
		false, 0},
	{"sumProducts", func(b [][]float32, n int) {
		sumProducts(lanes32(b[0]), b[1], b[2], b[3], lanes16(b[4]), rows(n))
	},
		func(b [][]float32, n int) {
			sumProductsGo(lanes32(b[0]), b[1], b[2], b[3], lanes16(b[4]), rows(n))
		}, []int{-2, 1, 1, 1, -1}, false, 3},
	{"normalize", func(b [][]float32, n int) {
		normalize(b[0], b[1], b[2], (*[48]float32)(b[3]), rows(n), false)
	},
		func(b [][]float32, n int) {
			normalizeGo(b[0], b[1], b[2], (*[48]float32)(b[3]), rows(n), false)
		}, []int{1, 1, 1, -3}, false, 2},
	{"normalize+relu", func(b [][]float32, n int) {
		normalize(b[0], b[1], b[2], (*[48]float32)(b[3]), rows(n), true)
	},
		func(b [][]float32, n int) {
			normalizeGo(b[0], b[1], b[2], (*[48]float32)(b[3]), rows(n), true)
		}, []int{1, 1, 1, -3}, false, 2},
	{"normalizeBackward", func(b [][]float32, n int) {
		normalizeBackward(b[0], b[1], b[2], b[3], (*[64]float32)(b[4]), rows(n))
	},
		func(b [][]float32, n int) {
			normalizeBackwardGo(b[0], b[1], b[2], b[3], (*[64]float32)(b[4]), rows(n))
		}, []int{1, 1, 1, 1, -4}, false, 3},
}

func init() {
	twins = append(twins,
		twin{"sumProductsRelu", func(b [][]float32, n int) {
			sumProductsRelu(lanes32(b[0]), b[1], b[2], (*[48]float32)(b[3]), rows(n))
		},
			func(b [][]float32, n int) {
				sumProductsReluGo(lanes32(b[0]), b[1], b[2], (*[48]float32)(b[3]), rows(n))
			}, []int{-2, 1, 1, -3}, false, 0},
		twin{"normalizeBackwardRelu", func(b [][]float32, n int) {
			normalizeBackwardRelu(b[0], b[1], b[2], (*[80]float32)(b[3]), rows(n))
		},
			func(b [][]float32, n int) {
				normalizeBackwardReluGo(b[0], b[1], b[2], (*[80]float32)(b[3]), rows(n))
			}, []int{1, 1, 1, -5}, false, 0})
	for _, narrow := range []bool{false, true} {
		name := map[bool]string{false: "", true: " narrow"}[narrow]
		twins = append(twins, twin{"maxPairs" + name, func(b [][]float32, n int) {
			maxPairs(b[0], b[1], b[2], narrow)
		},
			func(b [][]float32, n int) { maxPairsGo(b[0], b[1], b[2], narrow) }, []int{1, 2, 2}, true, 0})
		for _, relu := range []bool{false, true} {
			twins = append(twins, twin{fmt.Sprintf("maxPairsBackward%s relu=%v", name, relu),
				func(b [][]float32, n int) {
					maxPairsGo(b[4], b[2], b[3], narrow)
					maxPairsBackward(b[0], b[1], b[2], b[3], b[4], b[5], narrow, relu)
				}, func(b [][]float32, n int) {
					maxPairsGo(b[4], b[2], b[3], narrow)
					maxPairsBackwardGo(b[0], b[1], b[2], b[3], b[4], b[5], narrow, relu)
				}, []int{2, 2, 2, 2, 1, 1}, true, 0})
		}
	}
}

// TestTwins compares every routine with its twin, over nil buffers where allowed, NaN and infinities where
// the bits must agree, and sentinels around every buffer.
func TestTwins(t *testing.T) {
	levels(t, func(t *testing.T) {
		for _, k := range twins {
			for _, blocks := range []int{1, 2, 3, 7, 64} {
				for _, without := range []bool{false, true} {
					if without && k.optional == 0 {
						continue
					}
					t.Run(fmt.Sprintf("%s/%d/nil=%v", k.name, blocks, without),
						func(t *testing.T) { checkTwin(t, k, blocks, without) })
				}
			}
		}
	})
}

func checkTwin(t *testing.T, k twin, blocks int, without bool) {
	r := rand.New(rand.NewPCG(8, uint64(blocks)))
	var a, b []guarded
	var as, bs [][]float32
	for i, size := range k.sizes {
		n := -size * Block
		if size > 0 {
			n = size * blocks * Block
		}
		if without && i == k.optional {
			as, bs = append(as, nil), append(bs, nil)
			continue
		}
		x := random(r, n)
		for j := range x {
			if k.exact && k.name != "sumLanes" && r.IntN(8) == 0 {
				x[j] = []float32{nan, 0, 1, float32(math.Inf(-1)), float32(math.Inf(1)), 1}[r.IntN(6)]
			}
		}
		for _, to := range []struct {
			g *[]guarded
			s *[][]float32
		}{{&a, &as}, {&b, &bs}} {
			g := guard(n)
			copy(g.s, x)
			*to.g, *to.s = append(*to.g, g), append(*to.s, g.s)
		}
	}
	k.asm(as, blocks)
	k.twin(bs, blocks)
	for _, g := range a {
		g.intact(t, k.name)
	}
	for i := range as {
		for j, got := range as[i] {
			want := bs[i][j]
			if got != got && want != want {
				continue
			}
			limit := tolerance * float64(8*blocks) // sums of as many terms of magnitude 8 at most
			if k.exact {
				limit = 0
			}
			if got != want && !(math.Abs(float64(got-want)) <= limit) {
				t.Fatalf("buffer %d at %d: %g, twin %g", i, j, got, want)
			}
		}
	}
	if current != levelGo || !k.exact {
		noAllocations(t, k.name, func() { k.asm(as, blocks) })
	}
}

// TestUpdates compares the optimisers' bits with their twins', at lengths that leave a rest.
func TestUpdates(t *testing.T) {
	levels(t, func(t *testing.T) {
		for _, n := range []int{1, 15, 16, 33, 16400} {
			r := rand.New(rand.NewPCG(9, uint64(n)))
			for _, h := range []SGDParams{{LR: 0.1}, {LR: 0.1, Momentum: 0.9, First: true},
				{LR: 0.1, Momentum: 0.9, WeightDecay: 0.01, Dampening: 0.2},
				{LR: 0.1, Momentum: 0.9, WeightDecay: 0.01, Nesterov: true}} {
				checkUpdate(t, fmt.Sprintf("%+v", h), r, n, func(b [][]float32) { SGD(b[0], b[1], b[2], h) },
					func(b [][]float32) { sgdGo(b[0], b[1], b[2], h) })
			}
			for _, h := range []AdamParams{{LR: 0.01, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.1,
				Correction1: 0.1, Correction2: 0.1},
				{LR: 0.01, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.1, Correction1: 0.1,
					Correction2: 0.1, Decoupled: true}} {
				checkUpdate(t, fmt.Sprintf("%+v", h), r, n, func(b [][]float32) {
					Adam(b[0], b[1], b[2], b[3], h)
				},
					func(b [][]float32) { adamGo(b[0], b[1], b[2], b[3], h) })
			}
		}
	})
}

func checkUpdate(t *testing.T, name string, r *rand.Rand, n int, asm, twin func([][]float32)) {
	t.Helper()
	var a, b [][]float32
	var guards []guarded
	for i := range 4 {
		x, g := random(r, n), guard(n)
		if i == 3 {
			for j := range x {
				x[j] = x[j] * x[j] // the second moment
			}
		}
		copy(g.s, x)
		a, b, guards = append(a, g.s), append(b, x), append(guards, g)
	}
	asm(a)
	twin(b)
	for i := range a {
		guards[i].intact(t, name)
		for j := range a[i] {
			if a[i][j] != b[i][j] {
				t.Fatalf("%s of %d: buffer %d at %d: %g, twin %g", name, n, i, j, a[i][j], b[i][j])
			}
		}
	}
	noAllocations(t, name, func() { asm(a) })
}

// TestTranspositions compares transpose, gather and scatter with their twins.
func TestTranspositions(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(10, 1))
		for range 200 {
			n, cols := 1+r.IntN(40), 1+r.IntN(16)
			stride := n + r.IntN(5)
			plain, rows := random(r, stride*cols), random(r, n*Block)
			a, b := guard(len(rows)), guard(len(rows))
			gather(a.s, plain, stride, n, cols)
			gatherGo(b.s, plain, stride, n, cols)
			equal(t, fmt.Sprintf("gather %d %d", n, cols), a, b)
			a, b = guard(len(plain)), guard(len(plain))
			scatter(a.s, rows, stride, n, cols)
			scatterGo(b.s, rows, stride, n, cols)
			equal(t, fmt.Sprintf("scatter %d %d", n, cols), a, b)
			wide := min(n, Block)
			square := random(r, Block*Block)
			a, b = guard(wide*Block), guard(wide*Block)
			transpose(a.s, square, wide, cols)
			transposeGo(b.s, square, wide, cols)
			equal(t, fmt.Sprintf("transpose %d %d", wide, cols), a, b)
		}
	})
}

func equal(t *testing.T, name string, a, b guarded) {
	t.Helper()
	a.intact(t, name)
	for i := range a.s {
		if a.s[i] != b.s[i] {
			t.Fatalf("%s: at %d %g, twin %g", name, i, a.s[i], b.s[i])
		}
	}
}

// FuzzTwins compares all routines of one random length.
func FuzzTwins(f *testing.F) {
	f.Add(uint8(0), uint8(3))
	f.Fuzz(func(t *testing.T, which, blocks uint8) {
		k := twins[int(which)%len(twins)]
		best, was := available(), current
		defer func() { current = was }()
		for current = levelGo; current <= best; current++ {
			checkTwin(t, k, int(blocks)+1, false)
		}
	})
}
