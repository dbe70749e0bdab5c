package convert

import (
	"math"
	"testing"
)

// TestHalf takes every binary16 number through float64 and back, and checks rounding at the edges.
func TestHalf(t *testing.T) {
	for h := range 1 << 16 {
		v := fromHalf(uint16(h))
		if v == v && toHalf(v) != uint16(h) {
			t.Fatalf("%#04x is %v and comes back as %#04x", h, v, toHalf(v))
		}
	}
	for v, want := range map[float64]uint16{65519: 0x7bff, 65520: 0x7c00, 1 + 1.0/2048: 0x3c00,
		1 + 3.0/2048:       0x3c02,
		math.Ldexp(1, -25): 0, math.Ldexp(3, -25): 2, 2047.0 / 2048 * math.Ldexp(1, -14): 0x0400} {
		if got := toHalf(v); got != want {
			t.Errorf("%v becomes %#04x, want %#04x", v, got, want)
		}
	}
	for v, want := range map[float32]uint16{1: 0x3f80, 1 + 1.0/256: 0x3f80, 1 + 3.0/256: 0x3f82} {
		if got := toBFloat(v); got != want {
			t.Errorf("bfloat16 of %v is %#04x, want %#04x", v, got, want)
		}
	}
}
