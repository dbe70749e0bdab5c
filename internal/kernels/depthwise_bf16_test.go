package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestDepthwiseBF16 compares kernels of every width, stride, dilation and pads with sums of float64 and, bit
// by bit, with the twin.
func TestDepthwiseBF16(t *testing.T) {
	cases := append([]convCase{depthwise(2, 70, 14, 3, 1, 1), depthwise(1, 33, 28, 3, 2, 1),
		depthwise(1, 64, 14, 5, 1, 2), depthwise(2, 40, 15, 5, 2, 2), depthwise(1, 64, 14, 7, 1, 3),
		depthwise(1, 40, 15, 7, 2, 3), depthwise(1, 32, 6, 5, 1, 2), depthwise(1, 32, 6, 7, 2, 3),
		depthwise(1, 64, 20, 3, 3, 1), depthwise(0, 32, 5, 3, 1, 1)}, depthwiseCases...)
	r := rand.New(rand.NewPCG(21, 1))
	for range 60 {
		c := randomDepthwise(r, 1)
		if r.IntN(2) == 0 {
			k := 3 + 2*r.IntN(3)
			c.kh, c.kw, c.dh, c.dw, c.sw = k, k, 1, 1, 1+r.IntN(2)
			c.left, c.right = k/2, k/2
		}
		cases = append(cases, c)
	}
	for _, c := range cases {
		t.Run(c.String(), func(t *testing.T) { checkDepthwiseBF16(t, c, r) })
	}
}

func checkDepthwiseBF16(t *testing.T, c convCase, r *rand.Rand) {
	c.small, c.narrow = false, false
	s, ok := c.spec()
	if !ok {
		t.Skip("no output")
	}
	k, err := NewDepthwiseBF16(s.bf16(s.X, s.Y))
	if err != nil {
		t.Fatal(err)
	}
	x, w := roundBF16(random(r, c.n*c.c*c.h*c.w)), random(r, c.c*c.kh*c.kw)
	y, _, _ := c.naive(s, x, c.dense(w, c.c), make([]float32, c.n*c.c*s.Y.H*s.Y.W))
	packed := AlignedSlice(k.WeightSize())
	k.Pack(packed, w)
	l := k.spec.Y
	lines, res := toLines(k.spec.X, x), roundBF16(random(r, len(y.v)))
	bias := AlignedSlice(l.Blocks() * BF16Lanes)
	copy(bias, random(r, l.C))
	silu := NewMap(FuncSwish, 1)
	for i, e := range []EpilogueBF16{{}, {Bias: bias, Gate: silu.Gate()}, {Bias: bias, Residual: toLines(l, res),
		ReLU: true, High: 1.25}, {Residual: toLines(l, res), Gate: silu.Gate()}} {
		name := fmt.Sprintf("epilogue %d", i)
		got := bothWays(t, name, l.Size(), func(y []uint16) {
			for chunk := range k.Chunks() {
				k.Run(chunk, y, lines, packed, e)
			}
		})
		zeroOutside(t, name, l, got)
		v, m := e.naive(l, y, res)
		near(t, name, fromLines(l, got), v, m, true)
	}
}

func TestDepthwiseBF16Refuses(t *testing.T) {
	l := LineLayout{1, 40, 9, 9, 1, BF16Lanes}
	good := ConvBF16Spec{l, l, Window{3, 3, 1, 1, 1, 1, 1, 1}}
	if _, err := NewDepthwiseBF16(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ConvBF16Spec){
		"no halo":    func(s *ConvBF16Spec) { s.X.Halo = 0 },
		"multiplier": func(s *ConvBF16Spec) { s.Y.C = 80 },
		"stride 0":   func(s *ConvBF16Spec) { s.StrideW = 0 },
		"bytes":      func(s *ConvBF16Spec) { s.X.Lanes = Int8Lanes },
		"batches":    func(s *ConvBF16Spec) { s.Y.N = 2 },
	} {
		s := good
		change(&s)
		if _, err := NewDepthwiseBF16(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	k, _ := NewDepthwiseBF16(good)
	y := AlignedBF16(l.Size())
	defer func() {
		if recover() == nil {
			t.Error("the output may lie over the residual")
		}
	}()
	k.Run(0, y, AlignedBF16(l.Size()), AlignedSlice(k.WeightSize()), EpilogueBF16{Residual: y})
}

// TestGate compares gates with the functions: within 1e-4 of the larger of 1 and |x|, which a bf16 of 1
// leaves unseen, and without NaN that x is not.
func TestGate(t *testing.T) {
	for f, exact := range map[Function]func(x float64) float64{
		FuncSwish: func(x float64) float64 { return x / (1 + math.Exp(-x)) },
		FuncGelu:  func(x float64) float64 { return x * math.Erfc(-x/math.Sqrt2) / 2 },
		FuncGeluTanh: func(x float64) float64 {
			return x / (1 + math.Exp(-1.5957691216057308*(x+0.044715*x*x*x)))
		},
		FuncHardSwish: func(x float64) float64 { return x * min(1, max(0, x/6+0.5)) },
	} {
		m := NewMap(f, 1)
		g, worst := m.Gate(), 0.0
		for x := float32(-40); x < 40; x += 1. / 512 {
			want := exact(float64(x))
			worst = max(worst, math.Abs(float64(g.at(x))-want)/max(1, math.Abs(float64(x))))
		}
		if !(worst <= 1e-4) {
			t.Errorf("function %d: error %g", f, worst)
		}
		inf := float32(math.Inf(1))
		for x, want := range map[float32]float32{0: 0, inf: inf, -inf: 0, 1e30: 1e30, -1e30: 0} {
			if got := g.at(x); got != want {
				t.Errorf("function %d of %g: %g", f, x, got)
			}
		}
		if got := g.at(float32(math.NaN())); got == got {
			t.Errorf("function %d of NaN: %g", f, got)
		}
	}
	if m := NewMap(FuncSwish, 2); m.Gate() != nil {
		t.Error("Swish of another beta has the gate of SiLU")
	}
}
