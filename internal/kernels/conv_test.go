package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// convCase is a convolution by its usual parameters.
type convCase struct {
	n, c, h, w, o                            int
	kh, kw, sh, sw, top, left, bottom, right int
	dh, dw                                   int
	moreHalo                                 int
	small                                    bool // x keeps C lanes
	narrow                                   bool // maps of up to 8 channels have 8 lanes
}

func (c convCase) String() string {
	return fmt.Sprintf("%d,%d,%dx%d->%d k%dx%d s%d,%d p%d,%d,%d,%d d%d,%d halo+%d small=%v narrow=%v", c.n,
		c.c, c.h, c.w, c.o, c.kh, c.kw, c.sh, c.sw,
		c.top, c.left, c.bottom, c.right, c.dh, c.dw, c.moreHalo, c.small, c.narrow)
}

func square(n, c, size, o, k, stride, pad int) convCase {
	return convCase{n, c, size, size, o, k, k, stride, stride, pad, pad, pad, pad, 1, 1, 0, false, false}
}

func (c convCase) spec() (ConvSpec, bool) {
	oh := (c.h+c.top+c.bottom-(c.kh-1)*c.dh-1)/c.sh + 1
	ow := (c.w+c.left+c.right-(c.kw-1)*c.dw-1)/c.sw + 1
	if c.h+c.top+c.bottom < (c.kh-1)*c.dh+1 || c.w+c.left+c.right < (c.kw-1)*c.dw+1 {
		return ConvSpec{}, false
	}
	bottom, right := (oh-1)*c.sh+(c.kh-1)*c.dh+1-c.h-c.top, (ow-1)*c.sw+(c.kw-1)*c.dw+1-c.w-c.left
	hx, hy := ConvHalo(c.kh, c.kw, c.sh, c.sw, c.top, c.left, bottom, right, c.dh, c.dw)
	s := ConvSpec{X: plane(c.n, c.c, c.h, c.w, hx+c.moreHalo), Y: plane(c.n, c.o, oh, ow, c.moreHalo),
		DX: plane(c.n, c.c, c.h, c.w, c.moreHalo), DY: plane(c.n, c.o, oh, ow, hy+c.moreHalo),
		KH: c.kh, KW: c.kw, StrideH: c.sh, StrideW: c.sw, PadTop: c.top, PadLeft: c.left,
		DilH: c.dh, DilW: c.dw}
	if c.small {
		s.X.Lanes = c.c
	}
	if c.narrow {
		for _, l := range []*Layout{&s.X, &s.DX, &s.Y, &s.DY} {
			if l.C <= narrowBlock && l.Lanes == Block {
				l.Lanes = narrowBlock
			}
		}
	}
	return s, true
}

var convCases = []convCase{
	square(1, 1, 1, 1, 1, 1, 0),
	square(2, 16, 8, 16, 3, 1, 1),
	square(1, 33, 7, 17, 3, 1, 1),
	square(2, 6, 13, 16, 5, 1, 0),
	square(3, 17, 5, 3, 1, 1, 0),
	square(1, 16, 9, 16, 1, 2, 0),
	square(1, 16, 31, 33, 3, 2, 1),
	square(1, 3, 19, 8, 7, 2, 3),
	square(1, 5, 7, 4, 2, 3, 0), // stride > kernel
	square(1, 16, 29, 16, 3, 1, 1),
	square(1, 16, 57, 16, 1, 1, 0),
	square(1, 16, 48, 32, 3, 1, 1), // several chunks
	square(1, 64, 40, 64, 1, 1, 0), // output blocks innermost
	{1, 1, 28, 28, 6, 5, 5, 1, 1, 2, 2, 2, 2, 1, 1, 0, true, false},
	{2, 3, 17, 15, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, true, false},
	{1, 3, 23, 23, 20, 7, 7, 2, 2, 3, 3, 3, 3, 1, 1, 0, true, false},
	{1, 16, 11, 13, 16, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2, 0, false, false}, // dilated
	{1, 18, 6, 40, 5, 1, 3, 1, 2, 0, 1, 0, 1, 1, 1, 2, false, false},
	{1, 4, 9, 9, 4, 3, 3, 1, 1, 0, 2, 1, 0, 1, 1, 0, false, false}, // pads differ
	square(1, 16, 4, 16, 2, 2, 0),
	{1, 1, 13, 11, 20, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 0, true, false}, // rows of one channel
	{1, 1, 13, 11, 7, 3, 3, 2, 1, 1, 1, 1, 1, 2, 1, 0, true, true},   // the same, dilated
	{2, 1, 28, 28, 6, 5, 5, 1, 1, 2, 2, 2, 2, 1, 1, 0, true, true},
	{2, 6, 14, 14, 16, 5, 5, 1, 1, 0, 0, 0, 0, 1, 1, 0, false, true},
	{1, 8, 13, 31, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, false, true},
	{1, 20, 9, 9, 5, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 0, false, true},
	{1, 64, 7, 7, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0, false, true},
	{2, 33, 14, 14, 17, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, false, false}, // two rows a tile
	square(1, 20, 28, 18, 3, 2, 1),
	{1, 17, 5, 7, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 2, false, true}, // three
	// weights that are read once for all images
	square(3, 168, 7, 176, 3, 1, 1),
}

// TestOrder asks for every part of every plane once.
func TestOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		o := order{images: 1 + r.IntN(9), blocks: 1 + r.IntN(7), parts: 1 + r.IntN(5),
			together: 1 + r.IntN(10), inner: r.IntN(4) == 0}
		seen := make([]int, o.images*o.blocks*o.parts)
		for u := range seen {
			n, b, part := o.unit(u)
			seen[(n*o.blocks+b)*o.parts+part]++
		}
		for i, n := range seen {
			if n != 1 {
				t.Fatalf("%+v: part %d %d times", o, i, n)
			}
		}
	}
}

// TestConvTiles compares the inner loop of every width with its twin, with groups of pixels that lie apart.
func TestConvTiles(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(17, 18))
		for _, narrow := range []bool{false, true} {
			for p := 1; p <= tileWidth(narrow); p++ {
				t.Run(fmt.Sprintf("%d narrow=%v", p, narrow), func(t *testing.T) {
					checkConvTiles(t, p, tile{narrow: narrow}, r)
				})
			}
		}
		for p := 1; p <= pairWidth(); p++ {
			for _, beside := range []int{0, 401 * Block} {
				t.Run(fmt.Sprintf("%d pairs", p), func(t *testing.T) {
					checkConvTiles(t, p, tile{wNext: 25 * Block, yBeside: beside}, r)
				})
			}
		}
	})
}

func checkConvTiles(t *testing.T, p int, shape tile, r *rand.Rand) {
	runs := []run{{3, 7}, {40, 1}, {20 * Block, Block}}
	x, w, bias, res := random(r, 1000*Block), random(r, 49*Block), random(r, 2*Block), random(r, 800*Block)
	for _, a := range []tile{{}, {bias: bias, res: res}, {res: res, act: clipped}, {res: res, act: masked},
		{bias: bias, res: res, act: between, high: 1.5}} {
		got, want := guard(800*Block), guard(800*Block)
		a.narrow, a.wNext, a.yBeside = shape.narrow, shape.wNext, shape.yBeside
		a.x, a.w, a.runs, a.n, a.xStride, a.yStride = x, w, runs, 3, 2*Block, a.lanes()
		a.xNext, a.yNext, a.fromX, a.fromY = 130*Block, 110*Block, 5, 7
		a.xApart, a.yApart = [2]int{21 * Block, 70 * Block}, [2]int{15 * Block, 33 * Block}
		b := a
		a.y, b.y = got.s, want.s
		convTiles(p, &a)
		convTilesGo(p, &b)
		nearly(t, fmt.Sprintf("act %d", a.act), got, want)
	}
}

// TestTilesAgain compares tiles that are computed several times with as many calls of the twin.
func TestTilesAgain(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(19, 20))
		x, w, bias, res := random(r, 90*Block), random(r, 40*Block), random(r, 2*Block), random(r, 120*Block)
		shapes := []tile{{runs: []run{{3, 7}}}, {runs: []run{{3, 7}}, narrow: true},
			{taps: []tap{{5, 0}, {40, 2 * Block}}, per: 1},
			{taps: []tap{{5, 0}, {48, 4 * Block}}, per: 4}}
		if pairWidth() > 0 {
			shapes = append(shapes, tile{runs: []run{{3, 7}}, wNext: 8 * Block})
		}
		for _, shape := range shapes {
			for _, again := range [][2]again{{}, {{times: 1}, {times: 3, x: 5, y: 32 * Block}},
				{{times: 3, w: Block, y: 20 * Block}, {}},
				{{times: 2, x: 4, w: Block, y: 20 * Block}, {times: 2, x: 9 * Block, w: 4 * Block,
					y: 50 * Block}}} {
				a := shape
				a.again, a.x, a.w, a.bias, a.n, a.xStride, a.yStride = again, x, w, bias, 2, Block, a.lanes()
				a.xNext, a.yNext, a.fromX, a.fromY = 7*Block, 9*Block, 3, 1
				for range 2 { // without a residual and with it
					got, want := guard(120*Block), guard(120*Block)
					a.y = got.s
					convTiles(4, &a)
					for i := range a.times() {
						b := a.time(i)
						b.y = want.s
						if b.taps != nil {
							depthPixelsGo(4, &b)
						} else {
							panelsGo(4, &b)
						}
					}
					nearly(t, fmt.Sprintf("%+v", again), got, want)
					a.res = res
				}
			}
		}
	})
}

// wide is a tensor with the magnitude behind every value.
type wide struct{ v, m []float64 }

func newWide(n int) wide { return wide{make([]float64, n), make([]float64, n)} }

func (w wide) add(i int, v float64) { w.v[i] += v; w.m[i] += math.Abs(v) }

// naive computes y, dx and dw of a convolution, all in plain layout.
func (c convCase) naive(s ConvSpec, x, w, dy []float32) (y, dx, dw wide) {
	y, dx, dw = newWide(len(dy)), newWide(len(x)), newWide(len(w))
	for n := range c.n {
		for o := range c.o {
			for p := range s.Y.H * s.Y.W {
				oh, ow := p/s.Y.W, p%s.Y.W
				yi := (n*c.o+o)*s.Y.H*s.Y.W + p
				for i := range c.c {
					for k := range c.kh * c.kw {
						h, v := oh*c.sh-c.top+k/c.kw*c.dh, ow*c.sw-c.left+k%c.kw*c.dw
						if h < 0 || h >= c.h || v < 0 || v >= c.w {
							continue
						}
						xi, wi := ((n*c.c+i)*c.h+h)*c.w+v, (o*c.c+i)*c.kh*c.kw+k
						y.add(yi, float64(x[xi])*float64(w[wi]))
						dx.add(xi, float64(dy[yi])*float64(w[wi]))
						dw.add(wi, float64(x[xi])*float64(dy[yi]))
					}
				}
			}
		}
	}
	return y, dx, dw
}

func checkConv(t *testing.T, c convCase, r *rand.Rand) { checkGroups(t, c, 1, r) }

// checkGroups compares the passes of a convolution in groups with the naive one whose
// weights between groups are zero.
func checkGroups(t *testing.T, c convCase, group int, r *rand.Rand) {
	s, ok := c.spec()
	s.Group = group
	if !ok {
		t.Skip("no output")
	}
	k, err := NewConv(s)
	if err != nil {
		t.Fatal(err)
	}
	if k.need > s.DY.Halo-c.moreHalo {
		t.Fatalf("backward-data needs a halo of %d, ConvHalo says %d", k.need, s.DY.Halo-c.moreHalo)
	}
	checkPasses(t, c, group, k, s, r)
}

// convolution is what Conv and Depthwise have in common.
type convolution interface {
	WeightSize() int
	Pack(dst, oihw []float32)
	Unpack(oihw, packed []float32)
	ForwardChunks() int
	Forward(chunk int, y, x, w []float32, e Epilogue)
	Moments() Moments
	FlipSize() int
	FlipChunks() int
	Flip(chunk int, flipped, w []float32)
	BackwardDataChunks() int
	BackwardData(chunk int, dx, dy, w []float32, e Epilogue)
	BackwardWeightsChunks() int
	BackwardWeightsScratch() int
	BackwardWeights(chunk int, scratch, x, dy []float32)
	ReduceWeightsChunks() int
	ReduceWeights(chunk int, dw, scratch []float32)
}

// flipped is the weights as backward-data reads them.
func flipped(k convolution, packed []float32) []float32 {
	if k.FlipSize() == 0 {
		return packed
	}
	f := AlignedSlice(k.FlipSize())
	for i := range k.FlipChunks() {
		k.Flip(i, f, packed)
	}
	return f
}

// checkPasses compares the passes of k with the naive ones.
func checkPasses(t *testing.T, c convCase, group int, k convolution, s ConvSpec, r *rand.Rand) {
	x, w, dy := random(r, c.n*c.c*c.h*c.w), random(r, c.o*c.c/group*c.kh*c.kw), random(r, c.n*c.o*s.Y.H*s.Y.W)
	y, dx, full := c.naive(s, x, c.dense(w, group), dy)
	dw := c.ofGroups(full, group)
	packed := AlignedSlice(k.WeightSize())
	k.Pack(packed, w)
	back := make([]float32, len(w))
	k.Unpack(back, packed)
	for i := range w {
		if back[i] != w[i] {
			t.Fatalf("weight %d is %g after packing, was %g", i, back[i], w[i])
		}
	}
	bx, bdy := toBlocked(s.X, x), toBlocked(s.DY, dy)

	out := guard(s.Y.Size())
	for i := range k.ForwardChunks() {
		k.Forward(i, out.s, bx, packed, Epilogue{})
	}
	out.intact(t, "y")
	zeroElsewhere(t, "y", s.Y, out.s)
	same(t, "y", toPlain(s.Y, out.s), y.v, y.m)
	checkEpilogue(t, c, k, s.Y, bx, packed, y, r)

	if !c.small {
		flipped, out := flipped(k, packed), guard(s.DX.Size())
		for i := range k.BackwardDataChunks() {
			k.BackwardData(i, out.s, bdy, flipped, Epilogue{})
		}
		out.intact(t, "dx")
		zeroElsewhere(t, "dx", s.DX, out.s)
		same(t, "dx", toPlain(s.DX, out.s), dx.v, dx.m)
	}

	scratch, sum := guard(k.BackwardWeightsScratch()), guard(k.WeightSize())
	for i := range k.BackwardWeightsChunks() {
		k.BackwardWeights(i, scratch.s, bx, bdy)
	}
	for i := range k.ReduceWeightsChunks() {
		k.ReduceWeights(i, sum.s, scratch.s)
	}
	scratch.intact(t, "scratch")
	sum.intact(t, "dw")
	got := make([]float32, len(w))
	k.Unpack(got, sum.s)
	same(t, "dw", got, dw.v, dw.m)
	k.Pack(packed, got)
	for i, v := range packed {
		if sum.s[i] != v {
			t.Fatalf("the packed gradient has %g at %d, between groups or past the channels", sum.s[i], i)
		}
	}
}

// eachOfGroups calls f for every weight of a convolution in groups, and for its place among those
// of all pairs of channels.
func (c convCase) eachOfGroups(group int, f func(i, full int)) {
	in, out, taps := c.c/group, c.o/group, c.kh*c.kw
	for i := range c.o * in * taps {
		o, k := i/taps/in, i%taps
		f(i, (o*c.c+o/out*in+i/taps%in)*taps+k)
	}
}

func (c convCase) dense(w []float32, group int) []float32 {
	full := make([]float32, c.o*c.c*c.kh*c.kw)
	c.eachOfGroups(group, func(i, at int) { full[at] = w[i] })
	return full
}

func (c convCase) ofGroups(full wide, group int) wide {
	w := newWide(len(full.v) / group)
	c.eachOfGroups(group, func(i, at int) { w.v[i], w.m[i] = full.v[at], full.m[at] })
	return w
}

// checkEpilogue compares bias, residual and ReLU.
func checkEpilogue(t *testing.T, c convCase, k convolution, l Layout, bx, packed []float32, y wide,
	r *rand.Rand) {
	res, bias := random(r, len(y.v)), AlignedSlice(l.Blocks()*Block)
	copy(bias, random(r, c.o))
	out := guard(l.Size())
	bres := toBlocked(l, res)
	for i := range k.ForwardChunks() {
		k.Forward(i, out.s, bx, packed, Epilogue{Bias: bias, Residual: bres, ReLU: true})
	}
	want, m := make([]float64, len(y.v)), make([]float64, len(y.v))
	area := l.H * l.W
	for i := range want {
		b, e := float64(bias[i/area%c.o]), float64(res[i])
		want[i], m[i] = max(0, y.v[i]+b+e), y.m[i]+math.Abs(b)+math.Abs(e)
	}
	out.intact(t, "y with epilogue")
	zeroElsewhere(t, "y with epilogue", l, out.s)
	same(t, "y with epilogue", toPlain(l, out.s), want, m)
	const high = 1.25
	for i := range k.ForwardChunks() {
		k.Forward(i, out.s, bx, packed, Epilogue{Bias: bias, Residual: bres, ReLU: true, High: high})
	}
	limited := make([]float64, len(want))
	for i, v := range want {
		limited[i] = min(v, high)
	}
	same(t, "y between bounds", toPlain(l, out.s), limited, m)
	if !l.narrow() {
		records := AlignedSlice(k.Moments().Size())
		for i := range k.ForwardChunks() {
			k.Forward(i, out.s, bx, packed, Epilogue{Bias: bias, Moments: records})
		}
		checkMoments(t, k.Moments(), records, l, toPlain(l, out.s))
	}
	for i := range k.ForwardChunks() {
		k.Forward(i, out.s, bx, packed, Epilogue{Mask: bres})
	}
	for i := range want {
		if want[i], m[i] = y.v[i], y.m[i]; !(res[i] > 0) {
			want[i] = 0
		}
	}
	same(t, "masked y", toPlain(l, out.s), want, m)
}

// checkMoments compares the merged records with the moments of y, the plain map that came with them. A
// variance is allowed 1e-4 of itself, as in checkBatchNorm: squares are of the distance to the first pixel,
// which may be far from the mean.
func checkMoments(t *testing.T, m Moments, records []float32, l Layout, y []float32) {
	t.Helper()
	mean, variance := AlignedSlice(l.C), AlignedSlice(l.C)
	m.Reduce(mean, variance, records)
	area := l.H * l.W
	n := float64(l.N * area)
	for c := range l.C {
		var sum, squares float64
		each := func(f func(v float64)) {
			for i := range l.N * area {
				f(float64(y[(i/area*l.C+c)*area+i%area]))
			}
		}
		each(func(v float64) { sum += v })
		each(func(v float64) { squares += (v - sum/n) * (v - sum/n) })
		if d := math.Abs(float64(mean[c]) - sum/n); d > 1e-5*(1+math.Abs(sum/n)) {
			t.Fatalf("mean of channel %d is %g, want %g", c, mean[c], sum/n)
		}
		if d := math.Abs(float64(variance[c]) - squares/n); d > 1e-4*(1e-3+squares/n) {
			t.Fatalf("variance of channel %d is %g, want %g", c, variance[c], squares/n)
		}
	}
}

func TestConv(t *testing.T) {
	levels(t, func(t *testing.T) {
		for _, c := range convCases {
			t.Run(c.String(), func(t *testing.T) { checkConv(t, c, rand.New(rand.NewPCG(1, 2))) })
		}
	})
}

var groupCases = []struct {
	convCase
	group int
}{
	{square(2, 64, 9, 32, 3, 1, 1), 2}, // whole blocks
	{square(1, 96, 5, 128, 5, 1, 2), 2},
	{square(2, 32, 7, 32, 3, 1, 1), 8}, // of 4 channels
	{square(1, 64, 15, 64, 3, 2, 1), 8},
	{square(2, 60, 6, 60, 3, 1, 1), 3}, // across blocks
	{square(1, 40, 5, 80, 1, 1, 0), 5},
	{square(1, 20, 8, 40, 3, 1, 1), 20}, // of 1 channel to 2
	{square(1, 48, 8, 12, 3, 2, 1), 12},
	{convCase{1, 4, 9, 11, 8, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2, 0, true, false}, 2},
	{convCase{2, 6, 9, 11, 6, 3, 2, 2, 1, 1, 0, 1, 1, 1, 1, 1, false, true}, 3},
	{convCase{1, 8, 5, 33, 48, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 0, false, true}, 4},
	{convCase{1, 8, 5, 33, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 0, false, false}, 8},
}

func TestConvGroups(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(11, 12))
		for _, c := range groupCases {
			t.Run(fmt.Sprintf("%v in %d groups", c.convCase, c.group), func(t *testing.T) {
				checkGroups(t, c.convCase, c.group, r)
			})
		}
		for range 30 {
			c, group := randomConv(r), 1+r.IntN(6)
			c.c, c.o = (1+c.c%12)*group, (1+c.o%12)*group
			c.small = c.c <= 4
			t.Run(fmt.Sprintf("%v in %d groups", c, group), func(t *testing.T) {
				checkGroups(t, c, group, r)
			})
		}
	})
}

func TestConvRandom(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		for range 60 {
			c := randomConv(r)
			t.Run(c.String(), func(t *testing.T) { checkConv(t, c, r) })
		}
	})
}

func randomConv(r *rand.Rand) convCase {
	up := func(n int) int { return 1 + r.IntN(n) }
	c := convCase{n: up(2), c: up(35), h: up(12), w: up(40), o: up(35), kh: up(4), kw: up(4), sh: up(3),
		sw: up(3), top: r.IntN(3),
		left: r.IntN(3), bottom: r.IntN(3), right: r.IntN(3), dh: up(2), dw: up(2), moreHalo: r.IntN(2)}
	c.small = c.c <= 4
	return c
}

func TestConvRefuses(t *testing.T) {
	good, _ := square(1, 16, 8, 16, 3, 1, 1).spec()
	for name, change := range map[string]func(*ConvSpec){
		"batch 0":   func(s *ConvSpec) { s.X.N = 0 },
		"no halo":   func(s *ConvSpec) { s.X.Halo = 0 },
		"stride 0":  func(s *ConvSpec) { s.StrideW = 0 },
		"lanes":     func(s *ConvSpec) { s.Y.Lanes = 8 },
		"no kernel": func(s *ConvSpec) { s.KH = 0 },
		"gradient":  func(s *ConvSpec) { s.DX.W++ },
		"batches":   func(s *ConvSpec) { s.Y.N = 2 },
		"groups":    func(s *ConvSpec) { s.Group = 3 },
	} {
		s := good
		change(&s)
		if _, err := NewConv(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestConvTransposed runs a transposed convolution's forward pass, with bias and ReLU, as backward-data.
func TestConvTransposed(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		c := square(2, 20, 10, 18, 2, 2, 0)
		s, _ := c.spec()
		k, err := NewConv(s)
		if err != nil {
			t.Fatal(err)
		}
		x, w, dy := random(r, c.n*c.c*c.h*c.w), random(r, c.o*c.c*4), random(r, c.n*c.o*s.Y.H*s.Y.W)
		_, dx, _ := c.naive(s, x, w, dy)
		packed, flipped, bias := AlignedSlice(k.WeightSize()), AlignedSlice(k.FlipSize()), AlignedSlice(32)
		k.Pack(packed, w)
		copy(bias, random(r, c.c))
		for i := range k.FlipChunks() {
			k.Flip(i, flipped, packed)
		}
		out := guard(s.DX.Size())
		for i := range k.BackwardDataChunks() {
			k.BackwardData(i, out.s, toBlocked(s.DY, dy), flipped, Epilogue{Bias: bias, ReLU: true})
		}
		for i := range dx.v {
			b := float64(bias[i/(c.h*c.w)%c.c])
			dx.v[i], dx.m[i] = max(0, dx.v[i]+b), dx.m[i]+math.Abs(b)
		}
		out.intact(t, "y")
		zeroElsewhere(t, "y", s.DX, out.s)
		same(t, "y", toPlain(s.DX, out.s), dx.v, dx.m)
	})
}

func TestConvAllocations(t *testing.T) {
	levels(t, func(t *testing.T) {
		s, _ := square(1, 16, 32, 16, 3, 1, 1).spec()
		k, err := NewConv(s)
		if err != nil {
			t.Fatal(err)
		}
		x, y, w, f := AlignedSlice(s.X.Size()), AlignedSlice(s.Y.Size()), AlignedSlice(k.WeightSize()),
			AlignedSlice(k.FlipSize())
		dx, dy, scratch := AlignedSlice(s.DX.Size()), AlignedSlice(s.DY.Size()),
			AlignedSlice(k.BackwardWeightsScratch())
		noAllocations(t, "Forward", func() { k.Forward(0, y, x, w, Epilogue{ReLU: true}) })
		noAllocations(t, "Flip", func() { k.Flip(0, f, w) })
		noAllocations(t, "BackwardData", func() { k.BackwardData(0, dx, dy, f, Epilogue{}) })
		noAllocations(t, "BackwardWeights", func() { k.BackwardWeights(0, scratch, x, dy) })
		noAllocations(t, "ReduceWeights", func() { k.ReduceWeights(0, w, scratch) })
	})
}

// FuzzConv compares the kernels of each level with the naive convolution on any geometry.
func FuzzConv(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 7))
		c := randomConv(r)
		best, was := available(), current
		defer func() { current = was }()
		for current = levelGo; current <= best; current++ {
			checkConv(t, c, r)
		}
	})
}
