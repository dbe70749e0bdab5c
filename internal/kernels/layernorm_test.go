package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestLayerNormRows compares rows with sums of float64, of numbers far from 0 too, and
// with the twin bit by bit.
func TestLayerNormRows(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 5))
		for _, cols := range []int{1, 15, 16, 96, 384, 768, 4096, 4112} {
			for _, shift := range []float32{0, 100, -3000} {
				t.Run(fmt.Sprintf("%d around %v", cols, shift), func(t *testing.T) {
					const rows = 5
					x, scale, bias, y := random(r, rows*cols), random(r, cols), random(r,
						cols), guard(rows*cols)
					for i := range x {
						x[i] += shift
					}
					LayerNormRows(y.s, x, scale, bias, rows, cols, 1e-5)
					y.intact(t, "y")
					twin := make([]float32, cols)
					for i := range rows {
						row := x[i*cols:][:cols]
						layerNormRowGo(twin, row, scale, bias, [2]float32{1e-5, 1 / float32(cols)})
						for j, v := range y.s[i*cols:][:cols] {
							whole := cols%Block == 0 && cols <= mostNormRow
							if want := normalized(row, scale, bias, j, 1e-5); whole &&
								math.Abs(float64(v)-want) > 1e-5 {
								t.Fatalf("row %d, column %d: %v, want %v", i, j, v, want)
							}
							if whole && v != twin[j] {
								t.Fatalf("row %d, column %d: %v, the twin's is %v", i, j, v, twin[j])
							}
						}
						if cols%Block != 0 || cols > mostNormRow {
							LayerNorm(twin, row, scale, bias, 1e-5)
							if !slices.Equal(y.s[i*cols:][:cols], twin) {
								t.Fatal("a row of no whole blocks is not LayerNorm's")
							}
						}
					}
				})
			}
		}
	})
}

// normalized is column j of a normalized row in float64.
func normalized(x, scale, bias []float32, j int, eps float64) float64 {
	mean, variance, n := 0.0, 0.0, float64(len(x))
	for _, v := range x {
		mean += float64(v) / n
	}
	for _, v := range x {
		variance += (float64(v) - mean) * (float64(v) - mean) / n
	}
	return (float64(x[j])-mean)/math.Sqrt(variance+eps)*float64(scale[j]) + float64(bias[j])
}

// BenchmarkLayerNormRows is of rows as ConvNeXt and transformers have them, the best of many runs.
func BenchmarkLayerNormRows(b *testing.B) {
	for _, cols := range []int{96, 192, 384, 768} {
		b.Run(fmt.Sprint(cols), func(b *testing.B) {
			rows := 32 << 10 / cols
			x, y, w := random(rand.New(rand.NewPCG(1, 1)), rows*cols), AlignedSlice(rows*cols),
				AlignedSlice(cols)
			bestRate(b, 8*rows*cols, func() { LayerNormRows(y, x, w, w, rows, cols, 1e-5) })
		})
	}
}

// bestRate reports the GB/s of the fastest run.
func bestRate(b *testing.B, bytes int, run func()) {
	best := time.Hour
	for b.Loop() {
		start := time.Now()
		run()
		best = min(best, time.Since(start))
	}
	b.ReportMetric(float64(bytes)/best.Seconds()/1e9, "best-GB/s")
	b.ReportMetric(0, "ns/op")
}
