package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// rowLengths leave rests of every kind and span several stretches.
var rowLengths = []int{1, 7, 16, 23, 197, 768, 1000, 2*stretch + 19}

// close32 fails where got is further from want than the tolerance times the magnitude.
func close32(t *testing.T, name string, got []float32, want []float64, magnitude float64) {
	t.Helper()
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= tolerance*(magnitude+math.Abs(w))) &&
			!(w != w && got[i] != got[i]) {
			t.Fatalf("%s: number %d of %d is %g, want %g", name, i, len(want), got[i], w)
		}
	}
}

func widened(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func softmax64(x []float64) (y []float64, logarithm float64) {
	top, sum := math.Inf(-1), 0.0
	for _, v := range x {
		top = math.Max(top, v)
	}
	for _, v := range x {
		sum += math.Exp(v - top)
	}
	for _, v := range x {
		y = append(y, math.Exp(v-top)/sum)
	}
	return y, top + math.Log(sum)
}

// TestSoftmaxRows holds the softmax, its logarithm and their gradients against float64.
func TestSoftmaxRows(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(31, 1))
		for _, n := range rowLengths {
			x, dy, got := random(r, n), random(r, n), guard(n)
			for i := range x {
				x[i] *= 5
			}
			want, logarithm := softmax64(widened(x))
			SoftmaxRows(got.s, x, 1, n)
			close32(t, "softmax", got.s, want, 0)
			y := append([]float32{}, got.s...)
			grads, logs, logGrads := make([]float64, n), make([]float64, n), make([]float64, n)
			dot, sum := 0.0, 0.0
			for i, d := range dy {
				dot += float64(d) * want[i]
				sum += float64(d)
			}
			for i, d := range dy {
				grads[i] = want[i] * (float64(d) - dot)
				logs[i] = float64(x[i]) - logarithm
				logGrads[i] = float64(d) - want[i]*sum
			}
			SoftmaxGrad(got.s, dy, y)
			close32(t, "softmax gradient", got.s, grads, 1)
			LogSoftmaxRows(got.s, x, 1, len(x))
			close32(t, "log-softmax", got.s, logs, 10)
			copy(y, got.s)
			LogSoftmaxGrad(got.s, dy, y)
			close32(t, "log-softmax gradient", got.s, logGrads, math.Abs(sum)+1)
			got.intact(t, "softmax")
			noAllocations(t, "softmax", func() {
				SoftmaxRows(got.s, x, 1, len(x))
				SoftmaxGrad(got.s, dy, y)
				LogSoftmaxRows(got.s, x, 1, len(x))
				LogSoftmaxGrad(got.s, dy, y)
			})
		}
	})
}

// TestSoftmaxMasked gives what an attention mask leaves: zeros where x is -inf, NaN where every x is.
func TestSoftmaxMasked(t *testing.T) {
	levels(t, func(t *testing.T) {
		x, y := make([]float32, 19), make([]float32, 19)
		for i := range x {
			if x[i] = -inf32; i%3 == 0 {
				x[i] = 2
			}
		}
		SoftmaxRows(y, x, 1, len(x))
		for i, v := range y {
			if want := float64(1-min(1, i%3)) / 7; math.Abs(float64(v)-want) > 1e-6 {
				t.Fatalf("y[%d] = %g, want %g", i, v, want)
			}
		}
		fill(x, -inf32)
		SoftmaxRows(y, x, 1, len(x))
		if y[0] == y[0] || y[18] == y[18] {
			t.Fatalf("softmax of nothing but -inf: %v", y)
		}
	})
}

// TestSoftmaxColumns compares with the rows of the transpose.
func TestSoftmaxColumns(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(32, 1))
		for _, s := range [][2]int{{1, 3}, {21, 700}, {3, 16}, {7, 1}} {
			count, inner := s[0], s[1]
			x, got, row := random(r, count*inner), guard(count*inner), make([]float32, count)
			for _, logarithm := range []bool{false, true} {
				lo := inner / 3
				SoftmaxColumns(got.s, x, count, inner, 0, lo, logarithm)
				SoftmaxColumns(got.s, x, count, inner, lo, inner, logarithm)
				got.intact(t, "columns")
				for c := range inner {
					for i := range row {
						row[i] = x[i*inner+c]
					}
					if logarithm {
						LogSoftmaxRows(row, row, 1, len(row))
					} else {
						SoftmaxRows(row, row, 1, len(row))
					}
					for i, want := range row {
						if v := got.s[i*inner+c]; math.Abs(float64(v-want)) > 1e-5 {
							t.Fatalf("%v %v: [%d,%d] %g, want %g", s, logarithm, i, c, v, want)
						}
					}
				}
			}
		}
	})
}

// TestReductions holds the sums against float64 and the extremes against a loop, NaN included.
func TestReductions(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(33, 1))
		for _, n := range rowLengths {
			x, y := random(r, n), random(r, n)
			var sum, squares, products float64
			top, least := x[0], x[0]
			for i, v := range x {
				sum += float64(v)
				squares += (float64(v) - 0.5) * (float64(v) - 0.5)
				products += float64(v) * float64(y[i])
				top, least = max(top, v), min(least, v)
			}
			for _, k := range []struct {
				name      string
				got, want float64
			}{{"sum", RowSum(x), sum}, {"squares", RowSquares(x, 0.5), squares},
				{"products", RowProducts(x, y), products},
				{"max", float64(RowMax(x)), float64(top)}, {"min", float64(RowMin(x)), float64(least)}} {
				if math.Abs(k.got-k.want) > 1e-6*float64(n) {
					t.Fatalf("%s of %d: %g, want %g", k.name, n, k.got, k.want)
				}
			}
			x[n/2] = nan32
			if m, l := RowMax(x), RowMin(x); m == m || l == l {
				t.Fatalf("max and min of %d with a NaN: %g, %g", n, m, l)
			}
			noAllocations(t, "reductions", func() {
				RowSum(x)
				RowMax(x)
				RowSquares(x, 1)
				RowProducts(x, y)
			})
		}
	})
}

// TestRowNormalization holds LayerNorm and RMSNorm and their gradients against float64.
func TestRowNormalization(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(34, 1))
		for _, n := range rowLengths {
			for _, rms := range []bool{false, true} {
				checkRowNormalization(t, r, n, rms)
			}
		}
	})
}

func checkRowNormalization(t *testing.T, r *rand.Rand, n int, rms bool) {
	x, dy, scale, bias, got := random(r, n), random(r, n), random(r, n), random(r, n), guard(n)
	for i := range x {
		x[i] += 3
	}
	var mean, variance, g, gx float64
	if !rms {
		for _, v := range x {
			mean += float64(v) / float64(n)
		}
	}
	for _, v := range x {
		variance += (float64(v) - mean) * (float64(v) - mean) / float64(n)
	}
	inv := 1 / math.Sqrt(variance+1e-3)
	for i, d := range dy {
		g += float64(d) * float64(scale[i]) / float64(n)
		gx += float64(d) * float64(scale[i]) * (float64(x[i]) - mean) / float64(n)
	}
	if rms {
		g = 0
	}
	want, dx, dscale := make([]float64, n), make([]float64, n), make([]float64, n)
	for i, v := range x {
		d := (float64(v) - mean) * inv
		want[i] = d * float64(scale[i])
		if !rms {
			want[i] += float64(bias[i])
		}
		dx[i] = inv * (float64(dy[i])*float64(scale[i]) - g - d*inv*gx)
		dscale[i] = 1 + float64(dy[i])*d
	}
	name := fmt.Sprintf("%d rms=%v", n, rms)
	weights := guard(n)
	fill(weights.s, 1)
	if rms {
		k := RMSNorm(got.s, x, scale, 1e-3)
		close32(t, name, got.s, want, 4)
		RMSNormGrad(got.s, dy, x, scale, k)
		LayerNormWeights(weights.s, nil, dy, x, 0, k)
	} else {
		m, k := LayerNorm(got.s, x, scale, bias, 1e-3)
		close32(t, name, got.s, want, 4)
		LayerNormGrad(got.s, dy, x, scale, m, k)
		total := append([]float32{}, bias...)
		LayerNormWeights(weights.s, total, dy, x, m, k)
		for i, v := range total {
			if v != bias[i]+dy[i] {
				t.Fatalf("%s: dbias[%d] = %g, want %g", name, i, v, bias[i]+dy[i])
			}
		}
		noAllocations(t, name, func() { LayerNorm(total, x, scale, bias, 1e-3) })
	}
	close32(t, name+" gradient", got.s, dx, 30*inv)
	close32(t, name+" gradient of scale", weights.s, dscale, 4)
	got.intact(t, name)
	weights.intact(t, name)
}

// TestRowBits asks that every level gives the same bits.
func TestRowBits(t *testing.T) {
	r := rand.New(rand.NewPCG(35, 1))
	best, was := available(), current
	defer func() { current = was }()
	for _, n := range rowLengths {
		x, dy, scale, bias := random(r, n), random(r, n), random(r, n), random(r, n)
		var first []float32
		for current = levelGo; current <= best; current++ {
			var all []float32
			y, dx := make([]float32, n), make([]float32, n)
			keep := func() { all = append(append(all, y...), dx...) }
			SoftmaxRows(y, x, 1, len(x))
			SoftmaxGrad(dx, dy, y)
			keep()
			LogSoftmaxRows(y, x, 1, len(x))
			LogSoftmaxGrad(dx, dy, y)
			keep()
			m, inv := LayerNorm(y, x, scale, bias, 1e-5)
			LayerNormGrad(dx, dy, x, scale, m, inv)
			keep()
			inv = RMSNorm(y, x, scale, 1e-5)
			RMSNormGrad(dx, dy, x, scale, inv)
			LayerNormWeights(dx, y, dy, x, m, inv)
			Axpy(y, x, 0.3)
			keep()
			if first == nil {
				first = all
			}
			for i, v := range all {
				if v != first[i] {
					t.Fatalf("%d: number %d is %g at %s, %g at go", n, i, v, Level(), first[i])
				}
			}
		}
	}
}
