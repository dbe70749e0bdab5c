package ops

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// trusted are operators of the gradient domain that rely on what the compiler writes into their attributes.
var trusted = map[string]bool{"SliceGrad": true, "SumTo": true}

// TestNoPanics gives every operator random inputs and hostile attributes: errors are fine, panics are not,
// and outputs are written as a whole.
func TestNoPanics(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	rounds := 1000
	if testing.Short() {
		rounds = 20
	}
	for _, d := range Defs() {
		if trusted[d.Name] {
			continue
		}
		for i := 0; i < rounds; i++ {
			if !attempt(t, d, r) {
				break
			}
		}
	}
}

// attempt runs check, inference and kernel of one random node; false after a panic.
func attempt(t *testing.T, d *Def, r *rand.Rand) (ok bool) {
	n := &onnxio.Node{Name: "node", OpType: d.Name, Domain: d.Domain}
	var in []*onnxio.Tensor
	desc := func() string { return describe(n, in) }
	defer func() { ok = noPanic(t, recover(), d.Name, desc) }()
	version := d.Versions[r.IntN(len(d.Versions))]
	base := randomDims(r)
	bound := &Node{n, d, version}
	for i := 0; i < len(bound.InParams())+r.IntN(2); i++ {
		if p := bound.param(i); p == nil || p.Optional && r.IntN(2) == 0 {
			in = append(in, nil)
			n.Inputs = append(n.Inputs, "")
			continue
		}
		in = append(in, randomTensor(r, d, bound.param(i), base))
		n.Inputs = append(n.Inputs, fmt.Sprintf("in%d", i))
	}
	for i := range bound.OutParams() {
		n.Outputs = append(n.Outputs, fmt.Sprintf("out%d", i))
	}
	for _, a := range d.Attrs {
		if a.Required || r.IntN(2) == 0 {
			n.Attrs = append(n.Attrs, randomAttr(r, a))
		}
	}
	node, err := Bind(n, version)
	if err != nil {
		t.Fatal(err)
	}
	if d.Check != nil && d.Check(node) != nil {
		return true
	}
	return runRandom(t, d, node, in, r)
}

// noPanic reports a recovered panic.
func noPanic(t *testing.T, p any, op string, desc func() string) bool {
	if p != nil {
		t.Errorf("%s panics: %v\nwith%s\n%s", op, p, desc(), debug.Stack())
	}
	return p == nil
}

// describe writes inputs and attributes of a node.
func describe(n *onnxio.Node, in []*onnxio.Tensor) string {
	var b strings.Builder
	for _, x := range in {
		if x != nil {
			fmt.Fprintf(&b, " %v%s", x.Type, dimsText(x.Dims))
		} else {
			b.WriteString(" -")
		}
	}
	for _, a := range n.Attrs {
		fmt.Fprintf(&b, " %s=%v,%d,%v,%s", a.Name, a.F, a.I, a.Ints, a.S)
	}
	return b.String()
}

// TestNoPanicsNearValid changes one thing, or a few, of nodes that are right: a shape, a type, an
// attribute, an omitted input.
func TestNoPanicsNearValid(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	for _, c := range torchCases(t) {
		for i := 0; i < rounds; i++ {
			if !attemptNear(t, &c, r) {
				break
			}
		}
	}
	for _, c := range witnessCases(t) {
		for i := 0; i < rounds; i++ {
			n, data := c.node()
			var in []*onnxio.Tensor
			for _, name := range n.Inputs {
				in = append(in, data[name])
			}
			mutateNode(r, n, in)
			if !attemptNode(t, n, in, c.Opset, r) {
				break
			}
		}
	}
}

func attemptNear(t *testing.T, c *torchCase, r *rand.Rand) bool {
	n := &onnxio.Node{Name: "node", OpType: c.Op, Attrs: c.attributes(t),
		Outputs: make([]string, len(c.Outputs))}
	var in []*onnxio.Tensor
	for i, x := range c.Inputs {
		n.Inputs = append(n.Inputs, fmt.Sprintf("in%d", i))
		in = append(in, x.tensor(onnxio.Float))
	}
	for i := range n.Outputs {
		n.Outputs[i] = fmt.Sprintf("out%d", i)
	}
	mutateNode(r, n, in)
	return attemptNode(t, n, in, c.Opset, r)
}

// mutateNode changes a thing or two of a node that is right.
func mutateNode(r *rand.Rand, n *onnxio.Node, in []*onnxio.Tensor) {
	for i := 1 + r.IntN(2); i > 0; i-- {
		switch k := r.IntN(len(in)); {
		case r.IntN(2) == 0 && len(n.Attrs) > 0:
			mutateAttr(r, n.Attrs)
		case in[k] == nil:
		case r.IntN(8) == 0:
			in[k], n.Inputs[k] = nil, ""
		case r.IntN(8) == 0:
			in[k] = onnxio.NewTensor([]onnxio.DataType{onnxio.Double, onnxio.Int64, onnxio.Int32,
				onnxio.Float16}[r.IntN(4)], in[k].Dims...)
		default:
			in[k] = onnxio.NewTensor(in[k].Type, mutateDims(r, in[k].Dims)...)
		}
	}
}

func mutateDims(r *rand.Rand, dims []int64) []int64 {
	dims = append([]int64{}, dims...)
	switch {
	case len(dims) == 0 || r.IntN(6) == 0:
		dims = append(dims, 2)
	case r.IntN(6) == 0:
		dims = dims[:len(dims)-1]
	default:
		dims[r.IntN(len(dims))] = int64(r.IntN(4))
	}
	return dims
}

// attemptNode infers and evaluates a node; false after a panic.
func attemptNode(t *testing.T, n *onnxio.Node, in []*onnxio.Tensor, opset int64, r *rand.Rand) (ok bool) {
	defer func() { ok = noPanic(t, recover(), n.OpType, func() string { return describe(n, in) }) }()
	node, err := Bind(n, opset)
	if err != nil {
		t.Fatal(err)
	}
	// The checks of attributes may have been left out: kernels are on their own.
	return runRandom(t, node.Def, node, in, r)
}

func mutateAttr(r *rand.Rand, attrs []*onnxio.Attribute) {
	a := attrs[r.IntN(len(attrs))]
	switch {
	case a.Type == onnxio.AttrInts && len(a.Ints) > 0 && r.IntN(3) > 0:
		a.Ints[r.IntN(len(a.Ints))] = randomInt(r)
	case a.Type == onnxio.AttrInts && len(a.Ints) > 0:
		a.Ints = a.Ints[1:]
	case a.Type == onnxio.AttrFloat:
		a.F = []float32{-1, 0, 1e38}[r.IntN(3)]
	case a.Type == onnxio.AttrString:
		a.S = []byte("other")
	case a.Type == onnxio.AttrStrings && len(a.Strings) > 0:
		a.Strings = a.Strings[1:]
	case a.Type == onnxio.AttrFloats && len(a.Floats) > 0:
		a.Floats = a.Floats[1:]
	default:
		a.I = randomInt(r)
	}
}

// runRandom infers with constants known and unknown, and evaluates, with a limit, where the result
// is not known to be large.
func runRandom(t *testing.T, d *Def, node *Node, in []*onnxio.Tensor, r *rand.Rand) bool {
	for _, constants := range []bool{false, true} {
		inf := &Infer{Node: node}
		for _, x := range in {
			var v *Value
			if x != nil {
				v = constValue(x)
				if !constants {
					v.Const = nil
					for i := range v.Shape {
						if r.IntN(3) == 0 {
							v.Shape[i] = onnxio.Dim{Param: "N"}
						}
					}
					v.HasShape = r.IntN(4) > 0
				}
			}
			inf.In = append(inf.In, v)
		}
		for range node.Outputs {
			inf.Out = append(inf.Out, &Value{})
		}
		if d.Infer(inf) != nil || !constants || d.Eval == nil {
			continue
		}
		small := true
		for _, o := range inf.Out {
			dims, ok := o.Dims()
			size, err := onnxio.CheckedBytes(onnxio.Uint8, dims)
			small = small && (!ok || err == nil && size < 1<<16)
		}
		if first := (&Eval{Node: node, In: in, Limit: 1 << 20}); small && d.Eval(first) == nil && !d.Random {
			if i := unwritten(d, first); i >= 0 {
				t.Errorf("%s leaves of output %d what was in its memory, with%s", d.Name, i,
					describe(node.Node, in))
				return false
			}
		}
	}
	return true
}

// unwritten evaluates a node again with outputs whose memory holds other numbers, as that of a plan's arena
// does, and gives the output that differs, -1 where none does.
func unwritten(d *Def, first *Eval) int {
	again := &Eval{Node: first.Node, In: first.In, Limit: first.Limit}
	for _, y := range first.Out {
		if y == nil {
			again.Out = append(again.Out, nil)
			continue
		}
		used := onnxio.NewTensor(y.Type, y.Dims...)
		for i := range used.Raw {
			used.Raw[i] = 0xa7
		}
		again.Out = append(again.Out, used)
	}
	if d.Eval(again) != nil {
		return 0
	}
	for i, y := range again.Out {
		if y != nil && !bytes.Equal(y.Raw, first.Out[i].Raw) {
			return i
		}
	}
	return -1
}

func randomDims(r *rand.Rand) []int64 {
	dims := make([]int64, r.IntN(6))
	for i := range dims {
		dims[i] = int64(r.IntN(5))
		if dims[i] == 0 && r.IntN(3) > 0 {
			dims[i] = 2
		}
	}
	return dims
}

// randomTensor is small, of a type that the parameter admits or, seldom, another; its
// shape is often that of others.
func randomTensor(r *rand.Rand, d *Def, p *Param, base []int64) *onnxio.Tensor {
	dims := base
	if r.IntN(2) == 0 {
		dims = randomDims(r)
	}
	var types []onnxio.DataType
	for t := onnxio.Float; t.Valid(); t++ {
		if set, ok := d.Types[p.Type]; !ok || set.Has(t) || r.IntN(20) == 0 {
			types = append(types, t)
		}
	}
	if len(types) == 0 {
		types = []onnxio.DataType{onnxio.Float}
	}
	typ := types[r.IntN(len(types))]
	if slot := d.Types[p.Type]; slot.Has(onnxio.Float) && r.IntN(3) > 0 {
		typ = onnxio.Float
	}
	out := onnxio.NewTensor(typ, dims...)
	switch typ {
	case onnxio.Int64:
		for i, data := 0, onnxio.Data[int64](out); i < len(data); i++ {
			data[i] = int64(r.IntN(7)) - 2
		}
	case onnxio.Float:
		for i, data := 0, onnxio.Data[float32](out); i < len(data); i++ {
			data[i] = r.Float32()*4 - 1
		}
	case onnxio.Bool:
		for i := range out.Raw {
			out.Raw[i] = byte(r.IntN(2))
		}
	case onnxio.String:
		for i := range out.Strings {
			out.Strings[i] = []byte([]string{"", "a", "b c", " d,e ", "1.5", "\xff"}[r.IntN(6)])
		}
	}
	return out
}

func randomInt(r *rand.Rand) int64 {
	hostile := []int64{-1 << 63, -1 << 40, -1, 0, 1, 1, 2, 2, 3, 4, 1 << 31, 1 << 40, 1<<63 - 1}
	return hostile[r.IntN(len(hostile))]
}

func randomAttr(r *rand.Rand, d AttrDef) *onnxio.Attribute {
	a := &onnxio.Attribute{Name: d.Name, Type: d.Type}
	switch d.Type {
	case onnxio.AttrInt:
		a.I = randomInt(r)
	case onnxio.AttrFloat:
		a.F = []float32{-1, 0, 0.5, 1, 1e30}[r.IntN(5)]
	case onnxio.AttrInts:
		tame := r.IntN(3) > 0
		for i := r.IntN(7); i > 0; i-- {
			if tame {
				a.Ints = append(a.Ints, int64(1+r.IntN(2)))
			} else {
				a.Ints = append(a.Ints, randomInt(r))
			}
		}
	case onnxio.AttrFloats:
		for i := r.IntN(5); i > 0; i-- {
			a.Floats = append(a.Floats, float32(r.IntN(4))-1)
		}
	case onnxio.AttrString:
		words := []string{"", "mean", "none", "sum", "SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET", "tanh",
			"linear", "constant", "reverse",
			"bidirectional", "TF", "IDF", "LOWER", "circular", "a+", "("}
		a.S = []byte(words[r.IntN(len(words))])
	case onnxio.AttrTensor:
		a.T = onnxio.NewTensor(onnxio.Float, randomDims(r)...)
	case onnxio.AttrStrings:
		for i := r.IntN(4); i > 0; i-- {
			a.Strings = append(a.Strings, []byte([]string{"x", "Tanh", "Affine"}[r.IntN(3)]))
		}
	}
	return a
}
