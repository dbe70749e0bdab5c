package draw

import (
	"strings"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// registerShapes adds the operators that move numbers about or reduce axes.
func registerShapes() {
	for op, draw := range map[string]func(*drawer) *onnxio.Node{
		"Reshape": drawReshape, "Transpose": drawTranspose, "Slice": drawSlice, "Pad": drawPad,
		"Concat": drawConcat,
		"Split":  drawSplit, "Unsqueeze": drawUnsqueeze, "Squeeze": drawSqueeze, "Gather": drawGather,
		"Expand": drawExpand,
		"Tile":   drawTile, "Clip": drawClip, "Where": drawWhere, "TopK": drawTopK, "Dropout": drawDropout,
		"CumSum": drawCumSum,
		"Resize": drawResize, "Upsample": drawUpsample,
	} {
		special[op] = form{draw: draw}
	}
	special["CumSum"] = form{draw: drawCumSum, grows: growth("CumSum")}
	for _, d := range ops.Defs() {
		if d.Domain == "" && strings.HasPrefix(d.Name, "Reduce") {
			op := d.Name
			special[op] = form{draw: func(d *drawer) *onnxio.Node { return d.reduce(op) }, grows: growth(op)}
		}
	}
}

// axis is one of rank axes, negative sometimes where the opset takes that.
func (d *drawer) axis(rank int) int64 {
	a := int64(d.n(rank))
	if d.opset >= 13 && d.one(3) {
		a -= int64(rank)
	}
	return a
}

func drawReshape(d *drawer) *onnxio.Node {
	x := d.value(ranked(2, 6))
	if x == nil {
		return nil
	}
	n := &onnxio.Node{Inputs: []string{x.name}}
	shape := pick(d, []int64{0, -1}, []int64{0, 0, -1}, []int64{-1}, []int64{0, -1, 1, 1}, []int64{0, 1, -1},
		[]int64{-1, 2, 2})
	if c := x.info.Shape[1]; c.Known() && c.Value%2 == 0 && d.one(3) {
		shape = pick(d, []int64{0, 2, c.Value / 2, -1}, []int64{0, c.Value / 2, 2, -1})
	}
	d.put(n, "Reshape", "shape", shape...)
	return n
}

func drawTranspose(d *drawer) *onnxio.Node {
	x := d.value(ranked(2, 5))
	if x == nil {
		return nil
	}
	n, rank := &onnxio.Node{Inputs: []string{x.name}}, len(x.info.Shape)
	if d.one(5) {
		return n
	}
	var perm []int64
	for i := range rank {
		at := d.n(i + 1)
		perm = append(perm, 0)
		copy(perm[at+1:], perm[at:])
		perm[at] = int64(i)
	}
	n.Attrs = []*onnxio.Attribute{onnxio.IntsAttr("perm", perm...)}
	return n
}

func drawSlice(d *drawer) *onnxio.Node {
	x := d.value(ranked(1, 5))
	if x == nil {
		return nil
	}
	n, rank := &onnxio.Node{Inputs: []string{x.name}}, len(x.info.Shape)
	start, end, step := pick[int64](d, 0, 1, -3, 2, -100), pick[int64](d, 100, 3, -1, 2, 1<<62), int64(1)
	if d.since("Slice") >= 10 {
		if step = pick[int64](d, 1, 2, 3, -1); step < 0 {
			start, end = pick[int64](d, -1, 3, 100), pick[int64](d, -100, 0, -1<<62)
		}
	}
	d.put(n, "Slice", "starts", start)
	d.put(n, "Slice", "ends", end)
	d.put(n, "Slice", "axes", d.axis(rank))
	if step != 1 {
		d.put(n, "Slice", "steps", step)
	}
	return n
}

func drawPad(d *drawer) *onnxio.Node {
	x := d.value(ranked(2, 5))
	if x == nil {
		return nil
	}
	n, rank := &onnxio.Node{Inputs: []string{x.name}}, len(x.info.Shape)
	pads, mode := make([]int64, 2*rank), pick(d, "constant", "reflect", "edge", "wrap")
	for i := 2; i < rank; i++ {
		if pads[i], pads[rank+i] = pick[int64](d, 1, 0, 2, -1), pick[int64](d, 1, 0, 3); mode != "constant" {
			pads[i] = max(pads[i], 0) // ONNX does not say which numbers are mirrored once some are cut off
		}
	}
	if d.one(4) {
		pads[1] = int64(d.n(3))
	}
	name := "pads"
	if d.since("Pad") == 1 {
		name = "paddings"
	}
	d.put(n, "Pad", name, pads...)
	d.attr(n, "Pad", onnxio.StringAttr("mode", mode))
	if d.one(2) && d.since("Pad") >= 11 {
		value := d.init(x.info.Type, 1)
		delete(d.params, value) // has no gradient
		n.Inputs = append(n.Inputs, value)
	} else if d.one(2) {
		d.attr(n, "Pad", onnxio.FloatAttr("value", 0.5))
	}
	return n
}

func drawConcat(d *drawer) *onnxio.Node {
	x := d.value(ranked(1, 5))
	if x == nil {
		return nil
	}
	n, axis := &onnxio.Node{}, pick[int64](d, 1, 1, 1, 0, 2, 3)
	fits := func(v *value) bool {
		if v.info.Type != x.info.Type || !v.info.HasShape || len(v.info.Shape) != len(x.info.Shape) {
			return false
		}
		for i, s := range v.info.Shape {
			if int64(i) != axis && (s != x.info.Shape[i] || s.Param == "" && s.Value < 0) {
				return false
			}
		}
		return true
	}
	for range 1 + d.n(4) {
		if v := d.value(fits); v != nil {
			n.Inputs = append(n.Inputs, v.name)
		}
	}
	n.Inputs = append(n.Inputs, x.name)
	n.Attrs = []*onnxio.Attribute{onnxio.IntAttr("axis", axis)}
	return n
}

func drawSplit(d *drawer) *onnxio.Node {
	x := d.value(ranked(2, 5))
	since := d.since("Split")
	if x == nil || since < 2 {
		return nil
	}
	n, axis := &onnxio.Node{Inputs: []string{x.name}}, d.n(len(x.info.Shape))
	n.Attrs = []*onnxio.Attribute{onnxio.IntAttr("axis", int64(axis))}
	parts := 2 + d.n(2)
	for i := range parts {
		n.Outputs = append(n.Outputs, "y")
		if d.one(5) && i < parts-1 {
			n.Outputs[i] = ""
		}
	}
	size := x.info.Shape[axis]
	if size.Known() && size.Value >= int64(parts) && d.one(2) {
		sizes := make([]int64, parts)
		left := size.Value
		for i := range sizes {
			sizes[i] = 1 + int64(d.n(int(min(left-int64(parts-i)+1, 100))))
			left -= sizes[i]
		}
		sizes[parts-1] += left
		d.put(n, "Split", "split", sizes...)
	} else {
		d.attr(n, "Split", onnxio.IntAttr("num_outputs", int64(parts)))
	}
	return n
}

func drawUnsqueeze(d *drawer) *onnxio.Node {
	x := d.value(ranked(1, 4))
	if x == nil {
		return nil
	}
	n := &onnxio.Node{Inputs: []string{x.name}}
	d.put(n, "Unsqueeze", "axes", d.axis(len(x.info.Shape)+1))
	return n
}

func drawSqueeze(d *drawer) *onnxio.Node {
	x := d.value(ranked(2, 6))
	if x == nil {
		return nil
	}
	n := &onnxio.Node{Inputs: []string{x.name}}
	for i, s := range x.info.Shape {
		if s.Known() && s.Value == 1 {
			d.put(n, "Squeeze", "axes", int64(i))
			return n
		}
	}
	return nil
}

func drawGather(d *drawer) *onnxio.Node {
	x := d.value(ranked(2, 5))
	if x == nil {
		return nil
	}
	axis := d.n(len(x.info.Shape))
	size := x.info.Shape[axis]
	if !size.Known() || size.Value == 0 {
		return nil
	}
	index := func() int64 { return int64(d.n(int(2*size.Value))) - size.Value }
	n := &onnxio.Node{Inputs: []string{x.name},
		Attrs: []*onnxio.Attribute{onnxio.IntAttr("axis", int64(axis))}}
	switch d.n(3) {
	case 0:
		n.Inputs = append(n.Inputs, d.keep(onnxio.Scalar(onnxio.Int64, max(index(), 0)), 0))
	case 1:
		n.Inputs = append(n.Inputs, d.ints(max(index(), 0), max(index(), 0), 0))
	default:
		at := index()
		if d.opset < 11 {
			at = max(at, 0)
		}
		n.Inputs = append(n.Inputs, d.keep(onnxio.Int64s([]int64{at, 0}, 2, 1), 0))
	}
	return n
}

func drawExpand(d *drawer) *onnxio.Node {
	x := d.value(ranked(1, 4))
	if x == nil || d.opset < 8 {
		return nil
	}
	shape := make([]int64, len(x.info.Shape))
	for i, s := range x.info.Shape {
		if shape[i] = 1; s.Known() && s.Value == 1 {
			shape[i] = pick[int64](d, 1, 3, 2)
		}
	}
	return &onnxio.Node{Inputs: []string{x.name, d.ints(shape...)}}
}

func drawTile(d *drawer) *onnxio.Node {
	x := d.value(ranked(1, 4))
	if x == nil {
		return nil
	}
	repeats := make([]int64, len(x.info.Shape))
	for i := range repeats {
		repeats[i] = pick[int64](d, 1, 1, 2)
	}
	return &onnxio.Node{Inputs: []string{x.name, d.ints(repeats...)}}
}

func drawClip(d *drawer) *onnxio.Node {
	x := d.value(ranked(0, 5))
	if x == nil {
		return nil
	}
	low, high := pick[float32](d, 0, -1, 0.5), pick[float32](d, 6, 1, 0.75)
	n := &onnxio.Node{Inputs: []string{x.name}}
	if d.since("Clip") < 11 {
		n.Attrs = []*onnxio.Attribute{onnxio.FloatAttr("min", low)}
		if d.one(2) {
			n.Attrs = append(n.Attrs, onnxio.FloatAttr("max", high))
		}
		return n
	}
	if x.info.Type != onnxio.Float {
		return nil
	}
	scalar := func(v float32) string { return d.keep(onnxio.Scalar(onnxio.Float, v), 0) }
	switch d.n(4) {
	case 0:
		n.Inputs = append(n.Inputs, scalar(low), scalar(high))
	case 1:
		n.Inputs = append(n.Inputs, "", scalar(high))
	case 2:
		n.Inputs = append(n.Inputs, scalar(low))
	}
	return n
}

func drawWhere(d *drawer) *onnxio.Node {
	x := d.value(ranked(1, 5))
	if x == nil || d.opset < 9 {
		return nil
	}
	return &onnxio.Node{Inputs: []string{d.partner(x, onnxio.Bool), x.name, d.partner(x, x.info.Type)}}
}

func drawTopK(d *drawer) *onnxio.Node {
	x := d.value(ranked(1, 4))
	if x == nil {
		return nil
	}
	n := &onnxio.Node{Inputs: []string{x.name}, Outputs: []string{"values", "indices"}}
	n.Attrs = []*onnxio.Attribute{onnxio.IntAttr("axis", d.axis(len(x.info.Shape)))}
	if d.since("TopK") < 10 {
		n.Attrs = append(n.Attrs, onnxio.IntAttr("k", 2))
		return n
	}
	n.Inputs = append(n.Inputs, d.ints(int64(1+d.n(3))))
	if d.one(3) {
		d.attr(n, "TopK", onnxio.IntAttr("largest", 0))
	}
	return n
}

// drawDropout is Dropout that does not train.
func drawDropout(d *drawer) *onnxio.Node {
	x := d.value(func(v *value) bool { return ops.Floats.Has(v.info.Type) })
	if x == nil || d.since("Dropout") < 7 {
		return nil
	}
	n := &onnxio.Node{Inputs: []string{x.name}}
	if d.one(4) && d.since("Dropout") >= 12 {
		n.Outputs = []string{"y", "mask"}
	}
	return n
}

func drawCumSum(d *drawer) *onnxio.Node {
	x := d.value(ranked(1, 5))
	if x == nil || d.since("CumSum") == 0 {
		return nil
	}
	n := &onnxio.Node{Inputs: []string{x.name,
		d.keep(onnxio.Scalar(onnxio.Int64, d.axis(len(x.info.Shape))), 0)}}
	d.attr(n, "CumSum", onnxio.IntAttr("exclusive", int64(d.n(2))))
	d.attr(n, "CumSum", onnxio.IntAttr("reverse", int64(d.n(2))))
	return n
}

func (d *drawer) reduce(op string) *onnxio.Node {
	x := d.value(ranked(1, 5))
	if x == nil {
		return nil
	}
	n, rank := &onnxio.Node{Inputs: []string{x.name}}, len(x.info.Shape)
	switch d.n(4) {
	case 0:
		d.put(n, op, "axes", d.axis(rank))
	case 1:
		if rank > 3 {
			d.put(n, op, "axes", 2, 3)
		}
	case 2:
		if rank > 2 {
			d.put(n, op, "axes", 0, int64(rank-1))
		}
	}
	if d.one(2) {
		d.attr(n, op, onnxio.IntAttr("keepdims", 0))
	}
	return n
}

func drawResize(d *drawer) *onnxio.Node {
	x := d.value(floating(4, 4))
	since := d.since("Resize")
	if x == nil || since == 0 {
		return nil
	}
	scale := func() float32 { return pick[float32](d, 2, 1, 0.5, 1.5, 3) }
	scales := d.keep(onnxio.Floats([]float32{1, 1, scale(), scale()}, 4), 0)
	n := &onnxio.Node{Inputs: []string{x.name, "", scales}}
	if since == 10 {
		n.Inputs = []string{x.name, scales}
	} else if since == 11 {
		n.Inputs[1] = d.keep(onnxio.Floats(nil, 0), 0)
	}
	modes := []string{"nearest", "linear"}
	if since >= 11 {
		modes = append(modes, "cubic")
	}
	d.attr(n, "Resize", onnxio.StringAttr("mode", pick(d, modes...)))
	if d.one(2) {
		mode := pick(d, "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
		d.attr(n, "Resize", onnxio.StringAttr("coordinate_transformation_mode", mode))
	}
	if d.one(3) {
		d.attr(n, "Resize", onnxio.StringAttr("nearest_mode", pick(d, "floor", "round_prefer_ceil", "ceil")))
	}
	return n
}

func drawUpsample(d *drawer) *onnxio.Node {
	x := d.value(floating(4, 4))
	if since := d.since("Upsample"); x == nil || d.opset > 9 || since < 7 {
		return nil
	}
	scales := []float32{1, 1, pick[float32](d, 2, 3, 1), pick[float32](d, 2, 1)}
	n := &onnxio.Node{Inputs: []string{x.name},
		Attrs: []*onnxio.Attribute{onnxio.StringAttr("mode", pick(d, "nearest", "linear"))}}
	if d.since("Upsample") == 7 {
		n.Attrs = append(n.Attrs, &onnxio.Attribute{Name: "scales", Type: onnxio.AttrFloats, Floats: scales})
	} else {
		n.Inputs = append(n.Inputs, d.keep(onnxio.Floats(scales, 4), 0))
	}
	return n
}
