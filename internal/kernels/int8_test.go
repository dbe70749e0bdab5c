package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

type guardedBytes struct{ all, s []uint8 }

const sentinelByte = 0xa5

func guardBytes(n int) guardedBytes {
	all := AlignedBytes(n + 256)
	fill(all, sentinelByte)
	return guardedBytes{all, all[128 : 128+n : 128+n]}
}

func (g guardedBytes) intact(t *testing.T, name string) {
	t.Helper()
	for i, v := range g.all {
		if (i < 128 || i >= 128+len(g.s)) && v != sentinelByte {
			t.Fatalf("%s: wrote %d values from the start of a slice of %d", name, i-128, len(g.s))
		}
	}
}

func equalBytes(t *testing.T, name string, got, want []uint8) {
	t.Helper()
	for i, v := range want {
		if got[i] != v {
			t.Fatalf("%s: value %d is %d, want %d", name, i, got[i], v)
		}
	}
}

// onVNNI runs f on the kernels of AVX512-VNNI, where there is one.
func onVNNI(f func()) {
	tilesOff = true
	defer func() { tilesOff = false }()
	f()
}

// randomBytes are over all values; small weights keep sums of many within int32.
func randomBytes(r *rand.Rand, n int) []uint8 {
	x := make([]uint8, n)
	for i := range x {
		x[i] = uint8(r.UintN(256))
	}
	return x
}

func randomWeights(r *rand.Rand, n int) []int8 {
	w := make([]int8, n)
	for i := range w {
		w[i] = int8(r.IntN(256) - 128)
	}
	return w
}

// wideWeights are over all differences of two bytes, or over those that fit copies of int8.
func wideWeights(r *rand.Rand, n, copies int) []int16 {
	w, most := make([]int16, n), min(255, 127*copies)
	for i := range w {
		w[i] = int16(r.IntN(2*most+1) - most)
	}
	return w
}

// drawQuantized is one of the four pairs of signs, with zero points.
func drawQuantized(r *rand.Rand) Quantized {
	q := Quantized{Signed: r.IntN(2) == 0}
	low, high := q.limits()
	if r.IntN(3) > 0 {
		q.Zero = low + int32(r.IntN(int(high-low)+1))
	}
	return q
}

// drawRequantize scales sums so that about a third saturates.
func drawRequantize(r *rand.Rand, bias []int32, outputs, terms int) Requantize {
	e := Requantize{Bias: bias, Scale: AlignedSlice(outputs)}
	for i := range e.Scale {
		e.Scale[i] = float32((0.2 + r.Float64()) / 64 / math.Sqrt(float64(terms)))
	}
	return e
}

// requantizeNaive is the definition, in float32 as QLinearConv's reference has it.
func (e Requantize) naive(sum int64, o int, q Quantized) uint8 {
	v := math.RoundToEven(float64(float32(int32(sum)) * e.Scale[o]))
	low, high := q.limits()
	if e.Low != 0 || e.High != 0 {
		low, high = e.Low, e.High
	}
	return uint8(int32(min(max(v+float64(q.Zero), float64(low)), float64(high))))
}

func TestConvInt8(t *testing.T) {
	for i, c := range bf16Cases {
		if c.products() > 1<<24 {
			continue
		}
		t.Run(c.String(), func(t *testing.T) { checkConvInt8(t, c, rand.New(rand.NewPCG(7, uint64(i)))) })
	}
}

func TestConvInt8Random(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 1))
	for range 30 {
		c := randomConv(r)
		c.n, c.c, c.o = r.IntN(3), 1+r.IntN(140), 1+r.IntN(140)
		t.Run(c.String(), func(t *testing.T) { checkConvInt8(t, c, r) })
	}
}

// checkConvInt8 compares a convolution of bytes with its definition and its twin, byte for byte.
func checkConvInt8(t *testing.T, c convCase, r *rand.Rand) {
	c.small, c.narrow = false, false
	full, ok := c.spec()
	if !ok {
		t.Skip("no output")
	}
	s := ConvInt8Spec{X: lineLayout(full.X), Y: lineLayout(full.Y), From: drawQuantized(r),
		To:     drawQuantized(r),
		Window: full.window(), Copies: 1 + r.IntN(3)}
	s.X.Lanes, s.Y.Lanes, s.Fill = Int8Lanes, Int8Lanes, uint8(s.To.Zero)
	if c.c <= PixelLanes && c.kw <= Block && c.dw == 1 && r.IntN(4) > 0 {
		s.X.Lanes = PixelLanes
	}
	groups := 1
	for _, g := range []int{2, 3, 5} {
		if c.c%g == 0 && c.o%g == 0 && r.IntN(2) == 0 {
			groups = g
		}
	}
	k, err := NewConvInt8(s)
	if err != nil {
		t.Fatal(err)
	}
	plain, w, bias := randomBytes(r, c.n*c.c*c.h*c.w), wideWeights(r, c.o*c.c/groups*c.kh*c.kw,
		s.Copies), make([]int32, c.o)
	x := AlignedBytes(s.X.Size())
	fill(x, uint8(s.From.Zero))
	eachLine(s.X, func(i, at int) { x[at] = plain[i] })
	for o := range bias {
		bias[o] = int32(r.IntN(20001) - 10000)
	}
	packed, offset := AlignedBytes(k.WeightSize()), make([]int32, k.Outputs())
	k.Pack(packed, w, groups)
	k.Offset(offset, w, bias)
	e := drawRequantize(r, offset, k.Outputs(), c.c*c.kh*c.kw)
	if r.IntN(2) == 0 {
		_, e.High = s.To.limits()
		e.Low = s.To.Zero // ReLU
		if e.High--; e.High < e.Low {
			e.High = e.Low
		}
	}
	y, twin, scratch := guardBytes(s.Y.Size()), guardBytes(s.Y.Size()), guard(k.Scratch())
	for i := range k.Chunks() {
		k.Run(i, scratch.s, y.s, x, packed, e)
	}
	y.intact(t, "y")
	scratch.intact(t, "scratch")
	for _, f := range []func(func()){onTwins, onVNNI} {
		fill(twin.s, sentinelByte)
		f(func() {
			for i := range k.Chunks() {
				k.Run(i, scratch.s, twin.s, x, packed, e)
			}
		})
		twin.intact(t, "y")
		equalBytes(t, "y and its twin", y.s, twin.s)
	}
	inside := make([]bool, s.Y.Size())
	eachLine(s.Y, func(_, at int) { inside[at] = true })
	lanes := max(e.Low, min(s.To.Zero, e.High)) // of no channel
	if e.Low == 0 && e.High == 0 {
		lanes = s.To.Zero
	}
	for i, in := range inside {
		if !in && y.s[i] != uint8(s.To.Zero) && y.s[i] != uint8(lanes) && (y.s[i] != sentinelByte ||
			c.o%Int8Lanes == 0) {
			t.Fatalf("halo or lane past O at %d is %d, want %d", i, y.s[i], uint8(s.To.Zero))
		}
	}
	want := c.naiveInt8(s, plain, w, bias, e, groups)
	got := make([]uint8, len(want))
	eachLine(s.Y, func(i, at int) { got[i] = y.s[at] })
	equalBytes(t, "y", got, want)
}

func (c convCase) naiveInt8(s ConvInt8Spec, x []uint8, w []int16, bias []int32, e Requantize,
	groups int) []uint8 {
	area, taps, ins, outs := s.Y.H*s.Y.W, c.kh*c.kw, c.c/groups, c.o/groups
	y := make([]uint8, c.n*c.o*area)
	for i := range y {
		n, o, p := i/area/c.o, i/area%c.o, i%area
		sum := int64(bias[o])
		for j := range ins * taps {
			ch, k := o/outs*ins+j/taps, j%taps
			h, v := p/s.Y.W*c.sh-c.top+k/c.kw*c.dh, p%s.Y.W*c.sw-c.left+k%c.kw*c.dw
			if h >= 0 && h < c.h && v >= 0 && v < c.w {
				sum += int64(s.From.value(x[((n*c.c+ch)*c.h+h)*c.w+v])-s.From.Zero) * int64(w[o*ins*taps+j])
			}
		}
		y[i] = e.naive(sum, o, s.To)
	}
	return y
}

func TestGemmInt8(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	specs := []GemmInt8Spec{{M: 0, N: 5, K: 64}, {M: 1, N: 1, K: 1, LDA: 64}, {M: 17, N: 33, K: 192},
		{M: 1000, N: 34, K: 1024}, {M: 100, N: 32, K: 4800}}
	for range 30 {
		s := GemmInt8Spec{M: r.IntN(100), N: 1 + r.IntN(150), K: 1 + r.IntN(300)}
		s.LDA = (s.K+63)/64*64 + r.IntN(100)
		specs = append(specs, s)
	}
	for _, s := range specs {
		s.From, s.To, s.Sums = drawQuantized(r), drawQuantized(r), r.IntN(2) == 0
		t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) { checkGemmInt8(t, s, r) })
	}
}

// checkGemmInt8 compares a product of bytes with its definition and its twin, value for value.
func checkGemmInt8(t *testing.T, s GemmInt8Spec, r *rand.Rand) {
	g, err := NewGemmInt8(s)
	if err != nil {
		t.Fatal(err)
	}
	s = g.GemmInt8Spec
	a, b, bias := randomBytes(r, s.M*s.LDA), randomWeights(r, s.K*s.N), make([]int32, s.N)
	for j := range bias {
		bias[j] = int32(r.IntN(20001) - 10000)
	}
	packed, offset := guardBytes(g.PackedSize()), make([]int32, g.Outputs())
	for i := range g.PackChunks() {
		g.Pack(i, packed.s, b, false)
	}
	packed.intact(t, "packed")
	g.Offset(offset, b, bias, false)
	e, scratch := drawRequantize(r, offset, g.Outputs(), s.K), guard(g.Scratch())
	y, twin := guardBytes(s.M*s.N), guardBytes(s.M*s.N)
	sums, sumsTwin := guard(s.M*s.N), guard(s.M*s.N)
	run := func(y []uint8, sums []float32) {
		for i := range g.Chunks() {
			if s.Sums {
				g.RunSums(i, scratch.s, asInt32(sums), a, packed.s, offset)
			} else {
				g.Run(i, scratch.s, y, a, packed.s, e)
			}
		}
	}
	run(y.s, sums.s)
	y.intact(t, "c")
	sums.intact(t, "sums")
	scratch.intact(t, "scratch")
	for _, f := range []func(func()){onTwins, onVNNI} {
		fill(twin.s, sentinelByte)
		fill(sumsTwin.s, sentinel)
		f(func() { run(twin.s, sumsTwin.s) })
		twin.intact(t, "c")
		sumsTwin.intact(t, "sums")
		if s.Sums {
			equalBytes(t, "sums and their twin", asBytes(sums.s), asBytes(sumsTwin.s))
		} else {
			equalBytes(t, "c and its twin", y.s, twin.s)
		}
	}
	for i := range s.M * s.N {
		sum := int64(bias[i%s.N])
		for k := range s.K {
			sum += int64(s.From.value(a[i/s.N*s.LDA+k])-s.From.Zero) * int64(b[k*s.N+i%s.N])
		}
		if s.Sums && asInt32(sums.s)[i] != int32(sum) {
			t.Fatalf("sum %d is %d, want %d", i, asInt32(sums.s)[i], sum)
		}
		if !s.Sums && y.s[i] != e.naive(sum, i%s.N, s.To) {
			t.Fatalf("value %d is %d, want %d", i, y.s[i], e.naive(sum, i%s.N, s.To))
		}
	}
}
