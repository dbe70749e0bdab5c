package engine

import (
	"context"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// A product with constant ones is dropped where it gives the other operand's shape, and only
// there: ones also broadcast.
func TestProductsWithOnes(t *testing.T) {
	ones := func(v float32, dims ...int64) *onnxio.Tensor {
		x := onnxio.NewTensor(onnxio.Float, dims...)
		for i := range x.Float32s() {
			x.Float32s()[i] = 1
		}
		x.Float32s()[0] = v
		return x
	}
	for _, c := range []struct {
		name   string
		factor *onnxio.Tensor
		first  bool // the factor is the first operand
		muls   int
	}{
		{"for each image", ones(1, 2, 1, 1, 1), false, 0},
		{"for each element, first", ones(1, 2, 3, 1, 4), true, 0},
		{"scalar", ones(1), false, 0},
		{"not one", ones(2, 2, 1, 1, 1), false, 1},
		{"broadcasts", ones(1, 2, 3, 5, 4), false, 1},
		{"of higher rank", ones(1, 1, 2, 3, 1, 4), true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newNet(31, 2, 3, 1, 4)
			in := []string{b.node("Abs", []string{"input"}), b.init("factor", c.factor)}
			if c.first {
				in[0], in[1] = in[1], in[0]
			}
			b.node("Neg", []string{b.node("Mul", in)})
			m := b.output()
			p, err := Compile(m, Options{})
			if err != nil {
				t.Fatal(err)
			}
			muls := 0
			for _, s := range p.Steps() {
				if s.Op == "Mul" {
					muls++
				}
			}
			if muls != c.muls {
				t.Errorf("%d products are left, want %d", muls, c.muls)
			}
			x := map[string]*onnxio.Tensor{"input": b.random(1, 2, 3, 1, 4)}
			got, err := p.Run(context.Background(), x)
			if err != nil {
				t.Fatal(err)
			}
			kept, err := Compile(m, Options{Keep: true, Reference: true}) // keeps every product
			if err != nil {
				t.Fatal(err)
			}
			want, err := kept.Run(context.Background(), x)
			if err != nil {
				t.Fatal(err)
			}
			near(t, c.name, got[b.last], want[b.last], 0)
		})
	}
}

// The shape of a map is known to the compiler: it takes no step, and neither does what is computed from it.
func TestShapesTakeNoStep(t *testing.T) {
	b := newNet(32, "N", 3, 4, 4)
	x := b.node("Relu", []string{"input"})
	b.node("Gather", []string{b.node("Shape", []string{x}), b.init("two", onnxio.Int64s([]int64{2}, 1))})
	zeros := b.node("ConstantOfShape", []string{b.last}) // [4]
	b.node("Add", []string{x, zeros})
	p, err := Compile(b.output(), Options{Dims: map[string]int64{"N": 1000}})
	if err != nil {
		t.Fatal(err)
	}
	if s := p.Steps(); len(s) != 2 || s[0].Op != "Relu" || s[1].Op != "Add" {
		t.Errorf("the plan has %+v", s)
	}
}
