package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestElementwise compares passes of stages over maps of awkward shapes and halos
// with loops over plain values.
func TestElementwise(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(41, 1))
		for _, s := range []Layout{{2, 19, 3, 5, 0, 16}, {1, 32, 7, 7, 1, 16}, {2, 6, 4, 3, 2, 8},
			{1, 3, 5, 5, 0, 3}, {3, 40, 1, 1, 0, 16}, {1, 16, 40, 200, 1, 16}} {
			for number, stages := range stageLists(s) {
				checkElementwise(t, r, s, number, stages)
			}
		}
	})
}

func stageLists(l Layout) [][]Stage {
	lists := [][]Stage{
		{MapStage(NewMap(FuncSigmoid))},
		{MapStage(NewMap(FuncHardSwish))},
		{PairStage(OpAdd, Same, 0), MapStage(NewMap(FuncRelu))},
		{PairStage(OpDiv, Same, 0)},
		{PairStage(OpMul, PerImage, 4), NumberStage(OpAdd, 2), NumberStage(OpDiv, 3),
			MapStage(NewMap(FuncTanh))},
		{PairStage(OpMax, Single, 5), PairStage(OpSub, Same, 0)},
	}
	if l.Lanes >= narrowBlock {
		lists = append(lists,
			[]Stage{PairStage(OpMul, PerPixel, 1)},
			[]Stage{PairStage(OpMul, PerChannel, 2), PairStage(OpAdd, PerImageChannel, 3),
				PairStage(OpAdd, Same, 0)},
			[]Stage{PairStage(OpDiv, PerChannel, 2), PairStage(OpPRelu, PerChannel, 2)},
			[]Stage{PairStage(OpDivInto, PerImageChannel, 3), PairStage(OpMin, PerPixel, 1)})
	}
	return lists
}

// operandAt is the second operand of a stage for an element of the plain map.
func operandAt(l Layout, s Stage, plain [][]float32, i int) float32 {
	area := l.H * l.W
	n, c := i/(l.C*area), i/area%l.C
	switch {
	case s.Operand < 0:
		return s.Value
	case s.Broadcast == Same:
		return plain[s.Operand][i]
	case s.Broadcast == PerChannel:
		return plain[s.Operand][c]
	case s.Broadcast == PerImage:
		return plain[s.Operand][n]
	case s.Broadcast == Single:
		return plain[s.Operand][0]
	}
	return plain[s.Operand][n*l.C+c]
}

func checkElementwise(t *testing.T, r *rand.Rand, l Layout, number int, stages []Stage) {
	t.Helper()
	name := fmt.Sprintf("%+v stages %d", l, number)
	in, pixel, other := l, l, l
	in.Halo, other.Halo = number%2, (number+l.Halo)%3
	pixel.H, pixel.W, pixel.Halo = 1, 1, number%2
	size := l.N * l.C * l.H * l.W
	x := random(r, size)
	plain := [][]float32{random(r, size), random(r, l.N*l.C), random(r, l.C), random(r, l.N*l.C),
		random(r, l.N), random(r, 1)}
	operands := append([][]float32{toBlocked(other, plain[0]), toBlocked(pixel, plain[1])}, plain[2:]...)
	e, err := NewElementwise(l, in, stages, other, pixel)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	y, from := guard(l.Size()), toBlocked(in, x)
	for chunk := range e.Chunks() {
		e.Run(chunk, y.s, from, operands...)
	}
	y.intact(t, name)
	got := toPlain(l, y.s)
	for i, v := range x {
		for _, s := range stages {
			if s.Binary {
				v = s.Operation.scalar(v, operandAt(l, s, plain, i))
			} else {
				v = s.Map.value(v)
			}
		}
		if got[i] != v && !(got[i] != got[i] && v != v) {
			t.Fatalf("%s: number %d is %g, want %g", name, i, got[i], v)
		}
	}
	zeroElsewhere(t, name, l, y.s)
	noAllocations(t, name, func() { e.Run(0, y.s, from, operands...) })
}

// TestElementwiseBackward compares with a loop over plain values.
func TestElementwiseBackward(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(42, 1))
		for _, l := range []Layout{{2, 19, 3, 5, 0, 16}, {1, 6, 4, 3, 2, 8}} {
			from, values := l, l
			from.Halo, values.Halo = 1, 2
			size := l.N * l.C * l.H * l.W
			dy, x := random(r, size), random(r, size)
			m := NewMap(FuncHardSwish)
			e, err := NewElementwise(l, from, []Stage{MapStage(m)}, values)
			if err != nil {
				t.Fatal(err)
			}
			dx := guard(l.Size())
			for chunk := range e.Chunks() {
				e.Backward(chunk, m, dx.s, toBlocked(from, dy), toBlocked(values, x))
			}
			dx.intact(t, "backward")
			for i, v := range toPlain(l, dx.s) {
				if want := m.gradient(dy[i], x[i]); v != want {
					t.Fatalf("dx[%d] = %g, want %g", i, v, want)
				}
			}
			zeroElsewhere(t, "backward", l, dx.s)
		}
	})
}

// TestElementwiseRefuses asks for errors, not panics, where layouts do not go together.
func TestElementwiseRefuses(t *testing.T) {
	l := plane(1, 16, 4, 4, 0)
	small := Layout{1, 3, 4, 4, 0, 3}
	for _, c := range []struct {
		y, x     Layout
		stages   []Stage
		operands []Layout
	}{
		{l, plane(1, 16, 4, 5, 0), []Stage{MapStage(NewMap(FuncExp))}, nil},
		{l, l, nil, nil},
		{l, l, []Stage{PairStage(OpAdd, Same, 0)}, nil},
		{l, l, []Stage{PairStage(OpAdd, PerPixel, 0)}, []Layout{l}},
		{small, small, []Stage{PairStage(OpAdd, PerChannel, 0)}, nil},
	} {
		if _, err := NewElementwise(c.y, c.x, c.stages, c.operands...); err == nil {
			t.Errorf("%+v from %+v by %+v: no error", c.y, c.x, c.stages)
		}
	}
}

// TestResample compares with a loop over plain values: nearest by 2, linear by an odd factor, four taps.
func TestResample(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(43, 1))
		for _, c := range []struct{ h, w, oh, ow, taps int }{{3, 4, 6, 8, 1}, {5, 7, 13, 9, 2},
			{8, 8, 3, 5, 4}, {1, 1, 40, 120, 2}} {
			x, y := plane(2, 19, c.h, c.w, 1), plane(2, 19, c.oh, c.ow, 2)
			rows, columns := randomTaps(r, c.h, c.oh, c.taps), randomTaps(r, c.w, c.ow, c.taps)
			k := NewResample(x, y, rows, columns)
			plain := random(r, 2*19*c.h*c.w)
			from, got, scratch := toBlocked(x, plain), guard(y.Size()), AlignedSlice(k.Scratch())
			for chunk := range k.Chunks() {
				k.Run(chunk, scratch, got.s, from)
			}
			got.intact(t, "resample")
			zeroElsewhere(t, "resample", y, got.s)
			for i, v := range toPlain(y, got.s) {
				p, h, w := i/(c.oh*c.ow), i/c.ow%c.oh, i%c.ow
				want := 0.0
				for a := range c.taps {
					for b := range c.taps {
						at := p*c.h*c.w + rows.Index[h*c.taps+a]*c.w + columns.Index[w*c.taps+b]
						want += float64(rows.Weights[h*c.taps+a]) * float64(columns.Weights[w*c.taps+b]) *
							float64(plain[at])
					}
				}
				if math.Abs(float64(v)-want) > 1e-5 {
					t.Fatalf("%+v: number %d is %g, want %g", c, i, v, want)
				}
			}
			noAllocations(t, "resample", func() { k.Run(0, scratch, got.s, from) })
		}
	})
}

func randomTaps(r *rand.Rand, in, out, taps int) Taps {
	k := Taps{Count: taps}
	for range out * taps {
		k.Index = append(k.Index, r.IntN(in))
		k.Weights = append(k.Weights, float32(r.NormFloat64()))
	}
	if taps == 1 {
		fill(k.Weights, 1)
	}
	return k
}

// TestLRN compares with float64.
func TestLRN(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(44, 1))
		for _, beta := range []float32{0.75, 0.5} {
			for _, size := range []int{1, 3, 4, 5} {
				l := plane(2, 19, 3, 70, 1)
				plain := random(r, 2*19*3*70)
				k := NewLRN(l, size, 0.5, beta, 1.5)
				got, scratch := guard(l.Size()), AlignedSlice(k.Scratch())
				from := toBlocked(l, plain)
				for chunk := range k.Chunks() {
					k.Run(chunk, scratch, got.s, from)
				}
				got.intact(t, "lrn")
				zeroElsewhere(t, "lrn", l, got.s)
				for i, v := range toPlain(l, got.s) {
					n, c, p := i/(19*210), i/210%19, i%210
					sum := 0.0
					for j := max(0, c-(size-1)/2); j <= min(18, c+size/2); j++ {
						v := float64(plain[(n*19+j)*210+p])
						sum += v * v
					}
					want := float64(plain[i]) / math.Pow(1.5+0.5/float64(size)*sum, float64(beta))
					if math.Abs(float64(v)-want) > 2e-6 {
						t.Fatalf("size %d beta %g: number %d is %g, want %g", size, beta, i, v, want)
					}
				}
			}
		}
	})
}

// TestGroupNorm compares forward and backward with float64.
func TestGroupNorm(t *testing.T) {
	levels(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(45, 1))
		for _, groups := range []int{1, 4, 20} {
			checkGroupNorm(t, r, groups)
		}
	})
}

func checkGroupNorm(t *testing.T, r *rand.Rand, groups int) {
	const n, channels, h, w, eps = 2, 20, 5, 7, 1e-3
	l := plane(n, channels, h, w, 1)
	x, dy, scale, bias := random(r, n*channels*h*w), random(r, n*channels*h*w), random(r,
		channels), random(r, channels)
	k := NewGroupNorm(l, groups)
	mean, inv, scratch := make([]float32, k.Groups()), make([]float32, k.Groups()), AlignedSlice(k.Scratch())
	y, dx, from, grad := guard(l.Size()), guard(l.Size()), toBlocked(l, x), toBlocked(l, dy)
	each := func(f func(chunk int)) {
		for chunk := range k.Chunks() {
			f(chunk)
		}
	}
	each(func(chunk int) { k.Stats(chunk, scratch, from) })
	k.Reduce(mean, inv, scratch, eps)
	each(func(chunk int) { k.Normalize(chunk, y.s, from, mean, inv, scale, bias) })
	each(func(chunk int) { k.BackwardStats(chunk, scratch, grad, from, mean) })
	dscale, dbias := make([]float32, channels), make([]float32, channels)
	k.BackwardWeights(dscale, dbias, scratch, inv)
	each(func(chunk int) { k.BackwardData(chunk, dx.s, grad, from, mean, inv, scale, scratch) })
	for _, g := range []guarded{y, dx} {
		g.intact(t, "group norm")
		zeroElsewhere(t, "group norm", l, g.s)
	}
	wantY, wantDX, wantScale := make([]float64, len(x)), make([]float64, len(x)), make([]float64, channels)
	size := channels / groups * h * w
	for g := range n * groups {
		var mu, variance, s, p float64
		each := func(f func(i, c int, v float64)) {
			for i := g * size; i < (g+1)*size; i++ {
				f(i, i/(h*w)%channels, float64(x[i]))
			}
		}
		each(func(i, c int, v float64) { mu += v / float64(size) })
		each(func(i, c int, v float64) { variance += (v - mu) * (v - mu) / float64(size) })
		f := 1 / math.Sqrt(variance+eps)
		each(func(i, c int, v float64) {
			d := float64(dy[i]) * float64(scale[c])
			s += d / float64(size)
			p += d * (v - mu) * f / float64(size)
			wantScale[c] += float64(dy[i]) * (v - mu) * f
			wantY[i] = (v-mu)*f*float64(scale[c]) + float64(bias[c])
		})
		each(func(i, c int, v float64) {
			wantDX[i] = f * (float64(dy[i])*float64(scale[c]) - s - (v-mu)*f*p)
		})
	}
	close32(t, "group norm", toPlain(l, y.s), wantY, 3)
	close32(t, "group norm gradient", toPlain(l, dx.s), wantDX, 3)
	close32(t, "group norm gradient of scale", dscale, wantScale, 10)
}
