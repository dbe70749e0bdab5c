package builders

import (
	"math"
	"slices"
	"strconv"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Layers that combine values, and that arrange their numbers otherwise. Axes count the batch, which
// is axis 0, as PyTorch's do.

// constant is a number without dimensions, which is no parameter.
func (b *Builder) constant(layer, what string, v float32) Value {
	if b.root.err != nil {
		return Value{fixed: true}
	}
	return Value{Name: b.scalar(layer, what, v), fixed: true}
}

// Add adds two values of one shape, or one that is stretched along axes of size 1.
func (b *Builder) Add(name string, x, y Value) Value { return b.combine("Add", name, x, y) }

// Sub is x - y.
func (b *Builder) Sub(name string, x, y Value) Value { return b.combine("Sub", name, x, y) }

// Mul multiplies two values of one shape, or one that is stretched along axes of size 1.
func (b *Builder) Mul(name string, x, y Value) Value { return b.combine("Mul", name, x, y) }

// Div is x / y.
func (b *Builder) Div(name string, x, y Value) Value { return b.combine("Div", name, x, y) }

// Scale multiplies every element by a constant.
func (b *Builder) Scale(name string, x Value, factor float32) Value {
	return b.Mul(name, x, b.constant(name, "factor", factor))
}

func (b *Builder) combine(op, name string, x, y Value) Value {
	shape, ok := broadcast(x, y)
	if b.root.err == nil && !ok {
		b.fail(name, "cannot combine %s and %s", x, y)
	}
	return b.apply(op, name, []Value{x, y}, shape)
}

// broadcast is the shape of x and y together. Values with a batch must have the same number of axes; one
// without is aligned from the last axis on.
func broadcast(x, y Value) ([]int64, bool) {
	if x.fixed != y.fixed {
		if x.fixed {
			x, y = y, x
		}
		rest := y.Shape
		if len(rest) == len(x.Shape)+1 && rest[0] == 1 { // a one for the batch
			rest = rest[1:]
		}
		if len(rest) > len(x.Shape) {
			return x.Shape, false
		}
		y.Shape = append(slices.Repeat([]int64{1}, len(x.Shape)-len(rest)), rest...)
	} else if x.fixed {
		n := max(len(x.Shape), len(y.Shape))
		x.Shape = append(slices.Repeat([]int64{1}, n-len(x.Shape)), x.Shape...)
		y.Shape = append(slices.Repeat([]int64{1}, n-len(y.Shape)), y.Shape...)
	}
	if len(x.Shape) != len(y.Shape) {
		return x.Shape, false
	}
	shape := slices.Clone(x.Shape)
	for i, d := range y.Shape {
		if d != shape[i] && d != 1 && shape[i] != 1 {
			return x.Shape, false
		}
		shape[i] = max(d, shape[i])
	}
	return shape, true
}

// MatMul is torch.matmul of matrices in the last two axes; those before are of one
// size or stretched, as in Mul.
func (b *Builder) MatMul(name string, x, y Value) Value {
	n, m := len(x.Shape), len(y.Shape)
	if b.root.err == nil && (n < 2 || m < 2 || x.Shape[n-1] != y.Shape[m-2]) {
		b.fail(name, "cannot multiply %s and %s", x, y)
	}
	if b.root.err != nil {
		return Value{}
	}
	rows, columns := x, y
	rows.Shape, columns.Shape = append(slices.Clone(x.Shape[:n-1]), 1), append(slices.Clone(y.Shape[:m-2]),
		1, y.Shape[m-1])
	shape, ok := broadcast(rows, columns)
	if !ok {
		b.fail(name, "cannot multiply %s and %s", x, y)
	}
	return b.apply("MatMul", name, []Value{x, y}, shape)
}

// Flatten is torch.flatten(x, 1): [N,C,H,W] to [N,C*H*W].
func (b *Builder) Flatten(name string, x Value) Value {
	return b.node("Flatten", name, []string{x.Name}, []int64{elements(x.Shape)}, onnxio.IntAttr("axis", 1))
}

func elements(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return n
}

// Reshape is x.reshape(N, shape...); one of shape may be -1, which is worked out. A parameter has no N.
func (b *Builder) Reshape(name string, x Value, shape ...int) Value {
	if b.root.err != nil {
		return Value{}
	}
	var dims []int64
	free, known := -1, int64(1)
	for i, d := range shape {
		dims = append(dims, int64(d))
		if d == -1 && free < 0 {
			free = i
			continue
		}
		known *= int64(d)
	}
	total := elements(x.Shape)
	if known > 0 && free >= 0 && total%known == 0 {
		dims[free] = total / known
	}
	if slices.Min(dims) < 1 || elements(dims) != total {
		b.fail(name, "cannot reshape %s to %v", x, shape)
		return Value{}
	}
	target := dims
	if !x.fixed {
		target = append([]int64{0}, dims...)
	}
	y := b.apply("Reshape", name, []Value{x, {Name: b.ints(name, "shape", target...), fixed: true}}, dims)
	y.tokens = !x.fixed
	return y
}

// Permute is torch.permute: axis i of the output is axes[i] of x, the batch being axis 0, which stays first.
func (b *Builder) Permute(name string, x Value, axes ...int) Value {
	if b.root.err != nil {
		return Value{}
	}
	whole := x.Shape
	if !x.fixed {
		whole = append([]int64{0}, x.Shape...)
	}
	sorted := slices.Sorted(slices.Values(axes))
	sound := len(axes) == len(whole) && (x.fixed || axes[0] == 0)
	for i, a := range sorted {
		sound = sound && a == i
	}
	if !sound {
		b.fail(name, "axes %v are no order of those of %s with the batch first", axes, x)
		return Value{}
	}
	var shape, perm []int64
	for _, a := range axes {
		shape, perm = append(shape, whole[a]), append(perm, int64(a))
	}
	if !x.fixed {
		shape = shape[1:]
	}
	y := b.apply("Transpose", name, []Value{x}, shape, onnxio.IntsAttr("perm", perm...))
	y.tokens = !x.fixed && !slices.Equal(axes, []int{0, 3, 1, 2})
	return y
}

// axis is the place in x.Shape of an axis that counts the batch; the last is -1.
func (b *Builder) axis(name string, x Value, axis int) (int, bool) {
	if b.root.err != nil {
		return 0, false
	}
	n := len(x.Shape)
	at := axis - 1
	if axis < 0 {
		at = n + axis
	}
	if x.fixed || at < 0 || at >= n {
		b.fail(name, "%s has no axis %d that is not the batch", x, axis)
		return 0, false
	}
	return at, true
}

// Slice is x[:, ..., start:end:step, ...] along an axis; an end of 0 is that of the axis, and a
// negative one counts from it.
func (b *Builder) Slice(name string, x Value, axis, start, end, step int) Value {
	at, ok := b.axis(name, x, axis)
	if !ok {
		return Value{}
	}
	size := int(x.Shape[at])
	to := end
	if end <= 0 {
		to = size + end
	}
	if start < 0 {
		start += size
	}
	if start < 0 || start >= to || to > size || step < 1 {
		b.fail(name, "%d:%d:%d is no part of axis %d of %s", start, end, step, axis, x)
		return Value{}
	}
	last := int64(to)
	if end == 0 {
		last = math.MaxInt64
	}
	shape := slices.Clone(x.Shape)
	shape[at] = int64((to - start + step - 1) / step)
	in := []Value{x}
	for _, k := range []struct {
		what string
		v    int64
	}{{"starts", int64(start)}, {"ends", last}, {"axes", int64(at + 1)}, {"steps", int64(step)}} {
		in = append(in, Value{Name: b.ints(name, k.what, k.v), fixed: true})
	}
	return b.apply("Slice", name, in, shape)
}

// Chunk is torch.chunk: n equal parts along an axis.
func (b *Builder) Chunk(name string, x Value, axis, n int) []Value {
	parts := make([]Value, max(n, 1))
	at, ok := b.axis(name, x, axis)
	if !ok {
		return parts
	}
	if n < 1 || x.Shape[at]%int64(n) != 0 {
		b.fail(name, "axis %d of %s is not %d equal parts", axis, x, n)
		return parts
	}
	shape := slices.Clone(x.Shape)
	shape[at] /= int64(n)
	sizes := b.ints(name, "sizes", slices.Repeat([]int64{shape[at]}, n)...)
	parts[0] = b.apply("Split", name, []Value{x, {Name: sizes, fixed: true}}, shape,
		onnxio.IntAttr("axis", int64(at+1)))
	split := b.root.graph.Nodes[len(b.root.graph.Nodes)-1]
	for i := 1; i < n; i++ {
		parts[i] = parts[0]
		parts[i].Name = b.unique(b.path(name))
		split.Outputs = append(split.Outputs, parts[i].Name)
		b.root.graph.Values = append(b.root.graph.Values, b.info(parts[i]))
	}
	return parts
}

// Concat joins values along their channels, as torch.cat(values, 1).
func (b *Builder) Concat(name string, values ...Value) Value { return b.ConcatOver(name, 1, values...) }

// ConcatOver joins values along an axis, as torch.cat(values, axis).
func (b *Builder) ConcatOver(name string, axis int, values ...Value) Value {
	if b.root.err != nil {
		return Value{}
	}
	if len(values) == 0 {
		b.fail(name, "joins nothing")
		return Value{}
	}
	at, ok := b.axis(name, values[0], axis)
	if !ok {
		return Value{}
	}
	shape := slices.Clone(values[0].Shape)
	for _, v := range values[1:] {
		own := slices.Clone(v.Shape)
		if len(own) == len(shape) {
			own[at] = shape[at]
		}
		if v.fixed || !slices.Equal(own, shape) {
			along := "the channels"
			if axis != 1 {
				along = "axis " + strconv.Itoa(axis)
			}
			b.fail(name, "cannot join %s and %s along %s", values[0], v, along)
			return Value{}
		}
		shape[at] += v.Shape[at]
	}
	return b.apply("Concat", name, values, shape, onnxio.IntAttr("axis", int64(at+1)))
}

// PadChannels puts channels of zeros before and behind those of x, as torch.nn.functional.pad(x, (0,
// 0, 0, 0, before, behind)).
func (b *Builder) PadChannels(name string, x Value, before, behind int) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	if before < 0 || behind < 0 {
		b.fail(name, "cannot pad with %d and %d channels", before, behind)
		return Value{}
	}
	return b.zeroPad(name, x, []int64{int64(before), 0, 0}, []int64{int64(behind), 0, 0})
}

// zeroPad puts zeros before and behind every axis but the batch.
func (b *Builder) zeroPad(name string, x Value, before, behind []int64) Value {
	if b.root.err != nil {
		return Value{}
	}
	shape := slices.Clone(x.Shape)
	for i := range shape {
		shape[i] += before[i] + behind[i]
	}
	pads := append(append([]int64{0}, before...), append([]int64{0}, behind...)...)
	return b.apply("Pad", name, []Value{x, {Name: b.ints(name, "pads", pads...), fixed: true}}, shape)
}

// Roll is torch.roll along an axis by shift numbers, to the front where it is negative.
func (b *Builder) Roll(name string, x Value, axis, shift int) Value {
	at, ok := b.axis(name, x, axis)
	if !ok {
		return Value{}
	}
	size := int(x.Shape[at])
	cut := ((-shift)%size + size) % size
	if cut == 0 {
		return x
	}
	front := b.Slice(name+".front", x, axis, 0, cut, 1)
	return b.ConcatOver(name, axis, b.Slice(name+".rest", x, axis, cut, 0, 1), front)
}

// ChannelShuffle is torchvision's: the channels of groups take turns.
func (b *Builder) ChannelShuffle(name string, x Value, groups int) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	c, h, w := int(x.Shape[0]), int(x.Shape[1]), int(x.Shape[2])
	y := b.Reshape(name+".groups", x, groups, -1, h, w)
	return b.Reshape(name, b.Permute(name+".turns", y, 0, 2, 1, 3, 4), c, h, w)
}
