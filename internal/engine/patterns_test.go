package engine

import (
	"context"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func number(v float32) *onnxio.Tensor { return onnxio.FromSlice(onnxio.Float, []float32{v}) }

// What exporters spell out becomes one operator, and computes the same.
func TestRecognize(t *testing.T) {
	row := func(b *net, scale float32) string { return b.init("row", b.random(scale, 8)) }
	layerNorm := func(b *net, pow bool) string {
		x := b.node("Abs", []string{"input"})
		d := b.node("Sub", []string{x, b.node("ReduceMean", []string{x}, onnxio.IntsAttr("axes", -1))})
		square := b.node("Mul", []string{d, d})
		if pow {
			square = b.node("Pow", []string{d, b.init("two", number(2))})
		}
		v := b.node("ReduceMean", []string{square}, onnxio.IntsAttr("axes", 2))
		root := b.node("Sqrt", []string{b.node("Add", []string{v, b.init("eps", number(1e-6))})})
		return b.node("Div", []string{d, root})
	}
	for name, c := range map[string]struct {
		build func(b *net)
		want  string
	}{
		"silu": {func(b *net) {
			x := b.node("Abs", []string{"input"})
			b.node("Mul", []string{x, b.node("Sigmoid", []string{x})})
		}, "Swish"},
		"quick gelu": {func(b *net) {
			s := b.node("Sigmoid", []string{b.node("Mul", []string{b.init("k", number(1.702)), "input"})})
			b.node("Mul", []string{s, "input"})
		}, "Swish"},
		"hard swish": {func(b *net) {
			h := b.node("HardSigmoid", []string{"input"}, onnxio.FloatAttr("alpha", 1./6), onnxio.FloatAttr("beta", 0.5))
			b.node("Mul", []string{"input", h})
		}, "HardSwish"},
		"hard swish by clip": {func(b *net) {
			sum := b.node("Add", []string{"input", b.init("three", number(3))})
			h := b.node("Clip", []string{sum, b.init("zero", number(0)), b.init("six", number(6))})
			b.node("Div", []string{b.node("Mul", []string{"input", h}), b.init("by", number(6))})
		}, "HardSwish"},
		"gelu": {func(b *net) {
			e := b.node("Erf", []string{b.node("Div", []string{"input", b.init("root", number(1.4142135))})})
			sum := b.node("Add", []string{e, b.init("one", number(1))})
			b.node("Mul", []string{b.node("Mul", []string{"input", sum}), b.init("half", number(0.5))})
		}, "Gelu"},
		"gelu, half first": {func(b *net) {
			e := b.node("Erf", []string{b.node("Mul", []string{"input", b.init("root", number(0.70710678))})})
			sum := b.node("Add", []string{b.init("one", number(1)), e})
			b.node("Mul", []string{b.node("Mul", []string{"input", b.init("half", number(0.5))}), sum})
		}, "Gelu"},
		"gelu by tanh": {func(b *net) {
			p := b.node("Mul", []string{b.node("Pow", []string{"input", b.init("n", number(3))}), b.init("c", number(0.044715))})
			y := b.node("Mul", []string{b.node("Add", []string{"input", p}), b.init("k", number(0.79788456))})
			sum := b.node("Add", []string{b.node("Tanh", []string{y}), b.init("one", number(1))})
			b.node("Mul", []string{b.node("Mul", []string{"input", b.init("half", number(0.5))}), sum})
		}, "Gelu"},
		"layer norm": {func(b *net) { layerNorm(b, true) }, "LayerNormalization"},
		"layer norm with scale and bias": {func(b *net) {
			y := b.node("Mul", []string{layerNorm(b, false), row(b, 1)})
			b.node("Add", []string{y, b.init("shift", b.random(1, 8))})
		}, "LayerNormalization"},
		"another constant": {func(b *net) {
			e := b.node("Erf", []string{b.node("Div", []string{"input", b.init("root", number(1.42))})})
			sum := b.node("Add", []string{e, b.init("one", number(1))})
			b.node("Mul", []string{b.node("Mul", []string{"input", sum}), b.init("half", number(0.5))})
		}, ""},
		"another value": {func(b *net) {
			b.node("Mul", []string{b.node("Abs", []string{"input"}), b.node("Sigmoid", []string{"input"})})
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newNet(51, "N", 5, 8)
			c.build(b)
			m := b.output()
			opt := Options{Dims: map[string]int64{"N": 2}}
			p, err := Compile(m, opt)
			if err != nil {
				t.Fatal(err)
			}
			found := map[string]bool{}
			for _, s := range p.Steps() {
				found[s.Op] = true
			}
			for _, op := range []string{"Swish", "HardSwish", "Gelu", "LayerNormalization"} {
				if found[op] != (op == c.want) {
					t.Errorf("%s is recognized: %t; the plan has %v", op, found[op], found)
				}
			}
			opt.Reference = true
			ref, err := Compile(m, opt)
			if err != nil {
				t.Fatal(err)
			}
			in := map[string]*onnxio.Tensor{"input": b.random(4, 2, 5, 8)}
			got, err := p.Run(context.Background(), in)
			if err != nil {
				t.Fatal(err)
			}
			want, err := ref.Run(context.Background(), in)
			if err != nil {
				t.Fatal(err)
			}
			near(t, name, got[b.last], want[b.last], 2e-6)
		})
	}
}
