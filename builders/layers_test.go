package builders_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/builders"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
	"github.com/cnnkit/cnnkit/runtime"
)

type layer func(b *builders.Builder, x builders.Value) builders.Value

// run is what the native engine makes of x [N,C,H,W] with one layer, and the shape that the builder gave it.
func run(t *testing.T, opset int64, x *onnxio.Tensor, f layer) (*onnxio.Tensor, string) {
	t.Helper()
	b := builders.New("net", opset, 0, int(x.Dims[1]), int(x.Dims[2]), int(x.Dims[3]))
	v := f(b, b.Input())
	m, err := b.Model(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := check.Model(m); err != nil {
		t.Error(err)
	}
	s, err := runtime.OpenModel(m, runtime.WithEngine(runtime.Native))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.Run(context.Background(), map[string]*onnxio.Tensor{"input": x})
	if err != nil {
		t.Fatal(err)
	}
	return out["output"], v.String()
}

// The shapes are PyTorch's for an input [2,4,11,14]; the engine's result has them too, and
// every opset's checker agrees.
func TestLayerShapes(t *testing.T) {
	conv := func(opts ...builders.Option) layer {
		return func(b *builders.Builder, x builders.Value) builders.Value {
			return b.Conv2d("conv", x, 6, 3, opts...)
		}
	}
	up := func(opts ...builders.Option) layer {
		return func(b *builders.Builder, x builders.Value) builders.Value {
			return b.ConvTranspose2d("up", x, 6, 3, opts...)
		}
	}
	most := func(k int, opts ...builders.Option) layer {
		return func(b *builders.Builder, x builders.Value) builders.Value {
			return b.MaxPool2d("pool", x, k, opts...)
		}
	}
	mean := func(k int, opts ...builders.Option) layer {
		return func(b *builders.Builder, x builders.Value) builders.Value {
			return b.AvgPool2d("pool", x, k, opts...)
		}
	}
	adaptive := func(h, w int) layer {
		return func(b *builders.Builder, x builders.Value) builders.Value {
			return b.AdaptiveAvgPool2d("pool", b.ReLU("relu", x), h, w)
		}
	}
	each := func(f func(*builders.Builder, string, builders.Value) builders.Value) layer {
		return func(b *builders.Builder, x builders.Value) builders.Value { return f(b, "layer", x) }
	}
	for _, c := range []struct {
		name  string
		layer layer
		want  string
	}{
		{"Conv2d", conv(), "[N,6,9,12]"},
		{"Conv2d pad", conv(builders.Pad(1)), "[N,6,11,14]"},
		{"Conv2d stride", conv(builders.Stride(2), builders.Pad(1)), "[N,6,6,7]"},
		{"Conv2d dilation", conv(builders.Dilation(3), builders.Stride(2)), "[N,6,3,4]"},
		{"Conv2d groups", conv(builders.Groups(2), builders.NoBias()), "[N,6,9,12]"},
		{"ConvTranspose2d", up(), "[N,6,13,16]"},
		{"ConvTranspose2d stride", up(builders.Stride(2), builders.Pad(1), builders.OutputPad(1)),
			"[N,6,22,28]"},
		{"ConvTranspose2d groups", up(builders.Groups(2), builders.Dilation(2)), "[N,6,15,18]"},
		{"MaxPool2d", most(2), "[N,4,5,7]"},
		{"MaxPool2d torchvision", most(3, builders.Stride(2), builders.Pad(1)), "[N,4,6,7]"},
		{"MaxPool2d ceil", most(2, builders.CeilMode()), "[N,4,6,7]"},
		{"MaxPool2d ceil in the padding", most(2, builders.Stride(3), builders.Pad(1), builders.CeilMode()),
			"[N,4,4,5]"},
		{"MaxPool2d dilation", most(3, builders.Stride(2), builders.Dilation(2)), "[N,4,4,5]"},
		{"AvgPool2d", mean(3), "[N,4,3,4]"},
		{"AvgPool2d ceil", mean(3, builders.CeilMode()), "[N,4,4,5]"},
		{"AvgPool2d pad", mean(2, builders.Pad(1), builders.ExcludePad()), "[N,4,6,8]"},
		{"GlobalAvgPool2d", each((*builders.Builder).GlobalAvgPool2d), "[N,4,1,1]"},
		{"GlobalMaxPool2d", each((*builders.Builder).GlobalMaxPool2d), "[N,4,1,1]"},
		{"AdaptiveAvgPool2d 1", adaptive(1, 1), "[N,4,1,1]"},
		{"AdaptiveAvgPool2d as it is", adaptive(11, 14), "[N,4,11,14]"},
		{"AdaptiveAvgPool2d", adaptive(5, 7), "[N,4,5,7]"},
		{"AdaptiveAvgPool2d row", adaptive(1, 13), "[N,4,1,13]"},
		{"BatchNorm2d", func(b *builders.Builder, x builders.Value) builders.Value {
			return b.BatchNorm2d("bn", x)
		}, "[N,4,11,14]"},
		{"ReLU", each((*builders.Builder).ReLU), "[N,4,11,14]"},
		{"Sigmoid", each((*builders.Builder).Sigmoid), "[N,4,11,14]"},
		{"Tanh", each((*builders.Builder).Tanh), "[N,4,11,14]"},
		{"SiLU", each((*builders.Builder).SiLU), "[N,4,11,14]"},
		{"GELU", each((*builders.Builder).GELU), "[N,4,11,14]"},
		{"Softmax", each((*builders.Builder).Softmax), "[N,4,11,14]"},
		{"LogSoftmax", each((*builders.Builder).LogSoftmax), "[N,4,11,14]"},
		{"LeakyReLU", func(b *builders.Builder, x builders.Value) builders.Value {
			return b.LeakyReLU("leaky", x, 0.1)
		}, "[N,4,11,14]"},
		{"Dropout", func(b *builders.Builder, x builders.Value) builders.Value {
			return b.Dropout("drop", x, 0.5)
		}, "[N,4,11,14]"},
		{"StochasticDepth", func(b *builders.Builder, x builders.Value) builders.Value {
			return b.StochasticDepth("depth", x, 0.5)
		}, "[N,4,11,14]"},
		{"StochasticDepth of features", func(b *builders.Builder, x builders.Value) builders.Value {
			return b.StochasticDepth("depth", b.Flatten("flatten", x), 0.5)
		}, "[N,616]"},
		{"Add", func(b *builders.Builder, x builders.Value) builders.Value { return b.Add("add", x, x) },
			"[N,4,11,14]"},
		{"Mul", func(b *builders.Builder, x builders.Value) builders.Value { return b.Mul("mul", x, x) },
			"[N,4,11,14]"},
		{"Scale", func(b *builders.Builder, x builders.Value) builders.Value {
			return b.Scale("scale", x, 0.5)
		}, "[N,4,11,14]"},
		{"Concat", func(b *builders.Builder, x builders.Value) builders.Value {
			return b.Concat("cat", x, x, x)
		}, "[N,12,11,14]"},
		{"Flatten", each((*builders.Builder).Flatten), "[N,616]"},
		{"Linear", func(b *builders.Builder, x builders.Value) builders.Value {
			return b.Linear("fc", b.Flatten("flatten", x), 5, builders.NoBias())
		}, "[N,5]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := onnxio.NewTensor(onnxio.Float, 2, 4, 11, 14)
			uniform(x.Float32s(), 7, func(u float64) float64 { return u })
			for _, opset := range []int64{builders.MinOpset, 17, 20, builders.MaxOpset} {
				y, shape := run(t, opset, x, c.layer)
				if shape != c.want {
					t.Errorf("opset %d: the builder gives %s, want %s", opset, shape, c.want)
				}
				v := builders.Value{Shape: y.Dims[1:]}
				if y.Dims[0] != 2 || v.String() != c.want {
					t.Errorf("opset %d: the engine gives %v, want %s", opset, y.Dims, c.want)
				}
			}
		})
	}
}

// GELU is x*(1+erf(x/sqrt2))/2 as an operator (opset 20) and composed; 1e-6 is a few
// roundings of values up to 4.
func TestGELU(t *testing.T) {
	x := onnxio.NewTensor(onnxio.Float, 1, 1, 8, 8)
	uniform(x.Float32s(), 3, func(u float64) float64 { return 4 * u })
	for _, opset := range []int64{13, 19, 20, 21} {
		y, _ := run(t, opset, x, func(b *builders.Builder, x builders.Value) builders.Value {
			return b.GELU("gelu", x)
		})
		for i, v := range x.Float32s() {
			want := float64(v) * (1 + math.Erf(float64(v)/math.Sqrt2)) / 2
			if got := float64(y.Float32s()[i]); !(math.Abs(got-want) <= 1e-6) {
				t.Errorf("opset %d: GELU(%g) = %g, want %g", opset, v, got, want)
			}
		}
	}
	// What it is composed from is no weight: a state dict does not have it.
	b := builders.New("net", 17, 0, 1, 8, 8)
	m, err := b.Model(b.Scope("block.0").GELU("act", b.Input()))
	if err != nil {
		t.Fatal(err)
	}
	if n := builders.Parameters(m); n != 0 {
		t.Errorf("GELU has %d parameters", n)
	}
	for _, p := range m.Graph.Initializers {
		if len(p.Dims) != 0 || !strings.Contains(p.Name, "/") {
			t.Errorf("initializer %q %v could be taken for a weight", p.Name, p.Dims)
		}
	}
}

// Each output of an adaptive pool is the mean from floor(i*H/h) to ceil((i+1)*H/h), as PyTorch defines it,
// also where these windows differ.
func TestAdaptiveAvgPool2d(t *testing.T) {
	share := func(i, size, n int) (int, int) { return i * size / n, ((i+1)*size + n - 1) / n }
	for size := 1; size <= 16; size++ {
		for n := 1; n <= 9; n++ {
			b := builders.New("net", 0, 0, 1, 6, size)
			v := b.AdaptiveAvgPool2d("pool", b.ReLU("relu", b.Input()), 3, n)
			if b.Err() != nil {
				t.Fatal(b.Err())
			}
			x := onnxio.NewTensor(onnxio.Float, 1, 1, 6, int64(size))
			uniform(x.Float32s(), 5, func(u float64) float64 { return u })
			y, _ := run(t, 17, x, func(b *builders.Builder, x builders.Value) builders.Value {
				return b.AdaptiveAvgPool2d("pool", b.ReLU("relu", x), 3, n)
			})
			if !slices.Equal(y.Dims[1:], v.Shape) {
				t.Fatalf("%d to %d: %v", size, n, y.Dims)
			}
			for i, got := range y.Float32s() {
				lo, hi := share(i%n, size, n)
				want := 0.0
				for row := i / n * 2; row < i/n*2+2; row++ {
					for _, v := range x.Float32s()[row*size+lo : row*size+hi] {
						want += max(0, float64(v)) / float64(2*(hi-lo))
					}
				}
				if math.Abs(want-float64(got)) > 1e-6 {
					t.Errorf("%d to %d: output %d is %g, want %g", size, n, i, got, want)
				}
			}
		}
	}
}

// WeightInit and BiasInit replace the defaults, and only those.
func TestInitOptions(t *testing.T) {
	b := builders.New("net", 0, 0, 2, 4, 4)
	x := b.Conv2d("conv", b.Input(), 3, 3, builders.WeightInit(builders.Ones))
	m, err := b.Model(b.Linear("fc", b.Flatten("flatten", x), 2, builders.BiasInit(builders.Zeros)))
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]float32{"conv.weight": 1, "fc.bias": 0} {
		for _, w := range m.Graph.Initializer(name).Float32s() {
			if w != v {
				t.Errorf("%s holds %g, want %g", name, w, v)
			}
		}
	}
	for _, name := range []string{"conv.bias", "fc.weight"} {
		if w := m.Graph.Initializer(name).Float32s(); w[0] == w[1] {
			t.Errorf("%s holds %g twice: the default is gone", name, w[0])
		}
	}
}
