package engine

import (
	"context"
	"fmt"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Scales, shifts and paddings by constants become part of the convolution or product beside
// them; what cannot, stays.
func TestFoldAffine(t *testing.T) {
	ints := func(v ...int64) *onnxio.Tensor { return onnxio.Int64s(v, int64(len(v))) }
	for name, c := range map[string]struct {
		build func(b *net) // of [N,4,6,6]
		steps int
	}{
		"bias": {func(b *net) {
			b.conv(4, 5, 3, 1, 1)
			b.node("Add", []string{b.last, b.init("c", b.random(1, 5, 1, 1))})
		}, 1},
		"bias, first": {func(b *net) {
			b.conv(4, 5, 3, 1, 1)
			b.node("Add", []string{b.init("c", b.random(1, 1, 5, 1, 1)), b.last})
		}, 1},
		"scale and bias": {func(b *net) {
			b.conv(4, 5, 3, 1, 1)
			b.node("Mul", []string{b.last, b.init("s", b.random(1, 5, 1, 1))})
			b.node("Sub", []string{b.init("c", b.random(1, 5, 1, 1)), b.last})
		}, 1},
		"over a number": {func(b *net) {
			b.conv(4, 5, 3, 1, 1)
			b.node("Div", []string{b.last, b.init("s", number(3))})
		}, 1},
		"norm after scale": {func(b *net) {
			b.conv(4, 5, 3, 1, 1)
			b.node("Mul", []string{b.last, b.init("s", number(3))})
			b.bn(5, false)
		}, 1},
		"transposed": {func(b *net) { b.up(4, 6); b.bn(6, false) }, 1},
		"one-dimensional, transposed": {func(b *net) {
			x := b.node("Reshape", []string{"input", b.init("shape", ints(0, 4, 36))})
			b.node("ConvTranspose", []string{x, b.init("w", b.random(1, 4, 3, 2))})
			b.bn(3, false)
		}, 1},
		"product": {func(b *net) {
			b.node("Flatten", []string{"input"})
			b.linear(144, 7)
			b.node("Mul", []string{b.last, b.init("s", b.random(1, 7))})
			b.node("Add", []string{b.last, b.init("c", b.random(1, 1, 7))})
		}, 1},
		"pad": {func(b *net) {
			b.node("Pad", []string{"input", b.init("p", ints(0, 0, 1, 2, 0, 0, 3, 0))})
			b.conv(4, 5, 3, 1, 1)
		}, 1},
		"pad, of ones": {func(b *net) {
			b.node("Pad", []string{"input", b.init("p", ints(0, 0, 1, 2, 0, 0, 3, 0)),
				b.init("v", number(1))})
			b.conv(4, 5, 3, 1, 1)
		}, 2},
		"pad, channels": {func(b *net) {
			b.node("Pad", []string{"input", b.init("p", ints(0, 1, 0, 0, 0, 1, 0, 0))})
			b.conv(6, 5, 3, 1, 1)
		}, 2},
		"along the rows": {func(b *net) {
			b.conv(4, 5, 3, 1, 1)
			b.node("Add", []string{b.last, b.init("c", b.random(1, 6))})
		}, 2},
		"grows": {func(b *net) {
			b.conv(4, 5, 3, 1, 1)
			b.node("Add", []string{b.last, b.init("c", b.random(1, 2, 1, 5, 1, 1))})
		}, 2},
		"read twice": {func(b *net) {
			x := b.conv(4, 5, 3, 1, 1)
			y := b.node("Mul", []string{x, b.init("s", number(3))})
			b.node("Sub", []string{y, x})
		}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			b := newNet(61, "N", 4, 6, 6)
			c.build(b)
			m := b.output()
			in := map[string]*onnxio.Tensor{"input": b.random(2, 3, 4, 6, 6)}
			var out [2]*onnxio.Tensor
			for i, opt := range []Options{{}, {Keep: true, Reference: true}} {
				opt.Dims = map[string]int64{"N": 3}
				p, err := Compile(m, opt)
				if err != nil {
					t.Fatal(err)
				}
				all, err := p.Run(context.Background(), in)
				if err != nil {
					t.Fatal(err)
				}
				out[i] = all[b.last]
				if i > 0 {
					continue
				}
				steps := ""
				n := 0
				for _, s := range p.Steps() {
					if s.Op != "ToBlocked" && s.Op != "ToPlain" && s.Op != "Reshape" {
						n++
						steps += fmt.Sprintf(" %s(%s)", s.Op, s.Kernel)
					}
				}
				if n != c.steps {
					t.Errorf("%d steps, want %d:%s", n, c.steps, steps)
				}
			}
			near(t, name, out[0], out[1], 1e-5)
		})
	}
}
