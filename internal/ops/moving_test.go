package ops

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cnnkit/cnnkit/onnxio"
)

// mover is a node that moves elements of its first inputs, which share a type; the rest of its inputs say
// where to.
type mover struct {
	op      string
	opset   int64
	shapes  [][]int64
	rest    []*onnxio.Tensor
	attrs   []*onnxio.Attribute
	dataAt  int // where the moved inputs begin
	outputs int
}

func movers() []mover {
	v := func(x ...int64) *onnxio.Tensor { return onnxio.Int64s(x) }
	m := func(op string, opset int64, shapes [][]int64, rest []*onnxio.Tensor,
		attrs ...*onnxio.Attribute) mover {
		return mover{op: op, opset: opset, shapes: shapes, rest: rest, attrs: attrs, outputs: 1}
	}
	one := func(dims ...int64) [][]int64 { return [][]int64{dims} }
	index := onnxio.Int64s([]int64{2, 0, -1, 1}, 2, 2)
	where := m("Where", 16, [][]int64{{2, 3}, {3}},
		[]*onnxio.Tensor{onnxio.FromSlice(onnxio.Bool, []bool{true, false}, 2, 1)})
	where.dataAt = 1
	oneHot := m("OneHot", 11, one(2), []*onnxio.Tensor{v(1, 0, 4), v(3)})
	oneHot.dataAt = 2
	split := m("Split", 13, one(5, 3), []*onnxio.Tensor{v(2, 3)})
	split.outputs = 2
	axis := onnxio.IntAttr("axis", 1)
	return []mover{
		m("Transpose", 25, one(3, 5), nil), m("Identity", 25, one(7), nil), m("Reshape", 25, one(3, 5),
			[]*onnxio.Tensor{v(5, -1)}),
		m("Flatten", 25, one(3, 5), nil), m("Squeeze", 25, one(1, 5), []*onnxio.Tensor{v(0)}),
		m("Unsqueeze", 25, one(5), []*onnxio.Tensor{v(0)}), m("Concat", 13, [][]int64{{2, 3}, {2, 2}, {2, 0}},
			nil, axis), split,
		m("Slice", 13, one(4, 5), []*onnxio.Tensor{v(-1), v(0), v(1), v(-2)}), m("Expand", 13, one(3, 1),
			[]*onnxio.Tensor{v(2, 1, 5)}),
		m("Gather", 13, one(3, 3), []*onnxio.Tensor{index}, axis), m("GatherElements", 13, one(3, 3),
			[]*onnxio.Tensor{index}, axis),
		m("GatherND", 13, one(3, 3, 3), []*onnxio.Tensor{index}), m("Tile", 13, one(3, 1),
			[]*onnxio.Tensor{v(2, 3)}),
		m("Pad", 25, one(3, 3), []*onnxio.Tensor{v(1, 0, 0, 2)}), m("Pad", 25, one(3, 3),
			[]*onnxio.Tensor{v(1, 2, -1, 2)}, onnxio.StringAttr("mode", "reflect")),
		m("DepthToSpace", 13, one(1, 8, 1, 3), nil, onnxio.IntAttr("blocksize", 2)), m("SpaceToDepth", 13,
			one(1, 1, 4, 6), nil, onnxio.IntAttr("blocksize", 2)),
		m("Trilu", 14, one(3, 5), nil), where, oneHot,
	}
}

// TestMovers moves packed elements and strings as it moves the same elements with a byte each.
func TestMovers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range movers() {
		for _, typ := range []onnxio.DataType{onnxio.Int4, onnxio.Uint2, onnxio.Float6E3M2, onnxio.Float4E2M1,
			onnxio.String} {
			if typ == onnxio.String && c.op == "Trilu" {
				continue // ONNX's strings have no zero there
			}
			t.Run(fmt.Sprint(c.op, typ), func(t *testing.T) { checkMover(t, r, &c, typ) })
		}
	}
}

func checkMover(t *testing.T, r *rand.Rand, c *mover, typ onnxio.DataType) {
	plain, exotic := slices.Clone(c.rest), slices.Clone(c.rest)
	for i, dims := range c.shapes {
		x := onnxio.NewTensor(onnxio.Uint8, dims...)
		for k := range x.Raw {
			x.Raw[k] = byte(r.IntN(4))
		}
		plain = slices.Insert(plain, c.dataAt+i, x)
		exotic = slices.Insert(exotic, c.dataAt+i, exoticOf(x, typ))
	}
	want, got := runMover(t, c, plain), runMover(t, c, exotic)
	for i := range want {
		if err := compareTensors(got[i], exoticOf(want[i], typ), 0, 0); err != nil {
			t.Error(err)
		}
	}
}

// exoticOf is a tensor of small numbers as codes of another type, or as strings: "" for 0.
func exoticOf(x *onnxio.Tensor, typ onnxio.DataType) *onnxio.Tensor {
	if typ != onnxio.String {
		return &onnxio.Tensor{Type: typ, Dims: x.Dims, Raw: bitsOf(typ, x.Raw)}
	}
	out := onnxio.NewTensor(onnxio.String, x.Dims...)
	for i, b := range x.Raw {
		if b != 0 {
			out.Strings[i] = []byte{'a' + b}
		}
	}
	return out
}

func runMover(t *testing.T, c *mover, in []*onnxio.Tensor) []*onnxio.Tensor {
	t.Helper()
	data, values := map[string]*onnxio.Tensor{}, map[string]*Value{}
	n := &onnxio.Node{OpType: c.op, Attrs: c.attrs}
	for i, x := range in {
		name := fmt.Sprint("x", i)
		data[name], values[name] = x, constValue(x)
		n.Inputs = append(n.Inputs, name)
	}
	for i := range c.outputs {
		n.Outputs = append(n.Outputs, fmt.Sprint("y", i))
	}
	bound, err := Bind(n, c.opset)
	if err == nil {
		err = runNode(bound, data, values)
	}
	if err != nil {
		t.Fatal(err)
	}
	var out []*onnxio.Tensor
	for _, name := range n.Outputs {
		out = append(out, data[name])
	}
	return out
}

// TestEqualStrings broadcasts words.
func TestEqualStrings(t *testing.T) {
	words := func(dims []int64, w ...string) *onnxio.Tensor {
		x := onnxio.NewTensor(onnxio.String, dims...)
		for i := range w {
			x.Strings[i] = []byte(w[i])
		}
		return x
	}
	got := evalNode(t, "Equal", 19, []*onnxio.Tensor{words([]int64{2, 1}, "a", ""),
		words([]int64{3}, "a", "b", "")})
	want := onnxio.FromSlice(onnxio.Bool, []bool{true, false, false, false, false, true}, 2, 3)
	if err := compareTensors(got, want, 0, 0); err != nil {
		t.Error(err)
	}
}

// TestShrinkIntegers moves integers toward 0 too.
func TestShrinkIntegers(t *testing.T) {
	x := onnxio.FromSlice(onnxio.Int16, []int16{-5, -2, 0, 2, 5})
	got := evalNode(t, "Shrink", 9, []*onnxio.Tensor{x}, onnxio.FloatAttr("lambd", 2),
		onnxio.FloatAttr("bias", 1))
	if err := compareTensors(got, onnxio.FromSlice(onnxio.Int16, []int16{-4, 0, 0, 0, 4}), 0, 0); err != nil {
		t.Error(err)
	}
}

// TestScattersMove writes updates of packed elements and of strings, and refuses to add them.
func TestScattersMove(t *testing.T) {
	bytes := func(b ...byte) *onnxio.Tensor { return onnxio.FromSlice(onnxio.Uint8, b) }
	for _, typ := range []onnxio.DataType{onnxio.Uint4, onnxio.Int2, onnxio.Float6E2M3, onnxio.String} {
		in := []*onnxio.Tensor{exoticOf(bytes(1, 2, 3, 0, 1), typ), onnxio.Int64s([]int64{3, -5}),
			exoticOf(bytes(2, 0), typ)}
		got := evalNode(t, "ScatterElements", 18, in)
		if err := compareTensors(got, exoticOf(bytes(0, 2, 3, 2, 1), typ), 0, 0); err != nil {
			t.Errorf("%v: %v", typ, err)
		}
		n, err := Bind(&onnxio.Node{OpType: "ScatterElements", Inputs: []string{"a", "b", "c"},
			Outputs: []string{"y"},
			Attrs:   []*onnxio.Attribute{onnxio.StringAttr("reduction", "add")}}, 18)
		if err != nil {
			t.Fatal(err)
		}
		if n.Def.Eval(&Eval{Node: n, In: in}) == nil {
			t.Errorf("%v is added", typ)
		}
	}
}

// TestConstantOfShapePacked repeats an element below a byte and leaves the last byte's other bits zero.
func TestConstantOfShapePacked(t *testing.T) {
	for _, typ := range []onnxio.DataType{onnxio.Int4, onnxio.Uint2, onnxio.Float6E3M2} {
		value := &onnxio.Attribute{Name: "value", Type: onnxio.AttrTensor, T: &onnxio.Tensor{Type: typ,
			Dims: []int64{1}, Raw: []byte{3}}}
		for _, n := range []int64{0, 1, 5, 16} {
			want := &onnxio.Tensor{Type: typ, Dims: []int64{n},
				Raw: bitsOf(typ, slices.Repeat([]byte{3}, int(n)))}
			got := evalNode(t, "ConstantOfShape", 25, []*onnxio.Tensor{onnxio.Int64s([]int64{n})}, value)
			if err := compareTensors(got, want, 0, 0); err != nil {
				t.Errorf("%d of %v: %v", n, typ, err)
			}
		}
	}
}
