package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// Every benchmark works on one thread and reports GFLOP/s. CNNKIT_CPU chooses the level:
//
//	CNNKIT_CPU=avx2 go test -run '^$' -bench Conv -count 5 ./internal/kernels

func gflops(b *testing.B, flops int) {
	b.ReportMetric(float64(flops)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkConv(b *testing.B) {
	type bench struct {
		name string
		c    convCase
	}
	cases := []bench{}
	for _, s := range [][4]int{{16, 16, 32, 100}, {32, 32, 16, 100}, {64, 64, 8, 100}, {64, 64, 128, 4},
		{512, 512, 16, 4}, {256, 256, 14, 8}, {512, 512, 14, 1}} {
		cases = append(cases, bench{fmt.Sprintf("%dto%d_%d_b%d", s[0], s[1], s[2], s[3]),
			square(s[3], s[0], s[2], s[1], 3, 1, 1)})
	}
	first := square(100, 3, 32, 16, 3, 1, 1)
	first.small = true
	lenet := square(64, 1, 28, 6, 5, 1, 2)
	lenet.small, lenet.narrow = true, true
	second := square(64, 6, 14, 16, 5, 1, 0)
	second.narrow = true
	colour := square(100, 3, 32, 6, 5, 1, 2)
	colour.small, colour.narrow = true, true
	cases = append(cases, bench{"3to16_32_b100", first}, bench{"1to6_28_k5_b64", lenet},
		bench{"3to6_32_k5_b100", colour},
		bench{"6to16_14_k5_b64", second}, bench{"32to96_14_k5_b16", square(16, 32, 14, 96, 5, 1, 2)},
		bench{"64to192_27_k5_b8", square(8, 64, 27, 192, 5, 1, 2)},
		bench{"64to128_56_s2_b4", square(4, 64, 56, 128, 3, 2, 1)}, bench{"256to64_56_k1_b4",
			square(4, 256, 56, 64, 1, 1, 0)},
		bench{"512to512_7_b8", square(8, 512, 7, 512, 3, 1, 1)},
		bench{"64to64_224_b1", square(1, 64, 224, 64, 3, 1, 1)})
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) { benchConv(b, c.c) })
	}
}

// BenchmarkConvGroups counts the operations of the groups alone, not those between them.
func BenchmarkConvGroups(b *testing.B) {
	for _, g := range []struct {
		name  string
		c     convCase
		group int
	}{
		{"128_g32_56_b4", square(4, 128, 56, 128, 3, 1, 1), 32}, {"256_g32_28_b4",
			square(4, 256, 28, 256, 3, 1, 1), 32},
		{"512_g32_14_b4", square(4, 512, 14, 512, 3, 1, 1), 32}, {"1024_g32_7_b4",
			square(4, 1024, 7, 1024, 3, 1, 1), 32},
		{"96to256_g2_27_k5_b4", square(4, 96, 27, 256, 5, 1, 2), 2},
	} {
		b.Run(g.name, func(b *testing.B) {
			s, _ := g.c.spec()
			s.Group = g.group
			if s.X.C == 4*s.Group {
				benchDepthwise(b, s)
				return
			}
			k, err := NewConv(s)
			if err != nil {
				b.Fatal(err)
			}
			benchPasses(b, k, s)
		})
	}
}

// BenchmarkDepthwise tells GB/s of the maps too: memory bounds the large ones.
func BenchmarkDepthwise(b *testing.B) {
	for _, g := range []struct {
		name string
		c    convCase
	}{
		{"32_112_b4", depthwise(4, 32, 112, 3, 1, 1)}, {"64_112_s2_b4", depthwise(4, 64, 112, 3, 2, 1)},
		{"128_56_b4", depthwise(4, 128, 56, 3, 1, 1)},
		{"512_14_b4", depthwise(4, 512, 14, 3, 1, 1)}, {"512_14_b1", depthwise(1, 512, 14, 3, 1, 1)},
		{"1024_7_b4", depthwise(4, 1024, 7, 3, 1, 1)},
		{"240_14_k5_b4", depthwise(4, 240, 14, 5, 1, 2)},
	} {
		b.Run(g.name, func(b *testing.B) {
			s, _ := g.c.spec()
			s.Group = g.c.c
			benchDepthwise(b, s)
		})
	}
}

func benchDepthwise(b *testing.B, s ConvSpec) {
	k, err := NewDepthwise(s)
	if err != nil {
		b.Fatal(err)
	}
	benchPasses(b, k, s)
}

func benchPasses(b *testing.B, k convolution, s ConvSpec) {
	r := rand.New(rand.NewPCG(1, 1))
	x, y, w := random(r, s.X.Size()), AlignedSlice(s.Y.Size()), random(r, k.WeightSize())
	f := flipped(k, w)
	dx, dy, scratch := AlignedSlice(s.DX.Size()), random(r, s.DY.Size()),
		AlignedSlice(k.BackwardWeightsScratch())
	flops := 2 * s.Y.N * s.Y.C * s.Y.H * s.Y.W * s.X.C / s.Group * s.KH * s.KW
	run := func(name string, floats, chunks int, pass func(int)) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				for i := range chunks {
					pass(i)
				}
			}
			b.ReportMetric(float64(4*floats)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
			gflops(b, flops)
		})
	}
	run("forward", len(x)+len(y), k.ForwardChunks(), func(i int) { k.Forward(i, y, x, w, Epilogue{}) })
	run("data", len(dx)+len(dy), k.BackwardDataChunks(), func(i int) {
		k.BackwardData(i, dx, dy, f, Epilogue{})
	})
	run("weights", len(x)+len(dy), k.BackwardWeightsChunks(), func(i int) {
		k.BackwardWeights(i, scratch, x, dy)
	})
}

func benchConv(b *testing.B, c convCase) {
	s, _ := c.spec()
	k, err := NewConv(s)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	x, y, w, f := random(r, s.X.Size()), AlignedSlice(s.Y.Size()), random(r, k.WeightSize()), random(r,
		k.FlipSize())
	dx, dy, scratch := AlignedSlice(s.DX.Size()), random(r, s.DY.Size()),
		AlignedSlice(k.BackwardWeightsScratch())
	flops := 2 * c.n * c.o * s.Y.H * s.Y.W * c.c * c.kh * c.kw
	run := func(name string, chunks int, pass func(int)) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				for i := range chunks {
					pass(i)
				}
			}
			gflops(b, flops)
		})
	}
	run("forward", k.ForwardChunks(), func(i int) { k.Forward(i, y, x, w, Epilogue{}) })
	if !c.small {
		run("data", k.BackwardDataChunks(), func(i int) { k.BackwardData(i, dx, dy, f, Epilogue{}) })
	}
	run("weights", k.BackwardWeightsChunks(), func(i int) { k.BackwardWeights(i, scratch, x, dy) })
	p := planWinograd(k)
	if p.Forward == nil {
		return
	}
	pass := func(name string, p WinogradPass, y, x []float32) {
		scratch, u := AlignedSlice(p.Scratch()), random(r, p.WeightSize())
		run("winograd-"+name, p.Chunks(), func(i int) { p.Run(i, scratch, y, x, u, Epilogue{}) })
	}
	pass("forward", p.Forward, y, x)
	if p.Data != nil {
		pass("data", p.Data, dx, dy)
	}
	work, sums := AlignedSlice(p.Weights.Scratch()), AlignedSlice(p.Weights.Sums())
	run("winograd-weights", p.Weights.Chunks(), func(i int) { p.Weights.Run(i, work, sums, x, dy) })
}

func BenchmarkGemm(b *testing.B) {
	for _, s := range []GemmSpec{{M: 64, N: 120, K: 400, TransB: true},
		{M: 32, N: 4096, K: 4096, TransB: true}, {M: 512, N: 512, K: 512},
		{M: 512, N: 512, K: 512, TransA: true}, {M: 1, N: 4096, K: 4096, TransB: true}, {M: 64, N: 120,
			K: 400, Packed: true},
		{M: 32, N: 4096, K: 4096, Packed: true}, {M: 1, N: 4096, K: 4096, Packed: true},
		{M: 1, N: 120, K: 400, Packed: true}} {
		b.Run(fmt.Sprintf("%dx%dx%d_ta%v_tb%v_packed%v", s.M, s.N, s.K, s.TransA, s.TransB, s.Packed),
			func(b *testing.B) {
				g := NewGemm(s)
				c, x, y, scratch := AlignedSlice(s.M*s.N), AlignedSlice(s.M*s.K),
					AlignedSlice(g.PackedSize()), AlignedSlice(g.Scratch())
				for b.Loop() {
					for i := range g.Chunks() {
						g.Run(i, scratch, c, x, y, nil, false, false)
					}
				}
				gflops(b, 2*s.M*s.N*s.K)
			})
	}
}

// BenchmarkPeak multiplies inside the first-level cache: what the machine can do.
func BenchmarkPeak(b *testing.B) {
	if current == levelGo {
		b.Skip("no assembly")
	}
	p := tileWidth(false)
	x, w, y := AlignedSlice(p*16+240), AlignedSlice(240*Block), AlignedSlice(p*Block)
	a := tile{y: y, x: x, w: w, runs: []run{{0, 240}}, xStride: 16, yStride: Block}
	best := time.Hour
	for b.Loop() {
		start := time.Now()
		c := a
		c.n = 100
		convTiles(p, &c)
		best = min(best, time.Since(start))
	}
	gflops(b, 2*100*p*240*Block)
	b.ReportMetric(float64(2*100*p*240*Block)/best.Seconds()/1e9, "best-GFLOP/s")
}

// BenchmarkTokens multiplies by packed weights as transformers and ConvNeXt do. The figure is of every
// chunk's best run: it bears other work on the machine.
func BenchmarkTokens(b *testing.B) {
	gelu := NewMap(FuncGelu)
	for _, s := range []GemmSpec{{M: 197, N: 2304, K: 768}, {M: 197, N: 768, K: 768},
		{M: 197, N: 3072, K: 768}, {M: 197, N: 768, K: 3072},
		{M: 3136, N: 384, K: 96}, {M: 3136, N: 96, K: 384}, {M: 3136, N: 288, K: 96}, {M: 784, N: 768,
			K: 192}, {M: 784, N: 192, K: 768}, {M: 196, N: 1536, K: 384},
		{M: 196, N: 384, K: 1536}, {M: 49, N: 3072, K: 768}, {M: 49, N: 768, K: 3072},
		{M: 197, N: 3072, K: 768, Then: &gelu}} {
		s.Packed = true
		b.Run(fmt.Sprintf("%dx%dx%d_then%v", s.M, s.N, s.K, s.Then != nil), func(b *testing.B) {
			g := NewGemm(s)
			c, x, y, scratch := AlignedSlice(s.M*s.N), AlignedSlice(s.M*s.K), AlignedSlice(g.PackedSize()),
				AlignedSlice(g.Scratch())
			best := make([]time.Duration, g.Chunks())
			for b.Loop() {
				for i := range best {
					start := time.Now()
					g.Run(i, scratch, c, x, y, nil, false, false)
					if d := time.Since(start); best[i] == 0 || d < best[i] {
						best[i] = d
					}
				}
			}
			var total time.Duration
			for _, d := range best {
				total += d
			}
			b.ReportMetric(float64(2*s.M*s.N*s.K)/total.Seconds()/1e9, "best-GFLOP/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}
