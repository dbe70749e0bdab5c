// Package draw makes random models of the operators in the registry, with inputs of several shapes for each,
// so that engines can be compared with each other.
//
// A model follows from a list of bytes, one or two for each choice; where they end, every choice is the
// first. A fuzzer that shortens the list makes the model simpler. The same bytes give the same model.
//
// Numbers stay below limit, and operators that jump (Round, ArgMax, a comparison) or have poles (Log, Div)
// read values that every engine has exactly, such as inputs and what is only moved or cut from them: so two
// right engines differ by rounding alone.
package draw

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/cnnkit/cnnkit/internal/ops"
	"github.com/cnnkit/cnnkit/onnxio"
	"github.com/cnnkit/cnnkit/onnxio/check"
)

// limit bounds the numbers that a model is expected to make.
const limit = 64

// Case is a model and the inputs of some runs, each of other shapes.
type Case struct {
	Model *onnxio.Model
	Runs  []map[string]*onnxio.Tensor
}

// value is what the drawer knows of one value of the graph.
type value struct {
	name  string
	info  *ops.Value
	exact bool    // the same bits in every engine
	bound float64 // of the numbers' sizes
	wild  bool    // NaN and infinities may be among them
	sum   bool    // of many numbers: its bound is a guess, and its rounding grows with it
	read  bool
}

// drawer draws one model.
type drawer struct {
	choices []byte
	rng     *rand.Rand // of the elements of tensors, which are no choices
	opset   int64
	values  []*value
	weights []*onnxio.Tensor
	nodes   []*onnxio.Node
	inputs  []*onnxio.ValueInfo
	known   map[string]*value
	bound   map[string]float64 // of weights
	wild    bool
	trains  bool            // what is drawn is trained
	params  map[string]bool // of the weights, those that are trained
}

// n is a choice of 0 to k-1.
func (d *drawer) n(k int) int {
	if k <= 1 || len(d.choices) == 0 {
		return 0
	}
	b := int(d.choices[0])
	d.choices = d.choices[1:]
	if k > 128 && len(d.choices) > 0 {
		b = b<<8 | int(d.choices[0])
		d.choices = d.choices[1:]
	}
	return b % k
}

// one says yes once in k times.
func (d *drawer) one(k int) bool { return d.n(k) == k-1 }

// pick chooses from a list.
func pick[T any](d *drawer, list ...T) T { return list[d.n(len(list))] }

// New draws a model of at most nodes nodes. In a wild one, convolutions may read NaN and infinities.
func New(choices []byte, nodes int, wild bool) *Case {
	seed := uint64(len(choices))
	for _, b := range choices {
		seed = seed*1099511628211 + uint64(b)
	}
	d := &drawer{choices: choices, rng: rand.New(rand.NewPCG(seed, 1)), known: map[string]*value{},
		bound: map[string]float64{}, wild: wild}
	d.opset = pick[int64](d, 17, 13, 21, 11, 18, 9, 8, 7, 22, 20, 23, 24)
	d.graphInputs()
	for tries := 0; len(d.nodes) < nodes && tries < 6*nodes && len(d.choices) > 0; tries++ {
		d.node()
	}
	return d.finish()
}

// graphInputs declares one or two inputs: maps whose batch, and sometimes size, is open.
func (d *drawer) graphInputs() {
	elem := pick(d, onnxio.Float, onnxio.Float, onnxio.Float, onnxio.Float, onnxio.Float, onnxio.Float,
		onnxio.Float,
		onnxio.Double, onnxio.Float16, onnxio.Int32, onnxio.Int64, onnxio.Uint8, onnxio.Int8, onnxio.BFloat16)
	channels := pick[any](d, 3, 16, 1, 17, 8, 32, 5, 33, 2)
	dims := []any{"N", channels}
	for range pick(d, 2, 2, 2, 2, 2, 2, 1, 3, 0) {
		dims = append(dims, pick[any](d, 8, 7, 13, 5, "S", 1, 16, 3, "T", "S", "T"))
	}
	if d.one(8) {
		dims[0] = 2
	}
	if d.trains {
		elem = onnxio.Float
	}
	for i := range 1 + d.n(2) {
		v := onnxio.TensorInfo(fmt.Sprintf("x%d", i), elem, onnxio.Shape(dims...)...)
		d.inputs = append(d.inputs, v)
		d.add(&value{name: v.Name, info: &ops.Value{Type: elem, Shape: v.Type.Shape, HasShape: true},
			exact: true, bound: 2})
	}
}

func (d *drawer) add(v *value) {
	d.values = append(d.values, v)
	d.known[v.name] = v
}

// finish makes outputs of what nothing reads, and of some other values.
func (d *drawer) finish() *Case {
	var outputs []*onnxio.ValueInfo
	for _, v := range d.values[len(d.inputs):] {
		if !v.read || d.one(6) {
			outputs = append(outputs, v.declared())
		}
	}
	return d.withRuns(outputs)
}

// declared is the value as a graph declares it.
func (v *value) declared() *onnxio.ValueInfo {
	typ := &onnxio.Type{Elem: v.info.Type, Shape: v.info.Shape, HasShape: v.info.HasShape}
	return &onnxio.ValueInfo{Name: v.name, Type: typ}
}

// withRuns makes the model, and the inputs of some runs.
func (d *drawer) withRuns(outputs []*onnxio.ValueInfo) *Case {
	g := &onnxio.Graph{Name: "drawn", Nodes: d.nodes, Inputs: d.inputs, Outputs: outputs,
		Initializers: d.weights}
	m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: d.opset}}, Graph: g}
	if d.opset > 18 {
		m.IRVersion = 10
	}
	c := &Case{Model: m}
	for range 5 {
		bind := map[string]int64{"N": pick[int64](d, 1, 2, 3, 1, 4, 5, 0),
			"S": pick[int64](d, 8, 5, 1, 12, 2, 3, 9),
			"T": pick[int64](d, 6, 1, 8, 2, 4, 17)}
		run := map[string]*onnxio.Tensor{}
		for _, in := range d.inputs {
			dims := make([]int64, len(in.Type.Shape))
			for i, s := range in.Type.Shape {
				if dims[i] = s.Value; s.Param != "" {
					dims[i] = bind[s.Param]
				}
			}
			run[in.Name] = d.tensor(in.Type.Elem, 2, dims...)
		}
		c.Runs = append(c.Runs, run)
	}
	if d.wild && d.rng.IntN(4) == 0 {
		d.spoil(c.Runs[d.rng.IntN(len(c.Runs))])
	}
	return c
}

// spoil puts NaN and infinities among the numbers of a run's inputs.
func (d *drawer) spoil(run map[string]*onnxio.Tensor) {
	wild := []float64{math.NaN(), math.Inf(1), math.Inf(-1)}
	if d.rng.IntN(2) == 0 {
		wild = wild[:1]
	}
	for _, in := range d.inputs {
		t := run[in.Name]
		for range min(t.Size(), 1+d.rng.Int64N(3)) {
			v := wild[d.rng.IntN(len(wild))]
			switch i := d.rng.Int64N(t.Size()); t.Type {
			case onnxio.Float:
				onnxio.Data[float32](t)[i] = float32(v)
			case onnxio.Double:
				onnxio.Data[float64](t)[i] = v
			case onnxio.BFloat16:
				onnxio.Data[uint16](t)[i] = uint16(math.Float32bits(float32(v)) >> 16)
			case onnxio.Float16: // its exponent has 5 bits, the highest of float32's mantissa follow
				bits := math.Float32bits(float32(v))
				onnxio.Data[uint16](t)[i] = uint16(bits>>16&0x8000 | 0x7c00 | bits>>13&0x3ff)
			}
		}
	}
}

// node draws one node and keeps it when inference takes it.
func (d *drawer) node() {
	form := forms[d.n(len(forms))]
	if d.trains && !learns(form) {
		return
	}
	w := len(d.weights)
	n := form.draw(d)
	if n == nil || !d.take(n, form) {
		for _, t := range d.weights[w:] {
			delete(d.params, t.Name) // the next weight has this name
		}
		d.weights = d.weights[:w]
	}
}

// take adds a node, and says whether it could.
func (d *drawer) take(n *onnxio.Node, form form) bool {
	n.OpType, n.Name = form.op, fmt.Sprintf("%s_%d", strings.ToLower(form.op), len(d.nodes))
	if d.one(40) {
		n.Domain = "ai.onnx"
	}
	bound, err := ops.Bind(n, d.opset)
	if err != nil {
		return false
	}
	in, all := d.read(n)
	if form.careful && !all.exact || form.finite && all.wild && !d.wild || form.periodic && all.sum {
		return false
	}
	d.nameOutputs(bound)
	if !d.sound(n) {
		return false
	}
	out, err := ops.InferNode(bound, in)
	if err != nil || len(out) == 0 {
		return false
	}
	if form.grows != nil {
		all.bound = form.grows(all.bound, n)
	}
	if all.bound > limit || out[0] != nil && d.tooSlow(n, out[0]) {
		return false
	}
	for _, o := range out {
		if o != nil && (o.Kind != nil || o.Type == onnxio.Undefined || tooLarge(o)) {
			return false
		}
	}
	for _, name := range n.Inputs {
		if v := d.known[name]; v != nil {
			v.read = true
		}
	}
	// Some results are infinite or no numbers: of poles, and of windows and axes that hold nothing.
	all.wild = all.wild || form.careful && !form.moves || strings.HasPrefix(form.op, "Reduce") ||
		form.op == "MaxPool"
	all.sum = all.sum || strings.HasPrefix(form.op, "Reduce") || form.op == "CumSum"
	for i, name := range n.Outputs {
		if d.trains && i > 0 && n.OpType == "BatchNormalization" {
			continue // running statistics: nothing is differentiated through them
		}
		if name != "" && out[i] != nil {
			exact := all.exact && (form.moves || !ops.Floats.Has(out[i].Type))
			d.add(&value{name: name, info: out[i], exact: exact, bound: all.bound, wild: all.wild,
				sum: all.sum})
		}
	}
	d.nodes = append(d.nodes, n)
	return true
}

// read gives what is known of a node's inputs, each and all together.
func (d *drawer) read(n *onnxio.Node) (in []*ops.Value, all value) {
	in, all.exact = make([]*ops.Value, len(n.Inputs)), true
	for i, name := range n.Inputs {
		if name == "" {
			continue
		}
		if v := d.known[name]; v != nil {
			in[i] = v.info
			all.exact, all.wild, all.sum = all.exact && v.exact, all.wild || v.wild, all.sum || v.sum
			all.bound = max(all.bound, v.bound)
			continue
		}
		t := d.weight(name)
		in[i] = &ops.Value{Type: t.Type, Shape: onnxDims(t.Dims), HasShape: true, Const: t}
		all.bound = max(all.bound, d.bound[name])
	}
	return in, all
}

// nameOutputs names the outputs that a form has asked for, and those that there must be.
func (d *drawer) nameOutputs(n *ops.Node) {
	for i, p := range n.Def.OutputsAt(n.Since) {
		if i >= len(n.Outputs) && (i == 0 || !p.Optional && !p.Variadic && !p.Internal) {
			n.Outputs = append(n.Outputs, "y")
		}
	}
	for i, name := range n.Outputs {
		if name != "" {
			n.Outputs[i] = fmt.Sprintf("v%d_%d", len(d.nodes), i)
		}
	}
}

// sound asks package check about a model of the node alone.
func (d *drawer) sound(n *onnxio.Node) bool {
	g := &onnxio.Graph{Name: "node", Nodes: []*onnxio.Node{n}}
	for i, name := range n.Inputs {
		switch v := d.known[name]; {
		case name == "" || slices.Contains(n.Inputs[:i], name):
		case v == nil:
			g.Initializers = append(g.Initializers, d.weight(name))
		default:
			typ := &onnxio.Type{Elem: v.info.Type, Shape: v.info.Shape, HasShape: v.info.HasShape}
			g.Inputs = append(g.Inputs, &onnxio.ValueInfo{Name: name, Type: typ})
		}
	}
	for _, name := range n.Outputs {
		if name != "" {
			g.Outputs = append(g.Outputs, &onnxio.ValueInfo{Name: name,
				Type: &onnxio.Type{Elem: onnxio.Float}})
		}
	}
	m := &onnxio.Model{IRVersion: 8, Opsets: []onnxio.Opset{{Version: d.opset}}, Graph: g}
	return check.Model(m) == nil
}

// open is what an open dimension counts for in sizes, the batch of the inputs aside.
const open = 12

// tooLarge bounds values, so that a run takes no time to speak of.
func tooLarge(v *ops.Value) bool { return sizeOf(v) > 1<<16 || len(v.Shape) > 6 }

func sizeOf(v *ops.Value) int64 {
	n := int64(1)
	for i, s := range v.Shape {
		switch {
		case s.Known():
			n *= max(s.Value, 1)
		case i > 0 || s.Param != "N":
			n *= open
		}
	}
	return n
}

// tooSlow bounds the multiply-adds of a convolution, and what windows of a pooling read.
func (d *drawer) tooSlow(n *onnxio.Node, out *ops.Value) bool {
	taps := int64(1)
	switch n.OpType {
	case "Conv", "ConvTranspose":
		w := d.weight(n.Inputs[1])
		taps = w.Size() / max(1, w.Dims[0])
	case "MaxPool", "AveragePool", "LpPool":
		for _, k := range n.Attr("kernel_shape").Ints {
			taps *= k
		}
	}
	limit := int64(1 << 24)
	if d.trains { // three products for each step, of several trainers
		limit = 1 << 20
	}
	return sizeOf(out)*taps > limit
}

func (d *drawer) weight(name string) *onnxio.Tensor {
	return d.weights[slices.IndexFunc(d.weights, func(t *onnxio.Tensor) bool { return t.Name == name })]
}

func onnxDims(dims []int64) []onnxio.Dim {
	out := make([]onnxio.Dim, len(dims))
	for i, n := range dims {
		out[i].Value = n
	}
	return out
}

// init adds an initializer whose numbers are at most size, or takes one that is there: weights are shared.
func (d *drawer) init(elem onnxio.DataType, size float64, dims ...int64) string {
	if d.one(3) {
		for _, t := range d.weights {
			if t.Type == elem && slices.Equal(t.Dims, dims) && d.bound[t.Name] <= size {
				return t.Name
			}
		}
	}
	name := d.keep(d.tensor(elem, size, dims...), size)
	if d.params != nil && elem == onnxio.Float {
		d.params[name] = true
	}
	return name
}

// keep names an initializer.
func (d *drawer) keep(t *onnxio.Tensor, size float64) string {
	t.Name = fmt.Sprintf("w%d", len(d.weights))
	d.weights = append(d.weights, t)
	d.bound[t.Name] = size
	return t.Name
}

// ints adds an int64 vector.
func (d *drawer) ints(v ...int64) string {
	return d.keep(onnxio.Int64s(v, int64(len(v))), 0)
}

// tensor has random elements of at most size.
func (d *drawer) tensor(elem onnxio.DataType, size float64, dims ...int64) *onnxio.Tensor {
	t := onnxio.NewTensor(elem, dims...)
	for i := range t.Size() {
		v := (2*d.rng.Float64() - 1) * size
		switch elem {
		case onnxio.Float:
			onnxio.Data[float32](t)[i] = float32(v)
		case onnxio.Double:
			onnxio.Data[float64](t)[i] = v
		case onnxio.Float16:
			onnxio.Data[uint16](t)[i] = pickHalf(d.rng)
		case onnxio.BFloat16:
			onnxio.Data[uint16](t)[i] = pickBrain(d.rng)
		case onnxio.Int64:
			onnxio.Data[int64](t)[i] = int64(v * 2)
		case onnxio.Int32:
			onnxio.Data[int32](t)[i] = int32(v * 2)
		default: // a byte: small numbers, and bools
			t.Raw[i] = byte(d.rng.IntN(4))
			if elem == onnxio.Bool {
				t.Raw[i] &= 1
			}
		}
	}
	return t
}

// pickHalf is a multiple of 1/8 from -1 to 1, which float16 has.
func pickHalf(r *rand.Rand) uint16 {
	return []uint16{0, 0x3000, 0x3400, 0x3600, 0x3800, 0x3a00, 0x3c00, 0xb000, 0xb800, 0xbc00}[r.IntN(10)]
}

// pickBrain is the same for bfloat16.
func pickBrain(r *rand.Rand) uint16 {
	return []uint16{0, 0x3e00, 0x3e80, 0x3f00, 0x3f80, 0xbe00, 0xbf00, 0xbf80}[r.IntN(8)]
}
