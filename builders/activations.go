package builders

import (
	"math"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Activation is a function of every element, such as (*Builder).ReLU.
type Activation func(b *Builder, name string, x Value) Value

// apply1 applies an operator of one input that keeps the shape.
func (b *Builder) apply1(op, name string, x Value, attrs ...*onnxio.Attribute) Value {
	return b.apply(op, name, []Value{x}, x.Shape, attrs...)
}

// ReLU is max(x, 0).
func (b *Builder) ReLU(name string, x Value) Value { return b.apply1("Relu", name, x) }

// ReLU6 is min(max(x, 0), 6).
func (b *Builder) ReLU6(name string, x Value) Value { return b.Clip(name, x, 0, 6) }

// Clip is torch.clamp(x, low, high).
func (b *Builder) Clip(name string, x Value, low, high float32) Value {
	if b.root.err != nil {
		return Value{}
	}
	return b.apply("Clip", name, []Value{x, b.constant(name, "min", low), b.constant(name, "max", high)},
		x.Shape)
}

// Sigmoid is 1/(1+exp(-x)).
func (b *Builder) Sigmoid(name string, x Value) Value { return b.apply1("Sigmoid", name, x) }

// HardSigmoid is torch.nn.Hardsigmoid: x/6 + 1/2 between 0 and 1.
func (b *Builder) HardSigmoid(name string, x Value) Value {
	return b.apply1("HardSigmoid", name, x, onnxio.FloatAttr("alpha", 1./6), onnxio.FloatAttr("beta", 0.5))
}

// Tanh is the hyperbolic tangent.
func (b *Builder) Tanh(name string, x Value) Value { return b.apply1("Tanh", name, x) }

// SiLU is x*sigmoid(x).
func (b *Builder) SiLU(name string, x Value) Value {
	return b.Mul(name, x, b.Sigmoid(name+".sigmoid", x))
}

// HardSwish is torch.nn.Hardswish: x*HardSigmoid(x). Opset 14 has an operator for it.
func (b *Builder) HardSwish(name string, x Value) Value {
	if b.root.opset >= 14 {
		return b.apply1("HardSwish", name, x)
	}
	return b.Mul(name, x, b.HardSigmoid(name+".sigmoid", x))
}

// GELU is torch.nn.GELU: x times the normal distribution's share below x, (1+erf(x/sqrt(2)))/2. Opset 20 has
// an operator for it; before, it takes five.
func (b *Builder) GELU(name string, x Value) Value {
	if b.root.err != nil {
		return Value{}
	}
	if b.root.opset >= 20 {
		return b.apply1("Gelu", name, x)
	}
	y := b.apply1("Erf", name+".erf", b.Div(name+".div", x, b.constant(name, "sqrt2", math.Sqrt2)))
	half := b.Mul(name+".half", x, b.constant(name, "0.5", 0.5))
	return b.Mul(name, half, b.Add(name+".add", y, b.constant(name, "1", 1)))
}

// Mish is x*tanh(softplus(x)).
func (b *Builder) Mish(name string, x Value) Value {
	return b.Mul(name, x, b.Tanh(name+".tanh", b.Softplus(name+".softplus", x)))
}

// Softplus is log(1+exp(x)).
func (b *Builder) Softplus(name string, x Value) Value { return b.apply1("Softplus", name, x) }

// ELU is x where positive, else exp(x)-1.
func (b *Builder) ELU(name string, x Value) Value { return b.apply1("Elu", name, x) }

// SELU is torch.nn.SELU.
func (b *Builder) SELU(name string, x Value) Value { return b.apply1("Selu", name, x) }

// LeakyReLU is x where positive, else slope*x.
func (b *Builder) LeakyReLU(name string, x Value, slope float32) Value {
	return b.apply1("LeakyRelu", name, x, onnxio.FloatAttr("alpha", slope))
}

// PReLU is torch.nn.PReLU on a feature map: x where positive, else name.weight [n] times x,
// n being 1 or the channels.
func (b *Builder) PReLU(name string, x Value, n int) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	if n != 1 && int64(n) != x.Shape[0] {
		b.fail(name, "%d slopes for %s", n, x)
		return Value{}
	}
	return b.apply("PRelu", name, []Value{x, b.channels(name, "weight", Fill(0.25), int64(n))}, x.Shape)
}

// Softmax normalises over the channels or classes (axis 1).
func (b *Builder) Softmax(name string, x Value) Value { return b.SoftmaxOver(name, x, 1) }

// SoftmaxOver normalises over an axis of [N,...]; -1 is the last.
func (b *Builder) SoftmaxOver(name string, x Value, axis int) Value {
	return b.apply1("Softmax", name, x, onnxio.IntAttr("axis", int64(axis)))
}

// LogSoftmax is the logarithm of Softmax.
func (b *Builder) LogSoftmax(name string, x Value) Value {
	return b.apply1("LogSoftmax", name, x, onnxio.IntAttr("axis", 1))
}
