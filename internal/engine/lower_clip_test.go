package engine

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/onnxio"
)

// clip appends a Clip of the last value between the given bounds.
func (b *net) clip(bounds ...float32) string {
	in := []string{b.last}
	for i, v := range bounds {
		t := onnxio.NewTensor(onnxio.Float)
		t.Float32s()[0] = v
		in = append(in, b.init(b.last+[]string{".low", ".high"}[i], t))
	}
	return b.node("Clip", in)
}

// depthwise appends a 3x3 convolution of each channel by itself.
func (b *net) depthwise(c, stride int64) string {
	name := b.last + ".depthwise"
	w := b.init(name+".weight", b.random(1/3., c, 1, 3, 3))
	return b.node("Conv", []string{b.last, w}, onnxio.IntsAttr("kernel_shape", 3, 3),
		onnxio.IntAttr("group", c),
		onnxio.IntsAttr("strides", stride, stride), onnxio.IntsAttr("pads", 1, 1, 1, 1))
}

// mobile is a small MobileNetV2: two inverted residual blocks, one with a shortcut.
func mobile(seed uint64, training bool) *net {
	b := newNet(seed, "N", 3, 16, 16)
	b.conv(3, 24, 3, 1, 1)
	b.bn(24, training)
	x := b.clip(0, 1)
	b.conv(24, 72, 1, 1, 0)
	b.bn(72, training)
	b.clip(0, 1)
	b.depthwise(72, 1)
	b.bn(72, training)
	b.clip(0, 1)
	b.conv(72, 24, 1, 1, 0)
	b.bn(24, training)
	b.node("Add", []string{b.last, x})
	b.conv(24, 40, 1, 1, 0)
	b.clip(-0.5, 0.75)
	b.depthwise(40, 2)
	b.clip(0, 1)
	b.node("GlobalAveragePool", []string{b.last})
	b.node("Flatten", []string{b.last})
	b.linear(40, 10)
	return b
}

func init() {
	inferenceNets["mobile"] = func() *net { return mobile(22, false) }
	inferenceNets["clip that lifts zeros"] = func() *net {
		b := newNet(23, "N", 16, 6, 6)
		b.conv(16, 16, 3, 1, 1)
		b.clip(0.25, 0.5)
		b.conv(16, 16, 3, 1, 1)
		b.clip(0)
		b.conv(16, 16, 3, 1, 1)
		b.clip()
		return b
	}
	trainCases["mobile"] = trainCase{
		func() (*onnxio.Model, *net) { b := mobile(24, true); return b.nll(0), b },
		func(b *net, n int64) map[string]*onnxio.Tensor {
			return map[string]*onnxio.Tensor{"input": b.random(1, n, 3, 16, 16), "target": classes(b, n)}
		},
	}
}

// Nothing of a MobileNet runs by a reference kernel, and in inference its ReLU6 are parts of convolutions.
func TestMobileTakesTheFastWays(t *testing.T) {
	p, err := Compile(mobile(22, false).output(), Options{Dims: map[string]int64{"N": 1}})
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, s := range p.Steps() {
		count[strings.TrimSuffix(s.Kernel, " "+kernels.Level())]++
	}
	if count["reference"] > 0 || count["depthwise conv"] != 2 || count["clip"] != 1 {
		t.Errorf("the plan has %v", count)
	}
	m, b := trainCases["mobile"].make()
	tr, err := NewTrainer(m, TrainOptions{Loss: b.last, Update: plainSGD{0.01, 0.5}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Step(context.Background(), trainCases["mobile"].in(b, 2)); err != nil {
		t.Fatal(err)
	}
	for _, s := range tr.Plan().Steps() {
		if s.Kernel == "reference" {
			t.Errorf("in training %s of %q runs by the reference kernel", s.Op, s.Name)
		}
	}
}

func TestClipBounds(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		bounds    []float32
		low, high float32
	}{{nil, -inf, inf}, {[]float32{0}, 0, inf}, {[]float32{0, 6}, 0, 6}, {[]float32{-1, 1}, -1, 1}} {
		b := newNet(25, "N", 3, 4, 4)
		b.clip(c.bounds...)
		g, err := importModel(b.output(), Options{Dims: map[string]int64{"N": 1}}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		low, high, ok := clipBounds(g.ops[len(g.ops)-1])
		if !ok || low != c.low || high != c.high {
			t.Errorf("%v: %g, %g, %v", c.bounds, low, high, ok)
		}
	}
}

// What fold has computed takes no step: exporters write the bounds of a Clip as Constant nodes.
func TestFoldedTakesNoStep(t *testing.T) {
	b := newNet(26, "N", 16, 6, 6)
	x := b.last
	six := onnxio.NewTensor(onnxio.Float)
	six.Float32s()[0] = 6
	high := b.node("Constant", nil, &onnxio.Attribute{Name: "value", Type: onnxio.AttrTensor, T: six})
	b.node("Clip", []string{x, "", high})
	m := b.output()
	m.Graph.Outputs = append(m.Graph.Outputs, &onnxio.ValueInfo{Name: high,
		Type: &onnxio.Type{Elem: onnxio.Float}})
	p, err := Compile(m, Options{Dims: map[string]int64{"N": 1}})
	if err != nil {
		t.Fatal(err)
	}
	if s := p.Steps(); len(s) != 1 || s[0].Kernel != "clip" {
		t.Errorf("steps %v", s)
	}
	in := b.random(10, 1, 16, 6, 6)
	out, err := p.Run(context.Background(), map[string]*onnxio.Tensor{"input": in})
	if err != nil {
		t.Fatal(err)
	}
	if got := out[high].Float32s()[0]; got != 6 {
		t.Errorf("the constant output is %g", got)
	}
	for i, v := range in.Float32s() {
		if got := out[b.last].Float32s()[i]; got != min(v, 6) {
			t.Fatalf("%g clipped is %g", v, got)
		}
	}
}
