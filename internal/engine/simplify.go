package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// maxFolded bounds the bytes of a folded constant: a ConstantOfShape of a gigabyte is
// better made when it is needed.
const maxFolded = 1 << 26

// simplify folds constants, drops Identity, inference-time Dropout, pads of 0 and products with ones and, for
// inference, folds into a convolution or matrix product what scales and shifts its channels, and padding
// before it. What is left computes the same outputs.
func simplify(g *graph, training bool) error {
	for _, o := range g.ops {
		if err := fold(g, o); err != nil {
			return err
		}
	}
	for _, o := range g.ops {
		if from := passesThrough(o); from != nil {
			bypass(g, o, from)
		}
	}
	g.prune()
	if !training && !g.keep {
		foldAffine(g)
		foldPads(g)
		g.prune()
	}
	return nil
}

// fold makes constants of what an op gives: where inference knows it, as the Shape of a map, or by evaluating
// an op all of whose inputs are constants.
func fold(g *graph, o *op) error {
	if o.node.Def.Random || len(o.out) == 0 || o.node.Def.Eval == nil {
		return nil
	}
	bytes := int64(0)
	for _, v := range o.out {
		if v == nil {
			continue
		}
		if !v.sized {
			return nil
		}
		n, err := onnxio.CheckedBytes(v.info.Type, v.dims)
		if bytes += n; err != nil || n > maxFolded || bytes > *g.room {
			return nil // strings and giants stay, and what is too much with the others
		}
	}
	if !o.known() {
		if err := evaluate(o); err != nil {
			return err
		}
	}
	if o.known() {
		for _, v := range o.out {
			if v != nil {
				v.kind, v.konst = constant, v.info.Const
			}
		}
		*g.room -= bytes
		o.rememberLevels()
	}
	return nil
}

// known reports whether the numbers of all of o's outputs are.
func (o *op) known() bool {
	return !slices.ContainsFunc(o.out, func(v *value) bool { return v != nil && v.info.Const == nil })
}

// evaluate runs an op all of whose inputs are constants, so that its outputs are known.
func evaluate(o *op) error {
	ev := ops.Eval{Node: o.node, In: make([]*onnxio.Tensor, len(o.in)), Want: make([]bool, len(o.out)),
		Limit: maxFolded}
	for i, v := range o.in {
		if v == nil {
			continue
		}
		if v.kind != constant {
			return nil
		}
		ev.In[i] = v.konst
	}
	for i, v := range o.out {
		ev.Want[i] = v != nil
	}
	if err := o.node.Def.Eval(&ev); err != nil {
		return err
	}
	for i, v := range o.out {
		if v != nil && i < len(ev.Out) && ev.Out[i] != nil {
			v.info.Const = ev.Out[i]
		}
	}
	return nil
}

// passesThrough is the input whose numbers are the op's output, nil for other ops.
func passesThrough(o *op) *value {
	if p := o.path(); p.passes != nil {
		return p.passes(o)
	}
	return nil
}

// passesFirst is the rule of Identity.
func passesFirst(o *op) *value { return o.in[0] }

// passesDropout is the rule of Dropout, whose mask nobody may read.
func passesDropout(o *op) *value {
	unread := len(o.out) < 2 || o.out[1] == nil || len(o.out[1].users) == 0 && !o.out[1].output
	if unread && !dropsOut(o) {
		return o.in[0]
	}
	return nil
}

// passesFactor is the rule of Mul: a product with ones that does not broadcast.
func passesFactor(o *op) *value {
	for i, v := range o.in {
		if other := o.in[1-i]; v.allOnes() && other.sized && o.out[0].sized && equalDims(other.dims,
			o.out[0].dims) {
			return other
		}
	}
	return nil
}

// passesPad is the rule of Pad.
func passesPad(o *op) *value {
	if padsNothing(o) {
		return o.in[0]
	}
	return nil
}

// padsNothing reports whether all pads of a Pad are known to be 0.
func padsNothing(o *op) bool {
	if !o.in[0].info.HasShape {
		return false
	}
	in, computed := o.constants()
	begin, end, ok := ops.ResolvePad(o.node, len(o.in[0].info.Shape), in, computed)
	return ok && !slices.ContainsFunc(append(begin, end...), func(n int64) bool { return n != 0 })
}

// allOnes reports whether v is a float32 constant of ones.
func (v *value) allOnes() bool {
	if v.kind != constant || v.info.Type != onnxio.Float {
		return false
	}
	return v.size() > 0 && !slices.ContainsFunc(v.konst.Float32s(), func(x float32) bool { return x != 1 })
}

// dropsOut reports whether a Dropout may change its input.
func dropsOut(o *op) bool {
	switch {
	case o.node.Since >= 12:
		if len(o.in) < 3 || o.in[2] == nil {
			return false
		}
		mode := o.in[2].konst
		return mode == nil || len(mode.Raw) == 0 || mode.Raw[0] != 0
	case o.node.Since >= 7:
		return false
	}
	return o.node.Int("is_test", 0) == 0
}

// bypass makes the readers of o's first output read from instead. A graph output
// keeps its name, so it is left.
func bypass(g *graph, o *op, from *value) {
	if o.out[0] == nil || o.out[0].output {
		return
	}
	g.replace(o.out[0], from)
}

// constant adds a constant value.
func (g *graph) constant(name string, t *onnxio.Tensor) *value {
	v := &value{name: g.name(name), kind: constant}
	v.hold(t)
	g.values[v.name] = v
	return v
}

// take makes first yield last's output: last has been folded into first, which it followed.
func (g *graph) take(first, last *op) {
	old := first.out[0]
	out := last.out[0]
	first.out[0] = out
	out.producer = first
	delete(g.values, old.name)
	last.out[0] = nil
	for i, o := range g.ops {
		if o == last {
			g.ops = append(g.ops[:i:i], g.ops[i+1:]...)
			break
		}
	}
	last.unlink()
	first.link()
}
