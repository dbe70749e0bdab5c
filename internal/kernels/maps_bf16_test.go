package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func randomLines(r *rand.Rand) LineLayout {
	return LineLayout{1 + r.IntN(3), 1 + r.IntN(70), 1 + r.IntN(12), 1 + r.IntN(80), r.IntN(3), BF16Lanes}
}

// roundedMap is a random map in bf16: plain, in float32, and in lines.
func roundedMap(r *rand.Rand, l LineLayout) ([]float32, []uint16) {
	plain := roundBF16(random(r, l.N*l.C*l.H*l.W))
	return plain, toLines(l, plain)
}

// bothWays runs f by assembly and by the twins, into guarded memory of so many values, which must be equal.
func bothWays(t *testing.T, name string, n int, f func(y []uint16)) []uint16 {
	t.Helper()
	a, b := guardBF16(n), guardBF16(n)
	f(a.s)
	onTwins(func() { f(b.s) })
	a.intact(t, name)
	b.intact(t, name)
	for i, v := range a.s {
		if v != b.s[i] {
			t.Fatalf("%s: at %d %#x, twin %#x", name, i, v, b.s[i])
		}
	}
	return a.s
}

// Maximum and average, and their gradients, are those of the float32 kernels, rounded: strips, windows over
// edges and pixels that no window covers included.
func TestPoolBF16(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 1))
	for range 40 {
		x := randomLines(r)
		s := PoolBF16Spec{KH: 1 + r.IntN(min(4, x.H)), KW: 1 + r.IntN(min(4, x.W)), StrideH: 1 + r.IntN(3),
			StrideW:         1 + r.IntN(3),
			CountIncludePad: r.IntN(2) == 0}
		if r.IntN(4) == 0 {
			s.KH, s.KW = x.H, x.W
		}
		s.PadTop, s.PadLeft = r.IntN(s.KH), r.IntN(s.KW)
		y := x
		y.H, y.W, y.Halo = (x.H+s.PadTop-s.KH)/s.StrideH+1, (x.W+s.PadLeft-s.KW)/s.StrideW+1, r.IntN(2)
		s.X, s.Y, s.DX, s.DY = x, y, x, y
		s.DX.Halo, s.DY.Halo = r.IntN(2), r.IntN(3)
		t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) { checkPoolBF16(t, r, s) })
	}
}

func checkPoolBF16(t *testing.T, r *rand.Rand, s PoolBF16Spec) {
	plainX, x := roundedMap(r, s.X)
	for i := range plainX { // ties
		plainX[i] = float32(math.Round(float64(4*plainX[i]))) / 4
	}
	x = toLines(s.X, plainX)
	plainDY, dy := roundedMap(r, s.DY)
	f := NewPool(PoolSpec{X: s.X.wide(), Y: s.Y.wide(), DX: s.X.wide(), DY: s.Y.wide(), KH: s.KH, KW: s.KW,
		StrideH: s.StrideH,
		StrideW: s.StrideW, PadTop: s.PadTop, PadLeft: s.PadLeft, CountIncludePad: s.CountIncludePad})
	fx, fdy := toBlocked(f.X, plainX), toBlocked(f.DY, plainDY)
	fy, fdx, fmean, fdmean := AlignedSlice(f.Y.Size()), AlignedSlice(f.X.Size()), AlignedSlice(f.Y.Size()),
		AlignedSlice(f.X.Size())
	relu := r.IntN(2) == 0
	for i := range f.Chunks() {
		f.Max(i, fy, fx)
		f.Average(i, fmean, fx)
		f.MaxBackward(i, fdx, fdy, fx, fy, relu)
		f.AverageBackward(i, fdmean, fdy)
	}
	k, back := NewPoolBF16(s, false), NewPoolBF16(s, true)
	scratch := AlignedSlice(max(k.Scratch(), back.Scratch()))
	run := func(name string, l LineLayout, want []float32, chunks int,
		f func(chunk int, y []uint16)) []uint16 {
		got := bothWays(t, name, l.Size(), func(y []uint16) {
			for i := range chunks {
				f(i, y)
			}
		})
		zeroOutside(t, name, l, got)
		if !slices.Equal(fromLines(l, got), roundBF16(want)) {
			t.Fatalf("%s differs from float32's", name)
		}
		return got
	}
	y := run("max", s.Y, toPlain(f.Y, fy), k.Chunks(), func(i int, y []uint16) { k.Max(i, scratch, y, x) })
	run("average", s.Y, toPlain(f.Y, fmean), k.Chunks(), func(i int, y []uint16) {
		k.Average(i, scratch, y, x)
	})
	run("max backward", s.DX, toPlain(f.X, fdx), back.Chunks(), func(i int, dx []uint16) {
		back.MaxBackward(i, scratch, dx, dy, x, y, relu)
	})
	run("average backward", s.DX, toPlain(f.X, fdmean), back.Chunks(), func(i int, dx []uint16) {
		back.AverageBackward(i, scratch, dx, dy)
	})
}

// Factors of all images, or of each, are rounded with the product.
func TestScaleBF16(t *testing.T) {
	r := rand.New(rand.NewPCG(18, 1))
	for i := range 20 {
		l, images := randomLines(r), i%2 == 0
		plain, x := roundedMap(r, l)
		factors := random(r, l.N*l.C)
		k := NewScaleBF16(l, images)
		y := bothWays(t, "scale", l.Size(), func(y []uint16) {
			copy(y, x) // in place
			for i := range k.Chunks() {
				k.Run(i, y, y, factors)
			}
		})
		zeroOutside(t, "scale", l, y)
		for i, got := range fromLines(l, y) {
			c := i / (l.H * l.W)
			if !images {
				c %= l.C
			}
			if want := fromBF16(toBF16(plain[i] * factors[c])); got != want {
				t.Fatalf("%+v: value %d is %g, want %g", l, i, got, want)
			}
		}
	}
}

// Normalization gives what the float32 kernels give on the same numbers, to a rounding of the output.
func TestBatchNormBF16(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 1))
	for i := range 30 {
		l := randomLines(r)
		t.Run(fmt.Sprintf("%+v mask %d", l, i%3), func(t *testing.T) { checkBatchNormBF16(t, r, l, i%3) })
	}
}

func checkBatchNormBF16(t *testing.T, r *rand.Rand, l LineLayout, mask int) {
	plainX, x := roundedMap(r, l)
	plainDY, dy := roundedMap(r, l)
	plainM, m := roundedMap(r, l)
	f, k := NewBatchNorm(l.wide()), NewBatchNormBF16(l, 1)
	padded := func() []float32 {
		v := random(r, l.wide().Blocks()*Block)
		clear(v[l.C:])
		return v
	}
	scale, bias := padded(), padded()
	vectors := func() []float32 { return AlignedSlice(l.wide().Blocks() * Block) }
	mean, variance, dscale, dbias := vectors(), vectors(), vectors(), vectors()
	scratch := AlignedSlice(max(k.StatsScratch(), k.BackwardScratch()))
	for i := range k.StatsChunks() {
		k.Stats(i, scratch, x)
	}
	k.StatsReduce(mean, variance, scratch)
	fx, fdy, fm := toBlocked(f.l, plainX), toBlocked(f.l, plainDY), toBlocked(f.l, plainM)
	wantMean, wantVar, wantScale, wantBias := vectors(), vectors(), vectors(), vectors()
	for i := range f.StatsChunks() {
		f.Stats(i, scratch, fx)
	}
	f.StatsReduce(wantMean, wantVar, scratch)
	close := func(name string, got, want []float32, limit float64) {
		t.Helper()
		for i, w := range want {
			if d := math.Abs(float64(got[i] - w)); !(d <= limit*(1+math.Abs(float64(w)))) {
				t.Fatalf("%s: at %d %g, float32 %g", name, i, got[i], w)
			}
		}
	}
	close("mean", mean, wantMean, 1e-5)
	close("variance", variance, wantVar, 1e-5)
	invstd := vectors()
	for c := range l.C {
		invstd[c] = float32(1 / math.Sqrt(float64(wantVar[c])+1e-2))
	}
	fy := AlignedSlice(f.l.Size())
	for i := range f.Chunks() {
		f.Normalize(i, fy, fx, wantMean, invstd, scale, bias, fm, true)
	}
	y := bothWays(t, "y", l.Size(), func(y []uint16) {
		for i := range k.Chunks() {
			k.Normalize(i, y, x, wantMean, invstd, scale, bias, m, true)
		}
	})
	zeroOutside(t, "y", l, y)
	close("y", fromLines(l, y), toPlain(f.l, fy), 1./128)
	fmask, kmask := Mask{}, MaskBF16{}
	switch mask {
	case 1:
		fmask.Y, kmask.Y = fm, m
	case 2:
		fmask.Bias, kmask.Bias = bias, bias
	}
	for i := range k.StatsChunks() {
		k.BackwardStats(i, scratch, dy, x, wantMean, invstd, scale, kmask)
	}
	k.BackwardReduce(dscale, dbias, scratch)
	for i := range f.StatsChunks() {
		f.BackwardStats(i, scratch, fdy, fx, wantMean, invstd, scale, fmask)
	}
	f.BackwardReduce(wantScale, wantBias, scratch)
	close("dscale", dscale, wantScale, 1e-4)
	close("dbias", dbias, wantBias, 1e-4)
	for i := range f.Chunks() {
		f.BackwardData(i, fy, fdy, fx, wantMean, invstd, scale, wantScale, wantBias, fmask)
	}
	dx := bothWays(t, "dx", l.Size(), func(dx []uint16) {
		copy(dx, dy) // in place
		for i := range k.Chunks() {
			k.BackwardData(i, dx, dx, x, wantMean, invstd, scale, wantScale, wantBias, kmask)
		}
	})
	zeroOutside(t, "dx", l, dx)
	close("dx", fromLines(l, dx), toPlain(f.l, fy), 1./128)
}

func TestChannelSumBF16(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 1))
	for i := range 20 {
		l := randomLines(r)
		plain, dy := roundedMap(r, l)
		masks, m := roundedMap(r, l)
		if i%2 == 0 {
			m = nil
		}
		want := newWide(l.C)
		for j, v := range plain {
			if m == nil || masks[j] > 0 {
				want.add(j/(l.H*l.W)%l.C, float64(v))
			}
		}
		k := NewChannelSumBF16(l, 1)
		scratch, db := AlignedSlice(k.Scratch()), guard(l.C)
		for chunk := range k.Chunks() {
			k.Partial(chunk, scratch, dy, m)
		}
		k.Reduce(db.s, scratch)
		db.intact(t, "db")
		same(t, fmt.Sprintf("%+v", l), db.s, want.v, want.m)
	}
}

func TestFlatBF16(t *testing.T) {
	r := rand.New(rand.NewPCG(14, 1))
	for _, n := range []int{0, 1, 31, 32, 2048, 2049, 5000} {
		draw := func() (f []float32, h []uint16) {
			f, h = roundBF16(random(r, n)), make([]uint16, n)
			ToBF16(h, f)
			return f, h
		}
		fa, a := draw()
		fb, b := draw()
		check := func(name string, f func(y []uint16), want func(i int) float32) {
			for i, h := range bothWays(t, name, n, f) {
				if h != toBF16(want(i)) {
					t.Fatalf("%s: value %d of %d is %g, want %g", name, i, n, fromBF16(h), want(i))
				}
			}
		}
		check("relu", func(y []uint16) { ReluBF16(y, a) }, func(i int) float32 { return max(fa[i], 0) })
		check("add", func(y []uint16) { AddBF16(y, a, b, false) }, func(i int) float32 {
			return fa[i] + fb[i]
		})
		check("add relu", func(y []uint16) { AddBF16(y, a, b, true) }, func(i int) float32 {
			return max(fa[i]+fb[i], 0)
		})
		tanh, image := NewMap(FuncTanh), make([]float32, n)
		tanh.Forward(image, fa)
		check("tanh", func(y []uint16) { MapBF16(&tanh, y, a) }, func(i int) float32 { return image[i] })
		check("relu gradient", func(y []uint16) { ReluGradBF16(y, a, b) }, func(i int) float32 {
			if fb[i] > 0 {
				return fa[i]
			}
			return 0
		})
	}
}

// Channels from several maps, at any lane, and back.
func TestJoinBF16(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 1))
	for _, counts := range [][]int{{32, 64}, {1}, {16, 16}, {20, 31, 7}, {64, 40}, {3, 96, 29}} {
		to := LineLayout{2, 0, 5, 7, 1, BF16Lanes}
		var parts []JoinPart
		var maps [][]uint16
		var plain [][]float32
		for _, n := range counts {
			l := LineLayout{2, n, 5, 7, r.IntN(2), BF16Lanes}
			p, x := roundedMap(r, l)
			parts, maps, plain = append(parts, JoinPart{l, 0, n}), append(maps, x), append(plain, p)
			to.C += n
		}
		j := NewJoinBF16(to, parts)
		y := bothWays(t, "join", to.Size(), func(y []uint16) {
			for i := range j.Chunks() {
				j.Run(i, y, maps)
			}
		})
		zeroOutside(t, "join", to, y)
		first := 0
		for i, n := range counts {
			l := parts[i].Layout
			s := NewJoinBF16(l, []JoinPart{{to, first, n}})
			back := bothWays(t, "split", l.Size(), func(x []uint16) {
				for c := range s.Chunks() {
					s.Run(c, x, [][]uint16{y})
				}
			})
			zeroOutside(t, "split", l, back)
			if !slices.Equal(fromLines(l, back), plain[i]) {
				t.Fatalf("%v: part %d comes back as something else", counts, i)
			}
			first += n
		}
	}
}

// Weights packed from their trained form are those packed from plain ones, and their gradient in
// that form is the plain one.
func TestTapWeights(t *testing.T) {
	r := rand.New(rand.NewPCG(16, 1))
	for range 30 {
		c := randomConv(r)
		c.c, c.o = 1+r.IntN(70), 1+r.IntN(70)
		s, ok := c.spec()
		if !ok {
			continue
		}
		spec := s.bf16(s.X, s.Y)
		taps := NewTapWeights(c.o, c.c, c.kh, c.kw)
		w := random(r, c.o*c.c*c.kh*c.kw)
		packed, back := guard(taps.WeightSize()), make([]float32, len(w))
		taps.Pack(packed.s, w)
		packed.intact(t, "taps")
		taps.Unpack(back, packed.s)
		if !slices.Equal(w, back) {
			t.Fatalf("%v: other weights after Pack and Unpack", c)
		}
		forward, err1 := NewConvBF16(spec)
		data, err2 := NewConvBF16Data(s.bf16(s.X, s.DY))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		for _, k := range []*ConvBF16{forward, data} {
			want := AlignedBF16(k.WeightSize())
			k.Pack(want, w)
			got := bothWays(t, "packed", k.WeightSize(), func(dst []uint16) {
				for i := range k.TapChunks() {
					k.PackTaps(i, dst, packed.s)
				}
			})
			if !slices.Equal(got, want) {
				t.Fatalf("%v: other weights packed from taps", c)
			}
		}
		grad, err := NewConvBF16Weights(spec)
		if err != nil {
			t.Fatal(err)
		}
		sums, plain := random(r, grad.Sums()), make([]float32, len(w))
		dw := guard(taps.WeightSize())
		for i := range grad.ReduceTapsChunks() {
			grad.ReduceTaps(i, dw.s, sums)
		}
		dw.intact(t, "dw")
		for i := range grad.ReduceChunks() {
			grad.Reduce(i, plain, sums)
		}
		taps.Unpack(back, dw.s)
		if !slices.Equal(plain, back) {
			t.Fatalf("%v: another gradient in taps", c)
		}
	}
}

// A convolution of gathered pixels is the convolution, in both directions that it is for.
func TestGatherBF16(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 1))
	for range 40 {
		c := randomConv(r)
		c.c, c.dh, c.dw, c.moreHalo, c.small = 1+r.IntN(4), 1, 1, 0, false
		c.kh, c.kw = 1+r.IntN(7), 1+r.IntN(7)
		s, ok := c.spec()
		if !ok {
			continue
		}
		t.Run(c.String(), func(t *testing.T) { checkGatherBF16(t, r, c, s) })
	}
	v := Window{KH: 3, KW: 11, StrideH: 1, StrideW: 1, DilH: 1, DilW: 1}
	if _, err := NewGatherBF16(1, 3, 20, 20, 18, 10, v); err == nil {
		t.Error("33 values fit a line")
	}
}

func checkGatherBF16(t *testing.T, r *rand.Rand, c convCase, s ConvSpec) {
	x, w := roundBF16(random(r, c.n*c.c*c.h*c.w)), roundBF16(random(r, c.o*c.c*c.kh*c.kw))
	dy := roundBF16(random(r, c.n*c.o*s.Y.H*s.Y.W))
	y, _, dw := c.naive(s, x, w, dy)
	g, err := NewGatherBF16(c.n, c.c, c.h, c.w, s.Y.H, s.Y.W, s.window())
	if err != nil {
		t.Fatal(err)
	}
	lines := bothWays(t, "gathered", g.Lines.Size(), func(dst []uint16) {
		scratch := guardBF16(g.Scratch())
		for i := range g.Chunks() {
			g.Run(i, scratch.s, dst, x)
		}
		scratch.intact(t, "scratch")
	})
	out := LineLayout{c.n, c.o, s.Y.H, s.Y.W, 0, BF16Lanes}
	spec := ConvBF16Spec{X: g.Lines, Y: out, Window: g.Window}
	k, err := NewConvBF16Float(spec, plane(c.n, c.o, s.Y.H, s.Y.W, 0))
	if err != nil {
		t.Fatal(err)
	}
	packed, scratch, got := AlignedBF16(k.WeightSize()), AlignedSlice(k.Scratch()),
		AlignedSlice(k.float.Size())
	k.Pack(packed, g.Weights(c.o, w))
	for i := range k.Chunks() {
		k.RunFloat(i, scratch, got, lines, packed, EpilogueBF16{})
	}
	near(t, "y", toPlain(k.float, got), y.v, y.m, false)
	taps := g.Taps(c.o)
	trained, again := AlignedSlice(taps.WeightSize()), AlignedBF16(k.WeightSize())
	taps.Pack(trained, w)
	for i := range k.TapChunks() {
		k.PackTaps(i, again, trained)
	}
	if !slices.Equal(again, packed) {
		t.Error("other weights packed from taps")
	}
	grad, err := NewConvBF16Weights(spec)
	if err != nil {
		t.Fatal(err)
	}
	repacked, sums, dtaps := AlignedBF16(grad.RepackSize()), AlignedSlice(grad.Sums()),
		AlignedSlice(taps.WeightSize())
	for i := range grad.RepackChunks() {
		grad.Repack(i, repacked, lines, toLines(out, dy))
	}
	for i := range grad.Chunks() {
		grad.Run(i, scratch, sums, repacked, false)
	}
	for i := range grad.ReduceTapsChunks() {
		grad.ReduceTaps(i, dtaps, sums)
	}
	plain := make([]float32, len(w))
	taps.Unpack(plain, dtaps)
	near(t, "dw", plain, dw.v, dw.m, false)
}

// Three rows of any length are mixed as the twin does.
func TestMixThree(t *testing.T) {
	r := rand.New(rand.NewPCG(19, 1))
	for n := range 100 {
		var rows [3][]uint16
		for c := range rows {
			rows[c] = make([]uint16, n)
			for i := range rows[c] {
				rows[c][i] = uint16(r.Uint32())
			}
		}
		for i, v := range bothWays(t, "mixed", 3*n, func(y []uint16) {
			mixThree(y, rows[0], rows[1], rows[2])
		}) {
			if v != rows[i%3][i/3] {
				t.Fatalf("%d pixels: value %d of pixel %d is another", n, i%3, i/3)
			}
		}
	}
}

// Maxima of any bits are those of the twin, which takes them in the order of numbers, NaN first.
func TestMaxWindowsBF16(t *testing.T) {
	r := rand.New(rand.NewPCG(14, 1))
	for range 20 {
		w := windowsBF16{1 + r.IntN(9), 1 + r.IntN(3), 1 + r.IntN(3), 20, 1 + r.IntN(2)}
		x := AlignedBF16(3 * 20 * BF16Lanes)
		for i := range x {
			if x[i] = uint16(r.Uint32()); r.IntN(20) > 0 && x[i]&0x7f80 == 0x7f80 {
				x[i] &^= 0x4000 // little NaN
			}
		}
		y := bothWays(t, fmt.Sprintf("%+v", w), w.many*BF16Lanes, func(y []uint16) {
			maxWindowsBF16(y, x, w)
		})
		for i, got := range y {
			want := math.Inf(-1)
			for k := range w.high * w.wide {
				v := fromBF16(x[(i/BF16Lanes*w.step+k/w.wide*w.row+k%w.wide)*BF16Lanes+i%BF16Lanes])
				want = max(want, float64(v))
			}
			if got := float64(fromBF16(got)); got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
				t.Fatalf("%+v: at %d %g, want %g", w, i, got, want)
			}
		}
	}
}
