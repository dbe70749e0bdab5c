package engine

import (
	"math"
	"slices"

	"github.com/cnnkit/cnnkit/internal/kernels"
	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
)

// toIntegers makes one op on bytes of what stands between DequantizeLinear and QuantizeLinear:
//
//	Conv, Gemm, MatMul [+ Relu, Clip]                 QLinearConv, QGemm, QLinearMatMul [+ Clip of bytes]
//	Add, Mul, AveragePool, GlobalAveragePool          QLinearAdd and its like
//	MaxPool, Concat, Reshape, Transpose, Flatten...   the same on bytes
//	functions of one element, nothing at all          Table
//
// The operators are those of ONNX and ONNX Runtime, with their reference kernels: a result is the one that
// float32 would give, or its neighbor where the float32 sums round to the other side. Tables, and what only
// moves numbers, give the same. QLinearConcat and the activations of com.microsoft become tables too.
func toIntegers(g *graph) error {
	for _, o := range slices.Clone(g.ops) {
		if p := o.path(); p.integer != nil && len(o.out) > 0 && o.out[0] != nil {
			p.integer(g, o, nil)
		}
	}
	for _, o := range slices.Clone(g.ops) {
		if !Int8Runs() { // float32 is faster than the twins
			break
		}
		if len(o.out) > 0 && o.out[0] != nil && o.role() == quantizes && g.between(o) {
			g.index()
		}
	}
	g.prune()
	return nil
}

// Int8Runs reports whether this processor has kernels of bytes. Without, what stands between DequantizeLinear
// and QuantizeLinear runs in float32, and QLinearConv and its kind by the kernels' twins.
func Int8Runs() bool { return kernels.LevelInt8() != "go" }

// bytesRole is what an operator is to numbers in bytes.
type bytesRole uint8

const (
	noBytes     bytesRole = iota
	quantizes             // float32 to bytes
	dequantizes           // and back
	pointwise             // a function of one element
	moves                 // gives some of the elements that it takes
	clips                 // a function that only clips, and leaves 0 what it is
)

func (o *op) role() bytesRole {
	if p := o.path(); p != nil {
		return p.bytes
	}
	return noBytes
}

// levels is what a constant in float32 was made of by DequantizeLinear.
type levels struct {
	q           *onnxio.Tensor
	scale, zero *onnxio.Tensor // zero may be nil
	axis        int64
	block       int64
}

// rememberLevels keeps, of a folded DequantizeLinear, what it was made of.
func (o *op) rememberLevels() {
	if o.role() != dequantizes || o.out[0].konst == nil {
		return
	}
	l := &levels{q: o.in[0].konst, scale: o.in[1].konst, axis: o.node.Int("axis", 1),
		block: o.node.Int("block_size", 0)}
	if len(o.in) > 2 && o.in[2] != nil {
		l.zero = o.in[2].konst
	}
	if l.q != nil && l.scale != nil && l.scale.Type == onnxio.Float && o.out[0].info.Type == onnxio.Float {
		o.out[0].levels = l
	}
}

// quantization is one scale and one zero point for a whole tensor of bytes.
type quantization struct {
	scale, zero *value
	typ         onnxio.DataType
}

// same reports whether two are equal.
func (q quantization) same(p quantization) bool {
	return q.typ == p.typ && q.scale.konst.Float32s()[0] == p.scale.konst.Float32s()[0] &&
		q.level() == p.level()
}

// level is the zero point as a number.
func (q quantization) level() int32 { return levelOf(q.zero.konst) }

// levelOf is the number of a tensor of one byte.
func levelOf(t *onnxio.Tensor) int32 {
	if t.Type == onnxio.Int8 {
		return int32(int8(t.Raw[0]))
	}
	return int32(t.Raw[0])
}

// quantization is that of a QuantizeLinear or DequantizeLinear between float32 and bytes; ok is false where
// there are several scales, or they are not known.
func (g *graph) quantization(o *op, t onnxio.DataType) (q quantization, ok bool) {
	q = quantization{scale: o.in[1], typ: t}
	if t != onnxio.Uint8 && t != onnxio.Int8 || !q.scale.floats() || q.scale.size() != 1 ||
		o.node.Int("block_size", 0) != 0 {
		return q, false
	}
	if p := onnxio.DataType(o.node.Int("precision", 0)); p != onnxio.Undefined && p != onnxio.Float {
		return q, false
	}
	if s := q.scale.konst.Float32s()[0]; !(s > 0) || math.IsInf(float64(s), 1) {
		return q, false
	}
	if len(o.in) > 2 && o.in[2] != nil {
		q.zero = o.in[2]
		return q, q.zero.kind == constant && q.zero.size() == 1
	}
	zero := onnxio.NewTensor(t)
	q.zero = g.constant(o.out[0].name+"/zero", zero)
	return q, true
}

// dequantized is the map of bytes that v was made of.
func (g *graph) dequantized(v *value) (x *value, q quantization, ok bool) {
	if v == nil || v.kind != computed || v.producer == nil || v.producer.role() != dequantizes ||
		v.info.Type != onnxio.Float {
		return nil, q, false
	}
	x = v.producer.in[0]
	if !x.isByte() {
		return nil, q, false
	}
	q, ok = g.quantization(v.producer, x.info.Type)
	return x, q, ok
}

// lone is the producer of v, where nobody else reads v.
func lone(v *value) *op {
	if v == nil || v.kind != computed || v.output || len(v.users) != 1 {
		return nil
	}
	return v.producer
}

// between makes one op of a QuantizeLinear and what it quantizes, where all of that comes from bytes.
func (g *graph) between(q *op) bool {
	x := q.in[0]
	if g.tabled(q) {
		return true
	}
	o := lone(x)
	if o == nil {
		return false
	}
	if o.role() == clips {
		if p := lone(o.in[0]); p != nil && p.role() != dequantizes && p.path().integer != nil {
			return g.clipped(q, o, p)
		}
	}
	if p := o.path(); p.integer != nil {
		return p.integer(g, o, q)
	}
	if o.role() == moves {
		return g.moved(q, o)
	}
	return false
}

// to is the quantization that a QuantizeLinear gives.
func (g *graph) to(q *op) (quantization, bool) {
	if !q.out[0].isByte() || q.in[0].info.Type != onnxio.Float {
		return quantization{}, false
	}
	return g.quantization(q, q.out[0].info.Type)
}

// clipped makes an op on bytes of p, and of a ReLU or Clip behind it a Clip of bytes: quantizing
// keeps the order of numbers.
func (g *graph) clipped(q, clip, p *op) bool {
	to, ok := g.to(q)
	if !ok {
		return false
	}
	table, ok := tableOf(g, to, to, clip)
	if !ok {
		return false
	}
	low, high := table.bounds(to.typ)
	n := newNode("Clip", "", q.out[0].name)
	n.Name = clip.node.Name
	bound, err := ops.Bind(n, 13)
	if err != nil {
		return false
	}
	inner := &op{node: q.node, in: slices.Clone(q.in), inputs: q.inputs, origin: q.origin}
	middle := &value{name: g.name(p.out[0].name + "/levels"), info: q.out[0].info, dims: q.out[0].dims,
		sized: true}
	g.values[middle.name] = middle
	inner.in[0], inner.out = p.out[0], []*value{middle}
	middle.producer, p.out[0].users = inner, []*op{inner}
	at := slices.Index(g.ops, clip)
	g.ops[at] = inner
	if !p.path().integer(g, p, inner) {
		g.ops[at], p.out[0].users = clip, []*op{clip}
		delete(g.values, middle.name)
		return false
	}
	bounds := [2]*value{}
	for i, b := range []uint8{low, high} {
		t := onnxio.NewTensor(to.typ)
		t.Raw[0] = b
		bounds[i] = g.constant(middle.name+"/bound", t)
	}
	q.node, q.in, q.inputs, q.origin = bound, []*value{middle, bounds[0], bounds[1]}, 3, clip.origin
	delete(g.values, clip.out[0].name)
	g.index()
	return true
}

// moved makes an op that only moves elements one on bytes: parts of another
// quantization go through tables first.
func (g *graph) moved(q, o *op) bool {
	to, ok := g.to(q)
	if !ok || len(o.out) != 1 {
		return false
	}
	in := slices.Clone(o.in)
	var before []*op
	for i, v := range o.in {
		if v == nil || v.info.Type != onnxio.Float {
			continue
		}
		x, from, ok := g.dequantized(v)
		if !ok {
			return false
		}
		if in[i] = x; !from.same(to) {
			t, ok := tableOf(g, from, to)
			if !ok {
				return false
			}
			table := g.table(t, x, to.typ, o.origin)
			before, in[i] = append(before, table), table.out[0]
		}
	}
	n := *o.node.Node
	opset := max(o.node.Since, 12) // MaxPool takes bytes from version 12 on
	bound, err := ops.Bind(&n, opset)
	if err != nil || !g.substitute(o, q, bound, in) {
		for _, t := range before {
			delete(g.values, t.out[0].name)
		}
		return false
	}
	at := slices.Index(g.ops, o)
	g.ops = slices.Insert(g.ops, at, before...)
	g.index()
	return true
}

// substitute makes o and the QuantizeLinear q behind it one op with other inputs, where inference agrees.
func (g *graph) substitute(o, q *op, bound *ops.Node, in []*value) bool {
	was := *q.out[0]
	probe := &op{node: bound, in: in, inputs: len(in), out: []*value{q.out[0]}}
	err := g.infer(probe)
	same := err == nil && q.out[0].sized && q.out[0].info.Type == was.info.Type &&
		equalDims(q.out[0].dims, was.dims)
	q.out[0].info, q.out[0].dims, q.out[0].sized = was.info, was.dims, was.sized
	if !same {
		return false
	}
	if o != q {
		g.take(o, q)
	}
	o.node, o.in, o.inputs = bound, in, len(in)
	g.index()
	return true
}

// linear makes an op of the operators of quantized linear algebra of o and of q behind it.
func (g *graph) linear(o, q *op, opType, domain string, attrs []*onnxio.Attribute, in ...*value) bool {
	n := newNode(opType, domain, q.out[0].name)
	n.Name, n.Attrs = o.node.Name, attrs
	version := int64(1)
	if domain == "" {
		version = 10
	}
	bound, err := ops.Bind(n, version)
	return err == nil && g.substitute(o, q, bound, in)
}

// microsoft is the domain of the operators of ONNX Runtime.
const microsoft = "com.microsoft"

// pairInteger makes QLinearAdd or QLinearMul of Add or Mul.
func pairInteger(opType string) func(g *graph, o, q *op) bool {
	return func(g *graph, o, q *op) bool {
		if q == nil || len(o.in) != 2 {
			return false
		}
		to, ok := g.to(q)
		a, from, okA := g.dequantized(o.in[0])
		b, and, okB := g.dequantized(o.in[1])
		if !ok || !okA || !okB || from.typ != to.typ || and.typ != to.typ {
			return false
		}
		return g.linear(o, q, opType, microsoft, nil, a, from.scale, from.zero, b, and.scale, and.zero,
			to.scale, to.zero)
	}
}

// poolInteger makes QLinearAveragePool or QLinearGlobalAveragePool of a pooling.
func poolInteger(opType string) func(g *graph, o, q *op) bool {
	return func(g *graph, o, q *op) bool {
		if q == nil {
			return false
		}
		to, ok := g.to(q)
		x, from, okX := g.dequantized(o.in[0])
		if !ok || !okX || from.typ != to.typ || o.node.Attr("dilations") != nil {
			return false
		}
		return g.linear(o, q, opType, microsoft, o.node.Attrs, x, from.scale, from.zero, to.scale, to.zero)
	}
}

// weightBytes gives a constant that was made of bytes as bytes with a scale and a zero point, each one number
// or one for each index of axis.
func (g *graph) weightBytes(v *value, axis int64) (w, scale, zero *value, ok bool) {
	if v == nil || v.levels == nil || v.kind != constant {
		return nil, nil, nil, false
	}
	l := v.levels
	if l.q.Type != onnxio.Int8 && l.q.Type != onnxio.Uint8 || l.block != 0 {
		return nil, nil, nil, false
	}
	along := l.axis
	if along < 0 {
		along += int64(len(l.q.Dims))
	}
	if l.scale.Size() != 1 && along != axis {
		return nil, nil, nil, false
	}
	z := l.zero
	if z == nil {
		z = onnxio.NewTensor(l.q.Type, l.scale.Dims...)
	}
	return g.constant(v.name+"/bytes", l.q), g.constant(v.name+"/scale", l.scale), g.constant(v.name+"/zero",
		z), true
}

// integerBias is a bias in units of the products' scales, as int32; nil where there is none.
func (g *graph) integerBias(v, x, w *value) (*value, bool) {
	if v == nil {
		return nil, true
	}
	if !v.floats() || len(v.dims) != 1 {
		return nil, false
	}
	t := onnxio.NewTensor(onnxio.Int32, v.dims...)
	scale, by := x.konst.Float32s()[0], w.konst.Float32s()
	for i, b := range v.konst.Float32s() {
		unit := float64(scale) * float64(by[i%len(by)])
		n := math.RoundToEven(float64(b) / unit)
		if !(math.Abs(n) < 1<<31) {
			return nil, false
		}
		onnxio.Data[int32](t)[i] = int32(n)
	}
	return g.constant(v.name+"/integers", t), true
}

// convInteger makes QLinearConv of a Conv.
func convInteger(g *graph, o, q *op) bool {
	if q == nil {
		return false
	}
	to, ok := g.to(q)
	x, from, okX := g.dequantized(o.in[0])
	w, scale, zero, okW := g.weightBytes(o.in[1], 0)
	if !ok || !okX || !okW {
		return false
	}
	in := []*value{x, from.scale, from.zero, w, scale, zero, to.scale, to.zero}
	if len(o.in) > 2 {
		bias, ok := g.integerBias(o.in[2], from.scale, scale)
		if !ok {
			return false
		}
		if bias != nil {
			in = append(in, bias)
		}
	}
	return g.linear(o, q, "QLinearConv", "", o.node.Attrs, in...)
}

// gemmInteger makes QGemm of a Gemm, and QLinearMatMul of a MatMul.
func gemmInteger(g *graph, o, q *op) bool {
	if q == nil {
		return false
	}
	to, ok := g.to(q)
	a, from, okA := g.dequantized(o.in[0])
	axis := int64(len(o.in[1].dims) - 1)
	across := o.node.Int("transB", 0) != 0
	if across {
		axis = 0
	}
	b, scale, zero, okB := g.weightBytes(o.in[1], axis)
	if !ok || !okA || !okB || len(o.in[1].dims) != 2 {
		return false
	}
	if o.path().batched {
		return g.linear(o, q, "QLinearMatMul", "", nil, a, from.scale, from.zero, b, scale, zero,
			to.scale, to.zero)
	}
	if o.node.Float("alpha", 1) != 1 || o.node.Float("beta", 1) != 1 || o.node.Int("transA", 0) != 0 {
		return false
	}
	var bias *value
	if len(o.in) > 2 {
		if bias, ok = g.integerBias(o.in[2], from.scale, scale); !ok {
			return false
		}
	}
	var attrs []*onnxio.Attribute
	if across {
		attrs = append(attrs, onnxio.IntAttr("transB", 1))
	}
	return g.linear(o, q, "QGemm", microsoft, attrs, a, from.scale, from.zero, b, scale, zero, bias,
		to.scale, to.zero)
}
