package engine

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// fastNets are inference nets nothing of which runs by a reference kernel.
var fastNets = map[string]func() *net{}

func fastNet(name string, opset int64, make func(b *net), shape ...any) {
	f := func() *net {
		b := newNet(uint64(len(name)), shape...)
		b.m.Opsets[0].Version = opset
		make(b)
		return b
	}
	fastNets[name], inferenceNets[name] = f, f
}

// functions are the operators of one element with a version that has them.
var functions = []struct {
	op    string
	opset int64
	attrs []*onnxio.Attribute
}{
	{"LeakyRelu", 17, nil}, {"LeakyRelu", 17, []*onnxio.Attribute{onnxio.FloatAttr("alpha", 0.3)}},
	{"ThresholdedRelu", 17, []*onnxio.Attribute{onnxio.FloatAttr("alpha", 0.4)}},
	{"Shrink", 17, []*onnxio.Attribute{onnxio.FloatAttr("bias", 0.1), onnxio.FloatAttr("lambd", 0.2)}},
	{"Sigmoid", 17, nil}, {"HardSigmoid", 17, nil}, {"HardSigmoid", 17,
		[]*onnxio.Attribute{onnxio.FloatAttr("alpha", 1/6.)}},
	{"Tanh", 17, nil}, {"HardSwish", 17, nil}, {"Gelu", 20, nil}, {"Gelu", 20,
		[]*onnxio.Attribute{onnxio.StringAttr("approximate", "tanh")}},
	{"Mish", 18, nil}, {"Swish", 24, nil}, {"Swish", 24, []*onnxio.Attribute{onnxio.FloatAttr("alpha", 1.7)}},
	{"Elu", 17, []*onnxio.Attribute{onnxio.FloatAttr("alpha", 0.7)}}, {"Selu", 17, nil}, {"Celu", 17,
		[]*onnxio.Attribute{onnxio.FloatAttr("alpha", 1.5)}},
	{"Softplus", 17, nil}, {"Softsign", 17, nil}, {"Erf", 17, nil}, {"Exp", 17, nil}, {"Abs", 17,
		nil}, {"Neg", 17, nil},
	{"Sign", 17, nil}, {"Floor", 17, nil}, {"Ceil", 17, nil}, {"Round", 17, nil},
}

func init() {
	for i, f := range functions {
		fastNet(fmt.Sprintf("%s %d between convolutions", f.op, i), f.opset, func(b *net) {
			b.conv(5, 19, 1, 1, 0)
			b.node(f.op, []string{b.last}, f.attrs...)
			b.conv(19, 6, 3, 1, 1)
			b.node(f.op, []string{b.last}, f.attrs...)
		}, "N", 5, 7, 6)
		fastNet(fmt.Sprintf("%s %d of rows", f.op, i), f.opset, func(b *net) {
			b.node(f.op, []string{b.last}, f.attrs...)
		}, "N", 37)
	}
	for _, op := range []string{"Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"} {
		combinationNets(op)
	}
	fastNet("log, sqrt and reciprocal", 17, func(b *net) {
		b.conv(4, 20, 1, 1, 0)
		b.node("Exp", []string{b.last})
		for _, op := range []string{"Sqrt", "Reciprocal", "Log"} {
			b.node(op, []string{b.last})
		}
		b.conv(20, 5, 3, 1, 1)
	}, "N", 4, 5, 5)
	fastNet("squeeze and excitation", 17, func(b *net) {
		x := b.conv(3, 40, 3, 2, 1)
		b.node("GlobalAveragePool", []string{x})
		b.conv(40, 12, 1, 1, 0)
		b.node("Relu", []string{b.last})
		b.conv(12, 40, 1, 1, 0)
		s := b.node("HardSigmoid", []string{b.last})
		b.node("Mul", []string{s, x})
		b.node("GlobalMaxPool", []string{b.last})
	}, "N", 3, 12, 12)
	for _, op := range []string{"HardSwish", "Sigmoid", "Clip"} {
		follow := func(b *net) {
			if op == "Clip" {
				b.clip(0, 0.5)
			} else {
				b.node(op, []string{b.last})
			}
		}
		fastNet(op+" after every kind of convolution", 17, func(b *net) {
			b.conv(3, 40, 3, 1, 1)
			follow(b)
			for range 2 {
				b.conv(40, 40, 3, 1, 1)
				follow(b)
			}
			b.depthwise(40, 1)
			follow(b)
			b.conv(40, 40, 5, 1, 2)
			follow(b)
			b.conv(40, 72, 1, 1, 0)
			follow(b)
			b.node("GlobalAveragePool", []string{b.last})
			b.node("Flatten", []string{b.last})
			b.linear(72, 37)
			follow(b)
			b.node("MatMul", []string{b.last, b.init("w", b.random(0.2, 37, 70))})
			follow(b)
		}, "N", 3, 27, 26)
	}
	for _, op := range []string{"MaxPool", "AveragePool"} {
		fastNet(op+" in ceil mode", 17, func(b *net) {
			b.conv(3, 20, 1, 1, 0)
			b.node(op, []string{b.last}, onnxio.IntsAttr("kernel_shape", 3, 3),
				onnxio.IntsAttr("strides", 2, 2), onnxio.IntAttr("ceil_mode", 1))
			b.node(op, []string{b.last}, onnxio.IntsAttr("kernel_shape", 2, 2),
				onnxio.IntsAttr("strides", 2, 2), onnxio.IntAttr("ceil_mode", 1))
		}, "N", 3, 14, 13)
	}
}

// combinationNets are an operator of two elements in every broadcast, blocked and plain,
// with either operand first.
func combinationNets(op string) {
	for name, dims := range map[string][]int64{"channel": {19, 1, 1}, "image and channel": {1, 19, 1, 1},
		"number": {}, "one": {1, 1},
		"map": {1, 19, 6, 5}, "row": {5}, "column": {6, 1}} {
		for _, first := range []bool{false, true} {
			if first && op == "PRelu" {
				continue
			}
			fastNet(fmt.Sprintf("%s with a %s, first %v", op, name, first), 17, func(b *net) {
				x := b.conv(3, 19, 1, 1, 0)
				if op == "Div" { // far from zero
					x = b.node("Exp", []string{b.node("Tanh", []string{x})})
				}
				c := b.init("other", b.shifted(dims...))
				if first {
					x, c = c, x
				}
				b.node(op, []string{x, c})
				b.conv(19, 4, 3, 1, 1)
			}, "N", 3, 6, 5)
		}
	}
	fastNet(op+" of two maps", 17, func(b *net) {
		x := b.last
		y := b.conv(3, 19, 1, 1, 0)
		b.last = x
		b.conv(3, 19, 3, 1, 1)
		b.node("Abs", []string{b.last})
		c := b.init("one", b.shifted(1))
		b.node("Add", []string{b.last, c})
		b.node(op, []string{y, b.last})
		b.conv(19, 4, 3, 1, 1)
	}, "N", 3, 6, 5)
	fastNet(op+" of rows", 17, func(b *net) {
		c := b.init("weight", b.shifted(37))
		x := b.node(op, []string{b.last, c})
		c = b.init("column", b.shifted(4, 1))
		b.node(op, []string{x, c})
	}, "N", 4, 37)
}

// shifted is random numbers from 1.5 on.
func (b *net) shifted(dims ...int64) *onnxio.Tensor {
	t := b.random(1, dims...)
	for i, v := range t.Float32s() {
		t.Float32s()[i] = 1.5 + float32(math.Abs(float64(v)))
	}
	return t
}

// TestFastNets asks that no step of the nets runs by a reference kernel.
func TestFastNets(t *testing.T) {
	for name, make := range fastNets {
		for _, batch := range []int64{1, 3} {
			p, err := Compile(make().output(), Options{Dims: map[string]int64{"N": batch}})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, s := range p.Steps() {
				if s.Kernel == "reference" {
					t.Errorf("%s: %s of %q runs by the reference kernel", name, s.Op, s.Name)
				}
			}
		}
	}
}

// TestActivationsFollow asks that activations are parts of the convolutions and products that they follow.
func TestActivationsFollow(t *testing.T) {
	p, err := Compile(fastNets["HardSwish after every kind of convolution"]().output(),
		Options{Dims: map[string]int64{"N": 1}})
	if err != nil {
		t.Fatal(err)
	}
	winograd := 0
	for _, s := range p.Steps() {
		if s.Op == "HardSwish" {
			t.Errorf("%s has a step of its own", s.Name)
		}
		if strings.HasPrefix(s.Kernel, "winograd") {
			winograd++
		}
	}
	if winograd == 0 && WinogradAllowed() {
		t.Error("no convolution runs by Winograd's method")
	}
}

// TestActivationsTrain compares a step of training through each activation, blocked and plain,
// with the reference kernels.
func TestActivationsTrain(t *testing.T) {
	for i, f := range functions {
		if slices.Contains([]string{"Exp", "Sign", "Floor", "Ceil", "Round"}, f.op) { // too steep, or flat
			continue
		}
		t.Run(fmt.Sprint(f.op, i), func(t *testing.T) {
			make := func() (*onnxio.Model, *net) {
				b := newNet(77, "N", 3, 6, 6)
				b.m.Opsets[0].Version = f.opset
				b.conv(3, 20, 3, 1, 1)
				b.node(f.op, []string{b.last}, f.attrs...)
				b.conv(20, 6, 3, 1, 1)
				b.node(f.op, []string{b.last}, f.attrs...)
				b.node("Flatten", []string{b.last})
				b.node(f.op, []string{b.last}, f.attrs...)
				b.linear(216, 10)
				return b.nll(0), b
			}
			_, b := make()
			in := map[string]*onnxio.Tensor{"input": b.random(1, 2, 3, 6, 6), "target": classes(b, 2)}
			var losses [2][]float64
			var params [2]map[string]*onnxio.Tensor
			for k := range 2 {
				m, b := make()
				losses[k], params[k] = steps(t, m, b, TrainOptions{Reference: k == 1,
					Update: plainSGD{0.01, 0.5}}, 2, in)
			}
			for i, l := range losses[0] {
				if math.Abs(l-losses[1][i]) > 1e-4*(1+math.Abs(l)) {
					t.Errorf("loss %d is %g, by the reference kernels %g", i, l, losses[1][i])
				}
			}
			for name, got := range params[0] {
				near(t, name, got, params[1][name], 1e-3)
			}
		})
	}
}

// Before version 7 an attribute says along which axis of the first operand the second lies, which has the
// length of the last axis here, too.
func TestArithmeticAlongAnAxis(t *testing.T) {
	for _, name := range []string{"Add", "Sub", "Mul", "Div"} {
		for _, blocks := range []bool{false, true} {
			b := newNet(61, "N", 5, 5, 5)
			b.m.Opsets[0].Version = 6
			if blocks {
				b.conv(5, 5, 3, 1, 1)
			}
			b.node("Relu", []string{b.last})
			row := b.init("row", b.random(1, 5))
			b.node(name, []string{b.last, row}, onnxio.IntAttr("broadcast", 1), onnxio.IntAttr("axis", 1))
			m, in := b.output(), map[string]*onnxio.Tensor{"input": b.random(1, 2, 5, 5, 5)}
			opt := Options{Dims: map[string]int64{"N": 2}}
			var got [2]*onnxio.Tensor
			for i := range got {
				opt.Reference = i == 1
				p, err := Compile(m, opt)
				if err != nil {
					t.Fatal(err)
				}
				out, err := p.Run(context.Background(), in)
				if err != nil {
					t.Fatal(err)
				}
				got[i] = out[b.last]
			}
			near(t, name, got[0], got[1], 1e-5)
		}
	}
}
