package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// The benchmarks of this file report GB/s of what is read and written, in the second-level cache (32 Ki
// floats) and from memory (16 Mi floats). BenchmarkCopyFloats is what they are measured against.
//
//	CNNKIT_CPU=avx2 go test -run '^$' -bench 'CopyFloats|Functions|Operations|Rows|Moves' ./internal/kernels

func bandwidth(b *testing.B, bytes int) {
	b.ReportMetric(float64(bytes)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
	b.ReportMetric(0, "ns/op")
}

var benchSizes = []struct {
	name string
	n    int
}{{"cache", 1 << 15}, {"memory", 1 << 24}}

func BenchmarkCopyFloats(b *testing.B) {
	for _, s := range benchSizes {
		b.Run(s.name, func(b *testing.B) {
			x, y := AlignedSlice(s.n), AlignedSlice(s.n)
			for b.Loop() {
				copy(y, x)
			}
			bandwidth(b, 8*s.n)
		})
	}
}

func BenchmarkFunctions(b *testing.B) {
	for _, f := range maps {
		for _, s := range benchSizes {
			x := random(rand.New(rand.NewPCG(1, 1)), s.n)
			y := AlignedSlice(s.n)
			b.Run(f.name+"/"+s.name, func(b *testing.B) {
				for b.Loop() {
					f.m.Forward(y, x)
				}
				bandwidth(b, 8*s.n)
			})
			if f.m.Differentiable() && s.name == "cache" {
				b.Run(f.name+" backward/"+s.name, func(b *testing.B) {
					for b.Loop() {
						f.m.Backward(y, x, x)
					}
					bandwidth(b, 8*s.n)
				})
			}
		}
	}
}

func BenchmarkOperations(b *testing.B) {
	for _, s := range benchSizes {
		x := random(rand.New(rand.NewPCG(1, 1)), s.n)
		y, z := AlignedSlice(s.n), AlignedSlice(s.n)
		var lanes [Block]float32
		b.Run("mul/"+s.name, func(b *testing.B) {
			for b.Loop() {
				OpMul.Pair(y, x, z)
			}
			bandwidth(b, 12*s.n)
		})
		b.Run("mul by lanes/"+s.name, func(b *testing.B) {
			for b.Loop() {
				OpMul.Lanes(y, x, &lanes)
			}
			bandwidth(b, 8*s.n)
		})
	}
	for _, h := range []int{14, 112} {
		l := plane(1, 256*14/h, h, h, 0)
		x, r, y, by := random(rand.New(rand.NewPCG(1, 1)), l.Size()), AlignedSlice(l.Size()),
			AlignedSlice(l.Size()), AlignedSlice(l.C)
		e, _ := NewElementwise(l, l, []Stage{PairStage(OpMul, PerChannel, 1), PairStage(OpAdd, Same, 0),
			MapStage(NewMap(FuncHardSwish))}, l)
		b.Run(fmt.Sprintf("scale, add, hard swish/%d", h), func(b *testing.B) {
			for b.Loop() {
				for chunk := range e.Chunks() {
					e.Run(chunk, y, x, r, by)
				}
			}
			bandwidth(b, 12*l.Size())
		})
	}
}

func BenchmarkRows(b *testing.B) {
	for _, n := range []int{49, 197, 768, 3072} {
		rows := 1 << 15 / n
		x, scale := random(rand.New(rand.NewPCG(1, 1)), rows*n), random(rand.New(rand.NewPCG(1, 2)), n)
		y, dx := AlignedSlice(rows*n), AlignedSlice(rows*n)
		each := func(f func(y, dx, x []float32)) func() {
			return func() {
				for r := range rows {
					f(y[r*n:][:n], dx[r*n:][:n], x[r*n:][:n])
				}
			}
		}
		for _, k := range []struct {
			name string
			run  func()
		}{
			{"softmax", func() { SoftmaxRows(y, x, rows, n) }},
			{"log-softmax", each(func(y, _, x []float32) { LogSoftmaxRows(y, x, 1, len(x)) })},
			{"softmax backward", each(func(y, dx, x []float32) { SoftmaxGrad(dx, x, y) })},
			{"layer norm", each(func(y, _, x []float32) { LayerNorm(y, x, scale, scale, 1e-5) })},
			{"layer norm backward", each(func(_, dx, x []float32) { LayerNormGrad(dx, x, x, scale, 0, 1) })},
		} {
			b.Run(fmt.Sprintf("%s/%d", k.name, n), func(b *testing.B) {
				for b.Loop() {
					k.run()
				}
				bandwidth(b, 8*rows*n)
			})
		}
	}
}

func BenchmarkMoves(b *testing.B) {
	for _, c := range [][2][]int{{{1, 64, 56 * 56}, {0, 2, 1}}, {{1, 196, 768}, {0, 2, 1}},
		{{197, 12, 64}, {1, 0, 2}}, {{8, 7, 8, 7, 96}, {0, 2, 1, 3, 4}}, {{2048, 2048}, {1, 0}}} {
		n := product(c[0])
		x, y := AlignedSlice(n), AlignedSlice(n)
		k, err := NewPermute(c[0], c[1])
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint("permute ", c[0], c[1]), func(b *testing.B) {
			for b.Loop() {
				for chunk := range k.Chunks() {
					k.Run(chunk, y, x)
				}
			}
			bandwidth(b, 8*n)
		})
	}
	for _, taps := range []int{1, 2, 4} {
		x, y := plane(1, 64, 28, 28, 0), plane(1, 64, 56, 56, 0)
		r := rand.New(rand.NewPCG(1, 1))
		k := NewResample(x, y, randomTaps(r, 28, 56, taps), randomTaps(r, 28, 56, taps))
		from, to, scratch := AlignedSlice(x.Size()), AlignedSlice(y.Size()), AlignedSlice(k.Scratch())
		b.Run(fmt.Sprintf("resample by %d taps", taps), func(b *testing.B) {
			for b.Loop() {
				for chunk := range k.Chunks() {
					k.Run(chunk, scratch, to, from)
				}
			}
			bandwidth(b, 4*(x.Size()+y.Size()))
		})
	}
	l := plane(1, 96, 27, 27, 0)
	k := NewLRN(l, 5, 1e-4, 0.75, 1)
	x, y, scratch := AlignedSlice(l.Size()), AlignedSlice(l.Size()), AlignedSlice(k.Scratch())
	b.Run("lrn", func(b *testing.B) {
		for b.Loop() {
			for chunk := range k.Chunks() {
				k.Run(chunk, scratch, y, x)
			}
		}
		bandwidth(b, 8*l.Size())
	})
}
