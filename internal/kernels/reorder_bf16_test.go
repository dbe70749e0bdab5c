package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestReorderBF16 converts plain and blocked maps to bf16 and back, over the halo and lanes of both.
func TestReorderBF16(t *testing.T) {
	for _, c := range []struct {
		l     LineLayout
		halo  int
		lanes int // of the blocked layout; 0 for plain
	}{
		{LineLayout{N: 0, C: 3, H: 2, W: 2}, 0, 0},
		{LineLayout{N: 1, C: 1, H: 1, W: 1}, 0, 0}, {LineLayout{N: 3, C: 33, H: 5, W: 7, Halo: 1}, 0,
			0}, {LineLayout{N: 1, C: 64, H: 70, W: 67, Halo: 2}, 0, 0},
		{LineLayout{N: 2, C: 17, H: 3, W: 40}, 1, Block}, {LineLayout{N: 1, C: 48, H: 9, W: 33, Halo: 3}, 0,
			Block}, {LineLayout{N: 1, C: 100, H: 66, W: 65, Halo: 1}, 1, Block},
		{LineLayout{N: 2, C: 3, H: 5, W: 37, Halo: 1}, 2, 3}, {LineLayout{N: 1, C: 6, H: 5, W: 4}, 1,
			narrowBlock}, {LineLayout{N: 1, C: 8, H: 5, W: 4, Halo: 1}, 0, narrowBlock},
	} {
		c.l.Lanes = BF16Lanes
		t.Run(fmt.Sprintf("%+v lanes %d", c.l, c.lanes), func(t *testing.T) {
			b := Layout{c.l.N, c.l.C, c.l.H, c.l.W, c.halo, c.lanes}
			checkReorderBF16(t, c.l, b)
		})
	}
}

func checkReorderBF16(t *testing.T, l LineLayout, b Layout) {
	k, err := NewReorderBF16(l)
	plain := random(rand.New(rand.NewPCG(1, uint64(l.C))), l.N*l.C*l.H*l.W)
	src, size := plain, len(plain)
	if b.Lanes > 0 {
		k, err = NewReorderBF16Blocked(b, l)
		src, size = toBlocked(b, plain), b.Size()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines, back := guardBF16(l.Size()), guard(size)
	for i := range k.Chunks() {
		k.ToBF16(i, lines.s, src)
	}
	for i := range k.Chunks() {
		k.FromBF16(i, back.s, lines.s)
	}
	lines.intact(t, "bf16")
	back.intact(t, "float32")
	zeroOutside(t, "bf16", l, lines.s)
	want, got := roundBF16(plain), back.s
	if b.Lanes > 0 {
		zeroElsewhere(t, "float32", b, back.s)
		got = toPlain(b, back.s)
	}
	for i, v := range fromLines(l, lines.s) {
		if v != want[i] || got[i] != want[i] {
			t.Fatalf("value %d, %g, is %g in bf16 and %g afterwards", i, plain[i], v, got[i])
		}
	}
}
