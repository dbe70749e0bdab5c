package kernels

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestTokens converts to and fro and compares with the plain map.
func TestTokens(t *testing.T) {
	r := rand.New(rand.NewPCG(61, 1))
	for _, l := range []Layout{plane(2, 19, 3, 5, 1), plane(1, 32, 4, 4, 0), plane(1, 3, 2, 2, 2)} {
		plain := random(r, l.N*l.C*l.H*l.W)
		k, nhwc, back := NewTokens(l), guard(len(plain)), guard(l.Size())
		for chunk := range k.Chunks() {
			k.From(chunk, nhwc.s, toBlocked(l, plain))
			k.To(chunk, back.s, nhwc.s)
		}
		nhwc.intact(t, "from")
		back.intact(t, "to")
		zeroElsewhere(t, "to", l, back.s)
		for i, v := range plain {
			n, c, p := i/(l.C*l.H*l.W), i/(l.H*l.W)%l.C, i%(l.H*l.W)
			if got := nhwc.s[(n*l.H*l.W+p)*l.C+c]; got != v {
				t.Fatalf("%+v: number %d is %g, want %g", l, i, got, v)
			}
			if got := toPlain(l, back.s)[i]; got != v {
				t.Fatalf("%+v and back: number %d is %g, want %g", l, i, got, v)
			}
		}
	}
}

// TestMapMeans compares with float64.
func TestMapMeans(t *testing.T) {
	levels(t, func(t *testing.T) {
		l := plane(2, 19, 3, 5, 1)
		plain := random(rand.New(rand.NewPCG(62, 1)), 2*19*15)
		k, y := NewMapMeans(l), guard(2*19)
		for chunk := range k.Chunks() {
			k.Run(chunk, y.s, toBlocked(l, plain))
		}
		y.intact(t, "means")
		for i, v := range y.s {
			want := 0.0
			for _, x := range plain[i*15:][:15] {
				want += float64(x) / 15
			}
			if math.Abs(float64(v)-want) > 1e-6 {
				t.Fatalf("mean %d is %g, want %g", i, v, want)
			}
		}
	})
}
