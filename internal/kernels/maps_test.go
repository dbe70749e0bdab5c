package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

var layouts = []Layout{plane(1, 1, 1, 1, 0), plane(2, 16, 8, 6, 1), plane(3, 17, 5, 7, 2),
	plane(2, 33, 4, 13, 0),
	plane(8, 16, 64, 64, 0)} // the last has several groups

func TestReorder(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(11, 1))
		for _, l := range append([]Layout{{2, 3, 5, 4, 1, 3}, {1, 1, 9, 9, 2, 1}, {2, 6, 5, 4, 1, 8}},
			layouts...) {
			x, k := random(r, l.N*l.C*l.H*l.W), NewReorder(l)
			b, p := guard(l.Size()), guard(len(x))
			for i := range k.Chunks() {
				k.ToBlocked(i, b.s, x)
			}
			for i := range k.Chunks() {
				k.ToPlain(i, p.s, b.s)
			}
			b.intact(t, "blocked")
			p.intact(t, "plain")
			zeroElsewhere(t, fmt.Sprint(l), l, b.s)
			for i, v := range toBlocked(l, x) {
				if b.s[i] != v {
					t.Fatalf("%+v: blocked[%d] is %g, want %g", l, i, b.s[i], v)
				}
			}
			for i, v := range x {
				if p.s[i] != v {
					t.Fatalf("%+v: plain[%d] is %g, want %g", l, i, p.s[i], v)
				}
			}
		}
	})
}

// TestChannels concatenates two maps, splits them again, shuffles them and takes any channels of both, against
// plain maps.
func TestChannels(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(12, 1))
		for _, c := range [][2]int{{16, 16}, {5, 3}, {17, 30}, {1, 33}, {48, 24}, {29, 29}} {
			for _, halo := range [][3]int{{0, 0, 0}, {0, 1, 2}, {1, 1, 0}} {
				both := c[0] + c[1]
				var joined, shuffled, some, none []Channel
				for i := range both {
					joined = append(joined, Channel{min(1, i/c[0]), i - min(1, i/c[0])*c[0]})
					shuffled = append(shuffled, Channel{i % 2, i / 2 % c[i%2]})
					some = append(some, joined[r.IntN(i+1)])
					none = append(none, Channel{1, i % c[1]})
				}
				for _, from := range [][]Channel{joined, joined[:c[0]], joined[c[0]:], shuffled,
					shuffled[both/2:], some, none} {
					checkChannels(t, r, c, halo, from, 3, 5)
				}
				if c[0] == 29 { // in several chunks, of parts of the rows
					checkChannels(t, r, c, halo, shuffled, 70, 40)
				}
			}
		}
	})
}

// checkChannels takes channels of two maps of c channels of h x w; halos are those of the two and of the
// result.
func checkChannels(t *testing.T, r *rand.Rand, c [2]int, halos [3]int, from []Channel, h, w int) {
	const n = 2
	what := fmt.Sprintf("%v channels, halos %v, %v", c, halos, from)
	a, b, y := plane(n, c[0], h, w, halos[0]), plane(n, c[1], h, w, halos[1]), plane(n, len(from), h, w, halos[2])
	x := [2][]float32{random(r, n*c[0]*h*w), random(r, n*c[1]*h*w)}
	in := [][]float32{toBlocked(a, x[0]), toBlocked(b, x[1])}
	out := guard(y.Size())
	for i := range out.s {
		out.s[i] = 7 // what lies there does not show through
	}
	k := NewChannels(y, []Layout{a, b}, from)
	for i := range k.Chunks() {
		k.Run(i, out.s, in)
	}
	out.intact(t, what)
	zeroElsewhere(t, what, y, out.s)
	got := toPlain(y, out.s)
	for i, v := range got {
		image, channel, pixel := i/(h*w)/len(from), i/(h*w)%len(from), i%(h*w)
		f := from[channel]
		if want := x[f.Map][(image*c[f.Map]+f.C)*h*w+pixel]; v != want {
			t.Fatalf("%s: image %d, channel %d, pixel %d is %g, want %g", what, image, channel, pixel, v, want)
		}
	}
}

func TestPool(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(13, 1))
		for _, c := range []struct{ n, c, h, w, k, stride, pad int }{
			{2, 17, 8, 8, 2, 2, 0}, {1, 16, 7, 9, 2, 2, 0}, {1, 6, 9, 7, 3, 2, 1}, {1, 16, 5, 5, 5, 5, 0}, {1,
				33, 6, 6, 3, 1, 1}, {1, 3, 7, 7, 1, 3, 0},
		} {
			for _, include := range []bool{false, true} {
				t.Run(fmt.Sprintf("%+v %v", c, include), func(t *testing.T) {
					oh, ow := (c.h+2*c.pad-c.k)/c.stride+1, (c.w+2*c.pad-c.k)/c.stride+1
					checkPool(t, r, PoolSpec{X: plane(c.n, c.c, c.h, c.w, 1), Y: plane(c.n, c.c, oh, ow, 2),
						DX: plane(c.n, c.c, c.h, c.w, 0),
						DY: plane(c.n, c.c, oh, ow, 1), KH: c.k, KW: c.k, StrideH: c.stride,
						StrideW: c.stride, PadTop: c.pad, PadLeft: c.pad,
						CountIncludePad: include})
				})
			}
		}
		for _, c := range [][3]int{{6, 8, 8}, {8, 7, 9}} {
			narrow := func(h, w, halo int) Layout { return Layout{2, c[0], h, w, halo, narrowBlock} }
			t.Run(fmt.Sprintf("narrow %v", c), func(t *testing.T) {
				checkPool(t, r, PoolSpec{X: narrow(c[1], c[2], 1), Y: narrow(c[1]/2, c[2]/2, 2),
					DX: narrow(c[1], c[2], 0),
					DY: narrow(c[1]/2, c[2]/2, 1), KH: 2, KW: 2, StrideH: 2, StrideW: 2})
			})
		}
	})
}

func checkPool(t *testing.T, r *rand.Rand, s PoolSpec) {
	k := NewPool(s)
	x, dy := random(r, s.X.N*s.X.C*s.X.H*s.X.W), random(r, s.Y.N*s.Y.C*s.Y.H*s.Y.W)
	for i := range x {
		x[i] = float32(math.Round(float64(x[i]))) // ties
	}
	top, average, dtop, daverage := newWide(len(dy)), newWide(len(dy)), newWide(len(x)), newWide(len(x))
	for i := range dy {
		nc, oh, ow := i/(s.Y.H*s.Y.W), i/s.Y.W%s.Y.H, i%s.Y.W
		var in []int
		for a := range s.KH * s.KW {
			h, w := oh*s.StrideH-s.PadTop+a/s.KW, ow*s.StrideW-s.PadLeft+a%s.KW
			if h >= 0 && h < s.X.H && w >= 0 && w < s.X.W {
				in = append(in, (nc*s.X.H+h)*s.X.W+w)
			}
		}
		best, share := in[0], 1/float64(len(in))
		if s.CountIncludePad {
			share = 1 / float64(s.KH*s.KW)
		}
		for _, j := range in {
			if x[j] > x[best] {
				best = j
			}
			average.add(i, float64(x[j])*share)
			daverage.add(j, float64(dy[i])*share)
		}
		top.add(i, float64(x[best]))
		dtop.add(best, float64(dy[i]))
	}
	bx, bdy := toBlocked(s.X, x), toBlocked(s.DY, dy)
	run := func(name string, l Layout, want wide, f func(chunk int, out []float32)) []float32 {
		out := guard(l.Size())
		for i := range k.Chunks() {
			f(i, out.s)
		}
		out.intact(t, name)
		zeroElsewhere(t, name, l, out.s)
		same(t, name, toPlain(l, out.s), want.v, want.m)
		noAllocations(t, name, func() { f(0, out.s) })
		return out.s
	}
	y := run("max", s.Y, top, func(i int, y []float32) { k.Max(i, y, bx) })
	run("max backward", s.DX, dtop, func(i int, dx []float32) { k.MaxBackward(i, dx, bdy, bx, y, false) })
	clipped := newWide(len(x))
	for i, v := range dtop.v {
		if x[i] > 0 {
			clipped.v[i], clipped.m[i] = v, dtop.m[i]
		}
	}
	run("max backward with relu", s.DX, clipped, func(i int, dx []float32) {
		k.MaxBackward(i, dx, bdy, bx, y, true)
	})
	if s.X.narrow() {
		return
	}
	run("average", s.Y, average, func(i int, y []float32) { k.Average(i, y, bx) })
	run("average backward", s.DX, daverage, func(i int, dx []float32) { k.AverageBackward(i, dx, bdy) })
}

func TestChannelSum(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(14, 1))
		for _, l := range append([]Layout{{3, 6, 5, 7, 1, narrowBlock}, {2, 8, 4, 4, 0, narrowBlock}},
			layouts...) {
			x, k := random(r, l.N*l.C*l.H*l.W), NewChannelSum(l)
			want := newWide(l.C)
			for i, v := range x {
				want.add(i/(l.H*l.W)%l.C, float64(v))
			}
			scratch, db, b := guard(k.Scratch()), guard(l.C), toBlocked(l, x)
			for i := range k.Chunks() {
				k.Partial(i, scratch.s, b, nil)
			}
			k.Reduce(db.s, scratch.s)
			scratch.intact(t, "scratch")
			db.intact(t, "db")
			same(t, "db", db.s, want.v, want.m)
			mask := random(r, len(x))
			want = newWide(l.C)
			for i, v := range x {
				if mask[i] > 0 {
					want.add(i/(l.H*l.W)%l.C, float64(v))
				}
			}
			for i := range k.Chunks() {
				k.Partial(i, scratch.s, b, toBlocked(l, mask))
			}
			k.Reduce(db.s, scratch.s)
			same(t, "masked", db.s, want.v, want.m)
		}
	})
}

func TestBatchNorm(t *testing.T) {
	levels(t, func(t *testing.T) {
		for _, l := range layouts {
			for _, mask := range []string{"none", "y", "bias"} {
				t.Run(fmt.Sprintf("%+v %v", l, mask), func(t *testing.T) { checkBatchNorm(t, l, mask) })
			}
		}
	})
}

func checkBatchNorm(t *testing.T, l Layout, by string) {
	relu := by != "none"
	r := rand.New(rand.NewPCG(15, 1))
	size, area, padded := l.N*l.C*l.H*l.W, l.H*l.W, l.Blocks()*Block
	x, res, dy := random(r, size), random(r, size), random(r, size)
	for i := range x {
		x[i] += float32(100 + i/(l.C*area)) // a mean far from zero, another in each image
	}
	mean, variance, invstd, scale, bias := AlignedSlice(padded), AlignedSlice(padded), AlignedSlice(padded),
		AlignedSlice(padded), AlignedSlice(padded)
	copy(scale, random(r, l.C))
	copy(bias, random(r, l.C))
	k, bx, bdy := NewBatchNorm(l), toBlocked(l, x), toBlocked(l, dy)
	scratch := guard(max(k.StatsScratch(), k.BackwardScratch()))
	for i := range k.StatsChunks() {
		k.Stats(i, scratch.s, bx)
	}
	k.StatsReduce(mean, variance, scratch.s)
	n := float64(l.N * area)
	m, v := make([]float64, l.C), make([]float64, l.C)
	for i, e := range x {
		m[i/area%l.C] += float64(e) / n
	}
	for i, e := range x {
		d := float64(e) - m[i/area%l.C]
		v[i/area%l.C] += d * d / n
	}
	for c := range l.C {
		if math.Abs(float64(mean[c])-m[c]) > 1e-4 || math.Abs(float64(variance[c])-v[c]) > 1e-4*(v[c]+1e-3) {
			t.Fatalf("channel %d: mean %g, variance %g; want %g, %g", c, mean[c], variance[c], m[c], v[c])
		}
		invstd[c] = float32(1 / math.Sqrt(v[c]+1e-5))
	}
	y := guard(l.Size())
	for i := range k.Chunks() {
		if by == "bias" { // no residual
			clear(res)
			k.Normalize(i, y.s, bx, mean, invstd, scale, bias, nil, relu)
			continue
		}
		k.Normalize(i, y.s, bx, mean, invstd, scale, bias, toBlocked(l, res), relu)
	}
	y.intact(t, "y")
	zeroElsewhere(t, "y", l, y.s)
	want, plain := newWide(size), toPlain(l, y.s)
	dscale, dbias := newWide(l.C), newWide(l.C)
	var mask Mask
	for i := range x {
		c := i / area % l.C
		norm := (float64(x[i]) - float64(mean[c])) * float64(invstd[c])
		want.add(i, norm*float64(scale[c]))
		want.add(i, float64(bias[c]))
		want.add(i, float64(res[i]))
		if relu {
			want.v[i] = max(0, want.v[i])
			if mask.Y = y.s; by == "bias" {
				mask = Mask{Bias: bias}
			}
		}
		if !relu || plain[i] > 0 {
			dbias.add(c, float64(dy[i]))
			dscale.add(c, float64(dy[i])*norm)
		}
	}
	same(t, "y", plain, want.v, want.m)

	ds, db := AlignedSlice(padded), AlignedSlice(padded)
	for i := range k.StatsChunks() {
		k.BackwardStats(i, scratch.s, bdy, bx, mean, invstd, scale, mask)
	}
	k.BackwardReduce(ds, db, scratch.s)
	scratch.intact(t, "scratch")
	same(t, "dscale", ds, dscale.v, dscale.m)
	same(t, "dbias", db, dbias.v, dbias.m)
	dx := guard(l.Size())
	for i := range k.Chunks() {
		k.BackwardData(i, dx.s, bdy, bx, mean, invstd, scale, ds, db, mask)
	}
	dx.intact(t, "dx")
	zeroElsewhere(t, "dx", l, dx.s)
	grad := newWide(size)
	for i := range x {
		c := i / area % l.C
		f, norm := float64(scale[c])*float64(invstd[c]), (float64(x[i])-float64(mean[c]))*float64(invstd[c])
		if !relu || plain[i] > 0 {
			grad.add(i, f*float64(dy[i]))
		}
		grad.add(i, -f*float64(db[c])/n)
		grad.add(i, -f*norm*float64(ds[c])/n)
	}
	same(t, "dx", toPlain(l, dx.s), grad.v, grad.m)
	noAllocations(t, "Stats", func() { k.Stats(0, scratch.s, bx) })
	noAllocations(t, "BackwardData", func() {
		k.BackwardData(0, dx.s, bdy, bx, mean, invstd, scale, ds, db, mask)
	})
}

func TestGemm(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(16, 1))
		for _, d := range [][3]int{{1, 1, 1}, {1, 10, 84}, {64, 120, 400}, {7, 33, 300}, {130, 17, 5},
			{3, 5, 513}, {200, 16, 700}, {31, 20, 384},
			{5, 1100, 30}, {2, 1040, 260}, {3, 20, 0}, {1, 130, 300}} {
			for bits := range 32 {
				s := GemmSpec{M: d[0], N: d[1], K: d[2], TransA: bits&1 != 0, TransB: bits&2 != 0,
					Packed: bits&16 != 0}
				checkGemm(t, r, s, bits&4 != 0, bits&8 != 0)
			}
		}
	})
}

func checkGemm(t *testing.T, r *rand.Rand, s GemmSpec, relu, accumulate bool) {
	t.Helper()
	name := fmt.Sprintf("%+v relu=%v accumulate=%v", s, relu, accumulate)
	g := NewGemm(s)
	a, b, c, bias := random(r, s.M*s.K), random(r, s.K*s.N), guard(s.M*s.N), random(r, s.N)
	want := newWide(s.M * s.N)
	copy(c.s, random(r, len(c.s)))
	for i := range want.v {
		m, n := i/s.N, i%s.N
		want.add(i, float64(bias[n]))
		if accumulate {
			want.add(i, float64(c.s[i]))
		}
		for k := range s.K {
			x, y := a[m*s.K+k], b[k*s.N+n]
			if s.TransA {
				x = a[k*s.M+m]
			}
			if s.TransB {
				y = b[n*s.K+k]
			}
			want.add(i, float64(x)*float64(y))
		}
		if relu {
			want.v[i] = max(0, want.v[i])
		}
	}
	if s.Packed {
		packed := guard(g.PackedSize())
		for i := range g.PackChunks() {
			g.Pack(i, packed.s, b)
		}
		packed.intact(t, name)
		b = packed.s
	}
	scratch := guard(g.Scratch())
	for i := range g.Chunks() {
		g.Run(i, scratch.s, c.s, a, b, bias, relu, accumulate)
	}
	scratch.intact(t, name)
	c.intact(t, name)
	same(t, name, c.s, want.v, want.m)
	noAllocations(t, name, func() { g.Run(0, scratch.s, c.s, a, b, bias, relu, accumulate) })
	if !relu && !accumulate { // which Part knows nothing of
		checkGemmPart(t, g, a, b)
	}
}

// A row has the same bits alone and among others, whatever kernel takes it.
func TestGemmRowAlone(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(17, 1))
		for _, d := range [][2]int{{1, 1}, {64, 1}, {64, 31}, {120, 400}, {84, 120}, {200, 513}, {49, 256},
			{128, 2560}} {
			s := GemmSpec{M: 3, N: d[0], K: d[1], TransB: true, Packed: true}
			a, b, bias := random(r, s.M*s.K), random(r, s.K*s.N), random(r, s.N)
			many := NewGemm(s)
			s.M = 1
			one := NewGemm(s)
			packed := AlignedSlice(many.PackedSize())
			for i := range many.PackChunks() {
				many.Pack(i, packed, b)
			}
			for _, relu := range []bool{false, true} {
				all, scratch := AlignedSlice(3*s.N), AlignedSlice(many.Scratch())
				for i := range many.Chunks() {
					many.Run(i, scratch, all, a, packed, bias, relu, false)
				}
				row := guard(s.N)
				for i := range one.Chunks() {
					one.Run(i, AlignedSlice(one.Scratch()), row.s, a[s.K:], packed, bias, relu, false)
				}
				row.intact(t, "row")
				for i, v := range row.s {
					if v != all[s.N+i] {
						t.Fatalf("%+v: element %d is %v alone and %v among others", s, i, v, all[s.N+i])
					}
				}
			}
		}
	})
}

// checkGemmPart compares parts with the whole product, bit by bit.
func checkGemmPart(t *testing.T, g *Gemm, a, b []float32) {
	t.Helper()
	whole, scratch := AlignedSlice(g.M*g.N), AlignedSlice(g.Scratch())
	for i := range g.Chunks() {
		g.Run(i, scratch, whole, a, b, nil, false, false)
	}
	const rows, columns = 3, 3 * Block
	work := guard(g.PartScratch(rows, columns))
	for lo := 0; lo < g.M; lo += rows {
		for from := 0; from < g.N; from += columns {
			hi, to := min(g.M, lo+rows), min(g.N, from+columns)
			c := guard((hi - lo) * (to - from))
			g.Part(work.s, c.s, a, b, lo, hi, from, to)
			c.intact(t, "Part")
			work.intact(t, "Part")
			for i, v := range c.s {
				if w := whole[(lo+i/(to-from))*g.N+from+i%(to-from)]; v != w {
					t.Fatalf("%+v: element %d of rows %d to %d, columns %d to %d is %v, in the whole product %v", g.GemmSpec, i, lo, hi, from, to, v, w)
				}
			}
		}
	}
}

func TestLogSoftmaxRows(t *testing.T) {
	x := []float32{1, 2, 3, -1000, 0, 1000}
	y, dx := make([]float32, 6), make([]float32, 6)
	LogSoftmaxRows(y, x, 2, 3)
	same(t, "y", y, []float64{-2.4076059644, -1.4076059644, -0.4076059644, -2000, -1000, 0},
		[]float64{1, 1, 1, 1, 1, 1})
	LogSoftmaxGradRows(dx, []float32{1, 0, 0, 0, 0, 1}, y, 2, 3)
	same(t, "dx", dx, []float64{1 - 0.0900305732, -0.2447284711, -0.6652409558, 0, 0, 0},
		[]float64{1, 1, 1, 1, 1, 1})
}

// TestLogSoftmaxSumsToOne: probabilities of large numbers sum to 1, which the gradient relies on.
func TestLogSoftmaxSumsToOne(t *testing.T) {
	levels(t, func(t *testing.T) {
		x, y := []float32{-199.35614, 502.00842, 471.7117, 505.14697, -102.08884,
			455.58047}, make([]float32, 6)
		for name, softmax := range map[string]func(){"rows": func() { LogSoftmaxRows(y, x, 1, len(x)) },
			"columns": func() { SoftmaxColumns(y, x, len(x), 1, 0, 1, true) }} {
			softmax()
			sum := 0.0
			for _, v := range y {
				sum += math.Exp(float64(v))
			}
			if math.Abs(sum-1) > 5e-7 {
				t.Errorf("%s: the exponentials sum to 1%+g", name, sum-1)
			}
		}
	})
}

func TestFlat(t *testing.T) {
	levels(t, func(t *testing.T) {
		a, b := []float32{1, -2, 3, -4}, []float32{2, 1, -5, 8}
		for name, c := range map[string]struct {
			f    func(y []float32)
			want []float32
		}{
			"AddRelu": {func(y []float32) { AddRelu(y, a, b) }, []float32{3, 0, 0, 4}},
			"Mul":     {func(y []float32) { Mul(y, a, b) }, []float32{2, -2, -15, -32}},
			"Scale":   {func(y []float32) { Scale(y, a, 2) }, []float32{2, -4, 6, -8}},
			"Axpy":    {func(y []float32) { Copy(y, b); Axpy(y, a, 2) }, []float32{4, -3, 1, 0}},
			"Fill":    {func(y []float32) { Fill(y, 7) }, []float32{7, 7, 7, 7}},
		} {
			y := make([]float32, 4)
			if c.f(y); !slices.Equal(y, c.want) {
				t.Errorf("%s: %v, want %v", name, y, c.want)
			}
		}
	})
}

// TestClippingKeepsNaN: a network that has gone wrong must not look healthy behind its first ReLU.
func TestClippingKeepsNaN(t *testing.T) {
	levels(t, func(t *testing.T) {
		x, y := AlignedSlice(Block), AlignedSlice(Block)
		x[3], x[4], x[5] = nan, -1, 2
		check := func(name string) {
			t.Helper()
			if v := y[3]; v == v {
				t.Errorf("%s: NaN became %g", name, v)
			}
			if y[4] != 0 || y[5] != 2 {
				t.Errorf("%s: -1 and 2 became %g and %g", name, y[4], y[5])
			}
		}
		Relu(y, x)
		check("relu")
		var coef [3 * Block]float32
		for o := range Block {
			coef[Block+o] = 1
		}
		normalize(y, x, nil, &coef, rect{Block, 1, 0}, true)
		check("normalize")
		one := convCase{1, Block, 1, 1, Block, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0, false, false}
		s, _ := one.spec()
		c, err := NewConv(s)
		if err != nil {
			t.Fatal(err)
		}
		identity := make([]float32, Block*Block)
		for o := range Block {
			identity[o*Block+o] = 1
		}
		w := AlignedSlice(c.WeightSize())
		c.Pack(w, identity)
		x[3] = 1
		bias := AlignedSlice(Block)
		bias[3] = nan
		c.Forward(0, y, x, w, Epilogue{Bias: bias, ReLU: true})
		check("convolution")
	})
}
