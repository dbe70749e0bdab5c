package engine

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// bf16Nets are graphs in which every kind of conversion stands.
var bf16Nets = map[string]func() *net{
	"chain": func() *net {
		b := newNet(71, "N", 20, 15, 17)
		b.conv(20, 40, 3, 1, 1)
		b.node("Relu", []string{b.last})
		b.conv(40, 33, 3, 2, 1)
		b.node("Clip", []string{b.last, b.init("zero", number(0)), b.init("six", number(6))})
		b.conv(33, 64, 1, 1, 0)
		return b
	},
	"activations": func() *net {
		b := newNet(74, "N", 32, 14, 14)
		x := b.conv(32, 32, 3, 1, 1)
		b.node("Mul", []string{x, b.node("Sigmoid", []string{x})})
		b.conv(32, 32, 3, 1, 1)
		b.node("Relu", []string{b.conv(32, 32, 3, 1, 1)})
		b.node("HardSwish", []string{b.conv(32, 32, 3, 1, 1)})
		return b
	},
	"attention": func() *net {
		b := newNet(80, "N", 50, 64)
		q, k, v := b.packed(-1, 50, 2, 32)
		q = b.node("Mul", []string{q, b.number(0.17)})
		b.node("Softmax", []string{b.times(q, b.turn(k, 0, 1, 3, 2))})
		b.turn(b.times(b.last, v), 0, 2, 1, 3)
		b.reshape(b.last, -1, 50, 64)
		b.dense(64, 48)
		return b
	},
	"inverted residuals": func() *net {
		b := newNet(77, "N", 3, 29, 31)
		b.conv(3, 32, 3, 2, 1)
		b.clip(0, 6)
		b.depthwiseOf(32, 3, 1, 1)
		b.clip(0, 6)
		x := b.conv(32, 24, 1, 1, 0)
		b.conv(24, 72, 1, 1, 0)
		b.clip(0, 6)
		b.depthwiseOf(72, 5, 1, 2)
		b.clip(0, 6)
		b.node("Add", []string{b.conv(72, 24, 1, 1, 0), x})
		b.conv(24, 72, 1, 1, 0)
		b.clip(0, 6)
		b.depthwiseOf(72, 3, 2, 1)
		b.conv(72, 40, 1, 1, 0)
		return b
	},
	"squeezed and excited": func() *net {
		b := newNet(78, "N", 3, 32, 30)
		silu := func(x string) string {
			return b.node("Mul", []string{x, b.node("Sigmoid", []string{x})})
		}
		silu(b.conv(3, 32, 3, 2, 1))
		x := silu(b.depthwiseOf(32, 3, 1, 1))
		b.node("GlobalAveragePool", []string{x})
		silu(b.conv(32, 8, 1, 1, 0))
		b.node("Mul", []string{x, b.node("Sigmoid", []string{b.conv(8, 32, 1, 1, 0)})})
		b.node("HardSwish", []string{b.conv(32, 64, 1, 1, 0)})
		b.node("HardSwish", []string{b.depthwiseOf(64, 7, 2, 3)})
		b.conv(64, 40, 1, 1, 0)
		return b
	},
	"tokens and back": func() *net {
		b := newNet(79, "N", 3, 32, 24)
		x := b.conv(3, 40, 4, 4, 0)
		b.depthwiseOf(40, 7, 1, 3)
		b.turn(b.last, 0, 2, 3, 1)
		w := b.init("widen", b.random(1/6., 40, 160))
		b.node("HardSwish", []string{b.node("MatMul", []string{b.last, w})})
		b.times(b.last, b.init("narrow", b.random(1/12., 160, 40)))
		b.node("Mul", []string{b.turn(b.last, 0, 3, 1, 2), b.init("scale", b.random(1, 40, 1, 1))})
		b.node("Add", []string{b.last, x})
		b.conv(40, 64, 2, 2, 0)
		return b
	},
	"products": func() *net {
		b := newNet(75, "N", 6, 8, 9)
		b.node("Flatten", []string{"input"})
		b.node("Relu", []string{b.linear(432, 70)})
		b.node("HardSwish", []string{b.linear(70, 96)}) // rows of bf16 for the next
		b.linear(96, 160)
		b.node("Flatten", []string{b.linear(160, 40)})
		return b
	},
	"stem for float32": func() *net {
		b := newNet(76, "N", 3, 15, 14)
		b.conv(3, 32, 3, 2, 1)
		b.node("Softmax", []string{b.last}, onnxio.IntAttr("axis", 1))
		b.conv(32, 32, 3, 1, 1)
		b.conv(32, 32, 3, 1, 1)
		return b
	},
	"residual": func() *net {
		b := newNet(72, "N", 32, 14, 14)
		x := b.node("Relu", []string{b.conv(32, 32, 3, 1, 1)})
		b.node("Relu", []string{b.conv(32, 32, 3, 1, 1)})
		y := b.conv(32, 32, 3, 1, 1)
		b.node("Relu", []string{b.node("Add", []string{y, x})})
		b.conv(32, 48, 3, 1, 1)
		b.node("GlobalAveragePool", []string{b.last})
		b.node("Flatten", []string{b.last})
		b.linear(48, 10)
		return b
	},
	"two pixels a line": func() *net {
		b := newNet(81, "N", 3, 12, 16)
		b.node("Relu", []string{b.conv(3, 16, 3, 1, 1)})
		for range 2 {
			x := b.last
			b.node("Relu", []string{b.conv(16, 16, 3, 1, 1)})
			b.node("Relu", []string{b.node("Add", []string{b.conv(16, 16, 3, 1, 1), x})})
		}
		x := b.last
		y := b.node("Relu", []string{b.conv(16, 32, 3, 2, 1)})
		b.last = x
		b.node("Add", []string{y, b.conv(16, 32, 1, 2, 0)})
		b.conv(32, 40, 3, 1, 1)
		return b
	},
	"two pixels in some lines": func() *net {
		b := newNet(82, "N", 3, 16, 16)
		b.node("Relu", []string{b.conv(3, 16, 3, 1, 1)})
		b.node("HardSwish", []string{b.conv(16, 16, 5, 1, 2)})
		x := b.conv(16, 16, 3, 2, 1)
		b.node("Sigmoid", []string{x}) // has no kernel in bf16
		b.conv(16, 16, 3, 1, 1)
		y := b.node("Relu", []string{b.conv(16, 16, 3, 1, 1)})
		b.node("Concat", []string{x, y}, onnxio.IntAttr("axis", 1))
		b.conv(32, 32, 3, 1, 1)
		return b
	},
	"up and down": func() *net {
		b := newNet(73, "N", 3, 16, 16)
		b.conv(3, 32, 3, 1, 1)
		x := b.node("Relu", []string{b.conv(32, 32, 3, 1, 1)})
		b.maxpool()
		b.node("Relu", []string{b.conv(32, 64, 3, 1, 1)})
		y := b.up(64, 32)
		b.node("Concat", []string{x, y}, onnxio.IntAttr("axis", 1))
		b.conv(64, 32, 3, 1, 1)
		return b
	},
}

// depthwiseOf is a convolution of each channel on its own, of any kernel.
func (b *net) depthwiseOf(c, k, stride, pad int64) string {
	name := fmt.Sprintf("conv%d", b.n)
	w := b.init(name+".weight", b.random(1/float32(k), c, 1, k, k))
	return b.node("Conv", []string{b.last, w, b.init(name+".bias", b.random(0.1, c))},
		onnxio.IntsAttr("kernel_shape", k, k), onnxio.IntsAttr("strides", stride, stride),
		onnxio.IntsAttr("pads", pad, pad, pad, pad), onnxio.IntAttr("group", c))
}

// run compiles and runs b's graph once.
func (b *net) run(t *testing.T, opt Options, x *onnxio.Tensor) (*onnxio.Tensor, []StepInfo) {
	t.Helper()
	opt.Dims = map[string]int64{"N": x.Dims[0]}
	p, err := Compile(b.output(), opt)
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(context.Background(), map[string]*onnxio.Tensor{"input": x})
	if err != nil {
		t.Fatal(err)
	}
	return out[b.last], p.Steps()
}

// Between the stem and the last convolution of mobile networks no map is converted: what is in float32 are
// the vectors of squeeze and excitation.
func TestBF16Mobile(t *testing.T) {
	for name, vectors := range map[string]int64{"inverted residuals": 0, "squeezed and excited": 32} {
		b := bf16Nets[name]()
		dims := []int64{1}
		for _, d := range b.output().Graph.Inputs[0].Type.Shape[1:] {
			dims = append(dims, d.Value)
		}
		_, steps := b.run(t, Options{BF16: true, twins: true}, b.random(1, dims...))
		depthwise := 0
		for _, s := range steps[:len(steps)-1] { // the last gives the output in float32
			if strings.HasPrefix(s.Kernel, "depthwise conv") && strings.HasSuffix(s.Kernel, "bf16") {
				depthwise++
			}
			converts := s.Kernel == "to bf16" || s.Kernel == "from bf16" || strings.HasPrefix(s.Kernel, "to ")
			size := int64(1)
			for _, d := range s.Shape {
				size *= d
			}
			if converts && size > vectors {
				t.Errorf("%s: %s of %v", name, s.Kernel, s.Shape)
			}
		}
		if depthwise < 2 {
			t.Errorf("%s: %d depthwise convolutions run in bf16", name, depthwise)
		}
	}
}

// Maps of 16 channels are folded where every op on them takes folded maps: none is converted or in float32.
func TestFoldedInference(t *testing.T) {
	b := bf16Nets["two pixels a line"]()
	_, steps := b.run(t, Options{BF16: true, twins: true}, b.random(1, 2, 3, 12, 16))
	for _, s := range steps[:len(steps)-2] { // but for the output
		if s.Type != "bf16" {
			t.Errorf("%s of %s %v is in %s", s.Kernel, s.Name, s.Shape, s.Type)
		}
	}
	g := bf16Nets["two pixels in some lines"]()
	var folded []string
	opt := Options{BF16: true, twins: true, Dims: map[string]int64{"N": 1}}
	opt.watch = func(pass string, g *graph) {
		for _, v := range g.sortedValues() {
			if pass == layoutPass.name && v.fold > 0 {
				folded = append(folded, v.producer.node.OpType)
			}
		}
	}
	if _, err := Compile(g.output(), opt); err != nil {
		t.Fatal(err)
	}
	if len(folded) != 2 {
		t.Errorf("the outputs of %v are folded", folded)
	}
}

// Plans in bf16 compute what plans in float32 do, to the 8 bits that maps and weights have: 1% of the largest
// output after a few layers. Any number of threads gives the same bits.
func TestBF16(t *testing.T) {
	for name, build := range bf16Nets {
		t.Run(name, func(t *testing.T) {
			b := build()
			dims := []int64{2}
			if name == "products" {
				dims[0] = 17
			}
			for _, d := range b.output().Graph.Inputs[0].Type.Shape[1:] {
				dims = append(dims, d.Value)
			}
			x := b.random(1, dims...)
			want, _ := b.run(t, Options{}, x)
			got, steps := b.run(t, Options{BF16: true, twins: true}, x)
			convs := 0
			for _, s := range steps {
				in := strings.Contains(s.Kernel, "bf16")
				if in && s.FLOPs > 0 {
					convs++
				}
				if strings.HasPrefix(s.Kernel, "attention") && !in {
					t.Errorf("%q in %q", s.Kernel, name)
				}
			}
			if convs < 2 {
				t.Errorf("%d convolutions run in bf16: %v", convs, steps)
			}
			largest, worst := 0.0, 0.0
			for i, w := range want.Float32s() {
				largest = max(largest, math.Abs(float64(w)))
				worst = max(worst, math.Abs(float64(got.Float32s()[i])-float64(w)))
			}
			bound := 0.01
			if name == "attention" { // exponentials of scores that are off by 2^-9 of up to 8
				bound = 0.02
			}
			if !(worst <= bound*largest) || worst == 0 {
				t.Errorf("largest difference %g where the largest output is %g", worst, largest)
			}
			pool := parallel.New(3)
			defer pool.Close()
			again, _ := b.run(t, Options{BF16: true, twins: true, Pool: pool}, x)
			if string(again.Raw) != string(got.Raw) {
				t.Error("another number of threads gives other bits")
			}
		})
	}
}
