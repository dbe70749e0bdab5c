package kernels

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// rates reports the rates of a function that does so many operations: the best and the median of the
// runs, each of which is at least a millisecond long. Where other work shares the machine, the best
// tells what the kernel can do.
func rates(b *testing.B, ops int, run func()) {
	run()
	each := 1
	for start := time.Now(); time.Since(start) < time.Millisecond; each++ {
		run()
	}
	var all []float64
	for b.Loop() {
		start := time.Now()
		for range each {
			run()
		}
		all = append(all, float64(ops)*float64(each)/time.Since(start).Seconds()/1e9)
	}
	slices.Sort(all)
	b.ReportMetric(all[len(all)-1], "best-GFLOP/s")
	b.ReportMetric(all[len(all)/2], "median-GFLOP/s")
	b.ReportMetric(0, "ns/op")
}

// bf16Shapes are from, to, size, kernel.
var bf16Shapes = [][4]int{{64, 64, 56, 3}, {128, 128, 28, 3}, {256, 256, 14, 3}, {512, 512, 7, 3},
	{64, 64, 128, 3},
	{256, 64, 56, 1}, {64, 256, 56, 1}, {512, 2048, 7, 1}}

// BenchmarkConvBF16 is one thread's forward pass with bias and ReLU, and float32's beside it.
//
//	go test -run '^$' -bench ConvBF16 -benchtime 300x ./internal/kernels
func BenchmarkConvBF16(b *testing.B) {
	for _, s := range bf16Shapes {
		for _, n := range []int{1, 16} {
			b.Run(fmt.Sprintf("%dto%d_%d_k%d_b%d", s[0], s[1], s[2], s[3], n), func(b *testing.B) {
				c := square(n, s[0], s[2], s[1], s[3], 1, s[3]/2)
				b.Run("bf16", func(b *testing.B) { benchConvBF16(b, c) })
				b.Run("int8", func(b *testing.B) { benchConvInt8(b, c) })
				b.Run("float32", func(b *testing.B) { benchConvFloat(b, c) })
			})
		}
	}
}

func benchConvBF16(b *testing.B, c convCase) {
	if !amx() {
		b.Skip("no AMX")
	}
	s, _ := c.spec()
	s.Y.Halo = s.X.Halo
	k, err := NewConvBF16(s.bf16(s.X, s.Y))
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	x, w, y := AlignedBF16(k.in.Size()), AlignedBF16(k.WeightSize()), AlignedBF16(k.out.Size())
	ToBF16(x, random(r, len(x)))
	k.Pack(w, random(r, c.o*c.c*c.kh*c.kw))
	bias, scratch := AlignedSlice(k.out.Blocks()*BF16Lanes), AlignedSlice(k.Scratch())
	rates(b, 2*c.n*c.o*s.Y.H*s.Y.W*c.c*c.kh*c.kw, func() {
		for i := range k.Chunks() {
			k.Run(i, scratch, y, x, w, EpilogueBF16{Bias: bias, ReLU: true})
		}
	})
}

func benchConvInt8(b *testing.B, c convCase) {
	if LevelInt8() == levelNames[levelGo] {
		b.Skip("no AMX, no AVX512-VNNI")
	}
	s, _ := c.spec()
	l := ConvInt8Spec{X: lineLayout(s.X), Y: lineLayout(s.Y), Window: s.window()}
	l.X.Lanes, l.Y.Lanes = Int8Lanes, Int8Lanes
	k, err := NewConvInt8(l)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	x, w, y := AlignedBytes(l.X.Size()), AlignedBytes(k.WeightSize()), AlignedBytes(l.Y.Size())
	copy(x, randomBytes(r, len(x)))
	e := drawRequantize(r, make([]int32, k.Outputs()), k.Outputs(), c.c*c.kh*c.kw)
	k.Pack(w, wideWeights(r, c.o*c.c*c.kh*c.kw, 1), 1)
	scratch := AlignedSlice(k.Scratch())
	rates(b, 2*c.n*c.o*s.Y.H*s.Y.W*c.c*c.kh*c.kw, func() {
		for i := range k.Chunks() {
			k.Run(i, scratch, y, x, w, e)
		}
	})
}

// benchConvFloat is the faster of the direct kernel and Winograd's.
func benchConvFloat(b *testing.B, c convCase) {
	s, _ := c.spec()
	s.Y.Halo = s.X.Halo
	k, err := NewConv(s)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	x, y, w := random(r, s.X.Size()), AlignedSlice(s.Y.Size()), random(r, k.WeightSize())
	e := Epilogue{Bias: AlignedSlice(s.Y.Blocks() * Block), ReLU: true}
	flops := 2 * c.n * c.o * s.Y.H * s.Y.W * c.c * c.kh * c.kw
	if p := NewWinograd(k, true, 1).Forward; p != nil {
		u, scratch := random(r, p.WeightSize()), AlignedSlice(p.Scratch())
		rates(b, flops, func() {
			for i := range p.Chunks() {
				p.Run(i, scratch, y, x, u, e)
			}
		})
		return
	}
	rates(b, flops, func() {
		for i := range k.ForwardChunks() {
			k.Forward(i, y, x, w, e)
		}
	})
}

// BenchmarkConvBF16Backward is one thread's gradient of the input, and of the weights from maps
// that are repacked each time.
func BenchmarkConvBF16Backward(b *testing.B) {
	for _, s := range bf16Shapes {
		for _, n := range []int{1, 16} {
			c := square(n, s[0], s[2], s[1], s[3], 1, s[3]/2)
			name := fmt.Sprintf("%dto%d_%d_k%d_b%d", s[0], s[1], s[2], s[3], n)
			b.Run(name+"/data", func(b *testing.B) { benchDataBF16(b, c) })
			b.Run(name+"/weights", func(b *testing.B) { benchWeightsBF16(b, c) })
		}
	}
}

func benchDataBF16(b *testing.B, c convCase) {
	if !amx() {
		b.Skip("no AMX")
	}
	s, _ := c.spec()
	k, err := NewConvBF16Data(s.bf16(s.X, s.DY))
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	dy, w, dx, scratch := AlignedBF16(k.in.Size()), AlignedBF16(k.WeightSize()), AlignedBF16(k.out.Size()),
		AlignedSlice(k.Scratch())
	ToBF16(dy, random(r, len(dy)))
	k.Pack(w, random(r, c.o*c.c*c.kh*c.kw))
	rates(b, 2*c.n*c.o*s.Y.H*s.Y.W*c.c*c.kh*c.kw, func() {
		for i := range k.Chunks() {
			k.Run(i, scratch, dx, dy, w, EpilogueBF16{})
		}
	})
}

func benchWeightsBF16(b *testing.B, c convCase) {
	if !amx() {
		b.Skip("no AMX")
	}
	s, _ := c.spec()
	k, err := NewConvBF16Weights(s.bf16(s.X, s.DY))
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	x, dy, repacked := AlignedBF16(k.x.Size()), AlignedBF16(k.dy.Size()), AlignedBF16(k.RepackSize())
	ToBF16(x, random(r, len(x)))
	ToBF16(dy, random(r, len(dy)))
	sums, scratch, dw := AlignedSlice(k.Sums()), AlignedSlice(k.Scratch()), AlignedSlice(c.o*c.c*c.kh*c.kw)
	flops := 2 * c.n * c.o * s.Y.H * s.Y.W * c.c * c.kh * c.kw
	part := func(name string, chunks int, f func(int)) {
		b.Run(name, func(b *testing.B) {
			rates(b, flops, func() {
				for i := range chunks {
					f(i)
				}
			})
		})
	}
	part("repack", k.RepackChunks(), func(i int) { k.Repack(i, repacked, x, dy) })
	part("product", k.Chunks(), func(i int) { k.Run(i, scratch, sums, repacked, false) })
	part("reduce", k.ReduceChunks(), func(i int) { k.Reduce(i, dw, sums) })
}

// BenchmarkGemmBF16 multiplies packed matrices on one thread.
func BenchmarkGemmBF16(b *testing.B) {
	if !amx() {
		b.Skip("no AMX")
	}
	for _, s := range []GemmBF16Spec{{M: 256, N: 256, K: 512}, {M: 512, N: 512, K: 512},
		{M: 1024, N: 512, K: 512}, {M: 197, N: 3072, K: 768},
		{M: 197, N: 768, K: 3072}, {M: 32, N: 4096, K: 4096}, {M: 1, N: 4096, K: 4096}} {
		for _, s.LDA = range []int{s.K, PaddedLDA(s.K)} {
			b.Run(fmt.Sprintf("%dx%dx%d_lda%d", s.M, s.N, s.K, s.LDA), func(b *testing.B) {
				g, err := NewGemmBF16(s)
				if err != nil {
					b.Fatal(err)
				}
				r := rand.New(rand.NewPCG(1, 1))
				a, w, c, scratch := AlignedBF16(s.M*s.LDA), AlignedBF16(g.PackedSize()), AlignedBF16(s.M*s.N),
					AlignedSlice(g.Scratch())
				ToBF16(a, random(r, len(a)))
				ToBF16(w, random(r, len(w)))
				rates(b, 2*s.M*s.N*s.K, func() {
					for i := range g.Chunks() {
						g.Run(i, scratch, c, a, w, EpilogueBF16{})
					}
				})
			})
		}
	}
}
