package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestGemmBF16(t *testing.T) {
	for i, s := range []GemmBF16Spec{{M: 0, N: 5, K: 32}, {M: 1, N: 1, K: 1, LDA: 32}, {M: 1, N: 100, K: 64},
		{M: 17, N: 33, K: 96}, {M: 50, N: 64, K: 33, LDA: 64},
		{M: 130, N: 40, K: 320}, {M: 7, N: 95, K: 31, LDA: 96}, {M: 1000, N: 34, K: 1024},
		{M: 100, N: 32, K: 2400, LDA: 2432}} {
		for _, s.Float = range []bool{false, true} {
			t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) {
				checkGemmBF16(t, s, rand.New(rand.NewPCG(2, uint64(i))))
			})
		}
	}
}

func TestGemmBF16Random(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for range 30 {
		s := GemmBF16Spec{M: r.IntN(100), N: 1 + r.IntN(150), K: 1 + r.IntN(200), Float: r.IntN(2) == 0}
		s.LDA = (s.K+31)/32*32 + r.IntN(3)*32
		t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) { checkGemmBF16(t, s, r) })
	}
}

// checkGemmBF16 compares a product with sums of float64 and, bit by bit, with the twin.
func checkGemmBF16(t *testing.T, s GemmBF16Spec, r *rand.Rand) {
	g, err := NewGemmBF16(s)
	if err != nil {
		t.Fatal(err)
	}
	s = g.GemmBF16Spec
	a, b := roundBF16(random(r, s.M*s.K)), roundBF16(random(r, s.K*s.N))
	want, rows, across := newWide(s.M*s.N), guardBF16(s.M*s.LDA), make([]float32, len(b))
	for i := range g.RowsChunks() {
		g.Rows(i, rows.s, a)
	}
	rows.intact(t, "rows")
	for i := range s.M {
		for k, v := range a[i*s.K:][:s.K] {
			for j := range s.N {
				want.add(i*s.N+j, float64(v)*float64(b[k*s.N+j]))
			}
		}
	}
	packed, other := guardBF16(g.PackedSize()), guardBF16(g.PackedSize())
	turnGo(across, s.K, b, s.N, s.K, s.N)
	for i := range g.PackChunks() {
		g.Pack(i, packed.s, b, false)
		g.Pack(i, other.s, across, true)
	}
	packed.intact(t, "packed")
	for i, v := range packed.s {
		if other.s[i] != v {
			t.Fatalf("packed from [N,K] value %d is %#x, from [K,N] %#x", i, other.s[i], v)
		}
	}
	bias, res := AlignedSlice(g.panels*tileOuts), roundBF16(random(r, s.M*s.N))
	copy(bias, random(r, s.N))
	half := AlignedBF16(len(res))
	ToBF16(half, res)
	gelu := NewMap(FuncGelu)
	for i, e := range []EpilogueBF16{{}, {Bias: bias, ReLU: true}, {Bias: bias, Residual: half, ReLU: true,
		High: 1.25}, {Bias: bias, Gate: gelu.Gate()}} {
		if s.Float {
			e.Residual, e.Gate = nil, nil
		}
		v, m := e.naive(LineLayout{C: s.N, H: 1, W: 1}, want, res)
		compareGemmBF16(t, fmt.Sprint("epilogue ", i), g, rows.s, packed.s, e, v, m)
	}
}

// Rows of C that lie apart are those that lie side by side, and nothing is written between them.
func TestGemmBF16Apart(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	for _, n := range []int{32, 40, 96} {
		s := GemmBF16Spec{M: 60, N: n, K: 64}
		g, err := NewGemmBF16(s)
		if err != nil {
			t.Fatal(err)
		}
		s.LDC = n + 24
		k, err := NewGemmBF16(s)
		if err != nil {
			t.Fatal(err)
		}
		a, b, scratch := AlignedBF16(s.M*s.K), AlignedBF16(g.PackedSize()), AlignedSlice(g.Scratch())
		ToBF16(a, random(r, len(a)))
		for i := range g.PackChunks() {
			g.Pack(i, b, random(r, s.K*n), false)
		}
		want := AlignedBF16(s.M * n)
		for i := range g.Chunks() {
			g.Run(i, scratch, want, a, b, EpilogueBF16{})
		}
		got := bothWays(t, "apart", s.M*s.LDC, func(c []uint16) {
			fill(c, sentinelBF16)
			for i := range k.Chunks() {
				k.Run(i, scratch, c, a, b, EpilogueBF16{})
			}
		})
		for i, v := range got {
			switch row, col := i/s.LDC, i%s.LDC; {
			case col >= n && v != sentinelBF16:
				t.Fatalf("%d columns: wrote %d of row %d", n, col, row)
			case col < n && v != want[row*n+col]:
				t.Fatalf("%d columns: another value in column %d of row %d", n, col, row)
			}
		}
	}
	if _, err := NewGemmBF16(GemmBF16Spec{M: 1, N: 40, K: 32, LDC: 39}); err == nil {
		t.Error("rows of C overlap")
	}
}

func compareGemmBF16(t *testing.T, name string, g *GemmBF16, a, b []uint16, e EpilogueBF16, want,
	magnitude []float64) {
	scratch := guard(g.Scratch())
	if g.Float {
		c, twin := guard(g.M*g.N), guard(g.M*g.N)
		for i := range g.Chunks() {
			g.RunFloat(i, scratch.s, c.s, a, b, e)
			onTwins(func() { g.RunFloat(i, scratch.s, twin.s, a, b, e) })
		}
		equal(t, name, c, twin)
		near(t, name, c.s, want, magnitude, false)
	} else {
		c, twin := guardBF16(g.M*g.N), guardBF16(g.M*g.N)
		for i := range g.Chunks() {
			g.Run(i, scratch.s, c.s, a, b, e)
			onTwins(func() { g.Run(i, scratch.s, twin.s, a, b, e) })
		}
		c.intact(t, name)
		for i, v := range twin.s {
			if c.s[i] != v {
				t.Fatalf("%s: value %d is %g, twin %g", name, i, fromBF16(c.s[i]), fromBF16(v))
			}
		}
		got := make([]float32, len(c.s))
		FromBF16(got, c.s)
		near(t, name, got, want, magnitude, true)
	}
	scratch.intact(t, "scratch")
}
