package engine

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/parallel"
	"github.com/cnnkit/cnnkit/onnxio"
)

// layer is a Conv or ConvTranspose of c channels to o over a map of h x w that a 1x1 convolution makes of the
// input, so that it has a gradient.
type layer struct {
	op         string
	c, o       int64
	h, w       int64
	kernel     []int64
	group      int64
	attrs      []*onnxio.Attribute
	kernelName string
}

func ints(name string, v ...int64) *onnxio.Attribute { return onnxio.IntsAttr(name, v...) }

func square(k int64) []int64 { return []int64{k, k} }

var layers = map[string]layer{
	"depthwise": {"Conv", 32, 32, 9, 11, square(3), 32,
		[]*onnxio.Attribute{ints("pads", 1, 1, 1, 1)}, "depthwise conv"},
	"depthwise stride 2": {"Conv", 20, 20, 12, 9, square(3), 20,
		[]*onnxio.Attribute{ints("pads", 1, 1, 1, 1), ints("strides", 2, 2)}, "depthwise conv"},
	"depthwise 5x5": {"Conv", 40, 40, 9, 7, square(5), 40,
		[]*onnxio.Attribute{ints("pads", 2, 2, 2, 2)}, "depthwise conv"},
	"depthwise 5x5 same": {"Conv", 17, 17, 9, 8, square(5), 17,
		[]*onnxio.Attribute{onnxio.StringAttr("auto_pad", "SAME_UPPER"), ints("strides", 2, 2)},
		"depthwise conv"},
	"depthwise dilated": {"Conv", 18, 18, 9, 11, square(3), 18,
		[]*onnxio.Attribute{ints("pads", 2, 2, 2, 2), ints("dilations", 2, 2)}, "depthwise conv"},
	"depthwise uneven": {"Conv", 6, 6, 9, 11, []int64{2, 3}, 6,
		[]*onnxio.Attribute{ints("pads", 0, 2, 1, 0), ints("strides", 1, 2)}, "depthwise conv"},
	"depthwise few": {"Conv", 3, 3, 8, 8, square(3), 3,
		[]*onnxio.Attribute{ints("pads", 1, 1, 1, 1)}, "depthwise conv"},
	"depthwise 1x1": {"Conv", 32, 32, 5, 5, square(1), 32,
		[]*onnxio.Attribute{ints("strides", 3, 3)}, "depthwise conv"},
	"multiplier": {"Conv", 12, 24, 8, 8, square(3), 12,
		[]*onnxio.Attribute{ints("pads", 1, 1, 1, 1)}, "group conv"},
	"2 groups": {"Conv", 64, 32, 9, 9, square(5), 2,
		[]*onnxio.Attribute{ints("pads", 2, 2, 2, 2)}, "group conv"},
	"3x3 in 2 groups": {"Conv", 64, 64, 16, 16, square(3), 2,
		[]*onnxio.Attribute{ints("pads", 1, 1, 1, 1)}, "group conv"},
	"groups of 4": {"Conv", 64, 64, 8, 8, square(3), 16,
		[]*onnxio.Attribute{ints("pads", 1, 1, 1, 1), ints("strides", 2, 2)}, "group conv"},
	"groups of 4 dilated": {"Conv", 20, 20, 9, 8, square(3), 5,
		[]*onnxio.Attribute{ints("pads", 2, 2, 2, 2), ints("dilations", 2, 2)}, "group conv"},
	"few groups of 4": {"Conv", 8, 8, 9, 8, square(3), 2, nil, "group conv"},
	"up in groups of 4": {"ConvTranspose", 24, 24, 5, 6, square(4), 6,
		[]*onnxio.Attribute{ints("strides", 2, 2), ints("pads", 1, 1, 1, 1)}, "group conv"},
	"groups of 20": {"Conv", 60, 60, 7, 7, square(1), 3, nil, "group conv"},
	"groups of 5 to 7": {"Conv", 20, 28, 6, 9, square(3), 4,
		[]*onnxio.Attribute{ints("pads", 1, 2, 1, 0), ints("dilations", 1, 2)}, "group conv"},
	"groups of few": {"Conv", 4, 6, 8, 8, square(3), 2, nil, "group conv"},
	"dilated": {"Conv", 16, 20, 13, 11, square(3), 1,
		[]*onnxio.Attribute{ints("pads", 2, 2, 2, 2), ints("dilations", 2, 2)}, "conv"},
	"dilated stride 2": {"Conv", 20, 16, 13, 14, square(3), 1,
		[]*onnxio.Attribute{ints("pads", 3, 3, 3, 3), ints("dilations", 3, 3), ints("strides", 2, 2)},
		"conv"},
	"up 2x2": {"ConvTranspose", 32, 16, 5, 6, square(2), 1,
		[]*onnxio.Attribute{ints("strides", 2, 2)}, "conv"},
	"up 4x4": {"ConvTranspose", 20, 17, 5, 6, square(4), 1,
		[]*onnxio.Attribute{ints("strides", 2, 2), ints("pads", 1, 1, 1, 1)}, "conv"},
	"up 3x3": {"ConvTranspose", 16, 16, 5, 6, square(3), 1,
		[]*onnxio.Attribute{ints("strides", 2, 2), ints("pads", 1, 1, 1, 1), ints("output_padding", 1, 1)},
		"conv"},
	"up with a gap": {"ConvTranspose", 16, 8, 4, 3, square(2), 1,
		[]*onnxio.Attribute{ints("strides", 3, 3)}, "conv"},
	"up dilated": {"ConvTranspose", 16, 18, 4, 5, square(2), 1,
		[]*onnxio.Attribute{ints("dilations", 2, 3), ints("output_padding", 1, 2)}, "conv"},
	"up same upper and more": {"ConvTranspose", 16, 16, 5, 6, square(3), 1,
		[]*onnxio.Attribute{ints("strides", 2, 2), onnxio.StringAttr("auto_pad", "SAME_UPPER"),
			ints("output_padding", 1, 1)}, "conv"},
	"up to a shape": {"ConvTranspose", 16, 16, 5, 6, square(3), 1,
		[]*onnxio.Attribute{ints("strides", 2, 2), ints("output_shape", 10, 13)}, "conv"},
	"up same upper": {"ConvTranspose", 16, 16, 5, 6, square(3), 1,
		[]*onnxio.Attribute{ints("strides", 2, 2), onnxio.StringAttr("auto_pad", "SAME_UPPER")}, "conv"},
	"up same lower": {"ConvTranspose", 16, 16, 5, 6, square(3), 1,
		[]*onnxio.Attribute{ints("strides", 2, 2), onnxio.StringAttr("auto_pad", "SAME_LOWER"),
			ints("output_padding", 1, 1)}, "conv"},
	"up in 2 groups": {"ConvTranspose", 32, 64, 5, 6, square(4), 2,
		[]*onnxio.Attribute{ints("strides", 2, 2), ints("pads", 1, 1, 1, 1)}, "group conv"},
	"up in groups of few": {"ConvTranspose", 12, 24, 5, 6, square(3), 4,
		[]*onnxio.Attribute{ints("strides", 2, 1), ints("pads", 1, 0, 0, 1)}, "group conv"},
	"up depthwise": {"ConvTranspose", 24, 24, 5, 6, square(4), 24, []*onnxio.Attribute{ints("strides", 2, 2),
		ints("pads", 1, 1, 1, 1)}, "depthwise conv"},
}

// net is a network of the layer with bias and ReLU, with a loss for training: the weights are large, so that
// the gradients are of magnitude 1.
func (l layer) net(training bool) (*onnxio.Model, *net) {
	b := newNet(21, "N", l.c, l.h, l.w)
	b.conv(l.c, l.c, 1, 1, 0)
	dims := append([]int64{l.o, l.c / l.group}, l.kernel...)
	if l.op == "ConvTranspose" {
		dims[0], dims[1] = l.c, l.o/l.group
	}
	scale := float32(1 / math.Sqrt(float64(l.c/l.group*l.kernel[0]*l.kernel[1])))
	if training {
		scale *= 30
	}
	in := []string{b.last, b.init("layer.weight", b.random(scale, dims...)),
		b.init("layer.bias", b.random(0.1, l.o))}
	b.node(l.op, in, append([]*onnxio.Attribute{ints("kernel_shape", l.kernel...),
		onnxio.IntAttr("group", l.group)}, l.attrs...)...)
	b.node("Relu", []string{b.last})
	if training {
		b.node("Mul", []string{b.last, b.last})
		b.node("ReduceMean", []string{b.last}, onnxio.IntAttr("keepdims", 0))
	}
	return b.output(), b
}

func (l layer) in(b *net) map[string]*onnxio.Tensor {
	return map[string]*onnxio.Tensor{"input": b.random(1, 3, l.c, l.h, l.w)}
}

// Convolutions in groups, depthwise, dilated and transposed run by the fast kernels and compute what the
// reference does. The tolerances are those of TestFastPlansEqualReference and TestTrainingEqualsReference.
func TestConvolutionsEqualReference(t *testing.T) {
	for name, l := range layers {
		t.Run(name, func(t *testing.T) {
			m, b := l.net(false)
			in, got := l.in(b), [2]*onnxio.Tensor{}
			for i, reference := range []bool{false, true} {
				p, err := Compile(m, Options{Dims: map[string]int64{"N": 3}, Reference: reference})
				if err != nil {
					t.Fatal(err)
				}
				if !reference {
					l.fast(t, p)
				}
				out, err := p.Run(context.Background(), in)
				if err != nil {
					t.Fatal(err)
				}
				got[i] = out[b.last]
			}
			near(t, "y", got[0], got[1], 1e-5)
		})
	}
}

// fast fails where a step of the plan runs by a reference kernel or none runs by the layer's.
func (l layer) fast(t *testing.T, p *Plan) {
	t.Helper()
	var names []string
	for _, s := range p.Steps() {
		names = append(names, strings.TrimSuffix(s.Kernel, " "+kernels.Level()))
	}
	want := l.kernelName
	if l.op == "ConvTranspose" {
		want += " backward-data"
	}
	if slices.Contains(names, "reference") || !slices.Contains(names, want) {
		t.Errorf("want %q and no reference kernel in %q", want, names)
	}
}

// noGradient is the layer whose gradient package ops refuses.
const noGradient = "up dilated"

func TestConvolutionGradientsEqualReference(t *testing.T) {
	for name, l := range layers {
		if name == noGradient {
			continue
		}
		t.Run(name, func(t *testing.T) {
			m, b := l.net(true)
			in := []map[string]*onnxio.Tensor{l.in(b), l.in(b)}
			var got [2]map[string]*onnxio.Tensor
			for i, reference := range []bool{false, true} {
				_, got[i] = steps(t, m, b, TrainOptions{Update: plainSGD{1e-3, 0.5}, Reference: reference},
					4, in...)
			}
			for name, want := range got[1] {
				near(t, name, got[0][name], want, 1e-4)
			}
		})
	}
}

func TestConvolutionsSameBitsAndNoAllocations(t *testing.T) {
	for name, l := range layers {
		if name == noGradient {
			continue
		}
		t.Run(name, func(t *testing.T) {
			m, b := l.net(true)
			in := l.in(b)
			var want map[string]*onnxio.Tensor
			for _, threads := range []int{1, 3} {
				pool := parallel.New(threads)
				defer pool.Close()
				_, got := steps(t, m, b, TrainOptions{Pool: pool, Update: plainSGD{1e-3, 0.5}}, 3, in)
				for name, w := range want {
					if string(got[name].Raw) != string(w.Raw) {
						t.Errorf("%d threads: %s differs", threads, name)
					}
				}
				want = got
			}
			tr, err := NewTrainer(m, TrainOptions{Loss: b.last, Update: plainSGD{1e-3, 0.5}})
			if err != nil {
				t.Fatal(err)
			}
			if n := testing.AllocsPerRun(5, func() {
				if err := tr.Step(context.Background(), in); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%v allocations a step", n)
			}
			for _, s := range tr.Plan().Steps() {
				if s.Kernel == "reference" && strings.HasPrefix(s.Op, "Conv") {
					t.Errorf("%s of %s runs by the reference kernel", s.Op, s.Name)
				}
			}
		})
	}
}
