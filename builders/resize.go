package builders

import "github.com/cnnkit/cnnkit/onnxio"

// Upsample modes.
const (
	Nearest  = "nearest"
	Bilinear = "bilinear"
	Aligned  = "bilinear, corners aligned"
)

// Resize is torch.nn.functional.interpolate(x, (height, width), mode=mode): x [N,C,H,W] to
// [N,C,height,width]. Corners are aligned by Aligned alone.
func (b *Builder) Resize(name string, x Value, height, width int, mode string) Value {
	if !b.is3(name, x) {
		return Value{}
	}
	if height < 1 || width < 1 || mode != Nearest && mode != Bilinear && mode != Aligned {
		b.fail(name, "cannot resize %s to %dx%d by %q: known are %q, %q and %q", x, height, width, mode,
			Nearest, Bilinear, Aligned)
		return Value{}
	}
	attrs := []*onnxio.Attribute{onnxio.StringAttr("mode", "nearest"),
		onnxio.StringAttr("nearest_mode", "floor"),
		onnxio.StringAttr("coordinate_transformation_mode", "asymmetric")}
	if mode != Nearest {
		corners := map[string]string{Bilinear: "pytorch_half_pixel", Aligned: "align_corners"}[mode]
		attrs = []*onnxio.Attribute{onnxio.StringAttr("mode", "linear"),
			onnxio.StringAttr("coordinate_transformation_mode", corners)}
	}
	shape := []int64{x.Shape[0], int64(height), int64(width)}
	in := []string{x.Name, ""}
	if down, right := shape[1]/x.Shape[1], shape[2]/x.Shape[2]; down*x.Shape[1] == shape[1] &&
		right*x.Shape[2] == shape[2] {
		in = append(in, b.floats(name, "scales", 1, 1, float32(down), float32(right)))
	} else {
		in = append(in, "", b.sizes(name, x, int64(height), int64(width)))
	}
	return b.node("Resize", name, in, shape, attrs...)
}

// sizes is the name of [N,C,height,width], for an operator that wants the batch in numbers.
func (b *Builder) sizes(name string, x Value, height, width int64) string {
	whole := b.numbers("Shape", name+".shape", []string{x.Name})
	first := b.numbers("Slice", name+".batch", []string{whole, b.ints(name, "start", 0),
		b.ints(name, "end", 2)})
	return b.numbers("Concat", name+".sizes", []string{first, b.ints(name, "size", height, width)},
		onnxio.IntAttr("axis", 0))
}

// floats is the name of a Constant of numbers that are no part of the state dict.
func (b *Builder) floats(layer, what string, v ...float32) string {
	return b.table(layer, what, v, int64(len(v))).Name
}

// table is floats of a shape, without a batch dimension.
func (b *Builder) table(layer, what string, v []float32, shape ...int64) Value {
	if b.root.err != nil {
		return Value{Shape: shape, fixed: true}
	}
	t := onnxio.TensorAttr("value", onnxio.Floats(v, shape...))
	return Value{Name: b.append("Constant", b.path(layer)+"/"+what, nil, []*onnxio.Attribute{t}),
		Shape: shape, fixed: true}
}
