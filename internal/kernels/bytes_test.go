package kernels

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// twoWays runs f by assembly and by the twins, and compares what it writes.
func twoWays[T comparable](t *testing.T, name string, n int, f func(y []T)) []T {
	t.Helper()
	got, twin := make([]T, n), make([]T, n)
	f(got)
	onTwins(func() { f(twin) })
	for i := range got {
		if got[i] != twin[i] {
			t.Fatalf("%s: value %d is %v, its twin's %v", name, i, got[i], twin[i])
		}
	}
	return got
}

func TestLevels(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 1))
	for range 20 {
		q := drawQuantized(r)
		l := NewLevels(float32(math.Exp(2*r.NormFloat64()-3)), q)
		n := r.IntN(200)
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(50 * r.NormFloat64() * float64(l.scale))
			if r.IntN(20) == 0 {
				x[i] = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 0,
					2.5 * l.scale, 1e30}[r.IntN(6)]
			}
		}
		got := twoWays(t, "quantize", n, func(y []uint8) { l.Quantize(y, x) })
		low, high := q.limits()
		for i, v := range x {
			want := math.RoundToEven(float64(v/l.scale)) + float64(q.Zero)
			if want != want {
				want = 0
			}
			want = min(max(want, float64(low)), float64(high))
			if float64(q.value(got[i])) != want {
				t.Fatalf("%v with scale %v and zero %d is %d, want %v", v, l.scale, q.Zero,
					q.value(got[i]), want)
			}
		}
		back := twoWays(t, "dequantize", n, func(y []float32) { l.Dequantize(y, got) })
		for i, b := range got {
			if want := float32(q.value(b)-q.Zero) * l.scale; back[i] != want {
				t.Fatalf("%d is %v, want %v", b, back[i], want)
			}
		}
		w := r.IntN(70)
		planes := [PixelLanes][]float32{}
		for c := range r.IntN(PixelLanes) + 1 {
			planes[c] = random(r, w)
		}
		pixels := twoWays(t, "pixels", PixelLanes*w, func(y []uint8) { l.pixels(y, &planes, w) })
		for i, b := range pixels {
			v := float32(0)
			if p := planes[i%PixelLanes]; p != nil {
				v = p[i/PixelLanes]
			}
			if b != l.level(v) {
				t.Fatalf("pixel value %d is %d, want %d", i, b, l.level(v))
			}
		}
	}
}

func TestAddBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 1))
	for range 20 {
		q := drawQuantized(r)
		low, high := q.limits()
		p := AddBytes{Signed: q.Signed, ByA: r.Float32() * 2, ByB: r.Float32() * 2,
			Fixed: 100 * (r.Float32() - 0.5),
			Low:   float32(low), High: float32(high)}
		n := 64 * r.IntN(40)
		a, b := randomBytes(r, n), randomBytes(r, n)
		twoWays(t, "add", n, func(y []uint8) { p.Run(y, a, b) })
		m := NewMulBytes(q, drawQuantized(r), q, r.Float32(), r.Float32()/100, r.Float32())
		m.Signed = q.Signed
		for _, step := range []int{0, 64} {
			twoWays(t, "multiply", n, func(y []uint8) { m.Run(y, a, b, step) })
		}
	}
}

func TestFused(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 1))
	for range 100000 {
		a, b, c := float32(r.IntN(512)-256), float32(r.NormFloat64()),
			float32(r.NormFloat64()*math.Exp2(float64(r.IntN(60)-30)))
		sum := new(big.Float).SetPrec(200).Add(big.NewFloat(float64(a)*float64(b)), big.NewFloat(float64(c)))
		want, _ := sum.Float32()
		if got := multiplyAdd(a, b, c); got != want {
			t.Fatalf("%v*%v + %v is %v, want %v", a, b, c, got, want)
		}
	}
}

func TestByteTableAndMax(t *testing.T) {
	r := rand.New(rand.NewPCG(14, 1))
	for range 20 {
		var table ByteTable
		copy(table[:], randomBytes(r, 256))
		n := r.IntN(700)
		x := randomBytes(r, n)
		for i, y := range twoWays(t, "table", n, func(y []uint8) { table.Run(y, x) }) {
			if y != table[x[i]] {
				t.Fatalf("value %d is %d, want %d", i, y, table[x[i]])
			}
		}
		lines, step, signed := 1+r.IntN(9), 64*(1+r.IntN(3)), r.IntN(2) == 0
		start, from := randomBytes(r, 64*lines), randomBytes(r, step*lines)
		got := twoWays(t, "max", 64*lines, func(y []uint8) {
			copy(y, start)
			maxLines(y, from, lines, step, signed)
		})
		q := Quantized{Signed: signed}
		for i, y := range got {
			if q.value(y) != max(q.value(start[i]), q.value(from[i/64*step+i%64])) {
				t.Fatalf("maximum %d is %d", i, y)
			}
		}
	}
}

func TestDepthwiseInt8(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 1))
	for range 60 {
		k := []int{1, 2, 3, 3, 3, 5, 5, 7}[r.IntN(8)]
		w := Window{KH: k, KW: k, StrideH: 1 + r.IntN(2), StrideW: 1 + r.IntN(2), PadTop: r.IntN(k),
			PadLeft: r.IntN(k), DilH: 1, DilW: 1}
		if r.IntN(4) == 0 {
			w.DilH, w.DilW, w.KW, w.StrideW = 2, 2, 3, 3
		}
		x := LineLayout{N: r.IntN(3), C: 1 + r.IntN(140), H: w.KH*w.DilH + r.IntN(12), W: w.KW*w.DilW +
			r.IntN(12), Halo: 2 * k, Lanes: Int8Lanes}
		y := x
		y.H, y.W, y.Halo = (x.H+w.PadTop-(w.KH-1)*w.DilH-1)/w.StrideH+1,
			(x.W+w.PadLeft-(w.KW-1)*w.DilW-1)/w.StrideW+1, r.IntN(3)
		checkDepthwiseInt8(t, r, ConvInt8Spec{X: x, Y: y, From: drawQuantized(r), To: drawQuantized(r),
			Window: w})
	}
}

// checkDepthwiseInt8 compares with the definition and with the twin, byte for byte.
func checkDepthwiseInt8(t *testing.T, r *rand.Rand, s ConvInt8Spec) {
	t.Helper()
	k, err := NewDepthwiseInt8(s)
	if err != nil {
		t.Fatalf("%+v: %v", s, err)
	}
	c := convCase{n: s.X.N, c: s.X.C, o: s.X.C, h: s.X.H, w: s.X.W, kh: s.KH, kw: s.KW, sh: s.StrideH,
		sw: s.StrideW, top: s.PadTop,
		left: s.PadLeft, dh: s.DilH, dw: s.DilW}
	plain, weights, bias := randomBytes(r, c.n*c.c*c.h*c.w), wideWeights(r, c.c*c.kh*c.kw,
		1), make([]int32, c.c)
	for i := range bias {
		bias[i] = int32(r.IntN(20001) - 10000)
	}
	x := AlignedBytes(s.X.Size())
	fill(x, uint8(s.From.Zero))
	eachLine(s.X, func(i, at int) { x[at] = plain[i] })
	packed, offset := AlignedBytes(k.WeightSize()), make([]int32, k.Outputs())
	k.Pack(packed, weights, c.c)
	k.Offset(offset, weights, bias)
	natural := drawRequantize(r, nil, k.Outputs(), c.kh*c.kw)
	e := Requantize{Bias: offset, Scale: make([]float32, k.Outputs())}
	for i := range c.c {
		e.Scale[k.Place(i)] = natural.Scale[i]
	}
	y, twin := guardBytes(s.Y.Size()), guardBytes(s.Y.Size())
	for i := range k.Chunks() {
		k.Run(i, nil, y.s, x, packed, e)
		onTwins(func() { k.Run(i, nil, twin.s, x, packed, e) })
	}
	y.intact(t, "y")
	equalBytes(t, "y and its twin", y.s, twin.s)
	got := make([]uint8, c.n*c.o*s.Y.H*s.Y.W)
	eachLine(s.Y, func(i, at int) { got[i] = y.s[at] })
	equalBytes(t, "y", got, c.naiveInt8(s, plain, weights, bias, natural, c.c))
}
