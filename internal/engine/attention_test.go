package engine

import (
	"context"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// attentionNets are attention as exporters spell it out; each is composed into one step.
var attentionNets = []string{"attention of packed heads", "attention of heads in windows",
	"attention with a computed mask",
	"attention of three axes", "attention with a mask of keys", "attention of heads of odd sizes",
	"the operator, heads side by side", "the operator, heads apart",
	"the operator with shared keys and a mask"}

// ints adds a constant of integers.
func (b *net) ints(v ...int64) string {
	t := onnxio.NewTensor(onnxio.Int64, int64(len(v)))
	copy(onnxio.Data[int64](t), v)
	return b.init(b.fresh("ints"), t)
}

func (b *net) fresh(name string) string {
	b.n++
	return name + string(rune('a'+b.n%26)) + string(rune('a'+b.n/26))
}

func (b *net) number(f float32) string {
	t := onnxio.NewTensor(onnxio.Float, 1)
	t.Float32s()[0] = f
	return b.init(b.fresh("number"), t)
}

func (b *net) reshape(x string, dims ...int64) string {
	return b.node("Reshape", []string{x, b.ints(dims...)})
}

func (b *net) turn(x string, perm ...int64) string {
	return b.node("Transpose", []string{x}, onnxio.IntsAttr("perm", perm...))
}

func (b *net) times(x, y string) string { return b.node("MatMul", []string{x, y}) }

func (b *net) dense(in, out int64) string {
	return b.times(b.last, b.init(b.fresh("w"), b.random(0.2, in, out)))
}

// packed is q, k and v as they come from one product, [3,N,heads,tokens,size].
func (b *net) packed(n, tokens, heads, size int64) (q, k, v string) {
	b.dense(heads*size, 3*heads*size)
	x := b.turn(b.reshape(b.last, n, tokens, 3, heads, size), 2, 0, 3, 1, 4)
	pick := func(i int64) string {
		t := onnxio.NewTensor(onnxio.Int64)
		onnxio.Data[int64](t)[0] = i
		return b.node("Gather", []string{x, b.init(b.fresh("index"), t)}, onnxio.IntAttr("axis", 0))
	}
	return pick(0), pick(1), pick(2)
}

func init() {
	fastNet(attentionNets[0], 17, func(b *net) {
		q, k, v := b.packed(-1, 21, 3, 16)
		q = b.node("Mul", []string{q, b.number(0.5)})
		k = b.node("Mul", []string{b.turn(k, 0, 1, 3, 2), b.number(0.5)})
		b.node("Softmax", []string{b.times(q, k)})
		b.turn(b.times(b.last, v), 0, 2, 1, 3)
		b.reshape(b.last, -1, 21, 48)
		b.dense(48, 10)
	}, "N", 21, 48)
	fastNet(attentionNets[1], 17, func(b *net) {
		const windows, tokens = 4, 9
		b.reshape(b.last, -1, tokens, 32)
		q, k, v := b.packed(-1, tokens, 2, 16)
		s := b.times(b.node("Mul", []string{q, b.number(0.25)}), b.turn(k, 0, 1, 3, 2))
		b.node("Add", []string{s, b.init("bias", b.random(1, 1, 2, tokens, tokens))})
		shifted := b.random(1, 1, windows, 1, tokens, tokens)
		for i := range shifted.Float32s() {
			shifted.Float32s()[i] = float32(i%3/2) * -100
		}
		b.reshape(b.last, -1, windows, 2, tokens, tokens)
		b.node("Add", []string{b.last, b.init("shifted", shifted)})
		b.reshape(b.last, -1, 2, tokens, tokens)
		b.node("Softmax", []string{b.last}, onnxio.IntAttr("axis", -1))
		b.turn(b.times(b.last, v), 0, 2, 1, 3)
		b.reshape(b.last, -1, tokens, 32)
	}, "N", 36, 32)
	fastNet(attentionNets[2], 17, func(b *net) {
		in := b.last
		q, k, v := b.packed(-1, 6, 2, 8)
		m := b.reshape(b.node("ReduceMean", []string{in}, onnxio.IntsAttr("axes", 2),
			onnxio.IntAttr("keepdims", 0)), -1, 1, 6, 1)
		m = b.node("Mul", []string{m, b.init("spread", b.random(1, 1, 2, 1, 6))})
		s := b.node("Div", []string{b.times(q, b.turn(k, 0, 1, 3, 2)), b.number(2)})
		b.node("Softmax", []string{b.node("Add", []string{m, s})}, onnxio.IntAttr("axis", 3))
		b.times(b.last, v)
	}, "N", 6, 16)
	fastNet(attentionNets[3], 17, func(b *net) {
		x := b.turn(b.last, 1, 0, 2)
		part := func() string {
			b.last = x
			return b.turn(b.reshape(b.dense(24, 24), 7, -1, 8), 1, 0, 2)
		}
		q, k, v := part(), part(), part()
		b.node("Softmax", []string{b.times(q, b.turn(k, 0, 2, 1))}, onnxio.IntAttr("axis", -1))
		b.turn(b.times(b.last, v), 1, 0, 2)
		b.reshape(b.last, 7, -1, 24)
	}, "N", 7, 24)
	fastNet(attentionNets[4], 17, func(b *net) {
		q, k, v := b.packed(-1, 11, 2, 16)
		s := b.node("Add", []string{b.times(q, b.turn(k, 0, 1, 3, 2)), b.init("keys", b.random(2, 11))})
		b.node("Softmax", []string{s})
		b.times(b.last, v)
	}, "N", 11, 32)
	fastNet(attentionNets[5], 17, func(b *net) {
		q, k, v := b.packed(-1, 5, 3, 7)
		b.node("Softmax", []string{b.times(q, b.turn(k, 0, 1, 3, 2))})
		b.turn(b.times(b.last, v), 2, 0, 1, 3)
	}, "N", 5, 21)
	heads := func(q, kv int64) []*onnxio.Attribute {
		return []*onnxio.Attribute{onnxio.IntAttr("q_num_heads", q), onnxio.IntAttr("kv_num_heads", kv)}
	}
	fastNet(attentionNets[6], 23, func(b *net) {
		qkv := b.dense(24, 72)
		part := func(i int64) string {
			return b.node("Slice", []string{qkv, b.ints(24 * i), b.ints(24*i + 24), b.ints(2)})
		}
		b.node("Attention", []string{part(0), part(1), part(2)}, heads(3, 3)...)
		b.dense(24, 5)
	}, "N", 13, 24)
	fastNet(attentionNets[7], 24, func(b *net) {
		q, k, v := b.packed(-1, 21, 3, 16)
		b.node("Attention", []string{q, k, v}, onnxio.FloatAttr("scale", 0.3))
		b.turn(b.last, 0, 2, 1, 3)
		b.reshape(b.last, -1, 21, 48)
	}, "N", 21, 48)
	fastNet(attentionNets[8], 23, func(b *net) {
		x := b.last
		q := b.dense(20, 32)
		b.last = x
		k := b.dense(20, 16)
		b.last = x
		v := b.dense(20, 12)
		b.node("Attention", []string{q, k, v, b.init("mask", b.random(1, 4, 1, 9))}, heads(4, 2)...)
	}, "N", 9, 20)
}

// TestAttentionComposed: no scores are left, nor what cuts heads out of what they come from.
func TestAttentionComposed(t *testing.T) {
	for _, name := range attentionNets {
		t.Run(name, func(t *testing.T) {
			p, err := Compile(fastNets[name]().output(), Options{Dims: map[string]int64{"N": 2}})
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			for _, s := range p.Steps() {
				switch {
				case strings.HasPrefix(s.Kernel, "attention"):
					found++
				case s.Op == "Softmax" || s.Op == "Gather":
					t.Errorf("%s %s by %s", s.Op, s.Name, s.Kernel)
				}
			}
			if found != 1 {
				t.Errorf("%d steps of attention", found)
			}
		})
	}
}

// TestScoresStay: a softmax that something else reads, or that is of scores times a number
// after a mask, is no attention.
func TestScoresStay(t *testing.T) {
	for name, change := range map[string]func(b *net, s string) string{
		"read": func(b *net, s string) string {
			b.m.Graph.Outputs = append(b.m.Graph.Outputs,
				&onnxio.ValueInfo{Name: s, Type: &onnxio.Type{Elem: onnxio.Float}})
			return s
		},
		"scaled behind the mask": func(b *net, s string) string {
			return b.node("Mul", []string{b.node("Add", []string{s, b.init("mask", b.random(1, 5, 5))}),
				b.number(2)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newNet(1, 2, 5, 16)
			q, k, v := b.packed(-1, 5, 2, 8)
			b.node("Softmax", []string{change(b, b.times(q, b.turn(k, 0, 1, 3, 2)))})
			b.times(b.last, v)
			stays(t, b)
		})
	}
}

// stays asks that no attention is composed.
func stays(t *testing.T, b *net) {
	t.Helper()
	p, err := Compile(b.output(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Steps() {
		if strings.HasPrefix(s.Kernel, "attention") {
			t.Error("composed")
		}
	}
}

// TestAttentionStays: what the composed attention does not do is left to the operator.
func TestAttentionStays(t *testing.T) {
	for name, attrs := range map[string][]*onnxio.Attribute{
		"causal": {onnxio.IntAttr("is_causal", 1)}, "capped": {onnxio.FloatAttr("softcap", 2)},
		"masked": nil,
	} {
		t.Run(name, func(t *testing.T) {
			b := newNet(1, 2, 5, 16)
			b.m.Opsets[0].Version = 23
			q, k, v := b.packed(-1, 5, 2, 8)
			in := []string{q, k, v}
			if name == "masked" {
				mask := onnxio.NewTensor(onnxio.Bool, 5, 5)
				mask.Raw[0] = 1
				in = append(in, b.init("mask", mask))
			}
			b.node("Attention", in, attrs...)
			stays(t, b)
		})
	}
}

// TestCopiesNothing: pads of 0, and a Transpose that moves axes of size 1 alone, have no step.
func TestCopiesNothing(t *testing.T) {
	b := newNet(2, "N", 5, 16)
	b.node("Relu", []string{b.last})
	b.node("Pad", []string{b.last, b.ints(0, 0, 0, 0, 0, 0)})
	b.turn(b.last, 1, 0, 2)
	b.dense(16, 3)
	b.turn(b.last, 1, 0, 2)
	m := b.output()
	for batch, want := range map[int64]int{1: 0, 2: 2} {
		p, err := Compile(m, Options{Dims: map[string]int64{"N": batch}})
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, s := range p.Steps() {
			switch s.Op {
			case "Pad":
				t.Errorf("Pad by %s", s.Kernel)
			case "Transpose":
				found++
			}
		}
		if found != want {
			t.Errorf("batch %d: %d transpositions, want %d", batch, found, want)
		}
		c, err := Compile(m, Options{Dims: map[string]int64{"N": batch}, Reference: true})
		if err != nil {
			t.Fatal(err)
		}
		in := map[string]*onnxio.Tensor{"input": b.random(1, batch, 5, 16)}
		got, err := p.Run(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		same, err := c.Run(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "y", got[b.last], same[b.last], 1e-5)
	}
}
