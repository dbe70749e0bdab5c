package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/onnxio"
)

// Gradient of ai.onnx.preview.training is the derivative of a value of the graph, y, by others,
// xs: the compiler has the table for that. The op reads y beside its inputs, which are the
// values that xs and zs name.

const trainingDomain = "ai.onnx.preview.training"

// gradient gives a Gradient the value that it differentiates as its last input.
func (im *importer) gradient(o *op) error {
	if !o.path().differentiates {
		return nil
	}
	y := im.g.values[o.node.Str("y", "")]
	if y == nil {
		return o.node.Errorf("y is %q, which the graph does not compute before", o.node.Str("y", ""))
	}
	var names []string
	for _, list := range []string{"xs", "zs"} {
		if a := o.node.Attr(list); a != nil {
			for _, s := range a.Strings {
				names = append(names, string(s))
			}
		}
	}
	if len(names) != len(o.in) {
		return o.node.Errorf("%d inputs for %d names in xs and zs", len(o.in), len(names))
	}
	for i, v := range o.in {
		if v != im.g.values[names[i]] {
			return &onnxio.UnsupportedError{Op: trainingDomain + ".Gradient", Node: o.String(),
				Reason: "input " + names[i] +
					" is another value than the graph's: the graph at other inputs is not computed here"}
		}
	}
	o.in = append(o.in, y)
	o.inputs = len(o.in)
	return nil
}

// gradient adds the ops that compute what a Gradient gives, in its place.
func (b *binding) gradient(o *op) error {
	if err := b.g.infer(o); err != nil {
		return err
	}
	y, xs := o.in[len(o.in)-1], o.in[:len(o.out)]
	if y.info.Type != onnxio.Float || !y.sized ||
		slices.ContainsFunc(b.g.ops, func(x *op) bool { return !b.static[x] }) {
		return &onnxio.UnsupportedError{Op: trainingDomain + ".Gradient", Node: o.String(),
			Reason: "it differentiates float32 values whose shapes do not depend on data"}
	}
	wanted := map[*value]bool{}
	for _, x := range xs {
		wanted[x] = true
	}
	before := len(b.g.ops)
	d, err := backward(b.g, y, wanted)
	if err != nil {
		return err
	}
	for i, x := range xs {
		if o.out[i] == nil {
			continue
		}
		from := d.grads[x]
		if from == nil { // y does not depend on x
			from = b.g.constant(x.name+"/no-gradient", onnxio.NewTensor(onnxio.Float, x.dims...))
		}
		b.g.ops = append(b.g.ops, identity(from, o.out[i], o))
	}
	for _, x := range b.g.ops[before:] {
		x.base = o.base
		b.static[x] = true
	}
	return nil
}
