package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// levels runs a test at every level this machine and build have.
func levels(t *testing.T, f func(t *testing.T)) {
	best, was := available(), current
	defer func() { current = was }()
	for l := levelGo; l <= best; l++ {
		current = l
		t.Run(levelNames[l], f)
	}
}

// tolerance is for sums in another order and with fused multiply-add, relative to the sum of magnitudes.
const tolerance = 1e-5

func random(r *rand.Rand, n int) []float32 {
	x := AlignedSlice(n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// same compares with values that come with the magnitude that was accumulated for each.
func same(t *testing.T, name string, got []float32, want, magnitude []float64) {
	t.Helper()
	if len(got) < len(want) {
		t.Fatalf("%s: %d values, want %d", name, len(got), len(want))
	}
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= tolerance*(magnitude[i]+1e-6)) {
			t.Fatalf("%s: value %d is %g, want %g (difference %g of magnitude %g)", name, i, got[i], w,
				d, magnitude[i])
		}
	}
}

// guarded is a slice between sentinels; intact fails when one was overwritten.
type guarded struct{ all, s []float32 }

const sentinel = -987654

func guard(n int) guarded {
	all := AlignedSlice(n + 64)
	for i := range all {
		all[i] = sentinel
	}
	return guarded{all, all[32 : 32+n : 32+n]}
}

func (g guarded) intact(t *testing.T, name string) {
	t.Helper()
	for i, v := range g.all {
		if (i < 32 || i >= 32+len(g.s)) && v != sentinel {
			t.Fatalf("%s: wrote %d floats from the start of a slice of %d", name, i-32, len(g.s))
		}
	}
}

// toBlocked and toPlain are the naive conversions.
func toBlocked(l Layout, plain []float32) []float32 {
	b := AlignedSlice(l.Size())
	eachPixel(l, func(plainAt, at int) { b[at] = plain[plainAt] })
	return b
}

func toPlain(l Layout, b []float32) []float32 {
	plain := make([]float32, l.N*l.C*l.H*l.W)
	eachPixel(l, func(plainAt, at int) { plain[plainAt] = b[at] })
	return plain
}

func eachPixel(l Layout, f func(plain, blocked int)) {
	i := 0
	for n := range l.N {
		for c := range l.C {
			for h := range l.H {
				for w := range l.W {
					f(i, ((n*((l.C+l.Lanes-1)/l.Lanes)+c/l.Lanes)*(l.H+2*l.Halo)+h+l.Halo)*(l.W+
						2*l.Halo)*l.Lanes+(w+l.Halo)*l.Lanes+c%l.Lanes)
					i++
				}
			}
		}
	}
}

// zeroElsewhere fails when a float of the halo or of a lane past C is not zero.
func zeroElsewhere(t *testing.T, name string, l Layout, b []float32) {
	t.Helper()
	inside := make([]bool, l.Size())
	eachPixel(l, func(_, at int) { inside[at] = true })
	for i, in := range inside {
		if !in && b[i] != 0 {
			t.Fatalf("%s: halo or pad lane at %d is %g", name, i, b[i])
		}
	}
}

func plane(n, c, h, w, halo int) Layout { return Layout{n, c, h, w, halo, Block} }

func noAllocations(t *testing.T, name string, f func()) {
	t.Helper()
	if n := testing.AllocsPerRun(3, f); n != 0 {
		t.Errorf("%s allocates %v times", name, n)
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		want string
		best level
		got  level
		err  string
	}{
		{"", levelAVX2, levelAVX2, ""},
		{"go", levelAVX512, levelGo, ""},
		{"avx2", levelAVX512, levelAVX2, ""},
		{"avx512", levelAVX2, levelAVX2, "CNNKIT_CPU=avx512: this machine or build has only avx2"},
		{"sse9", levelAVX2, levelAVX2, `CNNKIT_CPU="sse9" is unknown: amx, avx512vnni, avx512, avx2 or go`},
	} {
		got, err := choose(c.want, c.best)
		if got != c.got || fmt.Sprint(err) != c.err && (err != nil || c.err != "") {
			t.Errorf("choose(%q, %v) = %v, %v", c.want, c.best, got, err)
		}
	}
}
