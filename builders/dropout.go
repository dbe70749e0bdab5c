package builders

import (
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Dropout is torch.nn.Dropout: nothing in evaluation; the trainer puts it to work.
func (b *Builder) Dropout(name string, x Value, p float32) Value {
	if p < 0 || p >= 1 {
		b.fail(name, "probability %v is not in [0,1)", p)
	}
	if b.root.err != nil {
		return Value{}
	}
	return b.node("Dropout", name, []string{x.Name, b.scalar(name, "ratio", p)}, x.Shape)
}

// StochasticDepth is torchvision.ops.StochasticDepth(p, "row") on the branch x of a residual block (Huang
// et al. 2016): in training each image's branch is dropped as a whole with probability p, else divided by
// 1-p; in evaluation nothing happens. It is x times the Dropout of ones [N,1,1,1], one for each image.
// With p = 0 there is no node.
func (b *Builder) StochasticDepth(name string, x Value, p float32) Value {
	if !(p >= 0 && p < 1) {
		b.fail(name, "probability %v is not in [0,1)", p)
	}
	if b.root.err != nil {
		return Value{}
	}
	if p == 0 {
		return x
	}
	return b.scaledAtRandom(name, x, slices.Repeat([]int64{1}, len(x.Shape)), p)
}

// Dropout2d is torch.nn.Dropout2d: in training each channel of an image is dropped as a whole with
// probability p, else divided by 1-p. It is x times the Dropout of ones [N,C,1,1].
func (b *Builder) Dropout2d(name string, x Value, p float32) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	if !(p >= 0 && p < 1) {
		b.fail(name, "probability %v is not in [0,1)", p)
		return Value{}
	}
	return b.scaledAtRandom(name, x, []int64{x.Shape[0], 1, 1}, p)
}

// scaledAtRandom is x times the Dropout of ones [N,shape...].
func (b *Builder) scaledAtRandom(name string, x Value, shape []int64, p float32) Value {
	whole := b.numbers("Shape", name+".shape", []string{x.Name})
	batch := b.numbers("Gather", name+".batch", []string{whole, b.ints(name, "first", 0)},
		onnxio.IntAttr("axis", 0))
	whole = b.numbers("Concat", name+".factors", []string{batch, b.ints(name, "one", shape...)},
		onnxio.IntAttr("axis", 0))
	ones := b.node("ConstantOfShape", name+".ones", []string{whole}, shape,
		onnxio.TensorAttr("value", onnxio.Floats([]float32{1}, 1)))
	return b.node("Mul", name, []string{x.Name, b.Dropout(name+".kept", ones, p).Name}, x.Shape)
}
