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

// Maps in bf16 become rows of float32, and those are rounded on the way back.
func TestTokensBF16(t *testing.T) {
	r := rand.New(rand.NewPCG(63, 1))
	for range 20 {
		l := randomLines(r)
		if r.IntN(2) == 0 {
			l.C = (l.C + 31) &^ 31
		}
		plain, x := roundedMap(r, l)
		k, nhwc := NewTokensBF16(l), guard(len(plain))
		for chunk := range k.Chunks() {
			k.From(chunk, nhwc.s, x)
		}
		nhwc.intact(t, "from")
		for i, v := range plain {
			n, c, p := i/(l.C*l.H*l.W), i/(l.H*l.W)%l.C, i%(l.H*l.W)
			at := (n*l.H*l.W+p)*l.C + c
			if nhwc.s[at] != v {
				t.Fatalf("%+v: number %d is %g, want %g", l, i, nhwc.s[at], v)
			}
			nhwc.s[at] *= 1 + 1./1024 // rounded again
			plain[i] = nhwc.s[at]
		}
		back := bothWays(t, "to", l.Size(), func(y []uint16) {
			for chunk := range k.Chunks() {
				k.To(chunk, y, nhwc.s)
			}
		})
		zeroOutside(t, "to", l, back)
		for i, v := range fromLines(l, back) {
			if want := fromBF16(toBF16(plain[i])); v != want {
				t.Fatalf("%+v and back: number %d is %g, want %g", l, i, v, want)
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
