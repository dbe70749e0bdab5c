package ops

import (
	"math"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// TestHalf: every binary16 decodes as its definition says and encodes back, and what lies halfway between
// two goes to the even one.
func TestHalf(t *testing.T) {
	for h := 0; h < 1<<16; h++ {
		f, want := halfToFloat(uint16(h)), testHalf(uint16(h))
		if math.IsNaN(want) {
			if f == f || floatToHalf(f)&0x7fff <= 0x7c00 {
				t.Fatalf("%#04x: NaN became %v", h, f)
			}
			continue
		}
		if float64(f) != want || floatToHalf(f) != uint16(h) {
			t.Fatalf("%#04x: decoded as %g, want %g, encoded back as %#04x", h, f, want, floatToHalf(f))
		}
		if next := h + 1; h&0x7fff < 0x7bff {
			mid := float32((want + testHalf(uint16(next))) / 2)
			if even := uint16(h + h&1); floatToHalf(mid) != even {
				t.Fatalf("%g between %#04x and %#04x became %#04x", mid, h, next, floatToHalf(mid))
			}
		}
	}
	for _, c := range []struct {
		f float32
		h uint16
	}{{65519, 0x7bff}, {65520, 0x7c00}, {1e30, 0x7c00}, {-1e30, 0xfc00}, {1e-30, 0},
		{float32(math.Ldexp(1, -25)), 0},
		{float32(math.Ldexp(1.5, -25)), 1}} {
		if got := floatToHalf(c.f); got != c.h {
			t.Errorf("%g became %#04x, want %#04x", c.f, got, c.h)
		}
	}
}

func TestBrain(t *testing.T) {
	for _, c := range []struct {
		f float32
		h uint16
	}{{1, 0x3f80}, {1.00390625, 0x3f80}, {1.01171875, 0x3f82}, {float32(math.Inf(-1)), 0xff80},
		{math.MaxFloat32, 0x7f80}, {0, 0}} {
		if got := floatToBrain(c.f); got != c.h {
			t.Errorf("%g became %#04x, want %#04x", c.f, got, c.h)
		}
	}
	if got := floatToBrain(float32(math.NaN())); got&0x7fff <= 0x7f80 {
		t.Errorf("NaN became %#04x", got)
	}
}

// TestHalfKernels runs every recorded case in the half types: the result is that of float32 on
// the rounded inputs, rounded.
func TestHalfKernels(t *testing.T) {
	for _, c := range torchCases(t) {
		for _, typ := range []onnxio.DataType{onnxio.Float16, onnxio.BFloat16} {
			n := &onnxio.Node{Name: "node", OpType: c.Op, Attrs: c.attributes(t)}
			half, wide := &Eval{}, &Eval{}
			bound, err := Bind(n, c.Opset)
			if err != nil {
				t.Fatal(err)
			}
			for i, in := range c.Inputs {
				x := in.tensor(onnxio.Float)
				if x == nil {
					n.Inputs, half.In, wide.In = append(n.Inputs, ""), append(half.In,
						nil), append(wide.In, nil)
					continue
				}
				if n.Inputs = append(n.Inputs, "x"); x.Type == onnxio.Float && admits(bound, i, typ) {
					h := onnxio.NewTensor(typ, x.Dims...)
					narrow(h, x)
					half.In, wide.In = append(half.In, h), append(wide.In, widen(h))
				} else {
					half.In, wide.In = append(half.In, x), append(wide.In, x)
				}
			}
			for range c.Outputs {
				n.Outputs = append(n.Outputs, "y")
			}
			half.Node, wide.Node = bound, bound
			if err := bound.Def.Eval(half); err != nil {
				t.Errorf("%v: %v", typ, err)
				continue
			}
			if err := bound.Def.Eval(wide); err != nil {
				t.Fatal(err)
			}
			for i, w := range wide.Out {
				want := w
				if w.Type == onnxio.Float {
					want = onnxio.NewTensor(typ, w.Dims...)
					narrow(want, w)
				}
				unit := 0.0
				// rounds once, from float64: what is a tie in float32 may fall the other way
				if c.Op == "Resize" {
					unit = map[onnxio.DataType]float64{onnxio.Float16: 1.0 / 1024,
						onnxio.BFloat16: 1.0 / 128}[typ]
				}
				if err := compareTensors(half.Out[i], want, unit, 0); err != nil {
					t.Errorf("%s %v output %d: %v", c.Op, typ, i, err)
				}
			}
		}
	}
}
