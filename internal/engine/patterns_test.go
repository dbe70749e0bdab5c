package engine

import (
	"context"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

func number(v float32) *onnxio.Tensor { return onnxio.FromSlice(onnxio.Float, []float32{v}) }

// What exporters spell out becomes one operator, by the row that says so, and computes the same.
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
	groupNorm := func(b *net, groups int64, eps float32, dims ...int64) {
		ones := b.init("ones", onnxio.NewTensor(onnxio.Float, groups))
		for i := range groups {
			b.m.Graph.Initializer(ones).Float32s()[i] = 1
		}
		x := b.node("Abs", []string{"input"})
		y := b.node("InstanceNormalization", []string{b.reshape(x, 0, groups, -1), ones,
			b.init("zeros", onnxio.NewTensor(onnxio.Float, groups))}, onnxio.FloatAttr("epsilon", eps))
		y = b.node("Mul", []string{b.reshape(y, 0, 5, 8), b.init("scale", b.random(1, dims...))})
		b.node("Add", []string{y, b.init("bias", b.random(1, dims...))})
	}
	rows := map[string]bool{}
	for name, c := range map[string]struct {
		build func(b *net)
		row   string // of patterns; "" for none
		want  string // the operator that it gives
	}{
		"silu": {func(b *net) {
			x := b.node("Abs", []string{"input"})
			b.node("Mul", []string{x, b.node("Sigmoid", []string{x})})
		}, "SiLU", "Swish"},
		"quick gelu": {func(b *net) {
			s := b.node("Sigmoid", []string{b.node("Mul", []string{b.init("k", number(1.702)), "input"})})
			b.node("Mul", []string{s, "input"})
		}, "SiLU", "Swish"},
		"hard swish": {func(b *net) {
			h := b.node("HardSigmoid", []string{"input"}, onnxio.FloatAttr("alpha", 1./6),
				onnxio.FloatAttr("beta", 0.5))
			b.node("Mul", []string{"input", h})
		}, "HardSwish by HardSigmoid", "HardSwish"},
		"hard swish by clip": {func(b *net) {
			sum := b.node("Add", []string{"input", b.init("three", number(3))})
			h := b.node("Clip", []string{sum, b.init("zero", number(0)), b.init("six", number(6))})
			b.node("Div", []string{b.node("Mul", []string{"input", h}), b.init("by", number(6))})
		}, "HardSwish by Clip", "HardSwish"},
		"gelu": {func(b *net) {
			e := b.node("Erf", []string{b.node("Div", []string{"input", b.init("root", number(1.4142135))})})
			sum := b.node("Add", []string{e, b.init("one", number(1))})
			b.node("Mul", []string{b.node("Mul", []string{"input", sum}), b.init("half", number(0.5))})
		}, "GELU", "Gelu"},
		"gelu, half first": {func(b *net) {
			e := b.node("Erf", []string{b.node("Mul", []string{"input", b.init("root", number(0.70710678))})})
			sum := b.node("Add", []string{b.init("one", number(1)), e})
			b.node("Mul", []string{b.node("Mul", []string{"input", b.init("half", number(0.5))}), sum})
		}, "GELU", "Gelu"},
		"gelu by tanh": {func(b *net) {
			p := b.node("Mul", []string{b.node("Pow", []string{"input", b.init("n", number(3))}),
				b.init("c", number(0.044715))})
			y := b.node("Mul", []string{b.node("Add", []string{"input", p}), b.init("k", number(0.79788456))})
			sum := b.node("Add", []string{b.node("Tanh", []string{y}), b.init("one", number(1))})
			b.node("Mul", []string{b.node("Mul", []string{"input", b.init("half", number(0.5))}), sum})
		}, "GELU by Tanh", "Gelu"},
		"layer norm": {func(b *net) { layerNorm(b, true) }, "LayerNormalization", "LayerNormalization"},
		"layer norm with scale and bias": {func(b *net) {
			y := b.node("Mul", []string{layerNorm(b, false), row(b, 1)})
			b.node("Add", []string{y, b.init("shift", b.random(1, 8))})
		}, "LayerNormalization with scale and bias", "LayerNormalization"},
		"gelu by tanh, x taken out": {func(b *net) {
			square := b.node("Mul", []string{b.node("Mul", []string{"input", b.init("c", number(0.044715))}),
				"input"})
			y := b.node("Mul", []string{b.node("Mul", []string{"input", b.init("k", number(0.79788456))}),
				b.node("Add", []string{square, b.init("one", number(1))})})
			sum := b.node("Add", []string{b.node("Tanh", []string{y}), b.init("one again", number(1))})
			b.node("Mul", []string{b.node("Mul", []string{"input", sum}), b.init("half", number(0.5))})
		}, "GELU by Tanh", "Gelu"},
		"layer norm with scale": {func(b *net) {
			b.node("Mul", []string{row(b, 1), layerNorm(b, false)})
		}, "LayerNormalization with scale", "LayerNormalization"},
		"layer norm, scaled by channels": {func(b *net) {
			b.node("Mul", []string{b.init("scales", b.random(1, 5, 1)), layerNorm(b, false)})
		}, "LayerNormalization", "LayerNormalization"},
		"group norm": {func(b *net) { groupNorm(b, 1, 1e-3, 5, 1) },
			"GroupNormalization by InstanceNormalization", "GroupNormalization"},
		"group norm of five groups": {func(b *net) { groupNorm(b, 5, 1e-5, 1, 5, 1) },
			"GroupNormalization by InstanceNormalization", "GroupNormalization"},
		"group norm without a scale": {func(b *net) {
			groupNorm(b, 1, 1e-3, 5, 1)
			for i := range b.m.Graph.Initializer("scale").Float32s() {
				b.m.Graph.Initializer("scale").Float32s()[i] = 1
			}
		}, "GroupNormalization by InstanceNormalization", "GroupNormalization"},
		"group norm, scaled by places": {func(b *net) { groupNorm(b, 1, 1e-3, 8) }, "", ""},
		"layer norm over another axis": {func(b *net) {
			d := b.node("Sub", []string{"input", b.node("ReduceMean", []string{"input"},
				onnxio.IntsAttr("axes", 1))})
			v := b.node("ReduceMean", []string{b.node("Mul", []string{d, d})}, onnxio.IntsAttr("axes", 1))
			b.node("Div", []string{d,
				b.node("Sqrt", []string{b.node("Add", []string{v, b.init("eps", number(1e-6))})})})
		}, "", ""},
		"another constant": {func(b *net) {
			e := b.node("Erf", []string{b.node("Div", []string{"input", b.init("root", number(1.42))})})
			sum := b.node("Add", []string{e, b.init("one", number(1))})
			b.node("Mul", []string{b.node("Mul", []string{"input", sum}), b.init("half", number(0.5))})
		}, "", ""},
		"another value": {func(b *net) {
			b.node("Mul", []string{b.node("Abs", []string{"input"}), b.node("Sigmoid", []string{"input"})})
		}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newNet(51, "N", 5, 8)
			c.build(b)
			m := b.output()
			if row := firstPattern(t, m); row != c.row {
				t.Errorf("it is row %q, want %q", row, c.row)
			}
			rows[c.row] = true
			opt := Options{Dims: map[string]int64{"N": 2}}
			p, err := Compile(m, opt)
			if err != nil {
				t.Fatal(err)
			}
			found := map[string]bool{}
			for _, s := range p.Steps() {
				found[s.Op] = true
			}
			for _, op := range []string{"Swish", "HardSwish", "Gelu", "LayerNormalization",
				"GroupNormalization"} {
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
	for _, p := range patterns {
		if !rows[p.name] {
			t.Errorf("no case for %s", p.name)
		}
	}
}

// firstPattern is the row that finds something in a model.
func firstPattern(t *testing.T, m *onnxio.Model) string {
	g, err := importModel(m, Options{Dims: map[string]int64{"N": 2}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := simplify(g, false); err != nil {
		t.Fatal(err)
	}
	for _, p := range patterns {
		if p.rewrite(g) > 0 {
			return p.name
		}
	}
	return ""
}

// Terms are matched in every way: what a hole was taken for first does not stay.
func TestMatchTriesEveryWay(t *testing.T) {
	b := newNet(52, "N", 5, 8)
	abs := b.node("Abs", []string{"input"})
	neg := b.node("Neg", []string{"input"})
	b.node("Add", []string{b.node("Add", []string{neg, abs}), neg})
	g, err := importModel(b.output(), Options{Dims: map[string]int64{"N": 2}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, c := hole("a"), hole("c")
	out := g.values[b.last]
	for name, p := range map[string]struct {
		t    term
		want bool
	}{
		"the inner sum the other way round": {applied("Add", applied("Add", a, c), c), true},
		"as it stands":                      {applied("Add", applied("Add", c, a), c), true},
		"another operator":                  {applied("Add", applied("Add", a, c), applied("Abs", c)), false},
		"one hole for two values":           {applied("Add", applied("Add", a, a), c), false},
		"either": {applied("Add", a,
			either{applied("Mul", c, c), applied("Neg", c)}), true},
		"a product of one": {product{slot("k"), applied("Add", a, c)}, true},
		"a product of two": {product{a, c}, false},
	} {
		if got := matches(p.t, out, func(*match) bool { return true }); got != p.want {
			t.Errorf("%s: matches: %t", name, got)
		}
	}
	if matches(applied("Add", a, c), out, func(*match) bool { return false }) {
		t.Error("what nobody accepts does not match")
	}
}
