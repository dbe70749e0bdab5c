package engine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// net builds small models for tests: one float32 input "input" [N,...], every layer reading the last.
type net struct {
	m    *onnxio.Model
	r    *rand.Rand
	last string
	n    int
}

func newNet(seed uint64, shape ...any) *net {
	b := &net{r: rand.New(rand.NewPCG(seed, 1)), last: "input"}
	b.m = &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: 17}},
		Graph: &onnxio.Graph{Name: "test"}}
	b.m.Graph.Inputs = []*onnxio.ValueInfo{onnxio.TensorInfo("input", onnxio.Float,
		onnxio.Shape(shape...)...)}
	return b
}

func (b *net) random(scale float32, dims ...int64) *onnxio.Tensor {
	t := onnxio.NewTensor(onnxio.Float, dims...)
	for i := range t.Float32s() {
		t.Float32s()[i] = scale * float32(b.r.NormFloat64())
	}
	return t
}

func (b *net) init(name string, t *onnxio.Tensor) string {
	t.Name = name
	b.m.Graph.Initializers = append(b.m.Graph.Initializers, t)
	return name
}

// node appends an operator that reads the given values and names its first output after itself.
func (b *net) node(op string, in []string, attrs ...*onnxio.Attribute) string {
	b.n++
	name := fmt.Sprintf("%s%d", op, b.n)
	b.m.Graph.Nodes = append(b.m.Graph.Nodes, &onnxio.Node{Name: name, OpType: op, Inputs: in,
		Outputs: []string{name + "/out"}, Attrs: attrs})
	b.last = name + "/out"
	return b.last
}

func (b *net) conv(in, out, k, stride, pad int64) string {
	name := fmt.Sprintf("conv%d", b.n)
	w := b.init(name+".weight", b.random(float32(1/math.Sqrt(float64(in*k*k))), out, in, k, k))
	bias := b.init(name+".bias", b.random(0.1, out))
	return b.node("Conv", []string{b.last, w, bias}, onnxio.IntsAttr("kernel_shape", k, k),
		onnxio.IntsAttr("strides", stride, stride), onnxio.IntsAttr("pads", pad, pad, pad, pad))
}

func (b *net) up(in, out int64) string {
	name := fmt.Sprintf("up%d", b.n)
	w := b.init(name+".weight", b.random(float32(1/math.Sqrt(float64(in))), in, out, 2, 2))
	bias := b.init(name+".bias", b.random(0.1, out))
	return b.node("ConvTranspose", []string{b.last, w, bias}, onnxio.IntsAttr("kernel_shape", 2, 2),
		onnxio.IntsAttr("strides", 2, 2))
}

func (b *net) bn(c int64, training bool) string {
	name := fmt.Sprintf("bn%d", b.n)
	in := []string{b.last, b.init(name+".weight", b.random(1, c)), b.init(name+".bias", b.random(1, c)),
		b.init(name+".running_mean", b.random(1, c))}
	variance := b.random(1, c)
	for i, v := range variance.Float32s() {
		variance.Float32s()[i] = 0.5 + v*v
	}
	in = append(in, b.init(name+".running_var", variance))
	if !training {
		return b.node("BatchNormalization", in)
	}
	out := b.node("BatchNormalization", in, onnxio.IntAttr("training_mode", 1))
	n := b.m.Graph.Nodes[len(b.m.Graph.Nodes)-1]
	n.Outputs = append(n.Outputs, name+".mean_out", name+".var_out")
	return out
}

func (b *net) maxpool() string {
	return b.node("MaxPool", []string{b.last}, onnxio.IntsAttr("kernel_shape", 2, 2),
		onnxio.IntsAttr("strides", 2, 2))
}

func (b *net) linear(in, out int64) string {
	name := fmt.Sprintf("fc%d", b.n)
	w := b.init(name+".weight", b.random(float32(1/math.Sqrt(float64(in))), out, in))
	bias := b.init(name+".bias", b.random(0.1, out))
	return b.node("Gemm", []string{b.last, w, bias}, onnxio.IntAttr("transB", 1))
}

// output makes the last value a graph output and gives the model.
func (b *net) output() *onnxio.Model {
	b.m.Graph.Outputs = append(b.m.Graph.Outputs, &onnxio.ValueInfo{Name: b.last,
		Type: &onnxio.Type{Elem: onnxio.Float}})
	return b.m
}

// nll appends the loss "loss" with targets "target" [N].
func (b *net) nll(batch int64) *onnxio.Model {
	b.node("LogSoftmax", []string{b.last}, onnxio.IntAttr("axis", 1))
	b.output()
	b.m.Graph.Inputs = append(b.m.Graph.Inputs, onnxio.TensorInfo("target", onnxio.Int64,
		onnxio.Shape("N")...))
	b.m.Graph.Nodes = append(b.m.Graph.Nodes, &onnxio.Node{Name: "loss", OpType: "NegativeLogLikelihoodLoss",
		Inputs: []string{b.last, "target"}, Outputs: []string{"loss"}})
	b.last = "loss"
	return b.output()
}

// mse appends loss = mean(square(y - target)).
func (b *net) mse(shape ...any) *onnxio.Model {
	b.output()
	b.m.Graph.Inputs = append(b.m.Graph.Inputs, onnxio.TensorInfo("target", onnxio.Float,
		onnxio.Shape(shape...)...))
	d := b.node("Sub", []string{b.last, "target"})
	b.node("Mul", []string{d, d})
	b.node("ReduceMean", []string{b.last}, onnxio.IntAttr("keepdims", 0))
	return b.output()
}

func lenet(seed uint64) *net {
	b := newNet(seed, "N", 1, 28, 28)
	b.conv(1, 6, 5, 1, 2)
	b.node("Relu", []string{b.last})
	b.maxpool()
	b.conv(6, 16, 5, 1, 0)
	b.node("Relu", []string{b.last})
	b.maxpool()
	b.node("Flatten", []string{b.last})
	b.linear(400, 120)
	b.node("Relu", []string{b.last})
	b.linear(120, 84)
	b.node("Relu", []string{b.last})
	b.linear(84, 10)
	return b
}

// deep is a network whose convolutions pay to be done by Winograd's method, with a
// layer that is updated early.
func deep(seed uint64) *net {
	b := newNet(seed, "N", 3, 20, 20)
	b.conv(3, 32, 3, 1, 1)
	b.node("Relu", []string{b.last})
	b.conv(32, 32, 3, 1, 1)
	b.node("Relu", []string{b.last})
	b.conv(32, 32, 3, 1, 0)
	b.node("Relu", []string{b.last})
	b.maxpool()
	b.node("Flatten", []string{b.last})
	b.linear(32*9*9, 32)
	b.linear(32, 10)
	return b
}

// pooled has a normalised and clipped map in front of every kind of maximum pooling.
func pooled(seed uint64) *net {
	b := newNet(seed, "N", 3, 20, 20)
	b.conv(3, 20, 3, 1, 1)
	b.bn(20, true)
	b.node("Relu", []string{b.last})
	b.maxpool()
	b.conv(20, 16, 3, 1, 1)
	b.bn(16, true)
	b.node("Relu", []string{b.last})
	b.node("MaxPool", []string{b.last}, onnxio.IntsAttr("kernel_shape", 3, 3), onnxio.IntsAttr("strides", 2,
		2), onnxio.IntsAttr("pads", 1, 1, 1, 1))
	b.conv(16, 8, 3, 1, 0)
	b.node("Relu", []string{b.last})
	b.node("MaxPool", []string{b.last}, onnxio.IntsAttr("kernel_shape", 3, 3))
	b.node("Flatten", []string{b.last})
	b.linear(8, 10)
	return b
}

// residual is a small network with every structure of a ResNet: strides, shortcuts, a
// shared input, average pooling.
func residual(seed uint64, training bool) *net { return residualOf(seed, training, 16, 24) }

// residualOf is residual with so many channels before and after its stride.
func residualOf(seed uint64, training bool, few, many int64) *net {
	b := newNet(seed, "N", 3, 16, 16)
	b.conv(3, few, 3, 1, 1)
	b.bn(few, training)
	x := b.node("Relu", []string{b.last})
	b.conv(few, few, 3, 1, 1)
	b.bn(few, training)
	b.node("Relu", []string{b.last})
	b.conv(few, few, 3, 1, 1)
	b.bn(few, training)
	b.node("Add", []string{b.last, x})
	x = b.node("Relu", []string{b.last})
	b.conv(few, many, 3, 2, 1)
	b.bn(many, training)
	b.node("Relu", []string{b.last})
	b.conv(many, many, 3, 1, 1)
	y := b.bn(many, training)
	b.last = x
	b.conv(few, many, 1, 2, 0)
	b.bn(many, training)
	b.node("Add", []string{y, b.last})
	b.node("Relu", []string{b.last})
	b.node("AveragePool", []string{b.last}, onnxio.IntsAttr("kernel_shape", 8, 8),
		onnxio.IntsAttr("strides", 8, 8))
	b.node("Flatten", []string{b.last})
	b.linear(many, 10)
	return b
}

// unet has skip connections by Concat and a ConvTranspose.
func unet(seed uint64, width int64) *net {
	b := newNet(seed, "N", 3, 12, 12)
	b.conv(3, width, 3, 1, 1)
	skip := b.node("Relu", []string{b.last})
	b.maxpool()
	b.conv(width, 2*width, 3, 1, 1)
	b.node("Relu", []string{b.last})
	b.up(2*width, width)
	b.node("Concat", []string{b.last, skip}, onnxio.IntAttr("axis", 1))
	b.conv(2*width, width, 3, 1, 1)
	b.node("Relu", []string{b.last})
	b.conv(width, 1, 1, 1, 0)
	return b
}

// upsampled has what exporters write for F.interpolate, reflection padding, GELU before opset 20 and the
// attention of CBAM by the maximum over channels.
func upsampled(seed uint64) *net {
	b := newNet(seed, "N", 3, 12, 12)
	b.conv(3, 8, 3, 2, 1)
	x := b.last
	b.node("Div", []string{x, b.init("sqrt2", onnxio.Scalar(onnxio.Float, float32(math.Sqrt2)))})
	b.node("Erf", []string{b.last})
	b.node("Add", []string{b.last, b.init("one", onnxio.Scalar(onnxio.Float, float32(1)))})
	b.node("Mul", []string{b.last, x})
	x = b.node("Mul", []string{b.last, b.init("half", onnxio.Scalar(onnxio.Float, float32(0.5)))})
	b.node("ReduceMax", []string{x}, onnxio.IntsAttr("axes", 1))
	b.node("Sigmoid", []string{b.last})
	b.node("Mul", []string{b.last, x})
	b.node("Resize", []string{b.last, "", b.init("scales", onnxio.Floats([]float32{1, 1, 2, 2}, 4))},
		onnxio.StringAttr("mode", "linear"),
		onnxio.StringAttr("coordinate_transformation_mode", "pytorch_half_pixel"))
	x = b.last
	pads := b.node("Constant", nil, onnxio.IntsAttr("value_ints", 0, 0, 1, 1, 0, 0, 1, 1))
	b.node("Pad", []string{x, pads}, onnxio.StringAttr("mode", "reflect"))
	b.conv(8, 1, 3, 1, 0)
	return b
}

// near compares with |a-b| <= tol * (1 + |b|).
func near(t *testing.T, what string, got, want *onnxio.Tensor, tol float64) {
	t.Helper()
	if got.Type != want.Type || !equalDims(got.Dims, want.Dims) {
		t.Errorf("%s: %v %v, want %v %v", what, got.Type, got.Dims, want.Type, want.Dims)
		return
	}
	worst := 0.0
	for i, w := range want.Float32s() {
		d := math.Abs(float64(got.Float32s()[i])-float64(w)) / (1 + math.Abs(float64(w)))
		if !(d <= worst) {
			worst = d
		}
	}
	if !(worst <= tol) {
		t.Errorf("%s: largest difference %.3g, want at most %.3g", what, worst, tol)
	}
}
