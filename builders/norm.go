package builders

import (
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// BatchNorm2d is torch.nn.BatchNorm2d in evaluation mode: name.weight, name.bias,
// name.running_mean, name.running_var.
func (b *Builder) BatchNorm2d(name string, x Value, opts ...Option) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	l, c := options(opts), x.Shape[0]
	weight := ""
	if l.unscaled {
		weight = b.Buffer(name+".weight", slices.Repeat([]float32{1}, int(c)), int(c)).Name
	} else {
		weight = b.param(name, "weight", Ones, c)
	}
	in := []string{x.Name, weight, b.param(name, "bias", Zeros, c),
		b.param(name, "running_mean", Zeros, c), b.param(name, "running_var", Ones, c)}
	return b.node("BatchNormalization", name, in, x.Shape, onnxio.FloatAttr("epsilon", l.eps),
		onnxio.FloatAttr("momentum", 1-l.momentum))
}

// LayerNorm is torch.nn.LayerNorm over the last axis, x [N,...,C]: name.weight [C] and name.bias [C]. Opset
// 17 has an operator for it; before, it takes nine.
func (b *Builder) LayerNorm(name string, x Value, opts ...Option) Value {
	if b.root.err == nil && len(x.Shape) == 0 {
		b.fail(name, "takes [N,...,C], not %s", x)
	}
	if b.root.err != nil {
		return Value{}
	}
	l, c := options(opts), x.Shape[len(x.Shape)-1]
	return b.layerNorm(name, x, b.declared(name, c), l.eps)
}

// declared are the weight and bias of a LayerNorm, for one whose place in the state
// dict is before what it reads.
func (b *Builder) declared(name string, c int64) [2]Value {
	return [2]Value{{Name: b.param(name, "weight", Ones, c), Shape: []int64{c}, fixed: true},
		{Name: b.param(name, "bias", Zeros, c), Shape: []int64{c}, fixed: true}}
}

func (b *Builder) layerNorm(name string, x Value, affine [2]Value, eps float32) Value {
	if b.root.opset >= 17 {
		return b.apply("LayerNormalization", name, []Value{x, affine[0], affine[1]}, x.Shape,
			onnxio.IntAttr("axis", -1), onnxio.FloatAttr("epsilon", eps))
	}
	centered := b.Sub(name+".centered", x, b.lastMean(name+".mean", x))
	variance := b.lastMean(name+".variance", b.Mul(name+".square", centered, centered))
	deviation := b.apply1("Sqrt", name+".deviation", b.Add(name+".stable", variance,
		b.constant(name, "epsilon", eps)))
	y := b.Mul(name+".scaled", b.Div(name+".normalized", centered, deviation), affine[0])
	return b.Add(name, y, affine[1])
}

// lastMean is the mean over the last axis, which stays as 1, below opset 18.
func (b *Builder) lastMean(name string, x Value) Value {
	if b.root.err != nil {
		return Value{}
	}
	shape := append(append([]int64{}, x.Shape[:len(x.Shape)-1]...), 1)
	return b.apply("ReduceMean", name, []Value{x}, shape, onnxio.IntsAttr("axes", -1),
		onnxio.IntAttr("keepdims", 1))
}

// LayerNorm2d is torchvision's: LayerNorm over the channels of a feature map [N,C,H,W].
func (b *Builder) LayerNorm2d(name string, x Value, opts ...Option) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	y := b.LayerNorm(name, b.Permute(name+".nhwc", x, 0, 2, 3, 1), opts...)
	return b.Permute(name+".nchw", y, 0, 3, 1, 2)
}

// GroupNorm is torch.nn.GroupNorm: x [N,C,H,W] is normalized in groups of C/groups channels; name.weight [C]
// and name.bias [C]. It is InstanceNormalization of the groups, which every opset has.
func (b *Builder) GroupNorm(name string, x Value, groups int, opts ...Option) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	l, c := options(opts), x.Shape[0]
	if groups < 1 || c%int64(groups) != 0 {
		b.fail(name, "%d groups do not divide %d channels", groups, c)
		return Value{}
	}
	weight, bias := b.channels(name, "weight", Ones, c), b.channels(name, "bias", Zeros, c)
	y := b.Reshape(name+".groups", x, groups, -1)
	one := b.floats(name, "one", slices.Repeat([]float32{1}, groups)...)
	zero := b.floats(name, "zero", make([]float32, groups)...)
	y = b.node("InstanceNormalization", name+".normalized", []string{y.Name, one, zero}, y.Shape,
		onnxio.FloatAttr("epsilon", l.eps))
	y = b.Reshape(name+".channels", y, int(c), int(x.Shape[1]), int(x.Shape[2]))
	return b.Add(name, b.Mul(name+".scaled", y, weight), bias)
}

// channels is a parameter [C] in the form [C,1,1], which goes with feature maps.
func (b *Builder) channels(name, what string, fill Init, c int64) Value {
	v := Value{Name: b.param(name, what, fill, c), Shape: []int64{c}, fixed: true}
	return b.Reshape(name+"."+what+"_chw", v, int(c), 1, 1)
}
