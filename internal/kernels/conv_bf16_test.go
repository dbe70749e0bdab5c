package kernels

import (
	"math"
	"math/rand/v2"
	"testing"
)

// onTwins runs f on the twins.
func onTwins(f func()) {
	was := twinsOnly
	twinsOnly = true
	defer func() { twinsOnly = was }()
	f()
}

// guardedBF16 is a slice between sentinels.
type guardedBF16 struct{ all, s []uint16 }

const sentinelBF16 = 0xdead

func guardBF16(n int) guardedBF16 {
	all := AlignedBF16(n + 128)
	fill(all, sentinelBF16)
	return guardedBF16{all, all[64 : 64+n : 64+n]}
}

func (g guardedBF16) intact(t *testing.T, name string) {
	t.Helper()
	for i, v := range g.all {
		if (i < 64 || i >= 64+len(g.s)) && v != sentinelBF16 {
			t.Fatalf("%s: wrote %d values from the start of a slice of %d", name, i-64, len(g.s))
		}
	}
}

// roundBF16 is x rounded to bf16, in float32.
func roundBF16(x []float32) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = fromBF16(toBF16(v))
	}
	return y
}

// eachLine calls f for every real value of a map with its place in plain layout.
func eachLine(l LineLayout, f func(plain, at int)) {
	i := 0
	for n := range l.N {
		for c := range l.C {
			for h := range l.H {
				for w := range l.W {
					f(i, l.value(n, c/l.Lanes, h, w)+c%l.Lanes)
					i++
				}
			}
		}
	}
}

func toLines(l LineLayout, plain []float32) []uint16 {
	b := AlignedBF16(l.Size())
	eachLine(l, func(i, at int) { b[at] = toBF16(plain[i]) })
	return b
}

func fromLines(l LineLayout, b []uint16) []float32 {
	plain := make([]float32, l.N*l.C*l.H*l.W)
	eachLine(l, func(i, at int) { plain[i] = fromBF16(b[at]) })
	return plain
}

func zeroOutside(t *testing.T, name string, l LineLayout, b []uint16) {
	t.Helper()
	inside := make([]bool, l.Size())
	eachLine(l, func(_, at int) { inside[at] = true })
	for i, in := range inside {
		if !in && b[i] != 0 {
			t.Fatalf("%s: halo or lane past C at %d is %g", name, i, fromBF16(b[i]))
		}
	}
}

func lineLayout(l Layout) LineLayout { return LineLayout{l.N, l.C, l.H, l.W, l.Halo, BF16Lanes} }

func (s ConvSpec) window() Window {
	return Window{s.KH, s.KW, s.StrideH, s.StrideW, s.PadTop, s.PadLeft, s.DilH, s.DilW}
}

func (s ConvSpec) bf16(x, y Layout) ConvBF16Spec {
	return ConvBF16Spec{lineLayout(x), lineLayout(y), s.window()}
}

// near compares with sums of float64: each within the error of summing in float32 and, if
// asked, of rounding to bf16.
func near(t *testing.T, name string, got []float32, want, magnitude []float64, rounded bool) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", name, len(got), len(want))
	}
	for i, w := range want {
		limit := tolerance * (magnitude[i] + 1e-6)
		if rounded {
			limit += math.Abs(w) / 256
		}
		if d := math.Abs(float64(got[i]) - w); !(d <= limit) {
			t.Fatalf("%s: value %d is %g, want %g (difference %g of magnitude %g)", name, i, got[i], w,
				d, magnitude[i])
		}
	}
}

var bf16Cases = append([]convCase{
	square(0, 5, 4, 7, 3, 1, 1),
	square(3, 33, 7, 17, 3, 1, 1),
	square(1, 1, 1, 1, 1, 1, 0),
	square(1, 64, 56, 40, 1, 1, 0),
	square(2, 40, 14, 70, 3, 1, 1),
	square(1, 33, 28, 33, 3, 1, 1),
	square(1, 256, 6, 33, 3, 1, 1), // 72 steps
	square(3, 96, 5, 64, 5, 1, 2),
	square(1, 64, 23, 64, 3, 2, 1),
	square(1, 40, 15, 33, 2, 3, 0),
	square(8, 40, 7, 70, 1, 1, 0), // several images a call
	square(6, 33, 5, 40, 3, 1, 1),
	square(4, 70, 8, 33, 3, 2, 1),
}, convCases...)

// products is the number of multiplications of whole blocks.
func (c convCase) products() int {
	return c.n * ((c.c + 31) &^ 31) * ((c.o + 31) &^ 31) * c.h * c.w * c.kh * c.kw / (c.sh * c.sw)
}

func TestConvBF16(t *testing.T) {
	for i, c := range bf16Cases {
		if c.products() > 1<<24 {
			continue // the twin takes long
		}
		t.Run(c.String(), func(t *testing.T) { checkConvBF16(t, c, rand.New(rand.NewPCG(3, uint64(i)))) })
	}
}

// checkConvBF16 compares a convolution and the gradient of its input with sums of float64 and,
// bit by bit, with the twin.
func checkConvBF16(t *testing.T, c convCase, r *rand.Rand) {
	c.small, c.narrow = false, false
	full, ok := c.spec()
	if !ok {
		t.Skip("no output")
	}
	x, w, dy := random(r, c.n*c.c*c.h*c.w), random(r, c.o*c.c*c.kh*c.kw), random(r, c.n*c.o*full.Y.H*full.Y.W)
	x, w, dy = roundBF16(x), roundBF16(w), roundBF16(dy)
	y, dx, dw := c.naive(full, x, w, dy)
	forward, err := NewConvBF16(full.bf16(full.X, full.Y))
	if err != nil {
		t.Fatal(err)
	}
	compareConvBF16(t, "y", forward, toLines(forward.in, x), w, y, r)
	back, err := NewConvBF16Data(full.bf16(full.DX, full.DY))
	if err != nil {
		t.Fatal(err)
	}
	compareConvBF16(t, "dx", back, toLines(back.in, dy), w, dx, r)
	compareWeightsBF16(t, full, x, dy, dw)
	compareConvFloat(t, full, toLines(forward.in, x), w, y)
}

// compareConvBF16 compares the output of either direction, with epilogues, with sums of float64 and the twin.
func compareConvBF16(t *testing.T, name string, k *ConvBF16, x []uint16, w []float32, want wide,
	r *rand.Rand) {
	packed, scratch := AlignedBF16(k.WeightSize()), guard(k.Scratch())
	k.Pack(packed, w)
	l := k.out
	bias, res := AlignedSlice(l.Blocks()*BF16Lanes), roundBF16(random(r, len(want.v)))
	copy(bias, random(r, l.C))
	gelu := NewMap(FuncGelu)
	for i, e := range []EpilogueBF16{{Bias: bias, ReLU: true}, {Bias: bias, Gate: gelu.Gate()},
		{Bias: bias, Residual: toLines(l, res), ReLU: true, High: 1.25}} {
		out, twin := guardBF16(l.Size()), guardBF16(l.Size())
		for chunk := range k.Chunks() {
			k.Run(chunk, scratch.s, out.s, x, packed, e)
		}
		out.intact(t, name)
		scratch.intact(t, "scratch")
		zeroOutside(t, name, l, out.s)
		onTwins(func() {
			for chunk := k.Chunks() - 1; chunk >= 0; chunk-- {
				k.Run(chunk, scratch.s, twin.s, x, packed, e)
			}
		})
		for j, v := range twin.s {
			if out.s[j] != v {
				t.Fatalf("%s with epilogue %d: value %d is %g, twin %g", name, i, j, fromBF16(out.s[j]),
					fromBF16(v))
			}
		}
		v, m := e.naive(l, want, res)
		near(t, name, fromLines(l, out.s), v, m, true)
	}
}

// naive applies an epilogue to sums in plain layout.
func (e EpilogueBF16) naive(l LineLayout, sums wide, res []float32) (v, m []float64) {
	v, m = make([]float64, len(sums.v)), make([]float64, len(sums.v))
	low, high := e.bounds()
	for i := range v {
		v[i], m[i] = sums.v[i], sums.m[i]
		if e.Bias != nil {
			b := float64(e.Bias[i/(l.H*l.W)%l.C])
			v[i], m[i] = v[i]+b, m[i]+math.Abs(b)
		}
		if e.Residual != nil {
			v[i], m[i] = v[i]+float64(res[i]), m[i]+math.Abs(float64(res[i]))
		}
		if v[i] = min(max(v[i], float64(low)), float64(high)); e.Gate != nil {
			m[i] += 16 * math.Abs(v[i]) // a gate is less exact than a sum
			v[i] = float64(e.Gate.at(float32(v[i])))
		}
	}
	return v, m
}

// compareConvFloat compares the float32 output, bit by bit with the twin's.
func compareConvFloat(t *testing.T, s ConvSpec, x []uint16, w []float32, want wide) {
	if s.Y.N == 0 {
		return
	}
	k, err := NewConvBF16Float(s.bf16(s.X, s.Y), s.Y)
	if err != nil {
		t.Fatal(err)
	}
	packed, scratch := AlignedBF16(k.WeightSize()), AlignedSlice(k.Scratch())
	k.Pack(packed, w)
	out, twin := guard(s.Y.Size()), guard(s.Y.Size())
	for chunk := range k.Chunks() {
		k.RunFloat(chunk, scratch, out.s, x, packed, EpilogueBF16{})
	}
	onTwins(func() {
		for chunk := range k.Chunks() {
			k.RunFloat(chunk, scratch, twin.s, x, packed, EpilogueBF16{})
		}
	})
	equal(t, "float32 y", out, twin)
	zeroElsewhere(t, "float32 y", s.Y, out.s)
	near(t, "float32 y", toPlain(s.Y, out.s), want.v, want.m, false)
}

func TestConvBF16Random(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	for range 30 {
		c := randomConv(r)
		c.n, c.c, c.o = r.IntN(3), 1+r.IntN(70), 1+r.IntN(70)
		t.Run(c.String(), func(t *testing.T) { checkConvBF16(t, c, r) })
	}
}

// TestConvBF16Special compares the twin's arithmetic with the tiles' on denormal numbers, infinities and NaN.
func TestConvBF16Special(t *testing.T) {
	if !amx() {
		t.Skip("no AMX")
	}
	r := rand.New(rand.NewPCG(5, 1))
	special := []uint16{0, 0x8000, 1, 0x8001, 0x7f, 0x80, 0x8080, 0x7f7f, 0x7f80, 0xff80, 0x7fc0, 0x1f80,
		0x2000, 0x9fff, 0x2001, 0x0100}
	for round := range 300 {
		l := LineLayout{1, 32, 16, 16, 0, BF16Lanes}
		k, err := NewConvBF16Float(ConvBF16Spec{l, l, Window{KH: 1, KW: 1, StrideH: 1, StrideW: 1, DilH: 1,
			DilW: 1}}, plane(1, 32, 16, 16, 0))
		if err != nil {
			t.Fatal(err)
		}
		draw := func(n int) []uint16 {
			x := AlignedBF16(n)
			for i := range x {
				switch {
				case r.IntN(40) == 0 && round%3 > 0:
					x[i] = special[r.IntN(len(special))]
				case round%3 == 2:
					x[i] = uint16(r.IntN(0x1000)+0x1c00) | uint16(r.IntN(2))<<15
				default:
					x[i] = toBF16(float32(r.NormFloat64()))
				}
			}
			return x
		}
		x, w, bias := draw(l.Size()), draw(k.WeightSize()), AlignedSlice(32)
		FromBF16(bias, draw(32))
		y, twin, scratch := AlignedSlice(2*16*256), AlignedSlice(2*16*256), AlignedSlice(k.Scratch())
		e := EpilogueBF16{Bias: bias, ReLU: round%2 == 1, High: 2}
		run := func(y []float32) {
			for i := range k.Chunks() {
				k.RunFloat(i, scratch, y, x, w, e)
			}
		}
		run(y)
		onTwins(func() { run(twin) })
		for i, v := range twin {
			if math.Float32bits(y[i]) != math.Float32bits(v) && !(v != v && y[i] != y[i]) {
				t.Fatalf("round %d: sum %d is %g (%#x), twin %g (%#x)", round, i, y[i],
					math.Float32bits(y[i]), v, math.Float32bits(v))
			}
		}
	}
}

func TestToBF16(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 1))
	for _, n := range []int{0, 1, 31, 32, 33, 4096} {
		x := make([]float32, n)
		for i := range x {
			x[i] = math.Float32frombits(r.Uint32())
			if i%7 == 0 {
				// denormal and next to it
				x[i] = math.Float32frombits(r.Uint32()&0x807fffff | uint32(i%2)<<23)
			}
		}
		got := guardBF16(n)
		ToBF16(got.s, x)
		got.intact(t, "bf16")
		for i, v := range x {
			if got.s[i] != toBF16(v) {
				t.Fatalf("bf16(%g = %#x) is %#x, twin %#x", v, math.Float32bits(v), got.s[i], toBF16(v))
			}
		}
		back := guard(n)
		FromBF16(back.s, got.s)
		back.intact(t, "float32")
		for i, h := range got.s {
			if math.Float32bits(back.s[i]) != uint32(h)<<16 {
				t.Fatalf("float32 of %#x is %g", h, back.s[i])
			}
		}
	}
	for _, c := range []struct {
		f    float32
		want uint16
	}{{1, 0x3f80}, {1 + 0x1p-8, 0x3f80}, {1 + 0x3p-8, 0x3f82}, {1 + 0x1p-8 + 0x1p-20, 0x3f81}, {-2, 0xc000},
		{math.MaxFloat32, 0x7f80}} {
		if got := toBF16(c.f); got != c.want {
			t.Errorf("bf16(%g) = %#x, want %#x", c.f, got, c.want)
		}
	}
}

// compareWeightsBF16 compares the gradient of the weights with sums of float64 and,
// bit by bit, with the twin.
func compareWeightsBF16(t *testing.T, s ConvSpec, x, dy []float32, want wide) {
	k, err := NewConvBF16Weights(s.bf16(s.X, s.DY))
	if err != nil {
		t.Fatal(err)
	}
	lx, ldy := toLines(lineLayout(s.X), x), toLines(lineLayout(s.DY), dy)
	run := func(dw []float32) guardedBF16 {
		repacked, sums, scratch := guardBF16(k.RepackSize()), guard(k.Sums()), guard(k.Scratch())
		for i := range k.RepackChunks() {
			k.Repack(i, repacked.s, lx, ldy)
		}
		for i := range k.Chunks() {
			k.Run(i, scratch.s, sums.s, repacked.s, false)
		}
		for i := range k.ReduceChunks() {
			k.Reduce(i, dw, sums.s)
		}
		repacked.intact(t, "repacked")
		sums.intact(t, "sums")
		scratch.intact(t, "scratch")
		return repacked
	}
	got, twin := guard(len(want.v)), guard(len(want.v))
	repacked := run(got.s)
	onTwins(func() {
		for i, v := range run(twin.s).s {
			if repacked.s[i] != v {
				t.Fatalf("repacked value %d is %#x, twin %#x", i, repacked.s[i], v)
			}
		}
	})
	equal(t, "dw", got, twin)
	near(t, "dw", got.s, want.v, want.m, false)
	for i := range got.s {
		got.s[i] = 0
	}
	weightsInRounds(t, s, lx, ldy, got.s)
	near(t, "dw image by image", got.s, want.v, want.m, false)
}

// weightsInRounds computes the gradient of the weights image by image.
func weightsInRounds(t *testing.T, s ConvSpec, x, dy []uint16, dw []float32) {
	images := s.X.N
	s.X.N, s.Y.N, s.DX.N, s.DY.N = 1, 1, 1, 1
	k, err := NewConvBF16Weights(s.bf16(s.X, s.DY))
	if err != nil {
		t.Fatal(err)
	}
	repacked, sums, scratch := AlignedBF16(k.RepackSize()), AlignedSlice(k.Sums()), AlignedSlice(k.Scratch())
	manyX, manyDY := k.Images()
	for n := range images {
		for i := range k.RepackChunks() {
			k.Repack(i, repacked, x[n*manyX:], dy[n*manyDY:])
		}
		for i := range k.Chunks() {
			k.Run(i, scratch, sums, repacked, n > 0)
		}
	}
	for i := range k.ReduceChunks() {
		k.Reduce(i, dw, sums)
	}
}

// TestConvBF16WeightsParts sums over groups of images, bundles of which the last is
// short, and parts of an image.
func TestConvBF16WeightsParts(t *testing.T) {
	for _, c := range []struct {
		conv convCase
		is   func(k *ConvBF16Weights) bool
	}{
		{square(4, 17, 64, 9, 3, 1, 1), func(k *ConvBF16Weights) bool {
			return k.groups > 1 && len(k.parts) > 1
		}},
		{square(5, 40, 28, 40, 3, 1, 1), func(k *ConvBF16Weights) bool {
			return k.bundle > 1 && k.x.N%k.bundle > 0
		}},
		{square(1, 100, 62, 8, 1, 1, 0), func(k *ConvBF16Weights) bool { return k.strips > 1 }},
	} {
		r := rand.New(rand.NewPCG(12, 1))
		s, _ := c.conv.spec()
		k, err := NewConvBF16Weights(s.bf16(s.X, s.DY))
		if err != nil {
			t.Fatal(err)
		}
		if !c.is(k) {
			t.Errorf("%v: %d groups, bundles of %d, %d parts, %d x %d chunks: the case tests nothing",
				c.conv, k.groups,
				k.bundle, len(k.parts), k.across, k.strips)
		}
		x, dy := roundBF16(random(r, s.X.N*s.X.C*s.X.H*s.X.W)), roundBF16(random(r, s.Y.N*s.Y.C*s.Y.H*s.Y.W))
		_, _, dw := c.conv.naive(s, x, make([]float32, s.Y.C*s.X.C*s.KH*s.KW), dy)
		compareWeightsBF16(t, s, x, dy, dw)
	}
}
