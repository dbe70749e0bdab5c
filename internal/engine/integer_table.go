package engine

import (
	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// bytesDomain is the domain of the compiler's own ops on bytes.
const bytesDomain = "cnnkit.bytes"

// tableDef is the operator Table: y = table[x] of bytes.
var tableDef = &ops.Def{Name: "Table", Domain: bytesDomain, Eval: func(c *ops.Eval) error {
	y, err := c.Alloc(0, tableType(c.Node), c.In[0].Dims...)
	if err != nil {
		return err
	}
	(*kernels.ByteTable)(c.In[1].Raw).Run(y.Raw, c.In[0].Raw)
	return nil
}}

// tableType is the type that a Table gives.
func tableType(n *ops.Node) onnxio.DataType { return onnxio.DataType(n.Int("to", 0)) }

type byteTable kernels.ByteTable

// bounds are the least and the greatest number that a table gives.
func (t *byteTable) bounds(typ onnxio.DataType) (low, high uint8) {
	number := func(b uint8) int {
		if typ == onnxio.Int8 {
			return int(int8(b))
		}
		return int(b)
	}
	low, high = t[0], t[0]
	for _, b := range t {
		if number(b) < number(low) {
			low = b
		}
		if number(b) > number(high) {
			high = b
		}
	}
	return low, high
}

// allBytes is a tensor of every byte.
func allBytes(t onnxio.DataType) *onnxio.Tensor {
	x := onnxio.NewTensor(t, 1, 1, 1, 256)
	for i := range x.Raw {
		x.Raw[i] = uint8(i)
	}
	return x
}

// tableOf is what dequantizing, functions of one element and quantizing make of every byte,
// by their reference kernels.
func tableOf(g *graph, from, to quantization, functions ...*op) (*byteTable, bool) {
	x := allBytes(from.typ)
	var ok bool
	if x, ok = evaluated("DequantizeLinear", x, from); !ok {
		return nil, false
	}
	for _, f := range functions {
		ev := ops.Eval{Node: f.node, In: make([]*onnxio.Tensor, len(f.in)), Want: []bool{true}}
		ev.In[0] = x
		for i, v := range f.in[1:] {
			if v != nil && v.kind != constant {
				return nil, false
			}
			if v != nil {
				ev.In[i+1] = v.konst
			}
		}
		if f.node.Def.Eval(&ev) != nil {
			return nil, false
		}
		x = ev.Out[0]
	}
	if x, ok = evaluated("QuantizeLinear", x, to); !ok {
		return nil, false
	}
	return (*byteTable)(x.Raw), true
}

// evaluated runs a QuantizeLinear or DequantizeLinear of one scale.
func evaluated(opType string, x *onnxio.Tensor, q quantization) (*onnxio.Tensor, bool) {
	n, err := ops.Bind(newNode(opType, "", "y"), 13)
	if err != nil {
		return nil, false
	}
	scalar := func(t *onnxio.Tensor) *onnxio.Tensor { return &onnxio.Tensor{Type: t.Type, Raw: t.Raw} }
	ev := ops.Eval{Node: n, In: []*onnxio.Tensor{x, scalar(q.scale.konst), scalar(q.zero.konst)},
		Want: []bool{true}}
	if n.Def.Eval(&ev) != nil {
		return nil, false
	}
	return ev.Out[0], true
}

// table is a Table of x, not yet placed.
func (g *graph) table(t *byteTable, x *value, typ onnxio.DataType, origin string) *op {
	y := &value{name: g.name(x.name + "/table"), dims: x.dims, sized: true,
		info: &ops.Value{Type: typ, Shape: numbers(x.dims), HasShape: true}}
	g.values[y.name] = y
	o := &op{out: []*value{y}, origin: origin}
	y.producer = o
	g.becomeTable(o, t, x)
	return o
}

// becomeTable makes o a Table of x, with the output it has.
func (g *graph) becomeTable(o *op, t *byteTable, x *value) {
	n := newNode("Table", bytesDomain, o.out[0].name)
	n.Attrs = []*onnxio.Attribute{onnxio.IntAttr("to", int64(o.out[0].info.Type))}
	if o.node != nil {
		n.Name = o.node.Name
	}
	konst := onnxio.NewTensor(onnxio.Uint8, 256)
	copy(konst.Raw, t[:])
	o.node = &ops.Node{Node: n, Def: tableDef}
	o.in, o.inputs = []*value{x, g.constant(o.out[0].name+"/function", konst)}, 2
}

// tabled makes a Table of a QuantizeLinear and the functions of one element before it, back to a
// DequantizeLinear. Where that is the same byte again, the readers of q read what was dequantized.
func (g *graph) tabled(q *op) bool {
	to, ok := g.to(q)
	if !ok {
		return false
	}
	var functions []*op
	v := q.in[0]
	for {
		if x, from, ok := g.dequantized(v); ok {
			if len(functions) == 0 && from.same(to) && !q.out[0].output {
				g.replace(q.out[0], x)
				return true
			}
			t, ok := tableOf(g, from, to, functions...)
			if !ok {
				return false
			}
			g.becomeTable(q, t, x)
			return true
		}
		o := lone(v)
		if o == nil || o.role() != pointwise && o.role() != clips || len(o.out) != 1 ||
			!equalDims(o.in[0].dims, v.dims) {
			return false
		}
		functions = append([]*op{o}, functions...)
		v = o.in[0]
	}
}

// selfTable makes a Table of an operator that is a function of one byte, by its reference kernel.
func selfTable(g *graph, o, _ *op) bool {
	x := o.in[0]
	if !x.isByte() || !o.out[0].isByte() {
		return false
	}
	ev := ops.Eval{Node: o.node, In: make([]*onnxio.Tensor, len(o.in)), Want: []bool{true}}
	ev.In[0] = allBytes(x.info.Type)
	for i, v := range o.in[1:] {
		if v != nil && v.kind != constant {
			return false
		}
		if v != nil {
			ev.In[i+1] = v.konst
		}
	}
	if o.node.Def.Eval(&ev) != nil {
		return false
	}
	g.becomeTable(o, (*byteTable)(ev.Out[0].Raw), x)
	g.index()
	return true
}

// concatTables makes a Concat of a QLinearConcat: parts of another quantization go through tables.
func concatTables(g *graph, o, _ *op) bool {
	to, ok := linearQuantization(o, 0, 1)
	if !ok || !o.out[0].isByte() || len(o.in)%3 != 2 {
		return false
	}
	n := newNode("Concat", "", o.out[0].name)
	n.Name, n.Attrs = o.node.Name, o.node.Attrs
	bound, err := ops.Bind(n, 13)
	if err != nil {
		return false
	}
	var in []*value
	var before []*op
	for i := 2; i < len(o.in); i += 3 {
		from, ok := linearQuantization(o, i+1, i+2)
		if !ok || o.in[i].info.Type != from.typ || from.typ != to.typ {
			return false
		}
		if from.same(to) {
			in = append(in, o.in[i])
			continue
		}
		t, ok := concatTable(o, from, to)
		if !ok {
			return false
		}
		table := g.table(t, o.in[i], to.typ, o.origin)
		before, in = append(before, table), append(in, table.out[0])
	}
	for i, p := range g.ops {
		if p == o {
			g.ops = append(g.ops[:i:i], append(before, g.ops[i:]...)...)
			break
		}
	}
	o.node, o.in, o.inputs = bound, in, len(in)
	g.index()
	return true
}

// concatTable is what a QLinearConcat makes of every byte of a part.
func concatTable(o *op, from, to quantization) (*byteTable, bool) {
	n := *o.node.Node
	n.Attrs = []*onnxio.Attribute{onnxio.IntAttr("axis", 3)}
	ev := ops.Eval{Node: &ops.Node{Node: &n, Def: o.node.Def, Since: o.node.Since}, Want: []bool{true},
		In: []*onnxio.Tensor{to.scale.konst, to.zero.konst, allBytes(from.typ), from.scale.konst,
			from.zero.konst}}
	if o.node.Def.Eval(&ev) != nil {
		return nil, false
	}
	return (*byteTable)(ev.Out[0].Raw), true
}

// linearQuantization is the quantization that inputs s and z of a QLinear op are, where they are known.
func linearQuantization(o *op, s, z int) (q quantization, ok bool) {
	if s >= len(o.in) || !o.in[s].floats() || o.in[s].size() != 1 {
		return q, false
	}
	q.scale = o.in[s]
	if z >= len(o.in) || o.in[z] == nil || o.in[z].kind != constant || o.in[z].size() != 1 {
		return q, false
	}
	q.zero, q.typ = o.in[z], o.in[z].info.Type
	return q, q.typ == onnxio.Uint8 || q.typ == onnxio.Int8
}
