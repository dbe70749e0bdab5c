package engine

import (
	"slices"

	"github.com/cnnkit/cnnkit/internal/ops"
)

// copier copies parts of a graph into another.
type copier struct {
	to     *graph
	copies map[*value]*value
}

func newCopier(to *graph) *copier { return &copier{to, map[*value]*value{}} }

// value copies v, once, as a value of the given kind. Its name is made unique.
func (c *copier) value(v *value, k kind) *value {
	if v == nil {
		return nil
	}
	if y := c.copies[v]; y != nil {
		return y
	}
	y := &value{name: c.to.name(v.name), kind: k, info: v.info, dims: v.dims, sized: v.sized, konst: v.konst,
		base: v, levels: v.levels}
	c.to.values[y.name] = y
	c.copies[v] = y
	return y
}

// op copies o with its values; find gives the copies of values that the copy of no op makes.
func (c *copier) op(o *op, find func(v *value) *value) *op {
	y := &op{node: o.node, inputs: o.inputs, bodies: o.bodies, origin: o.origin, base: o}
	for _, v := range o.in {
		if v != nil && c.copies[v] == nil {
			if v.kind == constant {
				c.value(v, constant)
			} else {
				c.copies[v] = find(v)
			}
		}
		y.in = append(y.in, c.copies[v])
	}
	for _, v := range o.out {
		out := c.value(v, computed)
		if out != nil {
			out.producer = y
		}
		y.out = append(y.out, out)
	}
	return y
}

// splice copies the ops of an If's body into g in place of o, and gives them. What the body gives takes
// the place of what o gives.
func (g *graph) splice(o *op, b *body) []*op {
	c := newCopier(g)
	inner := b.program.g
	for i, v := range inner.inputs {
		c.copies[v] = o.in[b.from+i]
	}
	var out []*op
	for _, x := range inner.ops {
		y := c.op(x, func(*value) *value { return nil })
		y.base = o.base
		out = append(out, y)
	}
	for i, v := range inner.outputs {
		if i >= len(o.out) || o.out[i] == nil {
			continue
		}
		from := c.copies[v]
		if from == nil { // a constant that no op of the body reads
			from = c.value(v, constant)
		}
		out = append(out, identity(from, o.out[i], o))
	}
	return out
}

// identity is an op that gives out the numbers of in.
func identity(in, out *value, for_ *op) *op {
	y := &op{node: identityNode, in: []*value{in}, out: []*value{out}, inputs: 1, origin: for_.origin,
		base: for_.base}
	out.producer = y
	return y
}

var identityNode = func() *ops.Node {
	n, err := ops.Bind(newNode("Identity", "", "branch"), 13)
	if err != nil {
		panic(err)
	}
	return n
}()

// branch is the body that an If with a known condition runs; nil otherwise.
func (o *op) branch() *body {
	if !o.path().chooses {
		return nil
	}
	if o.in[0] == nil || o.in[0].info.Const == nil || len(o.in[0].info.Const.Raw) != 1 {
		return nil
	}
	name := branchAttr(o.in[0].info.Const.Raw[0] != 0)
	i := slices.IndexFunc(o.bodies, func(b *body) bool { return b.attr == name })
	if i < 0 {
		return nil
	}
	return o.bodies[i]
}
